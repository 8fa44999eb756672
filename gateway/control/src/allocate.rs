//! Allocates node ports, cluster IPs and load balancer addresses, which Gateways have too, by the API server's rules. Allocations are kept on disk, so that
//! a restart gives the same ones. [`node_ports`] and [`addresses`] decide; here is what they have decided.
//!
//! An API server is sent updates one by one, and refuses the one that asks for what another object has. A folder is read as a whole, in which
//! nothing is first: what its objects ask for by number or address is given them if it can be given to all of them, whatever was held before, so
//! that Services exchange their node ports by one change. Where objects leave it open, or two ask for the same, whoever holds it keeps it.

mod absent;
mod addresses;
mod changed;
mod given;
mod handed;
mod health_checks;
mod holdings;
mod keeping;
mod node_ports;
mod running;
mod state;
mod wanting;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;
use sluicegate_config::object::Object;
use sluicegate_config::plan::{Allocations, AskedAddresses};
use sluicegate_model::family::IpFamily;
use sluicegate_model::fault::Fault;

pub use absent::Unread;
pub use handed::{Leads, everywhere, is_balanced};

use absent::Missing;
use handed::Chooser;
use holdings::Holdings;
use keeping::Keeping;
use state::{Held, State};
use wanting::Wanting;

/// What may be allocated.
#[derive(Clone, Debug)]
pub struct Ranges {
    /// The range of node ports.
    pub node_ports: RangeInclusive<u16>,
    /// The ranges of cluster IPs: one, or one of each IP family, that of the default family first.
    pub cluster_ips: Vec<IpNet>,
    /// Addresses for Services of type LoadBalancer and for Gateways, in this order. Of a CIDR these are its host addresses.
    pub load_balancer: Vec<IpNet>,
}

impl Default for Ranges {
    fn default() -> Self {
        Self {
            node_ports: 30000..=32767,
            cluster_ips: vec![IpNet::V4(ipnet::Ipv4Net::new_assert([127, 96, 0, 0].into(), 16))],
            load_balancer: Vec::new(),
        }
    }
}

/// What somebody asked for and did not get.
#[derive(Default)]
struct Refused {
    faults: Vec<Fault>,
    /// The ids of those who did not get it, and of those who have it.
    parties: BTreeSet<String>,
}

impl Refused {
    /// `by`: the id of who has it.
    fn add(&mut self, wanting: &Wanting<'_>, by: Option<&str>, fault: Fault) {
        self.parties.insert(wanting.id.clone());
        self.parties.extend(by.map(str::to_owned));
        self.faults.push(fault);
    }
}

/// Allocates, and remembers what was allocated.
pub struct Allocator {
    ranges: Ranges,
    state: State,
    keeping: Keeping,
    /// Addresses that Gateways name. Only Gateways that name one of these are given it.
    named: BTreeSet<IpAddr>,
    /// Those that Gateways have by their parameters: likewise.
    reserved: BTreeSet<IpAddr>,
    /// Everything could be read and nothing has run out, so that allocations bear on one another only among these: who does not have what they asked for,
    /// and who has it. None: everybody's may bear on everybody's.
    disputing: Option<BTreeSet<String>>,
    /// The node ports that this process has logged.
    announced: BTreeMap<String, u16>,
    /// Whether what the objects have is all that is given ([`given`]).
    given: bool,
    /// Who chooses load balancer addresses in a cluster; none: nobody does.
    chooser: Option<Chooser>,
    /// The lock of the folder, which is held as long as the gateway runs: two gateways on one folder would give out each other's ports. None if the folder
    /// cannot be written.
    lock: Option<File>,
}

impl Allocator {
    fn with(ranges: Ranges, state: State, keeping: Keeping, lock: Option<File>) -> Self {
        let (named, reserved) = (BTreeSet::new(), BTreeSet::new());
        Self { ranges, state, keeping, named, reserved, disputing: None, announced: BTreeMap::new(), given: false, chooser: None, lock }
    }

