//! Rows of the columns of a row group into a batch.

use std::collections::HashMap;

use model::{LabelForm, METRIC_NAME, MetricBatch, SeriesRows};

use super::budget::{Budget, Told};
use super::column::{Column, DOUBLE, Entry, FLOAT, INT96, Leaf};
use super::damaged;
use super::footer::{Group, Unit};
use super::plan::{LabelLeaves, Plan};
use crate::{Refusals, WireError};

/// How many times the largest body the labels and rows of a file may take, as of other imports.
const BATCH_RATIO: usize = 8;
/// What a row takes in a batch.
const ROW_BYTES: usize = size_of::<i64>() + size_of::<f64>();
/// What is remembered of a series besides its labels, about.
const KNOWN_BYTES: usize = 48;
const JULIAN_DAY_OF_1970: i64 = 2_440_588;
const DAY_MS: i64 = 86_400_000;

/// A batch to which rows are added in any order.
pub(super) struct Rows<'o> {
    out: &'o mut MetricBatch,
    /// Where the labels of each series lie.
    known: HashMap<Box<[u8]>, (u32, u32)>,
    /// Labels of the last row that was added, and of the one at hand.
    last: Vec<u8>,
    labels: Vec<u8>,
    bytes: usize,
    max_bytes: usize,
    /// Rows looked at.
    count: u64,
}

/// The columns of a row group that are read.
struct Columns<'b> {
    name: Column<'b>,
    timestamp: Column<'b>,
    value: Column<'b>,
    labels: LabelColumns<'b>,
}

