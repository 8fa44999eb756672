//! Checks of the values that the rules of the router plugin `rules` may have, and of their sizes. Every check is the one of HTTPRoute v1's CRD unless it says
//! otherwise.
//!
//! The plugin refuses all rules of a listener if one of them has another value. CustomResourceDefinitions allow more. So the plan makes these checks before it
//! writes a route's rules for the plugin, and a bad value costs only its own rule.

use regex_lite::{Regex, RegexBuilder};

/// The greatest number of tries after the first that a rule's `retry` may ask for.
pub const MOST_ATTEMPTS: u32 = 20;

const LONGEST_REGEX: usize = 1024;
/// The greatest size of a compiled regular expression in bytes, and the smallest size that is told apart.
const LARGEST_REGEX: usize = 32 << 10;
const SMALLEST_REGEX: usize = 256;

/// Compiles a regular expression so that it must match the whole of a text. Also returns its compiled size, rounded up to a power of two.
pub fn regular_expression(pattern: &str) -> Result<(Regex, usize), String> {
    if pattern.is_empty() || pattern.len() > LONGEST_REGEX {
        return Err(format!("a regular expression must be 1 to {LONGEST_REGEX} bytes"));
    }
    let build = |text: &str, size| RegexBuilder::new(text).size_limit(size).build();
    let wrong = |error| format!("`{pattern}` is not a regular expression that can be used: {error}");
    // The pattern is first compiled by itself, as `a)|(b` would be balanced by what is put around it.
    build(pattern, LARGEST_REGEX).map_err(wrong)?;
    let whole = format!("^(?:{pattern})$");
    // The library does not tell the size, but only whether it is above a limit.
    let mut size = SMALLEST_REGEX;
    loop {
        match build(&whole, size) {
            Ok(regex) => return Ok((regex, size)),
            Err(error) if size >= LARGEST_REGEX => return Err(wrong(error)),
            Err(_) => size *= 2,
        }
    }
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn is_dns_name(name: &str) -> bool {
    (1..=253).contains(&name.len()) && name.split('.').all(is_label)
}

/// Checks a host name without wildcard, and returns it in lower case (RFC 4343: names are case-insensitive).
pub fn precise_hostname(name: &str) -> Result<String, String> {
    let name = name.to_ascii_lowercase();
    if is_dns_name(&name) { Ok(name) } else { Err(format!("`{name}` must be a DNS name, such as api.example.com")) }
}

/// Checks a host name, or `*.name`, and returns it in lower case.
pub fn hostname(name: &str) -> Result<String, String> {
    let name = name.to_ascii_lowercase();
    if is_dns_name(name.strip_prefix("*.").unwrap_or(&name)) {
        Ok(name)
    } else {
        Err(format!("`{name}` must be a DNS name, such as api.example.com or *.example.com"))
    }
}

/// Checks the name of a Service or namespace (RFC 1123 label).
pub fn object_name(name: &str) -> Result<(), String> {
    if is_label(name) {
        Ok(())
    } else {
        Err(format!("`{name}` must be at most 63 lower-case letters, digits and `-`, and begin and end with a letter or digit"))
    }
}

/// Checks the name of a Backend (RFC 1123 subdomain).
pub fn backend_name(name: &str) -> Result<(), String> {
    if is_dns_name(name) { Ok(()) } else { Err(format!("`{name}` must be a DNS name in lower case, as names of objects are")) }
}

/// Checks the port of a Service.
pub fn port(port: u16) -> Result<u16, String> {
    if port == 0 { Err("must be between 1 and 65535, inclusive".to_owned()) } else { Ok(port) }
}

/// Whether a text is a token (RFC 9110 §5.6.2).
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Checks the name of a header field, and returns it in lower case (RFC 9110 §5.1: names are case-insensitive).
pub fn header_name(name: &str) -> Result<String, String> {
    if is_token(name) && name.len() <= 256 { Ok(name.to_ascii_lowercase()) } else { Err(format!("`{name}` is not a header name")) }
}

/// Checks the name of a header field that a filter changes. Fields that frame the message or belong to the connection must not be changed, as one side would
/// see other requests than the other (RFC 9112 §11.2, request smuggling).
pub fn changeable_header_name(name: &str) -> Result<String, String> {
    let name = header_name(name)?;
    match name.as_str() {
        "connection" | "content-length" | "transfer-encoding" | "upgrade" => {
            Err(format!("`{name}` belongs to the connection and cannot be changed"))
        }
        _ => Ok(name),
    }
}

/// Checks the name of a session's cookie (RFC 6265 §4.1.1) or header field. As in HTTPRoute, it has at most 128 characters.
pub fn session_name(name: &str) -> Result<(), String> {
    if is_token(name) && name.len() <= 128 { Ok(()) } else { Err(format!("`{name}` is not the name of a cookie or header")) }
}

/// Checks the value of a header field: visible ASCII, spaces and tabs, as RFC 9110 §5.5 demands of new field values.
pub fn header_value(value: &str) -> Result<String, String> {
    if value.len() > 4096 {
        return Err("must be at most 4096 bytes".to_owned());
    }
    if value.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b)) {
        Ok(value.to_owned())
    } else {
        Err("must be visible ASCII, spaces and tabs".to_owned())
    }
}

