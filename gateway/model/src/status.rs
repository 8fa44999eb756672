//! What the admin API shows: one immutable value, which control replaces as a whole.

pub mod sources;
mod unserved;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde::ser::SerializeMap as _;

use crate::counters::Counters;
use crate::fault::Fault;
use crate::health::Condition;
use crate::operate::PluginEvent;
use crate::plugin::{Generation, PluginKind};
use crate::pool::Endpoint;
use crate::rollout::{Phase, Side, Trial};
use crate::route::PortProtocol;
use crate::snapshot::{Front, Listener, TlsHost, TlsMode};
use crate::sorted::Sorted;
use crate::stats::ServiceStats;
use crate::tls::acme::Named;
use crate::tls::{Acme, Certificate, Demand};

/// The state of the gateway at one moment.
#[derive(Clone, Default, Serialize)]
pub struct Status {
    /// The version of the snapshot that is described.
    pub snapshot: u64,
    /// All services, including those that are not proxied.
    pub services: Sorted<ServiceStatus>,
    /// What is listened on, in the order of those who listen.
    pub listeners: Sorted<ListenerStatus>,
    /// All plugins: the built-in ones in use, and all `Plugin` objects.
    pub plugins: Vec<PluginStatus>,
    /// What is wrong with the configuration.
    pub faults: Vec<Fault>,
    /// The objects that have a status, with their statuses.
    #[serde(skip)]
    pub objects: Option<Arc<dyn ObjectStatus>>,
    /// How often plugins were compiled.
    pub compiled: Compiled,
    /// Services whose endpoints are awaited before the gateway is ready.
    pub awaited: Vec<String>,
    /// Whether every source had told all that it has. Before, objects may seem to lack what they refer to.
    #[serde(skip)]
    pub complete: bool,
    /// What ACME has brought.
    #[serde(skip)]
    pub acme: Arc<Acme>,
}

/// Gives objects with the status that says what became of them. Statuses are made when they are asked for.
pub trait ObjectStatus: Send + Sync {
    /// The objects of a kind, by the kind's plural; none: objects of that kind have no status.
    fn objects(&self, plural: &str) -> Option<Vec<serde_json::Value>>;

    /// The statuses of the objects of a kind, without the objects, which may be large; none: objects of that kind have no status.
    fn judged(&self, plural: &str) -> Option<Vec<Judged>>;
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The object's namespace; empty for kinds without namespaces.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// Its `status`, without times.
    pub status: serde_json::Value,
}

/// How often a plugin's compiled code was found from an earlier start, and how often it was compiled and kept. Both are 0 if no code is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compiled {
    /// How often compiled code was found.
    pub found: u64,
    /// How often code was compiled.
    pub anew: u64,
}

/// One address that is listened on.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// The place of the listener: listeners are shown in the order of these texts.
    #[serde(skip)]
    pub place: Box<str>,
    /// The address.
    pub address: String,
    /// The name, which says what it is for.
    pub name: String,
    /// `TCP`, `UDP`, `HTTP` or `TLS`.
    pub protocol: &'static str,
    /// The listener's host names.
    pub hosts: Vec<HostStatus>,
}

/// One host name of a listener.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostStatus {
    /// The host name; none: any.
    pub hostname: Option<String>,
    /// What becomes of TLS: `HTTPS`, `Terminate` or `Passthrough`; empty without TLS.
    pub tls: &'static str,
    /// `Required`, `Optional` or `Fallback`, if clients are asked for certificates.
    pub client_certificates: Option<&'static str>,
    /// The certificates that are shown to clients. If the listener ends TLS and there are none, it refuses handshakes.
    pub certificates: Vec<CertificateStatus>,
    /// The names for which certificates are ordered from an ACME issuer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub acme: Vec<AcmeStatus>,
}

/// A name for which certificates are ordered from an ACME issuer.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AcmeStatus {
    /// The issuer.
    pub issuer: String,
    /// The host name.
    pub name: String,
    /// When its certificate runs out, in seconds since 1970; none: it has none yet, and handshakes for it are refused.
    pub not_after: Option<i64>,
    /// When the certificate is to be renewed, in seconds since 1970.
    pub renew_at: Option<i64>,
    /// Why the last order brought no certificate.
    pub problem: Option<String>,
    /// When the next order is made after that, in seconds since 1970.
    pub again: Option<i64>,
}

/// A certificate.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// The namespace and name of the Secret; `acme:ISSUER/NAME` for a certificate that an ACME issuer has issued.
    pub secret: String,
    /// The host names of the certificate.
    pub names: Vec<String>,
    /// When it runs out, in seconds since 1970.
    pub not_after: i64,
}

