//! What is exported to collectors, as the object says it, and where that says nothing the variables of OpenTelemetry's specification ("Environment Variable
//! Specification", "OpenTelemetry Protocol Exporter"). A variable that cannot be read is said and counts as unset, as the specification asks.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sluicegate_config::object::ours::{Otlp, OtlpEndpoint, OtlpProtocol, Percent, QueueSize, Telemetry as Spec, TraceSampler};
use sluicegate_telemetry::settings::{Batch, Logs, Metrics, Settings, Traces};
use sluicegate_telemetry::{Protocol, TargetSettings, Tls};

/// How long one request may take, unless it is said.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often metrics are exported, unless it is said, and at most.
const INTERVAL: Duration = Duration::from_secs(60);
const SHORTEST: Duration = Duration::from_millis(100);

/// The variables of the process.
struct Environment<'e>(&'e dyn Fn(&str) -> Option<String>);

impl Environment<'_> {
    fn text(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|text| !text.trim().is_empty())
    }

    fn read<T: FromStr>(&self, name: &str) -> Option<T> {
        let text = self.text(name)?;
        let read = text.trim().parse().ok();
        if read.is_none() {
            tracing::warn!(variable = name, "the variable cannot be read, and counts as unset");
        }
        read
    }

    /// The variable of a signal, else that of all signals.
    fn of<T: FromStr>(&self, signal: &str, what: &str) -> Option<T> {
        self.read(&format!("OTEL_EXPORTER_OTLP_{signal}_{what}")).or_else(|| self.read(&format!("OTEL_EXPORTER_OTLP_{what}")))
    }

    fn is_exported(&self, signal: &str, enabled: Option<bool>) -> bool {
        let by_variable = || self.text(&format!("OTEL_{signal}_EXPORTER")).as_deref() == Some("otlp");
        enabled.unwrap_or_else(by_variable) && self.text("OTEL_SDK_DISABLED").as_deref() != Some("true")
    }
}

/// Joins the object and the variables.
pub(super) fn settings(object: &Spec, variable: &dyn Fn(&str) -> Option<String>) -> Settings {
    let environment = Environment(variable);
    let to = |own: &Otlp, signal: &str, path: &str| target(own, &object.otlp, &environment, signal, path);
    let room = |own: Option<QueueSize>, variable: &str, default: usize| {
        let of_variable = || environment.read::<usize>(variable).filter(|size| (1..=QueueSize::MOST).contains(size));
        own.map(|size| size.0).or_else(of_variable).unwrap_or(default)
    };
    let traces = environment.is_exported("TRACES", object.tracing.enabled).then(|| {
        let (ratio, by_parent) = sampling(object.tracing.sampling_rate, object.tracing.sampler, &environment);
        let room = room(object.tracing.max_queue_size, "OTEL_BSP_MAX_QUEUE_SIZE", Batch::SPANS.room);
        Traces {
            to: to(&object.tracing.otlp, "TRACES", "v1/traces"),
            ratio,
            by_parent,
            queue: batch(Batch::SPANS, room, &environment, "BSP"),
        }
    });
    let metrics = environment.is_exported("METRICS", object.metrics.enabled).then(|| {
        let by_variable = || environment.read("OTEL_METRIC_EXPORT_INTERVAL").map(Duration::from_millis);
        let interval = object.metrics.interval.map(|interval| interval.0).or_else(by_variable).unwrap_or(INTERVAL);
        Metrics { to: to(&object.metrics.otlp, "METRICS", "v1/metrics"), interval: interval.max(SHORTEST) }
    });
    let logs = environment.is_exported("LOGS", object.access_log.enabled).then(|| {
        let room = room(object.access_log.max_queue_size, "OTEL_BLRP_MAX_QUEUE_SIZE", Batch::RECORDS.room);
        Logs { to: to(&object.access_log.otlp, "LOGS", "v1/logs"), queue: batch(Batch::RECORDS, room, &environment, "BLRP") }
    });
    Settings {
        service_name: object.service_name.clone(),
        resource: object.resource_attributes.clone().unwrap_or_default().into_iter().collect(),
        traces,
        metrics,
        logs,
    }
}

