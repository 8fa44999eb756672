//! A request's target: which forms are taken, and one spelling for each path, so that what a router decides by is what endpoints see.

use http::uri::{PathAndQuery, Uri};
use http::{HeaderValue, Method, Request, StatusCode, header};
use sluicegate_model::path::{self, escape, is_delimiter, is_unreserved};
use sluicegate_model::settings::{EscapedReserved, EscapedSlashes, PathParameters, PathSettings};

use crate::answer::{LocalReply, Reason, Why, empty};

/// Checks the form of the target (RFC 9112 §3.2): origin form, absolute form of http and https, and `*` of OPTIONS are taken. Authority form belongs to
/// CONNECT, which is refused elsewhere.
pub fn check<B>(request: &Request<B>) -> Result<(), Reason> {
    let uri = request.uri();
    let scheme = uri.scheme_str().is_none_or(|scheme| scheme == "http" || scheme == "https");
    let path = uri.path();
    let form = path.starts_with('/') || (path == "*" && request.method() == Method::OPTIONS);
    // CONNECT and extended CONNECT have no path.
    let connect = request.method() == Method::CONNECT;
    if scheme && (form || connect) { Ok(()) } else { Err(Reason::BadTarget) }
}

/// Gives the path its one spelling. Errors: there is no such spelling, or the client is redirected to it.
pub fn normalize<B>(request: &mut Request<B>, settings: &PathSettings) -> Result<(), Box<LocalReply>> {
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
        return Err(LocalReply::new(Why::Redirect, response));
    }
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).map_err(|_| Reason::BadPath)?);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Reason::BadPath)?;
    Ok(())
}

/// Whether a path has its one spelling already, as most have: no character needs a look, and no slash or dot follows a slash.
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    for byte in path {
        if !SPELT_ONE_WAY[*byte as usize] || (before == b'/' && matches!(byte, b'/' | b'.')) {
            return false;
        }
        before = *byte;
    }
    true
}

/// The characters that stand in a path as they are (RFC 3986 §3.3), but for `;`, which needs a closer look.
const SPELT_ONE_WAY: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        bytes[byte] = byte == b'/' as usize || is_unreserved(byte as u8) || is_delimiter(byte as u8);
        byte += 1;
    }
    bytes
};

/// A path in its one spelling.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    path: String,
    redirect: bool,
}

