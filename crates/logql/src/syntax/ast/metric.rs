//! Queries that yield numbers.

use super::{LabelFilter, LogExpr, Span};

/// A query that yields numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricExpr {
    /// `rate({app="a"}[5m])`
    Range(Box<RangeAggregation>),
    /// `sum by (a) (…)`
    Vector(Box<VectorAggregation>),
    /// `a / b`
    Binary(Box<Binary>),
    /// `label_replace(…)`
    LabelReplace(Box<LabelReplace>),
    /// `vector(1)`
    Constant(f64),
    /// `1.5`
    Literal(f64),
}

/// What a range aggregation computes from the lines or values of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RangeOp {
    /// Lines.
    CountOverTime,
    /// Lines, or the sum of values, per second.
    Rate,
    /// The increase of a counter per second.
    RateCounter,
    /// Bytes of lines.
    BytesOverTime,
    /// Bytes of lines per second.
    BytesRate,
    /// Mean of values.
    AvgOverTime,
    /// Sum of values.
    SumOverTime,
    /// Least value.
    MinOverTime,
    /// Greatest value.
    MaxOverTime,
    /// Population standard deviation.
    StddevOverTime,
    /// Population variance.
    StdvarOverTime,
    /// A quantile.
    QuantileOverTime,
    /// Oldest value.
    FirstOverTime,
    /// Newest value.
    LastOverTime,
    /// 1 if there is no line.
    AbsentOverTime,
}

impl RangeOp {
    /// All of them.
    pub const ALL: [RangeOp; 15] = [
        RangeOp::CountOverTime,
        RangeOp::Rate,
        RangeOp::RateCounter,
        RangeOp::BytesOverTime,
        RangeOp::BytesRate,
        RangeOp::AvgOverTime,
        RangeOp::SumOverTime,
        RangeOp::MinOverTime,
        RangeOp::MaxOverTime,
        RangeOp::StddevOverTime,
        RangeOp::StdvarOverTime,
        RangeOp::QuantileOverTime,
        RangeOp::FirstOverTime,
        RangeOp::LastOverTime,
        RangeOp::AbsentOverTime,
    ];

    /// Its name in queries.
    pub fn as_str(self) -> &'static str {
        match self {
            RangeOp::CountOverTime => "count_over_time",
            RangeOp::Rate => "rate",
            RangeOp::RateCounter => "rate_counter",
            RangeOp::BytesOverTime => "bytes_over_time",
            RangeOp::BytesRate => "bytes_rate",
            RangeOp::AvgOverTime => "avg_over_time",
            RangeOp::SumOverTime => "sum_over_time",
            RangeOp::MinOverTime => "min_over_time",
            RangeOp::MaxOverTime => "max_over_time",
            RangeOp::StddevOverTime => "stddev_over_time",
            RangeOp::StdvarOverTime => "stdvar_over_time",
            RangeOp::QuantileOverTime => "quantile_over_time",
            RangeOp::FirstOverTime => "first_over_time",
            RangeOp::LastOverTime => "last_over_time",
            RangeOp::AbsentOverTime => "absent_over_time",
        }
    }

    /// Whether it computes over values an `unwrap` takes out of lines.
    pub fn takes_unwrap(self) -> bool {
        !matches!(self, RangeOp::CountOverTime | RangeOp::BytesOverTime | RangeOp::BytesRate)
    }

    /// Whether it computes over the lines themselves.
    pub fn takes_lines(self) -> bool {
        matches!(
            self,
            RangeOp::CountOverTime
                | RangeOp::Rate
                | RangeOp::BytesOverTime
                | RangeOp::BytesRate
                | RangeOp::AbsentOverTime
        )
    }

    /// Whether `by` and `without` may follow it.
    pub fn takes_grouping(self) -> bool {
        matches!(
            self,
            RangeOp::AvgOverTime
                | RangeOp::MinOverTime
                | RangeOp::MaxOverTime
                | RangeOp::StddevOverTime
                | RangeOp::StdvarOverTime
                | RangeOp::QuantileOverTime
                | RangeOp::FirstOverTime
                | RangeOp::LastOverTime
        )
    }
}

