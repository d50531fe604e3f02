//! The time by which rules are evaluated and receivers told.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// Wall time that never goes back. Where the system's clock is set back, time goes on from where it
/// was, at its usual pace, until the clock has caught up: alerts must not wait for that.
#[derive(Debug)]
pub struct Clock {
    read_ns: fn() -> i64,
    last: Mutex<(i64, Instant)>,
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new(system_ns)
    }
}

impl Clock {
    /// A clock that follows `read_ns`, nanoseconds since 1970.
    pub fn new(read_ns: fn() -> i64) -> Clock {
        Clock { read_ns, last: Mutex::new((read_ns(), Instant::now())) }
    }

    /// Nanoseconds since 1970.
    pub fn now_ns(&self) -> i64 {
        let mut last = self.last.lock();
        let passed = i64::try_from(last.1.elapsed().as_nanos()).unwrap_or(i64::MAX);
        let by_itself = last.0.saturating_add(passed);
        let read = (self.read_ns)();
        // A clock that is slewed lags behind by a little; only what was told must not be undone.
        let now = if read >= last.0 { read } else { by_itself };
        *last = (now, Instant::now());
        now
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.now_ns().div_euclid(1_000_000)
    }
}

fn system_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    #[test]
    fn time_goes_on_when_the_clock_is_set_back() {
        static READ: AtomicI64 = AtomicI64::new(1_000_000_000_000);
        let clock = Clock::new(|| READ.load(Ordering::Relaxed));
        assert_eq!(clock.now_ns(), 1_000_000_000_000);
        READ.store(2_000_000_000_000, Ordering::Relaxed);
        assert_eq!(clock.now_ns(), 2_000_000_000_000);
        READ.store(5, Ordering::Relaxed);
        let first = clock.now_ns();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let second = clock.now_ns();
        assert!(first >= 2_000_000_000_000, "{first}");
        assert!(second >= first + 2_000_000, "{first} {second}");
    }
}
