//! Which endpoints are let in. There is one rule for all that discovery plugins publish, whether they found it in Pods, EndpointSlices and lists of the
//! operator's objects or elsewhere. Outside clients reach what is let in, so no plugin may publish what is meant for this host alone, or lead the gateway
//! to itself.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use sluicegate_config::plan::{LoopbackEndpoints, Plan, PlannedPort};
use sluicegate_model::address::{Special, reaches, special, spellings};
use sluicegate_model::discovery::{FoundAddress, FoundEndpoint};
use sluicegate_model::fault::{Fault, Severity};
use sluicegate_model::route::Protocol;

use crate::assemble::Moved;
use crate::local::Local;

/// How many bytes are shown of a text that should be an address.
const SHOWN: usize = 64;

/// What the gateway itself listens on, and who may publish what.
pub(crate) struct Admission {
    /// The addresses of listeners.
    listeners: Own,
    /// The addresses of the admin API and of health check node ports.
    others: Own,
    loopback: HashMap<String, LoopbackEndpoints>,
    local: Local,
}

/// Why an endpoint is not let in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    /// What the plugin gave is no IP address.
    NoAddress,
    /// The port is 0.
    NoPort,
    /// The address is never an endpoint's.
    Special(Special),
    /// The gateway itself listens there, for this.
    Own(Arc<str>),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress => f.write_str("it is no IP address"),
            Self::NoPort => f.write_str("0 is no port"),
            Self::Special(what) => write!(f, "it is {what}"),
            Self::Own(what) => write!(f, "it is this gateway's own: {what}"),
        }
    }
}

/// Where the gateway listens, and for what. It goes by a hash, as every endpoint is looked up here.
#[derive(Default)]
struct Own(HashMap<(Protocol, u16), HashMap<IpAddr, Arc<str>>>);

impl Own {
    /// Adds an address. Returns whether nobody listened there.
    fn insert(&mut self, protocol: Protocol, address: SocketAddr, what: Arc<str>) -> bool {
        self.0.entry((protocol, address.port())).or_default().insert(address.ip().to_canonical(), what).is_none()
    }

    fn remove(&mut self, protocol: Protocol, address: SocketAddr) {
        if let Some(ips) = self.0.get_mut(&(protocol, address.port())) {
            ips.remove(&address.ip().to_canonical());
            if ips.is_empty() {
                self.0.remove(&(protocol, address.port()));
            }
        }
    }

    fn all(&self) -> HashSet<(Protocol, SocketAddr)> {
        let of = |((protocol, port), ips): (&(Protocol, u16), &HashMap<IpAddr, Arc<str>>)| {
            let (protocol, port) = (*protocol, *port);
            ips.keys().map(move |ip| (protocol, SocketAddr::new(*ip, port))).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }

    fn differences(&self, other: &Self) -> Vec<(Protocol, SocketAddr)> {
        self.all().symmetric_difference(&other.all()).copied().collect()
    }

    /// What listens where a connection to this address would lead ([`reaches`]).
    fn find(&self, address: SocketAddr, protocol: Protocol, local: &mut Local) -> Option<&Arc<str>> {
        let ips = self.0.get(&(protocol, address.port()))?;
        let all = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        spellings(address.ip()).into_iter().find_map(|to| {
            let own = ips.get(&to);
            let own = own.or_else(|| all.iter().find_map(|any| ips.get(any)).filter(|_| to.is_unspecified() || local.has(to)));
            // Connecting to the unspecified address reaches this host.
            own.or_else(|| ips.iter().find(|(ip, _)| to.is_unspecified() && ip.is_loopback()).map(|(_, what)| what))
        })
    }
}

impl Default for Admission {
    fn default() -> Self {
        Self { listeners: Own::default(), others: Own::default(), loopback: HashMap::new(), local: Local::new() }
    }
}

impl Admission {
    /// Begins an assembly: what it is told of this host's addresses is true now.
    pub(crate) fn begin(&mut self) {
        self.local.refresh();
    }