/// Checks a method. Methods are case-sensitive (RFC 9110 §9.1), and all registered ones are in upper case, so `get` can only be a mistake.
pub fn method(method: &str) -> Result<String, String> {
    if is_token(method) && !method.bytes().any(|b| b.is_ascii_lowercase()) {
        Ok(method.to_owned())
    } else {
        Err(format!("`{method}` must be a method in upper case, such as GET"))
    }
}

/// Whether a text is an identifier of Protocol Buffers, as GRPCRoute's CRD has it.
fn is_identifier(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && text.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

/// Checks the service of an Exact gRPC match.
pub fn grpc_service(name: &str) -> Result<(), String> {
    if name.len() <= 1024 && name.strip_prefix('.').unwrap_or(name).split('.').all(is_identifier) {
        Ok(())
    } else {
        Err(format!("`{name}` must be the name of a gRPC service, such as helloworld.Greeter"))
    }
}

/// Checks the method of an Exact gRPC match.
pub fn grpc_method(name: &str) -> Result<(), String> {
    if name.len() <= 1024 && is_identifier(name) {
        Ok(())
    } else {
        Err(format!("`{name}` must be the name of a gRPC method, such as SayHello"))
    }
}

/// Checks the value of an Exact or PathPrefix match.
pub fn match_path(path: &str) -> Result<(), String> {
    new_path(path)?;
    let lower = path.to_ascii_lowercase();
    for wrong in ["//", "/./", "/../", "%2f"] {
        if lower.contains(wrong) {
            return Err(format!("must not contain `{wrong}`"));
        }
    }
    for wrong in ["/.", "/.."] {
        if path.ends_with(wrong) {
            return Err(format!("must not end with `{wrong}`"));
        }
    }
    Ok(())
}

/// Writes a path in the form that requests' paths have when routers see them: of the characters that a path may have, only those are escaped that would
/// otherwise mean something else, and hexadecimal digits are in upper case.
pub fn spell(path: &str) -> String {
    let mut spelt = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        // Incomplete escapes are found by the checks of the characters.
        let Some(escape) = rest.get(at..at + 3) else { break };
        spelt.push_str(&rest[..at]);
        match u8::from_str_radix(&escape[1..], 16) {
            Ok(byte) if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte) => spelt.push(char::from(byte)),
            _ => spelt.push_str(&escape.to_ascii_uppercase()),
        }
        rest = &rest[at + 3..];
    }
    spelt.push_str(rest);
    spelt
}

/// Checks a path that replaces a request's, which a request line must be able to carry (RFC 3986 §3.3).
pub fn new_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err("must start with /".to_owned());
    }
    if path.len() > 1024 {
        return Err("must be at most 1024 bytes".to_owned());
    }
    let bytes = path.as_bytes();
    for (i, &b) in bytes.iter().enumerate() {
        let allowed = match b {
            b'%' => bytes.get(i + 1..i + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)),
            _ => b.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@".contains(&b),
        };
        if !allowed {
            let c = path[i..].chars().next().unwrap_or('\u{fffd}');
            return Err(format!("must not contain {c:?}; write it as %XX"));
        }
    }
    Ok(())
}

/// Reads a GEP-2257 duration, which has one to four parts of up to five digits and a unit. Returns its milliseconds.
pub fn duration_ms(text: &str) -> Result<u32, String> {
    let wrong = || format!("`{text}` must be a duration, such as 10s, 1h30m or 500ms");
    let mut rest = text;
    let mut total = 0u64;
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        parts += 1;
        if digits > 5 || parts > 4 {
            return Err(wrong());
        }
        let number: u64 = number.parse().map_err(|_| wrong())?;
        // `ms` comes before `m`, as 5ms are not five minutes.
        let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
        let (unit, ms) = units.into_iter().find(|(unit, _)| tail.starts_with(unit)).ok_or_else(wrong)?;
        total += number * ms;
        rest = &tail[unit.len()..];
    }
    if parts == 0 {
        return Err(wrong());
    }
    u32::try_from(total).map_err(|_| format!("`{text}` must be at most 49 days"))
}

