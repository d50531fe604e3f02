//! `rolling`: agents and remote writers send by the clock into a cluster whose brokers are restarted one after the
//! other. A ledger outside of the brokers knows what was acknowledged; at the end every broker must show
//! each sample once and nothing else.
//!
//! Each sample bears the number of its step as its value, so three sums prove it: series that have as many
//! samples as there were steps, samples of all, and values of all.

mod agents;
mod writers;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;

use crate::fleet::member;
use crate::http::url_encode;
use crate::scrape::quantile;
use crate::server::{Flushing, Server, Setup, free_address};
use crate::site::{Bill, Site};
use crate::stores::StoreKind;
use crate::table::{Table, grouped, megabytes};

/// What is sent, and what happens meanwhile.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Brokers of the cluster; 0: one machine without a cluster
    #[arg(long, default_value_t = 3)]
    brokers: usize,
    /// Store of the cluster: file, moto, redis, redis-cluster, which are started for it, or a URL
    #[arg(long, default_value = "file")]
    store: StoreKind,
    /// Agents, each of which sends one batch a second and keeps it until it is acknowledged
    #[arg(long, default_value_t = 50)]
    agents: usize,
    /// Series of each agent
    #[arg(long, default_value_t = 1_200)]
    agent_series: usize,
    /// Remote writers, each of which sends one request a second, the next one when the last one is acknowledged
    #[arg(long, default_value_t = 25)]
    writers: usize,
    /// Series of each writer
    #[arg(long, default_value_t = 2_000)]
    writer_series: usize,
    /// Seconds of calm that are measured before anything is restarted
    #[arg(long, default_value_t = 30)]
    calm: u64,
    /// Seconds between a broker that is ready again and the next one that is stopped
    #[arg(long, default_value_t = 10)]
    pause: u64,
    /// Kill with SIGKILL instead of stopping
    #[arg(long)]
    kill: bool,
    /// Restart nothing: what the load costs
    #[arg(long)]
    no_restarts: bool,
}

/// Between the samples of a series.
const STEP: Duration = Duration::from_secs(1);
/// Seconds in which the brokers get to know all series.
const WARM: Duration = Duration::from_secs(15);
/// Until all is acknowledged, after the last step.
const PATIENCE: Duration = Duration::from_secs(120);
/// The metric that is sent.
const NAME: &str = "rolling";

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    Agent,
    Writer,
}

/// One batch that was acknowledged.
#[derive(Debug, Clone, Copy)]
struct Acknowledged {
    sender: Sender,
    /// When it was due, and when it was acknowledged, since the begin.
    due: Duration,
    at: Duration,
}

/// What all who send share.
struct Clock {
    begin: Instant,
    begin_ms: i64,
    /// Steps from this one on are not sent.
    steps: AtomicU64,
    acknowledged: Mutex<Vec<Acknowledged>>,
    /// Attempts that failed; each was repeated.
    failures: AtomicU64,
}

impl Clock {
    /// When a step of a sender is due, of whom there are so many.
    fn due(&self, step: u64, place: usize, count: usize) -> Duration {
        let spread = STEP.mul_f64(place as f64 / count as f64);
        STEP * u32::try_from(step).expect("steps are few") + spread
    }

    fn time_ms(&self, due: Duration) -> i64 {
        self.begin_ms + due.as_millis() as i64
    }

    fn note(&self, sender: Sender, due: Duration) {
        let at = self.begin.elapsed();
        let mut all = self.acknowledged.lock().expect("nobody panics with it");
        all.push(Acknowledged { sender, due, at });
    }

    fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    fn is_sent(&self, step: u64) -> bool {
        step < self.steps.load(Ordering::Relaxed)
    }
}

/// One time of the run.
struct Phase {
    name: String,
    from: Duration,
    to: Duration,
}

