//! One exchange as a stream of an HTTP/2 connection to an endpoint. It takes the same steps as [`super::Connection`] does with HTTP/1.1.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use h2::client::ResponseFuture;
use h2::ext::Protocol;
use http::{HeaderValue, Method, Request, StatusCode, Uri, Version, header, uri};

use super::carrier::Carrier;
use super::connection::Broken;
use crate::h1::{Framing, Head, Part, Status};
use crate::http::body::RequestBody;
use crate::http::error::BodyError;
use crate::http::rules::deferred::Deferred;
use crate::http::rules::upgrade::{Upgrade, websocket_accept};
use crate::http2::{self, Incoming, Outgoing};

pub(crate) struct Stream {
    carrier: Rc<Carrier>,
    /// The request that is not sent yet, and whether its head is all of it.
    request: Option<(Request<()>, bool)>,
    response: Option<ResponseFuture>,
    outgoing: Option<Outgoing>,
    incoming: Option<Incoming>,
    /// What the connection is to become, and the key that an HTTP/1.1 client of a WebSocket wants to see answered.
    upgrade: Option<(HeaderValue, Option<HeaderValue>)>,
    /// Whether the endpoint says that it did nothing with the request.
    refused: bool,
    sent: bool,
    tunnel: bool,
}

impl Stream {
    pub(super) fn new(carrier: Rc<Carrier>) -> Self {
        carrier.enter();
        Self {
            carrier,
            request: None,
            response: None,
            outgoing: None,
            incoming: None,
            upgrade: None,
            refused: false,
            sent: false,
            tunnel: false,
        }
    }

    /// Whether the response has ended.
    pub(super) fn is_end(&self) -> bool {
        !self.tunnel && self.incoming.as_ref().is_some_and(Incoming::is_end)
    }

    /// Whether all of the request has left, or the endpoint takes no more of it.
    pub(super) fn is_sent(&self) -> bool {
        self.outgoing.as_ref().is_none_or(Outgoing::is_end)
    }

    /// Whether nothing of the request has left, or it was refused (RFC 9113 §8.7).
    pub(super) fn is_unsent(&self) -> bool {
        !self.sent || self.refused
    }

    pub(super) fn begin<B>(&mut self, request: &mut Deferred<'_, '_, B>, framing: Framing) {
        let all = request.all_fields();
        let upgrade = request.extension::<Upgrade>();
        let mut head = Request::new(());
        *head.method_mut() = request.method().clone();
        // The library takes it for a forwarded request then, which may lack an authority, as HTTP/1.0 has none.
        *head.version_mut() = Version::HTTP_11;
        *head.headers_mut() = all;
        let authority = head.headers_mut().remove(header::HOST);
        *head.uri_mut() = target(request.uri(), authority.as_ref(), self.carrier.scheme());
        if let Some(Upgrade(protocol)) = upgrade {
            // RFC 8441 §5: the key belongs to HTTP/1.1.
            let key = head.headers_mut().remove(header::SEC_WEBSOCKET_KEY);
            *head.method_mut() = Method::CONNECT;
            head.extensions_mut().insert(Protocol::from(protocol.to_str().unwrap_or_default()));
            self.upgrade = Some((protocol.clone(), key));
        }
        self.request = Some((head, framing == Framing::Length(0) && upgrade.is_none()));
    }

    /// Opens the stream.
    fn open(&mut self) -> Result<(), Broken> {
        let Some((request, whole)) = self.request.take() else { return Ok(()) };
        if self.upgrade.is_some() && !self.carrier.connects() {
            return Err(Broken::NoConnect);
        }
        let (response, outgoing) = self.carrier.open(request, whole).map_err(Broken::Stream)?;
        self.sent = true;
        (self.response, self.outgoing) = (Some(response), Some(outgoing));
        Ok(())
    }

    fn broken(&mut self, error: h2::Error) -> Broken {
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        // GOAWAY fails only streams whose number is above the last one that the endpoint has looked at (§6.8).
        self.refused = error.is_remote() && (refused || error.is_go_away());
        if self.refused { Broken::Refused(error) } else { Broken::Stream(error) }
    }

