//! Session persistence of a rule (GEP-1619): a client that comes back stays with its endpoint, and so with the rule's backend that has it, whatever the
//! weights. What a client brings, a cookie or a header, names the endpoint. Nothing is kept here, so all gateways and all workers agree.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::cookie::cookie;
use crate::hash::hash_bytes;
use crate::service::ServiceRef;

/// The session persistence of a rule or a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// What brings the token.
    pub carrier: Carrier,
    /// How long after its beginning a session ends.
    pub absolute: Option<Duration>,
    /// How long after its last response a session ends.
    pub idle: Option<Duration>,
}

/// What brings a session's token, both ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// A cookie.
    Cookie {
        /// The cookie's name.
        name: String,
        /// Whether the cookie outlives the browser's own session, until the session's absolute end.
        permanent: bool,
    },
    /// A header field of responses, which the client sends with later requests.
    Header(HeaderName),
}

impl Carrier {
    /// A cookie of this name.
    ///
    /// # Errors
    /// A cookie cannot have this name.
    pub fn cookie(name: String, permanent: bool) -> Result<Self, String> {
        token(&name).map(|_| Self::Cookie { name, permanent })
    }

    /// A header field of this name.
    ///
    /// # Errors
    /// A field cannot have this name.
    pub fn header(name: &str) -> Result<Self, String> {
        token(name).map(Self::Header)
    }
}

/// The name of a field is a token (RFC 9110 §5.6.2), and so is that of a cookie (RFC 6265 §4.1.1).
fn token(name: &str) -> Result<HeaderName, String> {
    HeaderName::try_from(name).map_err(|_| format!("{name:?} is neither a cookie's nor a header field's name"))
}

/// The name of a cookie or field for which none is given. `of`: what the session is of, so that two sessions at one host do not overwrite each other's.
pub fn default_name(of: &str) -> String {
    format!("sluicegate-session-{:08x}", hash_bytes(of.as_bytes()) as u32)
}

/// What a client brings: whom its session leads to, and since when. It names the endpoint's address, as Envoy's does. It is not secret, and a client that
/// makes one up gets no further than to an endpoint of the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The hash of the backend's service port.
    service: u32,
    /// The endpoint that the session leads to.
    pub endpoint: SocketAddr,
    /// When the session began, in seconds since 1970.
    begun: u64,
    /// When the token was written, in seconds since 1970.
    written: u64,
}

impl Token {
    /// The token of a session that begins now.
    pub fn new(service: &ServiceRef, endpoint: SocketAddr, now: u64) -> Self {
        Self { service: Self::mark(service), endpoint, begun: now, written: now }
    }

    fn mark(service: &ServiceRef) -> u32 {
        hash_bytes(service.to_string().as_bytes()) as u32
    }

    /// Whether the session leads to an endpoint of this service port.
    pub fn is_of(&self, service: &ServiceRef) -> bool {
        self.service == Self::mark(service)
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
        let (service, begun, written, port) = (number()?, number()?, number()?, number()?);
        let ip = parts.next()?;
        let bits = u128::from_str_radix(ip, 16).ok().filter(|_| parts.next().is_none())?;
        let ip: IpAddr = match ip.len() {
            8 => u32::try_from(bits).ok()?.to_be_bytes().into(),
            32 => bits.to_be_bytes().into(),
            _ => return None,
        };
        let endpoint = SocketAddr::new(ip, port.try_into().ok()?);
        Some(Self { service: service.try_into().ok()?, endpoint, begun, written })
    }
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}-{:x}-{:x}-{:x}-", self.service, self.begun, self.written, self.endpoint.port())?;
        match self.endpoint.ip() {
            IpAddr::V4(ip) => write!(f, "{:08x}", u32::from_be_bytes(ip.octets())),
            IpAddr::V6(ip) => write!(f, "{:032x}", u128::from_be_bytes(ip.octets())),
        }
    }
}

impl Session {
    /// The token that a request brings, if its session has not ended. A cookie or field that cannot be read counts as none.
    pub fn of(&self, headers: &HeaderMap, now: u64) -> Option<Token> {
        let text = match &self.carrier {
            Carrier::Cookie { name, .. } => cookie(headers, name)?,
            Carrier::Header(name) => headers.get(name)?.to_str().ok()?,
        };
        let over = |since: u64, limit: Option<Duration>| limit.is_some_and(|limit| now.saturating_sub(since) >= limit.as_secs().max(1));
        // A token from the future was not written here, or the clock was wrong. It could stay young for ever.
        let is_sound = |token: &Token| token.begun <= token.written && token.written <= now.saturating_add(60);
        Token::read(text).filter(|token| is_sound(token) && !over(token.begun, self.absolute) && !over(token.written, self.idle))
    }

