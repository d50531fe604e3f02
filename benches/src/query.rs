//! `query`: how long the questions of dashboards take, and what they cost.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::answers::Answer;
use crate::families::Fleet;
use crate::http::url_encode;
use crate::ingest;
use crate::load::{Load, Shape};
use crate::server::{Flushing, Kind, Server};
use crate::table::{Table, megabytes, ratio};

/// What is asked: a name for the table and an expression.
type Expressions = &'static [(&'static str, &'static str)];

const NODE: Expressions = &[
    ("rate by instance", "sum by (instance) (rate(node_cpu_seconds_total[5m]))"),
    ("topk of rates", "topk(5, sum by (instance) (rate(node_network_receive_bytes_total[1m])))"),
    (
        "quantile by job",
        r#"quantile by (job) (0.95, rate(node_cpu_seconds_total{mode="user"}[5m]))"#,
    ),
    ("max_over_time", "max_over_time(node_cpu_scaling_frequency_hertz[10m])"),
    ("division", "node_schedstat_running_seconds_total / node_schedstat_timeslices_total"),
    ("count over all", r#"count({job="node"})"#),
    ("regex on names", r#"{__name__=~"node_(memory|netstat|vmstat|sockstat)_.*"}"#),
];

/// After TSBS' queries of the same names. Where these group by metric the last value stands for the largest:
/// `max_over_time` takes the name away, in Prometheus.
const DEVOPS: Expressions = &[
    ("single-groupby-1-1", r#"max(max_over_time(cpu_usage_user{hostname="host_7"}[1m]))"#),
    (
        "single-groupby-5-8",
        r#"max by (__name__) (last_over_time({__name__=~"cpu_usage_(user|system|idle|nice|iowait)",hostname=~"host_[1-8]"}[1m]))"#,
    ),
    (
        "cpu-max-all-8",
        r#"max by (__name__) (last_over_time({__name__=~"cpu_.*",hostname=~"host_[1-8]"}[1h]))"#,
    ),
    ("double-groupby-1", "avg by (hostname) (avg_over_time(cpu_usage_user[1h]))"),
    (
        "double-groupby-all",
        r#"avg by (__name__, hostname) (last_over_time({__name__=~"cpu_.*"}[1h]))"#,
    ),
    ("high-cpu-all", "max_over_time(cpu_usage_user[5m]) > 90"),
    ("groupby-orderby-limit", "topk(5, max by (hostname) (max_over_time(cpu_usage_user[1m])))"),
    ("count over all", r#"count({hostname!=""})"#),
];

fn expressions(fleet: Fleet) -> Expressions {
    match fleet {
        Fleet::Node => NODE,
        Fleet::Devops => DEVOPS,
    }
}

/// Every question is asked over these, which end with the load, if the load is as long.
const WINDOWS: &[Window] = &[
    Window { name: "1 h / 15 s", seconds: 3_600, step_seconds: 15 },
    Window { name: "6 h / 60 s", seconds: 21_600, step_seconds: 60 },
    Window { name: "30 d / 1 h", seconds: 30 * 86_400, step_seconds: 3_600 },
];
/// The question that is also asked for one instant.
const INSTANT: &str = "count over all";

/// Fewest timed runs of a question, after one that warms up.
const MIN_RUNS: usize = 7;
/// Short questions are asked more often, because CPU is counted in hundredths of a second.
const MIN_TIME: Duration = Duration::from_secs(3);
const MAX_RUNS: usize = 200;

#[derive(Debug)]
struct Window {
    name: &'static str,
    seconds: i64,
    step_seconds: i64,
}

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) name: &'static str,
    pub(crate) window: &'static str,
    pub(crate) path: String,
}

/// What came of asking one server alone.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) p50_ms: f64,
    /// How often, besides once to warm up.
    pub(crate) runs: usize,
    pub(crate) body: Vec<u8>,
}

/// What one server did with one question.
#[derive(Debug)]
struct Outcome {
    p50_ms: f64,
    cpu_ms: f64,
    answer: Answer,
}

/// A loaded server that waits for questions.
#[derive(Debug)]
struct Asked {
    server: Server,
    /// One per question.
    outcomes: Vec<Outcome>,
}

/// Loads each server in turn, then asks them everything and yields the table.
///
/// While questions are asked all servers run, and each question goes to all of them in alternation:
/// whatever else the machine does then falls on all alike. A server that is not asked is idle.
pub(crate) fn run(load: &Load, kinds: &[Kind]) -> Result<String> {
    let questions = questions(load);
    let mut asked = Vec::new();
    for &kind in kinds {
        eprintln!("{}: taking in {} samples", kind.name(), load.shape.samples());
        let server = Server::start(kind, Flushing::Soon)?;
        ingest::send(&load.requests, &server)?;
        server.wait_quiet()?;
        asked.push(Asked { server, outcomes: Vec::new() });
    }
    for question in &questions {
        eprintln!("asking: {}, {}", question.name, question.window);
        ask(question, &mut asked).with_context(|| question.path.clone())?;
    }
    render(&load.shape, &questions, &asked)
}

/// Everything that is asked of a load.
pub(crate) fn questions(load: &Load) -> Vec<Question> {
    let end = load.end_ms / 1_000;
    let expressions = expressions(load.shape.fleet);
    let mut questions = Vec::new();
    for window in WINDOWS.iter().filter(|one| one.seconds * 1_000 <= load.shape.duration_ms()) {
        for &(name, expression) in expressions {
            questions.push(Question {
                name,
                window: window.name,
                path: format!(
                    "/api/v1/query_range?query={}&start={}&end={end}&step={}",
                    url_encode(expression),
                    end - window.seconds,
                    window.step_seconds
                ),
            });
        }
    }
    for &(name, expression) in expressions.iter().filter(|(name, _)| *name == INSTANT) {
        let path = format!("/api/v1/query?query={}&time={end}", url_encode(expression));
        questions.push(Question { name, window: "instant", path });
    }
    questions
}

/// Asks one server alone.
pub(crate) fn time(question: &Question, server: &Server) -> Result<Asking> {
    let mut client = server.client()?;
    let path = format!("{}{}", question.path, server.kind.uncached());
    let mut body = client.get(&path)?.successful()?;
    let (started, mut times) = (Instant::now(), Vec::new());
    while more(times.len(), started) {
        let sent = Instant::now();
        body = client.get(&path)?.successful()?;
        times.push(sent.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(Asking { p50_ms: times[times.len() / 2], runs: times.len(), body })
}

fn more(runs: usize, started: Instant) -> bool {
    runs < MIN_RUNS || (started.elapsed() < MIN_TIME && runs < MAX_RUNS)
}

fn ask(question: &Question, asked: &mut [Asked]) -> Result<()> {
    let path = |kind: Kind| format!("{}{}", question.path, kind.uncached());
    let (mut clients, mut cpu_before) = (Vec::new(), Vec::new());
    for one in asked.iter() {
        // A new connection for each question: servers close those that were idle for long.
        let mut client = one.server.client()?;
        client.get(&path(one.server.kind))?.successful()?;
        clients.push(client);
        cpu_before.push(one.server.cpu_seconds()?);
    }
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); asked.len()];
    let mut bodies = vec![Vec::new(); asked.len()];
    let (started, mut runs) = (Instant::now(), 0);
    while more(runs, started) {
        for (place, one) in asked.iter().enumerate() {
            let path = path(one.server.kind);
            let sent = Instant::now();
            bodies[place] = clients[place].get(&path)?.successful()?;
            times[place].push(sent.elapsed().as_secs_f64() * 1e3);
        }
        runs += 1;
    }
    for (place, one) in asked.iter_mut().enumerate() {
        let cpu_ms = (one.server.cpu_seconds()? - cpu_before[place]) * 1e3 / runs as f64;
        times[place].sort_by(f64::total_cmp);
        let answer = Answer::parse(&bodies[place])?;
        one.outcomes.push(Outcome { p50_ms: times[place][runs / 2], cpu_ms, answer });
    }
    Ok(())
}

fn render(shape: &Shape, questions: &[Question], asked: &[Asked]) -> Result<String> {
    let mut table = Table::new([
        "query",
        "window",
        "watchfire ms",
        "VM ms",
        "Prometheus ms",
        "watchfire vs VM",
        "watchfire CPU ms",
        "VM CPU ms",
        "CPU vs VM",
        "series",
        "differs from Prometheus in",
    ]);
    for (number, question) in questions.iter().enumerate() {
        let outcome = |kind: Kind| {
            asked.iter().find(|one| one.server.kind == kind).map(|one| &one.outcomes[number])
        };
        let cell = |kind: Kind, figure: fn(&Outcome) -> f64| {
            outcome(kind).map_or_else(|| "-".to_owned(), |o| format!("{:.1}", figure(o)))
        };
        let compare = |figure: fn(&Outcome) -> f64| {
            let reference = outcome(Kind::VictoriaMetrics).map(figure);
            outcome(Kind::Watchfire)
                .map_or_else(|| "-".to_owned(), |own| ratio(figure(own), reference))
        };
        let difference = match (outcome(Kind::Watchfire), outcome(Kind::Prometheus)) {
            (Some(own), Some(other)) => {
                own.answer.difference(&other.answer).unwrap_or_else(|| "nothing".to_owned())
            }
            _ => "-".to_owned(),
        };
        let series = asked.first().map_or(0, |one| one.outcomes[number].answer.series());
        table.push(vec![
            question.name.to_owned(),
            question.window.to_owned(),
            cell(Kind::Watchfire, |o| o.p50_ms),
            cell(Kind::VictoriaMetrics, |o| o.p50_ms),
            cell(Kind::Prometheus, |o| o.p50_ms),
            compare(|o| o.p50_ms),
            cell(Kind::Watchfire, |o| o.cpu_ms),
            cell(Kind::VictoriaMetrics, |o| o.cpu_ms),
            compare(|o| o.cpu_ms),
            series.to_string(),
            difference,
        ]);
    }
    let expressions: String =
        expressions(shape.fleet).iter().map(|(name, text)| format!("  {name}: {text}\n")).collect();
    let memory = asked
        .iter()
        .map(|one| {
            let memory = one.server.memory()?;
            let (now, peak) = (megabytes(memory.now_bytes), megabytes(memory.peak_bytes));
            Ok(format!("{} {now} MB, at most {peak} MB", one.server.kind.name()))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(format!(
        "{}\n\
         Time: median of at least {MIN_RUNS} runs after one to warm up, from the \
         request to the last byte of the answer; one at a time, to each server in turn; caches of results are off (nocache=1).\n\
         CPU: of the server, per query. Values are the same within 1e-9.\n\
         Resident memory after all queries: {}.\n{expressions}",
        table.render(),
        memory.join("; ")
    ))
}
