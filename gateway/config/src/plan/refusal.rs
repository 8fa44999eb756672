//! Why something is not as an object asks for it, in the form in which conditions say it.

use std::fmt;

use serde::Serialize;

/// The reason of a condition. It is written as the name of its variant, which is the Gateway API's where that has one.
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
    /// A reference names nothing that exists. Each type of condition has its own reason for this, by which this one is replaced.
    NotFound,
    /// The router of a policy takes all traffic of the listener. The Gateway API has no such reason.
    Overridden,
    ParentNotAccepted,
    ParentNotProgrammed,
    Pending,
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

/// Why something is not as an object asks for it: the reason and message of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason, as programs read it.
    pub reason: Reason,
    /// What is wrong, in words.
    pub message: String,
}

impl Refusal {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// The same refusal with this reason, unless it says that a reference is not permitted.
    pub(super) fn unless_permitted(&self, reason: Reason) -> Self {
        let reason = if self.reason == Reason::RefNotPermitted { self.reason } else { reason };
        Self { reason, message: self.message.clone() }
    }

    /// The message of a fault at a path.
    pub(super) fn at(&self, path: &str) -> String {
        format!("{path}: {}: {}", self.reason, self.message)
    }
}

/// The outcome that a condition states: all is well, or why not.
pub type Verdict = Result<(), Refusal>;
