//! The thread between those who collect and the spool: windows, grouping, shipping.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use model::{ExemplarSample, MetricBatch, MetricType};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::clock::Now;
use crate::counters::CounterRow;
use crate::merge::{Merger, Progress, fits_alone};
use crate::queue::{BatchRing, Bell};
use crate::ship::{LinkEvent, Outgoing, Shipping, Verdict};
use crate::spool::Lane;
use crate::status::StatusSources;
use crate::windows::Windows;

/// What was scraped waits this long for more, so that thousands of targets share few syncs. A pass
/// of the host's collectors never waits.
const LINGER: Duration = Duration::from_millis(100);
/// The longest sleep: what is due by the clock is looked at this often.
const TICK: Duration = Duration::from_secs(1);
const STATUS_EVERY: Duration = Duration::from_secs(10);
/// How long a stop waits for acknowledgements. What is left waits on disk for the next start.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// Most memory of scraped batches that wait for the pipeline.
const QUEUE_KIB: u32 = 16 << 10;
/// Most scraped batches that wait.
const QUEUE_BATCHES: usize = 1_024;

/// Takes what is scraped into the pipeline. Clones share one bounded queue.
#[derive(Debug, Clone)]
pub struct PipelineSender {
    queue: mpsc::Sender<Offered>,
    room: Arc<Semaphore>,
    bell: Bell,
}

/// The pipeline has ended; nothing is taken any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the agent's pipeline has ended; start the agent again to collect further")]
pub struct PipelineEnded;

/// Why a batch was not taken at once.
#[derive(Debug, thiserror::Error)]
pub enum TrySendError {
    /// As much as may wait does; the batch comes back.
    #[error("the agent's pipeline is full, the limit is 16 MiB; wait with `send`")]
    Full(Box<MetricBatch>),
    /// The pipeline has ended.
    #[error(transparent)]
    Ended(#[from] PipelineEnded),
}

#[derive(Debug)]
struct Offered {
    batch: MetricBatch,
    /// Gives the room back when the batch has been taken over.
    _room: OwnedSemaphorePermit,
}

impl PipelineSender {
    /// Hands a batch over as soon as there is room. Its labels are [`model::LabelForm::Packed`].
    /// Batches of one caller stay in order.
    ///
    /// # Errors
    /// The pipeline has ended.
    pub async fn send(&self, batch: MetricBatch) -> Result<(), PipelineEnded> {
        let room = Arc::clone(&self.room).acquire_many_owned(kib_of(&batch)).await;
        let room = room.map_err(|_| PipelineEnded)?;
        self.queue.send(Offered { batch, _room: room }).await.map_err(|_| PipelineEnded)?;
        self.bell.ring();
        Ok(())
    }

    /// Hands a batch over if there is room now.
    ///
    /// # Errors
    /// There is none, or the pipeline has ended.
    pub fn try_send(&self, batch: MetricBatch) -> Result<(), TrySendError> {
        let room = Arc::clone(&self.room).try_acquire_many_owned(kib_of(&batch));
        let Ok(room) = room else { return Err(TrySendError::Full(Box::new(batch))) };
        match self.queue.try_send(Offered { batch, _room: room }) {
            Ok(()) => {
                self.bell.ring();
                Ok(())
            }
            Err(mpsc::error::TrySendError::Full(offered)) => {
                Err(TrySendError::Full(Box::new(offered.batch)))
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(PipelineEnded.into()),
        }
    }
}

/// About what a batch takes; one larger than the whole queue goes alone.
fn kib_of(batch: &MetricBatch) -> u32 {
    let bytes = batch.label_bytes.len() + 20 * batch.series.len() + 16 * batch.rows();
    let bytes = bytes + 512 * (batch.histograms.len() + batch.metadata.len());
    let bytes = bytes + size_of::<ExemplarSample>() * batch.exemplars.len();
    u32::try_from(bytes >> 10).unwrap_or(QUEUE_KIB).clamp(1, QUEUE_KIB)
}

/// What the pipeline counts.
#[derive(Debug, Default)]
pub(crate) struct PipelineCounters {
    offered_batches: AtomicU64,
    offered_samples: AtomicU64,
    oversized_samples: AtomicU64,
}

impl PipelineCounters {
    pub(crate) fn rows(&self) -> Vec<CounterRow> {
        let row = |name, help, counter: &AtomicU64| CounterRow {
            name,
            help,
            kind: MetricType::Counter,
            labels: vec![],
            value: counter.load(Ordering::Relaxed) as f64,
        };
        vec![
            row(
                "watchfire_agent_pipeline_batches_total",
                "Scraped batches taken into the pipeline.",
                &self.offered_batches,
            ),
            row(
                "watchfire_agent_pipeline_samples_total",
                "Scraped samples taken into the pipeline.",
                &self.offered_samples,
            ),
            row(
                "watchfire_agent_pipeline_oversized_samples_total",
                "Samples left out because their series alone is larger than a batch may be.",
                &self.oversized_samples,
            ),
        ]
    }
}

/// What the pipeline's thread owns.
pub(crate) struct Pipeline {
    pub(crate) shipping: Shipping,
    pub(crate) events: mpsc::Receiver<LinkEvent>,
    pub(crate) host: Option<BatchRing>,
    pub(crate) scraped: Scraped,
    pub(crate) windows: Option<Windows>,
    pub(crate) heard: Receiver<()>,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) status: StatusSources,
    pub(crate) counters: Arc<PipelineCounters>,
}

/// The receiving end of [`PipelineSender`], and what came from it and lingers.
pub(crate) struct Scraped {
    queue: mpsc::Receiver<Offered>,
    pending: Merger,
    pending_since: Option<Instant>,
}

impl Scraped {
    /// Both ends.
    pub(crate) fn new(bell: Bell, seed: u64) -> (PipelineSender, Scraped) {
        let (sender, queue) = mpsc::channel(QUEUE_BATCHES);
        let room = Arc::new(Semaphore::new(QUEUE_KIB as usize));
        let pending = Merger::new(seed);
        (
            PipelineSender { queue: sender, room, bell },
            Scraped { queue, pending, pending_since: None },
        )
    }
}

impl Pipeline {
    /// Runs until it is stopped and what was collected by then is in the spool.
    pub(crate) fn run(mut self) {
        let mut outgoing = None;
        let mut status_at = None;
        let mut stop_at = None;
        loop {
            let now = Now::get();
            let stopping = self.stop.load(Ordering::Acquire);
            self.take_events(&mut outgoing, &mut status_at, now);
            self.take_batches(now);
            let lingered = self.scraped.pending_since.map(|since| now.at - since);
            if lingered.is_some_and(|spent| spent >= LINGER || stopping) {
                self.keep_pending(now);
            }
            if let Verdict::Reset { retry_after } = self.shipping.tick(now) {
                self.reset(&mut outgoing, retry_after);
            }
            self.send(&outgoing, &mut status_at, now);
            if stopping && self.may_end(*stop_at.get_or_insert(now.at), now, outgoing.is_some()) {
                return;
            }
            let left = self
                .scraped
                .pending_since
                .map_or(TICK, |since| (since + LINGER).saturating_duration_since(Instant::now()));
            // A bell that nobody can ring any more is left to the clock.
            let _ = self.heard.recv_timeout(left);
        }
    }

