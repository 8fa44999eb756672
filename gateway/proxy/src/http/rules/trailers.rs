//! Which trailer fields of a message go on (RFC 9110 §6.5). A sender may generate them only for who wants them, and an intermediary may leave
//! them out; some HTTP/1.1 servers read what they do not expect behind the last chunk as the next request. So requests' trailers go to HTTP/2's
//! endpoints, whose frames tell them apart, and to others by name only; responses' go to HTTP/2's clients and to those that say `TE: trailers`.
//! What may not come as a client's field in the head, or is the gateway's to say, does not come behind the content either.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use sluicegate_model::fields;

/// Which trailer fields go on. By default none does.
#[derive(Debug, Default)]
pub(crate) struct Trailers {
    pass: Pass,
    /// Names that are not to come behind the content, as they had their place in the head.
    settled: Vec<HeaderName>,
}

/// Which trailer fields go on.
#[derive(Debug, Default)]
pub(in crate::http) enum Pass {
    #[default]
    None,
    /// Only these.
    Named(Arc<[HeaderName]>),
    /// All that may be trailers, but for names that CGI takes for others.
    Plain,
    /// All that may be trailers.
    All,
}

impl Trailers {
    /// `settled`: names that are not to come behind the content.
    pub(in crate::http) fn new(pass: Pass, settled: Vec<HeaderName>) -> Self {
        Self { pass, settled }
    }

    /// Whether any could go on.
    pub(in crate::http) fn any(&self) -> bool {
        !matches!(self.pass, Pass::None)
    }

    fn passes(&self, name: &str) -> bool {
        let passes = match &self.pass {
            Pass::None => false,
            Pass::Named(names) => names.iter().any(|named| named == name),
            Pass::Plain => name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'),
            Pass::All => true,
        };
        passes && fields::may_be_trailer(name) && !self.settled.iter().any(|settled| fields::is_same(name, settled.as_str()))
    }

    /// Removes the trailers that do not go on.
    pub(in crate::http) fn filter(&self, trailers: &mut HeaderMap) {
        if !self.any() {
            return trailers.clear();
        }
        if trailers.keys().all(|name| self.passes(name.as_str())) {
            return;
        }
        // `HeaderMap::remove` would change their order.
        let all = std::mem::take(trailers);
        for (name, value) in all.iter().filter(|(name, _)| self.passes(name.as_str())) {
            trailers.append(name, value.clone());
        }
    }

    /// Removes from a head's `Trailer` (§6.6.2) what will not come.
    pub(in crate::http) fn announce(&self, head: &mut HeaderMap) {
        let announced = head.get_all(header::TRAILER).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        let left: Vec<&str> = announced.map(str::trim).filter(|name| self.passes(&name.to_ascii_lowercase())).collect();
        match HeaderValue::try_from(left.join(", ")) {
            Ok(value) if !value.is_empty() => drop(head.insert(header::TRAILER, value)),
            _ => drop(head.remove(header::TRAILER)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_by_list_by_policy_and_by_what_the_head_said() {
        let passing = |pass, settled: &[&'static str]| {
            let trailers = Trailers { pass, settled: settled.iter().copied().map(HeaderName::from_static).collect() };
            let names = ["x-sum", "x_sum", "x-own", "my_own", "x-real-ip", "x_real_ip", "host"];
            let mut fields: HeaderMap = names.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1"))).collect();
            trailers.filter(&mut fields);
            fields.keys().map(HeaderName::as_str).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(passing(Pass::None, &[]), "");
        assert_eq!(passing(Pass::Plain, &[]), "x-sum x-own");
        assert_eq!(passing(Pass::All, &[]), "x-sum x_sum x-own my_own");
        assert_eq!(passing(Pass::All, &["x-sum"]), "x-own my_own");
        let named = || Pass::Named([HeaderName::from_static("x-sum"), HeaderName::from_static("host")].into());
        assert_eq!(passing(named(), &[]), "x-sum");
        assert_eq!(passing(named(), &["x-sum"]), "");
    }

    #[test]
    fn what_will_not_come_is_not_announced() {
        let announced = |pass, value: &'static str| {
            let mut head = HeaderMap::from_iter([(header::TRAILER, HeaderValue::from_static(value))]);
            Trailers { pass, settled: Vec::new() }.announce(&mut head);
            head.get(header::TRAILER).map(|value| value.to_str().unwrap_or_default().to_owned())
        };
        assert_eq!(announced(Pass::All, "X-Sum, x-real-ip,x-own").as_deref(), Some("X-Sum, x-own"));
        assert_eq!(announced(Pass::All, "x-real-ip"), None);
        assert_eq!(announced(Pass::None, "x-sum"), None);
    }
}
