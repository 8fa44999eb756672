//! A line of the access log, for a collector.

use std::time::SystemTime;

use crate::trace_context::TraceContext;

/// A line of the access log.
#[derive(Clone, Debug)]
pub struct Record {
    /// When the exchange, connection or flow had ended.
    pub time: SystemTime,
    /// The line as it stands in a file.
    pub line: String,
    /// The fields, by their names in OpenTelemetry's semantic conventions where these have one.
    pub fields: Vec<(&'static str, Value)>,
    /// The server's span, if the exchange is in a recorded trace.
    pub trace: Option<TraceContext>,
}

/// A field's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// A number with a fraction.
    Fraction(f64),
}
