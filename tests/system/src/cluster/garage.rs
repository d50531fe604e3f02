//! Three servers, each with Garage and a broker, set up as docs/operating/three-servers.md says, with the files
//! that are packaged; and an hour's worth of bad luck. For hands, not for each run of the tests: it needs the
//! program `garage` (`WATCHFIRE_GARAGE`, else as installed) and twenty minutes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::network::{Away, BROKERS, Fault, places, strike, touch};
use super::site::{Member, Place, Site};
use crate::harness::network::Network;
use crate::harness::peer::{Host, Peer};
use crate::harness::random::Random;
use crate::harness::{Client, Scratch, WriteBody, now_ms};

const RPC_PORT: u16 = 3_901;
/// How long a fault lasts.
const LASTS: Duration = Duration::from_millis(2_500);
const OUTAGE: Duration = Duration::from_secs(60);
/// Series of each request of the load.
const LOAD_SERIES: usize = 1_000;

/// What happens, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Broker(Fault),
    /// kill -9 of one Garage.
    KillStore,
    /// SIGSTOP of one Garage.
    PauseStore,
    /// kill -9 of all three, which stay away for a minute.
    StoreOutage,
    /// Every broker is stopped and started, one after the other.
    RollingRestart,
}

/// 100 kills, and the rest.
const EVENTS: &[(Event, usize)] = &[
    (Event::Broker(Fault::KillLeader), 20),
    (Event::Broker(Fault::KillAnother), 40),
    (Event::KillStore, 40),
    (Event::PauseStore, 5),
    (Event::StoreOutage, 1),
    (Event::RollingRestart, 5),
    (Event::Broker(Fault::PauseLeader), 5),
    (Event::Broker(Fault::CutLeader), 5),
    (Event::Broker(Fault::CutAnother), 3),
    (Event::Broker(Fault::DeafLeader), 3),
    (Event::Broker(Fault::DeafAnother), 3),
    (Event::Broker(Fault::LossAtLeader), 3),
    (Event::Broker(Fault::Resets), 3),
    (Event::Broker(Fault::Flaps), 3),
    (Event::Broker(Fault::SlowDisk), 3),
];

/// Where `garage` is.
pub(super) fn program() -> Result<PathBuf> {
    let named = std::env::var_os("WATCHFIRE_GARAGE").map(PathBuf::from);
    let path = named.unwrap_or_else(|| PathBuf::from("/usr/bin/garage"));
    ensure!(
        path.is_file(),
        "{}: there is no garage; `cargo install --locked garage`, then name it by WATCHFIRE_GARAGE",
        path.display()
    );
    Ok(path)
}

/// Garage on some hosts, as one store.
pub(super) struct Garage {
    program: PathBuf,
    hosts: Vec<Host>,
    configurations: Vec<PathBuf>,
    nodes: Vec<Option<Peer>>,
    /// What `setup.sh` says belongs into the environment of brokers.
    pub(super) environment: BTreeMap<String, String>,
}

