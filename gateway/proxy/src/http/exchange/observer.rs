//! The one place where an exchange is told to the access log, to its trace ([`traced`](super::traced)), to the counters and to those who sample requests. The end of
//! a response's content is told by [`ResponseBody`](super::ResponseBody), which the log's line and the trace go with.

use std::net::IpAddr;
use std::time::Instant;

use http::{StatusCode, header};
use sluicegate_decide::answer::LocalReply;
use sluicegate_decide::way::Matched;
use sluicegate_model::route::Choice;
use sluicegate_model::snapshot::{Listener, RouterRung};
use sluicegate_model::stats::count;

use super::peer::Peer;
use super::reply::Reply;
use super::traced::Traced;
use super::{Routed, seen};
use crate::access::Entry;
use crate::core::{Core, View};
use crate::http::body::RequestBody;
use crate::http::rules::deferred::Deferred;
use crate::sampled::Sampled;

/// One exchange, as it is told step by step.
pub(in crate::http) struct Observer<'s> {
    core: &'s Core,
    /// The exchange's line in the access log, if there is a log.
    entry: Option<Box<Entry>>,
    /// What is told to those who sample the request, if anybody does.
    sampled: Option<Box<Sampled>>,
    /// What is recorded of it for its trace, but while it is sent.
    traced: Traced,
}

impl<'s> Observer<'s> {
    /// A request's head has come.
    pub(in crate::http) fn begun(core: &'s Core) -> Self {
        count(&core.stats.requests);
        Self { core, entry: None, sampled: None, traced: Traced::default() }
    }

    /// The request is refused, as the gateway has too much to do.
    pub(in crate::http) fn overloaded(&self) {
        count(&self.core.stats.overload.requests);
    }

    /// The request is looked at, before anything in it is changed.
    pub(in crate::http) fn looked_at(
        &mut self,
        request: &mut Deferred<'_, '_, RequestBody<'_>>,
        peer: &Peer,
        begun: Instant,
        listener: &Listener,
        view: &View,
    ) {
        if self.core.requests.is_on() {
            self.sampled = seen::sampled(&self.core.requests, request, peer, listener, view);
        }
        self.entry = self.core.log.as_ref().map(|log| Entry::of(log, request.fields(), peer.address.ip(), &listener.name));
        if let Some(tracer) = &self.core.tracer {
            self.traced = Traced::of(tracer, request, peer, begun, &listener.name);
            if let Some(entry) = &mut self.entry {
                entry.trace = self.traced.told();
            }
        }
    }

    /// The request's client is known, and its `X-Request-Id`.
    pub(in crate::http) fn arrived<B>(&mut self, client: IpAddr, request: &Deferred<'_, '_, B>) {
        if let Some(entry) = &mut self.entry {
            (entry.client, entry.request_id) = (client, request.id().cloned());
        }
        self.traced.arrived(client);
        if let Some(sampled) = &mut self.sampled {
            let client = client.to_canonical().to_string();
            sampled.note(|line| {
                let connected = std::mem::replace(&mut line.client, client.clone());
                line.peer = (connected != line.client).then_some(connected);
            });
        }
    }

    /// It is decided which rule takes the request, if one does. `handed_by`: the rule that has left the decision to that one's router.
    pub(in crate::http) fn decided(&mut self, handed_by: Option<(&RouterRung, Choice)>, matched: Option<&Matched<'_>>) {
        if let Some((rung, choice)) = handed_by {
            rung.note(Choice { backend: None, ..choice });
        }
        if let Some(matched) = matched {
            matched.rung.note(matched.choice);
        }
        if let (Some(sampled), Some(matched)) = (&mut self.sampled, matched) {
            sampled.ruled(matched.rung, matched.choice);
        }
    }

    /// The exchange goes to a service.
    pub(in crate::http) fn routed(&mut self, routed: &Routed<'_>) {
        if let Some(entry) = &mut self.entry {
            entry.routed(&routed.service.id, routed.matched.as_ref().and_then(|m| m.rule.name.as_deref()));
        }
        if let Some(sampled) = &mut self.sampled {
            sampled.note(|line| line.decided.service = Some(routed.service.id.to_string()));
        }
        self.traced.routed(routed);
    }

    /// The exchange is sent. Meanwhile its tries are told to what it was routed to.
    pub(in crate::http) fn sending(&mut self, routed: &Routed<'_>) {
        routed.traced.replace(std::mem::take(&mut self.traced));
    }

    /// The last try has come to an end, with or without a response.
    pub(in crate::http) fn sent(&mut self, routed: &Routed<'_>) {
        if let Some(entry) = &mut self.entry {
            (entry.attempts, entry.endpoint) = (routed.tries(), routed.endpoint.get());
            entry.answered();
        }
        if let Some(sampled) = &mut self.sampled {
            sampled.note(|line| line.decided.endpoint = routed.endpoint.get());
        }
        self.traced = routed.traced.take();
    }

    /// The exchange took longer than it may.
    pub(in crate::http) fn timed_out(&self, routed: &Routed<'_>) {
        count(&routed.service.stats.refused.timeout);
    }

    /// The exchange's connection becomes another protocol.
    pub(in crate::http) fn upgraded(&self) {
        count(&self.core.stats.upgrades);
    }

    /// An endpoint has answered.
    pub(in crate::http) fn answered(&self, routed: &Routed<'_>, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        count(&routed.service.stats.responses[class]);
    }

    /// The gateway answers itself. `taken`: bytes of the request's content.
    pub(in crate::http) fn refused(&mut self, own: &LocalReply, taken: u64) {
        self.core.stats.own_answers.count(own.why.index());
        if let Some(entry) = &mut self.entry {
            (entry.reason, entry.bytes_in) = (Some(own.why.label()), taken);
        }
        if let Some(sampled) = &mut self.sampled {
            sampled.refused(own.why.label(), own.response.headers().get(header::LOCATION));
        }
        self.traced.refused(own.why.label());
    }

    /// The response goes to the client.
    pub(in crate::http) fn end(self, response: &mut Reply<'_>) {
        if let Some(mut sampled) = self.sampled {
            let took = u64::try_from(sampled.elapsed().as_micros()).unwrap_or(u64::MAX);
            let status = Some(response.status().as_u16());
            sampled.note(|line| (line.decided.status, line.decided.microseconds) = (status, Some(took)));
        }
        if let Some(mut entry) = self.entry {
            entry.status = Some(response.status());
            response.body_mut().log(entry);
        }
        let status = response.status();
        if let Some(recording) = self.traced.answered(status, || response.headers_mut()) {
            response.body_mut().record(recording);
        }
    }
}
