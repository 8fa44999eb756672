//! Native plugins, snapshots, backends and a client for the proxy's tests, without wasm. Every wait ends with an event or at a deadline.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

pub mod http2;
pub mod http3;
pub mod tls;
pub mod udp;

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use sluicegate_model::config_text::ConfigText;
use sluicegate_model::plugin::{
    Balancer, BalancerGeneration, Generation, GenerationStats, PickContext, PluginError, Router, RouterGeneration, Stage,
};
use sluicegate_model::pool::{Distribution, Endpoint, Here, Pool, TrafficPolicy, unique};
use sluicegate_model::route::{Choice, Decision, Interests, ListenerInfo, RouteTable, RouteView, Rule, ServiceRef, Transport, Trial};
use sluicegate_model::settings::ClientSettings;
use sluicegate_model::shared::Shared;
use sluicegate_model::snapshot::{
    Affinity, BoundRule, Front, Listener, RouterBinding, RouterRung, ServicePort, ServiceSide, Side, Snapshot, Target, VirtualHost,
};
use sluicegate_model::stats::ProxyStats;
pub use sluicegate_proxy::Config;
use sluicegate_proxy::Proxy;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The deadline of every wait in a test.
pub const DEADLINE: Duration = Duration::from_secs(20);

pub fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, test).await.expect("the test ends in time") });
}

/// Waits until a condition holds; `what` names it in the message of a test that waits in vain.
pub async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(DEADLINE / 2, waiting).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// An address of 127/8 that nothing else uses.
pub fn free() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let (n, pid) = (NEXT.fetch_add(1, Ordering::Relaxed), std::process::id());
    let ip = Ipv4Addr::new(127, 100 + (pid % 100) as u8, (pid / 100 % 250) as u8, (n % 250) as u8 + 1);
    let probe = std::net::TcpListener::bind((ip, 0)).unwrap();
    probe.local_addr().unwrap()
}

pub fn generation() -> Arc<Generation> {
    Arc::new(Generation {
        id: unique(),
        plugin: "native".into(),
        number: 1,
        version: String::new(),
        sha256: String::new(),
        stats: GenerationStats::default(),
        shared: Shared::default(),
    })
}

pub fn failure(generation: &Generation, stage: Stage) -> PluginError {
    generation.stats.failed(&PluginError { plugin: "p".into(), stage: Stage::Pick, reason: "test".to_owned() });
    PluginError { plugin: generation.plugin.clone(), stage, reason: "told to fail".to_owned() }
}

/// A balancer that takes turns over the pool in each worker, or one that always fails.
pub struct Turns(pub Arc<Generation>, pub bool);
struct Turn(Arc<Generation>, bool, usize);

impl BalancerGeneration for Turns {
    fn generation(&self) -> &Arc<Generation> {
        &self.0
    }
    fn instantiate(&self) -> Result<Box<dyn Balancer>, PluginError> {
        Ok(Box::new(Turn(self.0.clone(), self.1, 0)))
    }
}

impl Balancer for Turn {
    fn pick(&mut self, pool: &Arc<Pool>, _: &Arc<str>, _: PickContext) -> Result<Option<usize>, PluginError> {
        if self.1 {
            return Err(failure(&self.0, Stage::Pick));
        }
        self.2 += 1;
        Ok((!pool.endpoints.is_empty()).then(|| self.2 % pool.endpoints.len()))
    }
    fn retain(&mut self, _: &dyn Fn(u64) -> bool) {}
}

/// A router that takes the rule whose name is a prefix of the path, and its first backend.
pub struct ByPrefix(pub Arc<Generation>);

impl RouterGeneration for ByPrefix {
    fn generation(&self) -> &Arc<Generation> {
        &self.0
    }
    fn configure(&self, _: &ConfigText, listener: &ListenerInfo) -> Result<RouteTable, PluginError> {
        Ok(table(listener.clone(), Vec::new(), Interests::default()))
    }
    fn instantiate(&self) -> Result<Box<dyn Router>, PluginError> {
        Ok(Box::new(Prefixes))
    }
}
struct Prefixes;

