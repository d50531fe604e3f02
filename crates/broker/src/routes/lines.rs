//! From a request's body to what became of its lines, whichever protocol it speaks.

use http::request::Parts;
use model::{LogBatch, LogLimits, TenantId, TenantName};
use wire::logs::{LogContext, LogPushError, LogRefusals, LogSummary};

use super::intake::Refusal;
use crate::commit::CommitError;
use crate::logs::Levels;
use crate::tenants::{LeftOut, TooFast};
use crate::{Broker, LogOutcome, PushId};

const MILLISECOND_NS: i64 = 1_000_000;

/// Bears a sender's own name for a request, which it repeats when it sends the request again.
/// Source: <https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/>.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Longest such name that counts.
const MAX_KEY_BYTES: usize = 256;

/// Whose lines come, and by which name the sender knows the request.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) tenant: TenantName,
    key: Option<String>,
    /// What the request says beside its body.
    scope: String,
}

impl Sender {
    /// # Panics
    /// The route is public.
    pub(crate) fn of(parts: &Parts) -> Sender {
        let key = parts.headers.get(IDEMPOTENCY_KEY).and_then(|value| value.to_str().ok());
        let key = key.filter(|key| (1..=MAX_KEY_BYTES).contains(&key.len())).map(str::to_owned);
        Sender { tenant: super::intake::tenant_of(parts), key, scope: String::new() }
    }

    /// The same, of a request whose body alone does not say what its lines are.
    pub(crate) fn asking(self, scope: String) -> Sender {
        Sender { scope, ..self }
    }

    /// By what the request is known when it comes again; `None` if it is not.
    fn push_id(&self, tenant: TenantId, body: &[u8], summary: &LogSummary) -> Option<PushId> {
        // What is refused now may be taken when it comes again, so such a request is not known then. And of
        // lines without a time that say the same nobody but the sender can tell whether they are the same.
        let is_known =
            summary.refusals.is_empty() && (summary.timed_here == 0 || self.key.is_some());
        let key = self.key.as_deref().unwrap_or_default();
        is_known.then(|| PushId::of(tenant, &format!("{key}\0{}", self.scope), body))
    }
}

/// What became of the lines of a request that was read.
#[derive(Debug)]
pub(crate) struct TakenLines<S = LogSummary> {
    /// What the decoder says of it.
    pub(crate) summary: S,
    pub(crate) outcome: LogOutcome,
    /// What may come again, and the sender is to be told so.
    pub(crate) left_out: LeftOut,
}

impl<S> TakenLines<S> {
    /// The refusal of what was left out because of its streams, for a protocol that has no other way to
    /// tell it: lines that are stored already are the same ones when they come again.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        let text = (!self.left_out.is_empty()).then(|| self.left_out.text())?;
        Some(LogPushError { status: 429, text }.into())
    }
}

impl TakenLines {
    /// How many lines were left out, and why, in Loki's words; `None` if everything is stored.
    pub(crate) fn complaint(&self) -> Option<(u64, String)> {
        let mut complaints = Vec::new();
        if !self.summary.refusals.is_empty() {
            complaints.push(self.summary.refusals.text());
        }
        if !self.left_out.is_empty() {
            complaints.push(self.left_out.text());
        }
        // The decoder has looked at the times already; what is left is between two looks at the clock.
        let LogOutcome { too_old, too_new, .. } = self.outcome;
        for (lines, what) in [(too_old, "old"), (too_new, "new")] {
            if lines > 0 {
                complaints.push(format!("{lines} entries have a timestamp too {what}"));
            }
        }
        let lines = self.summary.refusals.lines() + self.left_out.lines + too_old + too_new;
        (!complaints.is_empty()).then(|| (lines, complaints.join("; ")))
    }
}

