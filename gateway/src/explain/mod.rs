//! What would become of a request, by the very plugins that decide it, without sending anything. `sluicegate explain` asks about a configuration that it has read
//! ([`World`]), and the admin API about the one that is served ([`running()`]).

mod ask;
mod health;
mod pool;
mod request;
mod rivals;
mod running;
mod tls;
mod written;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use sluicegate_decide::way::{self, Forwarded, Unrouted};
use sluicegate_model::escape;
use sluicegate_model::explain::{Explanation, Line, Question};
use sluicegate_model::family::IpFamily;
use sluicegate_model::route::{Actions, Protocol, RouteView};
use sluicegate_model::settings::contains;
use sluicegate_model::snapshot::{Front, Listener, RouterRung, ServiceSide, Snapshot, Target, TlsMode};
use sluicegate_model::status::Status;

use ask::AskedRouters;
pub(crate) use running::running;
pub(crate) use written::{Planned, Written};

/// The request asked about.
pub(crate) struct Asked {
    method: String,
    /// The target, as a client would write it.
    target: String,
    host: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    client: IpAddr,
    port: u16,
    protocol: Protocol,
    address: Option<IpAddr>,
}

impl Asked {
    /// A request as it is asked about. The error says what is wrong with it.
    pub(crate) fn of(question: &Question) -> Result<Self, String> {
        let headers = question.headers.iter().map(|(name, value)| field(name, value)).collect::<Result<Vec<_>, _>>()?;
        // The URL is taken as it is written, as the gateway's answer to what a parser would mend is wanted. A fragment is the client's own.
        let url = question.url.split('#').next().unwrap_or_default();
        let (authority, target) = match url.split_once("://") {
            Some((_, rest)) => rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())),
            None => ("", url),
        };
        let target = match target {
            "" => "/".to_owned(),
            query if query.starts_with('?') => format!("/{query}"),
            target => target.to_owned(),
        };
        let named = headers.iter().find(|(name, _)| name == header::HOST).and_then(|(_, host)| host.to_str().ok());
        let literal: Option<IpAddr> = split_port(authority).trim_matches(['[', ']']).parse().ok();
        let address = question.address.or(literal);
        // A client that is given an address as the host sends that.
        let local = || SocketAddr::new(address.unwrap_or(IpAddr::from([127, 0, 0, 1])), question.port).to_string();
        let host = named.map_or_else(|| if authority.is_empty() { local() } else { authority.to_owned() }, str::to_owned);
        let mut with_host = headers.clone();
        if named.is_none() {
            with_host.insert(0, (header::HOST, host.parse().map_err(|_| format!("{host:?} is not a host"))?));
        }
        Ok(Self {
            method: question.method.clone(),
            target,
            host: split_port(&host).to_ascii_lowercase(),
            headers: with_host,
            client: question.client,
            port: question.port,
            protocol: if question.udp { Protocol::Udp } else { Protocol::Tcp },
            address,
        })
    }

    fn as_written(&self) -> sluicegate_proxy::Asked<'_> {
        let (method, target, headers) = (self.method.as_str(), self.target.as_str(), self.headers.as_slice());
        sluicegate_proxy::Asked { method, target, headers, client: self.client, server_name: &self.host }
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// A header field of a question.
pub(crate) fn field(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let known = name.parse().map_err(|_| format!("{name:?} is not a header field's name"))?;
    Ok((known, value.parse().map_err(|_| format!("{value:?} is not a header field's value"))?))
}

/// What was found out so far, line by line.
#[derive(Default)]
struct Story(Vec<Line>);

impl Story {
    fn say(&mut self, topic: &str, text: impl std::fmt::Display) {
        self.0.push(Line { topic: topic.to_owned(), text: escape::line(&text.to_string()).into_owned() });
    }
}

/// Why the request gets no further.
struct End(String);

/// A connection that is reset, or a flow whose datagrams are dropped.
fn dropped(why: &str) -> End {
    End(format!("reset (TCP) or dropped (UDP): {why}"))
}

fn split_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Where the request comes.
pub(crate) struct World<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) status: &'a Status,
    /// How what is served is written.
    pub(crate) written: &'a dyn Written,
    /// Whether it is served: then what is known of endpoints counts.
    pub(crate) serves: bool,
}

impl<'a> World<'a> {
    /// What would become of a request here.
    pub(crate) fn explanation(&self, asked: &Asked) -> Explanation {
        let mut story = Story::default();
        let end = self.explain(asked, &mut story).err();
        Explanation { lines: story.0, end: end.map(|End(why)| why) }
    }

