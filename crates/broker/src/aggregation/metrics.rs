//! What `/metrics` says of streaming aggregation.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Counters;
use crate::{Broker, MetricRow};

type Row = (&'static str, &'static str, &'static str, fn(&Counters) -> &AtomicU64);

const ROWS: &[Row] = &[
    (
        "watchfire_broker_aggregation_input_samples_total",
        "Samples that rules of stream_aggregation take.",
        "counter",
        |counters| &counters.input,
    ),
    (
        "watchfire_broker_aggregation_input_dropped_total",
        "Samples that no rule takes and that are not stored because of stream_aggregation.drop_input.",
        "counter",
        |counters| &counters.dropped,
    ),
    (
        "watchfire_broker_aggregation_output_samples_total",
        "Samples that rules of stream_aggregation have written.",
        "counter",
        |counters| &counters.written,
    ),
    (
        "watchfire_broker_aggregation_flushes_total",
        "Times windows ended, those that a start reads again included.",
        "counter",
        |counters| &counters.windows,
    ),
    (
        "watchfire_broker_aggregation_nan_samples_total",
        "Samples left out because they are no number, staleness markers among them; by each rule.",
        "counter",
        |counters| &counters.no_number,
    ),
    (
        "watchfire_broker_aggregation_repeated_samples_total",
        "Samples left out because they are not newer than the one before; by each rule.",
        "counter",
        |counters| &counters.repeated,
    ),
    (
        "watchfire_broker_aggregation_old_samples_total",
        "Samples left out because of ignore_old_samples; by each rule.",
        "counter",
        |counters| &counters.old,
    ),
    (
        "watchfire_broker_aggregation_frames_unusable_total",
        "Log frames that could not be used for stream_aggregation.",
        "counter",
        |counters| &counters.failed,
    ),
    (
        "watchfire_broker_aggregation_series",
        "Series that rules know; one of several rules counts for each.",
        "gauge",
        |counters| &counters.series,
    ),
    ("watchfire_broker_aggregation_groups", "Groups that rules know.", "gauge", |counters| {
        &counters.groups
    }),
];

impl Broker {
    pub(crate) fn aggregation_rows(&self) -> Vec<MetricRow> {
        let counters = &self.inner.aggregation.counters;
        let row = |&(name, help, kind, counter): &Row| {
            let value = counter(counters).load(Ordering::Relaxed) as f64;
            MetricRow { name, help, kind, value }
        };
        ROWS.iter().map(row).collect()
    }
}