/// Decodes a body under the limits of its tenant and stores its lines. Yields when they are durable and
/// searchable. When two requests are one, `docs/decisions/0080` says.
pub(crate) async fn store(
    broker: &Broker,
    sender: Sender,
    body: Vec<u8>,
    decode: impl FnOnce(&[u8], &LogContext<'_>, &mut LogBatch) -> Result<LogSummary, LogPushError>
    + Send
    + 'static,
) -> Result<TakenLines, Refusal> {
    store_as(broker, sender, body, decode, |summary| summary).await
}

/// As [`store`], of a decoder that tells more.
pub(crate) async fn store_as<S: Send + 'static>(
    broker: &Broker,
    sender: Sender,
    body: Vec<u8>,
    decode: impl FnOnce(&[u8], &LogContext<'_>, &mut LogBatch) -> Result<S, LogPushError>
    + Send
    + 'static,
    lines_of: fn(&S) -> &LogSummary,
) -> Result<TakenLines<S>, Refusal> {
    let (stored, answer) = tokio::sync::oneshot::channel();
    let work = {
        let broker = broker.clone();
        move || -> Result<(S, LeftOut), Refusal> {
            let limits = broker.log_limits_of(sender.tenant);
            let levels = Levels::of(&limits);
            // A line has one byte at least.
            let now_ns = broker.inner.lines.arrivals.reserve(broker.now_ms(), body.len());
            let mut batch = LogBatch::default();
            let context = LogContext { limits: &limits, levels: Some(&levels), now_ns };
            let summary = decode(&body, &context, &mut batch)?;
            let lines = lines_of(&summary);
            let book = &broker.inner.tenants;
            book.lines_of(sender.tenant, |of| of.count_refusals(&lines.refusals));
            // Who brings nothing does not become a tenant by it.
            if batch.lines() == 0 {
                let _ = stored.send(Ok(LogOutcome::default()));
                return Ok((summary, LeftOut::default()));
            }
            let id = broker.tenant_for_write(sender.tenant)?;
            let (now_ms, name) = (broker.now_ms(), sender.tenant);
            let admitted = LogSummary { refusals: LogRefusals::default(), ..lines.clone() };
            // Of what is stored in part the sender sends all again, and lines that get other times then would be
            // there twice.
            let is_timed_here = lines.timed_here > 0;
            let (batch, left_out) = book.lines_of(name, |of| {
                of.admit(name, lines, &limits, now_ms)?;
                Ok::<_, TooFast>(match is_timed_here {
                    true => of.limit_whole(name, batch, &limits, now_ms),
                    false => of.limit_streams(name, batch, &limits, now_ms),
                })
            })?;
            if batch.lines() == 0 {
                book.lines_of(name, |of| of.give_back(&admitted, &limits));
                let _ = stored.send(Ok(LogOutcome::default()));
                return Ok((summary, left_out));
            }
            let push = sender.push_id(id, &body, lines).filter(|_| left_out.is_empty());
            let for_pace = broker.clone();
            let done = move |result| {
                if !matches!(result, Ok(LogOutcome { was_known: false, .. })) {
                    let book = &for_pace.inner.tenants;
                    book.lines_of(name, |of| of.give_back(&admitted, &limits));
                }
                // The client may have gone; its lines are stored all the same.
                let _ = stored.send(result);
            };
            match push {
                Some(push) if is_timed_here => broker.ingest_named_logs(id, batch, push, done),
                push => broker.ingest_logs(id, batch, push, done),
            }
            Ok((summary, left_out))
        }
    };
    let (summary, left_out) = broker.off_the_sockets(work).await?;
    let outcome = answer.await.unwrap_or(Err(CommitError::Stopping))?;
    Ok(TakenLines { summary, outcome, left_out })
}

impl Broker {
    /// What lines of a tenant may be, with the retention of lines as the most that they may be old.
    pub(crate) fn log_limits_of(&self, tenant: TenantName) -> LogLimits {
        let limits = self.limits_of(tenant);
        let kept_ms = self.inner.config.logs_retention_ms;
        let kept_ns = kept_ms.map(|kept_ms| kept_ms.saturating_mul(MILLISECOND_NS));
        let max_age_ns = match (limits.logs.max_age_ns, kept_ns) {
            (Some(age_ns), Some(kept_ns)) => Some(age_ns.min(kept_ns)),
            (age_ns, kept_ns) => age_ns.or(kept_ns),
        };
        LogLimits { max_age_ns, ..LogLimits::clone(&limits.logs) }
    }
}
