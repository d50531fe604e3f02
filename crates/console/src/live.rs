//! `/api/v1/live`: samples and results pushed over a WebSocket.
//!
//! A reader that stops reading costs a bounded buffer: its subscription stops taking from the
//! feed, the feed drops and counts, and the count is sent as `missed` when reading goes on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::{StatusCode, Uri};
use model::TenantName;
use promql::QueryValue;
use promql::ast::ValueType;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::Console;
use crate::data::{LiveEvents, LiveFeed};
use crate::execute::Job;
use crate::json;
use crate::respond::parameter;
use net::ApiError;
use net::auth::{Principal, Scope, Standing};

/// Stands for a client in the list of running queries.
const LIVE_CLIENT: &str = "live";
/// Subscriptions one connection may hold.
const MAX_SUBSCRIPTIONS: usize = 64;
/// Longest message a client may send.
const MAX_MESSAGE_BYTES: usize = 64 << 10;
/// Frames that wait for a slow reader; further ones wait in their feeds, which drop and count.
const FRAMES_IN_FLIGHT: usize = 2;
/// Samples or series in one frame: some 30 KiB of samples.
const MAX_FRAME_ENTRIES: usize = 1_024;
/// Per connection and direction, instead of the library's 128 KiB: messages of clients are short
/// and each frame of ours is flushed when it is written.
const BUFFER_BYTES: usize = 8 << 10;
/// A connection is closed when one frame cannot be sent for this long.
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// Pings keep proxies from closing a quiet connection.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Who was known when they connected is asked for so often; the connection ends when they are not.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long the end of a connection may take to be told.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Series in the result of a live expression: no chart shows more, and a slow reader has some
/// results on their way.
const MAX_RESULT_SERIES: usize = 10_000;
const NOT_LIVE: &str = "a live expression must yield a scalar or an instant vector";
/// Expressions are evaluated at most this often.
const MIN_INTERVAL_MS: u64 = 100;

/// What a client says.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Request {
    Subscribe {
        id: u64,
        #[serde(default)]
        selector: Option<String>,
        #[serde(default)]
        expr: Option<String>,
        #[serde(default)]
        interval_ms: Option<u64>,
    },
    Unsubscribe {
        id: u64,
    },
}

pub(crate) async fn upgrade(
    State(console): State<Arc<Console>>,
    principal: Principal,
    uri: Uri,
    request: WebSocketUpgrade,
    standing: Standing,
) -> Result<Response, ApiError> {
    let tenant = named_in(&uri, principal)?.tenant;
    let upgraded = request
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES)
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .on_upgrade(move |socket| async move { converse(console, tenant, standing, socket).await });
    Ok(upgraded)
}

/// The caller, for the tenant that `tenant` in the URL names: pages cannot send a header with a
/// WebSocket.
pub(crate) fn named_in(uri: &Uri, principal: Principal) -> Result<Principal, ApiError> {
    let query = uri.query().unwrap_or_default();
    let mut named = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "tenant");
    match (named.next(), named.next()) {
        (None, _) => Ok(principal),
        (Some((_, name)), None) => {
            let tenant = TenantName::parse(&name).map_err(|error| parameter("tenant", error))?;
            if principal.sees(tenant) {
                return principal.narrowed_to(tenant);
            }
            // Also where a header named another one.
            Err(parameter("tenant", format!("the request is for the tenant {}", principal.tenant))
                .with_status(StatusCode::FORBIDDEN))
        }
        (Some(_), Some(_)) => Err(parameter("tenant", "it is given more than once")),
    }
}

async fn converse(
    console: Arc<Console>,
    tenant: TenantName,
    standing: Standing,
    socket: WebSocket,
) {
    let (mut sink, mut stream) = socket.split();
    let (frames, mut waiting) = mpsc::channel::<Vec<u8>>(FRAMES_IN_FLIGHT);
    let (end, mut ended) = oneshot::channel::<&'static str>();
    let mut writer = tokio::spawn(async move {
        let mut ping = tokio::time::interval(PING_INTERVAL);
        loop {
            let message = tokio::select! {
                // First of all: what still waits is not for them any more.
                biased;
                Ok(reason) = &mut ended => {
                    close(&mut sink, reason).await;
                    break;
                }
                frame = waiting.recv() => match frame {
                    Some(frame) => text(frame),
                    None => break,
                },
                _ = ping.tick() => Message::Ping(axum::body::Bytes::new()),
            };
            let sent = tokio::select! {
                // What is on its way to somebody who does not read must not hold up the end.
                biased;
                Ok(reason) = &mut ended => {
                    close(&mut sink, reason).await;
                    break;
                }
                sent = tokio::time::timeout(SEND_TIMEOUT, sink.send(message)) => sent,
            };
            if !matches!(sent, Ok(Ok(()))) {
                break;
            }
        }
    });
    let mut subscriptions = Subscriptions { console, tenant, frames, tasks: HashMap::new() };
    let reason = tokio::select! {
        reason = lapse(&standing, tenant) => Some(reason),
        reason = listen(&mut subscriptions, &mut stream, &standing) => reason,
        // The reader is too slow: its silence must not keep the connection open.
        _ = &mut writer => None,
    };
    // Ends the tasks and, with the last sender, the writer.
    drop(subscriptions);
    match reason {
        Some(reason) if end.send(reason).is_ok() => _ = writer.await,
        _ => writer.abort(),
    }
}