impl ListenerStatus {
    /// The status of a listener that has this place.
    pub fn of(listener: &Listener, place: Box<str>) -> Self {
        let plain = |hostname: &Option<String>| HostStatus {
            hostname: hostname.clone(),
            tls: "",
            client_certificates: None,
            certificates: Vec::new(),
            acme: Vec::new(),
        };
        let (protocol, hosts) = match &listener.front {
            Front::Tcp(_) => ("TCP", Vec::new()),
            Front::Udp(_) => ("UDP", Vec::new()),
            Front::Http(hosts) => ("HTTP", hosts.iter().map(|h| plain(&h.hostname)).collect()),
            Front::Tls(hosts) => ("TLS", hosts.iter().map(HostStatus::of).collect()),
        };
        Self { place, address: listener.address.to_string(), name: listener.name.clone(), protocol, hosts }
    }
}

impl HostStatus {
    fn of(host: &TlsHost) -> Self {
        let tls = match &host.mode {
            TlsMode::Passthrough => "Passthrough",
            TlsMode::Tcp(_) => "Terminate",
            TlsMode::Http(_) => "HTTPS",
        };
        let settings = host.server().map(|s| &s.settings);
        let demand = |d| match d {
            Demand::Required => "Required",
            Demand::Optional => "Optional",
            Demand::Fallback => "Fallback",
        };
        let certificate =
            |c: &Arc<Certificate>| CertificateStatus { secret: c.from().to_string(), names: c.names().to_vec(), not_after: c.not_after() };
        let shown = host.server().and_then(|server| server.acme.as_ref());
        let acme: Vec<_> = shown.iter().flat_map(|shown| shown.names().map(|(name, named)| (&shown.ask.issuer, name, named))).collect();
        let issued: Vec<Arc<Certificate>> = acme.iter().filter_map(|(.., named)| named.as_ref()?.certificate.clone()).collect();
        Self {
            hostname: host.hostname.clone(),
            tls,
            client_certificates: settings.and_then(|s| s.client.as_ref()).map(|c| demand(c.demand)),
            certificates: settings.iter().flat_map(|s| &s.certificates).chain(&issued).map(certificate).collect(),
            acme: acme.iter().map(|(issuer, name, named)| AcmeStatus::of(issuer, name, named.as_deref())).collect(),
        }
    }
}

impl AcmeStatus {
    fn of(issuer: &str, name: &str, named: Option<&Named>) -> Self {
        let problem = named.and_then(|named| named.problem.as_ref());
        Self {
            issuer: issuer.to_owned(),
            name: name.to_owned(),
            not_after: named.and_then(|named| Some(named.certificate.as_ref()?.not_after())),
            renew_at: named.and_then(|named| named.renew_at),
            problem: problem.map(|problem| format!("{}: {}", problem.reason, problem.message)),
            again: problem.and_then(|problem| problem.again),
        }
    }
}

/// One Service.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
    /// The Service's type: `ClusterIP`, `NodePort`, `LoadBalancer`, `Headless` or `ExternalName`.
    #[serde(rename = "type")]
    pub type_: String,
    /// The ClusterIPs.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    /// The external addresses, and those of the load balancer.
    #[serde(rename = "externalIPs")]
    pub external_ips: Vec<String>,
    /// The ports.
    pub ports: Vec<PortStatus>,
}

impl crate::sorted::Named for ListenerStatus {
    fn name(&self) -> (&str, &str) {
        (&self.place, "")
    }
}

impl crate::sorted::Named for ServiceStatus {
    fn name(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }
}

/// One port of a Service.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortStatus {
    /// The port's name, empty if it has none.
    pub name: String,
    /// The port's number.
    pub port: u16,
    /// The port's transport protocol.
    pub protocol: PortProtocol,
    /// The port's node port.
    pub node_port: Option<u16>,
    /// The name of the balancer.
    pub balancer: String,
    /// All endpoints, including those that are not picked now.
    #[serde(serialize_with = "endpoints")]
    pub endpoints: Arc<[Endpoint]>,
    /// Counters.
    #[serde(skip)]
    pub stats: Arc<ServiceStats>,
}

/// An endpoint, as it is shown.
#[derive(Serialize)]
struct EndpointStatus<'e> {
    address: SocketAddr,
    ready: bool,
    serving: bool,
    terminating: bool,
    weight: u32,
    zone: &'e Option<String>,
    node: &'e Option<String>,
}

fn endpoints<S: serde::Serializer>(all: &Arc<[Endpoint]>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(all.iter().map(|e| EndpointStatus {
        address: e.address,
        ready: e.ready,
        serving: e.serving,
        terminating: e.terminating,
        weight: e.weight,
        zone: &e.zone,
        node: &e.node,
    }))
}

impl Endpoint {
    /// Whether the endpoint is ready by discovery, and of this condition.
    pub fn is(&self, condition: Condition) -> bool {
        self.ready && self.stats.health.condition() == condition
    }

