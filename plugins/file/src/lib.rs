//! Discovery `file`: the endpoints that files list, in the format of Prometheus' file service discovery
//! (<https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config>): JSON or YAML lists of
//! `{"targets": ["host:port"], "labels": {…}}`. A change is seen at once. While a file is missing or faulty, the last good set of endpoints stays.

use std::time::Duration;

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use sluicegate_sdk::{Discovery, Object, Objects, PublishedEndpoint, Service, files};
use sluicegate_targets::{Interval, Reading};

/// The configuration of `file`: which files list the endpoints.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// Paths of `.json`, `.yml` and `.yaml` files, relative to the file of the `Plugin` object; the last part may be a pattern, as in
    /// `targets/*.json`. They must be among that object's `capabilities.allowedFiles`.
    pub files: Vec<String>,
    /// How often the files are read again although no change was seen, such as `5m`; at least 1s. Host names in them are looked up again then.
    #[serde(default = "five_minutes")]
    pub refresh_interval: Interval,
    /// The name of the service port that the endpoints serve. Without it, they serve all ports.
    pub port_name: Option<String>,
    /// The label that holds an endpoint's zone.
    pub zone_label: Option<String>,
    /// The label that holds an endpoint's weight. Endpoints without it have weight 1.
    pub weight_label: Option<String>,
}

/// The default of Prometheus.
fn five_minutes() -> Interval {
    Interval(Duration::from_secs(300))
}

/// The endpoints of one service.
#[derive(Debug)]
pub struct File {
    config: Config,
}

impl Discovery for File {
    type Config = Config;
    const FILES: bool = true;

    fn open(_: &Service, config: Config) -> Result<Self, String> {
        if config.files.is_empty() {
            return Err("files: at least one is wanted".to_owned());
        }
        if let Some(other) = config.files.iter().find(|file| format_of(file).is_none()) {
            return Err(format!("files: `{other}` must end in .json, .yml or .yaml"));
        }
        if config.refresh_interval.0 < Duration::from_secs(1) {
            return Err("refreshInterval: must be at least 1s".to_owned());
        }
        Ok(Self { config })
    }

    fn concerns(&self, _: &Service, _: &Object) -> bool {
        false
    }

    fn refresh(&self) -> Option<Duration> {
        Some(self.config.refresh_interval.0)
    }

    fn endpoints(&mut self, _: &Service, _: &Objects) -> Result<Vec<PublishedEndpoint>, String> {
        let mut lists = Vec::new();
        for pattern in &self.config.files {
            let named = |path: &str, reason: &dyn std::fmt::Display| format!("{path}: {reason}");
            for path in files::matching(pattern).map_err(|failure| named(pattern, &failure))? {
                let content = files::read(&path).map_err(|failure| named(&path, &failure))?;
                lists.push(parse(&path, &content).map_err(|reason| named(&path, &reason))?);
            }
        }
        let reading = Reading {
            port_name: self.config.port_name.as_deref(),
            zone_label: self.config.zone_label.as_deref(),
            weight_label: self.config.weight_label.as_deref(),
        };
        sluicegate_targets::endpoints(&reading, lists).map_err(|reason| format!("{}: {reason}", self.config.files.join(", ")))
    }
}

enum Format {
    Json,
    Yaml,
}

fn format_of(path: &str) -> Option<Format> {
    match path.rsplit_once('.')?.1 {
        "json" => Some(Format::Json),
        "yml" | "yaml" => Some(Format::Yaml),
        _ => None,
    }
}

fn parse(path: &str, content: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(content).map_err(|error| error.to_string())?;
    if text.trim().is_empty() {
        // A full disk, or a program that failed, leaves an empty file behind.
        return Err("it is empty; a list of nothing is `[]`".to_owned());
    }
    match format_of(path) {
        Some(Format::Json) => serde_json::from_str(text).map_err(|error| error.to_string()),
        _ => {
            let documents = Yaml::load_from_str(text).map_err(|error| error.to_string())?;
            match documents.as_slice() {
                // A file of comments alone lists no endpoints.
                [] => Ok(Value::Array(Vec::new())),
                [one] => json(one),
                more => Err(format!("{} documents, and one is wanted", more.len())),
            }
        }
    }
}

