//! What is due when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Fingerprint;

/// What may be due. Whoever takes one checks whether it still is: timers are never removed, they
/// come to nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A group may tell.
    Group(u64),
    /// A notification is tried again.
    Retry(u64),
    /// A notification has taken too long.
    Deadline(u64),
    /// An alert may be forgotten.
    Alert(Fingerprint),
    /// A silence may be forgotten.
    Silence(String),
    /// Entries of the log may be forgotten.
    Log,
}

/// Timers by the moment at which they are due, in nanoseconds since 1970.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    heap: BinaryHeap<Reverse<(i64, Timer)>>,
}

impl Schedule {
    pub(crate) fn add(&mut self, due_ns: i64, timer: Timer) {
        self.heap.push(Reverse((due_ns, timer)));
    }

    pub(crate) fn next_due_ns(&self) -> Option<i64> {
        self.heap.peek().map(|Reverse((due_ns, _))| *due_ns)
    }

    /// The first that is due, and since when.
    pub(crate) fn take_due(&mut self, now_ns: i64) -> Option<(i64, Timer)> {
        if self.next_due_ns()? > now_ns {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_first_comes_first() {
        let mut schedule = Schedule::default();
        schedule.add(30, Timer::Log);
        schedule.add(10, Timer::Group(2));
        schedule.add(20, Timer::Group(1));
        assert_eq!(schedule.next_due_ns(), Some(10));
        assert_eq!(schedule.take_due(20), Some((10, Timer::Group(2))));
        assert_eq!(schedule.take_due(20), Some((20, Timer::Group(1))));
        assert_eq!(schedule.take_due(20), None);
        assert_eq!(schedule.take_due(40), Some((30, Timer::Log)));
        assert_eq!(schedule.take_due(40), None);
    }
}
