//! The endpoints of a Service as Kubernetes finds them: EndpointSlices if the Service has some, else the Pods its selector selects.

mod pods;
mod slices;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use sluicegate_sdk::{Discovery, Object, Objects, PublishedEndpoint, Service, export_discovery};

/// Nothing to configure.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// See the crate.
pub struct Kubernetes;

/// The parts of a service port that endpoints depend on.
#[derive(Debug)]
pub(crate) struct Port<'a> {
    pub(crate) name: &'a str,
    pub(crate) protocol: &'a str,
    pub(crate) target: Target<'a>,
}

/// `targetPort`.
#[derive(Debug, PartialEq)]
pub(crate) enum Target<'a> {
    Number(u16),
    Name(&'a str),
}

impl Discovery for Kubernetes {
    type Config = Config;
    const WATCHES: &'static [&'static str] = &["Pod", "EndpointSlice", "Node"];

    fn open(_: &Service, _: Config) -> Result<Self, String> {
        Ok(Self)
    }

    fn concerns(&self, service: &Service, object: &Object) -> bool {
        match object.kind.as_str() {
            "Pod" => pods::selected(service, object),
            "EndpointSlice" => slices::belongs(service, object),
            _ => true,
        }
    }

    fn endpoints(&mut self, service: &Service, objects: &Objects) -> Result<Vec<PublishedEndpoint>, String> {
        let ports = ports(&service.object);
        let slices: Vec<&Object> = objects.of_kind("EndpointSlice").filter(|o| slices::belongs(service, o)).collect();
        // In a cluster the slices mirror the pods, so both together would say everything twice.
        if !slices.is_empty() {
            return Ok(slices::endpoints(&slices, &ports, families(&service.object)));
        }
        Ok(pods::endpoints(service, objects, &ports, families(&service.object)))
    }
}

export_discovery!(Kubernetes);

fn ports(service: &Value) -> Vec<Port<'_>> {
    let ports = service.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten();
    ports
        .filter_map(|p| {
            let number = |v: &Value| v.as_u64().and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0);
            let target = match p.get("targetPort") {
                Some(Value::String(name)) => Target::Name(name),
                Some(other) if !other.is_null() => Target::Number(number(other)?),
                _ => Target::Number(number(p.get("port")?)?),
            };
            let protocol = p.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
            Some(Port { name: p.get("name").and_then(Value::as_str).unwrap_or(""), protocol, target })
        })
        .collect()
}

/// Whether IPv4 and IPv6 addresses count; `ipFamilies` defaults to IPv4 alone.
fn families(service: &Value) -> (bool, bool) {
    let families = service.pointer("/spec/ipFamilies").and_then(Value::as_array).filter(|f| !f.is_empty());
    families.map_or((true, false), |f| (f.iter().any(|v| v == "IPv4"), f.iter().any(|v| v == "IPv6")))
}

pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

#[cfg(test)]
mod tests;
