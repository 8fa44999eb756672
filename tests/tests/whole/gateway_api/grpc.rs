//! GRPCRoute: calls over cleartext HTTP/2.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use sluicegate_tests::PATIENCE;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

use super::world::World;

/// A gRPC backend at port 81 that answers each call with its name.
pub(super) fn serve(ip: IpAddr, name: &'static str) {
    let listener = std::net::TcpListener::bind((ip, 81)).expect("port 81 of a loopback address: run as root, or allow unprivileged ports");
    listener.set_nonblocking(true).expect("set");
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(stream).await?;
                    while let Some(accepted) = connection.accept().await {
                        let (_, mut respond) = accepted?;
                        let mut head = Response::new(());
                        head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
                        let mut sending = respond.send_response(head, false)?;
                        sending.send_data(Bytes::from_static(name.as_bytes()), false)?;
                        let status = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
                        sending.send_trailers(HeaderMap::from_iter([status]))?;
                    }
                    Ok::<(), h2::Error>(())
                });
            }
        });
    });
}

/// A call: who answers it, and its status.
pub(super) fn call(at: SocketAddr, authority: &str, path: &str, header: Option<(&str, &str)>) -> Option<(String, String)> {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let answer = async {
        let stream = TcpStream::connect(at).await.ok()?;
        let (sender, connection) = h2::client::handshake(stream).await.ok()?;
        tokio::spawn(connection);
        let mut sender = sender.ready().await.ok()?;
        let mut request =
            Request::post(format!("http://{authority}{path}")).header("content-type", "application/grpc").header("te", "trailers");
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let (response, _) = sender.send_request(request.body(()).expect("a request"), true).ok()?;
        let (head, mut content) = response.await.ok()?.into_parts();
        let mut body = Vec::new();
        while let Some(data) = content.data().await {
            body.extend_from_slice(&data.ok()?);
        }
        let trailers = content.trailers().await.ok()?.unwrap_or_default();
        let status = trailers.get("grpc-status").or_else(|| head.headers.get("grpc-status"))?;
        Some((String::from_utf8(body).ok()?, status.to_str().ok()?.to_owned()))
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await.ok().flatten() })
}

const OK: &str = "0";
const UNIMPLEMENTED: &str = "12";

/// Waits until a call is answered so.
fn expect(world: &World, i: u8, authority: &str, path: &str, header: Option<(&str, &str)>, wanted: (&str, &str)) {
    let at = SocketAddr::new(world.address(i), 80);
    let mut last = None;
    sluicegate_tests::eventually(&format!("{authority} {path} {header:?}: {wanted:?}"), || {
        last = call(at, authority, path, header);
        last.as_ref().is_some_and(|(name, status)| (name.as_str(), status.as_str()) == wanted)
    });
}

/// A GRPCRoute with one parent.
fn route(name: &str, parent: &str, spec: &str) -> String {
    super::world::route_of("infra", name, parent, spec).replace("HTTPRoute", "GRPCRoute")
}

const SERVICE: &str = "gateway_api_conformance.echo_basic.grpcecho.GrpcEcho";

fn method(name: &str) -> String {
    format!("/{SERVICE}/{name}")
}

#[test]
fn GRPCExactMethodMatching() {
    let rule = |name: &str, backend: &str| {
        format!("  - {{matches: [{{method: {{service: {SERVICE}, method: {name}}}}}], backendRefs: [{{name: {backend}, port: 8080}}]}}\n")
    };
    let rules = rule("Echo", "g1") + &rule("EchoTwo", "g2");
    let world = World::new(&route("r", "{name: same-namespace}", &format!("  rules:\n{rules}")));
    expect(&world, 1, "a.example", &method("Echo"), None, ("g1", OK));
    expect(&world, 1, "a.example", &method("EchoTwo"), None, ("g2", OK));
    expect(&world, 1, "a.example", &method("EchoThree"), None, ("", UNIMPLEMENTED));
    world.accepted("grpcroutes", "r");
    world.attached("same-namespace", &[1]);
}

