//! The syntax tree of PromQL 3.x.
//!
//! Trees that the parser yields are at most 250 levels high, so they may be walked recursively.
//! Every node bears its [`Span`] in bytes of the query text, as Prometheus' `PositionRange`, so
//! that errors and annotations can point at it. Source: `promql/parser/ast.go`.

use model::Matcher;

use crate::functions::Function;

/// Byte range of a node in the query text, half-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset after the last byte.
    pub end: u32,
}

/// What an expression evaluates to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// One number.
    Scalar,
    /// One string.
    String,
    /// One sample per series.
    Vector,
    /// A range of samples per series.
    Matrix,
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// `1.5`, `0x1F`, `5m`
    Number(NumberLiteral),
    /// `"text"`
    String(StringLiteral),
    /// `up{job="a"} offset 5m`
    Vector(VectorSelector),
    /// `up[5m]`
    Matrix(MatrixSelector),
    /// `rate(up[5m])[1h:1m]`
    Subquery(Box<Subquery>),
    /// `rate(...)`
    Call(Call),
    /// `sum by (a) (...)`
    Aggregate(Box<Aggregate>),
    /// `a + on (x) b`
    Binary(Box<Binary>),
    /// `-a`
    Unary(Box<Unary>),
    /// `(a)`
    Paren(Box<Paren>),
}

/// A number, or a duration written where a number is expected (in seconds then).
#[derive(Debug, Clone, PartialEq)]
pub struct NumberLiteral {
    /// Its value.
    pub value: f64,
    /// Whether it was written as a duration; printed as one again.
    pub is_duration: bool,
    /// Where it stands.
    pub span: Span,
}

/// A string, unquoted.
#[derive(Debug, Clone, PartialEq)]
pub struct StringLiteral {
    /// Its value after escapes; bytes that are no UTF-8 are U+FFFD in it.
    pub value: String,
    /// What all escapes together spelled, where that is no UTF-8, such as `"\xff"`: it names nothing.
    pub bytes: Option<Box<[u8]>>,
    /// Where it stands.
    pub span: Span,
}

/// `@ <timestamp>`, `@ start()`, `@ end()`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum At {
    /// A fixed time, milliseconds since the epoch.
    Timestamp(i64),
    /// Start of the query's range.
    Start,
    /// End of the query's range.
    End,
}

/// A duration: fixed, or computed from numbers, `step()` and `range()` when the query starts.
#[derive(Debug, Clone, PartialEq)]
pub enum Duration {
    /// Milliseconds, possibly negative (offsets).
    Fixed(i64),
    /// An expression, resolved by `plan` before evaluation.
    Computed(Box<DurationExpr>),
}

/// An expression inside `[…]` or after `offset`. Its value is in seconds.
#[derive(Debug, Clone, PartialEq)]
pub enum DurationExpr {
    /// A number or duration literal.
    Number(NumberLiteral),
    /// `step()`: the query's step; 0 in instant queries.
    Step(Span),
    /// `range()`: end minus start of the query.
    Range(Span),
    /// `min_of(a, b)`
    MinOf(Box<DurationExpr>, Box<DurationExpr>, Span),
    /// `max_of(a, b)`
    MaxOf(Box<DurationExpr>, Box<DurationExpr>, Span),
    /// `a + b` and the other arithmetic operators.
    Binary {
        /// One of `+ - * / % ^`.
        op: BinaryOp,
        /// Left side.
        left: Box<DurationExpr>,
        /// Right side.
        right: Box<DurationExpr>,
        /// Where it stands.
        span: Span,
    },
    /// `-a`. The parser takes signs into numbers and drops a plus, as Prometheus does.
    Unary {
        /// Whether the sign is minus.
        negative: bool,
        /// What it applies to.
        inner: Box<DurationExpr>,
        /// Where it stands.
        span: Span,
    },
    /// `(a)`
    Paren(Box<DurationExpr>, Span),
}

/// `anchored` or `smoothed` behind a selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeExtension {
    /// Take the sample at or before each border of the range.
    Anchored,
    /// Interpolate at each border of the range.
    Smoothed,
}

