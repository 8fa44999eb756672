//! A router's component of one version of the contract, and what is handed over to it and back. This file is compiled once for each version, as a
//! child of [`super`]'s modules: their types are alike, and yet not the same.

use std::borrow::Cow;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sluicegate_model::config_text::ConfigText;
use sluicegate_model::cookie::cookie;
use sluicegate_model::route::{
    Actions, Answer, Backend, Choice, Cors, Decision, HeaderChanges, Interests, ListenerInfo, Mirror, PathRewrite, Redirect, Rewrite,
    RouteTable, RouteView, Rule, ServiceRef, Transport,
};
use wasmtime::Store;
use wasmtime::component::ResourceAny;

use super::super::{MAX_RULES, Static};
use super::wit;
use super::wit::exports::sluicegate::plugin::routing;
use crate::direct::Handle;
use crate::router::sessions;
use crate::state::State;

/// An instance of a component.
pub(crate) struct Guest(pub(crate) wit::Router);

impl Guest {
    pub(crate) fn describe(&self, store: &mut Store<State>) -> wasmtime::Result<(String, String, String)> {
        let said = self.0.sluicegate_plugin_routing().call_describe(store)?;
        Ok((said.name, said.version, said.config_schema))
    }

    /// The guest's table, and what is static of it; or what is wrong with the configuration or with what the guest made of it.
    pub(crate) fn configure(
        &self,
        store: &mut Store<State>,
        config: &ConfigText,
        listener: &ListenerInfo,
    ) -> wasmtime::Result<Result<(Handle, Static), String>> {
        let config = config.whole();
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
        let configured = self.0.sluicegate_plugin_routing().table().call_configure(store, &config, info)?;
        Ok(configured.and_then(|(table, configured)| {
            let mut made = raise(configured, listener)?;
            sessions::add(&config, &mut made.rules)?;
            Ok((Handle::Component(table), made))
        }))
    }

    /// The decision; or what is wrong with it.
    pub(crate) fn route(
        &self,
        store: &mut Store<State>,
        resource: ResourceAny,
        (table, interests): (&RouteTable, &Interests),
        view: &RouteView<'_>,
    ) -> wasmtime::Result<Result<Decision, String>> {
        let routed = lower(interests, view, |request| self.0.sluicegate_plugin_routing().table().call_route(store, resource, request))?;
        Ok(decide(routed, table))
    }
}

pub(super) fn decide(decision: routing::Decision, table: &RouteTable) -> Result<Decision, String> {
    Ok(match decision {
        routing::Decision::NoMatch => Decision::NoMatch,
        routing::Decision::Answer(answer) => Decision::Answer(raise_answer(answer)?),
        routing::Decision::Matched(choice) => {
            let (rule, backend) = (choice.rule as usize, choice.backend.map(|b| b as usize));
            let Some(found) = table.rules.get(rule) else {
                return Err(format!("chose rule {rule} of {}: out of range", table.rules.len()));
            };
            if let Some(backend) = backend.filter(|b| *b >= found.backends.len()) {
                return Err(format!("chose backend {backend} of rule {rule}, which has {}: out of range", found.backends.len()));
            }
            Decision::Matched(Choice { rule, backend, matched_prefix: choice.matched_prefix as usize })
        }
    })
}

/// Hands a request over, borrowed. Only what the router has declared crosses the boundary.
pub(super) fn lower<T>(interests: &Interests, view: &RouteView<'_>, call: impl FnOnce(routing::Request<'_>) -> T) -> T {
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

/// The value of a field. Repeated fields are joined as RFC 9110 §5.2 says, and bytes that are not UTF-8 are replaced.
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

pub(super) fn raise(configured: routing::Configured, listener: &ListenerInfo) -> Result<Static, String> {
    if configured.rules.len() > MAX_RULES {
        return Err(format!("{} rules are more than {MAX_RULES}", configured.rules.len()));
    }
    let at = |i: usize| move |e: String| format!("rules[{i}]: {e}");
    let rules = configured.rules.into_iter().enumerate().map(|(i, rule)| raise_rule(rule, &listener.namespace).map_err(at(i)));
    let rules = rules.collect::<Result<Vec<_>, _>>()?;
    Ok(Static { count: rules.len(), rules, interests: raise_interests(configured.interests)? })
}

pub(super) fn raise_interests(interests: routing::Interests) -> Result<Interests, String> {
    let headers = interests.headers.iter().map(|name| header_name(name)).collect::<Result<_, _>>()?;
    Ok(Interests { headers, cookies: interests.cookies, query: interests.query, client: interests.client })
}

fn raise_rule(mut rule: routing::Rule, namespace: &str) -> Result<Rule, String> {
    let retry = super::retry(&mut rule)?.map(Box::new);
    // There may be ten thousand rules, most of which have one backend of several hundred bytes: room for more is not kept.
    let mut backends = Vec::with_capacity(rule.backends.len());
    for b in rule.backends {
        backends.push(Backend { service: service(b.service, namespace), weight: b.weight, actions: actions(b.filters, namespace)? });
    }
    Ok(Rule {
        name: rule.name,
        actions: actions(rule.filters, namespace)?,
        backends,
        request_timeout: super::timeout(rule.request_timeout),
        backend_timeout: super::timeout(rule.backend_timeout),
        retry,
        session: None,
    })
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
