//! Lines as they come at a console in a process of its own: its broker computes the messages, and they are passed on.
//!
//! Each reader has a connection of its own to the broker. So one that is slow holds up nobody else: its messages
//! wait at the broker, where the feed is bounded, drops and says so. When the broker is lost the next one goes on
//! from when the last message came, and the reader is told.

use std::collections::VecDeque;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use model::TenantName;
use net::auth::{Principal, Standing};
use net::rpc::{PageRequest, PageResponse};
use promql::SourceError;
use tonic::Streaming;

use super::fault::{Fault, garbled};
use super::logs::{as_query, only_cluster};
use super::{Brokers, Cluster};
use crate::live::{PING_INTERVAL, named_in};
use crate::loki::{Frame, Frames, Refusal, Way, frame_of, note};
use crate::params::Params;

/// Between two rounds of looking for a broker that goes on.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest message.
const MAX_FRAME_BYTES: usize = 64 << 20;
/// Most of a refusal that is passed on.
const MAX_REFUSAL_BYTES: usize = 64 << 10;

pub(super) async fn tail(
    State(brokers): State<Brokers>,
    principal: Principal,
    standing: Standing,
    uri: Uri,
    headers: HeaderMap,
    request: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    params: Params,
) -> Result<Response, Refusal> {
    only_cluster(&brokers)?;
    let way = Way::of(&params, request)?;
    let tenant = named_in(&uri, principal)?.tenant;
    let query = as_query(&headers, &params, &["format", "tenant"]);
    let tail = Tail { brokers, tenant, path: uri.path().to_owned(), query };
    // A question that is refused is so before anything is upgraded.
    let (broker, stream) = match tail.open(None).await {
        Ok(opened) => opened,
        Err(Unopened::Refused(refusal)) => return Err(refusal),
        Err(Unopened::Away(error)) => return Err(crate::respond::source_error(error).into()),
    };
    Ok(way.answer((standing, tenant), move |frames| tail.tell_all(broker, stream, frames)))
}

struct Tail {
    brokers: Brokers,
    tenant: TenantName,
    /// Where: by its path an answer has the form it had before version 1, or that of now.
    path: String,
    /// What is asked, without the form of the answer.
    query: String,
}

/// What of one broker's answer was not read yet.
struct Lines {
    stream: Streaming<PageResponse>,
    read: VecDeque<u8>,
}

enum Unopened {
    /// Any broker would say the same.
    Refused(Refusal),
    Away(SourceError),
}

impl Tail {
    fn cluster(&self) -> &Cluster {
        &self.brokers.inner.clusters[0]
    }

    /// Asks the first broker that answers. `since_ns`: from when on lines are wanted, if that is not what was asked.
    async fn open(&self, since_ns: Option<i64>) -> Result<(usize, Lines), Unopened> {
        let mut query = self.query.clone();
        query.push_str("&format=ndjson");
        if let Some(since_ns) = since_ns {
            // Of two values the first counts.
            query.insert_str(0, &format!("start={since_ns}&"));
        }
        let asked = PageRequest {
            path_and_query: format!("{}?{query}", self.path),
            tenant: self.tenant.to_string(),
        };
        let link = &self.cluster().link;
        let mut why = None;
        for broker in link.in_turn() {
            let Some(client) = link.client_apart(broker) else { continue };
            match open_at(client, asked.clone()).await {
                Ok(Ok(lines)) => {
                    link.answered(broker);
                    return Ok((broker, lines));
                }
                Ok(Err(refusal)) => return Err(Unopened::Refused(refusal)),
                Err(Fault::Away(words)) => link.failed(broker, words),
                Err(Fault::Unable(words)) => why = Some(SourceError::Unavailable(words)),
                Err(Fault::Final(error)) => return Err(Unopened::Away(error)),
            }
        }
        let nobody = || match link.somebody_answers() {
            Err(error) => error,
            Ok(()) => SourceError::Unavailable("the broker does not answer".to_owned()),
        };
        Err(Unopened::Away(why.unwrap_or_else(nobody)))
    }
}

impl Tail {
    /// Passes messages on until the reader takes none.
    async fn tell_all(self, mut broker: usize, mut lines: Lines, frames: Frames) {
        let mut last_ns = now_ns();
        loop {
            let why = loop {
                // A broker that is there says so this often.
                let frame = match tokio::time::timeout(2 * PING_INTERVAL, lines.next()).await {
                    Ok(Ok(frame)) => frame,
                    Ok(Err(words)) => break words,
                    Err(_) => break format!("nothing came for {} s", 2 * PING_INTERVAL.as_secs()),
                };
                last_ns = now_ns();
                let is_end = matches!(frame, Frame::End(_));
                if frames.send(frame).await.is_none() || is_end {
                    return;
                }
            };
            self.cluster().link.failed(broker, why.clone());
            let lost = note(&format!(
                "the broker does not answer ({why}): lines are not shown until another one does"
            ));
            if frames.send(lost).await.is_none() {
                return;
            }
            (broker, lines) = loop {
                tokio::time::sleep(PAUSE).await;
                if frames.is_closed() {
                    return;
                }
                match self.open(Some(last_ns)).await {
                    Ok(opened) => break opened,
                    Err(Unopened::Refused(refusal)) => {
                        let _ = frames.send(Frame::End(refusal.text)).await;
                        return;
                    }
                    Err(Unopened::Away(_)) => {}
                }
            };
            let found = note(
                "a broker answers again: lines are shown from here on; those of the moment between are among \
                 them if they bear a time of it, and else are found by a query",
            );
            if frames.send(found).await.is_none() {
                return;
            }
        }
    }
}

impl Lines {
    /// The next message.
    async fn next(&mut self) -> Result<Frame, String> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.read.drain(..=end).collect();
                line.pop();
                let line = String::from_utf8(line);
                return line.map(frame_of).map_err(|_| "its message is no text".to_owned());
            }
            if self.read.len() > MAX_FRAME_BYTES {
                return Err(format!("its message has more than {MAX_FRAME_BYTES} bytes"));
            }
            match self.stream.message().await {
                Ok(Some(piece)) => self.read.extend(piece.body),
                Ok(None) => return Err("its answer ended".to_owned()),
                Err(status) => return Err(net::status_words(&status)),
            }
        }
    }
}

async fn open_at(
    client: super::link::Client,
    asked: PageRequest,
) -> Result<Result<Lines, Refusal>, Fault> {
    let mut client = client;
    let answer = client.page(asked).await.map_err(|status| Fault::of(&status))?;
    let mut stream = answer.into_inner();
    let first = stream.message().await.map_err(|status| Fault::of(&status))?;
    let first = first.ok_or_else(|| Fault::Away("the answer ended before it began".to_owned()))?;
    let status = u16::try_from(first.status).ok();
    let status = status.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or_else(|| garbled("an answer without a status"))?;
    let mut read = VecDeque::from(Vec::from(first.body));
    if status == StatusCode::OK {
        return Ok(Ok(Lines { stream, read }));
    }
    while let Some(piece) = stream.message().await.map_err(|status| Fault::of(&status))? {
        read.extend(piece.body);
        read.truncate(MAX_REFUSAL_BYTES);
    }
    let text = String::from_utf8_lossy(read.make_contiguous()).into_owned();
    Ok(Err(Refusal { status, text }))
}

/// Nanoseconds since the epoch, by the clock of this process: lines are asked for from then on.
fn now_ns() -> i64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    elapsed.map_or(0, |elapsed| i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX))
}