    /// An allocator that keeps nothing on disk, for `check` and `explain`.
    pub fn in_memory(ranges: Ranges) -> Self {
        Self::with(ranges, State::default(), Keeping::default(), None)
    }

    /// An allocator that reads what was allocated before from `folder`, and writes nothing.
    pub fn read_only(folder: &Path, ranges: Ranges) -> Self {
        Self::with(ranges, keeping::look(folder), Keeping::default(), None)
    }

    /// Takes the folder for this process. If it cannot be written, that is told; what is in it is used, and nothing is kept.
    ///
    /// # Errors
    /// Another gateway has the folder, or it is not a folder.
    pub fn load(folder: &Path, ranges: Ranges) -> Result<Self> {
        let lock = match lock(folder) {
            Ok(lock) => {
                lock.try_lock().map_err(|_| Error::other(format!("{}: another gateway uses this state folder", folder.display())))?;
                Some(lock)
            }
            Err(error) if unwritable(&error) => {
                tracing::warn!(%error, folder = %folder.display(), "the state folder cannot be written: a restart may give other ports");
                None
            }
            Err(error) => return Err(error),
        };
        Ok(Self::read(folder, ranges, lock))
    }

    /// Takes over the folder's lock from a predecessor, which allocates no more. Both hold it until the predecessor ends, as a lock belongs to the open file,
    /// not to the process (flock(2)).
    pub fn take_over(folder: &Path, ranges: Ranges, lock: File) -> Self {
        Self::read(folder, ranges, Some(lock))
    }

    fn read(folder: &Path, ranges: Ranges, lock: Option<File>) -> Self {
        let (state, keeping) = Keeping::load(folder);
        Self::with(ranges, state, keeping, lock)
    }

    /// A second descriptor of the lock, for a successor. None: this allocator has no lock.
    pub fn lock(&self) -> Result<Option<File>> {
        self.lock.as_ref().map(File::try_clone).transpose()
    }

    /// Whether Gateways are given addresses.
    pub fn has_addresses(&self) -> bool {
        !self.ranges.load_balancer.is_empty() && (!self.given || self.chooser.is_some())
    }

    /// Addresses that Gateways have by their parameters: from now on nobody else is given one of these, unless they name it.
    pub fn reserve(&mut self, addresses: BTreeSet<IpAddr>) {
        self.reserved = addresses;
    }

    /// Allocates for all Services and Gateways. First what they ask for by value is given, then what is held is kept, then the rest gets new numbers and
    /// addresses, each in the order of names. What is held by Services that are not there is free, unless `unread` says that they may be there.
    pub fn allocate(&mut self, objects: &[Arc<Object>], unread: &Unread) -> (Allocations, Vec<Fault>) {
        if self.given {
            let mut made = Allocations::default();
            objects.iter().for_each(|object| given::note(object, &mut made));
            let faults = self.hand_out(objects, &mut made);
            return (made, faults);
        }
        let configured: Vec<IpFamily> = self.ranges.cluster_ips.iter().map(|range| IpFamily::of(range.addr())).collect();
        let mut unconfigured = Vec::new();
        let mut disputing = BTreeSet::new();
        let wanting = |object| {
            let before = unconfigured.len();
            let wanting = Wanting::new(object, &configured, &mut unconfigured)?;
            if unconfigured.len() > before {
                disputing.insert(wanting.id.clone());
            }
            Some(wanting)
        };
        let services: Vec<Wanting<'_>> = objects.iter().filter_map(wanting).collect();
        self.name(&services);
        let mut absent = self.absent(&services, unread);
        let (mut next, Refused { mut faults, mut parties }) = loop {
            let (next, refused) = self.attempt(&services, absent.held.clone());
            if next.missing == Missing::default() || !absent.free(next.missing) {
                break (next, refused);
            }
        };
        faults.append(&mut unconfigured);
        disputing.append(&mut parties);
        let whole = unread.is_empty() && next.missing == Missing::default();
        self.disputing = whole.then_some(disputing);
        next.missing = Missing::default();
        self.keeping.changed(next.differences(&self.state));
        self.announce(&services, &next);
        self.announced.retain(|key, _| next.node_ports.contains_key(key));
        self.state = next;
        let mut made = Allocations::default();
        self.note(&services, &mut made);
        (made, faults)
    }