/// Tells the end of a connection. Whoever does not read it learns it from the end itself.
async fn close(sink: &mut SplitSink<WebSocket, Message>, reason: &'static str) {
    let frame = CloseFrame { code: close_code::POLICY, reason: reason.into() };
    let close = sink.send(Message::Close(Some(frame)));
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, close).await;
}

/// Waits until the caller may not read any more, and yields why.
pub(crate) async fn lapse(standing: &Standing, tenant: TenantName) -> &'static str {
    let mut look = tokio::time::interval(CHECK_INTERVAL);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if let Err(reason) = standing.check(Scope::Read, tenant) {
            return reason;
        }
    }
}

/// Does what a client says until it says no more. Yields why it may not, if that is so.
async fn listen(
    subscriptions: &mut Subscriptions,
    stream: &mut SplitStream<WebSocket>,
    standing: &Standing,
) -> Option<&'static str> {
    while let Some(Ok(message)) = stream.next().await {
        if let Err(reason) = standing.check(Scope::Read, subscriptions.tenant) {
            return Some(reason);
        }
        let Message::Text(text) = message else { continue };
        let answer = match serde_json::from_str::<Request>(&text) {
            Ok(request) => subscriptions.handle(request),
            Err(error) => Err((0, format!("message is not understood: {error}"))),
        };
        if let Err((id, error)) = answer
            && subscriptions.frames.send(error_frame(id, &error)).await.is_err()
        {
            return None;
        }
    }
    None
}

fn text(frame: Vec<u8>) -> Message {
    let text = String::from_utf8(frame).expect("frames are written as UTF-8");
    Message::Text(Utf8Bytes::from(text))
}

/// The subscriptions of one connection; they end with it.
struct Subscriptions {
    console: Arc<Console>,
    /// Whose data they are of.
    tenant: TenantName,
    frames: mpsc::Sender<Vec<u8>>,
    tasks: HashMap<u64, JoinHandle<()>>,
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        for task in self.tasks.values() {
            task.abort();
        }
    }
}

impl Subscriptions {
    fn handle(&mut self, request: Request) -> Result<(), (u64, String)> {
        match request {
            Request::Unsubscribe { id } => {
                if let Some(task) = self.tasks.remove(&id) {
                    task.abort();
                }
                Ok(())
            }
            Request::Subscribe { id, selector, expr, interval_ms } => {
                self.subscribe(id, selector, expr, interval_ms).map_err(|error| (id, error))
            }
        }
    }

    fn subscribe(
        &mut self,
        id: u64,
        selector: Option<String>,
        expr: Option<String>,
        interval_ms: Option<u64>,
    ) -> Result<(), String> {
        self.tasks.retain(|_, task| !task.is_finished());
        if self.tasks.contains_key(&id) {
            return Err(format!("id {id} is already subscribed; unsubscribe it first"));
        }
        if self.tasks.len() >= MAX_SUBSCRIPTIONS {
            return Err(format!(
                "a connection may hold {MAX_SUBSCRIPTIONS} subscriptions; unsubscribe some or \
                 open another connection"
            ));
        }
        let frames = self.frames.clone();
        let task = match (selector, expr) {
            (Some(selector), None) => {
                let matchers =
                    promql::parse_selector(&selector).map_err(|error| error.to_string())?;
                let feed = self
                    .console
                    .executor()
                    .data()
                    .subscribe(self.tenant, matchers)
                    .map_err(|error| error.to_string())?;
                tokio::spawn(forward(id, feed, frames))
            }
            (None, Some(expr)) => {
                // Parsed here so that a mistake is told at once, and again for each evaluation,
                // which owns its tree.
                let parsed = promql::parse(&expr).map_err(|error| error.to_string())?;
                if !matches!(parsed.value_type(), ValueType::Scalar | ValueType::Vector) {
                    return Err(NOT_LIVE.to_owned());
                }
                let place = self.console.executor().live_places().take(self.tenant)?;
                let every =
                    Duration::from_millis(interval_ms.unwrap_or(1_000).max(MIN_INTERVAL_MS));
                let (console, tenant) = (Arc::clone(&self.console), self.tenant);
                tokio::spawn(async move {
                    evaluate(id, console, (tenant, expr), every, frames).await;
                    drop(place);
                })
            }
            _ => return Err("subscribe with either \"selector\" or \"expr\"".to_owned()),
        };
        self.tasks.insert(id, task);
        Ok(())
    }
}

