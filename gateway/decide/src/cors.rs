//! Cross-origin rules (Fetch standard, "CORS protocol"; HTTPCORSFilter).

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use sluicegate_model::route::Cors;

use crate::answer::empty;

/// Answers a preflight; none if the request, of this method and with these fields, is not one.
pub fn preflight(cors: &Cors, by: &Method, asked: &HeaderMap) -> Option<Response<Bytes>> {
    let method = asked.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    let origin = asked.get(header::ORIGIN)?;
    if by != Method::OPTIONS {
        return None;
    }
    let mut response = empty(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    if allow(cors, origin, headers) {
        let fields = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        list_or_asked(cors, headers, header::ACCESS_CONTROL_ALLOW_METHODS, &cors.allow_methods, Some(method));
        list_or_asked(cors, headers, header::ACCESS_CONTROL_ALLOW_HEADERS, &cors.allow_headers, fields);
        // Browsers look for it in the response itself only, but the conformance suite of the Gateway API looks here, too.
        list_or_asked(cors, headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, &cors.expose_headers, None);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(cors.max_age_seconds));
    }
    Some(response)
}

/// Marks the response to an actual cross-origin request.
pub fn mark(cors: &Cors, origin: &HeaderValue, headers: &mut HeaderMap) {
    if !allow(cors, origin, headers) {
        return;
    }
    // With credentials browsers take `*` literally. What it stands for is all fields that the response has.
    let all = (cors.allow_credentials && has_star(&cors.expose_headers)).then(|| {
        let own = |name: &&header::HeaderName| name.as_str().starts_with("access-control-") || **name == header::VARY;
        let names: Vec<&str> = headers.keys().filter(|name| !own(name)).map(header::HeaderName::as_str).collect();
        names.join(", ")
    });
    let Some(all) = all else { return list(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, &cors.expose_headers) };
    if let Ok(all) = HeaderValue::from_str(&all) {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, all);
    }
}

fn allow(cors: &Cors, origin: &HeaderValue, headers: &mut HeaderMap) -> bool {
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    let Some(text) = origin.to_str().ok().filter(|text| cors.allow_origins.iter().any(|allowed| matches(allowed, text))) else {
        return false;
    };
    // With credentials browsers take `*` literally, so the origin itself is named.
    let any = !cors.allow_credentials && !text.is_empty() && cors.allow_origins.iter().any(|a| a == "*");
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, if any { HeaderValue::from_static("*") } else { origin.clone() });
    if cors.allow_credentials {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    true
}

/// Whether an origin is allowed by `*`, or by scheme, host and port. The host may be `*` or begin with it, which stands for one or more labels; the port may
/// be `*`. Without a port it is the scheme's own, on either side.
fn matches(allowed: &str, origin: &str) -> bool {
    if allowed == "*" {
        return true;
    }
    let (Some(allowed), Some(origin)) = (parts(allowed), parts(origin)) else { return allowed.eq_ignore_ascii_case(origin) };
    let host = match allowed.host.strip_prefix('*') {
        None => allowed.host.eq_ignore_ascii_case(origin.host),
        Some(after) => origin
            .host
            .len()
            .checked_sub(after.len())
            .filter(|star| *star > 0)
            .is_some_and(|star| origin.host.is_char_boundary(star) && origin.host[star..].eq_ignore_ascii_case(after)),
    };
    host && allowed.scheme.eq_ignore_ascii_case(origin.scheme) && (allowed.port == "*" || allowed.port == origin.port)
}

struct Parts<'o> {
    scheme: &'o str,
    host: &'o str,
    port: &'o str,
}

fn parts(origin: &str) -> Option<Parts<'_>> {
    let (scheme, rest) = origin.split_once("://")?;
    // The colons within the brackets of an IPv6 address do not begin a port.
    let at = rest.rfind(':').filter(|at| !rest[*at..].contains(']'));
    let (host, port) = at.map_or((rest, ""), |at| (&rest[..at], &rest[at + 1..]));
    let port = match port {
        "" if scheme.eq_ignore_ascii_case("http") => "80",
        "" if scheme.eq_ignore_ascii_case("https") => "443",
        port => port,
    };
    Some(Parts { scheme, host, port })
}

fn has_star(values: &[String]) -> bool {
    values.iter().any(|value| value == "*")
}

