//! The console's view of the broker: where two roles meet.

use std::sync::Arc;

use broker::{
    Broker, CommitError, Expected, Feed, LiveBatch, ReadError, Reader, RemoveAgentError, Selection,
};
use console::{
    Cardinality, DataChanges, Families, KeyError, LiveEvents, LiveFeed, NextEvents, RemovalError,
    StorageError, Stored, Wanted, Work,
};
use governor::Refused;
use metricstore::{HistogramColumns, MetricError, SelectCost};
use model::{
    CensusReport, CensusRequest, FoundName, Labels, Matcher, NO_TENANT, NameSearch,
    SeriesExemplars, TenantName, TimeRange,
};
use promql::{Columns, Reads, SelectRequest, SeriesSet, SourceError};

use crate::log_source::{LogTail, LogView};

/// The broker of this process as data of the console.
pub(crate) struct BrokerData(pub(crate) Broker);

impl console::Data for BrokerData {
    fn snapshot(
        &self,
        tenant: TenantName,
        work: &Work,
    ) -> Result<Arc<dyn console::Snapshot>, SourceError> {
        self.0.ready().map_err(SourceError::Storage)?;
        let tenant = self.0.tenant_id(tenant);
        Ok(Arc::new(View(Arc::new(self.0.reader_for(tenant, Arc::clone(work))))))
    }

    fn logs(
        &self,
        tenant: TenantName,
        work: &Work,
    ) -> Result<Arc<dyn console::LogSnapshot>, SourceError> {
        self.0.ready().map_err(SourceError::Storage)?;
        let tenant = self.0.tenant_id(tenant);
        Ok(Arc::new(LogView::new(self.0.logs_reader_for(tenant, Arc::clone(work)), work)))
    }

    fn tail(
        &self,
        tenant: TenantName,
        matchers: Vec<Matcher>,
    ) -> Result<Box<dyn console::LineFeed>, SourceError> {
        let feed = self.0.subscribe_lines(tenant, matchers);
        Ok(Box::new(LogTail(feed.map_err(SourceError::Limit)?)))
    }

    fn metadata(&self, tenant: TenantName) -> Result<Families, SourceError> {
        let known = self.0.metadata(self.0.tenant_id(tenant));
        Ok(Families { known, away: Vec::new() })
    }

    fn subscribe(
        &self,
        tenant: TenantName,
        selector: Vec<Matcher>,
    ) -> Result<Box<dyn LiveFeed>, SourceError> {
        let feed = self.0.subscribe(tenant, selector).map_err(SourceError::Limit)?;
        Ok(Box::new(Live(feed)))
    }

    fn ready(&self) -> Result<(), String> {
        self.0.of_use()
    }

    fn changes(
        &self,
        _: TenantName,
        since: u64,
        within: TimeRange,
    ) -> Result<Option<DataChanges>, SourceError> {
        let broker::DataChanges { store, number, at_ms, ranges, kept_ms } =
            self.0.changes_since(since, within);
        Ok(Some(DataChanges { store, number, at_ms, ranges, kept_ms }))
    }
}

/// The agents of this process' broker.
pub(crate) struct BrokerFleet(pub(crate) Broker);

impl console::Fleet for BrokerFleet {
    fn agents(&self) -> Vec<console::Agent> {
        self.0.fleet().into_iter().map(agent).collect()
    }

    fn remove<'a>(&'a self, name: &'a str) -> console::Removal<'a> {
        Box::pin(async move {
            self.0.remove_agent(name).await.map_err(|error| {
                let text = error.to_string();
                match error {
                    RemoveAgentError::Unknown(_) => RemovalError::Unknown(text),
                    RemoveAgentError::Connected(_) => RemovalError::Connected(text),
                    RemoveAgentError::Commit(_) => RemovalError::Failed(text),
                }
            })
        })
    }
}

