//! The lines Node Exporter prints, in a form that can be compared.

use std::collections::BTreeMap;

use anyhow::Context;
use model::{Labels, METRIC_NAME, MetricType};
use wire::Entry;
use wire::exposition::Parser;

/// A series by name and labels. Bounds of buckets and quantiles are in their shortest form, so
/// that `le="1"` is `le="1.0"`.
pub(crate) type Series = BTreeMap<String, String>;

/// What an exposition holds.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    /// Each series with its value and the line it stands on, from 1.
    pub(crate) samples: BTreeMap<Series, (f64, usize)>,
    /// Type and help of each family, and the line of the type.
    pub(crate) families: BTreeMap<String, (MetricType, String, usize)>,
}

impl Exposition {
    /// Reads one line at a time, since expected outputs hold comments no parser takes.
    ///
    /// # Errors
    /// A line that is no part of an exposition.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut exposition = Exposition::default();
        for (index, line) in text.lines().enumerate() {
            let bytes = format!("{line}\n");
            let mut parser = Parser::new(bytes.as_bytes());
            let place = || format!("line {}: {line}", index + 1);
            match parser.next_entry().with_context(place)? {
                Some(Entry::Help { metric, text }) => {
                    let family = exposition.families.entry(metric.into_owned()).or_default();
                    family.1 = text.into_owned();
                }
                Some(Entry::Type { metric, kind }) => {
                    let family = exposition.families.entry(metric.into_owned()).or_default();
                    (family.0, family.2) = (kind, index + 1);
                }
                Some(Entry::Series(series)) => {
                    let labels = series.labels().with_context(place)?;
                    exposition.samples.insert(comparable(&labels), (series.value, index + 1));
                }
                _ => {}
            }
        }
        Ok(exposition)
    }

    /// Adds a sample that was collected; `Err` if the series is there already.
    pub(crate) fn collected(&mut self, labels: &Labels, value: f64) -> Result<(), Series> {
        let series = comparable(labels);
        match self.samples.insert(series.clone(), (value, 0)) {
            None => Ok(()),
            Some(_) => Err(series),
        }
    }
}

/// The series without the labels that every series of an agent has.
fn comparable(labels: &Labels) -> Series {
    let own = labels.iter().filter(|(name, _)| !matches!(*name, "job" | "instance"));
    own.map(|(name, value)| {
        let is_bound = matches!(name, "le" | "quantile");
        let number = value.parse::<f64>().ok().filter(|_| is_bound);
        (name.to_owned(), number.map_or_else(|| value.to_owned(), |number| number.to_string()))
    })
    .collect()
}

/// The series as people write it.
pub(crate) fn shown(series: &Series) -> String {
    let pairs = series.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    Labels::from_pairs(pairs).map_or_else(|error| error.to_string(), |labels| labels.to_string())
}

/// The name of a series.
pub(crate) fn name_of(series: &Series) -> &str {
    series.get(METRIC_NAME).map_or("", String::as_str)
}
