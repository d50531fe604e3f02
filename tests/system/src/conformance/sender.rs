//! The cases of Prometheus' compliance suite for senders of remote write.
//!
//! For each case the program scrapes a target that exposes the case's text and writes to a receiver
//! that answers as the case has it; what came is judged. Some dozen cases share a process: each has
//! a job and a remote of its own, and the remote gets that job's series alone.

use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::sender_cases::{Plan, plan_of};
use super::sender_checks::{Evidence, judge};
use crate::harness::Launch;
use crate::harness::write_receiver::{Reaction, WriteReceiver};

/// Cases that share a process: every remote reads what all of them bring.
const GROUP: usize = 40;
/// How long a process runs.
const LIFE: Duration = Duration::from_secs(9);
/// When the receiver that is away at first comes.
const AWAY: Duration = Duration::from_secs(3);

/// What became of the cases.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) passed: usize,
    pub(super) failed: usize,
}

/// Runs all cases; what fails is printed.
pub(super) fn run(cases: &[Value], scratch: &Path) -> Result<Counts> {
    let mut counts = Counts::default();
    let mut plans = Vec::new();
    for case in cases {
        let name = case["name"].as_str().context("a case without a name")?;
        match plan_of(name, case["scrape_data"].as_str()) {
            Some(plan) => plans.push(plan),
            None => {
                counts.failed += 1;
                println!("{name} FAIL this case is not known here");
            }
        }
    }
    let groups = groups(plans);
    let judged = std::thread::scope(|scope| {
        let threads: Vec<_> = groups
            .iter()
            .enumerate()
            .map(|(number, group)| {
                let directory = scratch.join(format!("sender-{number}"));
                scope.spawn(move || {
                    std::fs::create_dir_all(&directory)?;
                    run_group(group, &directory)
                })
            })
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join().expect("no group panics"));
        joined.collect::<Result<Vec<_>>>()
    })?;
    for (name, outcome) in judged.into_iter().flatten() {
        match outcome {
            Ok(()) => counts.passed += 1,
            Err(error) => {
                counts.failed += 1;
                println!("{name} FAIL {error:#}");
            }
        }
    }
    Ok(counts)
}

/// Cases that can share a process: no two of a group say something about the same metric.
fn groups(plans: Vec<Plan>) -> Vec<Vec<Plan>> {
    let mut groups: Vec<(BTreeSet<String>, Vec<Plan>)> = Vec::new();
    for plan in plans {
        let types = plan.exposed[0].lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let told: BTreeSet<String> =
            types.filter_map(|rest| Some(rest.split_once(' ')?.0.to_owned())).collect();
        let fitting = groups
            .iter_mut()
            .find(|(families, plans)| plans.len() < GROUP && families.is_disjoint(&told));
        match fitting {
            Some((families, plans)) => {
                families.extend(told);
                plans.push(plan);
            }
            None => groups.push((told, vec![plan])),
        }
    }
    groups.into_iter().map(|(_, plans)| plans).collect()
}

fn run_group(plans: &[Plan], directory: &Path) -> Result<Vec<(String, Result<()>)>> {
    let targets = Targets::start(plans)?;
    let scripts: HashMap<String, Vec<Reaction>> =
        plans.iter().map(|plan| (plan.path(), plan.answers.clone())).collect();
    let script = move |path: &str, number: usize| {
        let answers = scripts.get(path).and_then(|answers| answers.get(number));
        answers.cloned().unwrap_or_else(|| Reaction::status(204))
    };
    let receiver = WriteReceiver::start(Box::new(script))?;
    let away = nobody()?;
    let file = directory.join("prometheus.yml");
    std::fs::write(&file, configuration(plans, targets.address, receiver.address(), away))?;
    let shown = file.display().to_string();
    let mut server = Launch::broker(&directory.join("data"))
        .config("limits: {max_label_value_bytes: 65536}\n")
        .arguments(&["--prometheus-config", &shown, "--log", "info"])
        .start()?;
    std::thread::sleep(AWAY);
    let late = WriteReceiver::start_at(away, Box::new(|_, _| Reaction::status(204)))?;
    std::thread::sleep(LIFE - AWAY);
    let metrics = server.client().get("/metrics")?.text();
    ensure!(server.is_running(), "the program ended: {}", server.stderr());
    let log = server.stderr();
    server.stop()?;
    let judged = plans.iter().map(|plan| {
        let receiver = if plan.is_away { &late } else { &receiver };
        let evidence = Evidence {
            plan,
            requests: receiver.received(&plan.path()),
            metrics: &metrics,
            log: &log,
            target: targets.address,
        };
        (plan.name.clone(), judge(&evidence))
    });
    Ok(judged.collect())
}

