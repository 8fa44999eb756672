//! Certificates that an ACME CA issues (RFC 8555): what listeners ask for, what has come of it, and the answers to challenges of orders that run.
//!
//! The orders are made elsewhere, and their results written here; the data plane reads them. A renewed certificate is one swap, which is seen by the next
//! handshake: no snapshot is made for it. While no order runs, one relaxed load tells a request and a handshake that there is nothing for them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::ServerConfig;

use super::certificate::Certificate;
use crate::fault::Place;

/// The path below which challenges of the type HTTP-01 are answered (RFC 8555 §8.3).
pub const CHALLENGE_PATH: &str = "/.well-known/acme-challenge/";
/// The protocol by which a CA asks for a challenge of the type TLS-ALPN-01 (RFC 8737 §6.2).
pub const ALPN: &str = "acme-tls/1";

/// What a listener asks an issuer for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The issuer's name.
    pub issuer: Arc<str>,
    /// The host names, in lower case and sorted: each gets a certificate of its own.
    pub names: Arc<[String]>,
    /// The object that has the listener, such as `Gateway default/edge`.
    pub object: String,
    /// The listener's name in it.
    pub listener: String,
    /// Where in a file it asks.
    pub place: Option<Place>,
}

/// Two asks are equal if they are for the same names of the same issuer, wherever they stand.
impl PartialEq for Ask {
    fn eq(&self, other: &Self) -> bool {
        self.issuer == other.issuer && self.names == other.names
    }
}

/// What has come of asking an issuer for a name.
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// The certificate, which may have run out; none: there is none yet.
    pub certificate: Option<Arc<Certificate>>,
    /// When the certificate is to be renewed, in seconds since 1970; none: there is no certificate.
    pub renew_at: Option<i64>,
    /// Why the last order brought no certificate; none: it did, or there was none yet.
    pub problem: Option<Problem>,
}

/// Why an order brought no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The kind of problem: one of a few words.
    pub reason: &'static str,
    /// What happened, for people. It may have words of the CA.
    pub message: String,
    /// When the next order is made, in seconds since 1970; none: not before something is configured otherwise.
    pub again: Option<i64>,
}

/// By issuer and name.
type Names = BTreeMap<Arc<str>, BTreeMap<String, Arc<Named>>>;

/// What is answered to a CA that validates an order.
#[derive(Clone, Default)]
struct Challenges {
    /// By token: the name that is validated, and the key authorization.
    http: HashMap<String, (String, Arc<str>)>,
    /// By name.
    tls: HashMap<String, Arc<ServerConfig>>,
}

/// What ACME has brought to this process.
#[derive(Default)]
pub struct Acme {
    names: ArcSwap<Names>,
    challenges: ArcSwap<Challenges>,
    /// Is held while challenges change.
    changing: Mutex<()>,
    /// Whether there are challenges.
    open: AtomicBool,
    /// How many orders ended, by issuer and outcome. An outcome is `issued` or the reason of a [`Problem`].
    orders: Mutex<BTreeMap<(Arc<str>, &'static str), u64>>,
}

impl Acme {
    /// What has come of each name that is asked for, by issuer.
    pub fn names(&self) -> Arc<BTreeMap<Arc<str>, BTreeMap<String, Arc<Named>>>> {
        self.names.load_full()
    }

    /// What has come of one name.
    pub fn named(&self, issuer: &str, name: &str) -> Option<Arc<Named>> {
        self.names.load().get(issuer)?.get(name).cloned()
    }

    fn certificate(&self, issuer: &str, name: &str) -> Option<Arc<Certificate>> {
        self.names.load().get(issuer)?.get(name)?.certificate.clone()
    }

    /// Notes what has come of a name.
    pub fn note(&self, issuer: &Arc<str>, name: &str, named: Named) {
        let named = Arc::new(named);
        self.names.rcu(|names| {
            let mut names = Names::clone(names);
            names.entry(issuer.clone()).or_default().insert(name.to_owned(), named.clone());
            names
        });
    }

    /// Drops names that nobody asks for any more.
    pub fn retain(&self, asked: impl Fn(&str, &str) -> bool) {
        self.names.rcu(|names| {
            let mut names = Names::clone(names);
            names.iter_mut().for_each(|(issuer, names)| names.retain(|name, _| asked(issuer, name)));
            names.retain(|_, names| !names.is_empty());
            names
        });
    }

    /// Counts an order that ended: with `issued`, or the reason of a [`Problem`].
    pub fn count(&self, issuer: &Arc<str>, outcome: &'static str) {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        *orders.entry((issuer.clone(), outcome)).or_default() += 1;
    }

