//! Which columns of a file are which.

use super::column::{BYTE_ARRAY, DOUBLE, FLOAT, INT32, INT64, INT96, Leaf};
use super::footer::{Element, Unit};
use super::{damaged, refused};
use crate::WireError;

const REQUIRED: i64 = 0;
const REPEATED: i64 = 2;
/// How deep columns may be nested.
const MAX_DEPTH: usize = 16;
/// What pandas calls the columns that it makes of an index.
const INDEX: &[u8] = b"__index_level_";
/// Integers with a sign have these converted types.
const SIGNED: std::ops::RangeInclusive<i64> = 15..=18;
/// A logical type `INTEGER`, which has a converted one beside it.
const LOGICAL_INTEGER: i64 = 10;
const DECIMAL: i64 = 5;

/// The columns that are read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) name: Leaf,
    pub(super) timestamp: Leaf,
    pub(super) unit: Unit,
    pub(super) value: Leaf,
    pub(super) labels: LabelLeaves,
}

/// How labels are written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LabelLeaves {
    /// There are none.
    None,
    /// A map, or a list of structs with `key` and `value`.
    Map { key: Leaf, value: Leaf },
    /// A list of lists of two texts, as pandas makes of a map.
    Pairs(Leaf),
    /// A struct with a field for each label.
    Fields(Vec<(Vec<u8>, Leaf)>),
}

/// A column and where it stands.
struct Found<'e> {
    /// The column of the table that it belongs to.
    top: &'e [u8],
    depth: usize,
    element: &'e Element<'e>,
    leaf: Leaf,
}

impl Plan {
    pub(super) fn new(elements: &[Element<'_>]) -> Result<Self, WireError> {
        let found = leaves(elements)?;
        let extra = found.iter().find(|found| {
            !matches!(found.top, b"name" | b"labels" | b"timestamp" | b"value")
                && !found.top.starts_with(INDEX)
        });
        if let Some(extra) = extra {
            return Err(refused(format!(
                "there is no place for the column {:?}; leave it out or put it into labels",
                String::from_utf8_lossy(extra.top)
            )));
        }
        let (name, _) = single(&found, "name", "a text", is_text)?;
        let (timestamp, element) = single(
            &found,
            "timestamp",
            "a timestamp nor a signed integer of 64 bits, which are milliseconds",
            |element| {
                element.kind == Some(INT96)
                    || element.kind == Some(INT64)
                        && (element.unit.is_some() || is_integer(element))
            },
        )?;
        let unit = match element.kind {
            Some(INT96) => Unit::Nanoseconds,
            _ => element.unit.unwrap_or(Unit::Milliseconds),
        };
        let (value, _) = single(&found, "value", "a double, float or signed integer", |element| {
            let is_float = matches!(element.kind, Some(DOUBLE | FLOAT));
            let is_int = matches!(element.kind, Some(INT32 | INT64)) && is_integer(element);
            is_float && element.logical.is_none() || is_int
        })?;
        Ok(Plan { name, timestamp, unit, value, labels: labels(&found)? })
    }
}

fn is_text(element: &Element<'_>) -> bool {
    element.kind == Some(BYTE_ARRAY)
        && element.converted != Some(DECIMAL)
        && element.logical != Some(DECIMAL)
}

fn is_integer(element: &Element<'_>) -> bool {
    element.converted.is_none_or(|converted| SIGNED.contains(&converted))
        && element.logical.is_none_or(|logical| logical == LOGICAL_INTEGER)
}

/// The one column `name`, which is not nested and of which `fits` is true.
fn single<'e>(
    found: &[Found<'e>],
    name: &str,
    what: &str,
    fits: impl Fn(&Element<'_>) -> bool,
) -> Result<(Leaf, &'e Element<'e>), WireError> {
    let mut named = found.iter().filter(|found| found.top == name.as_bytes());
    let Some(one) = named.next() else {
        return Err(refused(format!("there is no column {name:?}")));
    };
    if named.next().is_some() || one.depth > 1 || one.leaf.max_repetition > 0 {
        return Err(refused(format!("the column {name:?} is there twice or nested")));
    }
    if !fits(one.element) {
        let neither = if what.contains(" nor ") { "neither" } else { "not" };
        return Err(refused(format!("the column {name:?} is {neither} {what}")));
    }
    Ok((one.leaf, one.element))
}

fn labels(found: &[Found<'_>]) -> Result<LabelLeaves, WireError> {
    let columns: Vec<&Found<'_>> = found.iter().filter(|found| found.top == b"labels").collect();
    if let Some(other) = columns.iter().find(|column| !is_text(column.element)) {
        return Err(refused(format!(
            "of the column \"labels\", {:?} is not text",
            String::from_utf8_lossy(other.element.name)
        )));
    }
    let named = |name: &[u8]| columns.iter().find(|column| column.element.name == name);
    let is_list = |column: &Found<'_>| column.leaf.max_repetition == 1;
    match (&columns[..], named(b"key"), named(b"value")) {
        ([], ..) => Ok(LabelLeaves::None),
        ([one], ..) if one.leaf.max_repetition == 2 => Ok(LabelLeaves::Pairs(one.leaf)),
        ([_, _], Some(key), Some(value)) if is_list(key) && is_list(value) => {
            Ok(LabelLeaves::Map { key: key.leaf, value: value.leaf })
        }
        (fields, ..) if fields.iter().all(|one| one.leaf.max_repetition == 0 && one.depth == 2) => {
            let fields = fields.iter().map(|one| (one.element.name.to_vec(), one.leaf));
            Ok(LabelLeaves::Fields(fields.collect()))
        }
        _ => Err(refused(
            "the column \"labels\" is neither a map of texts, a list of pairs nor a struct of texts"
                .to_owned(),
        )),
    }
}

/// What groups columns, while they are gone through.
struct Frame {
    left: i64,
    definition: u32,
    repetition: u32,
    entry: u32,
}

fn leaves<'e>(elements: &'e [Element<'e>]) -> Result<Vec<Found<'e>>, WireError> {
    let root = elements.first().ok_or_else(|| damaged(0, "the file has no schema"))?;
    let mut frames = vec![Frame { left: root.children, definition: 0, repetition: 0, entry: 0 }];
    let (mut found, mut top) = (Vec::new(), &root.name[..0]);
    for element in &elements[1..] {
        while frames.last().is_some_and(|frame| frame.left <= 0) {
            frames.pop();
        }
        let depth = frames.len();
        let Some(parent) = frames.last_mut() else {
            return Err(damaged(0, "the schema has more columns than it says"));
        };
        parent.left -= 1;
        if depth == 1 {
            top = element.name;
        }
        let definition = parent.definition + u32::from(element.repetition != REQUIRED);
        let is_repeated = element.repetition == REPEATED;
        let repetition = parent.repetition + u32::from(is_repeated);
        let entry = if is_repeated { definition } else { parent.entry };
        match element.kind {
            Some(kind) if element.children <= 0 => {
                let leaf = Leaf {
                    place: found.len(),
                    kind,
                    max_definition: definition,
                    max_repetition: repetition,
                    entry_definition: entry,
                };
                found.push(Found { top, depth, element, leaf });
            }
            _ if depth == MAX_DEPTH => {
                return Err(refused(format!("columns are nested deeper than {MAX_DEPTH}")));
            }
            _ => frames.push(Frame { left: element.children, definition, repetition, entry }),
        }
    }
    Ok(found)
}
