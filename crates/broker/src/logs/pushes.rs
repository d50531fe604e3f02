//! Which pushes were stored lately: one that comes again, because its answer was lost, is acknowledged and
//! not stored again.
//!
//! Equal lines of one time are one in any case; this is for lines that get their time here, and it spares
//! the work. Beside a log what is known is in it, so that it outlives a restart. In a cluster each broker knows
//! what it stored itself since its start, and the catalog knows pushes whose lines got their times here.

use std::collections::{HashSet, VecDeque};

use model::TenantId;

/// For how long a push is known: longer than senders try again.
const KNOWN_MS: i64 = 10 * 60 * 1_000;
/// Most pushes that are known, the latest: 3 MiB of memory and of log after each flush.
const MAX_PUSHES: usize = 1 << 17;

/// What tells a push apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PushId(pub(crate) [u8; 16]);

impl PushId {
    /// Of the body of a request, its tenant, and what else makes it what it is, such as a name that the sender
    /// gave it: half of their BLAKE3.
    pub fn of(tenant: TenantId, name: &str, body: &[u8]) -> PushId {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&tenant.0.to_le_bytes());
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(body);
        let mut id = [0; 16];
        id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        PushId(id)
    }
}

/// A push that was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Push {
    pub(crate) id: PushId,
    /// When, milliseconds since the epoch.
    pub(crate) at_ms: i64,
}

/// The pushes of the last ten minutes.
#[derive(Debug, Default)]
pub(crate) struct RecentPushes {
    ids: HashSet<PushId>,
    /// As they were stored.
    in_order: VecDeque<Push>,
}

impl RecentPushes {
    /// Whether a push was stored lately.
    pub(crate) fn is_known(&mut self, id: &PushId, now_ms: i64) -> bool {
        self.forget(now_ms);
        self.ids.contains(id)
    }

    /// Notes that it is.
    pub(crate) fn note(&mut self, push: Push) {
        if self.ids.insert(push.id) {
            self.in_order.push_back(push);
        }
        if self.in_order.len() > MAX_PUSHES {
            self.forget_first();
        }
    }

    /// All of them, as they were stored.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = Push> {
        self.in_order.iter().copied()
    }

    fn forget(&mut self, now_ms: i64) {
        // A clock that was set back makes them known for longer, and never for less.
        while self.in_order.front().is_some_and(|push| now_ms.saturating_sub(push.at_ms) > KNOWN_MS)
        {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some(push) = self.in_order.pop_front() {
            self.ids.remove(&push.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushes_are_known_for_ten_minutes_and_are_told_apart_by_tenant() {
        let id = |tenant, body: &str| PushId::of(TenantId(tenant), "", body.as_bytes());
        let mut recent = RecentPushes::default();
        recent.note(Push { id: id(1, "a"), at_ms: 0 });
        recent.note(Push { id: id(1, "b"), at_ms: 300_000 });
        recent.note(Push { id: id(1, "a"), at_ms: 300_000 });
        assert_eq!(recent.iter().len(), 2);
        assert!(!recent.is_known(&id(2, "a"), 0));
        assert_ne!(PushId::of(TenantId(1), "a", b"b"), PushId::of(TenantId(1), "", b"ab"));
        assert!(recent.is_known(&id(1, "a"), KNOWN_MS));
        assert!(!recent.is_known(&id(1, "a"), KNOWN_MS + 1));
        assert!(recent.is_known(&id(1, "b"), KNOWN_MS + 1));
        for number in 0..MAX_PUSHES {
            recent.note(Push { id: id(3, &number.to_string()), at_ms: 300_000 });
        }
        assert_eq!(recent.iter().len(), MAX_PUSHES);
        assert!(!recent.is_known(&id(1, "b"), 300_000) && recent.is_known(&id(3, "0"), 300_000));
    }
}
