//! Names found by a part of them: how well a text fits what somebody typed, and the best of many.
//!
//! Source: `web/api/v1/search_filters.go` and `util/strutil` of Prometheus; scores are the same.

use std::cmp::Ordering;
use std::collections::BTreeSet;

/// How texts are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchAlgorithm {
    /// All characters in their order, with gaps.
    Subsequence,
    /// A part of the text, or similar to it by Jaro and Winkler.
    JaroWinkler,
}

/// How what is found is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchOrder {
    /// By name.
    Ascending,
    /// By name, the last first.
    Descending,
    /// The best first, of equals by name.
    Score,
}

/// What names are looked for, and how many of them.
#[derive(Debug, Clone, PartialEq)]
pub struct NameSearch {
    /// Names that fit any of these; all names if there are none but empty ones.
    pub terms: Vec<String>,
    /// How they are compared.
    pub algorithm: SearchAlgorithm,
    /// Lowest score, 0 to 1. At 0 nothing is found by similarity alone.
    pub threshold: f64,
    /// Whether upper and lower case are the same.
    pub folds_case: bool,
    /// How what is found is ordered.
    pub order: SearchOrder,
    /// The most that is yielded.
    pub limit: usize,
}

/// A name and how well it fits, above 0 and up to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundName {
    /// The name.
    pub name: String,
    /// Its score.
    pub score: f64,
}

/// Compares many texts with one search. Allocates nothing per text but what the longest needs.
pub struct Scorer {
    terms: Vec<Term>,
    algorithm: SearchAlgorithm,
    threshold: f64,
    folds_case: bool,
    is_ascii: bool,
    bytes: Vec<u8>,
    chars: Vec<char>,
    scratch: JaroScratch,
}

struct Term {
    bytes: Vec<u8>,
    chars: Vec<char>,
}

#[derive(Default)]
struct JaroScratch {
    is_taken: Vec<bool>,
    matched: Vec<usize>,
}

impl Scorer {
    /// For the terms of `search`.
    pub fn new(search: &NameSearch) -> Scorer {
        let term = |term: &String| {
            let term = if search.folds_case { term.to_lowercase() } else { term.clone() };
            Term { chars: term.chars().collect(), bytes: term.into_bytes() }
        };
        let terms: Vec<Term> = search.terms.iter().filter(|t| !t.is_empty()).map(term).collect();
        Scorer {
            is_ascii: terms.iter().all(|term| term.bytes.is_ascii()),
            terms,
            algorithm: search.algorithm,
            threshold: search.threshold,
            folds_case: search.folds_case,
            bytes: Vec::new(),
            chars: Vec::new(),
            scratch: JaroScratch::default(),
        }
    }

    /// The best score of `text`, above 0 and up to 1; `None` if it does not fit.
    ///
    /// Costs some 100 ns for a term and a name; with long texts that repeat what is looked for up to
    /// the square of their length.
    pub fn score(&mut self, text: &str) -> Option<f64> {
        if self.terms.is_empty() {
            return Some(1.0);
        }
        let Scorer { terms, scratch, .. } = self;
        let how = (self.algorithm, self.threshold);
        // Fast path: bytes are characters.
        if self.is_ascii && text.is_ascii() {
            self.bytes.clear();
            self.bytes.extend_from_slice(text.as_bytes());
            if self.folds_case {
                self.bytes.make_ascii_lowercase();
            }
            let scores = terms.iter().map(|term| score_of(how, &term.bytes, &self.bytes, scratch));
            return best(scores);
        }
        self.chars.clear();
        if self.folds_case {
            self.chars.extend(text.chars().flat_map(char::to_lowercase));
        } else {
            self.chars.extend(text.chars());
        }
        best(terms.iter().map(|term| score_of(how, &term.chars, &self.chars, scratch)))
    }
}

fn best(scores: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    scores.flatten().max_by(f64::total_cmp)
}

