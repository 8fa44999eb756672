//! Which hosts a discovery plugin may reach, as `capabilities.allowedHosts` names them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An entry: `host`, `host:port`, `*.example.com`, `*.example.com:8080`, `10.0.0.1`, `[::1]:9090`. An entry without a port allows any port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost {
    name: Name,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Exact(String),
    /// Names that end so. The suffix begins with a dot, and at least one label stands before it.
    Below(String),
    Address(IpAddr),
    Any,
}

impl AllowedHost {
    /// An entry for every host name. No text stands for it: the gateway makes it where the operator has given each name.
    pub fn any() -> Self {
        Self { name: Name::Any, port: None }
    }

    /// Whether a request may go to this host and port. Whether the address it resolves to may be reached is another question.
    pub fn allows(&self, host: &str, port: u16) -> bool {
        self.port.is_none_or(|allowed| allowed == port) && self.names(host)
    }

    /// Whether the entry names this host, whatever the port.
    pub fn names(&self, host: &str) -> bool {
        let host = bare(host);
        match &self.name {
            Name::Exact(name) => host == *name,
            Name::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
            Name::Any => host.parse::<IpAddr>().is_err(),
            Name::Address(ip) => host.parse::<IpAddr>().is_ok_and(|host| host.to_canonical() == *ip),
        }
    }

    /// Whether the entry names this very address, rather than a host that resolves to it; and if so the port, if the entry has one.
    pub fn literal(&self, ip: IpAddr) -> Option<Option<u16>> {
        (self.name == Name::Address(ip.to_canonical())).then_some(self.port)
    }
}

/// A host name in lower case, without the brackets of IPv6 and without the root's dot.
fn bare(host: &str) -> String {
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

impl FromStr for AllowedHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no host such as \"sd.example.com\", \"*.example.com\", \"10.0.0.1:8080\" or \"[::1]:8080\"");
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self { name: Name::Address(ip.to_canonical()), port: None });
        }
        // An IPv6 address with a port stands in brackets, so a colon behind them begins the port.
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, Some(port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong)?))
            }
            _ => (text, None),
        };
        let name = bare(host);
        if let Ok(ip) = name.parse::<IpAddr>() {
            // `::1:80` would be read as another address than the one that was meant.
            let ambiguous = ip.is_ipv6() && !host.starts_with('[');
            return if ambiguous { Err(wrong()) } else { Ok(Self { name: Name::Address(ip.to_canonical()), port }) };
        }
        let (below, labels) = match name.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, name.as_str()),
        };
        let label = |l: &str| !l.is_empty() && l.len() <= 63 && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if labels.len() > 253 || !labels.split('.').all(label) {
            return Err(wrong());
        }
        Ok(Self { name: if below { Name::Below(format!(".{labels}")) } else { Name::Exact(name) }, port })
    }
}

impl fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, self.port) {
            (Name::Any, _) => f.write_str("*")?,
            (Name::Exact(name), _) => f.write_str(name)?,
            (Name::Below(suffix), _) => write!(f, "*{suffix}")?,
            (Name::Address(IpAddr::V6(ip)), Some(_)) => write!(f, "[{ip}]")?,
            (Name::Address(ip), _) => write!(f, "{ip}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(entry: &str, host: &str, port: u16) -> bool {
        entry.parse::<AllowedHost>().expect(entry).allows(host, port)
    }

    #[test]
    fn exact_names_and_ports() {
        assert!(allows("sd.example.com", "sd.example.com", 443) && allows("sd.example.com", "SD.Example.com.", 80));
        assert!(!allows("sd.example.com", "x.sd.example.com", 443) && !allows("sd.example.com", "sd.example.com.evil", 443));
        assert!(allows("sd.example.com:8080", "sd.example.com", 8080) && !allows("sd.example.com:8080", "sd.example.com", 80));
        assert!(allows("localhost", "localhost", 1));
    }

    #[test]
    fn a_wildcard_stands_for_labels_below_and_not_for_the_name_itself() {
        assert!(allows("*.example.com", "a.example.com", 80) && allows("*.example.com", "a.b.example.com", 80));
        assert!(!allows("*.example.com", "example.com", 80) && !allows("*.example.com", "badexample.com", 80));
        assert!(!allows("*.example.com:81", "a.example.com", 80));
    }

    #[test]
    fn addresses_are_compared_as_such() {
        assert!(allows("127.0.0.1", "127.0.0.1", 80) && allows("127.0.0.1", "[::ffff:127.0.0.1]", 80));
        assert!(allows("[::1]:9", "[0:0:0:0:0:0:0:1]", 9) && allows("::1", "[::1]", 7));
        assert!(!allows("[::1]:9", "[::1]", 8));
        let literal = |entry: &str, ip: &str| entry.parse::<AllowedHost>().expect(entry).literal(ip.parse().expect(ip));
        assert_eq!(literal("169.254.169.254:80", "169.254.169.254"), Some(Some(80)));
        assert_eq!((literal("127.0.0.1", "127.0.0.1"), literal("localhost", "127.0.0.1")), (Some(None), None));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for wrong in ["", "*", "*.", "a..b", "http://a", "a/b", "a:0", "a:70000", "a:", "*.*.a", "a*.b", "::1:80:x", "[::1", "a b"] {
            assert!(wrong.parse::<AllowedHost>().is_err(), "{wrong:?}");
        }
        for right in ["a", "a:80", "*.a.b:80", "10.0.0.1:8080", "[::1]:8080", "::1"] {
            assert_eq!(right.parse::<AllowedHost>().expect(right).to_string(), right);
        }
    }
}
