//! One selection as a stream: series in order of their labels, samples as columns.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use metricstore::{HistogramColumns, Selected};
use model::TimeRange;
use net::rpc::{HistogramChunk, SelectRequest, SelectResponse, SeriesChunk};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::{Answers, MESSAGE_BYTES, fault, matchers, tenant};
use crate::{Broker, Reader};

/// Messages that wait for the network; then the reading of the store waits.
const WAITING: usize = 4;
/// Samples in one chunk of a series.
const CHUNK_SAMPLES: usize = 1 << 16;
/// Histograms in one chunk; their buckets bound it further.
const CHUNK_HISTOGRAMS: usize = 1 << 12;

/// Whoever asked is gone, or takes too long.
struct Gone;

/// Why an answer is not whole.
enum Stop {
    Gone,
    Fault(Status),
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Stop::Gone
    }
}

/// Reads on a thread that may block, at the pace at which the stream is taken; `turn` is held until
/// it is done.
///
/// # Errors
/// The request makes no sense.
pub(super) fn answers(
    broker: &Broker,
    request: SelectRequest,
    turn: OwnedSemaphorePermit,
) -> Result<Answers<SelectResponse>, Status> {
    let tenant = tenant(&request.tenant)?;
    let range = TimeRange::new(request.start_ms, request.end_ms.saturating_add(1));
    let time_limit = Duration::from_millis(broker.limits().query_timeout_ms);
    let (sender, receiver) = mpsc::channel(WAITING);
    let broker = broker.clone();
    let mut outgoing = Outgoing {
        sender,
        runtime: Handle::current(),
        deadline: Instant::now() + time_limit,
        message: SelectResponse::default(),
        message_bytes: 0,
        sent_bytes: 0,
    };
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let reader = broker.reader(tenant);
        let outcome = answer(&reader, &request, range, &mut outgoing);
        let counters = &broker.inner.read_counters;
        counters.sent_bytes.fetch_add(outgoing.sent_bytes, Ordering::Relaxed);
        match outcome {
            Ok(()) => {}
            Err(Stop::Gone) => {
                counters.abandoned.fetch_add(1, Ordering::Relaxed);
            }
            Err(Stop::Fault(status)) => {
                counters.failed.fetch_add(1, Ordering::Relaxed);
                let _ = outgoing.hand_over(Err(status));
            }
        }
    });
    Ok(Box::pin(stream::unfold(receiver, |mut receiver| async move {
        let message = receiver.recv().await?;
        Some((message, receiver))
    })))
}

fn answer(
    reader: &Reader,
    request: &SelectRequest,
    range: TimeRange,
    outgoing: &mut Outgoing,
) -> Result<(), Stop> {
    let selector = request.selector.clone().unwrap_or_default();
    let matchers = matchers(&selector).map_err(Stop::Fault)?;
    let selected = reader.select(&matchers, range).map_err(|error| Stop::Fault(fault(&error)))?;
    let most = usize::try_from(request.max_series).unwrap_or(usize::MAX);
    if most > 0 && selected.len() > most {
        let error = metricstore::MetricError::TooManySeries { limit: most };
        return Err(Stop::Fault(fault(&error)));
    }
    let mut columns = Samples::default();
    for index in 0..selected.len() {
        columns.clear();
        columns
            .read(&selected, index)
            .inspect_err(|error| reader.report(error))
            .map_err(|error| Stop::Fault(fault(&error)))?;
        columns.send(selected.labels()[index].as_packed(), outgoing)?;
    }
    outgoing.message.is_last = true;
    outgoing.message.nothing_missing = reader.misses_nothing();
    outgoing.flush()?;
    Ok(())
}

/// The samples of one series.
#[derive(Default)]
struct Samples {
    timestamps_ms: Vec<i64>,
    values: Vec<f64>,
    histograms: HistogramColumns,
}

impl Samples {
    fn clear(&mut self) {
        self.timestamps_ms.clear();
        self.values.clear();
        self.histograms.clear();
    }

    fn read(&mut self, selected: &Selected, index: usize) -> Result<(), metricstore::MetricError> {
        selected.read_all(index, &mut self.timestamps_ms, &mut self.values, &mut self.histograms)
    }

    /// Series without samples are sent too: they are part of the answer.
    fn send(&mut self, labels: &[u8], outgoing: &mut Outgoing) -> Result<(), Gone> {
        let mut labels = Some(Bytes::copy_from_slice(labels));
        let chunks = self.timestamps_ms.chunks(CHUNK_SAMPLES);
        for (timestamps_ms, values) in chunks.zip(self.values.chunks(CHUNK_SAMPLES)) {
            let mut chunk = begin(&mut labels);
            chunk.samples = timestamps_ms.len() as u32;
            let mut column = Vec::new();
            codec::encode_i64s(timestamps_ms, &mut column);
            let split = column.len();
            codec::encode_f64s(values, &mut column);
            let column = Bytes::from(column);
            chunk.timestamps = column.slice(..split);
            chunk.values = column.slice(split..);
            outgoing.add(chunk)?;
        }
        let mut start = 0;
        while start < self.histograms.len() {
            let run = self.histograms.unite_run(start, CHUNK_HISTOGRAMS);
            start = run.end;
            let (mut timestamps, mut columns) = (Vec::new(), Vec::new());
            codec::encode_i64s(&self.histograms.timestamps_ms[run.clone()], &mut timestamps);
            codec::encode_histograms(&self.histograms.histograms[run.clone()], &mut columns);
            let mut chunk = begin(&mut labels);
            chunk.histograms.push(HistogramChunk {
                samples: run.len() as u32,
                timestamps: timestamps.into(),
                histograms: columns.into(),
            });
            outgoing.add(chunk)?;
        }
        if labels.is_some() {
            outgoing.add(begin(&mut labels))?;
        }
        Ok(())
    }
}

/// The next chunk of a series, which has its labels if it is the first.
fn begin(labels: &mut Option<Bytes>) -> SeriesChunk {
    let taken = labels.take();
    SeriesChunk {
        continues: taken.is_none(),
        labels: taken.unwrap_or_default(),
        ..SeriesChunk::default()
    }
}

/// Messages on their way.
struct Outgoing {
    sender: mpsc::Sender<Result<SelectResponse, Status>>,
    runtime: Handle,
    deadline: Instant,
    message: SelectResponse,
    message_bytes: usize,
    sent_bytes: u64,
}

impl Outgoing {
    fn add(&mut self, chunk: SeriesChunk) -> Result<(), Gone> {
        let histograms: usize =
            chunk.histograms.iter().map(|one| one.timestamps.len() + one.histograms.len()).sum();
        self.message_bytes +=
            16 + chunk.labels.len() + chunk.timestamps.len() + chunk.values.len() + histograms;
        self.message.series.push(chunk);
        if self.message_bytes < MESSAGE_BYTES {
            return Ok(());
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Gone> {
        self.sent_bytes += std::mem::take(&mut self.message_bytes) as u64;
        let message = std::mem::take(&mut self.message);
        self.hand_over(Ok(message))
    }

    /// Waits for room, not longer than a query may take.
    fn hand_over(&self, message: Result<SelectResponse, Status>) -> Result<(), Gone> {
        let sending = timeout_at(self.deadline, self.sender.send(message));
        match self.runtime.block_on(sending) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }
}
