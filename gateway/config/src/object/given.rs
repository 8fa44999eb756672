//! An object's content as it was given. A tree takes some ten times the memory of its text, and once an object was checked it is looked at rarely: so the
//! text is kept, and the tree is made of it when somebody asks.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// The content of an object, which is JSON.
#[derive(Clone, Debug)]
pub struct Given(Form);

#[derive(Clone, Debug)]
enum Form {
    Tree(Arc<Value>),
    Text(Arc<str>),
}

impl Given {
    /// Takes the content as a tree.
    pub fn new(value: Value) -> Self {
        Self(Form::Tree(Arc::new(value)))
    }

    /// The content as a tree. Where only the text is kept, each call makes a new one.
    pub fn tree(&self) -> Arc<Value> {
        match &self.0 {
            Form::Tree(tree) => tree.clone(),
            // The text was written by the same library.
            Form::Text(text) => Arc::new(serde_json::from_str(text).unwrap_or_default()),
        }
    }

    /// The content as text.
    pub fn json(&self) -> Arc<str> {
        match &self.0 {
            Form::Tree(tree) => tree.to_string().into(),
            Form::Text(text) => text.clone(),
        }
    }

    /// Keeps the content as text, which takes less memory.
    pub(super) fn compact(&mut self) {
        if let Form::Tree(tree) = &self.0 {
            self.0 = Form::Text(tree.to_string().into());
        }
    }
}

impl PartialEq for Given {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Form::Tree(a), Form::Tree(b)) => a == b,
            (Form::Text(a), Form::Text(b)) => a == b,
            (a, b) => Self(a.clone()).json() == Self(b.clone()).json(),
        }
    }
}

impl Eq for Given {}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.json())
    }
}
