//! Who the client is, and which fields tell the endpoint about it, depending on the listener's policy.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::Ordering;

use http::{HeaderName, HeaderValue};
use sluicegate_model::route::{Actions, Backend, HeaderChanges, Rule};
use sluicegate_model::settings::{
    ClientSettings, EscapedSlashes, ForwardedAction, HeaderExtras, HeaderSettings, PathSettings, RequestIdAction, Trust, Via,
    WithUnderscoresAction,
};
use tokio::net::TcpStream;

use crate::support::*;

const CLAIMS: &str = "x-forwarded-for: 6.6.6.6, 192.0.2.9\r\nx-forwarded-proto: https\r\nx-forwarded-host: b.example\r\nforwarded: for=6.6.6.6\r\nx-request-id: theirs\r\n";

/// What the endpoint gets when a request has these fields, with these settings.
async fn seen(settings: ClientSettings, path: &str, fields: &str) -> Seen {
    let (proxy, at) = (start(1), free());
    let (to_backend, _) = mirror_back().await;
    proxy.serve(vec![listener_with(at, http(to(0)), settings)], vec![service(&[to_backend])]).await;
    let mut stream = TcpStream::connect(at).await.unwrap();
    ask(&mut stream, &format!("GET {path} HTTP/1.1\r\nhost: a.example\r\n{fields}\r\n")).await
}

fn extras(extras: HeaderExtras) -> ClientSettings {
    ClientSettings { headers: HeaderSettings { extras: Some(Box::new(extras)), ..HeaderSettings::default() }, ..ClientSettings::default() }
}

#[test]
fn what_a_client_claims_is_replaced_unless_it_is_a_trusted_proxy() {
    run(async {
        let body = seen(ClientSettings::default(), "/", CLAIMS).await.body;
        assert!(body.contains("x-forwarded-for: 127.0.0.1\r\n") && body.contains("x-forwarded-proto: http\r\n"), "{body}");
        assert!(body.contains("x-forwarded-host: a.example\r\n") && body.contains("x-forwarded-port: "), "{body}");
        assert!(!body.contains("6.6.6.6") && body.contains("x-request-id: theirs\r\n"), "{body}");
        let networks = Trust::Networks(vec!["127.0.0.0/8".parse().unwrap()]);
        for trust in [Trust::Hops(1), networks] {
            let body = seen(ClientSettings { trust, ..ClientSettings::default() }, "/", CLAIMS).await.body;
            assert!(body.contains("x-forwarded-for: 192.0.2.9, 127.0.0.1\r\n") && body.contains("x-forwarded-proto: https\r\n"), "{body}");
            assert!(body.contains("x-forwarded-host: b.example\r\n") && body.contains("x-forwarded-port: 443\r\n"), "{body}");
            assert!(body.contains("forwarded: for=6.6.6.6\r\n"), "{body}");
        }
    });
}

#[test]
fn the_client_that_was_found_is_who_affinity_knows() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (a, _) = backend(|_| ok("a")).await;
        let (b, _) = backend(|_| ok("b")).await;
        let mut s = service(&[a, b]);
        s.affinity = affinity();
        let settings = ClientSettings { trust: Trust::Hops(1), ..ClientSettings::default() };
        proxy.serve(vec![listener_with(at, http(to(0)), settings)], vec![s]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        let mut served = Vec::new();
        for client in ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.2", "192.0.2.1"] {
            served.push(ask(&mut stream, &format!("GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: {client}\r\n\r\n")).await.body);
        }
        assert_ne!(served[0], served[1], "two clients by one connection, in turn");
        assert_eq!((&served[2..4], &served[4]), (&served[..2], &served[0]), "each keeps its endpoint");
    });
}

#[test]
fn identifiers_are_made_kept_and_replaced() {
    run(async {
        let field = |seen: &Seen, name: &str| {
            let value = seen.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            value.map(str::to_owned)
        };
        let id = |action| extras(HeaderExtras { request_id: action, trace: Some(100), ..HeaderExtras::default() });
        let made = seen(id(RequestIdAction::PreserveOrGenerate), "/", CLAIMS).await;
        let request_id = field(&made, "x-request-id").unwrap();
        assert!(request_id.len() == 36 && request_id != "theirs", "{request_id}");
        let trace = field(&made, "traceparent").unwrap();
        assert!(trace.starts_with("00-") && trace.len() == 55 && trace.ends_with("-01"), "{trace}");
        let trusting = ClientSettings { trust: Trust::Hops(1), ..id(RequestIdAction::PreserveOrGenerate) };
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let kept = seen(trusting, "/", &format!("{CLAIMS}traceparent: {parent}\r\ntracestate: a=1\r\n")).await;
        assert_eq!((field(&kept, "x-request-id").as_deref(), field(&kept, "traceparent").as_deref()), (Some("theirs"), Some(parent)));
        assert_eq!(field(&kept, "tracestate").as_deref(), Some("a=1"));
        let replaced = seen(id(RequestIdAction::Generate), "/", "traceparent: 00-zz\r\ntracestate: a=1\r\n").await;
        assert!(field(&replaced, "traceparent").is_some_and(|t| t.len() == 55) && field(&replaced, "tracestate").is_none());
    });
}

