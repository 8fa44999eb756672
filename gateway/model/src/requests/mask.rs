//! What a recording does not show: values that are hashed, addresses that are hashed or cut short. The hash has a key, which is made for one recording and
//! forgotten with it: equal values are equal within a recording, and nobody can try which value it was.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use aws_lc_rs::hmac;
use http::HeaderName;

use super::line::RequestLine;

/// What stands for clients' addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientMask {
    /// The addresses.
    #[default]
    Full,
    /// Their networks: the first 24 bits of an IPv4 address, 48 of an IPv6 one.
    Truncated,
    /// An address in 100::/64, which is nobody's (RFC 6666), with a hash of the client's.
    Hashed,
    /// Nothing.
    None,
}

/// What stands for queries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueryMask {
    /// The queries.
    #[default]
    Full,
    /// Their parameters, with hashes of the values.
    Hashed,
    /// Nothing.
    None,
}

/// The names that both masks have for what they do.
const FULL: &str = "full";
const TRUNCATED: &str = "truncated";
const HASHED: &str = "hashed";
const NONE: &str = "none";

impl ClientMask {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => FULL,
            Self::Truncated => TRUNCATED,
            Self::Hashed => HASHED,
            Self::None => NONE,
        }
    }
}

impl FromStr for ClientMask {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Full, Self::Truncated, Self::Hashed, Self::None];
        all.into_iter().find(|mask| mask.name() == text).ok_or_else(|| format!("{text:?}: full, truncated, hashed or none is wanted"))
    }
}

impl QueryMask {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => FULL,
            Self::Hashed => HASHED,
            Self::None => NONE,
        }
    }
}

impl FromStr for QueryMask {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Full, Self::Hashed, Self::None];
        all.into_iter().find(|mask| mask.name() == text).ok_or_else(|| format!("{text:?}: full, hashed or none is wanted"))
    }
}

/// Hides what is not to be shown of the requests of one recording.
pub struct Mask {
    key: hmac::Key,
    hashed: Vec<HeaderName>,
    client: ClientMask,
    query: QueryMask,
}

impl Mask {
    /// A mask with a key of its own. `hashed`: the header fields whose values are hashed.
    pub fn new(hashed: Vec<HeaderName>, client: ClientMask, query: QueryMask) -> Self {
        let secret: [u8; 32] = rand::random();
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &secret), hashed, client, query }
    }

    /// Hides what is not to be shown of a request.
    pub fn hide(&self, line: &mut RequestLine) {
        if self.client != ClientMask::Full {
            line.client = self.address(&line.client);
            line.peer = line.peer.take().map(|peer| self.address(&peer)).filter(|peer| !peer.is_empty() && *peer != line.client);
        }
        if self.query != QueryMask::Full
            && let Some((path, query)) = line.target.split_once('?')
        {
            line.target = match self.query {
                QueryMask::Hashed => format!("{path}?{}", self.parameters(query)),
                QueryMask::None | QueryMask::Full => path.to_owned(),
            };
        }
        for (name, value) in &mut line.headers {
            if self.client != ClientMask::Full && is_address(name) {
                *value = self.addresses(value);
            }
            if self.hashed.iter().any(|hashed| hashed.as_str() == name) {
                *value = self.hash(value.as_bytes());
            }
        }
    }

    fn parameters(&self, query: &str) -> String {
        let hashed = query.split('&').map(|parameter| match parameter.split_once('=') {
            Some((name, value)) => format!("{name}={}", self.hash(value.as_bytes())),
            None => parameter.to_owned(),
        });
        hashed.collect::<Vec<_>>().join("&")
    }

    /// The first 128 bits of the hash, in hexadecimal digits.
    fn hash(&self, value: &[u8]) -> String {
        let tag = hmac::sign(&self.key, value);
        tag.as_ref().iter().take(16).fold(String::from("hashed-"), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// A list of addresses, of which what is no address is hashed.
    fn addresses(&self, list: &str) -> String {
        let hidden = list.split(',').map(str::trim).map(|one| match one.parse::<IpAddr>() {
            Ok(_) => self.address(one),
            Err(_) => self.hash(one.as_bytes()),
        });
        hidden.filter(|one| !one.is_empty()).collect::<Vec<_>>().join(", ")
    }

    fn address(&self, address: &str) -> String {
        match (self.client, address.parse::<IpAddr>()) {
            (ClientMask::Full, _) => address.to_owned(),
            (ClientMask::None, _) | (_, Err(_)) => String::new(),
            (ClientMask::Truncated, Ok(IpAddr::V4(address))) => {
                let [a, b, c, _] = address.octets();
                Ipv4Addr::new(a, b, c, 0).to_string()
            }
            (ClientMask::Truncated, Ok(IpAddr::V6(address))) => {
                let [a, b, c, ..] = address.segments();
                Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).to_string()
            }
            (ClientMask::Hashed, Ok(address)) => {
                let tag = hmac::sign(&self.key, address.to_string().as_bytes());
                let half = |at: usize| u16::from_be_bytes([0, 1].map(|i| tag.as_ref().get(at + i).copied().unwrap_or_default()));
                Ipv6Addr::new(0x100, 0, 0, 0, half(0), half(2), half(4), half(6)).to_string()
            }
        }
    }
}

