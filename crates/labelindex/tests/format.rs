//! The bytes of a block's index, and what happens when they are others.

use expect_test::{Expect, expect};
use labelindex::{BlockIndex, BlockIndexBuilder, IndexError, LabelIndex};
use model::{Labels, MatchOp, Matcher};
use proptest::prelude::*;

/// Where the header's own checksum stands, and where the first section begins.
const CHECKSUM_START: usize = 48;
const SECTIONS_START: usize = 52;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).expect("test labels are valid")
}

fn index(series: &[Labels]) -> Vec<u8> {
    let mut builder = BlockIndexBuilder::new(1);
    series.iter().for_each(|labels| builder.push(labels));
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    bytes
}

/// Few enough that no section is compressed.
fn small() -> Vec<u8> {
    index(&[
        labels(&[("__name__", "load")]),
        labels(&[("__name__", "up"), ("job", "a")]),
        labels(&[("__name__", "up"), ("job", "ab")]),
        labels(&[("__name__", "up"), ("zone", "b")]),
    ])
}

fn check(bytes: &[u8], expected: &Expect) {
    let rows = bytes.chunks(16).map(|row| {
        let hex: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String =
            row.iter().map(|b| if b.is_ascii_graphic() { *b as char } else { '.' }).collect();
        format!("{:<48}{text}\n", hex.join(" "))
    });
    expected.assert_eq(&rows.collect::<String>());
}

#[test]
fn bytes_are_as_drawn() {
    check(
        &small(),
        &expect![[r#"
        57 46 4c 49 01 00 00 00 04 00 00 00 2c 00 00 00 WFLI........,...
        2c 00 00 00 83 95 07 ea 16 00 00 00 16 00 00 00 ,...............
        93 24 76 d1 14 00 00 00 14 00 00 00 66 f2 bd d8 .$v.........f...
        48 5b a0 7b 03 00 08 5f 5f 6e 61 6d 65 5f 5f 00 H[.{...__name__.
        03 6a 6f 62 00 04 7a 6f 6e 65 02 02 01 00 04 6c .job..zone.....l
        6f 61 64 00 02 75 70 00 01 61 01 01 62 00 01 62 oad..up..a..b..b
        03 01 00 02 00 00 02 00 01 00 00 00 00 01 01 00 ................
        02 01 00 02 01 00 01 00 00 00 03 00 01 02 01 00 ................
        01 00 01 00 02 00 01 00 03 00                   ..........
    "#]],
    );
    check(
        &index(&[]),
        &expect![[r#"
        57 46 4c 49 01 00 00 00 00 00 00 00 01 00 00 00 WFLI............
        01 00 00 00 8d ef 02 d2 01 00 00 00 01 00 00 00 ................
        8d ef 02 d2 00 00 00 00 00 00 00 00 00 00 00 00 ................
        0d 17 fc 73 00 00                               ...s..
    "#]],
    );
}

#[test]
fn errors_name_place_and_remedy() {
    let check = |bytes: &[u8], expected: Expect| {
        let error = BlockIndex::open(bytes).err().expect("damaged").to_string();
        expected.assert_eq(&error.replace("; ", ";\n").replace(": ", ":\n"));
    };
    let mut flipped = small();
    flipped[60] ^= 1;
    check(
        &flipped,
        expect![[r#"
        label index is corrupt at byte 52:
        checksum of a section does not match;
        its block must be restored or quarantined"#]],
    );
    let mut newer = small();
    newer[4] = 2;
    reseal(&mut newer);
    check(
        &newer,
        expect![[r#"
        label index has version 2, this program reads up to 1:
        upgrade it"#]],
    );
    let found = BlockIndex::open(&newer).err();
    assert_eq!(found, Some(IndexError::Version { found: 2, supported: 1 }));
    let mut wrong_value = small();
    // The value of row 2, which its label has not.
    wrong_value[113] = 9;
    reseal(&mut wrong_value);
    check(
        &wrong_value,
        expect![[r#"
        label index is corrupt at byte 114:
        row has a value that its label has not;
        its block must be restored or quarantined"#]],
    );
    check(
        &small()[..10],
        expect![[r#"
        label index is corrupt at byte 0:
        fewer bytes than the header has;
        its block must be restored or quarantined"#]],
    );
}

/// Makes all checksums right again, as far as sections lie inside.
fn reseal(bytes: &mut [u8]) {
    let mut start = SECTIONS_START;
    for entry in (12..CHECKSUM_START).step_by(12) {
        let len = u32::from_le_bytes(*bytes[entry..].first_chunk().expect("inside the header"));
        if let Some(section) = bytes.get(start..start.saturating_add(len as usize)) {
            let sum = codec::checksum(section);
            bytes[entry + 8..entry + 12].copy_from_slice(&sum.to_le_bytes());
        }
        start = start.saturating_add(len as usize);
    }
    let sum = codec::checksum(&bytes[..CHECKSUM_START]);
    bytes[CHECKSUM_START..SECTIONS_START].copy_from_slice(&sum.to_le_bytes());
}

/// Asks for everything there is.
fn read_all(index: &BlockIndex) {
    for ordinal in 0..index.series_count() as u32 {
        let _ = index.labels(ordinal);
    }
    for (op, value) in [(MatchOp::Equal, ""), (MatchOp::Regex, "a.*"), (MatchOp::NotEqual, "up")] {
        let matchers = ["__name__", "job"]
            .map(|name| Matcher::new(name, op, value).expect("pattern compiles"));
        let _ = index.select(&matchers);
        let _ = index.label_names(&matchers);
        let _ = index.label_values("job", &matchers);
    }
}

proptest! {
    #[test]
    fn sealed_nonsense_is_refused_or_read(
        changes in proptest::collection::vec((0_usize..400, any::<u8>()), 1..4),
        cut in 0_usize..20,
    ) {
        let mut bytes = small();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - cut / 10);
        reseal(&mut bytes);
        if let Ok(index) = BlockIndex::open(&bytes) {
            read_all(&index);
        }
    }

    #[test]
    fn many_labels_survive(
        counts in proptest::collection::btree_set(0_usize..130, 1..12),
        changed in proptest::collection::vec(0_usize..130, 0..40),
    ) {
        // Beyond the 64th label, differences have no bit.
        let name = |n: usize| format!("label_{n:03}");
        let mut series: Vec<Labels> = counts
            .into_iter()
            .flat_map(|count| {
                let of_count = |change: Option<usize>| {
                    let pairs: Vec<_> = (0..count)
                        .map(|n| (name(n), if change == Some(n) { "z" } else { "a" }))
                        .collect();
                    labels(&pairs.iter().map(|(n, v)| (n.as_str(), *v)).collect::<Vec<_>>())
                };
                let changes = changed.iter().copied().map(Some).chain([None]);
                changes.map(of_count).collect::<Vec<_>>()
            })
            .collect();
        series.sort_unstable();
        series.dedup();
        let index = BlockIndex::open(&index(&series)).expect("own bytes");
        // Backwards, so that no read continues the one before.
        for (ordinal, labels) in series.iter().enumerate().rev() {
            prop_assert_eq!(&index.labels(ordinal as u32), labels);
        }
    }
}
