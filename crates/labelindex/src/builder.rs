//! Writes the index of a block.

use codec::varint::put_u64;
use model::Labels;

use crate::dictionary::encode_strings;
use crate::rows::RowEncoder;
use crate::sections;
use crate::symbols::{Symbols, reserve_tight};

/// Most series a block's index can have.
pub const MAX_SERIES: u32 = codec::MAX_COLUMN_LEN as u32;

/// Collects the series of a block. Memory: about 8 bytes per label and 40 per distinct pair, with
/// its value.
pub struct BlockIndexBuilder {
    symbols: Symbols,
    /// Pairs of all series.
    rows: Vec<u32>,
    /// Where the pairs of each series end.
    ends: Vec<u32>,
    last: Option<Labels>,
}

impl BlockIndexBuilder {
    /// Starts an index. `seed` keys the hashes of labels and leaves no trace in what is written.
    pub fn new(seed: u64) -> Self {
        BlockIndexBuilder {
            symbols: Symbols::new(seed),
            rows: Vec::new(),
            ends: Vec::new(),
            last: None,
        }
    }

    /// Adds the next series. 50 to 150 ns per label.
    ///
    /// # Panics
    /// `labels` is not above those before; more than [`MAX_SERIES`] series or 4 G labels.
    pub fn push(&mut self, labels: &Labels) {
        assert!(self.last.as_ref().is_none_or(|last| last < labels), "series ascend");
        assert!(self.ends.len() < MAX_SERIES as usize, "a block has at most {MAX_SERIES} series");
        let series = self.ends.len() as u32;
        for (name, value) in labels.iter() {
            let pair = self.symbols.intern(name, value);
            self.symbols.post(pair, series);
            reserve_tight(&mut self.rows, 1);
            self.rows.push(pair);
        }
        let end = u32::try_from(self.rows.len()).expect("a block has less than 4 G labels");
        self.ends.push(end);
        self.last = Some(labels.clone());
    }

    /// Appends the index to `out`, as `docs/formats/label-index.md` draws it.
    ///
    /// # Panics
    /// All distinct strings together have 4 GiB or more.
    pub fn finish(self, out: &mut Vec<u8>) {
        let order = Order::of(&self.symbols);
        let mut dictionary = Vec::new();
        order.encode_dictionary(&self.symbols, &mut dictionary);
        let mut series = Vec::new();
        self.encode_rows(&order, &mut series);
        let (mut postings, mut ordinals) = (Vec::new(), Vec::new());
        for &pair in order.pairs.iter().flatten() {
            ordinals.clear();
            self.symbols.append_postings(pair, &mut ordinals);
            put_u64(&mut postings, ordinals.len() as u64);
            codec::encode_postings(&ordinals, &mut postings);
        }
        sections::encode(self.ends.len() as u32, [&dictionary, &series, &postings], out);
    }

    fn encode_rows(&self, order: &Order, out: &mut Vec<u8>) {
        let mut encoder = RowEncoder::default();
        let (mut names, mut values) = (Vec::new(), Vec::new());
        let mut start = 0;
        for &end in &self.ends {
            names.clear();
            values.clear();
            for &pair in &self.rows[start..end as usize] {
                let name = self.symbols.pairs()[pair as usize].name;
                names.push(order.place_of_name[name as usize]);
                values.push(order.place_of_pair[pair as usize]);
            }
            encoder.push(&names, &values);
            start = end as usize;
        }
        encoder.finish(out);
    }
}

/// Names and values in ascending order.
struct Order {
    names: Vec<u32>,
    /// The pairs of each of `names`.
    pairs: Vec<Vec<u32>>,
    /// By number of the name: its place in `names`.
    place_of_name: Vec<u32>,
    /// By number of the pair: the place of its value among those of its name.
    place_of_pair: Vec<u32>,
}

impl Order {
    fn of(symbols: &Symbols) -> Self {
        let mut names: Vec<u32> = (0..symbols.names().len() as u32).collect();
        names.sort_unstable_by_key(|&name| symbols.name_text(name));
        let mut place_of_name = vec![0; names.len()];
        let mut place_of_pair = vec![0; symbols.pairs().len()];
        let mut pairs = Vec::with_capacity(names.len());
        for (place, &name) in (0..).zip(&names) {
            place_of_name[name as usize] = place;
            let mut of_name = symbols.names()[name as usize].pairs.clone();
            of_name.sort_unstable_by_key(|&pair| symbols.value_text(pair));
            for (place, &pair) in (0..).zip(&of_name) {
                place_of_pair[pair as usize] = place;
            }
            pairs.push(of_name);
        }
        Order { names, pairs, place_of_name, place_of_pair }
    }

    fn encode_dictionary(&self, symbols: &Symbols, out: &mut Vec<u8>) {
        put_u64(out, self.names.len() as u64);
        encode_strings(self.names.iter().map(|&name| symbols.name_text(name)), out);
        for pairs in &self.pairs {
            put_u64(out, pairs.len() as u64);
        }
        for pairs in &self.pairs {
            encode_strings(pairs.iter().map(|&pair| symbols.value_text(pair)), out);
        }
    }
}
