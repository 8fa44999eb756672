//! What policies of routes, listeners and Gateways say of traffic, whatever Service it goes to, and how that is merged with what the Service's policy says.

use std::time::Duration;

use super::{BackendSettings, BackendTimeouts, Retry};

/// Settings that may be a route's or a Gateway's. A field that is none says nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficSettings {
    /// How long an endpoint may take to accept a connection.
    pub connect: Option<Duration>,
    /// How long a whole exchange may take; zero: for ever.
    pub request: Option<Duration>,
    /// The longest an exchange may last, whatever its rule says; zero: no limit.
    pub stream: Option<Duration>,
    /// When an exchange is tried again.
    pub retry: Option<Retry>,
    /// A flow of UDP ends when nothing has moved in it for so long.
    pub flow_idle: Option<Duration>,
}

impl TrafficSettings {
    /// Whether they say nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes over what others say, where these say nothing.
    pub fn inherit(&mut self, others: &Self) {
        self.connect = self.connect.or(others.connect);
        self.request = self.request.or(others.request);
        self.stream = self.stream.or(others.stream);
        if self.retry.is_none() {
            self.retry.clone_from(&others.retry);
        }
        self.flow_idle = self.flow_idle.or(others.flow_idle);
    }
}

/// What policies say of the traffic of a rule, apart from those of the Service that it goes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleTraffic {
    /// What policies of the rule and its route say. It counts before what the Service's policy says.
    pub of_route: TrafficSettings,
    /// What policies of the listener and its Gateway say. It counts where nothing else is said.
    pub of_gateway: TrafficSettings,
}

impl RuleTraffic {
    /// Whether they say nothing.
    pub fn is_empty(&self) -> bool {
        self.of_route.is_empty() && self.of_gateway.is_empty()
    }

    /// The settings of a Service as they are for this rule. What protects the Service stays as its own policies have it: the budget of its retries,
    /// the content that is kept for them, and the longest that an exchange may last.
    #[must_use]
    pub fn merged(&self, service: &BackendSettings) -> BackendSettings {
        let Self { of_route, of_gateway } = self;
        let mut merged = service.clone();
        // A time that a policy sets holds for both.
        let default = BackendTimeouts::default();
        let unset = (service.timeouts.connect, service.timeouts.connect_elsewhere) == (default.connect, default.connect_elsewhere);
        if let Some(connect) = of_route.connect.or(of_gateway.connect.filter(|_| unset)) {
            (merged.timeouts.connect, merged.timeouts.connect_elsewhere) = (connect, connect);
        }
        merged.timeouts.request = of_route.request.or(service.timeouts.request).or(of_gateway.request);
        merged.timeouts.stream = match (of_route.stream, service.timeouts.stream) {
            (Some(own), Some(most)) if !most.is_zero() => Some(if own.is_zero() { most } else { own.min(most) }),
            (own, most) => own.or(most).or(of_gateway.stream),
        };
        merged.retry = match (&of_route.retry, &service.retry) {
            (Some(own), Some(service)) => Some(Retry { buffer: service.buffer, ..own.clone() }),
            (own, service) => own.as_ref().or(service.as_ref()).or(of_gateway.retry.as_ref()).cloned(),
        };
        merged.udp.idle = of_route.flow_idle.or(service.udp.idle).or(of_gateway.flow_idle);
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Budget;

    const fn seconds(n: u64) -> Option<Duration> {
        Some(Duration::from_secs(n))
    }

    fn retry(times: u32) -> Retry {
        Retry::of_rule(Some(times), Vec::new(), None)
    }

    #[test]
    fn a_route_counts_before_the_service_and_this_before_the_gateway() {
        let of = |n| TrafficSettings {
            connect: seconds(n),
            request: seconds(n),
            stream: None,
            retry: Some(retry(n as u32)),
            flow_idle: seconds(n),
        };
        let all = RuleTraffic { of_route: of(1), of_gateway: of(3) };
        let mut service = BackendSettings::default();
        service.timeouts.request = seconds(2);
        (service.timeouts.connect, service.timeouts.connect_elsewhere) = (Duration::from_secs(2), Duration::from_secs(2));
        service.retry = Some(retry(2));
        service.udp.idle = seconds(2);
        let said = |merged: &BackendSettings| {
            let connect = merged.timeouts.connect_elsewhere;
            (connect.as_secs(), merged.timeouts.request, merged.retry.as_ref().map(|retry| retry.times), merged.udp.idle().as_secs())
        };
        assert_eq!(said(&all.merged(&service)), (1, seconds(1), Some(1), 1));
        let of_gateway = RuleTraffic { of_route: TrafficSettings::default(), ..all };
        assert_eq!(of_gateway.merged(&service), service, "the Service's own policy counts before");
        assert_eq!(said(&of_gateway.merged(&BackendSettings::default())), (3, seconds(3), Some(3), 3));
        service.timeouts.request = seconds(0);
        assert_eq!(of_gateway.merged(&service).timeouts.request, seconds(0), "none is said, too");
        let mut own = TrafficSettings { request: seconds(9), ..TrafficSettings::default() };
        own.inherit(&of(5));
        assert_eq!(own, TrafficSettings { request: seconds(9), ..of(5) });
    }

    #[test]
    fn what_protects_a_service_is_its_own_to_say() {
        let budget = Some(Budget { percent: 5, ..Budget::default() });
        let mut service = BackendSettings { budget, retry: Some(Retry { buffer: 7, ..retry(2) }), ..BackendSettings::default() };
        service.timeouts.stream = seconds(10);
        let of = |stream| RuleTraffic {
            of_route: TrafficSettings { stream, retry: Some(retry(9)), ..TrafficSettings::default() },
            of_gateway: TrafficSettings { stream: seconds(3), ..TrafficSettings::default() },
        };
        let merged = of(seconds(20)).merged(&service);
        assert_eq!(merged.timeouts.stream, seconds(10));
        assert_eq!((merged.budget, merged.retry), (budget, Some(Retry { buffer: 7, ..retry(9) })));
        assert_eq!(of(seconds(0)).merged(&service).timeouts.stream, seconds(10));
        assert_eq!(of(seconds(5)).merged(&service).timeouts.stream, seconds(5));
        assert_eq!(of(None).merged(&service).timeouts.stream, seconds(10));
        assert_eq!(of(None).merged(&BackendSettings::default()).timeouts.stream, seconds(3));
        assert_eq!(of(seconds(0)).merged(&BackendSettings::default()).timeouts.stream, seconds(0));
    }
}
