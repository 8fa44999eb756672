//! Joins flags, the `SluicegateConfiguration` object, and defaults: a flag counts before the object.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use ipnet::IpNet;
use sluicegate_admin::{Access, ClientCertificates, TlsFiles, tree};
use sluicegate_cluster::connection::Connection;
use sluicegate_config::object::ours::{AccessLog as AccessLogSpec, Admin, ClusterIpRanges, LogFormat, Network as Addresses, PortRange};
use sluicegate_config::object::{Body, SluicegateConfiguration};
use sluicegate_config::plan::LoopbackEndpoints;
use sluicegate_config::settings::{self, Setting};
use sluicegate_control::allocate::Ranges;
use sluicegate_control::sources::{Change, What, folder};
use sluicegate_control::store::Store;
use sluicegate_control::tickets::Persist;
use sluicegate_model::access_log::AccessLogFormat;
use sluicegate_model::fault::Severity;
use sluicegate_model::pool::Here;
use sluicegate_proxy::{AccessLog, AccessLogTarget, Overload};

use super::origins;
use crate::{InCluster, Settled};

/// The flags that set the same as a field of `SluicegateConfiguration`, and count before it. Their help texts are those of the fields ([`settings`]).
const FLAGS: [(&str, &str); 24] = [
    ("workers", "workers"),
    ("max-connections", "maxConnections"),
    ("max-flows", "maxFlows"),
    ("admin-address", "adminAddress"),
    ("state-dir", "stateDir"),
    ("grace-seconds", "gracePeriod"),
    ("shutdown-delay-seconds", "shutdown.delay"),
    ("access-log", "accessLog.format"),
    ("access-log-path", "accessLog.path"),
    ("log-format", "logFormat"),
    ("log-level", "logLevel"),
    ("allow-loopback-endpoints", "allowLoopbackEndpoints"),
    ("persist-session-tickets", "sessionTickets.persist"),
    ("manage-addresses", "manageAddresses"),
    ("keep-client-address", "clientAddress.keep"),
    ("cluster", "cluster.enabled"),
    ("kubeconfig", "cluster.kubeconfig"),
    ("context", "cluster.context"),
    ("node-port-range", "nodePortRange"),
    ("nodeport-addresses", "nodePortAddresses"),
    ("service-cluster-ip-range", "serviceClusterIPRange"),
    ("load-balancer-addresses", "loadBalancerAddresses"),
    ("node-name", "nodeName"),
    ("zone", "zone"),
];

/// The help text of a flag, which is that of its field.
fn help(flag: &str) -> String {
    static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(settings::process);
    let field = FLAGS.iter().find(|(known, _)| *known == flag).map(|(_, field)| *field);
    let Some(setting) = SETTINGS.iter().find(|setting| Some(setting.field.as_str()) == field) else { return String::new() };
    // Such a flag takes a number, rather than a time span.
    let default = if flag.ends_with("-seconds") { setting.default.trim_end_matches('s') } else { &setting.default };
    format!("{} [default: {default}]", setting.meaning).replace('`', "")
}

/// Flags of the process.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Process {
    #[arg(long, help = help("workers"))]
    pub(super) workers: Option<usize>,
    #[arg(long, help = help("max-connections"))]
    pub(super) max_connections: Option<usize>,
    #[arg(long, help = help("max-flows"))]
    pub(super) max_flows: Option<usize>,
    #[arg(long, help = help("admin-address"))]
    pub(super) admin_address: Option<SocketAddr>,
    #[arg(long, help = help("state-dir"))]
    pub(super) state_dir: Option<PathBuf>,
    /// Take the place of the gateway that runs with the same state folder, if one does: its sockets go on here, and it drains and ends
    #[arg(long)]
    pub(super) take_over: bool,
    /// When a successor has taken the place and running work has ended, wait for SIGTERM instead of ending: where whatever ends is started again, as in a pod
    #[arg(long)]
    pub(super) stay_when_replaced: bool,
    #[arg(long, help = help("grace-seconds"))]
    pub(super) grace_seconds: Option<u64>,
    #[arg(long, help = help("shutdown-delay-seconds"))]
    pub(super) shutdown_delay_seconds: Option<u64>,
    #[arg(long, help = help("access-log"))]
    pub(super) access_log: Option<AccessLogFormat>,
    #[arg(long, help = help("access-log-path"))]
    pub(super) access_log_path: Option<String>,
    #[arg(long, help = help("log-format"))]
    pub(super) log_format: Option<LogFormat>,
    #[arg(long, help = help("log-level"))]
    pub(super) log_level: Option<String>,
    #[arg(long, help = help("allow-loopback-endpoints"))]
    pub(super) allow_loopback_endpoints: Option<bool>,
    #[arg(long, help = help("persist-session-tickets"))]
    pub(super) persist_session_tickets: Option<bool>,
    #[arg(long, help = help("manage-addresses"))]
    pub(super) manage_addresses: bool,
    #[arg(long, help = help("keep-client-address"))]
    pub(super) keep_client_address: bool,
    #[arg(long, help = help("cluster"))]
    pub(super) cluster: bool,
    #[arg(long, help = help("kubeconfig"))]
    pub(super) kubeconfig: Option<PathBuf>,
    #[arg(long, help = help("context"))]
    pub(super) context: Option<String>,
}

