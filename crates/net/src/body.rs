//! Reads request bodies under a byte limit and unpacks them.

use std::error::Error;
use std::sync::atomic::Ordering::Relaxed;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use wire::WireError;
use wire::decompress::{Encoding, decompress};

use crate::body_budget::{OverBudget, reserve_while};
use crate::metrics::Refusal;
use crate::timed_body::BodyTimeout;
use crate::{ApiError, ErrorType, NetMetrics};

/// Never allocate more than this because of a `Content-Length`.
const FIRST_STEP_BYTES: usize = 64 << 10;

/// Unpacked bodies are rarely larger than packed ones by more than this.
const USUAL_RATIO: usize = 16;

/// What a protocol allows its bodies.
#[derive(Debug, Clone, Copy)]
pub struct BodyRules {
    /// Most bytes before and after decompression (`limits.max_body_bytes`).
    pub max_bytes: usize,
    /// The encodings the protocol knows.
    pub encodings: &'static [Encoding],
    /// The encoding when the request names none.
    pub default_encoding: Encoding,
}

impl BodyRules {
    /// Every encoding; none named means none used.
    pub fn any_encoding(max_bytes: usize) -> Self {
        const ALL: &[Encoding] = &[
            Encoding::Identity,
            Encoding::Gzip,
            Encoding::Deflate,
            Encoding::Zstd,
            Encoding::SnappyBlock,
            Encoding::SnappyFramed,
        ];
        BodyRules { max_bytes, encodings: ALL, default_encoding: Encoding::Identity }
    }

    /// Snappy blocks only, also where the header is missing: remote write allows nothing else.
    pub fn remote_write(max_bytes: usize) -> Self {
        let encodings = &[Encoding::SnappyBlock];
        BodyRules { max_bytes, encodings, default_encoding: Encoding::SnappyBlock }
    }
}

/// Why a body was refused. Becomes the fitting response.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// 413, more bytes on the wire than allowed.
    #[error(
        "request body exceeds the limit of {0} bytes; send smaller batches or raise \
         `limits.max_body_bytes`"
    )]
    TooLarge(usize),
    /// 413 for a size, 400 for damage found while unpacking.
    #[error(transparent)]
    Unpack(#[from] WireError),
    /// 415.
    #[error("Content-Encoding {found:?} is not supported here; use {supported}")]
    UnsupportedEncoding {
        /// What the request names.
        found: String,
        /// What it could name.
        supported: String,
    },
    /// 408.
    #[error("{0}; send faster or in smaller batches")]
    Timeout(String),
    /// 400, though nobody is there to read it.
    #[error("the connection broke while the request body was read: {0}")]
    Broken(String),
    /// 503, all bodies together are too large.
    #[error("{0}")]
    OverBudget(String),
}

