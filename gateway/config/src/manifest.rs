//! From a file's text to documents that know where each of their fields stands.
//!
//! The text means here what it means to `kubectl apply`, which turns YAML into JSON by go-yaml v2 (`sigs.k8s.io/yaml`): the syntax is libyaml's, of
//! which go-yaml is a translation, as is the library used here; scalars are read by YAML 1.1 ([`mod@scalar`]), with merge keys; the last of
//! two equal keys counts; and documents are parted at lines that begin with `---` ([`mod@split`]), so that a broken one leaves the others alone. Documents
//! that are JSON are read [as that](quick), and those in [simple block style](block) line by line. Where fields stand is found when somebody asks for it, as that is as much work as to read them, and most have no faults.

mod block;
mod compose;
mod list;
mod node;
mod positions;
mod quick;
mod rules;
mod scalar;
mod split;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use sluicegate_model::fault::{Fault, Place, Severity};

use positions::Positions;

pub use rules::Rules;

/// How deeply values may be nested.
const MAX_DEPTH: usize = 64;

/// A line and a column, both from 1.
type Position = (usize, usize);

/// A file's documents and what is wrong with its syntax.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The documents that could be read. The items of a list are documents of their own.
    pub documents: Vec<Document>,
    /// Syntax errors.
    pub faults: Vec<Fault>,
}

/// One document.
#[derive(Clone, Debug)]
pub struct Document {
    /// The document's content.
    pub value: Value,
    /// Where the document's fields stand.
    pub origin: Arc<Origin>,
    /// What may be read otherwise than it was meant, as warnings: scalars that YAML 1.1 and 1.2 read differently, keys that are set twice.
    pub readings: Vec<Fault>,
    /// The rules of a router's configuration, where there are many. `value` has an empty list in their place.
    pub rules: Option<Arc<Rules>>,
}

/// Where a document's fields stand.
#[derive(Debug)]
pub struct Origin {
    file: Arc<PathBuf>,
    lines: Arc<Lines>,
    places: Places,
    start: Position,
    number: usize,
}

/// How the places of a document's fields are known.
#[derive(Debug)]
enum Places {
    /// It was given as a value: there is no text.
    Nowhere,
    Known(Positions),
    /// The places are found when somebody asks for them.
    Sought {
        part: Sought,
        found: OnceLock<Positions>,
        /// Only the place of the name is told.
        name_only: bool,
    },
}

/// Where a document's text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sought {
    /// Where the part of the file's text that holds the document begins.
    begin: u32,
    end: u32,
    first_line: u32,
    /// The document's number among those of its part.
    number: u32,
}

/// The field whose place is kept of objects about which nothing is said any more once they were checked.
const NAME: &str = "metadata.name";

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

    /// The part of the text that holds a document.
    fn part(&self, of: Sought) -> split::Part<'_> {
        let text = self.text.get(of.begin as usize..of.end as usize).unwrap_or_default();
        split::Part { text, first_line: of.first_line as usize }
    }

    /// Reads a document again, for the places of its fields. They are not known of a document that is JSON and cannot be read as YAML.
    fn seek(&self, of: Sought) -> Positions {
        let part = self.part(of);
        let composed = node::Documents::new(&part).map(|root| root.and_then(|root| compose::compose(&root, compose::Places::Noted)));
        let mut good = composed.map_while(Result::ok).filter(|composed| !composed.value.is_null());
        good.nth(of.number as usize).map_or_else(Positions::default, |composed| Positions::new(composed.positions))
    }

    /// A line by its number, counted from 1; empty if there is no such line.
    fn line(&self, number: usize) -> &str {
        let start = number.checked_sub(1).and_then(|at| self.starts.get(at));
        start.and_then(|start| self.text.get(*start as usize..)?.lines().next()).unwrap_or_default()
    }
}

