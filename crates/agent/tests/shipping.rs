//! The whole agent against a broker over real sockets and a real disk: cut off, killed, restarted.

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent::{Agent, AgentConfig, TierConfig};
use model::{Labels, MetricBatch};
use support::{CuttableLink, ModelBroker};

fn config(data: &Path, broker: &str, host: Option<AgentConfig>) -> TierConfig {
    TierConfig {
        host,
        spool_directory: data.join("spool"),
        spool: agent::SpoolConfig::default(),
        logs: None,
        windows: agent::WindowsConfig::default(),
        brokers: vec![broker.to_owned()],
        labels: [("zone".to_owned(), "a".to_owned())].into(),
        version: "0.1.0".to_owned(),
        config_hash: "0123456789abcdef".to_owned(),
    }
}

fn numbered(n: i64) -> MetricBatch {
    let labels = Labels::from_pairs([("__name__", "numbered"), ("job", "test")]).expect("labels");
    let mut batch = MetricBatch::default();
    batch.push(&labels, n, n as f64);
    batch
}

const NUMBERED: &str = "numbered{job=\"test\"}";

fn counted(agent: &Agent, name: &str) -> f64 {
    let name = format!("watchfire_agent_{name}");
    agent.rows().iter().filter(|row| row.name == name).map(|row| row.value).sum()
}

