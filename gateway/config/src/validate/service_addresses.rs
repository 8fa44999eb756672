//! Rules of a Service's addresses and families (`ValidateServiceClusterIPsRelatedFields`, `initIPFamilyFields`).

use std::net::IpAddr;

use k8s_openapi::api::core::v1::ServiceSpec;

use super::field::{Fields, json, quoted};
use super::names;
use super::service::is_headless;

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];

/// Of a Service that is no ExternalName.
pub(super) fn cluster_ips(spec: &ServiceSpec, fields: &mut Fields<'_>) {
    let ips = spec.cluster_ips.as_deref().unwrap_or_default();
    match (spec.cluster_ip.as_deref(), ips.first()) {
        (Some(ip), Some(first)) if ip != first => fields.invalid("spec.clusterIPs", json(&ips), "first value must match `clusterIP`"),
        (None, Some(_)) => fields.invalid("spec.clusterIPs", json(&ips), "must be empty when `clusterIP` is not specified"),
        _ => {}
    }
    let families = spec.ip_families.as_deref().unwrap_or_default();
    for (i, family) in families.iter().enumerate() {
        let path = format!("spec.ipFamilies[{i}]");
        if !FAMILIES.contains(&family.as_str()) {
            fields.unsupported(&path, family, &FAMILIES);
        }
        if families[..i].contains(family) {
            fields.duplicate(&path, quoted(family));
        }
    }
    if let Some(policy) = spec.ip_family_policy.as_deref().filter(|policy| !POLICIES.contains(policy)) {
        fields.unsupported("spec.ipFamilyPolicy", policy, &POLICIES);
    }
    let Some(parsed) = addresses(ips, fields) else { return };
    let v6 = |ip: &IpAddr| ip.is_ipv6();
    if parsed.len() > 1 && (parsed.len() > 2 || v6(&parsed[0]) == v6(&parsed[1])) {
        fields.invalid("spec.clusterIPs", json(&ips), "may specify no more than one IP for each IP family");
    }
    for (i, (ip, family)) in parsed.iter().zip(families).enumerate() {
        if FAMILIES.contains(&family.as_str()) && v6(ip) != (family == "IPv6") {
            let rule = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
            fields.invalid(&format!("spec.clusterIPs[{i}]"), quoted(&ips[i]), &rule);
        }
    }
    single_stack(spec, parsed.len(), families.len(), fields);
}

/// The addresses, or none if one of them is wrong, or if the Service is headless.
fn addresses(ips: &[String], fields: &mut Fields<'_>) -> Option<Vec<IpAddr>> {
    let mut parsed = Vec::new();
    let mut wrong = false;
    for (i, ip) in ips.iter().enumerate() {
        if i == 0 && ip == "None" {
            if ips.len() > 1 {
                wrong = true;
                fields.invalid("spec.clusterIPs", json(&ips), "'None' must be the first and only value");
            }
            continue;
        }
        match names::address(ip) {
            Ok(ip) => parsed.push(ip),
            Err(what) => {
                wrong = true;
                fields.invalid(&format!("spec.clusterIPs[{i}]"), quoted(ip), what);
            }
        }
    }
    if ips.len() > 2 {
        fields.invalid("spec.clusterIPs", json(&ips), "may only hold up to 2 values");
    }
    (!wrong).then_some(parsed)
}

/// One family is the default, but for a headless Service without a selector.
fn single_stack(spec: &ServiceSpec, ips: usize, families: usize, fields: &mut Fields<'_>) {
    let selectorless = is_headless(spec) && spec.selector.as_ref().is_none_or(|selector| selector.is_empty());
    let policy = spec.ip_family_policy.as_deref().unwrap_or(if selectorless { "RequireDualStack" } else { "SingleStack" });
    if policy != "SingleStack" {
        return;
    }
    for (count, what) in [(ips, "cluster IPs"), (families, "IP families")] {
        if count == 2 {
            let rule = format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
            fields.invalid("spec.ipFamilyPolicy", quoted(policy), &rule);
        }
    }
}

/// Loopback addresses pass, which an API server refuses: a gateway by itself may have no others.
pub(super) fn external_ips(spec: &ServiceSpec, fields: &mut Fields<'_>) {
    for (i, text) in spec.external_ips.iter().flatten().enumerate() {
        let path = format!("spec.externalIPs[{i}]");
        match names::address(text) {
            Err(what) => fields.invalid(&path, quoted(text), what),
            Ok(ip) if ip.is_loopback() => {}
            Ok(ip) => fields.invalid_text(&path, text, names::special(ip, text)),
        }
    }
}
