//! Which endpoint a balancer would pick, and which it may not.

use sluicegate_decide::ladder::{self, NoPick, Question};
use sluicegate_decide::way;
use sluicegate_model::family::IpFamily;
use sluicegate_model::health::Condition;
use sluicegate_model::route::PortProtocol;
use sluicegate_model::snapshot::{AppProtocol, HashKey, ServicePort, Side};
use sluicegate_proxy::Arrived;

use super::ask::AskedBalancers;
use super::{Asked, End, Story, World, health, tls};

/// What becomes of a request, a connection or a flow for which there is no endpoint.
const NO_ENDPOINT: &str = "503 no-endpoint (HTTP), a reset (TCP) or a drop (UDP)";

impl World<'_> {
    /// `arrived`: the request, if it is one.
    pub(super) fn pick(
        &self,
        asked: &Asked,
        service: &ServicePort,
        side: Side,
        arrived: Option<&Arrived>,
        story: &mut Story,
    ) -> Result<(), End> {
        let pool = service.pool(side);
        story.say("service", format!("{}, seen from {}", service.id, if side == Side::Internal { "inside" } else { "outside" }));
        tls::endpoints(service, story);
        let all = self.status.services.iter().find(|s| s.namespace == service.id.namespace && s.name == service.id.name);
        let all = all.and_then(|s| {
            let protocol = if service.protocol == AppProtocol::Udp { PortProtocol::Udp } else { PortProtocol::Tcp };
            s.ports.iter().find(|p| p.port == service.id.port && p.protocol == protocol)
        });
        let total = all.map_or(pool.endpoints.len(), |p| p.endpoints.len());
        story.say("pool", format!("{} of {total} endpoints", pool.endpoints.len()));
        for endpoint in all.iter().flat_map(|p| p.endpoints.iter()) {
            let inside = pool.endpoints.iter().any(|e| e.address == endpoint.address);
            let why = match (inside, endpoint) {
                (true, e) if e.ready => "in the pool: ready",
                (true, _) => "in the pool: none is ready, and it still serves while it terminates",
                (false, e) if e.terminating => "left out: terminating",
                (false, e) if !e.ready => "left out: not ready",
                (false, e) if service.family.is_some_and(|family| IpFamily::of(e.address.ip()) != family) => {
                    "left out: of the other IP family"
                }
                (false, e) if !e.is(Condition::Healthy) && !e.is(Condition::Warming) => "left out: not healthy",
                (false, _) => "left out by the traffic policy or topology (see --node-name, --zone)",
            };
            story.say("", format!("{} {why}", endpoint.address));
        }
        health::explain(service, self.serves, story);
        if pool.endpoints.is_empty() {
            for fault in self.written.service(&service.id.namespace, &service.id.name) {
                let hint = fault.expected.map(|hint| format!(" ({hint})")).unwrap_or_default();
                story.say("why", format!("{}{hint}", fault.message));
            }
            return Err(End(NO_ENDPOINT.to_owned()));
        }
        if let Some(affinity) = &service.affinity {
            let seconds = affinity.timeout.as_secs();
            story.say("affinity", format!("ClientIP: a client seen within {seconds} s keeps its endpoint; this one is taken as new"));
        }
        let hash = match arrived {
            Some(arrived) => service.hash.as_ref().and_then(|key| key.of(|| &arrived.headers, &arrived.path, arrived.client)),
            None => way::hash(service, asked.client),
        };
        if let Some(key) = &service.hash {
            let key = match key {
                _ if arrived.is_none() => "the client's address".to_owned(),
                HashKey::SourceIp => "the client's address".to_owned(),
                HashKey::Header(name) => format!("header {name}"),
                HashKey::Cookie { name, given: None } => format!("cookie {name}"),
                HashKey::Cookie { name, given: Some(_) } => format!("cookie {name}, which the gateway sets where it is not"),
                HashKey::Path => "the path".to_owned(),
            };
            story.say("hash", hash.map_or_else(|| format!("{key}: the request has none"), |h| format!("{key}: {h:016x}")));
        }
        let question =
            Question { pool, config: &service.balancer_config, hash, tried: &[], random: None, fail_closed: service.fail_closed };
        let mut balancers = AskedBalancers { service, story, instance: None };
        let chosen = ladder::pick(&question, &mut balancers, rand::rng);
        let who = chosen.ok().and_then(|chosen| chosen.rung).map(|rung| balancers.who(rung));
        match (chosen, who) {
            (Err(NoPick::Failed), _) => Err(End("503 balancer-failed".to_owned())),
            (Err(NoPick::Empty | NoPick::NoLocal), _) => {
                story.say("pick", "the balancer will have none");
                Err(End(NO_ENDPOINT.to_owned()))
            }
            (Ok(chosen), Some(who)) => {
                let when = if self.serves { "by what is under way now" } else { "for a first request with nothing in flight" };
                story.say("pick", format!("{who}, {when}"));
                story.say("result", format!("endpoint {}", pool.endpoints[chosen.index].address));
                Ok(())
            }
            (Ok(_), None) => {
                story.say("pick", "the native random choice, since no balancer serves");
                story.say("result", "any endpoint of the pool");
                Ok(())
            }
        }
    }
}
