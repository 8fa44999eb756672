//! What `sluicegate plugin inspect` shows.

use sluicegate_model::plugin::{Limits, PluginError};

use crate::direct;
use crate::kinds::INTERFACES;
use crate::load::{Description, Loader, sha256};
use crate::version::{self, ContractVersion};

/// A plugin file, looked at from outside and asked what it is.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// What the plugin says of itself.
    pub description: Description,
    /// The version of the contract that it was built against.
    pub contract: ContractVersion,
    /// The plugin's imports.
    pub imports: Vec<String>,
    /// The plugin's exports.
    pub exports: Vec<String>,
    /// The SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// The size of the file, in bytes.
    pub size: usize,
}

impl Loader {
    /// Loads a file under `name` and asks what it is.
    pub fn inspect(&self, name: &str, bytes: &[u8]) -> Result<Inspection, PluginError> {
        let fail = |stage, reason| PluginError { plugin: name.into(), stage, reason };
        let component = self.compile(bytes).map_err(|(stage, reason)| fail(stage, reason))?;
        let (kind, contract) = version::of(&self.environment.engine, &component, INTERFACES)
            .map_err(|reason| fail(sluicegate_model::plugin::Stage::World, reason))?;
        let (_, description) = self.load(name, 0, bytes, kind, &Limits::default())?;
        let ty = component.component_type();
        Ok(Inspection {
            description,
            contract,
            imports: ty.imports(&self.environment.engine).map(|(name, _)| name.to_owned()).collect(),
            exports: ty
                .exports(&self.environment.engine)
                .map(|(name, _)| name)
                .filter(|name| *name != direct::EXPORT)
                .map(str::to_owned)
                .collect(),
            sha256: sha256(bytes),
            size: bytes.len(),
        })
    }
}
