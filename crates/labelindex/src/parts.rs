//! Names and values of a head's index, a part at a time.
//!
//! Whoever holds a lock around the index gives it free between two parts: series may come and go
//! there. Pairs and slots are only ever appended, so a part begins at the number where the one before
//! ended; after they were renumbered everything is shown once more.

use model::Matcher;

use crate::MemIndex;
use crate::select::{POSTINGS_PER_ROW, Rows, Store};
use crate::sets;

/// What a part may cost, in postings read: some 100 µs. One pair's postings are read at once, however
/// many they are.
const POSTINGS_OF_A_PART: usize = 1 << 16;
/// Bytes of text after which a part ends.
const BYTES_OF_A_PART: usize = 1 << 18;

/// Strings in one allocation.
#[derive(Debug, Default)]
pub struct Texts {
    text: String,
    ends: Vec<usize>,
}

impl Texts {
    /// The strings, as they were read.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |&end| &self.text[std::mem::replace(&mut start, end)..end])
    }

    fn push(&mut self, one: &str) {
        self.text.push_str(one);
        self.ends.push(self.text.len());
    }

    fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }
}

/// The names of labels that series bear, or the values of one, as they are read.
pub struct Parts<'a> {
    of: Option<&'a str>,
    matchers: &'a [Matcher],
    place: Option<Place>,
}

struct Place {
    compactions: u32,
    /// The name, pair or selected slot that is looked at next.
    next: usize,
    /// Slots that satisfy the matchers; `None` without matchers.
    selected: Option<Vec<u32>>,
    /// Whether selected slots are looked at one by one, not the pairs.
    by_rows: bool,
    /// Names or pairs that were shown, where slots are looked at: a bit each.
    shown: Vec<u64>,
}

impl<'a> Parts<'a> {
    /// Names, or values of the label `of`, in series that satisfy all of `matchers`.
    pub fn new(of: Option<&'a str>, matchers: &'a [Matcher]) -> Self {
        Parts { of, matchers, place: None }
    }

    /// Replaces `out` by the next ones, in no order and perhaps not for the first time; whether there
    /// may be more. What is there from the first call to the last one is shown.
    ///
    /// Takes a fraction of a millisecond, but where matchers select: then the first call takes what
    /// [`LabelIndex::select`](crate::LabelIndex::select) does.
    pub fn read(&mut self, index: &MemIndex, out: &mut Texts) -> bool {
        out.clear();
        let name = match self.of.map(|of| index.symbols.name(of)) {
            Some(None) => return false,
            Some(name) => name,
            None => None,
        };
        let place = match self.place.take() {
            Some(place) if place.compactions == index.compactions => place,
            _ => Place::begin(index, name, self.matchers),
        };
        let place = self.place.insert(place);
        match (name, place.by_rows) {
            (_, true) => place.read_rows(index, name, out),
            (Some(name), false) => place.read_pairs(index, name, out),
            (None, false) => place.read_names(index, out),
        }
    }

    /// Shows `visit` all of them.
    pub(crate) fn visit(mut self, index: &MemIndex, visit: &mut dyn FnMut(&str)) {
        let mut texts = Texts::default();
        while {
            let is_more = self.read(index, &mut texts);
            texts.iter().for_each(&mut *visit);
            is_more
        } {}
    }
}

impl Place {
    fn begin(index: &MemIndex, name: Option<u32>, matchers: &[Matcher]) -> Self {
        let selected = (!matchers.is_empty()).then(|| index.selected_slots(matchers));
        let by_rows = selected.as_ref().is_some_and(|slots| match name {
            None => true,
            Some(name) => {
                let pairs = index.symbols.names()[name as usize].pairs.iter();
                let postings = pairs.map(|&pair| index.symbols.postings_len(pair)).sum::<usize>();
                postings / POSTINGS_PER_ROW > slots.len()
            }
        });
        let compactions = index.compactions;
        Place { compactions, next: 0, selected, by_rows, shown: Vec::new() }
    }

    /// All names.
    fn read_names(&mut self, index: &MemIndex, out: &mut Texts) -> bool {
        let names = index.symbols.names();
        let mut room = Room::new();
        while let Some(name) = names.get(self.next).filter(|_| room.is_left(out)) {
            room.take(POSTINGS_PER_ROW);
            if name.live_values > 0 {
                out.push(index.symbols.name_text(self.next as u32));
            }
            self.next += 1;
        }
        self.next < names.len()
    }

