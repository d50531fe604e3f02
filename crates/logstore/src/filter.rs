//! Which groups may hold a hash: a Bloom filter per group, all of them side by side.
//!
//! A filter is a row of blocks of 32 bytes; a hash names one block and sets eight bits in it (split block
//! Bloom filters, as Parquet's format describes them). Whether any of a thousand groups may hold a hash takes
//! one block of each. So the blocks of the same number lie together: one read of 32 bytes per group answers
//! for all groups of the file, wherever they are.

use codec::varint::{put_u64, take_u64};
use codec::{CodecError, checksum};

use crate::groups::GroupSet;

/// What a filter takes for each hash: one in a hundred others is then taken for it.
const BITS_PER_HASH: usize = 10;
const BLOCK_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 4;
/// Largest filter, in blocks: 128 MiB, beyond which only a damaged header goes.
const MAX_BLOCKS: u64 = 1 << 22;
/// Most groups of a file.
pub(crate) const MAX_GROUPS: usize = 1 << 20;

/// Odd numbers of Parquet's specification.
const SALTS: [u32; 8] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

/// The bits of a hash in its block.
fn bits(hash: u64) -> [u32; 8] {
    SALTS.map(|salt| 1 << ((hash as u32).wrapping_mul(salt) >> 27))
}

/// Which block of `blocks` a hash is in.
fn block(hash: u64, blocks: u64) -> u64 {
    ((hash >> 32) * blocks) >> 32
}

/// Blocks for so many hashes, in steps of a quarter, so that groups of about one size share them.
fn blocks_for(hashes: usize) -> u64 {
    let exact = (hashes * BITS_PER_HASH).div_ceil(BLOCK_BYTES * 8) as u64;
    if exact < 4 {
        return exact;
    }
    let quarter = 1 << (exact.ilog2() - 2);
    exact.div_ceil(quarter) * quarter
}

/// Gathers the hashes of a file group by group.
#[derive(Debug, Default)]
pub(crate) struct FilterWriter {
    /// Blocks of the filter of each group, and its bytes.
    filters: Vec<(u64, Vec<[u32; 8]>)>,
}

impl FilterWriter {
    /// Adds the next group.
    pub(crate) fn push(&mut self, hashes: impl ExactSizeIterator<Item = u64>) {
        let blocks = blocks_for(hashes.len());
        let mut filter = vec![[0; 8]; blocks as usize];
        for hash in hashes {
            let block = &mut filter[block(hash, blocks) as usize];
            block.iter_mut().zip(bits(hash)).for_each(|(word, bit)| *word |= bit);
        }
        self.filters.push((blocks, filter));
    }

    /// Appends the rows to `rows` and what is needed to find them to `header`.
    pub(crate) fn finish(self, header: &mut Vec<u8>, rows: &mut Vec<u8>) {
        let mut sizes: Vec<u64> = self.filters.iter().map(|(blocks, _)| *blocks).collect();
        put_u64(header, sizes.len() as u64);
        sizes.iter().for_each(|blocks| put_u64(header, *blocks));
        sizes.sort_unstable();
        sizes.dedup();
        for size in sizes {
            for block in 0..size as usize {
                let start = rows.len();
                for (_, filter) in self.filters.iter().filter(|(blocks, _)| *blocks == size) {
                    rows.extend(filter[block].iter().flat_map(|word| word.to_le_bytes()));
                }
                let sum = checksum(&rows[start..]);
                rows.extend(sum.to_le_bytes());
            }
        }
    }
}

/// The groups whose filters have the same size.
#[derive(Debug)]
struct Class {
    blocks: u64,
    /// Where its rows begin.
    offset: u64,
    groups: Vec<u32>,
}

impl Class {
    fn row_bytes(&self) -> u64 {
        (self.groups.len() * BLOCK_BYTES + CHECKSUM_BYTES) as u64
    }
}

/// How the filters of a file lie.
#[derive(Debug)]
pub(crate) struct Filters {
    classes: Vec<Class>,
    groups: usize,
}

impl Filters {
    /// Reads the header from the front of `input`.
    ///
    /// # Errors
    /// It is damaged.
    pub(crate) fn take(input: &mut &[u8]) -> Result<Self, CodecError> {
        let groups = take_u64(input)?;
        // A group takes a byte at least.
        if groups > MAX_GROUPS as u64 || groups > input.len() as u64 {
            return Err(CodecError::Invalid { offset: 0, field: "groups", found: groups });
        }
        let mut sizes: Vec<(u64, u32)> = Vec::with_capacity(groups as usize);
        for group in 0..groups as u32 {
            let blocks = take_u64(input)?;
            if blocks > MAX_BLOCKS {
                return Err(CodecError::Invalid { offset: 0, field: "blocks", found: blocks });
            }
            sizes.push((blocks, group));
        }
        sizes.sort_unstable();
        let (mut classes, mut offset) = (Vec::new(), 0);
        for class in sizes.chunk_by(|a, b| a.0 == b.0) {
            let groups = class.iter().map(|(_, group)| *group).collect();
            let class = Class { blocks: class[0].0, offset, groups };
            offset += class.blocks * class.row_bytes();
            classes.push(class);
        }
        Ok(Filters { classes, groups: groups as usize })
    }