/// Passes a feed on until it or the connection ends.
async fn forward(id: u64, mut feed: Box<dyn LiveFeed>, frames: mpsc::Sender<Vec<u8>>) {
    while let Some(events) = feed.next().await {
        let told = match events {
            Ok(events) => event_frames(id, &events),
            Err(error) => vec![error_frame(id, &error.to_string())],
        };
        for frame in told {
            if frames.send(frame).await.is_err() {
                return;
            }
        }
    }
}

/// Evaluates an expression at a steady pace. A result that is late makes the next one later;
/// results never queue up.
async fn evaluate(
    id: u64,
    console: Arc<Console>,
    (tenant, text): (TenantName, String),
    every: Duration,
    frames: mpsc::Sender<Vec<u8>>,
) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let frame = match evaluate_once(&console, tenant, &text).await {
            Ok((t_ms, value)) => result_frame(id, t_ms, &value),
            Err(error) => error_frame(id, &error.message),
        };
        if frames.send(frame).await.is_err() {
            return;
        }
    }
}

async fn evaluate_once(
    console: &Arc<Console>,
    tenant: TenantName,
    text: &str,
) -> Result<(i64, QueryValue), ApiError> {
    let expr = promql::parse(text).map_err(|error| parameter("expr", error))?;
    let t_ms = console.now_ms();
    let job = Job::instant(text, expr, t_ms, LIVE_CLIENT, tenant);
    Ok((t_ms, console.executor().run(job).await?.output.value))
}

fn event_frames(id: u64, events: &LiveEvents) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    if events.missed > 0 {
        let missed = events.missed;
        frames
            .push(format!("{{\"type\":\"missed\",\"id\":{id},\"samples\":{missed}}}").into_bytes());
    }
    for series in events.series.chunks(MAX_FRAME_ENTRIES) {
        let mut frame = format!("{{\"type\":\"series\",\"id\":{id},\"series\":[").into_bytes();
        for (index, (number, labels)) in series.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            frame.extend_from_slice(format!("{comma}[{number},").as_bytes());
            json::write_labels(&mut frame, labels);
            frame.push(b']');
        }
        frame.extend_from_slice(b"]}");
        frames.push(frame);
    }
    for samples in events.samples.chunks(MAX_FRAME_ENTRIES) {
        let mut frame = format!("{{\"type\":\"samples\",\"id\":{id},\"samples\":[").into_bytes();
        for (index, (number, t_ms, value)) in samples.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            frame.extend_from_slice(format!("{comma}[{number},{t_ms},").as_bytes());
            write_live_value(&mut frame, *value);
            frame.push(b']');
        }
        frame.extend_from_slice(b"]}");
        frames.push(frame);
    }
    frames
}

/// A JSON number, or a string for what JSON has no number for.
fn write_live_value(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        json::write_float(out, value);
    } else if model::is_stale_nan(value) {
        out.extend_from_slice(b"\"stale\"");
    } else {
        out.push(b'"');
        json::write_float(out, value);
        out.push(b'"');
    }
}

fn result_frame(id: u64, t_ms: i64, value: &QueryValue) -> Vec<u8> {
    let mut frame =
        format!("{{\"type\":\"result\",\"id\":{id},\"t\":{t_ms},\"result\":").into_bytes();
    match value {
        QueryValue::Vector(samples) if samples.len() > MAX_RESULT_SERIES => {
            return error_frame(
                id,
                &format!(
                    "the expression yields {} series, a live one at most {MAX_RESULT_SERIES}; \
                     aggregate, or choose with topk",
                    samples.len()
                ),
            );
        }
        QueryValue::Vector(samples) => json::write_vector(&mut frame, samples),
        QueryValue::Scalar { t_ms, value } => json::write_vector(
            &mut frame,
            &[promql::InstantSample {
                labels: model::Labels::empty(),
                t_ms: *t_ms,
                value: *value,
                histogram: None,
            }],
        ),
        QueryValue::String { .. } | QueryValue::Matrix(_) => {
            return error_frame(id, NOT_LIVE);
        }
    }
    frame.push(b'}');
    frame
}

