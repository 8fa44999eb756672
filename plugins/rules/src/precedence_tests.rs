//! Random tables of rules against a slow, obvious model of Gateway API's precedence: all matches of all rules are looked at, one by one, and of
//! those that hold the one counts that is greatest by the list in HTTPRoute's and GRPCRoute's documentation.

use std::cmp::Reverse;

use serde_json::{Value, json};
use sluicegate_sdk::{Configured, Decision, Listener, Request, Router, Splice};

use crate::Rules;

/// xorshift64*: the same tables in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

const HOSTNAMES: &[&str] = &["a.example.com", "b.a.example.com", "*.example.com", "*.a.example.com", "*.com", "example.com", "z.org"];
const HOSTS: &[&str] = &["a.example.com", "b.a.example.com", "c.b.a.example.com", "x.example.com", "example.com", "z.org", "org", ""];
const PATHS: &[&str] = &["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/p.S/M", "/p.S", "/p.S/M/x", "/q.T/M", "/q.T/N", "/a/M", "*"];
const PREFIXES: &[&str] = &["/", "/a", "/a/", "/a/b", "/a/b/", "/p.S", "/ab/c"];
const SERVICES: &[&str] = &["p.S", "q.T", "a"];
const METHODS: &[&str] = &["M", "N"];
const PATTERNS: &[(&str, fn(&str) -> bool)] = &[
    ("/a.*", |path| path.starts_with("/a")),
    ("/[ab]", |path| matches!(path, "/a" | "/b")),
    (".*/M", |path| path.ends_with("/M")),
    ("/a/?", |path| matches!(path, "/a" | "/a/")),
    ("/a|/p[.]S/M", |path| matches!(path, "/a" | "/p.S/M")),
];
const PARTS: &[(&str, fn(&str) -> bool)] =
    &[(".*", |_| true), ("p.*", |text| text.starts_with('p')), ("[MN]", |text| matches!(text, "M" | "N"))];
const TIMES: &[Option<&str>] = &[None, Some("2026-01-01T00:00:00Z"), Some("2026-01-02T00:00:00Z")];

/// A condition of the model: how specific it is, and whether it holds.
type Test<'a> = (usize, usize, Box<dyn Fn(&str) -> bool + 'a>);

fn text_test(random: &mut Random, exact: &'static [&'static str], pattern: bool) -> (Value, Test<'static>) {
    match random.below(4) {
        0 => (Value::Null, (0, 0, Box::new(|_| true))),
        _ if pattern => {
            let (text, holds) = random.one_of(PARTS);
            (json!(text), (1, text.len(), Box::new(holds)))
        }
        _ => {
            let text = random.one_of(exact);
            (json!(text), (2, text.len(), Box::new(move |other| other == text)))
        }
    }
}

/// What a path must be: as configuration, how specific it is, and whether it holds.
struct Path {
    field: &'static str,
    value: Value,
    rank: [usize; 6],
    holds: Box<dyn Fn(&str) -> bool>,
}

fn path(random: &mut Random) -> Path {
    let typed = |kind: &str, value: &str| json!({"type": kind, "value": value});
    match random.below(8) {
        0 | 1 => {
            let value = random.one_of(&PATHS[..PATHS.len() - 1]);
            let holds = Box::new(move |path: &str| path == value);
            Path { field: "path", value: typed("Exact", value), rank: [4, 0, 0, 0, 0, 0], holds }
        }
        2 => {
            let (value, holds) = random.one_of(PATTERNS);
            Path { field: "path", value: typed("RegularExpression", value), rank: [2, value.len(), 0, 0, 0, 0], holds: Box::new(holds) }
        }
        3 | 4 => call(random),
        _ => {
            let value = random.one_of(PREFIXES);
            let stem = value.trim_end_matches('/');
            let holds = move |path: &str| stem.is_empty() || path == stem || path.starts_with(&format!("{stem}/"));
            Path { field: "path", value: typed("PathPrefix", value), rank: [1, stem.len(), 0, 0, 0, 0], holds: Box::new(holds) }
        }
    }
}

