//! `/metrics`: read from the counters when asked, so counting costs the request path one relaxed add.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use sluicegate_model::status::{PortStatus, ServiceStatus};

use crate::View;

pub(crate) fn encode(view: View) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("sluicegate");
    registry.register_collector(Box::new(Metrics(view)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

struct Metrics(View);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

type Labels = Vec<(&'static str, String)>;

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// One metric family: a row for each label set.
fn family<M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: impl Iterator<Item = (Labels, M)>,
) -> fmt::Result {
    let mut rows = rows.peekable();
    let Some((_, first)) = rows.peek() else { return Ok(()) };
    let mut metric = encoder.encode_descriptor(name, help, None, first.metric_type())?;
    for (labels, value) in rows {
        if labels.is_empty() {
            // One unlabelled row; `encode_family` refuses an empty label set.
            return value.encode(metric);
        }
        value.encode(metric.encode_family(&LabelSet(labels))?)?;
    }
    Ok(())
}

#[derive(Debug)]
struct LabelSet(Labels);

impl EncodeLabelSet for LabelSet {
    fn encode(&self, encoder: &mut prometheus_client::encoding::LabelSetEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let e = &mut encoder;
        let proxy = &self.0.proxy;
        let counter = |value: &AtomicU64| std::iter::once((Labels::new(), ConstCounter::new(count(value))));
        let gauge = |value: &AtomicU64| std::iter::once((Labels::new(), ConstGauge::new(value.load(Ordering::Relaxed).cast_signed())));
        family(e, "connections_accepted", "Client connections accepted", counter(&proxy.accepted))?;
        family(e, "connections_open", "Client connections open", gauge(&proxy.open))?;
        family(e, "requests", "HTTP exchanges begun", counter(&proxy.requests))?;
        family(e, "own_answers", "HTTP answers made by the gateway itself", counter(&proxy.own_answers))?;
        family(e, "connections_refused", "Client connections reset at once, since as many were open as may be", counter(&proxy.refused))?;
        family(e, "accept_errors", "Accepts that failed", counter(&proxy.accept_errors))?;
        family(e, "snapshot_version", "The newest snapshot that every worker serves", gauge(&proxy.serving))?;

        let status = self.0.status.load();
        let faults = |severity| {
            (vec![("severity", format!("{severity:?}").to_lowercase())], status.faults.iter().filter(|f| f.severity == severity).count())
        };
        let severities = [sluicegate_model::fault::Severity::Error, sluicegate_model::fault::Severity::Warning];
        family(
            e,
            "configuration_faults",
            "Faults of the configuration",
            severities.into_iter().map(faults).map(|(l, n)| (l, ConstGauge::new(n as i64))),
        )?;

        let ports = || status.services.iter().flat_map(|s| s.ports.iter().map(move |p| (s, p)));
        let of = |s: &ServiceStatus, p: &PortStatus| {
            vec![
                ("namespace", s.namespace.clone()),
                ("service", s.name.clone()),
                ("port", p.port.to_string()),
                ("protocol", p.protocol.clone()),
            ]
        };
        let and = |mut labels: Labels, name, value: &str| {
            labels.push((name, value.to_owned()));
            labels
        };
        let per_port = |read: fn(&PortStatus) -> u64| ports().map(move |(s, p)| (of(s, p), ConstCounter::new(read(p))));
        family(e, "service_connections", "TCP connections forwarded", per_port(|p| count(&p.stats.connections)))?;
        family(
            e,
            "service_no_endpoint",
            "Connections or requests refused for want of an endpoint",
            per_port(|p| count(&p.stats.no_endpoint)),
        )?;
        family(
            e,
            "service_connect_failures",
            "Connection attempts to endpoints that failed",
            per_port(|p| count(&p.stats.connect_failures)),
        )?;
        family(e, "service_pick_fallbacks", "Picks that went down the failure ladder", per_port(|p| count(&p.stats.fallbacks)))?;
        family(
            e,
            "service_picks",
            "Picks of endpoints that are there now",
            per_port(|p| p.endpoints.iter().map(|e| count(&e.stats.picks)).sum()),
        )?;
        let classes = ports().flat_map(|(s, p)| {
            p.stats
                .responses
                .iter()
                .enumerate()
                .map(move |(class, n)| (and(of(s, p), "class", &format!("{}xx", class + 1)), ConstCounter::new(count(n))))
        });
        family(e, "service_responses", "HTTP responses by status class", classes)?;
        let states = ports().flat_map(|(s, p)| {
            let count =
                |which: fn(&sluicegate_model::status::EndpointStatus) -> bool| p.endpoints.iter().filter(|e| which(e)).count() as i64;
            let rows = [
                ("ready", count(|e| e.ready)),
                ("serving", count(|e| e.serving)),
                ("terminating", count(|e| e.terminating)),
                ("all", count(|_| true)),
            ];
            rows.map(|(state, n)| (and(of(s, p), "state", state), ConstGauge::new(n)))
        });
        family(e, "service_endpoints", "Endpoints by state", states)?;

        let plugins = || status.plugins.iter().filter_map(|p| Some((p, p.generation.as_ref()?)));
        let labels = |p: &sluicegate_model::status::PluginStatus| vec![("plugin", p.name.clone()), ("kind", p.kind.to_string())];
        family(
            e,
            "plugin_calls",
            "Calls into the live generation",
            plugins().map(|(p, g)| (labels(p), ConstCounter::new(count(&g.stats.calls)))),
        )?;
        family(
            e,
            "plugin_failures",
            "Traps, deadline overruns and answers out of range",
            plugins().map(|(p, g)| (labels(p), ConstCounter::new(count(&g.stats.failures)))),
        )?;
        family(
            e,
            "plugin_sampled_calls",
            "Calls that were timed, one in 64",
            plugins().map(|(p, g)| (labels(p), ConstCounter::new(count(&g.stats.timed)))),
        )?;
        family(
            e,
            "plugin_sampled_seconds",
            "Time inside the calls that were timed",
            plugins().map(|(p, g)| (labels(p), ConstCounter::new(count(&g.stats.nanos) as f64 / 1e9))),
        )?;
        family(
            e,
            "plugin_memory_bytes",
            "Memory of the largest instance",
            plugins().map(|(p, g)| (labels(p), ConstGauge::new(count(&g.stats.memory).cast_signed()))),
        )?;
        family(
            e,
            "plugin_generation",
            "Number of the live generation",
            plugins().map(|(p, g)| (labels(p), ConstGauge::new(g.number.cast_signed()))),
        )?;
        Ok(())
    }
}
