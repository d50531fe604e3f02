//! `POST /api/v1/read`: Prometheus remote read, whole answers and streams of chunks.
//!
//! Source: <https://prometheus.io/docs/prometheus/latest/querying/remote_read_api/>. What is missing
//! in the data because it was damaged stands in a header `Warning`, since the answer itself has no
//! place for it.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::stream;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, WARNING};
use http::{HeaderMap, HeaderValue, StatusCode};
use model::{DEFAULT_TENANT, TimeRange};
use net::{ApiError, ErrorType};
use promql::{Columns, SelectRequest, SeriesSet};
use tokio::sync::mpsc;
use wire::WireError;
use wire::decompress::{Encoding, decompress};
use wire::remote_read::{
    ChunkStream, Query, ReadRequest, ResponseType, Series, decode, push_result, push_series,
};

use crate::Console;
use crate::data::{Cancelled, Data, Snapshot};
use crate::execute::Executor;
use crate::respond::{bad_data, source_error};

/// Largest request, packed and unpacked; it holds nothing but selectors.
const MAX_REQUEST_BYTES: usize = 4 << 20;
/// Bytes of frames that are sent on at once.
const SEND_BYTES: usize = 256 << 10;
/// Pieces of an answer that wait for a slow reader.
const QUEUED_PIECES: usize = 4;

pub(super) async fn read(
    State(console): State<Arc<Console>>,
    request: Request,
) -> Result<Response, ApiError> {
    let packed = axum::body::to_bytes(request.into_body(), MAX_REQUEST_BYTES).await;
    let packed = packed.map_err(|_| {
        bad_data(format!(
            "the request is larger than {MAX_REQUEST_BYTES} bytes or was cut off; ask in several"
        ))
    })?;
    let mut body = Vec::new();
    let request = decompress(Encoding::SnappyBlock, &packed, MAX_REQUEST_BYTES, &mut body)
        .and_then(|()| decode(&body))
        .map_err(|error| refused(&error))?;
    let executor = Arc::clone(console.executor());
    match request.response_type {
        ResponseType::Samples => whole(&executor, request).await,
        ResponseType::StreamedXorChunks => streamed(executor, request).await,
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
    data: &dyn Data,
    cancelled: &Cancelled,
    query: &Query,
    missing: &mut Vec<String>,
) -> Result<Arc<dyn SeriesSet>, ApiError> {
    let snapshot: Arc<dyn Snapshot> =
        data.snapshot(DEFAULT_TENANT, cancelled).map_err(source_error)?;
    let Query { start_ms, end_ms, matchers } = query;
    let (start_ms, end_ms) = (*start_ms, *end_ms);
    let found = snapshot.select(&SelectRequest { matchers, start_ms, end_ms });
    let range = TimeRange::new(start_ms, end_ms.saturating_add(1));
    missing.extend(snapshot.missing(range));
    found.map_err(source_error)
}

fn series<'a>(set: &'a dyn SeriesSet, index: usize, columns: &'a Columns) -> Series<'a> {
    Series {
        labels: set.labels(index),
        timestamps_ms: &columns.timestamps_ms,
        values: &columns.values,
        histogram_timestamps_ms: &columns.histograms.timestamps_ms,
        histograms: &columns.histograms.histograms,
    }
}

async fn whole(executor: &Arc<Executor>, request: ReadRequest) -> Result<Response, ApiError> {
    let most = executor.max_query_samples();
    let work = move |data: &dyn Data, cancelled: &Cancelled| {
        let (mut response, mut missing, mut samples) = (Vec::new(), Vec::new(), 0);
        let mut columns = Columns::default();
        for query in &request.queries {
            let set = select(data, cancelled, query, &mut missing)?;
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
                let series = series(&*set, index, &columns);
                if !series.is_empty() {
                    push_series(&mut result, &series);
                }
            }
            push_result(&mut response, &result);
        }
        Ok((pack(&response)?, missing))
    };
    let (body, missing) = executor.blocking(work).await?;
    let mut answer = Response::new(Body::from(body));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
    warn(headers, &missing);
    Ok(answer)
}

fn pack(response: &[u8]) -> Result<Vec<u8>, ApiError> {
    wire::remote_read::pack(response).map_err(|error| refused(&error))
}

fn warn(headers: &mut HeaderMap, missing: &[String]) {
    for text in missing {
        // 199: a warning of no other kind; texts are ours and hold no quotes.
        if let Ok(value) = HeaderValue::try_from(format!("199 watchfire \"{text}\"")) {
            headers.append(WARNING, value);
        }
    }
}

/// A piece of a streamed answer: first what is missing, then frames.
enum Piece {
    Missing(Vec<String>),
    Frames(Vec<u8>),
}

/// Frames are sent while later series are still read, so that an answer of any size takes little
/// memory. A fault in the middle breaks the answer off, which the reader notices.
async fn streamed(executor: Arc<Executor>, request: ReadRequest) -> Result<Response, ApiError> {
    let (sender, mut pieces) = mpsc::channel::<Result<Piece, ApiError>>(QUEUED_PIECES);
    let work = {
        let sender = sender.clone();
        move |data: &dyn Data, cancelled: &Cancelled| send_all(data, cancelled, &request, &sender)
    };
    tokio::spawn(async move {
        if let Err(error) = executor.blocking(work).await {
            // Nobody is there to hear it when the reader has gone.
            let _ = sender.send(Err(error)).await;
        }
    });
    let missing = match pieces.recv().await {
        Some(Ok(Piece::Missing(missing))) => missing,
        Some(Ok(Piece::Frames(_))) | None => Vec::new(),
        Some(Err(error)) => return Err(error),
    };
    let frames = stream::unfold(pieces, async |mut pieces| {
        let piece = match pieces.recv().await? {
            Ok(Piece::Frames(bytes)) => Ok(Bytes::from(bytes)),
            Ok(Piece::Missing(_)) => Ok(Bytes::new()),
            Err(error) => Err(error),
        };
        Some((piece, pieces))
    });
    let mut answer = Response::new(Body::from_stream(frames));
    let kind = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    warn(answer.headers_mut(), &missing);
    Ok(answer)
}

fn send_all(
    data: &dyn Data,
    cancelled: &Cancelled,
    request: &ReadRequest,
    sender: &mpsc::Sender<Result<Piece, ApiError>>,
) -> Result<(), ApiError> {
    let gone = |_| ApiError::new(ErrorType::Canceled, "the reader has gone");
    let mut missing = Vec::new();
    let sets = request.queries.iter().map(|query| select(data, cancelled, query, &mut missing));
    let sets = sets.collect::<Result<Vec<_>, _>>()?;
    sender.blocking_send(Ok(Piece::Missing(missing))).map_err(gone)?;
    let (mut chunks, mut columns) = (ChunkStream::default(), Columns::default());
    let mut frames = Vec::new();
    for (query, set) in sets.iter().enumerate() {
        for index in 0..set.len() {
            columns.clear();
            set.read(index, &mut columns).map_err(source_error)?;
            chunks.push(query, &series(&**set, index, &columns), &mut frames);
            if frames.len() >= SEND_BYTES {
                let piece = Piece::Frames(std::mem::take(&mut frames));
                sender.blocking_send(Ok(piece)).map_err(gone)?;
            }
        }
    }
    if !frames.is_empty() {
        sender.blocking_send(Ok(Piece::Frames(frames))).map_err(gone)?;
    }
    Ok(())
}