fn batch(default: Batch, room: usize, environment: &Environment<'_>, prefix: &str) -> Batch {
    let most = environment.read(&format!("OTEL_{prefix}_MAX_EXPORT_BATCH_SIZE")).filter(|most| *most > 0).unwrap_or(default.most);
    let delay = environment.read(&format!("OTEL_{prefix}_SCHEDULE_DELAY")).map_or(default.delay, Duration::from_millis);
    Batch { room, most: most.min(room), delay }
}

/// The share of traces that are recorded, and whether what clients say decides first.
fn sampling(rate: Option<Percent>, sampler: Option<TraceSampler>, environment: &Environment<'_>) -> (f64, bool) {
    let argument = || environment.read::<f64>("OTEL_TRACES_SAMPLER_ARG").filter(|ratio| (0.0..=1.0).contains(ratio));
    let named = environment.text("OTEL_TRACES_SAMPLER");
    let name = named.as_deref().filter(|_| sampler.is_none()).unwrap_or_default();
    let by_name = match name.strip_prefix("parentbased_").unwrap_or(name) {
        "always_on" => Some(1.0),
        "always_off" => Some(0.0),
        "traceidratio" | "" => None,
        _ => {
            tracing::warn!(variable = "OTEL_TRACES_SAMPLER", "the sampler is not known, and counts as unset");
            None
        }
    };
    let ratio = rate.map(|rate| rate.0 / 100.0).or(by_name).or_else(argument).unwrap_or(1.0);
    let by_parent = match sampler {
        Some(sampler) => sampler == TraceSampler::ParentBased,
        None => !matches!(name, "always_on" | "always_off" | "traceidratio"),
    };
    (ratio, by_parent)
}

