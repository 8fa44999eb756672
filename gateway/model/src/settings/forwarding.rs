//! Who is believed about clients, and which header fields and paths are made or changed.

use http::HeaderValue;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use super::HeaderChanges;

/// Who is believed about the client's address, and about `X-Forwarded-*`, `Forwarded` and `X-Request-Id`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Nobody is believed: the client is who connected.
    #[default]
    Nobody,
    /// So many proxies in front are believed, at least one.
    Hops(usize),
    /// Proxies in these networks are believed.
    Networks(Vec<IpNet>),
}

/// What becomes of a request's header fields before it is routed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderSettings {
    /// What becomes of fields with underscores in their names.
    pub underscores: WithUnderscoresAction,
    /// Whether names keep the case they are spelt in, those of responses too.
    pub preserve_case: bool,
    /// Settings that cost more than a look; none: none of them is wanted.
    pub extras: Option<Box<HeaderExtras>>,
}

/// Settings of header fields that few want.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderExtras {
    /// Changes that are made before everything else.
    pub early: HeaderChanges,
    /// What becomes of the field `Forwarded` (RFC 7239).
    pub forwarded: ForwardedAction,
    /// The element that this gateway adds to `Via`.
    pub via: Option<Via>,
    /// What becomes of `X-Request-Id`.
    pub request_id: RequestIdAction,
    /// Whether `traceparent` is made, and how many of 100 are sampled.
    pub trace: Option<u32>,
}

/// This gateway's element of `Via`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// The name of this gateway: a token (RFC 9110 §7.6.3).
    pub pseudonym: String,
    /// The element, `1.1 pseudonym`.
    pub element: HeaderValue,
}

/// How paths are read before requests are routed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathSettings {
    /// What becomes of `%2F`, `%5C` and `\\`.
    pub escaped: EscapedSlashes,
    /// Whether several slashes become one.
    pub merge: bool,
    /// What becomes of parameters, which follow a `;` in a segment.
    pub parameters: PathParameters,
    /// What becomes of `%40` and its like.
    pub reserved: EscapedReserved,
}

impl Default for PathSettings {
    fn default() -> Self {
        Self {
            escaped: EscapedSlashes::default(),
            merge: true,
            parameters: PathParameters::default(),
            reserved: EscapedReserved::default(),
        }
    }
}

/// What becomes of `X-Request-Id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum RequestIdAction {
    /// That of a trusted proxy is kept; else one is made.
    PreserveOrGenerate,
    /// That of a trusted proxy is kept, and any other is removed.
    Preserve,
    /// One is always made.
    Generate,
    /// It is a field as any other.
    #[default]
    Disable,
}

/// What becomes of header fields whose names have underscores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum WithUnderscoresAction {
    /// They are fields as any other.
    Allow,
    /// The request is answered with 400.
    RejectRequest,
    /// They are left out: CGI and WSGI take `x_forwarded_for` for `x-forwarded-for`.
    #[default]
    DropHeader,
}

/// What becomes of RFC 7239's `Forwarded`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum ForwardedAction {
    /// That of a trusted proxy is passed on, and any other is removed.
    #[default]
    Sanitize,
    /// That of a trusted proxy is passed on, any other is removed, and this hop is added.
    Append,
}

/// What becomes of a path's parameters. Servlet containers remove them before they look for what a path names; others do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum PathParameters {
    /// The request is answered with 400.
    #[default]
    RejectRequest,
    /// They are a part of the path, for rules and endpoints; those that hide a dot segment are answered with 400.
    KeepUnchanged,
    /// They are left out, for rules and endpoints.
    Remove,
}

/// What becomes of escaped reserved characters. Most endpoints take the two spellings for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum EscapedReserved {
    /// They are unescaped, for rules and endpoints.
    #[default]
    Unescape,
    /// They stay: the two spellings are two paths.
    KeepUnchanged,
}

/// What becomes of escaped slashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum EscapedSlashes {
    /// They stay, except where they hide a dot segment: that request is answered with 400.
    #[default]
    KeepUnchanged,
    /// The request is answered with 400.
    RejectRequest,
    /// They become slashes.
    UnescapeAndForward,
    /// The client is sent to the path with slashes, by 307.
    UnescapeAndRedirect,
}
