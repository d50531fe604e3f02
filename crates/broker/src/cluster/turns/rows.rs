//! Who has its turn when: lists of brokers, each from a moment on.
//!
//! All brokers have the same lists, so each moment has one owner whatever the clocks say; a clock that is
//! wrong only does late or early what is its own. A list that takes something from a broker that lives
//! begins [`LATER_MS`] after it is written, when that broker knows it or does nothing any more, because
//! its own lease is over. From one that is dead, and has stopped by itself, the others take at once.

use catalog::{BrokerId, Ring, RingBroker};
use serde::{Deserialize, Serialize};

/// Longer than a lease of a broker, by as much as clocks may differ.
pub(super) const LATER_MS: i64 = 9_000;
/// A list that begins sooner than this when it is first read begins at once: clocks may differ.
const SOON_MS: i64 = LATER_MS / 3;
/// Lists that ended so long ago are forgotten: scrapes are never that late.
const FORGOTTEN_MS: i64 = 60_000;

/// As they lie in the catalog's key space.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rows {
    /// Ascending by time.
    rows: Vec<Row>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    /// Milliseconds since the epoch.
    from_ms: i64,
    /// Ascending.
    brokers: Vec<u64>,
}

/// A broker that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) id: BrokerId,
    /// Whether it renews its lease.
    pub(super) is_alive: bool,
    /// Whether it takes work.
    pub(super) is_willing: bool,
}

impl Rows {
    /// The lists as they should be, if these are not.
    pub(super) fn revised(&self, candidates: &[Candidate], now_ms: i64) -> Option<Rows> {
        let lives = |id: &u64| candidates.iter().any(|one| one.id.0 == *id && one.is_alive);
        let willing = candidates.iter().filter(|one| one.is_alive && one.is_willing);
        let mut wanted: Vec<u64> = willing.map(|one| one.id.0).collect();
        wanted.sort_unstable();
        let mut rows = self.rows.clone();
        let in_effect = rows.iter().rposition(|row| row.from_ms <= now_ms);
        // What is to come loses who is dead, and from now on so does what is. Nothing that is to come is put
        // off: who has not read that would already do what it says.
        let dead = |row: &Row| row.brokers.iter().any(|id| !lives(id));
        let rest = |brokers: &[u64]| -> Vec<u64> {
            let rest: Vec<u64> = brokers.iter().copied().filter(lives).collect();
            if rest.is_empty() { wanted.clone() } else { rest }
        };
        let first_to_come = in_effect.map_or(0, |at| at + 1);
        for row in &mut rows[first_to_come..] {
            if dead(row) {
                row.brokers = rest(&row.brokers);
            }
        }
        let left = in_effect.filter(|at| dead(&rows[*at])).map(|at| rest(&rows[at].brokers));
        if let Some(left) = left.filter(|left| !left.is_empty()) {
            rows.insert(first_to_come, Row { from_ms: now_ms, brokers: left });
        }
        match rows.last() {
            _ if wanted.is_empty() => {}
            None => rows.push(Row { from_ms: now_ms, brokers: wanted }),
            Some(last) if last.brokers == wanted => {}
            Some(last) => {
                let from_ms = (now_ms + LATER_MS).max(last.from_ms);
                rows.push(Row { from_ms, brokers: wanted });
            }
        }
        rows.dedup_by(|later, earlier| later.brokers == earlier.brokers);
        (rows != self.rows).then(|| {
            let ended = |pair: &[Row]| pair[1].from_ms < now_ms - FORGOTTEN_MS;
            let forgotten = rows.windows(2).take_while(|pair| ended(pair)).count();
            Rows { rows: rows.split_off(forgotten) }
        })
    }

    /// From whom the list that has begun takes at once what they had, and from when on: they are dead. `None`
    /// if that was known `before`, or nothing is taken from anybody.
    pub(super) fn taken_at_once(&self, before: &Rows, now_ms: i64) -> Option<(Vec<u64>, i64)> {
        let at = self.rows.iter().rposition(|row| row.from_ms < now_ms + SOON_MS)?;
        let (row, earlier) = (&self.rows[at], self.rows.get(at.checked_sub(1)?)?);
        let gone: Vec<u64> =
            earlier.brokers.iter().copied().filter(|id| !row.brokers.contains(id)).collect();
        (!before.rows.contains(row) && !gone.is_empty()).then_some((gone, row.from_ms))
    }