/// An aggregation over the time of each series.
#[derive(Debug, Clone, PartialEq)]
pub struct RangeAggregation {
    /// What is computed.
    pub op: RangeOp,
    /// The quantile of `quantile_over_time`, else `None`.
    pub parameter: Option<f64>,
    /// Over what.
    pub range: LogRange,
    /// Which labels tell series apart; `None` for all of them.
    pub grouping: Option<Grouping>,
    /// Where it stands.
    pub span: Span,
}

/// Lines of a window that ends at each evaluated time.
#[derive(Debug, Clone, PartialEq)]
pub struct LogRange {
    /// Which lines.
    pub log: LogExpr,
    /// The value taken out of each.
    pub unwrap: Option<Unwrap>,
    /// Length of the window, in nanoseconds.
    pub interval: i64,
    /// How much earlier than the evaluated time the window ends, in nanoseconds.
    pub offset: i64,
}

/// The label whose value becomes the sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Unwrap {
    /// The label.
    pub label: String,
    /// How its text is read; `None` for a plain number.
    pub conversion: Option<Conversion>,
    /// Conditions checked after it, for instance that no error occurred.
    pub filters: Vec<LabelFilter>,
}

/// How an unwrapped text becomes a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Conversion {
    /// `5MiB` into bytes.
    Bytes,
    /// `1m5s` into seconds.
    Duration,
    /// The same under its longer name.
    DurationSeconds,
}

impl Conversion {
    /// Its name in queries.
    pub fn as_str(self) -> &'static str {
        match self {
            Conversion::Bytes => "bytes",
            Conversion::Duration => "duration",
            Conversion::DurationSeconds => "duration_seconds",
        }
    }
}

/// `by (…)` or `without (…)`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grouping {
    /// Whether the labels are those that do not count.
    pub without: bool,
    /// The labels, in the order written.
    pub labels: Vec<String>,
}

/// What an aggregation over series computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VectorOp {
    /// Sum.
    Sum,
    /// Mean.
    Avg,
    /// Greatest.
    Max,
    /// Least.
    Min,
    /// Series.
    Count,
    /// Population standard deviation.
    Stddev,
    /// Population variance.
    Stdvar,
    /// The `k` least.
    BottomK,
    /// The `k` greatest.
    TopK,
    /// The `k` greatest, possibly estimated; in instant queries.
    ApproxTopK,
    /// All, ascending.
    Sort,
    /// All, descending.
    SortDesc,
}

impl VectorOp {
    /// All of them.
    pub const ALL: [VectorOp; 12] = [
        VectorOp::Sum,
        VectorOp::Avg,
        VectorOp::Max,
        VectorOp::Min,
        VectorOp::Count,
        VectorOp::Stddev,
        VectorOp::Stdvar,
        VectorOp::BottomK,
        VectorOp::TopK,
        VectorOp::ApproxTopK,
        VectorOp::Sort,
        VectorOp::SortDesc,
    ];

    /// Its name in queries.
    pub fn as_str(self) -> &'static str {
        match self {
            VectorOp::Sum => "sum",
            VectorOp::Avg => "avg",
            VectorOp::Max => "max",
            VectorOp::Min => "min",
            VectorOp::Count => "count",
            VectorOp::Stddev => "stddev",
            VectorOp::Stdvar => "stdvar",
            VectorOp::BottomK => "bottomk",
            VectorOp::TopK => "topk",
            VectorOp::ApproxTopK => "approx_topk",
            VectorOp::Sort => "sort",
            VectorOp::SortDesc => "sort_desc",
        }
    }

    /// Whether it takes how many series to keep.
    pub fn takes_parameter(self) -> bool {
        matches!(self, VectorOp::BottomK | VectorOp::TopK | VectorOp::ApproxTopK)
    }
}

/// An aggregation over series.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorAggregation {
    /// What is computed.
    pub op: VectorOp,
    /// How many series to keep; 0 where the operation takes no such number.
    pub parameter: u64,
    /// Which labels tell groups apart; `None` for one group.
    pub grouping: Option<Grouping>,
    /// Over what.
    pub inner: MetricExpr,
    /// Where it stands.
    pub span: Span,
}

