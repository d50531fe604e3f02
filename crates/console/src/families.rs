//! What is known about metrics by their names: series of histograms, summaries and counters bear
//! names that their family does not have.

use std::collections::{BTreeMap, BTreeSet};

use model::MetricMetadata;
use promql::SourceError;

use crate::counted::QueryData;

/// What is added to the name of a family.
const SUFFIXES: [&str; 5] = ["_bucket", "_count", "_sum", "_total", "_created"];

/// What is known about some metrics.
pub(crate) struct Families(BTreeMap<String, MetricMetadata>);

impl Families {
    /// Asks for the families that metrics of these names may belong to.
    pub(crate) fn of<'a>(
        names: impl Iterator<Item = &'a str>,
        data: &QueryData,
    ) -> Result<Families, SourceError> {
        let wanted: BTreeSet<String> = names.flat_map(candidates).map(str::to_owned).collect();
        let mut known = BTreeMap::new();
        for one in data.metadata_of(&wanted)? {
            // The first of several that differ, as everywhere.
            known.entry(one.metric.clone()).or_insert(one);
        }
        Ok(Families(known))
    }

    /// Nothing is known.
    pub(crate) fn none() -> Families {
        Families(BTreeMap::new())
    }

    /// What is known about the metric `name`: under its own name, or under that of its family.
    pub(crate) fn about(&self, name: &str) -> Option<&MetricMetadata> {
        candidates(name).find_map(|family| self.0.get(family))
    }
}

/// Names of families that a metric may belong to.
fn candidates(name: &str) -> impl Iterator<Item = &str> {
    let families = SUFFIXES.iter().filter_map(|suffix| name.strip_suffix(suffix));
    std::iter::once(name).chain(families)
}
