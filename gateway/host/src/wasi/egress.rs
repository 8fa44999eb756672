//! What a discovery plugin may reach. The name must be among its `capabilities.allowedHosts`; then the address that the name resolved to is
//! checked, and that very address is connected to, so that a name which resolves to another address the next time (DNS rebinding) gains nothing.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use sluicegate_model::address::{Special, is_local, reaches, special};
use sluicegate_model::allowed_file::AllowedFiles;
use sluicegate_model::egress::AllowedHost;

/// What one plugin may reach.
#[derive(Clone, Debug, Default)]
pub(crate) struct Egress {
    pub(crate) hosts: Vec<AllowedHost>,
    /// The files that the plugin may read.
    pub(crate) files: AllowedFiles,
    /// Where the admin API listens. Whoever reaches it can see everything, and change much.
    pub(crate) admin: Option<SocketAddr>,
    /// Whether this process lets plugins send anything.
    pub(crate) network: Network,
}

/// Whether plugins of this process have a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Discovery plugins reach what they are allowed to reach.
    #[default]
    Online,
    /// Discovery plugins reach nothing: a command that looks at a configuration sends nothing.
    Offline,
}

/// What was refused to one task. Each refusal is told once, as a plugin asks again and again.
#[derive(Clone)]
pub(crate) struct Refusals {
    plugin: Arc<str>,
    told: Arc<Mutex<BTreeSet<String>>>,
}

/// How many refusals are remembered; further ones are not told.
const MAX_REFUSALS: usize = 64;

impl Refusals {
    pub(crate) fn of(plugin: Arc<str>) -> Self {
        Self { plugin, told: Arc::default() }
    }

    pub(crate) fn tell(&self, reason: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < MAX_REFUSALS && told.insert(reason.clone()) {
            tracing::warn!(plugin = %self.plugin, reason, "the plugin asks for what it may not reach");
        }
    }
}

impl Egress {
    pub(crate) fn allows(&self, host: &str, port: u16) -> Result<(), String> {
        if self.hosts.iter().any(|allowed| allowed.allows(host, port)) {
            return Ok(());
        }
        let hosts: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        let hosts = if hosts.is_empty() { "empty".to_owned() } else { hosts.join(", ") };
        Err(format!("{host}:{port} is not among the plugin's capabilities.allowedHosts ({hosts})"))
    }

    pub(crate) fn may_look_up(&self, host: &str) -> bool {
        self.hosts.iter().any(|allowed| allowed.names(host))
    }

    /// Why an address is refused that nobody means by a host's name. If it is meant, it is written into `allowedHosts` itself.
    pub(crate) fn prohibits(&self, address: SocketAddr) -> Option<String> {
        let ip = address.ip().to_canonical();
        let named: Vec<Option<u16>> = self.hosts.iter().filter_map(|host| host.literal(ip)).collect();
        if self.admin.is_some_and(|admin| reaches(address, admin, is_local)) {
            return (!named.contains(&Some(address.port()))).then(|| format!("{address} is this gateway's admin API"));
        }
        let named = named.into_iter().any(|port| port.is_none_or(|port| port == address.port()));
        let special = special(ip).filter(|what| matches!(what, Special::LinkLocal | Special::Metadata) && !named);
        special.map(|what| format!("{address} is {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn egress(hosts: &[&str], admin: &str) -> Egress {
        let hosts = hosts.iter().map(|host| host.parse().expect("a host")).collect();
        Egress { hosts, admin: Some(admin.parse().expect("an address")), ..Egress::default() }
    }

    fn prohibited(egress: &Egress, address: &str) -> bool {
        egress.prohibits(address.parse().expect("an address")).is_some()
    }

    #[test]
    fn link_local_and_metadata_addresses_must_be_named_themselves() {
        let e = egress(&["metadata.internal", "*.example"], "127.0.0.1:9901");
        let all = ["169.254.169.254:80", "[fe80::1]:80", "[::ffff:169.254.169.254]:80", "[fd00:ec2::254]:80", "100.100.100.200:80"];
        for address in all.into_iter().chain(["[64:ff9b::169.254.169.254]:80", "[2002:a9fe:a9fe::1]:80"]) {
            assert!(prohibited(&e, address), "{address}");
        }
        assert!(!prohibited(&e, "10.0.0.1:80") && !prohibited(&e, "127.0.0.1:80"));
        let named = egress(&["169.254.169.254:80", "fe80::1"], "127.0.0.1:9901");
        assert!(!prohibited(&named, "169.254.169.254:80") && !prohibited(&named, "[fe80::1]:99"));
        assert!(prohibited(&named, "169.254.169.254:81") && prohibited(&named, "169.254.169.253:80"));
    }

    #[test]
    fn the_admin_api_must_be_named_with_its_port() {
        let e = egress(&["localhost", "127.0.0.1"], "127.0.0.1:9901");
        assert!(prohibited(&e, "127.0.0.1:9901") && prohibited(&e, "0.0.0.0:9901") && prohibited(&e, "[::ffff:127.0.0.1]:9901"));
        assert!(!prohibited(&e, "127.0.0.1:9902") && !prohibited(&e, "127.0.0.2:9901"));
        assert!(!prohibited(&egress(&["127.0.0.1:9901"], "127.0.0.1:9901"), "127.0.0.1:9901"));
        let everywhere = egress(&["localhost"], "0.0.0.0:9901");
        assert!(prohibited(&everywhere, "127.0.0.5:9901") && prohibited(&everywhere, "[::1]:9901"));
        assert!(!prohibited(&everywhere, "192.0.2.1:9901"), "a documentation address is not this host's");
    }

    #[test]
    fn a_refusal_is_told_once_and_not_without_end() {
        let refusals = Refusals::of("x".into());
        (0..1000).for_each(|i| refusals.tell(format!("{}", i % 100)));
        assert_eq!(refusals.told.lock().expect("not poisoned").len(), MAX_REFUSALS);
    }

    #[test]
    fn a_host_that_is_not_named_is_refused_with_those_that_are() {
        let e = egress(&["sd.example:80"], "127.0.0.1:9901");
        assert_eq!(e.allows("sd.example", 80), Ok(()));
        let refused = e.allows("evil.example", 80).unwrap_err();
        assert_eq!(refused, "evil.example:80 is not among the plugin's capabilities.allowedHosts (sd.example:80)");
        assert!(e.may_look_up("sd.example") && !e.may_look_up("evil.example"));
    }
}
