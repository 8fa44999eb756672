//! From nodes to values: aliases are followed, mappings merged, scalars read; and each field's place is noted.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::node::{Data, Node, Scalar};
use super::{MAX_DEPTH, Position, SyntaxError, scalar};

/// A document's value, and where its fields stand.
pub(super) struct Composed {
    pub(super) value: Value,
    pub(super) positions: HashMap<String, Position>,
    pub(super) start: Position,
    pub(super) readings: Vec<Reading>,
}

/// A scalar or key that may be read otherwise than it was meant.
pub(super) struct Reading {
    /// The path of the field: `spec.ports[0].port`.
    pub(super) path: String,
    pub(super) at: Position,
    pub(super) message: String,
    pub(super) expected: String,
}

impl Composed {
    /// A value whose fields' places are not known.
    pub(super) fn unplaced(value: Value, start: Position) -> Self {
        Self { value, positions: HashMap::new(), start, readings: Vec::new() }
    }
}

/// Whether the places of fields are noted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Places {
    Noted,
    /// The places are not noted, as nobody has asked for them yet.
    Unasked,
}

/// Composes the value of a document.
pub(super) fn compose(root: &Rc<Node>, places: Places) -> Result<Composed, SyntaxError> {
    let mut composer = Composer { notes: places == Places::Noted, ..Composer::default() };
    let value = composer.value(root, 0)?;
    Ok(Composed { value, positions: composer.positions, start: root.at, readings: composer.readings })
}

#[derive(Default)]
struct Composer {
    /// The path to the node that is looked at.
    path: String,
    /// Whether the places of fields are noted.
    notes: bool,
    positions: HashMap<String, Position>,
    readings: Vec<Reading>,
    noted: HashSet<(Position, String)>,
    nodes: usize,
    /// How many of these an alias stands for.
    aliased: usize,
    alias_depth: usize,
}

impl Composer {
    fn value(&mut self, node: &Rc<Node>, depth: usize) -> Result<Value, SyntaxError> {
        self.count(node, depth)?;
        if self.notes && !self.positions.contains_key(&self.path) {
            self.positions.insert(self.path.clone(), node.at);
        }
        match &node.data {
            Data::Scalar(scalar) => {
                self.read_otherwise(scalar, node.at);
                scalar::value(scalar).map_err(|message| (node.at, message))
            }
            Data::Sequence(items) => {
                let mut values = Vec::with_capacity(items.len());
                for (i, item) in items.iter().enumerate() {
                    let length = self.path.len();
                    // Writing to a String cannot fail.
                    let _ = write!(self.path, "[{i}]");
                    let value = self.value(item, depth + 1);
                    self.path.truncate(length);
                    values.push(value?);
                }
                Ok(Value::Array(values))
            }
            Data::Mapping(pairs) => {
                let mut object = Map::new();
                self.mapping(pairs, depth, &mut object)?;
                Ok(Value::Object(object))
            }
            Data::Alias(node) => {
                self.alias_depth += 1;
                let value = self.value(node, depth + 1);
                self.alias_depth -= 1;
                value
            }
        }
    }

    /// Puts a mapping's fields into an object. As in go-yaml v2, a merge key is carried out where it stands, so its fields replace those that stand before it.
    fn mapping(&mut self, pairs: &[(Rc<Node>, Rc<Node>)], depth: usize, object: &mut Map<String, Value>) -> Result<(), SyntaxError> {
        let mut own: BTreeSet<String> = BTreeSet::new();
        for (key, value) in pairs {
            self.count(key, depth)?;
            if is_merge(key) {
                let before: Vec<(String, Option<Value>)> = own.iter().map(|name| (name.clone(), object.get(name).cloned())).collect();
                self.merge(value, depth, object)?;
                for (name, _) in before.iter().filter(|(name, before)| object.get(name) != before.as_ref()) {
                    let message = format!("the merge key << replaces {name:?}, which stands before it");
                    self.note(key.at, message, "<< before the fields that it must not replace".to_owned());
                }
                continue;
            }
            let name = self.key(key)?;
            let length = self.path.len();
            if length > 0 {
                self.path.push('.');
            }
            self.path.push_str(&name);
            if !own.insert(name.clone()) {
                self.note(
                    key.at,
                    format!("key {name:?} already set in map"),
                    "one of them; the last one counts, as kubectl has it".to_owned(),
                );
            }
            // A scalar's place says more than its key's: two fields may stand in one line.
            let at = match &value.data {
                Data::Scalar(_) => value.at,
                Data::Alias(node) if matches!(node.data, Data::Scalar(_)) => value.at,
                _ => key.at,
            };
            if self.notes {
                self.positions.insert(self.path.clone(), at);
            }
            let value = self.value(value, depth + 1);
            self.path.truncate(length);
            object.insert(name, value?);
        }
        Ok(())
    }

