//! What names, labels and the like are made of, and what the API server says of those that are not (apimachinery's `validation` and `content`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::field::quoted;

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const KEY_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

fn small(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// Whether a text is not empty, begins and ends with a byte of one kind, and has between these also bytes of another.
fn is_made_of(text: &str, ends: fn(u8) -> bool, between: &[u8]) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    ends(*first) && ends(*last) && bytes.iter().all(|b| ends(*b) || between.contains(b))
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(|label| is_made_of(label, small, b"-"))
}

fn regex(rule: &str, pattern: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{rule} (e.g. {}regex used for validation is '{pattern}')", examples.join(" or "))
}

/// An RFC 1123 label.
pub(super) fn label(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > 63 {
        wrong.push("must be no more than 63 characters".to_owned());
    }
    if !is_made_of(text, small, b"-") {
        wrong.push(if is_subdomain(text) {
            "must not contain dots".to_owned()
        } else {
            let rule = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
            regex(rule, LABEL, &["my-name", "123-abc"])
        });
    }
    wrong
}

/// An RFC 1123 subdomain: labels joined by dots.
pub(super) fn subdomain(text: &str) -> Vec<String> {
    subdomain_of(text, "characters")
}

fn subdomain_of(text: &str, units: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > 253 {
        wrong.push(format!("must be no more than 253 {units}"));
    }
    if !is_subdomain(text) {
        let rule = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
        wrong.push(regex(rule, SUBDOMAIN, &["example.com"]));
    }
    wrong
}

/// A name, maybe with a subdomain and a slash before it: the key of a label.
pub(super) fn qualified_name(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let examples = ["MyName", "my.name", "123-abc"];
    let name = match text.split('/').collect::<Vec<_>>()[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                wrong.push("prefix part must be non-empty".to_owned());
            } else {
                wrong.extend(subdomain_of(prefix, "bytes").into_iter().map(|what| format!("prefix part {what}")));
            }
            name
        }
        _ => {
            let rule = regex(KEY_RULE, KEY, &examples);
            return vec![format!("a valid label key {rule} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')")];
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        wrong.push("name part must be no more than 63 bytes".to_owned());
    }
    if !is_made_of(name, |b| b.is_ascii_alphanumeric(), b"-_.") {
        wrong.push(format!("name part {}", regex(KEY_RULE, KEY, &examples)));
    }
    wrong
}

/// The value of a label.
pub(super) fn label_value(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > 63 {
        wrong.push("must be no more than 63 bytes".to_owned());
    }
    if !text.is_empty() && !is_made_of(text, |b| b.is_ascii_alphanumeric(), b"-_.") {
        let rule = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
        wrong.push(regex(rule, &format!("({KEY})?"), &["MyValue", "my_value", "12345"]));
    }
    wrong
}

/// A port's name as a target (RFC 6335).
pub(super) fn port_name(name: &str) -> Vec<&'static str> {
    let mut wrong = Vec::new();
    if name.len() > 15 {
        wrong.push("must be no more than 15 characters");
    }
    if name.is_empty() || !name.bytes().all(|b| small(b) || b == b'-') {
        wrong.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)");
    }
    if name.contains("--") {
        wrong.push("must not contain consecutive hyphens");
    }
    if name.starts_with('-') || name.ends_with('-') {
        wrong.push("must not begin or end with a hyphen");
    }
    wrong
}

/// A domain name of two labels or more, maybe with a last dot. What is wrong, and of which part of it.
pub(super) fn domain(text: &str) -> Option<(String, String)> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let wrong = subdomain(name);
    if !wrong.is_empty() {
        return Some((name.to_owned(), wrong.join(",")));
    }
    if !name.contains('.') {
        return Some((name.to_owned(), "should be a domain with at least two segments separated by dots".to_owned()));
    }
    name.split('.')
        .map(|part| (part, label(part)))
        .find(|(_, wrong)| !wrong.is_empty())
        .map(|(part, wrong)| (part.to_owned(), wrong.join(",")))
}

const NO_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NO_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// An address of a field that is older than strict rules (`IsValidIPForLegacyField`): any form of IPv6 passes, leading zeros and mapped addresses not.
pub(super) fn address(text: &str) -> Result<IpAddr, &'static str> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) if ip.to_ipv4_mapped().is_some() => Err("must not be an IPv4-mapped IPv6 address"),
        Ok(ip) => Ok(ip),
        Err(_) if sloppy(text).is_some() => Err("must not have leading 0s"),
        Err(_) => Err(NO_ADDRESS),
    }
}

/// An address with leading zeros taken off its numbers.
fn sloppy(text: &str) -> Option<IpAddr> {
    let (head, dotted) = match text.rfind(':') {
        Some(at) => text.split_at(at + 1),
        None => ("", text),
    };
    let numbers: Vec<&str> = dotted.split('.').collect();
    let whole = numbers.iter().all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    let without = |n: &&str| if n.trim_start_matches('0').is_empty() { "0".to_owned() } else { n.trim_start_matches('0').to_owned() };
    let joined = numbers.iter().map(without).collect::<Vec<_>>().join(".");
    if numbers.len() == 4 && whole { format!("{head}{joined}").parse().ok() } else { None }
}

/// A range of addresses in a field that is older than strict rules (`IsValidCIDRForLegacyField`).
pub(super) fn cidr(text: &str) -> Option<&'static str> {
    let Some((ip, length)) = text.split_once('/') else { return Some(NO_CIDR) };
    let Some(parsed) = ip.parse().ok().or_else(|| sloppy(ip)) else { return Some(NO_CIDR) };
    let most = if parsed.is_ipv4() { 32 } else { 128 };
    let digits = !length.is_empty() && length.len() < 6 && length.bytes().all(|b| b.is_ascii_digit());
    let Some(bits) = length.parse::<u8>().ok().filter(|bits| digits && *bits <= most) else { return Some(NO_CIDR) };
    if ip.parse::<IpAddr>().is_err() || (length.len() > 1 && length.starts_with('0')) {
        return Some("must not have leading 0s in IP or prefix length");
    }
    if matches!(parsed, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some()) {
        return Some("must not have an IPv4-mapped IPv6 address");
    }
    let net = ipnet::IpNet::new(parsed, bits).ok()?;
    (net.network() != parsed).then_some("must not have bits set beyond the prefix length")
}

/// Why an address cannot be reached from elsewhere (`ValidateNonSpecialIP`).
pub(super) fn special(ip: IpAddr, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if ip.is_unspecified() {
        wrong.push(format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        wrong.push("may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned());
    }
    wrong.extend(link_local(ip).map(str::to_owned));
    wrong
}

/// Why an address holds on one link only.
pub(super) fn link_local(ip: IpAddr) -> Option<&'static str> {
    let (unicast, multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == Ipv4Addr::new(224, 0, 0, 0).octets()[..3]),
        IpAddr::V6(ip) => (ip.segments()[0] & 0xffc0 == 0xfe80, ip.segments()[0] & 0xff0f == 0xff02),
    };
    if unicast {
        return Some("may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    multicast.then_some("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
}

/// What the API server warns of: an address that is not written as RFC 5952 has it.
pub(super) fn not_canonical(path: &str, text: &str) -> Option<String> {
    let ip = text.parse::<Ipv6Addr>().ok().filter(|ip| ip.to_string() != text)?;
    Some(format!("{path}: IPv6 address {} should be in RFC 5952 canonical format ({})", quoted(text), quoted(&ip.to_string())))
}
