//! The times of lines that come without one.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

const MILLISECOND_NS: i64 = 1_000_000;
/// Times may be given away so far ahead of the clock. Behind a clock that was set back they begin anew.
const MAX_AHEAD_NS: i64 = 1_000_000_000;

/// Gives each request times of its own: two lines that say the same, of two requests in one millisecond,
/// are two.
#[derive(Debug)]
pub(crate) struct Arrivals {
    /// The first time that is nobody's.
    next_ns: AtomicI64,
    /// Messages of syslog that came.
    messages: AtomicU64,
}

impl Default for Arrivals {
    fn default() -> Self {
        // Others of a cluster begin elsewhere.
        let messages = AtomicU64::new(below_millisecond_ns() as u64);
        Arrivals { next_ns: AtomicI64::new(i64::MIN), messages }
    }
}

impl Arrivals {
    /// The first of `lines` times, each a nanosecond after the one before. `now_ms` is the time.
    pub(crate) fn reserve(&self, now_ms: i64, lines: usize) -> i64 {
        let now_ns = now_ms.saturating_mul(MILLISECOND_NS).saturating_add(below_millisecond_ns());
        let lines = i64::try_from(lines).unwrap_or(i64::MAX);
        let first = |next_ns: i64| match next_ns {
            next_ns if next_ns.saturating_sub(now_ns) > MAX_AHEAD_NS => now_ns,
            next_ns => next_ns.max(now_ns),
        };
        let reserve = |next_ns| Some(first(next_ns).saturating_add(lines));
        let before = self.next_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, reserve);
        first(before.expect("a time is always given"))
    }

    /// The number of the first of some messages of syslog.
    pub(crate) fn number(&self, messages: usize) -> u64 {
        self.messages.fetch_add(messages as u64, Ordering::Relaxed)
    }
}

/// What a clock of milliseconds does not tell.
fn below_millisecond_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::from(since.subsec_nanos()) % MILLISECOND_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_given_twice_and_none_is_far_from_the_clock() {
        let arrivals = Arrivals::default();
        let mut free_ns = i64::MIN;
        for request in 0..1_000_i64 {
            let first_ns = arrivals.reserve(request / 100, 500);
            assert!(first_ns >= free_ns, "{request}");
            assert!((first_ns - request / 100 * MILLISECOND_NS) < 2 * MILLISECOND_NS, "{request}");
            free_ns = first_ns + 500;
        }
        arrivals.reserve(10, usize::MAX);
        let first_ns = arrivals.reserve(10, 1);
        assert!((10 * MILLISECOND_NS..11 * MILLISECOND_NS).contains(&first_ns), "{first_ns}");
        assert_eq!(arrivals.number(3) + 3, arrivals.number(1));
    }
}
