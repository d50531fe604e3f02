//! What a survey read, and the series it becomes.

use std::collections::HashMap;
use std::ops::Range;

use model::MetricType;

use crate::series::{Family, Samples, SeriesRef};

/// Ends every string of a row's key. No UTF-8 text holds this byte.
const END: u8 = 0xff;

/// The samples of one run of a survey, in the memory of the run before.
///
/// A row's name and labels are one run of bytes, its key, so that whoever turns rows into series
/// finds a series that is known already by one look-up, without taking the key apart.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// The keys and the help texts that are not constants.
    bytes: Vec<u8>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    key: Range<usize>,
    kind: MetricType,
    help: Help,
    value: f64,
}

#[derive(Debug)]
enum Help {
    Constant(&'static str),
    Read(Range<usize>),
    /// The name of the family and its text.
    OfFamily(Range<usize>, Range<usize>),
}

impl Reading {
    /// Forgets all rows and keeps their memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.rows.clear();
    }

    /// Adds a sample. Of several with the same name and labels the first counts. A label with an
    /// empty value is the same as an absent one.
    pub(crate) fn put(&mut self, family: &Family, labels: &[(&str, &str)], value: f64) {
        let key = self.key(family.name, labels.iter().copied());
        let help = Help::Constant(family.help);
        self.rows.push(Row { key, kind: family.kind, help, value });
    }

    /// Adds a sample of a metric whose name was read.
    pub(crate) fn put_named<'a>(
        &mut self,
        name: &str,
        kind: MetricType,
        help: &str,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        value: f64,
    ) {
        let key = self.key(name, labels);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(help.as_bytes());
        let help = Help::Read(start..self.bytes.len());
        self.rows.push(Row { key, kind, help, value });
    }

    /// Adds a sample of one of the metrics of a family, such as a bucket of a histogram.
    pub(crate) fn put_of_family<'a>(
        &mut self,
        (family, kind, help): (&str, MetricType, &str),
        name: &str,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        value: f64,
    ) {
        let key = self.key(name, labels);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(family.as_bytes());
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(help.as_bytes());
        let help = Help::OfFamily(start..middle, middle..self.bytes.len());
        self.rows.push(Row { key, kind, help, value });
    }

    fn key<'a>(
        &mut self,
        name: &str,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Range<usize> {
        let start = self.bytes.len();
        self.push(name);
        for (label, value) in labels {
            if !value.is_empty() {
                self.push(label);
                self.push(value);
            }
        }
        start..self.bytes.len()
    }

    fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(END);
    }

    /// The strings of a row's key: the name, then each label's name and value.
    fn strings(&self, row: &Row) -> impl Iterator<Item = &str> {
        self.bytes[row.key.clone()]
            .split_inclusive(|&b| b == END)
            .map(|part| std::str::from_utf8(&part[..part.len() - 1]).expect("keys are strings"))
    }

    /// Every row as `name label=value … number`.
    #[cfg(test)]
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |row: &Row| {
            let mut strings = self.strings(row);
            let mut line = strings.next().unwrap_or_default().to_owned();
            while let (Some(label), Some(value)) = (strings.next(), strings.next()) {
                line += &format!(" {label}={value}");
            }
            format!("{line} {}", row.value)
        };
        self.rows.iter().map(line).collect()
    }

    /// Name and help text of the family of a row whose metric is `name`.
    fn family<'a>(&'a self, row: &Row, name: &'a str) -> (&'a str, &'a str) {
        let text = |range: &Range<usize>| {
            std::str::from_utf8(&self.bytes[range.clone()]).expect("only strings are kept")
        };
        match &row.help {
            Help::Constant(help) => (name, help),
            Help::Read(help) => (name, text(help)),
            Help::OfFamily(family, help) => (text(family), text(help)),
        }
    }
}

/// The series of one survey, found by the keys of its rows.
#[derive(Debug, Default)]
pub(crate) struct SeriesTable {
    series: HashMap<Box<[u8]>, Known>,
    round: u64,
}

#[derive(Debug)]
struct Known {
    /// Nothing for a row whose labels are no label set.
    series: Option<SeriesRef>,
    round: u64,
}

