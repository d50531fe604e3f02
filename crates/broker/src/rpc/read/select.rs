//! One selection as a stream: series in order of their labels, samples as columns.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use metricstore::{HistogramColumns, SelectCost, Selected};
use model::TimeRange;
use net::rpc::{HistogramChunk, Reads, SelectRequest, SelectResponse, SeriesChunk};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::{Answers, MESSAGE_BYTES, fault, matchers, named, tenant};
use crate::{Broker, Reader};

/// Messages that wait for the network; then the reading of the store waits.
const WAITING: usize = 4;
/// Samples in one chunk of a series.
const CHUNK_SAMPLES: usize = 1 << 16;
/// Histograms in one chunk; their buckets bound it further.
const CHUNK_HISTOGRAMS: usize = 1 << 12;

/// Why an answer is not whole.
enum Stop {
    /// Whoever asked is gone.
    Gone,
    /// Whoever asked takes the answer too slowly.
    Slow,
    Fault(Status),
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
    let tenant = tenant(broker, &request.tenant)?;
    let range = TimeRange::new(request.start_ms, request.end_ms.saturating_add(1));
    let time_limit =
        Duration::from_millis(broker.limits_of(named(&request.tenant)?).query_timeout_ms);
    let broker = broker.clone();
    let (mut outgoing, answers) = Outgoing::new(time_limit);
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let reader = broker.reader(tenant);
        let outcome = answer(&reader, &request, range, &mut outgoing);
        let counters = &broker.inner.read_counters;
        counters.sent_bytes.fetch_add(outgoing.sent_bytes, Ordering::Relaxed);
        match &outcome {
            Ok(()) => {}
            Err(Stop::Gone | Stop::Slow) => {
                counters.abandoned.fetch_add(1, Ordering::Relaxed);
            }
            Err(Stop::Fault(_)) => {
                counters.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        outgoing.end(outcome);
    });
    Ok(answers)
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
        return Err(Stop::Fault(fault(&error.into())));
    }
    let mut columns = Samples::default();
    for index in 0..selected.len() {
        columns.clear();
        columns
            .read(&selected, index, request.with_starts)
            .inspect_err(|error| reader.report(error))
            .map_err(|error| Stop::Fault(fault(&error.into())))?;
        let counted = selected.count_decompressed();
        counted.map_err(|error| Stop::Fault(fault(&error.into())))?;
        columns.send(selected.labels()[index].as_packed(), outgoing)?;
    }
    outgoing.message.is_last = true;
    outgoing.message.nothing_missing = reader.misses_nothing();
    outgoing.message.missing = reader.lacking();
    let SelectCost { blocks, chunks, head_series, bytes, .. } = selected.cost();
    outgoing.message.reads = Some(Reads { blocks, chunks, head_series, bytes });
    outgoing.flush()?;
    Ok(())
}

/// The samples of one series.
#[derive(Default)]
struct Samples {
    timestamps_ms: Vec<i64>,
    values: Vec<f64>,
    /// When the first so many floats began; 0 = not known.
    starts_ms: Vec<i64>,
    histograms: HistogramColumns,
    /// Of some of the range only the last sample of each window of a rollup is left.
    is_coarse: bool,
}

impl Samples {
    fn clear(&mut self) {
        self.timestamps_ms.clear();
        self.values.clear();
        self.starts_ms.clear();
        self.histograms.clear();
    }

    fn read(
        &mut self,
        selected: &Selected,
        index: usize,
        with_starts: bool,
    ) -> Result<(), metricstore::MetricError> {
        self.is_coarse = selected.has_thinned(index);
        let Samples { timestamps_ms, values, starts_ms, histograms, .. } = self;
        if !with_starts {
            return selected.read_all(index, timestamps_ms, values, histograms);
        }
        selected.read_with_starts(index, (timestamps_ms, values), starts_ms, histograms)?;
        // The network takes whole columns.
        if !starts_ms.is_empty() {
            starts_ms.resize(timestamps_ms.len(), 0);
        }
        Ok(())
    }

