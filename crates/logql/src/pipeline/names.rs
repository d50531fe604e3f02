//! Names of labels as small numbers.

use hashbrown::HashTable;
use rapidhash::v3::{RapidSecrets, rapidhash_v3_inline};

/// What a parsed label is called whose name a stream label or structured metadata has already.
pub(crate) const DUPLICATE_SUFFIX: &str = "_extracted";

/// More names than this are forgotten between two lines: a parser makes a name of whatever stands
/// in a line, ids included.
const MAX_NAMES: usize = 8_192;

/// A name, as an index. Valid for the epoch of [`Names`] in which it was made; names interned before
/// [`Names::pin`] stay valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Name(u32);

impl Name {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// All names a pipeline has met.
#[derive(Debug)]
pub(crate) struct Names {
    texts: Vec<Box<str>>,
    /// The name with [`DUPLICATE_SUFFIX`], once it was asked for.
    extracted: Vec<Option<Name>>,
    lookup: HashTable<u32>,
    secrets: RapidSecrets,
    pinned: usize,
    epoch: u32,
}

impl Names {
    /// `seed` keys the hashes, so that nobody outside can make lines whose names collide.
    pub(crate) fn new(seed: u64) -> Self {
        Names {
            texts: Vec::new(),
            extracted: Vec::new(),
            lookup: HashTable::new(),
            secrets: RapidSecrets::seed(seed),
            pinned: 0,
            epoch: 0,
        }
    }

    /// Rises whenever names were forgotten.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(crate) fn intern(&mut self, text: &str) -> Name {
        let hash = hash(text, &self.secrets);
        if let Some(found) = self.lookup.find(hash, |&at| &*self.texts[at as usize] == text) {
            return Name(*found);
        }
        let at = u32::try_from(self.texts.len()).expect("names are forgotten long before");
        self.texts.push(text.into());
        self.extracted.push(None);
        let (texts, secrets) = (&self.texts, &self.secrets);
        self.lookup.insert_unique(hash, at, |&at| self::hash(&texts[at as usize], secrets));
        Name(at)
    }

    pub(crate) fn text(&self, name: Name) -> &str {
        &self.texts[name.index()]
    }

    /// The name with [`DUPLICATE_SUFFIX`].
    pub(crate) fn extracted(&mut self, name: Name) -> Name {
        if let Some(known) = self.extracted[name.index()] {
            return known;
        }
        let text = format!("{}{DUPLICATE_SUFFIX}", self.text(name));
        let made = self.intern(&text);
        self.extracted[name.index()] = Some(made);
        made
    }

    /// Keeps all names so far for good.
    pub(crate) fn pin(&mut self) {
        self.pinned = self.texts.len();
    }

    /// Whether there are so many names that [`Names::forget`] is due.
    pub(crate) fn is_full(&self) -> bool {
        self.texts.len() > self.pinned + MAX_NAMES
    }

    /// Whether there are so many names that one line alone may make no more.
    pub(crate) fn is_overfull(&self) -> bool {
        self.texts.len() > self.pinned + 2 * MAX_NAMES
    }

    /// Forgets all names that are not pinned.
    pub(crate) fn forget(&mut self) {
        self.texts.truncate(self.pinned);
        self.extracted.truncate(self.pinned);
        for extracted in &mut self.extracted {
            extracted.take_if(|name| name.index() >= self.pinned);
        }
        let pinned = self.pinned;
        self.lookup.retain(|at| (*at as usize) < pinned);
        self.epoch = self.epoch.wrapping_add(1);
    }
}

fn hash(text: &str, secrets: &RapidSecrets) -> u64 {
    rapidhash_v3_inline::<true, false, true>(text.as_bytes(), secrets)
}

/// Writes `key` as the name of a label: blanks around it are cut, every other character that may not
/// be in a name becomes `_`, and `_` is put before a digit at the start. A key of blanks yields an
/// empty name.
pub(crate) fn sanitize_into(out: &mut String, key: &str) {
    let key = key.trim();
    if out.is_empty() && key.as_bytes().first().is_some_and(u8::is_ascii_digit) {
        out.push('_');
    }
    out.extend(key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_names() {
        for (key, want) in
            [("a.b-c", "a_b_c"), (" x ", "x"), ("1st", "_1st"), ("ü€", "__"), (" ", ""), ("_", "_")]
        {
            let mut name = String::new();
            sanitize_into(&mut name, key);
            assert_eq!(name, want, "{key:?}");
        }
    }

    #[test]
    fn names_are_found_again_and_forgotten() {
        let mut names = Names::new(1);
        let kept = names.intern("app");
        names.pin();
        let other = names.intern("id");
        let extracted = names.extracted(kept);
        assert_eq!(names.intern("id"), other);
        assert_eq!(names.text(extracted), "app_extracted");
        names.forget();
        assert_eq!((names.len(), names.intern("app")), (1, kept));
        let again = names.extracted(kept);
        assert_eq!(names.text(again), "app_extracted");
    }
}
