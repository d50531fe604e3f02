//! Arguments of the types that functions want.

use crate::ast::{Operand, OperandKind};
use crate::class::{self, Element};
use crate::signature::{Param, Signature};
use crate::value::Value;

use super::{At, Context, Evaluator, Outcome};

impl<'d, C: Context<'d>> Evaluator<'_, 'd, C> {
    /// Arguments of the number and types that a signature wants.
    pub(super) fn arguments(
        &mut self,
        dot: &Value<'d>,
        signature: &Signature,
        args: &'d [Operand],
        piped: Option<Value<'d>>,
    ) -> Outcome<Vec<Value<'d>>> {
        signature
            .check_count(args.len(), usize::from(piped.is_some()))
            .map_err(|problem| self.fault(problem))?;
        let mut values = Vec::with_capacity(args.len() + usize::from(piped.is_some()));
        for (at, arg) in args.iter().enumerate() {
            let param = signature.param(at).unwrap_or(Param::Any);
            let value = self.argument(dot, arg, param)?;
            self.count_copy(&value)?;
            values.push(value);
        }
        if let Some(piped) = piped {
            let param = signature.param(args.len()).unwrap_or(Param::Any);
            values.push(self.validated(piped, param)?);
        }
        Ok(values)
    }

    /// An argument of the type that is wanted. Constants have to be of it as written.
    pub(super) fn argument(
        &mut self,
        dot: &Value<'d>,
        operand: &'d Operand,
        param: Param,
    ) -> Outcome<Value<'d>> {
        self.at = At::Operand(operand);
        match (&operand.kind, param) {
            (OperandKind::Nil, param) => {
                if param.takes_nil() {
                    return Ok(Value::Nil);
                }
                return self.fail(format!("cannot assign nil to {}", param.type_name()));
            }
            (OperandKind::Number(_, number), Param::Int) => match number.integer {
                Some(integer) => return Ok(Value::Int(integer)),
                None => return self.fail(format!("expected integer; found {operand}")),
            },
            // A duration is a number of nanoseconds.
            (OperandKind::Number(_, number), Param::Duration) => match number.integer {
                Some(integer) => return Ok(Value::Duration(integer)),
                None => return self.fail(format!("expected integer; found {operand}")),
            },
            (OperandKind::Number(_, number), Param::Float) => match number.float {
                Some(float) => return Ok(Value::Float(float)),
                None => return self.fail(format!("expected float; found {operand}")),
            },
            (OperandKind::Text(..), Param::Text) | (OperandKind::Bool(_), Param::Bool) => {
                return self.operand(dot, operand);
            }
            (OperandKind::Text(..) | OperandKind::Number(..) | OperandKind::Bool(_), param) => {
                let wanted = match param {
                    Param::Any => return self.operand(dot, operand),
                    Param::Text => "string",
                    Param::Bool => "bool",
                    Param::Int | Param::Duration => "integer",
                    Param::Float => "float",
                    Param::Time | Param::Texts | Param::List | Param::Class(_) => {
                        let name = param.type_name();
                        return self.fail(format!("can't handle {operand} for arg of type {name}"));
                    }
                };
                return self.fail(format!("expected {wanted}; found {operand}"));
            }
            _ => {}
        }
        let value = self.operand(dot, operand)?;
        self.validated(value, param)
    }

    /// The value, if it is of the type that is wanted.
    pub(super) fn validated(&self, value: Value<'d>, param: Param) -> Outcome<Value<'d>> {
        let fits = match (&value, param) {
            (_, Param::Any)
            | (Value::Text(_), Param::Text)
            | (Value::Bool(_), Param::Bool)
            | (Value::Int(_), Param::Int)
            | (Value::Float(_), Param::Float)
            | (Value::Time(_), Param::Time)
            | (Value::Duration(_), Param::Duration) => true,
            (Value::Nil, param) if param.takes_nil() => true,
            (Value::Nil, param) => {
                return self.fail(format!("invalid value; expected {}", param.type_name()));
            }
            // Lists of texts may be taken for one another, unless both have names of their own.
            (Value::List(list), Param::Texts) => {
                list.class.element == Element::Text && list.class.fields.is_empty()
            }
            (Value::List(list), Param::List) => std::ptr::eq(list.class, &class::LIST),
            (value, Param::Class(name)) => value.type_name() == name,
            _ => false,
        };
        if fits {
            return Ok(value);
        }
        let (wanted, got) = (param.type_name(), value.type_name());
        self.fail(format!("wrong type for value; expected {wanted}; got {got}"))
    }
}
