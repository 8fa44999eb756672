//! How a value does not fit its type: the errors of [`super::reader`]. They say what is wrong as data, and not only as text.

use std::fmt;

use serde::de::{Expected, Unexpected};

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Misfit {
    /// The value is of another type than the one that is wanted, or out of its range.
    Value {
        /// What stands there, and what is expected.
        message: String,
        /// The type that is wanted.
        wanted: Wanted,
    },
    /// A field that must be there is not.
    Missing(&'static str),
    /// The value is none of the words of an enumeration.
    Word {
        /// The word that stands there.
        given: String,
        /// The words of the enumeration.
        known: &'static [&'static str],
    },
    /// Something else is wrong, which this text says.
    Other(String),
}

/// The types that an API server names in its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A text.
    String,
    /// An integer of 32 bits.
    Int32,
    /// An integer of 64 bits.
    Int64,
    /// `true` or `false`.
    Bool,
    /// Fields or keys with their values.
    Map,
    /// Any other type.
    Other,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value { message, .. } | Self::Other(message) => f.write_str(message),
            Self::Missing(field) => write!(f, "missing field `{field}`"),
            Self::Word { given, known: [] } => write!(f, "unknown variant `{given}`, there are no variants"),
            Self::Word { given, known: [one] } => write!(f, "unknown variant `{given}`, expected `{one}`"),
            Self::Word { given, known: [one, other] } => write!(f, "unknown variant `{given}`, expected `{one}` or `{other}`"),
            Self::Word { given, known } => {
                let known: Vec<String> = known.iter().map(|word| format!("`{word}`")).collect();
                write!(f, "unknown variant `{given}`, expected one of {}", known.join(", "))
            }
        }
    }
}

/// The first misfit of a document. Boxed, as every reading function returns one.
#[derive(Debug)]
pub(super) struct Error(pub(super) Box<Misfit>);

impl Error {
    /// Adds which type is wanted, where a wrong type is the fault.
    pub(super) fn wanting(mut self, type_: Wanted) -> Self {
        if let Misfit::Value { wanted, .. } = &mut *self.0 {
            *wanted = type_;
        }
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {}

/// The value that stands there, named as JSON names it.
struct Given<'g>(Unexpected<'g>);

impl fmt::Display for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Unexpected::Unit => f.write_str("null"),
            other => other.fmt(f),
        }
    }
}

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(Box::new(Misfit::Other(message.to_string())))
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let message = format!("invalid type: {}, expected {expected}", Given(unexpected));
        Self(Box::new(Misfit::Value { message, wanted: Wanted::Other }))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let message = format!("invalid value: {}, expected {expected}", Given(unexpected));
        Self(Box::new(Misfit::Value { message, wanted: Wanted::Other }))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self(Box::new(Misfit::Word { given: variant.to_owned(), known: expected }))
    }

    fn missing_field(field: &'static str) -> Self {
        Self(Box::new(Misfit::Missing(field)))
    }
}
