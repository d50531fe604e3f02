//! What rules ask: expressions at one time, in a turn of their own beside the queries of users.

use std::sync::Arc;

use logql::behind::Behind;
use logql::metric::{EvalOptions, Evaluation, Steps};
use logql::syntax::ast::{Expr as LogQuery, LogExpr};
use model::{
    Exemplar, Labels, METRIC_NAME, MatchOp, Matcher, SeriesExemplars, TenantName, TimeRange,
};
use net::{ApiError, ErrorType};
use promql::{InstantSample, QueryValue, RangeSeries};

use crate::execute::{Executor, Job};
use crate::loki::{self, FoundLine};
use crate::respond::source_error;
use crate::running::{Asked, Language};

/// Stands for a client in the list of running queries.
const CLIENT: &str = "rules";
/// Exemplars are looked for in so long a time at least, milliseconds: most rules alert on the last samples.
const LEAST_RANGE_MS: i64 = 5 * 60_000;

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
        let asked = asked(Language::Logql, text, (t_ms, t_ms), tenant);
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

/// An exemplar.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundExemplar {
    /// Itself.
    pub exemplar: Exemplar,
    /// Labels of its series.
    pub series: Labels,
}

impl Executor {
    /// The newest lines that a rule over lines counted for the series with `labels`, newest first. What cannot
    /// be read is left out: a message that lacks lines is better than none.
    ///
    /// # Errors
    /// The rule is none.
    pub async fn lines_behind(
        self: &Arc<Self>,
        tenant: TenantName,
        rule: &str,
        labels: &Labels,
        t_ms: i64,
        most: usize,
    ) -> Result<Vec<FoundLine>, String> {
        let expr = logql::syntax::parse_metric(rule).map_err(|error| error.to_string())?;
        let windows = logql::behind::behind(&expr, labels.iter(), &|_| false);
        let at_ns = t_ms.saturating_mul(1_000_000);
        let windows = windows.into_iter().map(|Behind { log, interval, offset }| {
            // Windows leave their beginning out and have their end.
            let end_ns = at_ns.saturating_sub(offset).saturating_add(1);
            (log, (end_ns.saturating_sub(interval), end_ns))
        });
        self.newest_lines(tenant, rule, windows.collect(), most).await
    }

    /// The newest lines of a query from `start_ms` on, up to and at `end_ms`, newest first, as above.
    ///
    /// # Errors
    /// It is none, or yields numbers.
    pub async fn lines_of(
        self: &Arc<Self>,
        tenant: TenantName,
        text: &str,
        (start_ms, end_ms): (i64, i64),
        most: usize,
    ) -> Result<Vec<FoundLine>, String> {
        let expr = logql::syntax::parse(text).map_err(|error| error.to_string())?;
        logql::compile::check(&expr).map_err(|error| error.to_string())?;
        let LogQuery::Log(log) = expr else {
            return Err(format!("{text} yields numbers; a query that yields lines is wanted"));
        };
        let ns = |ms: i64| ms.saturating_mul(1_000_000);
        let range = (ns(start_ms), ns(end_ms).saturating_add(1));
        self.newest_lines(tenant, text, vec![(log, range)], most).await
    }

    /// The lines of the first of several windows that has any.
    async fn newest_lines(
        self: &Arc<Self>,
        tenant: TenantName,
        text: &str,
        windows: Vec<(LogExpr, (i64, i64))>,
        most: usize,
    ) -> Result<Vec<FoundLine>, String> {
        let Some((_, (start_ns, end_ns))) = windows.first() else { return Ok(Vec::new()) };
        let ms = |ns: i64| ns.div_euclid(1_000_000);
        let asked = asked(Language::Logql, text, (ms(*start_ns), ms(*end_ns)), tenant);
        let found = self.in_time_for_rule(asked, move |data, work| {
            let snapshot = data.logs(work).map_err(loki::data_error)?;
            let mut found = Ok(Vec::new());
            for (log, range) in &windows {
                found = loki::newest(log, *range, most, &*snapshot, work);
                if !found.as_ref().is_ok_and(Vec::is_empty) {
                    break;
                }
            }
            data.count_samples(snapshot.reads().lines);
            found
        });
        or_nothing(found.await)
    }

    /// The newest exemplars of the series that an expression reads and that do not contradict `labels`, from
    /// `start_ms` on, up to and at `end_ms`, newest first.
    ///
    /// # Errors
    /// It is none.
    pub async fn exemplars_behind(
        self: &Arc<Self>,
        tenant: TenantName,
        rule: &str,
        labels: &Labels,
        t_ms: i64,
        most: usize,
    ) -> Result<Vec<FoundExemplar>, String> {
        let expr = promql::parse(rule).map_err(|error| error.to_string())?;
        let mut selectors = promql::selectors_of(&expr);
        selectors.iter_mut().for_each(|matchers| matchers.extend(not_contradicting(labels)));
        if selectors.is_empty() {
            return Ok(Vec::new());
        }
        let start_ms = t_ms.saturating_sub(promql::longest_range_ms(&expr).max(LEAST_RANGE_MS));
        let range = TimeRange::new(start_ms, t_ms.saturating_add(1));
        let asked = asked(Language::Promql, rule, (start_ms, t_ms), tenant);
        let found = self.in_time_for_rule(asked, move |data, work| {
            let view = data.snapshot(work).map_err(source_error)?;
            let found = view.exemplars(&selectors, range).map_err(source_error)?;
            Ok(newest_exemplars(found, most))
        });
        or_nothing(found.await)
    }
}

/// Series that have no other values for `labels`: what a rule's aggregations leave out of them says nothing, nor
/// does what they add.
fn not_contradicting(labels: &Labels) -> impl Iterator<Item = Matcher> {
    let labels = labels.iter().filter(|(name, _)| *name != METRIC_NAME);
    // One that is too long to be compiled narrows nothing down.
    labels.filter_map(|(name, value)| {
        Matcher::new(name, MatchOp::Regex, format!("{}|", model::regex::escape(value))).ok()
    })
}

/// The newest of these exemplars.
fn newest_exemplars(found: Vec<SeriesExemplars>, most: usize) -> Vec<FoundExemplar> {
    let of_series = found.into_iter();
    let mut all: Vec<FoundExemplar> = of_series
        .flat_map(|SeriesExemplars { labels, exemplars }| {
            exemplars
                .into_iter()
                .map(move |exemplar| FoundExemplar { exemplar, series: labels.clone() })
        })
        .collect();
    all.sort_by(|a, b| b.exemplar.order(&a.exemplar));
    all.truncate(most);
    all
}

/// How a question about a range of time, milliseconds since the epoch, is listed while it runs.
fn asked(language: Language, text: &str, range_ms: (i64, i64), tenant: TenantName) -> Asked {
    let (start_ms, end_ms) = range_ms;
    let times_ms = (start_ms, end_ms, 0);
    Asked { language, text: text.to_owned(), times_ms, client: CLIENT.to_owned(), tenant }
}

/// What is wrong with the question is told; what cannot be read now is left out.
fn or_nothing<T>(found: Result<Vec<T>, ApiError>) -> Result<Vec<T>, String> {
    found.or_else(|error| match error.error_type {
        ErrorType::BadData => Err(error.message),
        _ => {
            tracing::debug!("what is behind an alert cannot be read: {}", error.message);
            Ok(Vec::new())
        }
    })
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