    /// The header field by which a response tells the client of its session: that it has begun, leads elsewhere, or may be idle anew. None: nothing has changed.
    pub fn told(&self, known: Option<Token>, used: Token, over_tls: bool) -> Option<(HeaderName, HeaderValue)> {
        let goes_on = known.filter(|known| known.endpoint == used.endpoint && known.service == used.service);
        let token = match goes_on {
            Some(_) if self.idle.is_none() => return None,
            Some(known) => Token { begun: known.begun, ..used },
            None => used,
        };
        match &self.carrier {
            Carrier::Header(name) => Some((name.clone(), HeaderValue::try_from(token.to_string()).ok()?)),
            Carrier::Cookie { name, permanent } => {
                let left =
                    self.absolute.filter(|_| *permanent).map(|limit| limit.as_secs().max(1).saturating_sub(token.written - token.begun));
                let age = left.map_or_else(String::new, |left| format!("; Max-Age={left}"));
                let secure = if over_tls { "; Secure" } else { "" };
                let value = HeaderValue::try_from(format!("{name}={token}; Path=/; HttpOnly{age}{secure}")).ok()?;
                Some((header::SET_COOKIE, value))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn service(name: &str) -> ServiceRef {
        ServiceRef { namespace: "a".to_owned(), name: name.to_owned(), port: 80 }
    }

    fn cookie_of(absolute: Option<u64>, idle: Option<u64>, permanent: bool) -> Session {
        let carrier = Carrier::Cookie { name: "s".to_owned(), permanent };
        Session { carrier, absolute: absolute.map(Duration::from_secs), idle: idle.map(Duration::from_secs) }
    }

    fn request(token: impl std::fmt::Display) -> HeaderMap {
        HeaderMap::from_iter([(header::COOKIE, HeaderValue::try_from(format!("x=y; s={token}")).unwrap())])
    }

    #[test]
    fn a_token_says_what_it_was_made_of() {
        let session = cookie_of(None, None, false);
        for endpoint in ["10.0.0.1:80", "[fd00::1]:8080"] {
            let token = Token::new(&service("b"), endpoint.parse().unwrap(), 1_000);
            assert_eq!(session.of(&request(token), 1_000), Some(token));
            assert!(token.is_of(&service("b")) && !token.is_of(&service("c")));
        }
        for wrong in ["", "-", "1-2-3-4", "1-2-3-50-7f000001-", "1-2-3-50-7f0001", "1-3e8-3e8-10000-7f000001", "x-3e8-3e8-50-7f000001", "é"]
        {
            assert_eq!(session.of(&request(wrong), 1_000), None, "{wrong}");
        }
        // The token is from the future, or was written before it began.
        assert_eq!(session.of(&request("1-ffffffff-ffffffff-50-7f000001"), 1_000), None);
        assert_eq!(session.of(&request("1-3e8-3e7-50-7f000001"), 1_000), None);
    }

    #[test]
    fn sessions_end() {
        let token = Token { written: 1_050, ..Token::new(&service("b"), "10.0.0.1:80".parse().unwrap(), 1_000) };
        for (absolute, idle, now, live) in [
            (None, None, 9_999, true),
            (Some(100), None, 1_099, true),
            (Some(100), None, 1_100, false),
            (None, Some(30), 1_079, true),
            (None, Some(30), 1_080, false),
        ] {
            assert_eq!(cookie_of(absolute, idle, false).of(&request(token), now).is_some(), live, "{absolute:?} {idle:?} {now}");
        }
    }

    #[test]
    fn a_client_is_told_what_has_changed() {
        let at = |endpoint: &str, now| Token::new(&service("b"), endpoint.parse().unwrap(), now);
        let (one, other) = ("10.0.0.1:80", "10.0.0.2:80");
        let told =
            |session: &Session, known, used, tls| session.told(known, used, tls).map(|(_, value)| value.to_str().unwrap().to_owned());
        let forever = cookie_of(None, None, false);
        assert_eq!(told(&forever, Some(at(one, 1)), at(one, 9), false), None, "it goes on");
        assert_eq!(told(&forever, None, at(one, 9), false), Some(format!("s={}; Path=/; HttpOnly", at(one, 9))));
        assert_eq!(told(&forever, Some(at(other, 1)), at(one, 9), true), Some(format!("s={}; Path=/; HttpOnly; Secure", at(one, 9))));
        let idle = cookie_of(Some(100), Some(10), true);
        let went_on = Token { written: 9, ..at(one, 1) };
        assert_eq!(told(&idle, Some(at(one, 1)), at(one, 9), false), Some(format!("s={went_on}; Path=/; HttpOnly; Max-Age=92")));
        let header = Session { carrier: Carrier::Header(HeaderName::from_static("x-session")), ..forever };
        assert_eq!(header.told(None, at(one, 9), true), Some(("x-session".parse().unwrap(), at(one, 9).to_string().parse().unwrap())));
    }
}
