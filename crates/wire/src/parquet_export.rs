//! Samples as a Parquet file: one row per sample.
//!
//! ```text
//! name: string, labels: map<string, string>, timestamp: timestamp[ms, UTC], value: double
//! ```
//!
//! The label `__name__` is `name` and not among `labels`; a series without a name has an empty one.
//! Texts are in dictionaries, pages are compressed with Zstandard, row groups have some 131,072 rows,
//! so a file of any size is written in a few megabytes of memory.
//!
//! Source: <https://github.com/apache/parquet-format>, `README.md`, `Encodings.md`,
//! `src/main/thrift/parquet.thrift`; thrift's compact protocol,
//! <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>.

mod pages;
mod thrift;

use model::{Labels, METRIC_NAME};

use pages::{Chunk, PlainColumn, TextColumn};
use thrift::Struct;

/// The media type of such files.
pub const CONTENT_TYPE: &str = "application/vnd.apache.parquet";

const MAGIC: &[u8; 4] = b"PAR1";
/// Rows after which a row group is written.
const GROUP_ROWS: usize = 1 << 17;
/// Bytes of texts after which one is written.
const GROUP_TEXT_BYTES: usize = 16 << 20;

// Numbers of `parquet.thrift`.
const INT64: i64 = 2;
const DOUBLE: i64 = 5;
const BYTE_ARRAY: i64 = 6;
const REQUIRED: i64 = 0;
const REPEATED: i64 = 2;
const UTF8: i64 = 0;
const MAP: i64 = 1;
const TIMESTAMP_MILLIS: i64 = 9;

/// A file under construction.
#[derive(Default)]
pub struct ParquetWriter {
    /// Bytes written before what is written next.
    offset: u64,
    group: Group,
    /// Of groups that are written: rows, bytes, columns.
    groups: Vec<(usize, u64, Vec<Chunk>)>,
    rows: u64,
}

/// The rows that are not written yet.
#[derive(Default)]
struct Group {
    rows: usize,
    names: TextColumn,
    keys: TextColumn,
    values_of_labels: TextColumn,
    timestamps: PlainColumn,
    values: PlainColumn,
}

impl ParquetWriter {
    /// A file without rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a row for each sample of a series, given as two columns of equal length; what is
    /// ready is put behind `out`.
    pub fn push(
        &mut self,
        labels: &Labels,
        timestamps_ms: &[i64],
        values: &[f64],
        out: &mut Vec<u8>,
    ) {
        let mut samples = timestamps_ms.iter().zip(values);
        let mut left = timestamps_ms.len().min(values.len());
        while left > 0 {
            let rows = left.min(GROUP_ROWS - self.group.rows);
            self.group.push(labels, rows, samples.by_ref().take(rows));
            left -= rows;
            if self.group.rows >= GROUP_ROWS || self.group.text_bytes() >= GROUP_TEXT_BYTES {
                self.end_group(out);
            }
        }
    }

