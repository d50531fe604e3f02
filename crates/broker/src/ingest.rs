//! From a batch to its acknowledgement: resolve → live tap → log → shards → answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use catalog::Mark;
use metricstore::{
    Admission, AppendOutcome, ExemplarOutcome, ExemplarRefusals, NewSeries, Reject, ResolvedBatch,
};
use model::{MetricBatch, TenantId, TenantName};
use tokio::task::JoinError;
use wire::Refusals;

use crate::Broker;
use crate::agents::Delivery;
use crate::aggregation::Split;
use crate::commit::{CommitError, CommitQueue, Message, Stored};
use crate::ha::Filtered;
use crate::maintenance::flush_head_bytes;
use crate::tenants::SendingTenant;

/// Most samples of one batch: what one payload of the log takes.
const MAX_BATCH_ROWS: usize = 1 << 24;
/// Most bytes of labels in one batch: with their framing they fit one payload of the log.
const MAX_BATCH_LABEL_BYTES: usize = 512 << 20;

/// What became of one batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IngestOutcome {
    /// Counts of what reached the head.
    pub appended: AppendOutcome,
    /// What was refused before it reached the log, by reason.
    pub rejects: Vec<Reject>,
    /// Counts of the exemplars that can be kept.
    pub exemplars: ExemplarOutcome,
    /// The others.
    pub exemplar_refusals: ExemplarRefusals,
    /// Samples left out because those of another replica of their HA cluster are stored.
    pub deduplicated: u64,
    /// Which replica that is.
    pub note: String,
    /// Samples that are aggregated.
    pub aggregated: u64,
    /// A series that has another value at the same time already, as Prometheus prints it.
    pub first_conflict: String,
}

impl IngestOutcome {
    /// Samples that were not stored although they are no repetition.
    pub fn refused_samples(&self) -> u64 {
        let rejected: u64 = self.rejects.iter().map(|reject| reject.samples).sum();
        rejected + self.appended.conflicts
    }

    /// How many of the [refused](IngestOutcome::refused_samples) samples are histograms.
    pub fn refused_histograms(&self) -> u64 {
        let rejected: u64 = self.rejects.iter().map(|reject| reject.histograms).sum();
        rejected + self.appended.histogram_conflicts
    }

    /// Adds what a decoder has left out already, in front of what the store has.
    pub(crate) fn add_refusals(&mut self, refusals: Refusals) {
        let refused = refusals.into_iter().map(|refused| Reject {
            reason: refused.reason,
            series: refused.series,
            samples: refused.samples,
            histograms: refused.histograms,
            first: refused.first,
            may_come_again: false,
        });
        self.rejects.splice(0..0, refused);
    }

    /// Adds what is not aggregated. If it `is_stored` all the same, no sample of it counts as refused
    /// for that, and what is refused on both ways is told once.
    fn reject_input(&mut self, mut rejects: Vec<Reject>, is_stored: bool) {
        if is_stored {
            let told = &self.rejects;
            rejects.retain(|reject| told.iter().all(|one| one.reason != reject.reason));
            for reject in &mut rejects {
                reject.reason.insert_str(0, "stored but not aggregated: ");
                (reject.samples, reject.histograms) = (0, 0);
            }
        }
        self.rejects.append(&mut rejects);
    }

    /// Whether nothing was stored, and rightly: another replica's samples are.
    pub fn is_deduplicated(&self) -> bool {
        let found = self.appended.appended + self.appended.duplicates_equal;
        let found = found + self.appended.conflicts + self.aggregated;
        self.deduplicated > 0 && found == 0 && self.rejects.is_empty()
    }

    /// Whether nothing was stored, and all of it may be when it comes again later.
    pub fn may_come_again(&self) -> bool {
        let stored = self.appended.appended + self.appended.duplicates_equal;
        stored + self.appended.conflicts + self.aggregated == 0
            && !self.rejects.is_empty()
            && self.rejects.iter().all(|reject| reject.may_come_again)
    }