enum LabelColumns<'b> {
    None,
    Map(Box<[Column<'b>; 2]>, Leaf),
    Pairs(Box<Column<'b>>, Leaf),
    Fields(Vec<(&'b [u8], Column<'b>)>),
}

impl<'o> Rows<'o> {
    /// Rows into `out`, which is empty.
    pub(super) fn new(max_body_bytes: usize, out: &'o mut MetricBatch) -> Self {
        let max_bytes = max_body_bytes.saturating_mul(BATCH_RATIO).min((u32::MAX / 2) as usize);
        Rows {
            out,
            known: HashMap::new(),
            last: Vec::new(),
            labels: Vec::new(),
            bytes: 0,
            max_bytes,
            count: 0,
        }
    }

    /// Adds the rows of a row group. Those with a fault are left out and told.
    pub(super) fn add(
        &mut self,
        file: &[u8],
        plan: &Plan,
        group: &Group,
        budget: &mut Budget,
        refusals: &mut Refusals,
    ) -> Result<(), WireError> {
        let mut columns = Columns::open(file, plan, group)?;
        for _ in 0..group.rows {
            self.count += 1;
            match self.row(plan, &mut columns, budget)? {
                Ok(Some((t_ms, value))) => self.push(t_ms, value)?,
                // As an empty cell of CSV; pandas writes NaN so.
                Ok(None) => {}
                Err(reason) => {
                    let count = self.count;
                    refusals.add(reason, 1, 0, || format!("row {count}"));
                }
            }
        }
        for mut column in columns.into_all() {
            if !column.is_at_end(budget)? {
                return Err(damaged(file.len(), "a column has more values than there are rows"));
            }
            column.close(budget);
        }
        Ok(())
    }

    /// Reads a row; its labels are in `labels` then. The inner error is what is wrong with it.
    fn row(
        &mut self,
        plan: &Plan,
        columns: &mut Columns<'_>,
        budget: &mut Budget,
    ) -> Result<Told<Option<(i64, f64)>>, WireError> {
        self.labels.clear();
        let entry = columns.name.next(budget)?;
        let named = match columns.name.bytes(&entry) {
            Some(name) if !name.is_empty() => {
                budget.push_label(&mut self.labels, METRIC_NAME.as_bytes(), name)?
            }
            _ => Err("no name"),
        };
        let told = columns.labels.read(budget, &mut self.labels)?;
        let entry = columns.timestamp.next(budget)?;
        let time = columns.timestamp.bytes(&entry).map(|bytes| time(bytes, plan));
        let entry = columns.value.next(budget)?;
        let value = columns.value.bytes(&entry).map(|bytes| number(bytes, plan.value.kind));
        Ok(named
            .and(told)
            .and(time.ok_or("no timestamp"))
            .map(|t_ms| value.map(|value| (t_ms, value))))
    }

    fn push(&mut self, t_ms: i64, value: f64) -> Result<(), WireError> {
        let out = &mut *self.out;
        self.bytes += ROW_BYTES;
        match out.series.last_mut() {
            Some(series) if self.last == self.labels => series.rows += 1,
            _ => {
                self.bytes += size_of::<SeriesRows>();
                let place = match self.known.get(&self.labels[..]) {
                    Some(place) => *place,
                    None => {
                        self.bytes += 2 * self.labels.len() + KNOWN_BYTES;
                        check(self.bytes, self.max_bytes)?;
                        // The casts are exact: all together is below half of u32::MAX bytes.
                        let place = (out.label_bytes.len() as u32, self.labels.len() as u32);
                        out.label_bytes.extend_from_slice(&self.labels);
                        self.known.insert(self.labels.as_slice().into(), place);
                        place
                    }
                };
                out.series.push(SeriesRows {
                    labels_start: place.0,
                    labels_len: place.1,
                    form: LabelForm::Pairs,
                    first_row: out.timestamps_ms.len() as u32,
                    rows: 1,
                });
                self.last.clone_from(&self.labels);
            }
        }
        check(self.bytes, self.max_bytes)?;
        out.timestamps_ms.push(t_ms);
        out.values.push(value);
        Ok(())
    }
}

fn check(bytes: usize, max_bytes: usize) -> Result<(), WireError> {
    if bytes <= max_bytes {
        return Ok(());
    }
    Err(WireError::Limit {
        what: "series of a Parquet file, written out with labels and rows,".to_owned(),
        limit: format!("{max_bytes} bytes"),
        remedy: "split the file or raise `limits.max_body_bytes`",
    })
}

impl<'b> Columns<'b> {
    fn open(file: &'b [u8], plan: &'b Plan, group: &Group) -> Result<Self, WireError> {
        let open = |leaf: &Leaf| Column::new(file, *leaf, &group.chunks);
        let labels = match &plan.labels {
            LabelLeaves::None => LabelColumns::None,
            LabelLeaves::Map { key, value } => {
                LabelColumns::Map(Box::new([open(key)?, open(value)?]), *key)
            }
            LabelLeaves::Pairs(leaf) => LabelColumns::Pairs(Box::new(open(leaf)?), *leaf),
            LabelLeaves::Fields(fields) => {
                let fields = fields.iter().map(|(name, leaf)| Ok((&name[..], open(leaf)?)));
                LabelColumns::Fields(fields.collect::<Result<_, WireError>>()?)
            }
        };
        Ok(Columns {
            name: open(&plan.name)?,
            timestamp: open(&plan.timestamp)?,
            value: open(&plan.value)?,
            labels,
        })
    }

    fn into_all(self) -> Vec<Column<'b>> {
        let mut all = vec![self.name, self.timestamp, self.value];
        match self.labels {
            LabelColumns::None => {}
            LabelColumns::Map(columns, _) => all.extend(*columns),
            LabelColumns::Pairs(column, _) => all.push(*column),
            LabelColumns::Fields(columns) => all.extend(columns.into_iter().map(|(_, one)| one)),
        }
        all
    }
}

impl LabelColumns<'_> {
    /// Appends the labels of the next row. The inner error is what is wrong with them. A label whose
    /// value is null is absent.
    fn read(&mut self, budget: &mut Budget, out: &mut Vec<u8>) -> Result<Told<()>, WireError> {
        let mut fault = Ok(());
        match self {
            LabelColumns::None => {}
            LabelColumns::Fields(columns) => {
                for (name, column) in columns {
                    let entry = column.next(budget)?;
                    if let Some(value) = column.bytes(&entry) {
                        fault = fault.and(budget.push_label(out, name, value)?);
                    }
                }
            }
            LabelColumns::Map(columns, leaf) => {
                let [keys, values] = &mut **columns;
                loop {
                    let (key, value) = (keys.next(budget)?, values.next(budget)?);
                    match (keys.bytes(&key), values.bytes(&value)) {
                        (Some(key), Some(value)) => {
                            fault = fault.and(budget.push_label(out, key, value)?);
                        }
                        (None, _) if key.definition >= leaf.entry_definition => {
                            fault = Err("a label without a name");
                        }
                        _ => {}
                    }
                    let goes_on = keys.goes_on(budget)?;
                    if goes_on != values.goes_on(budget)? || key.repetition != value.repetition {
                        return Err(damaged(0, "there are not as many names of labels as values"));
                    }
                    if !goes_on {
                        break;
                    }
                }
            }
            LabelColumns::Pairs(column, leaf) => return pairs(column, leaf, budget, out),
        }
        Ok(fault)
    }
}

