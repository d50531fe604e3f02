//! `docker` and `cri`: lines as container runtimes write them.
//!
//! Source: Docker, "JSON File logging driver"; Kubernetes, CRI logging format:
//! `2016-10-06T00:17:09.669794202Z stdout P part of a line`.

use std::collections::HashMap;
use std::time::Instant;

use model::go_time::GoTime;
use serde::Deserialize;
use settings::logs::stage::CriStage;
use std::borrow::Cow;
use std::sync::Arc;

use super::chain::{Holding, Link, Outlet};
use super::metrics::StageCounters;
use super::{Clock, Line, Plan};

const RFC3339_NANO: &str = "2006-01-02T15:04:05.999999999Z07:00";

/// A line of Docker's driver.
#[derive(Deserialize)]
struct DockerLine<'l> {
    #[serde(borrow)]
    log: Option<Cow<'l, str>>,
    #[serde(borrow)]
    time: Option<Cow<'l, str>>,
    #[serde(borrow)]
    stream: Option<Cow<'l, str>>,
}

pub(super) fn docker() -> Plan {
    Plan::new(|| {
        Link::simple(|line: &mut Line, _: &Clock| {
            let bytes = std::mem::take(&mut line.text);
            let text = String::from_utf8_lossy(&bytes);
            let docker = serde_json::from_str::<DockerLine<'_>>(&text).ok();
            // JSON of another kind is left as it is.
            let Some(DockerLine { log: Some(log), time, stream }) = docker else {
                line.text = bytes;
                return true;
            };
            let (time, stream) = (time.unwrap_or_default(), stream.unwrap_or_default());
            line.values.set_text("output", &log);
            line.values.set_text("stream", &stream);
            line.values.set_text("timestamp", &time);
            line.set_label("stream", &stream);
            if let Some(time) = GoTime::parse(RFC3339_NANO, &time) {
                line.timestamp_ns = time.unix_ns();
            }
            line.set_text(&log);
            true
        })
    })
}

pub(super) fn cri(stage: &CriStage, counters: &Arc<StageCounters>) -> Plan {
    let (stage, counters) = (stage.clone(), Arc::clone(counters));
    Plan::new(move || {
        let (stage, counters) = (stage.clone(), Arc::clone(&counters));
        let (partial, key, spare) = (HashMap::new(), Vec::new(), Vec::new());
        Link::holding(Cri { stage, counters, partial, key, spare })
    })
}

struct Cri {
    stage: CriStage,
    counters: Arc<StageCounters>,
    /// By stream, what came of a line whose end is still to come.
    partial: HashMap<Vec<u8>, Line>,
    key: Vec<u8>,
    /// Lines that are not needed, whose memory is used again.
    spare: Vec<Line>,
}

/// A line taken apart.
struct Parsed<'l> {
    time: &'l str,
    stream: &'static str,
    is_partial: bool,
    content_at: usize,
}

/// Takes a line apart; more than one blank may stand between parts, and the tag may be missing.
fn parse(text: &str) -> Option<Parsed<'_>> {
    let time_end = text.find(char::is_whitespace)?;
    let skip = |at: usize| at + text[at..].bytes().take_while(|byte| *byte == b' ').count();
    let mut at = skip(time_end);
    let stream = ["stdout", "stderr"].into_iter().find(|name| text[at..].starts_with(name))?;
    at = skip(at + stream.len());
    let tag = text.as_bytes().get(at).copied();
    if matches!(tag, Some(b'P' | b'F')) {
        at = skip(at + 1);
    }
    let is_partial = tag == Some(b'P');
    Some(Parsed { time: &text[..time_end], stream, is_partial, content_at: at })
}

impl Cri {
    /// Puts a line behind what came of it before.
    fn join(&mut self, mut before: Line, line: &mut Line) {
        std::mem::swap(&mut before.text, &mut line.text);
        line.text.extend_from_slice(&before.text);
        before.join_offsets(line);
        line.offset = before.offset;
        std::mem::swap(&mut line.joined, &mut before.joined);
        self.spare.push(before);
    }

    fn cut(&self, line: &mut Line) {
        let most = usize::try_from(self.stage.max_partial_line_bytes).unwrap_or(usize::MAX);
        if self.stage.truncate && line.text.len() > most {
            line.text.truncate(most);
            self.counters.truncated("line");
        }
    }

    /// Puts the line away until its end comes.
    fn hold(&mut self, line: &mut Line) {
        let mut held = self.spare.pop().unwrap_or_default();
        std::mem::swap(&mut held, line);
        self.partial.insert(self.key.clone(), held);
    }

    fn put_out(&mut self, clock: &Clock, next: &mut dyn Outlet) {
        let mut lines: Vec<Line> = self.partial.drain().map(|(_, line)| line).collect();
        lines.sort_by_key(|line| line.offset);
        for mut line in lines {
            next.send(&mut line, clock);
        }
    }
}

impl Holding for Cri {
    fn process(&mut self, line: &mut Line, clock: &Clock, next: &mut dyn Outlet) {
        let bytes = std::mem::take(&mut line.text);
        let text = String::from_utf8_lossy(&bytes);
        let Some(parsed) = parse(&text) else {
            line.text = bytes;
            return next.send(line, clock);
        };
        let content = &text[parsed.content_at..];
        line.values.set_text("flags", if parsed.is_partial { "P" } else { "F" });
        line.values.set_text("stream", parsed.stream);
        line.values.set_text("content", content);
        line.values.set_text("time", parsed.time);
        if let Some(time) = GoTime::parse(RFC3339_NANO, parsed.time) {
            line.timestamp_ns = time.unix_ns();
        }
        line.set_text(content);
        line.set_label("stream", parsed.stream);
        let is_partial = parsed.is_partial;
        self.key.clear();
        line.stream_key(&mut self.key);
        let before = self.partial.remove(&self.key);
        let is_joined = before.is_some();
        if let Some(before) = before {
            self.join(before, line);
        }
        if !is_partial {
            if is_joined {
                self.cut(line);
            }
            return next.send(line, clock);
        }
        if self.partial.len() as u64 >= self.stage.max_partial_lines {
            self.counters.partial_flushed(self.partial.len() as u64);
            self.put_out(clock, next);
        }
        self.cut(line);
        self.hold(line);
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn flush(&mut self, until: Option<Instant>, clock: &Clock, next: &mut dyn Outlet) {
        if until.is_none() {
            self.put_out(clock, next);
        }
    }

    fn held(&self, offsets: &mut Vec<u64>) {
        for line in self.partial.values() {
            line.offsets(offsets);
        }
    }
}
