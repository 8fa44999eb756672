//! Header fields that belong to one hop.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use sluicegate_model::fields::is_claim;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HOP_BY_HOP: [HeaderName; 6] =
    [header::CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, header::TE, header::TRANSFER_ENCODING, header::UPGRADE];

/// The bits of [`hop_by_hop`].
const TE: u8 = 1 << 3;
const UPGRADE: u8 = 1 << 5;

/// What a sender asked of this hop.
#[derive(Default)]
pub(crate) struct Asked {
    /// What it wants to upgrade to: the `Upgrade` that `Connection` nominates.
    pub(crate) upgrade: Option<HeaderValue>,
    /// Whether the sender takes trailers.
    pub(crate) trailers: bool,
}

/// Whether a field of a request goes on as it came: it is none that is looked at when a request arrives. Those of framing and of the hop are not asked for.
pub(in crate::http) fn is_plain(name: &[u8]) -> bool {
    let looked_at = match name.len() {
        6 => name.eq_ignore_ascii_case(b"expect"),
        8 => name.eq_ignore_ascii_case(b"cdn-loop"),
        _ => false,
    };
    !looked_at && !name.contains(&b'_') && !is_claim(name)
}

/// Removes the fields that `Connection` nominates (RFC 9110 §7.6.1), and returns their names, which count for trailers, too. For a request this comes before
/// anything is decided by its fields or added to them, so that routers see what endpoints get, and no field of the gateway's own is removed.
pub(in crate::http) fn take_nominated(headers: &mut HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|v| v.to_str().ok());
    let nominated = values.flat_map(|v| v.split(',')).map(str::trim).filter(|name| !common_option(name));
    let nominated: Vec<HeaderName> = nominated.filter_map(|name| name.parse().ok()).collect();
    for name in nominated.iter().filter(|name| hop_by_hop(name) == 0 && !is_end_to_end(name)) {
        headers.remove(name);
    }
    nominated
}

/// Removes the fields of one hop (RFC 9110 §7.6.1). Most heads have few of them, so one look at the names is cheaper than six removals. `Trailer` is not among
/// them (§6.6.2).
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) -> Asked {
    let found = headers.keys().fold(0_u8, |found, name| found | hop_by_hop(name));
    let mut asked = Asked::default();
    if found == 0 {
        return asked;
    }
    if found & UPGRADE != 0 && lists(headers, header::CONNECTION, "upgrade") {
        asked.upgrade = upgrade(headers);
    }
    asked.trailers = found & TE != 0 && lists(headers, header::TE, "trailers");
    for (bit, name) in HOP_BY_HOP.iter().enumerate() {
        if found & (1 << bit) != 0 {
            headers.remove(name);
        }
    }
    asked
}

/// The protocols that `Upgrade` names. Several lines are one list (RFC 9110 §5.3).
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = headers.get_all(header::UPGRADE).iter();
    match (lines.next(), lines.next()) {
        (one, None) => one.cloned(),
        _ => {
            let lines: Vec<&[u8]> = headers.get_all(header::UPGRADE).iter().map(HeaderValue::as_bytes).collect();
            HeaderValue::from_bytes(&lines.join(&b", "[..])).ok()
        }
    }
}

/// Removes both kinds of fields from a response's head.
pub(in crate::http) fn strip_response(headers: &mut HeaderMap) -> (Asked, Vec<HeaderName>) {
    let nominated = take_nominated(headers);
    (strip_hop_by_hop(headers), nominated)
}

/// Whether the list of a field has a member, whose parameters are not looked at.
fn lists(headers: &HeaderMap, name: HeaderName, wanted: &str) -> bool {
    let mut members = headers.get_all(name).into_iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    members.any(|m| m.split(';').next().is_some_and(|m| m.trim().eq_ignore_ascii_case(wanted)))
}

/// Whether a sender cannot have a field removed by nominating it: where the request goes, where it ends, what its sender waits for, and what trusted proxies
/// say of it.
fn is_end_to_end(name: &HeaderName) -> bool {
    let kept = [header::HOST, header::CONTENT_LENGTH, header::EXPECT, header::VIA, super::identify::X_REQUEST_ID, super::loops::CDN_LOOP];
    kept.contains(name) || is_claim(name.as_str().as_bytes())
}

/// Whether it is one of the usual options of `Connection`, which name no field to remove.
fn common_option(option: &str) -> bool {
    option.eq_ignore_ascii_case("keep-alive") || option.eq_ignore_ascii_case("close")
}

/// The bit of a name's place in [`HOP_BY_HOP`], else 0. The length is compared first, as most names are none of these.
fn hop_by_hop(name: &HeaderName) -> u8 {
    match name.as_str() {
        "connection" => 1,
        "keep-alive" => 1 << 1,
        "proxy-connection" => 1 << 2,
        "te" => TE,
        "transfer-encoding" => 1 << 4,
        "upgrade" => UPGRADE,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_nominates_what_else_belongs_to_the_hop() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close, X-Secret, te"));
        headers.insert("x-secret", HeaderValue::from_static("1"));
        headers.insert("x-kept", HeaderValue::from_static("1"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        let nominated = take_nominated(&mut headers);
        assert_eq!(nominated.iter().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-secret", "te"]);
        let asked = strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-kept"]);
        assert!(asked.trailers && asked.upgrade.is_none());
    }

    #[test]
    fn an_upgrade_counts_if_it_is_nominated() {
        for (connection, counts) in [("keep-alive, Upgrade", true), ("upgrades", false), ("close", false)] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONNECTION, HeaderValue::from_static(connection));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            assert_eq!(strip_hop_by_hop(&mut headers).upgrade.is_some(), counts, "{connection}");
            assert!(headers.is_empty());
        }
    }

    #[test]
    fn the_quick_look_knows_them_all() {
        assert!(HOP_BY_HOP.iter().enumerate().all(|(bit, name)| hop_by_hop(name) == 1 << bit));
        assert!([header::HOST, header::CONTENT_LENGTH, header::VIA].iter().all(|name| hop_by_hop(name) == 0));
    }

    #[test]
    fn host_framing_and_what_the_gateway_says_cannot_be_nominated() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Host, Content-Length, X-Forwarded-For"));
        headers.insert(header::HOST, HeaderValue::from_static("h"));
        headers.insert("x-forwarded-for", HeaderValue::from_static("192.0.2.1"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("3"));
        strip_response(&mut headers);
        assert_eq!(headers.len(), 3);
    }
}
