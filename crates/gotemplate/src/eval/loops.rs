//! `range`.

use crate::ast::{Node, Pipeline};
use crate::value::Value;

use super::{Context, Evaluator, Flow, Outcome};

impl<'d, C: Context<'d>> Evaluator<'_, 'd, C> {
    /// A loop over what a pipeline yields.
    pub(super) fn range(
        &mut self,
        dot: &Value<'d>,
        pipeline: &'d Pipeline,
        body: &'d [Node],
        otherwise: &'d [Node],
    ) -> Outcome<Flow> {
        let value = self.commands(dot, pipeline)?;
        let mut any = false;
        match &value {
            Value::Nil => {}
            Value::List(list) => {
                for (index, element) in list.items.iter().enumerate() {
                    any = true;
                    let index = Value::Int(i64::try_from(index).unwrap_or(i64::MAX));
                    if self.round(pipeline, index, element, body)? == Flow::Break {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for (key, element) in &map.entries {
                    any = true;
                    let key = Value::Text(key.clone());
                    if self.round(pipeline, key, element, body)? == Flow::Break {
                        break;
                    }
                }
            }
            Value::Labels(labels) => {
                for (key, element) in *labels {
                    any = true;
                    let (key, element) = (Value::text(*key), Value::text(*element));
                    if self.round(pipeline, key, &element, body)? == Flow::Break {
                        break;
                    }
                }
            }
            other => {
                let count = other.as_integer().map(i128::from);
                let Some(count) = count.or_else(|| other.as_unsigned().map(i128::from)) else {
                    let mut shown = String::new();
                    other.write(&mut shown, 1_000);
                    return self.fail(format!("range can't iterate over {shown}"));
                };
                if pipeline.variables.len() > 1 {
                    return self
                        .fail(format!("can't use {count} to iterate over more than one variable"));
                }
                for number in 0..count {
                    any = true;
                    let number = of_same_type(other, number);
                    if self.round(pipeline, Value::Nil, &number, body)? == Flow::Break {
                        break;
                    }
                }
            }
        }
        if any {
            return Ok(Flow::Normal);
        }
        self.nodes(dot, otherwise)
    }

    /// One round of a loop.
    pub(super) fn round(
        &mut self,
        pipeline: &'d Pipeline,
        index: Value<'d>,
        element: &Value<'d>,
        body: &'d [Node],
    ) -> Outcome<Flow> {
        self.step()?;
        let scope = self.variables.len();
        match pipeline.variables.as_slice() {
            [] => {}
            [value] => self.declare(pipeline, value, element.clone())?,
            [key, value, ..] => {
                self.declare(pipeline, key, index)?;
                self.declare(pipeline, value, element.clone())?;
            }
        }
        let flow = self.nodes(element, body)?;
        self.variables.truncate(scope);
        Ok(flow)
    }
}

/// A number of a loop over a number of that type.
fn of_same_type<'d>(count: &Value<'d>, number: i128) -> Value<'d> {
    let signed = i64::try_from(number).unwrap_or(i64::MAX);
    match count {
        Value::Int64(_) => Value::Int64(signed),
        Value::Uint(_) => Value::Uint(u64::try_from(number).unwrap_or(u64::MAX)),
        Value::Byte(_) => Value::Byte(u8::try_from(number).unwrap_or(u8::MAX)),
        Value::Duration(_) => Value::Duration(signed),
        _ => Value::Int(signed),
    }
}