    /// How many groups there are.
    pub(crate) fn groups(&self) -> usize {
        self.groups
    }

    /// Bytes of all rows.
    pub(crate) fn row_bytes(&self) -> u64 {
        self.classes.iter().map(|class| class.blocks * class.row_bytes()).sum()
    }

    /// Removes the groups that do not hold `hash` from `may`; of filters of which none is in question nothing is read.
    /// `read` gets an offset among the rows and what to fill.
    ///
    /// # Errors
    /// Those of `read`; a row is damaged.
    pub(crate) fn narrow<E: From<CodecError>>(
        &self,
        hash: u64,
        may: &mut GroupSet,
        mut read: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut found = GroupSet::none(self.groups);
        let wanted = bits(hash);
        let mut row = Vec::new();
        // A group without hashes has no blocks and holds none.
        for class in self.classes.iter().filter(|class| class.blocks > 0) {
            if !class.groups.iter().any(|group| may.contains(*group as usize)) {
                continue;
            }
            row.resize(class.row_bytes() as usize, 0);
            let offset = class.offset + block(hash, class.blocks) * class.row_bytes();
            read(offset, &mut row)?;
            let (filters, sum) = row.split_at(row.len() - CHECKSUM_BYTES);
            if checksum(filters).to_le_bytes() != sum {
                return Err(
                    CodecError::Invalid { offset: 0, field: "filter", found: offset }.into()
                );
            }
            for (group, filter) in class.groups.iter().zip(filters.chunks_exact(BLOCK_BYTES)) {
                let words = filter.chunks_exact(4).map(|word| {
                    u32::from_le_bytes(*word.first_chunk().expect("a word has four bytes"))
                });
                if words.zip(wanted).all(|(word, bit)| word & bit != 0) {
                    found.insert(*group as usize);
                }
            }
        }
        may.intersect(&found);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::grams::mixed;

    fn written(groups: &[Vec<u64>]) -> (Filters, Vec<u8>) {
        let mut writer = FilterWriter::default();
        groups.iter().for_each(|hashes| writer.push(hashes.iter().copied()));
        let (mut header, mut rows) = (Vec::new(), Vec::new());
        writer.finish(&mut header, &mut rows);
        let mut input = header.as_slice();
        let filters = Filters::take(&mut input).expect("it was written so");
        assert!(input.is_empty());
        assert_eq!(filters.row_bytes(), rows.len() as u64);
        (filters, rows)
    }

    fn search(filters: &Filters, rows: &[u8], hash: u64) -> Result<GroupSet, CodecError> {
        let mut may = GroupSet::all(filters.groups());
        let read = |offset: u64, out: &mut [u8]| {
            let at = offset as usize;
            out.copy_from_slice(&rows[at..at + out.len()]);
            Ok::<(), CodecError>(())
        };
        filters.narrow(hash, &mut may, read).map(|()| may)
    }

    proptest! {
        #[test]
        fn what_was_put_in_is_found(sizes in prop::collection::vec(0_u64..900, 0..20)) {
            let groups: Vec<Vec<u64>> = (0..)
                .zip(&sizes)
                .map(|(group, size)| (0..*size).map(|n| mixed(group * 10_000 + n)).collect())
                .collect();
            let (filters, rows) = written(&groups);
            let mut wrong = 0;
            for (group, hashes) in groups.iter().enumerate() {
                for hash in hashes.iter().step_by(7) {
                    let found = search(&filters, &rows, *hash).expect("nothing is damaged");
                    prop_assert!(found.contains(group));
                    wrong += found.count() - 1;
                }
            }
            let tried = groups.iter().map(|hashes| hashes.len().div_ceil(7)).sum::<usize>();
            prop_assert!(wrong <= 20 + tried * groups.len() / 20, "{wrong} of {tried}");
        }

        #[test]
        fn damaged_headers_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Filters::take(&mut bytes.as_slice());
        }
    }

    #[test]
    fn a_damaged_row_is_noticed() {
        let (filters, mut rows) = written(&[(0..99).map(mixed).collect()]);
        rows.iter_mut().for_each(|byte| *byte ^= 1);
        assert!(search(&filters, &rows, mixed(5)).is_err());
    }
}
