//! Templates as trees.

use std::fmt;

use crate::number::Number;
use crate::signature::Function;

/// A list of nodes.
pub(crate) type Nodes = Vec<Node>;

#[derive(Debug, Clone)]
pub(crate) enum Node {
    Text(String),
    /// `{{pipeline}}`
    Action(Pipeline),
    If(Pipeline, Nodes, Nodes),
    With(Pipeline, Nodes, Nodes),
    Range(Pipeline, Nodes, Nodes),
    Template(Box<Invocation>),
    Break,
    Continue,
}

/// `{{template "name" pipeline}}`
#[derive(Debug, Clone)]
pub(crate) struct Invocation {
    pub(crate) place: usize,
    pub(crate) name: String,
    pub(crate) pipeline: Option<Pipeline>,
}

/// Commands, each of which gets the value of the one before as its last argument.
#[derive(Debug, Clone)]
pub(crate) struct Pipeline {
    pub(crate) place: usize,
    /// Names of variables it sets, with their `$`.
    pub(crate) variables: Vec<String>,
    /// Whether the variables exist already.
    pub(crate) assigns: bool,
    /// Never empty.
    pub(crate) commands: Vec<Command>,
}

#[derive(Debug, Clone)]
pub(crate) struct Command {
    pub(crate) place: usize,
    /// Never empty.
    pub(crate) operands: Vec<Operand>,
}

/// An operand and its place in the template. Of fields it is that of the last but the first that
/// are written in one, as errors of Go tell it.
#[derive(Debug, Clone)]
pub(crate) struct Operand {
    pub(crate) place: usize,
    pub(crate) kind: OperandKind,
}

#[derive(Debug, Clone)]
pub(crate) enum OperandKind {
    Dot,
    Nil,
    Bool(bool),
    /// As written, and what it stands for.
    Text(String, String),
    Number(String, Number),
    /// `.a.b`; the index of the first name among the template's fields.
    Field(usize, Vec<String>),
    /// `$x.a.b`, with the `$`.
    Variable(String, Vec<String>),
    Function(Function),
    /// `(pipeline)`
    Pipeline(Pipeline),
    /// Fields of what something else yields.
    Chain(Box<Operand>, Vec<String>),
}

/// Whether a list of nodes is nothing but blanks and templates that are defined elsewhere.
pub(crate) fn is_blank(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()))
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = model::quote::quote(&self.name);
        match &self.pipeline {
            Some(pipeline) => write!(f, "{{{{template {name} {pipeline}}}}}"),
            None => write!(f, "{{{{template {name}}}}}"),
        }
    }
}

impl fmt::Display for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            let sign = if self.assigns { "=" } else { ":=" };
            write!(f, "{} {sign} ", self.variables.join(", "))?;
        }
        for (index, command) in self.commands.iter().enumerate() {
            if index > 0 {
                f.write_str(" | ")?;
            }
            write!(f, "{command}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, operand) in self.operands.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            match &operand.kind {
                OperandKind::Pipeline(pipeline) => write!(f, "({pipeline})")?,
                _ => write!(f, "{operand}")?,
            }
        }
        Ok(())
    }
}

/// As errors tell it: a pipeline without its parentheses.
impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = |f: &mut fmt::Formatter<'_>, names: &[String]| {
            names.iter().try_for_each(|name| write!(f, ".{name}"))
        };
        match &self.kind {
            OperandKind::Dot => f.write_str("."),
            OperandKind::Nil => f.write_str("nil"),
            OperandKind::Bool(value) => write!(f, "{value}"),
            OperandKind::Text(written, _) | OperandKind::Number(written, _) => f.write_str(written),
            OperandKind::Field(_, names) => fields(f, names),
            OperandKind::Variable(name, names) => {
                f.write_str(name)?;
                fields(f, names)
            }
            OperandKind::Function(function) => f.write_str(function.signature.name),
            OperandKind::Pipeline(pipeline) => write!(f, "{pipeline}"),
            OperandKind::Chain(operand, names) => {
                match &operand.kind {
                    OperandKind::Pipeline(pipeline) => write!(f, "({pipeline})")?,
                    _ => write!(f, "{operand}")?,
                }
                fields(f, names)
            }
        }
    }
}