/// Flags of addresses and ports.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Network {
    #[arg(long, help = help("node-port-range"))]
    node_port_range: Option<PortRange>,
    #[arg(long, help = help("nodeport-addresses"), value_delimiter = ',')]
    nodeport_addresses: Vec<IpNet>,
    #[arg(long, help = help("service-cluster-ip-range"))]
    service_cluster_ip_range: Option<ClusterIpRanges>,
    #[arg(long, help = help("load-balancer-addresses"), value_delimiter = ',')]
    load_balancer_addresses: Vec<Addresses>,
    #[arg(long, help = help("node-name"))]
    node_name: Option<String>,
    #[arg(long, help = help("zone"))]
    zone: Option<String>,
}

/// Joins flags, the object found in `paths`, and defaults. The error names the place.
pub(super) fn settle(paths: Vec<PathBuf>, process: Process, network: Network) -> Result<Settled, String> {
    let read = read(&paths)?;
    settle_with(paths, &read, process, network)
}

/// Reads the files and folders, of which each must be there.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Change>, String> {
    match paths.iter().find(|path| !Path::exists(path)) {
        Some(missing) => Err(format!("{}: there is no such file or folder", missing.display())),
        None => Ok(folder::read(paths)),
    }
}

/// Does what [`settle`] does with what was [read] of the paths.
pub(super) fn settle_with(paths: Vec<PathBuf>, read: &[Change], process: Process, network: Network) -> Result<Settled, String> {
    let object = configuration(read)?;
    let origins = origins::origins(&FLAGS, &[tree(&process), tree(&network)], &tree(&object));
    let defaults = Settled::default();
    let refuse_percent = object.overload.refuse_percent.unwrap_or(defaults.overload.refuse_percent);
    let load_balancer = given(network.load_balancer_addresses).or(object.load_balancer_addresses);
    Ok(Settled {
        workers: process.workers.or(object.workers).unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1),
        max_connections: process.max_connections.or(object.max_connections),
        max_flows: process.max_flows.or(object.max_flows),
        admin_address: process.admin_address.or(object.admin_address).unwrap_or_else(default_admin_address),
        admin: access(object.admin)?,
        state_dir: process.state_dir.or_else(|| object.state_dir.map(PathBuf::from)).unwrap_or_else(default_state_dir),
        code_cache: super::code_cache(),
        ranges: Ranges {
            node_ports: network.node_port_range.or(object.node_port_range).map_or(defaults.ranges.node_ports, |r| r.0),
            cluster_ips: network
                .service_cluster_ip_range
                .or(object.service_cluster_ip_range)
                .map_or(defaults.ranges.cluster_ips, |ranges| ranges.0),
            load_balancer: load_balancer.unwrap_or_default().into_iter().map(|a| a.0).collect(),
        },
        nodeport_addresses: given(network.nodeport_addresses).or(object.node_port_addresses).unwrap_or_default(),
        here: Here { node: network.node_name.or(object.node_name), zone: network.zone.or(object.zone) },
        take_over: process.take_over,
        stay_when_replaced: process.stay_when_replaced,
        shutdown_delay: process
            .shutdown_delay_seconds
            .map(Duration::from_secs)
            .or(object.shutdown.delay.map(|d| d.0))
            .unwrap_or(defaults.shutdown_delay),
        grace: process.grace_seconds.map(Duration::from_secs).or(object.grace_period.map(|g| g.0)).unwrap_or(defaults.grace),
        access_log: access_log(process.access_log, process.access_log_path, &object.access_log),
        max_series: object.telemetry.metrics.max_series.map_or(defaults.max_series, |most| most as usize),
        exported_line: object.access_log.line(exported_format(process.access_log, &object.access_log)),
        telemetry: super::telemetry::settings(&object.telemetry, &|name| std::env::var(name).ok()),
        overload: Overload {
            memory_limit: object.overload.memory_limit.map(|b| b.0 as u64),
            refuse_percent,
            resume_percent: object.overload.resume_percent.unwrap_or(refuse_percent.saturating_sub(5)),
        },
        trusted_keys: object.plugins.trusted_keys,
        acme: object.acme,
        acme_timing: defaults.acme_timing,
        loopback_endpoints: match process.allow_loopback_endpoints.or(object.allow_loopback_endpoints) {
            Some(false) => LoopbackEndpoints::Refused,
            Some(true) => LoopbackEndpoints::Allowed,
            None => defaults.loopback_endpoints,
        },
        session_tickets: match process.persist_session_tickets.or(object.session_tickets.persist) {
            Some(true) => Persist::Yes,
            Some(false) => Persist::No,
            None => defaults.session_tickets,
        },
        manage_addresses: process.manage_addresses || object.manage_addresses == Some(true),
        keep_clients: (process.keep_client_address || object.client_address.keep == Some(true))
            .then(|| object.client_address.except.unwrap_or_default().into_iter().map(|network| network.0).collect()),
        cluster: (process.cluster || object.cluster.enabled == Some(true)).then(|| InCluster {
            connection: Connection {
                kubeconfig: process.kubeconfig.or(object.cluster.kubeconfig.map(PathBuf::from)),
                context: process.context.or(object.cluster.context),
            },
            ..InCluster::default()
        }),
        log_format: process.log_format.or(object.log_format).unwrap_or(defaults.log_format),
        log_level: process.log_level.or(object.log_level).unwrap_or(defaults.log_level),
        origins: origins.into(),
        paths,
    })
}