/// Runs it and yields the table.
pub(crate) fn run(options: &Options) -> Result<String> {
    ensure!(
        options.brokers > 1 || options.no_restarts,
        "--brokers must be at least 2, or with --no-restarts: others serve while one is restarted"
    );
    crate::fleet::raise_open_files(options.agents)?;
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    let directory = tempfile::Builder::new().prefix("watchfire-bench-").tempdir()?;
    let setup = Setup::from(Flushing::Soon);
    let mut site = match options.brokers {
        0 => Site::one_machine(Setup { peer_listen: Some(free_address()?), ..setup })?,
        brokers => Site::start(brokers, &options.store, &setup)?,
    };
    let token = site.servers[0].join_token(options.agents.max(1))?;
    let peers = site.peers();
    let joining = member::join(options.agents, &peers, &token, directory.path());
    let members = runtime.block_on(joining)?;
    let begin_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let clock = Arc::new(Clock {
        begin: Instant::now(),
        begin_ms,
        steps: AtomicU64::new(u64::MAX),
        acknowledged: Mutex::default(),
        failures: AtomicU64::new(0),
    });
    let mut sending = JoinSet::new();
    for member in members {
        let agent = agents::Agent::new(member, options.agents, options.agent_series, &clock);
        sending.spawn_on(agent.run(), runtime.handle());
    }
    let addresses: Vec<_> = site.servers.iter().map(Server::address).collect();
    let writing: Vec<_> = (0..options.writers)
        .map(|place| {
            let writer = writers::Writer {
                place,
                count: options.writers,
                series: options.writer_series,
                addresses: addresses.clone(),
                clock: Arc::clone(&clock),
            };
            std::thread::spawn(move || writer.run())
        })
        .collect();
    let watched = watch(options, &clock, &mut site)?;
    // All send the same steps: those that are due until now.
    let steps = clock.begin.elapsed().as_secs() + 2;
    clock.steps.store(steps, Ordering::Relaxed);
    let last = clock.begin.elapsed();
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, async {
            while let Some(sent) = sending.join_next().await {
                sent??;
            }
            anyhow::Ok(())
        })
        .await
        .context("agents have batches that nobody acknowledges")?
    })?;
    for writer in writing {
        writer.join().expect("a writer returns its errors")?;
    }
    eprintln!(
        "all was acknowledged {:.1} s after the last restart",
        (clock.begin.elapsed() - last).as_secs_f64()
    );
    for server in &site.servers {
        check(options, server, &clock, steps)?;
    }
    render(options, &clock, &watched, steps, &site)
}

/// What was seen while they sent.
struct Watched {
    phases: Vec<Phase>,
    /// Of the calm.
    bill: Bill,
    cores: f64,
    store_cores: f64,
}

/// Lets the load run, then restarts one broker after the other.
fn watch(options: &Options, clock: &Clock, site: &mut Site) -> Result<Watched> {
    std::thread::sleep(WARM);
    eprintln!("calm");
    let from = clock.begin.elapsed();
    let (cpu, bill) = (site.cpu_seconds()?, site.bill()?.unwrap_or_default());
    let store = |site: &Site| site.store.as_ref().map_or(Ok(0.0), |store| store.cpu_seconds());
    let store_cpu = store(site)?;
    std::thread::sleep(Duration::from_secs(options.calm));
    let to = clock.begin.elapsed();
    let seconds = (to - from).as_secs_f64();
    let mut watched = Watched {
        phases: vec![Phase { name: "calm".to_owned(), from, to }],
        bill: site.bill()?.unwrap_or_default().since(bill),
        cores: (site.cpu_seconds()? - cpu) / seconds,
        store_cores: (store(site)? - store_cpu) / seconds,
    };
    if options.no_restarts {
        return Ok(watched);
    }
    for (place, server) in site.servers.iter_mut().enumerate() {
        let from = clock.begin.elapsed();
        if options.kill {
            server.kill()?;
        } else {
            server.end()?;
        }
        let down = clock.begin.elapsed() - from;
        server.start_again()?;
        server.wait_ready()?;
        let ready = clock.begin.elapsed() - from;
        eprintln!(
            "broker {}: ended after {:.2} s, ready again after {:.2} s",
            place + 1,
            down.as_secs_f64(),
            ready.as_secs_f64()
        );
        std::thread::sleep(Duration::from_secs(options.pause));
        let to = clock.begin.elapsed();
        let name = format!("broker {} restarted", place + 1);
        watched.phases.push(Phase { name, from, to });
    }
    Ok(watched)
}