#[test]
fn forwarded_and_via_are_added_where_they_are_wanted() {
    run(async {
        let via = Via { pseudonym: "edge-1".to_owned(), element: HeaderValue::from_static("1.1 edge-1") };
        let wanted = || extras(HeaderExtras { forwarded: ForwardedAction::Append, via: Some(via.clone()), ..HeaderExtras::default() });
        let answer = seen(wanted(), "/", CLAIMS).await;
        assert!(answer.body.contains("\r\nforwarded: for=127.0.0.1;host=\"a.example\";proto=http\r\n"), "{}", answer.body);
        assert!(answer.body.contains("\r\nvia: 1.1 edge-1\r\n") && answer.field("via") == Some("1.1 edge-1"), "{}", answer.head);
        let trusting = ClientSettings { trust: Trust::Hops(1), ..wanted() };
        let body = seen(trusting, "/", CLAIMS).await.body;
        assert!(body.contains("\r\nforwarded: for=6.6.6.6, for=127.0.0.1;host=\"a.example\";proto=http\r\n"), "{body}");
        let round = seen(wanted(), "/", "via: 1.1 edge-1\r\n").await;
        assert_eq!((round.status(), round.field("x-sluicegate-reason")), (508, Some("loop")));
    });
}

#[test]
fn names_with_underscores_and_early_changes() {
    run(async {
        let by = |underscores| ClientSettings {
            headers: HeaderSettings { underscores, ..HeaderSettings::default() },
            ..ClientSettings::default()
        };
        let allowed = seen(by(WithUnderscoresAction::Allow), "/", "a_b: 1\r\n").await;
        assert!(allowed.body.contains("a_b: 1\r\n"), "{}", allowed.body);
        let refused = seen(by(WithUnderscoresAction::RejectRequest), "/", "a_b: 1\r\n").await;
        assert_eq!((refused.status(), refused.field("x-sluicegate-reason")), (400, Some("bad-name")));
        let early = HeaderChanges {
            set: vec![(HeaderName::from_static("x-tier"), HeaderValue::from_static("gold"))],
            remove: vec![HeaderName::from_static("x-internal")],
            ..HeaderChanges::default()
        };
        let body = seen(extras(HeaderExtras { early, ..HeaderExtras::default() }), "/", "x-tier: lead\r\nx-internal: 1\r\n").await.body;
        assert!(body.contains("x-tier: gold\r\n") && !body.contains("lead") && !body.contains("x-internal"), "{body}");
    });
}

#[test]
fn a_router_sees_the_path_that_the_endpoint_gets() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (public, _) = mirror_back().await;
        let backends = vec![Backend { service: reference(), weight: 1, actions: Actions::default() }];
        let rules = vec![Rule { name: Some("/public/".to_owned()), backends, ..Rule::default() }];
        proxy.serve(vec![listener(at, http(router(rules)))], vec![service(&[public])]).await;
        assert_eq!(get(at, "/public/x").await.status(), 200);
        for path in ["/public/../admin", "/public/%2e%2e/admin", "/public/./../admin", "//admin", "/%61dmin"] {
            let answer = get(at, path).await;
            assert_eq!((answer.status(), answer.field("x-sluicegate-reason")), (404, Some("no-route")), "{path}");
        }
        for path in ["/public/..%2fadmin", "/public/..%5cadmin", "/public/..\\admin", "/public/..;/admin"] {
            assert_eq!(get(at, path).await.field("x-sluicegate-reason"), Some("bad-path"), "{path}");
        }
    });
}

#[test]
fn escaped_slashes_go_on_or_send_the_client_on() {
    run(async {
        let by = |escaped, merge| ClientSettings {
            path: PathSettings { escaped, merge, ..PathSettings::default() },
            ..ClientSettings::default()
        };
        let forwarded = seen(by(EscapedSlashes::UnescapeAndForward, true), "/a%2Fb//c?d=%2F", "").await;
        assert!(forwarded.body.starts_with("GET /a/b/c?d=%2F HTTP/1.1\r\n"), "{}", forwarded.body);
        let sent = seen(by(EscapedSlashes::UnescapeAndRedirect, true), "/a%2Fb?c", "").await;
        assert_eq!((sent.status(), sent.field("location")), (307, Some("/a/b?c")));
        let kept = seen(by(EscapedSlashes::KeepUnchanged, false), "/a//b%2Fc", "").await;
        assert!(kept.body.starts_with("GET /a//b%2Fc HTTP/1.1\r\n"), "{}", kept.body);
        assert_eq!(seen(by(EscapedSlashes::RejectRequest, true), "/a%2Fb", "").await.status(), 400);
    });
}

#[test]
fn own_answers_count_what_arrived_badly() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, log) = mirror_back().await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![service(&[to_backend])]).await;
        get(at, "/a/../..").await;
        assert_eq!(log.requests.load(Ordering::Relaxed), 0);
        let counted: Vec<_> = proxy.stats.own_answers.rows().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("bad-path", 1)]);
    });
}
