//! A request whose fields may not be in its map yet: those that its client sent, which are lines of its head until somebody looks at them, and the forwarding
//! headers, which are written behind them. Whoever wants to see or change the fields gets them, with the forwarding headers in place where that makes a
//! difference. So neither can be forgotten.

use std::borrow::Cow;
use std::cell::OnceCell;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use sluicegate_decide::{grpc, host, way};
use sluicegate_model::trace_context::TraceContext;

use super::forwarding::Forwarding;
use super::headers::{self, Asked};
use super::identify::{TRACEPARENT, TRACESTATE, X_REQUEST_ID};
use super::trailers::Trailers;
use super::upgrade::Upgrade;
use crate::h1::{self, Framing, RequestLines};

/// A request whose fields may still be missing in its map. `B`: the request's content.
pub(in crate::http) struct Deferred<'r, 'p, B> {
    request: &'r mut Request<B>,
    lines: Option<RequestLines>,
    /// The map of the lines, for who only reads.
    read: OnceCell<HeaderMap>,
    /// The length of the host's name in the lines, once it was found to be valid.
    name: Option<usize>,
    /// Whether the fields of one hop are not to be among the fields any more. Among the lines that are written they never are.
    stripped: bool,
    forwarding: Option<Forwarding<'p>>,
    /// Whether there is a `traceparent` among the lines.
    has_parent: bool,
    /// A `traceparent` that is written behind the lines, where they have none.
    trace: Option<TraceContext>,
}

impl<'r, 'p, B> Deferred<'r, 'p, B> {
    /// `lines`: the fields, if they are not in the request.
    pub(in crate::http) fn new(request: &'r mut Request<B>, lines: Option<RequestLines>) -> Self {
        Self { request, lines, read: OnceCell::new(), name: None, stripped: false, forwarding: None, has_parent: false, trace: None }
    }

    /// Adds forwarding headers, which need not be in the map yet.
    pub(in crate::http) fn defer(&mut self, forwarding: Option<Forwarding<'p>>) {
        self.forwarding = forwarding;
    }

    /// Whether no field of the request needs to be looked at.
    pub(in crate::http) fn is_unread(&self) -> bool {
        self.lines.is_some()
    }

    fn unread_host(&self) -> Option<&[u8]> {
        self.lines.as_ref().map(RequestLines::host)
    }

    /// Checks the host of a request whose fields are unread. Returns false if it is malformed.
    pub(in crate::http) fn settle_host(&mut self) -> bool {
        let host = self.unread_host().and_then(|host| std::str::from_utf8(host).ok());
        self.name = host.and_then(host::split).map(str::len);
        self.name.is_some()
    }

    /// The request with the fields that its client sent.
    pub(in crate::http) fn fields(&mut self) -> &mut Request<B> {
        if let Some(lines) = self.lines.take() {
            let mut map = self.read.take().unwrap_or_else(|| lines.map());
            if self.stripped {
                headers::strip_hop_by_hop(&mut map);
            }
            if let Some(trace) = self.trace.take() {
                insert(&mut map, trace);
            }
            *self.request.headers_mut() = map;
        }
        self.request
    }

    /// The request with all its fields.
    pub(in crate::http) fn whole(&mut self) -> &mut Request<B> {
        let forwarding = self.forwarding.take();
        let request = self.fields();
        if let Some(forwarding) = forwarding {
            forwarding.put(request);
        }
        request
    }

    /// The fields that its client sent, to be read. The forwarding headers may not be among them.
    pub(in crate::http) fn headers(&self) -> &HeaderMap {
        match &self.lines {
            Some(lines) => self.read.get_or_init(|| lines.map()),
            None => self.request.headers(),
        }
    }

    pub(in crate::http) fn method(&self) -> &Method {
        self.request.method()
    }

    pub(in crate::http) fn uri(&self) -> &Uri {
        self.request.uri()
    }

    pub(in crate::http) fn version(&self) -> Version {
        self.request.version()
    }

    pub(in crate::http) fn body(&self) -> &B {
        self.request.body()
    }

    pub(in crate::http) fn body_mut(&mut self) -> &mut B {
        self.request.body_mut()
    }

