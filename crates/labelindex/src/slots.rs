//! Slots of a head's index by ordinal.

use hashbrown::HashTable;

/// Stands for no slot.
const NONE: u32 = u32::MAX;
/// While there is a series for so many ordinals, slots are a list by ordinal: that takes 4 bytes for
/// each, where a hash table takes 6 to 11 for each series.
const DENSE_ORDINALS: usize = 2;
/// So many ordinals are always few.
const FEW: usize = 1_024;

/// Slots by ordinal. Ordinals are shared by the indexes of all tenants, so one may have most of
/// them, or few that are far apart.
pub(crate) struct Slots {
    kind: Kind,
    len: usize,
}

enum Kind {
    /// By ordinal.
    Dense(Vec<u32>),
    /// Hashed by their ordinals, which the index knows.
    Sparse(HashTable<u32>),
}

impl Slots {
    pub(crate) fn new() -> Self {
        Slots { kind: Kind::Dense(Vec::new()), len: 0 }
    }

    /// Number of ordinals that have a slot.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The slot of `ordinal`. `ordinals` has the ordinal of each slot.
    #[inline]
    pub(crate) fn get(&self, ordinal: u32, ordinals: &[u32]) -> Option<u32> {
        match &self.kind {
            Kind::Dense(slots) => slots.get(ordinal as usize).copied().filter(|slot| *slot != NONE),
            Kind::Sparse(slots) => {
                slots.find(hash(ordinal), |&slot| ordinals[slot as usize] == ordinal).copied()
            }
        }
    }

    /// Gives `ordinal`, which has none, a slot; `ordinals` says so already.
    pub(crate) fn insert(&mut self, ordinal: u32, slot: u32, ordinals: &[u32]) {
        self.len += 1;
        let room = FEW.max(self.len * DENSE_ORDINALS);
        match &mut self.kind {
            Kind::Dense(slots) if (ordinal as usize) < room => {
                let place = ordinal as usize;
                if slots.len() <= place {
                    if slots.capacity() <= place {
                        slots.reserve_exact(place + 1 + place / 8 - slots.len());
                    }
                    slots.resize(place + 1, NONE);
                }
                slots[place] = slot;
            }
            Kind::Dense(slots) => {
                let known = slots.iter().filter(|slot| **slot != NONE);
                let mut sparse = HashTable::with_capacity(self.len);
                for &slot in known.chain([&slot]) {
                    let hash_of = |&slot: &u32| hash(ordinals[slot as usize]);
                    sparse.insert_unique(hash_of(&slot), slot, hash_of);
                }
                self.kind = Kind::Sparse(sparse);
            }
            Kind::Sparse(slots) => {
                let must_grow = slots.len() == slots.capacity();
                slots.insert_unique(hash(ordinal), slot, |&slot| hash(ordinals[slot as usize]));
                // What is copied anyway may turn out to be dense by now.
                if must_grow {
                    self.become_dense(ordinals);
                }
            }
        }
    }

    fn become_dense(&mut self, ordinals: &[u32]) {
        let Kind::Sparse(slots) = &self.kind else { return };
        let highest = slots.iter().map(|&slot| ordinals[slot as usize]).max().unwrap_or(0);
        // Well below the bound, so that the next does not turn it back.
        if highest as usize >= self.len * DENSE_ORDINALS * 3 / 4 {
            return;
        }
        let mut dense = vec![NONE; highest as usize + 1];
        for &slot in slots {
            dense[ordinals[slot as usize] as usize] = slot;
        }
        self.kind = Kind::Dense(dense);
    }

    /// Takes the slot of `ordinal` away and yields it.
    pub(crate) fn remove(&mut self, ordinal: u32, ordinals: &[u32]) -> Option<u32> {
        let removed = match &mut self.kind {
            Kind::Dense(slots) => {
                let slot = slots.get_mut(ordinal as usize)?;
                Some(std::mem::replace(slot, NONE)).filter(|slot| *slot != NONE)
            }
            Kind::Sparse(slots) => {
                let is_it = |&slot: &u32| ordinals[slot as usize] == ordinal;
                slots.find_entry(hash(ordinal), is_it).ok().map(|found| found.remove().0)
            }
        };
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// Bytes of memory held.
    pub(crate) fn bytes(&self) -> usize {
        match &self.kind {
            Kind::Dense(slots) => slots.capacity() * size_of::<u32>(),
            Kind::Sparse(slots) => slots.allocation_size(),
        }
    }
}

/// Ordinals are dense, so their low bits alone spread them evenly; the high bits, by which the
/// table tells apart what it finds, come from the product.
fn hash(ordinal: u32) -> u64 {
    u64::from(ordinal).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn slots_are_those_of_a_map(
            steps in proptest::collection::vec((0_u32..20_000, 1_u32..900, 0_u32..9), 1..60),
        ) {
            let (mut slots, mut ordinals) = (Slots::new(), Vec::new());
            let mut model = BTreeMap::new();
            for (start, len, action) in steps {
                // Some runs make the ordinals dense, others leave them apart.
                let start = if action > 4 { start % 2_000 } else { start };
                for ordinal in start..start + len {
                    let known = slots.get(ordinal, &ordinals);
                    prop_assert_eq!(known, model.get(&ordinal).copied());
                    if action == 0 || known.is_some() {
                        prop_assert_eq!(slots.remove(ordinal, &ordinals), model.remove(&ordinal));
                    } else {
                        let slot = ordinals.len() as u32;
                        ordinals.push(ordinal);
                        slots.insert(ordinal, slot, &ordinals);
                        model.insert(ordinal, slot);
                    }
                }
                prop_assert_eq!(slots.len(), model.len());
            }
            for (&ordinal, &slot) in &model {
                prop_assert_eq!(slots.get(ordinal, &ordinals), Some(slot));
            }
        }
    }
}
