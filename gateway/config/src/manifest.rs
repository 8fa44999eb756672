//! From a file's text to documents that know where each of their fields stands.
//!
//! The text means here what it means to `kubectl apply`, which turns YAML into JSON by go-yaml v2 (`sigs.k8s.io/yaml`): the syntax is libyaml's, of
//! which go-yaml is a translation, as is the library used here; scalars are read by YAML 1.1 ([`mod@scalar`]), with merge keys; the last of
//! two equal keys counts; and documents are parted at lines that begin with `---` ([`mod@split`]), so that a broken one leaves the others alone.

mod compose;
mod list;
mod node;
mod positions;
mod scalar;
mod split;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use sluicegate_model::fault::{Fault, Place, Severity};

use positions::Positions;

/// Deeper nesting is refused.
const MAX_DEPTH: usize = 64;

/// A line and a column, both from 1.
type Position = (usize, usize);

/// A file's documents and what is wrong with its syntax.
#[derive(Debug, Default)]
pub struct Parsed {
    /// Those that could be read; a list's items are documents of their own.
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
    /// What may be read otherwise than it was meant, as warnings: scalars that YAML 1.1 and 1.2 read differently, keys that are set twice.
    pub readings: Vec<Fault>,
}

/// Where a document's fields stand.
#[derive(Debug)]
pub struct Origin {
    file: Arc<PathBuf>,
    lines: Arc<Lines>,
    positions: Positions,
    start: Position,
    number: usize,
}

/// A file's text, once, and where its lines begin.
#[derive(Debug)]
struct Lines {
    text: Box<str>,
    starts: Box<[u32]>,
}

impl Lines {
    fn of(text: &str) -> Self {
        let starts = text.lines().map(|line| u32::try_from(line.as_ptr().addr() - text.as_ptr().addr()).unwrap_or(u32::MAX));
        Self { starts: starts.collect(), text: text.into() }
    }

    fn len(&self) -> usize {
        self.starts.len()
    }

    /// Counted from 1; empty if there is no such line.
    fn line(&self, number: usize) -> &str {
        let start = number.checked_sub(1).and_then(|at| self.starts.get(at));
        start.and_then(|start| self.text.get(*start as usize..)?.lines().next()).unwrap_or_default()
    }
}

impl Origin {
    /// The place of a field, written `spec.ports[0].nodePort` or `metadata.annotations[KEY]`; of the nearest field around it if it is not there.
    pub fn place(&self, path: &str) -> Place {
        let mut path = path.trim_start_matches('.');
        let at = loop {
            if let Some(found) = self.positions.get(path).or_else(|| self.keyed(path)) {
                break found;
            }
            // A key in brackets may have dots.
            let end = if path.ends_with(']') { path.rfind('[') } else { path.rfind(['.', '[']) };
            match end {
                Some(end) => path = &path[..end],
                None => break self.start,
            }
        };
        place(&self.file, &self.lines, at)
    }

    fn keyed(&self, path: &str) -> Option<Position> {
        let (map, key) = path.strip_suffix(']')?.split_once('[')?;
        self.positions.get(&format!("{map}.{key}"))
    }

    /// The same without its fields' places, but that of its name: of objects that nothing is said of once they were checked.
    pub(crate) fn compact(&self) -> Self {
        let name = self.positions.get("metadata.name").map(|at| ("metadata.name".to_owned(), at));
        let positions = Positions::new(name);
        Self { file: self.file.clone(), lines: self.lines.clone(), positions, start: self.start, number: self.number }
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether all fields of another document of this name stand where those of this one do.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.start, self.number) == (other.start, other.number) && self.file == other.file && self.positions == other.positions
    }

    /// The document's number in its file, from 0.
    pub fn number(&self) -> usize {
        self.number
    }
}

fn place(file: &Arc<PathBuf>, lines: &Lines, (line, column): Position) -> Place {
    Place { file: file.clone(), line, column, text: lines.line(line.max(1)).to_owned() }
}

/// Parses a file's text.
pub fn parse(file: &Path, text: &str) -> Parsed {
    let file = Arc::new(file.to_owned());
    let lines = Arc::new(Lines::of(text));
    let mut parsed = Parsed::default();
    for part in split::documents(text) {
        let (composed, error) = read(&part);
        if let Some((at, message)) = error {
            let at = (at.0.clamp(1, lines.len().max(1)), at.1);
            parsed.faults.push(Fault {
                severity: Severity::Error,
                place: Some(place(&file, &lines, at)),
                object: None,
                message,
                expected: Some("well-formed YAML; the file's other documents are read".to_owned()),
            });
        }
        for composed in composed.into_iter().flat_map(list::items) {
            let number = parsed.documents.len();
            let reading = |reading: compose::Reading| Fault {
                severity: Severity::Warning,
                place: Some(place(&file, &lines, reading.at)),
                object: None,
                message: reading.message,
                expected: Some(reading.expected),
            };
            let readings = composed.readings.into_iter().map(reading).collect();
            let start = composed.start;
            let positions = Positions::new(composed.positions);
            let origin = Origin { file: file.clone(), lines: lines.clone(), positions, start, number };
            parsed.documents.push(Document { value: composed.value, origin: Arc::new(origin), readings });
        }
    }
    parsed
}

/// An object that was given as a value: where its fields stand is not known, so faults name the whole.
pub fn given(name: &Path, value: Value) -> Parsed {
    let (file, lines) = (Arc::new(name.to_owned()), Arc::new(Lines::of("")));
    let document = |(number, composed): (usize, compose::Composed)| Document {
        value: composed.value,
        origin: Arc::new(Origin {
            file: file.clone(),
            lines: lines.clone(),
            positions: Positions::default(),
            start: composed.start,
            number,
        }),
        readings: Vec::new(),
    };
    let documents = list::items(compose::Composed::unplaced(value, (1, 1))).into_iter().enumerate().map(document).collect();
    Parsed { documents, faults: Vec::new() }
}

type SyntaxError = (Position, String);

/// The documents of one part of a file, as far as they can be read.
fn read(part: &split::Part<'_>) -> (Vec<compose::Composed>, Option<SyntaxError>) {
    let mut read = Vec::new();
    for root in node::Documents::new(part) {
        match root.and_then(|root| compose::compose(&root)) {
            Ok(composed) if composed.value.is_null() => {}
            Ok(composed) => read.push(composed),
            // JSON has what YAML 1.1 has not, as one object behind the other and halves of a character (`\ud83d\ude00`): kubectl tries it first.
            Err(error) => match json(part) {
                Some(read) => return (read, None),
                None => return (read, Some(within(part, error))),
            },
        }
    }
    (read, None)
}

/// An error that shows only at the end of a part stands in its last line, not in the next document.
fn within(part: &split::Part<'_>, ((line, column), message): SyntaxError) -> SyntaxError {
    let last = part.text.trim_end();
    let (lines, end) = (last.lines().count().max(1), last.lines().last().unwrap_or_default().chars().count());
    let at = if line > part.first_line + lines { (part.first_line + lines, end + 1) } else { (line, column) };
    (at, message)
}

/// The objects of a text that is JSON. Their fields' places are not known.
fn json(part: &split::Part<'_>) -> Option<Vec<compose::Composed>> {
    let text = part.text.strip_prefix("---").unwrap_or(part.text);
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    values.map(|value| Some(compose::Composed::unplaced(value.ok()?, (part.first_line + 1, 1)))).collect()
}
