//! What the types of objects are deserialized from. One type that is not generic does what a tower of wrappers would (where an error was, which
//! fields nobody asked for), so that rustc makes machine code of each of Kubernetes' hundreds of types once: with three wrappers around serde_json's
//! deserializer this crate took eight minutes to compile.

use std::cell::{Cell, RefCell};

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde_json::{Map, Value};

use super::misfit::{Error, Wanted};

/// A step from a value to one inside it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// What is noted of a document while it is read: what serde itself does not tell.
#[derive(Default)]
pub(super) struct Notes {
    /// The fields that the type does not have.
    pub(super) unknown: RefCell<Vec<Vec<Step>>>,
    /// Where the first error was.
    pub(super) failed: RefCell<Option<Vec<Step>>>,
}

/// A value inside a document.
#[derive(Clone, Copy)]
pub(super) struct Reader<'de, 'n> {
    value: &'de Value,
    place: &'n Place<'de, 'n>,
    notes: &'n Notes,
}

/// Where a value stands: a list from the inside outwards, which costs nothing until something is noted.
enum Place<'de, 'n> {
    Root,
    Key(&'n Place<'de, 'n>, &'de str),
    Index(&'n Place<'de, 'n>, usize),
}

impl Place<'_, '_> {
    fn steps(&self) -> Vec<Step> {
        match self {
            Self::Root => Vec::new(),
            Self::Key(parent, key) => [parent.steps(), vec![Step::Key((*key).to_owned())]].concat(),
            Self::Index(parent, index) => [parent.steps(), vec![Step::Index(*index)]].concat(),
        }
    }
}

/// A path as kubectl writes it: `spec.ports[0].foo`.
pub(super) fn dotted(steps: &[Step]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Index(index) => path.push_str(&format!("[{index}]")),
            Step::Key(key) if path.is_empty() => path.push_str(key),
            Step::Key(key) => path.extend([".", key]),
        }
    }
    path
}

impl<'de, 'n> Reader<'de, 'n> {
    /// Begins to read a whole document.
    pub(super) fn new(value: &'de Value, notes: &'n Notes) -> Self {
        Self { value, place: &Place::Root, notes }
    }

    /// Reads what stands here. If there is an error, the innermost value that has it is noted as its place.
    pub(super) fn read<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        let made = seed.deserialize(self);
        if made.is_err() {
            self.notes.failed.borrow_mut().get_or_insert_with(|| self.place.steps());
        }
        made
    }

    /// The error for a value of another type than the one that is wanted.
    fn misfit(self, expected: &dyn Expected, wanted: Wanted) -> Error {
        Error::invalid_type(unexpected(self.value), expected).wanting(wanted)
    }

    fn number<V: Visitor<'de>>(self, visitor: V, wanted: Wanted) -> Result<V::Value, Error> {
        let Value::Number(number) = self.value else { return Err(self.misfit(&visitor, wanted)) };
        let read = match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(it), ..) => visitor.visit_u64(it),
            (None, Some(it), _) => visitor.visit_i64(it),
            (None, None, Some(it)) => visitor.visit_f64(it),
            (None, None, None) => return Err(self.misfit(&visitor, wanted)),
        };
        read.map_err(|error: Error| error.wanting(wanted))
    }

    fn list<V: Visitor<'de>>(self, items: &'de [Value], visitor: V) -> Result<V::Value, Error> {
        let at = Cell::new(0);
        let made = visitor.visit_seq(Items { items, at: &at, of: self })?;
        if at.get() < items.len() { Err(Error::invalid_length(items.len(), &"fewer elements in array")) } else { Ok(made) }
    }

    fn map<V: Visitor<'de>>(self, fields: &'de Map<String, Value>, visitor: V) -> Result<V::Value, Error> {
        let mut rest = fields.iter();
        let made = visitor.visit_map(Fields { rest: &mut rest, value: None, of: self })?;
        if rest.len() > 0 { Err(Error::invalid_length(fields.len(), &"fewer elements in map")) } else { Ok(made) }
    }
}

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(it) => Unexpected::Bool(*it),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(it), _) => Unexpected::Unsigned(it),
            (None, Some(it)) => Unexpected::Signed(it),
            (None, None) => Unexpected::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(it) => Unexpected::Str(it),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    }
}

