//! A response on its way to a client.

use http::{Extensions, HeaderMap, StatusCode};
use sluicegate_decide::answer::LocalReply;

use super::response::ResponseBody;
use crate::h1::Fields;

/// A response like `http::Response`, but for its fields: a map of them is made only if somebody wants one ([`Fields`]).
pub(crate) struct Reply<'c> {
    status: StatusCode,
    fields: Fields,
    extensions: Extensions,
    body: ResponseBody<'c>,
}

/// The parts of a response.
pub(crate) struct Parts<'c> {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: ResponseBody<'c>,
}

impl<'c> Reply<'c> {
    pub(crate) fn new(status: StatusCode, fields: impl Into<Fields>, body: ResponseBody<'c>) -> Self {
        Self { status, fields: fields.into(), extensions: Extensions::new(), body }
    }

    /// An answer of the gateway's own.
    pub(crate) fn local(own: LocalReply) -> Self {
        let (parts, body) = own.response.into_parts();
        Self::new(parts.status, parts.headers, ResponseBody::whole(body))
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// The fields, to be looked at or changed. To write them, [`fields`](Self::fields) is enough.
    pub(crate) fn headers_mut(&mut self) -> &mut HeaderMap {
        self.fields.map()
    }

    pub(crate) fn fields(&mut self) -> &mut Fields {
        &mut self.fields
    }

    pub(crate) fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    pub(crate) fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }

    pub(crate) fn body(&self) -> &ResponseBody<'c> {
        &self.body
    }

    pub(crate) fn body_mut(&mut self) -> &mut ResponseBody<'c> {
        &mut self.body
    }

    pub(crate) fn into_parts(mut self) -> Parts<'c> {
        let headers = std::mem::take(self.fields.map());
        Parts { status: self.status, headers, body: self.body }
    }
}
