//! `match` and `split_json`: stages that some lines pass, and lines of which several are made.

use std::sync::Arc;
use std::time::Instant;

use logql::compile;
use logql::pipeline::{Pipeline, Stage as LogqlStage};
use logql::syntax::ast::Expr;
use model::Matcher;
use model::regex::Finder;
use settings::logs::StageFault;
use settings::logs::stage::MatchStage;

use super::chain::{self, Holding, Link, Outlet};
use super::metrics::StageCounters;
use super::{Clock, Line, Plan, fault};

/// A selector of LogQL, compiled.
#[derive(Debug, Clone)]
struct Selector {
    matchers: Vec<(Matcher, Option<Finder>)>,
    stages: Vec<LogqlStage>,
}

impl Selector {
    fn new(text: &str) -> Result<Self, StageFault> {
        let refuse = |error: String| {
            let message = format!("invalid selector syntax for match stage: {error}");
            StageFault {
                help: Some("write {name=\"value\"} |= \"text\"".to_owned()),
                ..fault("selector", message)
            }
        };
        let expr = logql::syntax::parse(text).map_err(|error| refuse(error.to_string()))?;
        let Expr::Log(log) = expr else {
            return Err(refuse("it selects numbers and no lines".to_owned()));
        };
        let stages = compile::stages(&log).map_err(|error| refuse(error.to_string()))?;
        let mut matchers = Vec::with_capacity(log.matchers.len());
        for matcher in log.matchers {
            let finder = match matcher.op {
                model::MatchOp::Regex | model::MatchOp::NotRegex => Some(
                    Finder::anchored(&matcher.value).map_err(|error| refuse(error.to_string()))?,
                ),
                _ => None,
            };
            matchers.push((matcher, finder));
        }
        Ok(Selector { matchers, stages })
    }
}

/// A selector at work.
struct Selection {
    selector: Selector,
    /// For stages besides filters of lines.
    pipeline: Option<Pipeline>,
}

impl Selection {
    fn new(selector: &Selector) -> Self {
        let only_lines =
            selector.stages.iter().all(|stage| matches!(stage, LogqlStage::LineFilter(_)));
        let pipeline = (!only_lines).then(|| Pipeline::new(selector.stages.clone(), 0x6d61_7463));
        Selection { selector: selector.clone(), pipeline }
    }

    fn is_match(&mut self, line: &Line) -> bool {
        let labels_match = self.selector.matchers.iter().all(|(matcher, finder)| {
            let value = line.label(&matcher.name).unwrap_or_default();
            match (matcher.op, finder) {
                (model::MatchOp::Equal, _) => value == matcher.value,
                (model::MatchOp::NotEqual, _) => value != matcher.value,
                (model::MatchOp::Regex, Some(finder)) => finder.is_match(value.as_bytes()),
                (model::MatchOp::NotRegex, Some(finder)) => !finder.is_match(value.as_bytes()),
                _ => false,
            }
        });
        if !labels_match {
            return false;
        }
        match &mut self.pipeline {
            None => self.selector.stages.iter().all(|stage| match stage {
                LogqlStage::LineFilter(filter) => filter.is_kept(&line.text),
                _ => true,
            }),
            Some(pipeline) => {
                let mut labels = Vec::new();
                line.for_each_label(|name, value| labels.push((name, value)));
                pipeline.set_stream(labels);
                let metadata = line.metadata.iter().map(|(n, v)| (n.as_str(), v.as_str()));
                pipeline.process(line.timestamp_ns, &line.text, metadata).is_some()
            }
        }
    }
}

/// Lines that match pass stages of their own, or are dropped.
pub(super) fn match_stage(
    stage: &MatchStage,
    inside: Vec<Plan>,
    counters: &Arc<StageCounters>,
) -> Result<Plan, StageFault> {
    let selector = Selector::new(&stage.selector)?;
    let (reason, counters) = (stage.drop_reason.clone(), Arc::clone(counters));
    Ok(Plan::new(move || {
        let mut selection = Selection::new(&selector);
        match reason.clone() {
            Some(reason) => {
                let counters = Arc::clone(&counters);
                Link::simple(move |line: &mut Line, _: &Clock| {
                    let is_match = selection.is_match(line);
                    if is_match {
                        counters.dropped(&reason);
                    }
                    !is_match
                })
            }
            None => {
                let links = inside.iter().map(Plan::start).collect();
                Link::holding(Matching { selection, links })
            }
        }
    }))
}

struct Matching {
    selection: Selection,
    links: Vec<Link>,
}

impl Holding for Matching {
    fn process(&mut self, line: &mut Line, clock: &Clock, next: &mut dyn Outlet) {
        if !self.selection.is_match(line) {
            return next.send(line, clock);
        }
        line.labels_become_values();
        chain::run(&mut self.links, line, clock, next);
    }

    fn deadline(&self) -> Option<Instant> {
        chain::deadline(&self.links)
    }

    fn flush(&mut self, until: Option<Instant>, clock: &Clock, next: &mut dyn Outlet) {
        chain::flush(&mut self.links, until, clock, next);
    }

    fn held(&self, offsets: &mut Vec<u64>) {
        chain::held(&self.links, offsets);
    }

    fn ready_at(&self) -> Option<Instant> {
        chain::ready_at(&self.links)
    }
}

/// Each element of an array is a line.
pub(super) fn split_json(source: Option<&str>) -> Plan {
    let source = source.map(str::to_owned);
    Plan::new(move || Link::holding(Split { source: source.clone() }))
}

struct Split {
    source: Option<String>,
}

/// Most lines of one: more are left together.
const MAX_ELEMENTS: usize = 100_000;

impl Holding for Split {
    fn process(&mut self, line: &mut Line, clock: &Clock, next: &mut dyn Outlet) {
        let text = match &self.source {
            None => line.shown().into_owned(),
            Some(source) => match line.value_text(source) {
                Some(text) => text.to_owned(),
                None => return next.send(line, clock),
            },
        };
        let Some(elements) = elements(&text) else { return next.send(line, clock) };
        for element in elements {
            let mut part = line.clone();
            part.set_text(element);
            next.send(&mut part, clock);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn flush(&mut self, _: Option<Instant>, _: &Clock, _: &mut dyn Outlet) {}

    fn held(&self, _: &mut Vec<u64>) {}
}

/// The elements of an array, as they stand in the text; `None` if it is none.
fn elements(text: &str) -> Option<Vec<&str>> {
    let is_blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let trimmed = text.trim_matches(is_blank);
    let inside = trimmed.strip_prefix('[')?.strip_suffix(']')?;
    // That it is JSON is looked at first, so that what follows only has to find the commas.
    serde_json::from_str::<serde::de::IgnoredAny>(trimmed).ok()?;
    let (mut found, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    let (mut in_text, mut escaped) = (false, false);
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                found.push(inside[start..at].trim_matches(is_blank));
                start = at + 1;
            }
            _ => {}
        }
        if found.len() > MAX_ELEMENTS {
            return None;
        }
    }
    let last = inside[start..].trim_matches(is_blank);
    if !last.is_empty() {
        found.push(last);
    }
    Some(found)
}
