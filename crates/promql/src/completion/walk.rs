//! A machine that follows the tokens of a query as far as it is written.

use std::ops::Range;

use model::{METRIC_NAME, MatchOp, Matcher};

use super::{MAX_SELECTORS, Place};
use crate::ast::BinaryOp;
use crate::lexer::{Keyword, Lexer, Token, TokenKind, unquote};

/// Where the tokens lead.
pub(super) struct Walk<'a> {
    lexer: Lexer<'a>,
    frames: Vec<Frame>,
    state: State,
    /// All selectors of series, in the order in which they stand.
    selectors: Vec<Vec<Matcher>>,
    /// The selector of the last token, if it is a name: of a metric, or of a function if a bracket
    /// follows.
    named: Option<usize>,
    before: Option<TokenKind>,
    /// The selectors among the arguments that were closed last.
    arguments: Range<usize>,
    /// The number of frames outside the arguments that are looked for, and what was found.
    wanted: Option<(usize, Option<Range<usize>>)>,
    patterns: usize,
}

/// What was read last, outside of brackets.
#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// Nothing, an opening bracket or a comma: an expression begins.
    Begin,
    /// A binary operator, and what stands behind it.
    Operator(BinaryOp, Behind),
    Operand(Operand),
    /// The name of an aggregation, and whether its clause stands behind it already.
    Aggregation {
        is_grouped: bool,
    },
    /// `by` or `without`, and whether the arguments stood before it.
    Grouping {
        is_behind: bool,
    },
    /// `on` or `ignoring`.
    Matching(BinaryOp),
    /// `fill` and the like.
    Fill(BinaryOp, Keyword),
    Offset(Operand),
    At(Operand),
    /// Half an operator.
    Incomplete,
}

/// What stands behind a binary operator.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Behind {
    Nothing,
    Bool,
    Matching,
    /// `group_left` or `group_right`, without its labels.
    Group,
    Include,
    Fill(Keyword),
}

/// An expression that is complete.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Operand {
    Selector,
    Range,
    Subquery,
    /// An aggregation that may have a clause behind it.
    Aggregation,
    Number,
    Text,
    /// A call, or something in brackets.
    Other,
}

/// An open bracket, and the state behind it once it is closed.
struct Frame {
    kind: FrameKind,
    /// Selectors before it.
    selectors: usize,
    then: State,
}

enum FrameKind {
    Paren,
    /// A list of labels, which selectors bear them as far as is known, and those that stand in it.
    Labels {
        of: LabelsOf,
        taken: Vec<String>,
    },
    /// A number for what is missing, or the end of `start()`.
    Closed,
    Braces(Braces),
    Brackets,
}

#[derive(Debug, Clone)]
enum LabelsOf {
    /// The arguments before.
    Arguments(Range<usize>),
    /// The arguments that follow.
    Following,
    /// The whole query.
    All,
}

/// A selector under way.
struct Braces {
    /// Its place among the selectors.
    selector: usize,
    label: Option<String>,
    op: Option<MatchOp>,
}