/// The score of one term, which is not empty.
fn score_of<T: Copy + PartialEq>(
    (algorithm, threshold): (SearchAlgorithm, f64),
    term: &[T],
    text: &[T],
    scratch: &mut JaroScratch,
) -> Option<f64> {
    if text.starts_with(term) {
        return Some(1.0);
    }
    match algorithm {
        SearchAlgorithm::Subsequence => {
            let score = subsequence(term, text);
            (score > 0.0 && score >= threshold).then_some(score)
        }
        SearchAlgorithm::JaroWinkler => {
            if let Some(at) = text.windows(term.len()).position(|part| part == term) {
                // It stands behind the beginning, so the text is longer.
                return Some(1.0 - 0.9 * at as f64 / (text.len() - term.len()) as f64);
            }
            // Without a threshold similar is not enough, and the comparison is not for nothing.
            if threshold <= 0.0 {
                return None;
            }
            let score = jaro_winkler(term, text, scratch);
            (score >= threshold).then_some(score)
        }
    }
}

/// The squares of the lengths of runs, less gaps as shares of the text, that behind the last run
/// counting half, as a share of the square of the whole pattern; from the best place to begin. 0 if
/// the characters are not there in this order.
fn subsequence<T: Copy + PartialEq>(pattern: &[T], text: &[T]) -> f64 {
    if pattern.len() > text.len() {
        return 0.0;
    }
    let starts = (0..=text.len() - pattern.len()).filter(|start| text[*start] == pattern[0]);
    // If it does not fit from one place, it fits from none behind.
    let scores = starts.map_while(|start| subsequence_from(start, pattern, text));
    let best = scores.fold(-1.0, f64::max);
    if best < 0.0 { 0.0 } else { best / (pattern.len() * pattern.len()) as f64 }
}

fn subsequence_from<T: Copy + PartialEq>(start: usize, pattern: &[T], text: &[T]) -> Option<f64> {
    let share = 1.0 / text.len() as f64;
    let (mut score, mut matched, mut end) = (0.0, 0, 0);
    let mut at = start;
    while matched < pattern.len() {
        at += text[at..].iter().position(|c| *c == pattern[matched])?;
        score -= (at - end) as f64 * share;
        let run = text[at..].iter().zip(&pattern[matched..]).take_while(|(a, b)| a == b).count();
        score += (run * run) as f64;
        (matched, at) = (matched + run, at + run);
        end = at;
    }
    Some(score - (text.len() - end) as f64 * share * 0.5)
}

/// Winkler's similarity, with his weight of 0.1 for up to four equal characters in front.
fn jaro_winkler<T: Copy + PartialEq>(a: &[T], b: &[T], scratch: &mut JaroScratch) -> f64 {
    let (short, long) = if a.len() > b.len() { (b, a) } else { (a, b) };
    let jaro = jaro(short, long, scratch);
    let prefix = a.iter().zip(b).take(4).take_while(|(a, b)| a == b).count();
    jaro + prefix as f64 * 0.1 * (1.0 - jaro)
}

fn jaro<T: Copy + PartialEq>(short: &[T], long: &[T], scratch: &mut JaroScratch) -> f64 {
    if short.is_empty() {
        return 0.0;
    }
    let JaroScratch { is_taken, matched } = scratch;
    let reach = (long.len() / 2).saturating_sub(1);
    is_taken.clear();
    is_taken.resize(long.len(), false);
    matched.clear();
    for (at, c) in short.iter().enumerate() {
        let window = at.saturating_sub(reach)..(at + reach + 1).min(long.len());
        let free = window.clone().find(|place| !is_taken[*place] && long[*place] == *c);
        if let Some(place) = free {
            is_taken[place] = true;
            matched.push(at);
        }
    }
    if matched.is_empty() {
        return 0.0;
    }
    let of_long = long.iter().zip(is_taken.iter()).filter(|(_, taken)| **taken).map(|(c, _)| c);
    let differ = matched.iter().zip(of_long).filter(|(at, c)| short[**at] != **c).count();
    let matches = matched.len() as f64;
    let shares = matches / short.len() as f64 + matches / long.len() as f64;
    (shares + (matches - differ as f64 / 2.0) / matches) / 3.0
}

