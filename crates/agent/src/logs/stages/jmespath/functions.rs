//! The functions of the specification.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::evaluate::Search;
use super::json::Json;
use super::parser::Expression;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    Abs,
    Avg,
    Ceil,
    Contains,
    EndsWith,
    Floor,
    Join,
    Keys,
    Length,
    Map,
    Max,
    MaxBy,
    Merge,
    Min,
    MinBy,
    NotNull,
    Reverse,
    Sort,
    SortBy,
    StartsWith,
    Sum,
    ToArray,
    ToNumber,
    ToString,
    Type,
    Values,
}

/// Names with the number of arguments; `usize::MAX` for any number from one on.
const TABLE: &[(&str, Function, usize)] = &[
    ("abs", Function::Abs, 1),
    ("avg", Function::Avg, 1),
    ("ceil", Function::Ceil, 1),
    ("contains", Function::Contains, 2),
    ("ends_with", Function::EndsWith, 2),
    ("floor", Function::Floor, 1),
    ("join", Function::Join, 2),
    ("keys", Function::Keys, 1),
    ("length", Function::Length, 1),
    ("map", Function::Map, 2),
    ("max", Function::Max, 1),
    ("max_by", Function::MaxBy, 2),
    ("merge", Function::Merge, usize::MAX),
    ("min", Function::Min, 1),
    ("min_by", Function::MinBy, 2),
    ("not_null", Function::NotNull, usize::MAX),
    ("reverse", Function::Reverse, 1),
    ("sort", Function::Sort, 1),
    ("sort_by", Function::SortBy, 2),
    ("starts_with", Function::StartsWith, 2),
    ("sum", Function::Sum, 1),
    ("to_array", Function::ToArray, 1),
    ("to_number", Function::ToNumber, 1),
    ("to_string", Function::ToString, 1),
    ("type", Function::Type, 1),
    ("values", Function::Values, 1),
];

type Outcome = Result<Json, String>;

