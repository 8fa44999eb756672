//! What is settled about a request before it is routed: which host it is for, what is believed about its client, and how its path is read.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{HeaderName, HeaderValue, Request, header};
use sluicegate_model::config_text::ConfigText;
use sluicegate_model::plugin::{Generation, PluginError, Router, RouterGeneration};
use sluicegate_model::route::{Actions, Backend, Choice, Decision, HeaderChanges, Interests, ListenerInfo, RouteTable, RouteView, Rule};
use sluicegate_model::settings::{ClientSettings, HeaderExtras, HeaderSettings, PathSettings, Trust, WithUnderscoresAction};
use sluicegate_model::snapshot::{Front, RouterBinding, RouterRung, Target, VirtualHost};
use tokio::net::TcpStream;

use crate::support::http2::{call, connect, get_request};
use crate::support::*;

/// A gateway with one listener and the mirror behind it.
async fn serving(target: Target, settings: ClientSettings) -> (Running, std::net::SocketAddr, Log) {
    let (proxy, at) = (start(1), free());
    let (to_mirror, log) = mirror_back().await;
    proxy.serve(vec![listener_with(at, http(target), settings)], vec![service(&[to_mirror])]).await;
    (proxy, at, log)
}

async fn raw(at: std::net::SocketAddr, request: &str) -> Seen {
    ask(&mut TcpStream::connect(at).await.unwrap(), request).await
}

fn reason(answer: &Seen) -> (u16, Option<&str>) {
    (answer.status(), answer.field("x-sluicegate-reason"))
}

/// Texts that are not a host, with or without a port.
const NO_HOSTS: &[&str] = &[
    "",
    ":80",
    ":",
    "a:80abc",
    "a:x.evil",
    "a:99999",
    "a:65536",
    "a:123456",
    "a:-1",
    "a:+1",
    "a:1:2",
    "[zz]",
    "[::1",
    "[::1]x",
    "[::1]80",
    "[]",
    "[1.2.3.4]",
    "[fe80::1%25lo]",
    "::1",
    "a,b",
    "a, b",
    "u@a",
    "u:p@a",
    "@a",
    "a/b",
    "a b",
    "a%zz",
    "a%",
    ".",
    "..",
    ".a",
    "a..",
    "a..b",
];

#[test]
fn authority_and_host_pass_one_check() {
    run(async {
        let (_proxy, at, log) = serving(to(0), ClientSettings::default()).await;
        for host in NO_HOSTS {
            let mut requests = vec![
                format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"),
                format!("GET http://a/ HTTP/1.1\r\nhost: {host}\r\n\r\n"),
                format!("GET / HTTP/1.0\r\nhost: {host}\r\n\r\n"),
            ];
            // In a target a slash begins the path, and a space ends it.
            if !host.contains(['/', ' ']) {
                requests.push(format!("GET http://{host}/ HTTP/1.1\r\nhost: a\r\n\r\n"));
                requests.push(format!("GET http://{host}/ HTTP/1.0\r\n\r\n"));
                requests.push(format!("OPTIONS http://{host} HTTP/1.1\r\nhost: a\r\n\r\n"));
            }
            for request in requests {
                let answer = raw(at, &request).await;
                assert_eq!((answer.status(), answer.field("connection")), (400, Some("close")), "{request}");
            }
        }
        assert_eq!(log.requests.load(Ordering::Relaxed), 0);
        for host in [
            "a",
            "a:80",
            "a:",
            "A.Example",
            "x_y.z",
            "127.0.0.1:65535",
            "[::1]",
            "[::1]:80",
            "[::ffff:192.0.2.1]",
            "a.",
            "a.:80",
            "xn--bcher-kva.example",
        ] {
            let told = format!("host: {host}\r\n");
            for request in [format!("GET / HTTP/1.1\r\n{told}\r\n"), format!("GET http://{host}/ HTTP/1.1\r\nhost: other\r\n\r\n")] {
                let answer = raw(at, &request).await;
                assert!(answer.status() == 200 && answer.body.contains(&told), "{request}: {}{}", answer.head, answer.body);
            }
        }
        assert_eq!(raw(at, "GET / HTTP/1.0\r\n\r\n").await.status(), 200, "HTTP/1.0 knows no Host");
    });
}

