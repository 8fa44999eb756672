//! The access log: the fields of a line, and how they stand in it.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

/// How the lines of the access log look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum AccessLogFormat {
    /// There is no access log.
    #[default]
    Off,
    /// Lines are text, in the form that the configuration's `text` gives.
    Text,
    /// Each line is one JSON object.
    Json,
}

impl FromStr for AccessLogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "off" => Ok(Self::Off),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("{text:?} is none of \"off\", \"text\", \"json\"")),
        }
    }
}

macro_rules! fields {
    ($($(#[doc = $about:literal])+ $field:ident $name:literal,)*) => {
        /// A field of a line.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
        pub enum AccessLogField {
            $($(#[doc = $about])+ #[serde(rename = $name)] $field,)*
        }

        impl AccessLogField {
            /// All fields, in the order that JSON lines have unless told otherwise.
            pub const ALL: &[Self] = &[$(Self::$field),*];

            /// The field's name, in the configuration and in JSON.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$field => $name,)*
                }
            }
        }
    };
}

fields! {
    /// When the exchange, connection or flow began: RFC 3339, UTC, milliseconds.
    Time "time",
    /// `http`, `tcp` or `udp`.
    Kind "kind",
    /// The client's address, as `clientIPDetection` finds it.
    Client "client",
    /// The listener's name.
    Listener "listener",
    /// The request's method.
    Method "method",
    /// The host that the request asks for.
    Host "host",
    /// Path and query, as the client sent them.
    Path "path",
    /// The protocol, such as `HTTP/1.1`.
    Protocol "protocol",
    /// The response's status.
    Status "status",
    /// Why the gateway answered itself, or why the exchange ended early.
    Reason "reason",
    /// Bytes of content from the client.
    BytesIn "bytesIn",
    /// Bytes of content to the client.
    BytesOut "bytesOut",
    /// Milliseconds from the request's head, or from the accept, to the end.
    Duration "durationMs",
    /// Milliseconds to the head of the response.
    FirstByte "firstByteMs",
    /// The service port, `namespace/name:port`.
    Service "service",
    /// The endpoint of the last try.
    Endpoint "endpoint",
    /// The name of the rule that took the request.
    Rule "rule",
    /// The number of endpoints that were tried.
    Attempts "attempts",
    /// The header field `X-Request-Id`, as it was forwarded.
    RequestId "requestId",
    /// The header field `User-Agent`.
    UserAgent "userAgent",
    /// The trace that the exchange is in, if traces are exported.
    TraceId "traceId",
    /// The server's span in that trace, if it is recorded.
    SpanId "spanId",
}

impl FromStr for AccessLogField {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|field| field.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|field| field.name()).collect();
            format!("{text:?} is not a field of the access log: one of {}", names.join(", "))
        })
    }
}

/// A part of a text line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A text that every line has.
    Literal(String),
    /// The value of a field.
    Field(AccessLogField),
}

/// The form of a text line: `%field%` is replaced by the field's value, `%%` is a percent sign.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Pattern(pub Vec<Piece>);

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        // What stands between percent signs is a literal and a field in turn.
        let mut parts = text.split('%');
        literal.push_str(parts.next().unwrap_or_default());
        while let Some(name) = parts.next() {
            let Some(after) = parts.next() else { return Err(format!("a percent sign of {text:?} has no other: %field%, or %% for one")) };
            if name.is_empty() {
                literal.push('%');
            } else {
                let field = name.parse()?;
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(Piece::Field(field));
            }
            literal.push_str(after);
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        if text.chars().any(|c| c.is_control() && c != '\t') {
            return Err(format!("{text:?} is more than one line"));
        }
        Ok(Self(pieces))
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What text lines look like unless told otherwise.
pub const DEFAULT_PATTERN: &str = "[%time%] %kind% %client% \"%method% %path% %protocol%\" %host% %status% %reason% %bytesIn% %bytesOut% %durationMs% %firstByteMs% \
     \"%service%\" %endpoint% \"%rule%\" %attempts% \"%requestId%\" \"%userAgent%\"";

/// What a line consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A line of text: these pieces, one after the other.
    Text(Vec<Piece>),
    /// A JSON object with these keys.
    Json(Vec<AccessLogField>),
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let pattern = |text: &str| text.parse::<Pattern>().map(|p| p.0);
        let literal = |text: &str| Piece::Literal(text.to_owned());
        assert_eq!(
            pattern("a %status%%client%"),
            Ok(vec![literal("a "), Piece::Field(AccessLogField::Status), Piece::Field(AccessLogField::Client)])
        );
        assert_eq!(pattern("100%% %kind%"), Ok(vec![literal("100% "), Piece::Field(AccessLogField::Kind)]));
        assert_eq!(pattern(""), Ok(vec![]));
        assert!(pattern("%status").unwrap_err().contains("has no other"));
        assert!(pattern("%stats%").unwrap_err().contains("one of time, kind, client"));
        assert!(pattern("a\nb").is_err());
        assert!(pattern(DEFAULT_PATTERN).is_ok());
    }
}
