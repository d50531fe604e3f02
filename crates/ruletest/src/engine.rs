//! Queries over the samples of one test.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use alerting::rules::Sample;
use model::Labels;
use promql::ast::Expr;
use promql::{EvalOptions, EvalTime, Evaluation, Inline, QueryValue, evaluate};

use crate::memory::{MemorySource, Point};
use crate::notation::series::{Item, parse_items, parse_metric};
use crate::test_file::TestGroup;

/// How far back a selector of instants looks.
const LOOKBACK_MS: i64 = 300_000;
/// Prometheus' default of `--query.max-samples`.
const MAX_QUERY_SAMPLES: usize = 50_000_000;

static NEVER: AtomicBool = AtomicBool::new(false);

/// Parts of PromQL that Prometheus' engine may have switched off. All are on unless a test of that
/// very switch says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// `@`.
    pub at_modifier: bool,
    /// Negative offsets.
    pub negative_offset: bool,
}

impl Default for Features {
    fn default() -> Self {
        Features { at_modifier: true, negative_offset: true }
    }
}

/// The samples of a test, and those of its series that have not come yet.
pub(crate) struct Engine {
    pub(crate) memory: MemorySource,
    /// Values to come, by series; the next one last.
    waiting: Vec<(Labels, Vec<(i64, Point)>)>,
    subquery_step_ms: i64,
    features: Features,
    parsed: HashMap<Arc<str>, Arc<Expr>>,
}

impl Engine {
    /// Reads the series of a test.
    ///
    /// # Errors
    /// A series, or its values, cannot be read.
    pub(crate) fn new(
        test: &TestGroup,
        evaluation_interval: Duration,
        features: Features,
    ) -> Result<Self, String> {
        let step_ms = ms(test.interval(evaluation_interval));
        let mut series: HashMap<Labels, Vec<Item>> = HashMap::new();
        let mut order: Vec<Labels> = Vec::new();
        for one in &test.input_series {
            let (labels, rest) = parse_metric(one.series.trim())
                .map_err(|error| format!("series {:?}: {error}", one.series))?;
            if !rest.trim().is_empty() {
                let rest = rest.trim();
                return Err(format!("series {:?}: unexpected {rest:?} behind it", one.series));
            }
            let items = parse_items(&one.values)
                .map_err(|error| format!("values of series {:?}: {error}", one.series))?;
            // Of several definitions of a series the last one is meant.
            if series.insert(labels.clone(), items).is_none() {
                order.push(labels);
            }
        }
        let start_ms = test.start_ms();
        let mut waiting = Vec::with_capacity(order.len());
        for labels in order {
            let items = series.remove(&labels).unwrap_or_default();
            let at = |index: usize| {
                let offset = i64::try_from(index).unwrap_or(i64::MAX).saturating_mul(step_ms);
                start_ms.saturating_add(offset)
            };
            let points = items.iter().enumerate();
            let points =
                points.filter_map(|(index, item)| Some((at(index), Point::of_item(item)?)));
            waiting.push((labels, points.rev().collect()));
        }
        Ok(Engine {
            memory: MemorySource::new(),
            waiting,
            subquery_step_ms: ms(evaluation_interval).max(1),
            features,
            parsed: HashMap::new(),
        })
    }

