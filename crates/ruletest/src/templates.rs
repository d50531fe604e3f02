//! Templates of rules in a test.

use alerting::rules::{Expand, NoEvidence, RuleTemplates, TextData};
use alerting::templates::Limits;

use crate::engine::Engine;

/// Prometheus' templates, whose queries the samples of a test answer.
pub(crate) struct TestTemplates<'a>(pub(crate) &'a Engine);

impl Expand for TestTemplates<'_> {
    fn expand(&self, alert: &str, text: &str, data: &TextData<'_>) -> Result<String, String> {
        let query = |text: &str, at_ms: i64| self.0.ask(text, at_ms);
        let templates = RuleTemplates {
            query: &query,
            evidence: &NoEvidence,
            histogram_text: promql::histogram_text,
            limits: Limits::default(),
        };
        templates.expand(alert, text, data)
    }
}