impl BodyError {
    /// The response's status.
    pub fn status(&self) -> StatusCode {
        match self {
            BodyError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::Unpack(error) if error.is_limit() => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::Unpack(_) | BodyError::Broken(_) => StatusCode::BAD_REQUEST,
            BodyError::UnsupportedEncoding { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            BodyError::Timeout(_) => StatusCode::REQUEST_TIMEOUT,
            BodyError::OverBudget(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Whether bytes of the body may still come, so that the connection cannot be used again.
    pub fn leaves_bytes(&self) -> bool {
        matches!(
            self,
            BodyError::TooLarge(_) | BodyError::Timeout(_) | BodyError::UnsupportedEncoding { .. }
        )
    }

    /// What it is counted as; `None` for what was counted where it was noticed.
    fn reason(&self) -> Option<Refusal> {
        Some(match self {
            BodyError::TooLarge(_) => Refusal::TooLarge,
            BodyError::Unpack(error) if error.is_limit() => Refusal::TooLarge,
            BodyError::Unpack(_) => Refusal::Corrupt,
            BodyError::UnsupportedEncoding { .. } => Refusal::UnsupportedEncoding,
            BodyError::Timeout(_) => Refusal::Timeout,
            BodyError::Broken(_) => Refusal::Broken,
            BodyError::OverBudget(_) => return None,
        })
    }
}

impl IntoResponse for BodyError {
    fn into_response(self) -> Response {
        let status = self.status();
        // What is left of the body would have to be read before the next request; do not.
        let unread = self.leaves_bytes();
        let error = ApiError::new(ErrorType::BadData, self.to_string()).with_status(status);
        let mut response = error.into_response();
        if unread {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Reads the body of a request with `headers` and unpacks it.
///
/// A body declared larger than the limit is refused unread; memory grows with what really
/// arrives.
///
/// # Errors
/// See [`BodyError`]; each is counted by its reason.
pub async fn read_body(
    headers: &HeaderMap,
    body: Body,
    rules: BodyRules,
    metrics: &NetMetrics,
) -> Result<Vec<u8>, BodyError> {
    let result = read(headers, body, rules).await;
    match &result {
        Ok(bytes) => {
            metrics.decompressed_bytes.fetch_add(bytes.len() as u64, Relaxed);
        }
        Err(error) => {
            if let Some(reason) = error.reason() {
                metrics.count_refusal(reason);
            }
        }
    }
    result
}

async fn read(headers: &HeaderMap, body: Body, rules: BodyRules) -> Result<Vec<u8>, BodyError> {
    let encoding = content_encoding(headers, rules)?;
    let packed = collect(body, rules.max_bytes).await?;
    if encoding == Encoding::Identity {
        return Ok(packed);
    }
    unpack_body(encoding, &packed, rules.max_bytes)
}

/// Unpacks what a request carried apart from its `Content-Encoding`, under the same budget as a body.
/// `max_bytes` is what it may have unpacked.
///
/// # Errors
/// [`BodyError::Unpack`] and [`BodyError::OverBudget`].
///
/// Inline rather than on a blocking thread: 32 MiB unpack in some 50 ms, typical bodies in well
/// below one.
///
/// The budget is asked for a usual size first and for the largest only where that is not enough.
pub fn unpack_body(
    encoding: Encoding,
    packed: &[u8],
    max_bytes: usize,
) -> Result<Vec<u8>, BodyError> {
    let usual = packed.len().saturating_mul(USUAL_RATIO).saturating_add(FIRST_STEP_BYTES);
    let attempt = |limit: usize| {
        let mut unpacked = Vec::new();
        let result = reserve_while(limit, || {
            let result = decompress(encoding, packed, limit, &mut unpacked);
            (unpacked.len(), result)
        });
        result.map(|result| result.map(|()| unpacked))
    };
    let over = |error: OverBudget| BodyError::OverBudget(error.to_string());
    match attempt(usual.min(max_bytes)).map_err(over)? {
        Err(error) if error.is_limit() && usual < max_bytes => {
            Ok(attempt(max_bytes).map_err(over)??)
        }
        result => Ok(result?),
    }
}

fn content_encoding(headers: &HeaderMap, rules: BodyRules) -> Result<Encoding, BodyError> {
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    let Some(value) = values.next() else { return Ok(rules.default_encoding) };
    let known = value.to_str().ok().and_then(Encoding::from_content_encoding);
    match known {
        Some(encoding) if rules.encodings.contains(&encoding) && values.next().is_none() => {
            Ok(encoding)
        }
        _ => {
            let supported: Vec<_> = rules.encodings.iter().map(|e| e.as_str()).collect();
            Err(BodyError::UnsupportedEncoding {
                found: String::from_utf8_lossy(value.as_bytes()).chars().take(64).collect(),
                supported: supported.join(", "),
            })
        }
    }
}

async fn collect(mut body: Body, max_bytes: usize) -> Result<Vec<u8>, BodyError> {
    let declared = body.size_hint().lower();
    if declared > max_bytes as u64 {
        return Err(BodyError::TooLarge(max_bytes));
    }
    let mut bytes = Vec::with_capacity((declared as usize).min(FIRST_STEP_BYTES));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| read_error(&error))?;
        if let Ok(data) = frame.into_data() {
            if data.len() > max_bytes - bytes.len() {
                return Err(BodyError::TooLarge(max_bytes));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

fn read_error(error: &axum::Error) -> BodyError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(fault) = cause {
        if let Some(timeout) = fault.downcast_ref::<BodyTimeout>() {
            return BodyError::Timeout(timeout.to_string());
        }
        if let Some(over) = fault.downcast_ref::<OverBudget>() {
            return BodyError::OverBudget(over.to_string());
        }
        cause = fault.source();
    }
    BodyError::Broken(error.to_string())
}
