//! Lines that the collector of this process has read, stored once by the numbers of its spool.

use model::{LogBatch, LogLimits, TenantName};
use wire::logs::{LogContext, batch};

use super::Levels;
use crate::agents::BatchIdentity;
use crate::commit::CommitError;
use crate::tenants::TooFast;
use crate::{Broker, LogOutcome};

/// Begins the names under which collectors of this process, which are no agents, have their marks.
/// Names of certificates have no colon.
pub const LOCAL_COLLECTORS: &str = "local:";

const MILLISECOND_NS: i64 = 1_000_000;

/// What became of lines that were collected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CollectedLines {
    /// Lines that are stored; 0 if the batch was known.
    pub stored: u64,
    /// Lines that are not and never will be.
    pub refused: u64,
    /// Why not.
    pub complaint: Option<String>,
}

/// Why lines that were collected are not stored now.
#[derive(Debug, thiserror::Error)]
pub enum CollectedError {
    /// The tenant's lines come faster than they may.
    #[error("{text}")]
    TooFast {
        /// In Loki's words.
        text: String,
        /// When they may come again.
        retry_after_ms: u64,
    },
    /// The broker does not take them.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Broker {
    /// Stores lines of a tenant, by default those of [`TenantName::DEFAULT`], unless the batch is stored
    /// already. What the tenant's limits refuse is left out. As [`Broker::ingest_logs_from_agent`], it
    /// waits and computes.
    pub fn ingest_collected_lines(
        &self,
        identity: &BatchIdentity,
        tenant: Option<&str>,
        lines: &LogBatch,
        done: impl FnOnce(Result<CollectedLines, CollectedError>) + Send + 'static,
    ) {
        let pass_over = |reason: String, done: Box<dyn FnOnce(_) + Send>| {
            let refused = lines.lines();
            self.pass_over_from_agent(identity, move |result| {
                let complaint = Some(reason);
                let told = result.map(|_| CollectedLines { stored: 0, refused, complaint });
                done(told.map_err(CollectedError::from));
            });
        };
        let tenant = match tenant.map(TenantName::parse) {
            None => TenantName::DEFAULT,
            Some(Ok(tenant)) => tenant,
            Some(Err(error)) => return pass_over(error.to_string(), Box::new(done)),
        };
        // Nobody is there who could send a shorter line.
        let limits = LogLimits { truncate_lines: true, ..self.log_limits_of(tenant) };
        let levels = Levels::of(&limits);
        let now_ns = self.now_ms().saturating_mul(MILLISECOND_NS);
        let context = LogContext { limits: &limits, levels: Some(&levels), now_ns };
        let mut taken = LogBatch::default();
        let summary = match batch::decode(lines, &context, &mut taken) {
            Ok(summary) => summary,
            Err(error) => return pass_over(error.to_string(), Box::new(done)),
        };
        let id = match self.tenant_for_write(tenant) {
            Ok(id) => id,
            Err(error) => return done(Err(error.into())),
        };
        let (book, now_ms) = (&self.inner.tenants, self.now_ms());
        if let Err(TooFast { text, retry_after_ms }) =
            book.lines_of(tenant, |of| of.admit(tenant, &summary, &limits, now_ms))
        {
            return done(Err(CollectedError::TooFast { text, retry_after_ms }));
        }
        book.lines_of(tenant, |of| of.count_refusals(&summary.refusals));
        self.ingest_logs_from_agent(id, identity, taken, move |result| {
            done(result.map_err(CollectedError::from).map(|outcome| match outcome {
                LogOutcome { was_known: true, .. } => CollectedLines::default(),
                LogOutcome { stored, too_old, too_new, .. } => {
                    let refused = summary.refusals.lines() + too_old + too_new;
                    let complaint = (refused > 0).then(|| match summary.refusals.lines() {
                        0 => format!("{too_old} lines are too old, {too_new} too new"),
                        _ => summary.refusals.text(),
                    });
                    CollectedLines { stored, refused, complaint }
                }
            }));
        });
    }
}
