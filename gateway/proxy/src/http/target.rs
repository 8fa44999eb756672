//! A request's target: which forms are taken, and one spelling for each path, so that what a router decides by is what endpoints see.

use http::uri::{PathAndQuery, Uri};
use http::{HeaderValue, Method, Request, StatusCode, header};
use sluicegate_model::settings::{EscapedSlashes, PathSettings};

use super::answer::{Own, OwnAnswer, Reason, Why, empty};

/// RFC 9112 §3.2: origin form, absolute form of http and https, and `*` of OPTIONS. Authority form is CONNECT's, which is refused elsewhere.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Reason> {
    let uri = request.uri();
    let scheme = uri.scheme_str().is_none_or(|scheme| scheme == "http" || scheme == "https");
    let path = uri.path();
    let form = path.starts_with('/') || (path == "*" && request.method() == Method::OPTIONS);
    // `CONNECT` and its like have no path.
    let connect = request.method() == Method::CONNECT;
    if scheme && (form || connect) { Ok(()) } else { Err(Reason::BadTarget) }
}

/// Gives the path its one spelling. Errors: it has none, or the client is sent to it.
pub(super) fn normalize<B>(request: &mut Request<B>, settings: &PathSettings) -> Result<(), Own> {
    if is_plain(request.uri().path().as_bytes()) {
        return Ok(());
    }
    let read = read(request.uri().path().as_bytes(), settings).ok_or(Reason::BadPath)?;
    if !read.redirect && read.path == request.uri().path() {
        return Ok(());
    }
    let target = request.uri().query().map_or_else(|| read.path.clone(), |query| format!("{}?{query}", read.path));
    if read.redirect {
        let location = HeaderValue::from_str(&target).map_err(|_| Reason::BadPath)?;
        let mut response = empty(StatusCode::TEMPORARY_REDIRECT);
        response.headers_mut().insert(header::LOCATION, location);
        return Err(Own::new(OwnAnswer { why: Why::Redirect, response }));
    }
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).map_err(|_| Reason::BadPath)?);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Reason::BadPath)?;
    Ok(())
}

/// Most paths: nothing escaped, no slash after a slash, no dot after a slash.
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    for byte in path {
        if matches!(byte, b'%' | b'\\') || (before == b'/' && matches!(byte, b'/' | b'.')) {
            return false;
        }
        before = *byte;
    }
    true
}

/// A path in its one spelling.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    path: String,
    redirect: bool,
}

/// None: it is refused.
fn read(path: &[u8], settings: &PathSettings) -> Option<Read> {
    let Decoded { path: decoded, slashes } = decode(path, settings.escaped)?;
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut segments = decoded.strip_prefix(b"/")?.split(|b| *b == b'/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"" if !last && settings.merge => {}
            b"." | b".." => {
                if segment == b".." {
                    // Above the root there is nothing.
                    kept.pop()?;
                }
                if last {
                    kept.push(b"");
                }
            }
            // Servlet containers leave out what follows a semicolon, and then see a dot segment.
            hidden if hidden.starts_with(b"..;") || hidden.starts_with(b".;") => return None,
            other => kept.push(other),
        }
    }
    let mut path = Vec::with_capacity(decoded.len());
    for segment in &kept {
        path.push(b'/');
        path.extend_from_slice(segment);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    let redirect = slashes && settings.escaped == EscapedSlashes::UnescapeAndRedirect;
    // Two slashes would begin the name of another host (RFC 3986 §4.2).
    if redirect && path.starts_with(b"//") {
        return None;
    }
    Some(Read { path: String::from_utf8(path).ok()?, redirect })
}

struct Decoded {
    path: Vec<u8>,
    /// There were escaped slashes.
    slashes: bool,
}

