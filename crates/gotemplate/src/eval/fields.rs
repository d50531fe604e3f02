//! Fields, keys and methods of values.

use crate::ast::{Operand, OperandKind};
use crate::value::Value;

use super::{At, Context, Evaluator, MissingKey, Outcome};

impl<'d, C: Context<'d>> Evaluator<'_, 'd, C> {
    /// Fields of the data, of a variable, or of what something else yields.
    pub(super) fn fields(
        &mut self,
        dot: &Value<'d>,
        operand: &'d Operand,
        args: &'d [Operand],
        piped: Option<Value<'d>>,
    ) -> Outcome<Value<'d>> {
        self.at = At::Operand(operand);
        match &operand.kind {
            OperandKind::Field(number, names) => {
                if !matches!(dot, Value::Labels(_)) {
                    return self.chain(dot, dot.clone(), operand, names, args, piped);
                }
                let value = self.context.field(*number, &names[0]);
                if names.len() == 1 {
                    if !args.is_empty() || piped.is_some() {
                        let name = &names[0];
                        return self.fail(format!("{name} is not a method but has arguments"));
                    }
                    return Ok(value);
                }
                self.chain(dot, value, operand, &names[1..], args, piped)
            }
            OperandKind::Variable(name, names) => {
                let value = self.variable(name);
                self.count_copy(&value)?;
                if names.is_empty() {
                    self.refuse_args(operand, args, piped.is_some())?;
                    return Ok(value);
                }
                self.chain(dot, value, operand, names, args, piped)
            }
            OperandKind::Chain(inner, names) => {
                if matches!(inner.kind, OperandKind::Nil) {
                    return self.fail(format!("indirection through explicit nil in {operand}"));
                }
                let value = self.operand(dot, inner)?;
                self.chain(dot, value, operand, names, args, piped)
            }
            _ => Ok(Value::Nil),
        }
    }

    /// Fields of a value, one inside the other. Arguments go to the last.
    pub(super) fn chain(
        &mut self,
        dot: &Value<'d>,
        mut value: Value<'d>,
        operand: &'d Operand,
        names: &'d [String],
        args: &'d [Operand],
        mut piped: Option<Value<'d>>,
    ) -> Outcome<Value<'d>> {
        // Whether the value comes from a map or struct that has no value there: Go tells that from
        // a value that is not there at all.
        let mut is_empty_interface = false;
        for (index, name) in names.iter().enumerate() {
            let is_last = index + 1 == names.len();
            let (args, piped) = if is_last { (args, piped.take()) } else { (&args[..0], None) };
            if matches!(value, Value::Nil) {
                if is_empty_interface {
                    return self.fail(format!("nil pointer evaluating interface {{}}.{name}"));
                }
                if self.missing_key == MissingKey::Error {
                    let name = model::quote::quote(name);
                    return self.fail(format!("nil data; no entry for key {name}"));
                }
                return Ok(Value::Nil);
            }
            if let Some(method) = crate::methods::find(&value, name) {
                let given = self.arguments(dot, &method.signature, args, piped)?;
                let outcome = (method.body)(self.context.budget(), &value, &given);
                value = match outcome {
                    Ok(value) => value,
                    Err(problem) => {
                        self.at = At::Operand(operand);
                        return self.fail(format!("error calling {name}: {problem}"));
                    }
                };
                continue;
            }
            let has_args = !args.is_empty() || piped.is_some();
            value = match &value {
                Value::Struct(fields) => match fields.field(name) {
                    Some(_) if has_args => {
                        return self.fail(format!(
                            "{name} has arguments but cannot be invoked as function"
                        ));
                    }
                    Some(value) => {
                        is_empty_interface = true;
                        value.clone()
                    }
                    None => return self.no_field(name, &value),
                },
                Value::Map(_) | Value::Labels(_) => {
                    if has_args {
                        return self.fail(format!("{name} is not a method but has arguments"));
                    }
                    match (value.entry(name), self.missing_key) {
                        (Some(value), _) => {
                            is_empty_interface = true;
                            value
                        }
                        (None, MissingKey::Zero) => {
                            is_empty_interface = true;
                            value.zero_entry()
                        }
                        (None, MissingKey::NoValue) => Value::Nil,
                        (None, MissingKey::Error) => {
                            let name = model::quote::quote(name);
                            return self.fail(format!("map has no entry for key {name}"));
                        }
                    }
                }
                other => return self.no_field(name, other),
            };
        }
        Ok(value)
    }

    pub(super) fn no_field<T>(&self, name: &str, value: &Value<'_>) -> Outcome<T> {
        let type_name = value.type_name();
        self.fail(format!("can't evaluate field {name} in type {type_name}"))
    }
}