impl Function {
    pub(super) fn by_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|(known, ..)| *known == name).map(|(_, function, _)| *function)
    }

    fn name(self) -> &'static str {
        TABLE.iter().find(|(_, function, _)| *function == self).map_or("", |(name, ..)| name)
    }

    pub(super) fn check_count(self, given: usize) -> Result<(), String> {
        let wanted = TABLE.iter().find(|(_, function, _)| *function == self);
        match wanted.map(|(_, _, wanted)| *wanted) {
            Some(usize::MAX) if given > 0 => Ok(()),
            Some(wanted) if wanted == given => Ok(()),
            _ => Err(format!("wrong number of arguments for {}(): {given}", self.name())),
        }
    }

    fn refuse(self) -> String {
        format!("{}() cannot take such a value", self.name())
    }

    /// Calls it; `given` has the values of `args`, nothing for references.
    pub(super) fn call(
        self,
        search: &mut Search,
        args: &[Expression],
        given: Vec<Json>,
    ) -> Outcome {
        let refuse = || self.refuse();
        let mut given = given.into_iter();
        let mut next = || given.next().unwrap_or(Json::Null);
        Ok(match self {
            Function::Abs | Function::Ceil | Function::Floor => match (self, next()) {
                (Function::Abs, Json::Integer(number)) => Json::Integer(number.abs()),
                (_, Json::Integer(number)) => Json::Integer(number),
                (_, Json::Float(number)) => Json::of_number(match self {
                    Function::Abs => number.abs(),
                    Function::Ceil => number.ceil(),
                    _ => number.floor(),
                }),
                _ => return Err(refuse()),
            },
            Function::Avg | Function::Sum => {
                let numbers = numbers(next()).ok_or_else(refuse)?;
                let sum = numbers.iter().sum::<f64>();
                match (self, numbers.len()) {
                    (Function::Sum, _) => Json::of_number(sum),
                    (_, 0) => Json::Null,
                    (_, count) => Json::of_number(sum / count as f64),
                }
            }
            Function::Contains => match (next(), next()) {
                (Json::Array(items), wanted) => {
                    Json::Bool(items.iter().any(|item| item.equals(&wanted)))
                }
                (Json::Text(text), Json::Text(part)) => Json::Bool(text.contains(&part)),
                (Json::Text(_), _) => Json::Bool(false),
                _ => return Err(refuse()),
            },
            Function::StartsWith | Function::EndsWith => match (next(), next()) {
                (Json::Text(text), Json::Text(part)) if self == Function::StartsWith => {
                    Json::Bool(text.starts_with(&part))
                }
                (Json::Text(text), Json::Text(part)) => Json::Bool(text.ends_with(&part)),
                _ => return Err(refuse()),
            },
            Function::Join => match (next(), next()) {
                (Json::Text(separator), Json::Array(items)) => {
                    let texts: Option<Vec<&str>> = items
                        .iter()
                        .map(|item| match item {
                            Json::Text(text) => Some(text.as_str()),
                            _ => None,
                        })
                        .collect();
                    Json::Text(texts.ok_or_else(refuse)?.join(&separator))
                }
                _ => return Err(refuse()),
            },
            Function::Keys => match next() {
                Json::Object(members) => Json::Array(members.into_keys().map(Json::Text).collect()),
                _ => return Err(refuse()),
            },
            Function::Values => match next() {
                Json::Object(members) => Json::Array(members.into_values().collect()),
                _ => return Err(refuse()),
            },
            Function::Length => Json::Integer(match next() {
                Json::Text(text) => text.chars().count() as i128,
                Json::Array(items) => items.len() as i128,
                Json::Object(members) => members.len() as i128,
                _ => return Err(refuse()),
            }),
            Function::Map => {
                next();
                let (Some(Expression::Reference(each)), Json::Array(items)) =
                    (args.first(), next())
                else {
                    return Err(refuse());
                };
                let mapped: Result<Vec<Json>, String> =
                    items.iter().map(|item| search.copy_of(each, item)).collect();
                Json::Array(mapped?)
            }
            Function::Max | Function::Min => {
                let Json::Array(items) = next() else { return Err(refuse()) };
                check_one_kind(items.iter()).ok_or_else(refuse)?;
                extreme(items.into_iter().map(|item| (item.clone(), item)), self == Function::Max)
            }
            Function::MaxBy | Function::MinBy | Function::SortBy => {
                let Json::Array(items) = next() else { return Err(refuse()) };
                let Some(Expression::Reference(by)) = args.get(1) else { return Err(refuse()) };
                let mut keyed = Vec::with_capacity(items.len());
                for item in items {
                    keyed.push((search.copy_of(by, &item)?, item));
                }
                check_one_kind(keyed.iter().map(|(key, _)| key)).ok_or_else(refuse)?;
                match self {
                    Function::SortBy => {
                        keyed.sort_by(|(a, _), (b, _)| order(a, b));
                        Json::Array(keyed.into_iter().map(|(_, item)| item).collect())
                    }
                    _ => extreme(keyed.into_iter(), self == Function::MaxBy),
                }
            }
            Function::Sort => {
                let Json::Array(mut items) = next() else { return Err(refuse()) };
                check_one_kind(items.iter()).ok_or_else(refuse)?;
                items.sort_by(order);
                Json::Array(items)
            }
            Function::Merge => {
                let mut all = BTreeMap::new();
                for value in given {
                    let Json::Object(members) = value else { return Err(refuse()) };
                    all.extend(members);
                }
                Json::Object(all)
            }
            Function::NotNull => given.find(|value| *value != Json::Null).unwrap_or(Json::Null),
            Function::Reverse => match next() {
                Json::Text(text) => Json::Text(text.chars().rev().collect()),
                Json::Array(mut items) => {
                    items.reverse();
                    Json::Array(items)
                }
                _ => return Err(refuse()),
            },
            Function::ToArray => match next() {
                Json::Array(items) => Json::Array(items),
                other => Json::Array(vec![other]),
            },
            Function::ToNumber => match next() {
                Json::Text(text) => match serde_json::from_str(&text) {
                    Ok(number @ (Json::Integer(_) | Json::Float(_))) => number,
                    _ => Json::Null,
                },
                number @ (Json::Integer(_) | Json::Float(_)) => number,
                _ => Json::Null,
            },
            Function::ToString => match next() {
                Json::Text(text) => Json::Text(text),
                other => {
                    let mut out = String::new();
                    other.write(&mut out);
                    Json::Text(out)
                }
            },
            Function::Type => Json::Text(kind(&next()).to_owned()),
        })
    }
}

fn kind(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Integer(_) | Json::Float(_) => "number",
        Json::Text(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

fn numbers(value: Json) -> Option<Vec<f64>> {
    match value {
        Json::Array(items) => items.iter().map(Json::number).collect(),
        _ => None,
    }
}

/// All numbers or all texts.
fn check_one_kind<'j>(values: impl Iterator<Item = &'j Json>) -> Option<()> {
    let mut first = None;
    for value in values {
        let kind = kind(value);
        if !matches!(kind, "number" | "string") || *first.get_or_insert(kind) != kind {
            return None;
        }
    }
    Some(())
}

fn order(a: &Json, b: &Json) -> Ordering {
    match (a, b) {
        (Json::Text(a), Json::Text(b)) => a.cmp(b),
        (Json::Integer(a), Json::Integer(b)) => a.cmp(b),
        _ => a.number().unwrap_or(f64::NAN).total_cmp(&b.number().unwrap_or(f64::NAN)),
    }
}

fn extreme(keyed: impl Iterator<Item = (Json, Json)>, largest: bool) -> Json {
    let mut best: Option<(Json, Json)> = None;
    for (key, item) in keyed {
        let wins = best.as_ref().is_none_or(|(known, _)| {
            order(&key, known) == if largest { Ordering::Greater } else { Ordering::Less }
        });
        if wins {
            best = Some((key, item));
        }
    }
    best.map_or(Json::Null, |(_, item)| item)
}