impl<'a> Walk<'a> {
    /// Follows `text` to its end.
    pub(super) fn new(text: &'a str) -> Walk<'a> {
        let mut walk = Walk {
            lexer: Lexer::new(text),
            frames: Vec::new(),
            state: State::Begin,
            selectors: Vec::new(),
            named: None,
            before: None,
            arguments: 0..0,
            wanted: None,
            patterns: 0,
        };
        walk.follow(text);
        walk
    }

    /// Goes on with `text`.
    pub(super) fn go_on(&mut self, text: &'a str) {
        self.lexer = self.lexer.resumed(text);
        self.follow(text);
    }

    fn follow(&mut self, text: &str) {
        while let Some(token) = self.lexer.next_tolerant() {
            self.take(token, &text[token.span.start as usize..token.span.end as usize]);
        }
    }

    /// Whether a colon is no part of a word here.
    pub(super) fn has_plain_words(&self) -> bool {
        matches!(
            self.frames.last().map(|frame| &frame.kind),
            Some(FrameKind::Braces(_) | FrameKind::Brackets | FrameKind::Labels { .. })
        )
    }

    fn take(&mut self, token: Token, text: &str) {
        match self.frames.last_mut().map(|frame| &mut frame.kind) {
            Some(FrameKind::Braces(_)) => self.take_in_braces(token.kind, text),
            Some(FrameKind::Brackets) => {
                if token.kind == TokenKind::RightBracket {
                    self.close();
                } else if token.kind == TokenKind::Colon
                    && let Some(frame) = self.frames.last_mut()
                {
                    frame.then = State::Operand(Operand::Subquery);
                }
            }
            Some(FrameKind::Labels { taken, .. }) => match token.kind {
                TokenKind::RightParen => self.close(),
                TokenKind::Comma => {}
                TokenKind::String => taken.push(unquote(text)),
                _ => taken.push(text.to_owned()),
            },
            Some(FrameKind::Closed) => {
                if token.kind == TokenKind::RightParen {
                    self.close();
                }
            }
            Some(FrameKind::Paren) | None => self.take_in_expression(token.kind, text),
        }
        self.before = Some(token.kind);
    }

    fn open(&mut self, kind: FrameKind, then: State) {
        self.frames.push(Frame { kind, selectors: self.selectors.len(), then });
        self.state = State::Begin;
    }

    fn close(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        self.state = frame.then;
        if let FrameKind::Paren = frame.kind {
            self.arguments = frame.selectors..self.selectors.len();
            if let Some((depth, found @ None)) = &mut self.wanted
                && *depth == self.frames.len()
            {
                *found = Some(self.arguments.clone());
            }
        }
    }

    fn take_in_braces(&mut self, kind: TokenKind, text: &str) {
        let Some(Frame { kind: FrameKind::Braces(braces), .. }) = self.frames.last_mut() else {
            return;
        };
        match kind {
            TokenKind::RightBrace => {
                let name = braces.label.take().filter(|_| braces.op.is_none());
                let selector = braces.selector;
                self.name_metric(name, selector);
                self.close();
            }
            TokenKind::Comma => {
                let name = braces.label.take().filter(|_| braces.op.is_none());
                braces.op = None;
                let selector = braces.selector;
                self.name_metric(name, selector);
            }
            TokenKind::Assign => braces.op = Some(MatchOp::Equal),
            TokenKind::Operator(BinaryOp::NotEqual) => braces.op = Some(MatchOp::NotEqual),
            TokenKind::MatchRegex => braces.op = Some(MatchOp::Regex),
            TokenKind::MatchNotRegex => braces.op = Some(MatchOp::NotRegex),
            TokenKind::String => {
                let value = unquote(text);
                match (&braces.label, braces.op) {
                    (Some(label), Some(op)) => {
                        let is_pattern = matches!(op, MatchOp::Regex | MatchOp::NotRegex);
                        self.patterns += usize::from(is_pattern);
                        // What is left out widens the search.
                        if !is_pattern || self.patterns <= MAX_SELECTORS {
                            let matcher = Matcher::new(label.clone(), op, value);
                            self.selectors[braces.selector].extend(matcher);
                        }
                    }
                    // Of a label if an operator follows, of a metric otherwise.
                    _ => braces.label = Some(value),
                }
            }
            _ => braces.label = Some(text.to_owned()),
        }
    }

    /// A name in quotation marks without an operator is that of the metric.
    fn name_metric(&mut self, name: Option<String>, selector: usize) {
        if let Some(name) = name
            && self.before == Some(TokenKind::String)
        {
            let matcher = Matcher::new(METRIC_NAME, MatchOp::Equal, name);
            self.selectors[selector].extend(matcher);
        }
    }

    fn take_in_expression(&mut self, kind: TokenKind, text: &str) {
        let named = self.named.take();
        let expects = matches!(self.state, State::Begin | State::Operator(..));
        match (kind, self.state) {
            (TokenKind::LeftParen, state) => self.take_paren(state, named.is_some()),
            (TokenKind::RightParen, _) => self.close(),
            (TokenKind::Comma, _) => self.state = State::Begin,
            (TokenKind::LeftBrace, _) => {
                let selector = named.unwrap_or_else(|| self.add_selector(None));
                let braces = Braces { selector, label: None, op: None };
                self.open(FrameKind::Braces(braces), State::Operand(Operand::Selector));
            }
            (TokenKind::LeftBracket, _) => {
                self.open(FrameKind::Brackets, State::Operand(Operand::Range));
            }
            (TokenKind::Aggregator(_), _) if expects => {
                self.state = State::Aggregation { is_grouped: false };
            }
            // A sign.
            (
                TokenKind::Operator(BinaryOp::Add | BinaryOp::Sub),
                State::Begin | State::Operator(..) | State::Offset(_) | State::At(_),
            ) => {}
            (TokenKind::Operator(op), _) => self.state = State::Operator(op, Behind::Nothing),
            (TokenKind::At, State::Operand(operand)) => self.state = State::At(operand),
            (TokenKind::Keyword(keyword), state) => self.take_keyword(keyword, state, text),
            (TokenKind::Number | TokenKind::Duration, State::Offset(of) | State::At(of)) => {
                self.state = State::Operand(of);
            }
            (TokenKind::Number | TokenKind::Duration, _) => {
                self.state = State::Operand(Operand::Number);
            }
            (TokenKind::String, _) => self.state = State::Operand(Operand::Text),
            (TokenKind::Assign, _) => self.state = State::Incomplete,
            (TokenKind::Identifier | TokenKind::MetricIdentifier, _) => {
                self.named = Some(self.add_selector(Some(text)));
                self.state = State::Operand(Operand::Selector);
            }
            _ => {}
        }
    }

    fn add_selector(&mut self, name: Option<&str>) -> usize {
        let matcher = |name| Matcher::new(METRIC_NAME, MatchOp::Equal, name).ok();
        self.selectors.push(name.and_then(matcher).into_iter().collect());
        self.selectors.len() - 1
    }

    fn take_paren(&mut self, state: State, is_call: bool) {
        let labels = |of| FrameKind::Labels { of, taken: Vec::new() };
        let (kind, then) = match state {
            State::Aggregation { is_grouped } => {
                let operand = if is_grouped { Operand::Other } else { Operand::Aggregation };
                (FrameKind::Paren, State::Operand(operand))
            }
            State::Grouping { is_behind: true } => {
                let of = LabelsOf::Arguments(self.arguments.clone());
                (labels(of), State::Operand(Operand::Other))
            }
            State::Grouping { is_behind: false } => {
                (labels(LabelsOf::Following), State::Aggregation { is_grouped: true })
            }
            State::Matching(op) => (labels(LabelsOf::All), State::Operator(op, Behind::Matching)),
            State::Operator(op, Behind::Group) => {
                (labels(LabelsOf::All), State::Operator(op, Behind::Include))
            }
            State::Fill(op, keyword) => {
                (FrameKind::Closed, State::Operator(op, Behind::Fill(keyword)))
            }
            State::At(operand) => (FrameKind::Closed, State::Operand(operand)),
            State::Offset(operand) => (FrameKind::Paren, State::Operand(operand)),
            _ => {
                // It was the name of a function, not of a metric.
                if is_call {
                    self.selectors.pop();
                }
                (FrameKind::Paren, State::Operand(Operand::Other))
            }
        };
        self.open(kind, then);
    }

    fn take_keyword(&mut self, keyword: Keyword, state: State, text: &str) {
        let operator = match state {
            State::Operator(op, _) => Some(op),
            _ => None,
        };
        self.state = match (keyword, state) {
            (Keyword::Offset, State::Operand(operand)) => State::Offset(operand),
            (Keyword::Anchored | Keyword::Smoothed, State::Operand(_)) => state,
            (Keyword::By | Keyword::Without, State::Operand(_)) => {
                State::Grouping { is_behind: true }
            }
            (Keyword::By | Keyword::Without, State::Aggregation { .. }) => {
                State::Grouping { is_behind: false }
            }
            (Keyword::Start | Keyword::End, State::At(_)) => state,
            _ => match (keyword, operator) {
                (Keyword::Bool, Some(op)) => State::Operator(op, Behind::Bool),
                (Keyword::On | Keyword::Ignoring, Some(op)) => State::Matching(op),
                (Keyword::GroupLeft | Keyword::GroupRight, Some(op)) => {
                    State::Operator(op, Behind::Group)
                }
                (Keyword::Fill | Keyword::FillLeft | Keyword::FillRight, Some(op)) => {
                    State::Fill(op, keyword)
                }
                // A metric or a function of that name.
                _ => {
                    self.named = Some(self.add_selector(Some(text)));
                    State::Operand(Operand::Selector)
                }
            },
        };
    }

    /// What may stand where the text has been read to, `word` being its beginning and `rest` what
    /// stands behind it.
    pub(super) fn place(self, word: &str, rest: &'a str) -> Place {
        let begins_number = word.starts_with(|c: char| c.is_ascii_digit());
        match self.frames.last().map(|frame| &frame.kind) {
            Some(FrameKind::Braces(_) | FrameKind::Labels { .. }) if begins_number => {
                Place::Nothing
            }
            Some(FrameKind::Braces(braces)) => match (&braces.label, braces.op, self.before) {
                (None, ..) => self.place_of_label(rest),
                (Some(_), None, _) => Place::MatchOperator,
                (Some(_), Some(_), Some(TokenKind::String)) => Place::Nothing,
                (Some(_), Some(_), _) => self.place_of_value(rest),
            },
            Some(FrameKind::Labels { .. }) => self.place_in_list(rest),
            Some(FrameKind::Brackets) => match self.before {
                Some(TokenKind::Number | TokenKind::Duration | TokenKind::RightParen) => {
                    Place::Nothing
                }
                _ => Place::Duration { in_brackets: true },
            },
            Some(FrameKind::Closed) => Place::Nothing,
            Some(FrameKind::Paren) | None => self.place_in_expression(begins_number),
        }
    }

    /// As [`Walk::place`], behind a quotation mark that opens.
    pub(super) fn quoted_place(self, rest: &'a str) -> Place {
        match self.frames.last().map(|frame| &frame.kind) {
            Some(FrameKind::Braces(braces)) => match (&braces.label, braces.op, self.before) {
                (None, ..) => self.place_of_label(rest),
                (Some(_), Some(_), Some(kind)) if kind != TokenKind::String => {
                    self.place_of_value(rest)
                }
                _ => Place::Nothing,
            },
            Some(FrameKind::Labels { .. }) => self.place_in_list(rest),
            _ => Place::Nothing,
        }
    }

    fn place_in_expression(&self, begins_number: bool) -> Place {
        match self.state {
            State::Offset(_) => Place::Duration { in_brackets: false },
            _ if begins_number => Place::Nothing,
            State::Begin => Place::Expression { words: Vec::new() },
            State::Operator(op, behind) => Place::Expression { words: behind_operator(op, behind) },
            State::Operand(operand) => Place::Words(behind_operand(operand)),
            State::Aggregation { is_grouped: false } => Place::Words(vec!["by", "without"]),
            State::At(_) if self.before == Some(TokenKind::At) => {
                Place::Words(vec!["start", "end"])
            }
            _ => Place::Nothing,
        }
    }

    fn place_of_label(mut self, rest: &'a str) -> Place {
        let selector = self.finished_selector(rest);
        let or_metric = !selector.iter().any(|matcher| matcher.name == METRIC_NAME);
        Place::LabelName { selector, or_metric }
    }

    fn place_of_value(mut self, rest: &'a str) -> Place {
        let Some(Frame { kind: FrameKind::Braces(braces), .. }) = self.frames.last_mut() else {
            return Place::Nothing;
        };
        let (Some(label), Some(op)) = (braces.label.take(), braces.op.take()) else {
            return Place::Nothing;
        };
        let is_regex = matches!(op, MatchOp::Regex | MatchOp::NotRegex);
        Place::LabelValue { label, selector: self.finished_selector(rest), is_regex }
    }

    /// The selector at hand, with the matchers behind the place.
    fn finished_selector(&mut self, rest: &'a str) -> Vec<Matcher> {
        let Some(Frame { kind: FrameKind::Braces(braces), .. }) = self.frames.last() else {
            return Vec::new();
        };
        let (selector, depth) = (braces.selector, self.frames.len());
        self.lexer = self.lexer.resumed(rest);
        while let Some(token) = self.lexer.next_tolerant() {
            self.take(token, &rest[token.span.start as usize..token.span.end as usize]);
            if self.frames.len() < depth {
                break;
            }
        }
        std::mem::take(&mut self.selectors[selector])
    }

    fn place_in_list(mut self, rest: &'a str) -> Place {
        let depth = self.frames.len();
        let Some(Frame { kind: FrameKind::Labels { of, taken }, .. }) = self.frames.last() else {
            return Place::Nothing;
        };
        if !matches!(self.before, Some(TokenKind::LeftParen | TokenKind::Comma)) {
            return Place::Nothing;
        }
        let (of, taken, begin) = (of.clone(), taken.clone(), self.selectors.len());
        self.wanted = Some((depth - 1, None));
        self.go_on(rest);
        let found = match (of, self.wanted.take()) {
            (LabelsOf::Arguments(range), _) => range,
            (LabelsOf::Following, Some((_, Some(range)))) => range,
            (LabelsOf::Following, _) => begin..self.selectors.len(),
            (LabelsOf::All, _) => 0..self.selectors.len(),
        };
        let mut selectors = self.selectors.get(found).unwrap_or_default().to_vec();
        selectors.retain(|one| !one.iter().all(Matcher::matches_empty));
        selectors.truncate(MAX_SELECTORS);
        Place::Grouping { selectors, taken }
    }
}

fn behind_operator(op: BinaryOp, behind: Behind) -> Vec<&'static str> {
    let matching: &[&str] = &["on", "ignoring"];
    let group: &[&str] = &["group_left", "group_right"];
    let fill: &[&str] = &["fill", "fill_left", "fill_right"];
    let bool: &[&str] = if op.is_comparison() { &["bool"] } else { &[] };
    let parts: &[&[&str]] = match behind {
        Behind::Nothing => &[bool, matching, fill],
        Behind::Bool => &[matching, fill],
        Behind::Matching => &[group, fill],
        Behind::Group | Behind::Include => &[fill],
        Behind::Fill(Keyword::FillLeft) => &[&["fill_right"]],
        Behind::Fill(Keyword::FillRight) => &[&["fill_left"]],
        Behind::Fill(_) => &[],
    };
    // Between sets there is nothing to group and nothing to fill.
    let is_set = matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless);
    let words = parts.concat().into_iter();
    words.filter(|word| !is_set || matching.contains(word)).collect()
}

fn behind_operand(operand: Operand) -> Vec<&'static str> {
    const OPERATORS: [&str; 4] = ["and", "or", "unless", "atan2"];
    match operand {
        Operand::Selector => [&["offset", "anchored", "smoothed"], &OPERATORS[..]].concat(),
        Operand::Range => vec!["offset", "anchored", "smoothed"],
        Operand::Subquery => vec!["offset"],
        Operand::Aggregation => [&["by", "without"], &OPERATORS[..]].concat(),
        Operand::Number => vec!["atan2"],
        Operand::Text => Vec::new(),
        Operand::Other => OPERATORS.to_vec(),
    }
}
