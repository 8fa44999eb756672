//! The parts of a URL (RFC 3986) that a request needs.

use std::fmt;

use super::Error;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) tls: bool,
    pub(crate) authority: String,
    /// The path with the query. It begins with `/`.
    pub(crate) path: String,
}

impl Url {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let invalid = || Error::Invalid(format!("{text:?}"));
        let (scheme, rest) = text.split_once("://").ok_or_else(invalid)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(invalid()),
        };
        // A fragment is not sent (RFC 9110 §7.1).
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.is_empty() || authority.contains(['@', ' ']) {
            return Err(invalid());
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { tls, authority: authority.to_owned(), path })
    }

    pub(super) fn origin(&self) -> (bool, String) {
        (self.tls, self.authority.to_ascii_lowercase())
    }

    /// Resolves a reference by RFC 3986 §5.2, except for dot segments, which are left to the server.
    pub(super) fn join(&self, reference: &str) -> Result<Self, Error> {
        if reference.contains("://") && !reference.starts_with(['/', '?']) {
            return Self::parse(reference);
        }
        if let Some(rest) = reference.strip_prefix("//") {
            return Self::parse(&format!("{}://{rest}", if self.tls { "https" } else { "http" }));
        }
        let reference = reference.split('#').next().unwrap_or_default();
        let own = self.path.split('?').next().unwrap_or("/");
        let path = match reference.bytes().next() {
            None => self.path.clone(),
            Some(b'/') => reference.to_owned(),
            Some(b'?') => format!("{own}{reference}"),
            Some(_) => format!("{}/{reference}", own.rsplit_once('/').map_or("", |(folder, _)| folder)),
        };
        Ok(Self { path, ..self.clone() })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.tls { "https" } else { "http" }, self.authority, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_references_resolved() {
        let url = |text: &str| Url::parse(text).unwrap();
        assert_eq!(url("http://a"), Url { tls: false, authority: "a".into(), path: "/".into() });
        assert_eq!(url("HTTPS://[::1]:8?x=1#y"), Url { tls: true, authority: "[::1]:8".into(), path: "/?x=1".into() });
        for wrong in ["a", "ftp://a", "http://", "http:///x", "http://u:p@a/"] {
            assert!(Url::parse(wrong).is_err(), "{wrong}");
        }
        let base = url("http://a:1/b/c?d");
        for (reference, wanted) in [
            ("https://x/y", "https://x/y"),
            ("//x/y", "http://x/y"),
            ("/y?z#f", "http://a:1/y?z"),
            ("y", "http://a:1/b/y"),
            ("?z", "http://a:1/b/c?z"),
            ("", "http://a:1/b/c?d"),
            ("/y?u=http://z/", "http://a:1/y?u=http://z/"),
        ] {
            assert_eq!(base.join(reference).unwrap().to_string(), wanted, "{reference}");
        }
    }
}
