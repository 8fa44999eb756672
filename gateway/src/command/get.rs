//! `sluicegate get`: tables from the admin API.

mod objects;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::Value;
use sluicegate_model::{escape, unix};

use super::flags::default_admin_address;
use super::{fail, out, out_json};

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    Services,
    Endpoints,
    Listeners,
    Plugins,
    Faults,
    /// What an API server tells of each kind, and since when
    Sources,
    #[value(name = "gatewayclasses")]
    GatewayClasses,
    Gateways,
    #[value(name = "listenersets")]
    ListenerSets,
    #[value(name = "httproutes")]
    HttpRoutes,
    #[value(name = "grpcroutes")]
    GrpcRoutes,
    #[value(name = "tlsroutes")]
    TlsRoutes,
    #[value(name = "tcproutes")]
    TcpRoutes,
    #[value(name = "udproutes")]
    UdpRoutes,
    #[value(name = "backendtlspolicies")]
    BackendTlsPolicies,
    #[value(name = "backendtrafficpolicies")]
    BackendTrafficPolicies,
    #[value(name = "clienttrafficpolicies")]
    ClientTrafficPolicies,
    #[value(name = "xbackendtrafficpolicies")]
    XBackendTrafficPolicies,
    Backends,
    /// The Services that stand for Gateways
    #[value(name = "gatewayservices")]
    GatewayServices,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Output {
    Table,
    Json,
}

/// How `get` shows it.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    Table,
    /// The table, of Gateways, ListenerSets, routes and policies with reasons and messages
    Wide,
    Json,
    Yaml,
}

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What to show
    #[arg(value_enum)]
    what: What,
    /// Address of the gateway's admin API
    #[arg(long, default_value_t = default_admin_address())]
    admin_address: SocketAddr,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    output: Form,
    /// Go on, and show each second which rows or objects have changed
    #[arg(short, long)]
    watch: bool,
}

/// The gateway that is asked, and how its answer is shown.
#[derive(Debug, clap::Args)]
pub(super) struct From {
    /// Address of the gateway's admin API
    #[arg(long, default_value_t = default_admin_address())]
    pub(super) admin_address: SocketAddr,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(super) output: Output,
}

impl Arguments {
    pub(super) fn execute(self) -> ExitCode {
        show(self.what, self.admin_address, self.output, self.watch)
    }
}

/// Does what `get plugins` does, for `plugin list`.
pub(super) fn list_plugins(from: &From) -> ExitCode {
    let form = match from.output {
        Output::Table => Form::Table,
        Output::Json => Form::Json,
    };
    show(What::Plugins, from.admin_address, form, false)
}

/// How often is looked what has changed.
const WATCH: Duration = Duration::from_secs(1);