    /// Lets time go on: stores the values up to `t_ms`.
    ///
    /// # Errors
    /// A rule has written another value there, or there are too many.
    pub(crate) fn advance(&mut self, t_ms: i64) -> Result<(), String> {
        for (labels, points) in &mut self.waiting {
            while let Some((at_ms, _)) = points.last().filter(|(at_ms, _)| *at_ms <= t_ms) {
                let at_ms = *at_ms;
                let Some((_, point)) = points.pop() else { break };
                let appended = self.memory.append(labels, at_ms, point);
                appended.map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// Stores a sample of a rule.
    ///
    /// # Errors
    /// Something else is there.
    pub(crate) fn append(&mut self, sample: &Sample) -> Result<(), String> {
        let point = match &sample.histogram {
            Some(histogram) => Point::Histogram(Arc::clone(histogram)),
            None => Point::Float(sample.value),
        };
        let appended = self.memory.append(&sample.labels, sample.t_ms, point);
        appended.map_err(|error| error.to_string())
    }

    /// What an expression yields at a time: a vector, or a scalar as one sample without labels.
    ///
    /// # Errors
    /// It is none, cannot be computed, or yields something else.
    pub(crate) fn query(&mut self, text: &str, t_ms: i64) -> Result<Vec<Sample>, String> {
        let expr = match self.parsed.get(text) {
            Some(known) => Arc::clone(known),
            None => {
                let expr = promql::parse(text).map_err(|error| error.to_string())?;
                self.allowed(&expr)?;
                let expr = Arc::new(expr);
                self.parsed.insert(Arc::from(text), Arc::clone(&expr));
                expr
            }
        };
        answer(&self.memory, &expr, t_ms, self.subquery_step_ms)
    }

    /// Answers a query without remembering its text, for templates.
    ///
    /// # Errors
    /// As [`Engine::query`].
    pub(crate) fn ask(&self, text: &str, t_ms: i64) -> Result<Vec<Sample>, String> {
        let expr = promql::parse(text).map_err(|error| error.to_string())?;
        self.allowed(&expr)?;
        answer(&self.memory, &expr, t_ms, self.subquery_step_ms)
    }

    /// Whether an expression uses nothing that is switched off.
    fn allowed(&self, expr: &Expr) -> Result<(), String> {
        if self.features != Features::default() {
            walk(expr, self.features)?;
        }
        Ok(())
    }
}

/// What an expression yields over samples in memory at a time, milliseconds since the epoch: a vector, or
/// a number as one sample without labels.
///
/// # Errors
/// It cannot be computed, or yields something else.
pub fn answer(
    memory: &MemorySource,
    expr: &Expr,
    t_ms: i64,
    subquery_step_ms: i64,
) -> Result<Vec<Sample>, String> {
    let options = EvalOptions {
        lookback_ms: LOOKBACK_MS,
        default_subquery_step_ms: subquery_step_ms,
        max_samples: MAX_QUERY_SAMPLES,
        memory: None,
        cancelled: &NEVER,
        parallel: &Inline,
        clock: None,
        use_start_timestamps: false,
        type_and_unit_labels: false,
    };
    let time = EvalTime::Instant(t_ms);
    let evaluation = Evaluation { expr, time, source: memory, options };
    let output = evaluate(&evaluation).map_err(|error| error.to_string())?;
    match output.value {
        QueryValue::Vector(samples) => Ok(samples
            .into_iter()
            .map(|one| Sample {
                labels: one.labels,
                t_ms: one.t_ms,
                value: if one.histogram.is_some() { 0.0 } else { one.value },
                histogram: one.histogram,
            })
            .collect()),
        QueryValue::Scalar { t_ms, value } => Ok(vec![Sample::float(Labels::empty(), t_ms, value)]),
        QueryValue::String { .. } | QueryValue::Matrix(_) => {
            Err("rule result is not a vector or scalar".to_owned())
        }
    }
}

/// Looks for what is switched off. The parser bounds how deep expressions are nested.
fn walk(expr: &Expr, features: Features) -> Result<(), String> {
    use promql::ast::Duration as Offset;
    let modifiers = |has_at: bool, offset: &Offset| {
        if has_at && !features.at_modifier {
            return Err("@ modifier is disabled, use EnableAtModifier to enable it".to_owned());
        }
        if matches!(offset, Offset::Fixed(ms) if *ms < 0) && !features.negative_offset {
            return Err(
                "negative offset is disabled, use EnableNegativeOffset to enable it".to_owned()
            );
        }
        Ok(())
    };
    match expr {
        Expr::Number(_) | Expr::String(_) => Ok(()),
        Expr::Vector(vector) => modifiers(vector.at.is_some(), &vector.offset),
        Expr::Matrix(matrix) => modifiers(matrix.vector.at.is_some(), &matrix.vector.offset),
        Expr::Subquery(subquery) => {
            modifiers(subquery.at.is_some(), &subquery.offset)?;
            walk(&subquery.expr, features)
        }
        Expr::Call(call) => call.args.iter().try_for_each(|arg| walk(arg, features)),
        Expr::Aggregate(aggregate) => {
            aggregate.param.iter().try_for_each(|param| walk(param, features))?;
            walk(&aggregate.expr, features)
        }
        Expr::Binary(binary) => {
            walk(&binary.left, features)?;
            walk(&binary.right, features)
        }
        Expr::Unary(unary) => walk(&unary.expr, features),
        Expr::Paren(paren) => walk(&paren.expr, features),
    }
}

pub(crate) fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
