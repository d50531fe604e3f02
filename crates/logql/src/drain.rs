//! Patterns of lines: lines that differ in few words are one.
//!
//! A tree sorts lines by their number of words and their first words; below it, the pattern that has
//! the most words in common with a line takes it in, and what differs becomes `<_>`. Everything is
//! bounded: patterns, words of a line, nodes of the tree.
//!
//! Source: P. He, J. Zhu, Z. Zheng, M. Lyu, "Drain: An Online Log Parsing Approach with Fixed Depth
//! Tree", ICWS 2017; how lines are taken apart, and the numbers below, are those of Loki, so that
//! patterns look alike.

use std::collections::HashMap;

use rapidhash::RapidHashMap;

/// What stands for a part that differs.
const PLACEHOLDER: &str = "<_>";

/// Words from the start that the tree sorts by.
const TREE_DEPTH: usize = 28;

/// Children of one node, the one for everything else included.
const MAX_CHILDREN: usize = 15;

/// Part of the words that has to be equal.
const MIN_SIMILARITY: f64 = 0.3;

/// Patterns that are kept; the one that was used least recently goes first.
const MAX_PATTERNS: usize = 300;

/// Longer lines have no pattern.
const MAX_LINE_BYTES: usize = 3_000;

/// Lines of fewer words have no pattern.
const MIN_WORDS: usize = 4;

/// Lines of more words have no pattern.
const MAX_WORDS: usize = 80;

/// Words a line is taken apart into; what follows them is one word.
const MAX_SPLIT: usize = 127;

/// Nodes of the tree from which on those of forgotten patterns are cleared away.
const MAX_NODES: usize = 2 * MAX_PATTERNS * TREE_DEPTH;

/// Number of a pattern. Numbers are not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PatternId(u64);

/// Finds patterns in lines, usually those of one stream or one level of it.
#[derive(Debug, Default)]
pub struct PatternFinder {
    /// The node of lines with that number of words.
    roots: RapidHashMap<usize, usize>,
    nodes: Vec<Node>,
    patterns: RapidHashMap<PatternId, Pattern>,
    next_id: u64,
    clock: u64,
}

#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<str>, usize, rapidhash::fast::RandomState>,
    /// The child for everything else.
    other: Option<usize>,
    patterns: Vec<PatternId>,
}

impl Node {
    fn len(&self) -> usize {
        self.children.len() + usize::from(self.other.is_some())
    }
}

#[derive(Debug)]
struct Pattern {
    /// `None` for what differs.
    words: Vec<Option<Box<str>>>,
    /// Blanks behind each word, those before the first word first.
    blanks: Vec<u16>,
    used: u64,
}

/// A line, taken apart.
struct Words<'l> {
    words: Vec<&'l str>,
    blanks: Vec<u16>,
}

impl PatternFinder {
    /// Takes a line in. Yields its pattern, or `None` for a line that is too short or too long to have
    /// one.
    pub fn learn(&mut self, line: &str) -> Option<PatternId> {
        if line.len() > MAX_LINE_BYTES {
            return None;
        }
        let line = split(line);
        if !(MIN_WORDS..=MAX_WORDS).contains(&line.words.len()) {
            return None;
        }
        self.clock += 1;
        if let Some(id) = self.find(&line.words) {
            let pattern = self.patterns.get_mut(&id)?;
            pattern.used = self.clock;
            for (known, word) in pattern.words.iter_mut().zip(&line.words) {
                if known.as_deref() != Some(*word) {
                    *known = None;
                }
            }
            return Some(id);
        }
        self.next_id += 1;
        let id = PatternId(self.next_id);
        let words: Vec<Option<Box<str>>> = line
            .words
            .iter()
            .map(|word| (*word != PLACEHOLDER).then(|| Box::from(*word)))
            .collect();
        self.make_room();
        self.insert(id, &words);
        self.patterns.insert(id, Pattern { words, blanks: line.blanks, used: self.clock });
        Some(id)
    }

