//! Rules of Pods: only what would otherwise be an endpoint nobody can connect to. Of slices, that those with names are ignored.

use std::net::IpAddr;

use sluicegate_model::fault::Fault;

use crate::object::{Body, Object, error, warning};

pub(super) fn check(object: &Object, faults: &mut Vec<Fault>) {
    let mut address = |path: &str, given: &str| {
        if given.parse::<IpAddr>().is_err() {
            let wrong = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            faults.push(error(&object.origin, &object.key, path, format!("{path}: Invalid value: {given:?}: {wrong}"), None));
        }
    };
    match &object.body {
        Body::Pod(pod) => {
            let Some(status) = &pod.status else { return };
            if let Some(ip) = status.pod_ip.as_deref().filter(|ip| !ip.is_empty()) {
                address("status.podIP", ip);
            }
            for (i, ip) in status.pod_ips.iter().flatten().enumerate() {
                address(&format!("status.podIPs[{i}].ip"), &ip.ip);
            }
        }
        Body::EndpointSlice(slice) if slice.address_type == "FQDN" => {
            let message = "addressType: FQDN slices are ignored".to_owned();
            faults.push(warning(&object.origin, &object.key, "addressType", message, Some("IPv4 or IPv6".to_owned())));
        }
        _ => {}
    }
}