    /// Tells of exemplars whose series has no samples. In remote write 2.0 that is an error; in
    /// other protocols they are left out silently, as in Prometheus.
    pub(crate) fn reject_exemplars_alone(&mut self) {
        let alone = self.exemplar_refusals.unknown_series;
        if alone > 0 {
            let reason = "exemplars without a sample of their series".to_owned();
            let (samples, histograms, first) = (0, 0, String::new());
            let may_come_again = false;
            self.rejects.push(Reject {
                reason,
                series: alone,
                samples,
                histograms,
                first,
                may_come_again,
            });
        }
    }

    /// What the sender should be told, if anything of the batch was not stored as sent.
    pub fn complaint(&self) -> Option<String> {
        let mut parts: Vec<String> = self
            .rejects
            .iter()
            .map(|reject| {
                let count = match reject.samples {
                    0 => format!("{} series", reject.series),
                    samples => counted(samples),
                };
                format!("{count} refused: {}", cause(reject))
            })
            .collect();
        if self.appended.conflicts > 0 {
            let fault = with_first(CONFLICT, &self.first_conflict);
            parts.push(format!("{} left out: {fault}", counted(self.appended.conflicts)));
        }
        let rest = if self.may_come_again() {
            "nothing of the request is stored"
        } else {
            "the other samples of the request are stored"
        };
        (!parts.is_empty()).then(|| format!("{}; {rest}", parts.join("; ")))
    }
}

/// Why a sample is left out whose series has another one of its time.
pub(crate) const CONFLICT: &str = "duplicate sample for timestamp, the series already has another \
                                   value at that time and the first one stays";

/// Why something is refused, and of which series the first of it is.
pub(crate) fn cause(reject: &Reject) -> String {
    with_first(&reject.reason, &reject.first)
}

fn with_first(reason: &str, first: &str) -> String {
    match first {
        "" => reason.to_owned(),
        first => format!("{reason} (the first is of {first})"),
    }
}

fn counted(samples: u64) -> String {
    if samples == 1 { "1 sample".to_owned() } else { format!("{samples} samples") }
}

/// Counters of ingestion.
#[derive(Debug, Default)]
pub(crate) struct IngestCounters {
    pub(crate) rejected: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) metadata_refused: AtomicU64,
    pub(crate) head_full: AtomicU64,
    pub(crate) known_batches: AtomicU64,
    pub(crate) passed_over: AtomicU64,
    pub(crate) agent_refused: AtomicU64,
    pub(crate) lines_refused: AtomicU64,
    pub(crate) influx_lines_refused: AtomicU64,
    pub(crate) influx_texts: AtomicU64,
}

