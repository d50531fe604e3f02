//! `/api/v1/search/*`: names and values by a part of them, as newline-delimited JSON.
//!
//! Source: `web/api/v1/search.go` of Prometheus, whose parameters, errors and lines these are.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use model::{FoundName, METRIC_NAME, Matcher, NameSearch, SearchAlgorithm, SearchOrder, TimeRange};
use serde::Serialize;

use crate::Console;
use crate::counted::QueryData;
use crate::data::Work;
use crate::families::Families;
use crate::params::Params;
use crate::respond::{self, bad_data, source_error};
use crate::running::hold;
use net::ApiError;

/// Terms of one search: each is compared with every name.
const MAX_TERMS: usize = 32;
/// … which costs its length times that of the name.
const MAX_TERM_BYTES: usize = 256;
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 100_000;
const DEFAULT_BATCH: usize = 100;
/// Without `start`, names of the last hour are searched.
const DEFAULT_RANGE_MS: i64 = 60 * 60 * 1_000;

/// One name in an answer, or one value: which of the two keys it has.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    #[serde(rename = "type", skip_serializing_if = "str::is_empty")]
    kind: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    help: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    unit: &'a str,
}

#[derive(Serialize)]
struct Batch<'a> {
    results: &'a [Row<'a>],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

#[derive(Serialize)]
struct Trailer {
    status: &'static str,
    has_more: bool,
}

/// What names are asked for.
enum Names {
    Metrics { with_metadata: bool },
    Labels,
    Values(String),
}

impl Names {
    fn label(&self) -> Option<&str> {
        match self {
            Names::Metrics { .. } => Some(METRIC_NAME),
            Names::Labels => None,
            Names::Values(label) => Some(label),
        }
    }
}