/// Who may use the admin API. The error says which field is missing.
fn access(admin: Admin) -> Result<Access, String> {
    let Admin { hosts, token_file, tls } = admin;
    let clients = match tls.client_ca_file {
        Some(file) => Some(ClientCertificates {
            authorities: file.into(),
            operators: tls.operators,
            viewers: tls.viewers.unwrap_or_else(|| vec!["*".to_owned()]),
        }),
        None if tls.operators.is_empty() && tls.viewers.is_none() => None,
        None => return Err("admin.tls: `operators` and `viewers` are names of client certificates: they need `clientCAFile`".to_owned()),
    };
    let tls = match (tls.certificate_file, tls.key_file) {
        (Some(certificate), Some(key)) => Some(TlsFiles { certificate: certificate.into(), key: key.into(), clients }),
        (None, None) if clients.is_none() => None,
        _ => return Err("admin.tls: `certificateFile` and `keyFile` are wanted, both".to_owned()),
    };
    Ok(Access { hosts, token_file: token_file.map(PathBuf::from), tls })
}

/// The form of exported lines is that of the log's own. Where there is no log, it is text.
fn exported_format(format: Option<AccessLogFormat>, object: &AccessLogSpec) -> AccessLogFormat {
    match format.or(object.format).unwrap_or_default() {
        AccessLogFormat::Off => AccessLogFormat::Text,
        format => format,
    }
}

/// Format and path are the flag's or else the object's; the fields of a line are the object's.
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

/// Where the admin API listens by default.
pub(super) fn default_admin_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9901))
}

fn default_state_dir() -> PathBuf {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")));
    state.unwrap_or_else(|| PathBuf::from("/var/lib")).join("sluicegate")
}

