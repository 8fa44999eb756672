//! `sluicegate explain`: what would become of a request, by the very plugins that decide it, without sending anything.

mod health;
mod tls;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use sluicegate_control::allocate::Allocator;
use sluicegate_control::controller::{Controller, Options};
use sluicegate_host::Loader;
use sluicegate_model::fault::Severity;
use sluicegate_model::plan::{Plan, Settings};
use sluicegate_model::plugin::PickContext;
use sluicegate_model::pool::Endpoint;
use sluicegate_model::route::{Actions, Choice, Decision, Protocol, RouteView};
use sluicegate_model::snapshot::{
    AppProtocol, Front, HashKey, Listener, RouterBinding, RouterRung, ServicePort, Side, Snapshot, Target, TlsMode,
};
use sluicegate_model::status::Status;

use super::{fail, flags, out};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Files or folders with Kubernetes objects, then the method and the URL
    #[arg(required = true, num_args = 1.., value_name = "PATH... METHOD URL")]
    words: Vec<String>,
    /// The port the request arrives at
    #[arg(long)]
    port: u16,
    /// What arrives is a UDP flow: of the request, only the client's address counts
    #[arg(long)]
    udp: bool,
    /// The local address it arrives at [default: the URL's host if it is one, else any with this port]
    #[arg(long)]
    address: Option<IpAddr>,
    /// A header field, as in "X-Name: value"
    #[arg(short = 'H', long = "header", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The client's address
    #[arg(long, default_value = "127.0.0.1")]
    client: IpAddr,
    #[command(flatten)]
    network: flags::Network,
    /// Where a running gateway keeps its allocations, so that the node ports are its own
    #[arg(long)]
    state_dir: Option<PathBuf>,
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("a header field has a name, a colon and a value")?;
    let name = name.trim().parse().map_err(|_| format!("{name:?} is not a header field's name"))?;
    let value = value.trim().parse().map_err(|_| format!("{value:?} is not a header field's value"))?;
    Ok((name, value))
}

/// The request asked about.
struct Asked {
    method: Method,
    uri: Uri,
    host: String,
    headers: HeaderMap,
    client: IpAddr,
    port: u16,
    protocol: Protocol,
    address: Option<IpAddr>,
}

/// What was found out so far, line by line.
#[derive(Default)]
struct Story(String);

impl Story {
    fn say(&mut self, topic: &str, text: impl std::fmt::Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{topic:10} {text}");
    }
}

/// It ends here, and why.
struct End(String);

impl Arguments {
    pub(super) fn execute(mut self) -> ExitCode {
        let (Some(url), Some(method)) = (self.words.pop(), self.words.pop()) else { return fail("a path, a method and a URL are wanted") };
        let asked = match self.asked(&method, &url) {
            Ok(asked) => asked,
            Err(error) => return fail(error),
        };
        if self.words.is_empty() {
            return fail("a path, a method and a URL are wanted");
        }
        let paths: Vec<PathBuf> = self.words.iter().map(PathBuf::from).collect();
        let process = flags::Process { state_dir: self.state_dir.clone(), ..flags::Process::default() };
        let settled = match flags::settle(paths.clone(), process, self.network) {
            Ok(settled) => settled,
            Err(error) => return fail(error),
        };
        let loader = match Loader::new() {
            Ok(loader) => loader.guarding(settled.admin_address),
            Err(error) => return fail(format!("{error:#}")),
        };
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return fail(error),
        };
        let allocator = Allocator::read_only(&settled.state_dir, settled.ranges.clone());
        // Without node addresses: a machine that lacks them can be asked too.
        let settings = Settings { node_addresses: Vec::new(), here: settled.here.clone() };
        let trusted_keys = settled.trusted_keys.clone();
        let options = Options { paths, settings, builtins: crate::builtin, trusted_keys, turns: Default::default() };
        let mut controller = Controller::new(options, loader, allocator);
        let (snapshot, status) = runtime.block_on(controller.once(Duration::from_secs(2)));
        let errors = status.faults.iter().filter(|f| f.severity == Severity::Error).count();
        let mut story = Story::default();
        if errors > 0 {
            story.say("note", format!("the configuration has {errors} errors: see `sluicegate check`"));
        }
        let world = World { snapshot: &snapshot, plan: controller.plan(), status: &status };
        let ended = world.explain(&asked, &mut story);
        out(story.0.trim_end());
        match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(End(why)) => {
                out(format!("{:10} {why}", "result"));
                ExitCode::FAILURE
            }
        }
    }

    fn asked(&self, method: &str, url: &str) -> Result<Asked, String> {
        let method: Method = method.to_ascii_uppercase().parse().map_err(|_| format!("{method:?} is not a method"))?;
        let uri: Uri = url.parse().map_err(|e| format!("{url:?} is not a URL: {e}"))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        let named = headers.get(http::header::HOST).and_then(|h| h.to_str().ok()).map(str::to_owned);
        let host = named.or_else(|| uri.host().map(str::to_owned)).unwrap_or_default();
        let host = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name.to_owned(),
            _ => host,
        };
        let literal = uri.host().and_then(|h| h.trim_matches(['[', ']']).parse().ok());
        Ok(Asked {
            method,
            host: host.to_ascii_lowercase(),
            headers,
            client: self.client,
            port: self.port,
            protocol: if self.udp { Protocol::Udp } else { Protocol::Tcp },
            address: self.address.or(literal),
            uri,
        })
    }
}