    /// All patterns with their texts, oldest first.
    pub fn patterns(&self) -> Vec<(PatternId, String)> {
        let mut all: Vec<_> =
            self.patterns.iter().map(|(id, pattern)| (*id, pattern.text())).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    /// The text of a pattern: `<_>` for what differs. `None` if it was forgotten.
    pub fn pattern(&self, id: PatternId) -> Option<String> {
        self.patterns.get(&id).map(Pattern::text)
    }

    /// The pattern that fits best.
    fn find(&self, words: &[&str]) -> Option<PatternId> {
        let mut at = *self.roots.get(&words.len())?;
        for word in words.iter().take((TREE_DEPTH - 1).min(words.len() - 1)) {
            let node = &self.nodes[at];
            let exact = if *word == PLACEHOLDER { None } else { node.children.get(*word).copied() };
            at = exact.or(node.other)?;
        }
        let mut best: Option<(f64, usize, PatternId)> = None;
        for id in &self.nodes[at].patterns {
            let Some(pattern) = self.patterns.get(id) else { continue };
            let (similarity, open) = pattern.similarity(words);
            let better = best.is_none_or(|(best_similarity, best_open, _)| {
                similarity > best_similarity || (similarity == best_similarity && open > best_open)
            });
            if better {
                best = Some((similarity, open, *id));
            }
        }
        best.filter(|(similarity, _, _)| *similarity >= MIN_SIMILARITY).map(|(_, _, id)| id)
    }

    /// Puts a pattern below the node of its first words.
    fn insert(&mut self, id: PatternId, words: &[Option<Box<str>>]) {
        let mut at = match self.roots.get(&words.len()) {
            Some(root) => *root,
            None => {
                let root = self.node();
                self.roots.insert(words.len(), root);
                root
            }
        };
        for word in words.iter().take((TREE_DEPTH - 1).min(words.len() - 1)) {
            at = self.descend(at, word.as_deref());
        }
        let patterns = &self.patterns;
        let node = &mut self.nodes[at];
        node.patterns.retain(|id| patterns.contains_key(id));
        node.patterns.push(id);
    }

    /// The child for a word, which is made if there is none: of its own, unless the word has a digit
    /// or there are many children.
    fn descend(&mut self, at: usize, word: Option<&str>) -> usize {
        let node = &self.nodes[at];
        let known = match word {
            Some(word) => node.children.get(word).copied(),
            None => node.other,
        };
        if let Some(known) = known {
            return known;
        }
        let own = word.filter(|word| !word.chars().any(char::is_numeric)).filter(|_| {
            // The last place is for everything else.
            node.len() + usize::from(node.other.is_none()) < MAX_CHILDREN
        });
        if own.is_none()
            && let Some(other) = node.other
        {
            return other;
        }
        let child = self.node();
        let node = &mut self.nodes[at];
        match own {
            Some(word) => {
                node.children.insert(word.into(), child);
            }
            None => node.other = Some(child),
        }
        child
    }

    fn node(&mut self) -> usize {
        self.nodes.push(Node::default());
        self.nodes.len() - 1
    }

    /// Forgets the pattern used least recently, if there are too many, and clears the tree, if most
    /// of it is of forgotten ones.
    fn make_room(&mut self) {
        if self.patterns.len() >= MAX_PATTERNS {
            let oldest = self.patterns.iter().min_by_key(|(id, pattern)| (pattern.used, **id));
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.patterns.remove(&oldest);
            }
        }
        if self.nodes.len() > MAX_NODES {
            self.roots.clear();
            self.nodes.clear();
            let mut all: Vec<PatternId> = self.patterns.keys().copied().collect();
            all.sort_unstable();
            for id in all {
                let words = self.patterns.get(&id).map(|pattern| pattern.words.clone());
                self.insert(id, &words.unwrap_or_default());
            }
        }
    }
}

impl Pattern {
    /// Part of the words that is equal, and the number of places that differ already.
    fn similarity(&self, words: &[&str]) -> (f64, usize) {
        let (mut equal, mut open) = (0usize, 0usize);
        for (known, word) in self.words.iter().zip(words) {
            match known {
                None => open += 1,
                Some(known) => equal += usize::from(**known == **word),
            }
        }
        (equal as f64 / self.words.len() as f64, open)
    }

    fn text(&self) -> String {
        let mut out = " ".repeat(usize::from(self.blanks[0]));
        let mut placeholder_before = false;
        for (word, blanks) in self.words.iter().zip(&self.blanks[1..]) {
            match word {
                // Two in a row tell no more than one.
                None if placeholder_before => {}
                None => out.push_str(PLACEHOLDER),
                Some(word) => out.push_str(word),
            }
            placeholder_before = word.is_none() && *blanks == 0;
            out.extend(std::iter::repeat_n(' ', usize::from(*blanks)));
        }
        out
    }
}