fn agent(row: broker::AgentRow) -> console::Agent {
    let status = row.status;
    console::Agent {
        name: row.name,
        connected: row.connected,
        hostname: row.hostname,
        version: row.version,
        address: row.address,
        labels: row.labels,
        config_hash: row.config_hash,
        started: row.started_ms,
        last_seen: row.last_seen_ms,
        certificate_expires: row.certificate_expires_ms,
        lag_seconds: row.lag_ms as f64 / 1_000.0,
        spool_bytes: status.spool_bytes,
        spool_limit_bytes: status.spool_limit_bytes,
        live_through_seq: row.live_through,
        backlog_through_seq: row.backlog_through,
        samples_collected: status.samples_collected,
        samples_dropped: status.samples_dropped,
        batches_dropped: status.batches_dropped,
        active_series: status.active_series,
        resident_bytes: status.resident_bytes,
        cpu_seconds: status.cpu_seconds,
        targets_up: status.targets_up,
        targets_down: status.targets_down,
        last_complaint: row.last_complaint,
    }
}

/// The key space of this process' broker.
pub(crate) struct BrokerKeys(pub(crate) Broker);

impl console::Keys for BrokerKeys {
    fn list(&self, prefix: &str) -> Vec<(String, Stored)> {
        let stored =
            |value: broker::KeyValue| Stored { value: value.value, version: value.version };
        self.0.list_keys(prefix).into_iter().map(|(key, value)| (key, stored(value))).collect()
    }

    fn put(&self, key: &str, value: Vec<u8>, wanted: Wanted) -> Result<u64, KeyError> {
        self.0.put_key(key, value, expected(wanted)).map_err(|error| key_error(&error))
    }

    fn delete(&self, key: &str, wanted: Wanted) -> Result<(), KeyError> {
        self.0.delete_key(key, expected(wanted)).map_err(|error| key_error(&error))
    }
}

fn expected(wanted: Wanted) -> Expected {
    match wanted {
        Wanted::Any => Expected::Any,
        Wanted::Absent => Expected::Absent,
        Wanted::Version(version) => Expected::Version(version),
    }
}

fn key_error(error: &CommitError) -> KeyError {
    if error.is_version_conflict() {
        return KeyError::Conflict;
    }
    KeyError::Unavailable(error.to_string())
}

/// The store of this process' broker.
pub(crate) struct BrokerStorage(pub(crate) Broker);

impl console::Storage for BrokerStorage {
    fn delete_series(
        &self,
        tenant: TenantName,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<(), StorageError> {
        let tenant = self.0.tenant_id(tenant);
        // Who has nothing stored has nothing to delete.
        if tenant == NO_TENANT {
            return Ok(());
        }
        self.0.delete_series(tenant, selectors, range).map_err(storage_error)
    }

    fn delete_lines(
        &self,
        tenant: TenantName,
        selector: &[Matcher],
        range: TimeRange,
    ) -> Result<(), StorageError> {
        let tenant = self.0.tenant_id(tenant);
        if tenant == NO_TENANT {
            return Ok(());
        }
        self.0.delete_logs(tenant, &[selector.to_vec()], range).map_err(storage_error)
    }

    fn line_deletes(&self, tenant: TenantName) -> Result<Vec<console::LineDelete>, StorageError> {
        let pending = self.0.pending_log_deletes(self.0.tenant_id(tenant));
        let one = |delete: broker::PendingLineDelete| {
            let broker::PendingLineDelete { number, range, at_ms, selectors } = delete;
            let of_one = move |selector| console::LineDelete { number, range, at_ms, selector };
            selectors.into_iter().map(of_one)
        };
        Ok(pending.into_iter().flat_map(one).collect())
    }

    fn clean_deleted(&self) -> Result<(), StorageError> {
        self.0.clean_deleted().map_err(storage_error)
    }

    fn snapshot(&self, name: &str, with_head: bool) -> Result<(), StorageError> {
        self.0.snapshot(name, with_head).map_err(storage_error)
    }

    fn blocks(&self) -> Vec<console::StoredBlock> {
        let forms = self.0.block_forms();
        let row = |(meta, deletes): (broker::BlockMeta, u64)| {
            let form = forms.get(&meta.id).copied().unwrap_or_default();
            console::StoredBlock {
                tenant: self.0.tenant_name(meta.tenant),
                tenant_number: meta.tenant.0,
                id: meta.id.to_string(),
                min_time_ms: meta.range.start_ms,
                end_time_ms: meta.range.end_ms,
                samples: meta.rows,
                series: meta.series,
                size_bytes: meta.size_bytes,
                deletes,
                level: meta.level,
                rollup_ms: form.rollup_ms,
                is_downsampled: form.is_downsampled,
                is_rollups_alone: form.is_thinned,
            }
        };
        self.0.block_metas().into_iter().map(row).collect()
    }
}

fn storage_error(error: CommitError) -> StorageError {
    let text = error.to_string();
    match error {
        CommitError::Catalog(_) | CommitError::HeadInParts { .. } => StorageError::Limit(text),
        CommitError::Full
        | CommitError::Busy(_)
        | CommitError::OldBroker
        | CommitError::Stopping => StorageError::Unavailable(text),
        _ => StorageError::Failed(text),
    }
}

struct Live(Feed);

impl LiveFeed for Live {
    fn next(&mut self) -> NextEvents<'_> {
        Box::pin(async {
            let LiveBatch { series, samples, missed } = self.0.next().await;
            Some(Ok(LiveEvents { series, samples, missed }))
        })
    }
}

