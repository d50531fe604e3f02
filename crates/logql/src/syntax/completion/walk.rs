//! A machine that follows the tokens of a query as far as it is written.

use model::{MatchOp, Matcher};

use super::super::ast::VectorOp;
use super::super::lexer::{Lexer, Token, TokenKind, unquote};
use super::Place;
use super::words::{BEHIND_OPERATOR, BINARY, STAGES};

use TokenKind as K;

/// Where the tokens lead.
pub(super) struct Walk<'a> {
    text: &'a str,
    frames: Vec<Frame>,
    state: State,
    /// Where the selector of the query of lines at hand starts, and the stage of it.
    lines: usize,
    stage: usize,
    /// Matchers of the selector that is open.
    matchers: Vec<Matcher>,
    /// How many patterns were compiled.
    patterns: usize,
}

/// Patterns that are compiled of one query: each may take megabytes.
const MAX_PATTERNS: usize = 16;

/// Brackets that are followed; what is written deeper is not completed.
const MAX_FRAMES: usize = 100;

/// What was read last.
#[derive(Debug, Clone, PartialEq)]
enum State {
    /// An expression begins.
    Begin,
    /// As well, behind a binary operator, with what may say how the sides are matched.
    Operator,
    /// The name of a function or aggregation.
    Named {
        is_grouped: bool,
    },
    /// `by`, `without`, `on`, `ignoring`, `group_left`, `group_right`: a list of labels follows.
    Listing,
    /// A list of labels that stands open: a name, or a comma.
    List {
        wants_name: bool,
    },
    /// A selector that stands open.
    Matcher(Part),
    /// A query of lines that is whole.
    Lines,
    /// An operator of a line filter, and its text.
    LineFilter,
    LineText,
    Pipe,
    /// Behind `json` or `logfmt`: fields to take, and whether flags may still come.
    Extraction {
        takes_flags: bool,
    },
    /// The text of `pattern`, `regexp` or `line_format` follows.
    Quoted {
        is_template: bool,
    },
    /// `label_format`.
    Format(Part),
    /// `drop` or `keep`.
    Choice(Part),
    /// A filter of fields.
    Filter(Part),
    Unwrap,
    Unwrapped,
    /// Within the brackets of a length of time.
    Range,
    Ranged,
    Offset,
    /// A complete expression of numbers.
    Operand,
    Nothing,
}

/// Part of a condition.
#[derive(Debug, Clone, PartialEq)]
enum Part {
    Name,
    Operator(String),
    Value(String, MatchOp),
    /// The value of a comparison by size.
    Quantity,
    Done,
}

/// An open bracket, and the state behind it once it is closed.
struct Frame {
    then: State,
}

impl<'a> Walk<'a> {
    pub(super) fn new(text: &'a str) -> Walk<'a> {
        let mut walk = Walk {
            text,
            frames: Vec::new(),
            state: State::Begin,
            lines: 0,
            stage: 0,
            matchers: Vec::new(),
            patterns: 0,
        };
        let mut lexer = Lexer::new(text.as_bytes());
        loop {
            match lexer.next_token() {
                Ok(Token { kind: K::End, .. }) => return walk,
                Ok(token) => walk.take(token),
                Err(error) => {
                    let is_range = text[error.at as usize..].starts_with('[');
                    walk.state = match walk.state {
                        State::Lines | State::LineText | State::Unwrapped if is_range => {
                            State::Range
                        }
                        State::Extraction { .. } | State::Filter(Part::Done) if is_range => {
                            State::Range
                        }
                        _ => State::Nothing,
                    };
                    return walk;
                }
            }
        }
    }

    fn text_of(&self, token: Token) -> &'a str {
        &self.text[token.span.start as usize..token.span.end as usize]
    }

    fn value_of(&self, token: Token) -> String {
        unquote(self.text_of(token)).unwrap_or_default()
    }

    fn open(&mut self, then: State, inside: State) {
        if self.frames.len() == MAX_FRAMES {
            self.state = State::Nothing;
            return;
        }
        self.frames.push(Frame { then });
        self.state = inside;
    }