/// The first names of a search, however often each is offered.
///
/// Holds as many names as the search yields, not as there are.
pub struct BestNames {
    scorer: Scorer,
    order: SearchOrder,
    limit: usize,
    kept: BTreeSet<Ranked>,
    bytes: usize,
}

impl BestNames {
    /// Nothing yet.
    pub fn new(search: &NameSearch) -> BestNames {
        let scorer = Scorer::new(search);
        let (order, limit) = (search.order, search.limit);
        BestNames { scorer, order, limit, kept: BTreeSet::new(), bytes: 0 }
    }

    /// Takes a name that may fit.
    pub fn offer(&mut self, name: &str) {
        let is_late = |order: SearchOrder, score: f64, last: &Ranked| {
            compare(order, (score, name), (last.score, &last.name)) != Ordering::Less
        };
        let last = (self.kept.len() >= self.limit).then(|| self.kept.last());
        // Fast path: by name it cannot be among the first, whatever its score.
        if self.order != SearchOrder::Score
            && let Some(last) = last
            && last.is_none_or(|last| is_late(self.order, 0.0, last))
        {
            return;
        }
        let Some(score) = self.scorer.score(name) else { return };
        if let Some(last) = last
            && last.is_none_or(|last| is_late(self.order, score, last))
        {
            return;
        }
        let ranked = Ranked { order: self.order, score, name: name.into() };
        let bytes = ranked.bytes();
        if !self.kept.insert(ranked) {
            return;
        }
        self.bytes += bytes;
        if self.kept.len() > self.limit
            && let Some(last) = self.kept.pop_last()
        {
            self.bytes -= last.bytes();
        }
    }

    /// About the bytes it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What was found, in the order of the search.
    pub fn into_found(self) -> Vec<FoundName> {
        let found = |one: Ranked| FoundName { name: one.name.into(), score: one.score };
        self.kept.into_iter().map(found).collect()
    }
}

struct Ranked {
    order: SearchOrder,
    score: f64,
    name: Box<str>,
}

impl Ranked {
    fn bytes(&self) -> usize {
        // The set's own places included.
        2 * size_of::<Ranked>() + self.name.len()
    }
}

