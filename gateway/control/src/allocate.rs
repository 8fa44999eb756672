//! Node ports, cluster IPs and load balancer addresses, by the API server's rules (SERVICE-SEMANTICS §2), and kept on disk so that a restart
//! gives the same ones: [`node_ports`] and [`addresses`] decide, here is what they decided before.
//!
//! Whoever holds a number or an address keeps it, whatever other objects want, in whatever order files are read: an API server would refuse the
//! later object, and here the one that did not hold it before is the later one.

mod addresses;
mod health_checks;
mod node_ports;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Write as _;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use serde::{Deserialize, Serialize};
use sluicegate_model::fault::{Fault, Severity};
use sluicegate_model::object::{Body, Object};
use sluicegate_model::plan::Allocations;

/// What may be allocated.
#[derive(Clone, Debug)]
pub struct Ranges {
    /// Node ports.
    pub node_ports: RangeInclusive<u16>,
    /// Cluster IPs.
    pub cluster_ips: IpNet,
    /// Addresses for Services of type LoadBalancer, in this order; of a CIDR, its host addresses.
    pub load_balancer: Vec<IpNet>,
}

impl Default for Ranges {
    fn default() -> Self {
        Self {
            node_ports: 30000..=32767,
            cluster_ips: IpNet::V4(ipnet::Ipv4Net::new_assert([127, 96, 0, 0].into(), 16)),
            load_balancer: Vec::new(),
        }
    }
}

/// On disk: one row a service port, one a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct State {
    /// `namespace/name:port/protocol`.
    node_ports: BTreeMap<String, u16>,
    /// The names of these ports, by the same keys: a port that is renumbered and keeps its name keeps its node port.
    #[serde(default)]
    port_names: BTreeMap<String, String>,
    /// `namespace/name`.
    cluster_ips: BTreeMap<String, IpAddr>,
    load_balancer: BTreeMap<String, IpAddr>,
    #[serde(default)]
    health_check_node_ports: BTreeMap<String, u16>,
}

/// Allocates, and remembers.
pub struct Allocator {
    ranges: Ranges,
    state: State,
    file: Option<PathBuf>,
    unsaved: bool,
    /// What this process has logged.
    announced: BTreeMap<String, u16>,
    /// Held as long as the gateway runs: two gateways on one folder would hand out each other's ports.
    lock: Option<File>,
}

impl Allocator {
    /// Remembers nothing beyond its own life; for `check` and `explain`.
    pub fn in_memory(ranges: Ranges) -> Self {
        Self { ranges, state: State::default(), file: None, unsaved: false, announced: BTreeMap::new(), lock: None }
    }

    /// Reads what was allocated before from `folder`, for looking only.
    pub fn read_only(folder: &Path, ranges: Ranges) -> Self {
        let state = std::fs::read_to_string(folder.join("allocations.json")).ok().and_then(|text| serde_json::from_str(&text).ok());
        Self { ranges, state: state.unwrap_or_default(), file: None, unsaved: false, announced: BTreeMap::new(), lock: None }
    }

