//! How much rules may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Limits of all rules, beside the `limit` of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleLimits {
    /// Most alerts of one rule.
    pub max_alerts_per_rule: usize,
    /// Most alerts of all rules.
    pub max_alerts: usize,
    /// Most series that one recording rule may write.
    pub max_series_per_rule: usize,
    /// Longest expanded label or annotation in bytes; what is longer is cut.
    pub max_text_bytes: usize,
}

impl Default for RuleLimits {
    fn default() -> Self {
        RuleLimits {
            max_alerts_per_rule: 50_000,
            max_alerts: 200_000,
            max_series_per_rule: 200_000,
            max_text_bytes: 64 << 10,
        }
    }
}

/// How many alerts all rules have together. Rules of several threads share one.
#[derive(Debug, Default)]
pub struct AlertBudget {
    used: AtomicUsize,
}

impl AlertBudget {
    /// How many alerts there are.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn try_take(&self, count: usize, max: usize) -> bool {
        let take = |used: usize| used.checked_add(count).filter(|sum| *sum <= max);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn give_back(&self, count: usize) {
        self.used.fetch_sub(count, Ordering::Relaxed);
    }
}

/// What one rule has taken of the budget; given back when the rule goes.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<AlertBudget>,
    taken: usize,
}

impl Share {
    pub(super) fn new(budget: Arc<AlertBudget>) -> Self {
        Share { budget, taken: 0 }
    }

    /// Makes sure that `count` alerts fit.
    ///
    /// # Errors
    /// They do not; the text says which limit and what to do.
    pub(super) fn reserve(&mut self, count: usize, max: usize) -> Result<(), String> {
        let more = count.saturating_sub(self.taken);
        if more > 0 {
            if !self.budget.try_take(more, max) {
                return Err(format!(
                    "all rules together have {} alerts, and this one would add {more}; \
                     rules.max_alerts is {max}: make expressions yield less, or raise it",
                    self.budget.used()
                ));
            }
            self.taken += more;
        }
        Ok(())
    }

    /// Takes exactly `count`, even above the limit: they are there.
    pub(super) fn settle(&mut self, count: usize) {
        if count >= self.taken {
            self.budget.used.fetch_add(count - self.taken, Ordering::Relaxed);
        } else {
            self.budget.give_back(self.taken - count);
        }
        self.taken = count;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.give_back(self.taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_come_out_of_one_budget_and_go_back() {
        let budget = Arc::new(AlertBudget::default());
        let mut one = Share::new(Arc::clone(&budget));
        let mut other = Share::new(Arc::clone(&budget));
        assert_eq!(one.reserve(3, 4), Ok(()));
        let refused = other.reserve(2, 4).expect_err("only one is left");
        assert!(refused.contains("have 3 alerts") && refused.contains("is 4"), "{refused}");
        one.settle(1);
        assert_eq!(other.reserve(2, 4), Ok(()));
        assert_eq!(budget.used(), 3);
        drop(other);
        one.settle(9);
        assert_eq!(budget.used(), 9);
        drop(one);
        assert_eq!(budget.used(), 0);
    }
}
