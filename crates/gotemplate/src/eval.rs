//! What a template makes of data.
//!
//! Follows the order in which Go's `text/template` evaluates, and like it remembers what it looked
//! at last: errors are told for that.

use std::fmt::Display;

use crate::ast::{Command, Invocation, Node, Operand, OperandKind, Pipeline};
use crate::budget::Budget;
use crate::html::Escaper;
use crate::parse::{Tree, line_at};
use crate::set::Library;
use crate::signature::{Function, Owner};
use crate::value::{Safety, Value};
use crate::{builtins, html};

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
        Some(escaper) => {
            escaper.finish().map_err(|problem| html::told(&tree.parse_name, 0, problem))
        }
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
        let Tree { name, parse_name, text, .. } = self.tree;
        let line = line_at(text, place);
        let column = place - text[..place].rfind('\n').map_or(0, |at| at + 1);
        let name = model::quote::quote(name);
        format!("template: {parse_name}:{line}:{column}: executing {name} at <{shown}>: {problem}")
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
                        .map_err(|problem| html::told(&self.tree.parse_name, 0, problem))?,
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

    /// The same in HTML, where what is written depends on what stands before it.
    fn escaped_action(&mut self, dot: &Value<'d>, pipeline: &'d Pipeline) -> Outcome<()> {
        let told = |tree: &Tree, problem| {
            html::told(&tree.parse_name, line_at(&tree.text, pipeline.place), problem)
        };
        let Some(escaper) = &mut self.escaper else { return Ok(()) };
        let last = pipeline.commands.len() - 1;
        // `html` and `urlquery` at the end of a pipeline do what would be done anyway.
        let mut explicit = None;
        for (at, command) in pipeline.commands.iter().enumerate() {
            let OperandKind::Function(function) = &command.operands[0].kind else { continue };
            let name = function.signature.name;
            let is_builtin = matches!(function.owner, Owner::Builtin(_));
            if !is_builtin || !matches!(name, "html" | "urlquery") {
                continue;
            }
            if at < last || !escaper.takes_explicit(name) {
                let name = model::quote::quote(name);
                let problem = format!("predefined escaper {name} disallowed in template");
                return Err(told(self.tree, problem));
            }
            explicit = Some(name);
        }
        let mut steps = escaper.begin_value().map_err(|problem| told(self.tree, problem))?;
        let implied = explicit.is_some_and(|name| steps.imply(name));
        let value = if implied {
            self.without_last(dot, pipeline)?
        } else {
            let value = self.pipeline(dot, pipeline)?;
            vec![value]
        };
        let limit = self.limit;
        match steps.escape(&value, limit) {
            Ok(text) => self.out.push_str(&text),
            Err(problem) => return self.fail(problem),
        }
        Ok(())
    }

    /// What a pipeline yields before its last command, or, if that is its only one, the arguments of
    /// that.
    fn without_last(&mut self, dot: &Value<'d>, pipeline: &'d Pipeline) -> Outcome<Vec<Value<'d>>> {
        let Some((last, before)) = pipeline.commands.split_last() else { return Ok(Vec::new()) };
        let mut piped = None;
        for command in before {
            piped = Some(self.command(dot, command, piped)?);
        }
        if let Some(piped) = piped {
            return Ok(vec![piped]);
        }
        let mut values = Vec::with_capacity(last.operands.len());
        for operand in &last.operands[1..] {
            values.push(self.operand(dot, operand)?);
        }
        Ok(values)
    }

    fn invoke(&mut self, dot: &Value<'d>, invocation: &'d Invocation) -> Outcome<()> {
        self.at = At::Invocation(invocation);
        let Some(tree) = self.library.tree(&invocation.name) else {
            let name = model::quote::quote(&invocation.name);
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

    /// What the template with a name makes of data, as HTML that is safe.
    fn expand(&mut self, name: &str, data: Value<'d>) -> Result<Value<'d>, String> {
        let Some(tree) = self.library.tree(name) else {
            let name = model::quote::quote(name);
            return Err(format!("html/template: {name} is undefined"));
        };
        let start = self.out.len();
        // What was looked at outside is not in the template that is called.
        let at = std::mem::replace(&mut self.at, At::Nothing);
        let escaper = self.escaper.as_ref().map(|_| Escaper::new());
        let outer = std::mem::replace(&mut self.escaper, escaper);
        self.enter()?;
        self.run(tree, data)?;
        self.context.budget().leave();
        if let Some(escaper) = &self.escaper {
            escaper.finish().map_err(|problem| html::told(&tree.parse_name, 0, problem))?;
        }
        self.escaper = outer;
        self.at = at;
        let made = self.out.split_off(start);
        self.context.budget().spend(made.len())?;
        Ok(Value::safe(Safety::Html, made))
    }

    fn range(
        &mut self,
        dot: &Value<'d>,
        pipeline: &'d Pipeline,
        body: &'d [Node],
        otherwise: &'d [Node],
    ) -> Outcome<Flow> {
        let value = self.commands(dot, pipeline)?;
        let mut any = false;
        match &value {
            Value::Nil => {}
            Value::List(list) => {
                for (index, element) in list.items.iter().enumerate() {
                    any = true;
                    let index = Value::Int(i64::try_from(index).unwrap_or(i64::MAX));
                    if self.round(pipeline, index, element, body)? == Flow::Break {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for (key, element) in &map.entries {
                    any = true;
                    let key = Value::Text(key.clone());
                    if self.round(pipeline, key, element, body)? == Flow::Break {
                        break;
                    }
                }
            }
            Value::Labels(labels) => {
                for (key, element) in *labels {
                    any = true;
                    let (key, element) = (Value::text(*key), Value::text(*element));
                    if self.round(pipeline, key, &element, body)? == Flow::Break {
                        break;
                    }
                }
            }
            other => {
                let count = other.as_integer().map(i128::from);
                let Some(count) = count.or_else(|| other.as_unsigned().map(i128::from)) else {
                    let mut shown = String::new();
                    other.write(&mut shown, 1_000);
                    return self.fail(format!("range can't iterate over {shown}"));
                };
                if pipeline.variables.len() > 1 {
                    return self
                        .fail(format!("can't use {count} to iterate over more than one variable"));
                }
                for number in 0..count {
                    any = true;
                    let number = of_same_type(other, number);
                    if self.round(pipeline, Value::Nil, &number, body)? == Flow::Break {
                        break;
                    }
                }
            }
        }
        if any {
            return Ok(Flow::Normal);
        }
        self.nodes(dot, otherwise)
    }

    /// One round of a loop.
    fn round(
        &mut self,
        pipeline: &'d Pipeline,
        index: Value<'d>,
        element: &Value<'d>,
        body: &'d [Node],
    ) -> Outcome<Flow> {
        self.step()?;
        let scope = self.variables.len();
        match pipeline.variables.as_slice() {
            [] => {}
            [value] => self.declare(pipeline, value, element.clone()),
            [key, value, ..] => {
                self.declare(pipeline, key, index);
                self.declare(pipeline, value, element.clone());
            }
        }
        let flow = self.nodes(element, body)?;
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn declare(&mut self, pipeline: &Pipeline, name: &'d str, value: Value<'d>) {
        let known = if pipeline.assigns {
            self.variables.iter_mut().rev().find(|(known, _)| *known == name)
        } else {
            None
        };
        match known {
            Some((_, known)) => *known = value,
            None => self.variables.push((name, value)),
        }
    }

    /// The value of a pipeline, which it also sets its variables to.
    fn pipeline(&mut self, dot: &Value<'d>, pipeline: &'d Pipeline) -> Outcome<Value<'d>> {
        let value = self.commands(dot, pipeline)?;
        for name in &pipeline.variables {
            self.declare(pipeline, name, value.clone());
        }
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
                return self.pipeline(dot, pipeline);
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
            OperandKind::Pipeline(pipeline) => self.pipeline(dot, pipeline)?,
        })
    }

    /// Fields of the data, of a variable, or of what something else yields.
    fn fields(
        &mut self,
        dot: &Value<'d>,
        operand: &'d Operand,
        args: &'d [Operand],
        piped: Option<Value<'d>>,
    ) -> Outcome<Value<'d>> {
        self.at = At::Operand(operand);
        match &operand.kind {
            OperandKind::Field(number, names) => {
                if !matches!(dot, Value::Labels(_)) {
                    return self.chain(dot, dot.clone(), operand, names, args, piped);
                }
                let value = self.context.field(*number, &names[0]);
                if names.len() == 1 {
                    if !args.is_empty() || piped.is_some() {
                        let name = &names[0];
                        return self.fail(format!("{name} is not a method but has arguments"));
                    }
                    return Ok(value);
                }
                self.chain(dot, value, operand, &names[1..], args, piped)
            }
            OperandKind::Variable(name, names) => {
                let value = self.variable(name);
                if names.is_empty() {
                    self.refuse_args(operand, args, piped.is_some())?;
                    return Ok(value);
                }
                self.chain(dot, value, operand, names, args, piped)
            }
            OperandKind::Chain(inner, names) => {
                if matches!(inner.kind, OperandKind::Nil) {
                    return self.fail(format!("indirection through explicit nil in {operand}"));
                }
                let value = self.operand(dot, inner)?;
                self.chain(dot, value, operand, names, args, piped)
            }
            _ => Ok(Value::Nil),
        }
    }

    /// Fields of a value, one inside the other. Arguments go to the last.
    fn chain(
        &mut self,
        dot: &Value<'d>,
        mut value: Value<'d>,
        operand: &'d Operand,
        names: &'d [String],
        args: &'d [Operand],
        mut piped: Option<Value<'d>>,
    ) -> Outcome<Value<'d>> {
        // Whether the value comes from a map or struct that has no value there: Go tells that from
        // a value that is not there at all.
        let mut is_empty_interface = false;
        for (index, name) in names.iter().enumerate() {
            let is_last = index + 1 == names.len();
            let (args, piped) = if is_last { (args, piped.take()) } else { (&args[..0], None) };
            if matches!(value, Value::Nil) {
                if is_empty_interface {
                    return self.fail(format!("nil pointer evaluating interface {{}}.{name}"));
                }
                if self.missing_key == MissingKey::Error {
                    let name = model::quote::quote(name);
                    return self.fail(format!("nil data; no entry for key {name}"));
                }
                return Ok(Value::Nil);
            }
            if let Some(method) = crate::methods::find(&value, name) {
                let given = self.arguments(dot, &method.signature, args, piped)?;
                let outcome = (method.body)(self.context.budget(), &value, &given);
                value = match outcome {
                    Ok(value) => value,
                    Err(problem) => {
                        self.at = At::Operand(operand);
                        return self.fail(format!("error calling {name}: {problem}"));
                    }
                };
                continue;
            }
            let has_args = !args.is_empty() || piped.is_some();
            value = match &value {
                Value::Struct(fields) => match fields.field(name) {
                    Some(_) if has_args => {
                        return self.fail(format!(
                            "{name} has arguments but cannot be invoked as function"
                        ));
                    }
                    Some(value) => {
                        is_empty_interface = true;
                        value.clone()
                    }
                    None => return self.no_field(name, &value),
                },
                Value::Map(_) | Value::Labels(_) => {
                    if has_args {
                        return self.fail(format!("{name} is not a method but has arguments"));
                    }
                    match (value.entry(name), self.missing_key) {
                        (Some(value), _) => {
                            is_empty_interface = true;
                            value
                        }
                        (None, MissingKey::Zero) => {
                            is_empty_interface = true;
                            value.zero_entry()
                        }
                        (None, MissingKey::NoValue) => Value::Nil,
                        (None, MissingKey::Error) => {
                            let name = model::quote::quote(name);
                            return self.fail(format!("map has no entry for key {name}"));
                        }
                    }
                }
                other => return self.no_field(name, other),
            };
        }
        Ok(value)
    }

    fn no_field<T>(&self, name: &str, value: &Value<'_>) -> Outcome<T> {
        let type_name = value.type_name();
        self.fail(format!("can't evaluate field {name} in type {type_name}"))
    }

    fn function(
        &mut self,
        dot: &Value<'d>,
        function: Function,
        node: At<'d>,
        args: &'d [Operand],
        piped: Option<Value<'d>>,
    ) -> Outcome<Value<'d>> {
        let signature = function.signature;
        if let Owner::Builtin(number @ (builtins::AND | builtins::OR)) = function.owner {
            signature
                .check_count(args.len(), usize::from(piped.is_some()))
                .map_err(|problem| self.fault(problem))?;
            let mut value = Value::Nil;
            for arg in args {
                value = self.operand(dot, arg)?;
                if value.is_true() == (number == builtins::OR) {
                    return Ok(value);
                }
            }
            return Ok(piped.unwrap_or(value));
        }
        let values = self.arguments(dot, signature, args, piped)?;
        let outcome = match function.owner {
            Owner::Builtin(builtins::CALL) => {
                let name = args.first().map_or("<function>".to_owned(), ToString::to_string);
                Err(match values.first() {
                    None | Some(Value::Nil) => "call of nil".to_owned(),
                    Some(value) => format!("non-function {name} of type {}", value.type_name()),
                })
            }
            Owner::Builtin(number) => builtins::call(number, self.context.budget(), &values),
            Owner::Dialect(number) => self.context.call(number, &values),
            Owner::Expand => {
                let name = values.first().and_then(Value::as_text).unwrap_or_default().to_owned();
                self.expand(&name, values.get(1).cloned().unwrap_or(Value::Nil))
            }
        };
        outcome.map_err(|problem| {
            self.at = node;
            self.fault(format_args!("error calling {}: {problem}", signature.name))
        })
    }
}