    /// The circles, each with the moment from which it counts.
    pub(super) fn rings(&self) -> Vec<(i64, Ring)> {
        let ring = |row: &Row| {
            let brokers = row.brokers.iter();
            let brokers = brokers.map(|id| RingBroker { id: BrokerId(*id), zone: String::new() });
            (row.from_ms, Ring::new(brokers))
        };
        self.rows.iter().map(ring).collect()
    }
}

/// Whose a key is at a moment. Before all lists it is as in the first: clocks may have been set back.
pub(super) fn owner(rings: &[(i64, Ring)], key: u64, at_ms: i64) -> Option<BrokerId> {
    let (_, ring) =
        rings.iter().rfind(|(from_ms, _)| *from_ms <= at_ms).or_else(|| rings.first())?;
    ring.owner(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;

    fn candidate(id: u64, is_alive: bool, is_willing: bool) -> Candidate {
        Candidate { id: BrokerId(id), is_alive, is_willing }
    }

    fn alive(ids: &[u64]) -> Vec<Candidate> {
        ids.iter().map(|id| candidate(*id, true, true)).collect()
    }

    fn told(rows: &Rows) -> Vec<(i64, Vec<u64>)> {
        rows.rows.iter().map(|row| (row.from_ms - NOW, row.brokers.clone())).collect()
    }

    #[test]
    fn who_comes_waits_until_the_others_know_and_who_dies_is_replaced_at_once() {
        let first = Rows::default().revised(&alive(&[2, 1]), NOW).expect("new");
        assert_eq!(told(&first), [(0, vec![1, 2])]);
        assert_eq!(first.revised(&alive(&[1, 2]), NOW + 5_000), None);
        let joined = first.revised(&alive(&[1, 2, 3]), NOW + 10_000).expect("one more");
        assert_eq!(told(&joined), [(0, vec![1, 2]), (19_000, vec![1, 2, 3])]);
        // It dies before its turn comes; so does one that has its turn.
        let one = joined.revised(&alive(&[1]), NOW + 12_000).expect("two less");
        assert_eq!(told(&one), [(0, vec![1, 2]), (12_000, vec![1])]);
        assert_eq!(one.revised(&alive(&[1]), NOW + 12_500), None);
        // Those who read that make up for what the dead one did not do, once.
        let taken = |rows: &Rows, before| rows.taken_at_once(before, NOW + 12_250);
        assert_eq!(taken(&one, &joined), Some((vec![2], NOW + 12_000)));
        assert_eq!(taken(&one, &one), None);
        assert_eq!(taken(&joined, &first), None, "one more takes later");
        // What is over long since is forgotten.
        let back = one.revised(&alive(&[1, 2]), NOW + 90_000).expect("one more");
        assert_eq!(told(&back), [(12_000, vec![1]), (99_000, vec![1, 2])]);
    }

    #[test]
    fn who_drains_goes_on_until_its_turn_is_over() {
        let two = Rows::default().revised(&alive(&[1, 2]), NOW).expect("new");
        let draining = [candidate(1, true, true), candidate(2, true, false)];
        let left = two.revised(&draining, NOW + 1_000).expect("one less");
        assert_eq!(told(&left), [(0, vec![1, 2]), (10_000, vec![1])]);
        assert_eq!(left.taken_at_once(&two, NOW + 1_250), None, "it goes on until then");
        assert_eq!(left.taken_at_once(&left, NOW + 10_250), None);
        // All drain: nobody could take over.
        let all = [candidate(1, true, false), candidate(2, true, false)];
        assert_eq!(two.revised(&all, NOW + 1_000), None);
    }

    #[test]
    fn when_all_are_dead_the_next_one_takes_everything() {
        let two = Rows::default().revised(&alive(&[1, 2]), NOW).expect("new");
        let next = two.revised(&alive(&[3]), NOW + 1_000).expect("another");
        assert_eq!(told(&next), [(0, vec![1, 2]), (1_000, vec![3])]);
    }
}