    fn take(&mut self, token: Token) {
        let kind = token.kind;
        if kind == K::CloseParen {
            // What closes nothing is passed over.
            if let Some(Frame { then }) = self.frames.pop() {
                self.state = match (&self.state, then) {
                    (State::List { .. }, State::Begin) => State::Begin,
                    // Brackets around lines hold lines.
                    (inside, State::Begin) if inside.ends_lines() => State::Lines,
                    (_, State::Begin) => State::Operand,
                    (_, then) => then,
                };
            }
            return;
        }
        self.state = match std::mem::replace(&mut self.state, State::Nothing) {
            State::Begin | State::Operator => self.at_begin(token),
            State::Named { is_grouped } => match kind {
                K::OpenParen => {
                    // Aggregations may have their clause behind, too.
                    self.open(State::Operand, State::Begin);
                    return;
                }
                K::By | K::Without if !is_grouped => State::Listing,
                _ if is_grouped => self.behind_operand(kind),
                _ => State::Nothing,
            },
            State::Listing => match kind {
                K::OpenParen => {
                    let then = match self.text[..token.span.start as usize].trim_end() {
                        before if ends_with_grouping(before) => State::Named { is_grouped: true },
                        _ => State::Begin,
                    };
                    self.open(then, State::List { wants_name: true });
                    return;
                }
                _ => State::Nothing,
            },
            State::List { wants_name } => match kind {
                K::Comma => State::List { wants_name: true },
                _ if wants_name && self.names_label(token) => State::List { wants_name: false },
                _ => State::Nothing,
            },
            State::Matcher(part) => self.in_selector(part, token),
            State::LineFilter => match kind {
                K::String => State::LineText,
                K::Ip => State::LineFilter,
                K::OpenParen => {
                    self.open(State::LineText, State::LineFilter);
                    return;
                }
                _ => State::Nothing,
            },
            State::LineText if kind == K::Or => State::LineFilter,
            State::Lines | State::LineText => self.behind_lines(token),
            State::Pipe => self.behind_pipe(token),
            State::Extraction { takes_flags } => match kind {
                K::Flag if takes_flags => State::Extraction { takes_flags },
                K::Comma | K::Eq | K::String => State::Extraction { takes_flags: false },
                _ if self.names_label(token) => State::Extraction { takes_flags: false },
                _ => self.behind_lines(token),
            },
            State::Quoted { .. } if kind == K::String => State::Lines,
            State::Format(part) => match (part, kind) {
                (Part::Name, _) if self.names_label(token) => {
                    State::Format(Part::Operator(self.text_of(token).to_owned()))
                }
                (Part::Operator(name), K::Eq) => State::Format(Part::Value(name, MatchOp::Equal)),
                (Part::Value(..), _) => State::Format(Part::Done),
                (Part::Done, K::Comma) => State::Format(Part::Name),
                (Part::Done, _) => self.behind_lines(token),
                _ => State::Nothing,
            },
            State::Choice(part) => self.in_choice(part, token),
            State::Filter(part) => self.in_filter(part, token),
            State::Unwrap => match kind {
                K::BytesConversion | K::DurationConversion | K::DurationSecondsConversion => {
                    State::Unwrap
                }
                K::OpenParen => {
                    self.open(State::Unwrapped, State::Unwrap);
                    return;
                }
                _ if self.names_label(token) => State::Unwrapped,
                _ => State::Nothing,
            },
            State::Unwrapped => self.behind_lines(token),
            State::Ranged => match kind {
                K::Offset => State::Offset,
                _ => self.behind_lines(token),
            },
            State::Offset if kind == K::Duration => State::Ranged,
            State::Operand => self.behind_operand(kind),
            _ => State::Nothing,
        };
    }

    /// Whether a token names a label or a field: words of the language may, too.
    fn names_label(&self, token: Token) -> bool {
        self.text_of(token).starts_with(|c: char| c == '_' || c.is_alphabetic())
    }

    fn at_begin(&mut self, token: Token) -> State {
        match token.kind {
            K::OpenBrace => {
                self.lines = token.span.start as usize;
                self.matchers.clear();
                State::Matcher(Part::Name)
            }
            K::OpenParen => {
                self.open(State::Begin, State::Begin);
                State::Begin
            }
            K::RangeOp(_) | K::VectorOp(_) | K::Vector | K::LabelReplace => {
                State::Named { is_grouped: false }
            }
            K::Identifier if vector_op(self.text_of(token)) => State::Named { is_grouped: false },
            K::Number | K::String => State::Operand,
            K::Sub | K::Add | K::Comma | K::Bool => State::Begin,
            K::On | K::Ignoring | K::GroupLeft | K::GroupRight => State::Listing,
            _ => State::Nothing,
        }
    }

