//! `POST /api/v1/read`: Prometheus remote read, whole answers and streams of chunks.
//!
//! Source: <https://prometheus.io/docs/prometheus/latest/querying/remote_read_api/>.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use model::{Labels, LabelsBuilder, MatchOp, Matcher, TenantName, TimeRange};
use net::auth::Principal;
use net::{ApiError, ErrorType};
use promql::{Columns, Hints, SelectRequest, SeriesSet, SourceError};
use tokio::time::Instant;
use wire::WireError;
use wire::decompress::{Encoding, decompress};
use wire::remote_read::{
    ChunkStream, Query, ReadRequest, ResponseType, Series, decode, push_result, push_series,
};

use super::streamed::{self, COARSE, Patience, Pieces, warn};
use crate::Console;
use crate::counted::QueryData;
use crate::data::Work;
use crate::execute::Executor;
use crate::params::client_of;
use crate::respond::{bad_data, source_error};
use crate::running::Asked;

/// Largest request, packed and unpacked; it holds nothing but selectors.
const MAX_REQUEST_BYTES: usize = 4 << 20;
/// Largest answer in one piece, before it is packed.
const MAX_WHOLE_BYTES: usize = 256 << 20;

pub(super) async fn read(
    State(console): State<Arc<Console>>,
    principal: Principal,
    request: Request,
) -> Result<Response, ApiError> {
    let client = client_of(request.extensions());
    let tenant = principal.tenant;
    let packed = axum::body::to_bytes(request.into_body(), MAX_REQUEST_BYTES).await;
    let packed = packed.map_err(|_| {
        bad_data(format!(
            "the request is larger than {MAX_REQUEST_BYTES} bytes or was cut off; ask in several"
        ))
    })?;
    let mut body = Vec::new();
    let mut request = decompress(Encoding::SnappyBlock, &packed, MAX_REQUEST_BYTES, &mut body)
        .and_then(|()| decode(&body))
        .map_err(|error| refused(&error))?;
    let external = External(console.external_labels());
    request.queries.iter_mut().for_each(|query| external.satisfy(&mut query.matchers));
    let executor = Arc::clone(console.executor());
    let asked = asked(&request, &client, tenant);
    let patience = Patience::Until(Instant::now() + executor.query_timeout(tenant));
    match request.response_type {
        ResponseType::Samples => whole(&executor, request, external, patience, asked).await,
        ResponseType::StreamedXorChunks => {
            let kind = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
            streamed::answer(executor, kind, patience, asked, move |data, work, pieces| {
                send_all(data, work, &request, &external, pieces)
            })
            .await
        }
    }
}

/// How a request is shown while it runs: what it selects, and from when to when.
fn asked(request: &ReadRequest, client: &str, tenant: TenantName) -> Asked {
    let mut text = "/api/v1/read".to_owned();
    let mut times_ms = (i64::MAX, i64::MIN, 0);
    for query in &request.queries {
        times_ms = (times_ms.0.min(query.start_ms), times_ms.1.max(query.end_ms), 0);
        let matcher = |m: &Matcher| format!("{}{}{:?}", m.name, m.op.as_str(), m.value);
        let matchers: Vec<String> = query.matchers.iter().map(matcher).collect();
        text.push_str(&format!(" {{{}}}", matchers.join(",")));
    }
    Asked { times_ms, ..Asked::other(text, client, tenant) }
}

/// Labels of the configuration that stored series do not have and answers do: whoever reads with
/// the same labels asks for them.
///
/// Source: Prometheus `storage/remote/read_handler.go`.
struct External(BTreeMap<String, String>);

impl External {
    /// Widens the conditions that these labels meet, so that series without the label meet them, too.
    fn satisfy(&self, matchers: &mut [Matcher]) {
        for matcher in matchers.iter_mut().filter(|matcher| matcher.op == MatchOp::Equal) {
            if self.0.get(&matcher.name) == Some(&matcher.value) {
                let pattern = format!("|{}", model::regex::escape(&matcher.value));
                *matcher = Matcher::new(&matcher.name, MatchOp::Regex, &pattern)
                    .expect("an escaped text is a pattern");
            }
        }
    }

    /// The series' own labels win.
    fn added_to(&self, labels: &Labels) -> Labels {
        let mut all = LabelsBuilder::from_labels(labels);
        for (name, value) in &self.0 {
            if labels.get(name).is_none() {
                all.set(name, value);
            }
        }
        all.build()
    }
}

fn refused(error: &WireError) -> ApiError {
    let error_type = bad_data(error.to_string());
    if error.is_limit() {
        error_type.with_status(StatusCode::PAYLOAD_TOO_LARGE)
    } else {
        error_type
    }
}

/// What one query finds, and what is missing in it.
fn select(
    data: &QueryData,
    work: &Work,
    query: &Query,
    missing: &mut Vec<String>,
) -> Result<Arc<dyn SeriesSet>, ApiError> {
    let snapshot = data.snapshot(work).map_err(source_error)?;
    let Query { start_ms, end_ms, matchers } = query;
    if matchers.is_empty() {
        // Asks for nothing, as in Prometheus.
        return Ok(Arc::new(NoSeries));
    }
    let (start_ms, end_ms) = (*start_ms, *end_ms);
    let found =
        snapshot.select(&SelectRequest { matchers, start_ms, end_ms, hints: Hints::default() });
    let range = TimeRange::new(start_ms, end_ms.saturating_add(1));
    missing.extend(snapshot.missing(range));
    let found = found.map_err(source_error)?;
    if found.is_coarse() {
        missing.push(COARSE.to_owned());
    }
    Ok(found)
}

