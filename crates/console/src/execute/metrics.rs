//! What is counted of queries.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Executor;
use crate::spread;

impl Executor {
    /// Own metrics: name, help, type, value.
    pub fn metrics(&self) -> Vec<(&'static str, &'static str, &'static str, f64)> {
        let of_memory = self.governor.rows().into_iter();
        let of_memory = of_memory.map(|row| (row.name, row.help, row.kind, row.value));
        let spread = spread::rows(self.spread.as_deref());
        let of_queries = self.query_rows().into_iter().chain(spread);
        of_queries.chain(self.cache.rows()).chain(of_memory).collect()
    }

    fn query_rows(&self) -> Vec<(&'static str, &'static str, &'static str, f64)> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let c = &self.counters;
        vec![
            (
                "watchfire_console_queries_total",
                "Queries that ended, well or not.",
                "counter",
                read(&c.queries),
            ),
            (
                "watchfire_console_queries_failed_total",
                "Queries that ended with an error.",
                "counter",
                read(&c.failed),
            ),
            (
                "watchfire_console_queries_cancelled_total",
                "Queries stopped because the client left or time ran out.",
                "counter",
                read(&c.cancelled),
            ),
            (
                "watchfire_console_queries_timed_out_total",
                "Queries that ran into limits.query_timeout_ms.",
                "counter",
                read(&c.timed_out),
            ),
            (
                "watchfire_console_queries_refused_total",
                "Requests refused because too many queries were running.",
                "counter",
                read(&c.refused),
            ),
            (
                "watchfire_console_queries_running",
                "Queries running now.",
                "gauge",
                read(&c.running),
            ),
            (
                "watchfire_console_live_expressions",
                "Live subscriptions by expression.",
                "gauge",
                self.live_places.taken() as f64,
            ),
            (
                "watchfire_console_query_samples_total",
                "Samples read from storage by queries.",
                "counter",
                read(&c.samples),
            ),
            (
                "watchfire_console_query_seconds_total",
                "Time spent evaluating queries.",
                "counter",
                read(&c.micros) / 1e6,
            ),
        ]
    }
}
