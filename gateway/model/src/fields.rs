//! Names of fields that clients may not set, and of fields that have no business in a trailer section. One list: a head's fields, trailers of
//! either direction and what policies may allow are judged by it.
//!
//! CGI and its like make every character of a name that is no letter and no digit a `_`, so `x_real_ip` and `x.real.ip` are `x-real-ip` to
//! an endpoint: names are compared as such an endpoint would.

/// Fields in which proxies say who a client is, how it came and what it asked for. Endpoints believe them, so only a trusted proxy may set them.
const CLAIMS: &[&str] = &[
    // The client's address.
    "client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "fastly-client-ip",
    "proxy-client-ip",
    "remote-addr",
    "true-client-ip",
    "x-appengine-remote-addr",
    "x-appengine-user-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-originating-ip",
    "x-proxyuser-ip",
    "x-remote-addr",
    "x-remote-ip",
    // How the client came.
    "cf-visitor",
    "forwarded",
    "front-end-https",
    "x-arr-ssl",
    "x-scheme",
    "x-url-scheme",
    // What the client asked for.
    "x-host",
    "x-http-host-override",
    "x-rewrite-url",
    // Who the client is (RFC 9440; Kubernetes' authenticating proxy; nginx, Apache httpd and IIS as they are usually set up).
    "client-cert",
    "client-cert-chain",
    "remote-group",
    "remote-user",
    "x-arr-clientcert",
    "x-client-cert",
    "x-client-dn",
    "x-client-verify",
    "x-remote-group",
    "x-remote-user",
    "x-user-dn",
];

/// Names that begin so are claims, too.
const CLAIM_FAMILIES: &[&str] = &[
    "ssl-client-",
    "wl-proxy-",
    "x-auth-request-",
    "x-authenticated-",
    "x-envoy-",
    "x-forwarded-",
    "x-original-",
    "x-real-",
    "x-remote-extra-",
    "x-ssl-",
    "x-webauth-",
];

/// Fields that may not be trailers (RFC 9110 §6.5.1): those that frame or route a message, authenticate, modify a request, control a response or say how
/// content is to be read; and those that browsers and proxies act upon.
const NOT_IN_TRAILERS: &[&str] = &[
    // Framing, and fields of one hop (§7.6.1).
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    // Routing.
    "alt-svc",
    "alt-used",
    "host",
    "location",
    "max-forwards",
    "origin",
    "referer",
    "refresh",
    "traceparent",
    "tracestate",
    "via",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-request-id",
    // Authentication and state.
    "authentication-info",
    "authorization",
    "clear-site-data",
    "cookie",
    "cookie2",
    "set-cookie",
    "set-cookie2",
    "www-authenticate",
    // Request modifiers.
    "cache-control",
    "expect",
    "pragma",
    "prefer",
    "priority",
    "range",
    "user-agent",
    // Control of a response.
    "age",
    "allow",
    "date",
    "expires",
    "link",
    "retry-after",
    "server",
    "vary",
    "warning",
    // How content is to be read. Digests of the content may come behind it (RFC 9530 §2).
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-location",
    "content-range",
    "content-security-policy",
    "content-security-policy-report-only",
    "content-type",
    "permissions-policy",
    "referrer-policy",
    "service-worker-allowed",
    "strict-transport-security",
    "x-content-type-options",
    "x-frame-options",
];

/// Names that begin so may not be trailers, either.
const FAMILIES_NOT_IN_TRAILERS: &[&str] =
    &["accept-", "access-control-", "cdn-", "cross-origin-", "if-", "proxy-", "sec-", "x-ratelimit-", "x-sluicegate-"];

/// For each first letter the lengths of the claims that begin with it, as bits: by one look most names are seen not to be claims.
const SHAPES: [u64; 26] = {
    let mut shapes = [0; 26];
    let mut at = 0;
    while at < CLAIMS.len() {
        let name = CLAIMS[at].as_bytes();
        assert!(name.len() < 64);
        shapes[(name[0] - b'a') as usize] |= 1 << name.len();
        at += 1;
    }
    shapes
};

/// Whether a name, in upper or lower case, is that of a field that only a trusted proxy may set.
pub fn is_claim(name: &[u8]) -> bool {
    let first = name.first().map(u8::to_ascii_lowercase);
    let Some(letter) = first.map(|first| first.wrapping_sub(b'a')).filter(|letter| *letter < 26) else { return false };
    if matches!(letter + b'a', b's' | b'w' | b'x') && CLAIM_FAMILIES.iter().any(|family| begins(name, family.as_bytes())) {
        return true;
    }
    let is_it = |claim: &&str| name.len() == claim.len() && begins(name, claim.as_bytes());
    name.len() < 64 && SHAPES[letter as usize] & (1 << name.len()) != 0 && CLAIMS.iter().any(is_it)
}

/// Whether a name, which is in lower case, may be that of a trailer field.
pub fn may_be_trailer(name: &str) -> bool {
    let barred = NOT_IN_TRAILERS.iter().any(|barred| is_same(name, barred))
        || FAMILIES_NOT_IN_TRAILERS.iter().any(|family| begins(name.as_bytes(), family.as_bytes()))
        || is_same(name, "accept");
    !barred && !is_claim(name.as_bytes())
}

/// Whether an endpoint may take two names, both in lower case, for one. `wanted` has no other characters than letters, digits and `-`; if it has, it is
/// compared as it stands.
pub fn is_same(name: &str, wanted: &str) -> bool {
    name.len() == wanted.len() && begins(name.as_bytes(), wanted.as_bytes())
}

/// Whether a name begins so, in upper or lower case, where any mark may stand for a hyphen.
fn begins(name: &[u8], beginning: &[u8]) -> bool {
    let mark = |byte: u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    name.len() >= beginning.len() && beginning.iter().zip(name).all(|(wanted, byte)| byte == wanted || mark(*byte) == mark(*wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_told_in_any_spelling() {
        for claim in CLAIMS {
            let spelt = |claim: &str| is_claim(claim.as_bytes());
            assert!(spelt(claim) && spelt(&claim.replace('-', "_")) && spelt(&claim.to_uppercase()) && !may_be_trailer(claim), "{claim}");
        }
        for name in
            ["x-forwarded-for", "X-Forwarded-Prefix", "x_forwarded_for", "x.forwarded.for", "X-REAL-IP", "x_real-ip", "x-original-url"]
        {
            assert!(is_claim(name.as_bytes()), "{name}");
        }
        for name in
            ["", "-", "_", "x", "x-forwarded", "x-realm", "accept", "cookie", "connection", "sec-fetch-site", "x-request-id", "x-role", "1"]
        {
            assert!(!is_claim(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn trailers_are_digests_statuses_and_what_applications_name_themselves() {
        for name in [
            "grpc-status",
            "grpc-message",
            "grpc-status-details-bin",
            "x-sum",
            "my_metadata-bin",
            "etag",
            "content-digest",
            "server-timing",
        ] {
            assert!(may_be_trailer(name), "{name}");
        }
        for name in [
            "content-length",
            "content_length",
            "authorization",
            "set-cookie",
            "proxy-authorization",
            "if-match",
            "accept",
            "accept-encoding",
        ] {
            assert!(!may_be_trailer(name), "{name}");
        }
    }
}
