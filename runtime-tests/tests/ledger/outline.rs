//! Asks a type what it can be read from: a deserializer that offers every field there is and notes its path.

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Error;

/// A property: `mounts[].options`, `linux.sysctl{}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    pub path: String,
    /// It is a list, an object or a map.
    pub composed: bool,
}

/// All properties of `T`, in the order of the type.
pub fn of<T: serde::de::DeserializeOwned>() -> Vec<Property> {
    let mut found = Vec::new();
    T::deserialize(Tracer { path: String::new(), found: &mut found }).expect("a type reads what it asks for");
    found
}

struct Tracer<'a> {
    path: String,
    found: &'a mut Vec<Property>,
}

impl Tracer<'_> {
    fn composed(&mut self) {
        if let Some(last) = self.found.last_mut().filter(|p| p.path == self.path) {
            last.composed = true;
        }
    }

    fn below(&mut self, part: &str) -> Tracer<'_> {
        Tracer { path: format!("{}{part}", self.path), found: self.found }
    }
}

macro_rules! scalars {
    ($($name:ident $visit:ident $value:expr;)*) => {
        $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> { visitor.$visit($value) })*
    };
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = Error;

    scalars! {
        deserialize_bool visit_bool false;
        deserialize_i8 visit_i8 0;
        deserialize_i16 visit_i16 0;
        deserialize_i32 visit_i32 0;
        deserialize_i64 visit_i64 0;
        deserialize_u8 visit_u8 0;
        deserialize_u16 visit_u16 0;
        deserialize_u32 visit_u32 0;
        deserialize_u64 visit_u64 0;
        deserialize_f64 visit_f64 0.0;
        deserialize_str visit_str "";
        deserialize_string visit_str "";
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.composed();
        visitor.visit_map(Fields { left: fields, at: self })
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.composed();
        visitor.visit_seq(One(Some(self.below("[]"))))
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.composed();
        visitor.visit_map(One(Some(self.below("{}"))))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(Error::custom(format!("{} takes any value, which no ledger can describe", self.path)))
    }

    serde::forward_to_deserialize_any! {
        i128 u128 f32 char bytes byte_buf unit unit_struct newtype_struct tuple tuple_struct enum identifier ignored_any
    }
}

struct Fields<'a> {
    left: &'static [&'static str],
    at: Tracer<'a>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(name) = self.left.first() else { return Ok(None) };
        seed.deserialize(StrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let (name, rest) = self.left.split_first().expect("there was a key");
        self.left = rest;
        let dot = if self.at.path.is_empty() { "" } else { "." };
        let below = self.at.below(&format!("{dot}{name}"));
        below.found.push(Property { path: below.path.clone(), composed: false });
        seed.deserialize(below)
    }
}

/// One element, or one entry.
struct One<'a>(Option<Tracer<'a>>);

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        self.0.take().map(|t| seed.deserialize(t)).transpose()
    }
}

impl<'de> MapAccess<'de> for One<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if self.0.is_none() {
            return Ok(None);
        }
        seed.deserialize(StrDeserializer::new("key")).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self.0.take().expect("there was a key"))
    }
}
