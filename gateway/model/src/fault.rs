//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::escape;

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The fault is told, and the object is used.
    Warning,
    /// The object is not used. Its last good version is used, if there was one.
    Error,
}

/// A place in a file; lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct Place {
    /// The file.
    #[serde(serialize_with = "path")]
    pub file: Arc<PathBuf>,
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
    /// The line's text; empty where it is not shown.
    pub text: String,
}

fn path<S: serde::Serializer>(file: &Arc<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&file.display())
}

/// A fault: one thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Fault {
    /// How bad the fault is.
    pub severity: Severity,
    /// Where the fault stands; none if it is not in a file.
    pub place: Option<Place>,
    /// The object that has the fault, such as `Service default/nginx-svc`, if it could be told.
    pub object: Option<String>,
    /// What is wrong. Where Kubernetes has a message for it, it is that one.
    pub message: String,
    /// What was expected, or what to do.
    pub expected: Option<String>,
}

impl Fault {
    /// The fault in one line, as the log has it: `file:line:column: error: message; hint`.
    pub fn summary(&self) -> String {
        let hint = self.expected.iter().map(|expected| format!("; {}", escape::line(expected)));
        std::iter::once(self.head()).chain(hint).collect()
    }

    fn head(&self) -> String {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        let place =
            self.place.as_ref().map(|place| format!("{}:{}:{}: ", place.file.display(), place.line, place.column)).unwrap_or_default();
        let object = self.object.as_deref().filter(|object| !self.message.contains(object));
        let object = object.map(|object| format!("{object}: ")).unwrap_or_default();
        escape::line(&format!("{place}{severity}: {object}{}", self.message)).into_owned()
    }
}

impl fmt::Display for Fault {
    /// `file:line:column: error: message`, the line with a mark below the column, and the hint. All of it comes from files and plugins, and is escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head())?;
        if let Some(place) = self.place.as_ref().filter(|p| !p.text.is_empty()) {
            let (number, text) = (place.line.to_string(), escape::line(&place.text));
            // The mark stands below the place where the escaped line shows the column.
            let before: String = place.text.chars().take(place.column.saturating_sub(1)).collect();
            let beyond = place.column.saturating_sub(1).saturating_sub(before.chars().count());
            let column = escape::line(&before).chars().count() + beyond;
            write!(f, "\n {number} | {text}\n {:width$} | {:column$}^", "", "", width = number.len())?;
        }
        if let Some(expected) = &self.expected {
            write!(f, "\n   = {}", escape::line(expected))?;
        }
        Ok(())
    }
}
