//! `labels`, `label/{name}/values` and `series`: which streams there are.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::Uri;
use model::{Labels, Matcher};
use net::ApiError;

use super::asked::Bounds;
use super::encode::{self, is_legacy, write_object};
use super::query::{now_ns, run};
use super::refusal::{Refusal, data_error};
use crate::Console;
use crate::data::Work;
use crate::json;
use crate::log_data::{LogFault, LogSnapshot};
use crate::params::Params;
use crate::running::{Asked, hold};

/// Streams whose labels are looked at, at most (`cardinality_limit` of Loki).
const MAX_STREAMS: usize = 100_000;
/// Selectors of one request.
const MAX_SELECTORS: usize = 1_000;

/// Of `labels`, `label` and the older names, which answer in an older form.
pub(super) async fn names(
    State(console): State<Arc<Console>>,
    uri: Uri,
    params: Params,
) -> Result<Response, Refusal> {
    texts(&console, &params, is_legacy(&uri), |streams| {
        let names = streams.iter().flat_map(Labels::iter).map(|(name, _)| name.to_owned());
        names.collect()
    })
    .await
}

pub(super) async fn values(
    State(console): State<Arc<Console>>,
    Path(name): Path<String>,
    uri: Uri,
    params: Params,
) -> Result<Response, Refusal> {
    texts(&console, &params, is_legacy(&uri), move |streams| {
        streams.iter().filter_map(|labels| labels.get(&name)).map(str::to_owned).collect()
    })
    .await
}

/// Answers with texts that are in labels of streams.
async fn texts(
    console: &Arc<Console>,
    params: &Params,
    is_legacy: bool,
    of: impl FnOnce(&[Labels]) -> BTreeSet<String> + Send + 'static,
) -> Result<Response, Refusal> {
    let bounds = Bounds::of(params, now_ns(console))?;
    let selectors = match params.get("query") {
        None => vec![Vec::new()],
        Some(text) => vec![matchers(text)?],
    };
    run(console, listed(params), move |data, work, _| {
        let snapshot = data.logs(work).map_err(data_error)?;
        let streams = streams(&*snapshot, &selectors, bounds, work)?;
        let found = of(&streams);
        let mut body = Vec::new();
        match is_legacy {
            true => body.extend_from_slice(br#"{"values":["#),
            false => begin(&mut body, &*snapshot),
        }
        for (index, text) in found.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            json::write_string(&mut body, text);
        }
        body.extend_from_slice(b"]}");
        let held = hold(work, body.capacity()).map_err(data_error)?;
        Ok(encode::answer(body, held))
    })
    .await
}

pub(super) async fn series(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, Refusal> {
    let bounds = Bounds::of(&params, now_ns(&console))?;
    let given: BTreeSet<&str> = params.all("match").chain(params.all("match[]")).collect();
    if given.len() > MAX_SELECTORS {
        return Err(Refusal::bad(format!(
            "there are {} selectors, the limit is {MAX_SELECTORS}; split the request",
            given.len()
        )));
    }
    // Alone it means all of them; beside others Loki takes it for a mistake.
    if given.len() > 1
        && let Some(all) = given.iter().find(|text| is_all(text))
    {
        return Err(Refusal::bad(format!("0 matchers in group: {all}")));
    }
    let mut selectors = given.into_iter().map(matchers).collect::<Result<Vec<_>, _>>()?;
    if selectors.is_empty() {
        selectors.push(Vec::new());
    }
    run(&console, listed(&params), move |data, work, _| {
        let snapshot = data.logs(work).map_err(data_error)?;
        let streams = streams(&*snapshot, &selectors, bounds, work)?;
        let mut body = Vec::new();
        begin(&mut body, &*snapshot);
        for (index, labels) in streams.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            write_object(&mut body, labels.iter());
        }
        body.extend_from_slice(b"]}");
        let held = hold(work, body.capacity()).map_err(data_error)?;
        Ok(encode::answer(body, held))
    })
    .await
}

fn begin(body: &mut Vec<u8>, snapshot: &dyn LogSnapshot) {
    body.extend_from_slice(br#"{"status":"success""#);
    json::write_strings(body, "warnings", &snapshot.missing());
    body.extend_from_slice(br#","data":["#);
}

/// What is listed of a request that is no query while it runs.
pub(super) fn listed(params: &Params) -> Asked {
    let mut asked = params.asked();
    if let Some(query) = params.get("query") {
        asked.text.push_str(" query=");
        asked.text.push_str(query);
    }
    asked
}

/// Whether a selector is `{}`.
fn is_all(text: &str) -> bool {
    let inner = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    inner.is_some_and(|inner| inner.trim().is_empty())
}

/// Conditions on labels of streams; none for `{}`.
pub(super) fn matchers(text: &str) -> Result<Vec<Matcher>, Refusal> {
    if is_all(text) {
        return Ok(Vec::new());
    }
    logql::syntax::parse_matchers(text).map_err(Refusal::bad)
}

/// The streams that satisfy any of `selectors`.
pub(super) fn streams(
    snapshot: &dyn LogSnapshot,
    selectors: &[Vec<Matcher>],
    bounds: Bounds,
    work: &Work,
) -> Result<Vec<Labels>, ApiError> {
    let Bounds { start_ns, end_ns } = bounds.of_lines();
    let streams = loop {
        match snapshot.streams(selectors, start_ns, end_ns, MAX_STREAMS + 1) {
            Ok(streams) => break streams,
            Err(LogFault::Again) => {}
            Err(LogFault::Source(error)) => return Err(data_error(error)),
            Err(LogFault::Query(error)) => return Err(super::refusal::metric_error(error)),
        }
    };
    if streams.len() > MAX_STREAMS {
        return Err(crate::respond::bad_data(format!(
            "more than {MAX_STREAMS} streams match, which is the limit; use a narrower selector or a shorter range"
        )));
    }
    let bytes = streams.iter().map(|labels| labels.as_packed().len()).sum();
    // Given back with the rest when the request ends.
    work.take(bytes).map_err(|error| data_error(crate::running::refused(error)))?;
    Ok(streams)
}
