//! A request whose forwarding headers may not be among its fields yet. Whoever wants to see or change the fields gets them with the forwarding headers in
//! place. Besides, only single fields can be asked for, none of which is a forwarding header. So the forwarding headers cannot be forgotten.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Version, header};
use sluicegate_decide::{grpc, host};

use super::forwarding::Forwarding;
use super::headers::{self, Asked};
use super::identify::X_REQUEST_ID;
use super::trailers::Trailers;

/// A request whose forwarding header fields may still be missing. `B`: the request's content.
pub(in crate::http) struct Deferred<'r, 'p, B> {
    request: &'r mut Request<B>,
    forwarding: Option<Forwarding<'p>>,
}

impl<'r, 'p, B> Deferred<'r, 'p, B> {
    /// `forwarding`: the headers that are not among the fields yet.
    pub(in crate::http) fn new(request: &'r mut Request<B>, forwarding: Option<Forwarding<'p>>) -> Self {
        Self { request, forwarding }
    }

    /// The request with all its fields.
    pub(in crate::http) fn whole(&mut self) -> &mut Request<B> {
        if let Some(forwarding) = self.forwarding.take() {
            forwarding.put(self.request);
        }
        self.request
    }

    /// The request for a router and for the gateway's own look at other fields. It has all fields if the router `reads_fields`.
    pub(in crate::http) fn routed_by(&mut self, reads_fields: bool) -> &Request<B> {
        if reads_fields { self.whole() } else { self.request }
    }

    /// The request to be sent, and the fields that it has besides.
    pub(in crate::http) fn into_parts(self) -> (&'r mut Request<B>, Option<Forwarding<'p>>) {
        (self.request, self.forwarding)
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
        host::of(self.request.headers())
    }

    /// The field `Origin`.
    pub(in crate::http) fn origin(&self) -> Option<&HeaderValue> {
        self.request.headers().get(header::ORIGIN)
    }

    /// The field `X-Request-Id`.
    pub(in crate::http) fn id(&self) -> Option<&HeaderValue> {
        self.request.headers().get(X_REQUEST_ID)
    }

    /// Whether it is a gRPC call.
    pub(in crate::http) fn is_call(&self) -> bool {
        grpc::is_call(self.request.headers())
    }

    /// Reads a field of a gRPC call.
    pub(in crate::http) fn of_call<T>(&self, read: impl FnOnce(&HeaderMap) -> T) -> Option<T> {
        self.is_call().then(|| read(self.request.headers()))
    }

    /// Removes the fields of one hop, none of which is a forwarding header. From here on the request is HTTP/1.1's: HTTP/1.0 has no upgrades (RFC 9110 §7.8).
    pub(in crate::http) fn take_hop(&mut self) -> Asked {
        let mut asked = headers::strip_hop_by_hop(self.request.headers_mut());
        if std::mem::replace(self.request.version_mut(), Version::HTTP_11) == Version::HTTP_10 {
            asked.upgrade = None;
        }
        asked
    }

    /// Announces in `Trailer` which of these will come.
    pub(in crate::http) fn announce(&mut self, trailers: &Trailers) {
        if self.request.headers().contains_key(header::TRAILER) {
            trailers.announce(self.request.headers_mut());
        }
    }

    /// Sets a field of the next hop.
    pub(in crate::http) fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.request.headers_mut().insert(name, value);
    }

    /// Lends the request to something that looks at its content or its extensions, and not at its fields.
    pub(in crate::http) fn apart_from_fields<T>(&mut self, with: impl FnOnce(&mut Request<B>) -> T) -> T {
        with(self.request)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn whoever_looks_at_fields_sees_the_forwarding_headers() {
        let (client, port) = (HeaderValue::from_static("192.0.2.1"), HeaderValue::from_static("80"));
        let forwarding = Forwarding { client: &client, scheme: "http", port: &port, loops: true };
        let mut request = Request::get("/").header("host", "a.example").body(()).unwrap();
        let mut deferred = Deferred::new(&mut request, Some(forwarding));
        assert_eq!(deferred.routed_by(false).headers().len(), 1, "nobody reads them");
        assert_eq!(deferred.routed_by(true).headers()["x-forwarded-for"], "192.0.2.1");
        assert_eq!(deferred.whole().headers().len(), 6);
        assert!(deferred.into_parts().1.is_none(), "they are not written twice");
    }
}
