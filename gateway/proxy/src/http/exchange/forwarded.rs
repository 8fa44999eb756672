//! Who the client is, and the fields that tell the next hop: `X-Forwarded-*`, `Forwarded` (RFC 7239), `Via`. An edge does not believe what
//! clients claim there: unless the connection comes from a trusted proxy, everything is made anew. Of a trusted proxy's `X-Forwarded-For`,
//! what stands left of the client's own address is its claim, and is left out.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::header::{FORWARDED, HOST, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};
use sluicegate_decide::answer::Reason;
use sluicegate_model::fields::is_claim;
use sluicegate_model::settings::{ForwardedAction, HeaderExtras, Trust, Via};

use super::peer::Peer;
use crate::http::rules::forwarding::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO, host};

/// What a trusted proxy says.
pub(in crate::http) struct Claims {
    /// The client, if it is not the proxy itself.
    client: Option<SocketAddr>,
    /// `X-Forwarded-For`, from the client on.
    chain: String,
}

/// What a trusted proxy says. None: the connection does not come from a trusted proxy, or an address is missing.
pub(in crate::http) fn believe(headers: &HeaderMap, peer: &Peer, trust: &Trust) -> Option<Claims> {
    if *trust == Trust::Nobody {
        return None;
    }
    let inside = |ip: IpAddr| match trust {
        Trust::Networks(networks) => networks.iter().any(|network| network.contains(&ip.to_canonical())),
        Trust::Hops(_) | Trust::Nobody => true,
    };
    if !inside(peer.address.ip()) {
        return None;
    }
    let values = headers.get_all(&X_FORWARDED_FOR).iter().map(|value| value.to_str().unwrap_or("?"));
    let entries: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
    let mut client = None;
    let mut from = entries.len();
    match trust {
        Trust::Hops(hops) => {
            from = entries.len().checked_sub(*hops)?;
            client = Some(address(entries[from])?);
        }
        _ => {
            for (at, entry) in entries.iter().enumerate().rev() {
                let Some(found) = address(entry) else { break };
                (client, from) = (Some(found), at);
                if !inside(found.ip()) {
                    break;
                }
            }
        }
    }
    Some(Claims { client, chain: entries[from..].join(", ") })
}

/// Reads an address, with or without a port.
fn address(text: &str) -> Option<SocketAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip.to_canonical(), 0));
    }
    let found = text.parse::<SocketAddr>().ok();
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    found.or_else(|| Some(SocketAddr::new(bare()?, 0))).map(|a| SocketAddr::new(a.ip().to_canonical(), a.port()))
}

/// Removes what a client that is not believed claims of itself, of how it came and of what it asked for: `X-Forwarded-*`, `Forwarded`, and all other fields
/// that endpoints may take for a proxy's.
pub(in crate::http) fn forget(headers: &mut HeaderMap) {
    let claims: Vec<HeaderName> = headers.keys().filter(|name| is_claim(name.as_str().as_bytes())).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
}

/// Sets `X-Forwarded-*` by what a trusted proxy says. Returns the client, as everything after this is to see it.
pub(in crate::http) fn mark<B>(request: &mut Request<B>, claims: Claims, peer: &Peer) -> Peer {
    let host = host(request);
    let headers = request.headers_mut();
    let Claims { client, mut chain } = claims;
    if !chain.is_empty() {
        chain.push_str(", ");
    }
    chain.push_str(peer.value.to_str().unwrap_or_default());
    headers.insert(X_FORWARDED_FOR, HeaderValue::from_maybe_shared(Bytes::from(chain)).unwrap_or_else(|_| peer.value.clone()));
    let claimed = sole(headers, &X_FORWARDED_PROTO).and_then(|value| {
        let known = ["https", "http"].into_iter();
        known.into_iter().find(|scheme| value.as_bytes().eq_ignore_ascii_case(scheme.as_bytes()))
    });
    let scheme = claimed.unwrap_or(peer.scheme());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    let is_port = |value: &&HeaderValue| value.to_str().is_ok_and(|text| text.parse::<u16>().is_ok_and(|port| port > 0));
    let port = sole(headers, &X_FORWARDED_PORT).filter(is_port).cloned().unwrap_or_else(|| match claimed {
        None => peer.port.clone(),
        Some("https") => HeaderValue::from_static("443"),
        Some(_) => HeaderValue::from_static("80"),
    });
    headers.insert(X_FORWARDED_PORT, port);
    let claimed_host =
        sole(headers, &X_FORWARDED_HOST).filter(|value| value.to_str().is_ok_and(sluicegate_decide::host::is_valid)).cloned();
    match claimed_host.or(host) {
        Some(host) => drop(headers.insert(X_FORWARDED_HOST, host)),
        None => drop(headers.remove(X_FORWARDED_HOST)),
    }
    let mut seen = peer.clone();
    (seen.address, seen.claimed_scheme) = (client.unwrap_or(peer.address), claimed);
    seen
}