fn call(random: &mut Random) -> Path {
    let pattern = random.below(3) == 0;
    let (service, on_service) = text_test(random, SERVICES, pattern);
    let (method, on_method) = text_test(random, METHODS, pattern);
    if service.is_null() && method.is_null() {
        return path(random);
    }
    let kind = if pattern { "RegularExpression" } else { "Exact" };
    // An exact service and method are as specific as an exact path, and no two of them match one request.
    let exact = on_service.0 == 2 && on_method.0 == 2;
    let rank = if exact { [4, 0, 0, 0, 0, 0] } else { [3, on_service.0, on_service.1, on_method.0, on_method.1, 0] };
    let holds = move |path: &str| match path.split('/').collect::<Vec<_>>()[..] {
        ["", service, method] => !service.is_empty() && !method.is_empty() && on_service.2(service) && on_method.2(method),
        _ => false,
    };
    Path { field: "grpc", value: json!({"type": kind, "service": service, "method": method}), rank, holds: Box::new(holds) }
}

/// One match of one rule, as the model has it.
struct Candidate {
    rule: u32,
    hostnames: Vec<&'static str>,
    path: Path,
    method: Option<&'static str>,
    headers: Vec<usize>,
    params: Vec<usize>,
    made: Option<&'static str>,
    source: &'static str,
}

/// Characters of a non-wildcard hostname, characters of a hostname; none: it does not match.
fn host_rank(hostname: &str, host: &str) -> Option<(usize, usize)> {
    match hostname.strip_prefix('*') {
        None => (hostname == host).then_some((hostname.len(), hostname.len())),
        Some(suffix) => (host.ends_with(suffix) && host.len() > suffix.len()).then_some((0, hostname.len())),
    }
}

impl Candidate {
    /// Its rank if it holds; the greatest wins.
    fn rank(&self, host: &str, asked: &Asked) -> Option<impl Ord + use<>> {
        let of_host = if self.hostnames.is_empty() {
            Some((0, 0))
        } else {
            self.hostnames.iter().filter_map(|hostname| host_rank(hostname, host)).max()
        }?;
        let has = |wanted: &[usize], there: &[bool]| wanted.iter().all(|&i| there[i]);
        let holds = (self.path.holds)(asked.path)
            && self.method.is_none_or(|method| method == asked.method)
            && has(&self.headers, &asked.headers)
            && has(&self.params, &asked.params);
        let conditions = (self.method.is_some(), self.headers.len(), self.params.len());
        let age = Reverse((self.made.is_none(), self.made));
        holds.then_some((of_host, self.path.rank, conditions, age, Reverse(self.source), Reverse(self.rule)))
    }
}

struct Asked {
    path: &'static str,
    method: &'static str,
    headers: Vec<bool>,
    params: Vec<bool>,
}

fn some_of(random: &mut Random) -> Vec<usize> {
    (0..3).filter(|_| random.below(4) == 0).collect()
}

fn table(random: &mut Random) -> (Value, Vec<Candidate>) {
    let mut rules = Vec::new();
    let mut candidates = Vec::new();
    for rule in 0..1 + random.below(12) as u32 {
        let hostnames: Vec<&str> = (0..random.below(3)).map(|_| random.one_of(HOSTNAMES)).collect();
        let (made, source) = (random.one_of(TIMES), random.one_of(&["a/a", "a/b", "b/a"]));
        let mut matches = Vec::new();
        for _ in 0..1 + random.below(3) {
            let path = path(random);
            let (headers, params) = (some_of(random), some_of(random));
            let method = [None, None, Some("GET"), Some("POST")][random.below(4)];
            let conditions = |of: &[usize]| of.iter().map(|i| json!({"name": format!("x{i}"), "value": "1"})).collect::<Vec<_>>();
            let mut one = json!({"method": method, "headers": conditions(&headers), "queryParams": conditions(&params)});
            one[path.field] = path.value.clone();
            matches.push(one);
            candidates.push(Candidate { rule, hostnames: hostnames.clone(), path, method, headers, params, made, source });
        }
        rules.push(json!({"hostnames": hostnames, "matches": matches, "createdAt": made, "source": source}));
    }
    (json!({"rules": rules}), candidates)
}

