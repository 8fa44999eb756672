//! Local routes ("AnyIP") for virtual IPs that no interface has: `ip route add local A/32 dev lo`. With one the kernel takes packets to the address for its own, so it
//! can be listened on, without an interface that answers ARP for it. Only addresses that the gateway itself hands out get one: cluster IPs of Services that are its
//! own, and those of the pool. What a Gateway or a Service merely names does not, as anybody who may write one could take any address for themselves.
//!
//! The routes carry a protocol number of our own, and no others are touched. They go with the process, unless another has taken its place; what one that was killed
//! has left over goes when the next one knows all objects.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType};
use rtnetlink::{Error, Handle, RouteMessageBuilder};
use sluicegate_model::status::Status;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Our routes' protocol number (rtnetlink(7), `rtm_protocol`). Neither the kernel nor iproute2's `rt_protos` has a name for it.
pub const PROTOCOL: u8 = 142;
/// The table of local addresses (`RT_TABLE_LOCAL`).
const TABLE: u32 = 255;
/// The index of the loopback interface, the same in each network namespace.
const LOOPBACK: u32 = 1;
/// How soon routes that could not be had are tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// How long the kernel may take for all routes at the end of the process.
const AT_THE_END: Duration = Duration::from_secs(2);
/// How long the kernel may take for all routes.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long whoever is about to listen waits for routes.
const PATIENCE: Duration = Duration::from_secs(1);

/// What could not be done, for people; shared with the task that does it.
#[derive(Clone, Debug, Default)]
pub struct Fault(Arc<Mutex<Option<String>>>);

impl Fault {
    /// What is wrong now; none if nothing is.
    pub fn now(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, fault: Option<String>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fault) = fault.as_ref().filter(|fault| known.as_ref() != Some(fault)) {
            tracing::error!("{fault}");
        }
        *known = fault;
    }
}

/// The addresses of what is listened on that need a route: those that the gateway hands out, and that are virtual.
pub fn wanted(status: &Status, pool: &[IpNet]) -> BTreeSet<IpAddr> {
    let cluster_ips: BTreeSet<IpAddr> =
        status.services.iter().flat_map(|service| &service.cluster_ips).filter_map(|ip| ip.parse().ok()).collect();
    let listened = status.listeners.iter().filter_map(|listener| listener.address.parse::<std::net::SocketAddr>().ok());
    let handed = |ip: &IpAddr| cluster_ips.contains(ip) || pool.iter().any(|range| range.contains(ip));
    let virtual_ip = |ip: &IpAddr| !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast();
    listened.map(|address| address.ip()).filter(virtual_ip).filter(handed).collect()
}

/// Tells the task that makes routes what is about to be listened on.
pub struct Wishes {
    pool: Vec<IpNet>,
    wished: watch::Sender<Wish>,
    tried: watch::Receiver<u64>,
}

/// What is to have routes.
#[derive(Clone, Default)]
struct Wish {
    addresses: BTreeSet<IpAddr>,
    /// Whether all objects are known. Before that, what seems to be left over may be in use.
    complete: bool,
    /// Counts the wishes; 0: nothing was wished yet.
    number: u64,
}

/// Keeps routes for what is wished.
pub struct Keeper {
    wished: watch::Receiver<Wish>,
    tried: watch::Sender<u64>,
    fault: Fault,
}

/// A keeper of routes, and what tells it the wishes. `pool` are the addresses that the gateway hands out besides cluster IPs; what cannot be had is in `fault`.
pub fn keeper(pool: Vec<IpNet>, fault: Fault) -> (Wishes, Keeper) {
    let (wish, wished) = watch::channel(Wish::default());
    let (try_, tried) = watch::channel(0);
    (Wishes { pool, wished: wish, tried }, Keeper { wished, tried: try_, fault })
}

impl Wishes {
    /// Takes in what is about to be listened on. The future is ready once all of it has routes, or they cannot be had, or the kernel takes longer than a second:
    /// an address that has its route is bound at the first attempt.
    pub fn of(&self, status: &Status) -> impl Future<Output = ()> + Send + use<> {
        let (addresses, complete) = (wanted(status, &self.pool), status.complete);
        let mut number = 0;
        self.wished.send_if_modified(|wish| {
            let differs = wish.number == 0 || wish.addresses != addresses || wish.complete != complete;
            number = wish.number + u64::from(differs);
            *wish = Wish { addresses, complete, number };
            differs
        });
        let mut tried = self.tried.clone();
        async move {
            let _ = timeout(PATIENCE, tried.wait_for(|tried| *tried >= number)).await;
        }
    }
}

impl Keeper {
    /// Keeps routes until the future is dropped, or nobody has wishes any more.
    pub async fn run(mut self) {
        let mut again = false;
        loop {
            tokio::select! {
                changed = self.wished.changed() => if changed.is_err() { return },
                () = sleep(AGAIN), if again => {}
            }
            let wish = self.wished.borrow_and_update().clone();
            let outcome = timeout(DEADLINE, self.sync(&wish)).await;
            let outcome = outcome.unwrap_or_else(|_| Err(format!("no answer within {} s", DEADLINE.as_secs())));
            again = outcome.is_err();
            self.fault.set(outcome.err().map(|error| format!("manageAddresses: local routes for virtual IPs cannot be had: {error}")));
            self.tried.send_replace(wish.number);
        }
    }