fn sole<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Adds this hop to `Forwarded` and `Via`, as far as that is wanted.
pub(in crate::http) fn extras<B>(request: &mut Request<B>, extras: &HeaderExtras, peer: &Peer) -> Result<(), Reason> {
    if let Some(via) = &extras.via {
        if is_loop(request.headers(), via) {
            return Err(Reason::Loop);
        }
        let element = match request.version() {
            Version::HTTP_11 => Some(via.element.clone()),
            version => {
                let version = match version {
                    Version::HTTP_10 => "1.0",
                    Version::HTTP_3 => "3",
                    _ => "2",
                };
                HeaderValue::from_str(&format!("{version} {}", via.pseudonym)).ok()
            }
        };
        if let Some(element) = element {
            request.headers_mut().append(VIA, element);
        }
    }
    if extras.forwarded == ForwardedAction::Append {
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let element = element(peer, host.unwrap_or_default());
        let known = request.headers().get_all(FORWARDED).iter().map(HeaderValue::as_bytes);
        let mut joined = known.filter(|value| is_balanced(value)).fold(Vec::new(), |mut all, value| {
            all.extend_from_slice(value);
            all.extend_from_slice(b", ");
            all
        });
        joined.extend_from_slice(element.as_bytes());
        if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(joined)) {
            request.headers_mut().insert(FORWARDED, value);
        }
    }
    Ok(())
}

/// Whether the request has come by here before.
fn is_loop(headers: &HeaderMap, via: &Via) -> bool {
    let values = headers.get_all(VIA).iter().filter_map(|value| value.to_str().ok());
    let mut by = values.flat_map(|value| value.split(',')).filter_map(|hop| hop.split_ascii_whitespace().nth(1));
    by.any(|by| by.eq_ignore_ascii_case(&via.pseudonym))
}

/// What this hop has seen, as an element of `Forwarded` (RFC 7239 §4). An IPv6 address stands in brackets and quotes (§6).
fn element(peer: &Peer, host: &str) -> String {
    let client = match peer.address.ip().to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("\"[{v6}]\""),
    };
    let host = if sluicegate_decide::host::is_valid(host) && !host.is_empty() { format!(";host=\"{host}\"") } else { String::new() };
    format!("for={client}{host};proto={}", peer.scheme())
}

