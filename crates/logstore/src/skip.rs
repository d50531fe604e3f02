//! The skip index of a block: which groups cannot hold a text.
//!
//! A search for a piece of a line, with no label to go by, reads the list of words and some rows of filters,
//! and then only groups that have all words and all kept pieces of ids of what is searched. It never misses a
//! line; it may name a group that has none.

use codec::CodecError;
use codec::varint::{put_u64, take_u64};
use hashbrown::HashSet;
use rapidhash::fast::RandomState;

use crate::filter::{FilterWriter, Filters};
use crate::grams;
use crate::groups::GroupSet;
use crate::needle::{Condition, conditions};
use crate::shapes::Shapes;
use crate::tokens::{Token, tokens, words};
use crate::words::{WordTest, Words, WordsWriter};

/// Stands among the words of a group for that no line of it has a backslash; what is read back from JSON and
/// logfmt stands in such lines as it is. No word has it.
const NO_BACKSLASH: &[u8] = b"\\";

/// Words of tokens with digits that a group lists: those of hexadecimal ids are few, those of random
/// letters are not, and searching their list costs more than the group.
const MAX_ODD_WORDS: usize = 8_192;
/// Groups that are sooner looked at than words are looked for.
const FEW_GROUPS: usize = 2;
/// Words of other tokens that a group lists.
const MAX_PLAIN_WORDS: usize = 65_536;
/// Bytes of a word that is kept as a number.
const SHORT_WORD_BYTES: usize = 8;
/// Tokens that are remembered; they fit a processor's nearest cache.
const REMEMBERED: usize = 2_048;

/// Which words of a group are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listed {
    All = 0,
    /// Those of tokens without digits.
    Plain = 1,
    None = 2,
}

/// A word of up to eight bytes, with zeros behind it: no word has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ShortWord([u8; SHORT_WORD_BYTES]);

impl std::hash::Hash for ShortWord {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from_le_bytes(self.0));
    }
}

/// Words, each once. Most are short, and of identifiers all are: these are looked up without following a pointer.
#[derive(Debug, Default)]
struct WordSet {
    short: HashSet<ShortWord, RandomState>,
    long: HashSet<Box<[u8]>, RandomState>,
}

impl WordSet {
    fn insert(&mut self, word: &[u8]) {
        if word.len() <= SHORT_WORD_BYTES {
            let mut bytes = [0; SHORT_WORD_BYTES];
            bytes[..word.len()].copy_from_slice(word);
            self.short.insert(ShortWord(bytes));
        } else if !self.long.contains(word) {
            self.long.insert(word.into());
        }
    }

    fn contains(&self, word: &[u8]) -> bool {
        if word.len() > SHORT_WORD_BYTES {
            return self.long.contains(word);
        }
        let mut bytes = [0; SHORT_WORD_BYTES];
        bytes[..word.len()].copy_from_slice(word);
        self.short.contains(&ShortWord(bytes))
    }

    fn len(&self) -> usize {
        self.short.len() + self.long.len()
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let short = self.short.iter().map(|ShortWord(bytes)| {
            let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(SHORT_WORD_BYTES);
            &bytes[..len]
        });
        short.chain(self.long.iter().map(|word| &**word))
    }

    fn clear(&mut self) {
        self.short.clear();
        self.long.clear();
    }
}

/// Short tokens whose hashes are there already, as far as they are remembered: most numbers of a line were in one
/// shortly before. Each has one place, by its bytes.
#[derive(Debug)]
struct Remembered(Box<[u64; REMEMBERED]>);

impl Default for Remembered {
    fn default() -> Self {
        Remembered(Box::new([0; REMEMBERED]))
    }
}

