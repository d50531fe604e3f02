//! Rules by the clock, over series that get samples meanwhile: how late they are, and what they cost.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::alerts::now_ms;
use super::ruleset::{self, GROUP_LABEL, group_name};
use super::{Options, sink::Sink};
use crate::families::Fleet;
use crate::http::url_encode;
use crate::load::{Load, Shape};
use crate::scrape::quantile;
use crate::server::{Flushing, Kind, Server, Setup};
use crate::table::{Table, grouped, megabytes, ratio};
use crate::usage::{self, Memory};

/// Steps of samples that are there when rules begin: their windows are full.
const BEFORE: usize = 40;
/// Intervals of rules before it is measured: alerts become active, series are made.
const WARM_UP: u64 = 2;
/// Encoding a load and starting a server take at most this long.
const START: Duration = Duration::from_secs(10);

/// What one server did and needed.
struct Outcome {
    kind: Kind,
    lags: Vec<f64>,
    took: Vec<f64>,
    missed: f64,
    failed: f64,
    recorded: f64,
    alerts: f64,
    cpu_seconds: f64,
    load_cpu_seconds: f64,
    memory: Memory,
}

/// Evaluations of each group: when they began, microseconds since 1970, and how many seconds they took.
type Evaluations = BTreeMap<String, BTreeMap<u64, f64>>;

/// Runs the rules in each server in turn and yields the table.
pub(super) fn run(options: &Options) -> Result<String> {
    let mut outcomes = Vec::new();
    for kind in options.beside(Kind::Prometheus) {
        eprintln!("{}: {} rules", kind.name(), options.rules);
        outcomes.push(measure(options, kind)?);
    }
    Ok(render(options, &outcomes))
}

fn measure(options: &Options, kind: Kind) -> Result<Outcome> {
    let interval = Duration::from_secs(options.interval);
    let live = interval * WARM_UP as u32 + Duration::from_secs(options.seconds) + interval;
    let live_steps = live.as_secs().div_ceil(options.interval) as usize;
    let shape = Shape {
        fleet: Fleet::Devops,
        series: options.series,
        steps: BEFORE + live_steps,
        connections: 1,
        step_ms: interval.as_millis() as i64,
        churn_percent: 0,
    };
    // What Watchfire's rules tell goes to a webhook; Prometheus has nobody to tell.
    let sink = Sink::start(false)?;
    let step_ms = shape.step_ms;
    let begin_ms = (now_ms()? + START.as_millis() as i64) / step_ms * step_ms;
    let load = Load::ending_at(shape, begin_ms + live_steps as i64 * step_ms);
    let setup = Setup {
        rules: Some(ruleset::file(options.rules, options.interval)),
        alertmanager_config: (kind == Kind::Watchfire).then(|| {
            format!(
                "route: {{receiver: sink, group_by: [alertname]}}\nreceivers:\n- name: sink\n  \
                 webhook_configs: [{{url: '{}'}}]\n",
                sink.url()
            )
        }),
        ..Flushing::Default.into()
    };
    let server = Server::start(kind, setup)?;
    let bodies = &load.requests.lanes[0];
    let of_before = bodies.len() * BEFORE / (BEFORE + live_steps);
    let (before, after) = bodies.split_at(of_before);
    let mut client = server.client()?;
    for body in before {
        client.write("/api/v1/write", body)?.successful()?;
    }
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| send(after, &server, begin_ms, live_steps as i64 * step_ms));
        let outcome = observe(options, &server, begin_ms);
        sender.join().expect("a sender returns its errors")?;
        outcome
    })
}