/// What a query without conditions finds.
struct NoSeries;

impl SeriesSet for NoSeries {
    fn len(&self) -> usize {
        0
    }

    fn labels(&self, _: usize) -> &Labels {
        unreachable!("there is no series")
    }

    fn read(&self, _: usize, _: &mut Columns) -> Result<(), SourceError> {
        Ok(())
    }
}

fn series<'a>(labels: &'a Labels, columns: &'a Columns) -> Series<'a> {
    Series {
        labels,
        timestamps_ms: &columns.timestamps_ms,
        values: &columns.values,
        histogram_timestamps_ms: &columns.histograms.timestamps_ms,
        histograms: &columns.histograms.histograms,
    }
}

async fn whole(
    executor: &Arc<Executor>,
    request: ReadRequest,
    external: External,
    patience: Patience,
    asked: Asked,
) -> Result<Response, ApiError> {
    let most = executor.max_query_samples(asked.tenant);
    let read = move |data: &QueryData, work: &Work| {
        let (mut response, mut missing, mut samples) = (Vec::new(), Vec::new(), 0);
        let mut columns = Columns::default();
        for query in &request.queries {
            let set = select(data, work, query, &mut missing)?;
            let mut result = Vec::new();
            for index in 0..set.len() {
                columns.clear();
                set.read(index, &mut columns).map_err(source_error)?;
                samples += columns.samples();
                if samples > most {
                    return Err(ApiError::new(
                        ErrorType::Execution,
                        format!(
                            "the answer has more than {most} samples, which is the limit; ask for \
                             less, accept STREAMED_XOR_CHUNKS or raise limits.max_query_samples"
                        ),
                    ));
                }
                patience.check(work)?;
                let labels = external.added_to(set.labels(index));
                let series = series(&labels, &columns);
                if !series.is_empty() {
                    push_series(&mut result, &series);
                    check_size(response.len() + result.len())?;
                }
            }
            push_result(&mut response, &result);
        }
        Ok((pack(&response)?, missing))
    };
    let (body, missing) = executor.blocking(asked, read).await?;
    let mut answer = Response::new(Body::from(body));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
    warn(headers, &missing);
    Ok(answer)
}

/// Labels are in no sample's count, and histograms are of any size.
fn check_size(bytes: usize) -> Result<(), ApiError> {
    if bytes <= MAX_WHOLE_BYTES {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorType::Execution,
        format!(
            "the answer has more than {MAX_WHOLE_BYTES} bytes, which is the limit; ask for less or \
             accept STREAMED_XOR_CHUNKS"
        ),
    ))
}

fn pack(response: &[u8]) -> Result<Vec<u8>, ApiError> {
    wire::remote_read::pack(response).map_err(|error| refused(&error))
}

fn send_all(
    data: &QueryData,
    work: &Work,
    request: &ReadRequest,
    external: &External,
    pieces: &mut Pieces,
) -> Result<(), ApiError> {
    let mut missing = Vec::new();
    let sets = request.queries.iter().map(|query| select(data, work, query, &mut missing));
    let sets = sets.collect::<Result<Vec<_>, _>>()?;
    pieces.begin(missing)?;
    let (mut chunks, mut columns) = (ChunkStream::default(), Columns::default());
    for (query, set) in sets.iter().enumerate() {
        for index in 0..set.len() {
            columns.clear();
            set.read(index, &mut columns).map_err(source_error)?;
            let labels = external.added_to(set.labels(index));
            pieces.write(work, |frames| {
                chunks.push(query, &series(&labels, &columns), frames);
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn external_labels_are_met_and_added() {
        let external = External(BTreeMap::from([("cluster".to_owned(), "a".to_owned())]));
        let matcher = |name, op, value| Matcher::new(name, op, value).expect("valid");
        let mut matchers = vec![
            matcher("cluster", MatchOp::Equal, "a"),
            matcher("cluster", MatchOp::NotEqual, "a"),
            matcher("job", MatchOp::Equal, "a"),
        ];
        external.satisfy(&mut matchers);
        let met = |value| matchers[0].matches(value);
        assert!(met("") && met("a") && !met("b"));
        let rest: Vec<_> = matchers[1..].iter().map(|m| (m.name.as_str(), m.op)).collect();
        assert_eq!(rest, [("cluster", MatchOp::NotEqual), ("job", MatchOp::Equal)]);
        let labels = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied());
        let own = labels(&[("__name__", "up"), ("cluster", "b")]).expect("valid");
        assert_eq!(external.added_to(&own), own);
        let without = labels(&[("__name__", "up"), ("job", "x")]).expect("valid");
        assert_eq!(external.added_to(&without).get("cluster"), Some("a"));
    }

    #[test]
    fn whole_answers_are_bounded_in_bytes() {
        check_size(MAX_WHOLE_BYTES).expect("as large as it may be");
        let error = check_size(MAX_WHOLE_BYTES + 1).expect_err("too large");
        assert!(format!("{error:?}").contains("accept STREAMED_XOR_CHUNKS"), "{error:?}");
    }
}