    /// Notes which addresses are given only to those who name them.
    fn name(&mut self, all: &[Wanting<'_>]) {
        self.named = all.iter().filter_map(|wanting| wanting.gateway).flat_map(|gateway| AskedAddresses::of(gateway).named).collect();
        self.named.extend(&self.reserved);
    }

    /// One attempt. `next`: what others hold, which is not to be given away.
    fn attempt(&self, services: &[Wanting<'_>], mut next: State) -> (State, Refused) {
        let mut refused = Refused::default();
        next.files.extend(services.iter().map(|service| (service.id.clone(), service.object.origin.file().display().to_string())));
        self.node_ports(services, &mut next, &mut refused);
        self.cluster_ips(services, &mut next, &mut refused);
        self.load_balancers(services, &mut next, &mut refused);
        (next, refused)
    }

    /// Logs each port once a process, so that it is seen at each start, and each change of one.
    fn announce(&mut self, services: &[Wanting<'_>], next: &State) {
        for service in services {
            for port in &service.ports {
                let key = port.key(&service.id);
                let Some(number) = next.node_ports.get(&key) else { continue };
                if self.announced.insert(key.clone(), *number) != Some(*number) {
                    match self.state.node_ports.get(&key) {
                        Some(before) if before == number => tracing::info!(port = key, node_port = number, "the node port is kept"),
                        Some(before) if port.node_port.is_none() => {
                            tracing::warn!(
                                port = key,
                                node_port = number,
                                before,
                                "the node port has changed: another object asks for the one it had"
                            );
                        }
                        _ => tracing::info!(port = key, node_port = number, "a node port is allocated"),
                    }
                }
            }
        }
    }

    /// Notes what these Services hold.
    fn note(&self, services: &[Wanting<'_>], made: &mut Allocations) {
        for service in services {
            let id = (service.object.key.namespace.clone(), service.object.key.name.clone());
            if let Some(gateway) = service.gateway {
                if self.has_addresses() && AskedAddresses::of(gateway).open {
                    made.gateways.insert(id, self.state.load_balancer.get(&service.id).copied().into_iter().collect());
                }
                continue;
            }
            let both = |primary: &Holdings, secondary: &Holdings| -> Vec<IpAddr> {
                [primary, secondary].into_iter().filter_map(|map| map.get(&service.id).copied()).collect()
            };
            made.cluster_ips.insert(id.clone(), both(&self.state.cluster_ips, &self.state.secondary_cluster_ips));
            made.load_balancer.insert(id.clone(), both(&self.state.load_balancer, &self.state.secondary_load_balancer));
            made.families.insert(id.clone(), service.families.clone());
            made.health_check_node_ports.extend(self.state.health_check_node_ports.get(&service.id).map(|port| (id.clone(), *port)));
            for port in &service.ports {
                if let Some(node_port) = self.state.node_ports.get(&port.key(&service.id)) {
                    made.node_ports.insert((id.0.clone(), id.1.clone(), port.port, port.protocol), *node_port);
                }
            }
        }
    }
}

/// The file whose lock is the folder's. A file that cannot be written can be locked nevertheless (flock(2)).
fn lock(folder: &Path) -> Result<File> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join("lock");
    let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    lock.or_else(|error| File::open(path).map_err(|_| error))
}

fn unwritable(error: &Error) -> bool {
    use ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull)
}

#[cfg(test)]
mod tests;