    /// How many orders ended, by issuer and outcome.
    pub fn orders(&self) -> BTreeMap<(Arc<str>, &'static str), u64> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether orders run whose challenges may be asked for.
    pub fn is_open(&self) -> bool {
        // Whoever is asked was told of the challenge by the CA, which was told after it was set.
        self.open.load(Ordering::Relaxed)
    }

    /// The key authorization that answers a request for a path of this host, if an order of that very name has this token.
    pub fn http(&self, host: &str, path: &str) -> Option<Arc<str>> {
        let token = path.strip_prefix(CHALLENGE_PATH)?;
        let challenges = self.challenges.load();
        let (name, answer) = challenges.http.get(token)?;
        (name == host).then(|| answer.clone())
    }

    /// What answers a handshake by [`ALPN`] for this server name, if an order of it runs.
    pub fn tls(&self, name: &str) -> Option<Arc<ServerConfig>> {
        self.challenges.load().tls.get(name).cloned()
    }

    /// Answers a challenge of the type HTTP-01 as long as what is returned lives.
    pub fn answer_http(self: &Arc<Self>, name: &str, token: &str, authorization: &str) -> Answered {
        self.change(|challenges| _ = challenges.http.insert(token.to_owned(), (name.to_owned(), authorization.into())));
        Answered { acme: self.clone(), token: Some(token.to_owned()), name: name.to_owned() }
    }

    /// Answers a challenge of the type TLS-ALPN-01 as long as what is returned lives.
    pub fn answer_tls(self: &Arc<Self>, name: &str, config: &Arc<ServerConfig>) -> Answered {
        self.change(|challenges| _ = challenges.tls.insert(name.to_owned(), config.clone()));
        Answered { acme: self.clone(), token: None, name: name.to_owned() }
    }

    fn change(&self, change: impl FnOnce(&mut Challenges)) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut challenges = Challenges::clone(&self.challenges.load());
        change(&mut challenges);
        self.open.store(!(challenges.http.is_empty() && challenges.tls.is_empty()), Ordering::Relaxed);
        self.challenges.store(Arc::new(challenges));
    }
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acme").field("names", &self.names.load()).field("open", &self.is_open()).finish_non_exhaustive()
    }
}

/// A challenge is answered as long as this lives.
#[must_use]
pub struct Answered {
    acme: Arc<Acme>,
    token: Option<String>,
    name: String,
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.acme.change(|challenges| match &self.token {
            Some(token) => _ = challenges.http.remove(token),
            None => _ = challenges.tls.remove(&self.name),
        });
    }
}

/// What a listener shows of what it asks for.
#[derive(Clone, Debug)]
pub struct Shown {
    /// What the listener asks for.
    pub ask: Arc<Ask>,
    acme: Arc<Acme>,
}

impl Shown {
    /// What `ask` is answered by.
    pub fn new(ask: Arc<Ask>, acme: Arc<Acme>) -> Self {
        Self { ask, acme }
    }

    /// Whether the listener asks for this name.
    pub fn asks_for(&self, name: &str) -> bool {
        self.ask.names.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
    }

    /// The certificate for a name that the listener asks for. A client that sends no name gets the first that there is.
    pub fn certificate(&self, name: &str) -> Option<Arc<Certificate>> {
        if name.is_empty() {
            return self.ask.names.iter().find_map(|name| self.acme.certificate(&self.ask.issuer, name));
        }
        if self.asks_for(name) { self.acme.certificate(&self.ask.issuer, name) } else { None }
    }

    /// Each name that the listener asks for, with what has come of it.
    pub fn names(&self) -> impl Iterator<Item = (&str, Option<Arc<Named>>)> {
        self.ask.names.iter().map(|name| (name.as_str(), self.acme.named(&self.ask.issuer, name)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::certificate;
    use super::*;

    fn ask(names: &[&str]) -> Arc<Ask> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Arc::new(Ask { issuer: "ca".into(), names, object: String::new(), listener: String::new(), place: None })
    }

    #[test]
    fn a_token_is_answered_for_its_own_name_while_its_order_runs() {
        let acme = Arc::new(Acme::default());
        assert!(!acme.is_open());
        let answered = acme.answer_http("a.example", "token", "token.thumb");
        assert!(acme.is_open());
        assert_eq!(acme.http("a.example", "/.well-known/acme-challenge/token").as_deref(), Some("token.thumb"));
        for (host, path) in [
            ("b.example", "/.well-known/acme-challenge/token"),
            ("", "/.well-known/acme-challenge/token"),
            ("a.example", "/.well-known/acme-challenge/"),
            ("a.example", "/.well-known/acme-challenge/token/"),
            ("a.example", "/.well-known/acme-challenge/toke"),
            ("a.example", "/.well-known/acme-challenge/../acme-challenge/token"),
            ("a.example", "/token"),
        ] {
            assert_eq!(acme.http(host, path), None, "{host}{path}");
        }
        let other = acme.answer_http("a.example", "other", "other.thumb");
        drop(answered);
        assert!(acme.is_open() && acme.http("a.example", "/.well-known/acme-challenge/token").is_none());
        drop(other);
        assert!(!acme.is_open());
    }

    #[test]
    fn a_listener_shows_only_what_it_asks_for() {
        let acme = Arc::new(Acme::default());
        let shown = Shown::new(ask(&["a.example", "b.example"]), acme.clone());
        assert!(shown.certificate("a.example").is_none() && shown.certificate("").is_none());
        let issuer: Arc<str> = "ca".into();
        for name in ["b.example", "c.example"] {
            acme.note(&issuer, name, Named { certificate: Some(certificate(&[name])), ..Named::default() });
        }
        assert!(shown.certificate("a.example").is_none() && shown.certificate("c.example").is_none());
        assert_eq!(shown.certificate("b.example").map(|c| c.names().to_vec()), Some(vec!["b.example".to_owned()]));
        assert_eq!(shown.certificate(""), shown.certificate("b.example"));
        acme.retain(|_, name| name != "b.example");
        assert!(shown.certificate("b.example").is_none() && acme.named("ca", "c.example").is_some());
    }
}
