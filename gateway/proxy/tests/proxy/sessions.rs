//! Session persistence of a rule: who comes back stays with an endpoint.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use sluicegate_model::route::{Backend, Rule};
use sluicegate_model::session::{Carrier, Session};
use sluicegate_model::snapshot::{Listener, ServicePort};
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

/// Two endpoints, asked in turn.
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
        // Without it the balancer goes on in turn, and one that cannot be read is none.
        for field in ["", "cookie: stay=\r\n", "cookie: stay=1-2-3-4-5\r\n"] {
            let bodies = [with(&mut stream, field).await, with(&mut stream, field).await];
            assert_ne!(bodies[0].body, bodies[1].body, "{field}");
            assert!(bodies[0].field("set-cookie").is_some());
        }
        // Its endpoint is gone: the session leads to another one, and the client is told.
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
        // By the first of the two, whichever it is, the other is tried.
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
