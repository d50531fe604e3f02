//! A configuration as a tree.

use crate::yaml::Span;

/// What stands between braces, or in a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Body {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) blocks: Vec<Block>,
}

/// `name = value`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Attribute {
    pub(crate) name: String,
    pub(crate) span: Span,
    pub(crate) value: Expr,
}

/// `name.of.it "label" { … }`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Block {
    /// Parts with dots between.
    pub(crate) name: String,
    /// Where the name stands.
    pub(crate) span: Span,
    pub(crate) label: Option<String>,
    pub(crate) body: Body,
}

impl Block {
    /// What references call it: `loki.write.default`.
    pub(crate) fn id(&self) -> String {
        match &self.label {
            Some(label) => format!("{}.{label}", self.name),
            None => self.name.clone(),
        }
    }
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expr {
    pub(crate) span: Span,
    pub(crate) kind: ExprKind,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ExprKind {
    Null,
    Bool(bool),
    /// As it is written.
    Number(String),
    Text(String),
    List(Vec<Expr>),
    Object(Vec<(String, Span, Expr)>),
    Name(String),
    Access(Box<Expr>, String),
    Index(Box<Expr>, Box<Expr>),
    Call(Box<Expr>, Vec<Expr>),
    Not(Box<Expr>),
    Minus(Box<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
}

impl Expr {
    /// Names with dots between, if it is nothing else: `sys.env`.
    pub(crate) fn path(&self) -> Option<String> {
        match &self.kind {
            ExprKind::Name(name) => Some(name.clone()),
            ExprKind::Access(inner, name) => Some(format!("{}.{name}", inner.path()?)),
            _ => None,
        }
    }
}
