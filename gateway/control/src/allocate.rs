//! Node ports, cluster IPs and load balancer addresses, by the API server's rules (SERVICE-SEMANTICS §2), and kept on disk so that a restart
//! gives the same ones.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io::Write as _;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use sluicegate_model::fault::{Fault, Severity};
use sluicegate_model::object::{Body, Object, error};
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
    /// `namespace/name`.
    cluster_ips: BTreeMap<String, IpAddr>,
    load_balancer: BTreeMap<String, IpAddr>,
}

/// Allocates, and remembers.
pub struct Allocator {
    ranges: Ranges,
    state: State,
    file: Option<PathBuf>,
    unsaved: bool,
    /// Held as long as the gateway runs: two gateways on one folder would hand out each other's ports.
    _lock: Option<File>,
}

impl Allocator {
    /// Remembers nothing beyond its own life; for `check` and `explain`.
    pub fn in_memory(ranges: Ranges) -> Self {
        Self { ranges, state: State::default(), file: None, unsaved: false, _lock: None }
    }

    /// Reads what was allocated before from `folder`, for looking only.
    pub fn read_only(folder: &Path, ranges: Ranges) -> Self {
        let state = std::fs::read_to_string(folder.join("allocations.json")).ok().and_then(|text| serde_json::from_str(&text).ok());
        Self { ranges, state: state.unwrap_or_default(), file: None, unsaved: false, _lock: None }
    }

