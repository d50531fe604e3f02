//! Names and values of labels, series, metadata.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use model::{Labels, TimeRange};
use promql::SourceError;
use serde_json::json;

use crate::Console;
use crate::counted::QueryData;
use crate::data::{Snapshot, Work};
use crate::json::{write_labels, write_strings};
use crate::params::Params;
use crate::respond::{self, bad_data, source_error, success_with};
use net::ApiError;

const TRUNCATED: &str = "results truncated due to limit";

pub(super) async fn names(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, ApiError> {
    let (limit, range, selectors) =
        (params.limit()?, params.range()?, params.selectors_of_labels()?);
    console
        .executor()
        .blocking(params.asked(), move |data, work| {
            let ask = |view: &dyn Snapshot, most| view.label_names(&selectors, range, most);
            let (names, warnings) = list(data, work, range, limit, ask)?;
            Ok(success_with(names.into(), &warnings))
        })
        .await
}

pub(super) async fn values(
    State(console): State<Arc<Console>>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let name = unescape_name(&name);
    if name.is_empty() {
        return Err(bad_data(format!("invalid label name: {name:?}")));
    }
    let (limit, range, selectors) =
        (params.limit()?, params.range()?, params.selectors_of_labels()?);
    console
        .executor()
        .blocking(params.asked(), move |data, work| {
            let ask = |view: &dyn Snapshot, most| view.label_values(&name, &selectors, range, most);
            let (values, warnings) = list(data, work, range, limit, ask)?;
            Ok(success_with(values.into(), &warnings))
        })
        .await
}

pub(super) async fn series(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, ApiError> {
    if params.all("match[]").next().is_none() {
        return Err(bad_data("no match[] parameter provided"));
    }
    let (limit, range, selectors) = (params.limit()?, params.range()?, params.selectors()?);
    console
        .executor()
        .blocking(params.asked(), move |data, work| {
            let ask = |view: &dyn Snapshot, most| view.series(&selectors, range, most);
            let (series, warnings) = list(data, work, range, limit, ask)?;
            Ok(respond::json(StatusCode::OK, series_body(&series, &warnings)))
        })
        .await
}

fn series_body(series: &[Labels], warnings: &[String]) -> Vec<u8> {
    let mut body = Vec::with_capacity(series.len() * 200 + 64);
    body.extend_from_slice(br#"{"status":"success","data":["#);
    for (index, labels) in series.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        write_labels(&mut body, labels);
    }
    body.push(b']');
    write_strings(&mut body, "warnings", warnings);
    body.push(b'}');
    body
}

pub(super) async fn metadata(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, ApiError> {
    let none_if_zero = |count: Option<usize>| count.filter(|n| *n > 0).unwrap_or(usize::MAX);
    let limit = none_if_zero(params.count("limit")?);
    let per_metric = none_if_zero(params.count("limit_per_metric")?);
    let wanted = params.get("metric").map(str::to_owned);
    let ask = |data: &QueryData, _: &Work| data.metadata().map_err(source_error);
    let known = console.executor().blocking(params.asked(), ask).await?;
    let mut families: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
    for one in known.known {
        if wanted.as_ref().is_some_and(|wanted| *wanted != one.metric) {
            continue;
        }
        if families.len() == limit && !families.contains_key(&one.metric) {
            break;
        }
        let entries = families.entry(one.metric).or_default();
        if entries.len() < per_metric {
            entries.push(json!({
                "type": one.kind.as_str(),
                "help": one.help,
                "unit": one.unit,
            }));
        }
    }
    Ok(success_with(json!(families), &known.away))
}

/// What `ask` finds, cut to `limit`, and what has to be said about it.
fn list<T>(
    data: &QueryData,
    work: &Work,
    range: TimeRange,
    limit: usize,
    ask: impl FnOnce(&dyn Snapshot, usize) -> Result<Vec<T>, SourceError>,
) -> Result<(Vec<T>, Vec<String>), ApiError> {
    let snapshot = data.snapshot(work).map_err(source_error)?;
    // One more than is shown tells whether there are more.
    let mut found = ask(&*snapshot, limit.saturating_add(1)).map_err(source_error)?;
    let mut warnings = snapshot.missing(range);
    if found.len() > limit {
        found.truncate(limit);
        warnings.push(TRUNCATED.to_owned());
    }
    Ok((found, warnings))
}

/// Undoes the `U__` escaping of UTF-8 names in paths: `__` is `_`, `_2e_` is the character with
/// that hexadecimal code. Names that are not escaped, or wrongly so, are taken as they are.
/// Source: Prometheus `common/model`, `UnescapeName` with `ValueEncodingEscaping`.
fn unescape_name(name: &str) -> String {
    let Some(escaped) = name.strip_prefix("U__") else { return name.to_owned() };
    let mut out = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((before, after)) = rest.split_once('_') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let Some((code, after)) = after.split_once('_') else { return name.to_owned() };
        let character = u32::from_str_radix(code, 16).ok().and_then(char::from_u32);
        let (Some(character), 1..=6) = (character, code.len()) else { return name.to_owned() };
        out.push(character);
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_read() {
        assert_eq!(unescape_name("job"), "job");
        assert_eq!(unescape_name("U__http_2e_status__code"), "http.status_code");
        assert_eq!(unescape_name("U__bad_zz_"), "U__bad_zz_");
        assert_eq!(unescape_name("U__"), "");
    }
}