    /// Writes what is left, and the footer. Nothing may be pushed any more.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.group.rows > 0 {
            self.end_group(out);
        }
        self.begin(out);
        let start = out.len();
        self.footer().append_to(out);
        let len = u32::try_from(out.len() - start).expect("a footer is far below 4 GiB");
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(MAGIC);
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if self.offset == 0 {
            out.extend_from_slice(MAGIC);
            self.offset = MAGIC.len() as u64;
        }
    }

    fn end_group(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        let group = std::mem::take(&mut self.group);
        let start = out.len();
        let begin = self.offset;
        let at = |out: &Vec<u8>| begin + (out.len() - start) as u64;
        let mut chunks = Vec::with_capacity(5);
        for (path, column) in [
            (&["name"][..], &group.names),
            (&["labels", "key_value", "key"], &group.keys),
            (&["labels", "key_value", "value"], &group.values_of_labels),
        ] {
            let offset = at(out);
            chunks.push(column.write(path, BYTE_ARRAY, offset, out));
        }
        for (path, kind, column) in
            [("timestamp", INT64, &group.timestamps), ("value", DOUBLE, &group.values)]
        {
            let offset = at(out);
            chunks.push(column.write(path, kind, offset, out));
        }
        self.offset = at(out);
        self.rows += group.rows as u64;
        self.groups.push((group.rows, self.offset - begin, chunks));
    }

    fn footer(&self) -> Struct {
        let element =
            |name: &str, kind: Option<i64>, repetition: Option<i64>, children, converted| {
                let mut element = Struct::new();
                if let Some(kind) = kind {
                    element.i32(1, kind);
                }
                if let Some(repetition) = repetition {
                    element.i32(3, repetition);
                }
                element.text(4, name);
                if children > 0 {
                    element.i32(5, children);
                }
                if let Some(converted) = converted {
                    element.i32(6, converted);
                }
                element
            };
        let text = |name| element(name, Some(BYTE_ARRAY), Some(REQUIRED), 0, Some(UTF8));
        let schema = [
            element("schema", None, None, 4, None),
            text("name"),
            element("labels", None, Some(REQUIRED), 1, Some(MAP)),
            element("key_value", None, Some(REPEATED), 2, None),
            text("key"),
            text("value"),
            element("timestamp", Some(INT64), Some(REQUIRED), 0, Some(TIMESTAMP_MILLIS)),
            element("value", Some(DOUBLE), Some(REQUIRED), 0, None),
        ];
        let groups = self.groups.iter().map(|(rows, bytes, chunks)| {
            let mut group = Struct::new();
            let columns = chunks.iter().map(Chunk::describe).collect();
            group.structs(1, columns).i64(2, *bytes as i64).i64(3, *rows as i64);
            group
        });
        let mut footer = Struct::new();
        footer.i32(1, 1).structs(2, schema.into()).i64(3, self.rows as i64);
        footer.structs(4, groups.collect()).text(6, "watchfire");
        footer
    }
}

impl Group {
    fn push<'a>(
        &mut self,
        labels: &Labels,
        rows: usize,
        samples: impl Iterator<Item = (&'a i64, &'a f64)>,
    ) {
        let name = self.names.dictionary.number(labels.metric_name().unwrap_or_default());
        let others = || labels.iter().filter(|(name, _)| *name != METRIC_NAME);
        let keys: Vec<u32> = others().map(|(name, _)| self.keys.dictionary.number(name)).collect();
        let values: Vec<u32> =
            others().map(|(_, value)| self.values_of_labels.dictionary.number(value)).collect();
        for _ in 0..rows {
            self.names.push(name);
            self.keys.push_list(&keys);
            self.values_of_labels.push_list(&values);
        }
        for (t_ms, value) in samples {
            self.timestamps.push(t_ms.to_le_bytes());
            self.values.push(value.to_le_bytes());
        }
        self.rows += rows;
    }

    fn text_bytes(&self) -> usize {
        let columns = [&self.names, &self.keys, &self.values_of_labels];
        columns.iter().map(|column| column.dictionary.bytes() + 4 * column.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_begins_and_ends_as_it_must() {
        for rows in [0, 1, 3 * GROUP_ROWS + 5] {
            let labels = Labels::from_pairs([("__name__", "m"), ("a", "b")]).expect("labels");
            let mut writer = ParquetWriter::new();
            let mut out = Vec::new();
            let times: Vec<i64> = (0..rows as i64).collect();
            writer.push(&labels, &times, &vec![1.5; rows], &mut out);
            writer.finish(&mut out);
            assert!(out.starts_with(MAGIC) && out.ends_with(MAGIC));
            let len =
                u32::from_le_bytes(out[out.len() - 8..out.len() - 4].try_into().expect("four"));
            assert!((len as usize) < out.len() - 12 + 1);
            assert_eq!(writer.rows, rows as u64);
            assert_eq!(writer.groups.len(), rows.div_ceil(GROUP_ROWS));
            let body: u64 = writer.groups.iter().map(|group| group.1).sum();
            assert_eq!(out.len() as u64, 4 + body + u64::from(len) + 8);
        }
    }
}