    /// The host that it is for; none: it is malformed.
    pub(in crate::http) fn host(&self) -> Option<Cow<'_, str>> {
        match (self.unread_host(), self.name) {
            (Some(host), Some(name)) => Some(host::matched(std::str::from_utf8(host.get(..name)?).ok()?)),
            _ => host::of(self.headers()),
        }
    }

    /// The field `Origin`.
    pub(in crate::http) fn origin(&self) -> Option<&HeaderValue> {
        self.headers().get(header::ORIGIN)
    }

    /// The field `X-Request-Id`.
    pub(in crate::http) fn id(&self) -> Option<&HeaderValue> {
        self.headers().get(X_REQUEST_ID)
    }

    /// Whether it is a gRPC call.
    pub(in crate::http) fn is_call(&self) -> bool {
        grpc::is_call(self.headers())
    }

    /// Reads a field of a gRPC call.
    pub(in crate::http) fn of_call<T>(&self, read: impl FnOnce(&HeaderMap) -> T) -> Option<T> {
        self.is_call().then(|| read(self.headers()))
    }

    /// Removes the fields of one hop, none of which is a forwarding header. From here on the request is HTTP/1.1's: HTTP/1.0 has no upgrades (RFC 9110 §7.8).
    pub(in crate::http) fn take_hop(&mut self) -> Asked {
        self.stripped = true;
        // Lines have no field by which anything is asked of this hop.
        let mut asked = if self.lines.is_none() { headers::strip_hop_by_hop(self.request.headers_mut()) } else { Asked::default() };
        if std::mem::replace(self.request.version_mut(), Version::HTTP_11) == Version::HTTP_10 {
            asked.upgrade = None;
        }
        asked
    }

    /// Announces in `Trailer`, which lines do not have, which of these will come.
    pub(in crate::http) fn announce(&mut self, trailers: &Trailers) {
        if self.request.headers().contains_key(header::TRAILER) {
            trailers.announce(self.request.headers_mut());
        }
    }

    /// Sets a field of the next hop.
    pub(in crate::http) fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.fields().headers_mut().insert(name, value);
    }

    /// What the client says of a trace in `traceparent`. If that is nothing, or cannot be read, the `tracestate` is removed with it (Trace Context §3.3).
    pub(in crate::http) fn trace_parent(&mut self) -> Option<TraceContext> {
        let (mut found, mut count, mut has_state) = (None, 0, false);
        let mut note = |name: &[u8], value: &[u8]| {
            if name.eq_ignore_ascii_case(TRACEPARENT.as_str().as_bytes()) {
                (found, count) = (TraceContext::parse(value), count + 1);
            }
            has_state |= name.eq_ignore_ascii_case(TRACESTATE.as_str().as_bytes());
        };
        match &self.lines {
            Some(lines) => lines.each_of_trace(note),
            None => {
                let fields = self.request.headers();
                fields.get_all(&TRACEPARENT).iter().for_each(|value| note(TRACEPARENT.as_str().as_bytes(), value.as_bytes()));
                fields.get_all(&TRACESTATE).iter().for_each(|value| note(TRACESTATE.as_str().as_bytes(), value.as_bytes()));
            }
        }
        let parent = found.filter(|_| count == 1);
        self.has_parent = count > 0;
        if parent.is_none() && (count > 0 || has_state) {
            let fields = self.fields().headers_mut();
            fields.remove(&TRACEPARENT);
            fields.remove(&TRACESTATE);
        }
        parent
    }

    /// Tells the next hop its place in a trace.
    pub(in crate::http) fn set_trace(&mut self, trace: TraceContext) {
        if self.lines.is_some() && !self.has_parent {
            self.trace = Some(trace);
        } else {
            insert(self.fields().headers_mut(), trace);
        }
    }

    /// Lends the request to something that looks at its content or its extensions, and not at its fields.
    pub(in crate::http) fn apart_from_fields<T>(&mut self, with: impl FnOnce(&mut Request<B>) -> T) -> T {
        with(self.request)
    }

    /// The extension of this type.
    pub(in crate::http) fn extension<T: Clone + Send + Sync + 'static>(&self) -> Option<&T> {
        self.request.extensions().get()
    }

    /// Writes the head for an endpoint of HTTP/1.1.
    pub(in crate::http) fn write(&self, out: &mut Vec<u8>, framing: Framing) {
        let upgrade = self.extension().map(|Upgrade(protocol)| protocol);
        h1::request_head(out, self.request, self.lines.as_ref(), framing, upgrade, |out| {
            if let Some(trace) = self.trace {
                out.extend_from_slice(b"traceparent: ");
                out.extend_from_slice(&trace.text());
                out.extend_from_slice(b"\r\n");
            }
            if let Some(forwarding) = self.forwarding {
                let host = || self.request.headers().get(header::HOST).map(HeaderValue::as_bytes);
                forwarding.write(out, self.unread_host().or_else(host).unwrap_or_default());
            }
        });
    }

    /// All fields, for an endpoint of HTTP/2.
    pub(in crate::http) fn all_fields(&mut self) -> HeaderMap {
        let forwarding = self.forwarding;
        let request = self.fields();
        let mut all = request.headers().clone();
        if let Some(forwarding) = forwarding {
            forwarding.each(request.headers().get(header::HOST), |name, value| drop(all.insert(name, value.clone())));
        }
        all
    }
}

fn insert(map: &mut HeaderMap, trace: TraceContext) {
    if let Ok(value) = HeaderValue::from_bytes(&trace.text()) {
        map.insert(TRACEPARENT, value);
    }
}

