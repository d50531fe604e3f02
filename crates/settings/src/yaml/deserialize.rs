//! The tree as a serde data format, every error with its place.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::scalar::Scalar;
use super::tree::{Node, Span, Value};
use crate::suggestion::nearest;

/// What does not fit, and where.
#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) message: String,
    pub(super) help: Option<String>,
    pub(super) span: Option<Span>,
}

impl Misfit {
    fn new(message: String, help: Option<String>) -> Self {
        Misfit { message, help, span: None }
    }

    /// The innermost place wins.
    fn or_at(mut self, node: Option<&Node>) -> Self {
        self.span = self.span.or(node.map(place));
        self
    }
}

/// A caret under a whole block would say nothing.
fn place(node: &Node) -> Span {
    match &node.value {
        Value::Scalar(_) => node.span,
        Value::Mapping(pairs) => pairs.first().map_or(node.span, |(key, _)| key.span),
        Value::Sequence(_) => (node.span.0, node.span.0 + 1),
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(text: T) -> Self {
        let text = text.to_string();
        match text.split_once("\nhelp: ") {
            Some((message, help)) => Misfit::new(message.to_owned(), Some(help.to_owned())),
            None => Misfit::new(text, None),
        }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let help = match nearest(field, expected.iter().copied()) {
            Some(known) => format!("did you mean `{known}`?"),
            None if expected.is_empty() => "no key is known here".to_owned(),
            None => format!("known here: {}", expected.join(", ")),
        };
        Misfit::new(format!("unknown key `{field}`"), Some(help))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let help = match nearest(variant, expected.iter().copied()) {
            Some(known) => format!("did you mean `{known}`?"),
            None => format!("known here: {}", expected.join(", ")),
        };
        Misfit::new(format!("unknown value `{variant}`"), Some(help))
    }

    fn missing_field(field: &'static str) -> Self {
        Misfit::new(format!("the key `{field}` is missing"), Some(format!("add `{field}: …`")))
    }
}

/// Reads one node; `None` is an empty document.
#[derive(Clone, Copy)]
pub(super) struct NodeDeserializer<'a> {
    node: Option<&'a Node>,
}

impl<'a> NodeDeserializer<'a> {
    pub(super) fn new(node: Option<&'a Node>) -> Self {
        NodeDeserializer { node }
    }

    fn scalar(self) -> Option<&'a Scalar> {
        match &self.node?.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    fn is_null(self) -> bool {
        self.node.is_none_or(Node::is_null)
    }

    fn unexpected(self, expected: &str) -> Misfit {
        let found = self.node.map_or_else(|| "nothing".to_owned(), describe);
        Misfit::new(format!("expected {expected}, found {found}"), None).or_at(self.node)
    }

    fn integer<T: TryFrom<i128>>(self, expected: &str) -> Result<T, Misfit> {
        self.scalar()
            .and_then(Scalar::integer)
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| self.unexpected(expected))
    }

    fn text(self) -> Result<&'a str, Misfit> {
        match self.scalar() {
            Some(scalar) if !scalar.is_invalid_utf8() => Ok(scalar.text()),
            _ => Err(self.unexpected("a text")),
        }
    }
}

fn describe(node: &Node) -> String {
    match &node.value {
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "a mapping".to_owned(),
        Value::Scalar(_) if node.is_null() => "nothing".to_owned(),
        Value::Scalar(scalar) => format!("`{}`", scalar.text()),
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty, $expected:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            let number: $type = self.integer($expected)?;
            visitor.$visit(number).map_err(|misfit: Misfit| misfit.or_at(self.node))
        }
    )*};
}

