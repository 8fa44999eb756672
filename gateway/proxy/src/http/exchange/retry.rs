//! When an exchange is tried again, and where: the rules, apart from sending. What [`send`](mod@super::send) makes of a try is an [`Outcome`]; [`Tries`] says
//! whether there is another.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use rand::RngExt as _;
use sluicegate_model::settings::{Retry, Trigger, Triggers};
use sluicegate_model::slots::Slot;
use sluicegate_model::snapshot::ServicePort;
use sluicegate_model::stats::count;

use crate::endpoint::TRIES;
use crate::h1::Framing;
use crate::http::body::{Kept, RequestBody};
use crate::http::rules::deferred::Deferred;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The pause before an endpoint is tried again that has just failed, if no pause is configured.
const SAME_ENDPOINT_PAUSE: Duration = Duration::from_millis(25);

/// The outcome of a try that may be followed by another.
#[derive(Clone, Copy)]
pub(in crate::http) enum Outcome<'h> {
    /// There was no connection.
    NoConnection,
    /// The try broke before the response's head had come.
    Broke {
        /// Whether nothing of the request had left.
        unsent: bool,
        /// Whether the endpoint said that it did nothing with the request (RFC 9113 §8.7).
        refused: bool,
    },
    /// The response's head did not come in the time of a try.
    TimedOut,
    /// The response's head came. Its fields are given if a policy may ask for them.
    Response(StatusCode, Option<&'h HeaderMap>),
}

/// The outcome when an endpoint has refused a request of which all had left.
const REFUSED: Outcome<'static> = Outcome::Broke { unsent: false, refused: true };

impl Outcome<'_> {
    /// Whether another try is wanted, by configured conditions. A response that says when to come again goes to the client: the service has decided.
    fn is_wanted(self, policy: &Retry) -> bool {
        use Trigger::{
            ConnectFailure, GatewayError, RefusedStream, Reset, ResetBeforeRequest, RetriableClientError, RetriableStatusCodes, ServerError,
        };
        let on = policy.on;
        match self {
            Self::NoConnection => on.has_any(&[ConnectFailure, ServerError]),
            Self::Broke { refused: true, .. } => on.has_any(&[RefusedStream, Reset, ServerError]),
            Self::Broke { unsent: true, .. } => on.has_any(&[ResetBeforeRequest, Reset, ServerError]),
            Self::Broke { .. } => on.has_any(&[Reset, ServerError]),
            Self::TimedOut => on.has_any(&[Reset, GatewayError, ServerError]),
            Self::Response(_, Some(fields)) if fields.contains_key(header::RETRY_AFTER) => false,
            Self::Response(status, fields) => {
                let status = status.as_u16();
                (on.has(ServerError) && status >= 500)
                    || (on.has(GatewayError) && matches!(status, 502..=504))
                    || (on.has(RetriableClientError) && status == 409)
                    || (on.has(RetriableStatusCodes) && policy.statuses.contains(&status))
                    || fields.and_then(grpc_trigger).is_some_and(|trigger| on.has(trigger))
            }
        }
    }

    /// Whether the endpoint cannot have done anything with the request.
    fn is_untouched(self) -> bool {
        matches!(self, Self::NoConnection | Self::Broke { unsent: true, .. } | Self::Broke { refused: true, .. })
    }
}

/// The condition that the `grpc-status` in a response's head fulfils (the response is trailers only).
fn grpc_trigger(headers: &HeaderMap) -> Option<Trigger> {
    match headers.get(GRPC_STATUS)?.as_bytes() {
        b"1" => Some(Trigger::Cancelled),
        b"4" => Some(Trigger::DeadlineExceeded),
        b"8" => Some(Trigger::ResourceExhausted),
        b"13" => Some(Trigger::Internal),
        b"14" => Some(Trigger::Unavailable),
        _ => None,
    }
}

const GRPC_TRIGGERS: [Trigger; 5] =
    [Trigger::Cancelled, Trigger::DeadlineExceeded, Trigger::ResourceExhausted, Trigger::Internal, Trigger::Unavailable];