/// Reads YAML as JSON. Numbers and truth values become text, as a list of targets has only texts.
fn json(node: &Yaml<'_>) -> Result<Value, String> {
    Ok(match node {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => Value::String(value.to_string()),
        Yaml::Value(Scalar::Integer(value)) => Value::String(value.to_string()),
        Yaml::Value(Scalar::FloatingPoint(value)) => Value::String(value.to_string()),
        Yaml::Value(Scalar::String(value)) => Value::String(value.to_string()),
        Yaml::Sequence(items) => Value::Array(items.iter().map(json).collect::<Result<_, _>>()?),
        Yaml::Mapping(fields) => {
            let mut object = Map::new();
            for (name, value) in fields {
                let Value::String(name) = json(name)? else { return Err("a name that is no text".to_owned()) };
                object.insert(name, json(value)?);
            }
            Value::Object(object)
        }
        _ => return Err("tags and aliases have no place in a list of targets".to_owned()),
    })
}

sluicegate_sdk::export_discovery!(File);

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sluicegate_sdk::testing;

    use super::*;

    fn open(config: Value) -> Result<File, String> {
        let service = Service { namespace: "shop".into(), name: "cart".into(), object: Value::Null };
        File::open(&service, serde_json::from_value(config).map_err(|error| error.to_string())?)
    }

    fn found(config: Value) -> Result<Vec<String>, String> {
        let service = Service { namespace: "shop".into(), name: "cart".into(), object: Value::Null };
        let found = testing::endpoints(&mut open(config)?, &service, &Objects::default())?;
        Ok(found.iter().map(|e| format!("{}:{} {} {}", e.address, e.port, e.weight, e.zone.as_deref().unwrap_or("-"))).collect())
    }

    #[test]
    fn json_and_yaml_say_the_same() {
        testing::file("sd/a.json", Some(br#"[{"targets": ["10.0.0.1:80"], "labels": {"zone": "a", "w": "3"}}]"#));
        testing::file("sd/b.yaml", Some(b"- targets: [10.0.0.2:80, '[::1]:81']\n  labels: {zone: b, w: 2}\n- targets:\n  - 10.0.0.1:80\n"));
        testing::file("sd/c.yml", Some(b"# nothing yet\n"));
        let config = json!({"files": ["sd/*.json", "sd/b.yaml", "sd/c.yml"], "zoneLabel": "zone", "weightLabel": "w"});
        assert_eq!(found(config).unwrap(), ["10.0.0.1:80 3 a", "10.0.0.2:80 2 b", "::1:81 2 b"]);
        assert_eq!(found(json!({"files": ["none/*.json"]})), Ok(vec![]), "a pattern that fits nothing is an answer");
    }

    #[test]
    fn a_fault_names_the_file() {
        let fault = |content: &[u8]| {
            testing::file("t.yaml", Some(content));
            found(json!({"files": ["t.yaml"]})).unwrap_err()
        };
        assert_eq!(fault(b"- targets: [10.0.0.1]\n"), "t.yaml: target `10.0.0.1` must be a host and a port, such as 10.0.0.1:9100");
        assert!(fault(b"a: [").starts_with("t.yaml: "));
        assert!(fault(b"a: 1\n").starts_with("t.yaml: not a list of target groups"));
        assert_eq!(fault(b"[]\n---\n[]\n"), "t.yaml: 2 documents, and one is wanted");
        assert_eq!(found(json!({"files": ["gone.json"]})).unwrap_err(), "gone.json: it is not there");
    }

    #[test]
    fn a_wrong_configuration_is_refused() {
        for (config, wanted) in [
            (json!({}), "missing field `files`"),
            (json!({"files": []}), "at least one is wanted"),
            (json!({"files": ["a.txt"]}), "`a.txt` must end in"),
            (json!({"files": ["a.json"], "refreshInterval": "10ms"}), "must be at least 1s"),
        ] {
            let error = open(config).unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
