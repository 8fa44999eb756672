//! The IP families of a Service (KEP-563).

use k8s_openapi::api::core::v1::ServiceSpec;
use sluicegate_model::family::IpFamily;

/// The families of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFamilies {
    /// The families, one or two of them, the primary one first.
    list: Vec<IpFamily>,
    /// Whether the Service itself says so, by `ipFamilies` or `ipFamilyPolicy`. One that says nothing is of the default family, and its node
    /// ports and external addresses take clients of both.
    declared: bool,
}

impl Default for ServiceFamilies {
    /// The families of a Service that says nothing, where IPv4 is the default.
    fn default() -> Self {
        Self { list: vec![IpFamily::V4], declared: false }
    }
}

/// A field that asks for a family of which there are no cluster IPs, and the API server's message for it.
pub type Unconfigured = (String, String);

impl ServiceFamilies {
    /// Fills in what the API server fills in. `configured`: the families there are cluster IPs of, the default one first; not empty.
    ///
    /// A family without cluster IPs is among a Service's if it names it, so that its other addresses are served; each is told besides.
    pub fn resolve(spec: &ServiceSpec, configured: &[IpFamily]) -> (Self, Vec<Unconfigured>) {
        let default = configured.first().copied().unwrap_or(IpFamily::V4);
        let mut unconfigured = Vec::new();
        if spec.type_.as_deref() == Some("ExternalName") {
            return (Self { list: vec![default], declared: false }, unconfigured);
        }
        let policy = spec.ip_family_policy.as_deref();
        let mut list: Vec<IpFamily> = spec.ip_families.iter().flatten().filter_map(|name| IpFamily::named(name)).collect();
        let declared = !list.is_empty() || policy.is_some();
        if list.is_empty() {
            let given = spec.cluster_ips.iter().flatten().chain(spec.cluster_ip.iter().filter(|_| spec.cluster_ips.is_none()));
            list = given.filter_map(|ip| ip.parse().ok().map(IpFamily::of)).collect();
        }
        list.dedup();
        // For a headless Service without a selector its author writes the EndpointSlices, and knows of which families they are.
        let judged = spec.cluster_ip.as_deref() != Some("None") || spec.selector.as_ref().is_some_and(|selector| !selector.is_empty());
        if judged && policy == Some("RequireDualStack") && configured.len() < 2 {
            let what = "Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services";
            unconfigured.push(("spec.ipFamilyPolicy".to_owned(), what.to_owned()));
        }
        for (i, family) in list.iter().enumerate().filter(|(_, family)| judged && declared && !configured.contains(family)) {
            let what = format!("Invalid value: \"{family}\": not configured on this cluster");
            unconfigured.push((format!("spec.ipFamilies[{i}]"), what));
        }
        if list.is_empty() {
            list.push(default);
        }
        match policy {
            Some("SingleStack") => list.truncate(1),
            Some("PreferDualStack" | "RequireDualStack") if list.len() == 1 && configured.contains(&list[0].other()) => {
                list.push(list[0].other());
            }
            _ => list.truncate(2),
        }
        (Self { list, declared }, unconfigured)
    }

    /// The families, one or two of them, the primary one first.
    pub fn list(&self) -> &[IpFamily] {
        &self.list
    }

    /// The primary family.
    pub fn primary(&self) -> IpFamily {
        self.list.first().copied().unwrap_or(IpFamily::V4)
    }

    /// The secondary family of a dual-stack Service.
    pub fn secondary(&self) -> Option<IpFamily> {
        self.list.get(1).copied()
    }

    /// Whether its node ports and external addresses may be of this family.
    pub fn takes(&self, family: IpFamily) -> bool {
        !self.declared || self.list.contains(&family)
    }

    /// The one family of which its endpoints are, for traffic to an address of its primary family; none: they are of any family that discovery finds.
    pub fn endpoints(&self) -> Option<IpFamily> {
        self.declared.then(|| self.primary())
    }

    /// The names of the IP families, as `ipFamilies` has them.
    pub fn names(&self) -> Vec<&'static str> {
        self.list.iter().map(|family| family.name()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(spec: serde_json::Value, configured: &[IpFamily]) -> (Vec<&'static str>, Vec<String>) {
        let spec: ServiceSpec = serde_json::from_value(spec).expect("a spec");
        let (families, unconfigured) = ServiceFamilies::resolve(&spec, configured);
        (families.names(), unconfigured.into_iter().map(|(path, what)| format!("{path}: {what}")).collect())
    }

    #[test]
    fn what_is_left_out_is_filled_in_as_the_api_server_does() {
        use serde_json::json;
        let dual = IpFamily::BOTH;
        for (spec, wanted) in [
            (json!({}), vec!["IPv4"]),
            (json!({"ipFamilyPolicy": "SingleStack"}), vec!["IPv4"]),
            (json!({"ipFamilyPolicy": "PreferDualStack"}), vec!["IPv4", "IPv6"]),
            (json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]}), vec!["IPv6", "IPv4"]),
            (json!({"ipFamilies": ["IPv6"]}), vec!["IPv6"]),
            (json!({"clusterIP": "fd00::1"}), vec!["IPv6"]),
            (
                json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1", "127.96.0.1"], "ipFamilyPolicy": "PreferDualStack"}),
                vec!["IPv6", "IPv4"],
            ),
            (json!({"clusterIP": "None", "selector": {"a": "b"}, "ipFamilyPolicy": "PreferDualStack"}), vec!["IPv4", "IPv6"]),
        ] {
            assert_eq!(resolve(spec.clone(), &dual), (wanted, Vec::new()), "{spec}");
        }
        assert_eq!(resolve(json!({}), &[IpFamily::V6, IpFamily::V4]).0, ["IPv6"]);
    }

    #[test]
    fn a_family_without_cluster_ips_is_told_in_the_api_servers_words() {
        use serde_json::json;
        let single = [IpFamily::V4];
        assert_eq!(resolve(json!({"ipFamilyPolicy": "PreferDualStack"}), &single), (vec!["IPv4"], Vec::new()));
        let (families, said) = resolve(json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]}), &single);
        assert_eq!(families, ["IPv4", "IPv6"]);
        assert_eq!(
            said,
            [
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
                "spec.ipFamilies[1]: Invalid value: \"IPv6\": not configured on this cluster",
            ]
        );
        assert_eq!(resolve(json!({"type": "ExternalName", "ipFamilies": ["IPv6"]}), &single), (vec!["IPv4"], Vec::new()));
        assert_eq!(resolve(json!({"clusterIP": "None", "ipFamilies": ["IPv6"]}), &single), (vec!["IPv6"], Vec::new()));
    }
}