#[test]
fn GRPCRouteHeaderMatching() {
    let rules = "  rules:
  - {matches: [{headers: [{name: version, value: one}]}], backendRefs: [{name: g1, port: 8080}]}
  - {matches: [{headers: [{name: version, value: two}]}], backendRefs: [{name: g2, port: 8080}]}
  - {matches: [{headers: [{name: color, value: blue}]}, {headers: [{name: color, value: green}]}], backendRefs: [{name: g1, port: 8080}]}";
    let world = World::new(&route("r", "{name: same-namespace}", rules));
    for (name, value, backend) in [("Version", "one", "g1"), ("version", "two", "g2"), ("color", "blue", "g1"), ("color", "green", "g1")] {
        expect(&world, 1, "a.example", &method("Echo"), Some((&name.to_lowercase(), value)), (backend, OK));
    }
    expect(&world, 1, "a.example", &method("Echo"), Some(("color", "purple")), ("", UNIMPLEMENTED));
    expect(&world, 1, "a.example", &method("Echo"), None, ("", UNIMPLEMENTED));
}

#[test]
fn GRPCRouteListenerHostnameMatching() {
    let listeners = "  - {name: l1, port: 80, protocol: HTTP, hostname: bar.com}
  - {name: l2, port: 80, protocol: HTTP, hostname: foo.bar.com}
  - {name: l3, port: 80, protocol: HTTP, hostname: '*.bar.com'}
  - {name: l4, port: 80, protocol: HTTP, hostname: '*.foo.com'}";
    let to = |name: &str| format!("  rules: [{{backendRefs: [{{name: {name}, port: 8080}}]}}]");
    let routes = route("r1", "{name: hosts, sectionName: l1}", &to("g1"))
        + &route("r2", "{name: hosts, sectionName: l2}", &to("g2"))
        + &route("r3", "{name: hosts, sectionName: l3}, {name: hosts, sectionName: l4}", &to("g3"));
    let world = World::new(&(super::world::gateway("hosts", 4, listeners) + &routes));
    for (host, backend) in [
        ("bar.com", "g1"),
        ("foo.bar.com", "g2"),
        ("baz.bar.com", "g3"),
        ("multiple.prefixes.bar.com", "g3"),
        ("multiple.prefixes.foo.com", "g3"),
    ] {
        expect(&world, 4, host, &method("Echo"), None, (backend, OK));
    }
    for host in ["foo.com", "no.matching.host"] {
        expect(&world, 4, host, &method("Echo"), None, ("", UNIMPLEMENTED));
    }
}

#[test]
fn GRPCRouteWeight() {
    let rules = "  rules: [{backendRefs: [{name: g1, port: 8080, weight: 70}, {name: g2, port: 8080, weight: 30}, {name: g3, port: 8080, weight: 0}]}]";
    let world = World::new(&route("r", "{name: same-namespace}", rules));
    expect(&world, 1, "a.example", &method("Echo"), None, ("g1", OK));
    let at = SocketAddr::new(world.address(1), 80);
    let names: Vec<String> = (0..500).map(|_| call(at, "a.example", &method("Echo"), None).expect("an answer").0).collect();
    let share = |name: &str| names.iter().filter(|answered| *answered == name).count();
    assert_eq!(share("g1") + share("g2"), 500);
    // Six standard deviations of 500 draws are 61.
    assert!((289..=411).contains(&share("g1")), "{}", share("g1"));
}

#[test]
fn GRPCRouteNamedRule() {
    let rules = format!(
        "  rules:
  - {{name: named, matches: [{{method: {{service: {SERVICE}, method: Echo}}}}], backendRefs: [{{name: g1, port: 8080}}]}}
  - {{matches: [{{method: {{service: {SERVICE}, method: EchoTwo}}}}], backendRefs: [{{name: g2, port: 8080}}]}}"
    );
    let world = World::new(&route("r", "{name: same-namespace}", &rules));
    expect(&world, 1, "a.example", &method("Echo"), None, ("g1", OK));
    expect(&world, 1, "a.example", &method("EchoTwo"), None, ("g2", OK));
}
