//! CSV by a list of columns, as VictoriaMetrics' `/api/v1/export/csv` writes it.
//!
//! ```text
//! format=__name__,job,__value__,__timestamp__:unix_s
//!
//! up,a,1,1700000000
//! ```
//!
//! A column is the name of a label, `__value__`, or `__timestamp__`: milliseconds, or with a unit behind
//! it `unix_s`, `unix_ms`, `unix_ns`, `rfc3339` or `custom:` and a layout of Go. A label that a series does not have is empty.

use std::io::Write as _;

use model::{Labels, rfc3339};

use crate::time_layout::Layout;

const MAX_COLUMNS: usize = 1_000;

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Column {
    Label(String),
    Value,
    Seconds,
    Milliseconds,
    Nanoseconds,
    Rfc3339,
    Custom(Layout),
}

/// The columns of a row, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns(Vec<Column>);

impl Columns {
    /// Reads the list.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("no columns; name some, as in \
                        __name__,instance,__value__,__timestamp__:unix_s"
                .to_owned());
        }
        let columns = text.split(',').map(|part| match part.split_once(':') {
            _ if part == "__value__" => Ok(Column::Value),
            Some(("__timestamp__", "unix_s")) => Ok(Column::Seconds),
            Some(("__timestamp__", "unix_ms")) => Ok(Column::Milliseconds),
            Some(("__timestamp__", "unix_ns")) => Ok(Column::Nanoseconds),
            Some(("__timestamp__", "rfc3339")) => Ok(Column::Rfc3339),
            Some(("__timestamp__", unit)) => match unit.strip_prefix("custom:") {
                Some(layout) => Layout::parse(layout).map(Column::Custom),
                None => Err(format!(
                    "{unit:?} is no unit of time; use unix_s, unix_ms, unix_ns, rfc3339 or \
                     custom:2006-01-02 15:04:05"
                )),
            },
            // As VictoriaMetrics has it.
            _ if part == "__timestamp__" => Ok(Column::Milliseconds),
            _ if part.is_empty() => Err("the name of a column is empty".to_owned()),
            _ => Ok(Column::Label(part.to_owned())),
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        if columns.len() > MAX_COLUMNS {
            return Err(format!("{} columns, {MAX_COLUMNS} are the limit", columns.len()));
        }
        Ok(Columns(columns))
    }

    /// Appends a row for each sample of a series.
    pub fn push(&self, out: &mut Vec<u8>, labels: &Labels, timestamps_ms: &[i64], values: &[f64]) {
        for (t_ms, value) in timestamps_ms.iter().zip(values) {
            for (index, column) in self.0.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                push_cell(out, column, labels, *t_ms, *value);
            }
            out.push(b'\n');
        }
    }
}

fn push_cell(out: &mut Vec<u8>, column: &Column, labels: &Labels, t_ms: i64, value: f64) {
    let written = match column {
        Column::Label(name) => {
            push_text(out, labels.get(name).unwrap_or(""));
            Ok(())
        }
        Column::Value if value.is_nan() => write!(out, "NaN"),
        Column::Value if value.is_infinite() => {
            write!(out, "{}Inf", if value > 0.0 { '+' } else { '-' })
        }
        Column::Value => write!(out, "{value}"),
        Column::Seconds if t_ms % 1_000 == 0 => write!(out, "{}", t_ms / 1_000),
        Column::Seconds => write!(out, "{}", t_ms as f64 / 1e3),
        Column::Milliseconds => write!(out, "{t_ms}"),
        Column::Nanoseconds => write!(out, "{}", i128::from(t_ms) * 1_000_000),
        Column::Rfc3339 => write!(out, "{}", rfc3339(t_ms)),
        Column::Custom(layout) => {
            let mut text = String::new();
            layout.write(&mut text, t_ms);
            push_text(out, &text);
            Ok(())
        }
    };
    written.expect("a Vec takes every write");
}

/// Quoted where it has to be (RFC 4180).
fn push_text(out: &mut Vec<u8>, text: &str) {
    if !text.contains(['"', ',', '\n', '\r']) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(b'"');
    out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}
