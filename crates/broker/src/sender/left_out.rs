//! What is read from the log and not sent.

use super::counters::Dropped;
use super::series::Sendable;

/// Rows that are not sent, by reason.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    pub(super) unwanted: u64,
    pub(super) old: u64,
    repeated: u64,
    pub(super) custom: u64,
}

impl LeftOut {
    /// The series, if a row of it with this time is to be sent.
    pub(super) fn check<'a>(
        &mut self,
        series: Option<&'a mut Sendable>,
        t_ms: i64,
        oldest_ms: i64,
    ) -> Option<&'a Sendable> {
        let Some(series) = series else {
            self.unwanted += 1;
            return None;
        };
        if t_ms < oldest_ms {
            self.old += 1;
            return None;
        }
        // The store keeps the first of several with one time, and so does the remote.
        if series.last_ms.replace(t_ms) == Some(t_ms) {
            self.repeated += 1;
            return None;
        }
        Some(series)
    }

    pub(super) fn reasons(&self) -> impl Iterator<Item = (u64, Dropped)> {
        [
            (self.unwanted, Dropped::Series),
            (self.old, Dropped::TooOld),
            (self.repeated, Dropped::Duplicate),
            (self.custom, Dropped::CustomBuckets),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
    }
}
