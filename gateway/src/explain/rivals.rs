//! Which rule would take a request if the one that does were not there, and why it does not: "which route stole my request". The router itself
//! is asked, by the same plugin, with its configuration less the rules that came before. For routers whose configuration has a list `rules` in
//! the order of the table's and in HTTPRoute's words, as `rules` has.

use std::cmp::Ordering;
use std::sync::Arc;

use serde_json::{Value, json};
use sluicegate_model::config_text::ConfigText;
use sluicegate_model::route::{Choice, Decision, RouteView};
use sluicegate_model::snapshot::RouterRung;

use super::{Story, World};

/// How many rivals are told.
const RIVALS: usize = 2;

/// Tells the rules that come after the one that was chosen.
pub(super) fn tell(world: &World<'_>, rung: &RouterRung, choice: &Choice, view: &RouteView<'_>, story: &mut Story) {
    let Ok(config) = serde_json::from_str::<Value>(&rung.table.config) else { return };
    let Some(rules) = config["rules"].as_array().filter(|rules| rules.len() == rung.table.rules.len()) else { return };
    let mut before = choice.rule;
    let mut left: Vec<usize> = (0..rules.len()).collect();
    for topic in ["second", "third"].into_iter().take(RIVALS) {
        left.retain(|rule| *rule != before);
        let with = left.iter().map(|rule| rules[*rule].clone()).collect();
        let Some(next) = ask(rung, &config, with, view).and_then(|at| left.get(at).copied()) else { return };
        let name = rung.table.rules[next].name.as_ref().map(|name| format!(" {name:?}")).unwrap_or_default();
        let taken = |rule: usize| Taken::of(rung, &config, &rules[rule], rule, view);
        let why = taken(before).zip(taken(next)).and_then(|(winner, loser)| loser.loses_to(&winner));
        let why = why.map_or_else(String::new, |why| format!(": {why}"));
        story.say(topic, format!("rule {next}{name} would take it too{why}"));
        world.rule(rung, next, story);
        before = next;
    }
}

/// Which of these rules takes the request.
fn ask(rung: &RouterRung, config: &Value, rules: Vec<Value>, view: &RouteView<'_>) -> Option<usize> {
    let mut config = config.clone();
    config["rules"] = Value::Array(rules);
    let table = Arc::new(rung.generation.configure(&ConfigText::from(config), &rung.table.listener).ok()?);
    match rung.generation.instantiate().ok()?.route(&table, view).ok()? {
        Decision::Matched(choice) => Some(choice.rule),
        Decision::Answer(_) | Decision::NoMatch => None,
    }
}

/// The part of a rule that takes a request.
struct Taken<'r> {
    rule: &'r Value,
    index: usize,
    hostname: Option<String>,
    one: Value,
}

impl<'r> Taken<'r> {
    /// Asks about the parts of a rule: one for each pair of a host name and a match.
    fn of(rung: &RouterRung, config: &Value, rule: &'r Value, index: usize, view: &RouteView<'_>) -> Option<Self> {
        let list = |field: &str| rule[field].as_array().filter(|list| !list.is_empty());
        let hostnames = list("hostnames").map_or_else(|| vec![None], |names| names.iter().map(|name| name.as_str()).collect());
        let matches = list("matches").cloned().unwrap_or_else(|| vec![json!({})]);
        let pairs: Vec<(Option<&str>, &Value)> =
            hostnames.iter().flat_map(|hostname| matches.iter().map(move |one| (*hostname, one))).collect();
        let parts = pairs.iter().map(|(hostname, one)| json!({"hostnames": Vec::from_iter(*hostname), "matches": [one]})).collect();
        let (hostname, one) = pairs.get(ask(rung, config, parts, view)?)?;
        Some(Self { rule, index, hostname: hostname.map(str::to_owned), one: (*one).clone() })
    }

    /// The first point of the Gateway API's precedence in which the two differ.
    fn loses_to(&self, winner: &Self) -> Option<String> {
        let hostname = |taken: &Self| taken.hostname.clone().unwrap_or_else(|| "*".to_owned());
        if hostname(self) != hostname(winner) {
            return Some(format!("its hostname {:?} is less specific than {:?}", hostname(self), hostname(winner)));
        }
        if path(&self.one) != path(&winner.one) {
            return Some(format!("its path, {}, comes after {}", path(&self.one), path(&winner.one)));
        }
        if self.one["method"].is_null() && !winner.one["method"].is_null() {
            return Some("the one before it has a method".to_owned());
        }
        for (field, what) in [("headers", "headers"), ("queryParams", "query parameters")] {
            let count = |taken: &Self| taken.one[field].as_array().map_or(0, Vec::len);
            if count(self) != count(winner) {
                return Some(format!("it has {} {what} to match, the one before it {}", count(self), count(winner)));
            }
        }
        let text = |taken: &Self, field: &str| taken.rule[field].as_str().map(str::to_owned);
        match (text(self, "createdAt"), text(winner, "createdAt")) {
            (Some(own), Some(other)) if own != other => return Some(format!("it is younger, of {own}; the one before it is of {other}")),
            (None, Some(other)) => return Some(format!("it has no age, the one before it is of {other}")),
            _ => {}
        }
        match (text(self, "source"), text(winner, "source")) {
            (Some(own), Some(other)) if own.cmp(&other) == Ordering::Greater => {
                Some(format!("{other:?} is before {own:?} in the alphabet"))
            }
            _ => (self.index > winner.index).then(|| "it stands after it in the list".to_owned()),
        }
    }
}

/// The condition that a match has for the path.
fn path(one: &Value) -> String {
    let kind = |of: &Value, default: &str| of["type"].as_str().unwrap_or(default).to_owned();
    let call = &one["grpc"];
    if call.is_object() {
        let part = |field: &str| call[field].as_str().unwrap_or("*").to_owned();
        return format!("gRPC {} {}/{}", kind(call, "Exact"), part("service"), part("method"));
    }
    format!("{} {:?}", kind(&one["path"], "PathPrefix"), one["path"]["value"].as_str().unwrap_or("/"))
}