impl Router for Prefixes {
    fn route(&mut self, table: &Arc<RouteTable>, request: &RouteView<'_>) -> Result<Decision, PluginError> {
        let name = |rule: &Rule| rule.name.clone().unwrap_or_default();
        let rule = table.rules.iter().position(|r| request.path.starts_with(&name(r)));
        Ok(rule.map_or(Decision::NoMatch, |rule| {
            let backend = (!table.rules[rule].backends.is_empty()).then_some(0);
            Decision::Matched(Choice { rule, backend, matched_prefix: name(&table.rules[rule]).len() })
        }))
    }
    fn retain(&mut self, _: &dyn Fn(u64) -> bool) {}
}

pub fn service(endpoints: &[SocketAddr]) -> ServicePort {
    let all: Vec<Endpoint> = endpoints.iter().map(|a| Endpoint::new(*a)).collect();
    let pool = Arc::new(Pool::select(unique(), &all, TrafficPolicy::Cluster, Distribution::Any, &Here::default(), 50));
    ServicePort { balancers: vec![Arc::new(Turns(generation(), false))], ..ServicePort::of(reference(), pool) }
}

pub fn reference() -> ServiceRef {
    ServiceRef { namespace: "default".into(), name: "s".into(), port: 80 }
}

pub fn affinity() -> Option<Arc<Affinity>> {
    Some(Arc::new(Affinity::new(Duration::from_secs(60))))
}

pub fn to(service: usize) -> Target {
    Target::Service(ServiceSide { service, side: Side::External })
}

pub fn http(target: Target) -> Front {
    Front::Http(vec![VirtualHost { hostname: None, target }].into())
}

pub fn listener(address: SocketAddr, front: Front) -> Arc<Listener> {
    Arc::new(Listener { address, name: format!("test {address}"), front, settings: Arc::default(), limiter: None })
}

/// A listener with a policy's settings.
pub fn listener_with(address: SocketAddr, front: Front, settings: ClientSettings) -> Arc<Listener> {
    Arc::new(Listener { address, name: format!("test {address}"), front, settings: Arc::new(settings), limiter: None })
}

/// A router of UDP flows over `rules`.
pub fn udp_router(rules: Vec<Rule>) -> Target {
    let Target::Router(http) = router(rules) else { unreachable!("it makes a router") };
    let ladder = http.ladder.iter().map(|rung| RouterRung {
        generation: rung.generation.clone(),
        table: rung.table.clone(),
        rules: rung.rules.clone(),
        hands_over: false,
    });
    Target::Router(Arc::new(RouterBinding { transport: Transport::Udp, ladder: ladder.collect() }))
}

/// A router over `rules`; all their backends are service 0, all their mirrors service 1.
pub fn router(rules: Vec<Rule>) -> Target {
    let bound = |rule: &Rule| BoundRule {
        backends: rule.backends.iter().map(|_| Ok(0)).collect(),
        mirrors: rule.mirrors().map(|_| Some(1)).collect(),
        ..BoundRule::default()
    };
    let bound = rules.iter().map(bound).map(Arc::new).collect();
    let info = ListenerInfo { name: "l".into(), port: 80, transport: Transport::Http, hostname: None, namespace: "default".into() };
    let table = Arc::new(table(info, rules, Interests::default()));
    let rung = RouterRung { generation: Arc::new(ByPrefix(generation())), table, rules: bound, hands_over: false };
    Target::Router(Arc::new(RouterBinding { transport: Transport::Http, ladder: vec![rung] }))
}

/// The table that a router would make of nothing but these.
pub fn table(listener: ListenerInfo, rules: Vec<Rule>, interests: Interests) -> RouteTable {
    let rules = rules.into_iter().map(Arc::new).collect();
    RouteTable { id: unique(), config: ConfigText::default(), listener, rules, interests, trial: Trial::default() }
}

