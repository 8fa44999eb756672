//! Flags, the `SluicegateConfiguration` object and defaults, joined: what a flag says counts, then what the object says.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use sluicegate_config::object::ours::{AccessLog as AccessLogSpec, ClusterIpRanges, LogFormat, Network as Addresses, PortRange};
use sluicegate_config::object::{Body, SluicegateConfiguration};
use sluicegate_config::plan::LoopbackEndpoints;
use sluicegate_control::allocate::Ranges;
use sluicegate_control::sources::{Change, What, folder};
use sluicegate_control::store::Store;
use sluicegate_control::tickets::Persist;
use sluicegate_model::access_log::AccessLogFormat;
use sluicegate_model::fault::Severity;
use sluicegate_model::pool::Here;
use sluicegate_proxy::{AccessLog, AccessLogTarget, Overload};

use crate::Settled;

/// Of the process.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Process {
    /// Data plane threads [default: one a core]
    #[arg(long)]
    pub(super) workers: Option<usize>,
    /// Client connections open at a time [default: three eighths of the file descriptors the process may have]
    #[arg(long)]
    pub(super) max_connections: Option<usize>,
    /// UDP flows at a time [default: a quarter of the file descriptors, and at most 65536]
    #[arg(long)]
    pub(super) max_flows: Option<usize>,
    /// Address of the admin API [default: 127.0.0.1:9901]
    #[arg(long)]
    pub(super) admin_address: Option<SocketAddr>,
    /// Where allocated ports and addresses are kept [default: $XDG_STATE_HOME/sluicegate, or ~/.local/state/sluicegate]
    #[arg(long)]
    pub(super) state_dir: Option<PathBuf>,
    /// Take the place of the gateway that runs with the same state folder, if one does: its sockets go on here, and it drains and ends
    #[arg(long)]
    pub(super) take_over: bool,
    /// How long running work may go on after SIGTERM, in seconds [default: 30]
    #[arg(long)]
    pub(super) grace_seconds: Option<u64>,
    /// How long to go on serving after SIGTERM while /readyz says 503, before listeners close, in seconds [default: 0]
    #[arg(long)]
    pub(super) shutdown_delay_seconds: Option<u64>,
    /// A line for each exchange and connection: off, text or json [default: off]
    #[arg(long)]
    pub(super) access_log: Option<AccessLogFormat>,
    /// The file it is appended to, or stdout [default: stdout]
    #[arg(long)]
    pub(super) access_log_path: Option<String>,
    /// How log lines look: human or json [default: human]
    #[arg(long)]
    pub(super) log_format: Option<LogFormat>,
    /// error, warn, info, debug or trace; or directives as in info,sluicegate_proxy=debug [default: info]
    #[arg(long)]
    pub(super) log_level: Option<String>,
    /// Whether Pods, EndpointSlices and static lists may name loopback addresses as endpoints [default: true]
    #[arg(long)]
    pub(super) allow_loopback_endpoints: Option<bool>,
    /// Whether the secrets of TLS session tickets are kept in the state folder, so that sessions are resumed after a restart too [default: false]
    #[arg(long)]
    pub(super) persist_session_tickets: Option<bool>,
}

/// Of addresses and ports.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Network {
    /// Node ports to allocate from [default: 30000-32767]
    #[arg(long)]
    node_port_range: Option<PortRange>,
    /// CIDRs of the local addresses node ports are served on [default: all, of IPv4 and IPv6]
    #[arg(long, value_delimiter = ',')]
    nodeport_addresses: Vec<IpNet>,
    /// Where virtual IPs of Services come from: a CIDR, or one of each IP family with a comma between them [default: 127.96.0.0/16]
    #[arg(long)]
    service_cluster_ip_range: Option<ClusterIpRanges>,
    /// Addresses and CIDRs for Services of type LoadBalancer, and for Gateways that leave their address open
    #[arg(long, value_delimiter = ',')]
    load_balancer_addresses: Vec<Addresses>,
    /// This node's name, for traffic policies and topology
    #[arg(long)]
    node_name: Option<String>,
    /// This node's zone, likewise
    #[arg(long)]
    zone: Option<String>,
}