#[test]
fn http2_has_the_same_check() {
    run(async {
        let (_proxy, at, log) = serving(to(0), ClientSettings::default()).await;
        let client = connect(at).await;
        for host in ["a:80abc", "[zz]", "a,b", ":80", "a:99999", "u@a", "a..b"] {
            let Ok(target) = Request::get(format!("http://{host}/")).body(()) else { continue };
            let answer = call(&client, target, "", None).await.unwrap();
            assert_eq!((answer.status(), answer.field("x-sluicegate-reason")), (400, Some("bad-host")), "{host}");
        }
        for hosts in [&["a.example", "a.example"][..], &["b"], &[""]] {
            let mut request = get_request("/");
            for host in hosts {
                request.headers_mut().append(header::HOST, HeaderValue::from_static(host));
            }
            let answer = call(&client, request, "", None).await.unwrap();
            assert_eq!((answer.status(), answer.field("x-sluicegate-reason")), (400, Some("bad-host")), "{hosts:?}");
        }
        assert_eq!(log.requests.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_last_dot_is_no_part_of_the_name() {
    run(async {
        let (proxy, at, ca) = (start(1), free(), tls::Authority::new());
        let (to_mirror, _) = mirror_back().await;
        let hosts = vec![
            VirtualHost { hostname: Some("a.example".into()), target: to(0) },
            VirtualHost { hostname: Some("*.w.example".into()), target: to(0) },
        ];
        let (issued, secure) = (ca.issue(&["a.example", "b.example"]), free());
        let ended = tls::ended(tls::settings(&[&issued]));
        let over_tls = Front::Tls(vec![tls::https(Some("a.example"), &ended, to(0)), tls::https(Some("b.example"), &ended, to(0))].into());
        proxy.serve(vec![listener(at, Front::Http(hosts.into())), listener(secure, over_tls)], vec![service(&[to_mirror])]).await;
        for host in ["a.example.", "A.example.:80", "x.w.example."] {
            assert_eq!(raw(at, &format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")).await.status(), 200, "{host}");
            assert_eq!(raw(at, &format!("GET http://{host}/ HTTP/1.1\r\nhost: {host}\r\n\r\n")).await.status(), 200, "{host}");
        }
        assert_eq!(reason(&raw(at, "GET / HTTP/1.1\r\nhost: a.example..\r\n\r\n").await), (400, Some("bad-host")));
        let client = Arc::new(ca.client());
        // By RFC 6066 §3 the server name has no last dot, but browsers leave it in Host.
        let mut stream = tls::connect(secure, "a.example", &client).await.unwrap();
        for (host, status) in [("a.example.", 200), ("a.example.:443", 200), ("b.example.", 421), ("c.example.", 404), ("a.example", 200)] {
            assert_eq!(ask(&mut stream, &format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")).await.status(), status, "{host}");
        }
    });
}

const CLAIMS: &[&str] = &[
    "x-real-ip",
    "x-forwarded-prefix",
    "x-forwarded-ssl",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-uri",
    "x-forwarded-method",
    "x-forwarded-by",
    "x-forwarded-user",
    "x-original-url",
    "x-rewrite-url",
    "x-original-forwarded-for",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "x-cluster-client-ip",
    "forwarded",
    "client-cert",
    "ssl-client-verify",
    "x-ssl-client-cert",
    "remote-user",
    "x-remote-user",
    "x-auth-request-email",
    "x-scheme",
    "front-end-https",
    "x-envoy-external-address",
    "x.real.ip",
];

#[test]
fn only_trusted_proxies_make_claims() {
    run(async {
        let fields: String = CLAIMS.iter().map(|name| format!("{name}: claimed\r\n")).collect();
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}x-role: own\r\n\r\n");
        let (_proxy, at, _) = serving(to(0), ClientSettings::default()).await;
        let body = raw(at, &request).await.body;
        assert!(!body.contains("claimed") && body.contains("x-role: own\r\n"), "{body}");
        let mut http2 = get_request("/");
        for name in CLAIMS {
            http2.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static("claimed"));
        }
        let body = call(&connect(at).await, http2, "", None).await.unwrap().body;
        assert!(!body.contains("claimed"), "{body}");

        let (_proxy, at, _) = serving(to(0), ClientSettings { trust: Trust::Hops(1), ..ClientSettings::default() }).await;
        let body = raw(at, &request.replace("x-role: own", "x-forwarded-for: 192.0.2.1")).await.body;
        assert_eq!(body.matches("claimed").count(), CLAIMS.len(), "a trusted proxy's are kept: {body}");

        let headers = HeaderSettings { underscores: WithUnderscoresAction::Allow, extras: None, preserve_case: false };
        let (_proxy, at, _) = serving(to(0), ClientSettings { headers, ..ClientSettings::default() }).await;
        let twins =
            "x_real_ip: claimed\r\nX_Forwarded_For: claimed\r\nx_forwarded_client_cert: claimed\r\nremote_user: claimed\r\nmy_own: 1\r\n";
        let body = raw(at, &format!("GET / HTTP/1.1\r\nhost: a\r\n{twins}\r\n")).await.body;
        assert!(!body.contains("claimed") && body.contains("my_own: 1\r\n"), "{body}");
    });
}

/// Takes every request with `x-role: admin` by rule 0, all others by rule 1.
struct ByRole(Arc<Generation>);
struct Roles;

impl RouterGeneration for ByRole {
    fn generation(&self) -> &Arc<Generation> {
        &self.0
    }
    fn configure(&self, _: &ConfigText, _: &ListenerInfo) -> Result<RouteTable, PluginError> {
        unreachable!("its table is made by hand")
    }
    fn instantiate(&self) -> Result<Box<dyn Router>, PluginError> {
        Ok(Box::new(Roles))
    }
}

impl Router for Roles {
    fn route(&mut self, _: &Arc<RouteTable>, request: &RouteView<'_>) -> Result<Decision, PluginError> {
        let admin = request.headers.get("x-role").is_some_and(|role| role == "admin");
        Ok(Decision::Matched(Choice { rule: usize::from(!admin), backend: Some(0), matched_prefix: 0 }))
    }
    fn retain(&mut self, _: &dyn Fn(u64) -> bool) {}
}

fn by_role() -> Target {
    let marked = |mark| Rule {
        actions: Actions {
            request_headers: HeaderChanges {
                set: vec![(HeaderName::from_static("x-rule"), HeaderValue::from_static(mark))],
                ..HeaderChanges::default()
            },
            ..Actions::default()
        },
        backends: vec![Backend { service: reference(), weight: 1, actions: Actions::default() }],
        ..Rule::default()
    };
    let Target::Router(binding) = router(vec![marked("admin"), marked("all")]) else { unreachable!("it makes a router") };
    let rung = &binding.ladder[0];
    let table = RouteTable {
        rules: rung.table.rules.clone(),
        interests: Interests { headers: vec![HeaderName::from_static("x-role")], ..Interests::default() },
        ..table(rung.table.listener.clone(), Vec::new(), Interests::default())
    };
    let rung =
        RouterRung { generation: Arc::new(ByRole(generation())), table: Arc::new(table), rules: rung.rules.clone(), hands_over: false };
    Target::Router(Arc::new(RouterBinding { transport: binding.transport, ladder: vec![rung] }))
}

#[test]
fn connection_names_away_neither_what_was_set_nor_what_was_routed_on() {
    run(async {
        let early =
            HeaderChanges { set: vec![(HeaderName::from_static("x-edge"), HeaderValue::from_static("1"))], ..HeaderChanges::default() };
        let extras = HeaderExtras {
            early,
            trace: Some(100),
            request_id: sluicegate_model::settings::RequestIdAction::Generate,
            ..HeaderExtras::default()
        };
        let headers = HeaderSettings { extras: Some(Box::new(extras)), ..HeaderSettings::default() };
        let (_proxy, at, _) = serving(by_role(), ClientSettings { headers, ..ClientSettings::default() }).await;
        let names = "x-edge, traceparent, x-request-id, x-forwarded-for, x-rule, host, x-hop, x-real-ip";
        let body = raw(at, &format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: {names}\r\nx-hop: 1\r\ntraceparent: x\r\n\r\n")).await.body;
        for there in [
            "x-edge: 1\r\n",
            "\r\ntraceparent: 00-",
            "\r\nx-request-id: ",
            "x-forwarded-for: 127.0.0.1\r\n",
            "x-rule: all\r\n",
            "host: a\r\n",
        ] {
            assert!(body.contains(there), "{there:?} is not in {body}");
        }
        assert!(!body.contains("x-hop"), "{body}");
        // The router sees exactly what the endpoint gets.
        let admin = |connection: &str| format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: {connection}\r\nx-role: admin\r\n\r\n");
        let body = raw(at, &admin("X-Role")).await.body;
        assert!(body.contains("x-rule: all\r\n") && !body.contains("x-role"), "{body}");
        let body = raw(at, &admin("keep-alive")).await.body;
        assert!(body.contains("x-rule: admin\r\n") && body.contains("x-role: admin\r\n"), "{body}");
    });
}

#[test]
fn a_path_has_one_reading_for_routers_and_endpoints() {
    run(async {
        let backends = vec![Backend { service: reference(), weight: 1, actions: Actions::default() }];
        // Longest first, as a router orders them; a rule without a name takes the rest.
        let rules = ["/admin", "/@me", "/%C3%A4", ""].map(|name| Rule {
            name: Some(name.to_owned()),
            backends: backends.clone(),
            actions: Actions {
                request_headers: HeaderChanges {
                    set: vec![(HeaderName::from_static("x-rule"), HeaderValue::from_static(name))],
                    ..HeaderChanges::default()
                },
                ..Actions::default()
            },
            ..Rule::default()
        });
        let (_proxy, at, _) =
            serving(router(rules.to_vec()), ClientSettings { path: PathSettings::default(), ..ClientSettings::default() }).await;
        for path in [
            "/;/admin",
            "/;x=1/admin",
            "/admin;x",
            "/secret;x",
            "/a/;b",
            "/.;/x",
            "/..;/x",
            "/..%3b/x",
            "/x/.%3B/y",
            "/\\admin",
            "/a\\..\\b",
            "/%c0%ae%c0%ae/x",
            "/%c0%af",
            "/%e0%80%af",
            "/%f0%80%80%af",
            "/%u002e",
            "/a%0",
            "/x%00",
        ] {
            let answer = raw(at, &format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
            assert_eq!(reason(&answer), (400, Some("bad-path")), "{path}");
        }
        for (path, rule, forwarded) in [
            ("/%40me", "/@me", "/@me"),
            ("/@me", "/@me", "/@me"),
            ("/ä/x", "/%C3%A4", "/%C3%A4/x"),
            ("/%c3%a4/x", "/%C3%A4", "/%C3%A4/x"),
            ("/%61dmin", "/admin", "/admin"),
            ("/a%21%24%26%27%28%29%2a%2B%2c%3a%3D", "", "/a!$&'()*+,:="),
            ("/a%3Bb", "", "/a%3Bb"),
            ("/a[1]{2}|^\"x\"", "", "/a%5B1%5D%7B2%7D%7C%5E%22x%22"),
            ("/a%5b1%5d", "", "/a%5B1%5D"),
            ("/%E4", "", "/%E4"),
            ("/a%3Fb%23c", "", "/a%3Fb%23c"),
            ("/x?a=;b\\c&d=ä", "", "/x?a=;b\\c&d=ä"),
        ] {
            let answer = raw(at, &format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
            assert!(answer.body.starts_with(&format!("GET {forwarded} HTTP/1.1\r\n")), "{path}: {}{}", answer.head, answer.body);
            assert!(answer.body.contains(&format!("x-rule: {rule}\r\n")), "{path}: {}", answer.body);
        }
    });
}