pub struct Running {
    pub proxy: Proxy,
    pub stats: Arc<ProxyStats>,
    version: AtomicU64,
}

pub fn start(workers: usize) -> Running {
    start_with(&Config { workers, ..Config::default() })
}

pub fn start_with(config: &Config) -> Running {
    let stats = Arc::new(ProxyStats::default());
    Running { proxy: Proxy::start(config, &stats).unwrap(), stats, version: AtomicU64::new(0) }
}

impl Running {
    pub async fn serve(&self, listeners: Vec<Arc<Listener>>, services: Vec<ServicePort>) {
        let version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
        let failures = self.proxy.publish(Arc::new(Snapshot::of(version, listeners, services.into_iter().map(Arc::new))));
        assert!(failures.is_empty(), "{failures:?}");
        self.proxy.served(version).await;
        assert!(self.stats.serving.load(Ordering::Relaxed) >= version);
    }
}

/// A request as it came.
#[derive(Debug)]
pub struct Seen {
    pub head: String,
    pub body: String,
}

impl Seen {
    pub fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }
    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|l| l.split_once(':'));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim()).next()
    }
}

/// Reads a message with a Content-Length, without content, or in chunks.
pub async fn message(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Seen>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match from.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && head.is_empty() => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let mut seen = Seen { head: String::from_utf8_lossy(&head).into_owned(), body: String::new() };
    let mut body = Vec::new();
    if seen.field("transfer-encoding").is_some() {
        while !body.ends_with(b"0\r\n\r\n") {
            body.push(from.read_u8().await?);
        }
    } else {
        body = vec![0; seen.field("content-length").map_or(0, |l| l.parse().unwrap())];
        from.read_exact(&mut body).await?;
    }
    seen.body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(seen))
}

/// What a backend has seen and counted.
#[derive(Clone, Default)]
pub struct Log {
    pub connections: Arc<AtomicU64>,
    pub requests: Arc<AtomicU64>,
}

/// A backend that answers each request with `answer(request)`, bytes as they go on the wire; an empty answer closes the connection.
pub async fn backend(answer: impl Fn(&Seen) -> String + Clone + Send + 'static) -> (SocketAddr, Log) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, log) = (listener.local_addr().unwrap(), Log::default());
    let counted = log.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.connections.fetch_add(1, Ordering::Relaxed);
            let (answer, counted) = (answer.clone(), counted.clone());
            tokio::spawn(async move {
                while let Ok(Some(seen)) = message(&mut stream).await {
                    counted.requests.fetch_add(1, Ordering::Relaxed);
                    let answer = answer(&seen);
                    if answer.is_empty() || stream.write_all(answer.as_bytes()).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (address, log)
}

pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Answers with the request's own head and body.
pub async fn mirror_back() -> (SocketAddr, Log) {
    backend(|seen| ok(&format!("{}{}", seen.head, seen.body))).await
}

pub async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> Seen {
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    message(stream).await.unwrap().expect("an answer")
}

pub async fn get(address: SocketAddr, path: &str) -> Seen {
    let mut stream = TcpStream::connect(address).await.unwrap();
    ask(&mut stream, &format!("GET {path} HTTP/1.1\r\nhost: a.example\r\n\r\n")).await
}

/// An address that refuses connections.
pub fn dead() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub fn loopback() -> IpAddr {
    Ipv4Addr::LOCALHOST.into()
}

/// A backend that reads requests and never sends anything.
pub async fn silent() -> SocketAddr {
    stalling("").await
}

/// A backend that answers with these bytes and then neither sends anything nor closes.
pub async fn stalling(bytes: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = message(&mut stream).await;
                let _ = stream.write_all(bytes.as_bytes()).await;
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
            });
        }
    });
    address
}
