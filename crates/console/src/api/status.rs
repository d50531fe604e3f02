//! `/api/v1/status/*`: what runs here, and with what.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use model::DEFAULT_TENANT;
use serde_json::{Value, json};

use crate::Console;
use crate::data::Counted;
use crate::params::Params;
use crate::respond::{bad_data, source_error, success};
use net::ApiError;

/// The version of Prometheus whose API this is. Grafana and others switch features by it, so it
/// is told where they look for it, and our own version stands beside it.
const API_VERSION: &str = "3.14.0";
/// Entries per list in `status/tsdb` when the request names no limit, as in Prometheus.
const DEFAULT_TOP: usize = 10;
/// Most entries per list in `status/tsdb`.
const MAX_TOP: usize = 10_000;

pub(super) async fn build_info(State(console): State<Arc<Console>>) -> Response {
    let about = console.about();
    success(json!({
        "version": API_VERSION,
        "revision": about.revision,
        "branch": "main",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
        "application": "watchfire",
        "applicationVersion": about.version,
    }))
}

pub(super) async fn runtime_info(State(console): State<Arc<Console>>) -> Response {
    let about = console.about();
    success(json!({
        "startTime": rfc3339(about.start_ms),
        "serverTime": rfc3339(console.now_ms()),
        "CWD": about.directory,
        "hostname": about.hostname,
        "reloadConfigSuccess": true,
        "lastConfigTime": rfc3339(about.start_ms),
        "corruptionCount": console.corruptions(),
        "goroutineCount": 0,
        "GOMAXPROCS": about.threads,
        "GOMEMLIMIT": 0,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": about.retention,
    }))
}

pub(super) async fn config(State(console): State<Arc<Console>>) -> Response {
    success(json!({ "yaml": console.about().config_yaml }))
}

pub(super) async fn flags(State(console): State<Arc<Console>>) -> Response {
    let flags: serde_json::Map<String, Value> = console
        .about()
        .flags
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(value.clone())))
        .collect();
    success(flags.into())
}

pub(super) async fn tsdb(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = match params.get("limit").map(str::parse::<usize>) {
        None => DEFAULT_TOP,
        Some(Err(_) | Ok(0)) => return Err(bad_data("limit must be a positive number")),
        Some(Ok(limit)) if limit > MAX_TOP => {
            return Err(bad_data(format!("limit must not exceed {MAX_TOP}")));
        }
        Some(Ok(limit)) => limit,
    };
    let top = console
        .executor()
        .blocking(move |data| {
            Ok(data.snapshot(DEFAULT_TENANT).map_err(source_error)?.cardinality(limit))
        })
        .await?;
    Ok(success(json!({
        "headStats": {
            "numSeries": top.series,
            "numLabelPairs": top.label_pairs,
            "chunkCount": top.chunks,
            "minTime": top.min_time_ms,
            "maxTime": top.max_time_ms,
        },
        "seriesCountByMetricName": counted(&top.series_by_metric),
        "labelValueCountByLabelName": counted(&top.values_by_label),
        "memoryInBytesByLabelName": counted(&top.bytes_by_label),
        "seriesCountByLabelValuePair": counted(&top.series_by_pair),
    })))
}

fn counted(list: &[Counted]) -> Vec<Value> {
    list.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
}

/// UTC, to the millisecond.
fn rfc3339(t_ms: i64) -> String {
    let (days, ms) = (t_ms.div_euclid(86_400_000), t_ms.rem_euclid(86_400_000));
    // Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (seconds, fraction) = (ms / 1_000, ms % 1_000);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{fraction:03}Z",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::parse_time_ms;

    #[test]
    fn dates_read_back() {
        for t_ms in [0, 1_435_781_451_781, 1_709_164_800_000, 4_102_444_799_999] {
            assert_eq!(parse_time_ms(&rfc3339(t_ms)), Some(t_ms));
        }
        assert_eq!(rfc3339(1_435_781_451_781), "2015-07-01T20:10:51.781Z");
    }
}
