//! What rules want of the process that runs them.

use std::time::Duration;

use alerting::rules::{Behind, ForStateSeries, Sample};
use alerting::templates::rule::{QueryExemplar, QueryLine};
use model::Matcher;

use super::RuleLanguage;
use crate::keep::Boxed;

/// Answers what rules ask.
pub trait Queries: Send + Sync + 'static {
    /// What an expression yields at a time, milliseconds since 1970: a vector, or a number as one sample
    /// without labels. The error says why there is no answer.
    fn ask<'a>(
        &'a self,
        language: RuleLanguage,
        text: &'a str,
        t_ms: i64,
    ) -> Boxed<'a, Result<Vec<Sample>, String>>;

    /// Series of `ALERTS_FOR_STATE` with their last samples in a range of time, both ends included.
    fn last_samples<'a>(
        &'a self,
        matchers: &'a [Matcher],
        start_ms: i64,
        end_ms: i64,
    ) -> Boxed<'a, Result<Vec<ForStateSeries>, String>>;

    /// The newest lines that a rule over lines counted for an alert, newest first.
    fn lines_behind<'a>(
        &'a self,
        behind: Behind<'a>,
        most: usize,
    ) -> Boxed<'a, Result<Vec<QueryLine>, String>>;

    /// The newest lines of a query, of a range that ends at a time, newest first.
    fn lines_of<'a>(
        &'a self,
        text: &'a str,
        range: Duration,
        t_ms: i64,
        most: usize,
    ) -> Boxed<'a, Result<Vec<QueryLine>, String>>;

    /// The newest exemplars of the series that a rule over samples read for an alert, newest first.
    fn exemplars_behind<'a>(
        &'a self,
        behind: Behind<'a>,
        most: usize,
    ) -> Boxed<'a, Result<Vec<QueryExemplar>, String>>;
}

/// Stores what rules yield.
pub trait Store: Send + Sync + 'static {
    /// Stores samples; they are durable and can be read when this is done. Yields what was left out and
    /// why, in words, if anything was.
    fn write(&self, samples: Vec<Sample>) -> Boxed<'_, Result<Option<String>, String>>;

    /// Whether queries would see all there is. Before that, rules wait.
    fn ready(&self) -> Result<(), String>;
}
