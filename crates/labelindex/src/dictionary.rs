//! Names and values of a block, sorted, front coded in the file and plain in memory.

use codec::varint::{put_bytes, put_u64, take_prefixed, take_u64};

use crate::error::Fault;
use crate::packed;

/// Label names and the values of each, both ascending.
///
/// In memory the strings are plain: most pairs are borne by many series, so their text is small
/// beside the rest, and labels are rebuilt by copying.
pub(crate) struct Dictionary {
    /// All names, then all values, packed.
    text: Vec<u8>,
    /// Where each name begins.
    names: Vec<u32>,
    /// The first pair of each name, and the number of all pairs.
    first_pairs: Vec<u32>,
    /// Where the value of each pair begins.
    pairs: Vec<u32>,
}

/// Appends ascending `strings`, each as what it does not share with the one before.
pub(crate) fn encode_strings<'a>(strings: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    let mut previous: &[u8] = &[];
    for string in strings {
        let string = string.as_bytes();
        let shared = previous.iter().zip(string).take_while(|(a, b)| a == b).count();
        put_u64(out, shared as u64);
        put_bytes(out, &string[shared..]);
        previous = string;
    }
}

impl Dictionary {
    /// Reads and checks the section.
    pub(crate) fn decode(input: &mut &[u8]) -> Result<Self, Fault> {
        let mut text = Vec::new();
        let count = take_count(input)?;
        let names = decode_strings(input, count, &mut text)?;
        let mut first_pairs = vec![0];
        let mut total = 0_u32;
        for _ in 0..count {
            let values = u32::try_from(take_count(input)?).expect("less than the section has");
            let next = total.checked_add(values).filter(|_| values > 0);
            total = next.ok_or(Fault::Invalid("name without values"))?;
            first_pairs.push(total);
        }
        let mut pairs = Vec::new();
        for bounds in first_pairs.windows(2) {
            pairs.extend(decode_strings(input, (bounds[1] - bounds[0]) as usize, &mut text)?);
        }
        text.shrink_to_fit();
        Ok(Dictionary { text, names, first_pairs, pairs })
    }

    pub(crate) fn names_len(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn pairs_len(&self) -> usize {
        self.pairs.len()
    }

    pub(crate) fn name_text(&self, name: u32) -> &str {
        packed::at(&self.text, self.names[name as usize] as usize).1
    }

    pub(crate) fn value_text(&self, pair: u32) -> &str {
        packed::at(&self.text, self.pairs[pair as usize] as usize).1
    }

    /// Appends a label as packed labels have it.
    #[inline]
    pub(crate) fn push_packed(&self, name: u32, pair: u32, out: &mut Vec<u8>) {
        let name = self.names[name as usize] as usize;
        out.extend_from_slice(packed::bytes_at(&self.text, name));
        let value = self.pairs[pair as usize] as usize;
        out.extend_from_slice(packed::bytes_at(&self.text, value));
    }

    /// The number of a name. `O(log names)`.
    pub(crate) fn name(&self, name: &str) -> Option<u32> {
        let found = self
            .names
            .binary_search_by(|&start| packed::at(&self.text, start as usize).1.cmp(name));
        found.ok().map(|number| number as u32)
    }

    /// The pairs of a name, in ascending order of values.
    pub(crate) fn pairs_of(&self, name: u32) -> std::ops::Range<u32> {
        self.first_pairs[name as usize]..self.first_pairs[name as usize + 1]
    }

    /// The name of a pair. `O(log names)`.
    pub(crate) fn name_of(&self, pair: u32) -> u32 {
        self.first_pairs.partition_point(|&first| first <= pair) as u32 - 1
    }

    /// The pair of a name and a value. `O(log values)`.
    pub(crate) fn pair(&self, name: u32, value: &str) -> Option<u32> {
        let pair = self.first_from(self.pairs_of(name), |text| text < value);
        (pair < self.pairs_of(name).end && self.value_text(pair) == value).then_some(pair)
    }

    /// The pairs of a name whose values start with `prefix`. `O(log values)`.
    pub(crate) fn pairs_with_prefix(&self, name: u32, prefix: &str) -> std::ops::Range<u32> {
        let pairs = self.pairs_of(name);
        let start = self.first_from(pairs.clone(), |text| text < prefix);
        start..self.first_from(start..pairs.end, |text| text.starts_with(prefix))
    }

    /// The first of `pairs` whose value is not `before`, which values are up to some place.
    fn first_from(&self, pairs: std::ops::Range<u32>, before: impl Fn(&str) -> bool) -> u32 {
        let starts = &self.pairs[pairs.start as usize..pairs.end as usize];
        let passed =
            starts.partition_point(|&start| before(packed::at(&self.text, start as usize).1));
        pairs.start + passed as u32
    }

    /// Bytes of memory held.
    pub(crate) fn bytes(&self) -> usize {
        self.text.capacity()
            + (self.names.capacity() + self.first_pairs.capacity() + self.pairs.capacity()) * 4
    }
}

/// Takes a number of things that have a byte each at least, so that it cannot be above what is
/// left.
pub(crate) fn take_count(input: &mut &[u8]) -> Result<usize, Fault> {
    let count = take_u64(input)?;
    let count = usize::try_from(count).ok().filter(|count| *count <= input.len());
    count.ok_or(Fault::Invalid("more items declared than there are bytes"))
}

/// Appends `count` strings to `text`, packed; yields where each begins.
fn decode_strings(input: &mut &[u8], count: usize, text: &mut Vec<u8>) -> Result<Vec<u32>, Fault> {
    let mut starts = Vec::new();
    let mut previous = 0..0;
    for index in 0..count {
        let shared = usize::try_from(take_u64(input)?).unwrap_or(usize::MAX);
        let tail = take_prefixed(input)?;
        if shared > previous.len() {
            return Err(Fault::Invalid("string shares more bytes than the one before has"));
        }
        let start = text.len();
        put_u64(text, (shared + tail.len()) as u64);
        let own = text.len();
        text.extend_from_within(previous.start..previous.start + shared);
        text.extend_from_slice(tail);
        if text.len() > u32::MAX as usize {
            return Err(Fault::Invalid("strings have more than 4 GiB"));
        }
        let (before, string) = (&text[previous.clone()], &text[own..]);
        if string.is_empty() || (index > 0 && before >= string) {
            return Err(Fault::Invalid("strings do not ascend or one is empty"));
        }
        if std::str::from_utf8(string).is_err() {
            return Err(Fault::Invalid("string is not UTF-8"));
        }
        previous = own..text.len();
        starts.push(start as u32);
    }
    starts.shrink_to_fit();
    Ok(starts)
}
