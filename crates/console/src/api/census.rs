//! `/api/v1/status/tsdb` as VictoriaMetrics has it: where the series of a day come from, by labels; and,
//! beyond that, how it differs from another day.

use std::sync::Arc;

use axum::response::Response;
use model::{CensusEntry, CensusOrder, CensusReport, CensusRequest, TimeRange};
use net::ApiError;
use serde_json::{Value, json};

use super::status::{DEFAULT_TOP, MAX_TOP};
use crate::Console;
use crate::params::Params;
use crate::respond::{parameter, source_error, success_with};

const DAY_MS: i64 = 86_400_000;
/// VictoriaMetrics' word for all time.
const ALL_TIME: &str = "1970-01-01";

/// Whether a request asks for a day: one without any of these asks for Prometheus' figures.
pub(super) fn is_asked(params: &Params) -> bool {
    ["topN", "date", "match[]", "focusLabel", "compare", "sort"]
        .iter()
        .any(|name| params.get(name).is_some())
}

pub(super) async fn answer(console: &Arc<Console>, params: &Params) -> Result<Response, ApiError> {
    let request = request(params, console.now_ms())?;
    console
        .executor()
        .blocking(params.asked(), move |data, work| {
            let view = data.snapshot(work).map_err(source_error)?;
            let report = view.census(&request).map_err(source_error)?;
            let mut missing = view.missing(request.range);
            missing.extend(request.before.iter().flat_map(|range| view.missing(*range)));
            Ok(success_with(body(&report, request.before.is_some()), &missing))
        })
        .await
}

fn request(params: &Params, now_ms: i64) -> Result<CensusRequest, ApiError> {
    let today = now_ms - now_ms.rem_euclid(DAY_MS);
    let limit = params.count("topN")?.unwrap_or(DEFAULT_TOP);
    if limit == 0 || limit > MAX_TOP {
        return Err(parameter("topN", format!("it must be from 1 to {MAX_TOP}")));
    }
    let order = match params.get("sort") {
        None | Some("series") => CensusOrder::Count,
        Some("new") => CensusOrder::New,
        Some("change") => CensusOrder::Change,
        Some(other) => {
            return Err(parameter("sort", format!("{other:?} is none of series, new, change")));
        }
    };
    let before = day(params, "compare")?;
    if before.is_none() && order != CensusOrder::Count {
        return Err(parameter("sort", "new and change need a day to compare with: compare=…"));
    }
    Ok(CensusRequest {
        selectors: params.selectors()?,
        range: day(params, "date")?.unwrap_or(TimeRange::new(today, today + DAY_MS)),
        before,
        limit,
        order,
        focus: params.get("focusLabel").filter(|label| !label.is_empty()).map(str::to_owned),
    })
}

/// A day in UTC; `None` if it is not given.
fn day(params: &Params, name: &str) -> Result<Option<TimeRange>, ApiError> {
    let Some(text) = params.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    if text == ALL_TIME {
        return Ok(Some(TimeRange::all()));
    }
    let start_ms = model::parse_rfc3339_ms(&format!("{text}T00:00:00Z"))
        .ok_or_else(|| parameter(name, format!("{text:?} is no day such as 2026-11-28")))?;
    Ok(Some(TimeRange::new(start_ms, start_ms + DAY_MS)))
}

fn body(report: &CensusReport, compares: bool) -> Value {
    let list = |all: &[CensusEntry]| -> Vec<Value> {
        let row = |one: &CensusEntry| match compares {
            false => json!({ "name": one.name, "value": one.count }),
            true => json!({
                "name": one.name, "value": one.count, "previous": one.before, "new": one.new,
            }),
        };
        all.iter().map(row).collect()
    };
    let (series, pairs) = (&report.series, &report.label_pairs);
    let mut body = json!({
        "totalSeries": series.count,
        "totalLabelValuePairs": pairs.count,
        "seriesCountByMetricName": list(&report.series_by_metric),
        "seriesCountByLabelName": list(&report.series_by_label),
        "seriesCountByFocusLabelValue": list(&report.series_by_focus_value),
        "seriesCountByLabelValuePair": list(&report.series_by_pair),
        "labelValueCountByLabelName": list(&report.values_by_label),
    });
    if compares {
        body["totalSeriesPrevious"] = series.before.into();
        body["newSeries"] = series.new.into();
        body["endedSeries"] = (series.before + series.new).saturating_sub(series.count).into();
        body["totalLabelValuePairsPrevious"] = pairs.before.into();
    }
    body
}
