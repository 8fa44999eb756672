//! DNS records, and the endpoints that they stand for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sluicegate_sdk::PublishedEndpoint;
use sluicegate_sdk::names::{Data, Location, Record};

use crate::{Config, Priorities};

/// The greatest number of targets. Their addresses are asked for together, with two questions for each.
const MOST_TARGETS: usize = 32;

/// A target host of SRV records, with the ports, priorities and weights that the records give it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    locations: Vec<Location>,
}

/// The target hosts of SRV records. There are none if the service is declared to be unavailable, by a single record with the target `.` (RFC 2782).
pub(crate) fn targets(config: &Config, records: Vec<Record>) -> Result<Vec<Target>, String> {
    let mut locations: Vec<Location> = records
        .into_iter()
        .filter_map(|record| match record.data {
            Data::Location(location) => Some(location),
            Data::Address(_) => None,
        })
        .filter(|location| !matches!(location.target.as_str(), "" | ".") && location.port > 0)
        .collect();
    let priorities: BTreeSet<u16> = locations.iter().map(|location| location.priority).collect();
    if config.priorities == Priorities::Lowest {
        locations.retain(|location| Some(&location.priority) == priorities.first());
    }
    let mut by_name: BTreeMap<String, Vec<Location>> = BTreeMap::new();
    for mut location in locations {
        // This is the rank among the priorities that occur.
        location.priority = u16::try_from(priorities.range(..location.priority).count()).unwrap_or(u16::MAX);
        by_name.entry(location.target.to_ascii_lowercase()).or_default().push(location);
    }
    if by_name.len() > MOST_TARGETS {
        return Err(format!("{}: more than {MOST_TARGETS} targets", config.name));
    }
    Ok(by_name.into_iter().map(|(name, locations)| Target { name, locations }).collect())
}

pub(crate) fn addresses(records: Vec<Record>) -> Result<Vec<IpAddr>, String> {
    let mut found = BTreeSet::new();
    for record in records {
        if let Data::Address(address) = record.data {
            found.insert(address.parse().map_err(|_| format!("{address:?} is no address"))?);
        }
    }
    Ok(found.into_iter().collect())
}

/// The endpoints of addresses that all have the same port.
pub(crate) fn plain(config: &Config, port: u16, addresses: Vec<IpAddr>) -> Vec<PublishedEndpoint> {
    let endpoint = |ip: IpAddr| PublishedEndpoint { port_name: config.port_name.clone(), ..PublishedEndpoint::new(ip.to_string(), port) };
    addresses.into_iter().map(endpoint).collect()
}

/// The endpoints of SRV records, given the addresses of each target.
pub(crate) fn located(config: &Config, targets: &[Target], addresses: &[Vec<IpAddr>]) -> Vec<PublishedEndpoint> {
    let weighted = targets.iter().flat_map(|target| &target.locations).any(|location| location.weight > 0);
    let mut found = BTreeMap::new();
    for (target, addresses) in targets.iter().zip(addresses) {
        let share = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        for (location, ip) in target.locations.iter().flat_map(|location| addresses.iter().map(move |ip| (location, *ip))) {
            // RFC 2782: a weight of 0 has a very small chance beside others. The weight is that of the target, which its addresses share.
            let weight = if weighted { (u32::from(location.weight) * 100 / share).max(1) } else { 1 };
            let rank = ("sluicegate.dev/priority".to_owned(), location.priority.to_string());
            found.entry((ip, location.port)).or_insert_with(|| PublishedEndpoint {
                port_name: config.port_name.clone(),
                weight,
                labels: if config.priorities == Priorities::All { vec![rank] } else { Vec::new() },
                ..PublishedEndpoint::new(ip.to_string(), location.port)
            });
        }
    }
    found.into_values().collect()
}
