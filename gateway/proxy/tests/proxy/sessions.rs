//! Session persistence of a rule: a client that comes back stays with an endpoint.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use sluicegate_model::route::{Backend, Rule, ServiceRef};
use sluicegate_model::session::{Carrier, Session, Token};
use sluicegate_model::snapshot::{BoundRule, Listener, RouterBinding, RouterRung, ServicePort, Target};
use tokio::net::TcpStream;

use crate::support::*;

fn rules(carrier: Carrier) -> Vec<Rule> {
    let backend = || Backend { service: reference(), weight: 1, actions: Default::default() };
    let session = Session { carrier, absolute: Some(Duration::from_secs(3_600)), idle: None };
    vec![Rule { name: Some("/".into()), backends: vec![backend()], session: Some(Box::new(session)), ..Rule::default() }]
}

fn cookie() -> Carrier {
    Carrier::Cookie { name: "stay".to_owned(), permanent: false }
}

/// A service with two endpoints, which are asked in turn.
async fn two() -> ServicePort {
    let (a, _) = backend(|_| ok("a")).await;
    let (b, _) = backend(|_| ok("b")).await;
    service(&[a, b])
}

fn serving(at: std::net::SocketAddr, carrier: Carrier) -> Vec<Arc<Listener>> {
    vec![listener(at, http(router(rules(carrier))))]
}

async fn with(stream: &mut TcpStream, field: &str) -> Seen {
    ask(stream, &format!("GET / HTTP/1.1\r\nhost: a.example\r\n{field}\r\n")).await
}

/// The service with sessions of its own.
fn keeping(mut service: ServicePort, name: &str) -> ServicePort {
    let carrier = Carrier::Cookie { name: name.to_owned(), permanent: false };
    Arc::make_mut(&mut service.settings).session = Some(Session { carrier, absolute: None, idle: None });
    service
}

/// A router whose one rule has two backends, which are the services 0 and 1.
fn leading(rules: Vec<Rule>) -> Target {
    let Target::Router(to_one) = router(rules) else { panic!("a router") };
    let ladder = to_one.ladder.iter().map(|rung| RouterRung {
        generation: rung.generation.clone(),
        table: rung.table.clone(),
        rules: vec![Arc::new(BoundRule { backends: [Ok(0), Ok(1)].into(), sessions: true, ..BoundRule::default() })],
        hands_over: false,
    });
    Target::Router(Arc::new(RouterBinding { transport: to_one.transport, ladder: ladder.collect() }))
}

#[test]
fn a_service_keeps_sessions_by_itself_and_its_session_counts_before_the_weights() {
    run(async {
        let (proxy, straight, routed) = (start(1), free(), free());
        let other = ServicePort { id: ServiceRef { name: "other".into(), ..reference() }, ..keeping(two().await, "other") };
        let backend = |service: &ServicePort, weight| Backend { service: service.id.clone(), weight, actions: Default::default() };
        let kept = keeping(two().await, "stay");
        // The tests' router always chooses the first backend.
        let backends = vec![backend(&kept, 1), backend(&other, 0)];
        let rules = vec![Rule { name: Some("/".into()), backends, ..Rule::default() }];
        let listeners = vec![listener(straight, http(to(0))), listener(routed, http(leading(rules)))];
        proxy.serve(listeners, vec![kept, other.clone()]).await;
        for at in [straight, routed] {
            let mut stream = TcpStream::connect(at).await.unwrap();
            let first = with(&mut stream, "").await;
            let set = first.field("set-cookie").unwrap().to_owned();
            assert!(set.starts_with("stay="), "{set}");
            let brought = format!("cookie: {}\r\n", set.split(';').next().unwrap());
            for _ in 0..5 {
                let again = with(&mut stream, &brought).await;
                assert_eq!((again.body.as_str(), again.field("set-cookie")), (first.body.as_str(), None));
            }
            let bodies = [with(&mut stream, "").await, with(&mut stream, "").await];
            assert_ne!(bodies[0].body, bodies[1].body);
        }
        // A token of the other backend leads there, though no request without one would come there.
        let endpoint = other.internal.endpoints[1].address;
        let token = Token::new(&other.id, endpoint, 0);
        let mut stream = TcpStream::connect(routed).await.unwrap();
        let there = [
            with(&mut stream, &format!("cookie: other={token}\r\n")).await,
            with(&mut stream, &format!("cookie: other={token}\r\n")).await,
        ];
        assert_eq!(there[0].body, there[1].body);
        assert_eq!(there[0].field("set-cookie"), None, "it goes on");
        // The name of another service's session leads nowhere.
        assert!(with(&mut stream, &format!("cookie: stay={token}\r\n")).await.field("set-cookie").unwrap().starts_with("stay="));
    });
}

#[test]
fn a_cookie_leads_back_to_its_endpoint() {
    run(async {
        let (proxy, at, both) = (start(1), free(), two().await);
        proxy.serve(serving(at, cookie()), vec![both.clone()]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        let first = with(&mut stream, "").await;
        let set = first.field("set-cookie").unwrap().to_owned();
        assert!(set.starts_with("stay=") && set.ends_with("; Path=/; HttpOnly"), "{set}");
        let brought = format!("cookie: x=y; {}\r\n", set.split(';').next().unwrap());
        for _ in 0..6 {
            let again = with(&mut stream, &brought).await;
            assert_eq!((again.body.as_str(), again.field("set-cookie")), (first.body.as_str(), None));
        }
        // Without a token the balancer goes on in turn, and a token that cannot be read counts as none.
        for field in ["", "cookie: stay=\r\n", "cookie: stay=1-2-3-4-5\r\n"] {
            let bodies = [with(&mut stream, field).await, with(&mut stream, field).await];
            assert_ne!(bodies[0].body, bodies[1].body, "{field}");
            assert!(bodies[0].field("set-cookie").is_some());
        }
        // The endpoint is gone: the session leads to another one, and the client is told.
        let other = both.internal.endpoints.iter().map(|e| e.address).filter(|address| !set.contains(&format!("-{:x}-", address.port())));
        let left = service(&other.collect::<Vec<_>>());
        assert_eq!(left.internal.endpoints.len(), 1);
        proxy.serve(serving(at, cookie()), vec![left]).await;
        let moved = with(&mut stream, &brought).await;
        assert_ne!(moved.body, first.body);
        assert!(moved.field("set-cookie").is_some_and(|now| now.starts_with("stay=") && now != set));
    });
}

#[test]
fn a_header_leads_back_and_a_dead_endpoint_is_left() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (alive, _) = backend(|_| ok("alive")).await;
        let gone = dead();
        let name = HeaderName::from_static("x-stay");
        proxy.serve(serving(at, Carrier::Header(name)), vec![service(&[alive, gone])]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        // If the first of the two is asked first, whichever it is, the other is tried.
        let first = with(&mut stream, "").await;
        let token = first.field("x-stay").unwrap().to_owned();
        assert_eq!((first.body.as_str(), first.field("set-cookie")), ("alive", None));
        for _ in 0..4 {
            let again = with(&mut stream, &format!("x-stay: {token}\r\n")).await;
            assert_eq!((again.body.as_str(), again.field("x-stay")), ("alive", None));
        }
        // A session with the endpoint that is dead now moves on.
        let dead = token.replace(&format!("-{:x}-", alive.port()), &format!("-{:x}-", gone.port()));
        let moved = with(&mut stream, &format!("x-stay: {dead}\r\n")).await;
        assert_eq!(moved.body, "alive");
        assert!(moved.field("x-stay").is_some());
    });
}
