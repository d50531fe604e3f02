//! Union, intersection and difference of strictly ascending lists.

/// Numbers that are tried one by one before steps are doubled.
const NEAR: usize = 4;

/// Puts `list`, which consists of ascending parts without common numbers, in ascending order.
/// All numbers are below `bound`.
pub(crate) fn settle(list: &mut Vec<u32>, bound: usize) {
    if list.is_sorted() {
        return;
    }
    // A bitmap takes one pass over its words and one over the list; sorting takes one pass per
    // doubling of the parts. The bitmap loses only if most of its words are empty.
    if list.len() < bound / 64 {
        // Stable on purpose: it merges the parts instead of sorting their members.
        list.sort();
        return;
    }
    let mut words = vec![0_u64; bound.div_ceil(64)];
    for &number in &*list {
        words[number as usize / 64] |= 1 << (number % 64);
    }
    list.clear();
    for (index, mut word) in words.into_iter().enumerate() {
        while word != 0 {
            list.push(index as u32 * 64 + word.trailing_zeros());
            word &= word - 1;
        }
    }
}

/// Keeps of `list` what `other` has, too.
pub(crate) fn intersect(list: &mut Vec<u32>, other: &[u32]) {
    walk(list, other, true);
}

/// Removes from `list` what `other` has.
pub(crate) fn subtract(list: &mut Vec<u32>, other: &[u32]) {
    walk(list, other, false);
}

fn walk(list: &mut Vec<u32>, other: &[u32], keep_common: bool) {
    let mut rest = other;
    list.retain(|&number| {
        rest = skip_below(rest, number);
        (rest.first() == Some(&number)) == keep_common
    });
}

/// Whether a number is in both lists.
pub(crate) fn intersects(mut a: &[u32], mut b: &[u32]) -> bool {
    while let (Some(&left), Some(&right)) = (a.first(), b.first()) {
        if left == right {
            return true;
        }
        a = skip_below(a, right);
        b = skip_below(b, left);
    }
    false
}

/// The part of `list` that starts at the first number not below `bound`. Near places are found by
/// stepping, far ones by doubling the step: `O(log distance)`.
#[inline]
fn skip_below(list: &[u32], bound: u32) -> &[u32] {
    // Fast path: in lists of like density the place is one of the next.
    for start in 0..NEAR {
        if list.get(start).is_none_or(|&number| number >= bound) {
            return &list[start.min(list.len())..];
        }
    }
    let (mut start, mut step) = (NEAR, NEAR);
    while list.get(start + step - 1).is_some_and(|&number| number < bound) {
        start += step;
        step *= 2;
    }
    let end = (start + step - 1).min(list.len());
    let within = list[start..end].partition_point(|&number| number < bound);
    &list[start + within..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn set(bound: u32) -> impl Strategy<Value = BTreeSet<u32>> {
        prop_oneof![
            proptest::collection::btree_set(0..bound, 0..10),
            proptest::collection::btree_set(0..bound, 0..300),
        ]
    }

    proptest! {
        #[test]
        fn sets_are_those_of_the_standard_library(
            a in set(1_000), b in set(1_000), bound in 1_000_usize..50_000,
        ) {
            let list: Vec<u32> = a.iter().copied().collect();
            let other: Vec<u32> = b.iter().copied().collect();
            let mut common = list.clone();
            intersect(&mut common, &other);
            prop_assert_eq!(&common, &a.intersection(&b).copied().collect::<Vec<_>>());
            let mut only = list.clone();
            subtract(&mut only, &other);
            prop_assert_eq!(&only, &a.difference(&b).copied().collect::<Vec<_>>());
            prop_assert_eq!(intersects(&list, &other), !common.is_empty());
            let mut parts = [common, only].concat();
            settle(&mut parts, bound);
            prop_assert_eq!(parts, list);
        }
    }
}
