//! `index/stats`, `index/volume` and `index/volume_range`: how much there is, exactly.
//!
//! Source: `pkg/storage/stores/index/seriesvolume` and `pkg/util/time.go` of Loki.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use logql::metric::MetadataWanted;
use model::{Labels, MatchOp, Matcher};
use net::ApiError;
use serde_json::json;

use super::asked::{Bounds, limit, step_ns};
use super::encode;
use super::names::{listed, matchers};
use super::query::{now_ns, run};
use super::refusal::{Refusal, data_error, metric_error};
use super::statistics::Statistics;
use crate::Console;
use crate::json as json_text;
use crate::log_data::{LogCount, LogFault, LogRequest, LogSnapshot};
use crate::params::Params;
use crate::running::hold;

const MILLISECOND_NS: i64 = 1_000_000;

pub(super) async fn stats(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, Refusal> {
    let bounds = Bounds::ordered(&params, now_ns(&console))?;
    // Here Loki wants a condition that some stream does not satisfy.
    let query = params.get("query").unwrap_or_default();
    let matchers = logql::syntax::parse_matchers(query).map_err(Refusal::bad)?;
    run(&console, listed(&params), move |data, work, _| {
        let snapshot = data.logs(work).map_err(data_error)?;
        let mut streams = 0_u64;
        let (mut entries, mut bytes) = (0_u64, 0_u64);
        let mut last: Option<Labels> = None;
        let again = |last: &mut Option<Labels>| {
            *last = None;
        };
        loop {
            let counted = count(&*snapshot, &matchers, bounds, &mut |_, _| true, &mut |one| {
                if last.as_ref() != Some(one.labels) {
                    last = Some(one.labels.clone());
                    streams += 1;
                }
                entries += one.lines;
                bytes += one.bytes;
            })?;
            if counted {
                break;
            }
            again(&mut last);
            (streams, entries, bytes) = (0, 0, 0);
        }
        let reads = snapshot.reads();
        let chunks = reads.blocks + reads.heads;
        Ok(encode::small(&json!({
            "streams": streams, "chunks": chunks, "entries": entries, "bytes": bytes,
        })))
    })
    .await
}

pub(super) async fn volume(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, Refusal> {
    answer(&console, &params, false).await
}

pub(super) async fn volume_range(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, Refusal> {
    answer(&console, &params, true).await
}

/// What is asked of volumes.
struct Volumes {
    matchers: Vec<Matcher>,
    bounds: Bounds,
    /// `None` for one number for the whole range.
    step_ns: Option<i64>,
    limit: usize,
    /// Labels that count; `None` for all.
    labels: Option<BTreeSet<String>>,
    by_label: bool,
}

impl Volumes {
    fn of(params: &Params, is_range: bool, now_ns: i64) -> Result<Volumes, Refusal> {
        let bounds = Bounds::ordered(params, now_ns)?;
        let limit = limit(params)?;
        let step_ns = is_range.then(|| step_ns(params, bounds)).transpose()?;
        let by_label = match params.get("aggregateBy") {
            None | Some("series") => false,
            Some("labels") => true,
            Some(_) => return Err(Refusal::bad("invalid aggregation option")),
        };
        let mut matchers = selector(params)?;
        let targets: BTreeSet<String> = params
            .get("targetLabels")
            .map(|text| text.split(',').map(str::trim).filter(|name| !name.is_empty()))
            .map(|names| names.map(str::to_owned).collect())
            .unwrap_or_default();
        let labels = if targets.is_empty() {
            let of_matchers: BTreeSet<String> = matchers.iter().map(|m| m.name.clone()).collect();
            Some(of_matchers).filter(|names| !names.is_empty() && !by_label)
        } else {
            for name in &targets {
                // Streams without it have no volume there.
                if !matchers.iter().any(|matcher| matcher.name == *name) {
                    matchers.extend(Matcher::new(name, MatchOp::NotEqual, ""));
                }
            }
            Some(targets)
        };
        Ok(Volumes { matchers, bounds, step_ns, limit, labels, by_label })
    }

    /// The bucket of a time.
    fn bucket(&self, t_ns: i64) -> i64 {
        self.step_ns.map_or(0, |step_ns| t_ns.div_euclid(step_ns))
    }

    /// The time that stands for a bucket, in milliseconds: its last, as in Loki.
    fn stamp_ms(&self, bucket: i64) -> i64 {
        let Bounds { end_ns, .. } = self.bounds;
        let last_ns = match self.step_ns {
            None => end_ns,
            Some(step_ns) => {
                let end_of_bucket_ns = (bucket + 1).saturating_mul(step_ns);
                if end_of_bucket_ns >= end_ns { end_ns } else { end_of_bucket_ns - MILLISECOND_NS }
            }
        };
        last_ns.div_euclid(MILLISECOND_NS)
    }

    /// What a stream's bytes count for.
    fn keys(&self, labels: &Labels) -> Vec<String> {
        let counts = |name: &str| self.labels.as_ref().is_none_or(|names| names.contains(name));
        let wanted = labels.iter().filter(|(name, _)| counts(name));
        if self.by_label {
            return wanted.map(|(name, _)| object([(name, "")].into_iter())).collect();
        }
        vec![object(wanted)]
    }
}

fn object<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = Vec::new();
    encode::write_object(&mut out, pairs);
    String::from_utf8(out).unwrap_or_default()
}

async fn answer(
    console: &Arc<Console>,
    params: &Params,
    is_range: bool,
) -> Result<Response, Refusal> {
    let asked = Volumes::of(params, is_range, now_ns(console))?;
    run(console, listed(params), move |data, work, queued| {
        let began = std::time::Instant::now();
        let snapshot = data.logs(work).map_err(data_error)?;
        let found = loop {
            let mut found = Found::default();
            let mut takes = |first_ns, last_ns| asked.bucket(first_ns) == asked.bucket(last_ns);
            let counted =
                count(&*snapshot, &asked.matchers, asked.bounds, &mut takes, &mut |one| {
                    found.add(&asked, one);
                })?;
            if counted {
                break found;
            }
        };
        let series = found.largest(asked.limit);
        let executed = began.elapsed();
        let (reads, yielded) = (snapshot.reads(), series.len());
        let statistics = Statistics { reads, queued, executed, yielded, ..Statistics::default() };
        let mut body = Vec::new();
        let kind = if is_range { "matrix" } else { "vector" };
        encode::begin(&mut body, &snapshot.missing(), kind, false);
        body.push(b'[');
        for (index, (metric, buckets)) in series.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            body.extend_from_slice(format!(r#"{{"metric":{metric},"#).as_bytes());
            body.extend_from_slice(if is_range { br#""values":["# } else { br#""value":"# });
            for (index, (bucket, bytes)) in buckets.iter().enumerate() {
                if index > 0 {
                    body.push(b',');
                }
                body.push(b'[');
                json_text::write_time(&mut body, asked.stamp_ms(*bucket));
                body.extend_from_slice(format!(",\"{bytes}\"]").as_bytes());
            }
            body.extend_from_slice(if is_range { b"]}" } else { b"}" });
        }
        body.push(b']');
        encode::end(&mut body, &statistics.to_json());
        let held = hold(work, body.capacity()).map_err(data_error)?;
        Ok(encode::answer(body, held))
    })
    .await
}

/// Bytes by what they count for, and by bucket.
#[derive(Default)]
struct Found {
    series: BTreeMap<String, BTreeMap<i64, u64>>,
    /// What the stream counts for that came last.
    last: Option<(Labels, Vec<String>)>,
}

impl Found {
    fn add(&mut self, asked: &Volumes, one: LogCount<'_>) {
        if self.last.as_ref().is_none_or(|(labels, _)| labels != one.labels) {
            self.last = Some((one.labels.clone(), asked.keys(one.labels)));
        }
        let Some((_, keys)) = &self.last else { return };
        let bucket = asked.bucket(one.first_ns);
        for key in keys {
            if !self.series.contains_key(key) {
                self.series.insert(key.clone(), BTreeMap::new());
            }
            if let Some(buckets) = self.series.get_mut(key) {
                *buckets.entry(bucket).or_default() += one.bytes;
            }
        }
    }

    /// The largest, in descending order.
    fn largest(self, limit: usize) -> Vec<(String, BTreeMap<i64, u64>)> {
        let mut all: Vec<_> = self.series.into_iter().collect();
        all.sort_by_cached_key(|(_, buckets)| std::cmp::Reverse(buckets.values().sum::<u64>()));
        all.truncate(limit);
        all
    }
}

/// Conditions on streams; a request without any means all of them.
fn selector(params: &Params) -> Result<Vec<Matcher>, Refusal> {
    params.get("query").map_or(Ok(Vec::new()), matchers)
}

/// Counts lines. Yields `false` if what was handed over does not count and it has to be done again.
pub(super) fn count(
    snapshot: &dyn LogSnapshot,
    matchers: &[Matcher],
    bounds: Bounds,
    takes: &mut dyn FnMut(i64, i64) -> bool,
    each: &mut dyn FnMut(LogCount<'_>),
) -> Result<bool, ApiError> {
    let Bounds { start_ns, end_ns } = bounds.of_lines();
    let request = LogRequest {
        matchers,
        start_ns,
        end_ns,
        newest_first: false,
        needles: Vec::new(),
        fields: Vec::new(),
        values: Vec::new(),
        test: None,
        needs_lines: false,
        metadata: MetadataWanted::Named(&[]),
        takes_runs: true,
    };
    match snapshot.counts(&request, takes, each) {
        Ok(()) => Ok(true),
        Err(LogFault::Again) => Ok(false),
        Err(LogFault::Source(error)) => Err(data_error(error)),
        Err(LogFault::Query(error)) => Err(metric_error(error)),
    }
}