/// Sends each request when its samples are due.
fn send(bodies: &[Vec<u8>], server: &Server, begin_ms: i64, length_ms: i64) -> Result<()> {
    let mut client = server.client()?;
    for (number, body) in bodies.iter().enumerate() {
        // The last sample of a request is as old as its end.
        let due_ms = begin_ms + length_ms * (number as i64 + 1) / bodies.len() as i64;
        sleep(Duration::from_millis((due_ms - now_ms()?).max(0).unsigned_abs()));
        client
            .write("/api/v1/write", body)
            .and_then(|answer| answer.successful())
            .with_context(|| format!("request {number}:\n{}", server.last_words()))?;
    }
    Ok(())
}

fn observe(options: &Options, server: &Server, begin_ms: i64) -> Result<Outcome> {
    let warm_ms = begin_ms + (options.interval * WARM_UP * 1_000) as i64;
    sleep(Duration::from_millis((warm_ms - now_ms()?).max(0).unsigned_abs()));
    let own = std::process::id();
    let (began, cpu, load_cpu) = (Instant::now(), server.cpu_seconds()?, usage::cpu_seconds(own)?);
    let counted = |page: &str, name: &str| -> f64 {
        let rows = page.lines().filter(|line| line.starts_with(name));
        rows.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    };
    let mut evaluations = Evaluations::new();
    let first = look(server, &mut evaluations)?;
    let mut last = first.clone();
    let mut looks = 0;
    while began.elapsed() < Duration::from_secs(options.seconds) {
        looks += 1;
        let next = Duration::from_secs(options.interval) * looks / 3;
        sleep(next.saturating_sub(began.elapsed()));
        last = look(server, &mut evaluations)?;
    }
    let begun = warm_ms as f64 / 1e3;
    let cpu_seconds = server.cpu_seconds()? - cpu;
    let load_cpu_seconds = usage::cpu_seconds(own)? - load_cpu;
    let phases = phases(server, options)?;
    let (mut lags, mut took) = (Vec::new(), Vec::new());
    for (group, times) in &evaluations {
        let phase = phases.get(group).with_context(|| format!("{group} recorded nothing"))?;
        for (start_us, seconds) in times {
            let start = *start_us as f64 / 1e6;
            if start > begun {
                lags.push(lag(start + seconds, *phase, options.interval as f64));
                took.push(*seconds);
            }
        }
    }
    lags.sort_by(f64::total_cmp);
    took.sort_by(f64::total_cmp);
    let more = |name: &str| counted(&last, name) - counted(&first, name);
    Ok(Outcome {
        kind: server.kind,
        lags,
        took,
        missed: more("prometheus_rule_group_iterations_missed_total"),
        failed: more("prometheus_rule_evaluation_failures_total"),
        recorded: server
            .query_total(&format!("count({{{GROUP_LABEL}!=\"\",__name__=~\".+:.+\"}})"))?,
        alerts: server.query_total("count(ALERTS)").unwrap_or(0.0),
        cpu_seconds,
        load_cpu_seconds,
        memory: server.memory()?,
    })
}

/// Notes the last evaluation of each group, and yields the page that told of them.
fn look(server: &Server, evaluations: &mut Evaluations) -> Result<String> {
    let body = server.client()?.get("/metrics")?.successful()?;
    let page = String::from_utf8(body).context("/metrics is no text")?;
    let of = |name: &str| -> BTreeMap<String, f64> {
        let prefix = format!("{name}{{rule_group=\"");
        let rows = page.lines().filter_map(|line| line.strip_prefix(&prefix)?.split_once("\"} "));
        let group = |label: &str| label.rsplit_once(';').map_or(label, |(_, name)| name).to_owned();
        rows.filter_map(|(label, value)| Some((group(label), value.trim().parse().ok()?))).collect()
    };
    let began = of("prometheus_rule_group_last_evaluation_timestamp_seconds");
    let took = of("prometheus_rule_group_last_duration_seconds");
    ensure!(!began.is_empty(), "/metrics tells of no evaluation");
    for (group, start) in began {
        // A group that was not evaluated yet has a time long ago.
        if let Some(seconds) = took.get(&group).filter(|_| start > 0.0) {
            evaluations.entry(group).or_default().insert((start * 1e6) as u64, *seconds);
        }
    }
    Ok(page)
}