    fn behind_operand(&mut self, kind: TokenKind) -> State {
        match kind {
            K::Comma => State::Begin,
            K::By | K::Without => State::Listing,
            K::Or | K::And | K::Unless => State::Operator,
            K::CmpEq | K::Neq | K::Lt | K::Lte | K::Gt | K::Gte => State::Operator,
            K::Add | K::Sub | K::Mul | K::Div | K::Mod | K::Pow => State::Operator,
            _ => State::Nothing,
        }
    }

    fn in_selector(&mut self, part: Part, token: Token) -> State {
        let done = |walk: &Self| {
            walk.names_label(token)
                .then(|| State::Matcher(Part::Operator(walk.text_of(token).to_owned())))
        };
        match (part, token.kind) {
            (Part::Name | Part::Done, K::CloseBrace) => State::Lines,
            (Part::Name, _) => done(self).unwrap_or(State::Nothing),
            (Part::Operator(name), kind) => match match_op(kind) {
                Some(op) => State::Matcher(Part::Value(name, op)),
                None => State::Nothing,
            },
            (Part::Value(name, op), K::String) => {
                let value = self.value_of(token);
                self.add_matcher(name, op, value);
                State::Matcher(Part::Done)
            }
            (Part::Done, K::Comma) => State::Matcher(Part::Name),
            _ => State::Nothing,
        }
    }

    fn add_matcher(&mut self, name: String, op: MatchOp, value: String) {
        if matches!(op, MatchOp::Regex | MatchOp::NotRegex) {
            self.patterns += 1;
            if self.patterns > MAX_PATTERNS {
                return;
            }
        }
        // What is no pattern narrows nothing.
        self.matchers.extend(Matcher::new(name, op, value));
    }

    /// What may follow lines: another stage, a length of time, the end of their expression.
    fn behind_lines(&mut self, token: Token) -> State {
        match token.kind {
            K::PipeExact | K::Neq | K::PipeMatch | K::Nre | K::PipePattern | K::NotPattern => {
                self.stage = token.span.start as usize;
                State::LineFilter
            }
            K::Pipe => {
                self.stage = token.span.start as usize;
                State::Pipe
            }
            K::Range => State::Ranged,
            K::Offset => State::Offset,
            _ => State::Nothing,
        }
    }

    fn behind_pipe(&mut self, token: Token) -> State {
        match token.kind {
            K::Json => State::Extraction { takes_flags: false },
            K::Logfmt => State::Extraction { takes_flags: true },
            K::Regexp | K::Pattern => State::Quoted { is_template: false },
            K::LineFormat => State::Quoted { is_template: true },
            K::LabelFormat => State::Format(Part::Name),
            K::Unpack | K::Decolorize => State::Lines,
            K::Drop | K::Keep => State::Choice(Part::Name),
            K::Unwrap => State::Unwrap,
            _ => self.in_filter(Part::Name, token),
        }
    }

    fn in_choice(&mut self, part: Part, token: Token) -> State {
        match (part, token.kind) {
            (Part::Name, _) if self.names_label(token) => {
                State::Choice(Part::Operator(self.text_of(token).to_owned()))
            }
            (Part::Operator(_) | Part::Done, K::Comma) => State::Choice(Part::Name),
            (Part::Operator(name), kind) => match match_op(kind) {
                Some(op) => State::Choice(Part::Value(name, op)),
                None => self.behind_lines(token),
            },
            (Part::Value(..), K::String) => State::Choice(Part::Done),
            (Part::Done, _) => self.behind_lines(token),
            _ => State::Nothing,
        }
    }

    fn in_filter(&mut self, part: Part, token: Token) -> State {
        match (part, token.kind) {
            (Part::Name, K::OpenParen) => {
                self.open(State::Filter(Part::Done), State::Filter(Part::Name));
                State::Filter(Part::Name)
            }
            (Part::Name, _) if self.names_label(token) => {
                State::Filter(Part::Operator(self.text_of(token).to_owned()))
            }
            (Part::Operator(name), kind) => match (match_op(kind), kind) {
                (Some(op), _) => State::Filter(Part::Value(name, op)),
                (None, K::CmpEq | K::Gt | K::Gte | K::Lt | K::Lte) => State::Filter(Part::Quantity),
                _ => State::Nothing,
            },
            (Part::Value(..), K::Ip) => State::Filter(Part::Quantity),
            (Part::Value(..), K::String | K::Number | K::Duration | K::Bytes) => {
                State::Filter(Part::Done)
            }
            (Part::Quantity, K::OpenParen) => {
                self.open(State::Filter(Part::Done), State::Filter(Part::Quantity));
                State::Filter(Part::Quantity)
            }
            (Part::Quantity, _) => State::Filter(Part::Done),
            (Part::Done, K::And | K::Or | K::Comma) => State::Filter(Part::Name),
            (Part::Done, _) => self.behind_lines(token),
            _ => State::Nothing,
        }
    }

