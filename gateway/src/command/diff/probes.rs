//! Requests that a listener's routes are about: for each match of each rule one or two that it takes, and what a rule that changes and any other rule
//! would both take. For routers whose configuration has a list `rules` in HTTPRoute's words, as `rules` has.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use serde_json::Value;
use sluicegate_model::snapshot::{Front, Listener, Target, TlsMode};

use super::sample;

/// The largest number of requests that are tried at one listener.
pub(super) const MOST: usize = 50_000;

/// A request, or a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Probe {
    pub(super) host: String,
    /// The method; none: no rule asks for one, and it is GET.
    method: Option<String>,
    path: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
}

impl Probe {
    pub(super) fn method(&self) -> &str {
        self.method.as_deref().unwrap_or("GET")
    }

    /// The path and the query.
    pub(super) fn target(&self) -> String {
        let pairs: Vec<String> = self.query.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect();
        if pairs.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, pairs.join("&")) }
    }

    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// Percent-encodes a text (RFC 3986 §2.1).
fn escaped(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.method(), self.host, self.target())?;
        self.headers().try_for_each(|(name, value)| write!(f, " -H '{name}: {value}'"))
    }
}

/// What one match of a rule asks for.
#[derive(Clone)]
struct Wanted {
    hostname: String,
    probe: Probe,
    /// Whether more may follow behind the path.
    prefix: bool,
    /// The rule, by its number among all rules of both listeners.
    rule: usize,
}

/// The requests for a listener as it is and as it will be, and whether there would have been more.
pub(super) fn of(old: &Listener, new: &Listener) -> (Vec<Probe>, bool) {
    let (was, is) = (rules(old), rules(new));
    let texts = |rules: &[(String, Value)]| -> HashSet<String> { rules.iter().map(|(host, rule)| format!("{host} {rule}")).collect() };
    let (texts_of_old, texts_of_new) = (texts(&was), texts(&is));
    let both: BTreeMap<String, (String, Value)> =
        was.into_iter().chain(is).map(|(host, rule)| (format!("{host} {rule}"), (host, rule))).collect();
    let (mut wanted, mut changed) = (Vec::new(), HashSet::new());
    for (number, (text, (host, rule))) in both.into_iter().enumerate() {
        if !(texts_of_old.contains(&text) && texts_of_new.contains(&text)) {
            changed.insert(number);
        }
        wanted.extend(matches(&host, &rule, number));
    }
    let mut probes: BTreeSet<Probe> = hosts(old).into_iter().chain(hosts(new)).map(|host| plain(&example(&host))).collect();
    for one in &wanted {
        let deeper = one.prefix.then(|| Probe { path: format!("{}/x", one.probe.path.trim_end_matches('/')), ..one.probe.clone() });
        probes.extend(std::iter::once(one.probe.clone()).chain(deeper));
    }
    let mut cut = probes.len() > MOST;
    'all: for one in wanted.iter().filter(|one| changed.contains(&one.rule)) {
        for other in wanted.iter().filter(|other| other.rule != one.rule) {
            if probes.len() >= MOST {
                cut = true;
                break 'all;
            }
            probes.extend(join(one, other));
        }
    }
    (probes.into_iter().take(MOST).collect(), cut)
}

/// The host names of a listener; `*` stands for any.
fn hosts(listener: &Listener) -> Vec<String> {
    let name = |hostname: &Option<String>| hostname.clone().unwrap_or_else(|| "*".to_owned());
    match &listener.front {
        Front::Http(hosts) => hosts.iter().map(|host| name(&host.hostname)).collect(),
        Front::Tls(hosts) => hosts.iter().map(|host| name(&host.hostname)).collect(),
        Front::Tcp(_) | Front::Udp(_) => vec!["*".to_owned()],
    }
}

