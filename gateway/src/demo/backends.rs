//! The pods: small HTTP servers on addresses of their own, on one thread, that can be killed.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::mpsc as reply;
use std::time::Duration;

use http::Response;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

/// How long each answer takes, as that of a small application server.
const THINKS: Duration = Duration::from_millis(1);

enum Order {
    Spawn(SocketAddr, String, reply::Sender<std::io::Result<()>>),
    Kill(SocketAddr),
}

/// All backends. They end when this is dropped.
pub(super) struct Backends(mpsc::UnboundedSender<Order>);

impl Backends {
    pub(super) fn start() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (orders, inbox) = mpsc::unbounded_channel();
        std::thread::Builder::new().name("backends".to_owned()).spawn(move || runtime.block_on(obey(inbox)))?;
        Ok(Self(orders))
    }

    /// Starts a backend. It listens when this returns.
    pub(super) fn spawn(&self, address: SocketAddr, name: &str) -> std::io::Result<()> {
        let (to, answer) = reply::channel();
        let gone = || std::io::Error::other("the backends' thread has ended");
        self.0.send(Order::Spawn(address, name.to_owned(), to)).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }

    /// Ends a backend as a crash does: its listener and all its connections are closed at once.
    pub(super) fn kill(&self, address: SocketAddr) {
        let _ = self.0.send(Order::Kill(address));
    }
}

async fn obey(mut inbox: mpsc::UnboundedReceiver<Order>) {
    let mut running: HashMap<SocketAddr, AbortHandle> = HashMap::new();
    let mut servers = JoinSet::new();
    while let Some(order) = inbox.recv().await {
        match order {
            Order::Spawn(address, name, to) => {
                let bound = TcpListener::bind(address).await.map(|listener| {
                    running.insert(address, servers.spawn(serve(listener, name)));
                });
                let _ = to.send(bound);
            }
            Order::Kill(address) => {
                // Its connections are in a set that the task owns, so they go with it.
                if let Some(server) = running.remove(&address) {
                    server.abort();
                }
            }
        }
    }
}

async fn serve(listener: TcpListener, name: String) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else { continue };
        let _ = stream.set_nodelay(true);
        let body = Bytes::from(format!("{name}\n"));
        connections.spawn(async move {
            let answer = service_fn(move |_| {
                let body = body.clone();
                async move {
                    tokio::time::sleep(THINKS).await;
                    Ok::<_, Infallible>(Response::new(Full::new(body)))
                }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}
