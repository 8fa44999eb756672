//! What a request allocates. The client, the endpoint and the worker are one thread, whose allocations are counted.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use sluicegate_model::config_text::ConfigText;
use sluicegate_model::plugin::{Generation, GenerationStats, PluginError, Router, RouterGeneration};
use sluicegate_model::pool::unique;
use sluicegate_model::route::{
    Backend, Choice, Decision, Interests, ListenerInfo, RouteTable, RouteView, Rule, ServiceRef, Transport, Trial,
};
use sluicegate_model::shared::Shared;
use sluicegate_model::snapshot::{BoundRule, Front, Listener, RouterBinding, RouterRung, Snapshot, Target, VirtualHost};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::LocalOptions;
use tokio::task::spawn_local;

use super::{Http, serve};
use crate::core::admission::Admission;
use crate::core::decider::tests::service;
use crate::core::{Core, View};
use crate::endpoint::Endpoints;
use crate::http::exchange::Exchanges;
use crate::origin::Origin;
use crate::stream::Stream;

/// So many requests are made before any is counted, and so many are.
const REQUESTS: usize = 200;
const REQUEST: &[u8] =
    b"GET /items?page=2 HTTP/1.1\r\nHost: shop.example:8080\r\nUser-Agent: test\r\nAccept: */*\r\nAccept-Language: en\r\n\
    Connection: keep-alive\r\nCookie: a=b\r\n\r\n";
const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: test\r\nDate: Mon, 30 Nov 2026 14:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\
    Connection: keep-alive\r\n\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

/// A router that takes its first rule.
struct First(Arc<Generation>);
struct Instance;

impl RouterGeneration for First {
    fn generation(&self) -> &Arc<Generation> {
        &self.0
    }
    fn configure(&self, _: &ConfigText, _: &ListenerInfo) -> Result<RouteTable, PluginError> {
        unreachable!("its table is given")
    }
    fn instantiate(&self) -> Result<Box<dyn Router>, PluginError> {
        Ok(Box::new(Instance))
    }
}

impl Router for Instance {
    fn route(&mut self, _: &Arc<RouteTable>, _: &RouteView<'_>) -> Result<Decision, PluginError> {
        Ok(Decision::Matched(Choice { rule: 0, backend: Some(0), matched_prefix: 0 }))
    }
    fn retain(&mut self, _: &dyn Fn(u64) -> bool) {}
}

/// A router with one rule, which leads to the first service port.
fn router() -> Target {
    let id = ServiceRef { namespace: "default".into(), name: "s".into(), port: 80 };
    let backend = Backend { service: id, weight: 1, actions: Default::default() };
    let rule = Rule { backends: vec![backend], ..Rule::default() };
    let listener = ListenerInfo { name: "l".into(), port: 80, transport: Transport::Http, hostname: None, namespace: "default".into() };
    let (config, interests) = (ConfigText::default(), Interests::default());
    let table = RouteTable { id: unique(), config, listener, rules: vec![Arc::new(rule)], interests, trial: Trial::default() };
    let generation = Generation {
        id: unique(),
        plugin: "native".into(),
        number: 1,
        version: String::new(),
        sha256: String::new(),
        stats: GenerationStats::default(),
        shared: Shared::default(),
    };
    let bound = BoundRule { backends: Box::new([Ok(0)]), ..BoundRule::default() };
    let rung = RouterRung {
        generation: Arc::new(First(Arc::new(generation))),
        table: Arc::new(table),
        rules: vec![Arc::new(bound)],
        hands_over: false,
    };
    Target::Router(Arc::new(RouterBinding { transport: Transport::Http, ladder: vec![rung] }))
}

/// Answers each request on its one connection.
async fn endpoint(listener: TcpListener) {
    let (mut stream, _) = listener.accept().await.expect("a connection");
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {
        stream.write_all(RESPONSE).await.expect("the gateway reads");
    }
}

async fn ask(client: &mut TcpStream) {
    let mut buffer = [0; 1024];
    for _ in 0..REQUESTS {
        client.write_all(REQUEST).await.expect("the gateway reads");
        let mut length = 0;
        while length < RESPONSE.len() - "Connection: keep-alive\r\n".len() {
            let count = client.read(&mut buffer[length..]).await.expect("an answer");
            assert!(count > 0, "the gateway closed the connection");
            length += count;
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
}

#[test]
fn a_request_that_is_not_unusual_allocates_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).expect("a runtime");
    let local = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 0);
    let mut client = runtime.block_on(async {
        let (front, back) = (TcpListener::bind(local).await.expect("a port"), TcpListener::bind(local).await.expect("a port"));
        let (at, to) = (front.local_addr().expect("it is bound"), back.local_addr().expect("it is bound"));
        let hosts = vec![VirtualHost { hostname: None, target: router() }];
        let (front_of, settings) = (Front::Http(hosts.into()), Arc::default());
        let listener = Listener { address: at, name: "test".to_owned(), front: front_of, settings, limiter: None };
        let core = Core::new(Arc::default(), None, None, Arc::new(Admission::default()), None, Arc::default(), Arc::default());
        core.show(View::new(Arc::new(Snapshot::of(1, [Arc::new(listener)], [Arc::new(service(&[to.port()]))]))));
        let http = Rc::new(Http::new(Rc::new(Exchanges::new(Rc::new(Endpoints::new(core))))));
        spawn_local(endpoint(back));
        spawn_local(async move {
            let (stream, peer) = front.accept().await.expect("a client");
            serve(Stream::Tcp(stream), Origin::of(peer), at, None, &http).await;
        });
        let mut client = TcpStream::connect(at).await.expect("it listens");
        ask(&mut client).await;
        client
    });
    let counted = allocation_counter::measure(|| runtime.block_on(ask(&mut client)));
    assert_eq!(counted.count_total, 0, "in {REQUESTS} requests");
}