impl<B> way::Asked for Deferred<'_, '_, B> {
    fn method(&self) -> &Method {
        Deferred::method(self)
    }

    fn uri(&self) -> &Uri {
        Deferred::uri(self)
    }

    fn headers(&self) -> &HeaderMap {
        Deferred::headers(self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn read(head: &str) -> (Request<()>, Option<RequestLines>) {
        let buffer = &mut BytesMut::from(head);
        let message = h1::message(buffer, 0, &mut HeaderMap::new(), h1::Case::Any, headers::is_plain).unwrap().unwrap().message;
        (message.request, message.lines)
    }

    fn written(deferred: &Deferred<'_, '_, ()>) -> String {
        let mut out = Vec::new();
        deferred.write(&mut out, Framing::Length(0));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn whoever_looks_at_fields_sees_the_forwarding_headers() {
        let (client, port, block) = (HeaderValue::from_static("192.0.2.1"), HeaderValue::from_static("80"), OnceCell::new());
        let forwarding = Forwarding { client: &client, scheme: "http", port: &port, loops: true, written: &block };
        for lines in [true, false] {
            let (mut request, mut unread) = read("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: keep-alive\r\nAccept: */*\r\n\r\n");
            if !lines {
                *request.headers_mut() = unread.take().unwrap().map();
            }
            let mut deferred = Deferred::new(&mut request, unread);
            deferred.defer(Some(forwarding));
            assert_eq!((deferred.headers().len(), deferred.host().as_deref()), (3, Some("a.example")), "nobody reads them");
            assert!(deferred.take_hop().upgrade.is_none());
            let seen = written(&deferred).to_lowercase();
            assert_eq!(deferred.whole().headers()["x-forwarded-for"], "192.0.2.1");
            assert_eq!(deferred.whole().headers().len(), 7, "and not `Connection`");
            assert_eq!(written(&deferred).to_lowercase().lines().count(), seen.lines().count(), "they are not written twice");
            assert!(seen.contains("x-forwarded-host: a.example\r\n") && !seen.contains("connection:"), "{seen}");
        }
    }

    #[test]
    fn a_trace_is_read_and_told_whether_or_not_fields_are_lines() {
        let context = |span| TraceContext { trace: 7, span, sampled: true };
        let text = |span| String::from_utf8(context(span).text().to_vec()).unwrap();
        let read_as = |fields: &str, lines: bool| {
            let (mut request, mut unread) = read(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
            if !lines {
                *request.headers_mut() = unread.take().unwrap().map();
            }
            let mut deferred = Deferred::new(&mut request, unread);
            let parent = deferred.trace_parent();
            (1..=2).for_each(|span| deferred.set_trace(context(span)));
            let written = written(&deferred).to_lowercase();
            assert_eq!(deferred.whole().headers()[TRACEPARENT].to_str().unwrap(), text(2));
            (parent, written)
        };
        let parent = format!("TraceParent: {}\r\ntracestate: a=1\r\n", text(9));
        for lines in [true, false] {
            for (fields, wanted, states) in [
                (parent.as_str(), Some(context(9)), 1),
                ("", None, 0),
                ("tracestate: a=1\r\n", None, 0),
                ("traceparent: 00-zz\r\n", None, 0),
            ] {
                let (parent, written) = read_as(fields, lines);
                assert_eq!(parent, wanted, "{fields}");
                assert_eq!(written.matches("traceparent: ").count(), 1, "{written}");
                assert!(written.contains(&format!("traceparent: {}\r\n", text(2))), "{written}");
                assert_eq!(written.matches("tracestate: ").count(), states, "{written}");
            }
            let twice = format!("{parent}{parent}");
            assert_eq!(read_as(&twice, lines).0, None, "there are two");
        }
    }

    #[test]
    fn lines_pass_only_if_no_field_needs_a_look() {
        for field in [
            "Expect: 100-continue",
            "X-Forwarded-For: 6.6.6.6",
            "x_y: 1",
            "Upgrade: h2c",
            "TE: trailers",
            "Trailer: x",
            "CDN-Loop: a",
            "Host: b",
            "Connection: x",
            "A:1",
            "A:",
            "A: 1 ",
            "A:\t1",
        ] {
            let (request, lines) = read(&format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"));
            assert!(lines.is_none() && !request.headers().is_empty(), "{field}");
        }
        assert!(read("GET / HTTP/1.1\r\nAccept: a\r\n\r\n").1.is_none(), "without a host");
        let (mut request, lines) =
            read("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nX-A: 1\r\nx-a: 2\r\nconnection: Keep-Alive\r\nb: 3\r\n\r\n");
        let deferred = Deferred::new(&mut request, lines);
        assert_eq!(written(&deferred), "POST / HTTP/1.1\r\nhost: a\r\nX-A: 1\r\nx-a: 2\r\nb: 3\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(deferred.headers().get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
    }
}