/// The rules that take requests, each with the host name of the listener behind which it stands.
fn rules(listener: &Listener) -> Vec<(String, Value)> {
    let mut targets: Vec<(Option<&str>, &Target)> = Vec::new();
    match &listener.front {
        Front::Http(hosts) => targets.extend(hosts.iter().map(|host| (host.hostname.as_deref(), &host.target))),
        Front::Tls(hosts) => {
            let requests = hosts.iter().filter(|host| matches!(host.mode, TlsMode::Http(_)));
            targets.extend(requests.map(|host| (host.hostname.as_deref(), &host.target)));
        }
        Front::Tcp(_) | Front::Udp(_) => {}
    }
    let mut rules = Vec::new();
    for (hostname, target) in targets {
        let Target::Router(binding) = target else { continue };
        let config: Option<Value> = binding.ladder.first().and_then(|rung| serde_json::from_str(&rung.table.config).ok());
        let list = config.as_ref().and_then(|config| config["rules"].as_array()).map(Vec::as_slice).unwrap_or_default();
        rules.extend(list.iter().map(|rule| (hostname.unwrap_or("*").to_owned(), rule.clone())));
    }
    rules
}

/// A host for which a name or a wildcard stands.
fn example(hostname: &str) -> String {
    match hostname.strip_prefix("*.") {
        Some(rest) => format!("any.{rest}"),
        None if hostname == "*" => "any.example".to_owned(),
        None => hostname.to_owned(),
    }
}

fn plain(host: &str) -> Probe {
    Probe { host: host.to_owned(), path: "/".to_owned(), ..Probe::default() }
}

/// Whether a name or a wildcard takes a host.
fn takes(hostname: &str, host: &str) -> bool {
    match hostname.strip_prefix('*') {
        Some("") => true,
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => hostname == host,
    }
}

fn matches(host: &str, rule: &Value, number: usize) -> Vec<Wanted> {
    let list = |field: &str| rule[field].as_array().cloned().filter(|list| !list.is_empty());
    let hostnames: Vec<String> = list("hostnames").map_or_else(
        || vec![host.to_owned()],
        |names| names.iter().filter_map(Value::as_str).map(|name| if name.is_empty() { "*".to_owned() } else { name.to_owned() }).collect(),
    );
    let matches = list("matches").unwrap_or_else(|| vec![Value::Null]);
    let mut all = Vec::new();
    for hostname in hostnames {
        for one in &matches {
            if let Some((probe, prefix)) = probe(&example(&hostname), one) {
                all.push(Wanted { hostname: hostname.clone(), probe, prefix, rule: number });
            }
        }
    }
    all
}

/// A request that a match takes, and whether its path is a prefix.
fn probe(host: &str, one: &Value) -> Option<(Probe, bool)> {
    let value = |of: &Value, field: &str, regular: bool| {
        let given = of[field].as_str()?;
        if regular { sample::of(given) } else { Some(given.to_owned()) }
    };
    let regular = |of: &Value| of["type"] == "RegularExpression";
    let pairs = |field: &str| -> Option<BTreeMap<String, String>> {
        let list = one[field].as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().map(|of| Some((of["name"].as_str()?.to_owned(), value(of, "value", regular(of))?))).collect()
    };
    let (query, mut headers) = (pairs("queryParams")?, pairs("headers")?);
    headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    let mut method = one["method"].as_str().map(str::to_owned);
    let (mut path, mut prefix) = ("/".to_owned(), true);
    if one["path"].is_object() {
        path = value(&one["path"], "value", regular(&one["path"])).unwrap_or_else(|| "/".to_owned());
        prefix = one["path"]["type"].as_str().is_none_or(|kind| kind == "PathPrefix");
    } else if one["grpc"].is_object() {
        let part = |field: &str, default: &str| value(&one["grpc"], field, regular(&one["grpc"])).unwrap_or_else(|| default.to_owned());
        path = format!("/{}/{}", part("service", "any.Service"), part("method", "Any"));
        prefix = false;
        method = Some("POST".to_owned());
        headers.insert("content-type".to_owned(), "application/grpc".to_owned());
    }
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
    Some((Probe { host: host.to_owned(), method, path, query, headers }, prefix))
}

