//! Conditions (`metav1.Condition`).

use serde::Serialize;

use crate::plan::{Reason, Refusal, Verdict};

/// A condition, without its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `True` or `False`.
    pub status: &'static str,
    /// The reason, for programs.
    pub reason: Reason,
    /// What there is to say, for people.
    pub message: String,
    /// The generation of the object that was looked at; none of an object in a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

impl Condition {
    pub(super) fn new(kind: &'static str, holds: bool, reason: Reason, message: impl Into<String>, generation: Option<i64>) -> Self {
        Self { kind, status: if holds { "True" } else { "False" }, reason, message: message.into(), observed_generation: generation }
    }

    /// `True` with `reason`, or `False` with that of the verdict.
    pub(super) fn of(kind: &'static str, verdict: &Verdict, reason: Reason, generation: Option<i64>) -> Self {
        match verdict {
            Ok(()) => Self::new(kind, true, reason, "", generation),
            Err(Refusal { reason, message }) => Self::new(kind, false, *reason, message.as_str(), generation),
        }
    }
}
