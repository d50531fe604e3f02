//! `/api/v1/query` and `/api/v1/query_range`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use model::{FloatHistogram, Labels};
use promql::ast::{Expr, ValueType};
use promql::{AnnotationLevel, EvalTime, QueryOutput, QueryValue};
use serde_json::Value;

use super::statistics::{self, Wanted};
use crate::Console;
use crate::execute::{Answer, DEFAULT_LOOKBACK_MS, Job};
use crate::json;
use crate::params::Params;
use crate::respond::{self, bad_data, parameter};
use crate::running::{self, Asked};
use net::ApiError;

/// More points per series than this are refused, as Prometheus does: no screen shows them.
const MAX_POINTS: i64 = 11_000;
/// Annotations beyond this are summed up in a line, as Prometheus does.
const MAX_ANNOTATIONS: usize = 10;

pub(super) async fn instant(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, ApiError> {
    let question = Question::instant(&params, &console)?;
    answer(&console, &params, question).await
}

pub(super) async fn range(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, ApiError> {
    let question = Question::range(&params)?;
    answer(&console, &params, question).await
}

/// What a request asks.
pub(super) struct Question {
    pub(super) text: String,
    pub(super) job: Job,
    /// Series of the answer.
    limit: usize,
}

impl Question {
    pub(super) fn instant(params: &Params, console: &Console) -> Result<Self, ApiError> {
        let limit = params.limit()?;
        let t_ms = params.optional_time_ms("time")?.unwrap_or_else(|| console.now_ms());
        let patience = Patience::of(params)?;
        let (text, expr) = parse(params)?;
        let job = patience.job(params, expr, EvalTime::Instant(t_ms));
        Ok(Question { text, job, limit })
    }

    /// Faults are looked for in Prometheus' order, so that a request with two is told of the same
    /// one.
    pub(super) fn range(params: &Params) -> Result<Self, ApiError> {
        let limit = params.limit()?;
        let start_ms = params.time_ms("start")?;
        let end_ms = params.time_ms("end")?;
        if end_ms < start_ms {
            return Err(parameter("end", "end timestamp must not be before start time"));
        }
        let step_ms = params.duration_ms("step").map_err(|error| parameter("step", error))?;
        if step_ms <= 0 {
            return Err(parameter(
                "step",
                "zero or negative query resolution step widths are not accepted. \
                 Try a positive integer",
            ));
        }
        if end_ms.saturating_sub(start_ms) / step_ms > MAX_POINTS {
            return Err(bad_data(
                "exceeded maximum resolution of 11,000 points per timeseries. \
                 Try decreasing the query resolution (?step=XX)",
            ));
        }
        let patience = Patience::of(params)?;
        let (text, expr) = parse(params)?;
        if !matches!(expr.value_type(), ValueType::Scalar | ValueType::Vector) {
            let kind = match expr.value_type() {
                ValueType::String => "string",
                _ => "range vector",
            };
            return Err(parameter(
                "query",
                format!(
                    "invalid expression type {kind:?} for range query, \
                     must be Scalar or instant Vector"
                ),
            ));
        }
        let job = patience.job(params, expr, EvalTime::Range { start_ms, end_ms, step_ms });
        Ok(Question { text, job, limit })
    }
}

fn parse(params: &Params) -> Result<(String, Expr), ApiError> {
    let text = params.get("query").unwrap_or_default();
    let expr = promql::parse(text).map_err(|error| parameter("query", error))?;
    Ok((text.to_owned(), expr))
}

/// How long a query may take and how far back an instant looks.
struct Patience {
    timeout: Option<Duration>,
    lookback_ms: i64,
}

impl Patience {
    fn of(params: &Params) -> Result<Patience, ApiError> {
        let given = |name| params.get(name).map(|_| params.duration_ms(name)).transpose();
        let timeout_ms = given("timeout").map_err(|error| parameter("timeout", error))?;
        let lookback_ms = given("lookback_delta")
            .map_err(|error| bad_data(format!("error parsing lookback delta duration: {error}")))?;
        Ok(Patience {
            timeout: timeout_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0))),
            // 0 or less means the default, as in Prometheus.
            lookback_ms: lookback_ms.filter(|ms| *ms > 0).unwrap_or(DEFAULT_LOOKBACK_MS),
        })
    }

    fn job(self, params: &Params, expr: Expr, time: EvalTime) -> Job {
        let Patience { timeout, lookback_ms } = self;
        let text = params.get("query").unwrap_or_default();
        let asked = Asked::query(text, time, params.client(), params.tenant());
        Job {
            asked,
            expr,
            time,
            timeout,
            lookback_ms,
            may_be_kept: params.allows_cached(),
            is_measured: false,
            asked_at: Instant::now(),
            of_another: None,
        }
    }
}

