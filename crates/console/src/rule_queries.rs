//! What rules ask: expressions at one time, in a turn of their own beside the queries of users.

use std::sync::Arc;

use logql::metric::{EvalOptions, Evaluation, Steps};
use logql::syntax::ast::Expr as LogQuery;
use model::{Labels, METRIC_NAME, TenantName};
use net::{ApiError, ErrorType};
use promql::{InstantSample, QueryValue, RangeSeries};

use crate::execute::{Executor, Job};
use crate::loki;
use crate::running::{Asked, Language};

/// Stands for a client in the list of running queries.
const CLIENT: &str = "rules";

/// The language of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleLanguage {
    /// Over samples.
    Promql,
    /// Over lines.
    Logql,
}

impl Executor {
    /// What an expression yields at a time: a vector, or a number as one sample without labels.
    ///
    /// # Errors
    /// It is none, cannot be computed, yields something else, or data that it would read is missing: a rule
    /// must not decide by half of the data.
    pub async fn answer_rule(
        self: &Arc<Self>,
        tenant: TenantName,
        language: RuleLanguage,
        text: &str,
        t_ms: i64,
    ) -> Result<Vec<InstantSample>, String> {
        let answered = match language {
            RuleLanguage::Promql => self.answer_of_samples(tenant, text, t_ms).await,
            RuleLanguage::Logql => self.answer_of_lines(tenant, text, t_ms).await,
        };
        answered.map_err(|error| error.message)
    }

    /// The samples of a selector of ranges, such as `up[5m]`, in the turn of rules.
    ///
    /// # Errors
    /// As [`Executor::answer_rule`].
    pub async fn samples_for_rule(
        self: &Arc<Self>,
        tenant: TenantName,
        text: &str,
        t_ms: i64,
    ) -> Result<Vec<RangeSeries>, String> {
        match self.value_of_samples(tenant, text, t_ms).await {
            Ok(QueryValue::Matrix(series)) => Ok(series),
            Ok(_) => Err(format!("{text} is no selector of ranges")),
            Err(error) => Err(error.message),
        }
    }

    async fn value_of_samples(
        self: &Arc<Self>,
        tenant: TenantName,
        text: &str,
        t_ms: i64,
    ) -> Result<QueryValue, ApiError> {
        let expr = promql::parse(text)
            .map_err(|error| ApiError::new(ErrorType::BadData, error.to_string()))?;
        let job = Job::instant(text, expr, t_ms, CLIENT, tenant);
        let answer = self.run_for_rule(job).await?;
        whole(&answer.missing)?;
        Ok(answer.output.value)
    }

    async fn answer_of_samples(
        self: &Arc<Self>,
        tenant: TenantName,
        text: &str,
        t_ms: i64,
    ) -> Result<Vec<InstantSample>, ApiError> {
        match self.value_of_samples(tenant, text, t_ms).await? {
            QueryValue::Vector(samples) => Ok(samples),
            QueryValue::Scalar { t_ms, value } => Ok(vec![number(t_ms, value)]),
            QueryValue::String { .. } | QueryValue::Matrix(_) => {
                Err(ApiError::new(ErrorType::Execution, "rule result is not a vector or scalar"))
            }
        }
    }

    async fn answer_of_lines(
        self: &Arc<Self>,
        tenant: TenantName,
        text: &str,
        t_ms: i64,
    ) -> Result<Vec<InstantSample>, ApiError> {
        let bad =
            |error: &dyn std::fmt::Display| ApiError::new(ErrorType::BadData, error.to_string());
        let expr = logql::syntax::parse(text).map_err(|error| bad(&error))?;
        logql::compile::check(&expr).map_err(|error| bad(&error))?;
        let LogQuery::Metric(expr) = expr else {
            return Err(ApiError::new(ErrorType::BadData, "a rule over lines must yield numbers"));
        };
        let asked = Asked {
            language: Language::Logql,
            text: text.to_owned(),
            times_ms: (t_ms, t_ms, 0),
            client: CLIENT.to_owned(),
            tenant,
        };
        let at_ns = t_ms.saturating_mul(1_000_000);
        self.in_time_for_rule(asked, move |data, work| {
            let snapshot = data.logs(work).map_err(loki::data_error)?;
            let options = EvalOptions {
                max_series: data.max_series,
                max_values: data.max_values,
                now_ns: at_ns,
                seed: loki::seed(),
                zones: loki::zones::of_host,
            };
            let (result, processed) =
                loki::evaluate_at(&expr, Steps::instant(at_ns), &options, &*snapshot, work)?;
            data.count_samples(snapshot.reads().lines.max(processed.lines));
            whole(&snapshot.missing())?;
            let series = match result {
                Evaluation::Scalar(value) => return Ok(vec![number(t_ms, value)]),
                Evaluation::Series(series) => series,
            };
            let sample = |one: &logql::metric::EvaluatedSeries| {
                let value = (*one.values.first()?)?;
                let pairs = one.labels.iter().filter(|(name, _)| *name != METRIC_NAME);
                let labels = Labels::from_pairs(pairs).ok()?;
                Some(InstantSample { labels, t_ms, value, histogram: None })
            };
            Ok(series.iter().filter_map(sample).collect())
        })
        .await
    }
}

fn number(t_ms: i64, value: f64) -> InstantSample {
    InstantSample { labels: Labels::empty(), t_ms, value, histogram: None }
}

fn whole(missing: &[String]) -> Result<(), ApiError> {
    match missing {
        [] => Ok(()),
        [first, rest @ ..] => Err(ApiError::new(
            ErrorType::Unavailable,
            format!(
                "data is missing that the rule would read, so alerts stay as they are: {first}{}",
                if rest.is_empty() { String::new() } else { format!(" (and {} more)", rest.len()) }
            ),
        )),
    }
}