struct View(Arc<Reader>);

pub(crate) fn fault(error: ReadError) -> SourceError {
    match error {
        ReadError::Store(MetricError::TooManySeries { .. }) => {
            SourceError::Limit(error.to_string())
        }
        ReadError::Refused(Refused::TooLarge(text)) => SourceError::Limit(text),
        ReadError::Refused(Refused::Later(text)) => SourceError::Unavailable(text),
        ReadError::Refused(Refused::Cancelled) => SourceError::Cancelled,
        ReadError::Store(error) => SourceError::Storage(error.to_string()),
    }
}

impl promql::Source for View {
    fn select(&self, request: &SelectRequest<'_>) -> Result<Arc<dyn SeriesSet>, SourceError> {
        let range = TimeRange::new(request.start_ms, request.end_ms.saturating_add(1));
        let window_ms = request.hints.window_ms;
        let selected = self.0.select_windows(request.matchers, range, window_ms).map_err(fault)?;
        let with_starts = request.hints.starts;
        Ok(Arc::new(Set { selected, reader: Arc::clone(&self.0), with_starts }))
    }
}

struct Set {
    selected: Selection,
    reader: Arc<Reader>,
    /// Whether it matters when samples began at zero.
    with_starts: bool,
}

impl SeriesSet for Set {
    fn len(&self) -> usize {
        self.selected.len()
    }

    fn labels(&self, index: usize) -> &Labels {
        &self.selected.labels()[index]
    }

    fn read(&self, index: usize, out: &mut Columns) -> Result<(), SourceError> {
        let with_starts = self.with_starts
            && self
                .selected
                .has_starts(index)
                .inspect_err(|error| self.reader.report(error))
                .map_err(|error| fault(error.into()))?;
        // Rows of windows do not tell when what is in them began.
        if let Some(window_ms) = self.selected.window_ms().filter(|_| !with_starts) {
            let done = self
                .selected
                .read_rows(index, window_ms, &mut out.rows)
                .inspect_err(|error| self.reader.report(error))
                .map_err(|error| fault(error.into()))?;
            self.selected.count_decompressed().map_err(|error| fault(error.into()))?;
            if done {
                out.is_coarse = self.selected.has_coarser(index, window_ms);
                out.timestamps_ms.extend(out.rows.iter().map(|row| row.last_ms));
                out.values.extend(out.rows.iter().map(|row| row.last));
                return Ok(());
            }
        }
        out.is_coarse = self.selected.has_thinned(index);
        let mut histograms = HistogramColumns::default();
        let read = if with_starts {
            let floats = (&mut out.timestamps_ms, &mut out.values);
            self.selected.read_with_starts(index, floats, &mut out.starts_ms, &mut histograms)
        } else {
            let (timestamps_ms, values) = (&mut out.timestamps_ms, &mut out.values);
            self.selected.read_all(index, timestamps_ms, values, &mut histograms)
        };
        read.inspect_err(|error| self.reader.report(error)).map_err(|error| fault(error.into()))?;
        self.selected.count_decompressed().map_err(|error| fault(error.into()))?;
        let HistogramColumns { timestamps_ms, start_ms, histograms } = &histograms;
        for ((&t_ms, &start_ms), histogram) in timestamps_ms.iter().zip(start_ms).zip(histograms) {
            out.histograms.push_started(t_ms, start_ms, Arc::new(histogram.to_float()));
        }
        Ok(())
    }

