//! `tail`: lines as they come.
//!
//! The newest lines of before are sent first, then what comes. A reader that does not read costs a bounded buffer: the
//! feed drops what does not fit, and the next message names it in `dropped_entries`. What lines may lack, because they
//! were dropped or a broker does not answer, it says in `warnings`.
//!
//! Source: `pkg/querier/tail` and `pkg/util/marshal` of Loki.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::Response;
use http::{HeaderMap, Uri};
use logql::pipeline::Pipeline;
use logql::syntax::ast::{Expr, LogExpr};
use model::{Labels, LogRecord};
use net::auth::{Principal, Standing};

use super::asked::{Bounds, Direction, integer, limit};
use super::cursor::line_hash;
use super::encode::{self, CATEGORIZE, EntryForm, write_object, write_text};
use super::lines::{self, LinesAsked, LinesFound, StreamOut, write_entry};
use super::query::{asked, check_entries, now_ns, parsed, seed, wants_categories};
use super::refusal::{Refusal, data_error};
use super::tailed::{Frame, Frames, Way};
use crate::Console;
use crate::live::{PING_INTERVAL, named_in};
use crate::log_data::{LineFeed, NewLines};
use crate::params::Params;
use crate::running::Asked;

/// The longest time lines may be held back for those that come late, in seconds.
const MAX_DELAY_S: i64 = 5;
/// How long lines of before may still come as new ones: they become visible to both within this time.
const OVERLAP: Duration = Duration::from_secs(10);
/// Lines in one message.
const MAX_LINES: usize = 1_000;

pub(super) async fn tail(
    State(console): State<Arc<Console>>,
    headers: HeaderMap,
    uri: Uri,
    principal: Principal,
    standing: Standing,
    request: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    params: Params,
) -> Result<Response, Refusal> {
    let now_ns = now_ns(&console);
    let Expr::Log(log) = parsed(&params)? else {
        return Err(Refusal::bad("only queries that yield lines can be tailed"));
    };
    let limit = limit(&params)?;
    check_entries(limit)?;
    let delay_s = integer(&params, "delay_for", 0)?;
    if delay_s > MAX_DELAY_S {
        return Err(Refusal::bad(format!("delay_for can't be greater than {MAX_DELAY_S}")));
    }
    let bounds = Bounds { end_ns: i64::MAX, ..Bounds::of(&params, now_ns)? };
    let way = Way::of(&params, request)?;
    let tenant = named_in(&uri, principal)?.tenant;
    let feed = console.executor().data().tail(tenant, log.matchers.clone());
    let feed = feed.map_err(|error| Refusal::bad(error.to_string()))?;
    let tailing = Tailing {
        asked: Asked { tenant, ..asked(&params, (bounds.start_ns, now_ns, 0)) },
        log,
        lines: LinesAsked {
            bounds,
            limit,
            direction: Direction::Backward,
            form: EntryForm::asked_by(&uri, wants_categories(&headers, &params)),
            now_ns,
            seed: seed(),
            notes_lines: true,
            ..LinesAsked::default()
        },
        delay: Duration::from_secs(delay_s.unsigned_abs()),
        console,
    };
    Ok(way.answer((standing, tenant), move |frames| tailing.run(feed, frames)))
}

struct Tailing {
    console: Arc<Console>,
    asked: Asked,
    log: LogExpr,
    lines: LinesAsked,
    delay: Duration,
}

impl Tailing {
    async fn run(self, mut feed: Box<dyn LineFeed>, frames: Frames) {
        if let Some(reason) = self.tell_all(&mut *feed, &frames).await {
            let _ = frames.send(Frame::End(reason)).await;
        }
    }

    /// Sends lines until the reader takes none. Yields what went wrong otherwise.
    async fn tell_all(&self, feed: &mut dyn LineFeed, frames: &Frames) -> Option<String> {
        // What is stored from here on comes; what was before is looked up.
        feed.begun().await;
        let mut before = match self.of_before().await {
            Ok(found) => found,
            Err(refusal) => return Some(refusal.text),
        };
        let until = Instant::now() + OVERLAP;
        let mut known = std::mem::take(&mut before.noted);
        let mut streams: Vec<StreamOut> =
            before.streams.drain(..).map(StreamOut::reversed).collect();
        drop(before);
        if !streams.is_empty() {
            frames.send(self.frame(&mut streams, &[], &[])).await?;
        }
        let mut tailer = match Tailer::new(&self.log, &self.lines) {
            Ok(tailer) => tailer,
            Err(text) => return Some(text),
        };
        let mut pings = tokio::time::interval(PING_INTERVAL);
        loop {
            let new = tokio::select! {
                new = feed.next() => match new {
                    Some(Ok(new)) => new,
                    Some(Err(error)) => return Some(error.to_string()),
                    None => return None,
                },
                _ = pings.tick() => {
                    frames.send(Frame::Ping).await?;
                    continue;
                }
            };
            if Instant::now() > until {
                known.clear();
            }
            let mut all = vec![new];
            if !self.delay.is_zero() {
                tokio::time::sleep(self.delay).await;
                // What came meanwhile is put in order with it.
                while let Some(Some(Ok(more))) = now_or_none(feed.next()).await {
                    all.push(more);
                }
            }
            let dropped: Vec<(Labels, i64)> =
                all.iter_mut().flat_map(|new| std::mem::take(&mut new.dropped)).collect();
            let warnings = warnings(&mut all);
            let lines = tailer.lines(&all, &known);
            let mut rest = &lines[..];
            let mut is_first = true;
            let has_words = !dropped.is_empty() || !warnings.is_empty();
            while !rest.is_empty() || is_first && has_words {
                let (some, others) = rest.split_at(rest.len().min(MAX_LINES));
                let mut streams = tailer.streams(some);
                let (dropped, warnings): (&[_], &[_]) =
                    if is_first { (&dropped, &warnings) } else { (&[], &[]) };
                if !streams.is_empty() || is_first && has_words {
                    frames.send(self.frame(&mut streams, dropped, warnings)).await?;
                }
                (rest, is_first) = (others, false);
            }
        }
    }