fn compare(order: SearchOrder, a: (f64, &str), b: (f64, &str)) -> Ordering {
    match order {
        SearchOrder::Ascending => a.1.cmp(b.1),
        SearchOrder::Descending => b.1.cmp(a.1),
        SearchOrder::Score => b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)),
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Ranked) -> Ordering {
        compare(self.order, (self.score, &self.name), (other.score, &other.name))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Ranked) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Ranked) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ranked {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn search(terms: &[&str], algorithm: SearchAlgorithm, threshold: f64) -> NameSearch {
        NameSearch {
            terms: terms.iter().map(|&term| term.to_owned()).collect(),
            algorithm,
            threshold,
            folds_case: false,
            order: SearchOrder::Score,
            limit: 100,
        }
    }

    fn score(term: &str, text: &str) -> f64 {
        let mut scorer = Scorer::new(&search(&[term], SearchAlgorithm::Subsequence, 0.0));
        scorer.score(text).map_or(0.0, |score| (score * 1e4).round() / 1e4)
    }

    #[test]
    fn runs_count_for_and_gaps_against() {
        assert_eq!(score("http", "http_requests_total"), 1.0);
        assert_eq!(score("", "anything"), 1.0);
        assert_eq!(score("up", "pu"), 0.0);
        assert_eq!(score("longer", "long"), 0.0);
        assert_eq!(score("x", ""), 0.0);
        // Four in a row in the middle of 10: 16, less 3/10 in front and half of 3/10 behind, of 16.
        assert_eq!(score("cpus", "abccpusxyz"), 0.9719);
        // Runs of two and two: 8, less 2/6 between them, of 16.
        assert_eq!(score("abcd", "ab__cd"), 0.4792);
        // The better of two places to begin.
        assert_eq!(score("ab", "a_ab"), 0.875);
        assert_eq!(score("é", "café"), 0.25);
    }

    #[test]
    fn similar_texts_fit_if_that_is_allowed() {
        let fits = |term: &str, text: &str, threshold| {
            let search = search(&[term], SearchAlgorithm::JaroWinkler, threshold);
            Scorer::new(&NameSearch { folds_case: true, ..search }).score(text)
        };
        assert_eq!(fits("REQ", "http_requests", 0.0), Some(1.0 - 0.9 * 5.0 / 10.0));
        assert_eq!(fits("martha", "marhta", 0.0), None);
        let near = fits("MARTHA", "marhta", 0.9).expect("similar");
        assert!((near - 0.9611).abs() < 1e-4, "{near}");
        let near = fits("dixon", "dicksonx", 0.8).expect("similar");
        assert!((near - 0.8133).abs() < 1e-4, "{near}");
        assert_eq!(fits("dixon", "dicksonx", 0.9), None);
    }

    #[test]
    fn any_of_several_terms_will_do() {
        let search = search(&["up", "", "go"], SearchAlgorithm::Subsequence, 0.5);
        let mut scorer = Scorer::new(&search);
        assert_eq!(scorer.score("go_info"), Some(1.0));
        assert_eq!(scorer.score("u_p"), None);
        assert_eq!(scorer.score("x"), None);
    }

    #[test]
    fn the_first_names_are_kept_each_once() {
        let names = ["b_up", "up", "c", "a_up", "up", "upper"];
        let found = |order, limit| {
            let search = search(&["up"], SearchAlgorithm::Subsequence, 0.0);
            let mut best = BestNames::new(&NameSearch { order, limit, ..search });
            names.iter().for_each(|name| best.offer(name));
            let found = best.into_found();
            found.iter().map(|one| one.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(found(SearchOrder::Ascending, 9), ["a_up", "b_up", "up", "upper"]);
        assert_eq!(found(SearchOrder::Descending, 2), ["upper", "up"]);
        assert_eq!(found(SearchOrder::Score, 3), ["up", "upper", "a_up"]);
        assert!(found(SearchOrder::Ascending, 0).is_empty());
    }

    fn any_search() -> impl Strategy<Value = NameSearch> {
        let orders = [SearchOrder::Ascending, SearchOrder::Descending, SearchOrder::Score];
        let algorithms = [SearchAlgorithm::Subsequence, SearchAlgorithm::JaroWinkler];
        let terms = prop::collection::vec("[abAB_é]{0,4}", 0..3);
        let order = prop::sample::select(orders.to_vec());
        let algorithm = prop::sample::select(algorithms.to_vec());
        (terms, algorithm, 0.0..1.0f64, any::<bool>(), order, 0..6usize).prop_map(
            |(terms, algorithm, threshold, folds_case, order, limit)| NameSearch {
                terms,
                algorithm,
                threshold,
                folds_case,
                order,
                limit,
            },
        )
    }

    proptest! {
        /// Keeping the first is the same as scoring all, sorting, and cutting.
        #[test]
        fn the_best_are_those_of_a_sorted_list(
            search in any_search(),
            names in prop::collection::vec("[abcABÉé_]{0,6}", 0..20),
        ) {
            let mut best = BestNames::new(&search);
            names.iter().for_each(|name| best.offer(name));
            let mut scorer = Scorer::new(&search);
            let mut all: Vec<FoundName> = BTreeSet::from_iter(names)
                .into_iter()
                .filter_map(|name| scorer.score(&name).map(|score| FoundName { name, score }))
                .collect();
            all.sort_by(|a, b| compare(search.order, (a.score, &a.name), (b.score, &b.name)));
            all.truncate(search.limit);
            let held: usize = all.iter().map(|one| one.name.len() + 2 * size_of::<Ranked>()).sum();
            prop_assert_eq!(best.bytes(), held);
            prop_assert_eq!(best.into_found(), all);
        }

        /// Scores lie between 0 and 1; bytes and characters tell the same.
        #[test]
        fn scores_are_shares(search in any_search(), name in "[abcABÉé_]{0,8}") {
            let mut scorer = Scorer::new(&search);
            let score = scorer.score(&name);
            prop_assert!(score.is_none_or(|score| score > 0.0 && score <= 1.0), "{:?}", score);
            scorer.is_ascii = false;
            prop_assert_eq!(scorer.score(&name), score);
        }
    }
}
