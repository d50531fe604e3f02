//! Messages of syslog, which come without a way to answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use model::{LogBatch, LogLimits, TenantName};
use net::SyslogMessages;
use tokio::sync::oneshot;
use wire::logs::syslog::{self, SyslogOptions};
use wire::logs::{LogContext, LogPushError, LogSummary};

use crate::commit::CommitError;
use crate::logs::Levels;
use crate::{Broker, LogOutcome};

/// Between tries while the broker takes nothing; meanwhile nothing more is read of the connection.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Whose messages they are and how they are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyslogIntake {
    /// The tenant.
    pub tenant: TenantName,
    /// How much later than UTC it is where times without an offset were written, in seconds.
    pub offset_seconds: i32,
    /// Labels that every message gets besides its own.
    pub labels: Vec<(String, String)>,
}

impl Broker {
    /// Stores messages and returns when they are durable. While there is no room for them it tries again,
    /// until the broker stops. Syslog has no answer, so what was refused for good is counted and told in
    /// the log.
    pub async fn ingest_syslog(&self, intake: &SyslogIntake, messages: SyslogMessages) {
        match self.try_syslog(intake, &messages).await {
            Ok((summary, outcome)) => {
                let LogOutcome { too_old, too_new, .. } = outcome;
                let refused = summary.refusals.lines() + too_old + too_new;
                if refused > 0 {
                    let complaint = summary.refusals.text();
                    self.complain_of_syslog(&complaint, "some messages of syslog were not stored");
                }
            }
            Err(error) => {
                let lost = &self.inner.lines.counters.syslog_lost;
                lost.fetch_add(messages.len() as u64, Ordering::Relaxed);
                let what = "messages of syslog were not stored, and the sender cannot know";
                self.complain_of_syslog(&error, what);
            }
        }
    }

    /// At most some hundred KiB: about a millisecond.
    fn decode_syslog(
        &self,
        intake: &SyslogIntake,
        messages: &SyslogMessages,
        limits: &LogLimits,
    ) -> Result<(LogSummary, LogBatch), LogPushError> {
        let arrivals = &self.inner.lines.arrivals;
        let options = SyslogOptions {
            offset_seconds: intake.offset_seconds,
            labels: intake.labels.clone(),
            first_number: Some(arrivals.number(messages.len())),
        };
        let now_ns = arrivals.reserve(self.now_ms(), messages.len());
        let levels = Levels::of(limits);
        let context = LogContext { limits, levels: Some(&levels), now_ns };
        let mut batch = LogBatch::default();
        let summary = syslog::decode(messages.iter(), &options, &context, &mut batch)?;
        Ok((summary, batch))
    }

    async fn try_syslog(
        &self,
        intake: &SyslogIntake,
        messages: &SyslogMessages,
    ) -> Result<(LogSummary, LogOutcome), String> {
        let limits = self.log_limits_of(intake.tenant);
        let decoded = self.decode_syslog(intake, messages, &limits);
        let (summary, batch) = decoded.map_err(|error| error.to_string())?;
        let (book, name) = (&self.inner.tenants, intake.tenant);
        book.lines_of(name, |of| of.count_refusals(&summary.refusals));
        if batch.lines() == 0 {
            return Ok((summary, LogOutcome::default()));
        }
        // Who is too fast has to wait; over UDP that fills what holds datagrams.
        while let Err(too_fast) =
            book.lines_of(name, |of| of.admit(name, &summary, &limits, self.now_ms()))
        {
            if self.ready().is_err() {
                return Err(too_fast.text);
            }
            self.complain_of_syslog(&too_fast.text, "messages of syslog have to wait");
            let pause = Duration::from_millis(too_fast.retry_after_ms).min(RETRY_PAUSE);
            tokio::time::sleep(pause).await;
        }
        let (batch, left_out) =
            book.lines_of(name, |of| of.limit_streams(name, batch, &limits, self.now_ms()));
        if !left_out.is_empty() {
            self.complain_of_syslog(&left_out.text(), "some messages of syslog were not stored");
        }
        let batch = Arc::new(batch);
        loop {
            let error = match self.store_syslog(intake.tenant, Arc::clone(&batch)).await {
                Ok(outcome) => return Ok((summary, outcome)),
                Err(error) => error,
            };
            if !error.passes() || self.ready().is_err() {
                return Err(error.to_string());
            }
            self.complain_of_syslog(&error.to_string(), "messages of syslog have to wait");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn store_syslog(
        &self,
        tenant: TenantName,
        batch: Arc<LogBatch>,
    ) -> Result<LogOutcome, CommitError> {
        let (stored, answer) = oneshot::channel();
        let broker = self.clone();
        let work = move || match broker.tenant_for_write(tenant) {
            Ok(id) => broker.ingest_logs(id, LogBatch::clone(&batch), None, move |result| {
                let _ = stored.send(result);
            }),
            Err(error) => {
                let _ = stored.send(Err(error));
            }
        };
        self.off_the_sockets(work).await;
        answer.await.unwrap_or(Err(CommitError::Stopping))
    }

    /// A line in the log, unless one like it was written lately.
    fn complain_of_syslog(&self, complaint: &str, what: &str) {
        if let Some(more) = self.inner.line_complaints.may_say(complaint, Instant::now()) {
            tracing::warn!(complaint, more_like_it_before = more, "{what}");
        }
    }
}
