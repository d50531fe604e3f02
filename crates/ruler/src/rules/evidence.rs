//! What templates find behind alerts.

use std::time::Duration;

use alerting::rules::{Behind, Evidence};
use alerting::templates::rule::{QueryExemplar, QueryLine};
use tokio::runtime::Handle;

use super::{Queries, RuleLanguage};

/// Asks queries, and waits for them.
pub(super) struct Found<'a> {
    pub(super) queries: &'a dyn Queries,
    pub(super) runtime: &'a Handle,
    /// That of the rule.
    pub(super) language: RuleLanguage,
}

impl Evidence for Found<'_> {
    fn lines(&self, behind: Behind<'_>, most: usize) -> Result<Vec<QueryLine>, String> {
        match self.language {
            RuleLanguage::Logql => self.runtime.block_on(self.queries.lines_behind(behind, most)),
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
        self.runtime.block_on(self.queries.lines_of(text, range, at_ms, most))
    }

    fn exemplars(&self, behind: Behind<'_>, most: usize) -> Result<Vec<QueryExemplar>, String> {
        match self.language {
            RuleLanguage::Promql => {
                self.runtime.block_on(self.queries.exemplars_behind(behind, most))
            }
            RuleLanguage::Logql => {
                Err("lines have no exemplars: use lines with a number, such as lines 3".to_owned())
            }
        }
    }
}
