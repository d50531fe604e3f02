//! A Parquet file to samples, a row each: what [`crate::parquet_export`] writes, and what other
//! programs make of it.
//!
//! | column | type |
//! |---|---|
//! | `name` | text |
//! | `labels` | a map of texts, a list of pairs of texts, a struct of texts; it may be absent |
//! | `timestamp` | a timestamp in ms, µs or ns; `INT96`; an integer of 64 bits, which is milliseconds |
//! | `value` | a double, float or integer with a sign |
//!
//! Columns come in any order and may be optional. Read are data pages of both versions, plain and in
//! dictionaries, numbers and lengths of texts as differences, numbers split into streams of bytes, plain or
//! compressed with Snappy, gzip or Zstandard. One page of each column is in memory. Checksums of
//! pages and statistics are not looked at.
//!
//! Source: <https://github.com/apache/parquet-format>, `README.md`, `Encodings.md`, `LogicalTypes.md`,
//! `src/main/thrift/parquet.thrift`.

mod budget;
mod column;
mod delta;
mod footer;
mod hybrid;
mod page;
mod plan;
mod rows;
mod thrift;

use model::{Limits, MetricBatch};

use crate::{Refusals, WireError};

/// Decodes a file into `out`, which is emptied first. Rows whose value is null are left out, those with
/// a fault are yielded.
///
/// # Errors
/// [`WireError::Malformed`] for a damaged file, [`WireError::Unsupported`] for one with other columns,
/// encodings or codecs, [`WireError::Limit`] for one that is too large or unfolds to too much; `out` is
/// then empty.
pub fn decode(file: &[u8], limits: &Limits, out: &mut MetricBatch) -> Result<Refusals, WireError> {
    out.clear();
    let result = read(file, limits, out);
    if result.is_err() {
        out.clear();
    }
    result
}

fn read(file: &[u8], limits: &Limits, out: &mut MetricBatch) -> Result<Refusals, WireError> {
    let max_bytes = limits.max_body_bytes.min((u32::MAX / 2) as usize);
    if file.len() > max_bytes {
        return Err(WireError::Limit {
            what: format!("Parquet file of {} bytes", file.len()),
            limit: format!("{max_bytes} bytes"),
            remedy: "split the file or raise `limits.max_body_bytes`",
        });
    }
    let mut footer = footer::Footer::read(file)?;
    let plan = plan::Plan::new(&footer.elements)?;
    let (mut rows, mut refusals) = (rows::Rows::new(max_bytes, out), Refusals::default());
    let mut budget = budget::Budget::new(max_bytes);
    while let Some(group) = footer.next_group(file)? {
        rows.add(file, &plan, &group, &mut budget, &mut refusals)?;
    }
    Ok(refusals)
}

fn damaged(offset: usize, reason: &'static str) -> WireError {
    WireError::Malformed { format: "Parquet file", offset, reason }
}

fn refused(reason: String) -> WireError {
    WireError::Unsupported { format: "Parquet file", reason }
}

#[cfg(test)]
mod tests;
