//! `regexp`: named groups of an expression become labels.

use model::regex::{Finder, Groups, RegexError};

use super::entry::{Category, State};
use super::names::{Name, Names};

/// Why a parser of that expression cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegexpParserError {
    /// It is no expression.
    #[error(transparent)]
    Regex(#[from] RegexError),
    /// Nothing in it has a name.
    #[error("at least one named capture must be supplied")]
    NoName,
    /// A name that no label may have.
    #[error("invalid extracted label name '{0}'")]
    InvalidName(String),
    /// Two groups would make one label.
    #[error("duplicate extracted label name '{0}'")]
    DuplicateName(String),
}

/// Makes labels of the named groups of the first match in a line; empty ones of groups that took no
/// part. A line without a match stays as it is.
#[derive(Debug, Clone)]
pub struct RegexpParser {
    finder: Finder,
    names: Vec<(Name, usize)>,
    groups: Groups,
}

impl RegexpParser {
    /// Compiles `expression`.
    ///
    /// # Errors
    /// It is no expression, names nothing, names something as no label may be, or two groups alike.
    pub fn new(expression: &str) -> Result<Self, RegexpParserError> {
        let finder = Finder::new(expression)?;
        if finder.names().next().is_none() {
            return Err(RegexpParserError::NoName);
        }
        for (index, (name, _)) in finder.names().enumerate() {
            if !model::is_legacy_label_name(name) {
                return Err(RegexpParserError::InvalidName(name.to_owned()));
            }
            if finder.names().take(index).any(|(before, _)| before == name) {
                return Err(RegexpParserError::DuplicateName(name.to_owned()));
            }
        }
        Ok(RegexpParser { finder, names: Vec::new(), groups: Groups::default() })
    }

    /// Names of the labels it makes.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.finder.names().map(|(name, _)| name)
    }

    pub(crate) fn bind(&mut self, names: &mut Names) {
        let bound = self.finder.names().map(|(name, group)| (names.intern(name), group));
        self.names = bound.collect();
    }

    pub(crate) fn process(&mut self, origin: &str, line: &str, state: &mut State) {
        // Nothing fails here, so without a label to make there is nothing to search for.
        let is_wanted = self.names.iter().any(|(name, _)| state.name_for_parsed(*name).is_some());
        if !is_wanted || !self.finder.captures_at(line, 0, &mut self.groups) {
            return;
        }
        for (name, group) in &self.names {
            if let Some(name) = state.name_for_parsed(*name) {
                let value = state.keep(origin, self.groups.get(*group, line));
                state.set(Category::Parsed, name, value);
            }
        }
    }
}