/// An operator between two queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// `or`
    Or,
    /// `and`
    And,
    /// `unless`
    Unless,
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `^`
    Pow,
    /// `==`
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

impl BinaryOp {
    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Or => "or",
            BinaryOp::And => "and",
            BinaryOp::Unless => "unless",
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Equal => "==",
            BinaryOp::NotEqual => "!=",
            BinaryOp::Greater => ">",
            BinaryOp::GreaterOrEqual => ">=",
            BinaryOp::Less => "<",
            BinaryOp::LessOrEqual => "<=",
        }
    }

    /// Binds the tighter the greater.
    pub fn precedence(self) -> u8 {
        match self {
            BinaryOp::Or => 1,
            BinaryOp::And | BinaryOp::Unless => 2,
            BinaryOp::Equal
            | BinaryOp::NotEqual
            | BinaryOp::Greater
            | BinaryOp::GreaterOrEqual
            | BinaryOp::Less
            | BinaryOp::LessOrEqual => 3,
            BinaryOp::Add | BinaryOp::Sub => 4,
            BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod => 5,
            BinaryOp::Pow => 6,
        }
    }

    /// Whether `a op b op c` is `a op (b op c)`.
    pub fn is_right_associative(self) -> bool {
        self == BinaryOp::Pow
    }

    /// Whether it joins sets of series.
    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::Or | BinaryOp::And | BinaryOp::Unless)
    }

    /// Whether it compares.
    pub fn is_comparison(self) -> bool {
        self.precedence() == 3
    }

    /// The result for two numbers. Comparisons yield 1 or 0; set operators, which have no result
    /// for numbers, NaN. Division and modulo by 0 are NaN, as in Loki.
    pub fn apply(self, left: f64, right: f64) -> f64 {
        let truth = |holds: bool| if holds { 1.0 } else { 0.0 };
        match self {
            BinaryOp::Or | BinaryOp::And | BinaryOp::Unless => f64::NAN,
            BinaryOp::Add => left + right,
            BinaryOp::Sub => left - right,
            BinaryOp::Mul => left * right,
            BinaryOp::Div if right == 0.0 => f64::NAN,
            BinaryOp::Div => left / right,
            BinaryOp::Mod if right == 0.0 => f64::NAN,
            BinaryOp::Mod => left % right,
            BinaryOp::Pow => left.powf(right),
            BinaryOp::Equal => truth(left == right),
            BinaryOp::NotEqual => truth(left != right),
            BinaryOp::Greater => truth(left > right),
            BinaryOp::GreaterOrEqual => truth(left >= right),
            BinaryOp::Less => truth(left < right),
            BinaryOp::LessOrEqual => truth(left <= right),
        }
    }
}

/// Which side of an operator may have several partners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Cardinality {
    /// Neither.
    #[default]
    OneToOne,
    /// The left one (`group_left`).
    ManyToOne,
    /// The right one (`group_right`).
    OneToMany,
}

/// How the series of both sides find each other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matching {
    /// Whether `labels` are the ones that count (`on`) or do not (`ignoring`).
    pub on: bool,
    /// The labels.
    pub labels: Vec<String>,
    /// Which side may have several partners.
    pub cardinality: Cardinality,
    /// Labels taken over from the side with one; `None` where none were written.
    pub include: Option<Vec<String>>,
}

/// An operation on two queries.
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// Whether a comparison yields 0 and 1 instead of leaving series out.
    pub return_bool: bool,
    /// `on` or `ignoring`; `None` where neither was written.
    pub matching: Option<Matching>,
    /// The left side.
    pub left: MetricExpr,
    /// The right side.
    pub right: MetricExpr,
    /// Where it stands.
    pub span: Span,
}

/// `label_replace(inner, "target", "replacement", "source", "pattern")`
#[derive(Debug, Clone, PartialEq)]
pub struct LabelReplace {
    /// Over what.
    pub inner: MetricExpr,
    /// The label to set.
    pub target: String,
    /// Its value, with `$1` for what the pattern's groups matched.
    pub replacement: String,
    /// The label the pattern is matched against.
    pub source: String,
    /// A regular expression that must match the whole value.
    pub pattern: String,
    /// Where it stands.
    pub span: Span,
}