/// Joins flags, the object found in `paths`, and defaults. The error names the place.
pub(super) fn settle(paths: Vec<PathBuf>, process: Process, network: Network) -> Result<Settled, String> {
    let object = configuration(&paths)?;
    let defaults = Ranges::default();
    let refuse_percent = object.overload.refuse_percent.unwrap_or(Overload::default().refuse_percent);
    let load_balancer = given(network.load_balancer_addresses).or(object.load_balancer_addresses);
    Ok(Settled {
        workers: process.workers.or(object.workers).unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1),
        max_connections: process.max_connections.or(object.max_connections),
        max_flows: process.max_flows.or(object.max_flows),
        admin_address: process.admin_address.or(object.admin_address).unwrap_or_else(default_admin_address),
        state_dir: process.state_dir.or_else(|| object.state_dir.map(PathBuf::from)).unwrap_or_else(default_state_dir),
        code_cache: super::code_cache(),
        ranges: Ranges {
            node_ports: network.node_port_range.or(object.node_port_range).map_or(defaults.node_ports, |r| r.0),
            cluster_ips: network
                .service_cluster_ip_range
                .or(object.service_cluster_ip_range)
                .map_or(defaults.cluster_ips, |ranges| ranges.0),
            load_balancer: load_balancer.unwrap_or_default().into_iter().map(|a| a.0).collect(),
        },
        nodeport_addresses: given(network.nodeport_addresses).or(object.node_port_addresses).unwrap_or_default(),
        here: Here { node: network.node_name.or(object.node_name), zone: network.zone.or(object.zone) },
        take_over: process.take_over,
        shutdown_delay: process.shutdown_delay_seconds.map(Duration::from_secs).or(object.shutdown.delay.map(|d| d.0)).unwrap_or_default(),
        grace: process.grace_seconds.map(Duration::from_secs).or(object.grace_period.map(|g| g.0)).unwrap_or(Duration::from_secs(30)),
        access_log: access_log(process.access_log, process.access_log_path, &object.access_log),
        overload: Overload {
            memory_limit: object.overload.memory_limit.map(|b| b.0 as u64),
            refuse_percent,
            resume_percent: object.overload.resume_percent.unwrap_or(refuse_percent.saturating_sub(5)),
        },
        trusted_keys: object.plugins.trusted_keys,
        loopback_endpoints: match process.allow_loopback_endpoints.or(object.allow_loopback_endpoints) {
            Some(false) => LoopbackEndpoints::Refused,
            Some(true) | None => LoopbackEndpoints::Allowed,
        },
        session_tickets: match process.persist_session_tickets.or(object.session_tickets.persist) {
            Some(true) => Persist::Yes,
            Some(false) | None => Persist::No,
        },
        log_format: process.log_format.or(object.log_format).unwrap_or_default(),
        log_level: process.log_level.or(object.log_level).unwrap_or_else(|| "info".to_owned()),
        paths,
    })
}

/// Format and path, each the flag's or the object's; what a line has is the object's.
fn access_log(format: Option<AccessLogFormat>, path: Option<String>, object: &AccessLogSpec) -> Option<AccessLog> {
    let line = object.line(format.or(object.format).unwrap_or_default())?;
    let to = match path.as_deref().or(object.path.as_deref()) {
        None | Some("stdout" | "-") => AccessLogTarget::Stdout,
        Some(path) => AccessLogTarget::File(path.into()),
    };
    Some(AccessLog { line, to })
}

fn given<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// Where the admin API listens unless something else is said.
pub(super) fn default_admin_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9901))
}

fn default_state_dir() -> PathBuf {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")));
    state.unwrap_or_else(|| PathBuf::from("/var/lib")).join("sluicegate")
}

/// The one configuration object; the default if there is none. A faulty one is an error: to start with other settings than those
/// written down would be worse than not to start.
fn configuration(paths: &[PathBuf]) -> Result<SluicegateConfiguration, String> {
    if let Some(missing) = paths.iter().find(|p| !Path::exists(p)) {
        return Err(format!("{}: there is no such file or folder", missing.display()));
    }
    // Of thousands of files one is about the process, and only that one is wanted here.
    let names_it = |file: &Change| !matches!(&file.what, What::Text(text) if !text.contains("SluicegateConfiguration"));
    let mut store = Store::default();
    let update = store.update(folder::read(paths).into_iter().filter(names_it).collect());
    let mut wrong = update.faults.iter().filter(|f| {
        f.severity == Severity::Error && f.object.as_ref().is_some_and(|object| object.starts_with("SluicegateConfiguration "))
    });
    if let Some(fault) = wrong.next() {
        return Err(fault.to_string());
    }
    let mut found = store.objects().iter().filter_map(|o| match &o.body {
        Body::SluicegateConfiguration(configuration) => Some((o, configuration)),
        _ => None,
    });
    match (found.next(), found.next()) {
        (None, _) => Ok(SluicegateConfiguration::default()),
        (Some((_, one)), None) => Ok((**one).clone()),
        (Some((first, _)), Some((second, _))) => {
            Err(format!("{} and {} both configure this process; one is wanted", first.key, second.key))
        }
    }
}

