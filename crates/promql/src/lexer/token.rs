//! Kinds of tokens, the words of the language, and how tokens are named in messages.

use crate::ast::{AggregateOp, BinaryOp, Span};
use crate::quote::{quote, write_quoted};

/// A piece of the text. Its text is `&text[span]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Eof,
    /// A word without a colon.
    Identifier,
    /// A word with a colon: the name of a recorded metric.
    MetricIdentifier,
    Number,
    Duration,
    /// With its quotes.
    String,
    Comma,
    Colon,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    /// `=`
    Assign,
    /// `=~`
    MatchRegex,
    /// `!~`
    MatchNotRegex,
    At,
    /// `and` and `atan2` are among them.
    Operator(BinaryOp),
    Aggregator(AggregateOp),
    Keyword(Keyword),
}

/// Words with a meaning beyond operators and aggregators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keyword {
    Anchored,
    Bool,
    By,
    Fill,
    FillLeft,
    FillRight,
    GroupLeft,
    GroupRight,
    Ignoring,
    Offset,
    On,
    Smoothed,
    Without,
    // Names of functions that `@` or durations know.
    End,
    MaxOf,
    MinOf,
    Range,
    Start,
    Step,
}

/// Longest word of the table below.
const LONGEST_WORD: usize = "count_values".len();

/// The meaning of `word`, whatever its case; `None` for plain identifiers.
pub(crate) fn word_kind(word: &str) -> Option<TokenKind> {
    if word.len() > LONGEST_WORD {
        return None;
    }
    let mut lower = [0; LONGEST_WORD];
    let lower = &mut lower[..word.len()];
    lower.copy_from_slice(word.as_bytes());
    lower.make_ascii_lowercase();
    Some(match &*lower {
        b"and" => TokenKind::Operator(BinaryOp::And),
        b"or" => TokenKind::Operator(BinaryOp::Or),
        b"unless" => TokenKind::Operator(BinaryOp::Unless),
        b"atan2" => TokenKind::Operator(BinaryOp::Atan2),
        b"sum" => TokenKind::Aggregator(AggregateOp::Sum),
        b"avg" => TokenKind::Aggregator(AggregateOp::Avg),
        b"count" => TokenKind::Aggregator(AggregateOp::Count),
        b"min" => TokenKind::Aggregator(AggregateOp::Min),
        b"max" => TokenKind::Aggregator(AggregateOp::Max),
        b"group" => TokenKind::Aggregator(AggregateOp::Group),
        b"stddev" => TokenKind::Aggregator(AggregateOp::Stddev),
        b"stdvar" => TokenKind::Aggregator(AggregateOp::Stdvar),
        b"topk" => TokenKind::Aggregator(AggregateOp::Topk),
        b"bottomk" => TokenKind::Aggregator(AggregateOp::Bottomk),
        b"count_values" => TokenKind::Aggregator(AggregateOp::CountValues),
        b"quantile" => TokenKind::Aggregator(AggregateOp::Quantile),
        b"limitk" => TokenKind::Aggregator(AggregateOp::Limitk),
        b"limit_ratio" => TokenKind::Aggregator(AggregateOp::LimitRatio),
        b"anchored" => TokenKind::Keyword(Keyword::Anchored),
        b"bool" => TokenKind::Keyword(Keyword::Bool),
        b"by" => TokenKind::Keyword(Keyword::By),
        b"fill" => TokenKind::Keyword(Keyword::Fill),
        b"fill_left" => TokenKind::Keyword(Keyword::FillLeft),
        b"fill_right" => TokenKind::Keyword(Keyword::FillRight),
        b"group_left" => TokenKind::Keyword(Keyword::GroupLeft),
        b"group_right" => TokenKind::Keyword(Keyword::GroupRight),
        b"ignoring" => TokenKind::Keyword(Keyword::Ignoring),
        b"offset" => TokenKind::Keyword(Keyword::Offset),
        b"on" => TokenKind::Keyword(Keyword::On),
        b"smoothed" => TokenKind::Keyword(Keyword::Smoothed),
        b"without" => TokenKind::Keyword(Keyword::Without),
        b"end" => TokenKind::Keyword(Keyword::End),
        b"max_of" => TokenKind::Keyword(Keyword::MaxOf),
        b"min_of" => TokenKind::Keyword(Keyword::MinOf),
        b"range" => TokenKind::Keyword(Keyword::Range),
        b"start" => TokenKind::Keyword(Keyword::Start),
        b"step" => TokenKind::Keyword(Keyword::Step),
        b"inf" | b"nan" => TokenKind::Number,
        _ => return None,
    })
}

impl TokenKind {
    /// Whether a metric may be called so without braces.
    pub(crate) fn may_name_metric(self) -> bool {
        match self {
            TokenKind::Identifier | TokenKind::MetricIdentifier | TokenKind::Aggregator(_) => true,
            TokenKind::Operator(op) => {
                matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
            }
            TokenKind::Keyword(keyword) => !matches!(
                keyword,
                Keyword::Bool
                    | Keyword::GroupLeft
                    | Keyword::GroupRight
                    | Keyword::Ignoring
                    | Keyword::On
            ),
            _ => false,
        }
    }

    /// Whether a label may be called so inside `by (…)` and the like.
    pub(crate) fn may_name_label(self) -> bool {
        match self {
            TokenKind::Identifier
            | TokenKind::MetricIdentifier
            | TokenKind::Aggregator(_)
            | TokenKind::Keyword(_) => true,
            TokenKind::Operator(op) => {
                matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless | BinaryOp::Atan2)
            }
            _ => false,
        }
    }
}

/// How a message speaks of a token of this kind with this text.
pub(crate) fn describe(kind: TokenKind, text: &str) -> String {
    match kind {
        TokenKind::Eof => "end of input".to_owned(),
        TokenKind::Identifier => format!("identifier {}", quote(text)),
        TokenKind::MetricIdentifier => format!("metric identifier {}", quote(text)),
        TokenKind::Number => format!("number {}", shortened(text)),
        TokenKind::Duration => format!("duration {}", shortened(text)),
        TokenKind::String => format!("string {}", shortened(text)),
        TokenKind::At
        | TokenKind::MatchRegex
        | TokenKind::MatchNotRegex
        | TokenKind::Operator(_) => format!("<op:{text}>"),
        TokenKind::Aggregator(_) => format!("<aggr:{text}>"),
        TokenKind::Keyword(
            Keyword::End
            | Keyword::MaxOf
            | Keyword::MinOf
            | Keyword::Range
            | Keyword::Start
            | Keyword::Step,
        ) => quote(text),
        TokenKind::Keyword(_) => format!("<{text}>"),
        TokenKind::Comma
        | TokenKind::Colon
        | TokenKind::LeftParen
        | TokenKind::RightParen
        | TokenKind::LeftBrace
        | TokenKind::RightBrace
        | TokenKind::LeftBracket
        | TokenKind::RightBracket
        | TokenKind::Assign => quote(text),
    }
}

/// Quoted, and cut when longer than ten bytes.
fn shortened(text: &str) -> String {
    const MOST: usize = 10;
    if text.len() <= MOST {
        return quote(text);
    }
    let end = text.char_indices().nth(MOST).map_or(text.len(), |(offset, _)| offset);
    let mut out = String::new();
    write_quoted(&text[..end], &mut out);
    out.push_str("...");
    out
}
