//! Why an order brought no certificate, in a few words for metrics and in a sentence for people.

use std::time::Duration;

use instant_acme::{Error, Problem};
use sluicegate_model::escape;

/// The longest text of a CA that is shown, in bytes.
const LONGEST_TEXT: usize = 500;
/// What types of problems begin with (RFC 8555 §6.7).
const TYPE: &str = "urn:ietf:params:acme:error:";

/// Why an order brought no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    /// What happened, for people.
    pub(crate) message: String,
    /// How long the CA wants to be left alone; none: it does not say.
    pub(crate) wait: Option<Duration>,
}

/// The kinds of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The CA's server does not answer, or answers with an error of its own.
    Unreachable,
    /// The CA did not get done in time.
    Timeout,
    /// The CA has had too many orders.
    RateLimited,
    /// The CA could not see by its challenge that the name leads here.
    NotValidated,
    /// The CA issues no certificates for the name.
    RejectedName,
    /// The CA does not accept the account.
    Account,
    /// The CA refuses the order for another reason.
    Refused,
    /// What the CA has issued cannot be served for the name.
    BadCertificate,
    /// A file that the configuration names, or a file of the state folder, cannot be read or written.
    Storage,
    /// The issuer has as many names as it may have.
    TooManyNames,
    /// The name is none that an order can be made for.
    BadName,
}

impl Reason {
    /// The reason as metrics have it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::RateLimited => "rate-limited",
            Self::NotValidated => "not-validated",
            Self::RejectedName => "rejected-name",
            Self::Account => "account",
            Self::Refused => "refused",
            Self::BadCertificate => "bad-certificate",
            Self::Storage => "storage",
            Self::TooManyNames => "too-many-names",
            Self::BadName => "bad-name",
        }
    }

    fn of(type_: &str, status: Option<u16>) -> Self {
        match type_.strip_prefix(TYPE) {
            Some("rateLimited") => Self::RateLimited,
            Some("unauthorized" | "connection" | "dns" | "tls" | "incorrectResponse") => Self::NotValidated,
            Some("rejectedIdentifier" | "unsupportedIdentifier" | "caa") => Self::RejectedName,
            Some("accountDoesNotExist" | "externalAccountRequired" | "userActionRequired" | "invalidContact" | "unsupportedContact") => {
                Self::Account
            }
            Some("serverInternal") => Self::Unreachable,
            _ if status == Some(429) => Self::RateLimited,
            _ if status.is_some_and(|status| status >= 500) => Self::Unreachable,
            _ => Self::Refused,
        }
    }
}

impl Failure {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), wait: None }
    }

    /// What a CA says of a problem.
    pub(crate) fn of(problem: &Problem) -> Self {
        let type_ = problem.r#type.as_deref().unwrap_or_default();
        let detail = problem.detail.as_deref().unwrap_or("the CA gives no reason");
        let more = problem.subproblems.iter().filter_map(|sub| sub.detail.as_deref());
        let said = std::iter::once(detail).chain(more).collect::<Vec<_>>().join("; ");
        Self::new(Reason::of(type_, problem.status), format!("{} ({})", shown(&said), shown(type_.strip_prefix(TYPE).unwrap_or(type_))))
    }

    /// The same, which the CA wants to be tried no sooner than after this time.
    pub(crate) fn after(self, wait: Option<Duration>) -> Self {
        Self { wait: wait.or(self.wait), ..self }
    }

    /// Whether the CA says that it is a problem of this type.
    pub(crate) fn is(error: &Error, type_: &str) -> bool {
        matches!(error, Error::Api(problem) if problem.r#type.as_deref().and_then(|found| found.strip_prefix(TYPE)) == Some(type_))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::Api(problem) => Self::of(problem),
            Error::Timeout(_) => Self::new(Reason::Timeout, "the CA was not done with the order in time"),
            Error::Other(inner) => Self::new(Reason::Unreachable, shown(&inner.to_string())),
            Error::Unsupported(what) => Self::new(Reason::Refused, format!("the CA does not support {}", shown(what))),
            Error::Json(_) => Self::new(Reason::Unreachable, format!("the CA's answer cannot be read: {}", shown(&error.to_string()))),
            _ => Self::new(Reason::Refused, shown(&error.to_string())),
        }
    }
}

/// Words of a CA, in one line and not too many.
pub(crate) fn shown(text: &str) -> String {
    let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= LONGEST_TEXT).last().unwrap_or(0);
    let (head, rest) = text.split_at(end);
    format!("{}{}", escape::line(head), if rest.is_empty() { "" } else { "…" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_counted_by_its_kind_and_its_words_are_tamed() {
        let problem = |json: &str| Failure::of(&serde_json::from_str::<Problem>(json).expect("a problem"));
        let limited =
            problem(r#"{"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many\ncertificates\u001b[31m", "status": 429}"#);
        assert_eq!(limited.reason, Reason::RateLimited);
        assert!(limited.message.starts_with("too many\\ncertificates") && !limited.message.contains('\u{1b}'), "{}", limited.message);
        for (type_, reason) in [
            ("connection", Reason::NotValidated),
            ("rejectedIdentifier", Reason::RejectedName),
            ("accountDoesNotExist", Reason::Account),
            ("serverInternal", Reason::Unreachable),
            ("malformed", Reason::Refused),
        ] {
            assert_eq!(problem(&format!(r#"{{"type": "{TYPE}{type_}"}}"#)).reason, reason, "{type_}");
        }
        assert_eq!(problem(r#"{"status": 503}"#).reason, Reason::Unreachable);
        let long = shown(&"ä".repeat(1000));
        assert!(long.len() <= LONGEST_TEXT + '…'.len_utf8() && long.ends_with('…'));
    }
}
