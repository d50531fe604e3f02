//! What a template makes of a line.

use std::rc::Rc;

use super::ast::{Command, Node, Nodes, Operand, OperandKind, Pipeline};
use super::calls::{Calls, MAX_TEXT_BYTES};
use super::functions::{Dialect, Function, Param};
use super::times;
use super::value::Value;

/// Templates that call one another may do so to this depth.
const MAX_DEPTH: usize = 100;

/// Labels by the number of a template's field.
pub(crate) trait Labels<'d> {
    /// The value of the field with that number; `None` if the line has no such label.
    fn field(&self, number: usize) -> Option<&'d str>;
}

/// What a template is made of, for evaluation.
#[derive(Clone, Copy)]
pub(crate) struct Source<'d> {
    /// What errors call it.
    pub(crate) name: &'d str,
    pub(crate) text: &'d str,
    pub(crate) parsed: &'d super::parse::Parsed,
}

/// Appends to `out` what the template makes.
///
/// # Errors
/// What Go says: `template: line:1:9: executing "line" at <now>: …`.
pub(crate) fn execute<'d>(
    source: Source<'d>,
    labels: &dyn Labels<'d>,
    calls: &mut Calls<'d>,
    out: &mut String,
) -> Result<(), String> {
    let start = out.len();
    let mut evaluator = Evaluator {
        source,
        labels,
        calls,
        out,
        start,
        name: source.name,
        variables: vec![("$", Value::Labels)],
        depth: 0,
    };
    evaluator.nodes(&Value::Labels, &source.parsed.nodes).map(|_| ())
}

/// How a list of nodes ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Normal,
    Break,
    Continue,
}

struct Evaluator<'e, 'd> {
    source: Source<'d>,
    labels: &'e dyn Labels<'d>,
    calls: &'e mut Calls<'d>,
    out: &'e mut String,
    /// Where the template's output begins.
    start: usize,
    /// The template at hand, which may be one that is defined inside.
    name: &'d str,
    variables: Vec<(&'d str, Value<'d>)>,
    depth: usize,
}

type Outcome<T> = Result<T, String>;