fn target(own: &Otlp, all: &Otlp, environment: &Environment<'_>, signal: &str, path: &str) -> TargetSettings {
    let protocol = own.protocol.or(all.protocol).or_else(|| environment.of(signal, "PROTOCOL")).unwrap_or(OtlpProtocol::Http);
    let protocol = match protocol {
        OtlpProtocol::Grpc => Protocol::Grpc,
        OtlpProtocol::Http => Protocol::Http,
    };
    let url = |endpoint: OtlpEndpoint| endpoint.0;
    // The path is added only to what is said for all signals.
    let with_path = |endpoint: String| match protocol {
        Protocol::Http => format!("{}/{path}", endpoint.trim_end_matches('/')),
        Protocol::Grpc => endpoint,
    };
    let default = || if protocol == Protocol::Grpc { "http://localhost:4317" } else { "http://localhost:4318" }.to_owned();
    let endpoint = own.endpoint.clone().map(url).unwrap_or_else(|| {
        let of_signal = || environment.read(&format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")).map(url);
        let of_all = || environment.read("OTEL_EXPORTER_OTLP_ENDPOINT").map(url);
        match all.endpoint.clone().map(url) {
            Some(endpoint) => with_path(endpoint),
            None => of_signal().unwrap_or_else(|| with_path(of_all().unwrap_or_else(default))),
        }
    });
    let file = |own: &Option<String>, all: &Option<String>, what: &str| {
        own.as_ref().or(all.as_ref()).cloned().or_else(|| environment.of(signal, what)).map(PathBuf::from)
    };
    let (tls, tls_of_all) = (&own.tls, &all.tls);
    let certificate = file(&tls.cert_file, &tls_of_all.cert_file, "CLIENT_CERTIFICATE");
    let key = file(&tls.key_file, &tls_of_all.key_file, "CLIENT_KEY");
    let timeout = own.timeout.or(all.timeout).map(|timeout| timeout.0);
    TargetSettings {
        protocol,
        endpoint,
        headers: environment.of(signal, "HEADERS"),
        headers_file: own.headers_file.as_ref().or(all.headers_file.as_ref()).map(PathBuf::from),
        timeout: timeout.or_else(|| environment.of(signal, "TIMEOUT").map(Duration::from_millis)).unwrap_or(TIMEOUT),
        tls: Tls { authorities: file(&tls.ca_file, &tls_of_all.ca_file, "CERTIFICATE"), client: certificate.zip(key) },
    }
}

#[cfg(test)]
mod tests {
    use sluicegate_config::object::ours::Tracing;

    use super::*;

    fn with(object: &Spec, variables: &[(&str, &str)]) -> Settings {
        settings(object, &|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    fn traces(object: &Spec, variables: &[(&str, &str)]) -> Traces {
        let mut all = vec![("OTEL_TRACES_EXPORTER", "otlp")];
        all.extend(variables);
        with(object, &all).traces.expect("they are exported")
    }

    #[test]
    fn nothing_is_exported_unless_that_is_asked_for() {
        let none = with(&Spec::default(), &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")]);
        assert!(none.traces.is_none() && none.logs.is_none());
        let on = Spec { tracing: Tracing { enabled: Some(true), ..Tracing::default() }, ..Spec::default() };
        assert!(with(&on, &[]).traces.is_some() && with(&on, &[]).logs.is_none());
        assert!(with(&on, &[("OTEL_SDK_DISABLED", "true")]).traces.is_none());
        assert!(with(&Spec::default(), &[("OTEL_LOGS_EXPORTER", "otlp")]).logs.is_some());
        assert!(with(&Spec::default(), &[("OTEL_TRACES_EXPORTER", "none")]).traces.is_none());
    }

    #[test]
    fn the_object_counts_before_variables_and_a_signal_before_all() {
        let to = |object: &Spec, variables: &[(&str, &str)]| traces(object, variables).to.endpoint;
        let endpoint = |url: &str| Otlp { endpoint: Some(OtlpEndpoint(url.to_owned())), ..Otlp::default() };
        let none = Spec::default();
        assert_eq!(to(&none, &[]), "http://localhost:4318/v1/traces");
        assert_eq!(to(&none, &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]), "http://localhost:4317");
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:1/base/");
        let signal = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://signal:2/own");
        assert_eq!(to(&none, &[all]), "http://all:1/base/v1/traces");
        assert_eq!(to(&none, &[all, signal]), "http://signal:2/own");
        let of_all = Spec { otlp: endpoint("https://object:3"), ..Spec::default() };
        assert_eq!(to(&of_all, &[all, signal]), "https://object:3/v1/traces");
        let of_signal = Spec { tracing: Tracing { otlp: endpoint("http://own:4/x"), ..Tracing::default() }, ..of_all.clone() };
        assert_eq!(to(&of_signal, &[all, signal]), "http://own:4/x");
        let timeout = |variables: &[_]| traces(&none, variables).to.timeout;
        assert_eq!(timeout(&[("OTEL_EXPORTER_OTLP_TIMEOUT", "1500")]), Duration::from_millis(1500));
        assert_eq!(timeout(&[("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")]), TIMEOUT, "what cannot be read counts as unset");
    }

    #[test]
    fn samplers_are_those_of_the_specification() {
        let sampled = |object: &Tracing, variables: &[(&str, &str)]| {
            let traces = traces(&Spec { tracing: object.clone(), ..Spec::default() }, variables);
            (traces.ratio, traces.by_parent)
        };
        let none = Tracing::default();
        assert_eq!(sampled(&none, &[]), (1.0, true));
        let named = |name| ("OTEL_TRACES_SAMPLER", name);
        assert_eq!(sampled(&none, &[named("always_off")]), (0.0, false));
        assert_eq!(sampled(&none, &[named("parentbased_always_off")]), (0.0, true));
        assert_eq!(sampled(&none, &[named("traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.25")]), (0.25, false));
        assert_eq!(sampled(&none, &[named("xray"), ("OTEL_TRACES_SAMPLER_ARG", "7")]), (1.0, true));
        let object = Tracing { sampling_rate: Some(Percent(5.0)), sampler: Some(TraceSampler::Ratio), ..none };
        assert_eq!(sampled(&object, &[named("parentbased_always_on")]), (0.05, false));
    }
}
