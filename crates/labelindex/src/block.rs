//! The index of a block, read.

use codec::decode_postings;
use codec::varint::take_u64;
use model::{Labels, Matcher};

use crate::LabelIndex;
use crate::builder::MAX_SERIES;
use crate::dictionary::Dictionary;
use crate::error::{Fault, IndexError};
use crate::names::{names_of, sorted, values_of};
use crate::rows::{RowCursor, SeriesRows};
use crate::sections::{self, corrupt};
use crate::select::{Store, select};

/// Labels and postings of a block's series, numbered in ascending order of labels.
///
/// Memory: rows and postings as in the file but decompressed, the distinct strings, and 8 bytes
/// per distinct pair: 4 to 11 bytes per series of hosts or containers.
pub struct BlockIndex {
    series: u32,
    dictionary: Dictionary,
    rows: SeriesRows,
    postings: Vec<u8>,
    /// Where the postings of each pair begin.
    starts: Vec<u32>,
}

impl BlockIndex {
    /// Opens what [`BlockIndexBuilder::finish`](crate::BlockIndexBuilder::finish) wrote. Every
    /// byte is checked, so nothing fails later. About 40 ns per series.
    ///
    /// # Errors
    /// `Version` if a newer program wrote it; `Corrupt` otherwise.
    pub fn open(bytes: &[u8]) -> Result<Self, IndexError> {
        let (series, [dictionary, rows, postings]) = sections::decode(bytes)?;
        if series > MAX_SERIES {
            return Err(corrupt(8, "more series than an index can have"));
        }
        let dictionary = dictionary.read(Dictionary::decode)?;
        let (rows, labels) = SeriesRows::open(rows, series, &dictionary)?;
        let starts = postings.read(|input| check_postings(input, series, labels, &dictionary))?;
        Ok(BlockIndex { series, dictionary, rows, postings: postings.raw, starts })
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.dictionary.bytes()
            + self.rows.bytes()
            + self.postings.capacity()
            + self.starts.capacity() * 4
    }
}

/// Decodes all postings once; yields where each begins.
fn check_postings(
    input: &mut &[u8],
    series: u32,
    labels: u64,
    dictionary: &Dictionary,
) -> Result<Vec<u32>, Fault> {
    let total = input.len();
    let mut starts = Vec::with_capacity(dictionary.pairs_len());
    let mut ordinals = Vec::new();
    let mut sum = 0;
    for _ in 0..dictionary.pairs_len() {
        // Sections are below 4 GiB.
        starts.push((total - input.len()) as u32);
        let count = take_u64(input)?;
        if count == 0 || count > u64::from(series) {
            return Err(Fault::Invalid("pair is borne by no series, or by more than there are"));
        }
        ordinals.clear();
        decode_postings(input, count as usize, &mut ordinals)?;
        if ordinals.last().is_none_or(|&last| last >= series) {
            return Err(Fault::Invalid("posting of a series that there is not"));
        }
        sum += count;
    }
    if sum != labels {
        return Err(Fault::Invalid("series have another number of labels than pairs have series"));
    }
    Ok(starts)
}

impl LabelIndex for BlockIndex {
    fn select(&self, matchers: &[Matcher]) -> Vec<u32> {
        select(self, matchers)
    }

    fn labels(&self, ordinal: u32) -> Labels {
        assert!(ordinal < self.series, "ordinal {ordinal} of {} series", self.series);
        // Most label sets are shorter; the set itself is a copy of the right length.
        let mut packed = Vec::with_capacity(512);
        let mut cursor = self.rows.cursor();
        for (name, pair) in cursor.labels_of(ordinal) {
            self.dictionary.push_packed(name, pair, &mut packed);
        }
        Labels::from_trusted_packed(&packed)
    }

    fn series_count(&self) -> usize {
        self.series as usize
    }

    fn label_names(&self, matchers: &[Matcher]) -> Vec<String> {
        if matchers.is_empty() {
            return sorted(self.names().map(|(_, text)| text));
        }
        sorted(names_of(self, &select(self, matchers)).into_iter())
    }

    fn label_values(&self, name: &str, matchers: &[Matcher]) -> Vec<String> {
        let Some(name) = self.dictionary.name(name) else { return Vec::new() };
        if matchers.is_empty() {
            return sorted(self.dictionary.pairs_of(name).map(|pair| self.value_of(pair)));
        }
        let pairs = values_of(self, name, &select(self, matchers));
        sorted(pairs.iter().map(|&pair| self.value_of(pair)))
    }

    fn visit_names(&self, matchers: &[Matcher], visit: &mut dyn FnMut(&str)) {
        if !matchers.is_empty() {
            return names_of(self, &select(self, matchers)).into_iter().for_each(visit);
        }
        self.names().for_each(|(_, text)| visit(text));
    }

    fn visit_values(&self, name: &str, matchers: &[Matcher], visit: &mut dyn FnMut(&str)) {
        let Some(name) = self.dictionary.name(name) else { return };
        if !matchers.is_empty() {
            let pairs = values_of(self, name, &select(self, matchers));
            return pairs.iter().for_each(|&pair| visit(self.value_of(pair)));
        }
        self.dictionary.pairs_of(name).for_each(|pair| visit(self.value_of(pair)));
    }
}

impl Store for BlockIndex {
    type Rows<'a> = RowCursor<'a>;

    fn series_bound(&self) -> u32 {
        self.series
    }

    fn names(&self) -> impl Iterator<Item = (u32, &str)> {
        (0..self.dictionary.names_len() as u32).map(|name| (name, self.dictionary.name_text(name)))
    }

    fn name(&self, name: &str) -> Option<u32> {
        self.dictionary.name(name)
    }

    fn name_text_of(&self, name: u32) -> &str {
        self.dictionary.name_text(name)
    }

    fn name_of(&self, pair: u32) -> u32 {
        self.dictionary.name_of(pair)
    }

    fn value_of(&self, pair: u32) -> &str {
        self.dictionary.value_text(pair)
    }

    fn pair(&self, name: u32, value: &str) -> Option<u32> {
        self.dictionary.pair(name, value)
    }

    fn pairs(&self, name: u32, prefix: &str) -> impl Iterator<Item = u32> {
        self.dictionary.pairs_with_prefix(name, prefix)
    }

    fn postings_len(&self, pair: u32) -> usize {
        let mut input = &self.postings[self.starts[pair as usize] as usize..];
        take_u64(&mut input).expect("checked when opened") as usize
    }

    fn append_postings(&self, pair: u32, out: &mut Vec<u32>) {
        let mut input = &self.postings[self.starts[pair as usize] as usize..];
        let count = take_u64(&mut input).expect("checked when opened") as usize;
        decode_postings(&mut input, count, out).expect("checked when opened");
    }

    fn rows(&self) -> RowCursor<'_> {
        self.rows.cursor()
    }
}
