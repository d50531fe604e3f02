//! `pattern`: captures of a pattern become labels.

use super::entry::{Category, State};
use super::names::{Name, Names};
use super::pattern::{PatternError, PatternExpr};

/// Why a parser of that pattern cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternParserError {
    /// It is no pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A name that no label may have.
    #[error("invalid capture label name '{0}'")]
    InvalidName(String),
}

/// Makes labels of the named captures of a pattern.
#[derive(Debug, Clone)]
pub struct PatternParser {
    pattern: PatternExpr,
    names: Vec<Name>,
}

impl PatternParser {
    /// Reads `pattern`.
    ///
    /// # Errors
    /// As [`PatternExpr::parser`], or it names something as no label may be.
    pub fn new(pattern: &str) -> Result<Self, PatternParserError> {
        let pattern = PatternExpr::parser(pattern)?;
        let invalid = pattern.names().find(|name| !model::is_legacy_label_name(name));
        if let Some(name) = invalid {
            return Err(PatternParserError::InvalidName(name.to_owned()));
        }
        Ok(PatternParser { pattern, names: Vec::new() })
    }

    /// Names of the labels it makes.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.pattern.names()
    }

    pub(crate) fn bind(&mut self, names: &mut Names) {
        self.names = self.pattern.names().map(|name| names.intern(name)).collect();
    }

    pub(crate) fn process(&self, origin: &str, line: &str, state: &mut State) {
        // Nothing fails here, so without a label to make there is nothing to look for.
        if !self.names.iter().any(|name| state.name_for_parsed(*name).is_some()) {
            return;
        }
        self.pattern.extract(line, |number, part| {
            if let Some(name) = state.name_for_parsed(self.names[number]) {
                let value = state.keep(origin, part);
                state.set(Category::Parsed, name, value);
            }
        });
    }
}
