//! What policies say of a service port or a listener, resolved.

use std::cell::RefCell;
use std::collections::VecDeque;

use sluicegate_model::settings::{BackendSettings, Budget, ClientSettings, Keepalive, ProxyProtocol, ProxyVersion, UdpSettings};

use super::compile::Compiler;
use super::x_policies::Constraints;
use super::*;
use crate::object::ours::{ProxyProtocolVersion, TcpKeepalive};
use crate::object::{BackendTrafficPolicy, ClientTrafficPolicy};

/// Settings that are held once and not thousands of times: those of all for whom no policy counts, and what policies mostly come to.
#[derive(Default)]
pub(super) struct Defaults {
    backend: Arc<BackendSettings>,
    client: Arc<ClientSettings>,
    /// Those that policies came to lately.
    lately: RefCell<VecDeque<Arc<BackendSettings>>>,
}

/// So many of [`Defaults::lately`] are remembered: policies are mostly written after a few patterns, and each is compared with these.
const LATELY: usize = 16;

impl Defaults {
    /// The same settings as others have them, if they do.
    fn shared(&self, made: BackendSettings) -> Arc<BackendSettings> {
        let mut lately = self.lately.borrow_mut();
        if let Some(known) = lately.iter().find(|known| ***known == made) {
            return known.clone();
        }
        let made = Arc::new(made);
        lately.truncate(LATELY - 1);
        lately.push_front(made.clone());
        made
    }
}

impl Compiler<'_> {
    /// `policy`: the one that counts for the service port, and its object. `constraints` are those of the Service's XBackendTrafficPolicy.
    pub(super) fn backend_settings(
        &mut self,
        policy: Option<(&Arc<Object>, &BackendTrafficPolicy)>,
        constraints: Constraints,
        protocol: AppProtocol,
    ) -> Arc<BackendSettings> {
        let Constraints { budget, session } = constraints;
        let Some((_object, policy)) = policy else {
            if budget.is_none() && session.is_none() {
                return self.defaults.backend.clone();
            }
            return self.defaults.shared(BackendSettings { budget, session, ..BackendSettings::default() });
        };
        let spec = &policy.spec;
        self.defaults.shared(BackendSettings {
            timeouts: limits::backend_timeouts(spec),
            retry: spec.retry.as_deref().map(limits::retry),
            budget: joined(budget, spec.retry.as_ref().and_then(|retry| retry.budget.as_ref()).map(limits::budget)),
            session,
            breaker: limits::breaker(spec),
            rates: limits::rates(spec.rate_limit.as_ref()),
            keepalive: keepalive(spec.tcp_keepalive),
            proxy_protocol: spec.proxy_protocol.map(|p| match p.version {
                ProxyProtocolVersion::V1 => ProxyVersion::V1,
                ProxyProtocolVersion::V2 => ProxyVersion::V2,
            }),
            udp: UdpSettings { idle: spec.timeout.udp.idle_timeout.map_or(UdpSettings::default().idle, |s| s.0) },
            http2: http2::backend(&spec.http2),
            upgrades: http2::upgrades(spec),
            request_trailers: forwarding::request_trailers(spec),
            health: health::resolve(spec, protocol),
        })
    }

    /// `policy`: the one that counts for the listener, and its object.
    pub(super) fn client_settings(&mut self, policy: Option<(&Arc<Object>, &ClientTrafficPolicy)>) -> Arc<ClientSettings> {
        let Some((_object, policy)) = policy else { return self.defaults.client.clone() };
        let spec = &policy.spec;
        Arc::new(ClientSettings {
            timeouts: limits::client_timeouts(spec),
            connections: limits::connections(spec),
            head: limits::head(spec),
            content: limits::content(spec),
            rates: limits::rates(spec.rate_limit.as_ref()),
            keepalive: keepalive(spec.tcp_keepalive),
            tcp_idle: spec.timeout.tcp.idle_timeout.map(|s| s.0).filter(|s| !s.is_zero()),
            proxy_protocol: spec
                .proxy_protocol
                .as_ref()
                .map(|p| ProxyProtocol { trusted: p.trusted_cidrs.iter().map(|network| network.0).collect(), optional: p.optional }),
            sources: Vec::new(),
            trust: forwarding::trust(spec),
            headers: forwarding::headers(spec),
            path: forwarding::path(spec),
            http2: http2::client(&spec.http2),
        })
    }
}

/// A budget of the Gateway API's policy counts before ours, which alone limits the tries under way.
fn joined(standard: Option<Budget>, ours: Option<Budget>) -> Option<Budget> {
    let Some(standard) = standard else { return ours };
    Some(Budget { least: ours.map_or(standard.least, |ours| ours.least), ..standard })
}

fn keepalive(given: Option<TcpKeepalive>) -> Keepalive {
    let (given, defaults) = (given.unwrap_or_default(), Keepalive::default());
    Keepalive {
        idle: given.idle_time.map_or(defaults.idle, |s| s.0),
        interval: given.interval.map_or(defaults.interval, |s| s.0),
        probes: given.probes.or(defaults.probes),
    }
}
