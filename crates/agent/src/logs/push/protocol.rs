//! What requests of each protocol look like, and what answers mean.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use model::LogBatch;
use model::go_time::GoTime;
use settings::logs::{LogSink, SinkProtocol, SlsTarget};
use wire::logs::{loki_push, otlp_logs_encode, sls_log_group};

use super::parts::Room;
use super::sls;

/// Lines of one request to SLS.
const SLS_LINES: usize = 4_096;
/// As much of an answer is told.
const SHOWN_ANSWER_CHARS: usize = 200;
/// Errors of SLS with a status of 4xx that say nothing about the lines: the clock, quotas.
const SLS_PASSES: &[&str] = &[
    "RequestTimeTooSkewed",
    "RequestTimeExpired",
    "WriteQuotaExceed",
    "ShardWriteQuotaExceed",
    "ProjectQuotaExceed",
];

/// A system, and how it is spoken to.
pub(super) struct Protocol {
    url: Uri,
    headers: HeaderMap,
    kind: Kind,
}

enum Kind {
    Loki { tenant: Option<String> },
    Otlp { tenant: Option<String> },
    Sls { target: Box<SlsTarget>, source: String },
}

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// So many lines are refused, and why; all others are taken.
    Taken { refused: u64, reason: String },
    /// It may be taken later, after a pause that the server asks for.
    Passes { reason: String, pause: Option<Duration> },
    /// Two smaller ones may be taken.
    TooLarge(String),
    /// It never will be taken.
    Stays(String),
}

impl Protocol {
    /// Reads how a sink is spoken to. `host` is what this host is called.
    ///
    /// # Errors
    /// What can never work.
    pub(super) fn of(sink: &LogSink, host: &str) -> Result<Protocol, String> {
        let url = Uri::try_from(sink.url.reveal()).map_err(|error| error.to_string())?;
        let mut headers = HeaderMap::new();
        for (name, value) in &sink.headers {
            let name = HeaderName::try_from(name).map_err(|error| error.to_string())?;
            let value = HeaderValue::try_from(value).map_err(|error| error.to_string())?;
            headers.insert(name, value);
        }
        let tenant = sink.tenant.clone();
        let kind = match &sink.protocol {
            SinkProtocol::Loki => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
                Kind::Loki { tenant }
            }
            SinkProtocol::Otlp => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                Kind::Otlp { tenant }
            }
            SinkProtocol::Sls(target) => {
                if url.authority().is_none_or(|asked| asked.as_str() != target.host) {
                    let host = HeaderValue::try_from(&target.host);
                    headers.insert(HOST, host.map_err(|error| error.to_string())?);
                }
                let source = if target.source.is_empty() { host } else { &target.source };
                Kind::Sls { target: target.clone(), source: source.to_owned() }
            }
        };
        Ok(Protocol { url, headers, kind })
    }

    pub(super) fn url(&self) -> &Uri {
        &self.url
    }

    /// What a request may carry.
    pub(super) fn room(&self, batch_bytes: u64) -> Room {
        let bytes = usize::try_from(batch_bytes).unwrap_or(usize::MAX);
        match self.kind {
            Kind::Loki { .. } | Kind::Otlp { .. } => {
                Room { bytes, lines: usize::MAX, labels_count: false }
            }
            Kind::Sls { .. } => Room { bytes, lines: SLS_LINES, labels_count: true },
        }
    }

    /// Headers and body of a request with these lines.
    ///
    /// # Errors
    /// Why there is none: `Passes` or `Stays`.
    pub(super) fn request(
        &self,
        part: &LogBatch,
        tenant: Option<&str>,
    ) -> Result<(HeaderMap, Bytes), Verdict> {
        let (mut headers, mut raw) = (self.headers.clone(), Vec::new());
        let body = match &self.kind {
            Kind::Loki { .. } => loki_push::body(part),
            Kind::Otlp { .. } => {
                otlp_logs_encode::encode(part, &mut raw);
                gzip(&raw)
            }
            Kind::Sls { target, source } => {
                sls_log_group::encode(part, &target.topic, source, &mut raw);
                let body = lz4_flex::block::compress(&raw);
                let passes = |reason| Verdict::Passes { reason, pause: None };
                let credentials = sls::Credentials::of(target).map_err(passes)?;
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let path = self.url.path();
                let signed = sls::signed(&credentials, path, &body, raw.len(), now);
                headers.extend(signed.map_err(passes)?);
                body
            }
        };
        if let Kind::Loki { tenant: own } | Kind::Otlp { tenant: own } = &self.kind
            && let Some(tenant) = tenant.or(own.as_deref())
        {
            let value = HeaderValue::try_from(tenant)
                .map_err(|_| Verdict::Stays(format!("{tenant:?} cannot be sent as a tenant")))?;
            headers.insert("x-scope-orgid", value);
        }
        Ok((headers, body.into()))
    }

    /// Reads an answer.
    pub(super) fn judge(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Verdict {
        if status.is_success() {
            let rejected = match self.kind {
                Kind::Otlp { .. } => otlp_logs_encode::rejected(body),
                Kind::Loki { .. } | Kind::Sls { .. } => None,
            };
            let (refused, reason) = rejected.unwrap_or_default();
            return Verdict::Taken { refused, reason: format!("the server left out: {reason}") };
        }
        let text = String::from_utf8_lossy(body);
        let shown: String = text.trim().chars().take(SHOWN_ANSWER_CHARS).collect();
        let reason = format!("the server answered {status}: {shown}");
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            return Verdict::TooLarge(reason);
        }
        // What says nothing about the lines: who asks, where, how fast. Those lines wait.
        let is_of_sender = matches!(status.as_u16(), 401 | 403 | 404 | 407 | 408 | 425 | 429)
            || matches!(self.kind, Kind::Sls { .. })
                && SLS_PASSES.iter().any(|code| text.contains(code));
        match status.is_client_error() && !is_of_sender {
            true => Verdict::Stays(reason),
            false => Verdict::Passes { reason, pause: retry_after(headers) },
        }
    }
}

/// The pause that a server asks for: seconds, or until when.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = GoTime::parse(sls::HTTP_DATE, text)?;
    let until = Duration::from_millis(u64::try_from(until.unix_ms()).ok()?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(until.saturating_sub(now))
}

fn gzip(raw: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::with_capacity(raw.len() / 8), Compression::fast());
    packed.write_all(raw).expect("memory takes everything");
    packed.finish().expect("memory takes everything")
}
