//! Calls of functions.

use crate::ast::Operand;
use crate::builtins;
use crate::signature::{Function, Owner};
use crate::value::Value;

use super::{At, Context, Evaluator, Outcome};

impl<'d, C: Context<'d>> Evaluator<'_, 'd, C> {
    /// Calls a function; `node` is what its errors are told for.
    pub(super) fn function(
        &mut self,
        dot: &Value<'d>,
        function: Function,
        node: At<'d>,
        args: &'d [Operand],
        piped: Option<Value<'d>>,
    ) -> Outcome<Value<'d>> {
        let signature = function.signature;
        if let Owner::Builtin(number @ (builtins::AND | builtins::OR)) = function.owner {
            signature
                .check_count(args.len(), usize::from(piped.is_some()))
                .map_err(|problem| self.fault(problem))?;
            let mut value = Value::Nil;
            for arg in args {
                value = self.operand(dot, arg)?;
                if value.is_true() == (number == builtins::OR) {
                    return Ok(value);
                }
            }
            return Ok(piped.unwrap_or(value));
        }
        let values = self.arguments(dot, signature, args, piped)?;
        let outcome = match function.owner {
            Owner::Builtin(builtins::CALL) => {
                let name = args.first().map_or("<function>".to_owned(), ToString::to_string);
                Err(match values.first() {
                    None | Some(Value::Nil) => "call of nil".to_owned(),
                    Some(value) => format!("non-function {name} of type {}", value.type_name()),
                })
            }
            Owner::Builtin(number) => builtins::call(number, self.context.budget(), &values),
            Owner::Dialect(number) => self.context.call(number, &values),
            Owner::Expand => {
                let name = values.first().and_then(Value::as_text).unwrap_or_default().to_owned();
                self.expand(&name, values.get(1).cloned().unwrap_or(Value::Nil))
            }
        };
        outcome.map_err(|problem| {
            self.at = node;
            self.fault(format_args!("error calling {}: {problem}", signature.name))
        })
    }
}
