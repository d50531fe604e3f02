//! How often a peer may be told, where it punishes who tells it too often.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// Most peers that are remembered. More than that are not throttled by us but by themselves.
const MAX_PEERS: usize = 10_000;

/// So many messages in so many nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowance {
    pub(crate) messages: usize,
    pub(crate) window_ns: i64,
}

/// When peers were told. Keep it over reloads of the configuration: the peers do.
///
/// For each peer the moments of its last messages are kept, not a bucket that fills again: a
/// bucket of twenty lets through up to forty within a minute, and the minute that the peer counts
/// may be that one.
#[derive(Debug, Default)]
pub struct Marks {
    /// By the hash of the address: it holds a token.
    peers: Mutex<HashMap<[u8; 32], Peer>>,
}

#[derive(Debug, Default)]
struct Peer {
    told_ns: VecDeque<i64>,
    blocked_until_ns: Option<i64>,
}

impl Marks {
    /// Notes a message to `address` at `now_ns`, if it is allowed; else yields how long to wait, in
    /// nanoseconds.
    pub(crate) fn pass(
        &self,
        address: &str,
        allowances: &[Allowance],
        now_ns: i64,
    ) -> Result<(), i64> {
        let longest = allowances.iter().map(|allowance| allowance.window_ns).max().unwrap_or(0);
        let mut peers = self.peers.lock();
        let key: [u8; 32] = Sha256::digest(address.as_bytes()).into();
        if !peers.contains_key(&key) && peers.len() >= MAX_PEERS {
            peers.retain(|_, peer| {
                peer.blocked_until_ns.is_some_and(|until| until > now_ns)
                    || peer.told_ns.back().is_some_and(|told| *told > now_ns - longest)
            });
            if peers.len() >= MAX_PEERS {
                return Ok(());
            }
        }
        let peer = peers.entry(key).or_default();
        // A clock that was set back must not keep a peer silent until it is right again.
        peer.told_ns.retain(|told| *told > now_ns.saturating_sub(longest) && *told <= now_ns);
        let mut free_ns = peer.blocked_until_ns.unwrap_or(now_ns);
        for Allowance { messages, window_ns } in allowances {
            let in_the_way = peer.told_ns.len().checked_sub(*messages);
            if let Some(oldest) = in_the_way.and_then(|at| peer.told_ns.get(at)) {
                free_ns = free_ns.max(oldest.saturating_add(*window_ns));
            }
        }
        if free_ns > now_ns {
            return Err(free_ns - now_ns);
        }
        peer.told_ns.push_back(now_ns);
        Ok(())
    }

    /// The peer said that it was told too often: nothing goes to it for so many nanoseconds.
    pub(crate) fn block(&self, address: &str, now_ns: i64, for_ns: i64) {
        let key: [u8; 32] = Sha256::digest(address.as_bytes()).into();
        if let Some(peer) = self.peers.lock().get_mut(&key) {
            peer.blocked_until_ns = Some(now_ns.saturating_add(for_ns));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn no_window_ever_has_more() {
        let marks = Marks::default();
        let allowances = [
            Allowance { messages: 2, window_ns: SECOND },
            Allowance { messages: 3, window_ns: 60 * SECOND },
        ];
        let pass = |now_ns| marks.pass("a", &allowances, now_ns);
        assert_eq!(pass(0), Ok(()));
        assert_eq!(pass(SECOND / 2), Ok(()));
        assert_eq!(pass(SECOND / 2), Err(SECOND / 2));
        assert_eq!(pass(SECOND), Ok(()));
        assert_eq!(pass(2 * SECOND), Err(58 * SECOND));
        assert_eq!(pass(60 * SECOND), Ok(()));
        assert_eq!(marks.pass("b", &allowances, 2 * SECOND), Ok(()));
        // The clock is set back.
        assert_eq!(pass(-100 * SECOND), Ok(()));
    }

    #[test]
    fn who_was_told_to_wait_waits() {
        let marks = Marks::default();
        let allowances = [Allowance { messages: 20, window_ns: 60 * SECOND }];
        assert_eq!(marks.pass("a", &allowances, 0), Ok(()));
        marks.block("a", 0, 600 * SECOND);
        assert_eq!(marks.pass("a", &allowances, 100 * SECOND), Err(500 * SECOND));
        assert_eq!(marks.pass("a", &allowances, 600 * SECOND), Ok(()));
    }

    #[test]
    fn memory_has_a_limit() {
        let marks = Marks::default();
        let allowances = [Allowance { messages: 1, window_ns: SECOND }];
        for n in 0..MAX_PEERS + 10 {
            assert_eq!(marks.pass(&n.to_string(), &allowances, 0), Ok(()));
        }
        assert_eq!(marks.peers.lock().len(), MAX_PEERS);
        assert_eq!(marks.pass("later", &allowances, 5 * SECOND), Ok(()));
        assert_eq!(marks.peers.lock().len(), 1);
    }
}