/// Whether a request may be sent again although an endpoint may have acted on it. So it is if its method is idempotent (RFC 9110 §9.2.2: a proxy must not
/// repeat others); or if it is a gRPC call, which is a POST, and the service's owner has named gRPC statuses on which the service did nothing.
fn may_repeat(method: &Method, is_call: impl FnOnce() -> bool, on: Triggers) -> bool {
    method.is_idempotent() || (on.has_any(&GRPC_TRIGGERS) && is_call())
}

/// The tries of one exchange.
pub(in crate::http) struct Tries<'s> {
    service: &'s ServicePort,
    /// The rule's policy, else the service's.
    policy: Option<&'s Retry>,
    /// The endpoints that have failed.
    pub(in crate::http) tried: Vec<SocketAddr>,
    /// Whether kept connections are passed over, as one has broken.
    pub(in crate::http) fresh: bool,
    made: u32,
    /// How often the request was sent again although an endpoint may have acted on it.
    repeats: u32,
    /// The place of the try under way, if it is not the first and something limits them.
    place: Option<Slot>,
}

impl<'s> Tries<'s> {
    pub(in crate::http) fn new(service: &'s ServicePort, rule: Option<&'s Retry>) -> Self {
        Self {
            service,
            policy: rule.or(service.settings.retry.as_ref()),
            tried: Vec::new(),
            fresh: false,
            made: 1,
            repeats: 0,
            place: None,
        }
    }

    /// Keeps the request's content, if another try may want it and it is not too long.
    pub(in crate::http) fn keep(&self, request: &mut Deferred<'_, '_, RequestBody<'_>>) {
        // The service says how much is kept, whatever the rule is.
        let buffer = self.service.settings.retry.as_ref().or(self.policy).map_or(Retry::BUFFER, |p| p.buffer);
        let fits = match request.body().framing() {
            Framing::Length(0) => return,
            Framing::Length(length) => length <= buffer as u64,
            Framing::Chunked | Framing::UntilClose => buffer > 0,
        };
        if fits && (self.repeats_refused() || self.repeats_touched(request)) {
            let body = std::mem::replace(request.body_mut(), RequestBody::Empty);
            *request.body_mut() = RequestBody::Kept(Box::new(Kept::new(body, buffer)));
        }
    }

    /// Whether an endpoint may refuse what was sent to it, whatever the method, so that it is sent to another one. HTTP/1.1 has no such refusal.
    fn repeats_refused(&self) -> bool {
        let wanted = |policy: &Retry| policy.times > 0 && REFUSED.is_wanted(policy);
        self.service.protocol.is_http2() && self.policy.is_none_or(wanted)
    }

    /// Whether a request that an endpoint may have acted on may be sent again, rather than only an untouched one.
    fn repeats_touched(&self, request: &Deferred<'_, '_, RequestBody<'_>>) -> bool {
        let untouched = [Trigger::ConnectFailure, Trigger::ResetBeforeRequest].into_iter().collect::<Triggers>();
        self.policy.is_some_and(|policy| {
            policy.times > 0 && policy.on.has_more_than(untouched) && may_repeat(request.method(), || request.is_call(), policy.on)
        })
    }

    /// Whether the fields of a response may lead to another try.
    pub(in crate::http) fn reads_fields(&self) -> bool {
        self.policy.is_some()
    }

    /// Whether the request can be sent once more after this outcome, whether or not that is wanted.
    pub(in crate::http) fn can_repeat(&self, request: &Deferred<'_, '_, RequestBody<'_>>, outcome: Outcome<'_>) -> bool {
        let on = self.policy.map_or_else(Triggers::default, |p| p.on);
        (outcome.is_untouched() || may_repeat(request.method(), || request.is_call(), on)) && request.body().can_rewind()
    }

    /// Whether another endpoint is tried if this one cannot be connected to.
    pub(in crate::http) fn connects_elsewhere(&self, endpoints: usize) -> bool {
        let most = match self.policy {
            Some(policy) if Outcome::NoConnection.is_wanted(policy) => policy.times as usize + 1,
            Some(_) => 1,
            None => TRIES,
        };
        (self.made as usize) < most && self.tried.len() + 1 < endpoints
    }