fn configuration(
    plans: &[Plan],
    targets: SocketAddr,
    receiver: SocketAddr,
    away: SocketAddr,
) -> String {
    let mut text =
        "global: {scrape_interval: 1s, scrape_timeout: 900ms}\nscrape_configs:\n".to_owned();
    for plan in plans {
        text.push_str(&format!(
            "- job_name: {0}\n  metrics_path: /{0}\n{1}  static_configs: [{{targets: \
             ['{targets}']}}]\n",
            plan.name, plan.job_keys
        ));
    }
    text.push_str("remote_write:\n");
    for plan in plans {
        let address = if plan.is_away { away } else { receiver };
        let message =
            if plan.is_one { "prometheus.WriteRequest" } else { "io.prometheus.write.v2.Request" };
        text.push_str(&format!(
            "- url: http://{address}{path}\n  name: {name}\n  protobuf_message: {message}\n  \
             send_native_histograms: true\n  send_exemplars: true\n  write_relabel_configs: \
             [{{source_labels: [job], regex: {name}, action: keep}}]\n  metadata_config: \
             {{send_interval: 2s}}\n  queue_config: {{batch_send_deadline: 500ms, min_backoff: \
             100ms, max_backoff: 800ms{queue}}}\n{keys}",
            path = plan.path(),
            name = plan.name,
            queue = plan.queue_keys,
            keys = plan.remote_keys,
        ));
    }
    text
}

/// What the cases expose: the n-th scrape gets the n-th text, or the last.
struct Targets {
    address: SocketAddr,
}

type Exposed = HashMap<String, (&'static str, Vec<String>)>;

impl Targets {
    fn start(plans: &[Plan]) -> Result<Targets> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let exposed: Exposed = plans
            .iter()
            .map(|plan| (format!("/{}", plan.name), (plan.content_type, plan.exposed.clone())))
            .collect();
        let (exposed, turns) = (Arc::new(exposed), Arc::new(Mutex::new(HashMap::new())));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (exposed, turns) = (Arc::clone(&exposed), Arc::clone(&turns));
                // A scrape that is given up is no news.
                std::thread::spawn(move || serve(stream, &exposed, &turns));
            }
        });
        Ok(Targets { address })
    }
}

fn serve(
    mut stream: TcpStream,
    exposed: &Exposed,
    turns: &Mutex<HashMap<String, usize>>,
) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split_whitespace().nth(1).unwrap_or_default().to_owned();
    while line.trim_end() != "" {
        line.clear();
        reader.read_line(&mut line)?;
    }
    let turn = {
        let mut turns = turns.lock().expect("no holder panics");
        let turn = turns.entry(path.clone()).or_insert(0);
        *turn += 1;
        *turn - 1
    };
    let (content_type, texts) = exposed.get(&path).context("no such target")?;
    let body = &texts[turn.min(texts.len() - 1)];
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: \
         close\r\n\r\n{body}",
        body.len()
    )?;
    Ok(())
}

/// An address where nobody listens. It is below the ports that the system gives to clients: one that
/// tries again and again could be given this very port, and find itself.
fn nobody() -> Result<SocketAddr> {
    // Groups run beside each other: each port is given once.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 8_000) as u16;
    let ports = (0..4_000).map(|_| first + NEXT.fetch_add(1, Ordering::Relaxed));
    let free = { ports }.find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    Ok(free.context("a free port below those of clients")?.local_addr()?)
}