/// [`LabelColumns::read`] of lists of lists of two texts.
fn pairs(
    column: &mut Column<'_>,
    leaf: &Leaf,
    budget: &mut Budget,
    out: &mut Vec<u8>,
) -> Result<Told<()>, WireError> {
    const NO_PAIR: &str = "a label is no pair of name and value";
    let mut fault = Ok(());
    // Texts of the pair at hand, and the first of them.
    let (mut texts, mut name) = (2, Vec::new());
    loop {
        let entry: Entry = column.next(budget)?;
        if entry.repetition < 2 {
            if texts != 2 {
                fault = Err(NO_PAIR);
            }
            texts = 0;
        }
        match column.bytes(&entry) {
            Some(text) if texts == 0 => {
                budget.work(text.len() as u64)?;
                name.clear();
                name.extend_from_slice(text);
                texts = 1;
            }
            Some(text) if texts == 1 => {
                fault = fault.and(budget.push_label(out, &name, text)?);
                texts = 2;
            }
            // No list, or an empty one.
            None if entry.repetition == 0 && entry.definition < leaf.entry_definition => {
                texts = 2;
            }
            _ => {
                fault = Err(NO_PAIR);
                texts = 2;
            }
        }
        if !column.goes_on(budget)? {
            break;
        }
    }
    Ok(if texts == 2 { fault } else { Err(NO_PAIR) })
}

/// Milliseconds since the epoch.
fn time(bytes: &[u8], plan: &Plan) -> i64 {
    if plan.timestamp.kind == INT96 {
        // Nanoseconds of the day, and the Julian day, as Spark and Hive write them.
        let (nanoseconds, day) = bytes.split_at(8);
        let days = integer(day) - JULIAN_DAY_OF_1970;
        return days * DAY_MS + integer(nanoseconds).div_euclid(1_000_000);
    }
    match plan.unit {
        Unit::Milliseconds => integer(bytes),
        Unit::Microseconds => integer(bytes).div_euclid(1_000),
        Unit::Nanoseconds => integer(bytes).div_euclid(1_000_000),
    }
}

fn number(bytes: &[u8], kind: i64) -> f64 {
    match kind {
        DOUBLE => f64::from_bits(integer(bytes).cast_unsigned()),
        FLOAT => f64::from(f32::from_bits(integer(bytes) as u32)),
        _ => integer(bytes) as f64,
    }
}

/// Four or eight bytes with a sign, little endian.
fn integer(bytes: &[u8]) -> i64 {
    let value = bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    match bytes.len() {
        4 => i64::from((value as u32).cast_signed()),
        _ => value.cast_signed(),
    }
}
