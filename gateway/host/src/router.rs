//! Routers over wasm, as [`crate::balancer`] is for balancers: a `table` resource for each configured table.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use rustc_hash::FxBuildHasher;
use sluicegate_model::plugin::{Generation, Limits, PluginError, Router, RouterGeneration, Stage};
use sluicegate_model::pool::unique;
use sluicegate_model::route::{
    Actions, Answer, Backend, Choice, Cors, Decision, HeaderChanges, Interests, ListenerInfo, Mirror, PathRewrite, Redirect, Rewrite,
    RouteTable, RouteView, Rule, ServiceRef, Transport,
};
use sluicegate_model::settings::Retry;
use sluicegate_model::snapshot::cookie;
use wasmtime::component::ResourceAny;
use wasmtime::{Engine, Store};

use crate::bindings::router as wit;
use crate::bindings::router::exports::sluicegate::plugin::routing;
use crate::state::{State, arm_call, arm_configure, explain};

/// A router may have this many rules, and each this many backends and filters.
const MAX_RULES: usize = 65_536;

/// One generation of a router.
pub struct WasmRouter {
    pub(crate) pre: wit::RouterPre<State>,
    pub(crate) engine: Engine,
    pub(crate) limits: Limits,
    pub(crate) generation: Arc<Generation>,
}

impl RouterGeneration for WasmRouter {
    fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    fn configure(&self, config: &str, listener: &ListenerInfo) -> Result<RouteTable, PluginError> {
        let mut live = self.start(None)?;
        let (_, configured) = live.configure(config, listener)?;
        let refuse = |reason| PluginError { plugin: self.generation.plugin.clone(), stage: Stage::Configure, reason };
        let table = raise(configured, config, listener).map_err(refuse)?;
        let table = Arc::new(table);
        // Tried before any traffic is: a plain request, and one with everything it said it reads.
        let headers: HeaderMap = table.interests.headers.iter().map(|name| (name.clone(), HeaderValue::from_static("trial"))).collect();
        let mut trial = Instance { live: Some(Box::new(live)), ..self.instance(None) };
        for headers in [HeaderMap::new(), headers] {
            let view = RouteView {
                method: "GET",
                host: "trial.invalid",
                path: "/trial",
                query: "",
                headers: &headers,
                client: [127, 0, 0, 1].into(),
            };
            trial.try_route(&table, &view).map_err(|e| PluginError { stage: Stage::Trial, ..e })?;
        }
        drop(trial);
        Arc::into_inner(table).ok_or_else(|| refuse("the table is still in use after its trial".to_owned()))
    }

    fn instantiate(&self) -> Result<Box<dyn Router>, PluginError> {
        Ok(Box::new(self.instance(None)))
    }
}

impl WasmRouter {
    /// What its instances are held to.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// An instance whose random bits follow from `seed`.
    pub fn seeded(&self, seed: u64) -> Instance {
        self.instance(Some(seed))
    }

    fn instance(&self, seed: Option<u64>) -> Instance {
        Instance { router: self.clone_parts(), seed, live: None, calls: 0 }
    }

    fn clone_parts(&self) -> Self {
        Self { pre: self.pre.clone(), engine: self.engine.clone(), limits: self.limits.clone(), generation: self.generation.clone() }
    }

    fn start(&self, seed: Option<u64>) -> Result<Live, PluginError> {
        let state = State::new(self.generation.plugin.clone(), self.limits.clone());
        let mut store = match seed {
            Some(seed) => state.seeded(seed),
            None => state,
        }
        .store(&self.engine);
        arm_configure(&mut store);
        let guest = self.pre.instantiate(&mut store).map_err(|e| explain(store.data(), Stage::Instantiate, &e))?;
        Ok(Live { store, guest, tables: HashMap::default() })
    }
}

struct Live {
    store: Store<State>,
    guest: wit::Router,
    tables: HashMap<u64, ResourceAny, FxBuildHasher>,
}