/// Whether all quotes are closed. An open one would make this gateway's element part of another's value.
fn is_balanced(value: &[u8]) -> bool {
    let mut quoted = false;
    let mut bytes = value.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => drop(bytes.next()),
            _ => {}
        }
    }
    !quoted
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::origin::Origin;

    fn peer(ip: &str) -> Peer {
        let listener = "127.0.0.1:8080".parse().unwrap();
        Peer::new(Origin::of(format!("{ip}:1234").parse().unwrap()), listener, listener).unwrap()
    }

    fn request(fields: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::get("/").header("host", "a.example").body(()).unwrap();
        for (name, value) in fields {
            request.headers_mut().append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        request
    }

    fn marked(request: &mut Request<()>, claims: Option<Claims>, peer: &Peer) -> Peer {
        if let Some(claims) = claims {
            return mark(request, claims, peer);
        }
        forget(request.headers_mut());
        peer.forwarding(true).put(request);
        peer.clone()
    }

    /// The client, and `X-Forwarded-For` as it goes on.
    fn client(from: &str, chain: &[&str], trust: &Trust) -> (String, String) {
        let fields: Vec<(&str, &str)> = chain.iter().map(|value| ("x-forwarded-for", *value)).collect();
        let (mut request, peer) = (request(&fields), peer(from));
        let claims = believe(request.headers(), &peer, trust);
        let seen = marked(&mut request, claims, &peer).address.ip().to_string();
        let values: Vec<_> = request.headers().get_all(X_FORWARDED_FOR).iter().map(|v| v.to_str().unwrap()).collect();
        (seen, values.join("|"))
    }

    fn told(client: &str, chain: &str) -> (String, String) {
        (client.to_owned(), chain.to_owned())
    }

    #[test]
    fn nobody_is_believed_unless_told_so() {
        assert_eq!(client("192.0.2.9", &["10.0.0.1", "10.0.0.2"], &Trust::Nobody), told("192.0.2.9", "192.0.2.9"));
    }

    #[test]
    fn hops_are_counted_from_the_right() {
        let one = Trust::Hops(1);
        assert_eq!(client("10.0.0.1", &["6.6.6.6, 192.0.2.9"], &one), told("192.0.2.9", "192.0.2.9, 10.0.0.1"));
        assert_eq!(client("10.0.0.1", &["6.6.6.6", "192.0.2.9:4711"], &one), told("192.0.2.9", "192.0.2.9:4711, 10.0.0.1"));
        let two = Trust::Hops(2);
        assert_eq!(client("10.0.0.1", &["6.6.6.6, 192.0.2.9, 10.0.0.2"], &two), told("192.0.2.9", "192.0.2.9, 10.0.0.2, 10.0.0.1"));
        assert_eq!(
            client("10.0.0.1", &["192.0.2.9"], &two),
            told("10.0.0.1", "10.0.0.1"),
            "one address is missing: it did not come by both"
        );
        assert_eq!(client("10.0.0.1", &["192.0.2.9, unknown"], &one), told("10.0.0.1", "10.0.0.1"));
        assert_eq!(client("10.0.0.1", &[], &one), told("10.0.0.1", "10.0.0.1"));
    }

    #[test]
    fn networks_are_believed_as_far_as_they_reach() {
        let trust = Trust::Networks(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        assert_eq!(client("192.0.2.1", &["6.6.6.6"], &trust), told("192.0.2.1", "192.0.2.1"), "not from a proxy");
        let chain = ["6.6.6.6, 192.0.2.9, fd00::2", "10.0.0.2"];
        assert_eq!(client("10.0.0.1", &chain, &trust), told("192.0.2.9", "192.0.2.9, fd00::2, 10.0.0.2, 10.0.0.1"));
        assert_eq!(client("10.0.0.1", &["[2001:db8::1]:99"], &trust), told("2001:db8::1", "[2001:db8::1]:99, 10.0.0.1"));
        assert_eq!(
            client("10.0.0.1", &["10.0.0.3, 10.0.0.2"], &trust),
            told("10.0.0.3", "10.0.0.3, 10.0.0.2, 10.0.0.1"),
            "all are trusted"
        );
        assert_eq!(client("10.0.0.1", &["192.0.2.9, evil, 10.0.0.2"], &trust), told("10.0.0.2", "10.0.0.2, 10.0.0.1"));
        assert_eq!(client("10.0.0.1", &["::ffff:10.0.0.2"], &trust), told("10.0.0.2", "::ffff:10.0.0.2, 10.0.0.1"));
        assert_eq!(client("10.0.0.1", &[], &trust), told("10.0.0.1", "10.0.0.1"));
    }

    #[test]
    fn scheme_host_and_port_are_a_trusted_proxys_if_they_make_sense() {
        let marked = |trust: &Trust, fields: &[(&str, &str)]| {
            let (mut request, peer) = (request(fields), peer("10.0.0.1"));
            let claims = believe(request.headers(), &peer, trust);
            let scheme = marked(&mut request, claims, &peer).scheme();
            let field = |name: &HeaderName| request.headers()[name].to_str().unwrap().to_owned();
            (scheme, field(&X_FORWARDED_PROTO), field(&X_FORWARDED_HOST), field(&X_FORWARDED_PORT))
        };
        let all = [
            ("x-forwarded-for", "192.0.2.9"),
            ("x-forwarded-proto", "HTTPS"),
            ("x-forwarded-host", "b.example"),
            ("x-forwarded-port", "8443"),
        ];
        let own = |scheme: &'static str, proto: &str, host: &str, port: &str| (scheme, proto.to_owned(), host.to_owned(), port.to_owned());
        assert_eq!(marked(&Trust::Nobody, &all), own("http", "http", "a.example", "8080"));
        assert_eq!(marked(&Trust::Hops(1), &all), own("https", "https", "b.example", "8443"));
        assert_eq!(marked(&Trust::Hops(1), &all[..2]), own("https", "https", "a.example", "443"));
        assert_eq!(marked(&Trust::Hops(1), &all[..1]), own("http", "http", "a.example", "8080"));
        let odd = [all[0], ("x-forwarded-proto", "gopher"), ("x-forwarded-host", "b/c"), ("x-forwarded-port", "0")];
        assert_eq!(marked(&Trust::Hops(1), &odd), own("http", "http", "a.example", "8080"));
    }

    #[test]
    fn forwarded_names_this_hop_and_cannot_be_broken_by_the_one_before() {
        let append = HeaderExtras { forwarded: ForwardedAction::Append, ..HeaderExtras::default() };
        let forwarded = |from: &str, known: &[(&str, &str)]| {
            let mut request = request(known);
            extras(&mut request, &append, &peer(from)).unwrap();
            request.headers()[FORWARDED].to_str().unwrap().to_owned()
        };
        assert_eq!(forwarded("192.0.2.9", &[]), "for=192.0.2.9;host=\"a.example\";proto=http");
        assert_eq!(forwarded("[2001:db8::1]", &[]), "for=\"[2001:db8::1]\";host=\"a.example\";proto=http");
        let known = [("forwarded", "for=\"_a\\\"b\";by=x"), ("forwarded", "for=\"open")];
        assert_eq!(forwarded("10.0.0.1", &known), "for=\"_a\\\"b\";by=x, for=10.0.0.1;host=\"a.example\";proto=http");
    }

    #[test]
    fn via_shows_loops() {
        let via = Via { pseudonym: "edge-1".to_owned(), element: HeaderValue::from_static("1.1 edge-1") };
        let settings = HeaderExtras { via: Some(via), ..HeaderExtras::default() };
        let peer = peer("192.0.2.9");
        let mut first = request(&[("via", "1.0 edge-10, 1.1 other (edge-1)")]);
        assert_eq!(extras(&mut first, &settings, &peer), Ok(()));
        assert_eq!(first.headers().get_all(VIA).iter().collect::<Vec<_>>(), ["1.0 edge-10, 1.1 other (edge-1)", "1.1 edge-1"]);
        assert_eq!(extras(&mut first, &settings, &peer), Err(Reason::Loop));
    }
}