impl<'de> Deserializer<'de> for NodeDeserializer<'_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let visited = match self.node.map(|node| &node.value) {
            None => visitor.visit_unit(),
            Some(Value::Sequence(_)) => return self.deserialize_seq(visitor),
            Some(Value::Mapping(_)) => return self.deserialize_map(visitor),
            Some(Value::Scalar(scalar)) => {
                if scalar.is_null() {
                    visitor.visit_unit()
                } else if let Some(value) = scalar.boolean() {
                    visitor.visit_bool(value)
                } else if let Some(value) = scalar.integer() {
                    match (u64::try_from(value), i64::try_from(value)) {
                        (Ok(value), _) => visitor.visit_u64(value),
                        (_, Ok(value)) => visitor.visit_i64(value),
                        _ => visitor.visit_i128(value),
                    }
                } else if let Some(value) = scalar.float() {
                    visitor.visit_f64(value)
                } else {
                    visitor.visit_str(scalar.text())
                }
            }
        };
        visited.map_err(|misfit: Misfit| misfit.or_at(self.node))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let value = self
            .scalar()
            .and_then(Scalar::boolean)
            .ok_or_else(|| self.unexpected("true or false"))?;
        visitor.visit_bool(value).map_err(|misfit: Misfit| misfit.or_at(self.node))
    }

    integers! {
        deserialize_i8 visit_i8 i8, "a whole number from -128 to 127";
        deserialize_i16 visit_i16 i16, "a whole number from -32768 to 32767";
        deserialize_i32 visit_i32 i32, "a whole number of 32 bits";
        deserialize_i64 visit_i64 i64, "a whole number";
        deserialize_u8 visit_u8 u8, "a whole number from 0 to 255";
        deserialize_u16 visit_u16 u16, "a whole number from 0 to 65535";
        deserialize_u32 visit_u32 u32, "a whole number from 0 to 4294967295";
        deserialize_u64 visit_u64 u64, "a whole number of 0 or more";
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let number = self
            .scalar()
            .and_then(|scalar| scalar.integer().map(|n| n as f64).or_else(|| scalar.float()))
            .ok_or_else(|| self.unexpected("a number"))?;
        visitor.visit_f64(number).map_err(|misfit: Misfit| misfit.or_at(self.node))
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_str(self.text()?).map_err(|misfit: Misfit| misfit.or_at(self.node))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor
            .visit_bytes(self.text()?.as_bytes())
            .map_err(|misfit: Misfit| misfit.or_at(self.node))
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if self.is_null() { visitor.visit_unit() } else { Err(self.unexpected("nothing")) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let items: &[Arc<Node>] = match self.node.map(|node| &node.value) {
            Some(Value::Sequence(items)) => items,
            _ if self.is_null() => &[],
            _ => return Err(self.unexpected("a list")),
        };
        visitor
            .visit_seq(Items { items: items.iter() })
            .map_err(|misfit: Misfit| misfit.or_at(self.node))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, v: V) -> Result<V::Value, Misfit> {
        self.deserialize_seq(v)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let pairs: &[(Arc<Node>, Arc<Node>)] = match self.node.map(|node| &node.value) {
            Some(Value::Mapping(pairs)) => pairs,
            _ if self.is_null() => &[],
            _ => return Err(self.unexpected("a mapping of keys and values")),
        };
        refuse_duplicates(pairs)?;
        visitor
            .visit_map(Pairs { pairs: pairs.iter(), value: None })
            .map_err(|misfit: Misfit| misfit.or_at(self.node))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let (name, content) = match self.node.map(|node| &node.value) {
            Some(Value::Scalar(_)) => (self, None),
            Some(Value::Mapping(pairs)) if pairs.len() == 1 => {
                (NodeDeserializer::new(Some(&pairs[0].0)), Some(&*pairs[0].1))
            }
            _ => return Err(self.unexpected("one of the known words")),
        };
        visitor
            .visit_enum(Variant { name: name.text()?, content })
            .map_err(|misfit: Misfit| misfit.or_at(name.node))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }
}

fn refuse_duplicates(pairs: &[(Arc<Node>, Arc<Node>)]) -> Result<(), Misfit> {
    let mut seen: HashSet<&str> = HashSet::with_capacity(pairs.len());
    for (key, _) in pairs {
        let name = NodeDeserializer::new(Some(key)).text()?;
        if !seen.insert(name) {
            let help = "join the two".to_owned();
            let misfit = Misfit::new(format!("the key `{name}` is already set"), Some(help));
            return Err(misfit.or_at(Some(key)));
        }
    }
    Ok(())
}

struct Items<'a> {
    items: std::slice::Iter<'a, Arc<Node>>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Misfit> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let value = seed.deserialize(NodeDeserializer::new(Some(item)));
        value.map(Some).map_err(|misfit| misfit.or_at(Some(item)))
    }
}

struct Pairs<'a> {
    pairs: std::slice::Iter<'a, (Arc<Node>, Arc<Node>)>,
    value: Option<&'a Node>,
}

impl<'de> MapAccess<'de> for Pairs<'_> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Misfit> {
        let Some((key, value)) = self.pairs.next() else { return Ok(None) };
        self.value = Some(value);
        let name = seed.deserialize(NodeDeserializer::new(Some(key)));
        name.map(Some).map_err(|misfit| misfit.or_at(Some(key)))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        let value = self.value.take();
        seed.deserialize(NodeDeserializer::new(value)).map_err(|misfit| misfit.or_at(value))
    }
}

struct Variant<'a> {
    name: &'a str,
    content: Option<&'a Node>,
}

impl<'a, 'de> EnumAccess<'de> for Variant<'a> {
    type Error = Misfit;
    type Variant = NodeDeserializer<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), Misfit> {
        let name = seed.deserialize(IntoDeserializer::<Misfit>::into_deserializer(self.name))?;
        Ok((name, NodeDeserializer::new(self.content)))
    }
}

impl<'de> VariantAccess<'de> for NodeDeserializer<'_> {
    type Error = Misfit;

    fn unit_variant(self) -> Result<(), Misfit> {
        if self.is_null() { Ok(()) } else { Err(self.unexpected("nothing")) }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Misfit> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_map(visitor)
    }
}
