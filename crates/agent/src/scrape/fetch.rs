//! One request to a target: from the answer to bytes and their format.

use std::time::Instant;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use net::client::{ClientError, Get};
use wire::decompress::{Encoding, decompress};

use super::append::Format;
use super::error::ScrapeError;
use super::job::Job;

/// Compressing what cannot be compressed makes it longer by at most this share and this much.
const ENCODING_OVERHEAD: (usize, usize) = (256, 1 << 10);

/// Tells a target how much time it has.
const TIMEOUT_HEADER: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) encoding: Encoding,
    pub(super) content_type: Option<HeaderValue>,
}

/// The headers of every request to a target.
pub(super) fn headers(job: &Job, timeout: std::time::Duration) -> HeaderMap {
    let mut headers = job.headers.clone();
    let seconds = HeaderValue::try_from(timeout.as_secs_f64().to_string())
        .expect("a number is visible ASCII");
    headers.insert(TIMEOUT_HEADER, seconds);
    headers
}

/// Asks the target; its answer, still compressed, goes into `body`.
pub(super) async fn fetch(
    job: &Job,
    uri: &Uri,
    headers: &HeaderMap,
    deadline: Instant,
    body: &mut Vec<u8>,
) -> Result<Fetched, ScrapeError> {
    let failed = |error| match error {
        ClientError::BodyTooLarge { .. } => ScrapeError::BodySize { limit: job.body_limit },
        error => ScrapeError::Request { url: uri.to_string(), error },
    };
    let request = Get { url: uri, headers, deadline };
    let response = job.client.get(&request).await.map_err(failed)?;
    if response.status != StatusCode::OK {
        let status = response.status;
        response.discard().await;
        return Err(ScrapeError::Status(status));
    }
    let encoding = match response.headers.get(CONTENT_ENCODING) {
        None => Encoding::Identity,
        Some(value) => {
            let text = String::from_utf8_lossy(value.as_bytes());
            match Encoding::from_content_encoding(&text) {
                Some(
                    encoding @ (Encoding::Identity
                    | Encoding::Gzip
                    | Encoding::Deflate
                    | Encoding::Zstd),
                ) => encoding,
                _ => return Err(ScrapeError::ContentEncoding(text.into_owned())),
            }
        }
    };
    let content_type = response.headers.get(CONTENT_TYPE).cloned();
    let (share, fixed) = ENCODING_OVERHEAD;
    let limit = match encoding {
        Encoding::Identity => job.body_limit - 1,
        _ => job.body_limit + job.body_limit / share + fixed,
    };
    response.read(limit, body).await.map_err(failed)?;
    Ok(Fetched { encoding, content_type })
}

/// Appends the unpacked body to `out`.
pub(super) fn unpack(
    encoding: Encoding,
    body: &[u8],
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), ScrapeError> {
    decompress(encoding, body, limit - 1, out).map_err(|error| {
        if error.is_limit() {
            ScrapeError::BodySize { limit }
        } else {
            ScrapeError::Exposition(error)
        }
    })
}

/// The format a `Content-Type` names, or the job's fallback; in Prometheus' words.
pub(super) fn format(
    content_type: Option<&HeaderValue>,
    fallback: Option<Format>,
) -> Result<Format, ScrapeError> {
    let text = content_type.map(|value| String::from_utf8_lossy(value.as_bytes()));
    let text = text.as_deref().unwrap_or_default();
    let media_type = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media_type.as_str() {
        "text/plain" => return Ok(Format::Text),
        "application/openmetrics-text" => return Ok(Format::OpenMetrics),
        "application/vnd.google.protobuf" => return Ok(Format::Protobuf),
        _ => {}
    }
    fallback.ok_or_else(|| {
        ScrapeError::ContentType(if text.is_empty() {
            "non-compliant scrape target sending blank Content-Type and no \
             fallback_scrape_protocol specified for target"
                .to_owned()
        } else {
            format!(
                "received unsupported Content-Type {text:?} and no fallback_scrape_protocol \
                 specified for target"
            )
        })
    })
}