async fn answer(
    console: &Arc<Console>,
    params: &Params,
    question: Question,
) -> Result<Response, ApiError> {
    let wanted = Wanted::of(params.get("stats"));
    let Question { text, mut job, limit } = question;
    let time = job.time;
    job.is_measured = wanted != Wanted::None;
    let answer = console.executor().run(job).await?;
    let Answer { mut output, missing, timings, place, held, .. } = answer;
    let truncated = truncate(&mut output.value, limit);
    // Writing a large answer takes as long as computing it; keep it off the threads of sockets.
    let write = move || {
        let stats = statistics::of(&output, time, &timings, wanted);
        let mut room = running::hold(&place.query.work, body_bytes(&output.value))?;
        let body = write_body(&output, &text, missing, truncated, stats, room.bytes());
        drop((output, held));
        room.resize(body.capacity()).map_err(running::refused)?;
        Ok((body, room))
    };
    let (body, room) = tokio::task::spawn_blocking(write)
        .await
        .map_err(|error| ApiError::new(net::ErrorType::Internal, error.to_string()))?
        .map_err(respond::source_error)?;
    Ok(respond::json_held(StatusCode::OK, body, room))
}

/// About what a result takes as JSON; it may be less. Short values take half of it.
fn body_bytes(value: &QueryValue) -> usize {
    const POINT_BYTES: usize = 40;
    let labels = |labels: &Labels| 64 + 2 * labels.as_packed().len();
    let histogram = |one: &FloatHistogram| 256 + 64 * one.bucket_count();
    let points = match value {
        QueryValue::Scalar { .. } | QueryValue::String { .. } => 0,
        QueryValue::Vector(samples) => samples
            .iter()
            .map(|one| {
                let histogram = one.histogram.as_deref().map_or(0, histogram);
                labels(&one.labels) + POINT_BYTES + histogram
            })
            .sum(),
        QueryValue::Matrix(series) => series
            .iter()
            .map(|one| {
                let histograms: usize = one.histograms.iter().map(|(_, h)| histogram(h)).sum();
                labels(&one.labels) + POINT_BYTES * one.values.len() + histograms
            })
            .sum(),
    };
    4_096 + points
}

/// Cuts the result to `limit` series. Yields whether something was cut.
fn truncate(value: &mut QueryValue, limit: usize) -> bool {
    let count = match value {
        QueryValue::Vector(samples) => {
            let count = samples.len();
            samples.truncate(limit);
            count
        }
        QueryValue::Matrix(series) => {
            let count = series.len();
            series.truncate(limit);
            count
        }
        QueryValue::Scalar { .. } | QueryValue::String { .. } => 0,
    };
    count > limit
}

fn write_body(
    output: &QueryOutput,
    text: &str,
    missing: Vec<String>,
    truncated: bool,
    stats: Option<Value>,
    capacity: usize,
) -> Vec<u8> {
    let mut body = Vec::with_capacity(capacity);
    body.extend_from_slice(br#"{"status":"success","data":"#);
    json::write_value(&mut body, &output.value);
    if let Some(stats) = stats {
        // Inside of `data`, so its closing brace is written again behind.
        body.pop();
        body.extend_from_slice(br#","stats":"#);
        body.extend_from_slice(stats.to_string().as_bytes());
        body.push(b'}');
    }
    let mut warnings = annotations(output, text, AnnotationLevel::Warning);
    warnings.extend(missing);
    if truncated {
        warnings.push("results truncated due to limit".to_owned());
    }
    json::write_strings(&mut body, "warnings", &warnings);
    json::write_strings(&mut body, "infos", &annotations(output, text, AnnotationLevel::Info));
    body.push(b'}');
    body
}

pub(super) fn annotations(output: &QueryOutput, text: &str, level: AnnotationLevel) -> Vec<String> {
    let mut all: Vec<String> = output
        .annotations
        .iter()
        .filter(|annotation| annotation.level == level)
        .map(|annotation| annotation.render(text))
        .collect();
    if all.len() > MAX_ANNOTATIONS {
        let more = all.len() - MAX_ANNOTATIONS;
        all.truncate(MAX_ANNOTATIONS);
        let word = if level == AnnotationLevel::Warning { "warning" } else { "info" };
        all.push(format!("{more} more {word} annotations omitted"));
    }
    all
}
