//! A set of series as bits.

/// One bit for each series between the first and the last.
#[derive(Debug, Clone, Default)]
pub(crate) struct SeriesBits {
    /// Words before the first one that is kept.
    skipped: usize,
    words: Vec<u64>,
}

impl SeriesBits {
    /// The set of `series`, which are ascending.
    pub(crate) fn of(series: &[u32]) -> Self {
        let (Some(&first), Some(&last)) = (series.first(), series.last()) else {
            return SeriesBits::default();
        };
        let skipped = first as usize / 64;
        let mut words = vec![0; last as usize / 64 - skipped + 1];
        for &one in series {
            words[one as usize / 64 - skipped] |= 1 << (one % 64);
        }
        SeriesBits { skipped, words }
    }

    /// Whether a set of so many series takes less as bits than as a list of 8 bytes each.
    pub(crate) fn is_smaller(series: &[u32]) -> bool {
        let (Some(&first), Some(&last)) = (series.first(), series.last()) else { return false };
        series.len() > (last - first) as usize / 64
    }

    /// Whether it has this one.
    #[inline]
    pub(crate) fn contains(&self, series: u32) -> bool {
        let word = (series as usize / 64).checked_sub(self.skipped);
        let word = word.and_then(|word| self.words.get(word));
        word.is_some_and(|word| word >> (series % 64) & 1 == 1)
    }

    /// Adds all of another set.
    pub(crate) fn add(&mut self, other: &SeriesBits) {
        if self.words.is_empty() {
            self.clone_from(other);
            return;
        }
        if other.skipped < self.skipped {
            let before = self.skipped - other.skipped;
            self.words.splice(0..0, std::iter::repeat_n(0, before));
            self.skipped = other.skipped;
        }
        let start = other.skipped - self.skipped;
        if self.words.len() < start + other.words.len() {
            self.words.resize(start + other.words.len(), 0);
        }
        for (own, word) in self.words[start..].iter_mut().zip(&other.words) {
            *own |= word;
        }
    }

    /// All, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(index, &word)| {
            let base = ((self.skipped + index) * 64) as u32;
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| base + bit)
        })
    }

    /// Bytes held.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.words.capacity() * 8
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_are_a_set(
            a in proptest::collection::btree_set(0_u32..700, 0..40),
            b in proptest::collection::btree_set(300_u32..2_000, 0..40),
        ) {
            let bits = |set: &BTreeSet<u32>| {
                SeriesBits::of(&set.iter().copied().collect::<Vec<_>>())
            };
            for (first, second) in [(&a, &b), (&b, &a)] {
                let mut both = bits(first);
                prop_assert!(both.iter().eq(first.iter().copied()));
                both.add(&bits(second));
                prop_assert!(both.iter().eq(a.union(&b).copied()));
                for series in 0..2_100 {
                    let expected = a.contains(&series) || b.contains(&series);
                    prop_assert_eq!(both.contains(series), expected);
                }
            }
        }
    }
}