    /// Takes in where the gateway listens by this plan, of which these listeners have moved, and which plugins may publish what. Returns the addresses where it
    /// has begun or ceased to listen, and whether the permits have changed.
    pub(crate) fn update(&mut self, plan: &Plan, moved: &Moved, admin: Option<SocketAddr>) -> (Vec<(Protocol, SocketAddr)>, bool) {
        let mut changed = Vec::new();
        for (protocol, address) in &moved.gone {
            self.listeners.remove(*protocol, *address);
            changed.push((*protocol, *address));
        }
        for listener in &moved.planned {
            let (protocol, address) = listener.at();
            if self.listeners.insert(protocol, address, listener.name.as_str().into()) {
                changed.push((protocol, address));
            }
        }
        let mut others = Own::default();
        if let Some(admin) = admin {
            others.insert(Protocol::Tcp, admin, "the admin API".into());
        }
        for check in &plan.health_checks {
            let what: Arc<str> = format!("the health check node port of {}/{}", check.namespace, check.name).into();
            for address in &check.addresses {
                others.insert(Protocol::Tcp, *address, what.clone());
            }
        }
        changed.extend(self.others.differences(&others));
        self.others = others;
        let loopback = plan.plugins.iter().map(|plugin| (plugin.name.clone(), plugin.loopback_endpoints)).collect();
        let permits = self.loopback != loopback;
        self.loopback = loopback;
        (changed, permits)
    }

    /// Whether a connection to an endpoint would lead to one of these addresses.
    pub(crate) fn reaches(&mut self, endpoint: SocketAddr, protocol: Protocol, own: &[(Protocol, SocketAddr)]) -> bool {
        let local = &mut self.local;
        let mut own = own.iter().filter(|(of, listens)| *of == protocol && listens.port() == endpoint.port());
        own.any(|(_, listens)| reaches(endpoint, *listens, |ip| local.has(ip)))
    }

    /// The address of an endpoint that a plugin published for a port of this protocol, or why it is not let in.
    pub(crate) fn admit(&mut self, found: &FoundEndpoint, plugin: &str, protocol: Protocol) -> Result<SocketAddr, Refusal> {
        let FoundAddress::Ip(ip) = &found.address else { return Err(Refusal::NoAddress) };
        let ip = ip.to_canonical();
        if found.port == 0 {
            return Err(Refusal::NoPort);
        }
        let address = SocketAddr::new(ip, found.port);
        // This comes first: if the address is also a special one, what listens there is the better reason.
        let (local, own) = (&mut self.local, [&self.listeners, &self.others]);
        if let Some(what) = own.into_iter().find_map(|own| own.find(address, protocol, local)) {
            return Err(Refusal::Own(what.clone()));
        }
        match special(ip) {
            Some(Special::Loopback) if self.loopback.get(plugin) == Some(&LoopbackEndpoints::Allowed) => Ok(address),
            Some(what) => Err(Refusal::Special(what)),
            None => Ok(address),
        }
    }
}

/// The endpoints of one service port that were not let in, by reason: the first address, and how many there are.
#[derive(Default)]
pub(crate) struct Refused(BTreeMap<Refusal, (String, usize)>);

impl Refused {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn add(&mut self, found: &FoundEndpoint, why: Refusal) {
        let shown = |found: &FoundEndpoint| match &found.address {
            FoundAddress::Ip(ip) => SocketAddr::new(*ip, found.port).to_string(),
            FoundAddress::Other(words) => {
                let end = (0..=words.len().min(SHOWN)).rev().find(|end| words.is_char_boundary(*end));
                format!("{:?}", &words[..end.unwrap_or(0)])
            }
        };
        match self.0.get_mut(&why) {
            Some((_, count)) => *count += 1,
            None => {
                let shown = shown(found);
                self.0.insert(why, (shown, 1));
            }
        }
    }

