//! `/api/v1/export` and `/api/v1/export/csv`: samples as they are stored, streamed.
//!
//! Source: VictoriaMetrics' "How to export data". JSON lines hold native histograms too; the text
//! format, CSV and Parquet cannot, and leave them out, as they do staleness markers.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use model::{Labels, METRIC_NAME, Matcher, TimeRange, is_stale_nan};
use net::{ApiError, ErrorType};
use promql::{Columns, Hints, SelectRequest};
use tokio::sync::Semaphore;
use wire::parquet_export::ParquetWriter;
use wire::text_encode::TextEncoder;
use wire::{csv_export, json_lines, text_encode};

use super::streamed::{self, COARSE, Patience, Pieces};
use crate::Console;
use crate::counted::QueryData;
use crate::data::Work;
use crate::params::Params;
use crate::respond::{bad_data, parameter, source_error};

/// Exports at once: each keeps a place among the queries for as long as it lasts.
const MAX_EXPORTS: usize = 2;
static EXPORTS: Semaphore = Semaphore::const_new(MAX_EXPORTS);

/// How long a reader may take nothing.
const STALL: Duration = Duration::from_secs(60);

/// How samples are written.
enum Form {
    /// With so many samples in a line at most.
    JsonLines(NonZeroUsize),
    Text,
    Csv(csv_export::Columns),
    Parquet(Box<ParquetWriter>),
}

impl Form {
    fn content_type(&self) -> &'static str {
        match self {
            Form::JsonLines(_) => "application/stream+json",
            Form::Text => text_encode::CONTENT_TYPE,
            Form::Csv(_) => "text/csv; charset=utf-8",
            Form::Parquet(_) => wire::parquet_export::CONTENT_TYPE,
        }
    }

    fn push(&mut self, out: &mut Vec<u8>, labels: &Labels, columns: &mut Columns) {
        if let Form::JsonLines(rows) = self {
            push_lines(out, labels, columns, rows.get());
            return;
        }
        drop_markers(columns);
        let Columns { timestamps_ms, values, .. } = columns;
        if let Form::Csv(format) = self {
            format.push(out, labels, timestamps_ms, values);
            return;
        }
        if let Form::Parquet(writer) = self {
            writer.push(labels, timestamps_ms, values, out);
            return;
        }
        // A series without a name has no line in an exposition.
        let Some(name) = labels.metric_name() else { return };
        let mut text = TextEncoder::new(out);
        for (t_ms, value) in timestamps_ms.iter().zip(values) {
            let labels = labels.iter().filter(|(label, _)| *label != METRIC_NAME);
            text.sample_at(name, labels, *value, Some(*t_ms));
        }
    }
}

fn push_lines(out: &mut Vec<u8>, labels: &Labels, columns: &Columns, rows: usize) {
    // Of fewer samples than others it is known when they began.
    fn starts_of(starts_ms: &[i64], begin: usize, end: usize) -> &[i64] {
        starts_ms.get(begin..end.min(starts_ms.len())).unwrap_or(&[])
    }
    let Columns { timestamps_ms, values, starts_ms, histograms, .. } = columns;
    for begin in (0..values.len()).step_by(rows) {
        let end = begin.saturating_add(rows).min(values.len());
        let starts_ms = starts_of(starts_ms, begin, end);
        let (timestamps_ms, values) = (&timestamps_ms[begin..end], &values[begin..end]);
        json_lines::push_values(out, labels, timestamps_ms, values, starts_ms);
    }
    let (timestamps_ms, all) = (&histograms.timestamps_ms, &histograms.histograms);
    for begin in (0..all.len()).step_by(rows) {
        let end = begin.saturating_add(rows).min(all.len());
        let starts_ms = starts_of(&histograms.starts_ms, begin, end);
        let (timestamps_ms, all) = (&timestamps_ms[begin..end], &all[begin..end]);
        json_lines::push_histograms(out, labels, timestamps_ms, all, starts_ms);
    }
}

fn drop_markers(columns: &mut Columns) {
    let mut stays = columns.values.iter().map(|value| !is_stale_nan(*value));
    columns.timestamps_ms.retain(|_| stays.next().unwrap_or(true));
    columns.values.retain(|value| !is_stale_nan(*value));
}

