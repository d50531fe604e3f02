//! Matchers → series, for both indexes.
//!
//! A condition that an absent label does not satisfy *includes*: a series must bear one of the
//! pairs that satisfy it. Any other condition *excludes*: a series must bear none of the pairs
//! that do not satisfy it. So each condition is a set of pairs, and the series are an intersection
//! of unions of postings less other such unions.

use model::{MatchOp, Matcher};

use crate::sets;

/// What the evaluator needs of an index. Series, names and pairs are numbers below some bound.
pub(crate) trait Store {
    /// Walks series; the nearer the next one, the cheaper.
    type Rows<'a>: Rows
    where
        Self: 'a;

    /// A bound of all series' numbers; all below it are series, or gone.
    fn series_bound(&self) -> u32;
    /// Names with their numbers, which are 0, 1, 2 …, in any order.
    fn names(&self) -> impl Iterator<Item = (u32, &str)>;
    /// The number of a name.
    fn name(&self, name: &str) -> Option<u32>;
    /// A name by its number.
    fn name_text_of(&self, name: u32) -> &str;
    /// The name of a pair.
    fn name_of(&self, pair: u32) -> u32;
    /// The value of a pair.
    fn value_of(&self, pair: u32) -> &str;
    /// A pair by its value.
    fn pair(&self, name: u32, value: &str) -> Option<u32>;
    /// Pairs whose value starts with `prefix`, in any order.
    fn pairs(&self, name: u32, prefix: &str) -> impl Iterator<Item = u32>;
    /// How many postings a pair has.
    fn postings_len(&self, pair: u32) -> usize;
    /// Appends the postings of a pair, ascending. Some may be gone.
    fn append_postings(&self, pair: u32, out: &mut Vec<u32>);
    /// Access to the labels of series.
    fn rows(&self) -> Self::Rows<'_>;
}

/// Access to the labels of series.
pub(crate) trait Rows {
    /// The pairs of a series, in ascending order of names.
    fn pairs_of(&mut self, series: u32) -> &[u32];
}

/// Looking at the labels of one series costs as much as reading this many postings.
pub(crate) const POSTINGS_PER_ROW: usize = 32;

/// A condition as pairs: with one of them (`include`), or with none of them.
struct Condition {
    include: bool,
    pairs: Vec<u32>,
    /// Sum of the postings of `pairs`.
    postings: usize,
}

/// Numbers of the series that satisfy all of `matchers`, ascending.
pub(crate) fn select<S: Store>(store: &S, matchers: &[Matcher]) -> Vec<u32> {
    let mut conditions: Vec<Condition> =
        matchers.iter().filter_map(|matcher| condition(store, matcher)).collect();
    // Those that include come first, the rarest of them at the head.
    conditions.sort_by_key(|condition| (!condition.include, condition.postings));
    let (mut selected, rest) = match conditions.split_first() {
        Some((first, rest)) if first.include => (union(store, first), rest),
        _ => ((0..store.series_bound()).collect(), conditions.as_slice()),
    };
    for condition in rest {
        if selected.is_empty() {
            break;
        }
        if condition.postings / POSTINGS_PER_ROW > selected.len() {
            filter(store, condition, &mut selected);
        } else if condition.include {
            sets::intersect(&mut selected, &union(store, condition));
        } else {
            sets::subtract(&mut selected, &union(store, condition));
        }
    }
    selected
}

fn union<S: Store>(store: &S, condition: &Condition) -> Vec<u32> {
    let mut all = Vec::with_capacity(condition.postings);
    for &pair in &condition.pairs {
        store.append_postings(pair, &mut all);
    }
    if condition.pairs.len() > 1 {
        sets::settle(&mut all, store.series_bound() as usize);
    }
    all
}

/// Keeps the series whose labels satisfy the condition, without reading its postings.
fn filter<S: Store>(store: &S, condition: &Condition, selected: &mut Vec<u32>) {
    let mut sorted = condition.pairs.clone();
    sorted.sort_unstable();
    let mut rows = store.rows();
    selected.retain(|&series| {
        let bears = rows.pairs_of(series).iter().any(|pair| sorted.binary_search(pair).is_ok());
        bears == condition.include
    });
}

/// The pairs that decide about `matcher`; `None` if every series satisfies it.
fn condition<S: Store>(store: &S, matcher: &Matcher) -> Option<Condition> {
    let include = !matcher.matches_empty();
    let pairs = match store.name(&matcher.name) {
        None => Vec::new(),
        Some(name) => deciding_pairs(store, name, matcher, include),
    };
    if pairs.is_empty() && !include {
        return None;
    }
    let postings = pairs.iter().map(|&pair| store.postings_len(pair)).sum();
    Some(Condition { include, pairs, postings })
}

/// The pairs with a value that satisfies `matcher` if they are to be included, else those with a
/// value that does not.
fn deciding_pairs<S: Store>(store: &S, name: u32, matcher: &Matcher, include: bool) -> Vec<u32> {
    let (is_negative, is_regex) = match matcher.op {
        MatchOp::Equal => (false, false),
        MatchOp::NotEqual => (true, false),
        MatchOp::Regex => (false, true),
        MatchOp::NotRegex => (true, true),
    };
    // Whether the deciding values are those that the text or the pattern describes.
    let as_written = is_negative != include;
    match matcher.value.as_str() {
        "" if !as_written => return store.pairs(name, "").collect(),
        // What dashboards send for "all".
        ".*" | ".+" if is_regex => {
            return if as_written { store.pairs(name, "").collect() } else { Vec::new() };
        }
        _ => {}
    }
    if !as_written {
        return values_that(store, name, "", |value| matcher.matches(value) == include);
    }
    let listed = match is_regex {
        true => matcher.set_matches(),
        false => Some(std::slice::from_ref(&matcher.value)),
    };
    match listed {
        // No pair has an empty value, so an empty string in the list finds nothing.
        Some(values) => values.iter().filter_map(|value| store.pair(name, value)).collect(),
        None => values_that(store, name, matcher.literal_prefix(), |value| {
            matcher.matches(value) == include
        }),
    }
}

fn values_that<S: Store>(
    store: &S,
    name: u32,
    prefix: &str,
    wanted: impl Fn(&str) -> bool,
) -> Vec<u32> {
    store.pairs(name, prefix).filter(|&pair| wanted(store.value_of(pair))).collect()
}
