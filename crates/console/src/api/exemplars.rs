//! `/api/v1/query_exemplars`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use model::SeriesExemplars;

use crate::Console;
use crate::json::{write_exemplar, write_labels, write_strings};
use crate::params::Params;
use crate::respond::{self, bad_data, source_error};
use net::ApiError;

/// The exemplars of all series that any selector in `query` matches, whatever the expression around
/// it does with them.
pub(super) async fn query(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, ApiError> {
    let range = params.range()?;
    if range.end_ms <= range.start_ms {
        return Err(bad_data("end timestamp must not be before start timestamp"));
    }
    // The text as it is: Prometheus names no parameter here.
    let text = params.get("query").unwrap_or_default();
    let expr = promql::parse(text).map_err(|error| bad_data(error.to_string()))?;
    let selectors = promql::selectors_of(&expr);
    if selectors.is_empty() {
        // As Prometheus has it where there is nothing to say.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    console
        .executor()
        .blocking(params.asked(), move |data, work| {
            let view = data.snapshot(work).map_err(source_error)?;
            let found = view.exemplars(&selectors, range).map_err(source_error)?;
            Ok(respond::json(StatusCode::OK, body(&found, &view.away())))
        })
        .await
}

fn body(found: &[SeriesExemplars], warnings: &[String]) -> Vec<u8> {
    let mut body = br#"{"status":"success","data":["#.to_vec();
    for (index, series) in found.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(br#"{"seriesLabels":"#);
        write_labels(&mut body, &series.labels);
        body.extend_from_slice(br#","exemplars":["#);
        for (index, exemplar) in series.exemplars.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            write_exemplar(&mut body, exemplar);
        }
        body.extend_from_slice(b"]}");
    }
    body.push(b']');
    write_strings(&mut body, "warnings", warnings);
    body.push(b'}');
    body
}
