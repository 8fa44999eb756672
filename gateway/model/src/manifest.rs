//! From a file's text to documents that know where each of their fields stands. YAML 1.2, several documents a file; JSON is YAML.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use saphyr_parser::{Event, Marker, Parser};
use serde_json::{Map, Value};

use crate::fault::{Fault, Place, Severity};

/// Deeper nesting is refused.
const MAX_DEPTH: usize = 64;

/// A file's documents and what is wrong with its syntax.
#[derive(Debug, Default)]
pub struct Parsed {
    /// Those that could be read; a `List`'s items are documents of their own.
    pub documents: Vec<Document>,
    /// Syntax errors.
    pub faults: Vec<Fault>,
}

/// One document.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its content.
    pub value: Value,
    /// Where its fields stand.
    pub origin: Arc<Origin>,
}

/// Where a document's fields stand.
#[derive(Debug)]
pub struct Origin {
    file: Arc<PathBuf>,
    lines: Arc<Vec<String>>,
    positions: HashMap<String, (usize, usize)>,
    start: (usize, usize),
}

impl Origin {
    /// The place of a field, written `spec.ports[0].nodePort`; of the nearest field around it if it is not there.
    pub fn place(&self, path: &str) -> Place {
        let mut path = path.trim_start_matches('.');
        let (line, column) = loop {
            if let Some(found) = self.positions.get(path) {
                break *found;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => break self.start,
            }
        };
        let text = self.lines.get(line.saturating_sub(1)).cloned().unwrap_or_default();
        Place { file: self.file.clone(), line, column, text }
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }
}

/// Parses a file's text.
pub fn parse(file: &Path, text: &str) -> Parsed {
    let file = Arc::new(file.to_owned());
    let lines: Arc<Vec<String>> = Arc::new(text.lines().map(str::to_owned).collect());
    let mut parsed = Parsed::default();
    // Loading recurses, so the depth is checked before. Aliases and duplicate keys are bounded and refused by the loader.
    let nodes = match too_deep(text) {
        Some(at) => Err((at, format!("nested more than {MAX_DEPTH} deep"))),
        None => MarkedYaml::load_from_str(text).map_err(|error| (*error.marker(), error.info().to_owned())),
    };
    let nodes = match nodes {
        Ok(nodes) => nodes,
        Err((at, message)) => {
            let (line, column) = (at.line().clamp(1, lines.len().max(1)), at.col() + 1);
            let place = Place { file: file.clone(), line, column, text: lines.get(line - 1).cloned().unwrap_or_default() };
            parsed.faults.push(Fault {
                severity: Severity::Error,
                place: Some(place),
                object: None,
                message,
                expected: Some("well-formed YAML; the documents before this one are read".to_owned()),
            });
            // The documents before the broken one stand on their own.
            let begin = (0..line.min(lines.len())).rev().find(|i| lines[*i].starts_with("---")).unwrap_or(0);
            let before: String = lines[..begin].iter().flat_map(|l| [l.as_str(), "\n"]).collect();
            parsed.documents = documents(&MarkedYaml::load_from_str(&before).unwrap_or_default(), &file, &lines, &mut parsed.faults);
            return parsed;
        }
    };
    parsed.documents = documents(&nodes, &file, &lines, &mut parsed.faults);
    parsed
}

/// Where the nesting exceeds [`MAX_DEPTH`], found in the parser's events, which do not recurse. Stops at the first syntax error.
fn too_deep(text: &str) -> Option<Marker> {
    let mut depth = 0_usize;
    for event in Parser::new_from_str(text) {
        match event.ok()? {
            (Event::SequenceStart(..) | Event::MappingStart(..), span) => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Some(span.start);
                }
            }
            (Event::SequenceEnd | Event::MappingEnd, _) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

fn documents(nodes: &[MarkedYaml<'_>], file: &Arc<PathBuf>, lines: &Arc<Vec<String>>, faults: &mut Vec<Fault>) -> Vec<Document> {
    let mut documents = Vec::new();
    for node in nodes {
        document(node, file, lines, faults, &mut documents);
    }
    documents
}

fn document(node: &MarkedYaml<'_>, file: &Arc<PathBuf>, lines: &Arc<Vec<String>>, faults: &mut Vec<Fault>, out: &mut Vec<Document>) {
    let start = (node.span.start.line().max(1), node.span.start.col() + 1);
    let mut positions = HashMap::new();
    match convert(node, String::new(), 0, &mut positions) {
        Ok(Value::Null) => {}
        Ok(value) => {
            let is_list =
                value.get("kind").and_then(Value::as_str).is_some_and(|k| k == "List") && value.get("apiVersion") == Some(&"v1".into());
            if is_list && let YamlData::Mapping(map) = &node.data {
                for item in map.iter().filter(|(k, _)| k.data.as_str() == Some("items")).filter_map(|(_, v)| v.data.as_vec()).flatten() {
                    document(item, file, lines, faults, out);
                }
                return;
            }
            out.push(Document { value, origin: Arc::new(Origin { file: file.clone(), lines: lines.clone(), positions, start }) });
        }
        Err((message, (line, column))) => {
            let text = lines.get(line.saturating_sub(1)).cloned().unwrap_or_default();
            let place = Place { file: file.clone(), line, column, text };
            faults.push(Fault { severity: Severity::Error, place: Some(place), object: None, message, expected: None });
        }
    }
}

type Position = (usize, usize);

fn convert(
    node: &MarkedYaml<'_>,
    path: String,
    depth: usize,
    positions: &mut HashMap<String, Position>,
) -> Result<Value, (String, Position)> {
    let here = (node.span.start.line().max(1), node.span.start.col() + 1);
    if depth > MAX_DEPTH {
        return Err((format!("nested more than {MAX_DEPTH} deep"), here));
    }
    positions.entry(path.clone()).or_insert(here);
    Ok(match &node.data {
        YamlData::Value(Scalar::Null) => Value::Null,
        YamlData::Value(Scalar::Boolean(b)) => Value::Bool(*b),
        YamlData::Value(Scalar::Integer(i)) => Value::from(*i),
        YamlData::Value(Scalar::FloatingPoint(f)) => Value::from(f.into_inner()),
        YamlData::Value(Scalar::String(s)) => Value::from(s.as_ref()),
        YamlData::Representation(text, ..) => Value::from(text.as_ref()),
        YamlData::Tagged(_, inner) => convert(inner, path, depth + 1, positions)?,
        YamlData::Sequence(items) => {
            let items = items.iter().enumerate().map(|(i, item)| convert(item, format!("{path}[{i}]"), depth + 1, positions));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        YamlData::Mapping(map) => {
            let mut object = Map::new();
            for (key, value) in map {
                let at = (key.span.start.line().max(1), key.span.start.col() + 1);
                let name = match &key.data {
                    YamlData::Value(Scalar::String(s)) => s.to_string(),
                    YamlData::Value(Scalar::Integer(i)) => i.to_string(),
                    YamlData::Value(Scalar::Boolean(b)) => b.to_string(),
                    _ => return Err(("a key must be a string".to_owned(), at)),
                };
                let child = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let scalar = matches!(value.data, YamlData::Value(_) | YamlData::Representation(..));
                let value_at = (value.span.start.line().max(1), value.span.start.col() + 1);
                positions.insert(child.clone(), if scalar { value_at } else { at });
                object.insert(name, convert(value, child, depth + 1, positions)?);
            }
            Value::Object(object)
        }
        YamlData::Alias(_) | YamlData::BadValue => return Err(("a value that cannot be read".to_owned(), here)),
    })
}