    async fn sync(&self, wish: &Wish) -> Result<(), String> {
        let routes = Routes::open()?;
        let ours = routes.ours().await?;
        let added = routes.add(wish.addresses.difference(&ours)).await;
        if added.is_ok() {
            // Somebody waits for that, and for nothing else.
            self.tried.send_replace(wish.number);
        }
        let removed = if wish.complete { routes.remove(ours.difference(&wish.addresses)).await } else { Ok(()) };
        added.and(removed)
    }
}

/// Removes all routes, as nobody listens on their addresses any more.
pub async fn remove() {
    let routes = async {
        let routes = Routes::open()?;
        routes.remove(&routes.ours().await?).await
    };
    let outcome = timeout(AT_THE_END, routes).await.unwrap_or_else(|_| Err(format!("no answer within {} s", AT_THE_END.as_secs())));
    if let Err(error) = outcome {
        tracing::warn!(error, "manageAddresses: local routes for virtual IPs cannot be removed");
    }
}

/// The kernel's routing table.
pub struct Routes {
    handle: Handle,
    /// Ends the connection.
    connection: tokio::task::JoinHandle<()>,
}

impl Drop for Routes {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Routes {
    /// Connects to the kernel, in the network namespace of this thread.
    ///
    /// # Errors
    /// There is no such socket.
    pub fn open() -> Result<Self, String> {
        let opened = rtnetlink::new_connection_with_strict_check();
        let (connection, handle, _) = opened.map_err(|error| format!("a netlink socket: {error}"))?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    /// The addresses that have a route of ours.
    ///
    /// # Errors
    /// The kernel refuses to tell.
    pub async fn ours(&self) -> Result<BTreeSet<IpAddr>, String> {
        let mut found = BTreeSet::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut asked = RouteMessageBuilder::<IpAddr>::new()
                .table_id(TABLE)
                .protocol(RouteProtocol::Other(PROTOCOL))
                .scope(RouteScope::Universe)
                .kind(RouteType::Local)
                .build();
            asked.header.address_family = family;
            let mut told = pin!(self.handle.route().get(asked).execute());
            while let Some(route) = told.next().await {
                match route {
                    Ok(route) => found.extend(of_ours(&route)),
                    // A kernel without IPv6.
                    Err(error) if family == AddressFamily::Inet6 && is(&error, &[errno::EAFNOSUPPORT, errno::EOPNOTSUPP]) => break,
                    Err(error) => return Err(told_of(&error)),
                }
            }
        }
        Ok(found)
    }

    /// Adds routes.
    ///
    /// # Errors
    /// One of them could not be added. The others were.
    pub async fn add(&self, wanted: impl IntoIterator<Item = &IpAddr>) -> Result<(), String> {
        let mut failed = None;
        for ip in wanted {
            match self.handle.route().add(route(*ip)?).execute().await {
                // An interface has the address, or somebody else has made a route.
                Err(error) if !is(&error, &[errno::EEXIST]) => failed = Some(format!("{ip}: {}", told_of(&error))),
                _ => {}
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Removes routes of ours.
    ///
    /// # Errors
    /// One of them could not be removed. The others were.
    pub async fn remove(&self, ours: impl IntoIterator<Item = &IpAddr>) -> Result<(), String> {
        let mut failed = None;
        for ip in ours {
            match self.handle.route().del(route(*ip)?).execute().await {
                // It was gone already.
                Err(error) if !is(&error, &[errno::ESRCH, errno::ENODEV]) => failed = Some(format!("{ip}: {}", told_of(&error))),
                _ => {}
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

fn route(ip: IpAddr) -> Result<RouteMessage, String> {
    let length = if ip.is_ipv4() { 32 } else { 128 };
    let scope = if ip.is_ipv4() { RouteScope::Host } else { RouteScope::Universe };
    let made = RouteMessageBuilder::<IpAddr>::new()
        .table_id(TABLE)
        .protocol(RouteProtocol::Other(PROTOCOL))
        .scope(scope)
        .kind(RouteType::Local)
        .output_interface(LOOPBACK)
        .destination_prefix(ip, length);
    made.map(RouteMessageBuilder::build).map_err(|error| error.to_string())
}

fn of_ours(route: &RouteMessage) -> Option<IpAddr> {
    if route.header.protocol != RouteProtocol::Other(PROTOCOL) || route.header.kind != RouteType::Local {
        return None;
    }
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(IpAddr::from(*ip)),
        RouteAttribute::Destination(RouteAddress::Inet6(ip)) => Some(IpAddr::from(*ip)),
        _ => None,
    })
}

/// Numbers of errors of Linux (errno(3)), the same on all architectures that the gateway runs on.
mod errno {
    pub(super) const EPERM: i32 = 1;
    pub(super) const ESRCH: i32 = 3;
    pub(super) const EACCES: i32 = 13;
    pub(super) const EEXIST: i32 = 17;
    pub(super) const ENODEV: i32 = 19;
    pub(super) const EOPNOTSUPP: i32 = 95;
    pub(super) const EAFNOSUPPORT: i32 = 97;
}

fn number(error: &Error) -> Option<i32> {
    match error {
        Error::NetlinkError(message) => Some(message.raw_code().abs()),
        _ => None,
    }
}

fn is(error: &Error, numbers: &[i32]) -> bool {
    number(error).is_some_and(|number| numbers.contains(&number))
}

fn told_of(error: &Error) -> String {
    match number(error) {
        Some(errno::EPERM | errno::EACCES) => "the process lacks the capability CAP_NET_ADMIN".to_owned(),
        Some(number) => std::io::Error::from_raw_os_error(number).to_string(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