impl<'d> Evaluator<'_, 'd> {
    /// An error told for what stands at `place`.
    fn fault(&self, place: usize, context: &str, problem: &str) -> String {
        let before = &self.source.text[..place.min(self.source.text.len())];
        let line = 1 + before.matches('\n').count();
        let column = place - before.rfind('\n').map_or(0, |at| at + 1);
        let name = model::quote::quote(self.name);
        let parse_name = self.source.name;
        format!(
            "template: {parse_name}:{line}:{column}: executing {name} at <{context}>: {problem}"
        )
    }

    fn fail<T>(&self, operand: &Operand, problem: &str) -> Outcome<T> {
        Err(self.fault(operand.place, &operand.to_string(), problem))
    }

    fn step(&mut self, operand: &Operand) -> Outcome<()> {
        self.calls.step().or_else(|problem| self.fail(operand, &problem))
    }

    fn nodes(&mut self, dot: &Value<'d>, nodes: &'d Nodes) -> Outcome<Flow> {
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
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipeline) => {
                let value = self.pipeline(dot, pipeline)?;
                if pipeline.variables.is_empty() {
                    match value {
                        // A template prints no value so.
                        Value::Nil => self.out.push_str("<no value>"),
                        value => value.write(self.out, self.calls.labels),
                    }
                }
            }
            Node::If(pipeline, body, otherwise) | Node::With(pipeline, body, otherwise) => {
                let scope = self.variables.len();
                let value = self.pipeline(dot, pipeline)?;
                let flow = if self.calls.is_true(&value) {
                    let is_with = matches!(node, Node::With(..));
                    self.nodes(if is_with { &value } else { dot }, body)?
                } else {
                    self.nodes(dot, otherwise)?
                };
                self.variables.truncate(scope);
                return self.checked(pipeline, flow);
            }
            Node::Range(pipeline, body, otherwise) => {
                let scope = self.variables.len();
                self.range(dot, pipeline, body, otherwise)?;
                self.variables.truncate(scope);
            }
            Node::Template(place, name, pipeline) => {
                self.template(dot, *place, name, pipeline.as_ref())?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        self.check_output(node)?;
        Ok(Flow::Normal)
    }

    /// A flow, if the output is not too long by now.
    fn checked(&self, pipeline: &Pipeline, flow: Flow) -> Outcome<Flow> {
        if self.out.len() - self.start <= MAX_TEXT_BYTES {
            return Ok(flow);
        }
        let operand = &pipeline.commands[0].operands[0];
        self.fail(operand, &format!("the output is longer than {MAX_TEXT_BYTES} bytes"))
    }

    fn check_output(&self, node: &Node) -> Outcome<()> {
        match node {
            Node::Action(pipeline) | Node::Range(pipeline, ..) => {
                self.checked(pipeline, Flow::Normal).map(|_| ())
            }
            _ => Ok(()),
        }
    }

    fn template(
        &mut self,
        dot: &Value<'d>,
        place: usize,
        name: &'d str,
        pipeline: Option<&'d Pipeline>,
    ) -> Outcome<()> {
        let quoted = model::quote::quote(name);
        let context = || match pipeline {
            Some(pipeline) => format!("{{{{template {quoted} {pipeline}}}}}"),
            None => format!("{{{{template {quoted}}}}}"),
        };
        let Some(nodes) = self.source.parsed.defined.get(name) else {
            let problem = format!("template {quoted} not defined");
            return Err(self.fault(place, &context(), &problem));
        };
        let dot = match pipeline {
            Some(pipeline) => self.pipeline(dot, pipeline)?,
            None => Value::Nil,
        };
        if self.depth == MAX_DEPTH {
            let problem = format!("exceeded maximum template depth ({MAX_DEPTH})");
            return Err(self.fault(place, &context(), &problem));
        }
        if let Err(problem) = self.calls.step() {
            return Err(self.fault(place, &context(), &problem));
        }
        let variables = std::mem::replace(&mut self.variables, vec![("$", dot.clone())]);
        let outer = std::mem::replace(&mut self.name, name);
        self.depth += 1;
        self.nodes(&dot, nodes)?;
        self.depth -= 1;
        self.name = outer;
        self.variables = variables;
        Ok(())
    }

    fn range(
        &mut self,
        dot: &Value<'d>,
        pipeline: &'d Pipeline,
        body: &'d Nodes,
        otherwise: &'d Nodes,
    ) -> Outcome<()> {
        let value = self.commands(dot, pipeline)?;
        let operand = &pipeline.commands[0].operands[0];
        let mut any = false;
        match &value {
            Value::Nil => {}
            Value::List(list) => {
                for (index, element) in list.iter().enumerate() {
                    any = true;
                    let index = Value::Int(i64::try_from(index).unwrap_or(i64::MAX));
                    if self.round(pipeline, index, element, body)? == Flow::Break {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for (key, element) in map.iter() {
                    any = true;
                    let key = Value::text(key.clone());
                    if self.round(pipeline, key, element, body)? == Flow::Break {
                        break;
                    }
                }
            }
            Value::Labels => {
                let labels = self.calls.labels;
                for (key, element) in labels {
                    any = true;
                    let (key, element) = (Value::text(*key), Value::text(*element));
                    if self.round(pipeline, key, &element, body)? == Flow::Break {
                        break;
                    }
                }
            }
            Value::Int(count) | Value::Int64(count) => {
                for index in 0..*count {
                    any = true;
                    let index = Value::Int(index);
                    if self.round(pipeline, index.clone(), &index, body)? == Flow::Break {
                        break;
                    }
                }
            }
            other => {
                let mut shown = String::new();
                other.write(&mut shown, self.calls.labels);
                return self.fail(operand, &format!("range can't iterate over {shown}"));
            }
        }
        if !any {
            self.nodes(dot, otherwise)?;
        }
        Ok(())
    }

    /// One round of a loop.
    fn round(
        &mut self,
        pipeline: &'d Pipeline,
        index: Value<'d>,
        element: &Value<'d>,
        body: &'d Nodes,
    ) -> Outcome<Flow> {
        self.step(&pipeline.commands[0].operands[0])?;
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
        if pipeline.assigns {
            let known = self.variables.iter_mut().rev().find(|(known, _)| *known == name);
            if let Some((_, known)) = known {
                *known = value;
            }
        } else {
            self.variables.push((name, value));
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
        let first = &command.operands[0];
        self.step(first)?;
        let args = &command.operands[1..];
        match &first.kind {
            OperandKind::Function(function) => {
                let context = command.to_string();
                return self.call(dot, first, *function, args, piped, &context);
            }
            OperandKind::Field(number, names) => {
                return self.field(dot, first, *number, names, args, piped);
            }
            OperandKind::Chain(operand, names) => {
                let value = self.operand(dot, operand)?;
                return self.chain(dot, value, first, names, args, piped);
            }
            OperandKind::Variable(name, names) => {
                let value = self.variable(name);
                if names.is_empty() {
                    self.refuse_args(first, args, piped.is_some())?;
                    return Ok(value);
                }
                return self.chain(dot, value, first, names, args, piped);
            }
            _ => {}
        }
        self.refuse_args(first, args, piped.is_some())?;
        match &first.kind {
            OperandKind::Nil => self.fail(first, "nil is not a command"),
            _ => self.operand(dot, first),
        }
    }

    fn refuse_args(&self, first: &Operand, args: &[Operand], piped: bool) -> Outcome<()> {
        if args.is_empty() && !piped {
            return Ok(());
        }
        self.fail(first, &format!("can't give argument to non-function {first}"))
    }

    fn variable(&self, name: &str) -> Value<'d> {
        let known = self.variables.iter().rev().find(|(known, _)| *known == name);
        known.map_or(Value::Nil, |(_, value)| value.clone())
    }

    /// The value of an operand that is no command's first.
    fn operand(&mut self, dot: &Value<'d>, operand: &'d Operand) -> Outcome<Value<'d>> {
        Ok(match &operand.kind {
            OperandKind::Dot => dot.clone(),
            OperandKind::Nil => Value::Nil,
            OperandKind::Bool(value) => Value::Bool(*value),
            OperandKind::Text(_, text) => Value::text(text.as_str()),
            OperandKind::Number(written, number) => match (number.ideal_float, number) {
                (true, number) => Value::Float(number.float.unwrap_or(f64::NAN)),
                (false, super::lex::Number { integer: Some(integer), .. }) => Value::Int(*integer),
                _ => return self.fail(operand, &format!("{written} overflows int")),
            },
            OperandKind::Field(number, names) => {
                self.field(dot, operand, *number, names, &[], None)?
            }
            OperandKind::Variable(name, names) => {
                let value = self.variable(name);
                self.chain(dot, value, operand, names, &[], None)?
            }
            OperandKind::Function(function) => {
                let context = operand.to_string();
                self.call(dot, operand, *function, &[], None, &context)?
            }
            OperandKind::Pipeline(pipeline) => self.pipeline(dot, pipeline)?,
            OperandKind::Chain(inner, names) => {
                let value = self.operand(dot, inner)?;
                self.chain(dot, value, operand, names, &[], None)?
            }
        })
    }

    fn field(
        &mut self,
        dot: &Value<'d>,
        operand: &'d Operand,
        number: usize,
        names: &'d [String],
        args: &'d [Operand],
        piped: Option<Value<'d>>,
    ) -> Outcome<Value<'d>> {
        if !matches!(dot, Value::Labels) {
            return self.chain(dot, dot.clone(), operand, names, args, piped);
        }
        let value = match self.labels.field(number) {
            Some(text) => Value::text(text),
            None if self.source.parsed.dialect == Dialect::Collector => Value::Nil,
            None => Value::text(""),
        };
        if names.len() == 1 {
            self.refuse_field_args(operand, &names[0], args, piped.is_some())?;
            return Ok(value);
        }
        self.chain(dot, value, operand, &names[1..], args, piped)
    }

    fn refuse_field_args(
        &self,
        operand: &Operand,
        name: &str,
        args: &[Operand],
        piped: bool,
    ) -> Outcome<()> {
        if args.is_empty() && !piped {
            return Ok(());
        }
        self.fail(operand, &format!("{name} is not a method but has arguments"))
    }

    /// Fields of a value, one inside the other. Arguments go to the last.
    fn chain(
        &mut self,
        dot: &Value<'d>,
        mut value: Value<'d>,
        operand: &'d Operand,
        names: &'d [String],
        args: &'d [Operand],
        piped: Option<Value<'d>>,
    ) -> Outcome<Value<'d>> {
        for (index, name) in names.iter().enumerate() {
            let is_last = index + 1 == names.len();
            let (args, piped) = if is_last { (args, piped.clone()) } else { (&args[..0], None) };
            if let Value::Time(time) = &value {
                let time = Rc::clone(time);
                let mut given = Vec::with_capacity(args.len() + 1);
                for arg in args {
                    given.push(self.operand(dot, arg)?);
                }
                given.extend(piped);
                value = match times::method(self.calls, &time, name, &given) {
                    Some(outcome) => outcome.or_else(|problem| self.fail(operand, &problem))?,
                    None => {
                        let problem = format!("can't evaluate field {name} in type time.Time");
                        return self.fail(operand, &problem);
                    }
                };
                continue;
            }
            self.refuse_field_args(operand, name, args, piped.is_some())?;
            value = match &value {
                Value::Labels => {
                    let found = self.calls.labels.iter().find(|(known, _)| known == name);
                    Value::text(found.map_or("", |(_, value)| *value))
                }
                Value::Map(map) => map.get(name).cloned().unwrap_or(Value::Nil),
                Value::Nil => {
                    let problem = format!("nil pointer evaluating interface {{}}.{name}");
                    return self.fail(operand, &problem);
                }
                other => {
                    let problem =
                        format!("can't evaluate field {name} in type {}", other.type_name());
                    return self.fail(operand, &problem);
                }
            };
        }
        Ok(value)
    }

    fn call(
        &mut self,
        dot: &Value<'d>,
        operand: &'d Operand,
        function: Function,
        args: &'d [Operand],
        piped: Option<Value<'d>>,
        context: &str,
    ) -> Outcome<Value<'d>> {
        if let Err(problem) = function.check_count(args.len(), usize::from(piped.is_some())) {
            return self.fail(operand, &problem);
        }
        let name = function.name();
        if matches!(name, "and" | "or") {
            let mut value = Value::Nil;
            for arg in args {
                value = self.operand(dot, arg)?;
                if self.calls.is_true(&value) == (name == "or") {
                    return Ok(value);
                }
            }
            return Ok(piped.unwrap_or(value));
        }
        let mut values = Vec::with_capacity(args.len() + 1);
        for (at, arg) in args.iter().enumerate() {
            let param = function.param(at).unwrap_or(Param::Any);
            values.push(self.argument(dot, arg, param)?);
        }
        if let Some(piped) = piped {
            let param = function.param(args.len()).unwrap_or(Param::Any);
            if let Some(problem) = mismatch(&piped, param) {
                return self.fail(operand, &problem);
            }
            values.push(piped);
        }
        let outcome = function.call(self.calls, &values);
        outcome.map_err(|problem| {
            let problem = format!("error calling {name}: {problem}");
            self.fault(operand.place, context, &problem)
        })
    }

    /// An argument of the type that is wanted. Constants have to be of it as written.
    fn argument(
        &mut self,
        dot: &Value<'d>,
        operand: &'d Operand,
        param: Param,
    ) -> Outcome<Value<'d>> {
        match (&operand.kind, param) {
            (OperandKind::Number(_, number), Param::Int) => match number.integer {
                Some(integer) => return Ok(Value::Int(integer)),
                None => return self.fail(operand, &format!("expected integer; found {operand}")),
            },
            (OperandKind::Number(_, number), Param::Float) => match number.float {
                Some(float) => return Ok(Value::Float(float)),
                None => return self.fail(operand, &format!("expected float; found {operand}")),
            },
            (OperandKind::Text(..), Param::Text) => return self.operand(dot, operand),
            (OperandKind::Nil, Param::Text | Param::Int | Param::Float | Param::Time) => {
                let problem = format!("cannot assign nil to {}", param.type_name());
                return self.fail(operand, &problem);
            }
            (OperandKind::Text(..) | OperandKind::Number(..) | OperandKind::Bool(_), param) => {
                let wanted = match param {
                    Param::Any => return self.operand(dot, operand),
                    Param::Text => "string",
                    Param::Int => "integer",
                    Param::Float => "float",
                    Param::Time => {
                        let problem = format!("can't handle {operand} for arg of type time.Time");
                        return self.fail(operand, &problem);
                    }
                };
                return self.fail(operand, &format!("expected {wanted}; found {operand}"));
            }
            _ => {}
        }
        let value = self.operand(dot, operand)?;
        match mismatch(&value, param) {
            Some(problem) => self.fail(operand, &problem),
            None => Ok(value),
        }
    }
}

/// Why a value is not of the type that is wanted.
fn mismatch(value: &Value<'_>, param: Param) -> Option<String> {
    let fits = match (value, param) {
        (_, Param::Any)
        | (Value::Text(_), Param::Text)
        | (Value::Int(_), Param::Int)
        | (Value::Float(_), Param::Float)
        | (Value::Time(_), Param::Time) => true,
        (Value::Nil, _) => {
            return Some(format!("invalid value; expected {}", param.type_name()));
        }
        _ => false,
    };
    (!fits).then(|| {
        let (wanted, got) = (param.type_name(), value.type_name());
        format!("wrong type for value; expected {wanted}; got {got}")
    })
}