impl Live {
    fn configure(&mut self, config: &str, listener: &ListenerInfo) -> Result<(ResourceAny, routing::Configured), PluginError> {
        arm_configure(&mut self.store);
        let info = routing::Listener {
            name: &listener.name,
            port: listener.port,
            transport: match listener.transport {
                Transport::Http => routing::Transport::Http,
                Transport::Tls => routing::Transport::Tls,
                Transport::Tcp => routing::Transport::Tcp,
                Transport::Udp => routing::Transport::Udp,
            },
            hostname: listener.hostname.as_deref(),
            namespace: &listener.namespace,
        };
        let configured = self.guest.sluicegate_plugin_routing().table().call_configure(&mut self.store, config, info);
        configured.map_err(|e| explain(self.store.data(), Stage::Configure, &e))?.map_err(|reason| PluginError {
            plugin: self.store.data().plugin.clone(),
            stage: Stage::Configure,
            reason,
        })
    }

    fn table(&mut self, table: &RouteTable) -> Result<ResourceAny, PluginError> {
        if let Some(resource) = self.tables.get(&table.id) {
            return Ok(*resource);
        }
        let (resource, _) = self.configure(&table.config, &table.listener)?;
        self.tables.insert(table.id, resource);
        Ok(resource)
    }
}

/// One worker's instance.
pub struct Instance {
    router: WasmRouter,
    /// Of its random bits; none: nobody knows them.
    seed: Option<u64>,
    /// Boxed: it is taken out for each call, so that whatever fails drops it.
    live: Option<Box<Live>>,
    calls: u64,
}

impl Instance {
    /// The guest's linear memory, in bytes; 0 before the first call and after a failure.
    pub fn memory(&self) -> usize {
        self.live.as_ref().map_or(0, |live| live.store.data().memory)
    }

    /// What is left of its fuel, which each instruction takes from; only under [`crate::Loader::metered`].
    pub fn fuel(&self) -> Option<u64> {
        self.live.as_ref()?.store.get_fuel().ok()
    }

    fn try_route(&mut self, table: &RouteTable, view: &RouteView<'_>) -> Result<Decision, PluginError> {
        let mut live = match self.live.take() {
            Some(live) => live,
            None => Box::new(self.router.start(self.seed)?),
        };
        let resource = live.table(table)?;
        arm_call(&mut live.store);
        let routed =
            lower(table, view, |request| live.guest.sluicegate_plugin_routing().table().call_route(&mut live.store, resource, request));
        let decision = routed.map_err(|e| explain(live.store.data(), Stage::Route, &e))?;
        let refuse = |reason| PluginError { plugin: self.router.generation.plugin.clone(), stage: Stage::Route, reason };
        let decision = match decision {
            routing::Decision::NoMatch => Decision::NoMatch,
            routing::Decision::Answer(answer) => Decision::Answer(raise_answer(answer).map_err(refuse)?),
            routing::Decision::Matched(choice) => {
                let (rule, backend) = (choice.rule as usize, choice.backend.map(|b| b as usize));
                let Some(found) = table.rules.get(rule) else {
                    return Err(refuse(format!("chose rule {rule} of {}: out of range", table.rules.len())));
                };
                if let Some(backend) = backend.filter(|b| *b >= found.backends.len()) {
                    return Err(refuse(format!(
                        "chose backend {backend} of rule {rule}, which has {}: out of range",
                        found.backends.len()
                    )));
                }
                Decision::Matched(Choice { rule, backend, matched_prefix: choice.matched_prefix as usize })
            }
        };
        self.live = Some(live);
        Ok(decision)
    }
}