impl Remembered {
    /// Whether a token of up to eight bytes is remembered; from now on it is.
    fn has(&mut self, token: &[u8]) -> bool {
        // Zeros behind it, of which it has none.
        let bytes = match (token.first_chunk::<4>(), token.last_chunk::<4>(), token) {
            (Some(first), Some(last), _) => {
                let shift = 8 * (token.len() - 4);
                u64::from(u32::from_le_bytes(*first))
                    | u64::from(u32::from_le_bytes(*last)) << shift
            }
            (.., [a, rest @ ..]) => {
                let [b, c] = [0, 1].map(|at| rest.get(at).copied().unwrap_or(0));
                u64::from(*a) | u64::from(b) << 8 | u64::from(c) << 16
            }
            (.., []) => return true,
        };
        let place = bytes.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - REMEMBERED.ilog2());
        std::mem::replace(&mut self.0[place as usize], bytes) == bytes
    }

    fn clear(&mut self) {
        self.0.fill(0);
    }
}

/// What one group has.
#[derive(Debug, Default)]
struct Terms {
    plain: WordSet,
    odd: WordSet,
    hashes: HashSet<u64, RandomState>,
    remembered: Remembered,
    has_backslash: bool,
}

impl Terms {
    fn take_line(&mut self, line: &[u8], shapes: &mut Shapes) {
        let is_known = shapes.push(line, |token, is_variable| {
            self.take_hashes(token);
            // Else its letters are those of the shape.
            if is_variable && token.has_letter {
                self.take_words(token);
            }
        });
        // Fast path: all else in the line stood in one before.
        if !is_known {
            self.take_all(line);
        }
    }

    fn take_all(&mut self, line: &[u8]) {
        self.has_backslash = self.has_backslash || memchr::memchr(b'\\', line).is_some();
        for token in tokens(line) {
            self.take_words(&token);
            self.take_hashes(&token);
        }
    }

    fn take_words(&mut self, token: &Token<'_>) {
        let set = if token.has_digit { &mut self.odd } else { &mut self.plain };
        let most = if token.has_digit { MAX_ODD_WORDS } else { MAX_PLAIN_WORDS };
        for (_, word) in words(token.bytes) {
            // One more than may be listed tells that there are too many.
            if set.len() > most {
                return;
            }
            set.insert(word);
        }
    }

    fn take_hashes(&mut self, token: &Token<'_>) {
        if token.is_long() {
            grams::kept(token.bytes, |hash| _ = self.hashes.insert(hash));
        } else if token.has_digit {
            if token.bytes.len() <= 8 && self.remembered.has(token.bytes) {
                return;
            }
            self.hashes.insert(grams::whole(token.bytes));
        }
    }
}

/// Writes the skip index of a block.
#[derive(Debug, Default)]
pub(crate) struct SkipWriter {
    terms: Terms,
    listed: Vec<Listed>,
    words: WordsWriter,
    filters: FilterWriter,
}

impl SkipWriter {
    /// Takes a line of the group that is being written, of which `shapes` are.
    pub(crate) fn push_line(&mut self, line: &[u8], shapes: &mut Shapes) {
        self.terms.take_line(line, shapes);
    }

    /// Takes a name with a value that the metadata of some line of the group has.
    pub(crate) fn push_field(&mut self, name: &str, value: &str) {
        self.terms.hashes.insert(grams::field(name, value));
    }

    /// Ends a group; what is pushed next is of the next one.
    pub(crate) fn finish_group(&mut self) {
        let Terms { plain, odd, hashes, remembered, has_backslash } = &mut self.terms;
        let mut listed = match (plain.len() <= MAX_PLAIN_WORDS, odd.len() <= MAX_ODD_WORDS) {
            (true, true) => Listed::All,
            (true, false) => Listed::Plain,
            (false, _) => Listed::None,
        };
        match listed {
            Listed::All => {}
            Listed::Plain => odd.clear(),
            Listed::None => {
                plain.clear();
                odd.clear();
            }
        }
        let both = plain.iter().chain(odd.iter().filter(|word| !plain.contains(word)));
        let both = both.chain((!*has_backslash).then_some(NO_BACKSLASH));
        if !self.words.push(both) {
            listed = Listed::None;
        }
        self.listed.push(listed);
        self.filters.push(hashes.iter().copied());
        plain.clear();
        odd.clear();
        hashes.clear();
        remembered.clear();
        *has_backslash = false;
    }

