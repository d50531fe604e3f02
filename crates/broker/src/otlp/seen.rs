//! Bodies that were stored lately, by their hash.

use std::collections::{HashMap, VecDeque};

use blake3::Hash;

/// How long a body is remembered once it is stored.
const KEPT_MS: i64 = 10 * 60 * 1_000;
/// Most bodies that are remembered: 40 bytes each. Above, the oldest is forgotten early.
const MAX_BODIES: usize = 100_000;

/// What is known about a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing; it is under way from now on.
    New,
    /// It is being stored.
    UnderWay,
    /// It is stored.
    Stored,
}

#[derive(Debug, Default)]
pub(super) struct SeenBodies {
    /// Whether each is stored already.
    known: HashMap<Hash, bool>,
    /// In the order in which they came, with when.
    order: VecDeque<(i64, Hash)>,
}

impl SeenBodies {
    pub(super) fn begin(&mut self, hash: Hash, now_ms: i64) -> Seen {
        while let Some(&(came_ms, oldest)) = self.order.front() {
            if came_ms.saturating_add(KEPT_MS) > now_ms && self.order.len() < MAX_BODIES {
                break;
            }
            self.order.pop_front();
            self.known.remove(&oldest);
        }
        match self.known.get(&hash) {
            Some(true) => Seen::Stored,
            Some(false) => Seen::UnderWay,
            None => {
                self.known.insert(hash, false);
                self.order.push_back((now_ms, hash));
                Seen::New
            }
        }
    }

    /// It was stored, or can come again.
    pub(super) fn end(&mut self, hash: Hash, is_stored: bool) {
        if is_stored {
            if let Some(stored) = self.known.get_mut(&hash) {
                *stored = true;
            }
        } else {
            self.known.remove(&hash);
            self.order.retain(|(_, known)| *known != hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_counts_once_for_ten_minutes() {
        let mut seen = SeenBodies::default();
        let (a, b) = (blake3::hash(b"a"), blake3::hash(b"b"));
        assert_eq!(seen.begin(a, 0), Seen::New);
        assert_eq!(seen.begin(a, 1), Seen::UnderWay);
        seen.end(a, false);
        assert_eq!(seen.begin(a, 2), Seen::New, "it was not stored");
        seen.end(a, true);
        assert_eq!(seen.begin(a, 3), Seen::Stored);
        assert_eq!(seen.begin(b, 3), Seen::New);
        assert_eq!(seen.begin(a, 2 + KEPT_MS), Seen::New);
        assert!(seen.order.len() <= 2);
    }
}
