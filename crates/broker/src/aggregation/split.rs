//! Which series of a batch are aggregated, and which are stored as they come.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use model::{LabelForm, Limits, MetricBatch, SeriesRows};
use parking_lot::RwLock;

use super::AggregationConfig;
use super::rule::is_wanted;

/// Series whose fate is remembered: 16 bytes each. Beyond, all are looked at anew.
const MAX_KNOWN: usize = 4 << 20;

/// Finds out once for each series whether a rule wants it.
#[derive(Default)]
pub(super) struct Splitter {
    /// Keyed at random, so that nobody can make labels that hash alike.
    hash: RandomState,
    wanted: RwLock<HashMap<u64, bool>>,
}

/// A batch in two.
#[derive(Debug, Default)]
pub(crate) struct Split {
    /// What is aggregated.
    pub(crate) input: MetricBatch,
    /// What is stored; `None` if that is all of the batch.
    pub(crate) rest: Option<MetricBatch>,
    /// Exemplars of series that are aggregated and not stored.
    pub(super) exemplars_left_out: u64,
}

impl Splitter {
    /// Splits a batch; `None` if all of it is stored and nothing aggregated.
    pub(super) fn split(
        &self,
        config: &AggregationConfig,
        limits: &Limits,
        batch: &MetricBatch,
    ) -> Option<Split> {
        let wanted = self.wanted_of(config, limits, batch);
        let is_any = wanted.contains(&true);
        if !is_any && !config.drop_input {
            return None;
        }
        let mut split = Split::default();
        for (series, _) in batch.series.iter().zip(&wanted).filter(|(_, wanted)| **wanted) {
            copy(batch, series, &mut split.input);
        }
        if config.keep_input {
            return Some(split);
        }
        let mut rest = MetricBatch::default();
        if config.drop_input {
            split.exemplars_left_out = batch.exemplars.len() as u64;
            split.rest = Some(rest);
            return Some(split);
        }
        for (series, _) in batch.series.iter().zip(&wanted).filter(|(_, wanted)| !**wanted) {
            copy(batch, series, &mut rest);
        }
        // Native histograms are not aggregated.
        for sample in &batch.histograms {
            let labels_start = rest.label_bytes.len() as u32;
            rest.label_bytes.extend_from_slice(batch.label_bytes_of_histogram(sample));
            let mut sample = sample.clone();
            sample.labels_start = labels_start;
            rest.histograms.push(sample);
        }
        for sample in &batch.exemplars {
            let labels = batch.label_bytes_of_exemplar(sample);
            if self.is_wanted(config, limits, sample.form, labels) {
                split.exemplars_left_out += 1;
            } else {
                rest.push_exemplar_bytes(sample, labels, batch.own_label_bytes(sample));
            }
        }
        split.rest = Some(rest);
        Some(split)
    }

    /// For each entry of a batch, whether it is aggregated. One lock for what is known.
    fn wanted_of(
        &self,
        config: &AggregationConfig,
        limits: &Limits,
        batch: &MetricBatch,
    ) -> Vec<bool> {
        let hash = |series: &SeriesRows| self.hash_of(series.form, batch.label_bytes_of(series));
        let known: Vec<Option<bool>> = {
            let wanted = self.wanted.read();
            batch.series.iter().map(|series| wanted.get(&hash(series)).copied()).collect()
        };
        let known = batch.series.iter().zip(known);
        known
            .map(|(series, known)| match known {
                Some(wanted) => wanted,
                None => self.find_out(config, limits, series.form, batch.label_bytes_of(series)),
            })
            .collect()
    }

    fn is_wanted(
        &self,
        config: &AggregationConfig,
        limits: &Limits,
        form: LabelForm,
        bytes: &[u8],
    ) -> bool {
        let known = self.wanted.read().get(&self.hash_of(form, bytes)).copied();
        known.unwrap_or_else(|| self.find_out(config, limits, form, bytes))
    }

    #[cold]
    fn find_out(
        &self,
        config: &AggregationConfig,
        limits: &Limits,
        form: LabelForm,
        bytes: &[u8],
    ) -> bool {
        // What cannot be read is refused where it would be stored. Not remembered: other limits may let
        // it in.
        let Ok(labels) = wire::decode_labels(form, bytes, limits) else { return false };
        let is_wanted = config.rules.iter().any(|rule| is_wanted(rule, &labels));
        let mut wanted = self.wanted.write();
        if wanted.len() >= MAX_KNOWN {
            wanted.clear();
        }
        wanted.insert(self.hash_of(form, bytes), is_wanted);
        is_wanted
    }

    fn hash_of(&self, form: LabelForm, bytes: &[u8]) -> u64 {
        self.hash.hash_one((form, bytes))
    }
}

fn copy(batch: &MetricBatch, series: &SeriesRows, out: &mut MetricBatch) {
    let first = series.first_row as usize;
    let rows = first..first + series.rows as usize;
    let (labels_start, first_row) = (out.label_bytes.len() as u32, out.rows() as u32);
    out.label_bytes.extend_from_slice(batch.label_bytes_of(series));
    out.series.push(SeriesRows { labels_start, first_row, ..*series });
    out.timestamps_ms.extend_from_slice(&batch.timestamps_ms[rows.clone()]);
    out.values.extend_from_slice(&batch.values[rows.clone()]);
    out.push_starts_of(batch, rows);
}