fn error_frame(id: u64, error: &str) -> Vec<u8> {
    let mut frame = format!("{{\"type\":\"error\",\"id\":{id},\"error\":").into_bytes();
    json::write_string(&mut frame, error);
    frame.push(b'}');
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Labels;

    #[test]
    fn frames_are_json_a_browser_understands() {
        let labels = Labels::from_pairs([("__name__", "up"), ("a", "\"")]).expect("valid labels");
        let events = LiveEvents {
            series: vec![(0, labels)],
            samples: vec![
                (0, 1_000, 0.5),
                (0, 2_000, f64::NAN),
                (0, 3_000, f64::from_bits(model::STALE_NAN_BITS)),
                (0, 4_000, f64::NEG_INFINITY),
            ],
            missed: 3,
        };
        let texts: Vec<serde_json::Value> = event_frames(7, &events)
            .iter()
            .map(|frame| serde_json::from_slice(frame).expect("valid JSON"))
            .collect();
        assert_eq!(
            texts,
            [
                serde_json::json!({"type": "missed", "id": 7, "samples": 3}),
                serde_json::json!({"type": "series", "id": 7,
                    "series": [[0, {"__name__": "up", "a": "\""}]]}),
                serde_json::json!({"type": "samples", "id": 7, "samples":
                    [[0, 1000, 0.5], [0, 2000, "NaN"], [0, 3000, "stale"], [0, 4000, "-Inf"]]}),
            ]
        );
    }

    /// A store that is never asked.
    struct Nothing;

    impl crate::Data for Nothing {
        fn snapshot(
            &self,
            _: TenantName,
            _: &crate::Work,
        ) -> Result<Arc<dyn crate::Snapshot>, promql::SourceError> {
            Err(promql::SourceError::Storage("empty".to_owned()))
        }

        fn metadata(&self, _: TenantName) -> Result<crate::Families, promql::SourceError> {
            Ok(crate::Families::default())
        }

        fn subscribe(
            &self,
            _: TenantName,
            _: Vec<model::Matcher>,
        ) -> Result<Box<dyn LiveFeed>, promql::SourceError> {
            Err(promql::SourceError::Limit("none".to_owned()))
        }

        fn ready(&self) -> Result<(), String> {
            Ok(())
        }
    }

    fn subscribe(connection: &mut Subscriptions, id: u64, expr: &str) -> Result<(), String> {
        connection.subscribe(id, None, Some(expr.to_owned()), Some(3_600_000))
    }

    #[tokio::test]
    async fn live_expressions_are_bounded_and_of_a_kind_that_can_be_drawn() {
        let limits = model::Limits::default();
        let executor = Arc::new(crate::Executor::new(
            Arc::new(Nothing),
            limits,
            governor::Governor::unlimited(),
            1,
            1,
        ));
        let about = crate::About::default();
        let console = Arc::new(Console::new(executor, about, || 0, Box::new(|| 0)));
        let connection = |tenant| Subscriptions {
            console: Arc::clone(&console),
            tenant,
            frames: mpsc::channel(FRAMES_IN_FLIGHT).0,
            tasks: HashMap::new(),
        };
        let mut connections: Vec<_> = (0..5).map(|_| connection(TenantName::DEFAULT)).collect();
        for (connection, id) in (0..256).map(|n| (n as usize / 64, n)) {
            subscribe(&mut connections[connection], id, "vector(1)").expect("below the limit");
        }
        let error = subscribe(&mut connections[0], 999, "1").expect_err("one more on a connection");
        assert!(error.contains("64"), "{error}");
        let error = subscribe(&mut connections[4], 0, "1").expect_err("one more over all");
        assert!(error.contains("256") && error.contains("tenant default"), "{error}");
        let mut other = connection(TenantName::parse("other").expect("a name"));
        subscribe(&mut other, 0, "1").expect("another tenant has a share of its own");
        for expr in ["up[5m]", "\"text\""] {
            assert_eq!(subscribe(&mut connections[4], 1, expr), Err(NOT_LIVE.to_owned()));
        }
        drop(connections.swap_remove(0));
        // Aborted tasks give their places back when the runtime gets to them.
        tokio::time::sleep(Duration::from_millis(50)).await;
        subscribe(connections.last_mut().expect("four are left"), 2, "1").expect("places are free");
    }
}
