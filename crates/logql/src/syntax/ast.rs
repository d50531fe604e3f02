//! The tree of a query.
//!
//! Trees that the parser yields are at most [`super::MAX_HEIGHT`] levels high, so they may be
//! walked recursively. Literals on both sides of an operator are computed while reading, as Loki
//! does, so no [`Binary`] has two literal sides.

use model::Matcher;

mod metric;

pub use metric::{
    Binary, BinaryOp, Cardinality, Conversion, Grouping, LabelReplace, LogRange, Matching,
    MetricExpr, RangeAggregation, RangeOp, Unwrap, VectorAggregation, VectorOp,
};

/// Byte range of a node in the query's text, half-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset after the last byte.
    pub end: u32,
}

/// A query: one that yields lines, or one that yields numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// `{app="a"} |= "b" | json`
    Log(LogExpr),
    /// `rate({app="a"}[5m])`
    Metric(MetricExpr),
}

/// Streams, and what is done to each of their lines.
#[derive(Debug, Clone, PartialEq)]
pub struct LogExpr {
    /// Conditions on the streams' labels, all of which hold. Empty for `{}`.
    pub matchers: Vec<Matcher>,
    /// The pipeline, in the order written.
    pub stages: Vec<Stage>,
    /// Where it stands.
    pub span: Span,
}

/// One step of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// What it does.
    pub kind: StageKind,
    /// Where it stands, with its leading operator.
    pub span: Span,
}

/// What a step of a pipeline does.
#[derive(Debug, Clone, PartialEq)]
pub enum StageKind {
    /// `|= "a" or "b"`
    LineFilter(LineFilter),
    /// `| json`, or `| json a="b.c[0]"` with only what is named.
    Json(Vec<Extraction>),
    /// `| logfmt --strict --keep-empty a="b"`
    Logfmt {
        /// Stops at the first pair that is none.
        strict: bool,
        /// Keeps keys without a value.
        keep_empty: bool,
        /// What to extract; empty for everything.
        extractions: Vec<Extraction>,
    },
    /// `| regexp "(?P<name>…)"`
    Regexp(String),
    /// `| pattern "<ip> - <_>"`
    Pattern(String),
    /// `| unpack`
    Unpack,
    /// `| status >= 500 and method = "GET"`
    LabelFilter(LabelFilter),
    /// `| line_format "{{.msg}}"`
    LineFormat(String),
    /// `| label_format a=b,c="{{.d}}"`
    LabelFormat(Vec<LabelFormat>),
    /// `| decolorize`
    Decolorize,
    /// `| drop a,b="c"`
    Drop(Vec<LabelChoice>),
    /// `| keep a,b="c"`
    Keep(Vec<LabelChoice>),
}

/// How a line is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LineFilterOp {
    /// `|=`
    Contains,
    /// `!=`
    NotContains,
    /// `|~`
    Matches,
    /// `!~`
    NotMatches,
    /// `|>`
    Pattern,
    /// `!>`
    NotPattern,
}

impl LineFilterOp {
    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            LineFilterOp::Contains => "|=",
            LineFilterOp::NotContains => "!=",
            LineFilterOp::Matches => "|~",
            LineFilterOp::NotMatches => "!~",
            LineFilterOp::Pattern => "|>",
            LineFilterOp::NotPattern => "!>",
        }
    }

    /// Whether it keeps the lines that do not fit.
    pub fn is_negative(self) -> bool {
        matches!(
            self,
            LineFilterOp::NotContains | LineFilterOp::NotMatches | LineFilterOp::NotPattern
        )
    }
}

/// A condition on the line: one of the operands fits, or with a negative operator none does.
#[derive(Debug, Clone, PartialEq)]
pub struct LineFilter {
    /// How to compare.
    pub op: LineFilterOp,
    /// What to compare with; at least one.
    pub operands: Vec<LineOperand>,
}

/// What a line is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineOperand {
    /// A text, a regular expression, a pattern or an address, as operator and `is_ip` say.
    pub value: String,
    /// Whether it was written as `ip("…")`.
    pub is_ip: bool,
}

/// `label="path"` after `json` or `logfmt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extraction {
    /// The label to set.
    pub label: String,
    /// Where its value is found.
    pub path: String,
}

/// One setting of `label_format`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelFormat {
    /// The label to set.
    pub label: String,
    /// From what.
    pub source: LabelFormatSource,
}

/// What a label is set from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelFormatSource {
    /// Another label, which goes away.
    Rename(String),
    /// A template.
    Template(String),
}

/// One of the labels that `drop` and `keep` choose.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelChoice {
    /// By its name.
    Name(String),
    /// By name and value.
    Matcher(Matcher),
}

/// How a number is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompareOp {
    /// `==` or `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
}

impl CompareOp {
    /// The operator in its canonical form.
    pub fn as_str(self) -> &'static str {
        match self {
            CompareOp::Equal => "==",
            CompareOp::NotEqual => "!=",
            CompareOp::Greater => ">",
            CompareOp::GreaterOrEqual => ">=",
            CompareOp::Less => "<",
            CompareOp::LessOrEqual => "<=",
        }
    }
}

/// A condition on labels.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelFilter {
    /// Both hold; both are evaluated. Written `and`, `,` or nothing.
    And(Box<LabelFilter>, Box<LabelFilter>),
    /// One of both holds.
    Or(Box<LabelFilter>, Box<LabelFilter>),
    /// `method=~"GET|PUT"`
    String(Matcher),
    /// `status >= 500`
    Number {
        /// The label.
        name: String,
        /// How to compare.
        op: CompareOp,
        /// With what.
        value: f64,
    },
    /// `latency > 250ms`
    Duration {
        /// The label.
        name: String,
        /// How to compare.
        op: CompareOp,
        /// With what, in nanoseconds.
        nanoseconds: i64,
    },
    /// `size > 20MB`
    Bytes {
        /// The label.
        name: String,
        /// How to compare.
        op: CompareOp,
        /// With what.
        bytes: u64,
    },
    /// `addr = ip("10.0.0.0/8")`
    Ip {
        /// The label.
        name: String,
        /// Whether addresses that do not fit are kept (`!=`).
        negated: bool,
        /// An address, a range or a CIDR.
        pattern: String,
    },
}
