//! Requests of a running gateway, sampled: recorded to be played to another configuration, and watched live.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use sluicegate_model::requests::{End, Line, RequestLine};
use sluicegate_tests::{Gateway, PATIENCE, eventually, fetch, http};

const ORDER: &str = "x-sluicegate-request";
const PORT: u16 = 18_783;

/// A Gateway with a route for `/shop` to one Service, one that redirects, and a TCP listener.
fn objects(ip: std::net::IpAddr) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec:\n  gatewayClassName: sluicegate\n  addresses: [{{value: {ip}}}]\n  \
         listeners: [{{name: web, protocol: HTTP, port: {PORT}}}, {{name: raw, protocol: TCP, port: {}}}]\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: shop}}\nspec: {{selector: {{app: nginx}}, ports: [{{port: 80, appProtocol: http}}]}}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute\nmetadata: {{name: raw}}\nspec:\n  parentRefs: [{{name: edge, sectionName: raw}}]\n  \
         rules: [{{backendRefs: [{{name: shop, port: 80}}]}}]\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: shop}}\nspec:\n  parentRefs: [{{name: edge, sectionName: web}}]\n  rules:\n  \
         - matches: [{{path: {{value: /shop}}}}]\n    backendRefs: [{{name: shop, port: 80}}]\n  \
         - matches: [{{path: {{value: /old}}}}]\n    filters: [{{type: RequestRedirect, requestRedirect: {{path: {{type: ReplaceFullPath, replaceFullPath: /shop}}}}}}]\n",
        PORT + 1
    )
}

fn gateway() -> (Gateway, SocketAddr) {
    let gateway = Gateway::new(&[]);
    http(gateway.ip(2), "a");
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    let address = SocketAddr::new(gateway.ip(9), PORT);
    gateway.write("all.yaml", &objects(address.ip()));
    eventually("served", || TcpStream::connect(address).is_ok() && asked(address, "/shop", "") == 200);
    (gateway, address)
}

/// Sends one request, and returns the answer's status.
fn asked(address: SocketAddr, target: &str, fields: &str) -> u16 {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    write!(stream, "GET {target} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n{fields}\r\n").expect("sent");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("an answer");
    line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
}

fn post(gateway: &Gateway, query: &str, field: &str) -> ureq::http::Response<ureq::Body> {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into();
    agent.post(format!("http://{}/api/v1/requests?{query}", gateway.admin())).header(field, "1").send_empty().expect("answered")
}

/// What is recorded while `during` runs: its requests, and how it ended.
fn recorded(gateway: &Gateway, query: &str, during: impl FnOnce()) -> (Vec<RequestLine>, End, String) {
    let mut answer = post(gateway, query, ORDER);
    assert_eq!(answer.status(), 200, "{query}");
    let mut lines = BufReader::new(answer.body_mut().as_reader()).lines().map(|line| line.expect("read"));
    let mut text = lines.next().expect("it says that it has begun");
    // From now on it samples: the first grant comes with the first line.
    during();
    let (mut requests, mut end) = (Vec::new(), None);
    for line in lines {
        text.push_str(&line);
        match serde_json::from_str(&line).expect("a line") {
            Line::Request(request) => requests.push(*request),
            Line::End(told) => end = Some(told),
            Line::Begin(_) | Line::Dropped(_) => {}
        }
    }
    (requests, end.expect("it says that it has ended"), text)
}