/// A selector of series.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSelector {
    /// The metric name if written outside of braces; empty otherwise. It is also in `matchers`.
    pub name: String,
    /// All conditions, the name's included.
    pub matchers: Vec<Matcher>,
    /// `offset`, 0 if absent.
    pub offset: Duration,
    /// `@`, if present.
    pub at: Option<At>,
    /// `anchored`/`smoothed`, if present.
    pub extension: Option<RangeExtension>,
    /// Where it stands, modifiers included.
    pub span: Span,
}

/// A selector with a range.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSelector {
    /// The series, with `offset`, `@` and `anchored`/`smoothed`.
    pub vector: VectorSelector,
    /// Length of the range.
    pub range: Duration,
    /// Where it stands, modifiers included.
    pub span: Span,
}

/// An expression evaluated over a range.
#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    /// What is evaluated.
    pub expr: Expr,
    /// Length of the range.
    pub range: Duration,
    /// Resolution; `None` for the default evaluation interval.
    pub step: Option<Duration>,
    /// `offset`, 0 if absent.
    pub offset: Duration,
    /// `@`, if present.
    pub at: Option<At>,
    /// Where it stands, modifiers included.
    pub span: Span,
}

/// A function call.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The function.
    pub function: &'static Function,
    /// Its arguments, checked for number and type.
    pub args: Vec<Expr>,
    /// Where it stands.
    pub span: Span,
}

/// The aggregation operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are PromQL's own words")]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    CountValues,
    Quantile,
    Limitk,
    LimitRatio,
}

/// An aggregation.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// The operator.
    pub op: AggregateOp,
    /// What is aggregated.
    pub expr: Expr,
    /// The parameter of `topk`, `quantile`, `count_values` and the like.
    pub param: Option<Expr>,
    /// Names after `by` or `without`.
    pub grouping: Vec<String>,
    /// Whether `without` was written.
    pub without: bool,
    /// Where it stands.
    pub span: Span,
}

/// Binary operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are PromQL's own words")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterEqual,
    LessEqual,
    And,
    Or,
    Unless,
    /// `</`: keep the part of a histogram below the scalar.
    TrimUpper,
    /// `>/`: keep the part of a histogram above the scalar.
    TrimLower,
}

/// How many series on each side may match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are PromQL's own words")]
pub enum Cardinality {
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    /// `and`, `or`, `unless`
    ManyToMany,
}

/// How the two sides of a vector operation are matched.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorMatching {
    /// One-to-one, `group_left`, `group_right` or set operation.
    pub cardinality: Cardinality,
    /// Names after `on` or `ignoring`.
    pub labels: Vec<String>,
    /// Whether `on` was written.
    pub on: bool,
    /// Names inside `group_left(…)` or `group_right(…)`.
    pub include: Vec<String>,
    /// Value for elements missing on the left (`fill`, `fill_left`).
    pub fill_left: Option<f64>,
    /// Value for elements missing on the right (`fill`, `fill_right`).
    pub fill_right: Option<f64>,
}

/// A binary operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// Left side.
    pub left: Expr,
    /// Right side.
    pub right: Expr,
    /// Present when both sides are vectors.
    pub matching: Option<VectorMatching>,
    /// Whether a comparison yields 0 or 1 instead of filtering.
    pub return_bool: bool,
    /// Where it stands.
    pub span: Span,
    /// Where the operator itself stands.
    pub op_span: Span,
}

/// A sign.
#[derive(Debug, Clone, PartialEq)]
pub struct Unary {
    /// Whether the sign is minus.
    pub negative: bool,
    /// What it applies to.
    pub expr: Expr,
    /// Where it stands.
    pub span: Span,
}

/// Parentheses, kept so that a query is printed as it was grouped.
#[derive(Debug, Clone, PartialEq)]
pub struct Paren {
    /// What is inside.
    pub expr: Expr,
    /// Where it stands.
    pub span: Span,
}

impl Expr {
    /// Where the expression stands in the query text.
    pub fn span(&self) -> Span {
        match self {
            Expr::Number(node) => node.span,
            Expr::String(node) => node.span,
            Expr::Vector(node) => node.span,
            Expr::Matrix(node) => node.span,
            Expr::Subquery(node) => node.span,
            Expr::Call(node) => node.span,
            Expr::Aggregate(node) => node.span,
            Expr::Binary(node) => node.span,
            Expr::Unary(node) => node.span,
            Expr::Paren(node) => node.span,
        }
    }