    /// Takes the folder for this process. A file that cannot be read is moved aside, never overwritten.
    pub fn load(folder: &Path, ranges: Ranges) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let lock = File::create(folder.join("lock"))?;
        lock.try_lock().map_err(|_| std::io::Error::other(format!("{}: another gateway uses this state folder", folder.display())))?;
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
        Ok(Self { ranges, state, file: Some(file), unsaved: false, _lock: Some(lock) })
    }

    /// Allocates for all Services and saves. Fixed values come first, then what was allocated before, then new ones, each in the order of names.
    pub fn allocate(&mut self, objects: &[Arc<Object>]) -> (Allocations, Vec<Fault>) {
        let mut faults = Vec::new();
        let services: Vec<(&Arc<Object>, &Service)> =
            objects.iter().filter_map(|o| if let Body::Service(s) = &o.body { Some((o, &**s)) } else { None }).collect();
        let mut next = State::default();
        self.node_ports(&services, &mut next, &mut faults);
        self.cluster_ips(&services, &mut next, &mut faults);
        self.load_balancers(&services, &mut next, &mut faults);
        self.unsaved |= next != self.state;
        for (port, number) in next.node_ports.iter().filter(|(port, number)| self.state.node_ports.get(*port) != Some(*number)) {
            tracing::info!(port, node_port = number, "a node port is allocated");
        }
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

    fn allocations(&self, services: &[(&Arc<Object>, &Service)]) -> Allocations {
        let mut made = Allocations::default();
        for (object, service) in services {
            let (namespace, name) = (&object.key.namespace, &object.key.name);
            let id = format!("{namespace}/{name}");
            let key = (namespace.clone(), name.clone());
            made.cluster_ips.extend(self.state.cluster_ips.get(&id).map(|ip| (key.clone(), *ip)));
            made.load_balancer.extend(self.state.load_balancer.get(&id).map(|ip| (key, *ip)));
            for port in ports(service) {
                if let Some(node_port) = self.state.node_ports.get(&port.id(&id)) {
                    made.node_ports.insert((namespace.clone(), name.clone(), port.port, port.protocol), *node_port);
                }
            }
        }
        made
    }

    fn node_ports(&self, services: &[(&Arc<Object>, &Service)], next: &mut State, faults: &mut Vec<Fault>) {
        // By number: which Service has it, for which port; TCP and UDP share one only inside one Service with the same port.
        let mut taken: BTreeMap<u16, (String, u16, Vec<String>)> = BTreeMap::new();
        let mut take = |number: u16, id: &str, port: &Port| -> bool {
            let owner = taken.entry(number).or_insert_with(|| (id.to_owned(), port.port, Vec::new()));
            let free = owner.0 == id && owner.1 == port.port && !owner.2.contains(&port.protocol);
            if free {
                owner.2.push(port.protocol.clone());
            }
            free
        };
        let wanting: Vec<(&Arc<Object>, String, Vec<Port>)> = services
            .iter()
            .filter(|(_, s)| wants_node_ports(s))
            .map(|(o, s)| (*o, format!("{}/{}", o.key.namespace, o.key.name), ports(s)))
            .collect();
        let mut refused: HashSet<String> = HashSet::new();
        for (object, id, ports) in &wanting {
            for port in ports {
                let Some(fixed) = port.node_port else { continue };
                let path = format!("spec.ports[{}].nodePort", port.index);
                let mut invalid = |what: String| {
                    let message = format!("Service {:?} is invalid: {path}: Invalid value: {fixed}: {what}", object.key.name);
                    faults.push(error(&object.origin, &object.key, &path, message, None));
                };
                let number = u16::try_from(fixed).ok().filter(|n| self.ranges.node_ports.contains(n));
                match number {
                    None => invalid(format!(
                        "provided port is not in the valid range. The range of valid ports is {}-{}",
                        self.ranges.node_ports.start(),
                        self.ranges.node_ports.end()
                    )),
                    Some(number) if take(number, id, port) => {
                        next.node_ports.insert(port.id(id), number);
                        continue;
                    }
                    Some(_) => invalid("provided port is already allocated".to_owned()),
                }
                refused.insert(port.id(id));
            }
        }
        for (_, id, ports) in &wanting {
            for port in ports {
                let key = port.id(id);
                if let Some(kept) = self.state.node_ports.get(&key).copied().filter(|_| !next.node_ports.contains_key(&key))
                    && self.ranges.node_ports.contains(&kept)
                    && take(kept, id, port)
                {
                    next.node_ports.insert(key, kept);
                }
            }
        }
        for (object, id, ports) in &wanting {
            for port in ports {
                let key = port.id(id);
                if next.node_ports.contains_key(&key) || refused.contains(&key) {
                    continue;
                }
                // TCP and UDP of one port get one number, as the API server gives them.
                let sibling = ports.iter().filter(|p| p.port == port.port).find_map(|p| next.node_ports.get(&p.id(id)).copied());
                if let Some(number) = sibling.filter(|n| take(*n, id, port)) {
                    next.node_ports.insert(key, number);
                    continue;
                }
                match candidates(&self.ranges.node_ports).find(|n| take(*n, id, port)) {
                    Some(number) => drop(next.node_ports.insert(key, number)),
                    None => {
                        let path = format!("spec.ports[{}]", port.index);
                        faults.push(error(
                            &object.origin,
                            &object.key,
                            &path,
                            "failed to allocate a nodePort: range is full".to_owned(),
                            None,
                        ));
                    }
                }
            }
        }
    }

    fn cluster_ips(&self, services: &[(&Arc<Object>, &Service)], next: &mut State, faults: &mut Vec<Fault>) {
        let mut taken: BTreeSet<IpAddr> = BTreeSet::new();
        let wanting = services.iter().filter(|(_, s)| {
            let spec = s.spec.as_ref();
            spec.and_then(|s| s.type_.as_deref()) != Some("ExternalName") && spec.and_then(|s| s.cluster_ip.as_deref()) != Some("None")
        });
        let wanting: Vec<_> = wanting.map(|(o, s)| (o, s, format!("{}/{}", o.key.namespace, o.key.name))).collect();
        let mut refused = HashSet::new();
        for (object, service, id) in &wanting {
            let Some(given) = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()).filter(|ip| !ip.is_empty()) else { continue };
            let mut invalid = |what: &str| {
                let message = format!("Service {:?} is invalid: spec.clusterIPs: Invalid value: [{given:?}]: {what}", object.key.name);
                faults.push(error(&object.origin, &object.key, "spec.clusterIP", message, None));
                refused.insert(id.clone());
            };
            match given.parse::<IpAddr>() {
                Err(_) => invalid("must be a valid IP address"),
                Ok(_) if self.state.cluster_ips.get(id).is_some_and(|known| known.to_string() != given) => {
                    invalid("may not change once set")
                }
                Ok(ip) if !self.ranges.cluster_ips.contains(&ip) => invalid(&format!(
                    "failed to allocate IP {ip}: the provided IP ({ip}) is not in the valid range. The range of valid IPs is {}",
                    self.ranges.cluster_ips
                )),
                Ok(ip) if !taken.insert(ip) => invalid(&format!("failed to allocate IP {ip}: provided IP is already allocated")),
                Ok(ip) => drop(next.cluster_ips.insert(id.clone(), ip)),
            }
        }
        for (.., id) in &wanting {
            if let Some(kept) =
                self.state.cluster_ips.get(id).filter(|ip| self.ranges.cluster_ips.contains(*ip) && !next.cluster_ips.contains_key(id))
                && taken.insert(*kept)
            {
                next.cluster_ips.insert(id.clone(), *kept);
            }
        }
        let mut free = self.ranges.cluster_ips.hosts();
        for (object, _, id) in &wanting {
            if next.cluster_ips.contains_key(id) || refused.contains(id) {
                continue;
            }
            match free.find(|ip| taken.insert(*ip)) {
                Some(ip) => drop(next.cluster_ips.insert(id.clone(), ip)),
                None => faults.push(error(
                    &object.origin,
                    &object.key,
                    "spec",
                    "failed to allocate a serviceIP: range is full".to_owned(),
                    None,
                )),
            }
        }
    }

    fn load_balancers(&self, services: &[(&Arc<Object>, &Service)], next: &mut State, faults: &mut Vec<Fault>) {
        let mut taken: BTreeSet<IpAddr> = BTreeSet::new();
        let wanting = services.iter().filter(|(_, s)| s.spec.as_ref().and_then(|s| s.type_.as_deref()) == Some("LoadBalancer"));
        let wanting: Vec<_> = wanting.map(|(o, s)| (o, s, format!("{}/{}", o.key.namespace, o.key.name))).collect();
        for (_, service, id) in &wanting {
            let asked = service.spec.as_ref().and_then(|s| s.load_balancer_ip.as_deref()).and_then(|ip| ip.parse().ok());
            let kept = asked
                .or_else(|| self.state.load_balancer.get(id).copied())
                .filter(|ip| self.ranges.load_balancer.iter().any(|net| net.contains(ip)));
            if let Some(ip) = kept.filter(|ip| taken.insert(*ip)) {
                next.load_balancer.insert(id.clone(), ip);
            }
        }
        for (object, _, id) in &wanting {
            if next.load_balancer.contains_key(id) || self.ranges.load_balancer.is_empty() {
                continue;
            }
            match self.ranges.load_balancer.iter().flat_map(IpNet::hosts).find(|ip| taken.insert(*ip)) {
                Some(ip) => drop(next.load_balancer.insert(id.clone(), ip)),
                None => faults.push(error(
                    &object.origin,
                    &object.key,
                    "spec",
                    "failed to allocate a load balancer address: all are taken".to_owned(),
                    None,
                )),
            }
        }
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

struct Port {
    index: usize,
    port: u16,
    protocol: String,
    node_port: Option<i32>,
}

impl Port {
    fn id(&self, service: &str) -> String {
        format!("{service}:{}/{}", self.port, self.protocol)
    }
}

fn ports(service: &Service) -> Vec<Port> {
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten()).enumerate();
    ports
        .filter_map(|(index, p)| {
            Some(Port {
                index,
                port: u16::try_from(p.port).ok()?,
                protocol: p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                node_port: p.node_port.filter(|n| *n != 0),
            })
        })
        .collect()
}

fn wants_node_ports(service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    match spec.type_.as_deref() {
        Some("NodePort") => true,
        Some("LoadBalancer") => spec.allocate_load_balancer_node_ports.unwrap_or(true),
        _ => false,
    }
}

/// The size of the static band: min(max(16, size/32), 128), and 0 for ranges of at most 16 (KEP-3668).
fn static_band(size: u16) -> u16 {
    if size <= 16 { 0 } else { (size / 32).clamp(16, 128) }
}

/// All ports in the order they are tried: the dynamic band from a random place, with wrap, then the static band likewise.
fn candidates(range: &RangeInclusive<u16>) -> impl Iterator<Item = u16> {
    let (start, size) = (*range.start(), (range.end() - range.start()).saturating_add(1));
    let band = static_band(size);
    let scan = |from: u16, count: u16| {
        let offset = if count == 0 { 0 } else { rand::rng().random_range(0..count) };
        (0..count).map(move |i| from + ((u32::from(offset) + u32::from(i)) % u32::from(count.max(1))) as u16)
    };
    scan(start + band, size - band).chain(scan(start, band))
}

#[cfg(test)]
mod tests;