    /// Appends the index to `index`, which is read whole, and `rows`, of which few bytes are read.
    pub(crate) fn finish(self, index: &mut Vec<u8>, rows: &mut Vec<u8>) {
        put_u64(index, self.listed.len() as u64);
        index.extend(self.listed.iter().map(|listed| *listed as u8));
        self.filters.finish(index, rows);
        self.words.finish(index);
    }
}

/// The skip index of a block.
#[derive(Debug)]
pub struct SkipIndex {
    groups: usize,
    /// Groups that list all words, and those that list at least those of tokens without digits.
    list_all: GroupSet,
    list_plain: GroupSet,
    words: Words,
    filters: Filters,
}

impl SkipIndex {
    /// Reads what [`SkipWriter::finish`] wrote to `index`.
    ///
    /// # Errors
    /// It is damaged.
    pub fn decode(mut input: &[u8]) -> Result<Self, CodecError> {
        let invalid = |field, found| CodecError::Invalid { offset: 0, field, found };
        let groups = take_u64(&mut input)?;
        let Some((listed, rest)) =
            usize::try_from(groups).ok().and_then(|groups| input.split_at_checked(groups))
        else {
            return Err(invalid("groups", groups));
        };
        input = rest;
        let groups = listed.len();
        let (mut list_all, mut list_plain) = (GroupSet::none(groups), GroupSet::none(groups));
        for (group, listed) in listed.iter().enumerate() {
            match listed {
                0 => {
                    list_all.insert(group);
                    list_plain.insert(group);
                }
                1 => list_plain.insert(group),
                2 => {}
                other => return Err(invalid("kind of list", u64::from(*other))),
            }
        }
        let filters = Filters::take(&mut input)?;
        let words = Words::take(&mut input)?;
        if filters.groups() != groups || words.groups() != groups {
            return Err(invalid("groups", groups as u64));
        }
        if !input.is_empty() {
            return Err(invalid("end of the skip index", input.len() as u64));
        }
        Ok(SkipIndex { groups, list_all, list_plain, words, filters })
    }

    /// How many groups it speaks of.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// How many bytes of rows there are.
    pub fn row_bytes(&self) -> u64 {
        self.filters.row_bytes()
    }

