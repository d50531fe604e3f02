//! What the lexer yields.

use super::super::ast::{RangeOp, Span, VectorOp};

/// One token of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Span,
    /// Whether Loki reports the token at line 0.
    pub(crate) is_line_lost: bool,
}

/// The kinds of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    End,
    Identifier,
    String,
    Number,
    Bytes,
    Flag,
    Duration,
    Range,
    Eq,
    Re,
    Nre,
    OpenBrace,
    CloseBrace,
    Comma,
    Dot,
    PipeMatch,
    PipeExact,
    PipePattern,
    NotPattern,
    OpenParen,
    CloseParen,
    By,
    Without,
    RangeOp(RangeOp),
    VectorOp(VectorOp),
    Bool,
    Json,
    Regexp,
    Logfmt,
    Pipe,
    LineFormat,
    LabelFormat,
    Unwrap,
    BytesConversion,
    DurationConversion,
    DurationSecondsConversion,
    Vector,
    LabelReplace,
    Unpack,
    Offset,
    Pattern,
    Ip,
    On,
    Ignoring,
    GroupLeft,
    GroupRight,
    Decolorize,
    Drop,
    Keep,
    Or,
    And,
    Unless,
    CmpEq,
    Neq,
    Lt,
    Lte,
    Gt,
    Gte,
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
}

use TokenKind as K;

/// Operators of two characters come before those they start with.
const OPERATORS: [(&str, TokenKind); 26] = [
    ("=~", K::Re),
    ("==", K::CmpEq),
    ("!~", K::Nre),
    ("!=", K::Neq),
    ("!>", K::NotPattern),
    ("|~", K::PipeMatch),
    ("|=", K::PipeExact),
    ("|>", K::PipePattern),
    (">=", K::Gte),
    ("<=", K::Lte),
    ("=", K::Eq),
    ("|", K::Pipe),
    (">", K::Gt),
    ("<", K::Lt),
    ("{", K::OpenBrace),
    ("}", K::CloseBrace),
    ("(", K::OpenParen),
    (")", K::CloseParen),
    (",", K::Comma),
    (".", K::Dot),
    ("+", K::Add),
    ("-", K::Sub),
    ("*", K::Mul),
    ("/", K::Div),
    ("%", K::Mod),
    ("^", K::Pow),
];

/// Words that never name a label.
const WORDS: [(&str, TokenKind); 22] = [
    ("or", K::Or),
    ("and", K::And),
    ("unless", K::Unless),
    ("bool", K::Bool),
    ("by", K::By),
    ("without", K::Without),
    ("on", K::On),
    ("ignoring", K::Ignoring),
    ("group_left", K::GroupLeft),
    ("group_right", K::GroupRight),
    ("offset", K::Offset),
    ("json", K::Json),
    ("logfmt", K::Logfmt),
    ("regexp", K::Regexp),
    ("pattern", K::Pattern),
    ("unpack", K::Unpack),
    ("unwrap", K::Unwrap),
    ("line_format", K::LineFormat),
    ("label_format", K::LabelFormat),
    ("decolorize", K::Decolorize),
    ("drop", K::Drop),
    ("keep", K::Keep),
];

/// Words that are functions only where a parenthesis or a grouping follows.
const FUNCTIONS: [(&str, TokenKind); 6] = [
    ("ip", K::Ip),
    ("vector", K::Vector),
    ("label_replace", K::LabelReplace),
    ("bytes", K::BytesConversion),
    ("duration", K::DurationConversion),
    ("duration_seconds", K::DurationSecondsConversion),
];

/// The operator `text` starts with, and its length.
pub(super) fn operator(text: &str) -> Option<(TokenKind, usize)> {
    OPERATORS
        .iter()
        .find(|(operator, _)| text.starts_with(operator))
        .map(|&(operator, kind)| (kind, operator.len()))
}

