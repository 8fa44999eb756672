//! An API server's message for a document that does not fit its type: it is that of Go's `encoding/json`, which names Go's structs and types.

use serde_json::Value;

use super::misfit::Wanted;

/// The API server's message for a value of the wrong type; none where it is not known.
pub(super) fn cannot_unmarshal(api: &str, kind: &str, root: &Value, path: &str, wanted: Wanted) -> Option<String> {
    let value = find(root, path)?;
    let way = fields(kind, path);
    let (field, parents) = way.split_last()?;
    let version = api.rsplit('/').next().unwrap_or(api);
    let head = format!("{kind} in version {version:?} cannot be handled as a {kind}: json: cannot unmarshal");
    if *field == "targetPort" {
        let what = if value.is_number() { format!("number {value}") } else { word(value).to_owned() };
        return Some(format!("{head} {what} into Go value of type int32"));
    }
    let parent = parents.join(".");
    let holder = struct_of(kind, &parent)?;
    let whole = way.join(".");
    let target = go_type(kind, &whole, path.ends_with(']'), wanted)?;
    let what = match value {
        Value::Number(n) if target.starts_with("int") => format!("number {n}"),
        value => word(value).to_owned(),
    };
    Some(format!("{head} {what} into Go struct field {holder}.{whole} of type {target}"))
}

/// The API server's message for a field that a type does not have.
pub(super) fn unknown_field(api: &str, kind: &str, path: &str) -> String {
    let version = api.rsplit('/').next().unwrap_or(api);
    format!("{kind} in version {version:?} cannot be handled as a {kind}: strict decoding error: unknown field {path:?}")
}

fn word(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The value at a path such as `spec.ports[0].port` or `metadata.labels.a.b`. The last part is one key, even if it has dots.
fn find<'v>(root: &'v Value, path: &str) -> Option<&'v Value> {
    let mut value = root;
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let (index, after) = inner.split_once(']')?;
            value = value.get(index.parse::<usize>().ok()?)?;
            rest = after.trim_start_matches('.');
            continue;
        }
        if let Some(found) = value.get(rest) {
            return Some(found);
        }
        let end = rest.find(['.', '['])?;
        value = value.get(&rest[..end])?;
        rest = rest[end..].trim_start_matches('.');
    }
    Some(value)
}

/// The fields on a path that belong to structs: it has no indices and no keys of maps.
fn fields<'p>(kind: &str, path: &'p str) -> Vec<&'p str> {
    let mut fields = Vec::new();
    for part in path.split('.') {
        let name = part.split('[').next().unwrap_or(part);
        if !name.is_empty() {
            fields.push(name);
        }
        let map = match name {
            "labels" | "annotations" => fields.first() == Some(&"metadata"),
            "selector" => kind == "Service",
            "deprecatedTopology" => kind == "EndpointSlice",
            "data" | "stringData" | "binaryData" => matches!(kind, "Secret" | "ConfigMap"),
            _ => false,
        };
        if map {
            break;
        }
    }
    fields
}

/// The name of Go's struct at a path of fields.
fn struct_of(kind: &str, path: &str) -> Option<&'static str> {
    Some(match (kind, path) {
        ("Service", "") => "Service",
        ("EndpointSlice", "") => "EndpointSlice",
        ("Secret", "") => "Secret",
        ("ConfigMap", "") => "ConfigMap",
        (_, "metadata") => "ObjectMeta",
        (_, "metadata.ownerReferences") => "OwnerReference",
        (_, "metadata.managedFields") => "ManagedFieldsEntry",
        ("Service", "spec") => "ServiceSpec",
        ("Service", "spec.ports") => "ServicePort",
        ("Service", "spec.sessionAffinityConfig") => "SessionAffinityConfig",
        ("Service", "spec.sessionAffinityConfig.clientIP") => "ClientIPConfig",
        ("Service", "status") => "ServiceStatus",
        ("Service", "status.loadBalancer") => "LoadBalancerStatus",
        ("Service", "status.loadBalancer.ingress") => "LoadBalancerIngress",
        ("EndpointSlice", "endpoints") => "Endpoint",
        ("EndpointSlice", "endpoints.conditions") => "EndpointConditions",
        ("EndpointSlice", "endpoints.hints") => "EndpointHints",
        ("EndpointSlice", "endpoints.hints.forZones") => "ForZone",
        ("EndpointSlice", "endpoints.hints.forNodes") => "ForNode",
        ("EndpointSlice", "endpoints.targetRef") => "ObjectReference",
        ("EndpointSlice", "ports") => "EndpointPort",
        _ => return None,
    })
}

