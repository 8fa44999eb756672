//! Lines of the gateway's log, with fields.

/// The level of a line of the log.
///
/// ```
/// use sluicegate_sdk::{Level, log};
/// log(Level::Warn, "no endpoint has this label");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The line is for the plugin's author.
    Debug,
    /// The line is worth knowing.
    Info,
    /// Something is wrong, but everything is served.
    Warn,
    /// Something is wrong, and something was not served.
    Error,
}

/// The value of a field. Anything from which it can be made can be passed to [`log!`](crate::log!) directly.
///
/// ```
/// use sluicegate_sdk::FieldValue;
/// assert_eq!(FieldValue::from(3_usize), FieldValue::Integer(3));
/// assert_eq!(FieldValue::from("zone-a"), FieldValue::Text("zone-a".to_owned()));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum FieldValue {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// A truth value.
    Boolean(bool),
}

impl From<&str> for FieldValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&String> for FieldValue {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<String> for FieldValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for FieldValue {
    fn from(truth: bool) -> Self {
        Self::Boolean(truth)
    }
}

macro_rules! from_number {
    ($($number:ty => $case:ident),*) => {
        $(impl From<$number> for FieldValue {
            fn from(number: $number) -> Self {
                Self::$case(number.into())
            }
        })*
    };
}
from_number!(i8 => Integer, i16 => Integer, i32 => Integer, i64 => Integer, u8 => Integer, u16 => Integer, u32 => Integer, f32 => Number, f64 => Number);

impl From<u64> for FieldValue {
    /// Converts a number. One that is too large for a whole number is rounded.
    fn from(number: u64) -> Self {
        i64::try_from(number).map_or(Self::Number(number as f64), Self::Integer)
    }
}

impl From<usize> for FieldValue {
    fn from(number: usize) -> Self {
        Self::from(number as u64)
    }
}

/// Writes a line to the gateway's log, or natively to standard error. Lines over the host's rate limit are counted and dropped; long lines are cut.
///
/// ```
/// use sluicegate_sdk::{Level, log};
/// log(Level::Info, "the ring is built");
/// ```
pub fn log(level: Level, message: &str) {
    log_with(level, message, Vec::new());
}

/// Writes a line with fields to the gateway's log. The macro [`log!`](crate::log!) does the same and is shorter.
///
/// ```
/// use sluicegate_sdk::{Level, log_with};
/// log_with(Level::Info, "the ring is built", vec![("points".to_owned(), 160.into())]);
/// ```
pub fn log_with(level: Level, message: &str, fields: Vec<(String, FieldValue)>) {
    #[cfg(target_arch = "wasm32")]
    {
        use crate::bindings::balancer::sluicegate::plugin::host;
        let level = match level {
            Level::Debug => host::Level::Debug,
            Level::Info => host::Level::Info,
            Level::Warn => host::Level::Warn,
            Level::Error => host::Level::Error,
        };
        let value = |value| match value {
            FieldValue::Text(text) => host::Value::Text(text),
            FieldValue::Integer(number) => host::Value::Integer(number),
            FieldValue::Number(number) => host::Value::Number(number),
            FieldValue::Boolean(truth) => host::Value::Boolean(truth),
        };
        let fields: Vec<(String, host::Value)> = fields.into_iter().map(|(name, of)| (name, value(of))).collect();
        host::log(level, message, &fields);
    }
    #[cfg(not(target_arch = "wasm32"))]
    crate::testing::logged(level, message, fields);
}

/// Writes a line with fields to the gateway's log. A field is `name = value`, the value text, a number or a `bool`.
///
/// ```
/// use sluicegate_sdk::{FieldValue, Level, log, testing};
/// log!(Level::Warn, "too few endpoints", found = 1, wanted = 3, zone = "a");
/// let line = testing::log_lines().pop().expect("a line");
/// assert_eq!((line.level, line.message.as_str()), (Level::Warn, "too few endpoints"));
/// assert_eq!(line.fields[0], ("found".to_owned(), FieldValue::Integer(1)));
/// ```
#[macro_export]
macro_rules! log {
    ($level:expr, $message:expr $(, $name:ident = $value:expr)* $(,)?) => {
        $crate::log_with($level, ::core::convert::AsRef::<str>::as_ref(&$message), ::std::vec![$((::std::string::String::from(::core::stringify!($name)), $crate::FieldValue::from($value))),*])
    };
}
