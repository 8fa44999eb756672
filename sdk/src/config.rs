//! A plugin's name and configuration: what `describe` answers, and how a policy's JSON is read into the author's type.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

/// The author's crate, filled in where the export macro is invoked.
pub trait Named: 'static {
    /// The crate's name, `CARGO_PKG_NAME`.
    const NAME: &'static str;
    /// The crate's version, `CARGO_PKG_VERSION`.
    const VERSION: &'static str;
}

/// The plugin's name: the crate's, without the prefix by which this repository's plugins are told from other crates.
pub(crate) fn plugin_name(package: &str) -> String {
    package.strip_prefix("sluicegate-plugin-").unwrap_or(package).to_owned()
}

/// The JSON Schema (2020-12) of a configuration's type.
pub(crate) fn schema<C: JsonSchema>() -> String {
    schemars::schema_for!(C).as_value().to_string()
}

/// Reads a configuration. An empty text and `null` count as the empty object, so a policy may leave the configuration out.
pub(crate) fn parse<C: DeserializeOwned>(json: &str) -> Result<C, String> {
    let json = match json.trim() {
        "" | "null" => "{}",
        text => text,
    };
    serde_json::from_str(json).map_err(|error| format!("config: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, serde::Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    struct Config {
        size: u32,
    }

    #[test]
    fn a_missing_configuration_is_the_empty_object() {
        for text in ["", " ", "null", "{}"] {
            assert_eq!(parse::<Config>(text), Ok(Config::default()), "{text:?}");
        }
    }

    #[test]
    fn a_wrong_configuration_says_where() {
        let error = parse::<Config>(r#"{"sise": 1}"#).unwrap_err();
        assert_eq!(error, "config: unknown field `sise`, expected `size` at line 1 column 7");
    }

    #[test]
    fn the_schema_is_2020_12_and_names_the_fields() {
        let schema: serde_json::Value = serde_json::from_str(&schema::<Config>()).unwrap();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["size"]["format"], "uint32");
    }

    #[test]
    fn the_name_loses_our_prefix_only() {
        assert_eq!(plugin_name("sluicegate-plugin-maglev"), "maglev");
        assert_eq!(plugin_name("my-balancer"), "my-balancer");
    }
}
