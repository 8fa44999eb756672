//! Tables of what the gateway serves, which the admin API shows in forms of its own.

use serde_json::Value;
use sluicegate_model::unix;

use super::{list, row, text};

pub(super) fn services(rows: &[Value], wide: bool) -> Vec<Vec<String>> {
    let mut head = row(["NAMESPACE", "NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "ENDPOINTS"]);
    head.extend(wide.then(|| "BALANCER".to_owned()));
    let mut table = vec![head];
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
        let balancers = wide.then(|| ports.iter().map(|p| text(p, "/balancer")).collect::<Vec<_>>().join(","));
        table.push(cells.into_iter().chain([shown, endpoints]).chain(balancers).collect());
    }
    table
}

pub(super) fn endpoints(rows: &[Value], wide: bool) -> Vec<Vec<String>> {
    let columns = [
        ("NAMESPACE", "/namespace"),
        ("SERVICE", "/service"),
        ("PORT", "/port"),
        ("PROTOCOL", "/protocol"),
        ("ADDRESS", "/address"),
        ("STATE", "/state"),
        ("SERVING", "/serving"),
        ("WEIGHT", "/weight"),
        ("IN-FLIGHT", "/inFlight"),
        ("PICKS", "/picks"),
        ("REASON", "/reason"),
    ];
    let more = [("LATENCY-US", "/latencyMicroseconds"), ("SUCCESS", "/success"), ("NODE", "/node"), ("ZONE", "/zone")];
    of_fields(&columns, if wide { &more } else { &[] }, rows)
}

/// A row of fields for each, under these heads.
fn of_fields(columns: &[(&str, &str)], more: &[(&str, &str)], rows: &[Value]) -> Vec<Vec<String>> {
    let columns = || columns.iter().chain(more);
    let head = columns().map(|(head, _)| (*head).to_owned()).collect();
    std::iter::once(head).chain(rows.iter().map(|row| columns().map(|(_, field)| text(row, field)).collect())).collect()
}

/// The rows of listeners: one for each host name, or one for the listener.
pub(super) fn listeners(rows: &[Value]) -> Vec<Vec<String>> {
    let mut table = vec![row(["ADDRESS", "PROTOCOL", "HOSTNAME", "TLS", "CLIENT-CERTIFICATES", "SECRETS", "EXPIRES", "LISTENER"])];
    for listener in rows {
        let hosts = list(listener, "/hosts");
        for host in hosts.iter().chain(hosts.is_empty().then_some(&Value::Null)) {
            let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { text };
            let certificates = list(host, "/certificates");
            let awaited = list(host, "/acme").iter().filter(|acme| acme["notAfter"].is_null());
            let awaited = awaited.map(|acme| format!("acme:{}/{} (awaited)", text(acme, "/issuer"), text(acme, "/name")));
            let secrets: Vec<String> = certificates.iter().map(|c| text(c, "/secret")).chain(awaited).collect();
            let first = certificates.iter().filter_map(|c| c["notAfter"].as_i64()).min();
            let of_host = [
                text(host, "/hostname"),
                or_none(text(host, "/tls")),
                text(host, "/clientCertificates"),
                or_none(secrets.join(",")),
                first.map_or_else(|| "-".to_owned(), expires),
            ];
            let of_listener = [text(listener, "/address"), text(listener, "/protocol")];
            table.push(of_listener.into_iter().chain(of_host).chain([text(listener, "/name")]).collect());
        }
    }
    table
}

pub(super) fn plugins(rows: &[Value], wide: bool) -> Vec<Vec<String>> {
    let columns = [
        ("NAME", "/name"),
        ("KIND", "/kind"),
        ("STATE", "/state"),
        ("GENERATION", "/generation/number"),
        ("VERSION", "/generation/version"),
        ("CALLS", "/generation/calls"),
        ("FAILURES", "/generation/failures"),
        ("SOURCE", "/source"),
        ("REASON", "/reason"),
    ];
    let more = [("MEMORY-BYTES", "/generation/memoryBytes"), ("KEPT", "/kept"), ("SHA256", "/generation/sha256")];
    of_fields(&columns, if wide { &more } else { &[] }, rows)
}

pub(super) fn faults(rows: &[Value]) -> Vec<Vec<String>> {
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
pub(super) fn sources(rows: &[Value]) -> Vec<Vec<String>> {
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

/// In how much time something runs out that is good until then, in seconds since 1970.
fn expires(not_after: i64) -> String {
    let left = not_after.saturating_sub(i64::try_from(unix::seconds()).unwrap_or(i64::MAX));
    u64::try_from(left).map_or_else(|_| "expired".to_owned(), |left| format!("in {}", age(left)))
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
