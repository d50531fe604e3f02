//! The broker's own metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use catalog::Signal;

use crate::Broker;

/// One number with its name, for `/metrics`.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricRow {
    /// The metric's name.
    pub name: &'static str,
    /// What it tells.
    pub help: &'static str,
    /// `counter` or `gauge`.
    pub kind: &'static str,
    /// Its value now.
    pub value: f64,
}

impl Broker {
    /// All own metrics; names are listed in `docs/operating/metrics.md`.
    pub fn metrics(&self) -> Vec<MetricRow> {
        let mut rows = self.ingest_rows();
        rows.extend(self.exemplar_rows());
        rows.extend(self.log_rows());
        rows.extend(self.ha_rows());
        rows.extend(self.aggregation_rows());
        rows.extend(self.read_rows());
        rows.extend(self.page_rows());
        rows.extend(self.store_rows());
        rows.extend(self.cluster_rows());
        rows.extend(self.maintenance_rows());
        rows.extend(self.inner.store_counters.rows().into_iter().map(|row| MetricRow {
            name: row.name,
            help: row.help,
            kind: "counter",
            value: row.value as f64,
        }));
        rows
    }

    /// Damaged places found so far, in log and blocks.
    pub fn corruptions(&self) -> u64 {
        let found = &self.inner.recovered;
        let damaged = found.damaged_ranges + found.unusable_frames + found.damaged_exemplars;
        damaged + self.quarantined_blocks()
    }

    /// Blocks moved to quarantine by the start and since.
    fn quarantined_blocks(&self) -> u64 {
        let later = self.inner.maintenance_counters.quarantined_blocks.load(Ordering::Relaxed);
        self.inner.recovered.damaged_blocks + later
    }

    fn read_rows(&self) -> Vec<MetricRow> {
        let reads = &self.inner.read_counters;
        vec![
            counter(
                "watchfire_broker_reads_total",
                "Calls of consoles that read the store.",
                &reads.calls,
            ),
            counter(
                "watchfire_broker_reads_failed_total",
                "Reads of consoles that ended with an error.",
                &reads.failed,
            ),
            counter(
                "watchfire_broker_reads_refused_total",
                "Reads of consoles refused because too many were running.",
                &reads.refused,
            ),
            counter(
                "watchfire_broker_reads_abandoned_total",
                "Reads stopped because the console left or took too long.",
                &reads.abandoned,
            ),
            counter(
                "watchfire_broker_read_bytes_total",
                "Bytes of series sent to consoles.",
                &reads.sent_bytes,
            ),
        ]
    }

    fn ingest_rows(&self) -> Vec<MetricRow> {
        let commits = &self.inner.commit_counters;
        let ingest = &self.inner.ingest_counters;
        let (subscriptions, delivered, missed) = self.inner.live.counts();
        vec![
            counter(
                "watchfire_broker_samples_total",
                "Samples made durable, duplicates included.",
                &commits.samples,
            ),
            counter("watchfire_broker_batches_total", "Batches made durable.", &commits.batches),
            counter(
                "watchfire_broker_commits_total",
                "Groups of batches made durable by one sync each.",
                &commits.groups,
            ),
            MetricRow {
                name: "watchfire_broker_commit_sync_seconds_total",
                help: "Time spent waiting for the disk to sync the log.",
                kind: "counter",
                value: commits.sync_nanos.load(Ordering::Relaxed) as f64 / 1e9,
            },
            counter(
                "watchfire_broker_commits_refused_full_total",
                "Batches refused because the disk is full.",
                &commits.full,
            ),
            counter(
                "watchfire_broker_batches_refused_head_full_total",
                "Batches refused because the head is full.",
                &ingest.head_full,
            ),
            counter(
                "watchfire_broker_agent_batches_known_total",
                "Batches that agents sent again and that were stored already.",
                &ingest.known_batches,
            ),
            counter(
                "watchfire_broker_agent_batches_passed_over_total",
                "Batches of agents that are damaged or too large and can never be stored.",
                &ingest.passed_over,
            ),
            counter(
                "watchfire_broker_agent_streams_refused_total",
                "Streams of agents ended because a batch could not be stored; it comes again.",
                &ingest.agent_refused,
            ),
            gauge(
                "watchfire_broker_agent_payload_bytes",
                "Payload of agents that is under way, at most 128 MiB and a 16th of memory.limit_bytes.",
                self.inner.agent_budget.taken_bytes() as f64,
            ),
            counter(
                "watchfire_broker_samples_rejected_total",
                "Samples refused because of their labels, time or a limit.",
                &ingest.rejected,
            ),
            counter(
                "watchfire_broker_samples_duplicate_total",
                "Samples sent again with the same value, left out.",
                &ingest.duplicates,
            ),
            counter(
                "watchfire_broker_samples_conflicting_total",
                "Samples left out because the series has another value at that time.",
                &ingest.conflicts,
            ),
            counter(
                "watchfire_broker_metadata_refused_total",
                "Metadata entries left out because too many families are known.",
                &ingest.metadata_refused,
            ),
            counter(
                "watchfire_broker_lines_refused_total",
                "Lines of Graphite and OpenTSDB that cannot be read or, for good, not be stored.",
                &ingest.lines_refused,
            ),
            counter(
                "watchfire_broker_influx_lines_refused_total",
                "Lines of InfluxDB's protocol that cannot be read.",
                &ingest.influx_lines_refused,
            ),
            counter(
                "watchfire_broker_influx_texts_left_out_total",
                "Fields of InfluxDB's protocol that hold text and no number.",
                &ingest.influx_texts,
            ),
            gauge(
                "watchfire_broker_otlp_delta_series",
                "Series that come as deltas over OTLP and whose total is kept.",
                self.otlp_delta_series() as f64,
            ),
            gauge(
                "watchfire_broker_live_subscriptions",
                "Live subscriptions by selector.",
                subscriptions as f64,
            ),
            MetricRow {
                name: "watchfire_broker_live_samples_total",
                help: "Samples delivered to live subscriptions.",
                kind: "counter",
                value: delivered as f64,
            },
            MetricRow {
                name: "watchfire_broker_live_samples_missed_total",
                help: "Samples that live subscribers were too slow for.",
                kind: "counter",
                value: missed as f64,
            },
        ]
    }