fn show(what: What, admin_address: SocketAddr, form: Form, watch: bool) -> ExitCode {
    let mut shown: Option<HashSet<String>> = None;
    let mut widths = Vec::new();
    loop {
        let rows = match what.fetch(admin_address) {
            Ok(rows) => rows,
            Err(error) => return fail(error),
        };
        match form {
            Form::Json | Form::Yaml => {
                let all = rows.as_array().map(Vec::as_slice).unwrap_or_default();
                let known = |row: &Value| shown.as_ref().is_some_and(|shown| shown.contains(&row.to_string()));
                let new: Vec<&Value> = all.iter().filter(|row| !known(row)).collect();
                if !new.is_empty() || shown.is_none() {
                    match form {
                        Form::Json => out_json(format_args!("{:#}", serde_json::json!(new))),
                        _ => out(super::crds::yaml(&serde_json::json!(new)).trim_end()),
                    }
                }
                shown = Some(all.iter().map(Value::to_string).collect());
            }
            Form::Table | Form::Wide => {
                let table = what.table(rows.as_array().map(Vec::as_slice).unwrap_or_default(), matches!(form, Form::Wide));
                let all: HashSet<String> = table.iter().map(|row| row.join("\0")).collect();
                let known = |row: &[String]| shown.as_ref().is_some_and(|shown| shown.contains(&row.join("\0")));
                let new: Vec<Vec<String>> = table.into_iter().filter(|row| !known(row)).collect();
                if !new.is_empty() {
                    out(aligned(&new, &mut widths));
                }
                shown = Some(all);
            }
        }
        if !watch {
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(WATCH);
    }
}

impl What {
    /// Asks the admin API for it.
    fn fetch(self, admin_address: SocketAddr) -> Result<Value, String> {
        let path = match self {
            Self::Services => "services",
            Self::Endpoints => "endpoints",
            Self::Listeners => "listeners",
            Self::Plugins => "plugins",
            Self::Faults => "faults",
            Self::Sources => "sources",
            Self::GatewayClasses => "objects/gatewayclasses",
            Self::Gateways => "objects/gateways",
            Self::ListenerSets => "objects/listenersets",
            Self::HttpRoutes => "objects/httproutes",
            Self::GrpcRoutes => "objects/grpcroutes",
            Self::TlsRoutes => "objects/tlsroutes",
            Self::TcpRoutes => "objects/tcproutes",
            Self::UdpRoutes => "objects/udproutes",
            Self::BackendTlsPolicies => "objects/backendtlspolicies",
            Self::BackendTrafficPolicies => "objects/backendtrafficpolicies",
            Self::ClientTrafficPolicies => "objects/clienttrafficpolicies",
            Self::XBackendTrafficPolicies => "objects/xbackendtrafficpolicies",
            Self::Backends => "objects/backends",
            Self::GatewayServices => "objects/services",
        };
        let url = format!("http://{admin_address}/api/v1/{path}");
        let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).build().into();
        let text = agent.get(&url).call().and_then(|mut response| response.body_mut().read_to_string());
        text.map_err(|error| error.to_string())
            .and_then(|text| serde_json::from_str::<Value>(&text).map_err(|error| error.to_string()))
            .map_err(|error| format!("{url}: {error}; is the gateway running, and is this its --admin-address?"))
    }

    /// The table: its head and its rows.
    fn table(self, rows: &[Value], wide: bool) -> Vec<Vec<String>> {
        match self {
            Self::Services => services(rows),
            Self::Endpoints => endpoints(rows),
            Self::Listeners => listeners(rows),
            Self::Plugins => plugins(rows),
            Self::Faults => faults(rows),
            Self::Sources => sources(rows),
            Self::GatewayClasses => objects::classes(rows),
            Self::Gateways => objects::gateways(rows, wide),
            Self::ListenerSets => objects::listener_sets(rows, wide),
            Self::HttpRoutes | Self::GrpcRoutes | Self::TlsRoutes | Self::TcpRoutes | Self::UdpRoutes => objects::routes(rows, wide),
            Self::BackendTlsPolicies => objects::policies(rows, true, wide),
            Self::BackendTrafficPolicies | Self::ClientTrafficPolicies | Self::XBackendTrafficPolicies => {
                objects::policies(rows, false, wide)
            }
            Self::Backends => objects::backends(rows, wide),
            Self::GatewayServices => objects::gateway_services(rows, wide),
        }
    }
}

pub(super) fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) if items.is_empty() => "-".to_owned(),
        Some(Value::Array(items)) => {
            items.iter().map(|i| i.as_str().map_or_else(|| i.to_string(), str::to_owned)).collect::<Vec<_>>().join(",")
        }
        Some(other) => other.to_string(),
    }
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

