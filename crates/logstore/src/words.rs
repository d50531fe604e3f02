//! Which groups hold a word, or a word with a piece in it: all words of a file in one text.
//!
//! Logs have few words: those of their templates, and of names. So a file has a list of them, sorted, each with
//! the groups it is in; and a piece of a word is found by searching the list as a text.

use codec::varint::{put_u64, take_prefixed, take_u64};
use codec::{CodecError, decode_postings, encode_postings};
use hashbrown::HashMap;
use memchr::memmem;
use rapidhash::fast::RandomState;

use crate::filter::MAX_GROUPS;
use crate::groups::GroupSet;

/// Stands before, between and behind the words of the text. No word has it.
const BETWEEN: u8 = b'\n';
/// Most bytes of the text; a writer that comes near lists no more words.
const MAX_TEXT_BYTES: usize = 32 << 20;

/// What a word has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WordTest<'a> {
    pub(crate) piece: &'a [u8],
    /// Letters may stand before the piece.
    pub(crate) open_before: bool,
    /// Letters may stand behind it.
    pub(crate) open_behind: bool,
}

/// Gathers the words of a file group by group.
#[derive(Debug, Default)]
pub(crate) struct WordsWriter {
    words: HashMap<Box<[u8]>, Vec<u32>, RandomState>,
    groups: u32,
    text_bytes: usize,
}

impl WordsWriter {
    /// Adds the next group, of which each word is named once. Whether its words are listed: otherwise the
    /// file has too many.
    pub(crate) fn push<'a>(&mut self, words: impl Iterator<Item = &'a [u8]> + Clone) -> bool {
        let group = self.groups;
        self.groups += 1;
        let new = |word: &&[u8]| !self.words.contains_key(*word);
        let more: usize = words.clone().filter(new).map(|word| word.len() + 1).sum();
        if self.text_bytes + more > MAX_TEXT_BYTES {
            return false;
        }
        self.text_bytes += more;
        for word in words {
            match self.words.get_mut(word) {
                Some(groups) => groups.push(group),
                None => _ = self.words.insert(word.into(), vec![group]),
            }
        }
        true
    }

    /// Appends all of it.
    pub(crate) fn finish(self, out: &mut Vec<u8>) {
        let mut words: Vec<(Box<[u8]>, Vec<u32>)> = self.words.into_iter().collect();
        words.sort_unstable();
        put_u64(out, u64::from(self.groups));
        put_u64(out, words.len() as u64);
        let text_bytes: usize = words.iter().map(|(word, _)| word.len() + 1).sum::<usize>() + 1;
        put_u64(out, text_bytes as u64);
        out.push(BETWEEN);
        for (word, _) in &words {
            out.extend_from_slice(word);
            out.push(BETWEEN);
        }
        let mut postings = Vec::new();
        for (_, groups) in &words {
            put_u64(out, groups.len() as u64);
            // Of a word that is everywhere, nothing has to be said.
            let start = postings.len();
            if groups.len() < self.groups as usize {
                encode_postings(groups, &mut postings);
            }
            put_u64(out, (postings.len() - start) as u64);
        }
        put_u64(out, postings.len() as u64);
        out.extend_from_slice(&postings);
    }
}

/// The words of a file.
#[derive(Debug)]
pub(crate) struct Words {
    groups: usize,
    text: Vec<u8>,
    /// Of each word where it begins in the text, in how many groups it is, and where its postings begin.
    words: Vec<(u32, u32, u32)>,
    postings: Vec<u8>,
}

impl Words {
    /// Reads them from the front of `input`.
    ///
    /// # Errors
    /// They are damaged.
    pub(crate) fn take(input: &mut &[u8]) -> Result<Self, CodecError> {
        let invalid = |field, found| CodecError::Invalid { offset: 0, field, found };
        let groups = take_u64(input)?;
        let count = take_u64(input)?;
        if groups > MAX_GROUPS as u64 || count > input.len() as u64 {
            return Err(invalid("words", count));
        }
        let text = take_prefixed(input)?;
        let starts = memchr::memchr_iter(BETWEEN, text).map(|at| at + 1);
        let starts: Vec<usize> = starts.take(count as usize + 2).collect();
        // As many words as there are, each with its end.
        if text.len() > 2 * MAX_TEXT_BYTES
            || starts.len() as u64 != count + 1
            || starts.first() != Some(&1)
            || starts.last() != Some(&text.len())
        {
            return Err(invalid("text of words", text.len() as u64));
        }
        let (mut words, mut offset) = (Vec::with_capacity(count as usize), 0_u64);
        for start in &starts[..count as usize] {
            let (in_groups, bytes) = (take_u64(input)?, take_u64(input)?);
            if in_groups > groups || bytes > u64::from(u32::MAX) {
                return Err(invalid("groups of a word", in_groups));
            }
            words.push((*start as u32, in_groups as u32, offset as u32));
            offset += bytes;
            if offset > u64::from(u32::MAX) {
                return Err(invalid("postings", offset));
            }
        }
        let postings = take_prefixed(input)?;
        if postings.len() as u64 != offset {
            return Err(invalid("postings", postings.len() as u64));
        }
        Ok(Words {
            groups: groups as usize,
            text: text.to_vec(),
            words,
            postings: postings.to_vec(),
        })
    }

