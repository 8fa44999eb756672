//! What is exported to collectors, as `SluicegateConfiguration` has it. Fields are named as in Envoy Gateway's `telemetry`, or as the variables of
//! OpenTelemetry's specification that count where a field is not given.

use std::collections::BTreeMap;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::values::Span;

/// What is exported to collectors of OpenTelemetry.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Telemetry {
    /// The attribute `service.name` of all that is exported. Default: `OTEL_SERVICE_NAME`, else sluicegate.
    pub service_name: Option<String>,
    /// Other attributes of all that is exported; they count before those of `OTEL_RESOURCE_ATTRIBUTES`. Default: none.
    pub resource_attributes: Option<BTreeMap<String, String>>,
    /// The collector, unless a signal names another.
    #[serde(default)]
    pub otlp: Otlp,
    /// A span for each exchange, one for the decision where it goes, and one for each try at an endpoint.
    #[serde(default)]
    pub tracing: Tracing,
    /// What `/metrics` shows, there and at a collector.
    #[serde(default)]
    pub metrics: Metrics,
    /// The lines of the access log, as log records.
    #[serde(default)]
    pub access_log: ExportedLog,
}

/// A collector that takes OTLP.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Otlp {
    /// URL of the collector. Over HTTP, `/v1/traces` and so on is added to that of `telemetry.otlp`, and nothing to that of a signal. Default:
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`, or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` and so on for a signal; else <http://localhost:4318>, or port 4317 for gRPC.
    pub endpoint: Option<OtlpEndpoint>,
    /// How OTLP is spoken: grpc or http/protobuf. Default: `OTEL_EXPORTER_OTLP_PROTOCOL`, or that of the signal, else http/protobuf.
    pub protocol: Option<OtlpProtocol>,
    /// A file with header fields of each request, such as a mounted Secret: `name=value`, a line each. It is read for each request, and no value is shown.
    /// Default: none; those of `OTEL_EXPORTER_OTLP_HEADERS`, or of the signal's variable, are sent as well.
    pub headers_file: Option<String>,
    /// How long one request may take. Default: `OTEL_EXPORTER_OTLP_TIMEOUT` in milliseconds, or that of the signal, else 10s.
    pub timeout: Option<Span>,
    /// TLS with the collector, which is spoken if the endpoint is an https URL.
    #[serde(default)]
    pub tls: OtlpTls,
}

/// TLS with a collector.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OtlpTls {
    /// A file with the authorities that may have vouched for the collector, in PEM. Default: `OTEL_EXPORTER_OTLP_CERTIFICATE`, else the system's.
    pub ca_file: Option<String>,
    /// A file with the certificate that the collector is shown, in PEM. Default: `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`, else none.
    pub cert_file: Option<String>,
    /// A file with the key to it, in PEM. Default: `OTEL_EXPORTER_OTLP_CLIENT_KEY`, else none.
    pub key_file: Option<String>,
}

/// Traces.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tracing {
    /// Whether traces are exported. Default: true if `OTEL_TRACES_EXPORTER` is `otlp`, else false.
    pub enabled: Option<bool>,
    /// How many of 100 traces that begin here are recorded; a fraction may be given. Default: `OTEL_TRACES_SAMPLER_ARG` times 100, else 100.
    pub sampling_rate: Option<Percent>,
    /// Which traces are recorded: `parentbased_traceidratio`: those that the client records, and that share of those that begin here; `traceidratio`: that
    /// share, whatever clients say. Default: `OTEL_TRACES_SAMPLER`, else `parentbased_traceidratio`.
    pub sampler: Option<TraceSampler>,
    /// How many exchanges may wait to be exported; more are dropped and counted. Default: `OTEL_BSP_MAX_QUEUE_SIZE`, else 2048.
    pub max_queue_size: Option<QueueSize>,
    /// Where traces go, as far as that differs from `telemetry.otlp`.
    #[serde(default)]
    pub otlp: Otlp,
}

/// Metrics.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// Whether metrics are exported as well as shown on `/metrics`. Default: true if `OTEL_METRICS_EXPORTER` is `otlp`, else false.
    pub enabled: Option<bool>,
    /// How often they are exported. Default: `OTEL_METRIC_EXPORT_INTERVAL` in milliseconds, else 60s.
    pub interval: Option<Span>,
    /// How many series there may be, there and on `/metrics`: as many Service ports as fit have series of their own, the busiest ones if not all do, and the
    /// others are summed in series of the service `other`. Default: 1000.
    pub max_series: Option<u32>,
    /// Where metrics go, as far as that differs from `telemetry.otlp`.
    #[serde(default)]
    pub otlp: Otlp,
}

/// The access log.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportedLog {
    /// Whether each line of the access log is exported as a log record, whatever `accessLog.format` is. Default: true if `OTEL_LOGS_EXPORTER` is `otlp`, else
    /// false.
    pub enabled: Option<bool>,
    /// How many records may wait to be exported; more are dropped and counted. Default: `OTEL_BLRP_MAX_QUEUE_SIZE`, else 8192.
    pub max_queue_size: Option<QueueSize>,
    /// Where records go, as far as that differs from `telemetry.otlp`.
    #[serde(default)]
    pub otlp: Otlp,
}

/// How OTLP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum OtlpProtocol {
    /// Over gRPC.
    #[serde(rename = "grpc")]
    Grpc,
    /// Over HTTP/1.1, with messages in protobuf's binary form.
    #[serde(rename = "http/protobuf")]
    Http,
}

impl FromStr for OtlpProtocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "grpc" => Ok(Self::Grpc),
            "http/protobuf" => Ok(Self::Http),
            _ => Err(format!("{text:?} is neither \"grpc\" nor \"http/protobuf\"")),
        }
    }
}

/// Which traces are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum TraceSampler {
    /// What the client says decides, and the share where it says nothing.
    #[serde(rename = "parentbased_traceidratio")]
    ParentBased,
    /// The share decides.
    #[serde(rename = "traceidratio")]
    Ratio,
}

/// The URL of a collector: `http` or `https`, a host, and neither a user nor a password.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct OtlpEndpoint(pub String);

impl FromStr for OtlpEndpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('@') {
            // It is not repeated, as it may have a password.
            return Err("a user or a password in an endpoint would be shown; headersFile is for credentials".to_owned());
        }
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let is_host = |host: &str| !host.is_empty() && !host.starts_with([':', '/', '?']) && host.chars().all(|c| c.is_ascii_graphic());
        match rest.filter(|host| is_host(host)) {
            Some(_) => Ok(Self(text.to_owned())),
            None => Err(format!("{text:?} is not a URL such as \"http://collector:4318\"")),
        }
    }
}

impl<'de> Deserialize<'de> for OtlpEndpoint {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A part of 100.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema)]
#[schemars(with = "f64")]
pub struct Percent(pub f64);

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(from)?;
        if (0.0..=100.0).contains(&number) {
            return Ok(Self(number));
        }
        Err(serde::de::Error::custom(format!("{number} is not between 0 and 100")))
    }
}

/// How many may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "u32")]
pub struct QueueSize(pub usize);

impl QueueSize {
    /// The largest size: what waits takes memory, about a kilobyte each.
    pub const MOST: usize = 1 << 20;
}

impl<'de> Deserialize<'de> for QueueSize {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = usize::deserialize(from)?;
        if (1..=Self::MOST).contains(&number) {
            return Ok(Self(number));
        }
        Err(serde::de::Error::custom(format!("{number} is not between 1 and {}", Self::MOST)))
    }
}