/// A request that two matches both take, as far as can be told. None: there is none.
fn join(one: &Wanted, other: &Wanted) -> Option<Probe> {
    let host = [one, other].into_iter().map(|of| &of.probe.host).find(|host| takes(&one.hostname, host) && takes(&other.hostname, host))?;
    let method = match (&one.probe.method, &other.probe.method) {
        (Some(one), Some(other)) if one != other => return None,
        (one, other) => one.clone().or_else(|| other.clone()),
    };
    let below = |deep: &Wanted, prefix: &Wanted| {
        let prefix = prefix.prefix.then(|| prefix.probe.path.trim_end_matches('/'));
        prefix.is_some_and(|prefix| deep.probe.path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    };
    let path = if one.probe.path == other.probe.path || below(one, other) {
        &one.probe.path
    } else if below(other, one) {
        &other.probe.path
    } else {
        return None;
    };
    let union = |one: &BTreeMap<String, String>, other: &BTreeMap<String, String>| {
        let apart = one.iter().any(|(name, value)| other.get(name).is_some_and(|other| other != value));
        (!apart).then(|| one.iter().chain(other).map(|(name, value)| (name.clone(), value.clone())).collect())
    };
    let (query, headers) = (union(&one.probe.query, &other.probe.query)?, union(&one.probe.headers, &other.probe.headers)?);
    Some(Probe { host: host.clone(), method, path: path.clone(), query, headers })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wanted(hostname: &str, one: &Value, rule: usize) -> Wanted {
        let (probe, prefix) = probe(&example(hostname), one).expect("a request");
        Wanted { hostname: hostname.to_owned(), probe, prefix, rule }
    }

    #[test]
    fn a_match_makes_a_request_that_it_takes() {
        let told = |one: Value| probe("a.example", &one).expect("a request").0.to_string();
        assert_eq!(told(json!({})), "GET a.example/");
        assert_eq!(told(json!({"path": {"value": "/x"}, "method": "PUT"})), "PUT a.example/x");
        assert_eq!(told(json!({"path": {"type": "RegularExpression", "value": "/v[0-9]+/.*"}})), "GET a.example/v0/");
        let one = json!({"queryParams": [{"name": "q", "value": "a b"}], "headers": [{"name": "X-A", "value": "1"}]});
        assert_eq!(told(one), "GET a.example/?q=a%20b -H 'x-a: 1'");
        let call = json!({"grpc": {"service": "shop.Cart"}});
        assert_eq!(told(call), "POST a.example/shop.Cart/Any -H 'content-type: application/grpc'");
    }

    #[test]
    fn two_matches_meet_where_both_take_a_request() {
        let header = json!({"headers": [{"name": "x", "value": "1"}]});
        let path = json!({"path": {"type": "PathPrefix", "value": "/a"}, "method": "PUT"});
        let meet = |one: (&str, &Value), other: (&str, &Value)| {
            join(&wanted(one.0, one.1, 0), &wanted(other.0, other.1, 1)).map(|probe| probe.to_string())
        };
        assert_eq!(meet(("*", &header), ("a.example", &path)).as_deref(), Some("PUT a.example/a -H 'x: 1'"));
        assert_eq!(meet(("b.example", &header), ("a.example", &path)), None, "other hosts");
        assert_eq!(meet(("*.example", &header), ("*", &path)).as_deref(), Some("PUT any.example/a -H 'x: 1'"));
        let other = json!({"headers": [{"name": "X", "value": "2"}]});
        assert_eq!(meet(("*", &header), ("*", &other)), None, "one header cannot be both");
        let deep = json!({"path": {"type": "Exact", "value": "/a/b"}});
        assert_eq!(meet(("*", &deep), ("*", &path)).as_deref(), Some("PUT any.example/a/b"));
        assert_eq!(meet(("*", &json!({"path": {"type": "Exact", "value": "/ab"}})), ("*", &path)), None, "a prefix is of segments");
    }
}
