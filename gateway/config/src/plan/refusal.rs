//! Why something is not as it is asked for: what conditions say of it.

use std::fmt;

use serde::Serialize;

/// The reason of a condition. It is written as its variant is called, which is the Gateway API's name where that has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the Gateway API describes them")]
pub enum Reason {
    Accepted,
    AddressNotAssigned,
    AddressNotUsable,
    BackendNotFound,
    ConfigurationChanged,
    Conflicted,
    FilterNotFound,
    HostnameConflict,
    Invalid,
    InvalidCACertificateKind,
    InvalidCACertificateRef,
    InvalidCertificateRef,
    InvalidClientCertificateRef,
    InvalidKind,
    InvalidParameters,
    InvalidRouteKinds,
    ListenersNotValid,
    NoConflicts,
    NoMatchingListenerHostname,
    NoMatchingParent,
    NoValidCACertificate,
    NotAllowed,
    NotAllowedByListeners,
    /// A reference names nothing that is there. Each kind of condition has a reason of its own for this, which takes its place.
    NotFound,
    /// The router of a policy takes all traffic of the listener. It is a name of ours.
    Overridden,
    ParentNotAccepted,
    ParentNotProgrammed,
    PortUnavailable,
    Programmed,
    ProtocolConflict,
    RefNotPermitted,
    ResolvedRefs,
    TargetNotFound,
    UnsupportedAddress,
    UnsupportedProtocol,
    UnsupportedValue,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Why something is not as it is asked for: a condition's reason and message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason, for programs.
    pub reason: Reason,
    /// What is wrong, for people.
    pub message: String,
}

impl Refusal {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// What a condition says of a reference: that it is not permitted, or else this reason.
    pub(super) fn unless_permitted(&self, reason: Reason) -> Self {
        let reason = if self.reason == Reason::RefNotPermitted { self.reason } else { reason };
        Self { reason, message: self.message.clone() }
    }

    /// The message of a fault at a path.
    pub(super) fn at(&self, path: &str) -> String {
        format!("{path}: {}: {}", self.reason, self.message)
    }
}

/// What a condition comes to.
pub type Verdict = Result<(), Refusal>;