impl SeriesTable {
    /// Emits every row and gives up the series that have none any more.
    pub(crate) fn emit(&mut self, reading: &Reading, out: &mut Samples) {
        self.round += 1;
        for row in &reading.rows {
            let key = &reading.bytes[row.key.clone()];
            let series = match self.series.get_mut(key) {
                Some(known) => {
                    known.round = self.round;
                    known.series
                }
                None => {
                    let series = register(reading, row, out);
                    self.series.insert(key.into(), Known { series, round: self.round });
                    series
                }
            };
            if let Some(series) = series {
                out.emit(series, row.value);
            }
        }
        self.retain(self.round, out);
    }

    /// Gives up all series.
    pub(crate) fn clear(&mut self, out: &mut Samples) {
        self.retain(u64::MAX, out);
    }

    fn retain(&mut self, round: u64, out: &mut Samples) {
        self.series.retain(|_, known| {
            let stays = known.round == round;
            if !stays && let Some(series) = known.series {
                out.release(series);
            }
            stays
        });
    }
}

fn register(reading: &Reading, row: &Row, out: &mut Samples) -> Option<SeriesRef> {
    let mut strings = reading.strings(row);
    let name = strings.next()?;
    let mut labels = Vec::new();
    while let (Some(label), Some(value)) = (strings.next(), strings.next()) {
        labels.push((label, value));
    }
    let (family, help) = reading.family(row, name);
    out.register_foreign(family, row.kind, help, name, &labels)
}

#[cfg(test)]
mod tests {
    use model::{Labels, MetricBatch};

    use super::*;

    const TEMPERATURE: Family = Family::gauge("temperature", "How warm it is.");

    fn emit(
        table: &mut SeriesTable,
        reading: &Reading,
        samples: &mut Samples,
    ) -> (Vec<String>, MetricBatch) {
        samples.begin(1, MetricBatch::default());
        table.emit(reading, samples);
        let batch = samples.finish(&[true]);
        samples.delivered();
        let mut lines: Vec<_> = batch
            .series
            .iter()
            .map(|series| {
                let labels = Labels::from_packed(batch.label_bytes_of(series)).expect("packed");
                let own = labels.filter(|name| name != "job" && name != "instance");
                let value = batch.values[series.first_row as usize];
                format!("{own} {}", if model::is_stale_nan(value) { f64::NAN } else { value })
            })
            .collect();
        lines.sort();
        (lines, batch)
    }

    #[test]
    fn rows_become_series_and_end_with_markers() {
        let mut samples = Samples::new("node", "h");
        let (mut table, mut reading) = (SeriesTable::default(), Reading::default());
        reading.put(&TEMPERATURE, &[("chip", "a"), ("label", "")], 20.5);
        reading.put(&TEMPERATURE, &[("chip", "b")], 30.0);
        reading.put(&TEMPERATURE, &[("chip", "b")], 99.0);
        let (lines, batch) = emit(&mut table, &reading, &mut samples);
        assert_eq!(lines, [r#"temperature{chip="a"} 20.5"#, r#"temperature{chip="b"} 30"#]);
        assert_eq!((batch.metadata.len(), batch.metadata[0].help.as_str()), (1, "How warm it is."));
        reading.clear();
        reading.put(&TEMPERATURE, &[("chip", "b")], 31.0);
        let lines = emit(&mut table, &reading, &mut samples).0;
        assert_eq!(lines, [r#"temperature{chip="a"} NaN"#, r#"temperature{chip="b"} 31"#]);
        reading.clear();
        assert_eq!(emit(&mut table, &reading, &mut samples).0, [r#"temperature{chip="b"} NaN"#]);
        assert!(emit(&mut table, &reading, &mut samples).0.is_empty());
    }

    #[test]
    fn labels_of_the_agent_win_and_nonsense_is_left_out() {
        let mut samples = Samples::new("node", "h");
        let (mut table, mut reading) = (SeriesTable::default(), Reading::default());
        let mut put = |labels: &[(&str, &str)]| {
            let labels = labels.iter().copied();
            reading.put_named("backup", MetricType::Unknown, "", labels, 1.0);
        };
        put(&[("job", "nightly"), ("instance", "db")]);
        put(&[("a", "1"), ("a", "2")]);
        put(&[("__name__", "x"), ("b", "1")]);
        let lines = emit(&mut table, &reading, &mut samples).0;
        assert_eq!(lines, [r#"backup{exported_instance="db", exported_job="nightly"} 1"#]);
    }
}
