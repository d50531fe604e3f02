//! Label names, their values and the postings of each pair, as they grow.

use codec::varint::{put_u64, take_u64};
use hashbrown::HashTable;
use rapidhash::v3::{RapidSecrets, rapidhash_v3_inline};

use crate::packed;

/// Numbers of a list that need no allocation of their own: two thirds of all pairs of a typical
/// head belong to one target's few series.
const INLINE: usize = 3;

/// Names, pairs and postings. Names and pairs are numbered as they appear.
pub(crate) struct Symbols {
    secrets: RapidSecrets,
    names: Vec<Name>,
    name_lookup: HashTable<u32>,
    pairs: Vec<Pair>,
    pair_lookup: HashTable<u32>,
    /// All values, packed.
    text: Vec<u8>,
}

/// A label name.
pub(crate) struct Name {
    /// The packed name.
    text: Box<[u8]>,
    /// All pairs of the name.
    pub(crate) pairs: Vec<u32>,
    /// How many of them are borne by a series.
    pub(crate) live_values: usize,
    /// Bytes of their values.
    pub(crate) live_bytes: usize,
}

/// A label name with a value. 40 bytes.
pub(crate) struct Pair {
    /// Where the value begins in the text.
    start: usize,
    pub(crate) name: u32,
    /// Series that bear the pair and were not removed.
    pub(crate) live: u32,
    list: List,
}

/// Ascending numbers of series; those removed are still there.
enum List {
    Inline { len: u32, numbers: [u32; INLINE] },
    Heap(Box<Gaps>),
}

/// Numbers as varints of how many are left out before each. Series of one target come together, so
/// that most gaps take a byte.
struct Gaps {
    len: u32,
    last: u32,
    bytes: Vec<u8>,
}

impl Symbols {
    /// `seed` keys the hashes; whoever chooses labels must not know it.
    pub(crate) fn new(seed: u64) -> Self {
        Symbols {
            secrets: RapidSecrets::seed(seed),
            names: Vec::new(),
            name_lookup: HashTable::new(),
            pairs: Vec::new(),
            pair_lookup: HashTable::new(),
            text: Vec::new(),
        }
    }

    /// The pair's number; it is new if nothing has it yet.
    pub(crate) fn intern(&mut self, name: &str, value: &str) -> u32 {
        let name = self.intern_name(name);
        let hash = hash_pair(&self.secrets, name, value.as_bytes());
        if let Some(pair) = self.find_hashed(hash, name, value) {
            return pair;
        }
        let pair = u32::try_from(self.pairs.len()).expect("4 G pairs do not fit in memory");
        let start = self.text.len();
        packed::push(&mut self.text, value);
        self.pairs.push(Pair { start, name, live: 0, list: List::new() });
        self.names[name as usize].pairs.push(pair);
        let Symbols { secrets, pairs, pair_lookup, text, .. } = self;
        pair_lookup.insert_unique(hash, pair, |&other| {
            let other = &pairs[other as usize];
            hash_pair(secrets, other.name, packed::at(text, other.start).1.as_bytes())
        });
        pair
    }

    fn intern_name(&mut self, name: &str) -> u32 {
        if let Some(known) = self.name(name) {
            return known;
        }
        let number = self.names.len() as u32;
        let mut text = Vec::with_capacity(name.len() + 2);
        packed::push(&mut text, name);
        let text = text.into_boxed_slice();
        self.names.push(Name { text, pairs: Vec::new(), live_values: 0, live_bytes: 0 });
        let Symbols { secrets, names, name_lookup, .. } = self;
        let hash_of = |name: &str| hash(secrets, name.as_bytes());
        name_lookup.insert_unique(hash_of(name), number, |&other| {
            hash_of(packed::at(&names[other as usize].text, 0).1)
        });
        number
    }

    /// The number of a name.
    pub(crate) fn name(&self, name: &str) -> Option<u32> {
        let hash = hash(&self.secrets, name.as_bytes());
        let is_it = |&other: &u32| self.name_text(other) == name;
        self.name_lookup.find(hash, is_it).copied()
    }