/// The name of Go's type of a field. `element`: the field is a list, and one of its elements is wrong.
fn go_type(kind: &str, path: &str, element: bool, wanted: Wanted) -> Option<String> {
    let named = match (kind, path) {
        (_, "metadata") => "v1.ObjectMeta",
        (_, "metadata.labels" | "metadata.annotations")
        | ("Service", "spec.selector")
        | ("EndpointSlice", "endpoints.deprecatedTopology") => {
            // If one of its values is wrong, a string is wanted.
            if wanted == Wanted::Map { "map[string]string" } else { "string" }
        }
        ("Secret", "stringData") | ("ConfigMap", "data") => {
            if wanted == Wanted::Map {
                "map[string]string"
            } else {
                "string"
            }
        }
        ("Secret", "data") | ("ConfigMap", "binaryData") => {
            if wanted == Wanted::Map {
                "map[string][]uint8"
            } else {
                "[]uint8"
            }
        }
        (_, "metadata.finalizers")
        | ("Service", "spec.clusterIPs" | "spec.externalIPs" | "spec.loadBalancerSourceRanges")
        | ("EndpointSlice", "endpoints.addresses") => "[]string",
        (_, "metadata.ownerReferences") => "[]v1.OwnerReference",
        (_, "metadata.managedFields") => "[]v1.ManagedFieldsEntry",
        (_, "metadata.uid") => "types.UID",
        ("Service", "spec") => "v1.ServiceSpec",
        ("Service", "spec.ports") => "[]v1.ServicePort",
        ("Service", "spec.ports.protocol") | ("EndpointSlice", "ports.protocol") => "v1.Protocol",
        ("Service", "spec.type") => "v1.ServiceType",
        ("Service", "spec.sessionAffinity") => "v1.ServiceAffinity",
        ("Service", "spec.sessionAffinityConfig") => "v1.SessionAffinityConfig",
        ("Service", "spec.sessionAffinityConfig.clientIP") => "v1.ClientIPConfig",
        ("Service", "spec.externalTrafficPolicy") => "v1.ServiceExternalTrafficPolicy",
        ("Service", "spec.internalTrafficPolicy") => "v1.ServiceInternalTrafficPolicy",
        ("Service", "spec.ipFamilies") => "[]v1.IPFamily",
        ("Service", "spec.ipFamilyPolicy") => "v1.IPFamilyPolicy",
        ("Service", "status") => "v1.ServiceStatus",
        ("EndpointSlice", "addressType") => "v1.AddressType",
        ("EndpointSlice", "endpoints") => "[]v1.Endpoint",
        ("EndpointSlice", "endpoints.conditions") => "v1.EndpointConditions",
        ("EndpointSlice", "endpoints.hints") => "v1.EndpointHints",
        ("EndpointSlice", "endpoints.hints.forZones") => "[]v1.ForZone",
        ("EndpointSlice", "endpoints.targetRef") => "v1.ObjectReference",
        ("EndpointSlice", "ports") => "[]v1.EndpointPort",
        _ => match wanted {
            Wanted::String => "string",
            Wanted::Int32 => "int32",
            Wanted::Int64 => "int64",
            Wanted::Bool => "bool",
            Wanted::Map | Wanted::Other => return None,
        },
    };
    Some(if element { named.strip_prefix("[]").unwrap_or(named) } else { named }.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_api_servers_words() {
        let service = json!({
            "metadata": {"labels": {"a.b/c": true}, "name": 1},
            "spec": {"ports": [{"port": "80", "protocol": 1, "targetPort": true}], "externalIPs": [true], "selector": {"app": true}, "type": []},
        });
        let said = |path: &str, wanted: Wanted| {
            let whole = cannot_unmarshal("v1", "Service", &service, path, wanted).expect("words");
            whole
                .strip_prefix("Service in version \"v1\" cannot be handled as a Service: json: cannot unmarshal ")
                .expect("the head")
                .to_owned()
        };
        let string = Wanted::String;
        assert_eq!(said("metadata.labels.a.b/c", string), "bool into Go struct field ObjectMeta.metadata.labels of type string");
        assert_eq!(said("spec.selector.app", string), "bool into Go struct field ServiceSpec.spec.selector of type string");
        assert_eq!(said("spec.externalIPs[0]", string), "bool into Go struct field ServiceSpec.spec.externalIPs of type string");
        assert_eq!(said("spec.type", string), "array into Go struct field ServiceSpec.spec.type of type v1.ServiceType");
        assert_eq!(
            said("spec.ports[0].protocol", string),
            "number into Go struct field ServicePort.spec.ports.protocol of type v1.Protocol"
        );
        assert_eq!(said("spec.ports[0].port", Wanted::Int32), "string into Go struct field ServicePort.spec.ports.port of type int32");
        assert_eq!(said("spec.ports[0].targetPort", Wanted::Other), "bool into Go value of type int32");
        assert_eq!(said("metadata.name", string), "number into Go struct field ObjectMeta.metadata.name of type string");
    }
}