/// The document lists every metric of the pipeline, the spool and shipping, and no other.
fn compare_with_document(agent: &Agent) {
    let ours = |name: &str| ["pipeline_", "spool_", "ship_"].iter().any(|part| name.contains(part));
    let rows = agent.rows();
    let shown: BTreeSet<String> = rows
        .iter()
        .filter(|row| ours(row.name))
        .map(|row| {
            let labels: Vec<_> = row.labels.iter().map(|(name, _)| *name).collect();
            let labels =
                if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            format!("| `{}{labels}` | {} | {} |", row.name, row.kind.as_str(), row.help)
        })
        .collect();
    let document = include_str!("../../../docs/operating/agent.md");
    let listed = document.lines().filter(|line| line.starts_with("| `watchfire_agent_"));
    let listed: BTreeSet<String> = listed.map(str::to_owned).collect();
    assert_eq!(shown.difference(&listed).collect::<Vec<_>>(), Vec::<&String>::new(), "not listed");
    assert_eq!(listed.difference(&shown).collect::<Vec<_>>(), Vec::<&String>::new(), "unknown");
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_and_scrapes_reach_the_broker_and_a_stop_leaves_nothing() {
    let broker = ModelBroker::start(1 << 20).await;
    let data = tempfile::tempdir().expect("a temporary directory");
    let identity = broker.join(&data.path().join("tls")).await;
    let host = AgentConfig { interval_ms: 100, ..AgentConfig::default() };
    let config = config(data.path(), &broker.address.to_string(), Some(host));
    let agent = Agent::start(config, &identity).expect("starts");
    for n in 1..=50 {
        agent.sender().send(numbered(n)).await.expect("taken");
    }
    eventually("host series and all numbers", || {
        let stored = broker.stored();
        stored.samples(NUMBERED).len() == 50 && stored.series().len() > 100 && stored.statuses > 0
    })
    .await;
    assert!(agent.ship_counters().is_connected());
    compare_with_document(&agent);
    let passes = || counted(&agent, "ship_acknowledged_batches_total");
    let before = passes();
    eventually("acknowledged passes", || passes() > before + 5.0).await;
    tokio::task::spawn_blocking(move || agent.stop()).await.expect("stops");
    {
        let stored = broker.stored();
        assert!(stored.samples(NUMBERED).is_sorted_by(|a, b| a.0 < b.0));
        let hello = &stored.hellos[0];
        assert_eq!((&*hello.version, &*hello.labels["zone"]), ("0.1.0", "a"));
    }
    // Nothing is left that the next start would have to send.
    let config = || self::config(data.path(), &broker.address.to_string(), None);
    let received = broker.stored().received();
    // A child that another test has just forked holds a copy of the lock until it runs its program.
    let mut started = Agent::start(config(), &identity);
    for _ in 0..100 {
        if started.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        started = Agent::start(config(), &identity);
    }
    let agent = started.expect("starts again");
    eventually("a second stream", || broker.stored().hellos.len() == 2).await;
    tokio::task::spawn_blocking(move || agent.stop()).await.expect("stops");
    let stored = broker.stored();
    assert_eq!(stored.received(), received);
    assert_eq!(stored.hellos[0].incarnation, stored.hellos[1].incarnation);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_collected_while_the_link_is_cut_comes_later_and_once() {
    let broker = ModelBroker::start(64 << 10).await;
    let link = CuttableLink::to(broker.address).await;
    let data = tempfile::tempdir().expect("a temporary directory");
    let identity = broker.join(&data.path().join("tls")).await;
    let config = config(data.path(), &link.address.to_string(), None);
    let agent = Agent::start(config, &identity).expect("starts");
    let mut n = 0;
    for round in 0..6 {
        for _ in 0..20 {
            n += 1;
            agent.sender().send(numbered(n)).await.expect("taken");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if round % 2 == 0 { link.cut() } else { link.mend() }
    }
    link.mend();
    let want: Vec<i64> = (1..=n).collect();
    eventually("all numbers", || broker.stored().samples(NUMBERED).len() >= want.len()).await;
    let mut got: Vec<i64> = broker.stored().samples(NUMBERED).iter().map(|row| row.0).collect();
    got.sort_unstable();
    assert_eq!(got, want);
    assert!(counted(&agent, "ship_failures_total") >= 1.0);
}

/// Says where the agent that is killed finds what it needs.
const CHILD: &str = "WATCHFIRE_TEST_AGENT";

/// The agent that is killed: a process of its own, started by the test below. It prints a number
/// once the sample with that number is in the spool.
#[tokio::test(flavor = "multi_thread")]
async fn the_process_that_is_killed() {
    let Ok(arguments) = std::env::var(CHILD) else { return };
    let [data, broker, first] = arguments.split(',').collect::<Vec<_>>()[..] else {
        panic!("{arguments}")
    };
    let data = Path::new(data);
    let brokers = [broker.to_owned()];
    let identity = net::join(&data.join("tls"), &brokers, None, "host", net::Role::Agent)
        .await
        .expect("joined");
    let agent = Agent::start(config(data, broker, None), &identity).expect("starts");
    let mut stdout = std::io::stdout();
    for n in first.parse::<i64>().expect("a number").. {
        let before = counted(&agent, "spool_samples_total");
        agent.sender().send(numbered(n)).await.expect("taken");
        while counted(&agent, "spool_samples_total") == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        writeln!(stdout, "{n}").expect("the parent reads");
    }
}

struct Victim {
    child: Child,
    printed: Arc<Mutex<i64>>,
}

impl Victim {
    fn start(data: &Path, broker: &str, first: i64) -> Victim {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "the_process_that_is_killed", "--nocapture"])
            .env(CHILD, format!("{},{broker},{first}", data.display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let printed = Arc::new(Mutex::new(first - 1));
        let newest = Arc::clone(&printed);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Ok(n) = line.parse() {
                    *newest.lock().expect("no panic") = n;
                }
            }
        });
        Victim { child, printed }
    }

    fn printed(&self) -> i64 {
        *self.printed.lock().expect("no panic")
    }

    /// SIGKILL; yields the last number that was in the spool for certain.
    fn kill(mut self) -> i64 {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
        // The reader sees the rest of the pipe.
        std::thread::sleep(Duration::from_millis(20));
        self.printed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_loses_and_doubles_nothing() {
    let kills = if std::env::var_os("RUN_SLOW_TESTS").is_some() { 100 } else { 8 };
    let broker = ModelBroker::start(16 << 10).await;
    let link = CuttableLink::to(broker.address).await;
    let target = link.address.to_string();
    let data = tempfile::tempdir().expect("a temporary directory");
    broker.join(&data.path().join("tls")).await;
    let mut owed = BTreeSet::new();
    let mut next = 1;
    for kill in 0..kills {
        let first = next;
        let victim = Victim::start(data.path(), &target, first);
        if kill % 3 == 2 {
            link.cut();
        }
        let wanted = first + 1 + (kill % 4);
        eventually("some numbers in the spool", || victim.printed() >= wanted).await;
        if kill % 3 == 2 {
            link.mend();
        }
        tokio::time::sleep(Duration::from_millis(37 * (kill as u64 % 5))).await;
        let last = tokio::task::block_in_place(|| victim.kill());
        owed.extend(first..=last);
        // The one after it may have reached the spool, too.
        next = last + 2;
    }
    let victim = Victim::start(data.path(), &target, next);
    let all_stored = || {
        let stored: BTreeSet<i64> =
            broker.stored().samples(NUMBERED).iter().map(|row| row.0).collect();
        owed.is_subset(&stored)
    };
    eventually("everything that was in the spool", all_stored).await;
    tokio::task::block_in_place(|| victim.kill());
    let rows = broker.stored().samples(NUMBERED);
    let distinct: BTreeSet<i64> = rows.iter().map(|row| row.0).collect();
    assert_eq!(distinct.len(), rows.len(), "doubled");
}