    fn is_coarse(&self) -> bool {
        (0..self.selected.len()).any(|index| self.selected.has_thinned(index))
    }

    fn reads(&self) -> Reads {
        let SelectCost { blocks, chunks, head_series, bytes, rollups_ms } = self.selected.cost();
        Reads { blocks, chunks, head_series, bytes, rollups_ms }
    }
}

impl console::Snapshot for View {
    fn label_names(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<String>, SourceError> {
        self.0.label_names(selectors, range, limit).map_err(fault)
    }

    fn label_values(
        &self,
        name: &str,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<String>, SourceError> {
        self.0.label_values(name, selectors, range, limit).map_err(fault)
    }

    fn search(
        &self,
        of: Option<&str>,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        search: &NameSearch,
    ) -> Result<Vec<FoundName>, SourceError> {
        self.0.search(of, selectors, range, search).map_err(fault)
    }

    fn series(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<Labels>, SourceError> {
        self.0.series(selectors, range, limit).map_err(fault)
    }

    fn exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<Vec<SeriesExemplars>, SourceError> {
        self.0.exemplars(selectors, range).map_err(fault)
    }

    fn missing(&self, range: TimeRange) -> Vec<String> {
        self.0.missing(range)
    }

    fn census(&self, request: &CensusRequest) -> Result<CensusReport, SourceError> {
        self.0.census(request).map_err(fault)
    }

    fn cardinality(&self, limit: usize) -> Result<Cardinality, SourceError> {
        let (found, head) = self.0.cardinality(limit).map_err(fault)?;
        Ok(Cardinality {
            series: found.series,
            label_pairs: found.label_pairs,
            chunks: head.chunks,
            min_time_ms: if head.range.is_empty() { i64::MAX } else { head.range.start_ms },
            max_time_ms: if head.range.is_empty() { i64::MIN } else { head.range.end_ms - 1 },
            series_by_metric: found.series_by_metric,
            values_by_label: found.values_by_label,
            bytes_by_label: found.bytes_by_label,
            series_by_pair: found.series_by_pair,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
    use std::time::{Duration, Instant};

    use blockstore::{MemoryDisk, ROLLED_LEVEL, THINNED_LEVEL};
    use broker::BrokerConfig;
    use model::{DEFAULT_TENANT, MetricBatch};
    use promql::{EvalOptions, EvalTime, Evaluation, Inline, QueryOutput, QueryValue};

    use super::*;

    const HOUR_MS: i64 = 3_600_000;
    /// Midnight.
    const START_MS: i64 = 1_795_219_200_000;
    static CLOCK: AtomicI64 = AtomicI64::new(START_MS);

    fn run(broker: &Broker, query: &str, end_ms: i64) -> QueryOutput {
        let expr = promql::parse(query).expect("a query");
        let source = View(Arc::new(broker.reader(DEFAULT_TENANT)));
        let cancelled = AtomicBool::new(false);
        let options = EvalOptions {
            lookback_ms: 300_000,
            default_subquery_step_ms: 60_000,
            max_samples: 1 << 20,
            memory: None,
            cancelled: &cancelled,
            parallel: &Inline,
            clock: None,
            use_start_timestamps: false,
            type_and_unit_labels: false,
        };
        let time = EvalTime::Instant(end_ms);
        promql::evaluate(&Evaluation { expr: &expr, time, source: &source, options }).expect("runs")
    }

    fn only(output: &QueryOutput) -> f64 {
        match &output.value {
            QueryValue::Vector(samples) if samples.len() == 1 => samples[0].value,
            other => panic!("{other:?}"),
        }
    }

    fn wait_for_level(broker: &Broker, level: u8) {
        let started = Instant::now();
        let is_reached = || {
            let metas = broker.block_metas();
            broker.reader(DEFAULT_TENANT).head().rows == 0
                && metas.iter().all(|(meta, _)| meta.level == level)
        };
        while !is_reached() {
            assert!(started.elapsed() < Duration::from_secs(30), "{:?}", broker.block_metas());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs a query until its answer is as it should be: the catalog lists blocks a moment before they
    /// are read.
    #[track_caller]
    fn run_until(
        broker: &Broker,
        query: &str,
        at_ms: i64,
        is_so: impl Fn(&QueryOutput) -> bool,
    ) -> QueryOutput {
        let started = Instant::now();
        loop {
            let found = run(broker, query, at_ms);
            if is_so(&found) {
                return found;
            }
            assert!(started.elapsed() < Duration::from_secs(30), "{:?}", found.stats);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A day of a counter: what functions over whole windows yield stays the same when its samples
    /// are merged and when they are gone; the rest says what it lacks.
    #[test]
    fn rollups_answer_for_samples_and_say_where_they_cannot() {
        let now_ms = || CLOCK.load(Ordering::SeqCst);
        let config =
            BrokerConfig { flush_interval_ms: 10, ..BrokerConfig::new("/nowhere".into(), now_ms) };
        let disk = Arc::new(MemoryDisk::new());
        let broker = Broker::open_on(disk, config, Arc::default()).expect("an empty disk");
        let labels = Labels::from_pairs([("__name__", "m_total")]).expect("valid");
        for hour in 1..=24 {
            CLOCK.store(START_MS + hour * HOUR_MS, Ordering::SeqCst);
            let mut batch = MetricBatch::default();
            for at in 0..240 {
                let t_ms = START_MS + (hour - 1) * HOUR_MS + at * 15_000 + 7_000;
                batch.push(&labels, t_ms, (at * 3 + hour) as f64);
            }
            let (sender, receiver) = std::sync::mpsc::channel();
            broker.ingest(DEFAULT_TENANT, &batch, move |result| {
                let _ = sender.send(result);
            });
            receiver.recv().expect("an answer").expect("a sound disk");
        }
        let end_ms = START_MS + 24 * HOUR_MS;
        let query = "increase(m_total[1d])";
        let before = run(&broker, query, end_ms);
        CLOCK.store(end_ms + 2 * HOUR_MS, Ordering::SeqCst);
        wait_for_level(&broker, ROLLED_LEVEL);
        let merged = run_until(&broker, query, end_ms, |found| found.stats.samples_read <= 288);
        assert_eq!(only(&merged), only(&before));
        assert!(before.stats.samples_read >= 5_000, "{:?}", before.stats);
        // Not made of whole windows.
        assert!(run(&broker, query, end_ms - 1).stats.samples_read > 5_000);

        CLOCK.store(end_ms + 16 * 24 * HOUR_MS, Ordering::SeqCst);
        wait_for_level(&broker, THINNED_LEVEL);
        let thinned = run(&broker, query, end_ms);
        assert_eq!((only(&thinned), &thinned.annotations), (only(&before), &before.annotations));
        let is_told = |found: &QueryOutput| !found.annotations.is_empty();
        let last = run_until(&broker, "m_total", end_ms, is_told);
        assert_eq!(only(&last), f64::from(239 * 3 + 24));
        let told = last.annotations[0].render("m_total");
        assert!(told.starts_with("PromQL info: some samples are past their retention"), "{told}");
        broker.stop();
    }
}
