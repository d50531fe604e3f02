//! What an expression is.

use std::collections::BTreeMap;

use super::ast::{Expr, ExprKind, Operator};
use super::functions;
use crate::prometheus::Surroundings;
use crate::yaml::{Context, Span};

/// Most values of one expression.
const MAX_VALUES: usize = 200_000;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Value {
    pub(crate) span: Span,
    pub(crate) kind: ValueKind,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ValueKind {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Value>),
    Object(Vec<(String, Value)>),
    /// What a component exports: which one, and what.
    Export(String, String),
}

impl Value {
    pub(crate) fn text(span: Span, text: impl Into<String>) -> Self {
        Value { span, kind: ValueKind::Text(text.into()) }
    }

    /// What it is, for messages.
    pub(crate) fn describe(&self) -> String {
        match &self.kind {
            ValueKind::Null => "null".to_owned(),
            ValueKind::Bool(_) => "a bool".to_owned(),
            ValueKind::Number(_) => "a number".to_owned(),
            ValueKind::Text(_) => "a string".to_owned(),
            ValueKind::List(_) => "a list".to_owned(),
            ValueKind::Object(_) => "an object".to_owned(),
            ValueKind::Export(component, export) => format!("{component}.{export}"),
        }
    }
}

/// Where references lead: what each component exports.
pub(crate) type Exports<'e> = &'e dyn Fn(&str) -> Option<&'static [&'static str]>;

/// Computes expressions. Faults are noted where they stand.
pub(crate) struct Evaluator<'e> {
    pub(crate) context: &'e Context<'e>,
    pub(crate) surroundings: &'e dyn Surroundings,
    pub(crate) exports: Exports<'e>,
}

