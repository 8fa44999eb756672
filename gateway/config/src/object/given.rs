//! An object's content as it was given. A tree takes some ten times the memory of its text, and once an object was checked it is looked at rarely: so the
//! text is kept, and the tree is made of it when somebody asks.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::manifest::Rules;

/// The content of an object, which is JSON.
#[derive(Clone, Debug)]
pub struct Given {
    /// What there is besides the rules.
    rest: Form,
    rules: Option<Arc<Rules>>,
}

#[derive(Clone, Debug)]
enum Form {
    Tree(Arc<Value>),
    Text(Arc<str>),
}

impl Given {
    /// Takes the content as a tree.
    pub fn new(value: Value) -> Self {
        Self::with_rules(value, None)
    }

    /// Takes the content as a tree, in which an empty list stands in the place of these rules.
    pub(super) fn with_rules(value: Value, rules: Option<Arc<Rules>>) -> Self {
        Self { rest: Form::Tree(Arc::new(value)), rules }
    }

    /// The rules that are held apart.
    pub fn rules(&self) -> Option<&Arc<Rules>> {
        self.rules.as_ref()
    }

    /// The content as a tree. Where only the text is kept, each call makes a new one.
    pub fn tree(&self) -> Arc<Value> {
        match &self.rules {
            None => self.rest(),
            Some(_) => {
                #[cfg(test)]
                WITH_RULES.set(WITH_RULES.get() + 1);
                Arc::new(serde_json::from_str(&self.json()).unwrap_or_default())
            }
        }
    }

    /// The same, but for the rules of a router's configuration if there are many of them: an empty list may stand in their place.
    pub(crate) fn rest(&self) -> Arc<Value> {
        match &self.rest {
            Form::Tree(tree) => tree.clone(),
            // The text was written by the same library.
            Form::Text(text) => Arc::new(serde_json::from_str(text).unwrap_or_default()),
        }
    }

    /// The content as text.
    pub fn json(&self) -> Arc<str> {
        match &self.rules {
            None => self.rest_json(),
            Some(rules) => rules.joined_with(&self.rest()).into(),
        }
    }

    /// What [`Given::rest`] is, as text.
    pub(crate) fn rest_json(&self) -> Arc<str> {
        match &self.rest {
            Form::Tree(tree) => text(tree),
            Form::Text(text) => text.clone(),
        }
    }

    /// Keeps the content as text, which takes less memory.
    pub(super) fn compact(&mut self) {
        if let Form::Tree(tree) = &self.rest {
            self.rest = Form::Text(text(tree));
        }
    }
}

#[cfg(test)]
thread_local! {
    /// How many trees were made in which there are rules that are held apart. For thousands of rules that takes tens of milliseconds.
    pub(crate) static WITH_RULES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// A tree as text. Through the machinery of `Display` it would take twice as long.
fn text(tree: &Value) -> Arc<str> {
    serde_json::to_string(tree).unwrap_or_default().into()
}

impl PartialEq for Given {
    fn eq(&self, other: &Self) -> bool {
        if self.rules.is_some() != other.rules.is_some() {
            return self.json() == other.json();
        }
        let rest = match (&self.rest, &other.rest) {
            (Form::Tree(a), Form::Tree(b)) => a == b,
            (Form::Text(a), Form::Text(b)) => a == b,
            _ => self.rest_json() == other.rest_json(),
        };
        rest && self.rules == other.rules
    }
}

impl Eq for Given {}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.json())
    }
}