    /// Series without samples are sent too: they are part of the answer.
    fn send(&mut self, labels: &[u8], outgoing: &mut Outgoing) -> Result<(), Stop> {
        let mut labels = Some(Bytes::copy_from_slice(labels));
        let chunks = self.timestamps_ms.chunks(CHUNK_SAMPLES);
        let mut starts = self.starts_ms.chunks(CHUNK_SAMPLES);
        for (timestamps_ms, values) in chunks.zip(self.values.chunks(CHUNK_SAMPLES)) {
            let mut chunk = SeriesChunk { coarse: self.is_coarse, ..begin(&mut labels) };
            chunk.samples = timestamps_ms.len() as u32;
            let mut column = Vec::new();
            codec::encode_i64s(timestamps_ms, &mut column);
            let split = column.len();
            codec::encode_f64s(values, &mut column);
            let column = Bytes::from(column);
            chunk.timestamps = column.slice(..split);
            chunk.values = column.slice(split..);
            let is_known = |starts_ms: &&[i64]| starts_ms.iter().any(|start_ms| *start_ms != 0);
            if let Some(starts_ms) = starts.next().filter(is_known) {
                let mut column = Vec::new();
                codec::encode_i64s(starts_ms, &mut column);
                chunk.starts = column.into();
            }
            outgoing.add(chunk)?;
        }
        let mut start = 0;
        while start < self.histograms.len() {
            let run = self.histograms.unite_run(start, CHUNK_HISTOGRAMS);
            start = run.end;
            let (mut timestamps, mut columns) = (Vec::new(), Vec::new());
            codec::encode_i64s(&self.histograms.timestamps_ms[run.clone()], &mut timestamps);
            codec::encode_histograms(&self.histograms.histograms[run.clone()], &mut columns);
            let starts_ms = &self.histograms.start_ms[run.clone()];
            let mut starts = Vec::new();
            if starts_ms.iter().any(|&start_ms| start_ms != 0) {
                codec::encode_i64s(starts_ms, &mut starts);
            }
            let mut chunk = begin(&mut labels);
            chunk.histograms.push(HistogramChunk {
                samples: run.len() as u32,
                timestamps: timestamps.into(),
                histograms: columns.into(),
                starts: starts.into(),
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
    sender: mpsc::Sender<SelectResponse>,
    /// What the stream ends with behind the messages that wait. It needs no room among them: who
    /// reads too slowly is told so too.
    fault: Arc<Mutex<Option<Status>>>,
    runtime: Handle,
    time_limit: Duration,
    deadline: Instant,
    message: SelectResponse,
    message_bytes: usize,
    sent_bytes: u64,
}

impl Outgoing {
    /// And the stream that comes of it.
    fn new(time_limit: Duration) -> (Outgoing, Answers<SelectResponse>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let fault = Arc::<Mutex<Option<Status>>>::default();
        let outgoing = Outgoing {
            sender,
            fault: Arc::clone(&fault),
            runtime: Handle::current(),
            time_limit,
            deadline: Instant::now() + time_limit,
            message: SelectResponse::default(),
            message_bytes: 0,
            sent_bytes: 0,
        };
        let answers = stream::unfold((receiver, fault), |(mut receiver, fault)| async move {
            let next = match receiver.recv().await {
                Some(message) => Ok(message),
                None => Err(fault.lock().take()?),
            };
            Some((next, (receiver, fault)))
        });
        (outgoing, Box::pin(answers))
    }

    fn add(&mut self, chunk: SeriesChunk) -> Result<(), Stop> {
        let bytes =
            |one: &HistogramChunk| one.timestamps.len() + one.histograms.len() + one.starts.len();
        let histograms: usize = chunk.histograms.iter().map(bytes).sum();
        self.message_bytes +=
            16 + chunk.labels.len() + chunk.timestamps.len() + chunk.values.len() + histograms;
        self.message_bytes += chunk.starts.len();
        self.message.series.push(chunk);
        if self.message_bytes < MESSAGE_BYTES {
            return Ok(());
        }
        self.flush()
    }

    /// Waits for room, not longer than a query may take.
    fn flush(&mut self) -> Result<(), Stop> {
        self.sent_bytes += std::mem::take(&mut self.message_bytes) as u64;
        let message = std::mem::take(&mut self.message);
        let sending = timeout_at(self.deadline, self.sender.send(message));
        match self.runtime.block_on(sending) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Stop::Gone),
            Err(_) => Err(Stop::Slow),
        }
    }

    /// Ends the stream.
    fn end(self, outcome: Result<(), Stop>) {
        *self.fault.lock() = match outcome {
            Ok(()) | Err(Stop::Gone) => None,
            Err(Stop::Slow) => Some(Status::deadline_exceeded(format!(
                "the answer was not taken within {} ms; ask for less or raise the broker's \
                 limits.query_timeout_ms",
                self.time_limit.as_millis()
            ))),
            Err(Stop::Fault(status)) => Some(status),
        };
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use tonic::Code;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn who_reads_too_slowly_is_told_so_behind_what_waits() {
        let (mut outgoing, answers) = Outgoing::new(Duration::from_millis(50));
        let sent = tokio::task::spawn_blocking(move || {
            let mut sent = 0;
            loop {
                match outgoing.flush() {
                    Ok(()) => sent += 1,
                    outcome => {
                        outgoing.end(outcome);
                        return sent;
                    }
                }
            }
        });
        assert_eq!(sent.await.expect("no panic"), WAITING);
        let mut came: Vec<Result<SelectResponse, Status>> = answers.collect().await;
        let last = came.pop().expect("an end").expect_err("not whole");
        assert_eq!(last.code(), Code::DeadlineExceeded);
        assert!(last.message().contains("within 50 ms"), "{last}");
        assert!(came.len() == WAITING && came.iter().all(Result::is_ok), "{came:?}");
    }
}
