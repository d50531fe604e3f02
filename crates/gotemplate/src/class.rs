//! Types of lists, maps and structs as Go knows them: their names, fields and methods.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::budget::Budget;
use crate::signature::Signature;
use crate::value::Value;

/// What a method does with its receiver and arguments whose number and types were checked.
pub type MethodBody =
    for<'d> fn(&mut Budget, &Value<'d>, &[Value<'d>]) -> Result<Value<'d>, String>;

/// A method of a type.
#[derive(Debug)]
pub struct Method {
    /// Its name and what it wants besides the receiver.
    pub signature: Signature,
    /// What it does.
    pub body: MethodBody,
}

/// What a map yields for a key it does not have, where that is not "no value".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// The empty text.
    Text,
    /// No value.
    Any,
}

/// A type of lists, maps or structs.
#[derive(Debug)]
pub struct Class {
    /// Its name in Go.
    pub name: &'static str,
    /// Names of a struct's fields, in order.
    pub fields: &'static [&'static str],
    /// Names of a struct's fields in JSON, in the same order; none if they are the same.
    pub json: &'static [&'static str],
    /// What is in a map or list.
    pub element: Element,
    /// Its methods.
    pub methods: &'static [Method],
    /// How it is printed, if not as its kind is.
    pub text: Option<for<'a, 'd> fn(&'a Value<'d>, &mut String)>,
}

impl Class {
    /// A type of that name without fields and methods.
    pub const fn plain(name: &'static str, element: Element) -> Self {
        Class { name, fields: &[], json: &[], element, methods: &[], text: None }
    }

    pub(crate) fn method(&self, name: &str) -> Option<&'static Method> {
        self.methods.iter().find(|method| method.signature.name == name)
    }
}

/// `[]interface {}`
pub static LIST: Class = Class::plain("[]interface {}", Element::Any);
/// `[]string`
pub static TEXTS: Class = Class::plain("[]string", Element::Text);
/// `map[string]interface {}`
pub static MAP: Class = Class::plain("map[string]interface {}", Element::Any);
/// `map[string]string`
pub static TEXT_MAP: Class = Class::plain("map[string]string", Element::Text);

/// A list of a type.
#[derive(Debug, Clone)]
pub struct List<'d> {
    /// Its type.
    pub class: &'static Class,
    /// What is in it.
    pub items: Vec<Value<'d>>,
    pub(crate) depth: u32,
}

/// A map of a type.
#[derive(Debug, Clone)]
pub struct Map<'d> {
    /// Its type.
    pub class: &'static Class,
    /// Values by key.
    pub entries: BTreeMap<Cow<'d, str>, Value<'d>>,
    /// Whether there is no map at all, which only `eq` and encoders tell from an empty one.
    pub is_nil: bool,
    pub(crate) depth: u32,
}

/// A struct of a type.
#[derive(Debug, Clone)]
pub struct Struct<'d> {
    /// Its type.
    pub class: &'static Class,
    /// As many values as the type has fields, in the same order.
    pub values: Vec<Value<'d>>,
    pub(crate) depth: u32,
}

impl<'d> Struct<'d> {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&Value<'d>> {
        let at = self.class.fields.iter().position(|field| *field == name)?;
        self.values.get(at)
    }
}