    /// Pairs of a name one by one, whether a selected slot has them.
    fn read_pairs(&mut self, index: &MemIndex, name: u32, out: &mut Texts) -> bool {
        let pairs = &index.symbols.names()[name as usize].pairs;
        let mut room = Room::new();
        let mut postings = Vec::new();
        while let Some(&pair) = pairs.get(self.next).filter(|_| room.is_left(out)) {
            room.take(POSTINGS_PER_ROW);
            self.next += 1;
            if index.symbols.pairs()[pair as usize].live == 0 {
                continue;
            }
            if let Some(selected) = &self.selected {
                postings.clear();
                index.append_postings(pair, &mut postings);
                room.take(postings.len());
                if !sets::intersects(&postings, selected) {
                    continue;
                }
            }
            out.push(index.value_of(pair));
        }
        self.next < pairs.len()
    }

    /// Selected slots one by one, which names they have, or which value of `name`.
    fn read_rows(&mut self, index: &MemIndex, name: Option<u32>, out: &mut Texts) -> bool {
        let selected = self.selected.as_deref().unwrap_or_default();
        let mut room = Room::new();
        let mut rows = index.rows();
        while let Some(&slot) = selected.get(self.next).filter(|_| room.is_left(out)) {
            room.take(POSTINGS_PER_ROW);
            self.next += 1;
            for &pair in rows.pairs_of(slot) {
                let of = index.name_of(pair);
                let number = match name {
                    None => of,
                    Some(name) if name == of => pair,
                    Some(_) => continue,
                };
                // In this order: a name is not shown by a pair that is gone.
                if index.symbols.pairs()[pair as usize].live == 0
                    || !is_first(&mut self.shown, number)
                {
                    continue;
                }
                out.push(match name {
                    None => index.name_text_of(of),
                    Some(_) => index.value_of(pair),
                });
            }
        }
        self.next < selected.len()
    }
}

/// What a part may still cost.
struct Room(usize);

impl Room {
    fn new() -> Self {
        Room(POSTINGS_OF_A_PART)
    }

    fn is_left(&self, out: &Texts) -> bool {
        self.0 > 0 && out.text.len() < BYTES_OF_A_PART
    }

    fn take(&mut self, postings: usize) {
        self.0 = self.0.saturating_sub(postings);
    }
}

/// Sets a bit; whether it was not set.
fn is_first(bits: &mut Vec<u64>, number: u32) -> bool {
    let (word, bit) = (number as usize / 64, 1 << (number % 64));
    if bits.len() <= word {
        bits.resize(word + 1, 0);
    }
    let is_first = bits[word] & bit == 0;
    bits[word] |= bit;
    is_first
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use model::{Labels, MatchOp};

    use super::*;

    fn series(number: u32) -> Labels {
        let value = format!("value {number:05}");
        Labels::from_pairs([("__name__", "up"), ("host", &value)]).expect("labels")
    }

    /// What is there all the time is shown, whatever comes, goes or is renumbered between two parts.
    #[test]
    fn what_stays_is_shown() {
        let up = [Matcher::new("__name__", MatchOp::Equal, "up").expect("matcher")];
        for matchers in [&[][..], &up] {
            let mut index = MemIndex::new(1);
            (0..20_000).for_each(|number| index.insert(number, &series(number)));
            let (mut parts, mut texts) = (Parts::new(Some("host"), matchers), Texts::default());
            let (mut seen, mut reads) = (BTreeSet::new(), 0);
            while {
                let is_more = parts.read(&index, &mut texts);
                assert!(texts.iter().count() <= POSTINGS_OF_A_PART / POSTINGS_PER_ROW);
                seen.extend(texts.iter().map(str::to_owned));
                is_more
            } {
                reads += 1;
                index.insert(20_000 + reads, &series(20_000 + reads));
                if reads == 4 {
                    // More than half: the rest is renumbered.
                    (0..20_000).filter(|n| n % 3 != 0).for_each(|number| index.remove(number));
                    assert_eq!(index.compactions, 1);
                }
            }
            assert!(reads > 4, "one part only");
            let stays = (0..20_000).filter(|n| n % 3 == 0);
            let missing: Vec<u32> =
                stays.filter(|&n| !seen.contains(&format!("value {n:05}"))).collect();
            assert_eq!(missing, Vec::<u32>::new(), "{matchers:?}");
        }
    }
}
