//! Consul's list of a service's instances, and the endpoints that they stand for.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use sluicegate_sdk::{PublishedEndpoint, resolve};

use crate::Config;

/// The longest list. A longer one is refused, as it is more likely a mistake than a service.
const MOST_INSTANCES: usize = 10_000;
const LARGEST_WEIGHT: u32 = 1_000_000;

/// An instance as `/v1/health/service/NAME` has it. Fields that are not read are left out.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Instance {
    node: Node,
    service: Served,
    #[serde(default)]
    checks: Vec<Check>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(default)]
    node: String,
    #[serde(default)]
    address: String,
    meta: Option<BTreeMap<String, String>>,
    locality: Option<Locality>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Served {
    #[serde(default, rename = "ID")]
    id: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    port: u32,
    meta: Option<BTreeMap<String, String>>,
    weights: Option<Weights>,
    locality: Option<Locality>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    #[serde(default = "one")]
    passing: u32,
    #[serde(default = "one")]
    warning: u32,
}

fn one() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Locality {
    zone: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    #[serde(default)]
    status: String,
}

/// Reads a list. If one instance cannot be read, the whole list is refused: half of it would send all traffic to half of the instances.
pub(crate) fn read(config: &Config, text: &str) -> Result<Vec<PublishedEndpoint>, String> {
    let instances: Vec<Instance> = serde_json::from_str(text).map_err(|error| format!("not a list of instances: {error}"))?;
    if instances.len() > MOST_INSTANCES {
        return Err(format!("there are more than {MOST_INSTANCES} instances"));
    }
    let mut found = BTreeMap::new();
    for instance in instances {
        let wrong = |what: String| format!("instance `{}`: {what}", instance.service.id);
        let port = u16::try_from(instance.service.port).ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| wrong(format!("port {} must be between 1 and 65535, inclusive", instance.service.port)))?;
        for ip in addresses(&instance).map_err(wrong)? {
            found.entry((ip, port)).or_insert_with(|| endpoint(config, &instance, ip, port));
        }
    }
    Ok(found.into_values().collect())
}

/// The addresses of an instance. One without an address of its own has its node's.
fn addresses(instance: &Instance) -> Result<Vec<IpAddr>, String> {
    let own = Some(instance.service.address.as_str()).filter(|address| !address.is_empty());
    let address = own.unwrap_or(&instance.node.address);
    if address.is_empty() {
        return Err("it has no address".to_owned());
    }
    resolve(address).map_err(|error| error.to_string())
}

fn endpoint(config: &Config, instance: &Instance, ip: IpAddr, port: u16) -> PublishedEndpoint {
    let has = |status: &str| instance.checks.iter().any(|check| check.status == status);
    // The worst of an instance's checks counts. Maintenance is a critical check.
    let (critical, warning) = (has("critical"), has("warning"));
    let ready = !(critical || warning && config.passing_only);
    let weights = instance.service.weights.as_ref();
    let weight = weights.map_or(1, |weights| if warning { weights.warning } else { weights.passing }).min(LARGEST_WEIGHT);
    let (service, node) = (&instance.service, &instance.node);
    let meta = |of: &Option<BTreeMap<String, String>>, key: &String| of.as_ref()?.get(key).cloned();
    let locality = || service.locality.as_ref().or(node.locality.as_ref()).and_then(|locality| locality.zone.clone());
    let zone = match &config.zone_meta {
        Some(key) => meta(&service.meta, key).or_else(|| meta(&node.meta, key)),
        None => locality(),
    };
    PublishedEndpoint {
        port_name: config.port_name.clone(),
        ready,
        serving: ready,
        weight,
        zone: zone.filter(|zone| !zone.is_empty()),
        node: Some(node.node.clone()).filter(|node| !node.is_empty()),
        labels: service.meta.clone().unwrap_or_default().into_iter().collect(),
        ..PublishedEndpoint::new(ip.to_string(), port)
    }
}
