//! Finding an id by any piece of it that is long enough, without a list of ids.
//!
//! Of a long token the hashes of some of its pieces of eight bytes are kept: of each nine neighbours the
//! least (winnowing: Schleimer, Wilkerson and Aiken, 2003). Whoever searches a piece of at least 16 bytes picks
//! of its neighbours the same way, and so picks only what was kept of a token it is a piece of: nothing is ever
//! missed, at the price of about a fifth of all pieces.

use crate::tokens::LONG;

const GRAM: usize = 8;
const WINDOW: usize = 9;
/// Of so many pieces the hashes are at hand: a window, in a number that is cheap to divide by.
const RING: usize = 16;
// A piece of `LONG` bytes has exactly one window.
const _: () = assert!(GRAM + WINDOW - 1 == LONG);

/// Two rounds of multiplication and shift, after SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn gram(bytes: &[u8]) -> u64 {
    mixed(u64::from_le_bytes(*bytes.first_chunk().expect("a gram has eight bytes")))
}

/// The hash by which a short token with a digit in it is kept, whole.
pub(crate) fn whole(token: &[u8]) -> u64 {
    debug_assert!(token.len() < LONG, "long tokens are kept by pieces");
    let mut bytes = [0; 16];
    bytes[..token.len()].copy_from_slice(token);
    // The length tells a token from one that goes on with zeros, and from a gram.
    bytes[15] = token.len() as u8;
    let [low, high] = [&bytes[..8], &bytes[8..]].map(gram);
    mixed(low.rotate_left(23) ^ high)
}

/// The hash by which a name with its value is kept.
pub(crate) fn field(name: &str, value: &str) -> u64 {
    let mut hash = mixed((name.len() as u64) << 32 ^ value.len() as u64);
    for chunk in name.as_bytes().chunks(8).chain(value.as_bytes().chunks(8)) {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        hash = mixed(hash.rotate_left(23) ^ u64::from_le_bytes(bytes));
    }
    // Told apart from hashes of tokens, which are of the same filters.
    mixed(hash ^ 0x5851_f42d_4c95_7f2d)
}

/// The hashes that are kept of a token, or of a piece of one, of at least [`LONG`] bytes; a hash may come again.
pub(crate) fn kept(token: &[u8], mut each: impl FnMut(u64)) {
    debug_assert!(token.len() >= LONG, "shorter ones are kept whole");
    let mut ring = [0_u64; RING];
    // The last of equal ones, so that a run of equal bytes is kept but a few times.
    let least_of = |ring: &[u64; RING], window: std::ops::RangeInclusive<usize>| {
        let (mut least, mut found) = (u64::MAX, *window.start());
        for at in window {
            if ring[at % RING] <= least {
                (least, found) = (ring[at % RING], at);
            }
        }
        found
    };
    for (at, place) in ring[..WINDOW].iter_mut().enumerate() {
        *place = gram(&token[at..]);
    }
    // What is least is small; a filter wants hashes of any size.
    let mut keep = |hash: u64| each(mixed(hash.rotate_left(32)));
    let mut least = least_of(&ring, 0..=WINDOW - 1);
    keep(ring[least % RING]);
    for at in WINDOW..=token.len() - GRAM {
        let hash = gram(&token[at..]);
        ring[at % RING] = hash;
        if hash <= ring[least % RING] {
            least = at;
        } else if at - least == WINDOW {
            least = least_of(&ring, at + 1 - WINDOW..=at);
        } else {
            // Fast path: the least one is still in the window, and still the least.
            continue;
        }
        keep(ring[least % RING]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn all(token: &[u8]) -> BTreeSet<u64> {
        let mut hashes = BTreeSet::new();
        kept(token, |hash| _ = hashes.insert(hash));
        hashes
    }

    /// Each window looked at by itself.
    fn slowly(token: &[u8]) -> Vec<u64> {
        let hashes: Vec<u64> = token.windows(GRAM).map(gram).collect();
        let (mut found, mut last) = (Vec::new(), usize::MAX);
        for (first, window) in hashes.windows(WINDOW).enumerate() {
            let numbered = window.iter().enumerate();
            let least = numbered.min_by_key(|(at, hash)| (**hash, usize::MAX - at));
            let (at, hash) = least.expect("a window is not empty");
            if first + at != last {
                last = first + at;
                found.push(mixed(hash.rotate_left(32)));
            }
        }
        found
    }

    proptest! {
        #[test]
        fn the_least_of_each_window_is_kept(
            token in prop_oneof![
                prop::collection::vec(b'a'..=b'f', 16..90),
                prop::collection::vec(b'a'..=b'b', 16..90),
            ],
        ) {
            let mut found = Vec::new();
            kept(&token, |hash| found.push(hash));
            prop_assert_eq!(found, slowly(&token));
        }

        #[test]
        fn of_a_piece_nothing_is_picked_that_was_not_kept(
            token in prop::collection::vec(prop_oneof![4 => b'a'..=b'f', 1 => Just(b'-')], 16..90),
            from in 0_usize..90,
            len in 16_usize..90,
        ) {
            let from = from.min(token.len() - LONG);
            let piece = &token[from..(from + len).min(token.len())];
            prop_assert!(all(piece).is_subset(&all(&token)));
            prop_assert!(!all(piece).is_empty());
        }
    }

    #[test]
    fn about_a_fifth_of_the_pieces_is_kept() {
        let mut state = 7_u64;
        let token: Vec<u8> = std::iter::repeat_with(|| {
            state = mixed(state.wrapping_add(0x9e37_79b9_7f4a_7c15));
            b'a' + (state % 26) as u8
        })
        .take(10_000)
        .collect();
        let kept = all(&token).len();
        assert!((1_800..2_200).contains(&kept), "{kept}");
        assert!(all(&[b'0'; 4_000]).len() == 1);
    }

    #[test]
    fn whole_tokens_are_told_apart() {
        let tokens: [&[u8]; 6] = [b"1", b"10", b"1\0", b"2", b"123456789012345", b"12345678"];
        let hashes: BTreeSet<u64> = tokens.into_iter().map(whole).collect();
        assert_eq!(hashes.len(), tokens.len());
    }
}
