//! What an expression yields of a value.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::json::Json;
use super::parser::{Comparison, Expression};

/// Values that one search may look at or copy.
const MAX_STEPS: usize = 1_000_000;

/// Looks for what `expression` says in `value`.
///
/// # Errors
/// A function was given what it cannot take, or it takes too much.
pub(crate) fn search<'j>(
    expression: &'j Expression,
    value: &'j Json,
) -> Result<Cow<'j, Json>, String> {
    Search { steps: 0 }.evaluate(expression, Cow::Borrowed(value))
}

pub(super) struct Search {
    steps: usize,
}

type Found<'j> = Result<Cow<'j, Json>, String>;

const NULL: Cow<'static, Json> = Cow::Owned(Json::Null);

impl Search {
    fn count(&mut self, steps: usize) -> Result<(), String> {
        self.steps += steps;
        if self.steps > MAX_STEPS {
            return Err(format!("the expression takes more than {MAX_STEPS} steps"));
        }
        Ok(())
    }

    /// A value of one's own.
    fn own(&mut self, value: Cow<'_, Json>) -> Result<Json, String> {
        if let Cow::Borrowed(value) = value {
            self.count(value.weight())?;
            return Ok(value.clone());
        }
        Ok(value.into_owned())
    }

    pub(super) fn evaluate<'j>(
        &mut self,
        expression: &'j Expression,
        value: Cow<'j, Json>,
    ) -> Found<'j> {
        self.count(1)?;
        Ok(match expression {
            Expression::Current => value,
            Expression::Literal(literal) => Cow::Borrowed(literal),
            Expression::Field(name) => match value {
                Cow::Borrowed(Json::Object(members)) => {
                    members.get(name).map_or(NULL, Cow::Borrowed)
                }
                Cow::Owned(Json::Object(mut members)) => {
                    Cow::Owned(members.remove(name).unwrap_or(Json::Null))
                }
                _ => NULL,
            },
            Expression::Index(index) => match value {
                Cow::Borrowed(Json::Array(items)) => {
                    place(*index, items.len()).map_or(NULL, |at| Cow::Borrowed(&items[at]))
                }
                Cow::Owned(Json::Array(mut items)) => match place(*index, items.len()) {
                    Some(at) => Cow::Owned(items.swap_remove(at)),
                    None => NULL,
                },
                _ => NULL,
            },
            Expression::Slice(start, end, step) => match &*value {
                Json::Array(items) => {
                    let mut taken = Vec::new();
                    for at in slice(items.len(), *start, *end, *step)? {
                        taken.push(self.own(Cow::Borrowed(&items[at]))?);
                    }
                    Cow::Owned(Json::Array(taken))
                }
                _ => NULL,
            },
            Expression::Sub(left, right) => {
                let value = self.evaluate(left, value)?;
                if *value == Json::Null && !can_start_anew(right) {
                    return Ok(NULL);
                }
                self.evaluate(right, value)?
            }
            Expression::Project(left, right) => {
                let value = self.evaluate(left, value)?;
                match value {
                    Cow::Borrowed(Json::Array(items)) => {
                        self.project(items.iter().map(Cow::Borrowed), right)?
                    }
                    Cow::Owned(Json::Array(items)) => {
                        self.project(items.into_iter().map(Cow::Owned), right)?
                    }
                    _ => NULL,
                }
            }
            Expression::ProjectValues(left, right) => {
                let value = self.evaluate(left, value)?;
                match value {
                    Cow::Borrowed(Json::Object(members)) => {
                        self.project(members.values().map(Cow::Borrowed), right)?
                    }
                    Cow::Owned(Json::Object(members)) => {
                        self.project(members.into_values().map(Cow::Owned), right)?
                    }
                    _ => NULL,
                }
            }
            Expression::Filter(left, right, condition) => {
                let value = self.evaluate(left, value)?;
                let Json::Array(items) = value.into_owned() else { return Ok(NULL) };
                let mut kept = Vec::new();
                for item in items {
                    let holds = {
                        // The condition looks at a copy, so that the element can be taken.
                        self.count(item.weight())?;
                        self.evaluate(condition, Cow::Owned(item.clone()))?.is_true()
                    };
                    if holds {
                        kept.push(Cow::Owned(item));
                    }
                }
                self.project(kept.into_iter(), right)?
            }
            Expression::Flatten(inner) => {
                let value = self.evaluate(inner, value)?;
                let Json::Array(items) = self.own(value)? else { return Ok(NULL) };
                let mut flat = Vec::with_capacity(items.len());
                for item in items {
                    match item {
                        Json::Array(inner) => flat.extend(inner),
                        other => flat.push(other),
                    }
                }
                Cow::Owned(Json::Array(flat))
            }
            Expression::List(items) => {
                if *value == Json::Null {
                    return Ok(NULL);
                }
                let value = self.own(value)?;
                let mut list = Vec::with_capacity(items.len());
                for item in items {
                    list.push(self.copy_of(item, &value)?);
                }
                Cow::Owned(Json::Array(list))
            }
            Expression::Object(members) => {
                if *value == Json::Null {
                    return Ok(NULL);
                }
                let value = self.own(value)?;
                let mut object = BTreeMap::new();
                for (name, member) in members {
                    object.insert(name.clone(), self.copy_of(member, &value)?);
                }
                Cow::Owned(Json::Object(object))
            }
            Expression::Or(left, right) | Expression::And(left, right) => {
                let is_or = matches!(expression, Expression::Or(..));
                let value = self.own(value)?;
                let found = self.copy_of(left, &value)?;
                if found.is_true() == is_or {
                    Cow::Owned(found)
                } else {
                    Cow::Owned(self.copy_of(right, &value)?)
                }
            }
            Expression::Not(inner) => {
                let found = self.evaluate(inner, value)?;
                Cow::Owned(Json::Bool(!found.is_true()))
            }
            Expression::Compare(comparison, left, right) => {
                let value = self.own(value)?;
                let (left, right) = (self.copy_of(left, &value)?, self.copy_of(right, &value)?);
                Cow::Owned(compare(*comparison, &left, &right))
            }
            Expression::Call(function, args) => {
                let value = self.own(value)?;
                let mut given = Vec::with_capacity(args.len());
                for arg in args {
                    // References are called by the function.
                    given.push(match arg {
                        Expression::Reference(_) => Json::Null,
                        arg => self.copy_of(arg, &value)?,
                    });
                }
                Cow::Owned(function.call(self, args, given)?)
            }
            Expression::Reference(_) => {
                return Err("an expression with & stands only in a call".to_owned());
            }
        })
    }

    /// What an expression yields of a value that is looked at by others as well.
    pub(super) fn copy_of(
        &mut self,
        expression: &Expression,
        value: &Json,
    ) -> Result<Json, String> {
        let found = self.evaluate(expression, Cow::Borrowed(value))?;
        self.own(found)
    }

    /// The expression of each value; what is nothing is left out.
    fn project<'j>(
        &mut self,
        values: impl Iterator<Item = Cow<'j, Json>>,
        expression: &'j Expression,
    ) -> Found<'j> {
        let mut all = Vec::new();
        for value in values {
            let found = self.evaluate(expression, value)?;
            if *found != Json::Null {
                all.push(self.own(found)?);
            }
        }
        Ok(Cow::Owned(Json::Array(all)))
    }
}

