//! Network namespaces, joined by a bridge. They need no rights where users may have namespaces of their own: see [`apart`](crate::apart).

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::sync::Arc;

use futures_util::StreamExt as _;
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace. It goes when nothing is in it any more, and nobody has this.
#[derive(Clone, Debug)]
pub struct Namespace(Arc<File>);

impl Namespace {
    /// That of this thread.
    pub fn own() -> Self {
        Self(Arc::new(File::open("/proc/thread-self/ns/net").expect("this thread's namespace")))
    }

    /// A new one, in which nothing is up yet.
    pub fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["-n", "--", "sh", "-c", "echo; exec cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().expect("unshare is there");
        // With the line it is in its namespace.
        let mut line = String::new();
        BufReader::new(holder.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let namespace = File::open(format!("/proc/{}/ns/net", holder.id())).expect("its namespace");
        drop(holder.stdin.take());
        holder.wait().expect("it ends");
        Self(Arc::new(namespace))
    }

    /// Does something there. Sockets and processes that it makes stay there.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let there = || {
            move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).expect("the namespace can be entered");
            act()
        };
        std::thread::scope(|scope| scope.spawn(there).join().expect("what is done there"))
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

/// Asks the kernel about the network of this thread's namespace.
pub fn ask<T>(asked: impl AsyncFnOnce(Handle) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().expect("a netlink socket");
        let connection = tokio::spawn(connection);
        let answer = asked(handle).await;
        connection.abort();
        answer
    })
}

async fn index(handle: &Handle, name: &str) -> u32 {
    let mut found = pin!(handle.link().get().match_name(name).execute());
    found.next().await.expect("an answer").expect("an interface").header.index
}

async fn up(handle: &Handle, name: &str) -> u32 {
    let index = index(handle, name).await;
    handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await.expect("it is up");
    index
}

/// A bridge in the namespace in which it is made, to which others are joined. Its network is 10.77.0.0/16.
#[derive(Debug)]
pub struct Bridge(());

/// The address behind the router.
pub const BEHIND: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
/// Whether this thread's namespace is a router.
const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// The name of the bridge.
const BRIDGE: &str = "bridge";

impl Bridge {
    /// In this thread's namespace, with the address 10.77.0.1. The loopback interface is up, too.
    pub fn new() -> Self {
        ask(async |handle| {
            up(&handle, "lo").await;
            handle.link().add(LinkBridge::new(BRIDGE).build()).execute().await.expect("a bridge");
            let bridge = up(&handle, BRIDGE).await;
            handle.address().add(bridge, Ipv4Addr::new(10, 77, 0, 1).into(), 16).execute().await.expect("an address");
        });
        Self(())
    }

    /// A new namespace that is joined to it, with an interface of this name, which has the address.
    pub fn join(&self, name: &str, address: Ipv4Addr) -> Namespace {
        let namespace = Namespace::new();
        ask(async |handle| {
            handle.link().add(LinkVeth::new(&port(name), name).build()).execute().await.expect("two interfaces");
            let bridge = index(&handle, BRIDGE).await;
            let ours = up(&handle, &port(name)).await;
            handle.link().set(LinkUnspec::new_with_index(ours).controller(bridge).build()).execute().await.expect("it is joined");
            let theirs = LinkUnspec::new_with_index(index(&handle, name).await).setns_by_fd(namespace.0.as_raw_fd());
            handle.link().set(theirs.build()).execute().await.expect("it is moved");
        });
        namespace.within(|| {
            ask(async |handle| {
                up(&handle, "lo").await;
                let index = up(&handle, name).await;
                handle.address().add(index, address.into(), 16).execute().await.expect("an address");
            });
            route(Ipv4Addr::new(10, 78, 0, 0), 24, Ipv4Addr::new(10, 77, 0, 1));
        });
        namespace
    }

    /// Adds an address of this namespace, of those that are on the bridge.
    pub fn address(&self, address: Ipv4Addr) {
        ask(async |handle| {
            let bridge = index(&handle, BRIDGE).await;
            handle.address().add(bridge, address.into(), 16).execute().await.expect("an address");
        });
    }

    /// A new namespace behind a router, which is the namespace of the bridge: its interface of this name has the address 10.78.0.2.
    pub fn behind(&self, name: &str) -> Namespace {
        let namespace = Namespace::new();
        ask(async |handle| {
            handle.link().add(LinkVeth::new(&port(name), name).build()).execute().await.expect("two interfaces");
            let ours = up(&handle, &port(name)).await;
            handle.address().add(ours, Ipv4Addr::new(10, 78, 0, 1).into(), 24).execute().await.expect("an address");
            let theirs = LinkUnspec::new_with_index(index(&handle, name).await).setns_by_fd(namespace.0.as_raw_fd());
            handle.link().set(theirs.build()).execute().await.expect("it is moved");
        });
        namespace.within(|| {
            ask(async |handle| {
                up(&handle, "lo").await;
                let index = up(&handle, name).await;
                handle.address().add(index, BEHIND.into(), 24).execute().await.expect("an address");
            });
            route(Ipv4Addr::UNSPECIFIED, 0, Ipv4Addr::new(10, 78, 0, 1));
        });
        self.mend();
        namespace
    }

    /// Packets to and from what is behind the router are lost from now on. Nobody is told.
    pub fn cut(&self) {
        std::fs::write(FORWARD, "0").expect("it is set");
    }

    /// They are not lost any more.
    pub fn mend(&self) {
        std::fs::write(FORWARD, "1").expect("it is set");
    }
}

impl Default for Bridge {
    fn default() -> Self {
        Self::new()
    }
}

/// The interface at the bridge's end.
fn port(name: &str) -> String {
    format!("{name}-port")
}

/// Adds a route of this thread's namespace: to a network by another address.
pub fn route(network: Ipv4Addr, length: u8, by: Ipv4Addr) {
    let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(network, length).gateway(by).build();
    add(route);
}

/// Adds a local route for an address to this thread's namespace, as somebody else would.
pub fn local_route(address: Ipv4Addr, kind: rtnetlink::packet_route::route::RouteType) {
    use rtnetlink::packet_route::route::RouteScope;
    let built = RouteMessageBuilder::<Ipv4Addr>::new().table_id(255).protocol(RouteProtocol::Static).scope(RouteScope::Host);
    add(built.kind(kind).output_interface(1).destination_prefix(address, 32).build());
}

fn add(route: RouteMessage) {
    ask(async |handle| handle.route().add(route).execute().await.expect("a route"));
}

/// The addresses of which this thread's namespace has a local route of this protocol.
pub fn local_routes(protocol: u8) -> Vec<IpAddr> {
    use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteType};
    ask(async |handle| {
        let mut asked = RouteMessageBuilder::<Ipv4Addr>::new().build();
        asked.header.table = 255;
        let mut told = pin!(handle.route().get(asked).execute());
        let mut found = Vec::new();
        while let Some(route) = told.next().await {
            let route = route.expect("a route");
            if route.header.kind == RouteType::Local && u8::from(route.header.protocol) == protocol {
                found.extend(route.attributes.iter().find_map(|attribute| match attribute {
                    RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(IpAddr::from(*ip)),
                    _ => None,
                }));
            }
        }
        found.sort();
        found
    })
}