    /// Takes the folder for this process. A file that cannot be read is moved aside, never overwritten.
    pub fn load(folder: &Path, ranges: Ranges) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let lock = File::create(folder.join("lock"))?;
        lock.try_lock().map_err(|_| std::io::Error::other(format!("{}: another gateway uses this state folder", folder.display())))?;
        Self::take_over(folder, ranges, lock)
    }

    /// The same with the folder's lock from a predecessor, which allocates no more. Both hold it until the predecessor ends: a lock belongs to
    /// the open file, not to the process (flock(2)).
    pub fn take_over(folder: &Path, ranges: Ranges, lock: File) -> std::io::Result<Self> {
        let file = folder.join("allocations.json");
        let state = match std::fs::read_to_string(&file) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => State::default(),
            Err(e) => return Err(e),
            Ok(text) => match serde_json::from_str(&text) {
                Ok(state) => state,
                Err(error) => {
                    // A second one must not take the place of the first: that may be the one worth mending.
                    let aside = (0..)
                        .map(|n| folder.join(format!("allocations.json.corrupt{}", if n == 0 { String::new() } else { format!("-{n}") })));
                    let aside = aside.into_iter().find(|path| !path.exists()).unwrap_or_else(|| folder.join("allocations.json.corrupt"));
                    std::fs::rename(&file, &aside)?;
                    tracing::error!(%error, file = %file.display(), moved_to = %aside.display(), "the allocations cannot be read; new ones are made");
                    State::default()
                }
            },
        };
        Ok(Self { ranges, state, file: Some(file), unsaved: false, announced: BTreeMap::new(), lock: Some(lock) })
    }

    /// A second descriptor of the lock, for a successor.
    pub fn lock(&self) -> std::io::Result<File> {
        self.lock.as_ref().ok_or_else(|| std::io::Error::other("this allocator has no folder"))?.try_clone()
    }

    /// Allocates for all Services and saves. First what is held already is kept, then fixed values are given, then new ones, each in the order of
    /// names. `complete`: every object could be read, so that one which is not there is gone, and its allocations with it.
    pub fn allocate(&mut self, objects: &[Arc<Object>], complete: bool) -> (Allocations, Vec<Fault>) {
        let mut faults = Vec::new();
        let services: Vec<Wanting<'_>> = objects.iter().filter_map(Wanting::new).collect();
        let mut next = State::default();
        if !complete {
            self.keep_absent(&services, &mut next);
        }
        self.node_ports(&services, &mut next, &mut faults);
        self.cluster_ips(&services, &mut next, &mut faults);
        self.load_balancers(&services, &mut next, &mut faults);
        self.unsaved |= next != self.state;
        self.announce(&services, &next);
        self.state = next;
        if self.unsaved {
            match self.save() {
                Ok(()) => self.unsaved = false,
                // Tried again with the next change.
                Err(error) => faults.push(Fault {
                    severity: Severity::Error,
                    place: None,
                    object: None,
                    message: format!("the allocations could not be saved: {error}: a restart may give other ports"),
                    expected: self.file.as_ref().map(|f| format!("a folder this process may write to: {}", f.display())),
                }),
            }
        }
        (self.allocations(&services), faults)
    }

    /// What belongs to objects that could not be read stays theirs.
    fn keep_absent(&self, services: &[Wanting<'_>], next: &mut State) {
        let there: HashSet<&str> = services.iter().map(|service| service.id.as_str()).collect();
        let absent = |key: &String| !there.contains(key.split(':').next().unwrap_or_default());
        let ports = |map: &BTreeMap<String, u16>| map.iter().filter(|(k, _)| absent(k)).map(|(k, v)| (k.clone(), *v)).collect();
        next.node_ports = ports(&self.state.node_ports);
        let names = self.state.port_names.iter().filter(|(k, _)| absent(k));
        next.port_names = names.map(|(k, v)| (k.clone(), v.clone())).collect();
        let addresses = |map: &BTreeMap<String, IpAddr>| map.iter().filter(|(k, _)| absent(k)).map(|(k, v)| (k.clone(), *v)).collect();
        next.cluster_ips = addresses(&self.state.cluster_ips);
        next.load_balancer = addresses(&self.state.load_balancer);
        next.health_check_node_ports = ports(&self.state.health_check_node_ports);
    }

    /// Once a process for each port, so that it is seen at each start; and each change.
    fn announce(&mut self, services: &[Wanting<'_>], next: &State) {
        for service in services {
            for port in &service.ports {
                let key = port.key(&service.id);
                let Some(number) = next.node_ports.get(&key) else { continue };
                if self.announced.insert(key.clone(), *number) != Some(*number) {
                    if self.state.node_ports.get(&key) == Some(number) {
                        tracing::info!(port = key, node_port = number, "the node port is kept");
                    } else {
                        tracing::info!(port = key, node_port = number, "a node port is allocated");
                    }
                }
            }
        }
        self.announced.retain(|key, _| next.node_ports.contains_key(key));
    }

    fn allocations(&self, services: &[Wanting<'_>]) -> Allocations {
        let mut made = Allocations::default();
        for service in services {
            let id = (service.object.key.namespace.clone(), service.object.key.name.clone());
            made.cluster_ips.extend(self.state.cluster_ips.get(&service.id).map(|ip| (id.clone(), *ip)));
            made.load_balancer.extend(self.state.load_balancer.get(&service.id).map(|ip| (id.clone(), *ip)));
            made.health_check_node_ports.extend(self.state.health_check_node_ports.get(&service.id).map(|port| (id.clone(), *port)));
            for port in &service.ports {
                if let Some(node_port) = self.state.node_ports.get(&port.key(&service.id)) {
                    made.node_ports.insert((id.0.clone(), id.1.clone(), port.port, port.protocol.clone()), *node_port);
                }
            }
        }
        made
    }

    fn save(&self) -> std::io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let folder = file.parent().unwrap_or_else(|| Path::new("."));
        let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer_pretty(&mut temporary, &self.state)?;
        temporary.write_all(b"\n")?;
        temporary.as_file().sync_all()?;
        temporary.persist(file)?;
        Ok(())
    }
}

/// A Service, and what of it bears on allocation.
struct Wanting<'a> {
    object: &'a Arc<Object>,
    service: &'a Service,
    /// `namespace/name`.
    id: String,
    ports: Vec<Port>,
}

impl<'a> Wanting<'a> {
    fn new(object: &'a Arc<Object>) -> Option<Self> {
        let Body::Service(service) = &object.body else { return None };
        let id = format!("{}/{}", object.key.namespace, object.key.name);
        Some(Self { object, service, id, ports: ports(service) })
    }

    fn type_(&self) -> &str {
        self.service.spec.as_ref().and_then(|spec| spec.type_.as_deref()).unwrap_or("ClusterIP")
    }
}

struct Port {
    index: usize,
    name: String,
    port: u16,
    protocol: String,
    node_port: Option<i32>,
}

impl Port {
    fn key(&self, service: &str) -> String {
        format!("{service}:{}/{}", self.port, self.protocol)
    }
}

fn ports(service: &Service) -> Vec<Port> {
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten()).enumerate();
    ports
        .filter_map(|(index, p)| {
            Some(Port {
                index,
                name: p.name.clone().unwrap_or_default(),
                port: u16::try_from(p.port).ok()?,
                protocol: p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                node_port: p.node_port.filter(|n| *n != 0),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
