//! Sends batches to the server, on connections of their own, and gathers what it says.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::StatusCode;
use model::MetricBatch;

use crate::http_client::{HttpClient, ServerArguments};

/// Samples of one request.
const BATCH_SAMPLES: usize = 50_000;
/// Bytes of labels and histograms after which a request is sent.
const BATCH_BYTES: usize = 4 << 20;
/// Requests under way at once: the server unpacks one while it syncs another.
const CONNECTIONS: usize = 2;
/// Tries for a server that cannot take anything now; they take five minutes.
const TRIES: u32 = 15;
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What the server did not take.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Requests of which something was refused.
    pub(super) requests: u64,
    /// What it said of the first of them.
    pub(super) first: Option<String>,
}

/// Takes samples and sends them.
pub(super) struct Sender {
    batch: MetricBatch,
    queue: Option<SyncSender<Vec<u8>>>,
    threads: Vec<JoinHandle<Result<()>>>,
    refusals: Arc<Mutex<Refusals>>,
}

impl Sender {
    pub(super) fn start(server: &ServerArguments) -> Result<Sender> {
        let (queue, bodies) = sync_channel(CONNECTIONS);
        let bodies = Arc::new(Mutex::new(bodies));
        let refusals = Arc::new(Mutex::new(Refusals::default()));
        let mut threads = Vec::new();
        for _ in 0..CONNECTIONS {
            let (client, bodies) = (server.client()?, Arc::clone(&bodies));
            let refusals = Arc::clone(&refusals);
            let work = move || send_all(client, &bodies, &refusals);
            let thread = std::thread::Builder::new().name("import-send".to_owned()).spawn(work);
            threads.push(thread.context("start a thread")?);
        }
        Ok(Sender { batch: MetricBatch::default(), queue: Some(queue), threads, refusals })
    }

    /// The batch to add to; call [`Sender::flush_if_full`] afterwards.
    pub(super) fn batch(&mut self) -> &mut MetricBatch {
        &mut self.batch
    }

    /// Sends what was gathered if it is enough.
    pub(super) fn flush_if_full(&mut self) -> Result<()> {
        if self.batch.samples() >= BATCH_SAMPLES || bytes_of(&self.batch) >= BATCH_BYTES {
            return self.flush();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.batch.samples() == 0 {
            return Ok(());
        }
        let mut message = Vec::new();
        wire::remote_write::encode(&self.batch, &mut message).context("write a request")?;
        self.batch.clear();
        let body = wire::remote_read::pack(&message).context("write a request")?;
        let queue = self.queue.as_ref().expect("only finish takes it");
        if queue.send(body).is_err() {
            // Every thread has ended, which none does without a reason.
            return self.join();
        }
        Ok(())
    }

    /// Sends the rest and waits for all answers.
    pub(super) fn finish(mut self) -> Result<Refusals> {
        self.flush()?;
        self.join()?;
        Ok(std::mem::take(&mut *self.refusals.lock().expect("nothing panics while it is held")))
    }

    fn join(&mut self) -> Result<()> {
        drop(self.queue.take());
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(outcome) => outcome?,
                Err(_) => bail!("a thread that sends has panicked"),
            }
        }
        Ok(())
    }
}

/// About what a batch takes as a message, its floats aside.
fn bytes_of(batch: &MetricBatch) -> usize {
    let histograms = batch.histograms.iter();
    let histograms = histograms.map(|sample| 64 + 8 * sample.histogram.bucket_count());
    batch.label_bytes.len() + histograms.sum::<usize>()
}

fn send_all(
    mut client: HttpClient,
    bodies: &Mutex<Receiver<Vec<u8>>>,
    refusals: &Mutex<Refusals>,
) -> Result<()> {
    loop {
        let next = bodies.lock().expect("nothing panics while it is held").recv();
        let Ok(body) = next else { return Ok(()) };
        if let Some(complaint) = send(&mut client, &body.into())? {
            let mut refusals = refusals.lock().expect("nothing panics while it is held");
            refusals.requests += 1;
            refusals.first.get_or_insert(complaint);
        }
    }
}

/// Sends one request until the server has taken it. Yields what of it was refused for good.
fn send(client: &mut HttpClient, body: &Bytes) -> Result<Option<String>> {
    const PATH: &str = "/api/v1/write";
    let mut pause = Duration::from_secs(1);
    for attempt in 1.. {
        let outcome = client.post_remote_write(PATH, body.clone());
        let retry = match &outcome {
            Ok(answer) => {
                answer.status == StatusCode::SERVICE_UNAVAILABLE
                    || answer.status == StatusCode::TOO_MANY_REQUESTS
            }
            Err(_) => true,
        };
        if retry && attempt < TRIES {
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
            continue;
        }
        let answer = outcome?;
        // Everything but what is named has been stored.
        if answer.status == StatusCode::BAD_REQUEST {
            let complaint = answer.success().expect_err("400 is no success");
            return Ok(Some(format!("{complaint:#}")));
        }
        answer.success().with_context(|| client.url(PATH))?;
        return Ok(None);
    }
    unreachable!("the last attempt returns")
}

#[cfg(test)]
mod tests {
    use model::{Histogram, HistogramSample, LabelForm, NativeHistogram, ResetHint};

    use super::*;

    #[test]
    fn histograms_count_with_their_buckets() {
        let mut batch = MetricBatch { label_bytes: vec![0; 10], ..MetricBatch::default() };
        for buckets in [0, 1_000] {
            let histogram = Histogram::Integer(NativeHistogram {
                layout: Arc::default(),
                reset_hint: ResetHint::Unknown,
                count: 0,
                zero_count: 0,
                sum: 0.0,
                positive: vec![1; buckets],
                negative: Vec::new(),
            });
            batch.histograms.push(HistogramSample {
                labels_start: 0,
                labels_len: 10,
                form: LabelForm::Pairs,
                t_ms: 1,
                start_ms: None,
                histogram,
            });
        }
        assert_eq!(bytes_of(&batch), 10 + 64 + 64 + 8_000);
    }
}