/// Reads a path. None: it is refused.
fn read(path: &[u8], settings: &PathSettings) -> Option<Read> {
    let Decoded { path: decoded, slashes } = decode(path, settings)?;
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut segments = decoded.strip_prefix(b"/")?.split(|b| *b == b'/').peekable();
    while let Some(whole) = segments.next() {
        let last = segments.peek().is_none();
        if hides_dot_segment(whole) {
            return None;
        }
        let segment = match settings.parameters {
            PathParameters::RejectRequest if whole.contains(&b';') => return None,
            PathParameters::Remove => whole.split(|b| *b == b';').next().unwrap_or_default(),
            PathParameters::RejectRequest | PathParameters::KeepUnchanged => whole,
        };
        match segment {
            b"" if !last && settings.merge => {}
            b"." | b".." => {
                if segment == b".." {
                    // There is nothing above the root.
                    kept.pop()?;
                }
                if last {
                    kept.push(b"");
                }
            }
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
    // Two slashes at the beginning would be followed by another host (RFC 3986 §4.2).
    if redirect && path.starts_with(b"//") {
        return None;
    }
    Some(Read { path: String::from_utf8(path).ok()?, redirect })
}

/// Whether a segment hides a dot segment. Servlet containers remove what follows a semicolon, and then see it; others unescape first.
fn hides_dot_segment(segment: &[u8]) -> bool {
    let rest = segment.strip_prefix(b".").map(|rest| rest.strip_prefix(b".").unwrap_or(rest));
    rest.is_some_and(|rest| rest.starts_with(b";") || rest.starts_with(b"%3B"))
}

struct Decoded {
    path: Vec<u8>,
    /// Whether there were escaped slashes.
    slashes: bool,
}

/// Spells a path (RFC 3986 §6.2.2): what need not be escaped is not, what must be is, and hexadecimal digits are capitals. None: there is a malformed
/// escape, an escaped NUL, a backslash or slashes that are not allowed, or what some decoders of UTF-8 take for another character.
fn decode(from: &[u8], settings: &PathSettings) -> Option<Decoded> {
    let mut decoded = Decoded { path: Vec::with_capacity(from.len()), slashes: false };
    let (mut at, mut before) = (0, 0);
    while let Some(byte) = from.get(at).copied() {
        let escaped = byte == b'%';
        let (value, length) = if escaped { (path::escaped(&from[at..])?, 3) } else { (byte, 1) };
        at += length;
        if value == 0 || is_overlong(before, value) {
            return None;
        }
        before = value;
        match value {
            b'/' if !escaped => decoded.path.push(b'/'),
            b'/' | b'\\' => {
                decoded.slashes = true;
                match settings.escaped {
                    EscapedSlashes::RejectRequest => return None,
                    // A URI has no backslash (§2), and browsers send none. A client that does may hope that only the endpoint takes it for a slash.
                    EscapedSlashes::KeepUnchanged if !escaped => return None,
                    EscapedSlashes::KeepUnchanged => escape(value, &mut decoded.path),
                    EscapedSlashes::UnescapeAndForward | EscapedSlashes::UnescapeAndRedirect => decoded.path.push(b'/'),
                }
            }
            _ if is_unreserved(value) => decoded.path.push(value),
            _ if is_delimiter(value) && (!escaped || settings.reserved == EscapedReserved::Unescape) => decoded.path.push(value),
            b';' if !escaped => decoded.path.push(value),
            _ => escape(value, &mut decoded.path),
        }
    }
    if settings.escaped == EscapedSlashes::KeepUnchanged && decoded.slashes && hides_dots(&decoded.path) {
        return None;
    }
    Some(decoded)
}

/// Whether two bytes begin an overlong form of UTF-8 (RFC 3629 §3): `C0 AF` has been read as a slash, `C0 AE` as a dot.
fn is_overlong(first: u8, second: u8) -> bool {
    match first {
        0xc0 | 0xc1 => (0x80..0xc0).contains(&second),
        0xe0 => (0x80..0xa0).contains(&second),
        0xf0 => (0x80..0x90).contains(&second),
        _ => false,
    }
}

/// Whether there would be a dot segment if escaped slashes were slashes. An endpoint that unescapes first would then serve another path than was routed.
fn hides_dots(path: &[u8]) -> bool {
    let all = String::from_utf8_lossy(path).replace("%2F", "/").replace("%5C", "/");
    let dots = |path: &str| path.split('/').filter(|s| matches!(*s, "." | "..") || hides_dot_segment(s.as_bytes())).count();
    dots(&all) > dots(&String::from_utf8_lossy(path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn spelt(path: &str, escaped: EscapedSlashes, merge: bool) -> Option<String> {
        spelt_by(path, &PathSettings { escaped, merge, ..PathSettings::default() })
    }

    fn spelt_by(path: &str, settings: &PathSettings) -> Option<String> {
        if is_plain(path.as_bytes()) {
            return Some(path.to_owned());
        }
        read(path.as_bytes(), settings).map(|read| read.path)
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
            ("/ä", "/%C3%A4"),
            ("/%c3%a4", "/%C3%A4"),
            ("/%E4", "/%E4"),
            ("/a%40b%3ac%21%2B", "/a@b:c!+"),
            ("/a[1]|{b}^\"", "/a%5B1%5D%7C%7Bb%7D%5E%22"),
            ("/a%3bb%3f%23", "/a%3Bb%3F%23"),
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
            "/a/..%3b/b",
            "/a;v=1/b",
            "/;/admin",
            "/admin;x",
            "/\\admin",
            "/%c0%ae%c0%ae/x",
            "/%c0%af",
            "/%e0%80%af",
            "/%f0%80%80%af",
        ] {
            assert_eq!(spelt(path, EscapedSlashes::KeepUnchanged, true), None, "{path}");
        }
    }

    #[test]
    fn parameters_and_reserved_characters_by_setting() {
        let keep = PathSettings { parameters: PathParameters::KeepUnchanged, ..PathSettings::default() };
        let remove = PathSettings { parameters: PathParameters::Remove, ..PathSettings::default() };
        for (path, kept, removed) in [
            ("/a;v=1/b;w", Some("/a;v=1/b;w"), Some("/a/b")),
            ("/;/admin", Some("/;/admin"), Some("/admin")),
            ("/;x=1//admin", Some("/;x=1/admin"), Some("/admin")),
            ("/a/;x", Some("/a/;x"), Some("/a/")),
            ("/;", Some("/;"), Some("/")),
            ("/a%3Bb", Some("/a%3Bb"), Some("/a%3Bb")),
            ("/a/..;/b", None, None),
            ("/a/.;x/b", None, None),
            ("/a/..;x%2fb", None, None),
        ] {
            assert_eq!(spelt_by(path, &keep).as_deref(), kept, "{path}");
            assert_eq!(spelt_by(path, &remove).as_deref(), removed, "{path}");
        }
        let as_sent = PathSettings { reserved: EscapedReserved::KeepUnchanged, ..PathSettings::default() };
        assert_eq!(spelt_by("/a%2b%40%61+@", &as_sent).as_deref(), Some("/a%2B%40a+@"));
    }

    #[test]
    fn escaped_slashes_by_setting() {
        let forward = |path| spelt(path, EscapedSlashes::UnescapeAndForward, true);
        assert_eq!(forward("/a%2Fb%5cc\\d").as_deref(), Some("/a/b/c/d"));
        assert_eq!(forward("/public%2f..%2fadmin").as_deref(), Some("/admin"));
        assert_eq!(spelt("/a%2Fb", EscapedSlashes::RejectRequest, true), None);
        let redirect = |path: &str, merge| {
            let escaped = EscapedSlashes::UnescapeAndRedirect;
            read(path.as_bytes(), &PathSettings { escaped, merge, ..PathSettings::default() })
        };
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
        let redirect = PathSettings { escaped: EscapedSlashes::UnescapeAndRedirect, ..PathSettings::default() };
        let mut request = Request::get("/x%2Fy?q").body(()).unwrap();
        let own = normalize(&mut request, &redirect).err().unwrap();
        assert_eq!(
            (own.response.status(), own.response.headers()["location"].to_str().unwrap()),
            (StatusCode::TEMPORARY_REDIRECT, "/x/y?q")
        );
    }
}
