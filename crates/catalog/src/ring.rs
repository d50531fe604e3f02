//! Which broker is nearest to a key: consistent hashing with several probes.
//!
//! Every broker has 128 points on a circle of 2^64 places. A key looks at four places and belongs to
//! the broker of the point that follows one of them most closely (Appleton and O'Reilly, "Multi-probe
//! consistent hashing", 2015): points lie unevenly, and with one probe the broker with the widest gaps
//! would get a fifth more than its share. A broker that comes takes keys of all others and moves no
//! key between them.
//!
//! The circle gives affinity, never correctness: what belongs to a broker may be done by any.

use crate::BrokerId;

/// Points of one broker.
const POINTS: u64 = 128;
/// Places a key looks at.
const PROBES: u64 = 4;

/// A broker on the circle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingBroker {
    /// Which.
    pub id: BrokerId,
    /// Its failure domain; empty if none was named.
    pub zone: String,
}

/// The circle. The same brokers give the same one everywhere, in whatever order they are named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ring {
    brokers: Vec<RingBroker>,
    /// Ascending; the number is a broker's in `brokers`.
    points: Vec<(u64, u32)>,
}

impl Ring {
    /// The circle with these brokers; one that is named twice counts once.
    pub fn new(brokers: impl IntoIterator<Item = RingBroker>) -> Ring {
        let mut brokers: Vec<RingBroker> = brokers.into_iter().collect();
        brokers.sort_by_key(|broker| broker.id);
        brokers.dedup_by_key(|broker| broker.id);
        let mut points = Vec::with_capacity(brokers.len() * POINTS as usize);
        for (number, broker) in (0_u32..).zip(&brokers) {
            let first = mix(broker.id.0);
            points.extend((0..POINTS).map(|point| (mix(first.wrapping_add(point)), number)));
        }
        points.sort_unstable();
        Ring { brokers, points }
    }

    /// All brokers, ascending.
    pub fn brokers(&self) -> &[RingBroker] {
        &self.brokers
    }

    /// The broker of a key, which should be a hash; `None` if there is no broker.
    pub fn owner(&self, key: u64) -> Option<BrokerId> {
        let at = self.nearest(key)?;
        Some(self.brokers[self.points[at].1 as usize].id)
    }

    /// Up to `count` brokers for a key, the owner first; as many zones as possible.
    pub fn owners(&self, key: u64, count: usize) -> Vec<BrokerId> {
        let Some(start) = self.nearest(key) else { return Vec::new() };
        let around = self.points[start..].iter().chain(&self.points[..start]);
        let mut order: Vec<u32> = Vec::new();
        for (_, broker) in around {
            if !order.contains(broker) {
                order.push(*broker);
            }
            if order.len() == self.brokers.len() {
                break;
            }
        }
        let mut chosen: Vec<&RingBroker> = Vec::new();
        let mut left: Vec<&RingBroker> =
            order.iter().map(|number| &self.brokers[*number as usize]).collect();
        while chosen.len() < count && !left.is_empty() {
            let used = |zone: &str| chosen.iter().filter(|broker| broker.zone == zone).count();
            // The first of those whose zone is used least.
            let at = (0..left.len()).min_by_key(|at| used(&left[*at].zone)).unwrap_or(0);
            chosen.push(left.remove(at));
        }
        chosen.iter().map(|broker| broker.id).collect()
    }

    /// The share of all keys that each broker has, about: for drawing.
    pub fn shares(&self) -> Vec<(BrokerId, f64)> {
        const SAMPLES: u64 = 1 << 14;
        let mut counts = vec![0_u64; self.brokers.len()];
        for sample in 0..SAMPLES {
            if let Some(at) = self.nearest(mix(sample)) {
                counts[self.points[at].1 as usize] += 1;
            }
        }
        let share = |count: &u64| *count as f64 / SAMPLES as f64;
        self.brokers.iter().zip(&counts).map(|(broker, count)| (broker.id, share(count))).collect()
    }

    /// The point that follows one of the key's places most closely.
    fn nearest(&self, key: u64) -> Option<usize> {
        if self.points.is_empty() {
            return None;
        }
        let probe = |number: u64| {
            let place = mix(key.wrapping_add(number.wrapping_mul(0xa076_1d64_78bd_642f)));
            let at = self.points.partition_point(|(point, _)| *point < place);
            let at = if at == self.points.len() { 0 } else { at };
            (self.points[at].0.wrapping_sub(place), at)
        };
        (0..PROBES).map(probe).min().map(|(_, at)| at)
    }
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014): spreads numbers over all 2^64.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    const KEYS: u64 = 60_000;

    fn ring(ids: impl IntoIterator<Item = u64>) -> Ring {
        let zone = |id: u64| (id % 3).to_string();
        Ring::new(ids.into_iter().map(|id| RingBroker { id: BrokerId(id), zone: zone(id) }))
    }

    fn loads(ring: &Ring) -> BTreeMap<BrokerId, u64> {
        let mut loads = BTreeMap::new();
        for key in 0..KEYS {
            *loads.entry(ring.owner(mix(key)).expect("there are brokers")).or_default() += 1;
        }
        loads
    }

    /// The most loaded of ten has at most 1.15 of the mean, whoever the ten are.
    #[test]
    fn load_is_balanced() {
        for seed in 0..12 {
            let loads = loads(&ring((0..10).map(|number| mix(seed * 100 + number))));
            assert_eq!(loads.len(), 10);
            let most = *loads.values().max().expect("ten") as f64;
            let mean = KEYS as f64 / 10.0;
            assert!(most / mean <= 1.15, "ten of seed {seed}: {}", most / mean);
        }
    }

    /// One that comes gets its share from the others, and nothing moves between them.
    #[test]
    fn who_comes_or_goes_moves_only_its_own() {
        for seed in 0..3 {
            let ids: Vec<u64> = (0..10).map(|number| mix(seed * 77 + number)).collect();
            let (before, after) = (ring(ids[..9].iter().copied()), ring(ids.iter().copied()));
            let mut moved = 0;
            for key in (0..KEYS).map(mix) {
                let (old, new) = (before.owner(key), after.owner(key));
                if old != new {
                    assert_eq!(new, Some(BrokerId(ids[9])), "moved between others");
                    moved += 1;
                }
            }
            let limit = KEYS as f64 * 1.2 / 10.0;
            assert!((moved as f64) < limit, "seed {seed}: {moved} of {KEYS} moved");
        }
    }

    #[test]
    fn owners_are_different_and_stand_in_different_zones() {
        let ring = ring(0..7);
        for key in (0..1_000).map(mix) {
            let three = ring.owners(key, 3);
            assert_eq!(three[0], ring.owner(key).expect("there are brokers"));
            let zones: BTreeSet<u64> = three.iter().map(|id| id.0 % 3).collect();
            assert_eq!(zones.len(), 3, "{three:?}");
            let all: BTreeSet<BrokerId> = ring.owners(key, 99).into_iter().collect();
            assert_eq!(all.len(), 7);
        }
    }

    #[test]
    fn order_does_not_matter_and_nobody_is_nobody() {
        assert_eq!(ring([3, 1, 2, 1]), ring([1, 2, 3]));
        assert_eq!(Ring::default().owner(1), None);
        assert!(Ring::default().owners(1, 3).is_empty());
        let shares: f64 = ring(0..5).shares().iter().map(|(_, share)| share).sum();
        assert!((shares - 1.0).abs() < 1e-9);
    }
}