    fn may_end(&mut self, stop_at: Instant, now: Now, connected: bool) -> bool {
        !connected || self.shipping.is_drained() || now.at - stop_at >= STOP_PATIENCE
    }

    fn take_events(
        &mut self,
        outgoing: &mut Option<Outgoing>,
        status_at: &mut Option<Instant>,
        now: Now,
    ) {
        while let Ok(event) = self.events.try_recv() {
            match event {
                LinkEvent::Opened(stream) => {
                    *outgoing = Some(stream);
                    *status_at = None;
                    self.shipping.opened(now);
                }
                LinkEvent::Message(message) => {
                    if let Verdict::Reset { retry_after } = self.shipping.received(message, now) {
                        self.reset(outgoing, retry_after);
                    }
                }
                LinkEvent::Closed => {
                    *outgoing = None;
                    self.shipping.closed();
                }
            }
        }
    }

    fn reset(&mut self, outgoing: &mut Option<Outgoing>, retry_after: Option<Duration>) {
        self.shipping.closed();
        if let Some(stream) = outgoing.take() {
            stream.reset(retry_after);
        }
    }

    fn take_batches(&mut self, now: Now) {
        while let Some(mut batch) = self.host.as_mut().and_then(BatchRing::pop) {
            if let Some(windows) = &mut self.windows {
                windows.apply(&mut batch, now.wall_ms);
            }
            if self.scraped.pending.is_empty() && fits_alone(&batch) {
                self.shipping.keep(&batch, now);
            } else {
                self.merge(&batch, now);
                self.keep_pending(now);
            }
            if let Some(host) = &mut self.host {
                host.recycle(batch);
            }
        }
        while let Ok(Offered { mut batch, _room }) = self.scraped.queue.try_recv() {
            self.counters.offered_batches.fetch_add(1, Ordering::Relaxed);
            let samples = batch.samples() as u64;
            self.counters.offered_samples.fetch_add(samples, Ordering::Relaxed);
            self.status.offered_samples += samples;
            if let Some(windows) = &mut self.windows {
                windows.apply(&mut batch, now.wall_ms);
            }
            self.merge(&batch, now);
        }
    }

    fn merge(&mut self, batch: &MetricBatch, now: Now) {
        let mut progress = Progress::default();
        while !self.scraped.pending.push(batch, &mut progress) {
            self.keep_pending(now);
        }
        let oversized = self.scraped.pending.take_oversized();
        if oversized > 0 {
            self.counters.oversized_samples.fetch_add(oversized, Ordering::Relaxed);
            self.status.oversized_samples += oversized;
        }
        if !self.scraped.pending.is_empty() {
            self.scraped.pending_since.get_or_insert(now.at);
        }
    }

    fn keep_pending(&mut self, now: Now) {
        self.scraped.pending_since = None;
        if !self.scraped.pending.is_empty() {
            let mut batch = MetricBatch::default();
            self.scraped.pending.take(&mut batch);
            self.shipping.keep(&batch, now);
        }
    }

    /// Hands over what the window allows, and now and then the status.
    fn send(&mut self, outgoing: &Option<Outgoing>, status_at: &mut Option<Instant>, now: Now) {
        let Some(stream) = outgoing else { return };
        while let Some((lane, message)) = self.shipping.next_message(now) {
            stream.send(lane, message);
        }
        if status_at.is_none_or(|at| now.at - at >= STATUS_EVERY) && self.shipping.is_welcome() {
            *status_at = Some(now.at);
            let oldest_ms = self.shipping.oldest_ms();
            stream.send(Lane::Live, self.status.message(now.wall_ms, oldest_ms));
        }
    }
}
