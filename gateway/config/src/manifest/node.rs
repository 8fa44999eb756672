//! A document's nodes, as its text has them: aliases are not followed yet and scalars not read.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use libyaml_safer::{EventData, Parser, ScalarStyle};

use super::{MAX_DEPTH, Position, SyntaxError, split};

/// One node, and where it begins.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) data: Data,
}

#[derive(Debug)]
pub(super) enum Data {
    Scalar(Scalar),
    Sequence(Vec<Rc<Node>>),
    Mapping(Vec<(Rc<Node>, Rc<Node>)>),
    Alias(Rc<Node>),
}

/// A scalar as it is written.
#[derive(Debug)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Whether it has neither quotes nor a tag, so that its text decides what it is.
    pub(super) plain: bool,
    /// The whole tag: `tag:yaml.org,2002:int` for `!!int`.
    pub(super) tag: Option<String>,
}

/// The documents of a part of a file, one after the other, up to the first error.
pub(super) struct Documents<'p> {
    parser: Parser<&'p [u8]>,
    first_line: usize,
    ended: bool,
}

/// A collection whose end has not been read yet.
struct Open {
    at: Position,
    anchor: Option<String>,
    mapping: bool,
    items: Vec<Rc<Node>>,
}

impl<'p> Documents<'p> {
    pub(super) fn new(part: &split::Part<'p>) -> Self {
        let mut parser = Parser::new();
        parser.set_input(part.text.as_bytes());
        Self { parser, first_line: part.first_line, ended: false }
    }

    fn at(&self, mark: libyaml_safer::Mark) -> Position {
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX - 1);
        (number(mark.line) + self.first_line + 1, number(mark.column) + 1)
    }

    /// The root of the next document; none at the end.
    fn document(&mut self) -> Result<Option<Rc<Node>>, SyntaxError> {
        let mut anchors: HashMap<String, Rc<Node>> = HashMap::new();
        let mut open: Vec<Open> = Vec::new();
        let mut root = None;
        loop {
            let event = self.parser.parse().map_err(|error| {
                let at = error.problem_mark().map_or((self.first_line + 1, 1), |mark| self.at(mark));
                let context = error.context().filter(|context| !context.is_empty());
                (at, context.map_or_else(|| error.problem().to_owned(), |context| format!("{context}, {}", error.problem())))
            })?;
            let at = self.at(event.start_mark);
            let (node, anchor) = match event.data {
                EventData::StreamStart { .. } | EventData::DocumentStart { .. } => continue,
                EventData::DocumentEnd { .. } => return Ok(root),
                EventData::StreamEnd => {
                    self.ended = true;
                    return Ok(root);
                }
                EventData::SequenceStart { anchor, .. } => {
                    open.push(Open { at, anchor, mapping: false, items: Vec::new() });
                    if open.len() > MAX_DEPTH {
                        return Err((at, format!("nested more than {MAX_DEPTH} deep")));
                    }
                    continue;
                }
                EventData::MappingStart { anchor, .. } => {
                    open.push(Open { at, anchor, mapping: true, items: Vec::new() });
                    if open.len() > MAX_DEPTH {
                        return Err((at, format!("nested more than {MAX_DEPTH} deep")));
                    }
                    continue;
                }
                EventData::SequenceEnd | EventData::MappingEnd => match open.pop() {
                    Some(Open { at, anchor, mapping, items }) => {
                        let data = if mapping { Data::Mapping(pairs(items)) } else { Data::Sequence(items) };
                        (Node { at, data }, anchor)
                    }
                    None => return Err((at, "an end without a beginning".to_owned())),
                },
                EventData::Scalar { anchor, tag, value, style, .. } => {
                    let plain = style == ScalarStyle::Plain && tag.is_none();
                    (Node { at, data: Data::Scalar(Scalar { text: value, plain, tag }) }, anchor)
                }
                EventData::Alias { anchor } => match anchors.get(&anchor) {
                    Some(node) => (Node { at, data: Data::Alias(node.clone()) }, None),
                    None => {
                        let around: HashSet<&str> = open.iter().filter_map(|open| open.anchor.as_deref()).collect();
                        let itself = around.contains(anchor.as_str());
                        let unknown = || format!("unknown anchor '{anchor}' referenced");
                        return Err((at, if itself { format!("anchor '{anchor}' value contains itself") } else { unknown() }));
                    }
                },
            };
            let node = Rc::new(node);
            if let Some(anchor) = anchor {
                anchors.insert(anchor, node.clone());
            }
            match open.last_mut() {
                Some(parent) => parent.items.push(node),
                None => root = Some(node),
            }
        }
    }
}

/// The keys of a mapping, each with its value: they come in turn.
fn pairs(items: Vec<Rc<Node>>) -> Vec<(Rc<Node>, Rc<Node>)> {
    let mut items = items.into_iter();
    std::iter::from_fn(|| Some((items.next()?, items.next()?))).collect()
}

impl Iterator for Documents<'_> {
    type Item = Result<Rc<Node>, SyntaxError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.document() {
                Ok(Some(root)) => return Some(Ok(root)),
                Ok(None) => {}
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}