    /// What the expression evaluates to.
    pub fn value_type(&self) -> ValueType {
        match self {
            Expr::Number(_) => ValueType::Scalar,
            Expr::String(_) => ValueType::String,
            Expr::Vector(_) | Expr::Aggregate(_) => ValueType::Vector,
            Expr::Matrix(_) | Expr::Subquery(_) => ValueType::Matrix,
            Expr::Call(node) => node.function.returns,
            Expr::Unary(node) => node.expr.value_type(),
            Expr::Paren(node) => node.expr.value_type(),
            Expr::Binary(node) => {
                let scalar = ValueType::Scalar;
                if node.left.value_type() == scalar && node.right.value_type() == scalar {
                    scalar
                } else {
                    ValueType::Vector
                }
            }
        }
    }
}

impl ValueType {
    /// The name used in JSON: `scalar`, `string`, `vector`, `matrix`.
    pub fn as_str(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::String => "string",
            ValueType::Vector => "vector",
            ValueType::Matrix => "matrix",
        }
    }

    /// The name used in messages and documentation: `instant vector`, `range vector`.
    pub fn documented(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::String => "string",
            ValueType::Vector => "instant vector",
            ValueType::Matrix => "range vector",
        }
    }
}

impl RangeExtension {
    /// The word as written in a query.
    pub fn as_str(self) -> &'static str {
        match self {
            RangeExtension::Anchored => "anchored",
            RangeExtension::Smoothed => "smoothed",
        }
    }
}

impl AggregateOp {
    /// The word as written in a query, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            AggregateOp::Sum => "sum",
            AggregateOp::Avg => "avg",
            AggregateOp::Count => "count",
            AggregateOp::Min => "min",
            AggregateOp::Max => "max",
            AggregateOp::Group => "group",
            AggregateOp::Stddev => "stddev",
            AggregateOp::Stdvar => "stdvar",
            AggregateOp::Topk => "topk",
            AggregateOp::Bottomk => "bottomk",
            AggregateOp::CountValues => "count_values",
            AggregateOp::Quantile => "quantile",
            AggregateOp::Limitk => "limitk",
            AggregateOp::LimitRatio => "limit_ratio",
        }
    }

    /// Whether a parameter stands in front of what is aggregated.
    pub fn takes_parameter(self) -> bool {
        matches!(
            self,
            AggregateOp::Topk
                | AggregateOp::Bottomk
                | AggregateOp::CountValues
                | AggregateOp::Quantile
                | AggregateOp::Limitk
                | AggregateOp::LimitRatio
        )
    }
}

impl BinaryOp {
    /// The operator as written in a query, words in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Equal => "==",
            BinaryOp::NotEqual => "!=",
            BinaryOp::Greater => ">",
            BinaryOp::Less => "<",
            BinaryOp::GreaterEqual => ">=",
            BinaryOp::LessEqual => "<=",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Unless => "unless",
            BinaryOp::TrimUpper => "</",
            BinaryOp::TrimLower => ">/",
        }
    }

    /// Whether it compares numbers, and so filters or, with `bool`, yields 0 or 1.
    pub fn is_comparison(self) -> bool {
        matches!(
            self,
            BinaryOp::Equal
                | BinaryOp::NotEqual
                | BinaryOp::Greater
                | BinaryOp::Less
                | BinaryOp::GreaterEqual
                | BinaryOp::LessEqual
        )
    }

    /// Whether it is `and`, `or` or `unless`.
    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }
}

impl Cardinality {
    /// The name used in JSON and messages: `one-to-one`, `many-to-one`, …
    pub fn as_str(self) -> &'static str {
        match self {
            Cardinality::OneToOne => "one-to-one",
            Cardinality::ManyToOne => "many-to-one",
            Cardinality::OneToMany => "one-to-many",
            Cardinality::ManyToMany => "many-to-many",
        }
    }
}

impl DurationExpr {
    /// Where the expression stands in the query text.
    pub fn span(&self) -> Span {
        match self {
            DurationExpr::Number(number) => number.span,
            DurationExpr::Step(span)
            | DurationExpr::Range(span)
            | DurationExpr::MinOf(_, _, span)
            | DurationExpr::MaxOf(_, _, span)
            | DurationExpr::Paren(_, span)
            | DurationExpr::Binary { span, .. }
            | DurationExpr::Unary { span, .. } => *span,
        }
    }
}
