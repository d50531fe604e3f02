//! Writers that remember, outside of the program under test, what it acknowledged; and the check
//! that all of that is there, once, bit by bit, and nothing else.
//!
//! A writer sends numbered batches, one after the other. Times and values follow from the number,
//! so the ledger need only hold how far each writer got. A batch that was sent and not answered
//! may or may not be stored; it is sent again before the next one. The times of one batch lie in
//! five windows of two hours, so that flushes make several blocks and merges have work.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::harness::random::{Random, mix};
use crate::harness::{Client, WriteBody, now_ms};

/// Series of each writer.
const SERIES: u64 = 4;
/// Samples of each series in a batch, one in each window.
const WINDOWS: u64 = 5;
const WINDOW_MS: i64 = 2 * 3_600_000;
/// Between the samples of two batches in one window.
const STEP_MS: i64 = 10;
/// A writer pauses this long between batches, so that the check stays fast.
const PAUSE: Duration = Duration::from_millis(2);

/// Writers and how far each got.
pub(crate) struct Ledger {
    writers: Vec<Writer>,
    base_ms: i64,
    /// Writers of all ledgers over the same store: series of others are none of this one's business.
    known: u64,
}

struct Writer {
    number: u64,
    base_ms: i64,
    /// Batches 0..acknowledged are acknowledged.
    acknowledged: u64,
    /// What is known of batch `acknowledged`.
    next: Fate,
    /// Batches that were also sent with other values.
    lied_about: BTreeSet<u64>,
    random: Random,
    file: File,
}

/// What happened to a batch that is not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Never sent.
    Unsent,
    /// Sent, and the connection broke: stored or not.
    Unknown,
    /// Refused with "nothing of this request was stored".
    Refused,
}

impl Ledger {
    /// A ledger with nothing in it; each acknowledged batch is also noted in `file`, for the
    /// human who looks into a failure.
    pub(crate) fn new(file: &Path, writers: u64, seed: u64) -> Result<Self> {
        Self::one_of(file, writers, seed, 0, 1)
    }

    /// The ledger number `part` of `parts` over the same store, each of which has its own writers.
    pub(crate) fn one_of(
        file: &Path,
        writers: u64,
        seed: u64,
        part: u64,
        parts: u64,
    ) -> Result<Self> {
        let file = File::create(file).with_context(|| format!("make {}", file.display()))?;
        let base_ms = now_ms() - (WINDOWS.cast_signed() - 1) * WINDOW_MS;
        let writer = |number| {
            Ok(Writer {
                number,
                base_ms,
                acknowledged: 0,
                next: Fate::Unsent,
                lied_about: BTreeSet::new(),
                random: Random::new(seed ^ mix(number)),
                file: file.try_clone()?,
            })
        };
        let (first, known) = (part * writers, parts * writers);
        let own = (first..first + writers).map(writer).collect::<Result<_>>()?;
        Ok(Ledger { writers: own, base_ms, known })
    }

