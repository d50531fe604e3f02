//! What an executor is given to run.

use std::time::{Duration, Instant};

use model::TenantName;
use promql::EvalTime;
use promql::ast::Expr;

use super::DEFAULT_LOOKBACK_MS;
use crate::running::Asked;

/// What to run and how.
pub(crate) struct Job {
    pub(crate) asked: Asked,
    pub(crate) expr: Expr,
    pub(crate) time: EvalTime,
    pub(crate) timeout: Option<Duration>,
    pub(crate) lookback_ms: i64,
    /// Whether its result may be kept, and may come from what was kept.
    pub(crate) may_be_kept: bool,
    /// Whether to measure what each part of the query takes.
    pub(crate) is_measured: bool,
    /// When it was asked.
    pub(crate) asked_at: Instant,
    /// On which terms, if it is a piece of another broker's query.
    pub(crate) of_another: Option<PieceTerms>,
}

impl Job {
    /// A query of this process' own for one time, whose result is not kept.
    pub(crate) fn instant(
        text: &str,
        expr: Expr,
        t_ms: i64,
        client: &str,
        tenant: TenantName,
    ) -> Self {
        let time = EvalTime::Instant(t_ms);
        Job {
            asked: Asked::query(text, time, client, tenant),
            expr,
            time,
            timeout: None,
            lookback_ms: DEFAULT_LOOKBACK_MS,
            may_be_kept: false,
            is_measured: false,
            asked_at: Instant::now(),
            of_another: None,
        }
    }
}

/// On which terms a piece of another broker's query is computed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PieceTerms {
    pub(crate) max_samples: usize,
    pub(crate) use_start_timestamps: bool,
    pub(crate) type_and_unit_labels: bool,
}
