//! The series of a tenant in ascending order of labels, kept from one flush or query to the next.
//!
//! Sorting by labels costs a hundred comparisons of strings per series; sorting by rank costs one
//! of integers. A new series is put in its place by binary search when the order is next needed.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BinaryHeap};

use model::{Labels, TenantId};

/// The orders of all tenants.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// Ordinals, ascending by labels.
    sorted: BTreeMap<TenantId, Vec<u32>>,
    pub(super) ranks: Ranks,
}

/// The rank of an ordinal that is in no order yet.
pub(super) const UNRANKED: u32 = u32::MAX;

/// Ranks by ordinal, for all tenants: ordinals of one tenant compare as their labels do.
#[derive(Debug, Default)]
pub(super) struct Ranks(Vec<u32>);

impl Ranks {
    /// Rank of an ordinal.
    #[inline]
    pub(super) fn of(&self, ordinal: u32) -> u32 {
        self.0.get(ordinal as usize).copied().unwrap_or(UNRANKED)
    }

    fn set(&mut self, ordinal: u32, rank: u32) {
        let place = ordinal as usize;
        if self.0.len() <= place {
            self.0.resize(place + 1, UNRANKED);
        }
        self.0[place] = rank;
    }
}

/// Ordinals whose labels are in memory at once while they are sorted: about 16 MiB.
const RUN_LEN: usize = 1 << 16;

impl Orders {
    /// The ordinals of a tenant, ascending by labels.
    pub(super) fn sorted(&self, tenant: TenantId) -> Vec<u32> {
        self.sorted.get(&tenant).cloned().unwrap_or_default()
    }

    /// Puts what [`with_fresh`] made in the place of a tenant's order and renews its ranks.
    pub(super) fn replace(&mut self, tenant: TenantId, sorted: Vec<u32>) {
        for (rank, &ordinal) in (0..).zip(&sorted) {
            self.ranks.set(ordinal, rank);
        }
        self.sorted.insert(tenant, sorted);
    }

    /// Number of ordinals of a tenant that are in order.
    pub(super) fn len(&self, tenant: TenantId) -> usize {
        self.sorted.get(&tenant).map_or(0, Vec::len)
    }

    /// Takes ordinals out; those that stay keep their ranks.
    pub(super) fn remove(&mut self, is_gone: impl Fn(u32) -> bool) {
        let Orders { sorted, ranks } = self;
        for ordinals in sorted.values_mut() {
            ordinals.retain(|&ordinal| {
                let gone = is_gone(ordinal);
                if gone {
                    ranks.set(ordinal, UNRANKED);
                }
                !gone
            });
        }
    }

    /// Bytes of memory held.
    pub(super) fn bytes(&self) -> usize {
        let sorted = self.sorted.values().map(Vec::capacity).sum::<usize>();
        (sorted + self.ranks.0.capacity()) * size_of::<u32>()
    }
}

/// Puts `fresh` ordinals in their places among those that are in order. A million of them takes
/// seconds.
pub(super) fn with_fresh(
    sorted: Vec<u32>,
    fresh: &[u32],
    labels_of: impl Fn(u32) -> Labels,
) -> Vec<u32> {
    if fresh.len() <= RUN_LEN {
        return insert_few(&sorted, sort_run(fresh, &labels_of), &labels_of);
    }
    let sort = |run| sort_run(run, &labels_of).into_iter().map(|(_, o)| o).collect();
    let mut runs: Vec<Vec<u32>> = fresh.chunks(RUN_LEN).map(sort).collect();
    runs.push(sorted);
    merge_runs(&runs, &labels_of)
}

fn sort_run(ordinals: &[u32], labels_of: &impl Fn(u32) -> Labels) -> Vec<(Labels, u32)> {
    let mut keyed: Vec<_> = ordinals.iter().map(|&ordinal| (labels_of(ordinal), ordinal)).collect();
    keyed.sort_unstable();
    keyed
}

/// Finds the place of each new ordinal by binary search.
fn insert_few(
    sorted: &[u32],
    fresh: Vec<(Labels, u32)>,
    labels_of: &impl Fn(u32) -> Labels,
) -> Vec<u32> {
    let mut merged = Vec::with_capacity(sorted.len() + fresh.len());
    let mut rest = sorted;
    for (labels, ordinal) in fresh {
        let (before, after) = rest.split_at(rest.partition_point(|&o| labels_of(o) < labels));
        merged.extend_from_slice(before);
        merged.push(ordinal);
        rest = after;
    }
    merged.extend_from_slice(rest);
    merged
}

/// Merges sorted runs; one label set of each is in memory.
fn merge_runs(runs: &[Vec<u32>], labels_of: &impl Fn(u32) -> Labels) -> Vec<u32> {
    let mut merged = Vec::with_capacity(runs.iter().map(Vec::len).sum());
    let mut rests: Vec<_> = runs.iter().map(|run| run.iter()).collect();
    let mut heads = BinaryHeap::new();
    for (run, rest) in rests.iter_mut().enumerate() {
        heads.extend(rest.next().map(|&ordinal| Reverse((labels_of(ordinal), ordinal, run))));
    }
    while let Some(mut head) = heads.peek_mut() {
        let Reverse((_, ordinal, run)) = *head;
        merged.push(ordinal);
        match rests[run].next() {
            Some(&next) => *head = Reverse((labels_of(next), next, run)),
            None => {
                PeekMut::pop(head);
            }
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::DEFAULT_TENANT;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn order_is_that_of_labels(
            steps in proptest::collection::vec(proptest::collection::vec(0_u32..400, 1..60), 1..6),
            gone in 0_u32..400,
        ) {
            // Labels in an order unlike that of ordinals.
            let labels_of = |ordinal: u32| {
                let value = (ordinal * 7_919 % 401).to_string();
                Labels::from_pairs([("a", value.as_str())]).expect("labels")
            };
            let mut orders = Orders::default();
            let mut all = std::collections::BTreeSet::new();
            for fresh in steps {
                let fresh: std::collections::BTreeSet<u32> =
                    fresh.into_iter().filter(|ordinal| !all.contains(ordinal)).collect();
                all.extend(&fresh);
                let fresh: Vec<u32> = fresh.into_iter().collect();
                let sorted = with_fresh(orders.sorted(DEFAULT_TENANT), &fresh, labels_of);
                orders.replace(DEFAULT_TENANT, sorted);
                let runs: Vec<Vec<u32>> = [&orders.sorted[&DEFAULT_TENANT][..], &[]]
                    .concat()
                    .chunks(7)
                    .map(<[u32]>::to_vec)
                    .collect();
                prop_assert_eq!(&merge_runs(&runs, &labels_of), &orders.sorted[&DEFAULT_TENANT]);
            }
            orders.remove(|ordinal| ordinal == gone);
            all.remove(&gone);
            prop_assert_eq!(orders.ranks.of(gone), UNRANKED);
            let mut by_rank: Vec<u32> = all.iter().copied().collect();
            by_rank.sort_by_key(|&ordinal| orders.ranks.of(ordinal));
            let mut by_labels: Vec<u32> = all.into_iter().collect();
            by_labels.sort_by_key(|&ordinal| labels_of(ordinal));
            prop_assert_eq!(by_rank, by_labels);
        }
    }
}