impl Garage {
    pub(super) fn start(scratch: &Scratch, hosts: Vec<Host>) -> Result<Garage> {
        let packaged = packaging("garage/garage.toml")?;
        let packaged = std::fs::read_to_string(&packaged).context("read garage.toml")?;
        let mut garage = Garage {
            program: program()?,
            hosts,
            configurations: Vec::new(),
            nodes: Vec::new(),
            environment: BTreeMap::new(),
        };
        for number in 0..garage.hosts.len() {
            let directory = scratch.join(&format!("garage-{number}"));
            std::fs::create_dir_all(&directory)?;
            // What the recipe has people edit, and where this host keeps it.
            let text = packaged
                .replace("THIS-SERVER", &garage.hosts[number].address.to_string())
                .replace("\"SECRET\"", &format!("\"{}\"", "5a".repeat(32)))
                .replace("/var/lib/garage", &directory.display().to_string());
            let path = directory.join("garage.toml");
            std::fs::write(&path, text)?;
            garage.configurations.push(path);
            garage.nodes.push(None);
            garage.start_node(scratch, number)?;
        }
        let ids: Vec<String> =
            (0..garage.hosts.len()).map(|number| garage.node_id(number)).collect::<Result<_>>()?;
        let quoted: Vec<String> = ids.iter().map(|id| format!("\"{id}\"")).collect();
        let known = format!("bootstrap_peers = [{}]", quoted.join(", "));
        for number in 0..garage.hosts.len() {
            let path = &garage.configurations[number];
            let text = std::fs::read_to_string(path)?;
            ensure!(
                text.contains("bootstrap_peers = []"),
                "the packaged garage.toml is another one"
            );
            std::fs::write(path, text.replace("bootstrap_peers = []", &known))?;
            garage.kill_node(number)?;
            garage.start_node(scratch, number)?;
        }
        let words = [garage.hosts[0].on.clone(), garage.words(0)].concat();
        let output = Command::new("sh")
            .arg(packaging("garage/setup.sh")?)
            .arg("500G")
            .args(&ids)
            .env("GARAGE", words.join(" "))
            .output()
            .context("start setup.sh")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "setup.sh: {said}");
        let printed = String::from_utf8(output.stdout)?;
        let lines = printed.lines().filter_map(|line| line.split_once('='));
        garage.environment = lines.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        ensure!(garage.environment.len() == 3, "setup.sh printed {printed:?}: {said}");
        Ok(garage)
    }

    fn words(&self, number: usize) -> Vec<String> {
        let configuration = self.configurations[number].display().to_string();
        vec![self.program.display().to_string(), "-c".to_owned(), configuration]
    }

    fn node_id(&self, number: usize) -> Result<String> {
        let words = self.words(number);
        let mut command = self.hosts[number].command(&words[0]);
        let output = command.args(&words[1..]).args(["node", "id", "-q"]).output()?;
        let id = String::from_utf8(output.stdout)?.trim().to_owned();
        ensure!(id.contains('@'), "{id:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(id)
    }

    pub(super) fn start_node(&mut self, scratch: &Scratch, number: usize) -> Result<()> {
        let words = self.words(number);
        let host = &self.hosts[number];
        let mut command = host.command(&words[0]);
        command.args(&words[1..]).arg("server").env("RUST_LOG", "garage=warn");
        let at = SocketAddr::new(host.address, RPC_PORT);
        self.nodes[number] = Some(Peer::start(scratch, &format!("garage-{number}"), at, command)?);
        Ok(())
    }

    pub(super) fn kill_node(&mut self, number: usize) -> Result<()> {
        self.nodes[number].take().context("it runs")?.kill()
    }

    fn signal(&self, number: usize, signal: Signal) -> Result<()> {
        self.nodes[number].as_ref().context("it runs")?.signal(signal)
    }

    /// What a broker of it is told.
    pub(super) fn equip(&self, place: &mut Place) -> Result<()> {
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            let value = self.environment.get(name).with_context(|| name.to_owned())?;
            place.environment.push((name, value.clone().leak()));
        }
        Ok(())
    }

    pub(super) fn store(&self) -> Result<String> {
        self.environment.get("WATCHFIRE_STORE").cloned().context("setup.sh names the store")
    }
}

/// A file of the package.
fn packaging(name: &str) -> Result<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging").join(name);
    ensure!(path.is_file(), "{} is not there", path.display());
    Ok(path)
}

/// Writes samples of a thousand series to one broker after the other, so many a second.
struct Load {
    over: AtomicBool,
    taken: AtomicU64,
    per_second: u64,
}

impl Load {
    fn new() -> Load {
        let wanted = std::env::var("WATCHFIRE_TEST_LOAD").ok().and_then(|text| text.parse().ok());
        Load {
            over: AtomicBool::new(false),
            taken: AtomicU64::new(0),
            per_second: wanted.unwrap_or(10_000),
        }
    }

    fn run(&self, clients: &[Client]) {
        let pause = Duration::from_secs_f64(LOAD_SERIES as f64 / self.per_second.max(1) as f64);
        let mut next = Instant::now();
        for turn in 0_usize.. {
            if self.over.load(Ordering::Relaxed) || self.per_second == 0 {
                return;
            }
            let t_ms = now_ms();
            let mut body = WriteBody::new();
            for series in 0..LOAD_SERIES {
                let number = series.to_string();
                let labels = [("__name__", "load"), ("job", "j"), ("n", number.as_str())];
                body = body.series(&labels, &[(t_ms, turn as f64)]);
            }
            // Who is away now is none of its business.
            let answer = clients[turn % clients.len()].write(&body.snappy());
            if answer.is_ok_and(|answer| answer.status == 204) {
                self.taken.fetch_add(LOAD_SERIES as u64, Ordering::Relaxed);
            }
            next = (next + pause).max(Instant::now() - Duration::from_secs(1));
            sleep(next.saturating_duration_since(Instant::now()));
        }
    }
}

