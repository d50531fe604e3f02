//! `patterns`: what lines have in common, and how many lines of each pattern there are over time.
//!
//! Patterns are found when they are asked for, in the lines themselves, so there are some for any range and selector.
//! Of very many lines one in so many is looked at, and stands for the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use logql::drain::{PatternFinder, PatternId};
use logql::metric::MetadataWanted;
use logql::syntax::ast::{Expr, LogExpr};
use net::ApiError;
use serde_json::{Value, json};

use super::asked::{Bounds, step_ns};
use super::encode;
use super::pushdown::Pushdown;
use super::query::{asked, now_ns, parsed, run};
use super::refusal::{Refusal, data_error, metric_error};
use super::time::SECOND_NS;
use super::volume::count;
use crate::Console;
use crate::data::Work;
use crate::log_data::{LogFault, LogSnapshot};
use crate::params::Params;
use crate::respond::bad_data;

/// Lines that are looked at, about.
const MAX_LINES: u64 = 500_000;
/// Patterns that are yielded, the most frequent ones.
const MAX_PATTERNS: usize = 300;
/// The least time between two points, as in Loki.
const MIN_STEP_NS: i64 = 10 * SECOND_NS;
/// The metadata that tells the level of a line.
pub(super) const LEVEL: &str = "detected_level";

pub(super) async fn patterns(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, Refusal> {
    let bounds = Bounds::ordered(&params, now_ns(&console))?;
    let step_ns = step_ns(&params, bounds)?.max(MIN_STEP_NS);
    let Expr::Log(log) = parsed(&params)? else {
        return Err(Refusal::bad("only log selectors are supported"));
    };
    let asked = asked(&params, (bounds.start_ns, bounds.end_ns, step_ns));
    run(&console, asked, move |data, work, _| {
        let snapshot = data.logs(work).map_err(data_error)?;
        let found = find(&log, bounds, step_ns, &*snapshot, work)?;
        data.count_samples(snapshot.reads().lines);
        let mut warnings = snapshot.missing();
        if found.stride > 1 {
            warnings.push(format!(
                "one line of {} was looked at and stands for the others: counts are estimates",
                found.stride
            ));
        }
        let rows = found.rows(step_ns);
        let mut body = json!({ "status": "success", "data": rows });
        if !warnings.is_empty() {
            body["warnings"] = Value::from(warnings);
        }
        Ok(encode::small(&body))
    })
    .await
}

/// Patterns of the lines of one level.
#[derive(Default)]
struct OfLevel {
    finder: PatternFinder,
    /// Lines by pattern and step.
    counts: BTreeMap<PatternId, BTreeMap<i64, u64>>,
}

struct Found {
    levels: BTreeMap<String, OfLevel>,
    /// So many lines stand behind each that was looked at.
    stride: u64,
}

fn find(
    log: &LogExpr,
    bounds: Bounds,
    step_ns: i64,
    snapshot: &dyn LogSnapshot,
    work: &Work,
) -> Result<Found, ApiError> {
    let pushdown = Pushdown::of(log).map_err(|error| bad_data(error.to_string()))?;
    let Bounds { start_ns, end_ns } = bounds.of_lines();
    let mut request = pushdown.request(log, start_ns, end_ns);
    let wanted = [LEVEL.to_owned()];
    request.metadata = MetadataWanted::Named(&wanted);
    loop {
        let mut lines = 0;
        if !count(snapshot, &log.matchers, bounds, &mut |_, _| true, &mut |one| lines += one.lines)?
        {
            continue;
        }
        let stride = lines.div_ceil(MAX_LINES).max(1);
        let mut found = Found { levels: BTreeMap::new(), stride };
        let mut reader = Reader { found: &mut found, step_ns, seen: 0, work };
        match snapshot.feed(&request, &mut reader) {
            Ok(()) => return Ok(found),
            Err(LogFault::Again) => {}
            Err(LogFault::Source(error)) => return Err(data_error(error)),
            Err(LogFault::Query(error)) => return Err(metric_error(error)),
        }
    }
}

struct Reader<'a> {
    found: &'a mut Found,
    step_ns: i64,
    seen: u64,
    work: &'a Work,
}

impl logql::metric::Sink for Reader<'_> {
    fn stream(&mut self, _: &model::Labels) {}

    fn entry(
        &mut self,
        entry: &logql::metric::Entry<'_>,
    ) -> Result<(), logql::metric::MetricError> {
        self.seen += 1;
        if !self.seen.is_multiple_of(self.found.stride) {
            return Ok(());
        }
        if self.seen.is_multiple_of(1_024) && self.work.is_cancelled() {
            return Err(logql::metric::MetricError::Source("nobody waits any more".to_owned()));
        }
        let Ok(line) = std::str::from_utf8(entry.line) else { return Ok(()) };
        let level = entry.metadata.iter().find(|(name, _)| *name == LEVEL);
        let level = level.map_or("", |(_, value)| *value);
        let levels = &mut self.found.levels;
        if !levels.contains_key(level) {
            levels.insert(level.to_owned(), OfLevel::default());
        }
        let Some(of_level) = levels.get_mut(level) else { return Ok(()) };
        if let Some(id) = of_level.finder.learn(line) {
            let step = entry.timestamp_ns.div_euclid(self.step_ns);
            *of_level.counts.entry(id).or_default().entry(step).or_default() += 1;
        }
        Ok(())
    }

    fn takes_run(&self, _: i64, _: i64) -> bool {
        false
    }

    fn run(&mut self, _: logql::metric::Run<'_>) -> Result<(), logql::metric::MetricError> {
        Ok(())
    }
}

impl Found {
    fn rows(&self, step_ns: i64) -> Vec<Value> {
        let mut rows: Vec<(u64, Value)> = Vec::new();
        for (level, of_level) in &self.levels {
            // Patterns that have become equal are one.
            let mut by_text: BTreeMap<String, BTreeMap<i64, u64>> = BTreeMap::new();
            for (id, counts) in &of_level.counts {
                let Some(text) = of_level.finder.pattern(*id) else { continue };
                let merged = by_text.entry(text).or_default();
                for (step, lines) in counts {
                    *merged.entry(*step).or_default() += lines * self.stride;
                }
            }
            for (text, counts) in by_text {
                let samples: Vec<(i64, u64)> = counts
                    .iter()
                    .map(|(step, lines)| (step.saturating_mul(step_ns) / SECOND_NS, *lines))
                    .collect();
                let mut row = json!({ "pattern": text, "samples": samples });
                if !level.is_empty() {
                    row["level"] = Value::from(level.as_str());
                }
                rows.push((counts.values().sum(), row));
            }
        }
        rows.sort_by_key(|(lines, _)| std::cmp::Reverse(*lines));
        rows.truncate(MAX_PATTERNS);
        rows.into_iter().map(|(_, row)| row).collect()
    }
}
