//! Stickiness by a cookie that the gateway sets, and by the client's address: with all workers, over changes of the pool, a swap and a restart.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use sluicegate_tests::{Gateway, eventually, http, plugin};

/// Asks over a new connection, with this cookie; returns who answered, and the cookie that was set.
fn ask(address: SocketAddr, cookie: Option<&str>) -> std::io::Result<(String, Option<String>)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(sluicegate_tests::PATIENCE))?;
    let cookie = cookie.map(|cookie| format!("cookie: other=1; {cookie}\r\n")).unwrap_or_default();
    write!(stream, "GET / HTTP/1.1\r\nhost: a\r\n{cookie}connection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let set = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).map(str::to_owned);
    Ok((body.split(' ').next().unwrap_or_default().to_owned(), set))
}

fn objects(hash: &str) -> String {
    format!(
        "apiVersion: sluicegate.dev/v1alpha1\nkind: Plugin\nmetadata: {{name: mine}}\nspec: {{kind: balancer, source: {{builtin: sticky}}, state: {{persist: true}}}}\n---\napiVersion: sluicegate.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {{name: p}}\nspec:\n  targetRefs: [{{kind: Service, name: nginx-svc}}]\n  loadBalancer: {{plugin: mine, hash: {hash}}}\n"
    )
}

fn gateway(hash: &str) -> Gateway {
    let gateway = Gateway::new(&[("svc.yaml", &plugin::http_service()), ("policy.yaml", &objects(hash))]);
    for (name, last) in [("a", 2), ("b", 3), ("c", 4), ("d", 5), ("e", 6)] {
        http(gateway.ip(last), name);
    }
    for (name, last) in [("a", 2), ("b", 3)] {
        gateway.write(&format!("{name}.yaml"), &gateway.pod(name, last, true));
    }
    eventually("served", || gateway.ready_endpoints() == 2 && ask(gateway.node_port(), None).is_ok());
    gateway
}

#[test]
fn a_browser_stays_with_its_endpoint() {
    let mut gateway = gateway("{type: Cookie, cookie: {name: lane, ttl: 1h, attributes: {SameSite: Strict}}}");
    let at = gateway.node_port();
    let browsers: Vec<(String, String)> = (0..24)
        .map(|_| {
            let (served, set) = ask(at, None).expect("answered");
            let set = set.expect("a cookie");
            let (cookie, attributes) = set.split_once(';').expect("attributes");
            assert_eq!(attributes, " Max-Age=3600; Path=/; SameSite=Strict; HttpOnly");
            assert_eq!(cookie.len(), "lane=".len() + 32, "{cookie}");
            (cookie.to_owned(), served)
        })
        .collect();
    for name in ["a", "b"] {
        let count = browsers.iter().filter(|(_, served)| served == name).count();
        assert!(count >= 2, "{name} serves {count} of 24");
    }
    let all_stay = |gateway: &Gateway| {
        for (cookie, served) in &browsers {
            // Each request has a connection of its own, so that both workers get some.
            for _ in 0..3 {
                let (now, set) = ask(gateway.node_port(), Some(cookie)).expect("answered");
                assert_eq!((&now, set), (served, None), "{cookie}");
            }
        }
    };
    all_stay(&gateway);

    for (name, last) in [("c", 4), ("d", 5), ("e", 6)] {
        gateway.write(&format!("{name}.yaml"), &gateway.pod(name, last, true));
    }
    eventually("five", || gateway.ready_endpoints() == 5);
    all_stay(&gateway);

    gateway.stop();
    gateway.start();
    eventually("five again", || gateway.ready_endpoints() == 5 && ask(gateway.node_port(), None).is_ok());
    all_stay(&gateway);

    // An endpoint goes: its browsers go elsewhere, and stay there when it is back. The others do not notice.
    std::fs::remove_file(gateway.path("a.yaml")).expect("removed");
    eventually("four", || gateway.ready_endpoints() == 4);
    let moved: Vec<String> = browsers.iter().map(|(cookie, _)| ask(gateway.node_port(), Some(cookie)).expect("answered").0).collect();
    assert!(browsers.iter().zip(&moved).all(|((_, was), is)| if was == "a" { is != "a" } else { is == was }), "{browsers:?} {moved:?}");
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    eventually("five once more", || gateway.ready_endpoints() == 5);
    let after: Vec<String> = browsers.iter().map(|(cookie, _)| ask(gateway.node_port(), Some(cookie)).expect("answered").0).collect();
    assert_eq!(after, moved);
}

#[test]
fn a_client_address_stays_with_its_endpoint() {
    let gateway = gateway("{type: SourceIP}");
    let (first, set) = ask(gateway.node_port(), None).expect("answered");
    assert_eq!(set, None);
    for (name, last) in [("c", 4), ("d", 5), ("e", 6)] {
        gateway.write(&format!("{name}.yaml"), &gateway.pod(name, last, true));
    }
    eventually("five", || gateway.ready_endpoints() == 5);
    for _ in 0..20 {
        assert_eq!(ask(gateway.node_port(), None).expect("answered").0, first);
    }
}
