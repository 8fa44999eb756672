//! Header fields that belong to one hop, and those that tell the next hop of this one.

use http::{HeaderMap, HeaderName, HeaderValue, header};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HOP_BY_HOP: [HeaderName; 7] =
    [header::CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, header::TE, header::TRAILER, header::TRANSFER_ENCODING, header::UPGRADE];
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// RFC 9110 §7.6.1: removes the fields of one hop, and those that `Connection` nominates. Most heads have few of them: one look at the names
/// is cheaper than seven removals.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let found = headers.keys().fold(0_u8, |found, name| found | hop_by_hop(name));
    if found == 0 {
        return;
    }
    if found & 1 != 0 {
        let values = headers.get_all(header::CONNECTION).iter().filter_map(|v| v.to_str().ok());
        let nominated = values.flat_map(|v| v.split(',')).map(str::trim).filter(|name| !common_option(name));
        let nominated: Vec<HeaderName> = nominated.filter_map(|name| name.parse().ok()).collect();
        // A client must not be able to remove what says where the request goes and where it ends.
        for name in nominated.into_iter().filter(|n| *n != header::HOST && *n != header::CONTENT_LENGTH) {
            headers.remove(name);
        }
    }
    for (bit, name) in HOP_BY_HOP.iter().enumerate() {
        if found & (1 << bit) != 0 {
            headers.remove(name);
        }
    }
}

/// What `Connection` mostly says: no field of another hop, so nothing to look for.
fn common_option(option: &str) -> bool {
    option.eq_ignore_ascii_case("keep-alive") || option.eq_ignore_ascii_case("close")
}

/// The bit of its place in [`HOP_BY_HOP`], else 0; told by the length first, as most are none.
fn hop_by_hop(name: &HeaderName) -> u8 {
    match name.as_str() {
        "connection" => 1,
        "keep-alive" => 1 << 1,
        "proxy-connection" => 1 << 2,
        "te" => 1 << 3,
        "trailer" => 1 << 4,
        "transfer-encoding" => 1 << 5,
        "upgrade" => 1 << 6,
        _ => 0,
    }
}

/// Appends the client to `X-Forwarded-For`, and says how and for what host it came: an edge does not believe what clients claim there.
pub(crate) fn forwarded(headers: &mut HeaderMap, client: &HeaderValue, scheme: &'static str) {
    let value = match headers.get(&X_FORWARDED_FOR) {
        None => client.clone(),
        Some(_) => {
            let mut joined = Vec::new();
            for known in headers.get_all(&X_FORWARDED_FOR) {
                joined.extend_from_slice(known.as_bytes());
                joined.extend_from_slice(b", ");
            }
            joined.extend_from_slice(client.as_bytes());
            // Cannot fail: values joined by a comma and a space. If it did, the client alone is still true.
            HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)).unwrap_or_else(|_| client.clone())
        }
    };
    headers.insert(X_FORWARDED_FOR, value);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    match headers.get(header::HOST).cloned() {
        Some(host) => drop(headers.insert(X_FORWARDED_HOST, host)),
        None => drop(headers.remove(X_FORWARDED_HOST)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_nominates_what_else_belongs_to_the_hop() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close, X-Secret"));
        headers.insert("x-secret", HeaderValue::from_static("1"));
        headers.insert("x-kept", HeaderValue::from_static("1"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-kept"]);
    }

    #[test]
    fn the_quick_look_knows_them_all() {
        assert!(HOP_BY_HOP.iter().enumerate().all(|(bit, name)| hop_by_hop(name) == 1 << bit));
        assert!([header::HOST, header::CONTENT_LENGTH, X_FORWARDED_FOR].iter().all(|name| hop_by_hop(name) == 0));
    }

    #[test]
    fn host_and_framing_cannot_be_nominated() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Host, Content-Length"));
        headers.insert(header::HOST, HeaderValue::from_static("h"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("3"));
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.len(), 2);
    }

    #[test]
    fn the_client_is_appended() {
        let mut headers = HeaderMap::new();
        headers.append(X_FORWARDED_FOR, HeaderValue::from_static("192.0.2.1"));
        headers.append(X_FORWARDED_FOR, HeaderValue::from_static("192.0.2.2"));
        forwarded(&mut headers, &HeaderValue::from_static("127.0.0.1"), "http");
        assert_eq!(headers.get_all(X_FORWARDED_FOR).iter().collect::<Vec<_>>(), ["192.0.2.1, 192.0.2.2, 127.0.0.1"]);
    }
}
