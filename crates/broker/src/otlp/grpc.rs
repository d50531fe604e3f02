//! OTLP over gRPC: a unary call for each signal, whose framing is written here by hand so that the body is read
//! under the same limits as every other.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>. A message is one byte
//! that says whether it is compressed, its length in four bytes, big endian, and its bytes.

use std::convert::Infallible;

use ::http::{HeaderMap, HeaderValue, Request, Response as HttpResponse, StatusCode, header};
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use net::{BodyRules, read_body, unpack_body};
use wire::WireError;
use wire::decompress::Encoding;

use super::Kind;
use super::status::{self, Code};
use crate::Broker;
use crate::routes::intake::Refusal;
use crate::routes::lines::Sender;

const PREFIX_LEN: usize = 5;

pub(super) async fn export_metrics(
    State(broker): State<Broker>,
    request: Request<Body>,
) -> Response {
    export(&broker, request, Kind::Metrics).await
}

pub(super) async fn export_logs(State(broker): State<Broker>, request: Request<Body>) -> Response {
    export(&broker, request, Kind::Logs).await
}

async fn export(broker: &Broker, request: Request<Body>, kind: Kind) -> Response {
    let (parts, body) = request.into_parts();
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    if !content_type.is_some_and(|value| value.starts_with("application/grpc")) {
        let text = match kind {
            Kind::Metrics => "this path is the gRPC call of OTLP; over HTTP send to /v1/metrics\n",
            Kind::Logs => "this path is the gRPC call of OTLP; over HTTP send to /v1/logs\n",
        };
        let mut response = HttpResponse::new(Body::from(text));
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    let sender = Sender::of(&parts);
    let max_bytes = broker.limits_of(sender.tenant).max_body_bytes;
    let rules =
        BodyRules { encodings: &[Encoding::Identity], ..BodyRules::any_encoding(max_bytes) };
    let taken = match read_body(&parts.headers, body, rules, broker.net_metrics()).await {
        Ok(body) => match message(&parts.headers, body, max_bytes) {
            Ok(message) => kind.take(broker, sender, message).await,
            Err(refusal) => Err(refusal),
        },
        Err(refused) => Err(Refusal::from(refused)),
    };
    match taken {
        Ok(taken) => success(&status::response_protobuf(&taken)),
        Err(refusal) => {
            let text = refusal.to_string();
            failure(status::code_of(&refusal), &text, refusal.retry_after_seconds())
        }
    }
}

/// The one message of a call, unpacked.
fn message(headers: &HeaderMap, mut body: Vec<u8>, max_bytes: usize) -> Result<Vec<u8>, Refusal> {
    let malformed = |reason| {
        Refusal::Malformed(WireError::Malformed { format: "gRPC message", offset: 0, reason })
    };
    let Some((prefix, rest)) = body.split_at_checked(PREFIX_LEN) else {
        return Err(malformed("the call has no message"));
    };
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if rest.len() != length {
        return Err(malformed("the message is not as long as its prefix says"));
    }
    if prefix[0] == 0 {
        body.drain(..PREFIX_LEN);
        return Ok(body);
    }
    let name = headers.get("grpc-encoding").and_then(|value| value.to_str().ok()).unwrap_or("");
    let encoding = Encoding::from_content_encoding(name)
        .filter(|encoding| *encoding != Encoding::Identity)
        .ok_or_else(|| malformed("grpc-encoding names no compression that is known here"))?;
    Ok(unpack_body(encoding, rest, max_bytes)?)
}

fn success(message: &[u8]) -> Response {
    let mut framed = Vec::with_capacity(PREFIX_LEN + message.len());
    framed.push(0);
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Frame::data(Bytes::from(framed)), Frame::trailers(trailers)];
    let body = StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)));
    answer(Body::new(body))
}

/// A refusal has no message, so its status stands among the headers.
fn failure(code: Code, text: &str, retry_after_seconds: Option<u64>) -> Response {
    let mut response = answer(Body::empty());
    let headers = response.headers_mut();
    headers.insert("grpc-status", HeaderValue::from(code as u16));
    if let Some(seconds) = retry_after_seconds {
        let details = STANDARD_NO_PAD.encode(status::error_with_retry(code, text, seconds));
        if let Ok(value) = HeaderValue::from_str(&details) {
            headers.insert("grpc-status-details-bin", value);
        }
    }
    let text = percent_encoded(text);
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert("grpc-message", value);
    }
    response
}

fn answer(body: Body) -> Response {
    let mut response = HttpResponse::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-accept-encoding", HeaderValue::from_static("identity,gzip,zstd"));
    response
}

/// As `grpc-message` wants it: printable ASCII stays, but for `%`.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