    /// The groups that may have a line with `needle` in it, byte for byte. `read` fills what it is given from
    /// an offset among the rows.
    ///
    /// # Errors
    /// Those of `read`; the index is damaged.
    pub fn search<E: From<CodecError>>(
        &self,
        needle: &[u8],
        mut read: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<GroupSet, E> {
        let mut may = GroupSet::all(self.groups);
        if needle.contains(&b'\\') {
            let piece = NO_BACKSLASH;
            let has_none =
                self.words.search(&WordTest { piece, open_before: false, open_behind: false })?;
            has_none.iter().for_each(|group| may.remove(group));
        }
        let mut outcome = Ok(());
        // Hashes first: they leave few groups, and of what few are left words tell nothing worth a look at all of
        // them.
        conditions(needle, |condition| {
            if let (Condition::Hash(hash), Ok(())) = (condition, &outcome)
                && !may.is_empty()
            {
                outcome = self.filters.narrow(hash, &mut may, &mut read);
            }
        });
        outcome?;
        let mut outcome = Ok(());
        conditions(needle, |condition| {
            if let (Condition::Word { test, is_plain }, Ok(())) = (condition, &outcome)
                && may.count() > FEW_GROUPS
            {
                outcome = self.words_of(&test, is_plain).map(|those| may.intersect(&those));
            }
        });
        outcome?;
        Ok(may)
    }

    /// As [`SkipIndex::search`], where no letter, digit, `-` or `_` stands beside what is searched.
    ///
    /// # Errors
    /// As there.
    pub fn search_whole<E: From<CodecError>>(
        &self,
        text: &[u8],
        read: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<GroupSet, E> {
        // Any bytes that are of no token stand for those that may be there.
        self.search(&[b"\"", text, b"\""].concat(), read)
    }

    /// The groups that may have a line whose metadata has this value under this name. `read` is as for
    /// [`SkipIndex::search`].
    ///
    /// # Errors
    /// Those of `read`; the index is damaged.
    pub fn search_field<E: From<CodecError>>(
        &self,
        name: &str,
        value: &str,
        read: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<GroupSet, E> {
        let mut may = GroupSet::all(self.groups);
        self.filters.narrow(grams::field(name, value), &mut may, read)?;
        Ok(may)
    }

    /// The groups that may have such a word.
    fn words_of(&self, test: &WordTest<'_>, is_plain: bool) -> Result<GroupSet, CodecError> {
        let mut those = self.words.search(test)?;
        let listed = if is_plain { &self.list_plain } else { &self.list_all };
        let mut unlisted = GroupSet::all(self.groups);
        listed.iter().for_each(|group| unlisted.remove(group));
        those.unite(&unlisted);
        Ok(those)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn written(groups: &[Vec<Vec<u8>>]) -> (SkipIndex, Vec<u8>) {
        let (mut writer, mut shapes) = (SkipWriter::default(), Shapes::default());
        for lines in groups {
            lines.iter().for_each(|line| writer.push_line(line, &mut shapes));
            writer.finish_group();
            shapes.clear();
        }
        let (mut index, mut rows) = (Vec::new(), Vec::new());
        writer.finish(&mut index, &mut rows);
        let index = SkipIndex::decode(&index).expect("it was written so");
        assert_eq!(index.row_bytes(), rows.len() as u64);
        (index, rows)
    }

    fn search(index: &SkipIndex, rows: &[u8], needle: &[u8]) -> GroupSet {
        let read = |offset: u64, out: &mut [u8]| {
            let at = offset as usize;
            out.copy_from_slice(&rows[at..at + out.len()]);
            Ok::<(), CodecError>(())
        };
        index.search(needle, read).expect("nothing is damaged")
    }

    /// Lines in which tokens of all kinds meet.
    fn line() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            "[a-c]{1,4}",
            "[0-9]{1,3}",
            "[a-f0-9]{14,40}",
            "[a-f0-9]{8}-[a-f0-9]{4}-[a-f0-9]{12}",
            "[ =:./_-]",
            r"[\\]",
            "[é失a]{1,3}",
        ];
        prop::collection::vec(part, 0..14).prop_map(|parts| parts.concat().into_bytes())
    }

    /// Lines of which many have one shape, and some have bytes that are taken for variables.
    fn alike() -> impl Strategy<Value = Vec<u8>> {
        let number = || "[0-9]{1,9}|\\x00";
        prop_oneof![
            (number(), "[a-f0-9]{8,40}").prop_map(|(n, id)| format!("user_{n} at {n}ms in {id}")),
            (number(), "[a-z0-9-]{1,12}").prop_map(|(n, id)| format!("pod-{n} \\ {id} é{n}")),
            (number(), "[a-c]{1,2}").prop_map(|(n, word)| format!("{word} {n}{word} {word}_{n}")),
        ]
        .prop_map(String::into_bytes)
    }

    proptest! {
        #[test]
        fn a_group_with_the_needle_is_never_skipped(
            groups in prop::collection::vec(prop::collection::vec(line(), 0..6), 1..6),
            which in any::<prop::sample::Index>(),
            from in any::<prop::sample::Index>(),
            len in 0_usize..60,
        ) {
            let (index, rows) = written(&groups);
            let all: Vec<&Vec<u8>> = groups.iter().flatten().collect();
            prop_assume!(!all.is_empty());
            let line = which.get(&all);
            let from = from.index(line.len() + 1);
            let needle = &line[from..(from + len).min(line.len())];
            let may = search(&index, &rows, needle);
            for (group, lines) in groups.iter().enumerate() {
                let has = lines.iter().any(|line| memchr::memmem::find(line, needle).is_some());
                prop_assert!(may.contains(group) || !has, "group {}", group);
            }
        }

        #[test]
        fn what_lines_have_in_common_is_kept_once_and_whole(
            groups in prop::collection::vec(prop::collection::vec(alike(), 0..30), 1..4),
        ) {
            let (mut writer, mut shapes) = (SkipWriter::default(), Shapes::default());
            let mut each_by_itself = SkipWriter::default();
            for lines in &groups {
                for line in lines {
                    writer.push_line(line, &mut shapes);
                    each_by_itself.terms.take_all(line);
                }
                shapes.clear();
                writer.finish_group();
                each_by_itself.finish_group();
            }
            let finish = |writer: SkipWriter| {
                let (mut index, mut rows) = (Vec::new(), Vec::new());
                writer.finish(&mut index, &mut rows);
                (index, rows)
            };
            prop_assert_eq!(finish(writer), finish(each_by_itself));
        }

        #[test]
        fn damaged_indexes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = SkipIndex::decode(&bytes);
        }
    }

    fn lines(group: u64) -> Vec<Vec<u8>> {
        let id = |n: u64| grams::mixed(group * 1_000 + n);
        (0..500)
            .map(|n| {
                format!(
                    "level=info msg=\"request done\" trace={:016x}{:016x} status=200 took={}ms",
                    id(n),
                    id(n + 500),
                    id(n) % 1_000
                )
                .into_bytes()
            })
            .collect()
    }

    #[test]
    fn an_id_a_piece_of_it_and_a_rare_word_are_found_in_one_group() {
        let mut groups: Vec<Vec<Vec<u8>>> = (0..50).map(lines).collect();
        groups[17].push(b"level=error msg=\"zookeeper session expired\"".to_vec());
        let (index, rows) = written(&groups);
        let id = groups[31][250].clone();
        let start = memchr::memmem::find(&id, b"trace=").expect("it is there") + 6;
        for needle in
            [&id[start..start + 32], &id[start + 5..start + 25], &id[start - 6..start + 30]]
        {
            let may = search(&index, &rows, needle);
            assert!(may.contains(31));
            assert!(may.count() <= 4, "{} of 50 groups", may.count());
        }
        for needle in [&b"zookeeper"[..], b"keep", b"error", b" session ", b"n expired"] {
            let may = search(&index, &rows, needle);
            assert!(may.iter().eq([17]), "{}", String::from_utf8_lossy(needle));
        }
        assert!(search(&index, &rows, b"neverseen").is_empty());
        assert_eq!(search(&index, &rows, b"request done").count(), 50);
        groups[8].push(br#"level=info msg="a \"quoted\" one" user=u1234"#.to_vec());
        groups[9].push(b"level=info user=u12345".to_vec());
        let (index, rows) = written(&groups);
        assert!(search(&index, &rows, b"\\").iter().eq([8]));
        assert!(search(&index, &rows, b"\\\"quoted").iter().eq([8]));
        let read = |offset: u64, out: &mut [u8]| {
            out.copy_from_slice(&rows[offset as usize..][..out.len()]);
            Ok::<(), CodecError>(())
        };
        let whole = index.search_whole(b"u1234", read).expect("nothing is damaged");
        assert!(whole.contains(8) && whole.count() <= 3, "{} of 50 groups", whole.count());
        assert_eq!(search(&index, &rows, b"").count(), 50);
    }

    #[test]
    fn a_group_with_too_many_words_is_never_skipped_for_a_word_that_may_be_left_out() {
        let token = |n: u64| {
            let mut z = n;
            let letters = (0..14).map(|_| {
                z = grams::mixed(z.wrapping_add(1));
                char::from(b'a' + (z % 26) as u8)
            });
            letters.collect::<String>()
        };
        let many = |shape: fn(String) -> String, count| {
            (0..count).map(|n| shape(token(n)).into_bytes()).collect::<Vec<Vec<u8>>>()
        };
        let odd = many(|letters| format!("{letters}7 plain"), MAX_ODD_WORDS as u64 + 5);
        let plain = many(|letters| letters, MAX_PLAIN_WORDS as u64 + 5);
        let (index, rows) = written(&[odd, plain, vec![b"plain".to_vec()]]);
        let piece = token(3);
        assert!(search(&index, &rows, &piece.as_bytes()[2..9]).iter().eq([0, 1]));
        assert!(
            search(&index, &rows, b" plainer ").iter().eq([1]),
            "plain words of odd groups are listed"
        );
        assert!(search(&index, &rows, b"lain").iter().eq([0, 1, 2]));
    }
}
