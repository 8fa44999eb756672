//! A rule in CEL (`x-kubernetes-validations`), compiled by the crate `cel`.

use std::sync::{Arc, LazyLock, OnceLock};

use cel::{Env, Program, extensions};
use serde::Deserialize;

#[cfg(test)]
use super::schema::Schema;

/// One rule.
#[derive(Debug, Deserialize)]
pub(crate) struct Rule {
    pub(crate) rule: String,
    #[serde(default)]
    pub(crate) message: String,
    #[serde(skip)]
    program: OnceLock<Option<Program>>,
}

/// CEL's own functions, and those of Kubernetes' libraries for texts.
pub(crate) static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    // It fails only if a function is there already, and the same one is as good.
    let _ = env.add_extension(extensions::strings);
    Arc::new(env)
});

impl Rule {
    /// Compiled once. Rules on what a field was before (`oldSelf`) are for changes, and a file has no before.
    pub(crate) fn program(&self) -> Option<&Program> {
        let compile = || if self.rule.contains("oldSelf") { None } else { ENVIRONMENT.compile(&self.rule).ok() };
        self.program.get_or_init(compile).as_ref()
    }
}

/// Compiles every rule; one that cannot be compiled would let everything pass.
#[cfg(test)]
pub(super) fn compile_all(schema: &Schema) {
    for rule in &schema.rules {
        assert!(rule.program().is_some() || rule.rule.contains("oldSelf"), "{}", rule.rule);
    }
    let inner = schema.additional_properties.iter().chain(&schema.items).map(|inner| &**inner);
    schema.properties.values().chain(inner).for_each(compile_all);
}
