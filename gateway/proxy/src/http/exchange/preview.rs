//! What would become of a request, without a connection and without anything being sent: for `sluicegate explain`, by the very way that
//! [`super::exchange`] goes.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use sluicegate_decide::answer::{LocalReply, Reason, Why};
use sluicegate_decide::ladder::Routers;
use sluicegate_decide::way::{self, Followed, Found};
use sluicegate_decide::{host, method};
use sluicegate_model::route::Choice;
use sluicegate_model::snapshot::{Front, Listener, RouterRung, ServicePort, Side, Snapshot};

use super::arrival;
use super::peer::Peer;
use crate::h1;
use crate::http::rules::deferred::Deferred;
use crate::http::rules::headers;
use crate::origin::{Origin, Secured};

/// A request as a client would write it.
pub struct Asked<'a> {
    /// The method.
    pub method: &'a str,
    /// The target: a path and a query, `*`, or whatever else stands there.
    pub target: &'a str,
    /// The fields, Host among them.
    pub headers: &'a [(HeaderName, HeaderValue)],
    /// The client's address.
    pub client: IpAddr,
    /// The server name that the client asks TLS for.
    pub server_name: &'a str,
}

/// What would become of the request.
pub struct Preview<'a> {
    /// The request as routers, hashes and limits see it; none if it was refused before that.
    pub arrived: Option<Arrived>,
    /// The host name of the listener that takes it; none if no host name does.
    pub found: Option<Found<'a>>,
    /// The rule that takes it.
    pub rule: Option<(&'a RouterRung, Choice)>,
    /// The rule that has left the decision to another router. `rule` is then a rule of that one.
    pub handed_by: Option<(&'a RouterRung, Choice)>,
    /// What would become of it.
    pub outcome: Outcome<'a>,
}

/// A request after its head was read, its client found and its path spelt.
pub struct Arrived {
    /// The method.
    pub method: String,
    /// The host, in lower case and without a port.
    pub host: String,
    /// The path in its one spelling.
    pub path: String,
    /// The client: who connected, or whom a trusted proxy names.
    pub client: IpAddr,
    /// The fields.
    pub headers: HeaderMap,
}

/// What would become of a request.
pub enum Outcome<'a> {
    /// The gateway answers itself.
    Answer {
        /// The status.
        status: StatusCode,
        /// Why the gateway answers.
        why: Why,
        /// Where the client is sent by a redirect.
        location: Option<String>,
    },
    /// The request goes to a service.
    Forward {
        /// The service port.
        service: &'a ServicePort,
        /// Which pool of the service port.
        side: Side,
    },
}

impl From<Box<LocalReply>> for Outcome<'_> {
    fn from(own: Box<LocalReply>) -> Self {
        let location = own.response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok()).map(str::to_owned);
        Self::Answer { status: own.response.status(), why: own.why, location }
    }
}

/// Asks the plugins of the snapshot what they would decide, with instances that `routers` makes. `listener`: one that takes requests.
pub fn preview<'a>(snapshot: &'a Snapshot, listener: &'a Listener, asked: &Asked<'_>, routers: &mut impl Routers) -> Preview<'a> {
    let outcome = Outcome::from(Box::<LocalReply>::from(Reason::BadHost));
    let mut preview = Preview { arrived: None, found: None, handed_by: None, rule: None, outcome };
    match follow(snapshot, listener, asked, routers, &mut preview) {
        Ok((service, side)) => preview.outcome = Outcome::Forward { service, side },
        Err(own) => preview.outcome = own.into(),
    }
    preview
}

fn follow<'a>(
    snapshot: &'a Snapshot,
    listener: &'a Listener,
    asked: &Asked<'_>,
    routers: &mut impl Routers,
    preview: &mut Preview<'a>,
) -> Result<(&'a ServicePort, Side), Box<LocalReply>> {
    let mut head = BytesMut::from(format!("{} {} HTTP/1.1\r\n", asked.method, asked.target).as_bytes());
    for (name, value) in asked.headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    let head = h1::message(&mut head, 0, &mut HeaderMap::new(), h1::Case::Any, headers::is_plain).map_err(Reason::from)?;
    let h1::Message { mut request, lines } = head.ok_or(Reason::BadHost)?.message;
    let client = SocketAddr::new(asked.client, 0);
    let mut peer = Peer::new(Origin::of(client), listener.address, listener.address).ok_or(Reason::BadHost)?;
    if matches!(listener.front, Front::Tls(_)) {
        peer.tls = Some(Rc::new(Secured { server_name: Some(asked.server_name.to_owned()), client: None }));
    }
    method::check(&request)?;
    let mut request = Deferred::new(&mut request, lines);
    let arrival::Arrived { client, .. } = arrival::arrive(&mut request, &peer, &listener.settings)?;
    let peer = client.as_deref().unwrap_or(&peer);
    let request = &*request.whole();
    let host = host::of(request.headers()).ok_or(Reason::BadHost)?.into_owned();
    preview.arrived = Some(Arrived {
        method: request.method().as_str().to_owned(),
        host: host.clone(),
        path: request.uri().path().to_owned(),
        client: peer.address.ip(),
        headers: request.headers().clone(),
    });
    let client = peer.asks();
    let found = way::target(listener, &host, &client)?;
    preview.found = Some(found);
    let Followed { handed_by, matched, outcome, .. } = way::follow(found.target, request, &host, &client, snapshot, routers);
    preview.handed_by = handed_by;
    preview.rule = matched.map(|matched| (matched.rung, matched.choice));
    outcome
}
