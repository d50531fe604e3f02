//! What `systemd-journal-upload` sends: entries of a journal, of which one request may bring all there are.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::request::Parts;
use http::{Method, Request, StatusCode, header};
use net::{Access, BodyError, BodyRules, Routes, read_body, release_body};
use wire::logs::journal_export::{self, whole_entries};

use super::intake::Refusal;
use super::lines::{self, Sender};
use crate::Broker;

/// Entries are stored when there are this many bytes of them.
const PIECE_BYTES: usize = 1 << 20;

pub(super) fn routes() -> Routes<Broker> {
    let mut routes = Routes::new();
    // The first is that of `systemd-journal-remote`.
    for path in ["/upload", "/insert/journald/upload"] {
        routes = routes.route(path, [Method::POST], Access::Write, upload);
    }
    routes
}

/// 202 when all entries are durable, but for those that are refused for good: the sender would stop for ever
/// at an entry that is too old, and could not do anything about it. They are counted, and named in the
/// answer.
async fn upload(State(broker): State<Broker>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    match take(&broker, &parts, body).await {
        Ok(complaint) => {
            // The text of `systemd-journal-remote`.
            let text = complaint.map_or("OK.\n".to_owned(), |complaint| format!("{complaint}\n"));
            let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
            (StatusCode::ACCEPTED, kind, text).into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// Yields what was left out and why.
async fn take(broker: &Broker, parts: &Parts, body: Body) -> Result<Option<String>, Refusal> {
    let sender = Sender::of(parts);
    let max_bytes = broker.limits_of(sender.tenant).max_body_bytes;
    let mut complaint = None;
    if parts.headers.contains_key(header::CONTENT_ENCODING) {
        let rules = BodyRules::any_encoding(max_bytes);
        let body = read_body(&parts.headers, body, rules, broker.net_metrics()).await?;
        store(broker, &sender, body, &mut complaint).await?;
        return Ok(complaint);
    }
    // As long as a journal is, so it is stored piece by piece, and nothing more is read meanwhile.
    let (mut pieces, mut begun) = (body.into_data_stream(), Vec::new());
    let mut looked_at = 0;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| BodyError::Broken(error.to_string()))?;
        begun.extend_from_slice(&piece);
        // Not again for each packet of an entry that is long.
        if begun.len() < PIECE_BYTES.max(2 * looked_at) {
            continue;
        }
        let whole = whole_entries(&begun);
        if whole == 0 {
            if begun.len() > max_bytes {
                return Err(BodyError::TooLarge(max_bytes).into());
            }
            looked_at = begun.len();
            continue;
        }
        looked_at = 0;
        let rest = begun.split_off(whole);
        store(broker, &sender, std::mem::replace(&mut begun, rest), &mut complaint).await?;
    }
    if !begun.is_empty() {
        store(broker, &sender, begun, &mut complaint).await?;
    }
    Ok(complaint)
}

async fn store(
    broker: &Broker,
    sender: &Sender,
    entries: Vec<u8>,
    complaint: &mut Option<String>,
) -> Result<(), Refusal> {
    let bytes = entries.len();
    let taken = lines::store(broker, sender.clone(), entries, journal_export::decode).await?;
    release_body(bytes);
    if let Some(refusal) = taken.refusal() {
        return Err(refusal);
    }
    if let Some((_, text)) = taken.complaint() {
        complaint.get_or_insert(text);
    }
    Ok(())
}
