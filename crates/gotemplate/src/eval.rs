//! What a template makes of data.
//!
//! Follows the order in which Go's `text/template` evaluates, and like it remembers what it looked
//! at last: errors are told for that.

mod arguments;
mod escaped;
mod fields;
mod functions;
mod loops;

use std::fmt::Display;

use crate::ast::{Command, Invocation, Node, Operand, OperandKind, Pipeline};
use crate::budget::Budget;
use crate::html;
use crate::html::Escaper;
use crate::parse::Tree;
use crate::set::Library;
use crate::value::Value;

/// What a dialect adds while a template is executed.
pub trait Context<'d> {
    /// What the execution may still use.
    fn budget(&mut self) -> &mut Budget;

    /// The value of the field with that number among [`crate::Parsed::fields`] of the data, where
    /// the data is [`Value::Labels`]. Only asked then, so that not all labels need to be built.
    fn field(&mut self, number: usize, name: &str) -> Value<'d>;

    /// Calls a function of the dialect with arguments whose number and types were checked.
    ///
    /// # Errors
    /// Why the function fails, without its name and place.
    fn call(&mut self, function: usize, args: &[Value<'d>]) -> Result<Value<'d>, String>;
}

/// What a field yields that a map does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissingKey {
    /// No value, which is printed as `<no value>`.
    #[default]
    NoValue,
    /// What the type of the map has where nothing is: the empty text, or no value.
    Zero,
    /// An error.
    Error,
}

/// What is to be executed.
#[derive(Clone)]
pub struct Request<'d> {
    /// Where templates are found by their names, the one to begin with first.
    pub library: &'d dyn Library,
    /// The data, which is `.` and `$`.
    pub data: Value<'d>,
    /// What keys yield that maps do not have.
    pub missing_key: MissingKey,
    /// Whether values are escaped for where they come to stand in HTML.
    pub html: bool,
}

/// Appends to `out` what a template makes.
///
/// # Errors
/// What Go says: `template: line:1:9: executing "line" at <now>: …`.
pub fn execute<'d>(
    request: Request<'d>,
    context: &mut impl Context<'d>,
    out: &mut String,
) -> Result<(), String> {
    let Some(tree) = request.library.main() else {
        return Err("template: there is none to execute".to_owned());
    };
    let limit = context.budget().limits().text_bytes;
    let most = out.len().saturating_add(limit);
    let mut evaluator = Evaluator {
        library: request.library,
        missing_key: request.missing_key,
        escaper: request.html.then(Escaper::new),
        context,
        out,
        limit,
        most,
        tree,
        at: At::Nothing,
        variables: vec![("$", request.data.clone())],
    };
    evaluator.nodes(&request.data, &tree.nodes)?;
    match &evaluator.escaper {
        Some(escaper) => escaper.finish().map_err(|problem| html::told(&tree.name, problem)),
        None => Ok(()),
    }
}

/// How a list of nodes ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Normal,
    Break,
    Continue,
}