pub(super) async fn metric_names(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, ApiError> {
    let request = Request::of(&params, &console, "metric_names")?;
    let with_metadata = flag(&params, "include_metadata", false)?;
    answer(&console, &params, request, Names::Metrics { with_metadata }).await
}

pub(super) async fn label_names(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, ApiError> {
    let request = Request::of(&params, &console, "label_names")?;
    answer(&console, &params, request, Names::Labels).await
}

pub(super) async fn label_values(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, ApiError> {
    let label = params.get("label").map(str::to_owned);
    let label = label.ok_or_else(|| bad_data("missing required parameter \"label\""))?;
    let request = Request::of(&params, &console, "label_values")?;
    answer(&console, &params, request, Names::Values(label)).await
}

async fn answer(
    console: &Console,
    params: &Params,
    request: Request,
    names: Names,
) -> Result<Response, ApiError> {
    let read = move |data: &QueryData, work: &Work| {
        let found = request.find(data, work, &names)?;
        let are_values = matches!(names, Names::Values(_));
        let families = match names {
            Names::Metrics { with_metadata: true } => {
                let names = found.names.iter().map(|one| one.name.as_str());
                Families::of(names, data).map_err(source_error)?
            }
            _ => Families::none(),
        };
        let body = request.lines(&found, &families, are_values);
        let held = hold(work, body.len()).map_err(source_error)?;
        Ok(respond::json_held(StatusCode::OK, body, held))
    };
    let mut answer = console.executor().in_time(params.asked(), read).await?;
    let kind = HeaderValue::from_static("application/x-ndjson; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(answer)
}

/// What a search asks for.
struct Request {
    selectors: Vec<Vec<Matcher>>,
    range: TimeRange,
    search: NameSearch,
    with_score: bool,
    batch: usize,
}

/// The names that fit, in order, cut to the limit.
struct Found {
    names: Vec<FoundName>,
    has_more: bool,
    warnings: Vec<String>,
}

impl Request {
    fn of(params: &Params, console: &Console, endpoint: &str) -> Result<Request, ApiError> {
        let now_ms = console.now_ms();
        let start_ms = params.optional_time_ms("start")?;
        let start_ms = start_ms.unwrap_or(now_ms.saturating_sub(DEFAULT_RANGE_MS));
        let end_ms = params.optional_time_ms("end")?.unwrap_or(now_ms);
        if end_ms < start_ms {
            return Err(bad_data("end timestamp must not be before start timestamp"));
        }
        let selectors = params.selectors()?;
        let terms: Vec<String> = params.all("search[]").map(str::to_owned).collect();
        if terms.len() > MAX_TERMS {
            return Err(bad_data(format!(
                "too many search[] terms: got {}, maximum is {MAX_TERMS}",
                terms.len()
            )));
        }
        if let Some(term) = terms.iter().find(|term| term.len() > MAX_TERM_BYTES) {
            return Err(bad_data(format!(
                "a search[] term has {} bytes, maximum is {MAX_TERM_BYTES}: search for a shorter part",
                term.len()
            )));
        }
        let threshold = params.get("fuzz_threshold").unwrap_or("0");
        let percent = threshold.parse::<u8>().ok().filter(|percent| *percent <= 100);
        let percent = percent.ok_or_else(|| {
            bad_data(format!("invalid fuzz_threshold {threshold:?}: must be 0-100"))
        })?;
        let algorithm = match params.get("fuzz_alg").unwrap_or("subsequence") {
            "subsequence" => SearchAlgorithm::Subsequence,
            "jarowinkler" => SearchAlgorithm::JaroWinkler,
            other => {
                return Err(bad_data(format!(
                    "unsupported fuzz_alg {other:?}: must be one of [subsequence jarowinkler]"
                )));
            }
        };
        Ok(Request {
            selectors,
            range: TimeRange::new(start_ms, end_ms.saturating_add(1)),
            search: NameSearch {
                algorithm,
                threshold: f64::from(percent) / 100.0,
                folds_case: !flag(params, "case_sensitive", true)?,
                order: order(params, endpoint, terms.is_empty())?,
                limit: limit(params)?,
                terms,
            },
            with_score: flag(params, "include_score", false)?,
            batch: number(params, "batch_size", DEFAULT_BATCH)?,
        })
    }

    fn find(&self, data: &QueryData, work: &Work, names: &Names) -> Result<Found, ApiError> {
        let snapshot = data.snapshot(work).map_err(source_error)?;
        // One more than is shown tells whether there are more.
        let limit = self.search.limit;
        let search = NameSearch { limit: limit + 1, ..self.search.clone() };
        let found = snapshot.search(names.label(), &self.selectors, self.range, &search);
        let mut names = found.map_err(source_error)?;
        let has_more = names.len() > limit;
        names.truncate(limit);
        Ok(Found { names, has_more, warnings: snapshot.missing(self.range) })
    }

    fn row<'a>(&self, one: &'a FoundName, families: &'a Families, is_value: bool) -> Row<'a> {
        let about = families.about(&one.name);
        let (kind, help, unit) = about.map_or(("", "", ""), |about| {
            (about.kind.as_str(), about.help.as_str(), about.unit.as_str())
        });
        let score = self.with_score.then_some(one.score);
        let text = Some(one.name.as_str());
        let (name, value) = if is_value { (None, text) } else { (text, None) };
        Row { name, value, score, kind, help, unit }
    }

    /// The batches and the line behind them.
    fn lines(&self, found: &Found, families: &Families, are_values: bool) -> Vec<u8> {
        let row = |one| self.row(one, families, are_values);
        let rows: Vec<Row<'_>> = found.names.iter().map(row).collect();
        let mut body = Vec::new();
        let mut batches = rows.chunks(self.batch);
        // The first line comes always, so that warnings have a place.
        let first = batches.next().unwrap_or_default();
        push_line(&mut body, &Batch { results: first, warnings: &found.warnings });
        for results in batches {
            push_line(&mut body, &Batch { results, warnings: &[] });
        }
        push_line(&mut body, &Trailer { status: "success", has_more: found.has_more });
        body
    }
}

fn push_line(body: &mut Vec<u8>, line: &impl Serialize) {
    serde_json::to_writer(&mut *body, line).expect("a vector takes everything");
    body.push(b'\n');
}

fn order(params: &Params, endpoint: &str, is_all: bool) -> Result<SearchOrder, ApiError> {
    let direction = params.get("sort_dir");
    let by = params.get("sort_by");
    let refused = |text: &str| Err(bad_data(text));
    match (by, direction) {
        (None, Some(_)) => refused("sort_dir is only valid when sort_by is set"),
        (Some("score"), Some(_)) => refused("sort_dir is not supported for sort_by=score"),
        (_, Some(other)) if !matches!(other, "asc" | "dsc") => {
            Err(bad_data(format!("invalid sort_dir {other:?}: must be \"asc\" or \"dsc\"")))
        }
        (Some("score"), None) if is_all => refused("sort_by=score requires search[] to be set"),
        (Some("score"), None) => Ok(SearchOrder::Score),
        (None, None) => Ok(SearchOrder::Ascending),
        (Some("alpha"), Some("dsc")) => Ok(SearchOrder::Descending),
        (Some("alpha"), _) => Ok(SearchOrder::Ascending),
        (Some(other), _) => Err(bad_data(format!(
            "invalid sort_by {other:?} for {endpoint}: must be \"alpha\" or \"score\""
        ))),
    }
}

/// `limit`, of which there is always one.
pub(super) fn limit(params: &Params) -> Result<usize, ApiError> {
    let limit = number(params, "limit", DEFAULT_LIMIT)?;
    if limit > MAX_LIMIT {
        return Err(bad_data(format!(
            "limit {limit} exceeds the maximum ({MAX_LIMIT}); search for more of the name"
        )));
    }
    Ok(limit)
}

/// A number that is not negative; 0 is as good as none.
fn number(params: &Params, name: &str, default: usize) -> Result<usize, ApiError> {
    let Some(text) = params.get(name) else { return Ok(default) };
    let given = text.parse::<usize>();
    let given = given
        .map_err(|_| bad_data(format!("invalid {name} {text:?}: must be non-negative integer")))?;
    Ok(if given == 0 { default } else { given })
}

fn flag(params: &Params, name: &str, default: bool) -> Result<bool, ApiError> {
    match params.get(name) {
        None => Ok(default),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(bad_data(format!("invalid {name} {other:?}: must be boolean"))),
    }
}