    fn exemplar_rows(&self) -> Vec<MetricRow> {
        let (kept, series, limit, _) = self.inner.exemplars.totals();
        let counters = &self.inner.exemplars.counters;
        vec![
            gauge("watchfire_broker_exemplars", "Exemplars that are kept.", kept as f64),
            gauge(
                "watchfire_broker_exemplars_limit",
                "Most exemplars that are kept (storage.exemplars.max_exemplars).",
                limit as f64,
            ),
            gauge(
                "watchfire_broker_exemplar_series",
                "Series of which exemplars are kept.",
                series as f64,
            ),
            counter(
                "watchfire_broker_exemplars_stored_total",
                "Exemplars stored.",
                &counters.stored,
            ),
            counter(
                "watchfire_broker_exemplars_repeated_total",
                "Exemplars left out because the last one of their series says the same.",
                &counters.repeated,
            ),
            counter(
                "watchfire_broker_exemplars_out_of_order_total",
                "Exemplars left out because they come before the last one of their series.",
                &counters.out_of_order,
            ),
            counter(
                "watchfire_broker_exemplars_unknown_series_total",
                "Exemplars left out because their series has no samples.",
                &counters.unknown_series,
            ),
            counter(
                "watchfire_broker_exemplars_too_long_total",
                "Exemplars left out because their labels have more than 128 characters.",
                &counters.too_long,
            ),
            counter(
                "watchfire_broker_exemplars_malformed_total",
                "Exemplars left out because their labels, or those of their series, are none.",
                &counters.malformed,
            ),
            counter(
                "watchfire_broker_exemplars_out_of_bounds_total",
                "Exemplars left out as too old or too far in the future.",
                &counters.out_of_bounds,
            ),
            counter(
                "watchfire_broker_exemplars_left_out_total",
                "Exemplars left out because one request holds too many, or none are kept.",
                &counters.left_out,
            ),
        ]
    }

    fn page_rows(&self) -> Vec<MetricRow> {
        let pages = &self.inner.pages;
        let (hits, misses) = pages.hits_and_misses();
        let count = |name, help, value| MetricRow { name, help, kind: "counter", value };
        vec![
            gauge(
                "watchfire_broker_page_cache_bytes",
                "Memory of pages and directories of blocks that queries read lately.",
                pages.bytes() as f64,
            ),
            count(
                "watchfire_broker_page_cache_hits_total",
                "Pages and directories of blocks that a query found in memory.",
                hits as f64,
            ),
            count(
                "watchfire_broker_page_cache_misses_total",
                "Pages and directories of blocks that a query had to read.",
                misses as f64,
            ),
        ]
    }

    /// Number, rows and bytes of the blocks of a signal.
    pub(crate) fn block_totals(&self, signal: Signal) -> (u64, u64, u64) {
        self.inner.catalog.read(|state| {
            let blocks = state.blocks().filter(|meta| meta.signal == signal);
            blocks.fold((0, 0, 0), |(count, rows, bytes), meta| {
                (count + 1, rows + meta.rows, bytes + meta.size_bytes)
            })
        })
    }