    /// The number of a pair.
    pub(crate) fn pair(&self, name: u32, value: &str) -> Option<u32> {
        self.find_hashed(hash_pair(&self.secrets, name, value.as_bytes()), name, value)
    }

    fn find_hashed(&self, hash: u64, name: u32, value: &str) -> Option<u32> {
        let is_it = |&other: &u32| {
            let other = &self.pairs[other as usize];
            other.name == name && {
                let bytes = packed::bytes_at(&self.text, other.start);
                bytes.ends_with(value.as_bytes()) && packed::at(bytes, 0).1.len() == value.len()
            }
        };
        self.pair_lookup.find(hash, is_it).copied()
    }

    /// Adds `series`, above all before it, to the postings of `pair`.
    pub(crate) fn post(&mut self, pair: u32, series: u32) {
        let pair = &mut self.pairs[pair as usize];
        pair.list.push(series);
        pair.live += 1;
        if pair.live == 1 {
            let name = &mut self.names[pair.name as usize];
            name.live_values += 1;
            name.live_bytes += packed::at(&self.text, pair.start).1.len();
        }
    }

    /// Notes that a series which bears `pair` is gone. It stays in the postings.
    pub(crate) fn forget(&mut self, pair: u32) {
        let pair = &mut self.pairs[pair as usize];
        pair.live -= 1;
        if pair.live == 0 {
            let name = &mut self.names[pair.name as usize];
            name.live_values -= 1;
            name.live_bytes -= packed::at(&self.text, pair.start).1.len();
        }
    }

    pub(crate) fn names(&self) -> &[Name] {
        &self.names
    }

    pub(crate) fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    pub(crate) fn name_text(&self, name: u32) -> &str {
        packed::at(&self.names[name as usize].text, 0).1
    }

    pub(crate) fn value_text(&self, pair: u32) -> &str {
        packed::at(&self.text, self.pairs[pair as usize].start).1
    }

    /// Appends a pair as packed labels have it.
    #[inline]
    pub(crate) fn push_packed(&self, pair: u32, out: &mut Vec<u8>) {
        let pair = &self.pairs[pair as usize];
        out.extend_from_slice(&self.names[pair.name as usize].text);
        out.extend_from_slice(packed::bytes_at(&self.text, pair.start));
    }

    /// Takes a pair away from the front of packed labels; whether it was there.
    pub(crate) fn strip_packed(&self, pair: u32, rest: &mut &[u8]) -> bool {
        let pair = &self.pairs[pair as usize];
        let after_name = rest.strip_prefix(&*self.names[pair.name as usize].text);
        let value = packed::bytes_at(&self.text, pair.start);
        match after_name.and_then(|rest| rest.strip_prefix(value)) {
            Some(after) => {
                *rest = after;
                true
            }
            None => false,
        }
    }

    /// How many series bear `pair`, those that are gone included.
    pub(crate) fn postings_len(&self, pair: u32) -> usize {
        self.pairs[pair as usize].list.len()
    }

    /// Appends the series that bear `pair`, ascending, and possibly some that are gone.
    pub(crate) fn append_postings(&self, pair: u32, out: &mut Vec<u32>) {
        self.pairs[pair as usize].list.append_to(out);
    }

    /// The same symbols without pairs that no series bears. `series` gives for each number of a
    /// series its new number, in the same order, or `u32::MAX` if it is gone; the result's second
    /// part gives the same for pairs.
    pub(crate) fn compacted(&self, series: &[u32]) -> (Self, Vec<u32>) {
        let mut kept = Symbols { secrets: self.secrets, ..Symbols::new(0) };
        let mut bearers = Vec::new();
        let new_number = |pair: (u32, &Pair)| {
            if pair.1.live == 0 {
                return u32::MAX;
            }
            let number = kept.intern(self.name_text(pair.1.name), self.value_text(pair.0));
            bearers.clear();
            pair.1.list.append_to(&mut bearers);
            for &old in &bearers {
                if series[old as usize] != u32::MAX {
                    kept.post(number, series[old as usize]);
                }
            }
            number
        };
        let numbers = (0..).zip(&self.pairs).map(new_number).collect();
        (kept, numbers)
    }

