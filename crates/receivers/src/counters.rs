//! What came of attempts, to be shown as metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use alerting::notify::Outcome;
use parking_lot::Mutex;

/// Attempts by kind. Keep it over reloads of the configuration.
#[derive(Debug, Default)]
pub struct DeliveryCounters(Mutex<BTreeMap<&'static str, DeliveryCounts>>);

/// Attempts at telling receivers of one kind, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// The receiver knows.
    pub delivered: u64,
    /// It may work later.
    pub retried: u64,
    /// It will never work.
    pub failed: u64,
    /// How long all of them took together.
    pub took: Duration,
}

impl DeliveryCounters {
    /// The counts by kind, such as `webhook`, in alphabetical order; only of kinds that were told.
    pub fn read(&self) -> Vec<(&'static str, DeliveryCounts)> {
        self.0.lock().iter().map(|(kind, counts)| (*kind, *counts)).collect()
    }

    pub(crate) fn count(&self, kind: &'static str, outcome: &Outcome, took: Duration) {
        let mut all = self.0.lock();
        let counts = all.entry(kind).or_default();
        counts.took = counts.took.saturating_add(took);
        match outcome {
            Outcome::Delivered { .. } => counts.delivered += 1,
            Outcome::Retry { .. } => counts.retried += 1,
            Outcome::Failed { .. } => counts.failed += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_told_apart() {
        let counters = DeliveryCounters::default();
        let second = Duration::from_secs(1);
        counters.count("webhook", &Outcome::Delivered { store: None }, second);
        counters.count("webhook", &Outcome::Failed { message: String::new() }, second);
        let retry = Outcome::Retry { message: String::new(), after_ns: None };
        counters.count("email", &retry, second);
        let email = DeliveryCounts { retried: 1, took: second, ..DeliveryCounts::default() };
        let webhook = DeliveryCounts { delivered: 1, failed: 1, took: 2 * second, retried: 0 };
        assert_eq!(counters.read(), [("email", email), ("webhook", webhook)]);
    }
}