impl Router for Instance {
    fn route(&mut self, table: &Arc<RouteTable>, view: &RouteView<'_>) -> Result<Decision, PluginError> {
        self.calls += 1;
        let begun = self.calls.is_multiple_of(64).then(Instant::now);
        let routed = self.try_route(table, view);
        let stats = &self.router.generation.stats;
        match &routed {
            Ok(_) => stats.succeeded(),
            Err(error) => {
                if stats.failed(error) {
                    tracing::error!(%error, generation = self.router.generation.number, "the generation failed too often and is quarantined");
                }
            }
        }
        if let Some(begun) = begun {
            stats.nanos.fetch_add(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
            stats.timed.fetch_add(1, Ordering::Relaxed);
            let memory = self.live.as_ref().map_or(0, |live| live.store.data().memory);
            stats.memory.fetch_max(memory as u64, Ordering::Relaxed);
        }
        routed
    }

    fn retain(&mut self, alive: &dyn Fn(u64) -> bool) {
        let Some(live) = &mut self.live else { return };
        let dead: Vec<u64> = live.tables.keys().copied().filter(|id| !alive(*id)).collect();
        for id in dead {
            if let Some(table) = live.tables.remove(&id) {
                arm_configure(&mut live.store);
                if table.resource_drop(&mut live.store).is_err() {
                    self.live = None;
                    return;
                }
            }
        }
    }
}

/// Hands over the request, borrowed; only what the router declared crosses the boundary.
fn lower<T>(table: &RouteTable, view: &RouteView<'_>, call: impl FnOnce(routing::Request<'_>) -> T) -> T {
    let interests = &table.interests;
    let method = method(view.method);
    if interests.is_empty() {
        return call(routing::Request { method, host: view.host, path: view.path, values: None });
    }
    let headers: Vec<Option<Cow<'_, str>>> = interests.headers.iter().map(|name| joined(view.headers, name)).collect();
    let cookies = interests.cookies.iter().map(|name| cookie(view.headers, name));
    let client = interests.client.then(|| view.client.to_string());
    let query = interests.query.then_some(Some(view.query));
    let values = headers.iter().map(Option::as_deref).chain(cookies).chain(query).chain(client.as_deref().map(Some));
    let values: Vec<Option<&str>> = values.collect();
    call(routing::Request { method, host: view.host, path: view.path, values: Some(&values) })
}

fn method(method: &str) -> routing::Method<'_> {
    match method {
        "GET" => routing::Method::Get,
        "HEAD" => routing::Method::Head,
        "POST" => routing::Method::Post,
        "PUT" => routing::Method::Put,
        "DELETE" => routing::Method::Delete,
        "OPTIONS" => routing::Method::Options,
        "PATCH" => routing::Method::Patch,
        other => routing::Method::Other(other),
    }
}

/// Repeated fields joined as RFC 9110 §5.2 says; bytes that are not UTF-8 are replaced.
fn joined<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<Cow<'h, str>> {
    let mut values = headers.get_all(name).iter();
    let mut value = String::from_utf8_lossy(values.next()?.as_bytes());
    for next in values {
        let value = value.to_mut();
        value.push_str(", ");
        value.push_str(&String::from_utf8_lossy(next.as_bytes()));
    }
    Some(value)
}

fn raise(configured: routing::Configured, config: &str, listener: &ListenerInfo) -> Result<RouteTable, String> {
    if configured.rules.len() > MAX_RULES {
        return Err(format!("{} rules are more than {MAX_RULES}", configured.rules.len()));
    }
    let at = |i: usize| move |e: String| format!("rules[{i}]: {e}");
    let rules = configured.rules.into_iter().enumerate().map(|(i, rule)| raise_rule(rule, &listener.namespace).map_err(at(i)));
    let headers = configured.interests.headers.iter().map(|name| header_name(name));
    Ok(RouteTable {
        id: unique(),
        config: config.into(),
        listener: listener.clone(),
        rules: rules.collect::<Result<_, _>>()?,
        interests: Interests {
            headers: headers.collect::<Result<_, _>>()?,
            cookies: configured.interests.cookies,
            query: configured.interests.query,
            client: configured.interests.client,
        },
    })
}

fn raise_rule(rule: routing::Rule, namespace: &str) -> Result<Rule, String> {
    let backends = rule
        .backends
        .into_iter()
        .map(|b| Ok(Backend { service: service(b.service, namespace), weight: b.weight, actions: actions(b.filters, namespace)? }));
    Ok(Rule {
        name: rule.name,
        actions: actions(rule.filters, namespace)?,
        backends: backends.collect::<Result<_, String>>()?,
        request_timeout: rule.request_timeout.map(milliseconds),
        backend_timeout: rule.backend_timeout.map(milliseconds),
        retry: rule.retry.map(retry).transpose()?.map(Box::new),
    })
}

fn milliseconds(number: u32) -> Duration {
    Duration::from_millis(number.into())
}