    /// Whether a request that broke on a kept connection, and that its endpoint may have acted on, had better go to another endpoint. Without a policy there is one
    /// more try, which an endpoint that has just died would break as well.
    pub(in crate::http) fn goes_elsewhere(&self, request: &Deferred<'_, '_, RequestBody<'_>>, outcome: Outcome<'_>) -> bool {
        self.policy.is_none() && !outcome.is_untouched() && self.repeats == 0 && self.can_repeat(request, outcome)
    }

    /// Whether the request goes once more to the same endpoint, at once and on a fresh connection: the one that it broke on was kept from before, and has mostly
    /// been closed while it was idle. For a service without a policy that is the one more try, unless the request goes [elsewhere](Self::goes_elsewhere); with a
    /// policy it is one of its tries.
    pub(in crate::http) fn repeats_at_once(&mut self, request: &Deferred<'_, '_, RequestBody<'_>>, outcome: Outcome<'_>) -> bool {
        let repeats = self.can_repeat(request, outcome) && (outcome.is_untouched() || self.repeats == 0);
        if repeats && !outcome.is_untouched() {
            self.repeats += 1;
            self.made += 1;
        }
        repeats
    }

    /// Whether there is another try, and the pause before it. `endpoint`: that of the last try.
    pub(in crate::http) fn again(
        &mut self,
        endpoint: SocketAddr,
        request: &Deferred<'_, '_, RequestBody<'_>>,
        outcome: Outcome<'_>,
        endpoints: usize,
    ) -> Option<Option<Duration>> {
        let stats = &self.service.stats.retries;
        let wanted = match self.policy {
            Some(policy) => outcome.is_wanted(policy),
            // Without a policy, what broke is repeated if it can be. That it cannot be is not counted.
            None => match outcome {
                Outcome::NoConnection => true,
                Outcome::Broke { .. } => self.can_repeat(request, outcome),
                Outcome::TimedOut | Outcome::Response(..) => false,
            },
        };
        if !wanted {
            return None;
        }
        if !self.can_repeat(request, outcome) {
            count(&stats.not_replayable);
            return None;
        }
        self.tried.push(endpoint);
        let most = match self.policy {
            Some(policy) => policy.times as usize + 1,
            // The endpoint lives, and may take what it has refused a moment ago. If it is the only one, it is asked again.
            None if matches!(outcome, Outcome::Broke { refused: true, .. }) => TRIES,
            None if outcome.is_untouched() => TRIES.min(endpoints),
            // There is one more try: whoever breaks requests in the middle is not to get three times as many.
            None => self.made as usize + usize::from(self.repeats == 0),
        };
        if self.made as usize >= most {
            count(&stats.exhausted);
            return None;
        }
        let Ok(place) = self.place(outcome) else {
            count(&stats.over_budget);
            return None;
        };
        let pause = self.pause(endpoints);
        self.place = place;
        self.made += 1;
        self.repeats += u32::from(!outcome.is_untouched());
        count(&stats.tries);
        Some(pause)
    }

    /// Takes a place among the tries under way; none: nothing limits them. What protects the service holds for every rule.
    fn place(&self, outcome: Outcome<'_>) -> Result<Option<Slot>, ()> {
        let (stats, budget) = (&self.service.stats, self.service.settings.budget);
        let most = budget.map(|b| b.most(stats.load.requests.used())).into_iter().chain(self.service.settings.breaker.retries).min();
        let place = match most {
            None => None,
            // If this exchange holds a place already, it is its own.
            Some(most) => Some(stats.load.retries.take(most.saturating_add(self.place.is_some().into())).ok_or(())?),
        };
        // What did not reach an endpoint is not load: if a third of the endpoints are gone, a third of the requests go elsewhere.
        let lately = || stats.retries.lately.take(&budget.unwrap_or_default(), stats.exchanges(), Instant::now());
        if outcome.is_untouched() || lately() { Ok(place) } else { Err(()) }
    }

