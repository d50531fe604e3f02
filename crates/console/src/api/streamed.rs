//! Answers that are sent while later parts are still read, so that one of any size takes little
//! memory. A fault before the first piece has a status and an envelope like those of other answers; one
//! in the middle breaks the answer off, which the reader notices, and is told in the log.
//!
//! What is missing in the data because it was damaged stands in a header `Warning`, since such answers
//! have no place for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures_util::{StreamExt, stream};
use http::header::{CONTENT_TYPE, WARNING};
use http::{HeaderMap, HeaderValue};
use net::{ApiError, ErrorType};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::counted::QueryData;
use crate::data::Work;
use crate::execute::Executor;
use crate::running::{Asked, shortened};

/// Bytes that are sent on at once.
const SEND_BYTES: usize = 256 << 10;
/// Pieces of an answer that wait for a slow reader.
const QUEUED_PIECES: usize = 4;
/// Warnings that are told one by one; the rest is counted.
const MAX_WARNINGS: usize = 20;

/// What has to be said of samples that are kept as rollups only.
pub(crate) const COARSE: &str = "some samples are past their retention and kept as rollups only, the last \
                                one of each window stands for it";

/// How long an answer may take, its reader's slowness included: meanwhile it keeps a place among
/// the queries.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    /// As a whole.
    Until(Instant),
    /// Each time that the reader takes nothing.
    Stalled(Duration),
}

impl Patience {
    pub(crate) fn check(self, work: &Work) -> Result<(), ApiError> {
        if work.is_cancelled() {
            return Err(gone());
        }
        if Instant::now() < self.deadline() { Ok(()) } else { Err(self.over()) }
    }

    /// Until when the reader may wait to take the next piece.
    fn deadline(self) -> Instant {
        match self {
            Patience::Until(instant) => instant,
            Patience::Stalled(duration) => Instant::now() + duration,
        }
    }

    fn over(self) -> ApiError {
        let text = match self {
            Patience::Until(_) => {
                "the answer took longer than limits.query_timeout_ms; ask for less, read faster or \
                 raise it"
                    .to_owned()
            }
            Patience::Stalled(duration) => {
                format!("the reader took nothing for {} s, which is the limit", duration.as_secs())
            }
        };
        ApiError::new(ErrorType::Timeout, text)
    }
}

fn gone() -> ApiError {
    ApiError::new(ErrorType::Canceled, "the reader has gone")
}

/// A piece of an answer: first what is missing, then bytes.
enum Piece {
    Missing(Vec<String>),
    Bytes(Vec<u8>),
}

/// Hands pieces to the socket, and waits for it no longer than patience lasts.
pub(crate) struct Pieces {
    sender: mpsc::Sender<Result<Piece, ApiError>>,
    runtime: Handle,
    patience: Patience,
    bytes: Vec<u8>,
    /// Whether the answer has begun, so that nothing can be said in it any more.
    has_begun: Arc<AtomicBool>,
}

impl Pieces {
    /// Says what is missing, before anything else.
    pub(crate) fn begin(&self, missing: Vec<String>) -> Result<(), ApiError> {
        self.send(Piece::Missing(missing))
    }

    /// Appends what `write` writes, and sends what there is if it is enough.
    pub(crate) fn write(
        &mut self,
        work: &Work,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), ApiError> {
        self.patience.check(work)?;
        write(&mut self.bytes);
        if self.bytes.len() >= SEND_BYTES {
            let bytes = std::mem::take(&mut self.bytes);
            return self.send(Piece::Bytes(bytes));
        }
        Ok(())
    }

    /// Sends what is left.
    fn finish(&mut self) -> Result<(), ApiError> {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes.is_empty() { Ok(()) } else { self.send(Piece::Bytes(bytes)) }
    }