    /// Sends as much of the request as the endpoint takes. An endpoint that takes no more may have answered nevertheless, so that is no error.
    pub(super) fn poll_send(&mut self, content: &mut RequestBody<'_>, context: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let Some(outgoing) = &mut self.outgoing else { return Poll::Ready(Ok(())) };
        loop {
            let sent = match ready!(outgoing.poll_flush(context)) {
                Ok(()) if outgoing.is_end() => return Poll::Ready(Ok(())),
                Ok(()) => match ready!(content.poll_part(context)) {
                    Some(part) => outgoing.push(part?, content.is_end()),
                    None => outgoing.finish(),
                },
                Err(error) => Err(error),
            };
            if sent.is_err() {
                self.outgoing = None;
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// The head of the response. It may be an interim one; then this is to be called again.
    pub(super) fn poll_head(
        &mut self,
        to: &Method,
        content: &mut RequestBody<'_>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Head<Status>, Broken>> {
        self.open()?;
        if self.upgrade.is_none()
            && let Poll::Ready(Err(error)) = self.poll_send(content, context)
        {
            return Poll::Ready(Err(Broken::Client(error)));
        }
        let Some(response) = &mut self.response else { return Poll::Ready(Err(Broken::Closed)) };
        match response.poll_informational(context) {
            // RFC 9113 §8.6: HTTP/2 has no such status.
            Poll::Ready(Some(Ok(interim))) if interim.status() == StatusCode::SWITCHING_PROTOCOLS => {
                return Poll::Ready(Err(Broken::Closed));
            }
            Poll::Ready(Some(Ok(interim))) => {
                let (parts, ()) = interim.into_parts();
                let message = Status { code: parts.status, fields: parts.headers.into() };
                return Poll::Ready(Ok(Head { message, framing: Framing::Length(0), keep_alive: true }));
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(self.broken(error))),
            Poll::Ready(None) | Poll::Pending => {}
        }
        let (mut head, stream) = match ready!(Pin::new(response).poll(context)) {
            Ok(response) => response.into_parts(),
            Err(error) => return Poll::Ready(Err(self.broken(error))),
        };
        self.response = None;
        let incoming = Incoming::new(stream);
        let ended = incoming.is_end() || http2::is_bare(to, head.status);
        let mut framing = http2::framing(&head.headers, ended)?;
        self.incoming = Some(incoming);
        if let Some((protocol, key)) = self.upgrade.take().filter(|_| head.status.is_success()) {
            framing = Framing::Length(0);
            head.status = StatusCode::SWITCHING_PROTOCOLS;
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(header::UPGRADE, protocol);
            if let Some(accept) = key.and_then(|key| websocket_accept(&key)) {
                head.headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
            }
        }
        let message = Status { code: head.status, fields: head.headers.into() };
        Poll::Ready(Ok(Head { message, framing, keep_alive: true }))
    }

    /// The next part of the response's content, while the rest of the request is sent.
    pub(super) fn poll_part(&mut self, content: &mut RequestBody<'_>, context: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        if let Poll::Ready(Err(error)) = self.poll_send(content, context) {
            return Poll::Ready(Some(Err(error)));
        }
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        incoming.poll_part(context).map(|part| part.map(|p| p.map_err(BodyError::Stream)))
    }

    /// All bytes that follow, in both directions, belong to another protocol.
    pub(super) fn tunnel(&mut self) {
        self.tunnel = true;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.carrier.leave();
    }
}

/// The target (RFC 9113 §8.3.1). A `Host` that is not an authority stays out of it, and is refused by the endpoint rather than by the gateway.
fn target(uri: &Uri, authority: Option<&HeaderValue>, scheme: uri::Scheme) -> Uri {
    let mut parts = uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = authority.and_then(|a| uri::Authority::try_from(a.as_bytes()).ok());
    parts.path_and_query = uri.path_and_query().cloned().or_else(|| Some(uri::PathAndQuery::from_static("/")));
    if parts.authority.is_none() {
        parts.scheme = None;
    }
    Uri::from_parts(parts).unwrap_or_default()
}