/// Sets a field to a list, unless the list is empty.
fn list(headers: &mut HeaderMap, name: http::HeaderName, values: &[String]) {
    if let Some(value) = HeaderValue::from_str(&values.join(", ")).ok().filter(|_| !values.is_empty()) {
        headers.insert(name, value);
    }
}

/// Sets a field to a list. Where browsers would take a `*` in it literally, it is set to what the preflight asked for, or not at all if it asked for nothing.
fn list_or_asked(cors: &Cors, headers: &mut HeaderMap, name: http::HeaderName, values: &[String], asked: Option<&HeaderValue>) {
    if !(cors.allow_credentials && has_star(values)) {
        list(headers, name, values);
    } else if let Some(asked) = asked {
        headers.insert(name, asked.clone());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn origins() {
        assert!(matches("*", "https://a.example"));
        assert!(matches("https://a.example", "https://a.example"));
        assert!(!matches("https://a.example", "http://a.example"));
        assert!(matches("https://*.example", "https://x.y.example"));
        assert!(!matches("https://*.example", "https://.example.evil"));
        assert!(!matches("https://*.example", "https://.example"));
        for (allowed, origin, holds) in [
            ("https://*", "https://a.b", true),
            ("https://*", "https://a.b:8443", false),
            ("https://*:8443", "https://a.b:8443", true),
            ("https://*:*", "https://a.b:8443", true),
            ("https://*.b:*", "https://A.b:1", true),
            ("https://*.b:*", "http://a.b:1", false),
            ("https://a.b:443", "https://a.b", true),
            ("http://a.b", "http://a.b:80", true),
            ("http://a.b", "http://a.b:443", false),
            ("https://*.b", "https://é.b", true),
            ("https://*b", "https://\u{e9}", false),
            ("http://[::1]", "http://[::1]", true),
            ("http://[::1]", "http://[::1]:8080", false),
            ("https://a.b", "null", false),
            ("https://a.b", "", false),
        ] {
            assert_eq!(matches(allowed, origin), holds, "{allowed} {origin}");
        }
    }

    #[test]
    fn stars_are_named_where_browsers_take_them_literally() {
        let star = || vec!["*".to_owned()];
        let with = |allow_credentials| Cors {
            allow_origins: star(),
            allow_headers: star(),
            allow_methods: star(),
            expose_headers: star(),
            allow_credentials,
            max_age_seconds: 5,
        };
        let origin = HeaderValue::from_static("https://a");
        let preflight = |cors: &Cors| {
            let request =
                Request::options("/").header("origin", "https://a").header("access-control-request-method", "PUT").body(()).unwrap();
            super::preflight(cors, request.method(), request.headers()).unwrap()
        };
        let marked = |cors: &Cors| {
            let mut headers = HeaderMap::from_iter([(header::ETAG, origin.clone()), (header::CONTENT_LENGTH, origin.clone())]);
            mark(cors, &origin, &mut headers);
            headers.get(header::ACCESS_CONTROL_EXPOSE_HEADERS).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(preflight(&with(false)).headers()["access-control-allow-headers"], "*");
        // The preflight asks for none.
        assert!(!preflight(&with(true)).headers().contains_key("access-control-allow-headers"));
        assert_eq!(preflight(&with(false)).headers()["access-control-expose-headers"], "*");
        // Which fields the response will have is not known.
        assert!(!preflight(&with(true)).headers().contains_key("access-control-expose-headers"));
        assert_eq!(marked(&with(false)).as_deref(), Some("*"));
        assert_eq!(marked(&with(true)).as_deref(), Some("etag, content-length"));
    }

    #[test]
    fn credentials_name_what_was_asked() {
        let cors = Cors {
            allow_origins: vec!["*".into()],
            allow_methods: vec!["*".into()],
            allow_credentials: true,
            max_age_seconds: 5,
            ..Cors::default()
        };
        let request = Request::options("/").header("origin", "https://a").header("access-control-request-method", "PUT").body(()).unwrap();
        let answer = preflight(&cors, request.method(), request.headers()).unwrap();
        assert_eq!(answer.headers()["access-control-allow-origin"], "https://a");
        assert_eq!(answer.headers()["access-control-allow-methods"], "PUT");
        assert_eq!(answer.headers()["access-control-max-age"], "5");
    }
}
