//! Functions and data of Prometheus' and Alertmanager's templates.
//!
//! The engine is `gotemplate`. [`rule`] has what labels and annotations of alerting rules may use,
//! [`notice`] what notifications may.

mod convert;
mod hosts;
pub mod notice;
pub mod rule;
mod title;

pub use gotemplate::Limits;

/// Why there is no text, in the words of Go, Prometheus or Alertmanager.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The text is no template, or calls a function that there is not.
    #[error("{0}")]
    Parse(String),
    /// The template failed on the data, or used more than it may.
    #[error("{0}")]
    Execute(String),
}

/// A zone's file of the IANA's database by the zone's name; `None` if there is no such zone.
pub type Zones = dyn Fn(&str) -> Option<std::sync::Arc<[u8]>> + Send + Sync;

/// `reReplaceAll expression new text`; an expression that is none is told as Go tells those who
/// must have one.
fn replaced<'d>(
    expressions: &mut gotemplate::Expressions,
    budget: &mut gotemplate::Budget,
    args: &[gotemplate::Value<'d>],
) -> Result<gotemplate::Value<'d>, String> {
    let (expression, new, text) = (text_at(args, 0), text_at(args, 1), text_at(args, 2));
    if let Err(problem) = expressions.get(expression) {
        let shown = if expression.contains(['`', '\u{7f}']) || expression.chars().any(|c| c < ' ') {
            model::quote::quote(expression)
        } else {
            format!("`{expression}`")
        };
        return Err(format!("regexp: Compile({shown}): {problem}"));
    }
    let made = expressions.replace(expression, text, new, budget)?;
    budget.text(made)
}

/// The text at a place; arguments were checked before.
fn text_at<'a>(args: &'a [gotemplate::Value<'_>], at: usize) -> &'a str {
    args.get(at).and_then(gotemplate::Value::as_text).unwrap_or_default()
}
