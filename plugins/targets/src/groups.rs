//! Lists of target groups, and the endpoints that they stand for.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;
use serde_json::Value;
use sluicegate_sdk::{PublishedEndpoint, resolve};

/// How a policy says that the endpoints of a list are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading<'c> {
    /// The name of the service port that the endpoints serve. `None`: they serve all ports.
    pub port_name: Option<&'c str>,
    /// The label that holds an endpoint's zone.
    pub zone_label: Option<&'c str>,
    /// The label that holds an endpoint's weight. Endpoints without it have weight 1.
    pub weight_label: Option<&'c str>,
}

/// The longest list. A longer one is refused, as it is more likely a mistake than a service.
const MOST_ENDPOINTS: usize = 10_000;
/// How many names are looked up for one list at most. Each look-up may take seconds.
const MOST_NAMES: usize = 32;
const LARGEST_WEIGHT: u32 = 1_000_000;

#[derive(Deserialize)]
struct Group {
    targets: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// Reads the endpoints of lists, which are given as JSON. They are sorted by their addresses, each once. If one target cannot be read, all are refused: half of
/// a list would send all traffic to half of the endpoints.
///
/// # Errors
/// A target cannot be read. The error says which, and why.
pub fn endpoints(reading: &Reading<'_>, lists: Vec<Value>) -> Result<Vec<PublishedEndpoint>, String> {
    let mut groups: Vec<Group> = Vec::new();
    for list in lists {
        let read: Vec<Group> = serde_json::from_value(list).map_err(|error| format!("not a list of target groups: {error}"))?;
        groups.extend(read);
    }
    if groups.iter().map(|group| group.targets.len()).sum::<usize>() > MOST_ENDPOINTS {
        return Err(format!("there are more than {MOST_ENDPOINTS} targets"));
    }
    let mut names = BTreeMap::new();
    // Endpoints are in the order of their addresses, each once, so that lists of the same endpoints are equal.
    let mut found = BTreeMap::new();
    for group in &groups {
        let weight = weight(reading, &group.labels)?;
        for target in &group.targets {
            for (ip, port) in addresses(target, &mut names)? {
                found.entry((ip, port)).or_insert_with(|| PublishedEndpoint {
                    port_name: reading.port_name.map(str::to_owned),
                    weight,
                    zone: reading.zone_label.and_then(|label| group.labels.get(label)).cloned(),
                    labels: group.labels.clone().into_iter().collect(),
                    ..PublishedEndpoint::new(ip.to_string(), port)
                });
            }
        }
    }
    if found.len() > MOST_ENDPOINTS {
        return Err(format!("the targets have more than {MOST_ENDPOINTS} addresses"));
    }
    Ok(found.into_values().collect())
}

fn weight(reading: &Reading<'_>, labels: &BTreeMap<String, String>) -> Result<u32, String> {
    let Some((label, value)) = reading.weight_label.and_then(|label| Some((label, labels.get(label)?))) else { return Ok(1) };
    let weight = value.parse().ok().filter(|weight| *weight <= LARGEST_WEIGHT);
    weight.ok_or_else(|| format!("label {label}: `{value}` must be between 0 and {LARGEST_WEIGHT}, inclusive"))
}

fn addresses(target: &str, names: &mut BTreeMap<String, Vec<IpAddr>>) -> Result<Vec<(IpAddr, u16)>, String> {
    if let Ok(address) = target.parse::<SocketAddr>() {
        return if address.ip().is_unspecified() || address.port() == 0 {
            Err(format!("target `{target}` must name one address and a port from 1 to 65535"))
        } else {
            Ok(vec![(address.ip(), address.port())])
        };
    }
    let split = target.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains(':'));
    let host_port = split.and_then(|(host, port)| Some((host, port.parse::<u16>().ok().filter(|port| *port > 0)?)));
    let (host, port) = host_port.ok_or_else(|| format!("target `{target}` must be a host and a port, such as 10.0.0.1:9100"))?;
    if !names.contains_key(host) {
        if names.len() == MOST_NAMES {
            return Err(format!("there are more than {MOST_NAMES} names to look up"));
        }
        names.insert(host.to_owned(), resolve(host).map_err(|error| format!("target `{target}`: {error}"))?);
    }
    Ok(names[host].iter().map(|ip| (*ip, port)).collect())
}