/// When groups are due, seconds since 1970 modulo the interval: what they record bears that time.
fn phases(server: &Server, options: &Options) -> Result<BTreeMap<String, f64>> {
    // As a range, since only that yields the times of samples, whatever their names are.
    let query =
        format!("{{{GROUP_LABEL}!=\"\",__name__=~\"datacenter:.+\"}}[{}s]", options.interval * 2);
    let path = format!("/api/v1/query?query={}", url_encode(&query));
    let body = server.client()?.get(&path)?.successful()?;
    let answer: Value = serde_json::from_slice(&body).context("the answer is no JSON")?;
    let rows = answer["data"]["result"].as_array().context("the answer has no result")?;
    let phase = |row: &Value| -> Option<(String, f64)> {
        let group: usize = row["metric"][GROUP_LABEL].as_str()?.parse().ok()?;
        let at = row["values"].as_array()?.last()?[0].as_f64()?;
        Some((group_name(group), at % options.interval as f64))
    };
    Ok(rows.iter().filter_map(phase).collect())
}

/// How long after it was due something was done. Servers note times to the millisecond, so that what was done at
/// once may seem to have been done before.
fn lag(done: f64, phase: f64, interval: f64) -> f64 {
    let lag = (done - phase).rem_euclid(interval);
    if lag > interval - 0.01 { 0.0 } else { lag }
}

fn render(options: &Options, outcomes: &[Outcome]) -> String {
    let mut table = Table::new([
        "server",
        "evaluations of groups",
        "missed",
        "failed",
        "series recorded",
        "alerts",
        "lag ms p50",
        "p99",
        "max",
        "took ms p50",
        "p99",
        "cores",
        "vs Prometheus",
        "RSS MB",
        "vs Prometheus",
        "load's cores",
    ]);
    let reference = outcomes.iter().find(|outcome| outcome.kind == Kind::Prometheus);
    let seconds = options.seconds as f64;
    for one in outcomes {
        let lag = |share| format!("{:.1}", quantile(&one.lags, share) * 1e3);
        let took = |share| format!("{:.1}", quantile(&one.took, share) * 1e3);
        table.push(vec![
            one.kind.name().to_owned(),
            grouped(one.lags.len() as f64),
            grouped(one.missed),
            grouped(one.failed),
            grouped(one.recorded),
            grouped(one.alerts),
            lag(0.5),
            lag(0.99),
            lag(1.0),
            took(0.5),
            took(0.99),
            format!("{:.2}", one.cpu_seconds / seconds),
            ratio(one.cpu_seconds, reference.map(|one| one.cpu_seconds)),
            megabytes(one.memory.now_bytes),
            ratio(one.memory.now_bytes as f64, reference.map(|one| one.memory.now_bytes as f64)),
            format!("{:.2}", one.load_cpu_seconds / seconds),
        ]);
    }
    format!(
        "{}\n\
         {} rules in groups of 25 (15 recording, 10 alerting) each {} s, over {} series that get a sample as often by \
         remote write, for {} s after {} intervals. Lag: from the moment at which an evaluation of a group was due, \
         which is the time that its samples bear, until its last rule was done. Cores: of the whole server, what it takes \
         for the samples included.\n\
         watchfire syncs what rules yield before it reads it, writes down states of alerts and notifies; prometheus does neither, \
         and has nobody to tell.\n",
        table.render(),
        grouped(options.rules as f64),
        options.interval,
        grouped(options.series as f64),
        options.seconds,
        WARM_UP
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lags_are_counted_from_the_last_time_that_was_due() {
        assert_eq!(lag(100.5, 10.0, 15.0), 0.5);
        assert_eq!(lag(110.5, 10.0, 15.0), 10.5);
        assert_eq!(lag(99.999, 10.0, 15.0), 0.0);
    }
}
