//! Segments: what is read is what was added, every damage is noticed, and the bytes stay.

use blockstore::{SegmentError, SegmentName, SegmentWriter, read_segment};
use bytes::Bytes;
use catalog::{BrokerId, Signal};
use model::TenantId;
use proptest::prelude::*;

/// More than anything here takes.
const MAX: u64 = 1 << 20;
const NAME: SegmentName = SegmentName { broker: BrokerId(0xab), epoch: 3, seq: 17 };

fn sealed(batches: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut writer = SegmentWriter::new();
    for (number, (tenant, payload)) in batches.iter().enumerate() {
        assert_eq!(writer.add(TenantId(*tenant), Signal::Metrics, payload) as usize, number);
    }
    assert_eq!(writer.batches() as usize, batches.len());
    writer.seal(NAME)
}

/// One batch of one tenant, none of another, and two more around it.
fn sample() -> Vec<(u32, Vec<u8>)> {
    let long = b"the same again and again, ".repeat(20);
    vec![(7, b"first".to_vec()), (0, Vec::new()), (0, long), (7, b"last".to_vec())]
}

#[test]
fn batches_come_back_in_their_order() {
    let found = read_segment(&sealed(&sample()), NAME, MAX).expect("it was just written");
    let found: Vec<(u32, u32, Bytes)> =
        found.into_iter().map(|batch| (batch.number, batch.tenant.0, batch.payload)).collect();
    let expected: Vec<(u32, u32, Bytes)> = sample()
        .into_iter()
        .zip(0..)
        .filter(|((_, payload), _)| !payload.is_empty())
        .map(|((tenant, payload), number)| (number, tenant, payload.into()))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(read_segment(&sealed(&[]), NAME, MAX), Ok(Vec::new()));
}

#[test]
fn another_segment_is_not_taken_for_it() {
    let bytes = sealed(&sample());
    for other in [
        SegmentName { broker: BrokerId(0xac), ..NAME },
        SegmentName { epoch: 4, ..NAME },
        SegmentName { seq: 16, ..NAME },
    ] {
        let error = read_segment(&bytes, other, MAX).expect_err("another name");
        assert_eq!(error, SegmentError::Corrupt { offset: 16, detail: "it is another segment" });
    }
    let mut newer = bytes;
    newer[8] = 2;
    assert_eq!(read_segment(&newer, NAME, MAX), Err(SegmentError::Version { found: 2 }));
}

#[test]
fn what_unpacks_to_more_than_is_wanted_is_refused() {
    let bytes = sealed(&[(1, vec![0; 5_000]), (2, vec![0; 5_000])]);
    assert!(read_segment(&bytes, NAME, 10_100).is_ok());
    let error = read_segment(&bytes, NAME, 9_999).expect_err("too much");
    assert!(error.to_string().contains("more than a segment may hold"), "{error}");
}

#[test]
fn a_part_is_not_taken_for_the_whole_and_every_flipped_bit_is_noticed() {
    let bytes = sealed(&sample());
    for len in 0..bytes.len() {
        assert!(read_segment(&bytes[..len], NAME, MAX).is_err(), "cut at {len}");
    }
    for at in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[at / 8] ^= 1 << (at % 8);
        assert!(read_segment(&damaged, NAME, MAX).is_err(), "bit {at}");
    }
}

/// The bytes of version 1, which a later version must still read. `UPDATE_EXPECT=1` writes them.
#[test]
fn the_bytes_stay() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/segment.v1");
    let bytes = sealed(&sample());
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, &bytes).expect("the golden file is written");
    }
    let golden = std::fs::read(path).expect("there is a golden file");
    // What zstd makes of a section may change with its version, and is read all the same.
    assert_eq!(read_segment(&golden, NAME, MAX), read_segment(&bytes, NAME, MAX));
    assert_eq!(golden[..40], bytes[..40]);
}

proptest! {
    #[test]
    fn any_batches_come_back(batches in prop::collection::vec(
        (0_u32..4, prop::collection::vec(any::<u8>(), 0..300)), 0..40)) {
        let found = read_segment(&sealed(&batches), NAME, MAX).expect("it was just written");
        let found: Vec<(u32, u32, Vec<u8>)> = found.into_iter()
            .map(|batch| (batch.number, batch.tenant.0, batch.payload.to_vec())).collect();
        let expected: Vec<(u32, u32, Vec<u8>)> = batches.into_iter().zip(0..)
            .filter(|((_, payload), _)| !payload.is_empty())
            .map(|((tenant, payload), number)| (number, tenant, payload)).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn any_bytes_are_an_error_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(read_segment(&bytes, NAME, MAX).is_err());
    }
}