    /// A fault for each reason.
    pub(crate) fn faults<'r>(&'r self, port: &'r PlannedPort) -> impl Iterator<Item = Fault> + use<'r> {
        self.0.iter().map(|(why, (first, count))| {
            let more = if *count > 1 { format!(" and {} more", count - 1) } else { String::new() };
            let expected = match why {
                Refusal::Special(Special::Loopback) => format!(
                    "if plugin {} is meant to send clients to this host: `capabilities: {{allowLoopbackEndpoints: true}}` in its Plugin object",
                    port.discovery.plugin
                ),
                _ => "the others serve".to_owned(),
            };
            Fault {
                severity: Severity::Error,
                place: port.discovery.place(""),
                object: Some(format!("Service {}/{}", port.service.namespace, port.service.name)),
                message: format!("plugin {}: endpoint {first}{more} of {} is refused: {why}", port.discovery.plugin, port.service),
                expected: Some(expected),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Admission {
        let mut admission = Admission::default();
        let own = [(Protocol::Tcp, "127.0.0.1:9901"), (Protocol::Tcp, "0.0.0.0:30080"), (Protocol::Udp, "127.96.0.1:53")];
        for (protocol, address) in own {
            let address: SocketAddr = address.parse().expect(address);
            admission.listeners.insert(protocol, address, "x".into());
        }
        admission.loopback = [("trusted".to_owned(), LoopbackEndpoints::Allowed)].into();
        admission
    }

    #[test]
    fn nothing_leads_to_the_gateway_itself_whoever_says_so() {
        let mut admission = admission();
        for (address, port, protocol) in [
            ("127.0.0.1", 9901, Protocol::Tcp),
            ("::ffff:127.0.0.1", 9901, Protocol::Tcp),
            ("0.0.0.0", 9901, Protocol::Tcp),
            ("127.5.5.5", 30080, Protocol::Tcp),
            ("::1", 30080, Protocol::Tcp),
            ("127.96.0.1", 53, Protocol::Udp),
        ] {
            let refused = admission.admit(&FoundEndpoint::new(address, port), "trusted", protocol);
            assert_eq!(refused, Err(Refusal::Own("x".into())), "{address}:{port}");
        }
        assert!(admission.admit(&FoundEndpoint::new("127.96.0.1", 53), "trusted", Protocol::Tcp).is_ok(), "another protocol");
    }

    #[test]
    fn loopback_is_for_those_who_may_and_other_special_addresses_for_nobody() {
        let mut admission = admission();
        let mut admit = |address, plugin| admission.admit(&FoundEndpoint::new(address, 80), plugin, Protocol::Tcp).err();
        assert_eq!(admit("127.0.0.1", "trusted"), None);
        assert_eq!(admit("127.0.0.1", "other"), Some(Refusal::Special(Special::Loopback)));
        assert_eq!(admit("169.254.169.254", "trusted"), Some(Refusal::Special(Special::Metadata)));
        assert_eq!(admit("::ffff:169.254.1.1", "trusted"), Some(Refusal::Special(Special::LinkLocal)));
        assert_eq!(admit("fe80::1%eth0", "trusted"), Some(Refusal::NoAddress));
        assert_eq!(admit("192.0.2.1", "other"), None);
    }

    #[test]
    fn many_that_are_refused_for_one_reason_are_one() {
        let mut refused = Refused::default();
        (0..1000)
            .for_each(|i| refused.add(&FoundEndpoint::new(&format!("169.254.0.{}", i % 256), 80), Refusal::Special(Special::LinkLocal)));
        refused.add(&FoundEndpoint::new(&"\u{1b}é".repeat(100), 80), Refusal::NoAddress);
        let all: Vec<_> = refused.0.iter().collect();
        assert_eq!(all[1], (&Refusal::Special(Special::LinkLocal), &("169.254.0.0:80".to_owned(), 1000)));
        assert!(all[0].1.0.starts_with("\"\\u{1b}é") && all[0].1.0.len() < 300, "{:?}", all[0]);
    }
}