/// Checks a `creationTimestamp`. The API server writes all of them in UTC and whole seconds, so their texts sort as their times do.
pub fn timestamp(text: &str) -> Result<(), String> {
    const FORM: &[u8] = b"0000-00-00T00:00:00Z";
    let fits =
        text.len() == FORM.len() && text.bytes().zip(FORM).all(|(b, &form)| if form == b'0' { b.is_ascii_digit() } else { b == form });
    if fits { Ok(()) } else { Err(format!("`{text}` must be a time in UTC, such as 2026-01-02T03:04:05Z")) }
}

/// Checks an origin that CORS allows: `*`, or a scheme, a host and perhaps a port, of which the last two may be `*` (Gateway API, `allowOrigins`).
pub fn origin(origin: &str) -> Result<(), String> {
    let wrong = || format!("`{origin}` must be `*` or an origin, such as https://example.com");
    if origin == "*" {
        return Ok(());
    }
    let (scheme, rest) = origin.split_once("://").ok_or_else(wrong)?;
    let mut scheme_bytes = scheme.bytes();
    let scheme_fits = scheme_bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && scheme_bytes.all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (rest, None),
    };
    let host_fits = host == "*" || hostname(host).is_ok();
    let port_fits = port.is_none_or(|port| port == "*" || port.parse::<u16>().is_ok_and(|port| port != 0));
    if scheme_fits && host_fits && port_fits && origin.len() <= 253 { Ok(()) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_gep_2257() {
        for (text, ms) in [("10s", 10_000), ("500ms", 500), ("1h30m", 5_400_000), ("0s", 0), ("1h1m1s1ms", 3_661_001)] {
            assert_eq!(duration_ms(text), Ok(ms), "{text}");
        }
        for text in ["", "10", "s", "1.5s", "-1s", "1d", "123456s", "1s1s1s1s1s", "10 s", "1é"] {
            assert!(duration_ms(text).is_err(), "{text}");
        }
        assert_eq!(duration_ms("99999h").unwrap_err(), "`99999h` must be at most 49 days");
    }

    #[test]
    fn hostnames_are_dns_names_and_lowered() {
        assert_eq!(hostname("Api.Example.COM").as_deref(), Ok("api.example.com"));
        assert_eq!(hostname("*.Example.com").as_deref(), Ok("*.example.com"));
        for name in ["", "*", "*.", "a.*.b", "a..b", "-a.b", "a_b", "a.b:80", &"a".repeat(64)] {
            assert!(hostname(name).is_err(), "{name}");
        }
        assert!(precise_hostname("*.example.com").is_err());
    }

    #[test]
    fn paths_are_what_a_request_line_can_carry() {
        for path in ["/", "/a/b.c", "/%41", "/a:b@c"] {
            assert_eq!(match_path(path), Ok(()), "{path}");
        }
        for (path, spelt) in
            [("/%61%2D%40b", "/a-@b"), ("/%c3%a4/%3b", "/%C3%A4/%3B"), ("/%2e%2e/x", "/../x"), ("/100%", "/100%"), ("/%é", "/%é")]
        {
            assert_eq!(spell(path), spelt);
        }
        for path in ["", "a", "/a//b", "/a/./b", "/a/../b", "/a/..", "/a/.", "/%2F", "/a b", "/a?b", "/a#b", "/%4", "/é", "/\r\n"] {
            assert!(match_path(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn origins() {
        for good in ["*", "https://example.com", "http://*.example.com:8080", "https://*", "app://x"] {
            assert_eq!(origin(good), Ok(()), "{good}");
        }
        for wrong in ["", "example.com", "https://", "https://a/b", "1x://a", "https://a:0", "null"] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bad_patterns_are_refused() {
        for pattern in ["", "(", "a)|(b", "a{1000}{1000}", "(?P<n", &"a".repeat(1025)] {
            assert!(regular_expression(pattern).is_err(), "{pattern}");
        }
        let (regex, _) = regular_expression("a|bc").expect("a regular expression");
        assert!(regex.is_match("bc") && !regex.is_match("abc"));
    }
}
