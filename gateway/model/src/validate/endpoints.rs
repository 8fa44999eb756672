//! Rules of Pods and EndpointSlices: only what would otherwise be an endpoint nobody can connect to.

use std::net::IpAddr;

use crate::fault::Fault;
use crate::object::{Body, Object, error, warning};

pub(super) fn check(object: &Object, faults: &mut Vec<Fault>) {
    let mut address = |path: &str, given: &str, family: Option<&str>| {
        let wrong = match (given.parse::<IpAddr>(), family) {
            (Err(_), None) => "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            (Err(_) | Ok(IpAddr::V6(_)), Some("IPv4")) => "must be an IPv4 address",
            (Err(_) | Ok(IpAddr::V4(_)), Some("IPv6")) => "must be an IPv6 address",
            _ => return,
        };
        faults.push(error(&object.origin, &object.key, path, format!("{path}: Invalid value: {given:?}: {wrong}"), None));
    };
    match &object.body {
        Body::Pod(pod) => {
            let Some(status) = &pod.status else { return };
            if let Some(ip) = status.pod_ip.as_deref().filter(|ip| !ip.is_empty()) {
                address("status.podIP", ip, None);
            }
            for (i, ip) in status.pod_ips.iter().flatten().enumerate() {
                address(&format!("status.podIPs[{i}].ip"), &ip.ip, None);
            }
        }
        Body::EndpointSlice(slice) => {
            if slice.address_type == "FQDN" {
                let message = "addressType: FQDN slices are ignored".to_owned();
                faults.push(warning(&object.origin, &object.key, "addressType", message, Some("IPv4 or IPv6".to_owned())));
                return;
            }
            if !matches!(slice.address_type.as_str(), "IPv4" | "IPv6") {
                let message =
                    format!("addressType: Unsupported value: {:?}: supported values: \"FQDN\", \"IPv4\", \"IPv6\"", slice.address_type);
                faults.push(error(&object.origin, &object.key, "addressType", message, None));
                return;
            }
            for (i, endpoint) in slice.endpoints.iter().flatten().enumerate() {
                for (j, ip) in endpoint.addresses.iter().enumerate() {
                    address(&format!("endpoints[{i}].addresses[{j}]"), ip, Some(&slice.address_type));
                }
            }
        }
        _ => {}
    }
}