    /// The state of the endpoint, and why it is in that state: `ready`, `warming`, `pending`, `ejected` or `unhealthy`; or, by what discovery says,
    /// `terminating` or `not-ready`.
    pub fn state(&self) -> (&'static str, Option<String>) {
        if !self.ready {
            return (if self.terminating { "terminating" } else { "not-ready" }, None);
        }
        let health = &self.stats.health;
        match health.condition() {
            Condition::Healthy => ("ready", None),
            Condition::Warming => ("warming", Some(format!("takes {} % of its weight", health.share()))),
            Condition::Pending => ("pending", Some("its first probe is not back".to_owned())),
            Condition::Unhealthy => ("unhealthy", Some(health.detail().why)),
            Condition::Ejected => {
                let until = health.detail().until;
                let rest = until.map(|until| until.saturating_duration_since(Instant::now()).as_secs());
                let rest = rest.map(|seconds| format!(", for {} s more", seconds + 1)).unwrap_or_default();
                let why = health.ejected_for().map(|reason| reason.to_string()).unwrap_or_default();
                ("ejected", Some(format!("{why}{rest}")))
            }
        }
    }
}

/// The state of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PluginState {
    /// Its newest generation serves.
    Active,
    /// An older generation serves, a configuration is refused, or a discovery plugin finds no endpoints.
    Degraded,
    /// No generation serves.
    Failed,
    /// An operator has turned it off.
    Disabled,
}

/// One plugin.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginStatus {
    /// The name of the `Plugin` object, or of the built-in plugin.
    pub name: String,
    /// The namespace of the `Plugin` object; none for a built-in plugin that no object names.
    #[serde(skip)]
    pub namespace: Option<String>,
    /// The generation of the `Plugin` object that this is the state of; files have none.
    #[serde(skip)]
    pub observed_generation: Option<i64>,
    /// The plugin's kind.
    pub kind: PluginKind,
    /// The plugin's source: `builtin`, or the file.
    pub source: String,
    /// The plugin's state.
    pub state: PluginState,
    /// Why the plugin is not active: the plugin, the stage and the reason.
    pub reason: Option<String>,
    /// The numbers of the generations that a rollback would bring back, the newest first.
    pub kept: Vec<u64>,
    /// What has happened to the plugin, the newest last.
    #[serde(skip)]
    pub history: Vec<PluginEvent>,
    /// The counters of all generations together.
    #[serde(skip)]
    pub counters: Arc<Counters<Generation, 6>>,
    /// The counters of all trials together.
    #[serde(skip)]
    pub trials: Arc<Counters<Trial, 10>>,
    /// The live generation.
    #[serde(serialize_with = "generation")]
    pub generation: Option<Arc<Generation>>,
    /// The generation on trial beside the live one.
    pub rollout: Option<RolloutStatus>,
}

/// A generation on trial.
#[derive(Clone)]
pub struct RolloutStatus {
    /// `shadow` or `canary`.
    pub phase: &'static str,
    /// The generation on trial.
    pub generation: Arc<Generation>,
    /// When the trial began.
    pub since: Instant,
    /// How long the trial is to last.
    pub duration_seconds: u64,
    /// The counters of the trial.
    pub trial: Arc<Trial>,
}

/// It is read when it is asked for, as the trial goes on.
impl Serialize for RolloutStatus {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("phase", self.phase)?;
        map.serialize_entry("generation", &self.generation.number)?;
        map.serialize_entry("version", &self.generation.version)?;
        map.serialize_entry("elapsedSeconds", &self.since.elapsed().as_secs())?;
        map.serialize_entry("durationSeconds", &self.duration_seconds)?;
        let (compared, differed) = self.trial.compared();
        let (live, candidate) = (self.trial.served(Side::Live), self.trial.served(Side::Candidate));
        match self.trial.phase {
            Phase::Shadow(_) => {
                map.serialize_entry("compared", &compared)?;
                map.serialize_entry("differed", &differed)?;
            }
            Phase::Canary(canary) => {
                map.serialize_entry("weight", &canary.weight)?;
                map.serialize_entry("exchanges", &candidate.exchanges)?;
                map.serialize_entry("errors", &candidate.errors)?;
                map.serialize_entry("liveExchanges", &live.exchanges)?;
                map.serialize_entry("liveErrors", &live.errors)?;
            }
        }
        map.end()
    }
}

fn generation<S: serde::Serializer>(generation: &Option<Arc<Generation>>, to: S) -> Result<S::Ok, S::Error> {
    use std::sync::atomic::Ordering::Relaxed;
    generation
        .as_ref()
        .map(|g| {
            serde_json::json!({
                "number": g.number, "version": g.version, "sha256": g.sha256,
                "calls": g.stats.calls.load(Relaxed), "failures": g.stats.failures.load(Relaxed),
                "memoryBytes": g.stats.memory.load(Relaxed), "quarantined": g.stats.quarantined(),
            })
        })
        .serialize(to)
}
