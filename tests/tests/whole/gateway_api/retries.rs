//! `retry` of an HTTPRoute's rules.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::world::{World, get, route, service};

/// A backend at port 80 that fails the first requests for each path, as the path's first part says: with that status, or by a reset of the connection. The
/// second part says how many. It answers the rest with its name and the number of requests that it has seen for the path.
pub(super) fn unreliable(ip: IpAddr) {
    let listener = TcpListener::bind((ip, 80)).expect("port 80 of a loopback address: run as root, or allow unprivileged ports");
    let seen = Arc::new(std::sync::Mutex::new(std::collections::HashMap::<String, usize>::new()));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let seen = seen.clone();
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut writer = stream.try_clone()?;
                let mut reader = BufReader::new(stream);
                loop {
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        if reader.read_line(&mut head)? == 0 {
                            return Ok(());
                        }
                    }
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    let count = {
                        let mut seen = seen.lock().expect("not poisoned");
                        let count = seen.entry(path.clone()).or_default();
                        *count += 1;
                        *count
                    };
                    let mut parts = path.split('/').skip(2);
                    let (how, times) = (parts.next().unwrap_or_default(), parts.next().and_then(|n| n.parse().ok()).unwrap_or(0));
                    let status = match how {
                        _ if count > times => "200",
                        "reset" => return Ok(()),
                        // This is longer than anybody waits: the connection's end is what ends it.
                        "silence" => continue,
                        status => status,
                    };
                    let body = format!("unreliable\n{count}");
                    writer.write_all(format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
                }
            });
        }
    });
}

/// A path that no other request has, by which the backend fails so often.
pub(super) fn failing(rule: &str, how: &str, times: usize) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("/{rule}/{how}/{times}/{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

#[test]
fn HTTPRouteRetry() {
    let rule = |prefix: &str, more: &str| {
        format!("  - {{matches: [{{path: {{value: /{prefix}}}}}], backendRefs: [{{name: unreliable, port: 80}}], {more}}}\n")
    };
    let rules = rule("three", "retry: {codes: [500], attempts: 3}")
        + &rule("two", "retry: {codes: [500, 502, 503, 504], attempts: 2, backoff: 1ms}")
        + &rule("none", "retry: {codes: [500], attempts: 0}")
        + &rule("slow", "retry: {attempts: 1}, timeouts: {request: 10s, backendRequest: 100ms}");
    let manifests =
        service("infra", "unreliable", "$9", "{name: http, port: 80}") + &route("retry", &format!("  rules:\n{}", rules.trim_end()));
    let world = World::new(&manifests);
    unreliable(world.address(9));
    world.accepted("httproutes", "retry");
    world.expect(1, &get("/three/200/0/first"), "unreliable");
    let asked = |rule: &str, how: &str, times: usize| {
        let answer = world.ask(1, &get(&failing(rule, how, times))).expect("an answer");
        (answer.status, answer.seen.parse().unwrap_or(0))
    };
    assert_eq!(asked("three", "500", 2), (200, 3));
    assert_eq!(asked("three", "500", 4), (500, 4));
    assert_eq!(asked("three", "503", 1), (503, 1), "it is not among the codes");
    for status in [500, 502, 503, 504] {
        assert_eq!(asked("two", &status.to_string(), 1), (200, 2));
        assert_eq!(asked("two", &status.to_string(), 3), (status, 3));
    }
    assert_eq!(asked("none", "500", 1), (500, 1));
    // HTTPRouteRetryConnectionError and HTTPRouteRetryBackendTimeout, which no test of the suite uses.
    assert_eq!(asked("two", "reset", 2), (200, 3));
    assert_eq!(asked("two", "reset", 3).0, 502);
    assert_eq!(asked("slow", "silence", 1), (200, 2));
    assert_eq!(asked("slow", "silence", 2).0, 504);
}
