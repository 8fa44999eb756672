//! Discovery `static`: the endpoints that the policy lists. They are always ready; the host checks their health.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_sdk::{Discovery, Objects, PublishedEndpoint, Service};

mod endpoint;

pub use endpoint::Endpoint;

/// The longest list. A longer one is better kept in EndpointSlices.
const MOST_ENDPOINTS: usize = 10_000;
const LARGEST_WEIGHT: u32 = 1_000_000;

/// The configuration of `static`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The endpoints, in any order.
    pub endpoints: Vec<Endpoint>,
}

/// The endpoints of one service.
#[derive(Debug)]
pub struct Static(Vec<PublishedEndpoint>);

impl Discovery for Static {
    type Config = Config;

    fn open(service: &Service, config: Config) -> Result<Self, String> {
        if config.endpoints.len() > MOST_ENDPOINTS {
            return Err(format!("endpoints: must have at most {MOST_ENDPOINTS} items"));
        }
        let mut published = Vec::with_capacity(config.endpoints.len());
        let mut faults = Vec::new();
        for (i, endpoint) in config.endpoints.iter().enumerate() {
            match check(service, endpoint) {
                Ok(endpoint) => published.push(endpoint),
                Err(fault) => faults.push(format!("endpoints[{i}].{fault}")),
            }
        }
        if faults.is_empty() { Ok(Self(published)) } else { Err(faults.join("\n")) }
    }

    fn endpoints(&mut self, _: &Service, _: &Objects) -> Result<Vec<PublishedEndpoint>, String> {
        Ok(self.0.clone())
    }
}

/// Checks an endpoint. The error is its first fault, with the field.
fn check(service: &Service, endpoint: &Endpoint) -> Result<PublishedEndpoint, String> {
    let Endpoint { address, weight, zone, node, port_name, labels, annotations } = endpoint;
    let socket: SocketAddr = address
        .parse()
        .map_err(|_| format!("address: `{address}` must be an IP address and a port, such as 127.0.0.1:9001 or [::1]:9001"))?;
    if socket.ip().is_unspecified() {
        return Err(format!("address: `{address}` must name one address"));
    }
    if socket.port() == 0 {
        return Err(format!("address: the port of `{address}` must be between 1 and 65535, inclusive"));
    }
    let weight = weight.unwrap_or(1);
    if weight > LARGEST_WEIGHT {
        return Err(format!("weight: {weight} must be between 0 and {LARGEST_WEIGHT}, inclusive"));
    }
    if let Some(name) = port_name
        && !has_port(service, name)
    {
        return Err(format!("portName: the service has no port named `{name}`"));
    }
    Ok(PublishedEndpoint {
        port_name: port_name.clone(),
        weight,
        zone: zone.clone(),
        node: node.clone(),
        labels: sorted(labels.as_ref()),
        annotations: sorted(annotations.as_ref()),
        ..PublishedEndpoint::new(socket.ip().to_string(), socket.port())
    })
}

fn sorted(pairs: Option<&HashMap<String, String>>) -> Vec<(String, String)> {
    let pairs: BTreeMap<&String, &String> = pairs.into_iter().flatten().collect();
    pairs.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Whether the service has a port of this name. A port without a name has the empty one.
fn has_port(service: &Service, name: &str) -> bool {
    let ports = service.object.pointer("/spec/ports").and_then(|ports| ports.as_array());
    ports.into_iter().flatten().any(|port| port.get("name").and_then(|name| name.as_str()).unwrap_or("") == name)
}

sluicegate_sdk::export_discovery!(Static);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn endpoints(config: Value) -> Result<Vec<PublishedEndpoint>, String> {
        let object = json!({"spec": {"ports": [{"name": "web", "port": 80}, {"name": "admin", "port": 81}]}});
        let service = Service { namespace: "shop".into(), name: "cart".into(), object };
        let config: Config = serde_json::from_value(config).map_err(|error| error.to_string())?;
        Static::open(&service, config)?.endpoints(&service, &Objects::default())
    }

    fn fault(endpoint: Value) -> String {
        endpoints(json!({"endpoints": ["127.0.0.1:9001", endpoint]})).unwrap_err()
    }

    #[test]
    fn an_endpoint_is_an_address_or_more() {
        let found = endpoints(json!({"endpoints": [
            "127.0.0.1:9001",
            {"address": "[::1]:9002", "weight": 5, "zone": "a", "node": "n1", "portName": "web", "labels": {"v": "2", "app": "x"}},
        ]}));
        let second = PublishedEndpoint {
            weight: 5,
            zone: Some("a".into()),
            node: Some("n1".into()),
            port_name: Some("web".into()),
            labels: vec![("app".into(), "x".into()), ("v".into(), "2".into())],
            ..PublishedEndpoint::new("::1", 9002)
        };
        assert_eq!(found, Ok(vec![PublishedEndpoint::new("127.0.0.1", 9001), second]));
    }

    #[test]
    fn no_configuration_is_no_endpoints() {
        assert_eq!(endpoints(json!({})), Ok(vec![]));
    }

    #[test]
    fn faults_say_where() {
        for address in ["localhost:80", "127.0.0.1", "127.0.0.1:70000", "::1:80", ""] {
            assert_eq!(
                fault(json!(address)),
                format!("endpoints[1].address: `{address}` must be an IP address and a port, such as 127.0.0.1:9001 or [::1]:9001")
            );
        }
        assert_eq!(fault(json!("0.0.0.0:80")), "endpoints[1].address: `0.0.0.0:80` must name one address");
        assert!(fault(json!("127.0.0.1:0")).starts_with("endpoints[1].address: the port of"));
        assert!(fault(json!({"address": "127.0.0.1:1", "weight": 1_000_001})).starts_with("endpoints[1].weight: 1000001"));
        assert_eq!(
            fault(json!({"address": "127.0.0.1:1", "portName": "wbe"})),
            "endpoints[1].portName: the service has no port named `wbe`"
        );
    }

    #[test]
    fn all_faults_are_shown() {
        let error = endpoints(json!({"endpoints": ["a", "b"]})).unwrap_err();
        assert_eq!(error.lines().count(), 2);
    }

    #[test]
    fn unknown_fields_are_named() {
        let error = fault(json!({"address": "127.0.0.1:1", "wieght": 1}));
        assert!(error.contains("unknown field `wieght`"), "{error}");
        assert!(fault(json!(7)).contains("expected `ip:port`"), "{}", fault(json!(7)));
    }

    #[test]
    fn the_schema_allows_both_forms() {
        let schema = serde_json::to_string(&schemars::schema_for!(Config)).unwrap();
        assert!(schema.contains(r#""type":"string""#) && schema.contains("portName"), "{schema}");
    }
}
