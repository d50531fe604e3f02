//! The way of lines that come to whoever wants them: a WebSocket, or a response that does not end, with one message a
//! line.
//!
//! A reader that does not read holds up who tells, and nothing else: lines wait in the feed, which is bounded, drops
//! and says so.

use std::future::Future;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::{IntoResponse, Response};
use futures_util::{SinkExt, StreamExt, stream};
use http::header;
use model::TenantName;
use net::auth::Standing;
use tokio::sync::mpsc;

use super::encode::write_text;
use super::refusal::Refusal;
use crate::live::{CLOSE_TIMEOUT, SEND_TIMEOUT, lapse};
use crate::params::Params;

/// How long one message may wait for a reader that takes none.
const STALL: Duration = Duration::from_secs(60);

/// One thing that is said to a reader.
#[derive(Debug)]
pub(crate) enum Frame {
    /// A message, JSON in one line.
    Text(String),
    /// That we are there.
    Ping,
    /// Why there is no more.
    End(String),
}

/// Where frames go.
pub(crate) struct Frames(mpsc::Sender<Frame>);

impl Frames {
    /// Says it; `None` if the reader takes no more.
    pub(crate) async fn send(&self, frame: Frame) -> Option<()> {
        tokio::time::timeout(STALL, self.0.send(frame)).await.ok()?.ok()
    }

    /// Whether nobody reads any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// How a reader wants to be told.
pub(crate) enum Way {
    WebSocket(WebSocketUpgrade),
    Lines,
}

impl Way {
    pub(crate) fn of(
        params: &Params,
        request: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    ) -> Result<Way, Refusal> {
        match params.get("format") {
            Some("ndjson") => Ok(Way::Lines),
            Some(other) => {
                let quoted = model::quote::quote(other);
                let text = format!("{quoted} is no format of a tail; use ndjson, or a WebSocket");
                Err(Refusal::bad(text))
            }
            None => request.map(Way::WebSocket).map_err(|error| Refusal {
                status: error.status(),
                text: format!("tail is a WebSocket, or lines with format=ndjson: {error}"),
            }),
        }
    }

    /// Tells what `tell` says until the reader goes away, or may not read any more. `tell` ends when a frame is not
    /// taken.
    pub(crate) fn answer<F>(
        self,
        (standing, tenant): (Standing, TenantName),
        tell: impl FnOnce(Frames) -> F + Send + 'static,
    ) -> Response
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, frames) = mpsc::channel(1);
        match self {
            Way::WebSocket(request) => request.on_upgrade(move |socket| async move {
                let telling = async {
                    tell(Frames(sender)).await;
                    // What was said last is still on its way.
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    () = telling => {}
                    () = by_websocket(socket, frames, &standing, tenant) => {}
                }
            }),
            Way::Lines => {
                let end = sender.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = tell(Frames(sender)) => {}
                        reason = lapse(&standing, tenant) => {
                            let _ = end.send(Frame::End(reason.to_owned())).await;
                        }
                        () = end.closed() => {}
                    }
                });
                as_lines(frames)
            }
        }
    }
}

async fn by_websocket(
    socket: WebSocket,
    mut frames: mpsc::Receiver<Frame>,
    standing: &Standing,
    tenant: TenantName,
) {
    let (mut sink, mut stream) = socket.split();
    let sending = async {
        while let Some(frame) = frames.recv().await {
            let message = match frame {
                Frame::Text(text) => Message::Text(Utf8Bytes::from(text)),
                Frame::Ping => Message::Ping(Bytes::new()),
                Frame::End(reason) => return Some(reason),
            };
            tokio::time::timeout(SEND_TIMEOUT, sink.send(message)).await.ok()?.ok()?;
        }
        None
    };
    // What a client says does not matter; that it is there does.
    let listening = async { while let Some(Ok(_)) = stream.next().await {} };
    let reason = tokio::select! {
        reason = lapse(standing, tenant) => Some((close_code::POLICY, reason.to_owned())),
        () = listening => None,
        reason = sending => reason.map(|reason| (close_code::ERROR, reason)),
    };
    // Who tells has nobody to tell any more.
    drop(frames);
    if let Some((code, mut reason)) = reason {
        // A close frame has room for 123 bytes.
        reason.truncate(reason.floor_char_boundary(120));
        let close = sink.send(Message::Close(Some(CloseFrame { code, reason: reason.into() })));
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, close).await;
    }
}

fn as_lines(frames: mpsc::Receiver<Frame>) -> Response {
    let lines = stream::unfold(frames, |mut frames| async move {
        let mut line = match frames.recv().await? {
            Frame::Text(text) => text.into_bytes(),
            Frame::Ping => Vec::new(),
            Frame::End(reason) => ended(&reason),
        };
        line.push(b'\n');
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(line)), frames))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

/// What the line of an end begins with.
const END: &str = r#"{"error":"#;

fn ended(reason: &str) -> Vec<u8> {
    let mut line = END.as_bytes().to_vec();
    write_text(&mut line, reason.as_bytes());
    line.push(b'}');
    line
}

/// What a line of [`Way::Lines`] said.
pub(crate) fn frame_of(line: String) -> Frame {
    if line.is_empty() {
        return Frame::Ping;
    }
    if line.starts_with(END)
        && let Ok(serde_json::Value::Object(mut end)) = serde_json::from_str(&line)
        && let Some(serde_json::Value::String(reason)) = end.remove("error")
    {
        return Frame::End(reason);
    }
    Frame::Text(line)
}

/// A message that has no lines and says what may lack.
pub(crate) fn note(words: &str) -> Frame {
    let mut body = br#"{"streams":[],"warnings":["#.to_vec();
    write_text(&mut body, words.as_bytes());
    body.extend_from_slice(b"]}");
    Frame::Text(String::from_utf8(body).expect("texts are written as UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_as_lines_is_read_as_frames() {
        let (sender, frames) = mpsc::channel(4);
        for frame in [
            Frame::Text(r#"{"streams":[]}"#.to_owned()),
            Frame::Ping,
            note("a \"note\""),
            Frame::End("gone:\nall".to_owned()),
        ] {
            sender.send(frame).await.expect("there is room");
        }
        drop(sender);
        let body = axum::body::to_bytes(as_lines(frames).into_body(), 1 << 10).await;
        let text = String::from_utf8(body.expect("whole").to_vec()).expect("UTF-8");
        let read: Vec<String> =
            text.lines().map(|line| format!("{:?}", frame_of(line.to_owned()))).collect();
        let wanted = [
            r#"Text("{\"streams\":[]}")"#,
            "Ping",
            r#"Text("{\"streams\":[],\"warnings\":[\"a \\\"note\\\"\"]}")"#,
            r#"End("gone:\nall")"#,
        ];
        assert_eq!(read, wanted);
    }
}
