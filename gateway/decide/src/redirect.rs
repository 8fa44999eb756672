//! Redirects and rewrites: what both do to host and path (HTTPRequestRedirectFilter, HTTPURLRewriteFilter).

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri, header};
use sluicegate_model::route::{PathRewrite, Redirect, Rewrite};

use crate::answer::{Reason, empty};

/// Sends the client of a request for `uri` elsewhere. `own`: the scheme that the client used; `port`: that of the listener; `matched`: as for [`PathRewrite::apply`].
pub fn redirect(redirect: &Redirect, uri: &Uri, host: &str, (own, port): (&str, u16), matched: usize) -> Response<Bytes> {
    let scheme = redirect.scheme.as_deref().unwrap_or(own);
    let host = redirect.hostname.as_deref().unwrap_or(host);
    // A new scheme means its well-known port; the same scheme means the listener's.
    let port = redirect.port.or_else(|| redirect.scheme.is_none().then_some(port));
    let port = port.filter(|p| !matches!((scheme, p), ("http", 80) | ("https", 443))).map_or_else(String::new, |p| format!(":{p}"));
    let target = target(uri, redirect.path.as_ref(), matched);
    match HeaderValue::from_str(&format!("{scheme}://{host}{port}{target}")) {
        Ok(location) => {
            let mut response = empty(redirect.status);
            response.headers_mut().insert(header::LOCATION, location);
            response
        }
        Err(_) => Reason::BadTarget.answer(),
    }
}

/// Rewrites host and path. An error says that the new path is malformed.
pub fn rewrite<B>(rewrite: &Rewrite, request: &mut Request<B>, matched: usize) -> Result<(), Reason> {
    if let Some(host) = &rewrite.hostname {
        request.headers_mut().insert(header::HOST, host.clone());
    }
    if let Some(path) = &rewrite.path {
        let target = PathAndQuery::try_from(target(request.uri(), Some(path), matched)).map_err(|_| Reason::BadTarget)?;
        *request.uri_mut() = Uri::from(target);
    }
    Ok(())
}

/// The new path, with the query that the request has.
fn target(uri: &Uri, change: Option<&PathRewrite>, matched: usize) -> String {
    let path = change.map_or_else(|| uri.path().to_owned(), |change| change.apply(uri.path(), matched));
    let slash = if path.starts_with('/') { "" } else { "/" };
    match uri.query() {
        Some(query) => format!("{slash}{path}?{query}"),
        None => format!("{slash}{path}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use http::StatusCode;

    use super::*;

    fn location(to: Redirect, uri: &str, port: u16, matched: usize) -> String {
        let request = Request::get(uri).body(()).unwrap();
        redirect(&to, request.uri(), "a.example", (if port == 8443 { "https" } else { "http" }, port), matched).headers()["location"]
            .to_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn what_is_absent_stays() {
        let same = || Redirect { scheme: None, hostname: None, path: None, port: None, status: StatusCode::FOUND };
        assert_eq!(location(same(), "/x?q=1", 8080, 0), "http://a.example:8080/x?q=1");
        assert_eq!(location(same(), "/x", 80, 0), "http://a.example/x");
        assert_eq!(location(same(), "/x", 8443, 0), "https://a.example:8443/x");
        assert_eq!(location(Redirect { scheme: Some("https".into()), ..same() }, "/x", 8080, 0), "https://a.example/x");
        assert_eq!(location(Redirect { port: Some(443), scheme: Some("https".into()), ..same() }, "/x", 80, 0), "https://a.example/x");
        let path = Some(PathRewrite::Prefix("/new".into()));
        assert_eq!(location(Redirect { hostname: Some("b".into()), path, ..same() }, "/old/x?q", 80, 4), "http://b/new/x?q");
    }
}
