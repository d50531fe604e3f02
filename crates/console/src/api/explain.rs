//! `/api/v1/query_explain`: runs a query and tells what each part of it took, instead of its result.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use promql::{AnnotationLevel, EvalTime, ProfileNode, QueryValue, Reads};
use serde_json::{Value, json};

use super::query::{self, Question};
use super::statistics::{self, Wanted};
use crate::Console;
use crate::execute::Answer;
use crate::params::Params;
use crate::respond;
use net::{ApiError, ErrorType};

/// With `start`, `end` or `step` a range query, else an instant one.
pub(super) async fn explain(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, ApiError> {
    let is_range = ["start", "end", "step"].iter().any(|name| params.get(name).is_some());
    let mut question =
        if is_range { Question::range(&params)? } else { Question::instant(&params, &console)? };
    question.job.is_measured = true;
    let (text, time) = (question.text, question.job.time);
    let answer = console.executor().run(question.job).await?;
    let body = tokio::task::spawn_blocking(move || body(&answer, &text, time).to_string());
    let body = body.await.map_err(|error| ApiError::new(ErrorType::Internal, error.to_string()))?;
    Ok(respond::json(StatusCode::OK, body.into_bytes()))
}

fn body(answer: &Answer, text: &str, time: EvalTime) -> Value {
    let output = &answer.output;
    let (result_type, series, points) = size(&output.value);
    let mut data = json!({
        "query": text,
        "resultType": result_type,
        "series": series,
        "points": points,
        "totals": totals(answer),
        "stats": statistics::of(output, time, &answer.timings, Wanted::PerStep),
    });
    if let Some(profile) = &output.profile {
        data["tree"] = tree(&profile.root, text);
    }
    match time {
        EvalTime::Instant(t_ms) => data["time"] = statistics::seconds(t_ms).into(),
        EvalTime::Range { start_ms, end_ms, step_ms } => {
            data["start"] = statistics::seconds(start_ms).into();
            data["end"] = statistics::seconds(end_ms).into();
            data["step"] = statistics::seconds(step_ms).into();
        }
    }
    let mut warnings = query::annotations(output, text, AnnotationLevel::Warning);
    warnings.extend(answer.missing.iter().cloned());
    let infos = query::annotations(output, text, AnnotationLevel::Info);
    json!({ "status": "success", "data": data, "warnings": warnings, "infos": infos })
}

/// Type, series and points of a result.
fn size(value: &QueryValue) -> (&'static str, usize, usize) {
    match value {
        QueryValue::Scalar { .. } => ("scalar", 1, 1),
        QueryValue::String { .. } => ("string", 1, 1),
        QueryValue::Vector(samples) => ("vector", samples.len(), samples.len()),
        QueryValue::Matrix(series) => {
            let points = series.iter().map(|one| one.values.len() + one.histograms.len()).sum();
            ("matrix", series.len(), points)
        }
    }
}

fn totals(answer: &Answer) -> Value {
    let (output, timings) = (&answer.output, &answer.timings);
    let (mut reads, mut busy_ns, mut output_ns, mut select_ns) = (Reads::default(), 0, 0, 0);
    if let Some(profile) = &output.profile {
        add_reads(&profile.root, &mut reads);
        busy_ns = profile.root.total_ns + profile.output_ns;
        (output_ns, select_ns) = (profile.output_ns, profile.select_ns);
    }
    let duration = timings.queued + timings.snapshot + timings.evaluation;
    json!({
        "duration_ms": ms(duration),
        "queued_ms": ms(timings.queued),
        "snapshot_ms": ms(timings.snapshot),
        "evaluation_ms": ms(timings.evaluation),
        "select_ms": ns_as_ms(select_ns),
        "output_ms": ns_as_ms(output_ns),
        "busy_ms": ns_as_ms(busy_ns),
        "threads": answer.threads,
        "series_selected": output.stats.series_selected,
        "samples_read": output.stats.samples_read,
        "peak_samples": output.stats.peak_samples,
        "peak_bytes": answer.place.query.work.peak_bytes(),
        "blocks": reads.blocks,
        "chunks": reads.chunks,
        "head_series": reads.head_series,
        "bytes_read": reads.bytes,
        "rollups": resolutions(reads.rollups_ms),
    })
}

fn add_reads(node: &ProfileNode, reads: &mut Reads) {
    reads.add(node.reads);
    node.children.iter().for_each(|child| add_reads(child, reads));
}

/// As deep as the parser allows expressions to be.
fn tree(node: &ProfileNode, text: &str) -> Value {
    let (start, end) = (node.span.start as usize, node.span.end as usize);
    let mut shown = json!({
        "expr": text.get(start..end).unwrap_or_default(),
        "start": start,
        "end": end,
        "kind": node.kind.as_str(),
        "name": node.name,
        "type": node.value_type.as_str(),
        "strategy": node.strategy.map(|strategy| strategy.as_str()),
        "steps": node.steps,
        "self_ms": ns_as_ms(node.self_ns),
        "total_ms": ns_as_ms(node.total_ns),
        "series_in": node.series_in,
        "series_out": node.series_out,
        "children": node.children.iter().map(|child| tree(child, text)).collect::<Value>(),
    });
    if node.select_ns > 0 || node.samples_read > 0 {
        let Reads { blocks, chunks, head_series, bytes, rollups_ms } = node.reads;
        shown["select_ms"] = ns_as_ms(node.select_ns).into();
        shown["samples_read"] = node.samples_read.into();
        shown["blocks"] = blocks.into();
        shown["chunks"] = chunks.into();
        shown["head_series"] = head_series.into();
        shown["bytes_read"] = bytes.into();
        shown["rollups"] = resolutions(rollups_ms);
    }
    shown
}

/// The windows whose rollups were read instead of samples, as durations.
fn resolutions(rollups_ms: [i64; 4]) -> Value {
    let lengths = rollups_ms.into_iter().filter(|length_ms| *length_ms > 0);
    lengths.map(promql::format_duration).collect()
}

fn ms(duration: Duration) -> f64 {
    ns_as_ms(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// In milliseconds, to the microsecond.
fn ns_as_ms(ns: u64) -> f64 {
    (ns / 1_000) as f64 / 1_000.0
}
