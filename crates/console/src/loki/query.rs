//! `/loki/api/v1/query` and `/loki/api/v1/query_range`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use logql::metric::{EvalOptions, Steps};
use logql::syntax::ast::{Expr, LogExpr, MetricExpr};
use net::ApiError;

use super::asked::{Direction, RangeAsked, limit};
use super::cursor::{Cursor, Dedup};
use super::encode::{self, CATEGORIZE, EntryForm};
use super::lines::{self, LinesAsked};
use super::numbers;
use super::refusal::{Refusal, data_error};
use super::statistics::Statistics;
use super::time::parse_time_ns;
use crate::Console;
use crate::counted::QueryData;
use crate::data::Work;
use crate::params::Params;
use crate::running::{Asked, Language, hold};

/// Lines that one request may ask for (`max_entries_limit_per_query` of Loki).
pub(super) const MAX_ENTRIES: usize = 5_000;
/// Loki's words for an instant query that yields lines.
const NO_INSTANT_LINES: &str = "log queries are not supported as an instant query type, please change your query to \
                                a range query type";

pub(super) async fn instant(
    State(console): State<Arc<Console>>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, Refusal> {
    let now_ns = now_ns(&console);
    limit(&params)?;
    let at_ns = match params.get("time") {
        None => now_ns,
        Some(text) => parse_time_ns(text).map_err(Refusal::bad)?,
    };
    Direction::of(&params)?;
    let Expr::Metric(expr) = parsed(&params)? else {
        return Err(Refusal::bad(NO_INSTANT_LINES));
    };
    let question = Numbers { expr, steps: Steps::instant(at_ns), is_instant: true, now_ns };
    let asked = asked(&params, (at_ns, at_ns, 0));
    let categorize = wants_categories(&headers, &params);
    run(&console, asked, move |data, work, queued| question.answer(data, work, queued, categorize))
        .await
}

pub(super) async fn range(
    State(console): State<Arc<Console>>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, Refusal> {
    let now_ns = now_ns(&console);
    let RangeAsked { bounds, limit, direction, step_ns, interval_ns } =
        RangeAsked::of(&params, now_ns)?;
    let categorize = wants_categories(&headers, &params);
    let times = (bounds.start_ns, bounds.end_ns, step_ns);
    match parsed(&params)? {
        Expr::Log(log) => {
            check_entries(limit)?;
            let cursor = params.get("cursor");
            let asked_lines = LinesAsked {
                bounds,
                limit,
                direction,
                interval_ns,
                form: EntryForm::of(categorize),
                now_ns,
                seed: seed(),
                cursor: cursor.map_or(Ok(None), Cursor::parse)?,
                dedup: params.get("dedup").map_or(Ok(None), Dedup::parse)?,
                notes_lines: false,
            };
            let question = Lines { log, asked: asked_lines, wants_pages: cursor.is_some() };
            run(&console, asked(&params, times), move |data, work, queued| {
                question.answer(data, work, queued)
            })
            .await
        }
        Expr::Metric(expr) => {
            // As Loki's frontend has it, so that steps do not move with the time of the request.
            let start_ns = bounds.start_ns - bounds.start_ns.rem_euclid(step_ns);
            let beyond_ns = bounds.end_ns.rem_euclid(step_ns);
            let rest_ns = if beyond_ns == 0 { 0 } else { step_ns - beyond_ns };
            let steps = Steps::range(start_ns, bounds.end_ns.saturating_add(rest_ns), step_ns);
            let question = Numbers { expr, steps, is_instant: false, now_ns };
            run(&console, asked(&params, times), move |data, work, queued| {
                question.answer(data, work, queued, categorize)
            })
            .await
        }
    }
}

/// `/api/prom/query`, which yields lines alone, in the form they had before version 1 of the API. Lines
/// must match `regexp` as well, if that is given.
pub(super) async fn legacy(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, Refusal> {
    const LINES_ALONE: &str = "legacy endpoints only support streams result type";
    let now_ns = now_ns(&console);
    let RangeAsked { bounds, limit, direction, step_ns, interval_ns } =
        RangeAsked::of(&params, now_ns)?;
    let Expr::Log(mut log) = parsed(&params)? else { return Err(Refusal::bad(LINES_ALONE)) };
    if let Some(regexp) = params.get("regexp").filter(|regexp| !regexp.is_empty()) {
        let text = format!("{log} |~ {}", model::quote::quote(regexp));
        let expr = logql::syntax::parse(&text).map_err(Refusal::bad)?;
        logql::compile::check(&expr).map_err(Refusal::bad)?;
        let Expr::Log(filtered) = expr else { return Err(Refusal::bad(LINES_ALONE)) };
        log = filtered;
    }
    check_entries(limit)?;
    let asked_lines = LinesAsked {
        bounds,
        limit,
        direction,
        interval_ns,
        form: EntryForm::Legacy,
        now_ns,
        seed: seed(),
        ..LinesAsked::default()
    };
    let question = Lines { log, asked: asked_lines, wants_pages: false };
    let listed = asked(&params, (bounds.start_ns, bounds.end_ns, step_ns));
    run(&console, listed, move |data, work, queued| question.answer(data, work, queued)).await
}

/// Refuses to yield more lines than one request may.
pub(super) fn check_entries(limit: usize) -> Result<(), Refusal> {
    if limit > MAX_ENTRIES {
        return Err(Refusal::bad(format!(
            "max entries limit per query exceeded, limit > max_entries_limit_per_query ({limit} > {MAX_ENTRIES})"
        )));
    }
    Ok(())
}

/// The query of a request.
pub(super) fn parsed(params: &Params) -> Result<Expr, Refusal> {
    let expr = logql::syntax::parse(params.get("query").unwrap_or_default());
    let expr = expr.map_err(Refusal::bad)?;
    logql::compile::check(&expr).map_err(Refusal::bad)?;
    Ok(expr)
}

/// What is listed of a request while it runs.
pub(super) fn asked(params: &Params, (start_ns, end_ns, step_ns): (i64, i64, i64)) -> Asked {
    let [start_ms, end_ms, step_ms] =
        [start_ns, end_ns, step_ns].map(|ns| ns.div_euclid(1_000_000));
    Asked {
        language: Language::Logql,
        text: params.get("query").unwrap_or_default().to_owned(),
        times_ms: (start_ms, end_ms, step_ms),
        client: params.client().to_owned(),
        tenant: params.tenant(),
    }
}

/// The parameter that says what the header `X-Loki-Response-Encoding-Flags` does, for who cannot send one.
pub(crate) const ENCODING_FLAGS: &str = "encoding_flags";

/// Whether labels that are not the stream's shall stand with each line.
pub(crate) fn wants_categories(headers: &HeaderMap, params: &Params) -> bool {
    let flags = headers.get_all("x-loki-response-encoding-flags").iter();
    let flags = flags.filter_map(|flags| flags.to_str().ok()).chain(params.get(ENCODING_FLAGS));
    flags.flat_map(|flags| flags.split(',')).any(|flag| flag.trim() == CATEGORIZE)
}

/// The time now, in nanoseconds since the epoch.
pub(super) fn now_ns(console: &Console) -> i64 {
    console.now_ms().saturating_mul(1_000_000)
}

/// Keys hash tables: nobody outside knows it.
pub(crate) fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0_u8)
}

/// Runs a request where it may block, listed and limited as all queries are.
pub(super) async fn run(
    console: &Arc<Console>,
    asked: Asked,
    task: impl FnOnce(&QueryData, &Work, std::time::Duration) -> Result<Response, ApiError>
    + Send
    + 'static,
) -> Result<Response, Refusal> {
    let began = Instant::now();
    let ran =
        console.executor().in_time(asked, move |data, work| task(data, work, began.elapsed()));
    Ok(ran.await?)
}

/// A query that yields lines.
struct Lines {
    log: LogExpr,
    asked: LinesAsked,
    /// Whether the answer says where the next page begins.
    wants_pages: bool,
}

impl Lines {
    fn answer(
        &self,
        data: &QueryData,
        work: &Work,
        queued: std::time::Duration,
    ) -> Result<Response, ApiError> {
        let began = Instant::now();
        let snapshot = data.logs(work).map_err(data_error)?;
        let mut found = lines::find(&self.log, &self.asked, &*snapshot, work)?;
        let reads = snapshot.reads();
        data.count_samples(reads.lines.max(found.processed.lines));
        let statistics = Statistics {
            reads,
            processed: found.processed,
            queued,
            executed: began.elapsed(),
            yielded: found.lines,
        };
        let values: usize = found.streams.iter().map(|stream| stream.values.len() + 256).sum();
        let mut body = Vec::with_capacity(values + 4_096);
        let form = self.asked.form;
        if form == EntryForm::Legacy {
            body.extend_from_slice(br#"{"streams":"#);
            encode::write_streams(&mut body, &mut found.streams, form);
            body.extend_from_slice(format!(r#","stats":{}}}"#, statistics.to_json()).as_bytes());
        } else {
            let missing = snapshot.missing();
            encode::begin(&mut body, &missing, "streams", form.is_categorized());
            encode::write_streams(&mut body, &mut found.streams, form);
            if self.wants_pages {
                encode::write_cursor(&mut body, found.cursor.as_ref());
            }
            encode::end(&mut body, &statistics.to_json());
        }
        drop(found);
        let held = hold(work, body.capacity()).map_err(data_error)?;
        Ok(encode::answer(body, held))
    }
}

/// A query that yields numbers.
struct Numbers {
    expr: MetricExpr,
    steps: Steps,
    is_instant: bool,
    now_ns: i64,
}

impl Numbers {
    fn answer(
        &self,
        data: &QueryData,
        work: &Work,
        queued: std::time::Duration,
        categorize: bool,
    ) -> Result<Response, ApiError> {
        let began = Instant::now();
        let snapshot = data.logs(work).map_err(data_error)?;
        let options = EvalOptions {
            max_series: data.max_series,
            max_values: data.max_values,
            now_ns: self.now_ns,
            zones: super::zones::of_host,
            seed: seed(),
        };
        let (result, processed) =
            numbers::evaluate_at(&self.expr, self.steps, &options, &*snapshot, work)?;
        let reads = snapshot.reads();
        data.count_samples(reads.lines.max(processed.lines));
        let yielded = match &result {
            logql::metric::Evaluation::Scalar(_) => 1,
            logql::metric::Evaluation::Series(series) => series.len(),
        };
        let executed = began.elapsed();
        let statistics = Statistics { reads, processed, queued, executed, yielded };
        let points = yielded.saturating_mul(self.steps.count());
        let mut held = hold(work, points.saturating_mul(32)).map_err(data_error)?;
        let mut body = Vec::new();
        let kind = encode::kind_of(&result, self.is_instant);
        encode::begin(&mut body, &snapshot.missing(), kind, categorize);
        encode::write_numbers(&mut body, &result, self.steps, self.is_instant);
        encode::end(&mut body, &statistics.to_json());
        held.resize(body.capacity()).map_err(|error| data_error(crate::running::refused(error)))?;
        Ok(encode::answer(body, held))
    }
}