/// The one configuration object; the default if there is none. A faulty one is an error, as it would be worse to start with other settings than those that are
/// written down than not to start.
fn configuration(read: &[Change]) -> Result<SluicegateConfiguration, String> {
    // Of thousands of files one is about the process, and only that one is wanted here.
    let names_it = |file: &&Change| !matches!(&file.what, What::Text(text) if !text.contains("SluicegateConfiguration"));
    let mut store = Store::default();
    let update = store.update(read.iter().filter(names_it).cloned().collect());
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
    use clap::Args as _;
    use sluicegate_model::access_log::{AccessLogField, Line, Piece};
    use sluicegate_model::duration;

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

    /// The table of the reference: the flags of `run` with their fields and defaults, and then the fields that have no flag.
    fn table() -> String {
        let settings = settings::process();
        let row = |field: &str, flag: &str, default: &str, meaning: &str| format!("| {field} | {flag} | {default} | {meaning} |\n");
        let code = |text: &str| format!("`{text}`");
        let mut rows = "| field | flag | default | what it is |\n| --- | --- | --- | --- |\n".to_owned();
        let command = Network::augment_args(Process::augment_args(clap::Command::new("run")));
        for argument in command.get_arguments() {
            let flag = argument.get_long().expect("a flag");
            let field = FLAGS.iter().find(|(known, _)| *known == flag).map(|(_, field)| *field);
            let setting = field.map(|field| settings.iter().find(|setting| setting.field == field).expect(field));
            let flag = code(&format!("--{flag}"));
            rows += &match setting {
                Some(setting) => row(&code(&setting.field), &flag, &setting.default, &setting.meaning),
                None => row("", &flag, "", &argument.get_help().expect("a text").to_string()),
            };
        }
        let others = settings.iter().filter(|setting| FLAGS.iter().all(|(_, field)| *field != setting.field));
        others.for_each(|setting| rows += &row(&code(&setting.field), "", &setting.default, &setting.meaning));
        rows
    }

    /// `UPDATE_GOLDEN=1` writes the table anew.
    #[test]
    fn the_reference_has_each_setting_of_the_process_its_flag_and_its_default() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/README.md");
        let reference = std::fs::read_to_string(&file).expect("read");
        let (before, section) = reference.split_once("\n## SluicegateConfiguration\n").expect("the section");
        let (intro, rest) = section.split_once("\n|").expect("a table");
        let (_, rest) = rest.split_once("|\n\n").expect("its end");
        let wanted = format!("{before}\n## SluicegateConfiguration\n{intro}\n{}\n{rest}", table());
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&file, &wanted).expect("written");
        }
        assert_eq!(std::fs::read_to_string(&file).expect("read"), wanted, "UPDATE_GOLDEN=1 writes it anew");
    }

    #[test]
    fn the_defaults_that_are_told_are_those_that_count() {
        let settled = settle(Vec::new(), Process::default(), Network::default()).expect("settled");
        let settings = settings::process();
        let told = |field: &str| settings.iter().find(|setting| setting.field == field).expect(field).default.as_str();
        assert_eq!(told("adminAddress").parse(), Ok(settled.admin_address));
        assert_eq!(told("nodePortRange").parse(), Ok(PortRange(settled.ranges.node_ports)));
        assert_eq!(told("serviceClusterIPRange").parse(), Ok(ClusterIpRanges(settled.ranges.cluster_ips)));
        assert_eq!(duration::parse(told("gracePeriod")), Some(settled.grace));
        assert_eq!(duration::parse(told("shutdown.delay")), Some(settled.shutdown_delay));
        assert!(help("grace-seconds").ends_with("[default: 30]"), "the flag takes seconds");
        assert_eq!((told("logFormat").parse(), told("logLevel")), (Ok(settled.log_format), settled.log_level.as_str()));
        assert_eq!((told("accessLog.format").parse(), settled.access_log), (Ok(AccessLogFormat::Off), None));
        assert_eq!(told("overload.refusePercent").parse(), Ok(settled.overload.refuse_percent));
        assert!(
            told("overload.resumePercent")
                .starts_with(&format!("{} less", settled.overload.refuse_percent - settled.overload.resume_percent))
        );
        assert_eq!(told("allowLoopbackEndpoints").parse(), Ok(settled.loopback_endpoints == LoopbackEndpoints::Allowed));
        assert_eq!(told("manageAddresses").parse(), Ok(settled.manage_addresses));
        assert_eq!(told("cluster.enabled").parse(), Ok(settled.cluster.is_some()));
        assert_eq!(told("sessionTickets.persist").parse(), Ok(settled.session_tickets == Persist::Yes));
    }

    #[test]
    fn logins_are_configured_as_a_whole() {
        let settled = |admin: &str| {
            let folder = folder(&format!("apiVersion: sluicegate.dev/v1alpha1\nkind: SluicegateConfiguration\nadmin: {admin}\n"));
            settle(vec![folder.path().to_owned()], Process::default(), Network::default()).map(|settled| settled.admin)
        };
        let access =
            settled("{hosts: [a], tokenFile: t, tls: {certificateFile: c, keyFile: k, clientCAFile: a, operators: [x]}}").expect("settled");
        let clients = ClientCertificates { authorities: "a".into(), operators: vec!["x".into()], viewers: vec!["*".into()] };
        let tls = Some(TlsFiles { certificate: "c".into(), key: "k".into(), clients: Some(clients) });
        assert_eq!(access, Access { hosts: vec!["a".into()], token_file: Some("t".into()), tls });
        assert_eq!(settled("{}"), Ok(Access::default()));
        for (admin, wanted) in [
            ("{tls: {certificateFile: c}}", "`keyFile`"),
            ("{tls: {clientCAFile: c}}", "`certificateFile` and `keyFile`"),
            ("{tls: {certificateFile: c, keyFile: k, operators: [x]}}", "`clientCAFile`"),
        ] {
            assert!(settled(admin).is_err_and(|error| error.contains(wanted)), "{admin}");
        }
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