    fn explain(&self, asked: &Asked, story: &mut Story) -> Result<(), End> {
        let listener = self.listener(asked)?;
        let kind = match &listener.front {
            Front::Tcp(_) => "TCP, by connection",
            Front::Udp(_) => "UDP, by flow",
            Front::Http(_) => "HTTP, by request",
            Front::Tls(_) => "TLS, by server name",
        };
        story.say("listener", format!("{} on {} ({kind})", listener.name, listener.address));
        let sources = &listener.settings.sources;
        if !sources.is_empty() && !contains(sources, asked.client) {
            return Err(End("refused: loadBalancerSourceRanges does not let this client in".to_owned()));
        }
        let target = match &listener.front {
            Front::Http(_) => None,
            Front::Tcp(target) | Front::Udp(target) => Some(target),
            Front::Tls(hosts) => {
                let host = tls::explain(asked, hosts, story)?;
                (!matches!(host.mode, TlsMode::Http(_))).then_some(&host.target)
            }
        };
        let Some(target) = target else {
            let Some((service, side, arrived)) = request::explain(self, asked, listener, story)? else { return Ok(()) };
            return self.pick(asked, service, side, arrived.as_ref(), story);
        };
        let to = self.forward(asked, target, &listener.front, story)?;
        let service = self.snapshot.services.get(&to.service).ok_or_else(|| dropped("bad-backend"))?;
        self.pick(asked, service, to.side, None, story)
    }

    /// The listeners, in the order of their addresses.
    fn listeners(&self) -> Vec<&'a Arc<Listener>> {
        self.snapshot.listeners.sorted().into_iter().map(|(_, listener)| listener).collect()
    }

    fn listener(&self, asked: &Asked) -> Result<&'a Listener, End> {
        let on_port: Vec<_> =
            self.listeners().into_iter().filter(|l| l.address.port() == asked.port && l.front.protocol() == asked.protocol).collect();
        let fits = |l: &&std::sync::Arc<Listener>| {
            let ip = l.address.ip();
            asked.address.is_none_or(|wanted| ip == wanted)
                && (asked.address.is_some() || !ip.is_unspecified() || IpFamily::of(ip) == IpFamily::of(asked.client))
        };
        let exact: Vec<_> = on_port.iter().copied().filter(|l| fits(l)).collect();
        // Each IP family has a listener of its own.
        let family = IpFamily::of(asked.address.unwrap_or(asked.client));
        let of_family = |l: &&Arc<Listener>| l.address.ip().is_unspecified() && IpFamily::of(l.address.ip()) == family;
        let any: Vec<_> = on_port.iter().copied().filter(of_family).collect();
        let list = |listeners: &[&std::sync::Arc<Listener>]| {
            listeners.iter().map(|l| format!("\n  {}  {}", l.address, escape::line(&l.name))).collect::<String>()
        };
        match (exact.as_slice(), any.as_slice()) {
            ([one], _) | ([], [one]) => Ok(one),
            ([], _) if on_port.is_empty() => {
                let all = self.listeners();
                let protocol = if asked.protocol == Protocol::Udp { "UDP port" } else { "port" };
                Err(End(format!("refused: nothing listens on {protocol} {}; what listens:{}", asked.port, list(&all))))
            }
            ([], _) => Err(End(format!("refused: nothing listens on that address; on port {}:{}", asked.port, list(&on_port)))),
            (several, _) => Err(End(format!("unclear: several listen on port {}, choose with --address:{}", asked.port, list(several)))),
        }
    }

    /// Where a connection or a flow goes.
    fn forward(&self, asked: &Asked, target: &Target, front: &Front, story: &mut Story) -> Result<ServiceSide, End> {
        let host = if matches!(front, Front::Tls(_)) { asked.host.as_str() } else { "" };
        let mut routers = AskedRouters::default();
        let headers = HeaderMap::new();
        let view = RouteView { method: "", host, path: "", query: "", headers: &headers, client: asked.client };
        let led = way::forward(target, host, &headers, asked.client, &mut routers);
        routers.tell_failures(story);
        match led {
            Ok(Forwarded { to, rule: None }) => {
                story.say("route", "none: the listener leads straight to its own service");
                Ok(to)
            }
            Ok(Forwarded { to, rule: Some((rung, choice)) }) => {
                request::tell_rule(self, rung, &choice, story);
                rivals::tell(self, rung, &choice, &view, story);
                Ok(to)
            }
            Err(Unrouted::Nothing) => Err(End("reset (TCP) or dropped (UDP): no router is attached to this listener".to_owned())),
            Err(Unrouted::RouterFailed) => Err(dropped("router-failed")),
            Err(Unrouted::NoMatch(rung)) => {
                let who = ask::who("router", rung.generation.generation());
                story.say("route", format!("{who}: none of {} rules matches", rung.table.rules.len()));
                Err(dropped("no-route"))
            }
            Err(Unrouted::BadBackend(rung, choice)) => {
                request::tell_rule(self, rung, &choice, story);
                rivals::tell(self, rung, &choice, &view, story);
                Err(dropped(&format!("bad-backend{}", request::no_backend(rung, &choice))))
            }
        }
    }

    /// Where the rule is written, for routers whose configuration has a list `rules` in the order of the table's, as `rules` has.
    fn rule(&self, rung: &RouterRung, index: usize, story: &mut Story) {
        let Some(place) = self.written.rule(rung, index) else { return };
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
