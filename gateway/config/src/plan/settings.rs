//! The settings that policies make for a service port or a listener, with their defaults.

use std::cell::RefCell;
use std::collections::VecDeque;

use sluicegate_model::settings::{
    BackendSettings, Budget, ClientHttp3, ClientSettings, Keepalive, ProxyProtocol, ProxyVersion, UdpSettings,
};

use super::compile::Compiler;
use super::x_policies::Constraints;
use super::*;
use crate::object::ours::{BackendTrafficPolicySpec, ClientHttp3Policy, ClientTrafficPolicySpec, ProxyProtocolVersion, TcpKeepalive};
use crate::object::{BackendTrafficPolicy, ClientTrafficPolicy};

/// Settings that are shared instead of being held thousands of times: those that count where no policy does, and those that many policies make alike.
#[derive(Default)]
pub(super) struct Defaults {
    backend: Arc<BackendSettings>,
    client: Arc<ClientSettings>,
    /// The settings that policies made lately.
    lately: RefCell<VecDeque<Arc<BackendSettings>>>,
}

/// How many settings [`Defaults::lately`] holds. Policies mostly follow a few patterns, and each new one is compared with all of these.
const LATELY: usize = 16;

impl Defaults {
    /// Returns the equal settings that are held already, or else these.
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
    /// Resolves the settings of a service port. `policy` is the policy that counts for it, with its object; `constraints` are those of the Service's
    /// XBackendTrafficPolicy.
    pub(super) fn backend_settings(
        &mut self,
        policy: Option<(&Arc<Object>, &BackendTrafficPolicy)>,
        constraints: Constraints,
        protocol: AppProtocol,
    ) -> Arc<BackendSettings> {
        let Some((_object, policy)) = policy else {
            let Constraints { budget, session } = constraints;
            if budget.is_none() && session.is_none() {
                return self.defaults.backend.clone();
            }
            return self.defaults.shared(BackendSettings { budget, session, ..BackendSettings::default() });
        };
        self.defaults.shared(backend(&policy.spec, constraints, protocol))
    }

    /// Resolves the settings of a listener's clients. `policy` is the policy that counts for the listener, with its object.
    pub(super) fn client_settings(&mut self, policy: Option<(&Arc<Object>, &ClientTrafficPolicy)>) -> Arc<ClientSettings> {
        let Some((_object, policy)) = policy else { return self.defaults.client.clone() };
        Arc::new(client(&policy.spec))
    }
}

fn backend(spec: &BackendTrafficPolicySpec, constraints: Constraints, protocol: AppProtocol) -> BackendSettings {
    let Constraints { budget, session } = constraints;
    BackendSettings {
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
        udp: UdpSettings { idle: spec.timeout.udp.idle_timeout.map(|s| s.0) },
        http2: http2::backend(&spec.http2),
        upgrades: http2::upgrades(spec),
        request_trailers: forwarding::request_trailers(spec),
        health: health::resolve(spec, protocol),
    }
}

fn client(spec: &ClientTrafficPolicySpec) -> ClientSettings {
    ClientSettings {
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
        http3: spec
            .http3
            .as_ref()
            .filter(|_| ClientHttp3Policy::why_not(spec).is_none())
            .map(|http3| ClientHttp3 { advertised_port: http3.advertised_port }),
    }
}

/// Joins the retry budgets of the Gateway API's policy and of ours. The former counts first, but only ours limits the tries under way.
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

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;
    use crate::settings;

    /// Reads a policy twice: as it is, and with all numbers and times written out that the documentation of its fields gives as defaults. Fields within
    /// `without` are left out, as their defaults count only where something else is set. Also returns how many defaults were written out.
    fn with_defaults<T: DeserializeOwned>(kind: &str, policy: &Value, without: &[&str]) -> (T, T, usize) {
        let (mut written, mut count) = (policy.clone(), 0);
        for setting in settings::of_kind(kind) {
            let default = setting.default.split([' ', ',', ';', ':', '.']).next().unwrap_or_default();
            let left_out = without.iter().any(|part| setting.field.starts_with(part));
            if left_out || !default.starts_with(|c: char| c.is_ascii_digit()) {
                continue;
            }
            let value = default.parse::<u64>().map_or_else(|_| Value::from(default), Value::from);
            let field = setting.field.split('.').fold(&mut written, |within, name| &mut within[name]);
            *field = value;
            count += 1;
        }
        let read = |value: &Value| serde_json::from_value(value.clone()).expect("a policy");
        (read(policy), read(&written), count)
    }

    #[test]
    fn the_defaults_that_are_told_are_those_that_count() {
        let policy = json!({
            "targetRefs": [], "loadBalancer": {"slowStart": {"window": "10s"}}, "healthCheck": {"active": {"type": "TCP"}, "passive": {}},
            "retry": {"budget": {"minRetryRate": {}}, "perRetry": {"backOff": {}}}, "http2": {"connectionKeepalive": {"interval": "9s"}},
        });
        // A connect time-out that is set holds for each try, whereas its default holds for the last one only. A flow's idle time-out that is set counts before
        // what a Gateway's policy says.
        let without = [
            "rateLimit",
            "tls",
            "healthCheck.active.http",
            "healthCheck.active.grpc",
            "timeout.tcp.connectTimeout",
            "timeout.udp.idleTimeout",
        ];
        let (without, written, count) = with_defaults::<BackendTrafficPolicySpec>("BackendTrafficPolicy", &policy, &without);
        assert_eq!(
            backend(&without, Constraints::default(), AppProtocol::Http),
            backend(&written, Constraints::default(), AppProtocol::Http)
        );
        assert!(count > 25, "only {count}");
        let policy = json!({"targetRefs": [], "minDataRate": {"bytesPerSecond": 1}, "headers": {"traceContext": {}}});
        let (without, written, count) = with_defaults::<ClientTrafficPolicySpec>("ClientTrafficPolicy", &policy, &["rateLimit", "tls"]);
        assert_eq!(client(&without), client(&written));
        assert!(count > 10, "only {count}");
    }
}
