//! Answers to heads that cannot be read.

use sluicegate_decide::answer::Reason;

use crate::h1::BadHead;

impl From<BadHead> for Reason {
    fn from(why: BadHead) -> Self {
        match why {
            BadHead::Syntax(_) | BadHead::BadLine => Self::BadRequest,
            BadHead::Target => Self::BadTarget,
            BadHead::TooLarge | BadHead::ManyFields => Self::LargeHead,
            BadHead::Version => Self::BadVersion,
            BadHead::Framing => Self::BadFraming,
            BadHead::Coding => Self::BadCoding,
            BadHead::Content(_) => Self::BadContent,
        }
    }
}

/// The answer to a client if the head of an endpoint's response cannot be read.
pub(in crate::http) fn of_response(why: BadHead) -> Reason {
    match why {
        BadHead::Syntax(_) | BadHead::BadLine | BadHead::Target | BadHead::Version => Reason::BadResponse,
        BadHead::TooLarge => Reason::LargeResponseHead,
        BadHead::ManyFields => Reason::ManyResponseFields,
        BadHead::Framing | BadHead::Coding | BadHead::Content(_) => Reason::BadResponseFraming,
    }
}
