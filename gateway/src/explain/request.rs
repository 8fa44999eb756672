//! What becomes of a request at a listener that takes requests: the data plane's own answer, and where it comes from.

use http::StatusCode;
use sluicegate_decide::answer::{Reason, Why};
use sluicegate_model::route::{Choice, RouteView};
use sluicegate_model::snapshot::{Front, Listener, RouterRung, ServicePort, Side, Target};
use sluicegate_proxy::{Arrived, Outcome, Preview, preview};

use super::ask::{AskedRouters, who};
use super::{Asked, End, Story, World, describe, rivals};

/// Where the request goes, and how it arrived; none if the gateway answers.
pub(super) type Forwarded<'a> = Option<(&'a ServicePort, Side, Option<Arrived>)>;

pub(super) fn explain<'a>(world: &World<'a>, asked: &Asked, listener: &'a Listener, story: &mut Story) -> Result<Forwarded<'a>, End> {
    let mut routers = AskedRouters::default();
    let Preview { arrived, found, handed_by, rule, outcome } = preview(world.snapshot, listener, &asked.as_written(), &mut routers);
    let mut binding = None;
    if let Some(arrived) = &arrived {
        if arrived.path != asked.path() {
            story.say("path", format!("{:?} is read as {:?}", asked.path(), arrived.path));
        }
        if arrived.client != asked.client {
            story.say("client", format!("{}, whom a trusted proxy names", arrived.client));
        }
        if let Front::Http(hosts) = &listener.front {
            let found = found.ok_or_else(|| End(format!("404 no-host: no host name of this listener takes {:?}", arrived.host)))?;
            story
                .say("host", format!("{:?} is taken by {:?}, of {} here", arrived.host, found.hostname.unwrap_or("*"), hosts.iter().len()));
        }
        binding = match found.map(|found| found.target) {
            Some(Target::Nothing) => {
                return Err(End("404 no-route: no router is attached to this listener (ClientTrafficPolicy)".to_owned()));
            }
            Some(Target::Router(binding)) => Some(&**binding),
            Some(Target::Service(_)) => {
                story.say("route", "none: the listener leads straight to its own service");
                None
            }
            None => None,
        };
    }
    routers.tell_failures(story);
    let tell = |(rung, choice): &(&RouterRung, Choice), story: &mut Story| {
        tell_rule(world, rung, choice, story);
        if let Some(Arrived { method, host, path, client, headers }) = &arrived {
            let query = asked.target.split_once('?').map_or("", |(_, query)| query);
            let view = RouteView { method, host, path, query, headers, client: *client };
            rivals::tell(world, rung, choice, &view, story);
        }
    };
    if let Some(by) = &handed_by {
        tell(by, story);
        story.say("filter", "another router decides");
        binding = by.0.next(by.1.rule).or(binding);
    }
    if let Some(rule) = &rule {
        tell(rule, story);
    } else if let Some(rung) = binding.and_then(|binding| binding.ladder.first()) {
        let what = match &outcome {
            Outcome::Answer { why: Why::Reason(Reason::NoRoute), .. } => format!("none of {} rules matches", rung.table.rules.len()),
            Outcome::Answer { why: Why::Reason(Reason::RouterFailed), .. } => "it failed, as did the generations before it".to_owned(),
            _ => "it answers itself".to_owned(),
        };
        story.say("route", format!("{}: {what}", who("router", rung.generation.generation())));
    } else if binding.is_some() {
        story.say("route", "none: the router's plugin refuses its configuration, as `sluicegate check` says");
    }
    match outcome {
        Outcome::Forward { service, side } => Ok(Some((service, side, arrived))),
        Outcome::Answer { status, location: Some(to), why: Why::Redirect } => {
            story.say("result", format!("{status}, a redirect to {to}"));
            Ok(None)
        }
        Outcome::Answer { status, why: why @ (Why::Direct | Why::Preflight | Why::Redirect), .. } => {
            let actions = rule.as_ref().and_then(|(rung, choice)| rung.table.rules.get(choice.rule)).map(|rule| &rule.actions);
            match actions.and_then(|actions| actions.answer.as_ref()).filter(|_| why == Why::Direct) {
                Some(answer) => story.say("result", format!("{} {:?}", answer.status, answer.body)),
                None => story.say("result", format!("{status}, {}", why.label())),
            }
            Ok(None)
        }
        Outcome::Answer { status, why: Why::Reason(reason), .. } => Err(End(own(status, reason, rule.as_ref()))),
    }
}

/// An answer that is a failure, as the access log tells it.
fn own(status: StatusCode, reason: Reason, rule: Option<&(&RouterRung, Choice)>) -> String {
    let why = match (reason, rule) {
        (Reason::BadBackend, Some((rung, choice))) => no_backend(rung, choice),
        (Reason::EndpointTls, _) => ": it is not said how the service's endpoints are verified, or that is broken".to_owned(),
        _ => String::new(),
    };
    format!("{} {}{why}", status.as_u16(), Why::Reason(reason).label())
}

/// Why the backend of a rule cannot be used, behind a colon.
pub(super) fn no_backend(rung: &RouterRung, choice: &Choice) -> String {
    let backend = choice.backend.and_then(|b| rung.backends(choice.rule)?.get(b));
    match backend {
        Some(found) => found.as_ref().err().map(|why| format!(": {why}")).unwrap_or_default(),
        None => invalid(rung, choice).unwrap_or_else(|| ": the rule has none".to_owned()),
    }
}

/// What the configuration of `rules` says of backends that are known to be invalid.
fn invalid(rung: &RouterRung, choice: &Choice) -> Option<String> {
    let config: serde_json::Value = serde_json::from_str(&rung.table.config).ok()?;
    let backends = config["rules"][choice.rule]["backendRefs"].as_array()?;
    let reasons: Vec<&str> = backends.iter().filter_map(|backend| backend["invalid"].as_str()).collect();
    (!reasons.is_empty()).then(|| format!(": {}", reasons.join("; ")))
}

pub(super) fn tell_rule(world: &World<'_>, rung: &RouterRung, choice: &Choice, story: &mut Story) {
    let Some(rule) = rung.table.rules.get(choice.rule) else { return };
    let name = rule.name.as_ref().map(|n| format!(" {n:?}")).unwrap_or_default();
    let who = who("router", rung.generation.generation());
    story.say("route", format!("{who}: rule {}{name} of {}", choice.rule, rung.table.rules.len()));
    world.rule(rung, choice.rule, story);
    if choice.matched_prefix > 0 {
        story.say("", format!("the first {} bytes of the path are its prefix", choice.matched_prefix));
    }
    let backend = choice.backend.and_then(|b| rule.backends.get(b));
    for actions in std::iter::once(&rule.actions).chain(backend.map(|b| &b.actions)) {
        describe(actions, story);
    }
    let goes_on = rung.next(choice.rule).is_none() && rule.actions.redirect.is_none() && rule.actions.answer.is_none();
    if let Some(backend) = backend.filter(|_| goes_on) {
        let weights: u64 = rule.backends.iter().map(|b| u64::from(b.weight)).sum();
        let share = if rule.backends.len() > 1 { format!(", drawn with weight {} of {weights}", backend.weight) } else { String::new() };
        story.say("backend", format!("{}{share}", backend.service));
    }
}
