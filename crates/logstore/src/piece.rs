//! Lines of one stream of a head: some that are still being written, or some that stay as they are.

use std::ops::Range;

use blockstore::BlockError;

use crate::find;
use crate::metadata::Metadata;
use crate::rows::{MetadataWanted, Rows};
use crate::texts::AnyOf;
use crate::twins::Twins;

/// Lines of one stream in memory. Of a frozen piece they are in order of time, and none is there twice.
#[derive(Debug, Clone, Default)]
pub(crate) struct Piece {
    timestamps: Vec<i64>,
    /// Where each line begins, and where the last one ends.
    starts: Vec<u32>,
    lines: Vec<u8>,
    /// Where the pairs of each line end in `pairs`.
    pair_ends: Vec<u32>,
    /// Where name and value of each pair end in `text`.
    pairs: Vec<(u32, u32)>,
    text: String,
    /// Whether times do not strictly ascend, so that the piece has to be put in order.
    is_mixed: bool,
}

impl Piece {
    /// Appends a line. `metadata` is settled.
    pub(crate) fn push(&mut self, timestamp_ns: i64, line: &[u8], metadata: &[(&str, &str)]) {
        if self.starts.is_empty() {
            self.starts.push(0);
        }
        self.is_mixed |= self.timestamps.last().is_some_and(|last| *last >= timestamp_ns);
        self.timestamps.push(timestamp_ns);
        self.lines.extend_from_slice(line);
        self.starts.push(self.lines.len() as u32);
        for (name, value) in metadata {
            self.text.push_str(name);
            let name_end = self.text.len() as u32;
            self.text.push_str(value);
            self.pairs.push((name_end, self.text.len() as u32));
        }
        self.pair_ends.push(self.pairs.len() as u32);
    }

    /// Lines in it.
    pub(crate) fn len(&self) -> usize {
        self.timestamps.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    /// Bytes of lines and metadata.
    pub(crate) fn content_bytes(&self) -> usize {
        self.lines.len() + self.text.len()
    }

    /// Bytes of memory held.
    pub(crate) fn bytes(&self) -> usize {
        self.lines.capacity()
            + self.text.capacity()
            + 8 * (self.timestamps.capacity() + self.pairs.capacity())
            + 4 * (self.starts.capacity() + self.pair_ends.capacity())
    }

    /// The same in order of time, lines of one time in the order in which they came, and each once.
    pub(crate) fn frozen(&self) -> Piece {
        if !self.is_mixed {
            return self.clone();
        }
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        order.sort_by_key(|row| self.timestamps[*row as usize]);
        let mut twins = Twins::default();
        let (mut frozen, mut metadata) = (Piece::default(), Vec::new());
        for row in order {
            let row = row as usize;
            let (timestamp_ns, line) = (self.timestamps[row], self.line(row));
            if twins.is_new(timestamp_ns, line) {
                metadata.clear();
                metadata.extend(self.pairs_of(row));
                frozen.push(timestamp_ns, line, &metadata);
            }
        }
        // Equal times may be left, in the right order.
        frozen.is_mixed = false;
        frozen
    }

    /// Times of the first and the last line of a frozen piece that is not empty.
    pub(crate) fn span_ns(&self) -> (i64, i64) {
        debug_assert!(!self.is_mixed, "only frozen pieces are in order");
        (self.timestamps[0], self.timestamps[self.len() - 1])
    }

    pub(crate) fn line(&self, row: usize) -> &[u8] {
        &self.lines[self.starts[row] as usize..self.starts[row + 1] as usize]
    }

    /// Whether some line has metadata under a name.
    pub(crate) fn has_metadata(&self, name: &str) -> bool {
        let mut start = 0;
        self.pairs.iter().any(|(name_end, value_end)| {
            let known = &self.text[start..*name_end as usize];
            start = *value_end as usize;
            known == name
        })
    }

    fn pairs_of(&self, row: usize) -> impl Iterator<Item = (&str, &str)> {
        let first = row.checked_sub(1).map_or(0, |before| self.pair_ends[before] as usize);
        let end = self.pair_ends[row] as usize;
        let mut start = first.checked_sub(1).map_or(0, |before| self.pairs[before].1 as usize);
        self.pairs[first..end].iter().map(move |(name, value)| {
            let (from, name, value) = (start, *name as usize, *value as usize);
            start = value;
            (&self.text[from..name], &self.text[name..value])
        })
    }
}

impl Rows for Piece {
    fn timestamps(&self) -> Result<&[i64], BlockError> {
        Ok(&self.timestamps)
    }

    fn starts(&self) -> Result<&[u32], BlockError> {
        Ok(&self.starts)
    }

    fn line<'a>(&'a self, row: u32, _scratch: &'a mut Vec<u8>) -> Result<&'a [u8], BlockError> {
        Ok(self.line(row as usize))
    }

    fn rows_with(&self, needles: &[AnyOf], rows: Range<u32>) -> Result<Vec<u32>, BlockError> {
        Ok(find::rows_with(needles, rows, &self.starts, &self.lines))
    }

    fn read_metadata(
        &self,
        row: usize,
        wanted: &MetadataWanted,
        out: &mut Metadata,
    ) -> Result<(), BlockError> {
        out.clear();
        for (name, value) in self.pairs_of(row).filter(|(name, _)| wanted.has(name)) {
            out.push(name, value);
        }
        Ok(())
    }

    fn has_field(
        &self,
        row: usize,
        name: &str,
        value: &str,
        _scratch: &mut String,
    ) -> Result<bool, BlockError> {
        Ok(self.pairs_of(row).any(|pair| pair == (name, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_piece_is_in_order_and_has_no_line_twice() {
        let mut piece = Piece::default();
        for (at, line, metadata) in [
            (5, "e", &[][..]),
            (3, "c", &[("k", "1"), ("l", "2")]),
            (5, "d", &[("k", "3")]),
            (5, "e", &[("k", "4")]),
            (3, "c", &[]),
        ] {
            piece.push(at, line.as_bytes(), metadata);
        }
        let frozen = piece.frozen();
        assert_eq!(frozen.timestamps, [3, 5, 5]);
        let lines: [&[u8]; 3] = [b"c", b"e", b"d"];
        assert!(lines.into_iter().eq((0..3).map(|row| frozen.line(row))));
        assert!(frozen.pairs_of(0).eq([("k", "1"), ("l", "2")]));
        assert!(frozen.pairs_of(1).next().is_none());
        assert!(
            frozen.has_metadata("l") && !frozen.has_metadata("2") && !frozen.has_metadata("k1")
        );
        assert!(frozen.pairs_of(2).eq([("k", "3")]));
        assert_eq!(frozen.span_ns(), (3, 5));
    }
}
