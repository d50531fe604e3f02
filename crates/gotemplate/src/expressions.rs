//! Regular expressions as Go's functions use them.

use std::ops::Range;

use model::regex::{Finder, Groups};

use crate::budget::Budget;

/// Expressions that are kept compiled.
const MAX_EXPRESSIONS: usize = 32;

/// Expressions templates have used, compiled.
#[derive(Debug, Clone, Default)]
pub struct Expressions {
    known: Vec<(String, Finder)>,
}

impl Expressions {
    /// The expression `text`; compiled once while few are in use.
    ///
    /// # Errors
    /// It is none, in Go's words.
    pub fn get(&mut self, text: &str) -> Result<&Finder, String> {
        let at = match self.known.iter().position(|(known, _)| known == text) {
            Some(at) => at,
            None => {
                let finder = Finder::new(text).map_err(|error| error.to_string())?;
                if self.known.len() == MAX_EXPRESSIONS {
                    self.known.remove(0);
                }
                self.known.push((text.to_owned(), finder));
                self.known.len() - 1
            }
        };
        Ok(&self.known[at].1)
    }

    /// `text` with each match replaced by `replacement`, in which `$1` and `${name}` are groups.
    ///
    /// # Errors
    /// The expression is none, or what comes out is longer than the budget allows.
    pub fn replace(
        &mut self,
        expression: &str,
        text: &str,
        replacement: &str,
        budget: &mut Budget,
    ) -> Result<String, String> {
        let finder = self.get(expression)?.clone();
        let template = finder.template(replacement);
        replace_matches(&finder, text, budget, |out, groups| template.expand(out, groups, text))
    }

    /// `text` with each match replaced by `literal` as it is.
    ///
    /// # Errors
    /// The expression is none, or what comes out is longer than the budget allows.
    pub fn replace_literal(
        &mut self,
        expression: &str,
        text: &str,
        literal: &str,
        budget: &mut Budget,
    ) -> Result<String, String> {
        let finder = self.get(expression)?.clone();
        replace_matches(&finder, text, budget, |out, _| out.push_str(literal))
    }

    /// How often the expression matches.
    ///
    /// # Errors
    /// It is none, or too much was searched.
    pub fn count(
        &mut self,
        expression: &str,
        text: &str,
        budget: &mut Budget,
    ) -> Result<i64, String> {
        let finder = self.get(expression)?.clone();
        let mut count = 0;
        each_match(&finder, text, budget, |_, _| {
            count += 1;
            Ok(())
        })?;
        Ok(count)
    }

    /// Whether the expression matches anywhere.
    ///
    /// # Errors
    /// It is none, or too much was searched.
    pub fn is_match(
        &mut self,
        expression: &str,
        text: &str,
        budget: &mut Budget,
    ) -> Result<bool, String> {
        budget.count(text.len())?;
        Ok(self.get(expression)?.is_match(text.as_bytes()))
    }
}

fn replace_matches(
    finder: &Finder,
    text: &str,
    budget: &mut Budget,
    replace: impl Fn(&mut String, &Groups),
) -> Result<String, String> {
    let most = budget.limits().text_bytes;
    let mut out = String::new();
    let mut end = 0;
    each_match(finder, text, budget, |range, groups| {
        out.push_str(&text[end..range.start]);
        replace(&mut out, groups);
        end = range.end;
        if out.len() > most {
            return Err(format!(
                "the template makes a text of more than {most} bytes; replace less"
            ));
        }
        Ok(())
    })?;
    out.push_str(&text[end..]);
    Ok(out)
}

/// Hands over each match, as Go finds all: an empty one not right behind another.
fn each_match(
    finder: &Finder,
    text: &str,
    budget: &mut Budget,
    mut take: impl FnMut(Range<usize>, &Groups) -> Result<(), String>,
) -> Result<(), String> {
    budget.count(text.len())?;
    let mut groups = Groups::default();
    let mut at = 0;
    let mut last_end = None;
    while at <= text.len() {
        if !finder.captures_at(text, at, &mut groups) {
            break;
        }
        let Some(range) = groups.range(0) else { break };
        let empty = range.is_empty();
        let end = range.end;
        if !(empty && last_end == Some(end)) {
            take(range, &groups)?;
        }
        last_end = Some(end);
        at = end;
        if empty {
            at += text[end..].chars().next().map_or(1, char::len_utf8);
        }
    }
    Ok(())
}
