//! Which pushes of lines the brokers of a cluster stored last, of those that have to be told apart by more
//! than their lines.
//!
//! A sender that got no answer sends the same to another broker. Where lines bear their times nothing has to
//! be known of that, because equal lines are one. Lines that got their times from a broker are not equal when they
//! get them from another one, so the push as a whole is known here, by the command that makes it count.
//!
//! How many are known is bounded by their number alone: a bound of time would hold by the clock that is
//! furthest ahead, and one that is wrong would make all be forgotten.

use std::collections::{BTreeSet, VecDeque};

/// Most pushes that are known, the latest; about 50 bytes each.
pub const MAX_PUSHES: usize = 1 << 17;

/// What tells a push apart: a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PushMark(pub [u8; 16]);

/// Those that are known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Pushes {
    known: BTreeSet<PushMark>,
    /// As they came to count.
    in_order: VecDeque<PushMark>,
}

impl Pushes {
    pub(crate) fn is_known(&self, push: &PushMark) -> bool {
        self.known.contains(push)
    }

    /// Notes that a push counts; false if it did already.
    pub(crate) fn store(&mut self, push: PushMark) -> bool {
        if !self.known.insert(push) {
            return false;
        }
        self.in_order.push_back(push);
        if self.in_order.len() > MAX_PUSHES
            && let Some(first) = self.in_order.pop_front()
        {
            self.known.remove(&first);
        }
        true
    }

    /// As they came to count.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &PushMark> {
        self.in_order.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_is_known_until_enough_others_came() {
        let push = |number: usize| PushMark((number as u128).to_be_bytes());
        let mut pushes = Pushes::default();
        assert!(pushes.store(push(0)) && pushes.store(push(1)) && !pushes.store(push(0)));
        assert!((2..MAX_PUSHES).all(|number| pushes.store(push(number))));
        assert!(!pushes.store(push(0)) && pushes.iter().len() == MAX_PUSHES);
        assert!(pushes.store(push(MAX_PUSHES)) && pushes.iter().len() == MAX_PUSHES);
        assert!(!pushes.is_known(&push(0)) && pushes.is_known(&push(1)));
        assert!(pushes.store(push(0)) && !pushes.is_known(&push(1)));
    }
}
