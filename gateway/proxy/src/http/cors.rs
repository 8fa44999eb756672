//! Cross-origin rules (Fetch standard, "CORS protocol"; HTTPCORSFilter).

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use sluicegate_model::route::Cors;

use super::answer::empty;
use super::reply::Reply;

/// Answers a preflight; none if the request is not one.
pub(super) fn preflight<B>(cors: &Cors, request: &Request<B>) -> Option<Reply<'static>> {
    let asked = request.headers();
    let method = asked.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    let origin = asked.get(header::ORIGIN)?;
    if request.method() != Method::OPTIONS {
        return None;
    }
    let mut response = empty(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    if allow(cors, origin, headers) {
        list(headers, header::ACCESS_CONTROL_ALLOW_METHODS, &cors.allow_methods, cors.allow_credentials.then_some(method));
        list(
            headers,
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            &cors.allow_headers,
            asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS).filter(|_| cors.allow_credentials),
        );
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(cors.max_age_seconds));
    }
    Some(response)
}

/// Marks the response to an actual cross-origin request.
pub(super) fn mark(cors: &Cors, origin: &HeaderValue, headers: &mut HeaderMap) {
    if allow(cors, origin, headers) {
        list(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, &cors.expose_headers, None);
    }
}

fn allow(cors: &Cors, origin: &HeaderValue, headers: &mut HeaderMap) -> bool {
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    let Some(text) = origin.to_str().ok().filter(|text| cors.allow_origins.iter().any(|allowed| matches(allowed, text))) else {
        return false;
    };
    // With credentials `*` is taken literally by browsers, so the origin itself is named.
    let any = !cors.allow_credentials && !text.is_empty() && cors.allow_origins.iter().any(|a| a == "*");
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, if any { HeaderValue::from_static("*") } else { origin.clone() });
    if cors.allow_credentials {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    true
}

/// `*`, an exact origin, or `scheme://*.host`, whose star stands for one or more labels.
fn matches(allowed: &str, origin: &str) -> bool {
    match allowed.split_once('*') {
        None => allowed.eq_ignore_ascii_case(origin),
        Some(("", "")) => true,
        Some((before, after)) => {
            let (origin, before, after) = (origin.to_ascii_lowercase(), before.to_ascii_lowercase(), after.to_ascii_lowercase());
            origin
                .strip_prefix(before.as_str())
                .and_then(|rest| rest.strip_suffix(after.as_str()))
                .is_some_and(|star| !star.is_empty() && !star.contains('/'))
        }
    }
}

/// Sets a list; a `*` in it becomes what was asked where the star would be taken literally.
fn list(headers: &mut HeaderMap, name: http::HeaderName, values: &[String], instead_of_star: Option<&HeaderValue>) {
    let value = match instead_of_star {
        Some(asked) if values.iter().any(|v| v == "*") => Some(asked.clone()),
        _ if values.is_empty() => None,
        _ => HeaderValue::from_str(&values.join(", ")).ok(),
    };
    if let Some(value) = value {
        headers.insert(name, value);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        assert!(matches("*", "https://a.example"));
        assert!(matches("https://a.example", "https://a.example"));
        assert!(!matches("https://a.example", "http://a.example"));
        assert!(matches("https://*.example", "https://x.y.example"));
        assert!(!matches("https://*.example", "https://.example.evil"));
        assert!(!matches("https://*.example", "https://.example"));
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
        let mut answer = preflight(&cors, &request).unwrap();
        assert_eq!(answer.headers_mut()["access-control-allow-origin"], "https://a");
        assert_eq!(answer.headers_mut()["access-control-allow-methods"], "PUT");
        assert_eq!(answer.headers_mut()["access-control-max-age"], "5");
    }
}