    fn pause(&self, endpoints: usize) -> Option<Duration> {
        match self.policy.and_then(|p| p.back_off) {
            Some(back_off) => Some(back_off.pause(self.made, rand::rng().random())),
            None => (self.tried.len() >= endpoints).then_some(SAME_ENDPOINT_PAUSE),
        }
    }

    /// The exchange has its response.
    pub(in crate::http) fn succeeded(&self) {
        if self.made > 1 {
            count(&self.service.stats.retries.succeeded);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use http::HeaderValue;
    use sluicegate_decide::grpc::is_call;

    use super::*;

    fn policy(triggers: &[Trigger]) -> Retry {
        let on = triggers.iter().copied().collect();
        Retry { times: 2, on, statuses: vec![429], per_try: None, back_off: None, buffer: 0 }
    }

    #[test]
    fn each_condition_wants_what_its_name_says() {
        use Trigger::*;
        let wants = |trigger, outcome: Outcome<'_>| outcome.is_wanted(&policy(&[trigger]));
        let response = |status: u16, field: Option<(&'static str, &'static str)>| {
            let fields = field.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            (StatusCode::from_u16(status).unwrap(), HeaderMap::from_iter(fields))
        };
        let status = |trigger, status| wants(trigger, Outcome::Response(response(status, None).0, None));
        let grpc = |trigger, value| wants(trigger, Outcome::Response(StatusCode::OK, Some(&response(200, Some(("grpc-status", value))).1)));
        let broke = |unsent, refused| Outcome::Broke { unsent, refused };
        assert!(wants(ConnectFailure, Outcome::NoConnection) && wants(ServerError, Outcome::NoConnection));
        assert!(!wants(Reset, Outcome::NoConnection) && !wants(GatewayError, Outcome::NoConnection));
        assert!(wants(Reset, broke(false, false)) && !wants(ConnectFailure, broke(false, false)));
        assert!(wants(ResetBeforeRequest, broke(true, false)) && !wants(ResetBeforeRequest, broke(false, false)));
        assert!(wants(RefusedStream, broke(false, true)) && !wants(RefusedStream, broke(true, false)));
        assert!(wants(GatewayError, Outcome::TimedOut) && wants(Reset, Outcome::TimedOut) && !wants(ConnectFailure, Outcome::TimedOut));
        assert!([502, 503, 504].into_iter().all(|s| status(GatewayError, s)) && !status(GatewayError, 500));
        assert!(status(ServerError, 500) && !status(ServerError, 429));
        assert!(status(RetriableStatusCodes, 429) && !status(RetriableStatusCodes, 503));
        assert!(status(RetriableClientError, 409) && !status(RetriableClientError, 404));
        let named = [(Cancelled, "1"), (DeadlineExceeded, "4"), (ResourceExhausted, "8"), (Internal, "13"), (Unavailable, "14")];
        for (trigger, value) in named {
            assert!(grpc(trigger, value) && !grpc(trigger, "0") && !grpc(ServerError, value));
        }
        let later = response(503, Some(("retry-after", "5")));
        assert!(!wants(GatewayError, Outcome::Response(later.0, Some(&later.1))), "the service's word is not overridden");
    }

    #[test]
    fn only_what_is_safe_is_repeated() {
        let repeat = |method, content_type: &'static str, on: &[Trigger]| {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content_type.parse().unwrap())]);
            may_repeat(&method, || is_call(&headers), on.iter().copied().collect())
        };
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE] {
            assert!(repeat(method, "text/plain", &[]));
        }
        assert!(!repeat(Method::POST, "text/plain", &[Trigger::Unavailable]) && !repeat(Method::PATCH, "text/plain", &[]));
        assert!(repeat(Method::POST, "application/grpc+proto", &[Trigger::Unavailable]));
        assert!(!repeat(Method::POST, "application/grpc", &[Trigger::ServerError]));
        assert!(!repeat(Method::POST, "application/grpc-web", &[Trigger::Unavailable]), "another protocol, whose statuses stand elsewhere");
    }
}
