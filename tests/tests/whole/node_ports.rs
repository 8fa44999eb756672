//! Node ports that pass from one Service to another.

use std::sync::atomic::{AtomicBool, Ordering};

use sluicegate_tests::{Gateway, connect, echo, eventually};

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: NodePort, selector: {{app: {name}}}, ports: [{{port: 80, nodePort: {port}}}]}}\n"
    )
}

fn pod(gateway: &Gateway, name: &str, last: u8) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nstatus: {{podIP: {}}}\n",
        gateway.ip(last)
    )
}

#[test]
fn two_services_exchange_their_node_ports_and_no_connection_is_refused_meanwhile() {
    let gateway = Gateway::new(&[]);
    for (name, last) in [("a", 2), ("b", 3)] {
        echo(gateway.ip(last), name);
    }
    let write = |a: u16, b: u16| {
        gateway.write("a.yaml", &(service("a", a) + &pod(&gateway, "a", 2)));
        gateway.write("b.yaml", &(service("b", b) + &pod(&gateway, "b", 3)));
    };
    write(30630, 30631);
    let at = |port: u16| std::net::SocketAddr::new(gateway.ip(1), port);
    let serve = |port: u16, name: &str| connect(at(port)).is_ok_and(|(served, _)| served == name);
    eventually("both are served", || serve(30630, "a") && serve(30631, "b"));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let refused = scope.spawn(|| {
            let mut refused = 0;
            while !done.load(Ordering::Relaxed) {
                refused += [30630, 30631].into_iter().filter(|port| connect(at(*port)).is_err()).count();
            }
            refused
        });
        write(30631, 30630);
        eventually("they are exchanged", || serve(30630, "b") && serve(30631, "a"));
        done.store(true, Ordering::Relaxed);
        assert_eq!(refused.join().expect("counted"), 0);
    });
    eventually("without a fault", || gateway.has_no_fault());
}