    fn send(&self, piece: Piece) -> Result<(), ApiError> {
        if matches!(piece, Piece::Bytes(_)) {
            self.has_begun.store(true, Ordering::Relaxed);
        }
        let sent = tokio::time::timeout_at(self.patience.deadline(), self.sender.send(Ok(piece)));
        match self.runtime.block_on(sent) {
            Ok(sent) => sent.map_err(|_| gone()),
            Err(_) => Err(self.patience.over()),
        }
    }
}

/// The answer that `write` writes, under the same admission as queries.
pub(crate) async fn answer(
    executor: Arc<Executor>,
    content_type: &'static str,
    patience: Patience,
    asked: Asked,
    write: impl FnOnce(&QueryData, &Work, &mut Pieces) -> Result<(), ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let (sender, mut pieces) = mpsc::channel::<Result<Piece, ApiError>>(QUEUED_PIECES);
    let has_begun = Arc::new(AtomicBool::new(false));
    let task = {
        let (sender, runtime) = (sender.clone(), Handle::current());
        let has_begun = Arc::clone(&has_begun);
        let mut pieces = Pieces { sender, runtime, patience, bytes: Vec::new(), has_begun };
        move |data: &QueryData, work: &Work| {
            write(data, work, &mut pieces)?;
            pieces.finish()
        }
    };
    let (text, client) = (shortened(&asked.text), asked.client.clone());
    tokio::spawn(async move {
        if let Err(error) = executor.blocking(asked, task).await {
            // Who stops reading knows that; what else cuts an answer off cannot be said in it.
            if has_begun.load(Ordering::Relaxed) && error.error_type != ErrorType::Canceled {
                let error = &error.message;
                tracing::warn!(asked = %text, %client, %error, "an answer was cut off");
            }
            // Nobody is there to hear it when the reader has gone.
            let _ = sender.send(Err(error)).await;
        }
    });
    let mut missing = Vec::new();
    // The answer begins with its first bytes: until then it may still become an error.
    let first = loop {
        match pieces.recv().await {
            Some(Ok(Piece::Missing(told))) => missing = told,
            Some(Ok(Piece::Bytes(bytes))) => break Some(bytes),
            Some(Err(error)) => return Err(error),
            None => break None,
        }
    };
    let first = stream::iter(first.map(|bytes| Ok(Bytes::from(bytes))));
    let rest = stream::unfold(pieces, async |mut pieces| {
        let piece = match pieces.recv().await? {
            Ok(Piece::Bytes(bytes)) => Ok(Bytes::from(bytes)),
            Ok(Piece::Missing(_)) => Ok(Bytes::new()),
            Err(error) => Err(error),
        };
        Some((piece, pieces))
    });
    let mut answer = Response::new(Body::from_stream(first.chain(rest)));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    warn(answer.headers_mut(), &missing);
    Ok(answer)
}

/// What is missing, once each.
pub(crate) fn warn(headers: &mut HeaderMap, missing: &[String]) {
    let told: BTreeSet<&String> = missing.iter().collect();
    let more = told.len().saturating_sub(MAX_WARNINGS);
    let more = (more > 0).then(|| format!("and {more} more"));
    let texts = told.into_iter().take(MAX_WARNINGS).chain(more.as_ref());
    for text in texts {
        let plain =
            |c: char| if c == '"' || c == '\\' || !(' '..='~').contains(&c) { ' ' } else { c };
        let text: String = text.chars().map(plain).collect();
        // 199: a warning of no other kind.
        let value = HeaderValue::try_from(format!("199 watchfire \"{text}\""));
        headers.append(WARNING, value.expect("printable ASCII"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_told_once_and_are_values_of_headers() {
        let mut headers = HeaderMap::new();
        let mut missing = vec!["a \"b\"\n\u{e9}".to_owned(); 3];
        missing.extend((0..30).map(|n| format!("block {n}")));
        warn(&mut headers, &missing);
        let told: Vec<_> = headers.get_all(WARNING).iter().collect();
        assert_eq!(told.len(), MAX_WARNINGS + 1);
        assert_eq!(told[0], "199 watchfire \"a  b   \"");
    }
}
