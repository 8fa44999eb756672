//! The outgoing handler of `wasi:http`, the answer that is awaited, and the response.

use http::HeaderMap;
use wasmtime::component::Resource;
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};
use wasmtime_wasi_io::streams::Error as IoError;

use super::body::IncomingBody;
use super::egress::Network;
use super::fields::Fields;
use super::request::{Options, Request};
use super::{Wasi, Work, send};
use crate::bindings::discovery::wasi::http::outgoing_handler;
use crate::bindings::discovery::wasi::http::types::{
    self, ErrorCode, HostFutureIncomingResponse, HostFutureTrailers, HostIncomingResponse, StatusCode,
};

/// A response that is awaited.
pub enum Answer {
    /// The request is under way.
    Pending(Work<Result<Response, ErrorCode>>),
    /// The response has come, or the request has failed.
    Ready(Box<Result<Response, ErrorCode>>),
    /// The response was handed to the guest.
    Taken,
}

/// A response's head, and its body until it is taken.
pub struct Response {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<IncomingBody>,
}

/// Trailers. They are not kept, so there are never any.
pub struct Trailers {
    taken: bool,
}

#[async_trait]
impl Pollable for Answer {
    async fn ready(&mut self) {
        if let Self::Pending(work) = self {
            let ended = work.ended().await;
            *self = Self::of(ended);
        }
    }
}

impl Answer {
    fn of(ended: Option<Result<Response, ErrorCode>>) -> Self {
        Self::Ready(Box::new(ended.unwrap_or_else(|| Err(ErrorCode::InternalError(None)))))
    }
}

#[async_trait]
impl Pollable for Trailers {
    async fn ready(&mut self) {}
}

impl types::Host for Wasi {
    fn http_error_code(&mut self, error: Resource<IoError>) -> wasmtime::Result<Option<ErrorCode>> {
        Ok(self.table.get(&error)?.downcast_ref::<ErrorCode>().cloned())
    }
}

impl outgoing_handler::Host for Wasi {
    fn handle(
        &mut self,
        request: Resource<Request>,
        options: Option<Resource<Options>>,
    ) -> wasmtime::Result<Result<Resource<Answer>, ErrorCode>> {
        let request = self.table.delete(request)?;
        let options = options.map(|options| self.table.delete(options)).transpose()?.unwrap_or_default();
        if self.egress.network == Network::Offline {
            self.kept_offline = true;
            return Ok(Err(ErrorCode::HttpRequestDenied));
        }
        let target = match send::target(&request) {
            Ok(target) => target,
            Err(code) => return Ok(Err(code)),
        };
        if let Err(reason) = self.egress.allows(&target.host, target.port) {
            self.refusals.tell(reason);
            return Ok(Err(ErrorCode::HttpRequestDenied));
        }
        let Ok(permit) = self.connections.clone().try_acquire_owned() else { return Ok(Err(ErrorCode::ConnectionLimitReached)) };
        let (refusals, egress) = (self.refusals.clone(), self.egress.clone());
        let work = Work::spawn(send::send(refusals, egress, request, target, options, permit));
        Ok(Ok(self.table.push(Answer::Pending(work))?))
    }
}

impl HostFutureIncomingResponse for Wasi {
    fn subscribe(&mut self, answer: Resource<Answer>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(&mut self.table, answer)
    }

    fn get(&mut self, answer: Resource<Answer>) -> wasmtime::Result<Option<Result<Result<Resource<Response>, ErrorCode>, ()>>> {
        let answer = self.table.get_mut(&answer)?;
        if let Answer::Pending(work) = answer {
            match work.poll() {
                Some(ended) => *answer = Answer::of(ended),
                None => return Ok(None),
            }
        }
        Ok(Some(match std::mem::replace(answer, Answer::Taken) {
            Answer::Ready(ready) => match *ready {
                Ok(response) => Ok(Ok(self.table.push(response)?)),
                Err(code) => Ok(Err(code)),
            },
            Answer::Taken | Answer::Pending(_) => Err(()),
        }))
    }

    fn drop(&mut self, answer: Resource<Answer>) -> wasmtime::Result<()> {
        self.table.delete(answer)?;
        Ok(())
    }
}

impl HostIncomingResponse for Wasi {
    fn status(&mut self, response: Resource<Response>) -> wasmtime::Result<StatusCode> {
        Ok(self.table.get(&response)?.status)
    }

    fn headers(&mut self, response: Resource<Response>) -> wasmtime::Result<Resource<Fields>> {
        let fields = Fields::of(self.table.get(&response)?.headers.clone());
        Ok(self.table.push(fields)?)
    }

    fn consume(&mut self, response: Resource<Response>) -> wasmtime::Result<Result<Resource<IncomingBody>, ()>> {
        match self.table.get_mut(&response)?.body.take() {
            Some(body) => Ok(Ok(self.table.push(body)?)),
            None => Ok(Err(())),
        }
    }

    fn drop(&mut self, response: Resource<Response>) -> wasmtime::Result<()> {
        self.table.delete(response)?;
        Ok(())
    }
}

impl Trailers {
    pub(super) fn none() -> Self {
        Self { taken: false }
    }
}

impl HostFutureTrailers for Wasi {
    fn subscribe(&mut self, trailers: Resource<Trailers>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(&mut self.table, trailers)
    }

    fn get(&mut self, trailers: Resource<Trailers>) -> wasmtime::Result<Option<Result<Result<Option<Resource<Fields>>, ErrorCode>, ()>>> {
        let taken = std::mem::replace(&mut self.table.get_mut(&trailers)?.taken, true);
        Ok(Some(if taken { Err(()) } else { Ok(Ok(None)) }))
    }

    fn drop(&mut self, trailers: Resource<Trailers>) -> wasmtime::Result<()> {
        self.table.delete(trailers)?;
        Ok(())
    }
}
