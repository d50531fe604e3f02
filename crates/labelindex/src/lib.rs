//! Which series bear which labels: symbols, postings and the evaluation of matchers.
//!
//! Two indexes answer the same questions ([`LabelIndex`]): [`MemIndex`] of a head, which grows and
//! forgets, and [`BlockIndex`] of a block, which is written once by [`BlockIndexBuilder`]. Its
//! format is drawn in `docs/formats/label-index.md`.
//!
//! A **pair** is a label name with one of its values, numbered. A series is a list of pairs in
//! ascending order of names; the **postings** of a pair are the series that bear it, ascending.
//! An absent label compares as the empty string, as in Prometheus.
//!
//! | module | what |
//! |---|---|
//! | `select` | matchers → series, for both indexes |
//! | `names` | label names and values of chosen series, for both indexes |
//! | `parts` | the same of a head, a part at a time |
//! | `sets` | union, intersection and difference of ascending lists |
//! | `symbols` | names, values and postings that grow |
//! | `memory`, `slots`, `cardinality` | the head's index and where its series come from |
//! | `census` | which labels the series of one time bear, over several indexes |
//! | `builder`, `block` | the block's index, written and read |
//! | `sections`, `dictionary`, `rows` | parts of its format |
//!
//! The crate is synchronous and pure; everything it holds is in memory.

mod block;
mod builder;
mod cardinality;
mod census;
mod dictionary;
mod error;

mod memory;
mod names;
mod packed;
mod parts;
mod rows;
mod sections;
mod select;
mod sets;
mod slots;
mod symbols;

pub use block::BlockIndex;
pub use builder::{BlockIndexBuilder, MAX_SERIES};
pub use cardinality::{Cardinality, Counted};
pub use census::{Census, Period};
pub use error::IndexError;
pub use memory::MemIndex;
pub use parts::{Parts, Texts};

use model::{Labels, Matcher};

/// What can be asked of an index.
pub trait LabelIndex {
    /// Ordinals of the series that satisfy all of `matchers`, ascending; all series if there are
    /// none.
    ///
    /// Costs about 1 to 3 ns per posting that must be read; a regular expression runs once per
    /// distinct value of its label, or not at all if it is a list of literals.
    fn select(&self, matchers: &[Matcher]) -> Vec<u32>;

    /// The labels of a series. Well below 1 µs.
    ///
    /// # Panics
    /// No series has this ordinal.
    fn labels(&self, ordinal: u32) -> Labels;

    /// Number of series.
    fn series_count(&self) -> usize;

    /// Names of the labels that series which satisfy all of `matchers` bear, ascending. Without
    /// matchers nothing but the names is read.
    fn label_names(&self, matchers: &[Matcher]) -> Vec<String>;

    /// Values that the label `name` has in series which satisfy all of `matchers`, ascending.
    /// Without matchers nothing but the values is read.
    fn label_values(&self, name: &str, matchers: &[Matcher]) -> Vec<String>;

    /// Shows `visit` what [`LabelIndex::label_names`] yields, in no order, and of a head perhaps
    /// more than once.
    fn visit_names(&self, matchers: &[Matcher], visit: &mut dyn FnMut(&str));

    /// Shows `visit` what [`LabelIndex::label_values`] yields, in no order, and of a head
    /// perhaps more than once.
    fn visit_values(&self, name: &str, matchers: &[Matcher], visit: &mut dyn FnMut(&str));
}
