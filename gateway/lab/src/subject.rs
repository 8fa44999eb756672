//! The plugin that is looked at: a `.wasm` file or a built-in one, with a configuration that fits its schema.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use sluicegate_config::manifest;
use sluicegate_config::schema::violations;
use sluicegate_host::load::MAX_PLUGIN_BYTES;
use sluicegate_host::{Description, Loaded, Loader};
use sluicegate_model::plugin::{Limits, PluginKind};

/// The bytes of a plugin, and its name.
#[derive(Clone, Debug)]
pub struct Source {
    /// The name of the built-in plugin, or that of the file without its ending.
    pub name: String,
    /// The file's bytes.
    pub bytes: Vec<u8>,
    /// Whether the plugin comes with the gateway.
    pub builtin: bool,
}

/// A loaded plugin.
#[derive(Clone)]
pub struct Subject {
    /// The name, as [`Source::name`].
    pub name: String,
    /// What the plugin says of itself.
    pub description: Description,
    /// The generation, from which instances are made.
    pub loaded: Loaded,
    /// The configuration, JSON, which was checked.
    pub config: Arc<str>,
}

impl Source {
    /// Finds the built-in plugin of this name, or else the file.
    pub fn find(what: &str) -> Result<Self, String> {
        let path = Path::new(what);
        if let Some(builtin) = sluicegate_plugins::builtin(what).filter(|_| !path.exists()) {
            return Ok(Self { name: what.to_owned(), bytes: builtin.wasm(), builtin: true });
        }
        let size = std::fs::metadata(path).map_err(|e| format!("{what}: {e}, and no built-in plugin is called that"))?.len();
        // The size is looked at before the file is read, as a file of any size may be named.
        if size > MAX_PLUGIN_BYTES as u64 {
            return Err(format!("{what}: {size} bytes are more than the {MAX_PLUGIN_BYTES} a plugin may have"));
        }
        let bytes = std::fs::read(path).map_err(|e| format!("{what}: {e}"))?;
        let name = path.file_stem().map_or_else(|| "plugin".to_owned(), |n| n.to_string_lossy().into_owned());
        Ok(Self { name, bytes, builtin: false })
    }

    /// All built-in plugins of a kind.
    pub fn builtins(kind: PluginKind) -> impl Iterator<Item = Self> {
        let of_kind = sluicegate_config::builtins::all().filter(move |(_, of)| *of == kind);
        of_kind.filter_map(|(name, _)| sluicegate_plugins::builtin(name)).map(|b| Self {
            name: b.name.to_owned(),
            bytes: b.wasm(),
            builtin: true,
        })
    }

    /// Loads it as the gateway does.
    pub fn load(&self, loader: &Loader, limits: &Limits, config: &Value) -> Result<Subject, String> {
        let (loaded, description) = loader.load_any(&self.name, &self.bytes, limits).map_err(|e| e.to_string())?;
        let found = violations(&description.config_schema, config).map_err(|e| format!("{}: {e}", self.name))?;
        if !found.is_empty() {
            let told = found.iter().map(|v| format!("{}: its configuration does not fit: {}: {}", self.name, dotted(&v.path), v.message));
            return Err(told.collect::<Vec<_>>().join("\n"));
        }
        Ok(Subject { name: self.name.clone(), description, loaded, config: config.to_string().into() })
    }
}

fn dotted(path: &str) -> String {
    if path.is_empty() { "config".to_owned() } else { format!("config.{path}") }
}

/// The configurations given on a command line.
#[derive(Clone, Debug, Default)]
pub struct Configs {
    of_all: Option<Value>,
    of_one: Vec<(String, Value)>,
}

impl Configs {
    /// Each is JSON or `@FILE` (YAML or JSON), for all plugins that are not built in; or `NAME=` and one of these, for the plugin of that name.
    pub fn parse(given: &[String]) -> Result<Self, String> {
        let mut configs = Self::default();
        for text in given {
            match text.split_once('=').filter(|(name, _)| !name.starts_with(['{', '@'])) {
                Some((name, text)) => configs.of_one.push((name.to_owned(), value(text)?)),
                None => configs.of_all = Some(value(text)?),
            }
        }
        Ok(configs)
    }

    /// The configuration for a plugin; `{}` if none was given.
    pub fn of(&self, source: &Source) -> Value {
        let named = self.of_one.iter().find(|(name, _)| *name == source.name).map(|(_, value)| value);
        named.or_else(|| self.of_all.as_ref().filter(|_| !source.builtin)).cloned().unwrap_or_else(|| serde_json::json!({}))
    }

    /// The names for which configurations were given and that no plugin has: they are most likely misspelt.
    pub fn unused<'a>(&'a self, sources: &'a [Source]) -> impl Iterator<Item = &'a str> {
        let known = |name: &str| sources.iter().any(|s| s.name == name);
        self.of_one.iter().map(|(name, _)| name.as_str()).filter(move |name| !known(name))
    }
}

fn value(text: &str) -> Result<Value, String> {
    let (file, text) = match text.strip_prefix('@') {
        Some(file) => (file, std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?),
        None => ("--config", text.to_owned()),
    };
    let parsed = manifest::parse(Path::new(file), &text);
    if let Some(fault) = parsed.faults.first() {
        return Err(fault.to_string());
    }
    match parsed.documents.as_slice() {
        [] => Ok(serde_json::json!({})),
        [one] => Ok(one.value.clone()),
        more => Err(format!("{file}: {} documents; a configuration is one", more.len())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_goes_to_files_or_to_the_one_it_names() {
        let given = ["{size: 3}".to_owned(), "maglev={tableSize: 7}".to_owned(), "ghost={}".to_owned()];
        let configs = Configs::parse(&given).unwrap();
        let mine = Source { name: "mine".to_owned(), bytes: (&[][..]).into(), builtin: false };
        let maglev = Source::find("maglev").unwrap();
        assert_eq!(configs.of(&mine), serde_json::json!({"size": 3}));
        assert_eq!(configs.of(&maglev), serde_json::json!({"tableSize": 7}));
        assert_eq!(configs.of(&Source::find("random").unwrap()), serde_json::json!({}));
        assert_eq!(configs.unused(&[mine, maglev]).collect::<Vec<_>>(), ["ghost"]);
        assert!(Configs::parse(&["{a: [}".to_owned()]).unwrap_err().contains("--config:1:"));
    }

    #[test]
    fn what_does_not_fit_the_schema_is_told_by_field() {
        let loader = Loader::new().unwrap();
        let load = |config| Source::find("maglev").unwrap().load(&loader, &Limits::default(), &config).err();
        let told = load(serde_json::json!({"tableSize": 1, "table": 2})).unwrap();
        assert!(told.contains("config.tableSize: 1 is less than the minimum of 3") && told.contains("'table' was unexpected"), "{told}");
        assert_eq!(load(serde_json::json!({})), None);
    }
}