impl IngestCounters {
    fn count(&self, stored: &Stored) {
        match stored {
            Stored::New(appended, _) => {
                self.duplicates.fetch_add(appended.duplicates_equal, Ordering::Relaxed);
                self.conflicts.fetch_add(appended.conflicts, Ordering::Relaxed);
            }
            Stored::Known => {
                self.known_batches.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Broker {
    /// Stores a batch and calls `done` when it is durable and visible, or refused as a whole.
    ///
    /// Waits for a place in the committer's queue, and resolves every series first: not for a
    /// thread that serves sockets, unless the batch is small and the broker is
    /// [at ease](Broker::is_congested).
    ///
    /// # Panics
    /// There is no tenant of this number.
    pub fn ingest(
        &self,
        tenant: TenantId,
        batch: &MetricBatch,
        done: impl FnOnce(Result<IngestOutcome, CommitError>) + Send + 'static,
    ) {
        self.ingest_marked(tenant, batch, None, |result| {
            done(result.map(|delivery| delivery.outcome));
        });
    }

    /// As [`Broker::ingest`], and moves an agent's mark in the same frame.
    pub(crate) fn ingest_marked(
        &self,
        tenant: TenantId,
        batch: &MetricBatch,
        mark: Option<Mark>,
        done: impl FnOnce(Result<Delivery, CommitError>) + Send + 'static,
    ) {
        // Before anything is noted of it: a replica whose samples are refused has stored none of them,
        // and what the other one sends must not be left out for them.
        match self.admit(tenant, batch) {
            Ok(admitted) => self.ingest_admitted(&admitted, batch, mark, done),
            Err(error) => done(Err(error)),
        }
    }

    /// Takes a batch's samples of what the tenant may send in this second. Who does not store them gives
    /// them back.
    ///
    /// # Errors
    /// They come too fast; the batch is too large, or the head is full.
    ///
    /// # Panics
    /// There is no tenant of this number.
    pub(crate) fn admit(
        &self,
        tenant: TenantId,
        batch: &MetricBatch,
    ) -> Result<SendingTenant, CommitError> {
        let sender = self.sender_with_room(tenant, batch)?;
        sender.admit(batch.samples(), self.now_ms())?;
        Ok(sender)
    }

    /// As [`Broker::admit`], however fast they come: what comes next waits for them.
    ///
    /// # Errors
    /// The batch is too large, or the head is full.
    ///
    /// # Panics
    /// There is no tenant of this number.
    pub(crate) fn admit_in_advance(
        &self,
        tenant: TenantId,
        batch: &MetricBatch,
    ) -> Result<SendingTenant, CommitError> {
        let sender = self.sender_with_room(tenant, batch)?;
        sender.admit_in_advance(batch.samples(), self.now_ms());
        Ok(sender)
    }

    fn sender_with_room(
        &self,
        tenant: TenantId,
        batch: &MetricBatch,
    ) -> Result<SendingTenant, CommitError> {
        self.check_room(batch)?;
        Ok(self.inner.tenants.sending(tenant))
    }

    /// As [`Broker::ingest_marked`], of what was admitted before.
    pub(crate) fn ingest_admitted(
        &self,
        sender: &SendingTenant,
        batch: &MetricBatch,
        mark: Option<Mark>,
        done: impl FnOnce(Result<Delivery, CommitError>) + Send + 'static,
    ) {
        self.store_metadata(&sender.tenant, batch);
        let filtered = self.elect(sender.tenant.id, batch);
        let mut outcome = IngestOutcome::default();
        let mut elected = None;
        if let Some(Filtered { batch, deduplicated, note, refused, .. }) = filtered {
            sender.give_back(deduplicated);
            outcome = IngestOutcome { deduplicated, note, rejects: refused, ..outcome };
            elected = Some(batch);
        }
        let batch = elected.as_ref().unwrap_or(batch);
        // Held until the batch is in the committer's queue, see `Maintenance::release_idle_series` and
        // `Broker::put_aggregation`.
        let _resolving = self.inner.resolving.read();
        let split = self.split(sender, batch);
        let batch = split.as_ref().and_then(|split| split.rest.as_ref()).unwrap_or(batch);
        self.store(sender, batch, split.as_ref(), mark, outcome, done);
    }

    /// Stores what aggregation wrote, past all that takes samples out of a batch.
    pub(crate) fn ingest_written(
        &self,
        tenant: TenantId,
        batch: &MetricBatch,
        done: impl FnOnce(Result<IngestOutcome, CommitError>) + Send + 'static,
    ) {
        match self.sender_with_room(tenant, batch) {
            Ok(sender) => {
                // As in `ingest_marked`.
                let _resolving = self.inner.resolving.read();
                self.store(&sender, batch, None, None, IngestOutcome::default(), |result| {
                    done(result.map(|delivery| delivery.outcome));
                });
            }
            Err(error) => done(Err(error)),
        }
    }

    /// Stores a batch, and the input of `split`, which is aggregated, with it. The caller holds
    /// `resolving`.
    fn store(
        &self,
        sender: &SendingTenant,
        batch: &MetricBatch,
        split: Option<&Split>,
        mark: Option<Mark>,
        mut outcome: IngestOutcome,
        done: impl FnOnce(Result<Delivery, CommitError>) + Send + 'static,
    ) {
        let inner = &self.inner;
        let (mut resolved, exemplar_refusals) = self.resolve(sender, batch);
        outcome.exemplar_refusals = exemplar_refusals;
        outcome.exemplars = inner.exemplars.take_known_out(&mut resolved);
        outcome.rejects.append(&mut resolved.rejects);
        let input = split.map(|split| {
            let mut input = self.resolve_input(sender, &split.input);
            outcome.aggregated = input.rows() as u64;
            let rejects = std::mem::take(&mut input.rejects);
            outcome.reject_input(rejects, split.rest.is_none());
            Box::new(input)
        });
        let input = input.filter(|input| !input.is_empty());
        let tenant = &sender.tenant;
        for reject in &outcome.rejects {
            tenant.count_refusal(&reject.reason, reject.samples);
        }
        let refused: u64 = outcome.rejects.iter().map(|reject| reject.samples).sum();
        inner.ingest_counters.rejected.fetch_add(refused, Ordering::Relaxed);
        // An agent's batch of which nothing is left moves its mark all the same.
        if resolved.is_empty() && input.is_none() && mark.is_none() {
            done(Ok(Delivery { outcome, was_known: false }));
            return;
        }
        if !inner.live.is_idle() && mark.as_ref().is_none_or(|mark| self.may_show(mark)) {
            self.publish(tenant.name, &resolved);
        }
        let counters = Arc::clone(&inner.ingest_counters);
        let registry = Arc::clone(&inner.registry);
        let tenant = Arc::clone(tenant);
        let done = Box::new(move |result: Result<Stored, CommitError>| {
            let mut outcome = outcome;
            done(result.map(|stored| {
                counters.count(&stored);
                if let Stored::New(appended, _) = &stored {
                    tenant.count_stored(appended.appended);
                    if let Some(labels) = appended.first_conflict.and_then(|o| registry.labels(o)) {
                        outcome.first_conflict = labels.to_string();
                    }
                }
                Delivery::of(stored, outcome)
            }));
        });
        let (batch, mark) = (Box::new(resolved), mark.map(Box::new));
        if let Err(Message::Write { done, .. }) =
            self.send(Message::Write { batch, input, mark, done })
        {
            done(Err(CommitError::Stopping));
        }
    }

    fn resolve(
        &self,
        sender: &SendingTenant,
        batch: &MetricBatch,
    ) -> (ResolvedBatch, ExemplarRefusals) {
        let inner = &self.inner;
        let governor = &inner.config.governor;
        let room = governor.room_for_series();
        // A batch seldom brings so many; then the text is not needed.
        let refusal = match room {
            room if room > batch.series.len() + batch.histograms.len() => String::new(),
            _ => governor.series_refusal(),
        };
        let mut resolved = ResolvedBatch::default();
        let (tenant, limits) = (sender.tenant.id, &*sender.limits);
        let new_series = NewSeries { room, refusal: &refusal };
        let (now_ms, oldest_ms) = (self.now_ms(), self.oldest_ms());
        let name = wire::shown_labels;
        let admission = Admission { limits, now_ms, oldest_ms, new_series, name };
        let decode = |form, bytes: &[u8]| {
            wire::decode_labels(form, bytes, limits).map_err(|error| error.to_string())
        };
        let shards = inner.shards.count();
        inner.registry.resolve(tenant, batch, shards, admission, &decode, &mut resolved);
        governor.add_series(resolved.new_series);
        // An empty refusal was not given.
        let refused = resolved.rejects.iter().find(|reject| reject.reason == refusal);
        governor.count_refused_series(refused.map_or(0, |reject| reject.series));
        // Fast path: most batches have no exemplars.
        if batch.exemplars.is_empty() {
            return (resolved, ExemplarRefusals::default());
        }
        if !inner.exemplars.is_enabled() {
            self.count_exemplars_left_out(batch.exemplars.len() as u64);
            return (resolved, ExemplarRefusals::default());
        }
        let decode_own = |form, bytes: &[u8]| {
            wire::decode_exemplar_labels(form, bytes).map_err(|error| error.to_string())
        };
        let refusals = inner.registry.resolve_exemplars(
            tenant,
            batch,
            admission,
            &decode,
            &decode_own,
            &mut resolved,
        );
        inner.exemplars.count_refused(refusals);
        (resolved, refusals)
    }

    /// Whether [`Broker::ingest`] may have to wait for the disk.
    pub(crate) fn is_congested(&self) -> bool {
        self.inner.committer.lock().as_ref().is_some_and(CommitQueue::is_congested)
    }

    /// Runs `task`, which may compute and wait for long, on a thread that serves no sockets. Only
    /// some run at once, so that many large requests neither take every core from queries nor
    /// unpack all their samples at the same time.
    pub(crate) async fn off_the_sockets<T: Send + 'static>(
        &self,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let turn = Arc::clone(&self.inner.intake).acquire_owned().await;
        let work = tokio::task::spawn_blocking(move || {
            // Kept until the work is done, also if the client does not wait for it.
            let _turn = turn;
            task()
        });
        match work.await.map_err(JoinError::try_into_panic) {
            Ok(result) => result,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // The runtime ends, and this future with it.
            Err(Err(_)) => std::future::pending().await,
        }
    }

    /// What bounds a batch before anything is done with it.
    fn check_room(&self, batch: &MetricBatch) -> Result<(), CommitError> {
        for (what, found, limit) in [
            ("samples", batch.samples(), MAX_BATCH_ROWS),
            ("bytes of labels", batch.label_bytes.len(), MAX_BATCH_LABEL_BYTES),
        ] {
            if found > limit {
                return Err(CommitError::TooLarge(format!(
                    "a request with {found} {what} is above the limit of {limit}: split it"
                )));
            }
        }
        self.check_head_room()
    }

    /// Refuses what comes while blocks are not written as fast as it does.
    pub(crate) fn check_head_room(&self) -> Result<(), CommitError> {
        let bytes = self.inner.shards.totals().bytes + self.inner.lines.heads.totals().bytes;
        // Twice what makes a flush due.
        let limit_bytes = 2 * flush_head_bytes(&self.inner.config.governor);
        if bytes > limit_bytes {
            self.inner.ingest_counters.head_full.fetch_add(1, Ordering::Relaxed);
            return Err(CommitError::HeadFull { bytes, limit_bytes });
        }
        Ok(())
    }

    /// Counts exemplars that a decoder has left out, or that nobody keeps.
    pub(crate) fn count_exemplars_left_out(&self, count: u64) {
        self.inner.exemplars.counters.left_out.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts samples that a decoder has left out.
    pub(crate) fn count_refused(&self, refusals: &Refusals) {
        let samples = refusals.iter().map(|refused| refused.samples).sum();
        self.inner.ingest_counters.rejected.fetch_add(samples, Ordering::Relaxed);
    }

    /// Counts lines of Graphite and OpenTSDB that cannot be read.
    pub(crate) fn count_lines_refused(&self, lines: u64) {
        self.inner.ingest_counters.lines_refused.fetch_add(lines, Ordering::Relaxed);
    }

    /// Counts what a request of InfluxDB's lines held that is not stored.
    pub(crate) fn count_influx(&self, summary: &wire::influx::Summary) {
        let counters = &self.inner.ingest_counters;
        let lines = summary.refusals.iter().map(|refused| refused.series).sum();
        counters.influx_lines_refused.fetch_add(lines, Ordering::Relaxed);
        counters.influx_texts.fetch_add(summary.texts_left_out, Ordering::Relaxed);
    }

    fn publish(&self, tenant: TenantName, resolved: &ResolvedBatch) {
        let rows = resolved.shards.iter().flat_map(|shard| {
            let columns = shard.timestamps_ms.iter().zip(&shard.values);
            shard.ordinals.iter().zip(columns).map(|(&o, (&t_ms, &value))| (o, t_ms, value))
        });
        self.inner.live.publish(tenant, rows, |ordinal| self.inner.registry.labels(ordinal));
    }
}