#[test]
fn requests_are_recorded_with_what_decisions_depend_on_and_no_secret() {
    let (gateway, address) = gateway();
    let secret = "Authorization: Bearer s3cret\r\nCookie: session=s3cret\r\nX-Token: t0ken\r\nX-Other: 0ther\r\nAccept: text/plain\r\n";
    let (requests, end, text) = recorded(&gateway, "seconds=20&count=4&headers=accept&hash=x-token", || {
        assert_eq!(asked(address, "/shop/1?q=%41", secret), 200);
        assert_eq!(asked(address, "/old", "X-Token: t0ken\r\n"), 302);
        assert_eq!(asked(address, "/nothing", ""), 404);
        assert_eq!(fetch(SocketAddr::new(address.ip(), PORT + 1)).0, 200);
    });
    assert_eq!((end.requests, end.dropped, end.why.as_str()), (4, 0, "count"), "{text}");
    assert!(!["s3cret", "t0ken", "0ther"].iter().any(|value| text.contains(value)), "{text}");
    let [shop, old, nothing, raw] = &requests[..] else { panic!("{text}") };
    assert_eq!((shop.method.as_str(), shop.host.as_str(), shop.target.as_str()), ("GET", "a.example", "/shop/1?q=%41"));
    assert_eq!((shop.listener.as_str(), shop.address), ("listener web of Gateway default/edge", Some(address)));
    assert_eq!((shop.version.as_str(), shop.protocol.as_str(), shop.content_length), ("HTTP/1.1", "http", Some(0)));
    assert_eq!((shop.client.as_str(), &shop.server_name), ("127.0.0.1", &None));
    let decided = &shop.decided;
    assert_eq!((decided.service.as_deref(), decided.status), (Some("default/shop:80"), Some(200)));
    assert_eq!(decided.rule.as_deref(), Some("HTTPRoute default/shop rules[0]"));
    assert!(decided.endpoint.is_some() && decided.microseconds.is_some(), "{decided:?}");
    let names: Vec<&str> = shop.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["x-token", "accept"], "in the order in which they came");
    assert!(shop.headers[0].1.starts_with("hashed-") && shop.headers[0] == old.headers[0], "equal values stay equal");
    assert_eq!((old.decided.status, old.decided.reason.as_deref()), (Some(302), Some("redirect")));
    assert_eq!(old.decided.rule.as_deref(), Some("HTTPRoute default/shop rules[1]"));
    assert_eq!((nothing.decided.status, nothing.decided.reason.as_deref(), &nothing.decided.rule), (Some(404), Some("no-route"), &None));
    assert_eq!((raw.protocol.as_str(), raw.decided.service.as_deref()), ("tcp", Some("default/shop:80")));
}

#[test]
fn recordings_of_requests_are_bounded_filtered_and_ordered() {
    let (gateway, address) = gateway();
    let (requests, end, _) = recorded(&gateway, "seconds=20&count=2&path=/shop&status=2xx&service=default/shop&connections=false", || {
        for target in ["/old", "/shop/1", "/nothing", "/shop/2", "/shop/3"] {
            asked(address, target, "");
        }
    });
    let targets: Vec<&str> = requests.iter().map(|request| request.target.as_str()).collect();
    assert_eq!((targets, end.why.as_str()), (vec!["/shop/1", "/shop/2"], "count"));
    let (requests, end, _) = recorded(&gateway, "seconds=20&every=3&bytes=1024", || {
        for _ in 0..12 {
            asked(address, "/shop", "");
        }
    });
    assert_eq!(end.why, "size");
    assert!((2..=4).contains(&requests.len()), "one of three: {}", requests.len());
    let (requests, end, _) = recorded(&gateway, "seconds=1&rate=2&client=none&query=none", || {
        for _ in 0..6 {
            asked(address, "/shop?a=b", "");
        }
    });
    assert!(requests.len() <= 4 && end.dropped >= 2 && end.why == "time", "two a second: {end:?}");
    assert!(requests.iter().all(|request| request.client.is_empty() && request.target == "/shop"));
    for (query, field, status) in [
        ("seconds=1", "x-other", 403),
        ("seconds=0", ORDER, 400),
        ("secunds=1", ORDER, 400),
        ("status=9xx", ORDER, 400),
        ("from=here", ORDER, 400),
        ("client=half", ORDER, 400),
        ("headers=a%20b", ORDER, 400),
    ] {
        assert_eq!(post(&gateway, query, field).status(), status, "{query}");
    }
    let running: Vec<_> = (0..4).map(|_| post(&gateway, "seconds=3600", ORDER)).collect();
    assert!(running.iter().all(|answer| answer.status() == 200));
    let mut refused = post(&gateway, "seconds=1", ORDER);
    let said = refused.body_mut().read_to_string().expect("text");
    assert!(refused.status() == 409 && said.contains("there may be no more than 4"), "{said}");
    drop(running);
    eventually("another one may begin", || {
        std::thread::sleep(Duration::from_millis(20));
        asked(address, "/shop", "");
        post(&gateway, "seconds=1&count=1", ORDER).status() == 200
    });
}