struct World<'a> {
    snapshot: &'a Snapshot,
    plan: &'a Plan,
    status: &'a Status,
}

impl World<'_> {
    fn explain(&self, asked: &Asked, story: &mut Story) -> Result<(), End> {
        let listener = self.listener(asked)?;
        let kind = match &listener.front {
            Front::Tcp(_) => "TCP, by connection",
            Front::Udp(_) => "UDP, by flow",
            Front::Http(_) => "HTTP, by request",
            Front::Tls(_) => "TLS, by server name",
        };
        story.say("listener", format!("{} on {} ({kind})", listener.name, listener.address));
        let target = match &listener.front {
            Front::Tcp(target) | Front::Udp(target) => target,
            Front::Http(hosts) => {
                let found = hosts.iter().find(|h| h.serves(&asked.host));
                let found = found.ok_or_else(|| End(format!("404 no-host: no host name of this listener takes {:?}", asked.host)))?;
                let name = found.hostname.as_deref().unwrap_or("*");
                story.say("host", format!("{:?} is taken by {name:?}, of {} here", asked.host, hosts.len()));
                &found.target
            }
            Front::Tls(hosts) => tls::explain(asked, hosts, story)?,
        };
        let (service, side) = match target {
            Target::Nothing => return Err(End("404 no-route: no router is attached to this listener (ClientTrafficPolicy)".to_owned())),
            Target::Service(to) => {
                story.say("route", "none: the listener leads straight to its own service");
                (to.service, to.side)
            }
            Target::Router(binding) => match self.route(asked, binding, &listener.front, story)? {
                Some(service) => (service, Side::Internal),
                None => return Ok(()),
            },
        };
        let service = self.snapshot.services.get(service).ok_or_else(|| End("500 bad-backend".to_owned()))?;
        self.pick(asked, service, side, story)
    }

    fn listener(&self, asked: &Asked) -> Result<&Listener, End> {
        let on_port: Vec<_> =
            self.snapshot.listeners.iter().filter(|l| l.address.port() == asked.port && l.front.protocol() == asked.protocol).collect();
        let fits = |l: &&std::sync::Arc<Listener>| {
            let ip = l.address.ip();
            asked.address.is_none_or(|wanted| ip == wanted)
        };
        let exact: Vec<_> = on_port.iter().copied().filter(|l| fits(l)).collect();
        let any: Vec<_> = on_port.iter().copied().filter(|l| l.address.ip().is_unspecified()).collect();
        let list = |listeners: &[&std::sync::Arc<Listener>]| {
            listeners.iter().map(|l| format!("\n  {}  {}", l.address, l.name)).collect::<String>()
        };
        match (exact.as_slice(), any.as_slice()) {
            ([one], _) | ([], [one]) => Ok(one),
            ([], _) if on_port.is_empty() => {
                let all: Vec<_> = self.snapshot.listeners.iter().collect();
                let protocol = if asked.protocol == Protocol::Udp { "UDP port" } else { "port" };
                Err(End(format!("refused: nothing listens on {protocol} {}; what listens:{}", asked.port, list(&all))))
            }
            ([], _) => Err(End(format!("refused: nothing listens on that address; on port {}:{}", asked.port, list(&on_port)))),
            (several, _) => Err(End(format!("unclear: several listen on port {}, choose with --address:{}", asked.port, list(several)))),
        }
    }

    /// The backend's service; none if the answer is made here.
    fn route(&self, asked: &Asked, binding: &RouterBinding, front: &Front, story: &mut Story) -> Result<Option<usize>, End> {
        let http = match front {
            Front::Tcp(_) | Front::Udp(_) => false,
            Front::Http(_) => true,
            Front::Tls(hosts) => hosts.iter().find(|h| h.serves(&asked.host)).is_some_and(|h| matches!(h.mode, TlsMode::Http(_))),
        };
        let view = RouteView {
            method: if http { asked.method.as_str() } else { "" },
            host: if http || matches!(front, Front::Tls(_)) { &asked.host } else { "" },
            path: if http { asked.uri.path() } else { "" },
            query: if http { asked.uri.query().unwrap_or("") } else { "" },
            headers: &asked.headers,
            client: asked.client,
        };
        for rung in &binding.ladder {
            let generation = rung.generation.generation();
            let who = format!("router {}, generation {}", generation.plugin, generation.number);
            let decided = rung.generation.instantiate().and_then(|mut router| router.route(&rung.table, &view));
            match decided {
                Err(error) => story.say("route", format!("{who} failed: {error}")),
                Ok(Decision::NoMatch) => {
                    story.say("route", format!("{who}: none of {} rules matches", rung.table.rules.len()));
                    return Err(End("404 no-route".to_owned()));
                }
                Ok(Decision::Answer(answer)) => {
                    story.say("route", format!("{who} answers itself"));
                    story.say("result", format!("{} {:?}", answer.status, answer.body));
                    return Ok(None);
                }
                Ok(Decision::Matched(choice)) => return self.matched(&who, rung, &choice, story),
            }
        }
        Err(End("503 router-failed".to_owned()))
    }

    fn matched(&self, who: &str, rung: &RouterRung, choice: &Choice, story: &mut Story) -> Result<Option<usize>, End> {
        let Some(rule) = rung.table.rules.get(choice.rule) else { return Err(End("503 router-failed".to_owned())) };
        let name = rule.name.as_ref().map(|n| format!(" {n:?}")).unwrap_or_default();
        story.say("route", format!("{who}: rule {}{name} of {}", choice.rule, rung.table.rules.len()));
        self.rule(rung, choice.rule, story);
        if choice.matched_prefix > 0 {
            story.say("", format!("the first {} bytes of the path are its prefix", choice.matched_prefix));
        }
        let backend = choice.backend.and_then(|b| rule.backends.get(b));
        for actions in std::iter::once(&rule.actions).chain(backend.map(|b| &b.actions)) {
            describe(actions, story);
        }
        if let Some(redirect) = &rule.actions.redirect {
            story.say("result", format!("{}, a redirect", redirect.status));
            return Ok(None);
        }
        if let Some(answer) = &rule.actions.answer {
            story.say("result", format!("{} {:?}", answer.status, answer.body));
            return Ok(None);
        }
        let (Some(index), Some(backend)) = (choice.backend, backend) else {
            return Err(End("500 bad-backend: the rule has none".to_owned()));
        };
        let weights: u64 = rule.backends.iter().map(|b| u64::from(b.weight)).sum();
        let share = if rule.backends.len() > 1 { format!(", drawn with weight {} of {weights}", backend.weight) } else { String::new() };
        story.say("backend", format!("{}{share}", backend.service));
        match rung.backends.get(choice.rule).and_then(|b| b.get(index)) {
            Some(Ok(service)) => Ok(Some(*service)),
            Some(Err(why)) => Err(End(format!("500 bad-backend: {why}"))),
            None => Err(End("500 bad-backend".to_owned())),
        }
    }

    /// Where the rule is written, for routers whose configuration has a list `rules` in the order of the table's, as `rules` has.
    fn rule(&self, rung: &RouterRung, index: usize, story: &mut Story) {
        let written = self.plan.routers.iter().find(|r| r.listener == rung.table.listener && *r.plugin.config == *rung.table.config);
        let Some(place) = written.and_then(|r| r.plugin.place(&format!("rules[{index}]"))) else { return };
        let config: Option<serde_json::Value> = serde_json::from_str(&rung.table.config).ok();
        let matches = config.as_ref().and_then(|c| c.pointer(&format!("/rules/{index}")));
        let Some(rule) = matches else { return };
        story.say("", format!("written in {}:{}:{}", place.file.display(), place.line, place.column));
        for field in ["hostnames", "matches"] {
            if let Some(value) = rule.get(field) {
                story.say("", format!("{field}: {value}"));
            }
        }
        if rule.get("matches").is_none() {
            story.say("", "it has no matches, so it takes every path");
        }
    }

    fn pick(&self, asked: &Asked, service: &ServicePort, side: Side, story: &mut Story) -> Result<(), End> {
        let pool = service.pool(side);
        story.say("service", format!("{}, seen from {}", service.id, if side == Side::Internal { "inside" } else { "outside" }));
        tls::endpoints(service, story);
        let all = self.status.services.iter().find(|s| s.namespace == service.id.namespace && s.name == service.id.name);
        let all = all.and_then(|s| {
            s.ports
                .iter()
                .find(|p| p.port == service.id.port && p.protocol == if service.protocol == AppProtocol::Udp { "UDP" } else { "TCP" })
        });
        let total = all.map_or(pool.endpoints.len(), |p| p.endpoints.len());
        story.say("pool", format!("{} of {total} endpoints", pool.endpoints.len()));
        for endpoint in all.iter().flat_map(|p| &p.endpoints) {
            let inside = pool.endpoints.iter().any(|e| e.address.to_string() == endpoint.address);
            let why = match (inside, endpoint) {
                (true, e) if e.ready => "in the pool: ready",
                (true, _) => "in the pool: none is ready, and it still serves while it terminates",
                (false, e) if e.terminating => "left out: terminating",
                (false, e) if !e.ready => "left out: not ready",
                (false, _) => "left out by the traffic policy or topology (see --node-name, --zone)",
            };
            story.say("", format!("{} {why}", endpoint.address));
        }
        health::explain(service, story);
        if pool.endpoints.is_empty() {
            return Err(End("503 no-endpoint (HTTP), a reset (TCP) or a drop (UDP)".to_owned()));
        }
        if let Some(affinity) = &service.affinity {
            let seconds = affinity.timeout.as_secs();
            story.say("affinity", format!("ClientIP: a client seen within {seconds} s keeps its endpoint; this one is taken as new"));
        }
        let hash = service.hash.as_ref().and_then(|key| key.of(&asked.headers, asked.uri.path(), asked.client));
        if let Some(key) = &service.hash {
            let key = match key {
                HashKey::SourceIp => "the client's address".to_owned(),
                HashKey::Header(name) => format!("header {name}"),
                HashKey::Cookie { name, given: None } => format!("cookie {name}"),
                HashKey::Cookie { name, given: Some(_) } => format!("cookie {name}, which the gateway sets where it is not"),
                HashKey::Path => "the path".to_owned(),
            };
            story.say("hash", hash.map_or_else(|| format!("{key}: the request has none"), |h| format!("{key}: {h:016x}")));
        }
        let context = PickContext { hash, ..PickContext::default() };
        for generation in &service.balancers {
            let about = generation.generation();
            let who = format!("balancer {}, generation {}", about.plugin, about.number);
            match generation.instantiate().and_then(|mut b| b.pick(pool, &service.balancer_config, context)) {
                Err(error) => story.say("pick", format!("{who} failed: {error}")),
                Ok(None) => {
                    story.say("pick", format!("{who} will have none"));
                    return Err(End("503 no-endpoint (HTTP), a reset (TCP) or a drop (UDP)".to_owned()));
                }
                Ok(Some(index)) => return chosen(&who, pool.endpoints.get(index), story),
            }
        }
        if service.fail_closed {
            return Err(End("503 balancer-failed".to_owned()));
        }
        story.say("pick", "the native random choice, since no balancer serves");
        story.say("result", "any endpoint of the pool");
        Ok(())
    }
}

