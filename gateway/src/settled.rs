//! The settings of a process, as they come of flags, of the object that configures it, and of defaults.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use sluicegate_acme::Timing as AcmeTiming;
use sluicegate_admin::Access;
use sluicegate_cluster::connection::Connection;
use sluicegate_cluster::leader::Terms;
use sluicegate_cluster::source::Timing;
use sluicegate_config::object::ours::{AcmeSpec, LogFormat, MinisignKey};
use sluicegate_config::plan::{AcmeIssuers, LoopbackEndpoints, ServiceAddresses, Settings};
use sluicegate_control::allocate::Ranges;
use sluicegate_control::controller::Options;
use sluicegate_control::node_addresses::{node_addresses, own_addresses, wildcards};
use sluicegate_control::tickets::Persist;
use sluicegate_model::access_log::{DEFAULT_PATTERN, Line, Pattern};
use sluicegate_model::pool::Here;
use sluicegate_proxy::{AccessLog, Overload};

use crate::{Error, builtin, io};

/// Everything the process needs to know.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Files and folders of objects.
    pub paths: Vec<PathBuf>,
    /// Data plane threads.
    pub workers: usize,
    /// How many client connections may be open at a time; none: three quarters of the descriptors that listeners leave, two for each.
    pub max_connections: Option<usize>,
    /// How many UDP flows there may be at a time; none: a quarter of the descriptors that listeners leave, and at most 65,536.
    pub max_flows: Option<usize>,
    /// The address of the admin API; port 0 takes a free one.
    pub admin_address: SocketAddr,
    /// Who may use the admin API, and how.
    pub admin: Access,
    /// Where allocations are kept.
    pub state_dir: PathBuf,
    /// Where compiled code is kept; none: in the state folder.
    pub code_cache: Option<PathBuf>,
    /// What may be allocated.
    pub ranges: Ranges,
    /// CIDRs of the local addresses on which node ports are served; empty: all addresses.
    pub nodeport_addresses: Vec<IpNet>,
    /// This node, for traffic policies and topology.
    pub here: Here,
    /// Whether to take the place of the gateway that runs with the same state folder, if one does.
    pub take_over: bool,
    /// Whether this gateway waits to be stopped once a successor has taken its place, instead of ending.
    pub stay_when_replaced: bool,
    /// How long running work may go on after a stop was asked for.
    pub grace: Duration,
    /// How long everything goes on after a stop was asked for, without being ready, before listeners close.
    pub shutdown_delay: Duration,
    /// The access log, with a line for each exchange and connection; none: there is no log.
    pub access_log: Option<AccessLog>,
    /// What the line of an exported record says; none: it is not settled.
    pub exported_line: Option<Line>,
    /// How many series there may be on `/metrics`.
    pub max_series: usize,
    /// What is exported to collectors.
    pub telemetry: sluicegate_telemetry::settings::Settings,
    /// When new work is refused for want of memory or descriptors.
    pub overload: Overload,
    /// Keys, of which one must have signed each plugin file; empty: files need no signature.
    pub trusted_keys: Vec<MinisignKey>,
    /// Whether Pods, EndpointSlices and static lists may name loopback addresses as endpoints.
    pub loopback_endpoints: LoopbackEndpoints,
    /// Whether virtual IPs that the gateway hands out are made local by routes.
    pub manage_addresses: bool,
    /// Whether endpoints of Services with `externalTrafficPolicy: Local` see the client's address at L4, but for clients in these networks; none: they do not.
    pub keep_clients: Option<Arc<[IpNet]>>,
    /// The cluster from whose API server objects come; none: they come from files alone.
    pub cluster: Option<InCluster>,
    /// Whether the secrets of session tickets are kept in the state folder.
    pub session_tickets: Persist,
    /// The ACME issuers that listeners may name.
    pub acme: AcmeSpec,
    /// How patient orders of certificates are.
    pub acme_timing: AcmeTiming,
    /// How log lines look.
    pub log_format: LogFormat,
    /// What is logged: directives of `tracing_subscriber::EnvFilter`.
    pub log_level: String,
    /// Each setting as it was given, and where that comes from, for people.
    pub origins: Arc<[serde_json::Value]>,
}

impl Default for Settled {
    /// The settings from which tests and the demonstration start: no paths, one worker, the admin API and the state in places of this run's own.
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            workers: 1,
            max_connections: None,
            max_flows: None,
            admin_address: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin: Access::default(),
            state_dir: std::env::temp_dir().join(format!("sluicegate-{}", std::process::id())),
            code_cache: None,
            ranges: Ranges::default(),
            nodeport_addresses: Vec::new(),
            here: Here::default(),
            take_over: false,
            stay_when_replaced: false,
            grace: Duration::from_secs(30),
            shutdown_delay: Duration::ZERO,
            access_log: None,
            exported_line: DEFAULT_PATTERN.parse::<Pattern>().ok().map(|pattern| Line::Text(pattern.0)),
            max_series: 1000,
            telemetry: sluicegate_telemetry::settings::Settings::default(),
            overload: Overload::default(),
            trusted_keys: Vec::new(),
            loopback_endpoints: LoopbackEndpoints::Allowed,
            manage_addresses: false,
            keep_clients: None,
            cluster: None,
            session_tickets: Persist::default(),
            acme: AcmeSpec::default(),
            acme_timing: AcmeTiming::default(),
            log_format: LogFormat::default(),
            log_level: "info".to_owned(),
            origins: Arc::default(),
        }
    }
}

/// The API server of a cluster, and how patient the gateway is with it.
#[derive(Clone, Debug, Default)]
pub struct InCluster {
    /// Where it is, and who asks.
    pub connection: Connection,
    /// How long is waited for it.
    pub timing: Timing,
    /// How long what lasts in the election of a leader.
    pub terms: Terms,
}

impl Settled {
    /// The issuers that listeners may name.
    pub(crate) fn issuers(&self) -> AcmeIssuers {
        if self.cluster.is_some() {
            return AcmeIssuers::InCluster;
        }
        AcmeIssuers::Named(self.acme.issuers.iter().map(|issuer| issuer.name.clone()).collect())
    }

    /// What control needs. `admin`: where the admin API listens.
    pub fn options(&self, admin: SocketAddr) -> Result<Options, Error> {
        let node_addresses = node_addresses(&self.nodeport_addresses).map_err(io("--nodeport-addresses"))?;
        Ok(Options {
            paths: self.paths.clone(),
            settings: Settings {
                node_addresses,
                own_addresses: own_addresses(),
                wildcards: wildcards(),
                here: self.here.clone(),
                loopback_endpoints: self.loopback_endpoints,
                services: if self.cluster.is_some() { ServiceAddresses::Cluster } else { ServiceAddresses::Ours },
                acme: self.issuers(),
            },
            builtins: builtin,
            trusted_keys: self.trusted_keys.clone(),
            admin: Some(admin),
            turns: Arc::default(),
        })
    }
}