    fn store_rows(&self) -> Vec<MetricRow> {
        let head = self.inner.shards.totals();
        let series = self.inner.registry.all_series();
        let (blocks, samples, bytes) = self.block_totals(Signal::Metrics);
        let recovered = &self.inner.recovered;
        let unflushed = self.inner.commit_counters.unflushed_bytes.load(Ordering::Relaxed);
        vec![
            gauge("watchfire_broker_head_series", "Series known to the head.", series as f64),
            gauge("watchfire_broker_head_samples", "Samples in the head.", head.rows as f64),
            gauge("watchfire_broker_head_bytes", "Memory of the head.", head.bytes as f64),
            gauge(
                "watchfire_broker_registry_bytes",
                "Memory of series, labels and their index.",
                self.inner.registry.bytes() as f64,
            ),
            gauge(
                "watchfire_broker_log_unflushed_bytes",
                "Log that is in no block yet: what a restart has to read.",
                unflushed as f64,
            ),
            gauge(
                "watchfire_broker_ballast_bytes",
                "Disk space in reserve for commands that make room; 0 after a full disk used it.",
                self.inner.ballast.lock().size_bytes() as f64,
            ),
            gauge("watchfire_broker_blocks", "Blocks of samples.", blocks as f64),
            gauge("watchfire_broker_block_samples", "Samples in blocks.", samples as f64),
            gauge("watchfire_broker_block_bytes", "Size of all blocks of samples.", bytes as f64),
            gauge(
                "watchfire_broker_recovery_seconds",
                "Time the start needed until everything could be read.",
                recovered.seconds,
            ),
            gauge(
                "watchfire_broker_recovery_samples",
                "Samples the start replayed from the log.",
                recovered.samples as f64,
            ),
            gauge(
                "watchfire_broker_recovery_unusable_frames",
                "Log frames the start could not use.",
                recovered.unusable_frames as f64,
            ),
        ]
    }

    fn maintenance_rows(&self) -> Vec<MetricRow> {
        let counters = &self.inner.maintenance_counters;
        let seconds = |name, help, micros: &AtomicU64| MetricRow {
            name,
            help,
            kind: "counter",
            value: micros.load(Ordering::Relaxed) as f64 / 1e6,
        };
        vec![
            counter(
                "watchfire_broker_flushes_total",
                "Flushes of the head to blocks.",
                &counters.flushes,
            ),
            counter(
                "watchfire_broker_flush_failures_total",
                "Flushes that failed and were tried again.",
                &counters.flush_failures,
            ),
            counter(
                "watchfire_broker_flushed_samples_total",
                "Samples written to blocks by flushes.",
                &counters.flushed_samples,
            ),
            seconds(
                "watchfire_broker_flush_seconds_total",
                "Time spent flushing.",
                &counters.flush_micros,
            ),
            counter(
                "watchfire_broker_block_conflicts_total",
                "Samples left out by flush or merge because an earlier one differs, or a rollup \
                 whose samples are gone may count them.",
                &counters.conflicts,
            ),
            counter("watchfire_broker_merges_total", "Merges of blocks.", &counters.merges),
            counter(
                "watchfire_broker_merge_failures_total",
                "Merges that failed and were tried again.",
                &counters.merge_failures,
            ),
            seconds(
                "watchfire_broker_merge_seconds_total",
                "Time spent merging.",
                &counters.merge_micros,
            ),
            counter(
                "watchfire_broker_expired_blocks_total",
                "Blocks removed by retention.",
                &counters.expired_blocks,
            ),
            counter(
                "watchfire_broker_rewritten_blocks_total",
                "Blocks written anew without what a rule of retention no longer keeps.",
                &counters.rewritten_blocks,
            ),
            counter(
                "watchfire_broker_thinned_blocks_total",
                "Blocks of which rollups are all that was kept, because their samples were too old.",
                &counters.thinned_blocks,
            ),
            counter(
                "watchfire_broker_downsampled_blocks_total",
                "Blocks written anew with fewer samples, by storage.downsampling.",
                &counters.downsampled_blocks,
            ),
            counter(
                "watchfire_broker_released_series_total",
                "Series forgotten by the head because they had no samples for two hours.",
                &counters.released_series,
            ),
            counter(
                "watchfire_broker_cleaned_blocks_total",
                "Blocks written anew without what was deleted, because it was asked for.",
                &counters.cleaned_blocks,
            ),
            counter(
                "watchfire_broker_snapshots_total",
                "Copies of the store that were written.",
                &counters.snapshots,
            ),
            gauge(
                "watchfire_broker_deletes_pending",
                "Deletes whose rows are hidden and not removed yet, at most 1000.",
                self.inner.deletes.current().0.iter().len() as f64,
            ),
            MetricRow {
                name: "watchfire_broker_quarantined_blocks_total",
                help: "Damaged blocks moved to quarantine.",
                kind: "counter",
                value: self.quarantined_blocks() as f64,
            },
        ]
    }
}

pub(crate) fn counter(name: &'static str, help: &'static str, value: &AtomicU64) -> MetricRow {
    MetricRow { name, help, kind: "counter", value: value.load(Ordering::Relaxed) as f64 }
}

pub(crate) fn gauge(name: &'static str, help: &'static str, value: f64) -> MetricRow {
    MetricRow { name, help, kind: "gauge", value }
}
