//! How many bytes of series queries and live subscriptions may hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use promql::SourceError;

use super::counters::Counters;
use crate::data::Work;
use crate::running::refused;

/// Queries that may be as large as one may be, at once.
const SHARES: usize = 4;

/// What all queries may hold together; a live subscription counts as one.
pub(super) struct Budget {
    /// What one query may hold.
    of_one: usize,
    counters: Arc<Counters>,
}

/// What one query holds of it.
pub(super) struct QueryBudget {
    budget: Arc<Budget>,
    work: Work,
    used: AtomicUsize,
}

/// Bytes held until this is dropped.
pub(super) struct Held {
    query: Arc<QueryBudget>,
    bytes: usize,
}

impl Budget {
    pub(super) fn new(of_one: usize, counters: Arc<Counters>) -> Self {
        Budget { of_one, counters }
    }

    /// The budget of a new query, which counts as a part of what its `work` holds.
    pub(super) fn query(self: &Arc<Self>, work: Work) -> Arc<QueryBudget> {
        Arc::new(QueryBudget { budget: Arc::clone(self), work, used: AtomicUsize::new(0) })
    }
}

impl QueryBudget {
    pub(super) fn hold(self: &Arc<Self>) -> Held {
        Held { query: Arc::clone(self), bytes: 0 }
    }
}

impl Held {
    /// Holds so many bytes more.
    ///
    /// # Errors
    /// The query, or all of them, would hold too many; the text says what to do.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), SourceError> {
        let Budget { of_one, counters } = &*self.query.budget;
        self.query.work.take(bytes).map_err(refused)?;
        self.bytes += bytes;
        let of_query = self.query.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let of_all = counters.held_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if of_query > *of_one {
            counters.too_large.fetch_add(1, Ordering::Relaxed);
            return Err(SourceError::Limit(format!(
                "the series of this query take more than {of_one} bytes, as they come from the \
                 broker; select fewer series, use a shorter range, or raise \
                 limits.max_query_bytes"
            )));
        }
        if of_all > of_one.saturating_mul(SHARES) {
            counters.too_large.fetch_add(1, Ordering::Relaxed);
            return Err(SourceError::Limit(format!(
                "the queries and live subscriptions that run now hold {SHARES} times limits.max_query_bytes, which is \
                 {of_one}; try again later or raise it"
            )));
        }
        Ok(())
    }
}

impl Held {
    /// Gives back so many bytes.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.query.work.give_back(bytes);
        self.query.used.fetch_sub(bytes, Ordering::Relaxed);
        self.query.budget.counters.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}
