//! What sources of objects have seen, and since when.

use std::fmt;

use serde::Serialize;

/// A source that reports what it sees. It is asked each time that somebody looks.
pub trait ReportSource: Send + Sync {
    /// What it sees now.
    fn report(&self) -> SourceReport;
}

/// What a source sees.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceReport {
    /// The source's name, such as the address of an API server.
    pub name: String,
    /// How many requests it has made.
    pub requests: u64,
    /// How many bytes it was answered.
    pub bytes: u64,
    /// What it sees of each kind of objects.
    pub kinds: Vec<KindReport>,
    /// How it stands with what is written to it; none: nothing ever is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writing: Option<WritingReport>,
}

/// How it stands with what one of many gateways writes to a source.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WritingReport {
    /// Whether this gateway is the one that writes.
    pub leads: bool,
    /// How often it has become that.
    pub begun: u64,
    /// How many objects are not known to be as they are to be.
    pub pending: usize,
    /// What came of writes, of each kind that was written.
    pub writes: Vec<WriteReport>,
}

/// How often a write came to this result.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteReport {
    /// The kind of the object.
    pub kind: &'static str,
    /// What was written of it: `status`, or the `object` itself.
    pub part: &'static str,
    /// `written`, `conflict`, `refused` or `failed`.
    pub result: &'static str,
    /// How often.
    pub count: u64,
}

/// What a source sees of a kind of objects.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KindReport {
    /// The kind.
    pub kind: &'static str,
    /// How it stands.
    pub state: SourceState,
    /// Since when it stands so, in seconds since 1970.
    pub since: u64,
    /// Why it does, if something is wrong.
    pub reason: Option<String>,
    /// How many objects are known.
    pub objects: usize,
    /// How many requests it has taken.
    pub requests: u64,
    /// How many bytes came in answers.
    pub bytes: u64,
}

/// How a source stands with a kind, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceState {
    /// What there is and what changes is told.
    Synced,
    /// The server does not have this kind.
    Missing,
    /// All objects are being asked for.
    Listing,
    /// Nothing was told yet.
    Waiting,
    /// What the server said last is in use, and it is asked again from time to time.
    Failing,
    /// What an earlier process saved is in use.
    Saved,
}

impl SourceState {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Synced => "synced",
            Self::Missing => "missing",
            Self::Listing => "listing",
            Self::Waiting => "waiting",
            Self::Failing => "failing",
            Self::Saved => "saved",
        }
    }
}

impl fmt::Display for SourceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl SourceReport {
    /// The kinds of which the source does not tell what changes, a line each.
    pub fn unseen(&self) -> impl Iterator<Item = String> {
        let unseen = self.kinds.iter().filter(|kind| kind.state > SourceState::Missing);
        unseen.map(|kind| {
            let reason = kind.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("not followed: {} of {}: {}{reason}", kind.kind, self.name, kind.state)
        })
    }
}
