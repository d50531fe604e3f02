//! What a collector is and what it is given.

use std::time::{Duration, Instant};

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::proc_reader::ProcFile;
use crate::series::Samples;
use crate::survey::{Surveyor, TIMEOUT};

/// What a collector did in a pass.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It emitted all its series; those it did not emit are gone.
    Collected,
    /// The same, of what was read on another thread, in this time and with this result.
    Surveyed(Duration, Result<(), AgentError>),
    /// Its turn has not come; its series stand.
    NotDue,
}

/// One source of metrics, named as Node Exporter names it.
pub(crate) trait Collector: Send {
    /// The value of the label `collector`.
    fn name(&self) -> &'static str;

    /// Emits what the host says now. Must not block: a pass waits for its collectors.
    ///
    /// # Errors
    /// The source is absent or unreadable. What was emitted before stays in the batch.
    fn collect(&mut self, host: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError>;
}

/// What collectors of one pass share.
pub(crate) struct Host {
    /// Wall clock at the start of the pass, nanoseconds since the epoch.
    pub(crate) now_ns: i64,
    /// Monotonic clock at the start of the pass.
    pub(crate) now: Instant,
    /// Runs the collectors that may be slow.
    pub(crate) surveyor: Surveyor,
    stat: ProcFile,
    stat_read_at: Option<Instant>,
}

impl Host {
    /// Over the roots in `config`.
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Host {
            now_ns: 0,
            now: Instant::now(),
            surveyor: Surveyor::new(TIMEOUT),
            stat: ProcFile::new(config.proc_root.join("stat")),
            stat_read_at: None,
        }
    }

    /// `/proc/stat`, read once per pass: two collectors need it, and it is the dearest file, since
    /// the kernel sums every interrupt over every CPU for it.
    pub(crate) fn stat(&mut self) -> Result<StatText<'_>, AgentError> {
        if self.stat_read_at != Some(self.now) {
            self.stat_read_at = None;
            self.stat.read()?;
            self.stat_read_at = Some(self.now);
        }
        Ok(StatText { file: &self.stat })
    }
}

/// The text of `/proc/stat` in this pass.
#[derive(Debug)]
pub(crate) struct StatText<'a> {
    file: &'a ProcFile,
}

impl StatText<'_> {
    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.file.last()
    }

    /// The error for a text that lacks `expected`.
    pub(crate) fn malformed(&self, expected: &'static str) -> AgentError {
        self.file.malformed(expected)
    }
}

/// Lets a collector run less often than passes come.
#[derive(Debug)]
pub(crate) struct Cadence {
    period: Duration,
    last: Option<Instant>,
}

impl Cadence {
    /// At most once per `period`, and at the first call.
    pub(crate) const fn new(period: Duration) -> Self {
        Cadence { period, last: None }
    }

    /// Makes the next question answer yes, for what did not work out.
    pub(crate) fn retry(&mut self) {
        self.last = None;
    }

    /// Changes the period from the next question on.
    pub(crate) fn set_period(&mut self, period: Duration) {
        self.period = period;
    }

    /// Whether the time has come; if so, the next period starts.
    pub(crate) fn due(&mut self, now: Instant) -> bool {
        // Passes come some microseconds early or late. Without slack a period of 10 s would often
        // become 11.
        const SLACK: Duration = Duration::from_millis(50);
        let due = self.last.is_none_or(|last| now.duration_since(last) + SLACK >= self.period);
        if due {
            self.last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cadence_forgives_jitter() {
        let start = Instant::now();
        let mut cadence = Cadence::new(Duration::from_secs(10));
        assert!(cadence.due(start));
        assert!(!cadence.due(start + Duration::from_secs(9)));
        assert!(cadence.due(start + Duration::from_micros(9_999_500)));
        assert!(!cadence.due(start + Duration::from_secs(11)));
    }
}
