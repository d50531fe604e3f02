//! The series of a tenant in ascending order of labels, kept from one flush or query to the next.
//!
//! Sorting by labels costs a hundred comparisons of strings per series; sorting by rank costs one
//! of integers. A new series is put in its place by binary search when the order is next needed.

use std::collections::BTreeMap;

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

impl Orders {
    /// Puts `fresh` ordinals of a tenant in their places and renews its ranks.
    pub(super) fn insert(
        &mut self,
        tenant: TenantId,
        fresh: &[u32],
        labels_of: impl Fn(u32) -> Labels,
    ) {
        let sorted = self.sorted.entry(tenant).or_default();
        let mut keyed: Vec<(Labels, u32)> =
            fresh.iter().map(|&ordinal| (labels_of(ordinal), ordinal)).collect();
        keyed.sort_unstable();
        let mut merged = Vec::with_capacity(sorted.len() + keyed.len());
        let mut rest = sorted.as_slice();
        for (labels, ordinal) in keyed {
            let (before, after) = rest.split_at(rest.partition_point(|&o| labels_of(o) < labels));
            merged.extend_from_slice(before);
            merged.push(ordinal);
            rest = after;
        }
        merged.extend_from_slice(rest);
        for (rank, &ordinal) in (0..).zip(&merged) {
            self.ranks.set(ordinal, rank);
        }
        *sorted = merged;
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