    /// Lets all writers write, each on a thread, until `during` returns or the server is gone.
    ///
    /// # Errors
    /// Those of `during`; an answer that no writer may get.
    pub(crate) fn write_while<T>(
        &mut self,
        client: Client,
        during: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writers: Vec<_> = self
                .writers
                .iter_mut()
                .map(|writer| scope.spawn(|| writer.run(client, &over)))
                .collect();
            let outcome = during();
            over.store(true, Ordering::Relaxed);
            for writer in writers {
                writer.join().map_err(|_| anyhow!("a writer panicked"))??;
            }
            outcome
        })
    }

    /// Sends one batch of every writer. Yields the statuses that were answered.
    ///
    /// # Errors
    /// No answer, or one that no writer may get.
    pub(crate) fn write_once(&mut self, client: Client) -> Result<BTreeSet<u16>> {
        let send = |writer: &mut Writer| writer.send_next(client)?.context("the server went away");
        self.writers.iter_mut().map(send).collect()
    }

    /// Samples acknowledged so far.
    pub(crate) fn acknowledged_samples(&self) -> u64 {
        self.writers.iter().map(|writer| writer.acknowledged * SERIES * WINDOWS).sum()
    }

    /// Checks how many samples each series has: a cheap look after each restart.
    ///
    /// # Errors
    /// Lost, doubled or invented samples.
    pub(crate) fn check_counts(&self, client: Client) -> Result<()> {
        let data = self.ask(client, "count_over_time(ledger[12h])")?;
        let rows = data["result"].as_array().context("result is an array")?;
        let mut seen = BTreeSet::new();
        for row in rows {
            let Some((writer, series)) = self.identify(&row["metric"])? else { continue };
            ensure!(seen.insert((writer.number, series)), "series {} twice", row["metric"]);
            let count: u64 = row["value"][1].as_str().unwrap_or_default().parse()?;
            let (least, most) = (writer.acknowledged, writer.acknowledged + writer.possible());
            ensure!(
                (least * WINDOWS..=most * WINDOWS).contains(&count),
                "series {} has {count} samples; {} to {} were acknowledged or may be stored",
                row["metric"],
                least * WINDOWS,
                most * WINDOWS
            );
        }
        for writer in self.writers.iter().filter(|writer| writer.acknowledged > 0) {
            for series in 0..SERIES {
                let is_there = seen.contains(&(writer.number, series));
                ensure!(is_there, "series {series} of writer {} is lost", writer.number);
            }
        }
        Ok(())
    }

    /// Reads every sample back and compares it with what was sent, bit by bit.
    ///
    /// # Errors
    /// Lost, doubled, changed or invented samples, or answers marked as partial.
    pub(crate) fn check(&self, client: Client) -> Result<()> {
        self.check_counts(client)?;
        for writer in &self.writers {
            let selector = format!("ledger{{writer=\"{}\"}}[12h]", writer.number);
            let data = self.ask(client, &selector)?;
            for row in data["result"].as_array().context("result is an array")? {
                let (_, series) = self.identify(&row["metric"])?.context("another's series")?;
                let samples = row["values"].as_array().context("values are an array")?;
                writer.check_series(series, samples)?;
            }
        }
        Ok(())
    }

    /// Evaluates `expression` at a time from which 12 h cover everything.
    fn ask(&self, client: Client, expression: &str) -> Result<Value> {
        let at_ms = self.base_ms + 11 * 3_600_000;
        let time = format!("{}.{:03}", at_ms / 1_000, at_ms % 1_000);
        let form = [("query", expression), ("time", &time)];
        let (status, mut answer) = client.envelope("/api/v1/query", &form)?;
        ensure!(status == 200, "{expression} answered {status}: {answer}");
        ensure!(answer.get("warnings").is_none(), "{expression}: {}", answer["warnings"]);
        Ok(answer["data"].take())
    }

    /// The writer and number of a series; `None` if another ledger knows it.
    fn identify(&self, metric: &Value) -> Result<Option<(&Writer, u64)>> {
        let number = |name: &str| metric[name].as_str().and_then(|text| text.parse::<u64>().ok());
        let writer = number("writer").filter(|&writer| writer < self.known);
        let series = number("series").filter(|&series| series < SERIES);
        let is_known = metric.as_object().is_some_and(|labels| labels.len() <= 3);
        match (writer, series) {
            (Some(writer), Some(series)) if is_known => {
                let own = self.writers.iter().find(|own| own.number == writer);
                Ok(own.map(|own| (own, series)))
            }
            _ => bail!("series {metric} was never sent"),
        }
    }
}

