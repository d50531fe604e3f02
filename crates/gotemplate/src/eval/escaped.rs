//! Actions in HTML, where what is written depends on what stands before it.

use crate::ast::{OperandKind, Pipeline};
use crate::parse::Tree;
use crate::signature::Owner;
use crate::value::{Safety, Value};
use crate::{builtins, html};

use super::{At, Context, Escaper, Evaluator, Outcome};

impl<'d, C: Context<'d>> Evaluator<'_, 'd, C> {
    /// Prints what a pipeline yields, escaped.
    pub(super) fn escaped_action(
        &mut self,
        dot: &Value<'d>,
        pipeline: &'d Pipeline,
    ) -> Outcome<()> {
        let told = |tree: &Tree, problem: String| {
            let place = tree.place_of(pipeline.place);
            format!("html/template:{place}: {problem}")
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
    pub(super) fn without_last(
        &mut self,
        dot: &Value<'d>,
        pipeline: &'d Pipeline,
    ) -> Outcome<Vec<Value<'d>>> {
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
            let value = self.operand(dot, operand)?;
            self.count_copy(&value)?;
            values.push(value);
        }
        if values.len() > 1 || matches!(values.first(), Some(Value::Nil)) {
            // They are joined before they are escaped.
            let joined = builtins::joined(self.context.budget(), &values);
            return Ok(vec![joined.map_err(|problem| self.fault(problem))?]);
        }
        Ok(values)
    }

    /// What the template with a name makes of data, as HTML that is safe.
    pub(super) fn expand(&mut self, name: &str, data: Value<'d>) -> Result<Value<'d>, String> {
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
            escaper.finish().map_err(|problem| html::told(&tree.name, problem))?;
        }
        self.escaper = outer;
        self.at = at;
        let made = self.out.split_off(start);
        self.context.budget().spend(made.len())?;
        Ok(Value::safe(Safety::Html, made))
    }
}