/// A router of the same rules that had others before, some of which are still among them. None: it would have to be configured anew.
fn changed(random: &mut Random, config: &Value) -> Option<(Rules, Configured)> {
    let others = table(random).0;
    let mut others = others["rules"].as_array().unwrap().iter().cloned();
    let (mut before, mut splices) = (Vec::new(), Vec::<Splice>::new());
    // What is inserted and what of it is to be returned.
    let mut inserted = Vec::new();
    for rule in config["rules"].as_array().unwrap() {
        let mut splice = Splice { at: before.len(), removed: 0, inserted: Vec::new() };
        while let (0, Some(other)) = (random.below(3), others.next()) {
            before.push(other);
            splice.removed += 1;
        }
        match random.below(3) {
            0 => {
                splice.inserted.push(rule.to_string());
                inserted.push(rule["source"].as_str().map(str::to_owned));
            }
            _ => before.push(rule.clone()),
        }
        if splice.removed > 0 || !splice.inserted.is_empty() {
            splices.push(splice);
        }
    }
    let parsed = serde_json::from_value(json!({"rules": before})).unwrap();
    let (mut router, configured) = Rules::configure(parsed, &Listener::default()).unwrap();
    if splices.is_empty() {
        return Some((router, configured));
    }
    let configured = router.change(splices)?.unwrap();
    assert_eq!(configured.rules.iter().map(|rule| rule.name.clone()).collect::<Vec<_>>(), inserted);
    Some((router, configured))
}

#[test]
fn random_tables_are_decided_as_the_list_of_precedence_says() {
    let random = &mut Random(0x5eed_0001);
    let (mut matched, mut unmatched, mut changes) = (0, 0, 0);
    for _ in 0..1_500 {
        let (config, candidates) = table(random);
        let parsed = serde_json::from_value(config.clone()).unwrap();
        let (mut router, configured) = Rules::configure(parsed, &Listener::default()).unwrap_or_else(|e| panic!("{e}\n{config:#}"));
        let mut changed = changed(random, &config);
        changes += usize::from(changed.is_some());
        for _ in 0..20 {
            let host = random.one_of(HOSTS);
            let asked = Asked {
                path: random.one_of(PATHS),
                method: random.one_of(&["GET", "POST", "HEAD"]),
                headers: (0..3).map(|_| random.below(2) == 0).collect(),
                params: (0..3).map(|_| random.below(2) == 0).collect(),
            };
            let value = |name: &String| (0..3).any(|i| asked.headers[i] && *name == format!("x{i}")).then(|| "1".to_owned());
            let query: Vec<String> = (0..3).filter(|&i| asked.params[i]).map(|i| format!("x{i}=1")).collect();
            let request = |configured: &Configured| Request {
                method: asked.method.into(),
                host: host.into(),
                path: asked.path.into(),
                query: query.join("&"),
                headers: configured.interests.headers.iter().map(value).collect(),
                ..Request::default()
            };
            let found = |router: &mut Rules, configured: &Configured| match router.route(&request(configured)) {
                Decision::Matched(choice) => Some(choice.rule),
                Decision::NoMatch => None,
                Decision::Answer(answer) => panic!("{answer:?}"),
            };
            let best = candidates.iter().filter_map(|one| Some((one.rank(host, &asked)?, one.rule))).max_by(|a, b| a.0.cmp(&b.0));
            let wanted = best.map(|(_, rule)| rule);
            assert_eq!(found(&mut router, &configured), wanted, "{:?}\n{config:#}", request(&configured));
            if let Some((router, configured)) = &mut changed {
                assert_eq!(found(router, configured), wanted, "of the changed one: {:?}\n{config:#}", request(configured));
            }
            *if wanted.is_some() { &mut matched } else { &mut unmatched } += 1;
        }
    }
    assert!(matched > 8_000 && unmatched > 8_000 && changes > 500, "{matched} {unmatched} {changes}");
}