    /// The query of lines up to the stage at hand, which is whole.
    fn query(&self) -> String {
        self.text.get(self.lines..self.stage).unwrap_or_default().trim_end().to_owned()
    }

    /// What may stand where only half of a sign is written, and the length of that half.
    pub(super) fn half_a_sign(&self) -> Option<(usize, Place)> {
        let signs = |signs: &[&'static str]| Some((1, Place::Words(signs.to_vec())));
        match (self.text.chars().next_back()?, &self.state) {
            ('!', _) => {
                let before = Walk::new(&self.text[..self.text.len() - 1]);
                match before.state {
                    State::Matcher(Part::Operator(_)) | State::Choice(Part::Operator(_)) => {
                        signs(&["!=", "!~"])
                    }
                    State::Filter(Part::Operator(_)) => signs(&["!=", "!~"]),
                    state if state.ends_lines() => signs(&["!=", "!~", "!>"]),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// What may stand behind the tokens; `word` is what is written of it already.
    pub(super) fn place(&self, word: &str, behind: &str) -> Place {
        let field = |is_compared: bool, words: &[&'static str]| Place::Field {
            query: self.query(),
            is_compared,
            words: words.to_vec(),
        };
        match &self.state {
            _ if word.starts_with(|c: char| c.is_numeric())
                && !matches!(self.state, State::Range | State::Offset) =>
            {
                Place::Nothing
            }
            State::Begin => Place::Expression { words: Vec::new() },
            State::Operator => Place::Expression { words: BEHIND_OPERATOR.to_vec() },
            State::Named { is_grouped: false } => Place::Words(vec!["by", "without"]),
            State::List { wants_name: true } => Place::Field {
                query: lines_in(behind).or_else(|| lines_in(self.text)).unwrap_or_default(),
                is_compared: false,
                words: Vec::new(),
            },
            State::Matcher(Part::Name) => Place::LabelName { selector: self.selector_with(behind) },
            State::Matcher(Part::Operator(_)) => Place::Words(vec!["=", "!=", "=~", "!~"]),
            State::Matcher(Part::Value(label, op)) => self.value(label, *op, behind),
            State::Pipe => Place::Stage { query: self.query() },
            State::LineFilter => Place::Words(vec!["ip"]),
            State::LineText => Place::Words([&["or"], &STAGES[..]].concat()),
            State::Extraction { takes_flags: true } => {
                Place::Words([&["--strict", "--keep-empty"], &STAGES[..]].concat())
            }
            State::Lines | State::Extraction { .. } => Place::Words(STAGES.to_vec()),
            State::Unwrapped | State::Choice(Part::Done) | State::Format(Part::Done) => {
                Place::Words(STAGES.to_vec())
            }
            State::Format(Part::Value(..)) | State::Choice(Part::Name) => field(false, &[]),
            State::Choice(Part::Operator(_)) => {
                Place::Words([&["=", "!=", "=~", "!~"], &STAGES[..]].concat())
            }
            State::Filter(Part::Name) => field(true, &[]),
            State::Filter(Part::Operator(_)) => {
                Place::Words(vec!["=", "!=", "=~", "!~", ">", ">=", "<", "<="])
            }
            State::Filter(Part::Value(name, op)) | State::Choice(Part::Value(name, op)) => {
                self.field_value(name, *op)
            }
            State::Filter(Part::Done) => Place::Words([&["and", "or"], &STAGES[..]].concat()),
            State::Unwrap => field(false, &["bytes", "duration", "duration_seconds"]),
            State::Range | State::Offset => Place::Duration,
            State::Ranged => Place::Words(vec!["offset"]),
            State::Operand => Place::Words(BINARY.to_vec()),
            _ => Place::Nothing,
        }
    }

    /// What may stand within a quotation that begins behind the tokens, after `inside` of it.
    pub(super) fn quoted_place(&self, inside: &str, behind: &str) -> Place {
        match &self.state {
            State::Matcher(Part::Value(label, op)) => self.value(label, *op, behind),
            State::Filter(Part::Value(name, op)) | State::Choice(Part::Value(name, op)) => {
                self.field_value(name, *op)
            }
            State::Quoted { is_template: true } | State::Format(Part::Value(..)) => {
                self.template(inside)
            }
            _ => Place::Nothing,
        }
    }

    fn template(&self, inside: &str) -> Place {
        let Some(open) = inside.rfind("{{") else { return Place::Nothing };
        if inside[open..].contains("}}") {
            return Place::Nothing;
        }
        let before = inside.trim_end_matches(super::is_word);
        Place::Template { query: self.query(), is_field: before.ends_with('.') }
    }

    fn field_value(&self, field: &str, op: MatchOp) -> Place {
        let is_regex = matches!(op, MatchOp::Regex | MatchOp::NotRegex);
        Place::FieldValue { query: self.query(), field: field.to_owned(), is_regex }
    }

    fn value(&self, label: &str, op: MatchOp, behind: &str) -> Place {
        let is_regex = matches!(op, MatchOp::Regex | MatchOp::NotRegex);
        let label = label.to_owned();
        Place::LabelValue { label, selector: self.selector_with(behind), is_regex }
    }

    /// The matchers before, and those that follow up to the closing brace.
    fn selector_with(&self, behind: &str) -> Vec<Matcher> {
        let mut matchers = self.matchers.clone();
        let mut lexer = Lexer::new(behind.as_bytes());
        let mut words: Vec<Token> = Vec::new();
        let mut patterns = self.patterns;
        while let Ok(token) = lexer.next_token() {
            match token.kind {
                K::End | K::CloseBrace | K::OpenBrace => break,
                K::Comma => words.clear(),
                _ => words.push(token),
            }
            let [name, op, value] = words[..] else { continue };
            let text = |token: Token| &behind[token.span.start as usize..token.span.end as usize];
            let (Some(op), K::String) = (match_op(op.kind), value.kind) else { continue };
            patterns += usize::from(matches!(op, MatchOp::Regex | MatchOp::NotRegex));
            if patterns <= MAX_PATTERNS {
                let value = unquote(text(value)).unwrap_or_default();
                matchers.extend(Matcher::new(text(name), op, value));
            }
        }
        matchers
    }
}

impl State {
    /// Whether a query of lines that is whole stands before.
    fn ends_lines(&self) -> bool {
        matches!(
            self,
            State::Lines
                | State::LineText
                | State::Unwrapped
                | State::Extraction { .. }
                | State::Filter(Part::Done)
                | State::Choice(Part::Done)
                | State::Format(Part::Done)
        )
    }
}

fn vector_op(word: &str) -> bool {
    VectorOp::ALL.iter().any(|op| op.as_str().eq_ignore_ascii_case(word))
}

fn ends_with_grouping(text: &str) -> bool {
    let word = &text[text.trim_end_matches(super::is_word).len()..];
    ["by", "without"].iter().any(|one| one.eq_ignore_ascii_case(word))
}

fn match_op(kind: TokenKind) -> Option<MatchOp> {
    match kind {
        K::Eq => Some(MatchOp::Equal),
        K::Neq => Some(MatchOp::NotEqual),
        K::Re => Some(MatchOp::Regex),
        K::Nre => Some(MatchOp::NotRegex),
        _ => None,
    }
}

/// The first query of lines in a text, from its selector to the end of what is whole of it.
fn lines_in(text: &str) -> Option<String> {
    let mut lexer = Lexer::new(text.as_bytes());
    let mut start = None;
    let mut end = 0;
    let mut depth = 0_usize;
    while let Ok(token) = lexer.next_token() {
        match (token.kind, start) {
            (K::End, _) => break,
            (K::OpenBrace, None) => start = Some(token.span.start as usize),
            (_, None) => continue,
            (K::Range | K::Unwrap, _) => break,
            (K::OpenParen, _) => depth += 1,
            (K::CloseParen, _) if depth == 0 => break,
            (K::CloseParen, _) => depth -= 1,
            _ => {}
        }
        end = token.span.end as usize;
    }
    let lines = text.get(start?..end)?.trim_end();
    Some(lines.strip_suffix('|').unwrap_or(lines).trim_end().to_owned())
}