    /// How many groups there are.
    pub(crate) fn groups(&self) -> usize {
        self.groups
    }

    /// The groups that have a word which the test allows.
    ///
    /// # Errors
    /// The list is damaged.
    pub(crate) fn search(&self, test: &WordTest<'_>) -> Result<GroupSet, CodecError> {
        let mut pattern = Vec::with_capacity(test.piece.len() + 2);
        pattern.extend((!test.open_before).then_some(BETWEEN));
        pattern.extend_from_slice(test.piece);
        pattern.extend((!test.open_behind).then_some(BETWEEN));
        let mut found = GroupSet::none(self.groups);
        let (mut at, mut ordinals) = (0, Vec::new());
        while let Some(hit) = memmem::find(&self.text[at..], &pattern) {
            // A hit with the line break before it lies in the word behind that.
            let inside = at + hit + usize::from(!test.open_before);
            let word = self.words.partition_point(|(start, ..)| *start as usize <= inside);
            let Some(word) = word.checked_sub(1) else { break };
            let (_, in_groups, offset) = self.words[word];
            if in_groups as usize == self.groups {
                return Ok(GroupSet::all(self.groups));
            }
            ordinals.clear();
            let mut postings = self.postings.get(offset as usize..).unwrap_or_default();
            decode_postings(&mut postings, in_groups as usize, &mut ordinals)?;
            for group in &ordinals {
                if *group as usize >= self.groups {
                    let found = u64::from(*group);
                    return Err(CodecError::Invalid { offset: 0, field: "group", found });
                }
                found.insert(*group as usize);
            }
            // On with the next word: it may begin with the break that ends this one.
            at =
                self.words.get(word + 1).map_or(self.text.len(), |(start, ..)| *start as usize - 1);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn written(groups: &[BTreeSet<Vec<u8>>]) -> Words {
        let mut writer = WordsWriter::default();
        for words in groups {
            assert!(writer.push(words.iter().map(Vec::as_slice)));
        }
        let mut out = Vec::new();
        writer.finish(&mut out);
        let mut input = out.as_slice();
        let words = Words::take(&mut input).expect("it was written so");
        assert!(input.is_empty());
        words
    }

    proptest! {
        #[test]
        fn a_search_finds_what_a_look_at_each_word_finds(
            groups in prop::collection::vec(prop::collection::btree_set("[abc]{1,5}", 0..12), 0..9),
            piece in "[abc]{1,3}",
            open_before: bool,
            open_behind: bool,
        ) {
            let groups: Vec<BTreeSet<Vec<u8>>> = groups
                .into_iter()
                .map(|words| words.into_iter().map(String::into_bytes).collect())
                .collect();
            let fits = |word: &Vec<u8>| {
                let word = std::str::from_utf8(word).expect("letters");
                match (open_before, open_behind) {
                    (false, false) => word == piece,
                    (true, false) => word.ends_with(&piece),
                    (false, true) => word.starts_with(&piece),
                    (true, true) => word.contains(&piece),
                }
            };
            let test = WordTest { piece: piece.as_bytes(), open_before, open_behind };
            let found = written(&groups).search(&test).expect("nothing is damaged");
            for (group, words) in groups.iter().enumerate() {
                prop_assert_eq!(found.contains(group), words.iter().any(fits), "group {}", group);
            }
        }

        #[test]
        fn damaged_lists_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..60),
            at in 0_usize..60,
            byte: u8,
        ) {
            let _ = Words::take(&mut bytes.as_slice());
            let mut writer = WordsWriter::default();
            writer.push([&b"ab"[..], b"b"].into_iter());
            writer.push([&b"b"[..], b"cc"].into_iter());
            let mut out = Vec::new();
            writer.finish(&mut out);
            let at = at % out.len();
            out[at] = byte;
            if let Ok(words) = Words::take(&mut out.as_slice()) {
                let test = WordTest { piece: b"b", open_before: true, open_behind: true };
                let _ = words.search(&test);
            }
        }
    }
}