impl Origin {
    /// The place of a field, written `spec.ports[0].nodePort` or `metadata.annotations[KEY]`. If there is no such field, it is the place of the nearest field
    /// around it.
    pub fn place(&self, path: &str) -> Place {
        let mut path = path.trim_start_matches('.');
        let at = loop {
            if let Some(found) = self.position(path).or_else(|| self.keyed(path)) {
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

    /// Whether the document was read from a file. An API server's objects are not.
    pub fn has_file(&self) -> bool {
        !matches!(self.places, Places::Nowhere)
    }

    fn keyed(&self, path: &str) -> Option<Position> {
        let (map, key) = path.strip_suffix(']')?.split_once('[')?;
        self.position(&format!("{map}.{key}"))
    }

    fn position(&self, field: &str) -> Option<Position> {
        match &self.places {
            Places::Nowhere => None,
            Places::Known(positions) => positions.get(field),
            Places::Sought { name_only: true, .. } if field != NAME => None,
            Places::Sought { part, found, .. } => found.get_or_init(|| self.lines.seek(*part)).get(field),
        }
    }

    /// The same origin, which tells no other place than that of the name: for objects about which nothing is said any more once they were checked.
    pub(crate) fn compact(&self) -> Self {
        let places = match &self.places {
            Places::Nowhere => Places::Nowhere,
            Places::Known(positions) => Places::Known(Positions::new(positions.get(NAME).map(|at| (NAME.to_owned(), at)))),
            Places::Sought { part, .. } => Places::Sought { part: *part, found: OnceLock::new(), name_only: true },
        };
        Self { file: self.file.clone(), lines: self.lines.clone(), places, start: self.start, number: self.number }
    }

    /// The document's file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether all fields of another document of this name stand where those of this one do.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.start, self.number) == (other.start, other.number) && self.file == other.file && self.has_same_places(other)
    }

    fn has_same_places(&self, other: &Self) -> bool {
        match (&self.places, &other.places) {
            (Places::Nowhere, Places::Nowhere) => true,
            (Places::Known(a), Places::Known(b)) => a == b,
            (Places::Sought { name_only: true, .. }, Places::Sought { name_only: true, .. }) if self.has_same_text(other) => true,
            (Places::Sought { name_only: true, .. }, Places::Sought { name_only: true, .. }) => self.position(NAME) == other.position(NAME),
            (Places::Sought { name_only: false, part: a, found: here }, Places::Sought { name_only: false, part: b, found: there }) => {
                self.has_same_text(other) || here.get_or_init(|| self.lines.seek(*a)) == there.get_or_init(|| other.lines.seek(*b))
            }
            _ => false,
        }
    }

    /// Whether two documents are the same part of equal texts, so that their fields stand at the same places.
    fn has_same_text(&self, other: &Self) -> bool {
        let (Places::Sought { part: a, .. }, Places::Sought { part: b, .. }) = (&self.places, &other.places) else { return false };
        a.number == b.number && a.first_line == b.first_line && self.lines.part(*a).text == other.lines.part(*b).text
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
    parse_after(file, text, &[])
}

/// Parses the text of a file that had these lists of rules before: what is the same of them is taken from there.
pub fn parse_after(file: &Path, text: &str, before: &[Arc<Rules>]) -> Parsed {
    let file = Arc::new(file.to_owned());
    let lines = Arc::new(Lines::of(text));
    let mut parsed = Parsed::default();
    for part in split::documents(text) {
        let begin = part.text.as_ptr().addr() - text.as_ptr().addr();
        if let Some((value, start, rules)) = rules::read(&part, begin, &lines, before)
            && let Some(sought) = Sought::new(begin, &part, 0)
        {
            let places = Places::Sought { part: sought, found: OnceLock::new(), name_only: false };
            let origin = Origin { file: file.clone(), lines: lines.clone(), places, start, number: parsed.documents.len() };
            parsed.documents.push(Document { value, origin: Arc::new(origin), readings: Vec::new(), rules: Some(rules) });
            continue;
        }
        let (read, error) = read(&part);
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
        for (composed, seek) in read {
            let sought = seek.and_then(|number| Sought::new(begin, &part, number));
            for composed in list::items(composed) {
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
                let places = match sought {
                    Some(part) => Places::Sought { part, found: OnceLock::new(), name_only: false },
                    None => Places::Known(Positions::new(composed.positions)),
                };
                let origin = Origin { file: file.clone(), lines: lines.clone(), places, start, number };
                parsed.documents.push(Document { value: composed.value, origin: Arc::new(origin), readings, rules: None });
            }
        }
    }
    parsed
}

impl Sought {
    /// None if the text is so large that positions in it do not fit.
    fn new(begin: usize, part: &split::Part<'_>, number: usize) -> Option<Self> {
        let number_of = |n: usize| u32::try_from(n).ok();
        Some(Self {
            begin: number_of(begin)?,
            end: number_of(begin + part.text.len())?,
            first_line: number_of(part.first_line)?,
            number: number_of(number)?,
        })
    }
}

/// An object that was given as a value. Where its fields stand is not known, so faults name the object as a whole.
pub fn given(name: &Path, value: Value) -> Parsed {
    let (file, lines) = (Arc::new(name.to_owned()), Arc::new(Lines::of("")));
    let document = |(number, composed): (usize, compose::Composed)| Document {
        value: composed.value,
        origin: Arc::new(Origin { file: file.clone(), lines: lines.clone(), places: Places::Nowhere, start: composed.start, number }),
        readings: Vec::new(),
        rules: None,
    };
    let documents = list::items(compose::Composed::unplaced(value, (1, 1))).into_iter().enumerate().map(document).collect();
    Parsed { documents, faults: Vec::new() }
}

type SyntaxError = (Position, String);

/// The documents of one part of a file, as far as they can be read, each with its number, by which the places of its fields are found; none: they
/// are noted already, as of lists, whose items would each read the whole list again, or not known.
fn read(part: &split::Part<'_>) -> (Vec<(compose::Composed, Option<usize>)>, Option<SyntaxError>) {
    if let Some((value, start)) = quick::read(part).or_else(|| block::read(part)).filter(|(value, _)| !list::is_list(value)) {
        return (vec![(compose::Composed::unplaced(value, start), Some(0))], None);
    }
    let mut read = Vec::new();
    for root in node::Documents::new(part) {
        let composed = root.and_then(|root| {
            let composed = compose::compose(&root, compose::Places::Unasked)?;
            let list = list::is_list(&composed.value);
            Ok((if list { compose::compose(&root, compose::Places::Noted)? } else { composed }, list))
        });
        match composed {
            Ok((composed, _)) if composed.value.is_null() => {}
            Ok((composed, list)) => {
                let number = read.len();
                read.push((composed, (!list).then_some(number)));
            }
            // JSON allows what YAML 1.1 does not, such as one object behind another and surrogate pairs (`\ud83d\ude00`). kubectl tries JSON first.
            Err(error) => match json(part) {
                Some(read) => return (read.into_iter().map(|composed| (composed, None)).collect(), None),
                None => return (read, Some(within(part, error))),
            },
        }
    }
    (read, None)
}

/// Where a syntax error stands in the file. One that shows only at the end of a part stands in the part's last line, not in the next document.
fn within(part: &split::Part<'_>, ((line, column), message): SyntaxError) -> SyntaxError {
    let last = part.text.trim_end();
    let (lines, end) = (last.lines().count().max(1), last.lines().last().unwrap_or_default().chars().count());
    let at = if line > part.first_line + lines { (part.first_line + lines, end + 1) } else { (line, column) };
    (at, message)
}

/// The objects of a text that is JSON. The places of their fields are not known.
fn json(part: &split::Part<'_>) -> Option<Vec<compose::Composed>> {
    let text = part.text.strip_prefix("---").unwrap_or(part.text);
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    values.map(|value| Some(compose::Composed::unplaced(value.ok()?, (part.first_line + 1, 1)))).collect()
}