fn retry(retry: routing::Retry) -> Result<Retry, String> {
    if let Some(status) = retry.statuses.iter().find(|status| !(400..600).contains(*status)) {
        return Err(format!("retry: {status} is not the status of an error (400-599)"));
    }
    if let Some(attempts) = retry.attempts.filter(|n| *n > Retry::MOST_TIMES) {
        return Err(format!("retry: {attempts} attempts are more than {}", Retry::MOST_TIMES));
    }
    let mut statuses = retry.statuses;
    statuses.sort_unstable();
    statuses.dedup();
    Ok(Retry::of_rule(retry.attempts, statuses, retry.back_off.map(milliseconds)))
}

fn service(service: routing::ServiceRef, namespace: &str) -> ServiceRef {
    ServiceRef { namespace: service.namespace.unwrap_or_else(|| namespace.to_owned()), name: service.name, port: service.port }
}

fn actions(filters: Vec<routing::Filter>, namespace: &str) -> Result<Actions, String> {
    let mut actions = Actions::default();
    for filter in filters {
        match filter {
            routing::Filter::RequestHeaders(changes) => merge(&mut actions.request_headers, changes)?,
            routing::Filter::ResponseHeaders(changes) => merge(&mut actions.response_headers, changes)?,
            routing::Filter::Rewrite(rewrite) => {
                let hostname = rewrite.hostname.map(|h| header_value(&h)).transpose()?;
                actions.rewrite = Some(Rewrite { hostname, path: rewrite.path.map(path) });
            }
            routing::Filter::Redirect(to) => {
                let status = status(to.status)?;
                actions.redirect =
                    Some(Redirect { scheme: to.scheme, hostname: to.hostname, path: to.path.map(path), port: to.port, status });
            }
            routing::Filter::Answer(answer) => actions.answer = Some(raise_answer(answer)?),
            routing::Filter::Mirror(mirror) => actions.mirrors.push(Mirror {
                service: service(mirror.backend, namespace),
                numerator: mirror.numerator,
                denominator: mirror.denominator.max(1),
            }),
            routing::Filter::Cors(cors) => {
                actions.cors = Some(Cors {
                    allow_origins: cors.allow_origins,
                    allow_methods: cors.allow_methods,
                    allow_headers: cors.allow_headers,
                    expose_headers: cors.expose_headers,
                    allow_credentials: cors.allow_credentials,
                    max_age_seconds: cors.max_age_seconds,
                });
            }
        }
    }
    Ok(actions)
}

fn path(path: routing::PathRewrite) -> PathRewrite {
    match path {
        routing::PathRewrite::Full(path) => PathRewrite::Full(path),
        routing::PathRewrite::Prefix(path) => PathRewrite::Prefix(path),
    }
}

fn raise_answer(answer: routing::Answer) -> Result<Answer, String> {
    let mut headers = HeaderMap::new();
    for header in answer.headers {
        headers.append(header_name(&header.name)?, header_value(&header.value)?);
    }
    Ok(Answer { status: status(answer.status)?, headers, body: answer.body })
}

fn merge(changes: &mut HeaderChanges, more: routing::HeaderChanges) -> Result<(), String> {
    let field = |h: routing::Header| Ok::<_, String>((header_name(&h.name)?, header_value(&h.value)?));
    changes.set.extend(more.set.into_iter().map(field).collect::<Result<Vec<_>, _>>()?);
    changes.add.extend(more.add.into_iter().map(field).collect::<Result<Vec<_>, _>>()?);
    changes.remove.extend(more.remove.iter().map(|n| header_name(n)).collect::<Result<Vec<_>, _>>()?);
    let names = changes.set.iter().chain(&changes.add).map(|(name, _)| name).chain(&changes.remove);
    match names.into_iter().find(|name| **name == HOST) {
        Some(_) => Err("Host is changed by a rewrite, not by a header change".to_owned()),
        None => Ok(()),
    }
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    name.parse().map_err(|_| format!("{name:?} is not a header field's name"))
}

fn header_value(value: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(value).map_err(|_| format!("{value:?} is not a header field's value"))
}

fn status(status: u16) -> Result<StatusCode, String> {
    StatusCode::from_u16(status)
        .ok()
        .filter(|s| s.as_u16() >= 200 && s.as_u16() < 600)
        .ok_or_else(|| format!("{status} is not a final HTTP status (200-599)"))
}
