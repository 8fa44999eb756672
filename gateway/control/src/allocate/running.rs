//! Takes over what a running gateway has allocated, as its admin API tells it, so that a configuration is looked at with the very same node ports and
//! addresses.

use std::net::IpAddr;

use serde_json::Value;
use sluicegate_model::family::IpFamily;

use super::{Allocator, Ranges, State};

impl Allocator {
    /// An allocator that remembers what `/api/v1/services` and `/api/v1/objects/gateways` of a gateway's admin API show, and keeps nothing on disk.
    pub fn of_running(services: &Value, gateways: &Value, ranges: Ranges) -> Self {
        let mut state = State::default();
        let given = |ip: &IpAddr| ranges.load_balancer.iter().any(|range| range.contains(ip));
        for gateway in gateways.as_array().into_iter().flatten() {
            let text = |pointer: &str| gateway.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let ips = |list: &str| -> Vec<IpAddr> {
                let all = gateway.pointer(list).and_then(Value::as_array).into_iter().flatten();
                all.filter_map(|address| address["value"].as_str()?.parse().ok()).collect()
            };
            let named = ips("/spec/addresses");
            if let Some(chosen) = ips("/status/addresses").into_iter().find(|ip| given(ip) && !named.contains(ip)) {
                state.load_balancer.insert(format!("Gateway/{}/{}", text("/metadata/namespace"), text("/metadata/name")), chosen);
            }
        }
        for service in services.as_array().into_iter().flatten() {
            let (Some(namespace), Some(name)) = (service["namespace"].as_str(), service["name"].as_str()) else { continue };
            let id = format!("{namespace}/{name}");
            let addresses = |list: &str| -> Vec<IpAddr> {
                service[list].as_array().into_iter().flatten().filter_map(|ip| ip.as_str()?.parse().ok()).collect()
            };
            // Of the external addresses these may have been allocated.
            let balanced = addresses("externalIPs").into_iter().filter(given);
            let balanced: Vec<IpAddr> = balanced.collect();
            for (ips, primary, secondary) in [
                (addresses("clusterIPs"), &mut state.cluster_ips, &mut state.secondary_cluster_ips),
                (balanced, &mut state.load_balancer, &mut state.secondary_load_balancer),
            ] {
                let mut ips = ips.into_iter();
                let first = ips.next();
                primary.extend(first.map(|ip| (id.clone(), ip)));
                secondary
                    .extend(ips.find(|ip| first.is_some_and(|first| IpFamily::of(first) != IpFamily::of(*ip))).map(|ip| (id.clone(), ip)));
            }
            for port in service["ports"].as_array().into_iter().flatten() {
                let (Some(number), Some(protocol)) = (port["port"].as_u64(), port["protocol"].as_str()) else { continue };
                let key = format!("{id}:{number}/{protocol}");
                if let Some(node_port) = port["nodePort"].as_u64().and_then(|port| u16::try_from(port).ok()) {
                    state.node_ports.insert(key.clone(), node_port);
                }
                if let Some(name) = port["name"].as_str().filter(|name| !name.is_empty()) {
                    state.port_names.insert(key, name.to_owned());
                }
            }
        }
        Self { state, ..Self::in_memory(ranges) }
    }
}