/// Takes a line apart at blanks, punctuation and `=`. Punctuation is a word of its own, except what
/// joins parts of names, numbers and paths.
fn split(line: &str) -> Words<'_> {
    let mut words = Vec::new();
    let mut blanks = vec![0u16];
    let mut start = 0;
    for (at, c) in line.char_indices() {
        if words.len() >= MAX_SPLIT {
            break;
        }
        if c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/') {
            continue;
        }
        if c != ' ' && c != '=' && !is_punctuation(c) {
            continue;
        }
        if at > start {
            words.push(&line[start..at]);
            blanks.push(0);
        }
        start = at + c.len_utf8();
        if c == ' ' {
            if let Some(last) = blanks.last_mut() {
                *last = last.saturating_add(1);
            }
        } else {
            words.push(&line[at..start]);
            blanks.push(0);
        }
    }
    if start < line.len() {
        words.push(&line[start..]);
        blanks.push(0);
    }
    Words { words, blanks }
}

/// Unicode's punctuation, beyond ASCII as far as logs have it.
fn is_punctuation(c: char) -> bool {
    if c.is_ascii() {
        // Unicode calls these symbols.
        return c.is_ascii_punctuation()
            && !matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '`' | '|' | '~');
    }
    matches!(
        c,
        '\u{a1}' | '\u{a7}' | '\u{ab}' | '\u{b6}' | '\u{b7}' | '\u{bb}' | '\u{bf}'
            | '\u{2010}'..='\u{2027}'
            | '\u{2030}'..='\u{205e}'
            | '\u{3001}'..='\u{3003}'
            | '\u{3008}'..='\u{3011}'
            | '\u{ff01}'..='\u{ff03}'
            | '\u{ff05}'..='\u{ff0a}'
            | '\u{ff0c}'..='\u{ff0f}'
            | '\u{ff1a}'..='\u{ff1b}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn patterns(lines: &[&str]) -> Vec<String> {
        let mut finder = PatternFinder::default();
        for line in lines {
            finder.learn(line);
        }
        finder.patterns().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn what_differs_becomes_a_placeholder() {
        let lines = [
            "user 17 logged in from 10.0.0.1",
            "user 18 logged in from 10.0.0.2",
            "  cache  flushed (12 entries) now",
            "  cache  flushed (13 entries) now",
            "short line",
        ];
        assert_eq!(
            patterns(&lines),
            ["user <_> logged in from <_>", "  cache  flushed (<_> entries) now"]
        );
    }

    #[test]
    fn a_pattern_tells_its_number() {
        let mut finder = PatternFinder::default();
        let first = finder.learn("a b c 1").expect("a pattern");
        assert_eq!(finder.learn("a b c 2"), Some(first));
        assert_ne!(finder.learn("x y z 1 2"), Some(first));
        assert_eq!(finder.pattern(first).as_deref(), Some("a b c <_>"));
    }

    #[test]
    fn old_patterns_and_their_nodes_are_forgotten() {
        let mut finder = PatternFinder::default();
        let kept = finder.learn("the one that stays used 0").expect("a pattern");
        for round in 0..4_000u32 {
            let name: String = format!("{round:08x}")
                .bytes()
                .map(|byte| char::from(b'g' + (byte - b'0') % 16))
                .collect();
            finder.learn(&[name.as_str(); 9].join(" "));
            assert_eq!(finder.learn("the one that stays used 1"), Some(kept));
        }
        assert!(finder.patterns.len() <= MAX_PATTERNS);
        assert!(finder.nodes.len() <= MAX_NODES + TREE_DEPTH + 1, "{}", finder.nodes.len());
        assert_eq!(finder.pattern(kept).as_deref(), Some("the one that stays used <_>"));
    }

    proptest! {
        #[test]
        fn a_line_alone_is_its_own_pattern(line in r#"([a-z]{1,4}|[ "=:(]|\PC){0,40}"#) {
            let mut finder = PatternFinder::default();
            if let Some(id) = finder.learn(&line) {
                let text = finder.pattern(id).expect("it was just learned");
                // Nothing differs yet, unless the line says so itself.
                if !line.contains(PLACEHOLDER) {
                    prop_assert_eq!(text, line);
                }
            }
        }
    }
}