impl Writer {
    fn run(&mut self, client: Client, over: &AtomicBool) -> Result<()> {
        while !over.load(Ordering::Relaxed) {
            match self.send_next(client)? {
                Some(204) => {}
                Some(_) => std::thread::sleep(10 * PAUSE),
                None => return Ok(()),
            }
            if self.random.below(8) == 0 && !self.send_again(client)? {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Sends the next batch and notes what became of it. `None`: the connection broke.
    fn send_next(&mut self, client: Client) -> Result<Option<u16>> {
        let body = self.body(self.acknowledged, 0);
        let Ok(answer) = client.write(&body) else {
            self.next = Fate::Unknown;
            return Ok(None);
        };
        match answer.status {
            204 => {
                writeln!(self.file, "{} {}", self.number, self.acknowledged)?;
                self.acknowledged += 1;
                self.next = Fate::Unsent;
            }
            // A batch that may be stored from an earlier try stays unknown.
            503 | 507 if self.next == Fate::Unknown => {}
            // A cluster may not know, and then it says so.
            503 if !answer.text().contains("nothing of this request was stored") => {
                self.next = Fate::Unknown;
            }
            503 | 507 => self.next = Fate::Refused,
            status => bail!("a good batch was answered {status}: {}", answer.text()),
        }
        Ok(Some(answer.status))
    }

    /// Sends an acknowledged batch again, as it was, or with other values: both must leave what
    /// is stored as it is. Yields whether the server is still there.
    ///
    /// What the sender is told depends on where the first values are: the head knows a second
    /// value, blocks are not searched for it. So a lie may be answered 204, and then the truth,
    /// sent once more, 400; reads see the first value in any case.
    fn send_again(&mut self, client: Client) -> Result<bool> {
        if self.acknowledged == 0 {
            return Ok(true);
        }
        let batch = self.random.below(self.acknowledged);
        let lie = self.random.below(2);
        if lie != 0 {
            self.lied_about.insert(batch);
        }
        let Ok(answer) = client.write(&self.body(batch, lie)) else { return Ok(false) };
        let is_right = match answer.status {
            204 | 503 | 507 => true,
            400 => self.lied_about.contains(&batch) && answer.text().contains("duplicate sample"),
            _ => false,
        };
        ensure!(
            is_right,
            "an acknowledged batch sent again was answered {}: {}",
            answer.status,
            answer.text()
        );
        Ok(true)
    }

    fn body(&self, batch: u64, lie: u64) -> Vec<u8> {
        let mut body = WriteBody::new();
        for series in 0..SERIES {
            let labels = [
                ("__name__", "ledger".to_owned()),
                ("series", series.to_string()),
                ("writer", self.number.to_string()),
            ];
            let samples: Vec<(i64, f64)> = (0..WINDOWS)
                .map(|window| {
                    let value = self.value(series, window, batch.wrapping_add(lie << 32));
                    (self.time_ms(window, batch), value)
                })
                .collect();
            body = body.series(&labels, &samples);
        }
        body.snappy()
    }

    fn time_ms(&self, window: u64, batch: u64) -> i64 {
        self.base_ms + window.cast_signed() * WINDOW_MS + batch.cast_signed() * STEP_MS
    }

    /// Integers, decimals, repeated values and arbitrary finite bits: every way a codec may take.
    fn value(&self, series: u64, window: u64, batch: u64) -> f64 {
        let bits = mix(mix(mix(self.number ^ (series << 8)) ^ window) ^ batch);
        match series % 4 {
            0 => (bits % 100_000) as f64,
            1 => (bits % 1_000_000) as f64 / 100.0,
            2 => [0.0, -0.0, 1.5, f64::MIN_POSITIVE / 8.0][(bits % 4) as usize],
            _ => Some(f64::from_bits(bits)).filter(|value| value.is_finite()).unwrap_or(-1e-7),
        }
    }

    /// How many batches beyond the acknowledged ones may be stored.
    fn possible(&self) -> u64 {
        u64::from(self.next == Fate::Unknown)
    }

    fn check_series(&self, series: u64, samples: &[Value]) -> Result<()> {
        let name = format!("writer {} series {series}", self.number);
        let mut last_ms = i64::MIN;
        let mut acknowledged = 0;
        for sample in samples {
            let seconds = sample[0].as_f64().context("time is a number")?;
            let t_ms = (seconds * 1_000.0).round() as i64;
            ensure!(t_ms > last_ms, "{name}: two samples at {t_ms}");
            last_ms = t_ms;
            let offset_ms = t_ms - self.base_ms;
            ensure!(
                offset_ms >= 0 && offset_ms % STEP_MS == 0,
                "{name}: no sample was sent at {t_ms}"
            );
            let window = (offset_ms / WINDOW_MS).cast_unsigned();
            let batch = (offset_ms % WINDOW_MS / STEP_MS).cast_unsigned();
            ensure!(
                window < WINDOWS && batch < self.acknowledged + self.possible(),
                "{name}: the sample at {t_ms} of batch {batch} is invented"
            );
            let value: f64 = sample[1].as_str().unwrap_or_default().parse()?;
            let sent = self.value(series, window, batch);
            ensure!(
                value.to_bits() == sent.to_bits(),
                "{name}: {sent} was sent for {t_ms} and {value} is stored"
            );
            acknowledged += u64::from(batch < self.acknowledged);
        }
        let wanted = self.acknowledged * WINDOWS;
        ensure!(acknowledged == wanted, "{name}: {acknowledged} of {wanted} samples are there");
        Ok(())
    }
}