/// What a word is that is followed by a call's parenthesis.
pub(super) fn function(word: &str) -> Option<TokenKind> {
    let named = FUNCTIONS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    let range = || RangeOp::ALL.into_iter().find(|op| op.as_str().eq_ignore_ascii_case(word));
    let vector = || VectorOp::ALL.into_iter().find(|op| op.as_str().eq_ignore_ascii_case(word));
    named
        .map(|&(_, kind)| kind)
        .or_else(|| range().map(K::RangeOp))
        .or_else(|| vector().map(K::VectorOp))
}

/// What a word is that is none of the functions.
pub(super) fn word(word: &str) -> TokenKind {
    WORDS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(word))
        .map_or(K::Identifier, |&(_, kind)| kind)
}

impl TokenKind {
    /// Whether it is one of the words that never name a label in Loki.
    pub(crate) fn is_word(self) -> bool {
        WORDS.iter().any(|(_, kind)| *kind == self)
    }

    /// How messages show it.
    pub(crate) fn shown(self) -> String {
        // Loki shows these two as they are written, and its other functions by their names.
        let functions =
            FUNCTIONS.iter().filter(|(_, kind)| matches!(kind, K::Ip | K::LabelReplace));
        OPERATORS
            .iter()
            .chain(&WORDS)
            .chain(functions)
            .find(|(_, kind)| *kind == self)
            .map_or_else(|| self.name(), |(text, _)| (*text).to_owned())
    }

    /// Its name in Loki's grammar.
    pub(crate) fn name(self) -> String {
        let name = match self {
            K::End => "$end",
            K::Identifier => "IDENTIFIER",
            K::String => "STRING",
            K::Number => "NUMBER",
            K::Bytes => "BYTES",
            K::Flag => "FUNCTION_FLAG",
            K::Duration => "DURATION",
            K::Range => "RANGE",
            K::Eq => "EQ",
            K::Re => "RE",
            K::Nre => "NRE",
            K::OpenBrace => "OPEN_BRACE",
            K::CloseBrace => "CLOSE_BRACE",
            K::Comma => "COMMA",
            K::Dot => "DOT",
            K::PipeMatch => "PIPE_MATCH",
            K::PipeExact => "PIPE_EXACT",
            K::PipePattern => "PIPE_PATTERN",
            K::NotPattern => "NPA",
            K::OpenParen => "OPEN_PARENTHESIS",
            K::CloseParen => "CLOSE_PARENTHESIS",
            K::By => "BY",
            K::Without => "WITHOUT",
            K::RangeOp(op) => return op.as_str().to_ascii_uppercase(),
            K::VectorOp(op) => return op.as_str().to_ascii_uppercase(),
            K::Bool => "BOOL",
            K::Json => "JSON",
            K::Regexp => "REGEXP",
            K::Logfmt => "LOGFMT",
            K::Pipe => "PIPE",
            K::LineFormat => "LINE_FMT",
            K::LabelFormat => "LABEL_FMT",
            K::Unwrap => "UNWRAP",
            K::BytesConversion => "BYTES_CONV",
            K::DurationConversion => "DURATION_CONV",
            K::DurationSecondsConversion => "DURATION_SECONDS_CONV",
            K::Vector => "VECTOR",
            K::LabelReplace => "LABEL_REPLACE",
            K::Unpack => "UNPACK",
            K::Offset => "OFFSET",
            K::Pattern => "PATTERN",
            K::Ip => "IP",
            K::On => "ON",
            K::Ignoring => "IGNORING",
            K::GroupLeft => "GROUP_LEFT",
            K::GroupRight => "GROUP_RIGHT",
            K::Decolorize => "DECOLORIZE",
            K::Drop => "DROP",
            K::Keep => "KEEP",
            K::Or => "OR",
            K::And => "AND",
            K::Unless => "UNLESS",
            K::CmpEq => "CMP_EQ",
            K::Neq => "NEQ",
            K::Lt => "LT",
            K::Lte => "LTE",
            K::Gt => "GT",
            K::Gte => "GTE",
            K::Add => "ADD",
            K::Sub => "SUB",
            K::Mul => "MUL",
            K::Div => "DIV",
            K::Mod => "MOD",
            K::Pow => "POW",
        };
        name.to_owned()
    }
}
