//! OTLP over HTTP.

use ::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use net::{BodyRules, Dialect, ErrorType, read_body};

use super::status::{self, Code};
use super::{Kind, Taken};
use crate::Broker;
use crate::routes::intake::Refusal;
use crate::routes::lines::Sender;

/// When a sender may come again after 503.
const RETRY_AFTER_SECONDS: u16 = 5;

/// Refusals of login, in the encoding of the request.
pub(super) static DIALECT: Dialect = Dialect {
    token: |_| None,
    refusal: |headers, refused| {
        let code = match (refused.error_type, refused.status) {
            (ErrorType::Unauthorized, _) => Code::Unauthenticated,
            (ErrorType::Forbidden, _) => Code::PermissionDenied,
            (_, status) => status::code_of_status(status),
        };
        let encoding = encoding_of(headers).unwrap_or(Encoding::Json);
        error(encoding, refused.status, code, &refused.message)
    },
};

/// How bodies are written; the answer is written alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Protobuf,
    Json,
}

/// 200 when everything that can be stored is durable, with `partial_success` where something was
/// left out; 400, 413 and 415 for what must not be sent again; 429 and 503 for what should.
pub(super) async fn export_metrics(
    State(broker): State<Broker>,
    request: Request<Body>,
) -> Response {
    export(&broker, request, Kind::Metrics).await
}

/// As [`export_metrics`].
pub(super) async fn export_logs(State(broker): State<Broker>, request: Request<Body>) -> Response {
    export(&broker, request, Kind::Logs).await
}

async fn export(broker: &Broker, request: Request<Body>, kind: Kind) -> Response {
    let (parts, body) = request.into_parts();
    let encoding = match encoding_of(&parts.headers) {
        Ok(encoding) => encoding,
        Err(other) => {
            let message = format!(
                "Content-Type {other:?} is not supported here; send application/x-protobuf or \
                 application/json"
            );
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return error(Encoding::Json, status, Code::Unimplemented, &message);
        }
    };
    let sender = Sender::of(&parts);
    let rules = BodyRules::any_encoding(broker.limits_of(sender.tenant).max_body_bytes);
    let taken = match read_body(&parts.headers, body, rules, broker.net_metrics()).await {
        Ok(body) => store(broker, sender, kind, encoding, body).await,
        Err(refused) => Err(Refusal::from(refused)),
    };
    match taken {
        Ok(taken) => {
            let body = match encoding {
                Encoding::Protobuf => status::response_protobuf(&taken),
                Encoding::Json => status::response_json(&taken, kind),
            };
            (StatusCode::OK, [(header::CONTENT_TYPE, name(encoding))], body).into_response()
        }
        Err(refusal) => {
            let (status, code) = (status::status_of(&refusal), status::code_of(&refusal));
            let mut response = error(encoding, status, code, &refusal.to_string());
            if status == StatusCode::SERVICE_UNAVAILABLE {
                let seconds = HeaderValue::from(RETRY_AFTER_SECONDS);
                response.headers_mut().insert(header::RETRY_AFTER, seconds);
            }
            refusal.on_connection(response)
        }
    }
}

/// By the `Content-Type`; an error if that is another one.
fn encoding_of(headers: &HeaderMap) -> Result<Encoding, &str> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    match content_type.unwrap_or("").split(';').next().unwrap_or("").trim() {
        "application/x-protobuf" => Ok(Encoding::Protobuf),
        "application/json" => Ok(Encoding::Json),
        other => Err(other),
    }
}

async fn store(
    broker: &Broker,
    sender: Sender,
    kind: Kind,
    encoding: Encoding,
    body: Vec<u8>,
) -> Result<Taken, Refusal> {
    let body = match encoding {
        Encoding::Protobuf => body,
        Encoding::Json => {
            let translate = move || match kind {
                Kind::Metrics => wire::otlp::to_protobuf(&body),
                Kind::Logs => wire::otlp::logs_to_protobuf(&body),
            };
            broker.off_the_sockets(translate).await?
        }
    };
    kind.take(broker, sender, body).await
}

fn name(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Protobuf => "application/x-protobuf",
        Encoding::Json => "application/json",
    }
}

fn error(encoding: Encoding, status: StatusCode, code: Code, message: &str) -> Response {
    let body = match encoding {
        Encoding::Protobuf => status::error_protobuf(code, message),
        Encoding::Json => status::error_json(code, message),
    };
    let headers: [(HeaderName, &str); 1] = [(header::CONTENT_TYPE, name(encoding))];
    (status, headers, body).into_response()
}
