//! Damaged blocks: nothing panics, nothing false is read, and what is damaged is named.

use std::sync::Arc;

use blockstore::{BlockError, InMemory};
use proptest::prelude::*;

use super::model::{Found, Line, block_bytes, found, lines};
use crate::footer::Footer;
use crate::group_table::GroupTable;
use crate::page::{Packer, unpack_section};
use crate::{Entries, IndexCache, LogBlock, NsRange, Query, ReadError, Source, count};

/// All that can be asked of a block.
fn read_all(bytes: Vec<u8>) -> Result<(Vec<Found>, Vec<Found>, u64), BlockError> {
    let of_source = |fault: ReadError| fault.error;
    let block = Arc::new(LogBlock::open(Arc::new(InMemory(bytes)), &IndexCache::new(0))?);
    let source = || vec![Source::block(Arc::clone(&block))];
    let all = || Query::new(Vec::new(), NsRange::all());
    let read = |query: Query| {
        let mut entries = Entries::new(query, source()).map_err(of_source)?;
        let mut found_all = Vec::new();
        while let Some(entry) = entries.next_entry().map_err(of_source)? {
            // Bytes of a line may be anything where checksums are made to fit.
            if std::str::from_utf8(entry.line).is_ok() {
                found_all.push(found(&entry));
            }
        }
        Ok::<_, BlockError>(found_all)
    };
    let needle = all().with_needle(b"92f3577b34da6a3ce929d0e0").with_field("took", "3");
    let (lines, searched) = (read(all())?, read(needle)?);
    let mut counted = 0_u64;
    count(&all(), source(), &mut |_, _| true, &mut |count| {
        counted = counted.wrapping_add(count.lines);
    })
    .map_err(of_source)?;
    Ok((lines, searched, counted))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_byte_is_noticed_wherever_it_is(
        lines in lines(30),
        group_bytes in 1_usize..300,
        places in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..=255), 1..8),
    ) {
        let bytes = block_bytes(&lines, group_bytes);
        let whole = read_all(bytes.clone()).expect("nothing is damaged");
        for (at, change) in places {
            let mut damaged = bytes.clone();
            damaged[at.index(bytes.len())] ^= change;
            // What is not read, such as filters of other hashes, may be damaged unnoticed.
            if let Ok(read) = read_all(damaged) {
                prop_assert_eq!(&read, &whole);
            }
        }
    }

    #[test]
    fn a_cut_block_is_not_opened(lines in lines(20), cut in any::<prop::sample::Index>()) {
        let mut bytes = block_bytes(&lines, 50);
        bytes.truncate(cut.index(bytes.len()));
        let is_corrupt = matches!(read_all(bytes), Err(BlockError::Corrupt { .. }));
        prop_assert!(is_corrupt);
    }

    #[test]
    fn content_whose_checksums_fit_never_panics(
        lines in lines(30),
        group_bytes in 1_usize..300,
        part in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let bytes = block_bytes(&lines, group_bytes);
        let _ = read_all(resealed(&bytes, part, &changes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn templates_whose_checksums_fit_never_panic(
        part in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let line = |n: i64| Line {
            stream: 0,
            timestamp_ns: n,
            text: format!("took={}ms user={} done", n * 7_919 % 1_000, n * 104_729 % 5_000),
            metadata: Vec::new(),
        };
        let lines: Vec<Line> = (0..200).map(line).collect();
        let bytes = block_bytes(&lines, 1 << 20);
        let block = super::model::opened(bytes.clone());
        let kind = block.group(0).pages[2].kind;
        prop_assert_eq!(kind, crate::group_table::PageKind::Templates);
        let _ = read_all(resealed(&bytes, part, &changes));
    }
}

type Changes<'a> = &'a [(prop::sample::Index, u8)];

fn change(raw: &mut [u8], changes: Changes<'_>) {
    for (at, byte) in changes {
        if !raw.is_empty() {
            let at = at.index(raw.len());
            raw[at] = *byte;
        }
    }
}

/// The block with one of its parts changed before it was compressed and checksummed.
fn resealed(bytes: &[u8], part: prop::sample::Index, changes: Changes<'_>) -> Vec<u8> {
    let file = InMemory(bytes.to_vec());
    let footer = Footer::read(&file).expect("it was written so");
    let section = |s: &crate::footer::Section| s.read(&file, "section").expect("as written");
    let table = unpack_section(&section(&footer.table)).expect("as written");
    let pages = 8..footer.counters.offset;
    let counters = footer.counters.offset..footer.counters.end();
    let mut groups =
        GroupTable::decode(&table, footer.streams, pages, counters).expect("as written");
    let mut packer = Packer::new(1);
    let count: usize = groups.groups.iter().map(|group| group.pages.len() + 1).sum();
    let chosen = part.index(count + 3);
    let (mut out, mut of_counters) = (bytes[..8].to_vec(), Vec::new());
    let mut number = 0;
    for group in &mut groups.groups {
        for page in &mut group.pages {
            let mut raw = page.page.read(&file, "page").expect("as written");
            if number == chosen {
                change(&mut raw, changes);
            }
            number += 1;
            page.page = packer.put(&raw, &mut out);
        }
        let mut raw = group.counters.read(&file, "counters").expect("as written");
        if number == chosen {
            change(&mut raw, changes);
        }
        number += 1;
        group.counters = packer.put(&raw, &mut of_counters);
    }
    let mut table = Vec::new();
    groups.encode(&mut table);
    if chosen == count {
        change(&mut table, changes);
    }
    let mut skip = unpack_section(&section(&footer.skip)).expect("as written");
    if chosen == count + 1 {
        change(&mut skip, changes);
    }
    let mut index = section(&footer.labels);
    if chosen == count + 2 {
        change(&mut index, changes);
    }
    let put = |out: &mut Vec<u8>, bytes: &[u8]| {
        let (offset, len) = (out.len() as u64, bytes.len() as u64);
        out.extend_from_slice(bytes);
        crate::footer::Section { offset, len, checksum: codec::checksum(bytes) }
    };
    let packed = |raw: &[u8], packer: &mut Packer| {
        let mut section = Vec::new();
        packer.put_section(raw, &mut section);
        section
    };
    let resealed = Footer {
        counters: put(&mut out, &of_counters),
        filters: put(&mut out, &section(&footer.filters)),
        labels: put(&mut out, &index),
        table: put(&mut out, &packed(&table, &mut packer)),
        skip: put(&mut out, &packed(&skip, &mut packer)),
        ..footer
    };
    out.extend_from_slice(&resealed.encode());
    out
}

#[test]
fn what_is_damaged_is_named() {
    let line = |n: i64| Line {
        stream: 0,
        timestamp_ns: n,
        text: format!("line {n}"),
        metadata: vec![("took".to_owned(), n.to_string())],
    };
    let lines: Vec<Line> = (0..50).map(line).collect();
    let bytes = block_bytes(&lines, 1 << 20);
    let footer = Footer::read(&InMemory(bytes.clone())).expect("it was written so");
    let end = bytes.len() as u64;
    for (at, what) in [
        (0, "header"),
        (8, "timestamps"),
        (footer.counters.offset, "counters"),
        (footer.labels.offset, "label index"),
        (footer.table.offset, "group table"),
        (footer.skip.offset, "skip index"),
        (end - 100, "footer"),
        (end - 1, "footer"),
    ] {
        let mut damaged = bytes.clone();
        damaged[at as usize] ^= 0x40;
        let error = read_all(damaged).expect_err("it is damaged").to_string();
        assert!(error.contains(what), "{what}: {error}");
    }
    for version in [1, 3] {
        let mut other = footer.encode();
        other[143] = version;
        let sum = codec::checksum(&other[..144]);
        other[144..148].copy_from_slice(&sum.to_le_bytes());
        let other = [&bytes[..bytes.len() - other.len()], &other].concat();
        let error = read_all(other).expect_err("of another version");
        assert!(matches!(error, BlockError::Version { found, supported: 2 } if found == version));
    }
}