pub(super) fn bad_luck(scratch: &Scratch) -> Result<String> {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let network = Network::new(BROKERS)?;
    let host = |host| Host { on: network.on(host), address: network.peers(host).into() };
    let mut garage = Garage::start(scratch, (0..BROKERS).map(host).collect())?;
    let mut places = places(&network);
    places.iter_mut().try_for_each(|place| garage.equip(place))?;
    let mut site = Site::start_at(scratch, seed, garage.store()?, &places)?;
    let share: usize = super::network::rounds_or(100);
    let mut events: Vec<Event> = Vec::new();
    for &(event, count) in EVENTS {
        events.extend(std::iter::repeat_n(event, (count * share).div_ceil(100)));
    }
    for last in (1..events.len()).rev() {
        events.swap(last, random.below(last as u64 + 1) as usize);
    }
    let clients: Vec<Client> = site.members.iter().map(Member::client).collect();
    let (load, begin) = (Load::new(), Instant::now());
    let mut away: BTreeMap<Event, Vec<Away>> = BTreeMap::new();
    std::thread::scope(|scope| {
        scope.spawn(|| load.run(&clients));
        let outcome = events.iter().enumerate().try_for_each(|(number, &event)| {
            let context = || format!("{event:?}, number {number}, seed {seed}");
            let leader = site.leader().with_context(context)?;
            let another = (leader + 1 + random.below(2) as usize) % usize::from(BROKERS);
            let node = random.below(BROKERS.into()) as usize;
            let one = site
                .write_while(|members| {
                    strike(members, |members| match event {
                        Event::Broker(fault) => touch(fault, &network, members, leader, another),
                        other => of_store(other, scratch, &mut garage, members, node),
                    })
                })
                .with_context(context)?;
            println!("{number} {event:?}: {one:?}");
            away.entry(event).or_default().push(one);
            site.check_counts_soon().with_context(context)
        });
        load.over.store(true, Ordering::Relaxed);
        outcome
    })?;
    site.check().with_context(|| format!("seed {seed}"))?;
    let taken = load.taken.load(Ordering::Relaxed);
    table(&away);
    Ok(format!(
        "{} events in {:.0} s, seed {seed}; {} samples in the ledger, 0 lost, 0 doubled; beside them {:.0} samples/s",
        events.len(),
        begin.elapsed().as_secs_f64(),
        site.acknowledged_samples(),
        taken as f64 / begin.elapsed().as_secs_f64(),
    ))
}

/// What happens to the store, or to all brokers. Yields the brokers that are touched.
fn of_store(
    event: Event,
    scratch: &Scratch,
    garage: &mut Garage,
    members: &mut [Member],
    node: usize,
) -> Result<Vec<usize>> {
    match event {
        Event::KillStore => {
            garage.kill_node(node)?;
            sleep(LASTS);
            garage.start_node(scratch, node)?;
            // The broker beside it has no store meanwhile.
            Ok(vec![node])
        }
        Event::PauseStore => {
            garage.signal(node, Signal::STOP)?;
            sleep(LASTS);
            garage.signal(node, Signal::CONT)?;
            Ok(vec![node])
        }
        Event::StoreOutage => {
            (0..members.len()).try_for_each(|node| garage.kill_node(node))?;
            sleep(OUTAGE);
            (0..members.len()).try_for_each(|node| garage.start_node(scratch, node))?;
            Ok((0..members.len()).collect())
        }
        Event::RollingRestart => {
            for member in members.iter_mut() {
                member.stop()?;
                member.start_again()?;
            }
            Ok((0..members.len()).collect())
        }
        Event::Broker(_) => unreachable!("the network's"),
    }
}

/// Prints, by kind of event, for how long no write was taken, in seconds.
fn table(away: &BTreeMap<Event, Vec<Away>>) {
    println!(
        "| event | times | others p50 | p99 | max | anybody p50 | p99 | max | all again p50 | p99 | max |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for (event, all) in away {
        let of = |pick: fn(&Away) -> Duration| {
            let mut times: Vec<Duration> = all.iter().map(pick).collect();
            times.sort();
            let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
            let (p50, p99) = (at(50).as_secs_f64(), at(99).as_secs_f64());
            format!("{p50:.2} | {p99:.2} | {:.2}", times[times.len() - 1].as_secs_f64())
        };
        let (others, anywhere) = (of(|away| away.at_others), of(|away| away.anywhere));
        let after = of(|away| away.after);
        println!("| {event:?} | {} | {others} | {anywhere} | {after} |", all.len());
    }
}
