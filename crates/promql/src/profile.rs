//! What each part of a query cost: the tree behind an explanation of it.

use crate::ast::{Span, ValueType};
use crate::source::Reads;

/// What a query cost, part by part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryProfile {
    /// The query as a whole.
    pub root: ProfileNode,
    /// Samples that each step looked at, as Prometheus counts them: a sample counts at every step
    /// whose window it is in, and a native histogram as 16 byte pieces.
    pub samples_per_step: Vec<u64>,
    /// Nanoseconds spent on making rows the result, sorting included.
    pub output_ns: u64,
    /// Nanoseconds spent on finding series.
    pub select_ns: u64,
}

/// What one expression within a query cost. Parentheses have no node of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileNode {
    /// Where the expression stands in the query.
    pub span: Span,
    /// What it is.
    pub kind: NodeKind,
    /// The function, the operator or the metric; empty if it has none.
    pub name: String,
    /// What it evaluates to.
    pub value_type: ValueType,
    /// How it was evaluated; `None` if it was not, because something above decided without it.
    pub strategy: Option<Strategy>,
    /// At how many times it was evaluated.
    pub steps: u64,
    /// Nanoseconds that all threads together spent on this node alone.
    pub self_ns: u64,
    /// The same with everything below.
    pub total_ns: u64,
    /// Of `self_ns`, what it took to find series.
    pub select_ns: u64,
    /// Series that went in: of a selector those that match, of anything else what the nodes below
    /// yielded.
    pub series_in: u64,
    /// Series that came out with a value at some time.
    pub series_out: u64,
    /// Samples decoded.
    pub samples_read: u64,
    /// What they took from the store.
    pub reads: Reads,
    /// The arguments.
    pub children: Vec<ProfileNode>,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// A number.
    Number,
    /// A string.
    String,
    /// An instant selector.
    Selector,
    /// A selector with a range.
    RangeSelector,
    /// An expression over a range.
    Subquery,
    /// A function.
    Call,
    /// An aggregation.
    Aggregation,
    /// A binary operation.
    Binary,
    /// A sign.
    Unary,
}

impl NodeKind {
    /// The name used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            NodeKind::Number => "number",
            NodeKind::String => "string",
            NodeKind::Selector => "selector",
            NodeKind::RangeSelector => "range_selector",
            NodeKind::Subquery => "subquery",
            NodeKind::Call => "call",
            NodeKind::Aggregation => "aggregation",
            NodeKind::Binary => "binary",
            NodeKind::Unary => "unary",
        }
    }
}

/// How a node was evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// It is known without looking at any data.
    Constant,
    /// The same at all steps, so it was evaluated at the first one only.
    Once,
    /// Series by series, in one pass with the aggregation above (of an aggregation: with what is
    /// below), so that its rows were never held.
    Fused,
    /// As a whole: a row of all steps per series, held in memory.
    Rows,
}

impl Strategy {
    /// The name used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Strategy::Constant => "constant",
            Strategy::Once => "once",
            Strategy::Fused => "fused",
            Strategy::Rows => "rows",
        }
    }
}
