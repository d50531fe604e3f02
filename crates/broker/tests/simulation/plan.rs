//! How a simulation goes, by its seed: how much is done to it, and how patient its brokers are.

use std::time::Duration;

use crate::START_MS;
use crate::world::Dice;

/// How much happens in a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// Faults of some ten seconds, and brokers that are less patient: most seeds are so, since ten short
    /// ones cost less than a long one and differ more.
    Short,
    /// Faults of a minute, with a calm in the middle.
    Long,
}

/// One of so many seeds is long.
const LONG_OF: u64 = 32;

/// What a seed decides before anything happens.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Brokers.
    pub(crate) of: u64,
    /// Bad things that are done, one after the other.
    pub(crate) rounds: u64,
    /// The longest time from one to the next.
    pub(crate) most_pause_ms: u64,
    /// Whether nothing happens for a while in the middle: answers are whole then.
    pub(crate) has_calm: bool,
    /// Before which of the rounds a broker leaves and comes back; never, if there are fewer.
    pub(crate) leaves_at: u64,
    /// Whether one leaves in the end.
    pub(crate) drains: bool,
    /// Whether it is waited for in the end until the store has nothing that nothing refers to.
    pub(crate) is_cleaned: bool,
    pub(crate) patience: Patience,
    pub(crate) times: Times,
}

/// How long brokers, and the store, take for what they do at their leisure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// A broker that is silent for so long is taken for dead.
    pub(crate) adopt_after: Duration,
    /// A voter that is silent for so long is replaced.
    pub(crate) replace_after: Duration,
    pub(crate) flush_interval: Duration,
    /// Longer than a write takes, and than who shows an old list of blocks waits for the next.
    pub(crate) orphan_age: Duration,
    /// Longer than who shows an old list of blocks waits for the next, and reads what is in it.
    pub(crate) keep_flushed: Duration,
    /// With few, one that was cut off for seconds gets the state as a whole.
    pub(crate) snapshot_every: u64,
    /// The longest time after which the store does what it did not answer: longer than anybody waits for
    /// a write.
    pub(crate) most_late_ms: u64,
}

/// What times samples have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// That of the first.
    pub(crate) first_ms: i64,
    /// From one batch of a client to its next.
    pub(crate) step_ms: i64,
}

impl Times {
    /// Of somebody who writes what happens: all of it is in one window of two hours.
    pub(crate) const NOW: Times = Times { first_ms: START_MS, step_ms: 100 };
    /// Of somebody who writes what happened long ago: blocks of many windows are merged, up to days.
    pub(crate) const LONG_AGO: Times =
        Times { first_ms: START_MS - 10 * 86_400_000, step_ms: 600_000 };

    pub(crate) fn at(self, seq: i64) -> i64 {
        self.first_ms + seq * self.step_ms
    }
}

impl Patience {
    pub(crate) const LONG: Patience = Patience {
        adopt_after: Duration::from_secs(12),
        replace_after: Duration::from_secs(20),
        flush_interval: Duration::from_secs(5),
        orphan_age: Duration::from_secs(20),
        keep_flushed: Duration::from_secs(30),
        snapshot_every: 60,
        most_late_ms: 60_000,
    };
    const SHORT: Patience = Patience {
        // Leases of one whose log is taken over are free: longer than whoever has a duty is sure of it.
        adopt_after: Duration::from_secs(8),
        replace_after: Duration::from_secs(6),
        flush_interval: Duration::from_millis(2_500),
        keep_flushed: Duration::from_secs(15),
        most_late_ms: 25_000,
        ..Patience::LONG
    };
}

impl Length {
    pub(crate) fn of_seed(seed: u64) -> Length {
        if seed.is_multiple_of(LONG_OF) { Length::Long } else { Length::Short }
    }
}

impl Plan {
    pub(crate) fn of_seed(seed: u64, length: Length) -> Plan {
        let mut dice = Dice(seed ^ 0x706c_616e);
        let of = [3, 5, 4][seed as usize % 3];
        let (mut patience, rounds, most_pause_ms, has_calm) = match length {
            Length::Long => (Patience::LONG, 25, 4_000, true),
            Length::Short => (Patience::SHORT, 8 + dice.below(13), 2_500, dice.percent(5)),
        };
        if seed.is_multiple_of(2) {
            patience.snapshot_every = 12;
        }
        let times = if dice.percent(30) { Times::LONG_AGO } else { Times::NOW };
        Plan {
            of,
            rounds,
            most_pause_ms,
            has_calm,
            leaves_at: dice.below(4 * rounds),
            drains: dice.percent(40),
            is_cleaned: length == Length::Long || dice.percent(12),
            patience,
            times,
        }
    }
}
