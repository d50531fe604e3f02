//! What functions of templates work with besides their arguments.

use gotemplate::{Budget, Context, Expressions, Limits, Value};
use model::Zones;

use super::Moment;
use super::functions::{self, Dialect};

/// Values by the number of a template's field.
pub(crate) trait Fields<'d> {
    /// The value of the field with that number; `None` if the line has no such label.
    fn field(&self, number: usize) -> Option<&'d str>;
}

/// The line at hand, the clock, and what one execution may still use.
pub(crate) struct Calls<'c, 'd> {
    pub(crate) line: &'d str,
    pub(crate) timestamp_ns: i64,
    pub(crate) now_ns: i64,
    pub(crate) zones: Zones,
    pub(crate) expressions: &'c mut Expressions,
    pub(crate) budget: Budget,
    fields: &'c dyn Fields<'d>,
    dialect: Dialect,
}

impl<'c, 'd> Calls<'c, 'd> {
    pub(crate) fn new(
        moment: Moment<'d>,
        expressions: &'c mut Expressions,
        fields: &'c dyn Fields<'d>,
        dialect: Dialect,
    ) -> Self {
        let budget = Budget::new(Limits::default());
        let Moment { line, timestamp_ns, now_ns, zones } = moment;
        Calls { line, timestamp_ns, now_ns, zones, expressions, budget, fields, dialect }
    }

    /// A text a function made, if it may.
    pub(crate) fn text(&mut self, text: String) -> Result<Value<'d>, String> {
        self.budget.text(text)
    }

    /// Whether a text of `len` bytes may be made.
    pub(crate) fn allow(&self, len: usize) -> Result<(), String> {
        self.budget.allow(len)
    }
}

impl<'d> Context<'d> for Calls<'_, 'd> {
    fn budget(&mut self) -> &mut Budget {
        &mut self.budget
    }

    fn field(&mut self, number: usize, _: &str) -> Value<'d> {
        match (self.fields.field(number), self.dialect) {
            (Some(text), _) => Value::text(text),
            (None, Dialect::Collector) => Value::Nil,
            (None, Dialect::Query) => Value::text(""),
        }
    }

    fn call(&mut self, function: usize, args: &[Value<'d>]) -> Result<Value<'d>, String> {
        functions::call(function, self, args)
    }
}

/// The text at a place; arguments were checked before.
pub(crate) fn text_at<'a>(args: &'a [Value<'_>], at: usize) -> &'a str {
    args.get(at).and_then(Value::as_text).unwrap_or_default()
}

/// The integer at a place; arguments were checked before.
pub(crate) fn integer_at(args: &[Value<'_>], at: usize) -> i64 {
    args.get(at).and_then(Value::as_integer).unwrap_or(0)
}