fn chosen(who: &str, endpoint: Option<&Endpoint>, story: &mut Story) -> Result<(), End> {
    let Some(endpoint) = endpoint else { return Err(End("503 no-endpoint".to_owned())) };
    story.say("pick", format!("{who}, for a first request with nothing in flight"));
    story.say("result", format!("endpoint {}", endpoint.address));
    Ok(())
}

fn describe(actions: &Actions, story: &mut Story) {
    for (what, changes) in [("request", &actions.request_headers), ("response", &actions.response_headers)] {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        for (verb, fields) in [("set", &changes.set), ("add", &changes.add)] {
            for (name, value) in fields {
                story.say("filter", format!("{verb} {what} header {name}: {}", text(value)));
            }
        }
        for name in &changes.remove {
            story.say("filter", format!("remove {what} header {name}"));
        }
    }
    if let Some(rewrite) = &actions.rewrite {
        let host = rewrite.hostname.as_ref().map(|h| format!(" host to {}", String::from_utf8_lossy(h.as_bytes()))).unwrap_or_default();
        let path = rewrite.path.as_ref().map(|p| format!(" path: {p:?}")).unwrap_or_default();
        story.say("filter", format!("rewrite{host}{path}"));
    }
    for mirror in &actions.mirrors {
        story.say("filter", format!("mirror {}/{} of the requests to {}", mirror.numerator, mirror.denominator, mirror.service));
    }
    if actions.cors.is_some() {
        story.say("filter", "CORS");
    }
}
