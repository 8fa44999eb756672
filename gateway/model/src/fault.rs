//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Reported; the object is used.
    Warning,
    /// The object is not used; its last good version is, if there was one.
    Error,
}

/// A place in a file; lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
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

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Fault {
    /// How bad it is.
    pub severity: Severity,
    /// Where; none when it is not in a file.
    pub place: Option<Place>,
    /// `Service default/nginx-svc`, if the object could be told.
    pub object: Option<String>,
    /// What is wrong, in Kubernetes' words where it has some.
    pub message: String,
    /// What was expected, or what to do.
    pub expected: Option<String>,
}

impl fmt::Display for Fault {
    /// `file:line:column: error: message`, the line with a mark under the column, and the hint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        if let Some(place) = &self.place {
            write!(f, "{}:{}:{}: ", place.file.display(), place.line, place.column)?;
        }
        write!(f, "{severity}: ")?;
        match &self.object {
            Some(object) if !self.message.contains(object.as_str()) => write!(f, "{object}: {}", self.message)?,
            _ => f.write_str(&self.message)?,
        }
        if let Some(place) = self.place.as_ref().filter(|p| !p.text.is_empty()) {
            let number = place.line.to_string();
            write!(f, "\n {number} | {}\n {:width$} | {:column$}^", place.text, "", "", width = number.len(), column = place.column - 1)?;
        }
        if let Some(expected) = &self.expected {
            write!(f, "\n   = {expected}")?;
        }
        Ok(())
    }
}