    /// Bytes of memory held.
    pub(crate) fn bytes(&self) -> usize {
        let names = self.names.iter().map(|name| name.text.len() + name.pairs.capacity() * 4);
        let lists = self.pairs.iter().map(|pair| match &pair.list {
            List::Inline { .. } => 0,
            List::Heap(gaps) => size_of::<Gaps>() + gaps.bytes.capacity(),
        });
        names.sum::<usize>()
            + lists.sum::<usize>()
            + self.names.capacity() * size_of::<Name>()
            + self.pairs.capacity() * size_of::<Pair>()
            + self.name_lookup.allocation_size()
            + self.pair_lookup.allocation_size()
            + self.text.capacity()
    }
}

impl List {
    fn new() -> Self {
        List::Inline { len: 0, numbers: [0; INLINE] }
    }

    #[inline]
    fn push(&mut self, number: u32) {
        match self {
            List::Heap(gaps) => gaps.push(number),
            List::Inline { len, numbers } => match numbers.get_mut(*len as usize) {
                Some(place) => {
                    *place = number;
                    *len += 1;
                }
                None => {
                    let mut gaps = Gaps::begin(numbers[0]);
                    numbers[1..].iter().for_each(|&number| gaps.push(number));
                    gaps.push(number);
                    *self = List::Heap(Box::new(gaps));
                }
            },
        }
    }

    fn len(&self) -> usize {
        match self {
            List::Inline { len, .. } => *len as usize,
            List::Heap(gaps) => gaps.len as usize,
        }
    }

    fn append_to(&self, out: &mut Vec<u32>) {
        match self {
            List::Inline { len, numbers } => out.extend_from_slice(&numbers[..*len as usize]),
            List::Heap(gaps) => gaps.append_to(out),
        }
    }
}

impl Gaps {
    fn begin(first: u32) -> Self {
        let mut bytes = Vec::with_capacity(8);
        put_u64(&mut bytes, first.into());
        Gaps { len: 1, last: first, bytes }
    }

    /// Appends a number above all before it.
    #[inline]
    fn push(&mut self, number: u32) {
        reserve_tight(&mut self.bytes, MAX_VARINT_LEN);
        put_u64(&mut self.bytes, (number - self.last - 1).into());
        self.last = number;
        self.len += 1;
    }

    fn append_to(&self, out: &mut Vec<u32>) {
        out.reserve(self.len as usize);
        let mut rest = self.bytes.as_slice();
        let mut next = 0_u32;
        while let Some((&first, after)) = rest.split_first() {
            // Fast path: what comes together.
            let gap = if first < 0x80 {
                rest = after;
                u32::from(first)
            } else {
                take_u64(&mut rest).expect("own varints") as u32
            };
            out.push(next + gap);
            next = next.wrapping_add(gap + 1);
        }
    }
}

/// Bytes of the longest varint of a number of 32 bits.
pub(crate) const MAX_VARINT_LEN: usize = 5;

/// Makes room for `additional` elements, growing by a quarter: doubling would leave a third of all
/// memory unused on average.
#[inline]
pub(crate) fn reserve_tight<T>(elements: &mut Vec<T>, additional: usize) {
    if elements.capacity() - elements.len() < additional {
        elements.reserve_exact(additional.max(elements.len() / 4));
    }
}

fn hash(secrets: &RapidSecrets, bytes: &[u8]) -> u64 {
    // `PROTECTED`: a factor of zero must not erase the other factor.
    rapidhash_v3_inline::<true, false, true>(bytes, secrets)
}

fn hash_pair(secrets: &RapidSecrets, name: u32, value: &[u8]) -> u64 {
    // Multiplication by an odd number is injective, so a value under two names has two hashes.
    hash(secrets, value) ^ u64::from(name).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