#[cfg(test)]
mod tests {
    use sluicegate_model::access_log::{AccessLogField, Line, Piece};

    use super::*;

    fn folder(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("gateway.yaml"), text).expect("written");
        folder
    }

    #[test]
    fn a_flag_counts_before_the_object_and_the_object_before_the_default() {
        let folder = folder(
            "apiVersion: sluicegate.dev/v1alpha1\nkind: SluicegateConfiguration\nworkers: 3\nadminAddress: 127.0.0.1:7\n\
             stateDir: /tmp/s\nnodePortRange: 31000-31999\nnodePortAddresses: [127.0.0.1/32]\nserviceClusterIPRange: 127.97.0.0/16\n\
             loadBalancerAddresses: [127.9.0.1, 127.9.1.0/30]\nnodeName: n1\nzone: z1\nlogFormat: json\nlogLevel: debug\ngracePeriod: 1m\nshutdown: {delay: 5s}\n\
             sessionTickets: {persist: true}\n",
        );
        let paths = vec![folder.path().to_owned()];
        let settled = settle(paths.clone(), Process::default(), Network::default()).expect("settled");
        assert_eq!((settled.workers, settled.admin_address.port(), settled.grace), (3, 7, Duration::from_secs(60)));
        assert_eq!((settled.shutdown_delay, settled.session_tickets), (Duration::from_secs(5), Persist::Yes));
        assert_eq!((settled.ranges.node_ports, settled.ranges.load_balancer.len()), (31000..=31999, 2));
        assert_eq!(settled.here, Here { node: Some("n1".into()), zone: Some("z1".into()) });
        assert_eq!((settled.log_format, settled.log_level.as_str()), (LogFormat::Json, "debug"));
        assert_eq!((settled.state_dir, settled.nodeport_addresses.len()), (PathBuf::from("/tmp/s"), 1));
        let process =
            Process { workers: Some(5), log_format: Some(LogFormat::Human), persist_session_tickets: Some(false), ..Process::default() };
        let network = Network { zone: Some("z2".into()), ..Network::default() };
        let settled = settle(paths, process, network).expect("settled");
        assert_eq!((settled.workers, settled.log_format, settled.here.zone.as_deref()), (5, LogFormat::Human, Some("z2")));
        assert_eq!((settled.here.node.as_deref(), settled.session_tickets), (Some("n1"), Persist::No));
    }

    #[test]
    fn the_access_log_is_the_flags_or_the_objects() {
        let text = "apiVersion: sluicegate.dev/v1alpha1\nkind: SluicegateConfiguration\naccessLog: {format: Text, path: /tmp/a, text: \"%status%\"}\n";
        let folder = folder(text);
        let settled = |process| settle(vec![folder.path().to_owned()], process, Network::default()).expect("settled").access_log;
        let log = settled(Process::default()).expect("a log");
        assert_eq!(log.to, AccessLogTarget::File("/tmp/a".into()));
        assert_eq!(log.line, Line::Text(vec![Piece::Field(AccessLogField::Status)]));
        let json = Process { access_log: Some(AccessLogFormat::Json), access_log_path: Some("-".to_owned()), ..Process::default() };
        assert_eq!(settled(json), Some(AccessLog { line: Line::Json(AccessLogField::ALL.to_vec()), to: AccessLogTarget::Stdout }));
        assert_eq!(settled(Process { access_log: Some(AccessLogFormat::Off), ..Process::default() }), None);
    }

    #[test]
    fn a_faulty_object_stops_the_start_and_names_its_place() {
        for (text, wanted) in [
            ("workers: 0\n", "gateway.yaml:3:"),
            ("nodePortRange: 9-1\n", "9 is above 1"),
            ("nodePortRnage: 1-9\n", "did you mean \"nodePortRange\"?"),
            ("loadBalancerAddresses: [x]\n", "\"x\" is neither an IP address nor a CIDR"),
        ] {
            let folder = folder(&format!("apiVersion: sluicegate.dev/v1alpha1\nkind: SluicegateConfiguration\n{text}"));
            let error = settle(vec![folder.path().to_owned()], Process::default(), Network::default()).expect_err(text);
            assert!(error.contains(wanted), "{error}");
        }
        assert!(settle(vec!["/nowhere".into()], Process::default(), Network::default()).is_err());
    }
}
