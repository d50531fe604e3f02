//! The lines of a scenario, as a source that gives no more than it is asked for.

use ::logql::metric::{Entry, MetadataWanted, MetricError, Request, Run, Sink, Source};
use anyhow::Context;
use model::{Labels, Matcher};
use serde_json::Value;

use super::EPOCH_NS;

struct Line {
    timestamp_ns: i64,
    text: String,
    metadata: Vec<(String, String)>,
}

struct Stream {
    labels: Labels,
    lines: Vec<Line>,
}

/// All lines of a scenario.
pub(super) struct Lines {
    streams: Vec<Stream>,
}

impl Lines {
    pub(super) fn read(load: &Value) -> anyhow::Result<Self> {
        let mut streams: Vec<Stream> = Vec::new();
        for part in load.as_array().into_iter().flatten() {
            let labels = pairs(&part["labels"]);
            let labels = Labels::from_pairs(labels.iter().map(|(n, v)| (n.as_str(), v.as_str())))?;
            let field =
                |name: &str| part[name].as_i64().with_context(|| format!("lines without {name}"));
            let (start, step, count) = (field("start_ns")?, field("step_ns")?, field("count")?);
            let text = part["line"].as_str().context("lines without a text")?;
            let lines = (0..count).map(|index| Line {
                timestamp_ns: EPOCH_NS + start + step * index,
                text: text.replace("{{.i}}", &index.to_string()),
                metadata: pairs(&part["metadata"]),
            });
            match streams.iter_mut().find(|stream| stream.labels == labels) {
                Some(stream) => stream.lines.extend(lines),
                None => streams.push(Stream { labels, lines: lines.collect() }),
            }
        }
        for stream in &mut streams {
            stream.lines.sort_by_key(|line| line.timestamp_ns);
        }
        Ok(Lines { streams })
    }
}

/// Pairs of an object of texts.
fn pairs(value: &Value) -> Vec<(String, String)> {
    let object = value.as_object().into_iter().flatten();
    object.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

impl Source for Lines {
    fn read(&self, request: &Request<'_>, sink: &mut dyn Sink) -> Result<(), MetricError> {
        for stream in &self.streams {
            if !Matcher::all_match(request.matchers(), &stream.labels) {
                continue;
            }
            sink.stream(&stream.labels);
            let wanted: Vec<&Line> = stream
                .lines
                .iter()
                .filter(|line| {
                    request.after_ns < line.timestamp_ns && line.timestamp_ns <= request.until_ns
                })
                .collect();
            let mut rest = wanted.as_slice();
            while let [first, ..] = rest {
                let metadata = wanted_metadata(first, request);
                let is_alike = |line: &&&Line| {
                    request.takes_runs
                        && sink.takes_run(first.timestamp_ns, line.timestamp_ns)
                        && wanted_metadata(line, request) == metadata
                };
                let same = rest.iter().take_while(is_alike).count();
                let (run, tail) = rest.split_at(same.max(1));
                rest = tail;
                match (same, run) {
                    (0, _) | (_, []) => give(first, request, sink)?,
                    (_, [.., last]) => sink.run(Run {
                        first_ns: first.timestamp_ns,
                        last_ns: last.timestamp_ns,
                        lines: run.len() as u64,
                        bytes: run.iter().map(|line| line.text.len() as u64).sum(),
                        metadata: &metadata,
                    })?,
                }
            }
        }
        Ok(())
    }
}

/// What is wanted of the structured metadata of a line.
fn wanted_metadata<'l>(line: &'l Line, request: &Request<'_>) -> Vec<(&'l str, &'l str)> {
    let is_wanted = |name: &String| match request.metadata {
        MetadataWanted::All => true,
        MetadataWanted::Named(names) => names.contains(name),
    };
    line.metadata
        .iter()
        .filter(|(name, _)| is_wanted(name))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

/// Gives a line with only what of it is wanted.
fn give(line: &Line, request: &Request<'_>, sink: &mut dyn Sink) -> Result<(), MetricError> {
    let metadata = wanted_metadata(line, request);
    let text = if request.needs_lines { line.text.as_bytes() } else { b"" };
    sink.entry(&Entry {
        timestamp_ns: line.timestamp_ns,
        line: text,
        line_bytes: line.text.len() as u64,
        metadata: &metadata,
    })
}
