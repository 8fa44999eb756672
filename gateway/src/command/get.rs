//! `sluicegate get`: tables from the admin API.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::Value;

use super::{fail, out};

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    Services,
    Endpoints,
    Listeners,
    Plugins,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What to show
    #[arg(value_enum)]
    what: What,
    /// Address of the gateway's admin API
    #[arg(long, default_value = "127.0.0.1:9901")]
    admin_address: SocketAddr,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Arguments {
    pub(super) fn execute(self) -> ExitCode {
        let path = match self.what {
            What::Services => "services",
            What::Endpoints => "endpoints",
            What::Listeners => "listeners",
            What::Plugins => "plugins",
        };
        let url = format!("http://{}/api/v1/{path}", self.admin_address);
        let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).build().into();
        let text = agent.get(&url).call().and_then(|mut response| response.body_mut().read_to_string());
        let rows = match text.map_err(|e| e.to_string()).and_then(|text| serde_json::from_str::<Value>(&text).map_err(|e| e.to_string())) {
            Ok(rows) => rows,
            Err(error) => return fail(format!("{url}: {error}; is the gateway running, and is this its --admin-address?")),
        };
        match self.output {
            Output::Json => out(format!("{rows:#}")),
            Output::Table => {
                let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
                print_table(&match self.what {
                    What::Services => services(rows),
                    What::Endpoints => endpoints(rows),
                    What::Listeners => listeners(rows),
                    What::Plugins => plugins(rows),
                });
            }
        }
        ExitCode::SUCCESS
    }
}

fn text(value: &Value, pointer: &str) -> String {
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
    let head = row(["NAMESPACE", "SERVICE", "PORT", "ADDRESS", "READY", "SERVING", "TERMINATING", "WEIGHT", "IN-FLIGHT", "PICKS"]);
    let fields = ["/namespace", "/service", "/port", "/address", "/ready", "/serving", "/terminating", "/weight", "/inFlight", "/picks"];
    std::iter::once(head).chain(rows.iter().map(|r| fields.map(|f| text(r, f)).to_vec())).collect()
}

/// A row for each host name, or one for the listener.
fn listeners(rows: &[Value]) -> Vec<Vec<String>> {
    let mut table = vec![row(["ADDRESS", "PROTOCOL", "HOSTNAME", "TLS", "CLIENT-CERTIFICATES", "SECRETS", "LISTENER"])];
    for listener in rows {
        let hosts = list(listener, "/hosts");
        for host in hosts.iter().chain(hosts.is_empty().then_some(&Value::Null)) {
            let secrets: Vec<String> = list(host, "/certificates").iter().map(|c| text(c, "/secret")).collect();
            let secrets = if secrets.is_empty() { "-".to_owned() } else { secrets.join(",") };
            let tls = match text(host, "/tls") {
                none if none.is_empty() => "-".to_owned(),
                mode => mode,
            };
            let (address, name) = (text(listener, "/address"), text(listener, "/name"));
            table.push(vec![
                address,
                text(listener, "/protocol"),
                text(host, "/hostname"),
                tls,
                text(host, "/client_certificates"),
                secrets,
                name,
            ]);
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

fn print_table(table: &[Vec<String>]) {
    let columns = table.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns).map(|c| table.iter().map(|r| r[c].chars().count()).max().unwrap_or(0)).collect();
    for row in table {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        out(cells.join("  ").trim_end());
    }
}
