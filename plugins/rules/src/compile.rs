//! Checks rules, and reports every fault in them.

use sluicegate_rule_values::{self as values, MOST_ATTEMPTS};
use sluicegate_sdk::{Backend, Configured, Level, Listener, Retry, Rule as Static};

use crate::config::{self, BackendRef, Config, FaultyRules, PathMatchType, Rule, ServiceRef, ValueMatch, ValueMatchType};
use crate::faults::Faults;
use crate::filter::{self, Owner};
use crate::paths::{CallTest, PathTest};
use crate::table::{Compiled, Entry, HostPattern, Match, Shares, Size, Table};
use crate::value::{Condition, Pattern, Test};

/// The number of matches that all rules may have together.
const MOST_MATCHES: usize = 65_536;
/// The greatest number of entries of all rules together. Each match has one for each host name of its rule.
const MOST_ENTRIES: usize = 131_072;
/// The number of conditions that a match may have, as HTTPRoute allows.
const MOST_CONDITIONS: usize = 16;
const MOST_BACKENDS: usize = 256;
const LARGEST_WEIGHT: u32 = 1_000_000;
/// The statuses that a rule's `retry` may name: those of errors, as in HTTPRoute.
const RETRIABLE: std::ops::RangeInclusive<u16> = 400..=599;

/// Compiles the rules for a listener, or reports everything that is wrong with them.
pub(crate) fn compile(config: Config, listener: &Listener) -> Result<(Table, Configured), String> {
    let mut table = Table::new(listener.transport, config.faulty_rules);
    let mut faults = Faults::default();
    if let Some(hostname) = listener.hostname.as_deref().filter(|name| !name.is_empty()) {
        let hostname = faults.take("the listener's hostname", values::hostname(hostname));
        table.listener = hostname.as_deref().map(HostPattern::new);
    }
    let inserted = vec![Replaced { at: 0, removed: 0, rules: config.rules }];
    let rules = replace(&mut table, inserted, faults)?;
    let interests = table.interests();
    Ok((table, Configured { rules, interests }))
}

/// Rules that replace others.
pub(crate) struct Replaced {
    /// The index of the first of the rules that are replaced.
    pub(crate) at: usize,
    pub(crate) removed: usize,
    pub(crate) rules: Vec<Rule>,
}

/// Compiles rules and lists them in place of others, and returns their static parts. If something is wrong with them, everything is reported, and the table
/// must not be used any more.
pub(crate) fn replace(table: &mut Table, replaced: Vec<Replaced>, mut all: Faults) -> Result<Vec<Static>, String> {
    check_size(table, &replaced)?;
    let mut statics = Vec::with_capacity(replaced.iter().map(|one| one.rules.len()).sum());
    let mut compiled = Vec::with_capacity(replaced.len());
    for Replaced { at, removed, rules } in replaced {
        let mut entries = Vec::with_capacity(rules.len());
        for (i, rule) in rules.into_iter().enumerate() {
            let mut compiler = Compiler { faults: Faults::default(), table: &mut *table, matches: Vec::new(), shares: Shares::default() };
            let mut made = compiler.rule(at + i, &rule);
            let faults = std::mem::take(&mut compiler.faults);
            if compiler.table.faulty_rules == FaultyRules::Fail && faults.count() > 0 {
                made = compiler.failing(&rule, faults);
            } else {
                all.append(faults);
            }
            statics.push(made);
            entries.push(Compiled { entry: entry(&rule, compiler.shares), matches: compiler.matches });
        }
        compiled.push((at, removed, entries));
    }
    all.into_result()?;
    table.replace(compiled);
    Ok(statics)
}

/// Checks that the table is not too large with these rules.
fn check_size(table: &Table, replaced: &[Replaced]) -> Result<(), String> {
    let mut size = table.size;
    let mut next = 0;
    for Replaced { at, removed, rules } in replaced {
        let gone = table.rules.get(*at..at.saturating_add(*removed)).filter(|_| *at >= next);
        let gone = gone.ok_or("splices: they do not rise, or there are no such rules")?;
        gone.iter().for_each(|entry| size.take(entry.size()));
        rules.iter().for_each(|rule| size.add(Size::of(rule.matches.len(), rule.hostnames.len())));
        next = at + removed;
    }
    let Size { matches, entries } = size;
    if matches > MOST_MATCHES {
        return Err(format!("rules: have {matches} matches; all rules together must have at most {MOST_MATCHES}"));
    }
    if entries > MOST_ENTRIES {
        return Err(format!("rules: have {entries} pairs of a match and a hostname; all rules together must have at most {MOST_ENTRIES}"));
    }
    Ok(())
}

