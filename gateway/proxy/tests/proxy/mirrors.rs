//! Copies of requests.

use sluicegate_model::route::{Actions, Backend, Mirror, Rule};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::*;

fn rule(path: &str, actions: Actions) -> Rule {
    let backends = vec![Backend { service: reference(), weight: 1, actions: Actions::default() }];
    Rule { name: Some(path.to_owned()), actions, backends, ..Rule::default() }
}

#[test]
fn a_mirror_gets_the_whole_request() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, _) = mirror_back().await;
        let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let (to_mirror, _) = backend(move |seen| {
            said.send(seen.body.clone()).unwrap();
            ok("ignored")
        })
        .await;
        let mirrors = vec![Mirror { service: reference(), numerator: 1, denominator: 1 }];
        let rules = vec![rule("/", Actions { mirrors, ..Actions::default() })];
        proxy.serve(vec![listener(at, http(router(rules)))], vec![service(&[to_backend]), service(&[to_mirror])]).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nhalf").await.unwrap();
        let answer = ask(&mut stream, "half").await;
        assert!(answer.body.ends_with("halfhalf"));
        assert_eq!(heard.recv().await.as_deref(), Some("halfhalf"));
    });
}

#[test]
fn a_backend_s_mirror_gets_what_that_backend_gets() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, _) = mirror_back().await;
        let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let (to_mirror, _) = backend(move |seen| {
            said.send(seen.head.lines().next().unwrap().to_owned()).unwrap();
            ok("ignored")
        })
        .await;
        let of = |path: &str, mirrors: [bool; 2]| {
            let mirror = |wanted: bool| wanted.then(|| Mirror { service: reference(), numerator: 1, denominator: 1 }).into_iter().collect();
            let backend =
                |wanted| Backend { service: reference(), weight: 1, actions: Actions { mirrors: mirror(wanted), ..Actions::default() } };
            Rule { backends: mirrors.map(backend).into(), ..rule(path, Actions::default()) }
        };
        // The router of these tests chooses the first backend.
        let rules = vec![of("/chosen", [true, false]), of("/other", [false, true])];
        proxy.serve(vec![listener(at, http(router(rules)))], vec![service(&[to_backend]), service(&[to_mirror])]).await;
        assert_eq!(get(at, "/other").await.status(), 200);
        assert_eq!(get(at, "/chosen").await.status(), 200);
        assert_eq!(heard.recv().await.as_deref(), Some("GET /chosen HTTP/1.1"));
    });
}
