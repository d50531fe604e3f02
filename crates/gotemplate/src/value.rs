//! Values of templates.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;

use model::go_time::{GoTime, day_name, month_name};

use crate::class::{self, Class, Element, List, Map, Struct};
use crate::duration::write_duration;

/// The power of ten from which on Go prints an exponent.
const SCIENTIFIC_FROM: i32 = 6;

/// What a text is declared to be, so that it is not escaped where such a thing may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safety {
    /// HTML
    Html,
    /// A part of an URL.
    Url,
}

/// A text that is declared to be something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafeText {
    /// What it is declared to be.
    pub safety: Safety,
    /// The text.
    pub text: Box<str>,
}

/// A value, with the types Go has where templates tell them apart.
#[derive(Debug, Clone)]
pub enum Value<'d> {
    /// No value.
    Nil,
    /// `string`
    Text(Cow<'d, str>),
    /// `template.HTML` or `template.URL`
    Safe(Rc<SafeText>),
    /// `bool`
    Bool(bool),
    /// `int`
    Int(i64),
    /// `int64`
    Int64(i64),
    /// `uint64`
    Uint(u64),
    /// `uint8`, a byte of a text.
    Byte(u8),
    /// `float64`
    Float(f64),
    /// `time.Time`
    Time(Rc<GoTime>),
    /// `time.Duration`, in nanoseconds.
    Duration(i64),
    /// `time.Month`, from 1.
    Month(u32),
    /// `time.Weekday`; 0 is Sunday.
    Weekday(u32),
    /// A list.
    List(Rc<List<'d>>),
    /// A map with texts as keys.
    Map(Rc<Map<'d>>),
    /// Texts by name, sorted by it: a map that is not built.
    Labels(&'d [(&'d str, &'d str)]),
    /// A struct, or a pointer to one.
    Struct(Rc<Struct<'d>>),
}

/// Values are copied a lot, so they are no larger than a text.
const _: () = assert!(size_of::<Value<'_>>() == size_of::<String>());

/// How deep values are inside others, at most.
fn depth_of<'v, 'd: 'v>(values: impl Iterator<Item = &'v Value<'d>>) -> u32 {
    values.map(Value::depth).max().unwrap_or(0).saturating_add(1)
}

impl<'d> Value<'d> {
    /// A text.
    #[inline]
    pub fn text(text: impl Into<Cow<'d, str>>) -> Self {
        Value::Text(text.into())
    }

    /// A time.
    pub fn time(time: GoTime) -> Self {
        Value::Time(Rc::new(time))
    }

    /// A text that is declared to be something.
    pub fn safe(safety: Safety, text: impl Into<Box<str>>) -> Self {
        Value::Safe(Rc::new(SafeText { safety, text: text.into() }))
    }

    /// A list of a type. Lists that templates make go through [`crate::Budget::list`].
    pub fn list(class: &'static Class, items: Vec<Value<'d>>) -> Self {
        let depth = depth_of(items.iter());
        Value::List(Rc::new(List { class, items, depth }))
    }

    /// A map of a type. Maps that templates make go through [`crate::Budget::map`].
    pub fn map(class: &'static Class, entries: BTreeMap<Cow<'d, str>, Value<'d>>) -> Self {
        let depth = depth_of(entries.values());
        Value::Map(Rc::new(Map { class, entries, is_nil: false, depth }))
    }

    /// A map of a type that is not there.
    pub fn nil_map(class: &'static Class) -> Self {
        Value::Map(Rc::new(Map { class, entries: BTreeMap::new(), is_nil: true, depth: 1 }))
    }

    /// A struct of a type.
    ///
    /// # Panics
    /// There are not as many values as the type has fields.
    pub fn structure(class: &'static Class, values: Vec<Value<'d>>) -> Self {
        assert_eq!(class.fields.len(), values.len(), "{} has other fields", class.name);
        let depth = depth_of(values.iter());
        Value::Struct(Rc::new(Struct { class, values, depth }))
    }

    /// How deep lists, maps and structs are inside one another.
    pub(crate) fn depth(&self) -> u32 {
        match self {
            Value::List(list) => list.depth,
            Value::Map(map) => map.depth,
            Value::Struct(value) => value.depth,
            _ => 0,
        }
    }

    /// The type of a list, map or struct.
    #[inline]
    pub fn class(&self) -> Option<&'static Class> {
        match self {
            Value::List(list) => Some(list.class),
            Value::Map(map) => Some(map.class),
            Value::Struct(value) => Some(value.class),
            Value::Labels(_) => Some(&class::TEXT_MAP),
            _ => None,
        }
    }

    /// The name of the type in Go.
    #[inline]
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Nil => "nil",
            Value::Text(_) => "string",
            Value::Safe(safe) => match safe.safety {
                Safety::Html => "template.HTML",
                Safety::Url => "template.URL",
            },
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Int64(_) => "int64",
            Value::Uint(_) => "uint64",
            Value::Byte(_) => "uint8",
            Value::Float(_) => "float64",
            Value::Time(_) => "time.Time",
            Value::Duration(_) => "time.Duration",
            Value::Month(_) => "time.Month",
            Value::Weekday(_) => "time.Weekday",
            Value::List(list) => list.class.name,
            Value::Map(map) => map.class.name,
            Value::Labels(_) => class::TEXT_MAP.name,
            Value::Struct(value) => value.class.name,
        }
    }

    /// Whether `if` takes it for true.
    #[inline]
    pub fn is_true(&self) -> bool {
        match self {
            Value::Nil => false,
            Value::Text(text) => !text.is_empty(),
            Value::Safe(safe) => !safe.text.is_empty(),
            Value::Bool(value) => *value,
            Value::Int(value) | Value::Int64(value) | Value::Duration(value) => *value != 0,
            Value::Uint(value) => *value != 0,
            Value::Byte(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::Month(value) | Value::Weekday(value) => *value != 0,
            // A struct is always true.
            Value::Time(_) | Value::Struct(_) => true,
            Value::List(list) => !list.items.is_empty(),
            Value::Map(map) => !map.entries.is_empty(),
            Value::Labels(labels) => !labels.is_empty(),
        }
    }

    /// Number of bytes or elements, if there is such a thing.
    pub fn length(&self) -> Option<usize> {
        match self {
            Value::Text(text) => Some(text.len()),
            Value::Safe(safe) => Some(safe.text.len()),
            Value::List(list) => Some(list.items.len()),
            Value::Map(map) => Some(map.entries.len()),
            Value::Labels(labels) => Some(labels.len()),
            _ => None,
        }
    }

    /// The text, if it is one, whatever it is declared to be.
    #[inline]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            Value::Safe(safe) => Some(&safe.text),
            _ => None,
        }
    }

    /// The integer, if it is one with a sign.
    #[inline]
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Value::Int(value) | Value::Int64(value) | Value::Duration(value) => Some(*value),
            Value::Month(value) | Value::Weekday(value) => Some(i64::from(*value)),
            _ => None,
        }
    }

    /// The integer, if it is one without a sign.
    pub(crate) fn as_unsigned(&self) -> Option<u64> {
        match self {
            Value::Uint(value) => Some(*value),
            Value::Byte(value) => Some(u64::from(*value)),
            _ => None,
        }
    }

    /// What a map yields for a key; `None` if it does not have it, or if it is no map.
    pub fn entry(&self, key: &str) -> Option<Value<'d>> {
        match self {
            Value::Map(map) => map.entries.get(key).cloned(),
            Value::Labels(labels) => {
                let at = labels.binary_search_by(|(name, _)| (*name).cmp(key)).ok()?;
                Some(Value::text(labels[at].1))
            }
            _ => None,
        }
    }

    /// What a map of its type yields for keys it does not have, where that is not "no value".
    pub(crate) fn zero_entry(&self) -> Value<'d> {
        match self.class().map(|class| class.element) {
            Some(Element::Text) => Value::text(""),
            _ => Value::Nil,
        }
    }

    /// Bytes that a copy of it takes besides its own size: those of a text that was made. Lists and maps are shared.
    pub(crate) fn copied_bytes(&self) -> usize {
        match self {
            Value::Text(Cow::Owned(text)) => text.len(),
            _ => 0,
        }
    }

    /// Appends the value as `%v` prints it. Stops soon after `out` is longer than `most` bytes, so
    /// that what is made of few values over and over again cannot be printed at length.
    #[inline]
    pub fn write(&self, out: &mut String, most: usize) {
        match self {
            Value::Text(text) => out.push_str(text),
            other => other.write_other(out, most),
        }
    }

    fn write_other(&self, out: &mut String, most: usize) {
        if out.len() > most {
            return;
        }
        if let Some(text) = self.class().and_then(|class| class.text) {
            text(self, out);
            return;
        }
        match self {
            Value::Nil => out.push_str("<nil>"),
            Value::Text(text) => out.push_str(text),
            Value::Safe(safe) => out.push_str(&safe.text),
            Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Value::Int(value) | Value::Int64(value) => append(out, value),
            Value::Uint(value) => append(out, value),
            Value::Byte(value) => append(out, value),
            Value::Float(value) => write_float(out, *value),
            Value::Time(time) => time.write_default(out),
            Value::Duration(value) => write_duration(out, *value),
            Value::Month(value) => out.push_str(month_name(*value)),
            Value::Weekday(value) => out.push_str(day_name(*value)),
            Value::List(list) => {
                out.push('[');
                write_items(out, most, list.items.iter());
                out.push(']');
            }
            Value::Map(map) => {
                out.push_str("map[");
                for (index, (key, value)) in map.entries.iter().enumerate() {
                    if index > 0 {
                        out.push(' ');
                    }
                    out.push_str(key);
                    out.push(':');
                    value.write(out, most);
                }
                out.push(']');
            }
            Value::Labels(labels) => {
                out.push_str("map[");
                for (index, (key, value)) in labels.iter().enumerate() {
                    if index > 0 {
                        out.push(' ');
                    }
                    out.push_str(key);
                    out.push(':');
                    out.push_str(value);
                }
                out.push(']');
            }
            Value::Struct(value) => {
                out.push('{');
                write_items(out, most, value.values.iter());
                out.push('}');
            }
        }
    }
}

fn append(out: &mut String, value: impl std::fmt::Display) {
    write!(out, "{value}").expect("a string takes everything");
}

fn write_items<'v, 'd: 'v>(
    out: &mut String,
    most: usize,
    items: impl Iterator<Item = &'v Value<'d>>,
) {
    for (index, value) in items.enumerate() {
        if out.len() > most {
            return;
        }
        if index > 0 {
            out.push(' ');
        }
        value.write(out, most);
    }
}

/// Appends a float as Go's `%v` prints it: the shortest digits that are read back as the same, with
/// an exponent below 1e-4 and from a million on.
pub fn write_float(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("NaN");
        return;
    }
    if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
        return;
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let written = if value != 0.0 && !(-4..SCIENTIFIC_FROM).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "{digits}e{sign}{:02}", exponent.unsigned_abs())
    } else {
        write!(out, "{value}")
    };
    written.expect("a string takes everything");
}