/// JSON lines; Prometheus text with `format=prometheus`, Parquet with `format=parquet`.
pub(super) async fn export(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, ApiError> {
    let params = params.with_alias("match", "match[]");
    let form = match params.get("format").unwrap_or("json") {
        "json" | "jsonl" => Form::JsonLines(rows_of_lines(&params)?),
        "prometheus" => Form::Text,
        "parquet" => Form::Parquet(Box::default()),
        other => {
            let error =
                format!("{other:?} is no format of an export; use json, prometheus or parquet");
            return Err(parameter("format", error));
        }
    };
    answer(&console, &params, form).await
}

/// `max_rows_per_line`; 0 is none, as in VictoriaMetrics.
fn rows_of_lines(params: &Params) -> Result<NonZeroUsize, ApiError> {
    let Some(text) = params.get("max_rows_per_line") else { return Ok(NonZeroUsize::MAX) };
    let rows: usize = text.parse().map_err(|error| parameter("max_rows_per_line", error))?;
    Ok(NonZeroUsize::new(rows).unwrap_or(NonZeroUsize::MAX))
}

/// The columns that `format` names.
pub(super) async fn csv(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, ApiError> {
    let params = params.with_alias("match", "match[]");
    let format = params.get("format").unwrap_or_default();
    let columns = csv_export::Columns::parse(format).map_err(|error| parameter("format", error))?;
    answer(&console, &params, Form::Csv(columns)).await
}

async fn answer(console: &Console, params: &Params, mut form: Form) -> Result<Response, ApiError> {
    let selectors = params.selectors()?;
    if selectors.is_empty() {
        return Err(bad_data("no match[] parameter provided"));
    }
    let range = params.range()?;
    let permit = EXPORTS.try_acquire().map_err(|_| {
        ApiError::new(
            ErrorType::Unavailable,
            format!("{MAX_EXPORTS} exports run already, which is the limit; ask again later"),
        )
    })?;
    let kind = form.content_type();
    let executor = Arc::clone(console.executor());
    streamed::answer(
        executor,
        kind,
        Patience::Stalled(STALL),
        params.asked(),
        move |data, work, pieces| {
            let _permit = permit;
            send_all(data, work, &selectors, range, &mut form, pieces)
        },
    )
    .await
}

fn send_all(
    data: &QueryData,
    work: &Work,
    selectors: &[Vec<Matcher>],
    range: TimeRange,
    form: &mut Form,
    pieces: &mut Pieces,
) -> Result<(), ApiError> {
    let snapshot = data.snapshot(work).map_err(source_error)?;
    let (start_ms, end_ms) = (range.start_ms, range.end_ms.saturating_sub(1));
    // Other forms have no place for when samples began.
    let starts = matches!(form, Form::JsonLines(_));
    // All before the first byte, so that whatever is refused is refused with a status.
    let mut sets = Vec::with_capacity(selectors.len());
    for matchers in selectors {
        let hints = Hints { starts, ..Hints::default() };
        let request = SelectRequest { matchers, start_ms, end_ms, hints };
        sets.push(snapshot.select(&request).map_err(source_error)?);
    }
    let mut missing = snapshot.missing(range);
    if sets.iter().any(|set| set.is_coarse()) {
        missing.push(COARSE.to_owned());
    }
    pieces.begin(missing)?;
    // What several selectors match is written once.
    let mut written = HashSet::new();
    let mut columns = Columns::default();
    for (place, set) in sets.iter().enumerate() {
        for index in 0..set.len() {
            let labels = set.labels(index);
            if written.contains(labels) {
                continue;
            }
            columns.clear();
            set.read(index, &mut columns).map_err(source_error)?;
            pieces.write(work, |out| form.push(out, labels, &mut columns))?;
            if place + 1 < sets.len() {
                written.insert(labels.clone());
            }
        }
    }
    if let Form::Parquet(writer) = form {
        pieces.write(work, |out| writer.finish(out))?;
    }
    Ok(())
}
