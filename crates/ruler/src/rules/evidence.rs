//! What templates find behind alerts.

use std::cell::Cell;
use std::time::{Duration, Instant};

use alerting::rules::{Behind, Evidence};
use alerting::templates::rule::{QueryExemplar, QueryLine};
use tokio::runtime::Handle;

use super::{Queries, RuleLanguage};
use crate::keep::Boxed;

/// How often one evaluation of a rule may ask for what is behind its alerts: whoever is told of more does not
/// read the lines of each.
const MOST_ASKED: u32 = 100;
/// For how long it may altogether: nobody is told before it is done.
const ASKED_WITHIN: Duration = Duration::from_secs(5);

/// Asks queries for one evaluation of a rule, and waits for them.
pub(super) struct Found<'a> {
    queries: &'a dyn Queries,
    runtime: &'a Handle,
    /// That of the rule.
    language: RuleLanguage,
    /// Until when it may ask.
    until: Instant,
    asked: Cell<u32>,
    left_out: Cell<u64>,
}

impl<'a> Found<'a> {
    pub(super) fn new(
        queries: &'a dyn Queries,
        runtime: &'a Handle,
        language: RuleLanguage,
    ) -> Found<'a> {
        let until = Instant::now() + ASKED_WITHIN;
        Found { queries, runtime, language, until, asked: Cell::new(0), left_out: Cell::new(0) }
    }

    /// How often nothing was asked because the rule had asked too much.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out.get()
    }

    /// Asks, if the rule may ask more; else there is nothing.
    fn ask<T>(&self, asking: Boxed<'_, Result<Vec<T>, String>>) -> Result<Vec<T>, String> {
        let (asked, left) =
            (self.asked.get(), self.until.saturating_duration_since(Instant::now()));
        if asked < MOST_ASKED && !left.is_zero() {
            self.asked.set(asked + 1);
            let found = async { tokio::time::timeout(left, asking).await };
            if let Ok(found) = self.runtime.block_on(found) {
                return found;
            }
        }
        self.left_out.set(self.left_out.get() + 1);
        Ok(Vec::new())
    }
}

impl Evidence for Found<'_> {
    fn lines(&self, behind: Behind<'_>, most: usize) -> Result<Vec<QueryLine>, String> {
        match self.language {
            RuleLanguage::Logql => self.ask(self.queries.lines_behind(behind, most)),
            RuleLanguage::Promql => {
                Err("a rule over samples counts no lines: use linesOf with a query and a range, \
                                         such as linesOf \"{host=\\\"a\\\"}\" \"5m\" 3"
                    .to_owned())
            }
        }
    }

    fn lines_of(
        &self,
        text: &str,
        range: Duration,
        at_ms: i64,
        most: usize,
    ) -> Result<Vec<QueryLine>, String> {
        self.ask(self.queries.lines_of(text, range, at_ms, most))
    }

    fn exemplars(&self, behind: Behind<'_>, most: usize) -> Result<Vec<QueryExemplar>, String> {
        match self.language {
            RuleLanguage::Promql => self.ask(self.queries.exemplars_behind(behind, most)),
            RuleLanguage::Logql => {
                Err("lines have no exemplars: use lines with a number, such as lines 3".to_owned())
            }
        }
    }
}