impl Evaluator<'_> {
    /// The value; `None` after a fault was noted.
    pub(crate) fn value(&self, expr: &Expr) -> Option<Value> {
        let value = self.evaluate(expr)?;
        if count(&value) > MAX_VALUES {
            self.fault(expr.span, format!("an expression of more than {MAX_VALUES} values"), None);
            return None;
        }
        Some(value)
    }

    pub(super) fn fault(&self, span: Span, message: impl Into<String>, help: Option<&str>) {
        self.context.fault(span, message, help.map(str::to_owned));
    }

    fn evaluate(&self, expr: &Expr) -> Option<Value> {
        let kind = match &expr.kind {
            ExprKind::Null => ValueKind::Null,
            ExprKind::Bool(is) => ValueKind::Bool(*is),
            ExprKind::Number(text) => match text.parse() {
                Ok(number) => ValueKind::Number(number),
                Err(_) => {
                    self.fault(expr.span, format!("{text} is not a number"), None);
                    return None;
                }
            },
            ExprKind::Text(text) => ValueKind::Text(text.clone()),
            ExprKind::List(items) => {
                let values: Vec<Option<Value>> =
                    items.iter().map(|item| self.evaluate(item)).collect();
                ValueKind::List(values.into_iter().collect::<Option<_>>()?)
            }
            ExprKind::Object(members) => {
                let mut object: BTreeMap<&str, Value> = BTreeMap::new();
                let mut failed = false;
                for (name, _, value) in members {
                    match self.evaluate(value) {
                        Some(value) => drop(object.insert(name, value)),
                        None => failed = true,
                    }
                }
                if failed {
                    return None;
                }
                let members = object.into_iter().map(|(name, value)| (name.to_owned(), value));
                ValueKind::Object(members.collect())
            }
            ExprKind::Name(_) | ExprKind::Access(..) => return self.reference(expr),
            ExprKind::Index(inner, index) => {
                let (value, index) = (self.evaluate(inner)?, self.evaluate(index)?);
                return self.index(expr.span, value, &index);
            }
            ExprKind::Call(function, args) => {
                let Some(name) = function.path() else {
                    self.fault(function.span, "only functions can be called", None);
                    return None;
                };
                let values: Vec<Option<Value>> =
                    args.iter().map(|arg| self.evaluate(arg)).collect();
                let values: Vec<Value> = values.into_iter().collect::<Option<_>>()?;
                return functions::call(self, expr.span, function.span, &name, values);
            }
            ExprKind::Not(inner) => match self.evaluate(inner)?.kind {
                ValueKind::Bool(is) => ValueKind::Bool(!is),
                _ => {
                    self.fault(inner.span, "! needs a bool", None);
                    return None;
                }
            },
            ExprKind::Minus(inner) => match self.evaluate(inner)?.kind {
                ValueKind::Number(number) => ValueKind::Number(-number),
                _ => {
                    self.fault(inner.span, "- needs a number", None);
                    return None;
                }
            },
            ExprKind::Binary(operator, left, right) => {
                let (left, right) = (self.evaluate(left)?, self.evaluate(right)?);
                self.binary(expr.span, *operator, &left, &right)?
            }
        };
        Some(Value { span: expr.span, kind })
    }

    /// A component's export, a constant, or a part of one.
    fn reference(&self, expr: &Expr) -> Option<Value> {
        let path = match expr.path() {
            Some(path) => path,
            None => {
                let ExprKind::Access(inner, name) = &expr.kind else { return None };
                let value = self.evaluate(inner)?;
                return self.index(expr.span, value, &Value::text(expr.span, name.as_str()));
            }
        };
        let constant = match path.as_str() {
            "constants.hostname" => {
                let name = self.surroundings.variable("HOSTNAME").or_else(|| {
                    let bytes =
                        self.surroundings.read("/proc/sys/kernel/hostname".as_ref()).ok()?;
                    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
                });
                Some(name.unwrap_or_default())
            }
            "constants.os" => Some("linux".to_owned()),
            "constants.arch" => Some(std::env::consts::ARCH.replace("x86_64", "amd64")),
            _ => None,
        };
        if let Some(text) = constant {
            return Some(Value::text(expr.span, text));
        }
        let (component, export) = path.rsplit_once('.').unwrap_or((path.as_str(), ""));
        match (self.exports)(component) {
            Some(known) if known.contains(&export) => {
                let kind = ValueKind::Export(component.to_owned(), export.to_owned());
                Some(Value { span: expr.span, kind })
            }
            Some(known) => {
                let message = format!("component {component:?} does not export {export:?}");
                let help = match known {
                    [] => "it exports nothing that is known here".to_owned(),
                    known => format!("it exports {}", known.join(", ")),
                };
                self.fault(expr.span, message, Some(&help));
                None
            }
            None => {
                let message = format!("component {path:?} does not exist or is out of scope");
                self.fault(
                    expr.span,
                    message,
                    Some("name a component of this file and its export"),
                );
                None
            }
        }
    }

    fn index(&self, span: Span, value: Value, index: &Value) -> Option<Value> {
        let found = match (value.kind, &index.kind) {
            (ValueKind::Object(members), ValueKind::Text(name)) => {
                let found = members.into_iter().find(|(known, _)| known == name);
                if found.is_none() {
                    self.fault(span, format!("field {name:?} does not exist"), None);
                }
                found.map(|(_, value)| value)
            }
            (ValueKind::List(items), ValueKind::Number(at)) => {
                let found = (*at >= 0.0 && at.fract() == 0.0)
                    .then(|| items.into_iter().nth(*at as usize))
                    .flatten();
                if found.is_none() {
                    self.fault(span, format!("index {at} is out of range"), None);
                }
                found
            }
            _ => {
                self.fault(span, "such a value has no parts", None);
                None
            }
        };
        found.map(|found| Value { span, ..found })
    }

    fn binary(
        &self,
        span: Span,
        operator: Operator,
        left: &Value,
        right: &Value,
    ) -> Option<ValueKind> {
        use ValueKind::{Bool, Number, Text};
        let kind = match (operator, &left.kind, &right.kind) {
            (Operator::Equal, a, b) => Bool(is_same(a, b)),
            (Operator::NotEqual, a, b) => Bool(!is_same(a, b)),
            (Operator::Or, Bool(a), Bool(b)) => Bool(*a || *b),
            (Operator::And, Bool(a), Bool(b)) => Bool(*a && *b),
            (Operator::Add, Text(a), Text(b)) => Text(format!("{a}{b}")),
            (operator, Text(a), Text(b)) => match operator {
                Operator::Less => Bool(a < b),
                Operator::LessOrEqual => Bool(a <= b),
                Operator::Greater => Bool(a > b),
                Operator::GreaterOrEqual => Bool(a >= b),
                _ => return self.no_operation(span, left, right),
            },
            (operator, Number(a), Number(b)) => match operator {
                Operator::Less => Bool(a < b),
                Operator::LessOrEqual => Bool(a <= b),
                Operator::Greater => Bool(a > b),
                Operator::GreaterOrEqual => Bool(a >= b),
                Operator::Add => Number(a + b),
                Operator::Subtract => Number(a - b),
                Operator::Multiply => Number(a * b),
                Operator::Divide => Number(a / b),
                Operator::Modulo => Number(a % b),
                Operator::Power => Number(a.powf(*b)),
                _ => return self.no_operation(span, left, right),
            },
            _ => return self.no_operation(span, left, right),
        };
        Some(kind)
    }

    fn no_operation(&self, span: Span, left: &Value, right: &Value) -> Option<ValueKind> {
        let message =
            format!("this cannot be done with {} and {}", left.describe(), right.describe());
        self.fault(span, message, None);
        None
    }
}

fn is_same(left: &ValueKind, right: &ValueKind) -> bool {
    match (left, right) {
        (ValueKind::List(a), ValueKind::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(&a.kind, &b.kind))
        }
        (ValueKind::Object(a), ValueKind::Object(b)) => {
            a.len() == b.len()
                && a.iter().zip(b).all(|((n, a), (m, b))| n == m && is_same(&a.kind, &b.kind))
        }
        _ => left == right,
    }
}

fn count(value: &Value) -> usize {
    match &value.kind {
        ValueKind::List(items) => 1 + items.iter().map(count).sum::<usize>(),
        ValueKind::Object(members) => {
            1 + members.iter().map(|(_, value)| count(value)).sum::<usize>()
        }
        _ => 1,
    }
}