fn services(rows: &[Value]) -> Vec<Vec<String>> {
    let mut table = vec![row(["NAMESPACE", "NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "ENDPOINTS"])];
    for service in rows {
        let ports = list(service, "/ports");
        let shown = ports.iter().map(|p| match p.pointer("/nodePort").and_then(Value::as_u64) {
            Some(node_port) => format!("{}:{node_port}/{}", text(p, "/port"), text(p, "/protocol")),
            None => format!("{}/{}", text(p, "/port"), text(p, "/protocol")),
        });
        let endpoints = ports.iter().map(|p| {
            let all = list(p, "/endpoints");
            format!("{}/{}", all.iter().filter(|e| e["ready"] == true).count(), all.len())
        });
        let (shown, endpoints) = (shown.collect::<Vec<_>>().join(","), endpoints.collect::<Vec<_>>().join(","));
        let cells = ["/namespace", "/name", "/type", "/clusterIPs", "/externalIPs"].map(|p| text(service, p));
        table.push(cells.into_iter().chain([shown, endpoints]).collect());
    }
    table
}

fn endpoints(rows: &[Value]) -> Vec<Vec<String>> {
    let head = row(["NAMESPACE", "SERVICE", "PORT", "PROTOCOL", "ADDRESS", "STATE", "SERVING", "WEIGHT", "IN-FLIGHT", "PICKS", "REASON"]);
    let fields =
        ["/namespace", "/service", "/port", "/protocol", "/address", "/state", "/serving", "/weight", "/inFlight", "/picks", "/reason"];
    std::iter::once(head).chain(rows.iter().map(|r| fields.map(|f| text(r, f)).to_vec())).collect()
}

/// The rows of listeners: one for each host name, or one for the listener.
fn listeners(rows: &[Value]) -> Vec<Vec<String>> {
    let mut table = vec![row(["ADDRESS", "PROTOCOL", "HOSTNAME", "TLS", "CLIENT-CERTIFICATES", "SECRETS", "LISTENER"])];
    for listener in rows {
        let hosts = list(listener, "/hosts");
        for host in hosts.iter().chain(hosts.is_empty().then_some(&Value::Null)) {
            let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { text };
            let secrets: Vec<String> = list(host, "/certificates").iter().map(|c| text(c, "/secret")).collect();
            let of_host =
                [text(host, "/hostname"), or_none(text(host, "/tls")), text(host, "/clientCertificates"), or_none(secrets.join(","))];
            let of_listener = [text(listener, "/address"), text(listener, "/protocol")];
            table.push(of_listener.into_iter().chain(of_host).chain([text(listener, "/name")]).collect());
        }
    }
    table
}

fn plugins(rows: &[Value]) -> Vec<Vec<String>> {
    let head = row(["NAME", "KIND", "STATE", "GENERATION", "VERSION", "CALLS", "FAILURES", "SOURCE", "REASON"]);
    let fields = [
        "/name",
        "/kind",
        "/state",
        "/generation/number",
        "/generation/version",
        "/generation/calls",
        "/generation/failures",
        "/source",
        "/reason",
    ];
    std::iter::once(head).chain(rows.iter().map(|r| fields.map(|f| text(r, f)).to_vec())).collect()
}

fn faults(rows: &[Value]) -> Vec<Vec<String>> {
    let mut table = vec![row(["SEVERITY", "PLACE", "OBJECT", "FAULT", "EXPECTED"])];
    for fault in rows {
        let place = match fault.pointer("/place").filter(|place| place.is_object()) {
            Some(place) => ["/file", "/line", "/column"].map(|field| text(place, field)).join(":"),
            None => "-".to_owned(),
        };
        let [severity, object, message, expected] = ["/severity", "/object", "/message", "/expected"].map(|field| text(fault, field));
        table.push(vec![severity, place, object, message, expected]);
    }
    table
}

/// The rows of sources: one for each kind.
fn sources(rows: &[Value]) -> Vec<Vec<String>> {
    let mut table = vec![row(["SOURCE", "KIND", "STATE", "FOR", "OBJECTS", "REQUESTS", "BYTES", "REASON"])];
    for source in rows {
        for kind in list(source, "/kinds") {
            let since = kind.pointer("/since").and_then(Value::as_u64).unwrap_or_default();
            let [name, state, objects, requests, bytes, reason] =
                ["/kind", "/state", "/objects", "/requests", "/bytes", "/reason"].map(|field| text(kind, field));
            let age = age(unix::seconds().saturating_sub(since));
            table.push(vec![text(source, "/name"), name, state, age, objects, requests, bytes, reason]);
        }
    }
    table
}

/// A time span in its largest unit of which there are two.
fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{minutes}m"),
        7200..172_800 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

/// Makes a table: columns are as wide as their widest cell, and the content of a cell stays in it.
pub(super) fn table(table: &[Vec<String>]) -> String {
    aligned(table, &mut Vec::new())
}

/// Does what [`table`] does, with columns at least as wide as they were the last time.
fn aligned(table: &[Vec<String>], widths: &mut Vec<usize>) -> String {
    let table: Vec<Vec<_>> = table.iter().map(|row| row.iter().map(|cell| escape::line(cell)).collect()).collect();
    for row in &table {
        widths.resize(widths.len().max(row.len()), 0);
        row.iter().zip(widths.iter_mut()).for_each(|(cell, width)| *width = (*width).max(cell.chars().count()));
    }
    let line = |row: &Vec<std::borrow::Cow<'_, str>>| {
        let cells: Vec<String> = row.iter().zip(widths.iter()).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    table.iter().map(line).collect::<Vec<_>>().join("\n")
}
