//! The fields of a Service that determine its endpoints: selector, ports, IP families.

use std::net::IpAddr;

use serde_json::{Map, Value};

/// The `spec` of a Service.
#[derive(Debug)]
pub(crate) struct Spec {
    /// Whether the type is `ExternalName`. Then there are no endpoints, whatever the selector.
    pub(crate) external: bool,
    /// The labels of the Service's Pods. Without any, no Pod is selected.
    selector: Option<Map<String, Value>>,
    /// The ports of TCP and UDP.
    pub(crate) ports: Vec<Port>,
    /// The IP families, the primary one first.
    pub(crate) families: Vec<Family>,
    pub(crate) publish_not_ready: bool,
}

/// A service port.
#[derive(Debug)]
pub(crate) struct Port {
    /// The name of the port. It is empty for a single port without a name.
    pub(crate) name: String,
    /// The protocol, which is `TCP` or `UDP`.
    pub(crate) protocol: String,
    pub(crate) target: Target,
}

/// The port of a pod that a service port leads to.
#[derive(Debug)]
pub(crate) enum Target {
    Number(u16),
    /// The container port with this name.
    Name(String),
}

/// An IP family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(address: &IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The IP family of this name. Other names, such as `FQDN`, are none.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "IPv4" => Some(Self::V4),
            "IPv6" => Some(Self::V6),
            _ => None,
        }
    }
}

impl Spec {
    /// Reads a Service. The error says which field cannot be used.
    pub(crate) fn read(service: &Value) -> Result<Self, String> {
        let spec = &service["spec"];
        let mut ports = Vec::new();
        for (i, port) in items(&spec["ports"]).enumerate() {
            ports.extend(Port::read(port).map_err(|error| format!("spec.ports[{i}].{error}"))?);
        }
        let mut families: Vec<Family> = items(&spec["ipFamilies"]).filter_map(|name| Family::named(name.as_str()?)).collect();
        if families.is_empty() {
            families.push(Family::V4);
        }
        Ok(Self {
            external: spec["type"] == "ExternalName",
            selector: spec["selector"].as_object().cloned(),
            ports,
            families,
            publish_not_ready: spec["publishNotReadyAddresses"] == true,
        })
    }

    /// The labels that a pod must have. `None`: no pod is selected.
    pub(crate) fn selector(&self) -> Option<Vec<(&str, &str)>> {
        // An empty selector selects nothing: Kubernetes' controllers treat it as absent.
        let selector = self.selector.as_ref().filter(|selector| !selector.is_empty())?;
        selector.iter().map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect()
    }

    /// Whether the pod has all labels of the selector. Callers compare the namespace.
    pub(crate) fn selects(&self, pod: &Value) -> bool {
        let labels = &pod["metadata"]["labels"];
        self.selector().is_some_and(|selector| selector.iter().all(|(key, value)| labels[*key] == **value))
    }
}

impl Port {
    /// Reads a port. `None`: its protocol is not forwarded.
    fn read(port: &Value) -> Result<Option<Self>, String> {
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        if !matches!(protocol, "TCP" | "UDP") {
            return Ok(None);
        }
        let number = number(&port["port"]).ok_or("port: must be between 1 and 65535, inclusive")?;
        let target = match &port["targetPort"] {
            Value::Null => Target::Number(number),
            Value::String(name) if name.is_empty() => Target::Number(number),
            Value::String(name) => Target::Name(name.clone()),
            // A Go client sends 0 for a target that is not set.
            Value::Number(target) if target.as_u64() == Some(0) => Target::Number(number),
            target => Target::Number(self::number(target).ok_or("targetPort: must be a name, or between 1 and 65535, inclusive")?),
        };
        let name = port["name"].as_str().unwrap_or("").to_owned();
        Ok(Some(Self { name, protocol: protocol.to_owned(), target }))
    }
}

/// The number of a port, if it is one from 1 to 65535.
pub(crate) fn number(value: &Value) -> Option<u16> {
    u16::try_from(value.as_u64()?).ok().filter(|number| *number != 0)
}

/// The items of a list. There are none if the list is absent.
pub(crate) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_bad_port_is_named() {
        let error = |port: Value| Spec::read(&json!({"spec": {"ports": [{"port": 80}, port]}})).unwrap_err();
        assert_eq!(error(json!({})), "spec.ports[1].port: must be between 1 and 65535, inclusive");
        assert_eq!(error(json!({"port": 0})), "spec.ports[1].port: must be between 1 and 65535, inclusive");
        assert_eq!(
            error(json!({"port": 1, "targetPort": 65536})),
            "spec.ports[1].targetPort: must be a name, or between 1 and 65535, inclusive"
        );
    }

    #[test]
    fn sctp_is_not_forwarded() {
        let spec = Spec::read(&json!({"spec": {"ports": [{"port": 80, "protocol": "SCTP"}, {"port": 53, "protocol": "UDP"}]}}));
        assert_eq!(spec.unwrap().ports.iter().map(|port| port.protocol.as_str()).collect::<Vec<_>>(), ["UDP"]);
    }

    #[test]
    fn no_selector_and_an_empty_one_select_nothing() {
        let pod = json!({"metadata": {"labels": {"app": "a"}}});
        for selector in [Value::Null, json!({})] {
            assert!(!Spec::read(&json!({"spec": {"selector": selector}})).unwrap().selects(&pod));
        }
    }
}
