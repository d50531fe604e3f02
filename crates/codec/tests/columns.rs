//! Columns against the naive twin: what went in comes out, bit for bit, and damage is an error.

use codec::{
    CodecError, decode_f64s, decode_f64s_at, decode_i64s, encode_f64s, encode_f64s_bytewise,
    encode_i64s,
};
use proptest::prelude::*;

/// Prometheus' stale marker: a NaN with a payload of its own.
const STALE: u64 = 0x7ff0_0000_0000_0002;

fn check_ints(values: &[i64]) -> usize {
    let mut out = vec![0xaa];
    encode_i64s(values, &mut out);
    let encoded = &out[1..];
    assert!(encoded.len() <= (8 * values.len() + 1).max(11), "raw is the ceiling");
    let mut input = encoded;
    let mut back = vec![42];
    decode_i64s(&mut input, values.len(), &mut back).expect("own bytes");
    assert!(input.is_empty(), "the column ends where it says");
    assert_eq!(&back[1..], values);
    encoded.len()
}

fn check_floats(values: &[f64]) -> usize {
    check_floats_by(encode_f64s_bytewise, values);
    check_floats_by(encode_f64s, values)
}

fn check_floats_by(encode: fn(&[f64], &mut Vec<u8>), values: &[f64]) -> usize {
    let mut out = vec![0xaa];
    encode(values, &mut out);
    let encoded = &out[1..];
    assert!(encoded.len() <= (8 * values.len() + 2).max(12), "raw is the ceiling");
    let mut input = encoded;
    let mut back = vec![42.0];
    decode_f64s(&mut input, values.len(), &mut back).expect("own bytes");
    assert!(input.is_empty(), "the column ends where it says");
    assert_eq!(bits(&back[1..]), bits(values));
    // Parts of it, around the edges of blocks too.
    let len = values.len();
    for (start, end) in [(0, len), (len / 3, 2 * len / 3), (len / 2, len), (1, 2), (127, 129)] {
        let places = start.min(len)..end.min(len);
        let mut part = vec![42.0];
        decode_f64s_at(&mut &encoded[..], len, places.clone(), &mut part).expect("own bytes");
        assert_eq!(bits(&part[1..]), bits(&values[places]));
    }
    encoded.len()
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Lengths around the edges of blocks, and any others.
fn len() -> impl Strategy<Value = usize> {
    prop_oneof![
        0_usize..1_000,
        prop_oneof![Just(1_usize), Just(2), Just(3), Just(127), Just(128), Just(129), Just(130)],
        prop_oneof![Just(255_usize), Just(256), Just(257), Just(258), Just(513)],
    ]
}

fn running_sum(steps: Vec<i64>, first: i64) -> Vec<i64> {
    steps
        .into_iter()
        .scan(first, |sum, step| {
            *sum = sum.wrapping_add(step);
            Some(*sum)
        })
        .collect()
}

fn int_column() -> impl Strategy<Value = Vec<i64>> {
    let of = |step: BoxedStrategy<i64>| {
        // Boxed, because the trees of a union lie on the stack, all arms of them.
        let steps = len().prop_flat_map(move |n| proptest::collection::vec(step.clone(), n));
        (steps.boxed(), any::<i64>())
    };
    prop_oneof![
        of(any::<i64>().boxed()).prop_map(|(values, _)| values),
        of((-3_i64..=3).boxed()).prop_map(|(steps, first)| running_sum(steps, first)),
        // Jittered scrape times: regular with a few ms of noise and a gap now and then.
        of(prop_oneof![20 => 14_995_i64..15_005, 1 => 15_000_i64..600_000].boxed())
            .prop_map(|(steps, _)| running_sum(steps, 1_790_000_000_000)),
        // Counters with resets.
        of(prop_oneof![50 => 0_i64..1_000, 1 => Just(i64::MIN / 3)].boxed())
            .prop_map(|(steps, _)| running_sum(steps, 0)),
        // Pages: multiples of a scale, and scales near the edges of 64 bits.
        of((-100_i64..100).boxed())
            .prop_map(|(steps, f)| running_sum(steps.iter().map(|s| s * 4_096).collect(), f)),
        (of((0_i64..4).boxed()), 0_u32..64).prop_map(|((values, first), shift)| {
            values.iter().map(|v| first.wrapping_add(v << shift)).collect()
        }),
        // Ramps: delta of delta.
        of((-1_i64..=1).boxed()).prop_map(|(steps, f)| running_sum(running_sum(steps, 1_000), f)),
    ]
}

fn float_column() -> impl Strategy<Value = Vec<f64>> {
    let of = |value: BoxedStrategy<f64>| {
        len().prop_flat_map(move |n| proptest::collection::vec(value.clone(), n)).boxed()
    };
    let special = prop_oneof![
        Just(f64::NAN),
        Just(f64::from_bits(STALE)),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(-0.0_f64),
        Just(f64::MIN_POSITIVE / 2.0),
        Just(f64::MAX),
        any::<u64>().prop_map(f64::from_bits),
    ];
    let with_specials =
        prop_oneof![20 => (0_i64..100_000).prop_map(|v| v as f64 / 1e3), 1 => special];
    prop_oneof![
        of(any::<u64>().prop_map(f64::from_bits).boxed()),
        of((0.0_f64..1.0).boxed()),
        of(with_specials.boxed()),
        (any::<u64>(), len()).prop_map(|(bits, n)| vec![f64::from_bits(bits); n]),
        (int_column().boxed(), 0_i32..5).prop_map(|(values, digits)| {
            values.iter().map(|v| (v >> 20) as f64 / 10_f64.powi(digits)).collect()
        }),
        int_column().boxed().prop_map(|values| values.iter().map(|&v| v as f64).collect()),
        // Single-precision sources leave 29 zero bits at the end.
        of(any::<f32>().prop_map(f64::from).boxed()),
    ]
}

proptest! {
    #[test]
    fn integers_survive(values in int_column()) {
        check_ints(&values);
    }

    #[test]
    fn floats_survive(values in float_column()) {
        check_floats(&values);
    }

    #[test]
    fn every_cut_is_an_error(values in int_column(), floats in float_column()) {
        let mut out = Vec::new();
        encode_i64s(&values, &mut out);
        let mut back = vec![1];
        for cut in (0..out.len()).rev().take(40) {
            let result = decode_i64s(&mut &out[..cut], values.len(), &mut back);
            let Err(CodecError::Truncated { offset, .. }) = result else {
                return Err(TestCaseError::fail(format!("{result:?} at {cut}")));
            };
            prop_assert!(offset <= cut);
            prop_assert_eq!(&back, &[1]);
        }
        out.clear();
        encode_f64s(&floats, &mut out);
        let mut back = vec![1.0];
        for cut in (0..out.len()).rev().take(40) {
            let error = decode_f64s(&mut &out[..cut], floats.len(), &mut back);
            prop_assert!(error.is_err());
            prop_assert_eq!(&back, &[1.0]);
        }
    }

    #[test]
    fn any_bytes_decode_or_fail(
        head in 0_u8..=0x60,
        second in 0_u8..16,
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        count in 0_usize..600,
    ) {
        let bytes = [&[head, second], &bytes[..]].concat();
        let (mut ints, mut floats) = (Vec::new(), Vec::new());
        match decode_i64s(&mut &bytes[1..], count, &mut ints) {
            Ok(()) => prop_assert_eq!(ints.len(), count),
            Err(_) => prop_assert!(ints.is_empty()),
        }
        let _ = decode_f64s_at(&mut &bytes[..], count, count / 3..count, &mut Vec::new());
        match decode_f64s(&mut &bytes[..], count, &mut floats) {
            Ok(()) => prop_assert_eq!(floats.len(), count),
            Err(_) => prop_assert!(floats.is_empty()),
        }
        prop_assert!(ints.capacity() <= count.max(4) && floats.capacity() <= count.max(4));
    }

    #[test]
    fn flipped_bits_decode_or_fail(floats in float_column(), flips in proptest::collection::vec(any::<(u16, u8)>(), 1..4)) {
        let mut out = Vec::new();
        encode_f64s(&floats, &mut out);
        for (place, mask) in flips {
            let place = usize::from(place) % out.len().max(1);
            if let Some(byte) = out.get_mut(place) {
                *byte ^= mask;
            }
        }
        let mut back = Vec::new();
        if decode_f64s(&mut out.as_slice(), floats.len(), &mut back).is_ok() {
            prop_assert_eq!(back.len(), floats.len());
        }
    }
}

#[test]
fn typical_columns_are_small() {
    assert_eq!(check_ints(&[]), 0);
    assert_eq!(check_ints(&[0; 1_000]), 2);
    let times: Vec<i64> = (0..240).map(|i| 1_790_000_000_000 + 15_000 * i).collect();
    assert_eq!(check_ints(&times), 10);
    assert_eq!(check_floats(&[0.0; 240]), 3);
    assert_eq!(check_floats(&[f64::from_bits(STALE); 240]), 10);
    let cpu: Vec<f64> = (0..240).map(|i| f64::from(100_000 + 97 * i + i % 7) / 100.0).collect();
    assert!(check_floats(&cpu) < 140, "{}", check_floats(&cpu));
    let mut one_stale = cpu.clone();
    one_stale.push(f64::from_bits(STALE));
    assert!(check_floats(&one_stale) < 160, "{}", check_floats(&one_stale));
    let pages: Vec<f64> = (0..240).map(|i| f64::from(4_096 * (i * i % 100))).collect();
    assert!(check_floats(&pages) < 230, "{}", check_floats(&pages));
}

#[test]
fn counts_from_corrupt_headers_are_refused_before_allocating() {
    let mut out = Vec::new();
    encode_i64s(&[1; 3], &mut out);
    let error = decode_i64s(&mut out.as_slice(), usize::MAX, &mut Vec::new());
    assert_eq!(error, Err(CodecError::TooLong { count: usize::MAX, limit: codec::MAX_COLUMN_LEN }));
}

#[test]
fn wrong_modes_are_named_with_their_place() {
    let mut input = &[0x27, 0x17, 1][..];
    let error = decode_f64s(&mut input, 5, &mut Vec::new()).expect_err("mode 23 does not exist");
    assert_eq!(
        error.to_string(),
        "mode of an integer column is 23 at byte 2 of encoded data, which the format does not \
         allow; the page is corrupt and must be restored or quarantined"
    );
}