/// Whether an expression may yield something of nothing.
fn can_start_anew(expression: &Expression) -> bool {
    !matches!(
        expression,
        Expression::Field(_) | Expression::Index(_) | Expression::Slice(..) | Expression::List(_)
    )
}

/// An index from the start or, below zero, from the end.
fn place(index: i64, len: usize) -> Option<usize> {
    let len = i64::try_from(len).ok()?;
    let at = if index < 0 { len + index } else { index };
    usize::try_from(at).ok().filter(|_| at < len)
}

/// The places of a slice, as Python has them.
fn slice(
    len: usize,
    start: Option<i64>,
    end: Option<i64>,
    step: i64,
) -> Result<Vec<usize>, String> {
    if step == 0 {
        return Err("a slice cannot have steps of 0".to_owned());
    }
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let bound = |at: i64| {
        let at = if at < 0 { at.saturating_add(len) } else { at };
        if step > 0 { at.clamp(0, len) } else { at.clamp(-1, len - 1) }
    };
    let (first, last) = if step > 0 { (0, len) } else { (len - 1, -1) };
    let mut at = start.map_or(first, bound);
    let end = end.map_or(last, bound);
    let mut places = Vec::new();
    while if step > 0 { at < end } else { at > end } {
        places.extend(usize::try_from(at));
        at = at.saturating_add(step);
    }
    Ok(places)
}

fn compare(comparison: Comparison, left: &Json, right: &Json) -> Json {
    let order = |holds: fn(&f64, &f64) -> bool| match (left.number(), right.number()) {
        (Some(left), Some(right)) => Json::Bool(holds(&left, &right)),
        _ => Json::Null,
    };
    match comparison {
        Comparison::Equal => Json::Bool(left.equals(right)),
        Comparison::NotEqual => Json::Bool(!left.equals(right)),
        Comparison::Less => order(f64::lt),
        Comparison::LessOrEqual => order(f64::le),
        Comparison::Greater => order(f64::gt),
        Comparison::GreaterOrEqual => order(f64::ge),
    }
}
