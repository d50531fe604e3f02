//! Equal lines of one stream and one time inside one request.
//!
//! A store takes them for one line that came twice (`docs/decisions/0075`). A sender that means two
//! gets two: the second is moved by one nanosecond, the third by two, and so on, past the times at
//! which the request has the same line anyway. The same request moves them alike wherever it arrives,
//! so one that is sent again brings nothing new.

use hashbrown::{HashMap, HashSet};
use rapidhash::fast::RandomState;
use rapidhash::v3::{RapidSecrets, rapidhash_v3_inline};

/// Not random: every broker must move the same lines.
const SEED: u64 = 0x7761_7463_6866_6972;

/// The lines of one request, as hashes of 64 bits. Where two different ones have the same, which
/// happens once in some ten million requests of a million lines, the later is moved by a nanosecond
/// without need.
#[derive(Debug)]
pub(super) struct Twins {
    secrets: RapidSecrets,
    seen: HashSet<u64, RandomState>,
    /// From a time at which a line is to a later one at which it might not be yet. Many equal lines
    /// would else be tried against each other one by one.
    next: HashMap<u64, i64, RandomState>,
    passed: Vec<i64>,
    moved: u64,
}

impl Twins {
    pub(super) fn new() -> Self {
        Twins {
            secrets: RapidSecrets::seed(SEED),
            seen: HashSet::default(),
            next: HashMap::default(),
            passed: Vec::new(),
            moved: 0,
        }
    }

    /// What stands for a stream in [`Twins::place`].
    pub(super) fn stream(&self, packed_labels: &[u8]) -> u64 {
        rapidhash_v3_inline::<true, false, true>(packed_labels, &self.secrets)
    }

    /// How many lines were moved.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// The time for a line of a stream: its own, or the next one at which the request does not have it.
    pub(super) fn place(&mut self, stream: u64, line: &[u8], wanted_ns: i64) -> i64 {
        let line = rapidhash_v3_inline::<true, false, true>(line, &self.secrets);
        let line = line ^ stream.rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // Fast path: it is the first of its kind.
        if self.seen.insert(at(line, wanted_ns)) {
            return wanted_ns;
        }
        self.passed.clear();
        let mut time_ns = wanted_ns;
        loop {
            self.passed.push(time_ns);
            let next = self.next.get(&at(line, time_ns)).copied();
            let Some(next) = next.or_else(|| time_ns.checked_add(1)) else {
                // The end of time.
                return wanted_ns;
            };
            time_ns = next;
            if self.seen.insert(at(line, time_ns)) {
                break;
            }
        }
        for passed_ns in &self.passed {
            // Where nothing follows, the next line finds out itself.
            if let Some(next) = time_ns.checked_add(1) {
                self.next.insert(at(line, *passed_ns), next);
            }
        }
        self.moved += 1;
        time_ns
    }
}

fn at(line: u64, time_ns: i64) -> u64 {
    let mixed = (line ^ time_ns as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93) ^ line.rotate_left(17)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_line_is_twice_and_the_first_stays(
            lines in prop::collection::vec((0_u8..2, 0_u8..2, 0_i64..6), 0..40),
        ) {
            let (mut twins, mut again) = (Twins::new(), Twins::new());
            let mut seen = BTreeSet::new();
            for (stream, line, wanted_ns) in lines {
                let id = twins.stream(&[stream]);
                let placed = twins.place(id, &[line], wanted_ns);
                let mut first = wanted_ns;
                while seen.contains(&(stream, line, first)) {
                    first += 1;
                }
                prop_assert_eq!(placed, first);
                prop_assert_eq!(again.place(id, &[line], wanted_ns), placed);
                seen.insert((stream, line, placed));
            }
        }
    }

    #[test]
    fn many_equal_lines_cost_little() {
        let mut twins = Twins::new();
        let many = 200_000;
        for time in 0..many {
            assert_eq!(twins.place(1, b"x", time), time);
        }
        for time in 0..many {
            assert_eq!(twins.place(1, b"x", time), many + time);
        }
        assert_eq!(twins.moved(), many as u64);
        assert_eq!(twins.place(1, b"x", i64::MAX), i64::MAX);
        assert_eq!(twins.place(1, b"x", i64::MAX), i64::MAX);
    }
}