impl<'d, C: Context<'d>> Evaluator<'_, 'd, C> {
    /// Arguments of the number and types that a signature wants.
    fn arguments(
        &mut self,
        dot: &Value<'d>,
        signature: &crate::signature::Signature,
        args: &'d [Operand],
        piped: Option<Value<'d>>,
    ) -> Outcome<Vec<Value<'d>>> {
        signature
            .check_count(args.len(), usize::from(piped.is_some()))
            .map_err(|problem| self.fault(problem))?;
        let mut values = Vec::with_capacity(args.len() + usize::from(piped.is_some()));
        for (at, arg) in args.iter().enumerate() {
            let param = signature.param(at).unwrap_or(crate::Param::Any);
            values.push(self.argument(dot, arg, param)?);
        }
        if let Some(piped) = piped {
            let param = signature.param(args.len()).unwrap_or(crate::Param::Any);
            values.push(self.validated(piped, param)?);
        }
        Ok(values)
    }
}

/// A number of a loop over a number of that type.
fn of_same_type<'d>(count: &Value<'d>, number: i128) -> Value<'d> {
    let signed = i64::try_from(number).unwrap_or(i64::MAX);
    match count {
        Value::Int64(_) => Value::Int64(signed),
        Value::Uint(_) => Value::Uint(u64::try_from(number).unwrap_or(u64::MAX)),
        Value::Byte(_) => Value::Byte(u8::try_from(number).unwrap_or(u8::MAX)),
        Value::Duration(_) => Value::Duration(signed),
        _ => Value::Int(signed),
    }
}

mod arguments;
