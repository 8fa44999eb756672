//! L7: HTTP/1.1 connections, request by request. The way of one: host → route → pick → send → stream back.

mod answer;
mod exchange;
mod headers;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use crate::worker::Shared;

/// A client has this long to send a request's head; it also ends idle connections.
const HEADER_TIME: Duration = Duration::from_secs(60);
const MAX_HEADERS: usize = 100;
const MAX_BUFFER: usize = 64 << 10;

pub(crate) async fn serve(stream: TcpStream, client: SocketAddr, address: SocketAddr, shared: Rc<Shared>) {
    let service = service_fn(|request| exchange::exchange(request, client, address, &shared));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, %client, "the connection ended");
    }
}