/// Whether a header field names the client's address.
fn is_address(name: &str) -> bool {
    ["x-forwarded-for", "forwarded", "x-real-ip", "true-client-ip", "cf-connecting-ip", "x-client-ip"].contains(&name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn line(client: &str, secret: &str) -> RequestLine {
        RequestLine {
            client: client.to_owned(),
            peer: Some("192.0.2.200".to_owned()),
            target: format!("/a?key={secret}&flag"),
            headers: [("x-token", secret), ("accept", "*/*"), ("x-forwarded-for", "192.0.2.9, unknown")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..RequestLine::default()
        }
    }

    fn hidden(mask: &Mask, client: &str, secret: &str) -> RequestLine {
        let mut line = line(client, secret);
        mask.hide(&mut line);
        line
    }

    #[test]
    fn equal_values_stay_equal_in_one_recording_and_are_others_in_the_next() {
        let names = || vec![HeaderName::from_static("x-token")];
        let mask = Mask::new(names(), ClientMask::Hashed, QueryMask::Hashed);
        let (one, same, other) =
            (hidden(&mask, "192.0.2.1", "s3cret"), hidden(&mask, "192.0.2.1", "s3cret"), hidden(&mask, "192.0.2.2", "other"));
        assert_eq!(one, same);
        assert!(one.client != other.client && one.headers[0] != other.headers[0] && one.target != other.target);
        let text = serde_json::to_string(&one).unwrap();
        assert!(!text.contains("s3cret") && !text.contains("192.0.2") && text.contains("*/*"), "{text}");
        assert!(one.target.starts_with("/a?key=hashed-") && one.target.ends_with("&flag"), "{}", one.target);
        assert!(one.client.starts_with("100::"), "{}", one.client);
        let next = hidden(&Mask::new(names(), ClientMask::Hashed, QueryMask::Hashed), "192.0.2.1", "s3cret");
        assert!(next.client != one.client && next.headers[0] != one.headers[0] && next.target != one.target);
    }

    #[test]
    fn addresses_are_cut_short_or_left_out() {
        let cut = Mask::new(Vec::new(), ClientMask::Truncated, QueryMask::None);
        let four = hidden(&cut, "192.0.2.1", "s");
        assert_eq!((four.client.as_str(), four.peer), ("192.0.2.0", None));
        assert!(four.headers[2].1.starts_with("192.0.2.0, hashed-"), "{:?}", four.headers);
        let six = hidden(&cut, "2001:db8:1:2::3", "s");
        assert_eq!((six.client.as_str(), six.peer.as_deref(), six.target.as_str()), ("2001:db8:1::", Some("192.0.2.0"), "/a"));
        let none = hidden(&Mask::new(Vec::new(), ClientMask::None, QueryMask::Full), "192.0.2.1", "s");
        assert_eq!((none.client.as_str(), none.peer, none.target.as_str()), ("", None, "/a?key=s&flag"));
        assert!("half".parse::<ClientMask>().is_err() && "hashed".parse::<QueryMask>() == Ok(QueryMask::Hashed));
    }
}
