//! Makes OTLP's messages.

pub(crate) mod log;
pub(crate) mod metric;
pub(crate) mod trace;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;

/// Who tells.
pub(crate) struct Scope {
    pub(crate) resource: Resource,
    pub(crate) scope: InstrumentationScope,
}

impl Scope {
    /// What the environment says of this process (`OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SERVICE_NAME`) is less than what is configured.
    pub(crate) fn new(service_name: &Option<String>, attributes: &[(String, String)]) -> Self {
        let found = opentelemetry_sdk::Resource::builder().build();
        let mut all: Vec<KeyValue> =
            found.iter().map(|(key, value)| attribute(key.as_str(), value.as_str().into_owned())).filter(|a| !is_unknown(a)).collect();
        let own = [("service.version", env!("CARGO_PKG_VERSION").to_owned()), ("process.pid", std::process::id().to_string())];
        own.into_iter().for_each(|(key, value)| set(&mut all, key, value, false));
        set(&mut all, "service.name", "sluicegate".to_owned(), false);
        attributes.iter().for_each(|(key, value)| set(&mut all, key, value.clone(), true));
        if let Some(name) = service_name {
            set(&mut all, "service.name", name.clone(), true);
        }
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self {
            resource: Resource { attributes: all, ..Resource::default() },
            scope: InstrumentationScope { name: "sluicegate".to_owned(), version, ..InstrumentationScope::default() },
        }
    }
}

/// The name that the SDK gives to what has none.
fn is_unknown(attribute: &KeyValue) -> bool {
    let text = attribute.value.as_ref().and_then(|value| value.value.as_ref());
    attribute.key == "service.name" && matches!(text, Some(Any::StringValue(name)) if name.starts_with("unknown_service"))
}

fn set(all: &mut Vec<KeyValue>, key: &str, value: String, over: bool) {
    let known = all.iter().position(|a| a.key == key);
    match known {
        Some(at) if over => all[at] = attribute(key, value),
        Some(_) => {}
        None => all.push(attribute(key, value)),
    }
}

/// An attribute that is a text.
fn attribute(key: &str, value: impl Into<String>) -> KeyValue {
    any(key, Any::StringValue(value.into()))
}

/// An attribute that is a whole number.
fn number(key: &str, value: impl Into<i64>) -> KeyValue {
    any(key, Any::IntValue(value.into()))
}

fn any(key: &str, value: Any) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn nanos(time: SystemTime) -> u64 {
    after(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn after(since: Duration) -> u64 {
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
