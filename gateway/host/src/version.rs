//! Versions of the contract. What a plugin was built against is in the names of its exports, `sluicegate:plugin/balancing@0.2.0`. Before 1.0 a
//! minor version may break, so each minor has bindings of its own (`bindings`); within one, wasmtime matches a patch version with any other.

use std::fmt;

use sluicegate_model::plugin::PluginKind;
use wasmtime::Engine;
use wasmtime::component::Component;

/// A version of the contract that this gateway knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContractVersion {
    /// Version 0.1: without metrics, shared state, fields of log lines, annotations, and hand-over of state.
    V0_1,
    /// Version 0.2, which the SDK of this gateway has.
    V0_2,
}

impl ContractVersion {
    /// All versions.
    pub const ALL: [Self; 2] = [Self::V0_1, Self::V0_2];

    fn minor(self) -> u64 {
        match self {
            Self::V0_1 => 1,
            Self::V0_2 => 2,
        }
    }
}

impl fmt::Display for ContractVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0.{}", self.minor())
    }
}

/// The interfaces by which kinds of plugins are told apart.
pub(crate) type Interfaces = &'static [(&'static str, PluginKind)];

/// The kind of a component, and the version of the contract that it was built against.
pub(crate) fn of(engine: &Engine, component: &Component, known: Interfaces) -> Result<(PluginKind, ContractVersion), String> {
    let ty = component.component_type();
    let exports: Vec<&str> = ty.exports(engine).map(|(name, _)| name).collect();
    read(&exports, known)
}

fn read(exports: &[&str], interfaces: Interfaces) -> Result<(PluginKind, ContractVersion), String> {
    let of_ours = |export: &&str| {
        let (interface, version) = export.strip_prefix("sluicegate:plugin/")?.split_once('@')?;
        let (_, kind) = interfaces.iter().find(|(known, _)| *known == interface)?;
        Some((*kind, version.to_owned()))
    };
    let Some((kind, version)) = exports.iter().find_map(of_ours) else {
        return Err(format!(
            "it exports none of sluicegate:plugin/{{{}}}, but: {}",
            interfaces.iter().map(|(interface, _)| *interface).collect::<Vec<_>>().join(","),
            if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") }
        ));
    };
    let mut numbers = version.split('.').map(|number| number.parse::<u64>().ok());
    let known = match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(0), Some(minor)) => ContractVersion::ALL.into_iter().find(|known| known.minor() == minor),
        _ => None,
    };
    let known = known.ok_or_else(|| {
        let ours = ContractVersion::ALL.map(|known| known.to_string()).join(" and ");
        format!("it was built against version {version} of the contract, and this gateway knows {ours}")
    })?;
    Ok((kind, known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(exports: &[&str]) -> Result<(PluginKind, ContractVersion), String> {
        super::read(exports, crate::kinds::INTERFACES)
    }

    #[test]
    fn the_version_is_that_of_the_export() {
        assert_eq!(read(&["x:y/z@1.0.0", "sluicegate:plugin/balancing@0.1.0"]), Ok((PluginKind::Balancer, ContractVersion::V0_1)));
        assert_eq!(read(&["sluicegate:plugin/routing@0.2.7"]), Ok((PluginKind::Router, ContractVersion::V0_2)));
        for version in ["0.3.0", "1.2.0", "new"] {
            let refused = read(&[&format!("sluicegate:plugin/discovering@{version}")]).expect_err("unknown");
            assert_eq!(refused, format!("it was built against version {version} of the contract, and this gateway knows 0.1 and 0.2"));
        }
        assert!(read(&[]).expect_err("nothing").ends_with("but: nothing"));
        assert!(read(&["a:b/c@0.1.0"]).expect_err("another's").ends_with("but: a:b/c@0.1.0"));
    }
}
