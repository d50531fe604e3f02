//! The statistics of a query as Prometheus tells them with `stats`.
//!
//! Source: `util/stats/query_stats.go` of Prometheus 3.

use std::time::Duration;

use promql::{EvalTime, QueryOutput};
use serde_json::{Value, json};

use crate::execute::Timings;

/// Which statistics a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    None,
    Totals,
    /// `stats=all`: also the samples of each step.
    PerStep,
}

impl Wanted {
    /// Any text asks for some.
    pub(super) fn of(stats: Option<&str>) -> Wanted {
        match stats {
            None => Wanted::None,
            Some("all") => Wanted::PerStep,
            Some(_) => Wanted::Totals,
        }
    }
}

/// The object `stats`; `None` if nobody asked, or nothing was measured.
pub(super) fn of(
    output: &QueryOutput,
    time: EvalTime,
    timings: &Timings,
    wanted: Wanted,
) -> Option<Value> {
    let profile = output.profile.as_deref().filter(|_| wanted != Wanted::None)?;
    let sort = Duration::from_nanos(profile.output_ns);
    let select = Duration::from_nanos(profile.select_ns);
    let preparation = timings.snapshot + select;
    let inner = timings.evaluation.saturating_sub(select + sort);
    let evaluation = preparation + inner + sort;
    let mut samples = json!({
        "totalQueryableSamples": profile.samples_per_step.iter().sum::<u64>(),
        "samplesRead": output.stats.samples_read,
        "peakSamples": output.stats.peak_samples,
    });
    if wanted == Wanted::PerStep {
        let (start_ms, step_ms) = match time {
            EvalTime::Instant(t_ms) => (t_ms, 0),
            EvalTime::Range { start_ms, step_ms, .. } => (start_ms, step_ms),
        };
        let steps = (0_i64..).zip(&profile.samples_per_step);
        let at = |step: i64| start_ms.saturating_add(step_ms.saturating_mul(step));
        let rows = steps.map(|(step, count)| json!([seconds(at(step)), count]));
        samples["totalQueryableSamplesPerStep"] = rows.collect();
    }
    Some(json!({
        "timings": {
            "evalTotalTime": evaluation.as_secs_f64(),
            "resultSortTime": sort.as_secs_f64(),
            "queryPreparationTime": preparation.as_secs_f64(),
            "innerEvalTime": inner.as_secs_f64(),
            "execQueueTime": timings.queued.as_secs_f64(),
            "execTotalTime": (timings.queued + evaluation).as_secs_f64(),
        },
        "samples": samples,
    }))
}

/// A time or a length of time as the API has it.
pub(super) fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}
