use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;

use rtnetlink::LinkUnspec;
use sluicegate_model::status::{ListenerStatus, ServiceStatus};

use super::*;

/// Says to the test binary which part of a test it is to play, in a namespace.
const PART: &str = "SLUICEGATE_TEST_IN_NAMESPACE";

/// Plays a test again in this binary, in a user namespace of its own and, if asked for, in a network namespace too.
fn again(test: &str, network: bool) {
    let binary = std::env::current_exe().expect("this binary");
    let options = if network { "-rn" } else { "-r" };
    let mut command = Command::new("unshare");
    command.args([options, "--"]).arg(binary).args(["--exact", test, "--nocapture", "--test-threads", "1"]).env(PART, "1");
    let output = command.output().expect("unshare is there");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn set(all: &[&str]) -> BTreeSet<IpAddr> {
    all.iter().map(|ip| ip.parse().expect("an address")).collect()
}

#[test]
fn an_address_with_a_route_can_be_listened_on_and_those_of_others_are_left_alone() {
    if std::env::var_os(PART).is_none() {
        again("anyip::tests::an_address_with_a_route_can_be_listened_on_and_those_of_others_are_left_alone", true);
        return;
    }
    runtime().block_on(async {
        let routes = Routes::open().expect("netlink");
        routes.handle.link().set(LinkUnspec::new_with_index(LOOPBACK).up().build()).execute().await.expect("lo is up");
        let both = set(&["203.0.113.7", "2001:db8::7"]);
        let everywhere = TcpListener::bind("[::]:0").expect("a socket");
        let port = everywhere.local_addr().expect("an address").port();
        assert!(TcpListener::bind(("203.0.113.7", 0)).is_err(), "it belongs to nobody yet");
        for ip in &both {
            assert!(TcpStream::connect((*ip, port)).is_err(), "{ip} belongs to nobody yet");
        }
        // A route that somebody else has made.
        let mut theirs = route("203.0.113.99".parse().expect("an address")).expect("a route");
        theirs.header.protocol = RouteProtocol::Static;
        routes.handle.route().add(theirs).execute().await.expect("added");
        routes.add(&both).await.expect("added");
        assert_eq!(routes.ours().await.expect("told"), both);
        TcpListener::bind(("203.0.113.7", 0)).expect("it is local");
        UdpSocket::bind(("203.0.113.7", 0)).expect("it is local");
        for ip in &both {
            TcpStream::connect((*ip, port)).unwrap_or_else(|error| panic!("{ip}: {error}"));
        }
        routes.add(&both).await.expect("nothing changes");
        // An address that has a route already needs none of ours, and one of an interface neither.
        routes.add(&set(&["203.0.113.99", "127.0.0.1"])).await.expect("they are local");
        assert_eq!(routes.ours().await.expect("told"), both);
        routes.remove(&set(&["203.0.113.7", "203.0.113.8"])).await.expect("removed");
        assert_eq!(routes.ours().await.expect("told"), set(&["2001:db8::7"]));
        assert!(TcpListener::bind(("203.0.113.7", 0)).is_err(), "it belongs to nobody again");
        TcpListener::bind(("203.0.113.99", 0)).expect("somebody else's route is there");
    });
}

#[test]
fn without_the_capability_a_fault_says_so() {
    if std::env::var_os(PART).is_none() {
        again("anyip::tests::without_the_capability_a_fault_says_so", false);
        return;
    }
    runtime().block_on(async {
        // This process is root of its own user namespace, but the network is another's.
        let routes = Routes::open().expect("netlink");
        let error = routes.add(&set(&["203.0.113.7"])).await.expect_err("it may not");
        assert_eq!(error, "203.0.113.7: the process lacks the capability CAP_NET_ADMIN");
    });
}

fn listener(address: &str) -> Arc<ListenerStatus> {
    let (address, name, protocol) = (address.to_owned(), String::new(), "TCP");
    Arc::new(ListenerStatus { place: address.clone().into(), address, name, protocol, hosts: Vec::new() })
}

#[test]
fn what_was_waited_for_can_be_listened_on_at_once() {
    if std::env::var_os(PART).is_none() {
        again("anyip::tests::what_was_waited_for_can_be_listened_on_at_once", true);
        return;
    }
    runtime().block_on(async {
        let routes = Routes::open().expect("netlink");
        routes.handle.link().set(LinkUnspec::new_with_index(LOOPBACK).up().build()).execute().await.expect("lo is up");
        // An earlier process has left it over.
        routes.add(&set(&["192.0.2.1"])).await.expect("added");
        let fault = Fault::default();
        let (wishes, keeper) = keeper(vec!["192.0.2.0/24".parse().expect("a range")], fault.clone());
        let keeper = tokio::spawn(keeper.run());
        let status = |addresses: &[&str], complete: bool| {
            let mut status = Status { complete, ..Status::default() };
            addresses.iter().for_each(|address| status.listeners.insert(listener(&format!("{address}:80"))));
            status
        };
        wishes.of(&status(&["192.0.2.7"], false)).await;
        TcpListener::bind(("192.0.2.7", 0)).expect("it is local");
        assert_eq!(routes.ours().await.expect("told"), set(&["192.0.2.1", "192.0.2.7"]), "nothing is removed before all is known");
        for number in 10..20 {
            let ip = format!("192.0.2.{number}");
            wishes.of(&status(&["192.0.2.7", &ip], false)).await;
            TcpListener::bind((ip.as_str(), 0)).expect("it is local");
            // What is the same is ready at once.
            wishes.of(&status(&["192.0.2.7", &ip], false)).await;
        }
        wishes.of(&status(&["192.0.2.7"], true)).await;
        TcpListener::bind(("192.0.2.7", 0)).expect("it is local");
        assert_eq!(fault.now(), None);
        // It ends when nobody has wishes any more, and has removed by then what was left over.
        drop(wishes);
        keeper.await.expect("it ends");
        assert_eq!(routes.ours().await.expect("told"), set(&["192.0.2.7"]));
    });
}

#[test]
fn only_addresses_that_the_gateway_hands_out_are_wanted() {
    let service = ServiceStatus {
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        type_: "ClusterIP".to_owned(),
        cluster_ips: vec!["10.96.0.7".to_owned(), "fd00::7".to_owned(), "10.96.0.9".to_owned()],
        external_ips: vec!["198.51.100.7".to_owned()],
        ports: Vec::new(),
    };
    let listened =
        ["10.96.0.7:80", "[fd00::7]:80", "198.51.100.7:80", "192.0.2.1:443", "192.0.2.200:443", "0.0.0.0:80", "127.0.0.1:80", "[::]:80"];
    let mut status = Status::default();
    status.services.insert(Arc::new(service));
    listened.map(listener).into_iter().for_each(|listener| status.listeners.insert(listener));
    let pool: IpNet = "192.0.2.0/25".parse().expect("a range");
    // Not what somebody names, and not what nobody listens on.
    assert_eq!(wanted(&status, &[pool]), set(&["10.96.0.7", "fd00::7", "192.0.2.1"]));
    assert_eq!(wanted(&Status::default(), &[pool]), BTreeSet::new());
}