/// What a broker shows is what was acknowledged, once.
fn check(options: &Options, server: &Server, clock: &Clock, steps: u64) -> Result<()> {
    let window = clock.begin.elapsed().as_secs() + 60;
    let total = |expression: &str| -> Result<f64> {
        let path = format!("/api/v1/query?nocache=1&query={}", url_encode(expression));
        let body = server.client()?.get(&path)?.successful()?;
        let answer: serde_json::Value = serde_json::from_slice(&body)?;
        ensure!(answer.get("warnings").is_none(), "{expression}: {}", answer["warnings"]);
        let value = answer["data"]["result"][0]["value"][1].as_str();
        value.context("no value")?.parse().context("a value is a number")
    };
    let series =
        (options.agents * options.agent_series + options.writers * options.writer_series) as f64;
    let steps = steps as f64;
    let facts = [
        (
            "series with all their samples",
            format!("count(count_over_time({NAME}[{window}s]) == {steps})"),
            series,
        ),
        ("samples", format!("sum(count_over_time({NAME}[{window}s]))"), series * steps),
        (
            "the sum of all values",
            format!("sum(sum_over_time({NAME}[{window}s]))"),
            series * steps * (steps - 1.0) / 2.0,
        ),
    ];
    for (what, expression, wanted) in facts {
        let found = total(&expression)?;
        ensure!(
            found == wanted,
            "{}: {what}: {found}, and {wanted} were acknowledged; it logged:\n{}",
            server.address(),
            server.last_words()
        );
    }
    Ok(())
}

fn render(
    options: &Options,
    clock: &Clock,
    watched: &Watched,
    steps: u64,
    site: &Site,
) -> Result<String> {
    let mut acknowledged = clock.acknowledged.lock().expect("nobody panics with it").clone();
    acknowledged.sort_by_key(|one| one.at);
    let mut table = Table::new([
        "time",
        "s",
        "samples/s acknowledged",
        "agents: ms p50",
        "p99",
        "max",
        "writers: ms p50",
        "p99",
        "max",
        "longest without any, ms",
    ]);
    let samples_of = |sender: Sender| match sender {
        Sender::Agent => options.agent_series,
        Sender::Writer => options.writer_series,
    };
    for Phase { name, from, to } in &watched.phases {
        let within = || acknowledged.iter().filter(|one| (*from..*to).contains(&one.at));
        let waited = |sender: Sender| {
            let mut ms: Vec<f64> = within()
                .filter(|one| one.sender == sender)
                .map(|one| (one.at.saturating_sub(one.due)).as_secs_f64() * 1e3)
                .collect();
            ms.sort_by(f64::total_cmp);
            [0.5, 0.99, 1.0].map(|share| format!("{:.0}", quantile(&ms, share)))
        };
        let moments: Vec<Duration> =
            std::iter::once(*from).chain(within().map(|one| one.at)).collect();
        let longest = moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
        let samples: usize = within().map(|one| samples_of(one.sender)).sum();
        let seconds = (*to - *from).as_secs_f64();
        let mut row =
            vec![name.clone(), format!("{seconds:.1}"), grouped(samples as f64 / seconds)];
        row.extend(waited(Sender::Agent));
        row.extend(waited(Sender::Writer));
        row.push(format!("{:.0}", longest.as_secs_f64() * 1e3));
        table.push(row);
    }
    let calm = &watched.phases[0];
    let per_second =
        options.agents * options.agent_series + options.writers * options.writer_series;
    let millions = per_second as f64 * (calm.to - calm.from).as_secs_f64() / 1e6;
    let Bill { puts, gets, put_bytes, get_bytes } = watched.bill;
    let site_name = match options.brokers {
        0 => "One machine".to_owned(),
        brokers => format!("{brokers} brokers, store {}", options.store.name()),
    };
    Ok(format!(
        "{}\n\
         {site_name}; {} agents with {} series and {} writers with {} series, one sample of each a second. \
         From when a batch was due until it was acknowledged. {} attempts failed and were repeated. {} samples were \
         acknowledged in all; every broker shows each of them once and no other: 0 lost, 0 doubled, 0 invented.\n\
         Calm: {:.2} cores of all brokers, {:.2} of the store if it is a program; peak RSS MB {}; per million samples {:.1} puts, {:.1} gets, {:.1} MB \
         put, {:.1} MB got, {:.6} USD at S3's prices.\n",
        table.render(),
        options.agents,
        options.agent_series,
        options.writers,
        options.writer_series,
        grouped(clock.failures.load(Ordering::Relaxed) as f64),
        grouped(per_second as f64 * steps as f64),
        watched.cores,
        watched.store_cores,
        site.peaks()?.into_iter().map(megabytes).collect::<Vec<_>>().join(", "),
        puts / millions,
        gets / millions,
        put_bytes / 1e6 / millions,
        get_bytes / 1e6 / millions,
        watched.bill.dollars() / millions
    ))
}
