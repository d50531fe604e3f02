//! Answers of OTLP: `ExportMetricsServiceResponse`, `ExportLogsServiceResponse` and `google.rpc.Status`, in
//! protobuf and JSON.

use ::http::StatusCode;
use serde_json::json;

use super::{Kind, Taken};
use crate::commit::CommitError;
use crate::routes::intake::Refusal;

/// Codes of gRPC that are used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    InvalidArgument = 3,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// What the sender should make of a refusal. Only `Unavailable` is sent again.
pub(super) fn code_of(refusal: &Refusal) -> Code {
    code_of_status(status_of(refusal))
}

pub(super) fn code_of_status(status: StatusCode) -> Code {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => Code::ResourceExhausted,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::Unimplemented,
        // So OTLP says that a server is asked too much.
        StatusCode::TOO_MANY_REQUESTS => Code::Unavailable,
        status if status.is_client_error() => Code::InvalidArgument,
        _ => Code::Unavailable,
    }
}

/// The status of HTTP for a refusal: of 5xx, only 502 to 504 are sent again.
pub(super) fn status_of(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Commit(CommitError::Full) => StatusCode::SERVICE_UNAVAILABLE,
        refusal => refusal.status(),
    }
}

/// `{ partial_success = 1 { int64 rejected_data_points = 1; string error_message = 2 } }`, or
/// `rejected_log_records`.
pub(super) fn response_protobuf(taken: &Taken) -> Vec<u8> {
    let Some(complaint) = &taken.complaint else { return Vec::new() };
    let mut partial = Vec::new();
    if taken.rejected > 0 {
        partial.push(1 << 3);
        push_varint(&mut partial, taken.rejected);
    }
    push_field(&mut partial, 2, complaint.as_bytes());
    let mut response = Vec::new();
    push_field(&mut response, 1, &partial);
    response
}

pub(super) fn response_json(taken: &Taken, kind: Kind) -> Vec<u8> {
    let rejected = match kind {
        Kind::Metrics => "rejectedDataPoints",
        Kind::Logs => "rejectedLogRecords",
    };
    let response = match &taken.complaint {
        None => json!({}),
        Some(complaint) => json!({"partialSuccess": {
            rejected: taken.rejected.to_string(),
            "errorMessage": complaint,
        }}),
    };
    response.to_string().into_bytes()
}

/// `{ int32 code = 1; string message = 2 }`
pub(super) fn error_protobuf(code: Code, message: &str) -> Vec<u8> {
    let mut status = vec![1 << 3, code as u8];
    push_field(&mut status, 2, message.as_bytes());
    status
}

/// A status with a `google.rpc.RetryInfo`, which tells when to come again:
/// `{ …; repeated google.protobuf.Any details = 3 }`, `Any { string type_url = 1; bytes value = 2 }`,
/// `RetryInfo { Duration retry_delay = 1 }`, `Duration { int64 seconds = 1 }`.
pub(super) fn error_with_retry(code: Code, message: &str, seconds: u64) -> Vec<u8> {
    let mut delay = vec![1 << 3];
    push_varint(&mut delay, seconds);
    let (mut info, mut detail) = (Vec::new(), Vec::new());
    push_field(&mut info, 1, &delay);
    push_field(&mut detail, 1, b"type.googleapis.com/google.rpc.RetryInfo");
    push_field(&mut detail, 2, &info);
    let mut status = error_protobuf(code, message);
    push_field(&mut status, 3, &detail);
    status
}

pub(super) fn error_json(code: Code, message: &str) -> Vec<u8> {
    json!({"code": code as u8, "message": message}).to_string().into_bytes()
}

fn push_field(out: &mut Vec<u8>, number: u8, content: &[u8]) {
    out.push(number << 3 | 2);
    push_varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

fn push_varint(out: &mut Vec<u8>, number: u64) {
    codec::varint::put_u64(out, number);
}

#[cfg(test)]
mod tests {
    use net::BodyError;

    use super::*;

    #[test]
    fn what_may_come_again_is_told_so() {
        let again = (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable);
        let slower = (StatusCode::TOO_MANY_REQUESTS, Code::Unavailable);
        let tenant = model::TenantName::DEFAULT;
        let over_rate =
            CommitError::OverRate { tenant, samples: 1, rate: 1, burst: 0, retry_after_ms: 5 };
        for (refusal, wanted) in [
            (BodyError::Timeout("slow".to_owned()).into(), again),
            (BodyError::Broken("reset".to_owned()).into(), again),
            (Refusal::UnderWay, again),
            (CommitError::Full.into(), again),
            (over_rate.into(), slower),
            (CommitError::TooManyTenants { tenant, limit: 1 }.into(), slower),
            (Refusal::Later("room".to_owned()), slower),
            (
                BodyError::TooLarge(1).into(),
                (StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted),
            ),
        ] {
            assert_eq!((status_of(&refusal), code_of(&refusal)), wanted, "{refusal}");
        }
    }
}
