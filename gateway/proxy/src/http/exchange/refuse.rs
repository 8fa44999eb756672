//! Answers where no exchange could begin.

use http::HeaderMap;
use sluicegate_decide::answer::{LocalReply, Reason};
use sluicegate_decide::grpc::is_call;

use super::Exchanges;
use super::grpc;
use super::peer::Peer;
use super::reply::Reply;
use crate::access::Entry;

/// The answer to what is not a request, or not one with which an exchange could begin: its fields, if they are known.
pub(in crate::http) fn refuse(reason: Reason, fields: Option<&HeaderMap>, peer: &Peer, shared: &Exchanges) -> Reply<'static> {
    let own = Box::<LocalReply>::from(reason);
    shared.core.stats.own_answers.count(own.why.index());
    let status = own.response.status();
    let why = own.why;
    let mut response = if fields.is_some_and(is_call) { grpc::answer(*own) } else { Reply::local(*own) };
    if let Some(log) = &shared.core.log {
        let view = shared.core.view();
        let listener = view.listener(peer.listener).map_or("", |l| &l.name);
        let mut entry = Entry::new(log, "http", peer.address.ip(), listener);
        (entry.status, entry.reason) = (Some(status), Some(why.label()));
        response.body_mut().log(entry);
    }
    response
}