/// The entry that the table keeps of a rule.
fn entry(rule: &Rule, shares: Shares) -> Entry {
    let text = |text: &Option<String>| text.as_deref().map(Into::into);
    Entry {
        shares,
        hostnames: rule.hostnames.iter().map(|name| name.to_ascii_lowercase().into()).collect(),
        created_at: text(&rule.created_at),
        source: text(&rule.source),
        written: rule.matches.len() as u32,
        matches: Box::default(),
    }
}

/// Compiles one rule.
struct Compiler<'t> {
    faults: Faults,
    table: &'t mut Table,
    matches: Vec<Match>,
    shares: Shares,
}

impl Compiler<'_> {
    fn rule(&mut self, index: usize, rule: &Rule) -> Static {
        let place = format!("rules[{index}]");
        for (i, hostname) in rule.hostnames.iter().enumerate() {
            self.faults.take(format_args!("{place}.hostnames[{i}]"), values::hostname(hostname));
        }
        if let Some(created_at) = &rule.created_at {
            self.faults.take(format_args!("{place}.createdAt"), values::timestamp(created_at));
        }
        if rule.matches.is_empty() {
            self.add_match(&place, index, &config::Match::default());
        }
        for (i, one) in rule.matches.iter().enumerate() {
            self.add_match(&format!("{place}.matches[{i}]"), index, one);
        }

        let filters = filter::convert(&format!("{place}.filters"), &rule.filters, Owner::Rule, &mut self.faults);
        self.check_prefix(rule, filters.replaces_prefix.as_deref());
        if let (Some(answers), false) = (&filters.answers, rule.backend_refs.is_empty()) {
            self.faults.add(format_args!("{place}.backendRefs"), format!("must be empty: {answers} answers"));
        }
        let backends = self.backends(&format!("{place}.backendRefs"), rule);
        let (request_timeout, backend_timeout) = self.timeouts(&place, rule);
        if let Some(session) = &rule.session_persistence {
            self.check_session(&format!("{place}.sessionPersistence"), session);
        }
        let retry = rule.retry.as_ref().map(|retry| self.retry(&format!("{place}.retry"), retry));
        Static {
            name: rule.name.clone().or_else(|| rule.source.clone()),
            filters: filters.filters,
            backends,
            request_timeout,
            backend_timeout,
            retry,
        }
    }

    /// Replaces a rule that has a fault by one without backends, whose requests are answered 500.
    fn failing(&mut self, rule: &Rule, faults: Faults) -> Static {
        self.shares = Shares::default();
        let name = rule.name.clone().or_else(|| rule.source.clone());
        let whose = rule.source.as_ref().map_or_else(String::new, |source| format!(" of {source}"));
        if let Err(faults) = faults.into_result() {
            sluicegate_sdk::log(Level::Error, &format!("a rule{whose} answers 500, as it has a fault: {faults}"));
        }
        Static { name, ..Static::default() }
    }

    /// Checks that a rule whose filters replace the matched prefix matches by prefix.
    fn check_prefix(&mut self, rule: &Rule, replaced_at: Option<&str>) {
        let is_prefix =
            |one: &config::Match| one.grpc.is_none() && one.path.as_ref().is_none_or(|path| path.kind == PathMatchType::PathPrefix);
        let all_prefixes = rule.matches.iter().all(is_prefix);
        if let (Some(place), false) = (replaced_at, all_prefixes) {
            self.faults.add(place, "can only be used when every match of the rule is a PathPrefix");
        }
    }

    fn backends(&mut self, place: &str, rule: &Rule) -> Vec<Backend> {
        if rule.backend_refs.len() > MOST_BACKENDS {
            self.faults.add(place, format!("must have at most {MOST_BACKENDS} items"));
        }
        let mut backends = Vec::new();
        let mut shares = Vec::new();
        for (i, backend) in rule.backend_refs.iter().take(MOST_BACKENDS).enumerate() {
            let place = format!("{place}[{i}]");
            let weight = backend.weight.unwrap_or(1);
            if weight > LARGEST_WEIGHT {
                self.faults.add(format_args!("{place}.weight"), format!("{weight} must be between 0 and {LARGEST_WEIGHT}, inclusive"));
            }
            if backend.invalid.is_some() {
                self.check_invalid(&place, backend);
                shares.push((None, weight));
                continue;
            }
            let BackendRef { group, kind, name, namespace, port, filters, .. } = backend.clone();
            let name = name.ok_or_else(|| "must be set".to_owned());
            let name = self.faults.take(format_args!("{place}.name"), name);
            let port = self.faults.take(format_args!("{place}.port"), port.ok_or_else(|| "must be set".to_owned()));
            let Some((name, port)) = name.zip(port) else { continue };
            let service = filter::service(&place, &ServiceRef { group, kind, name, namespace, port }, &mut self.faults);
            let filters = filter::convert(&format!("{place}.filters"), &filters, Owner::Backend, &mut self.faults);
            self.check_prefix(rule, filters.replaces_prefix.as_deref());
            shares.push((Some(backends.len() as u32), weight));
            backends.push(Backend { service, weight, filters: filters.filters });
        }
        self.shares = Shares::new(shares.into_iter());
        backends
    }

    /// Checks a backend that is known to be invalid: it must not refer to anything.
    fn check_invalid(&mut self, place: &str, backend: &BackendRef) {
        let BackendRef { group, kind, name, namespace, port, filters, weight: _, invalid: _ } = backend;
        let fields = [
            ("group", group.is_some()),
            ("kind", kind.is_some()),
            ("name", name.is_some()),
            ("namespace", namespace.is_some()),
            ("port", port.is_some()),
            ("filters", !filters.is_empty()),
        ];
        for (field, _) in fields.into_iter().filter(|(_, set)| *set) {
            self.faults.add(format_args!("{place}.{field}"), "must be absent: the backend is invalid");
        }
    }

    /// Checks a rule's session persistence. The host reads it from the configuration, as the contract's record of a rule has no field for it.
    fn check_session(&mut self, place: &str, session: &config::SessionPersistence) {
        if let Some(name) = &session.session_name {
            self.faults.take(format_args!("{place}.sessionName"), values::session_name(name));
        }
        for (field, text) in [("absoluteTimeout", &session.absolute_timeout), ("idleTimeout", &session.idle_timeout)] {
            self.faults.take(format_args!("{place}.{field}"), text.as_deref().map_or(Ok(0), values::duration_ms));
        }
        let cookie = session.cookie_config.as_ref();
        if cookie.is_some() && session.kind == config::SessionType::Header {
            self.faults.add(format_args!("{place}.cookieConfig"), "must be absent when the type is Header");
        }
        let permanent = cookie.is_some_and(|config| config.lifetime_type == Some(config::CookieLifetime::Permanent));
        if permanent && session.absolute_timeout.is_none() {
            self.faults.add(format_args!("{place}.absoluteTimeout"), "must be set when the cookie's lifetimeType is Permanent");
        }
    }

    fn timeouts(&mut self, place: &str, rule: &Rule) -> (Option<u32>, Option<u32>) {
        let Some(timeouts) = &rule.timeouts else { return (None, None) };
        let mut read =
            |field: &str, text: Option<&String>| self.faults.take(format_args!("{place}.timeouts.{field}"), values::duration_ms(text?));
        let request = read("request", timeouts.request.as_ref());
        let backend = read("backendRequest", timeouts.backend_request.as_ref());
        if let (Some(request), Some(backend)) = (request, backend)
            && request != 0
            && backend > request
        {
            self.faults.add(format_args!("{place}.timeouts.backendRequest"), "must be at most the timeout of the request");
        }
        (request, backend)
    }

    fn retry(&mut self, place: &str, retry: &config::Retry) -> Retry {
        for (i, code) in retry.codes.iter().enumerate().filter(|(_, code)| !RETRIABLE.contains(code)) {
            self.faults.add(format_args!("{place}.codes[{i}]"), format!("{code} must be between 400 and 599, inclusive"));
        }
        if let Some(attempts) = retry.attempts.filter(|n| *n > MOST_ATTEMPTS) {
            self.faults.add(format_args!("{place}.attempts"), format!("{attempts} must be between 0 and {MOST_ATTEMPTS}, inclusive"));
        }
        let mut statuses = retry.codes.clone();
        statuses.sort_unstable();
        statuses.dedup();
        let back_off = retry.backoff.as_deref();
        let back_off = back_off.and_then(|text| self.faults.take(format_args!("{place}.backoff"), values::duration_ms(text)));
        Retry { attempts: retry.attempts, statuses, back_off }
    }

    fn add_match(&mut self, place: &str, rule: usize, from: &config::Match) {
        let faults = self.faults.count();
        let path = match &from.grpc {
            Some(call) => {
                if from.path.is_some() {
                    self.faults.add(format_args!("{place}.path"), "must be absent when grpc is set");
                }
                self.call(&format!("{place}.grpc"), call)
            }
            None => self.path(&format!("{place}.path.value"), from.path.as_ref()),
        };
        let method = from.method.as_deref().and_then(|method| self.faults.take(format_args!("{place}.method"), values::method(method)));
        let headers = self.conditions(&format!("{place}.headers"), &from.headers, |compiler, name| {
            let name = values::header_name(name)?;
            Ok(compiler.table.headers.intern(&name))
        });
        let params = self.conditions(&format!("{place}.queryParams"), &from.query_params, |compiler, name| {
            if name.is_empty() || name.len() > 256 {
                return Err("must be 1 to 256 bytes".to_owned());
            }
            Ok(compiler.table.params.intern(name))
        });
        // A match that has a fault is left out: without some of its conditions it would take more requests.
        let Some(path) = path.filter(|_| self.faults.count() == faults) else { return };
        let method = method.map(String::into_boxed_str);
        let number = self.matches.len() as u32;
        self.matches.push(Match { rule: rule as u32, number, path, method, headers, params });
    }

    fn path(&mut self, place: &str, path: Option<&config::PathMatch>) -> Option<PathTest> {
        let kind = path.map_or(PathMatchType::PathPrefix, |path| path.kind);
        let value = path.and_then(|path| path.value.as_deref()).unwrap_or("/");
        let spelt = values::spell(value);
        match kind {
            PathMatchType::Exact => {
                self.faults.take(place, values::match_path(&spelt))?;
                Some(PathTest::Exact(spelt.into()))
            }
            PathMatchType::PathPrefix => {
                self.faults.take(place, values::match_path(&spelt))?;
                Some(PathTest::Prefix(spelt.strip_suffix('/').unwrap_or(&spelt).into()))
            }
            PathMatchType::RegularExpression => Some(PathTest::Pattern(Box::new(self.faults.take(place, Pattern::new(value))?))),
        }
    }

    fn call(&mut self, place: &str, call: &config::GrpcMatch) -> Option<PathTest> {
        if call.service.is_none() && call.method.is_none() {
            self.faults.add(place, "must have a service or a method");
            return None;
        }
        let mut test = |field: &str, text: Option<&str>, name: fn(&str) -> Result<(), String>| match text {
            None => Some(None),
            Some(text) => {
                let test = match call.kind {
                    ValueMatchType::Exact => name(text).and_then(|()| Test::new(call.kind, text)),
                    ValueMatchType::RegularExpression => Test::new(call.kind, text),
                };
                self.faults.take(format_args!("{place}.{field}"), test).map(Some)
            }
        };
        let service = test("service", call.service.as_deref(), values::grpc_service);
        let method = test("method", call.method.as_deref(), values::grpc_method);
        Some(match (service?, method?) {
            (Some(Test::Exact(service)), Some(Test::Exact(method))) => PathTest::Exact(format!("/{service}/{method}").into()),
            (service, method) => PathTest::Call(Box::new(CallTest { service, method })),
        })
    }

    fn conditions(
        &mut self,
        place: &str,
        from: &[ValueMatch],
        intern: impl Fn(&mut Self, &str) -> Result<usize, String>,
    ) -> Vec<Condition> {
        if from.len() > MOST_CONDITIONS {
            self.faults.add(place, format!("must have at most {MOST_CONDITIONS} items"));
            return Vec::new();
        }
        let mut conditions: Vec<Condition> = Vec::with_capacity(from.len());
        for (i, ValueMatch { kind, name, value }) in from.iter().enumerate() {
            let index = intern(self, name);
            let index = self.faults.take(format_args!("{place}[{i}].name"), index);
            let test = self.faults.take(format_args!("{place}[{i}].value"), Test::new(*kind, value));
            let Some((index, test)) = index.zip(test) else { continue };
            // As HTTPRoute says, only the first of several entries with an equivalent name counts.
            if conditions.iter().all(|earlier| earlier.index != index) {
                conditions.push(Condition { index, test });
            }
        }
        conditions
    }
}