/// RFC 3986 §6.2.2: what need not be escaped is not, and hexadecimal digits are capitals. None: not an escape, an escaped NUL, or slashes
/// that are not to be.
fn decode(path: &[u8], action: EscapedSlashes) -> Option<Decoded> {
    let mut decoded = Decoded { path: Vec::with_capacity(path.len()), slashes: false };
    let mut at = 0;
    while let Some(byte) = path.get(at).copied() {
        let escaped = byte == b'%';
        let (value, length) = if escaped {
            let digit = |at: usize| char::from(*path.get(at)?).to_digit(16);
            ((digit(at + 1)? << 4 | digit(at + 2)?) as u8, 3)
        } else {
            (byte, 1)
        };
        at += length;
        match value {
            0 => return None,
            b'/' | b'\\' if escaped || value == b'\\' => {
                decoded.slashes = true;
                match action {
                    EscapedSlashes::RejectRequest => return None,
                    EscapedSlashes::KeepUnchanged => decoded.path.extend_from_slice(match (value, escaped) {
                        (b'/', _) => b"%2F".as_slice(),
                        (_, true) => b"%5C",
                        _ => b"\\",
                    }),
                    EscapedSlashes::UnescapeAndForward | EscapedSlashes::UnescapeAndRedirect => decoded.path.push(b'/'),
                }
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => decoded.path.push(value),
            _ if escaped => decoded.path.extend_from_slice(format!("%{value:02X}").as_bytes()),
            _ => decoded.path.push(value),
        }
    }
    if action == EscapedSlashes::KeepUnchanged && decoded.slashes && hides_dots(&decoded.path) {
        return None;
    }
    Some(decoded)
}

/// Whether there would be a dot segment if escaped slashes were slashes: an endpoint that unescapes first would go where no router sent it.
fn hides_dots(path: &[u8]) -> bool {
    let all = String::from_utf8_lossy(path).replace("%2F", "/").replace("%5C", "/").replace('\\', "/");
    let dots = |path: &str| path.split('/').filter(|s| matches!(*s, "." | "..") || s.starts_with("..;") || s.starts_with(".;")).count();
    dots(&all) > dots(&String::from_utf8_lossy(path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn spelt(path: &str, escaped: EscapedSlashes, merge: bool) -> Option<String> {
        if is_plain(path.as_bytes()) {
            return Some(path.to_owned());
        }
        read(path.as_bytes(), &PathSettings { escaped, merge }).map(|read| read.path)
    }

    #[test]
    fn one_spelling_for_each_path() {
        for (path, wanted) in [
            ("/", "/"),
            ("/a/b.c/~d", "/a/b.c/~d"),
            ("/a//b///", "/a/b/"),
            ("//a", "/a"),
            ("/a/./b", "/a/b"),
            ("/a/.", "/a/"),
            ("/public/../admin", "/admin"),
            ("/public/%2e%2E/admin", "/admin"),
            ("/public/.%2e/admin", "/admin"),
            ("/a/..", "/"),
            ("/a/b/../..", "/"),
            ("/%61dmin", "/admin"),
            ("/a%20b%c3%a4", "/a%20b%C3%A4"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            ("/a%2fb", "/a%2Fb"),
            ("/a%2525", "/a%2525"),
            ("/a;v=1/b", "/a;v=1/b"),
        ] {
            assert_eq!(spelt(path, EscapedSlashes::KeepUnchanged, true).as_deref(), Some(wanted), "{path}");
            assert_eq!(spelt(wanted, EscapedSlashes::KeepUnchanged, true).as_deref(), Some(wanted), "{wanted} stays as it is");
        }
        assert_eq!(spelt("/a//b/../c//", EscapedSlashes::KeepUnchanged, false).as_deref(), Some("/a//c//"));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for path in [
            "/..",
            "/a/../../b",
            "/%2e%2e",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%00",
            "/public/..%2fadmin",
            "/public%2f..%2fadmin",
            "/a%5c..%5cb",
            "/a/..\\b",
            "/a/..;/b",
            "/a/%2e%2e;x/b",
            "/a/.;/b",
        ] {
            assert_eq!(spelt(path, EscapedSlashes::KeepUnchanged, true), None, "{path}");
        }
    }

    #[test]
    fn escaped_slashes_by_setting() {
        let forward = |path| spelt(path, EscapedSlashes::UnescapeAndForward, true);
        assert_eq!(forward("/a%2Fb%5cc\\d").as_deref(), Some("/a/b/c/d"));
        assert_eq!(forward("/public%2f..%2fadmin").as_deref(), Some("/admin"));
        assert_eq!(spelt("/a%2Fb", EscapedSlashes::RejectRequest, true), None);
        let redirect = |path: &str, merge| read(path.as_bytes(), &PathSettings { escaped: EscapedSlashes::UnescapeAndRedirect, merge });
        assert_eq!(redirect("/a%2Fb", true), Some(Read { path: "/a/b".to_owned(), redirect: true }));
        assert_eq!(redirect("/a/./b", true), Some(Read { path: "/a/b".to_owned(), redirect: false }));
        assert_eq!(redirect("/%2Fevil.example", false), None, "that is another host");
    }

    #[test]
    fn forms_of_targets() {
        let form = |method: &str, uri: &str| check(&Request::builder().method(method).uri(uri).body(()).unwrap()).is_ok();
        assert!(form("GET", "/a") && form("GET", "http://a/") && form("GET", "https://a") && form("OPTIONS", "*"));
        assert!(!form("GET", "*") && !form("GET", "a.example:80") && !form("GET", "a.example") && !form("GET", "ftp://a/"));
    }

    #[test]
    fn the_rest_of_the_target_stays() {
        let mut request = Request::get("http://a.example/x/../y?q=/../z").body(()).unwrap();
        normalize(&mut request, &PathSettings::default()).map_err(|own| own.why).unwrap();
        assert_eq!(request.uri(), "http://a.example/y?q=/../z");
        let redirect = PathSettings { escaped: EscapedSlashes::UnescapeAndRedirect, merge: true };
        let mut request = Request::get("/x%2Fy?q").body(()).unwrap();
        let mut own = normalize(&mut request, &redirect).err().unwrap();
        assert_eq!(
            (own.response.status(), own.response.headers_mut()["location"].to_str().unwrap()),
            (StatusCode::TEMPORARY_REDIRECT, "/x/y?q")
        );
    }
}