/// What was looked at last.
#[derive(Clone, Copy)]
enum At<'d> {
    Nothing,
    Operand(&'d Operand),
    Command(&'d Command),
    Pipeline(&'d Pipeline),
    Invocation(&'d Invocation),
}

struct Evaluator<'e, 'd, C> {
    library: &'d dyn Library,
    missing_key: MissingKey,
    escaper: Option<Escaper>,
    context: &'e mut C,
    out: &'e mut String,
    /// How long the output may be.
    limit: usize,
    /// How long `out` may be.
    most: usize,
    /// The template at hand, which may be one that is defined inside.
    tree: &'d Tree,
    at: At<'d>,
    variables: Vec<(&'d str, Value<'d>)>,
}

type Outcome<T> = Result<T, String>;

impl<'d, C: Context<'d>> Evaluator<'_, 'd, C> {
    /// An error, told for what was looked at last.
    #[cold]
    fn fault(&self, problem: impl Display) -> String {
        let (place, shown) = match self.at {
            At::Nothing => return format!("template: {}: {problem}", self.tree.name),
            At::Operand(operand) => (operand.place, operand.to_string()),
            At::Command(command) => (command.place, command.to_string()),
            At::Pipeline(pipeline) => (pipeline.place, pipeline.to_string()),
            At::Invocation(invocation) => (invocation.place, invocation.to_string()),
        };
        let name = model::quote::quote(&self.tree.name);
        let place = self.tree.place_of(place);
        format!("template: {place}: executing {name} at <{shown}>: {problem}")
    }

    fn fail<T>(&self, problem: impl Display) -> Outcome<T> {
        Err(self.fault(problem))
    }

    fn step(&mut self) -> Outcome<()> {
        self.context.budget().step().map_err(|problem| self.fault(problem))
    }

    fn enter(&mut self) -> Outcome<()> {
        self.context.budget().enter().map_err(|problem| self.fault(problem))
    }

    fn nodes(&mut self, dot: &Value<'d>, nodes: &'d [Node]) -> Outcome<Flow> {
        for node in nodes {
            match self.node(dot, node)? {
                Flow::Normal => {}
                other => return Ok(other),
            }
        }
        Ok(Flow::Normal)
    }

    fn node(&mut self, dot: &Value<'d>, node: &'d Node) -> Outcome<Flow> {
        match node {
            Node::Text(text) => {
                match &mut self.escaper {
                    None => self.out.push_str(text),
                    Some(escaper) => escaper
                        .text(text, self.out)
                        .map_err(|problem| html::told(&self.tree.name, problem))?,
                }
                self.check_output()?;
            }
            Node::Action(pipeline) => {
                self.action(dot, pipeline)?;
                self.check_output()?;
            }
            Node::If(pipeline, body, otherwise) | Node::With(pipeline, body, otherwise) => {
                self.enter()?;
                let scope = self.variables.len();
                let value = self.pipeline(dot, pipeline)?;
                let flow = if value.is_true() {
                    let is_with = matches!(node, Node::With(..));
                    self.nodes(if is_with { &value } else { dot }, body)?
                } else {
                    self.nodes(dot, otherwise)?
                };
                self.variables.truncate(scope);
                self.context.budget().leave();
                return Ok(flow);
            }
            Node::Range(pipeline, body, otherwise) => {
                self.enter()?;
                let scope = self.variables.len();
                let flow = self.range(dot, pipeline, body, otherwise)?;
                self.variables.truncate(scope);
                self.context.budget().leave();
                return Ok(flow);
            }
            Node::Template(invocation) => self.invoke(dot, invocation)?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Normal)
    }

    fn check_output(&self) -> Outcome<()> {
        if self.out.len() <= self.most {
            return Ok(());
        }
        let limit = self.limit;
        self.fail(format!("the output is longer than {limit} bytes; print less"))
    }

    /// Prints what a pipeline yields, if it sets no variables.
    fn action(&mut self, dot: &Value<'d>, pipeline: &'d Pipeline) -> Outcome<()> {
        if !pipeline.variables.is_empty() {
            self.pipeline(dot, pipeline)?;
            return Ok(());
        }
        if self.escaper.is_some() {
            return self.escaped_action(dot, pipeline);
        }
        match self.pipeline(dot, pipeline)? {
            // A template prints no value so.
            Value::Nil => self.out.push_str("<no value>"),
            value => value.write(self.out, self.most),
        }
        Ok(())
    }

    fn invoke(&mut self, dot: &Value<'d>, invocation: &'d Invocation) -> Outcome<()> {
        self.at = At::Invocation(invocation);
        let Some(tree) = self.library.tree(&invocation.name) else {
            let name = model::quote::quote(&invocation.name);
            if self.escaper.is_some() {
                let place = self.tree.place_of(invocation.place);
                return Err(format!("html/template:{place}: no such template {name}"));
            }
            return self.fail(format!("template {name} not defined"));
        };
        self.enter()?;
        self.step()?;
        let dot = match &invocation.pipeline {
            Some(pipeline) => self.pipeline(dot, pipeline)?,
            None => Value::Nil,
        };
        self.run(tree, dot)?;
        self.context.budget().leave();
        Ok(())
    }

    /// Executes another template.
    fn run(&mut self, tree: &'d Tree, dot: Value<'d>) -> Outcome<()> {
        let variables = std::mem::replace(&mut self.variables, vec![("$", dot.clone())]);
        let outer = std::mem::replace(&mut self.tree, tree);
        self.nodes(&dot, &tree.nodes)?;
        self.tree = outer;
        self.variables = variables;
        Ok(())
    }

    fn declare(&mut self, pipeline: &Pipeline, name: &'d str, value: Value<'d>) -> Outcome<()> {
        if !pipeline.assigns {
            self.variables.push((name, value));
            return Ok(());
        }
        match self.variables.iter_mut().rev().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => return self.fail(format!("undefined variable: {name}")),
        }
        Ok(())
    }

    /// The value of a pipeline, which it also sets its variables to.
    fn pipeline(&mut self, dot: &Value<'d>, pipeline: &'d Pipeline) -> Outcome<Value<'d>> {
        let value = self.commands(dot, pipeline)?;
        for name in &pipeline.variables {
            self.declare(pipeline, name, value.clone())?;
        }
        Ok(value)
    }

    /// The value of a pipeline within another one. That counts as depth: what stands there may be a
    /// template that is expanded, and has parentheses again.
    fn parentheses(&mut self, dot: &Value<'d>, pipeline: &'d Pipeline) -> Outcome<Value<'d>> {
        self.enter()?;
        let value = self.pipeline(dot, pipeline)?;
        self.context.budget().leave();
        Ok(value)
    }

    fn commands(&mut self, dot: &Value<'d>, pipeline: &'d Pipeline) -> Outcome<Value<'d>> {
        self.at = At::Pipeline(pipeline);
        let mut value = None;
        for command in &pipeline.commands {
            value = Some(self.command(dot, command, value)?);
        }
        Ok(value.unwrap_or(Value::Nil))
    }

    fn command(
        &mut self,
        dot: &Value<'d>,
        command: &'d Command,
        piped: Option<Value<'d>>,
    ) -> Outcome<Value<'d>> {
        self.step()?;
        let first = &command.operands[0];
        let args = &command.operands[1..];
        match &first.kind {
            OperandKind::Function(function) => {
                self.at = At::Operand(first);
                return self.function(dot, *function, At::Command(command), args, piped);
            }
            OperandKind::Field(..) | OperandKind::Chain(..) | OperandKind::Variable(..) => {
                return self.fields(dot, first, args, piped);
            }
            OperandKind::Pipeline(pipeline) => {
                self.refuse_args(first, args, piped.is_some())?;
                return self.parentheses(dot, pipeline);
            }
            _ => {}
        }
        self.at = At::Operand(first);
        self.refuse_args(first, args, piped.is_some())?;
        match &first.kind {
            OperandKind::Nil => self.fail("nil is not a command"),
            _ => self.operand(dot, first),
        }
    }

    fn refuse_args(&self, first: &Operand, args: &[Operand], piped: bool) -> Outcome<()> {
        if args.is_empty() && !piped {
            return Ok(());
        }
        self.fail(format!("can't give argument to non-function {first}"))
    }

    fn variable(&self, name: &str) -> Value<'d> {
        let known = self.variables.iter().rev().find(|(known, _)| *known == name);
        known.map_or(Value::Nil, |(_, value)| value.clone())
    }

    /// Counts the copy of a text that was made.
    fn count_copy(&mut self, value: &Value<'d>) -> Outcome<()> {
        match value.copied_bytes() {
            0 => Ok(()),
            bytes => self.context.budget().count(bytes).map_err(|problem| self.fault(problem)),
        }
    }

    /// The value of an operand that is no command's first, where anything is wanted.
    fn operand(&mut self, dot: &Value<'d>, operand: &'d Operand) -> Outcome<Value<'d>> {
        self.at = At::Operand(operand);
        Ok(match &operand.kind {
            OperandKind::Dot => dot.clone(),
            OperandKind::Nil => Value::Nil,
            OperandKind::Bool(value) => Value::Bool(*value),
            OperandKind::Text(_, text) => Value::text(text.as_str()),
            OperandKind::Number(written, number) => match (number.ideal_float, number.integer) {
                (true, _) => Value::Float(number.float.unwrap_or(f64::NAN)),
                (false, Some(integer)) => Value::Int(integer),
                (false, None) => return self.fail(format!("{written} overflows int")),
            },
            OperandKind::Field(..) | OperandKind::Variable(..) | OperandKind::Chain(..) => {
                self.fields(dot, operand, &[], None)?
            }
            OperandKind::Function(function) => {
                self.function(dot, *function, At::Operand(operand), &[], None)?
            }
            OperandKind::Pipeline(pipeline) => self.parentheses(dot, pipeline)?,
        })
    }
}
