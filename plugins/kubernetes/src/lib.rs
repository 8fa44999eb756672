//! Discovery `kubernetes`: the endpoints of a Service as Kubernetes finds them.
//!
//! In a cluster the EndpointSlice controller has selected the pods already, and [`slices`] joins the slices that it wrote. In a folder of files nobody writes
//! slices, and [`pods`] selects the pods by the same rules. The pods of a service with slices are not selected, as each would count twice.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use sluicegate_sdk::{Concerned, Discovery, Object, Objects, PublishedEndpoint, Service};

mod pods;
mod service;
mod slices;
#[cfg(test)]
mod testing;
mod trim;

/// The configuration of `kubernetes`, which is empty: everything is in the Service.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// The fields of a Service that determine its endpoints.
#[derive(Debug)]
pub struct Kubernetes(service::Spec);

impl Discovery for Kubernetes {
    type Config = Config;

    const WATCHES: &'static [&'static str] = &["Pod", "EndpointSlice", "Node"];

    fn open(service: &Service, _: Config) -> Result<Self, String> {
        service::Spec::read(&service.object).map(Self)
    }

    fn trim(object: &mut Object) {
        trim::trim(object);
    }

    fn trim_service(service: &mut Service) {
        // Everything that is needed is in `service::Spec`.
        service.object = Value::Null;
    }

    fn concerned(object: &Object) -> Concerned {
        match object.kind.as_str() {
            "Pod" => Concerned::Namespace,
            "EndpointSlice" => slices::service_name(object).map_or(Concerned::Nobody, |name| Concerned::Service(name.to_owned())),
            // For the zones of its pods.
            "Node" => Concerned::All,
            _ => Concerned::Nobody,
        }
    }

    fn concerns(&self, service: &Service, object: &Object) -> bool {
        match object.kind.as_str() {
            "Pod" => object.namespace == service.namespace && self.0.selects(&object.value),
            "EndpointSlice" => slices::is_of(service, object),
            // For the zones of its pods.
            "Node" => true,
            _ => false,
        }
    }

    fn endpoints(&mut self, service: &Service, objects: &Objects) -> Result<Vec<PublishedEndpoint>, String> {
        if self.0.external {
            return Ok(Vec::new());
        }
        Ok(slices::endpoints(&self.0, service, objects).unwrap_or_else(|| pods::endpoints(&self.0, service, objects)))
    }
}

sluicegate_sdk::export_discovery!(Kubernetes);