    /// Merges mappings into an object. The fields of the first mapping count before those of the others.
    fn merge(&mut self, value: &Rc<Node>, depth: usize, object: &mut Map<String, Value>) -> Result<(), SyntaxError> {
        self.count(value, depth)?;
        match &value.data {
            Data::Mapping(pairs) => self.mapping(pairs, depth + 1, object),
            Data::Alias(node) if matches!(node.data, Data::Mapping(_)) => {
                self.alias_depth += 1;
                let merged = self.merge(node, depth + 1, object);
                self.alias_depth -= 1;
                merged
            }
            Data::Sequence(items) if items.iter().all(|item| is_mapping(item)) => {
                items.iter().rev().try_for_each(|item| self.merge(item, depth + 1, object))
            }
            _ => Err((value.at, "map merge requires map or sequence of maps as the value".to_owned())),
        }
    }

    /// A key as text, as JSON has no other keys.
    fn key(&mut self, node: &Rc<Node>) -> Result<String, SyntaxError> {
        let scalar = match &node.data {
            Data::Scalar(scalar) => scalar,
            Data::Alias(aliased) => return self.key(aliased),
            _ => return Err((node.at, "a key must be a string".to_owned())),
        };
        self.read_otherwise(scalar, node.at);
        match scalar::value(scalar).map_err(|message| (node.at, message))? {
            Value::String(name) => Ok(name),
            Value::Null | Value::Array(_) | Value::Object(_) => Err((node.at, "a key must be a string".to_owned())),
            other => Ok(other.to_string()),
        }
    }

    fn read_otherwise(&mut self, scalar: &Scalar, at: Position) {
        if let Some((message, expected)) = scalar::reading(scalar) {
            self.note(at, message, expected);
        }
    }

    fn note(&mut self, at: Position, message: String, expected: String) {
        // It is told once, however many aliases stand for it.
        if self.noted.insert((at, message.clone())) {
            self.readings.push(Reading { path: self.path.clone(), at, message, expected });
        }
    }

    /// Bounds depth and aliases. As in go-yaml, 99 % of few nodes may come from aliases, and 10 % of many.
    fn count(&mut self, node: &Node, depth: usize) -> Result<(), SyntaxError> {
        const FEW: f64 = 400_000.0;
        const MANY: f64 = 4_000_000.0;
        if depth > MAX_DEPTH {
            return Err((node.at, format!("nested more than {MAX_DEPTH} deep")));
        }
        self.nodes += 1;
        self.aliased += usize::from(self.alias_depth > 0);
        let nodes = self.nodes as f64;
        let allowed = 0.99 - 0.89 * ((nodes - FEW) / (MANY - FEW)).clamp(0.0, 1.0);
        if self.aliased > 100 && self.nodes > 1000 && self.aliased as f64 / nodes > allowed {
            return Err((node.at, "document contains excessive aliasing".to_owned()));
        }
        Ok(())
    }
}

fn is_merge(key: &Node) -> bool {
    match &key.data {
        Data::Scalar(scalar) => scalar.text == "<<" && (scalar.plain || scalar.tag.as_deref() == Some("tag:yaml.org,2002:merge")),
        _ => false,
    }
}

fn is_mapping(node: &Node) -> bool {
    match &node.data {
        Data::Alias(node) => is_mapping(node),
        data => matches!(data, Data::Mapping(_)),
    }
}
