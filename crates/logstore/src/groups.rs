//! A set of groups of one block.

/// Which of `len` groups are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSet {
    bits: Vec<u64>,
    len: usize,
}

impl GroupSet {
    /// None of them.
    pub fn none(len: usize) -> Self {
        GroupSet { bits: vec![0; len.div_ceil(64)], len }
    }

    /// All of them.
    pub fn all(len: usize) -> Self {
        let mut set = GroupSet { bits: vec![u64::MAX; len.div_ceil(64)], len };
        if let Some(last) = set.bits.last_mut().filter(|_| !len.is_multiple_of(64)) {
            *last = (1 << (len % 64)) - 1;
        }
        set
    }

    /// How many there are to choose from.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is in it.
    pub fn is_empty(&self) -> bool {
        self.bits.iter().all(|bits| *bits == 0)
    }

    /// How many are in it.
    pub fn count(&self) -> usize {
        self.bits.iter().map(|bits| bits.count_ones() as usize).sum()
    }

    /// Whether `group` is in it.
    pub fn contains(&self, group: usize) -> bool {
        group < self.len && self.bits[group / 64] >> (group % 64) & 1 == 1
    }

    /// Puts `group` in.
    ///
    /// # Panics
    /// There are not that many.
    pub fn insert(&mut self, group: usize) {
        assert!(group < self.len, "there are {} groups", self.len);
        self.bits[group / 64] |= 1 << (group % 64);
    }

    /// Takes `group` out.
    pub fn remove(&mut self, group: usize) {
        if group < self.len {
            self.bits[group / 64] &= !(1 << (group % 64));
        }
    }

    /// Keeps those that are in both.
    pub fn intersect(&mut self, other: &GroupSet) {
        self.bits.iter_mut().zip(&other.bits).for_each(|(bits, other)| *bits &= other);
    }

    /// Adds those of the other.
    pub fn unite(&mut self, other: &GroupSet) {
        self.bits.iter_mut().zip(&other.bits).for_each(|(bits, other)| *bits |= other);
    }

    /// Those in it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.bits.iter().enumerate().flat_map(|(word, bits)| {
            let mut bits = *bits;
            std::iter::from_fn(move || {
                let bit = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
                bits &= bits - 1;
                Some(word * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_was_put_in() {
        for len in [0, 1, 63, 64, 65, 200] {
            let (none, all) = (GroupSet::none(len), GroupSet::all(len));
            assert!(none.is_empty());
            assert_eq!(all.count(), len);
            assert!(all.iter().eq(0..len));
            let mut set = none;
            (0..len).step_by(3).for_each(|group| set.insert(group));
            assert!(set.iter().eq((0..len).step_by(3)));
            let mut both = all;
            both.intersect(&set);
            assert_eq!(both, set);
            both.remove(0);
            assert!(!both.contains(0) && !both.contains(len));
            both.unite(&set);
            assert_eq!(both, set);
        }
    }
}