    /// The newest lines there are.
    async fn of_before(&self) -> Result<LinesFound, Refusal> {
        let (log, lines) = (self.log.clone(), self.lines.clone());
        let task = move |data: &crate::counted::QueryData, work: &crate::data::Work| {
            let snapshot = data.logs(work).map_err(data_error)?;
            let found = lines::find(&log, &lines, &*snapshot, work)?;
            data.count_samples(snapshot.reads().lines);
            Ok(found)
        };
        Ok(self.console.executor().in_time(self.asked.clone(), task).await?)
    }

    fn frame(
        &self,
        streams: &mut Vec<StreamOut>,
        dropped: &[(Labels, i64)],
        warnings: &[String],
    ) -> Frame {
        let mut body = br#"{"streams":"#.to_vec();
        encode::write_streams(&mut body, streams, self.lines.form);
        if !dropped.is_empty() {
            body.extend_from_slice(br#","dropped_entries":["#);
            for (index, (labels, t_ns)) in dropped.iter().enumerate() {
                let comma = if index > 0 { "," } else { "" };
                body.extend_from_slice(
                    format!(r#"{comma}{{"timestamp":"{t_ns}","labels":"#).as_bytes(),
                );
                write_object(&mut body, labels.iter());
                body.push(b'}');
            }
            body.push(b']');
        }
        if !warnings.is_empty() {
            body.extend_from_slice(br#","warnings":["#);
            for (index, words) in warnings.iter().enumerate() {
                if index > 0 {
                    body.push(b',');
                }
                write_text(&mut body, words.as_bytes());
            }
            body.push(b']');
        }
        if self.lines.form.is_categorized() {
            body.extend_from_slice(format!(r#","encodingFlags":["{CATEGORIZE}"]"#).as_bytes());
        }
        body.push(b'}');
        Frame::Text(String::from_utf8(body).expect("frames are written as UTF-8"))
    }
}

/// A line on its way: its time, its stream, text and metadata.
struct TailLine {
    t_ns: i64,
    labels: Labels,
    line: Vec<u8>,
    metadata: Vec<(String, String)>,
}

struct Tailer {
    pipeline: Pipeline,
    form: EntryForm,
}

impl Tailer {
    fn new(log: &LogExpr, asked: &LinesAsked) -> Result<Self, String> {
        let stages = logql::compile::stages(log).map_err(|error| error.to_string())?;
        let mut pipeline = Pipeline::new(stages, asked.seed);
        pipeline.set_now_ns(asked.now_ns);
        pipeline.set_zones(super::zones::of_host);
        Ok(Tailer { pipeline, form: asked.form })
    }

    /// New lines in order of time, without those that are known.
    fn lines(&mut self, all: &[NewLines], known: &HashSet<u64>) -> Vec<TailLine> {
        let mut lines = Vec::new();
        for new in all {
            let (mut records, mut metadata) = (new.batch.records(), Vec::new());
            let mut stream = Labels::empty();
            while let Ok(Some(record)) = records.next_record(&mut metadata) {
                match record {
                    LogRecord::Stream(labels) => stream = labels,
                    LogRecord::Line { timestamp_ns, line } => {
                        if known.contains(&line_hash(&stream, timestamp_ns, line)) {
                            continue;
                        }
                        let owned = |(name, value): &(&str, &str)| {
                            ((*name).to_owned(), (*value).to_owned())
                        };
                        lines.push(TailLine {
                            t_ns: timestamp_ns,
                            labels: stream.clone(),
                            line: line.to_vec(),
                            metadata: metadata.iter().map(owned).collect(),
                        });
                    }
                }
            }
        }
        // Stable: lines of one time stay in the order in which they came.
        lines.sort_by_key(|line| line.t_ns);
        lines
    }

    /// What the query makes of lines.
    fn streams(&mut self, lines: &[TailLine]) -> Vec<StreamOut> {
        let mut streams: Vec<StreamOut> = Vec::new();
        let mut labels = Vec::new();
        for TailLine { t_ns, labels: stream, line, metadata } in lines {
            self.pipeline.set_stream(stream.iter());
            let metadata = metadata.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let Some(kept) = self.pipeline.process(*t_ns, line, metadata) else { continue };
            lines::label_list(&kept, self.form.is_categorized(), &mut labels);
            let at = streams.iter().position(|known| known.labels == labels);
            let at = at.unwrap_or_else(|| {
                let (values, starts) = Default::default();
                streams.push(StreamOut { labels: labels.clone(), values, starts });
                streams.len() - 1
            });
            let StreamOut { values, starts, .. } = &mut streams[at];
            if !values.is_empty() {
                values.push(b',');
            }
            starts.push(values.len());
            write_entry(&kept, self.form, &mut labels, values);
        }
        streams
    }
}

/// What lines may lack, in words.
fn warnings(all: &mut [NewLines]) -> Vec<String> {
    let mut warnings: Vec<String> =
        all.iter_mut().flat_map(|new| std::mem::take(&mut new.notes)).collect();
    let missed: u64 = all.iter().map(|new| new.missed).sum();
    if missed > 0 {
        warnings.push(format!(
            "{missed} lines of the selected streams are left out: they came faster than they were read. Select \
             fewer streams, or query the range"
        ));
    }
    warnings
}

/// What a future yields at once, if it does.
async fn now_or_none<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        value = future => Some(value),
        () = std::future::ready(()) => None,
    }
}