/// Reads numbers as any type of number. The visitor says whether a number fits.
macro_rules! numbers {
    ($($method:ident: $wanted:ident,)*) => { $(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.number(visitor, Wanted::$wanted)
        }
    )* };
}

impl<'de> Deserializer<'de> for Reader<'de, '_> {
    type Error = Error;

    numbers! {
        deserialize_i8: Other, deserialize_i16: Other, deserialize_i32: Int32, deserialize_i64: Int64, deserialize_i128: Other,
        deserialize_u8: Other, deserialize_u16: Other, deserialize_u32: Other, deserialize_u64: Other, deserialize_u128: Other,
        deserialize_f32: Other, deserialize_f64: Other,
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Bool(it) => visitor.visit_bool(*it),
            _ => Err(self.misfit(&visitor, Wanted::Bool)),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::String(it) => visitor.visit_borrowed_str(it),
            _ => Err(self.misfit(&visitor, Wanted::String)),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            _ => Err(self.misfit(&visitor, Wanted::Other)),
        }
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(_) => self.deserialize_bool(visitor),
            Value::Number(_) => self.number(visitor, Wanted::Other),
            Value::String(_) => self.deserialize_str(visitor),
            Value::Array(items) => self.list(items, visitor),
            Value::Object(fields) => self.map(fields, visitor),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::String(_) => self.deserialize_str(visitor),
            _ => self.deserialize_seq(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Value::Array(items) = self.value else { return Err(self.misfit(&visitor, Wanted::Other)) };
        self.list(items, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(self, _: &'static str, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Value::Object(fields) = self.value else { return Err(self.misfit(&visitor, Wanted::Map)) };
        self.map(fields, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Array(items) => self.list(items, visitor),
            _ => self.deserialize_map(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::String(variant) => visitor.visit_enum(BorrowedStrDeserializer::new(variant)),
            Value::Object(fields) => match (fields.iter().next(), fields.len()) {
                (Some((variant, value)), 1) => visitor.visit_enum(Variant { variant, value, of: self }),
                _ => Err(Error::invalid_value(Unexpected::Map, &"map with a single key")),
            },
            _ => Err(self.misfit(&"string or map", Wanted::Other)),
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    /// Notes a field that the type does not have.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.notes.unknown.borrow_mut().push(self.place.steps());
        visitor.visit_unit()
    }
}

struct Items<'de, 'n, 'i> {
    items: &'de [Value],
    at: &'i Cell<usize>,
    of: Reader<'de, 'n>,
}

impl<'de> SeqAccess<'de> for Items<'de, '_, '_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let index = self.at.get();
        let Some(value) = self.items.get(index) else { return Ok(None) };
        self.at.set(index + 1);
        let item = Reader { value, place: &Place::Index(self.of.place, index), notes: self.of.notes };
        item.read(seed).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len() - self.at.get())
    }
}

struct Fields<'de, 'n, 'i> {
    rest: &'i mut serde_json::map::Iter<'de>,
    value: Option<(&'de str, &'de Value)>,
    of: Reader<'de, 'n>,
}

impl<'de> MapAccess<'de> for Fields<'de, '_, '_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some((key, value));
        seed.deserialize(BorrowedStrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let (key, value) = self.value.take().ok_or_else(|| Error::custom("value is missing"))?;
        Reader { value, place: &Place::Key(self.of.place, key), notes: self.of.notes }.read(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// A variant of an enumeration that has content: `variant: content`.
struct Variant<'de, 'n> {
    variant: &'de str,
    value: &'de Value,
    of: Reader<'de, 'n>,
}

impl<'de, 'n> EnumAccess<'de> for Variant<'de, 'n> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        Ok((seed.deserialize(BorrowedStrDeserializer::<Error>::new(self.variant))?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de, '_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        self.newtype_variant_seed(std::marker::PhantomData)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        Reader { value: self.value, place: &Place::Key(self.of.place, self.variant), notes: self.of.notes }.read(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        Reader { value: self.value, place: &Place::Key(self.of.place, self.variant), notes: self.of.notes }.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        Reader { value: self.value, place: &Place::Key(self.of.place, self.variant), notes: self.of.notes }.deserialize_map(visitor)
    }
}
