//! Connecting to an endpoint.

use std::time::Instant;

use sluicegate_model::health::Outcome;
use sluicegate_model::snapshot::ServicePort;
use sluicegate_model::stats::count;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::decide::Picked;
use crate::listener::keep_alive;
use crate::worker::Shared;

/// One connection attempt, within the service's connect time-out. `hello`: the first bytes, a PROXY header.
pub(crate) async fn dial(service: &ServicePort, to: &Picked, hello: Option<&[u8]>, shared: &Shared) -> Option<TcpStream> {
    let begun = Instant::now();
    let connecting = async {
        let mut stream = TcpStream::connect(to.address).await?;
        // Both fail only on a socket that is gone already.
        let _ = stream.set_nodelay(true);
        let _ = keep_alive(&stream, &service.settings.keepalive);
        if let Some(hello) = hello {
            stream.write_all(hello).await?;
        }
        std::io::Result::Ok(stream)
    };
    let stream = tokio::time::timeout(service.settings.timeouts.connect, connecting).await.ok().and_then(Result::ok);
    let outcome = if stream.is_some() { Outcome::Connected } else { Outcome::Unreachable };
    shared.decider.borrow_mut().observe(&service.settings, &service.stats, to, outcome, begun.elapsed());
    match &stream {
        Some(_) => service.stats.connect_time.observe(begun.elapsed()),
        None => count(&service.stats.connect_failures),
    }
    stream
}
