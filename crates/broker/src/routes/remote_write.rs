//! Prometheus remote write, 1.0 and 2.0 by `Content-Type`.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use net::{ApiError, BodyRules, ErrorType};
use wire::{remote_write, remote_write_2};

use super::intake::{self, Refusal};
use crate::Broker;
use crate::ingest::IngestOutcome;

const SAMPLES_WRITTEN: HeaderName =
    HeaderName::from_static("x-prometheus-remote-write-samples-written");
const HISTOGRAMS_WRITTEN: HeaderName =
    HeaderName::from_static("x-prometheus-remote-write-histograms-written");
const EXEMPLARS_WRITTEN: HeaderName =
    HeaderName::from_static("x-prometheus-remote-write-exemplars-written");

/// What a request consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    /// `prometheus.WriteRequest`.
    One,
    /// `io.prometheus.write.v2.Request`.
    Two,
}

/// What of a request of 2.0 was stored, for the headers that each answer to one has.
#[derive(Debug, Clone, Copy, Default)]
struct Written {
    samples: u64,
    histograms: u64,
    exemplars: u64,
}

/// 204 when everything is durable; 400 when some samples cannot be stored whatever the sender
/// does, after storing the others; 429 or 5xx when nothing was stored and sending again is right.
pub(super) async fn write(State(broker): State<Broker>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let message = match message_of(&parts.headers) {
        Ok(message) => message,
        Err(error) => return error.into_response(),
    };
    let rules = BodyRules::remote_write;
    if message == Message::One {
        let taken = intake::take(&broker, &parts, body, rules, |_, limits, body, batch| {
            remote_write::decode(body, limits, batch)
        });
        return match taken.await {
            Ok((summary, outcome)) => {
                broker.count_exemplars_left_out(summary.exemplars_left_out);
                intake::answer(&outcome)
            }
            Err(refusal) => refusal.into_response(),
        };
    }
    let taken = intake::take(&broker, &parts, body, rules, |broker, limits, body, batch| {
        remote_write_2::decode(&body, broker.remote_write_options(), limits, batch)
    });
    let (written, mut response) = answer_to_two(&broker, taken.await);
    let headers = response.headers_mut();
    headers.insert(SAMPLES_WRITTEN, HeaderValue::from(written.samples));
    headers.insert(HISTOGRAMS_WRITTEN, HeaderValue::from(written.histograms));
    headers.insert(EXEMPLARS_WRITTEN, HeaderValue::from(written.exemplars));
    response
}

impl Broker {
    /// How requests of 2.0 become series.
    fn remote_write_options(&self) -> remote_write_2::Options {
        remote_write_2::Options { type_and_unit_labels: self.inner.config.type_and_unit_labels }
    }
}

fn answer_to_two(
    broker: &Broker,
    taken: Result<(remote_write_2::Summary, IngestOutcome), Refusal>,
) -> (Written, Response) {
    let (summary, mut outcome) = match taken {
        Ok(taken) => taken,
        Err(refusal) => return (Written::default(), refusal.into_response()),
    };
    broker.count_exemplars_left_out(summary.exemplars_left_out);
    // What the decoder refused is not in its counts; what repeats a sample is written already.
    let refused = outcome.refused_histograms();
    let written = Written {
        samples: (summary.floats as u64)
            .saturating_sub(outcome.refused_samples().saturating_sub(refused)),
        histograms: (summary.histograms as u64).saturating_sub(refused),
        exemplars: outcome.exemplars.stored + outcome.exemplars.repeated,
    };
    broker.count_refused(&summary.refusals);
    outcome.add_refusals(summary.refusals);
    outcome.reject_exemplars_alone();
    (written, intake::answer(&outcome))
}

/// Which message the body is: `proto=` names it, and without a name it is that of 1.0. Everything
/// else is 415, so that a sender that can falls back to another one.
fn message_of(headers: &HeaderMap) -> Result<Message, ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Message::One) };
    let value = value.to_str().unwrap_or("?");
    let mut parts = value.split(';').map(str::trim);
    let is_protobuf = parts.next() == Some("application/x-protobuf");
    match (is_protobuf, parts.find_map(|part| part.strip_prefix("proto="))) {
        (true, None | Some("prometheus.WriteRequest")) => Ok(Message::One),
        (true, Some("io.prometheus.write.v2.Request")) => Ok(Message::Two),
        _ => Err(ApiError::new(
            ErrorType::BadData,
            format!(
                "Content-Type {value:?} is not supported here; send application/x-protobuf with \
                 proto=io.prometheus.write.v2.Request (remote write 2.0) or \
                 proto=prometheus.WriteRequest (1.0)"
            ),
        )
        .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE)),
    }
}
