//! An endpoint as a policy writes it: an object, or only its address. It is read by hand, as errors of serde's untagged enums only say that nothing fits.

use std::collections::HashMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};

/// An endpoint.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(with = "Form")]
pub struct Endpoint {
    /// `ip:port` or `[ip]:port`.
    pub address: String,
    /// 1 when absent, at most 1000000.
    pub weight: Option<u32>,
    /// The zone it is in.
    pub zone: Option<String>,
    /// The node it is on.
    pub node: Option<String>,
    /// The service port it serves; all when absent.
    pub port_name: Option<String>,
    /// Labels, which balancers may look at.
    pub labels: Option<HashMap<String, String>>,
    /// Annotations, for balancers that ask for them.
    pub annotations: Option<HashMap<String, String>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Object {
    /// `ip:port` or `[ip]:port`.
    address: String,
    /// 1 when absent, at most 1000000.
    weight: Option<u32>,
    /// The zone it is in.
    zone: Option<String>,
    /// The node it is on.
    node: Option<String>,
    /// The service port it serves; all when absent.
    port_name: Option<String>,
    /// For balancers.
    labels: Option<HashMap<String, String>>,
    /// For balancers that ask for them.
    annotations: Option<HashMap<String, String>>,
}

/// The two forms of an endpoint, for the schema only.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "the schema is derived from it, no value is made")]
enum Form {
    /// `ip:port` or `[ip]:port`.
    Address(String),
    Object(Object),
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EndpointVisitor)
    }
}

struct EndpointVisitor;

impl<'de> Visitor<'de> for EndpointVisitor {
    type Value = Endpoint;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`ip:port` or an object with an `address`")
    }

    fn visit_str<E: de::Error>(self, address: &str) -> Result<Endpoint, E> {
        Ok(Endpoint { address: address.to_owned(), ..Endpoint::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Endpoint, A::Error> {
        let Object { address, weight, zone, node, port_name, labels, annotations } = Object::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Endpoint { address, weight, zone, node, port_name, labels, annotations })
    }
}
