//! Values with a notation of their own: time spans, sizes, ranges, networks.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use sluicegate_model::duration;

/// A range of ports, `30000-32767`.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct PortRange(pub RangeInclusive<u16>);

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once('-').ok_or_else(|| format!("{text:?} is not a range such as \"30000-32767\""))?;
        let port = |text: &str| text.parse::<u16>().ok().filter(|p| *p > 0).ok_or_else(|| format!("{text:?} is not a port"));
        let (from, to) = (port(from)?, port(to)?);
        if from > to { Err(format!("{from} is above {to}")) } else { Ok(Self(from..=to)) }
    }
}

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where cluster IPs come from: a CIDR, or one of each IP family with a comma between them, the default family's first, as kube-apiserver's
/// `--service-cluster-ip-range` has it.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct ClusterIpRanges(pub Vec<IpNet>);

impl FromStr for ClusterIpRanges {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let cidr = |text: &str| text.trim().parse::<IpNet>().map_err(|_| format!("{text:?} is not a CIDR such as \"127.96.0.0/16\""));
        let ranges = text.split(',').map(cidr).collect::<Result<Vec<_>, _>>()?;
        match ranges.as_slice() {
            [_] => Ok(Self(ranges)),
            [first, second] if first.addr().is_ipv4() != second.addr().is_ipv4() => Ok(Self(ranges)),
            _ => Err(format!("{text:?} has more than one range of an IP family")),
        }
    }
}

impl<'de> Deserialize<'de> for ClusterIpRanges {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An address, or a CIDR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(pub IpNet);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(Self).map_err(|_| format!("{text:?} is neither an IP address nor a CIDR"))
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A public key as minisign writes it: in base64, `Ed`, the key's number, and an Ed25519 key.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct MinisignKey(String);

impl MinisignKey {
    /// The key, in base64.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MinisignKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let key = base64::engine::general_purpose::STANDARD.decode(text).ok();
        match key {
            Some(key) if key.len() == 42 && key.starts_with(b"Ed") => Ok(Self(text.to_owned())),
            _ => Err(format!("{text:?} is not a public key of minisign: the line of 56 characters in its .pub file")),
        }
    }
}

impl<'de> Deserialize<'de> for MinisignKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A time span, in Go's notation: `20ms`, `1m30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        duration::parse(&text)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not a duration such as \"20ms\", \"5s\" or \"1m30s\"")))
    }
}

/// A size in bytes, a Kubernetes quantity: `64Mi`, `1G`, `1048576`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Bytes(pub usize);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = match serde_json::Value::deserialize(from)? {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        parse_bytes(&text).map(Self).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not a size such as \"64Mi\"")))
    }
}

fn parse_bytes(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: usize = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("64Mi"), Some(64 << 20));
        assert_eq!(parse_bytes("64Q"), None);
    }
}
