//! Conditions (`metav1.Condition`).

use serde::Serialize;

use crate::plan::{Reason, Refusal, Verdict};

/// A condition, without the time of its last transition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the condition is about, such as `Accepted`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `True` or `False`.
    pub status: &'static str,
    /// The reason, as programs read it.
    pub reason: Reason,
    /// The reason in words; empty if there is nothing to say.
    pub message: String,
    /// The generation of the object that was looked at. Objects in files have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

impl Condition {
    pub(super) fn new(kind: &'static str, holds: bool, reason: Reason, message: impl Into<String>, generation: Option<i64>) -> Self {
        Self { kind, status: if holds { "True" } else { "False" }, reason, message: message.into(), observed_generation: generation }
    }

    /// Makes a condition that is `True` with `reason`, or `False` with the verdict's reason and message.
    pub(super) fn of(kind: &'static str, verdict: &Verdict, reason: Reason, generation: Option<i64>) -> Self {
        match verdict {
            Ok(()) => Self::new(kind, true, reason, "", generation),
            Err(Refusal { reason, message }) => Self::new(kind, false, *reason, message.as_str(), generation),
        }
    }
}
