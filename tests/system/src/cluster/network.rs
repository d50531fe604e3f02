//! Three brokers on hosts of their own, over S3: whatever breaks between them, and between them and
//! the store, what was acknowledged is there once, and writes go on where a majority can agree.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::moto::{BUCKET, MOTO_CREDENTIALS, Moto};
use super::site::{Member, Place, Site, until_taken};
use crate::harness::network::Network;
use crate::harness::random::Random;
use crate::harness::{Client, Scratch, WriteBody, now_ms};

const BROKERS: u8 = 3;
/// The host of the store.
const STORE: u8 = 3;
/// How long a fault lasts.
const LASTS: Duration = Duration::from_millis(2_500);
/// An election on a machine that compiles at the same time; the figures of each run are printed.
const RESUME: Duration = Duration::from_secs(15);
/// Until everything that was acknowledged can be read again at each broker.
const WHOLE: Duration = Duration::from_secs(30);

/// What breaks, and whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    KillLeader,
    KillAnother,
    CutLeader,
    CutAnother,
    /// Of what the leader sends, one other gets nothing.
    DeafAnother,
    /// Of what the others send, the leader gets nothing.
    DeafLeader,
    LossAtLeader,
    LossAtAnother,
    Resets,
    Flaps,
    SlowLink,
    PauseLeader,
    SlowDisk,
    StoreAway,
}

const FAULTS: &[Fault] = &[
    Fault::KillLeader,
    Fault::KillAnother,
    Fault::CutLeader,
    Fault::CutAnother,
    Fault::DeafAnother,
    Fault::DeafLeader,
    Fault::LossAtLeader,
    Fault::LossAtAnother,
    Fault::Resets,
    Fault::Flaps,
    Fault::SlowLink,
    Fault::PauseLeader,
    Fault::SlowDisk,
    Fault::StoreAway,
];

/// Rounds over all faults; more by hand: `WATCHFIRE_TEST_ROUNDS=10 watchfire-system cluster/network`.
fn rounds() -> usize {
    std::env::var("WATCHFIRE_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

pub(super) fn faults(scratch: &Scratch) -> Result<String> {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let network = Network::new(BROKERS + 1)?;
    let moto = Moto::start(
        scratch,
        &network.on(STORE),
        SocketAddr::new(network.requests(STORE).into(), 5_000),
    )?;
    let places: Vec<Place> = (0..BROKERS)
        .map(|host| Place {
            peers: SocketAddr::new(network.peers(host).into(), 9_596),
            listen: SocketAddr::new(network.requests(host).into(), 9_595),
            on: network.on(host),
            environment: MOTO_CREDENTIALS.to_vec(),
        })
        .collect();
    let store = moto.url(network.peers(STORE).into(), BUCKET);
    let mut site = Site::start_at(scratch, seed, store, &places)?;
    let mut resumed: BTreeMap<Fault, Vec<Duration>> = BTreeMap::new();
    for round in 0..rounds() {
        let mut order = FAULTS.to_vec();
        for last in (1..order.len()).rev() {
            order.swap(last, random.below(last as u64 + 1) as usize);
        }
        for fault in order {
            let context = || format!("{fault:?}, seed {seed}, round {round}");
            let leader = leader(&site).with_context(context)?;
            let another = (leader + 1 + random.below(2) as usize) % usize::from(BROKERS);
            let away = site
                .write_while(|members| strike(fault, &network, members, leader, another))
                .with_context(context)?;
            ensure!(away < RESUME, "no write was taken for {away:?}: {}", context());
            resumed.entry(fault).or_default().push(away);
            whole(&site).with_context(context)?;
        }
    }
    site.check().with_context(|| format!("seed {seed}"))?;
    let figures: Vec<String> = resumed
        .iter_mut()
        .map(|(fault, times)| {
            times.sort();
            let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
            match times.len() {
                1 => format!("{fault:?} {:.1}", at(0).as_secs_f64()),
                _ => format!("{fault:?} {:.1}/{:.1}", at(50).as_secs_f64(), at(99).as_secs_f64()),
            }
        })
        .collect();
    Ok(format!(
        "{} faults, {} samples, 0 lost, 0 doubled; longest time without a write at those who can \
         agree, seconds: {}",
        rounds() * FAULTS.len(),
        site.acknowledged_samples(),
        figures.join(", ")
    ))
}

/// Lets one fault come and go. Yields the longest time in which one of those that it does not touch
/// took nothing; where it touches all, until all take something again.
fn strike(
    fault: Fault,
    network: &Network,
    members: &mut [Member],
    leader: usize,
    another: usize,
) -> Result<Duration> {
    let clients: Vec<Client> = members.iter().map(Member::client).collect();
    let probes = Probes::new(clients.len());
    sleep(Duration::from_millis(300));
    std::thread::scope(|scope| {
        let probing: Vec<_> = (0..clients.len())
            .map(|index| {
                let (probes, client) = (&probes, clients[index]);
                scope.spawn(move || probes.run(index, client))
            })
            .collect();
        let touched = touch(fault, network, members, leader, another);
        let touched = network.heal().and(touched);
        let healed = Instant::now();
        let taken = match &touched {
            Ok(_) => clients.iter().try_for_each(|&client| until_taken(client, 0.0).map(|_| ())),
            Err(_) => Ok(()),
        };
        let after = healed.elapsed();
        probes.over.store(true, Ordering::Relaxed);
        for probing in probing {
            probing.join().map_err(|_| anyhow!("a probe panicked"))?;
        }
        let touched = touched?;
        taken?;
        let rest = (0..clients.len()).filter(|index| !touched.contains(index));
        Ok(rest.map(|index| probes.longest(index)).max().unwrap_or(after))
    })
}

/// Lets a fault come, last, and go, but for what the network keeps. Yields whom it touches.
fn touch(
    fault: Fault,
    network: &Network,
    members: &mut [Member],
    leader: usize,
    another: usize,
) -> Result<Vec<usize>> {
    let host = |index: usize| index as u8;
    Ok(match fault {
        Fault::KillLeader | Fault::KillAnother => {
            let victim = if fault == Fault::KillLeader { leader } else { another };
            members[victim].kill()?;
            sleep(LASTS);
            members[victim].start_again()?;
            vec![victim]
        }
        Fault::CutLeader => {
            network.cut(host(leader), host(another))?;
            let third = 3 - leader - another;
            network.cut(host(leader), host(third))?;
            sleep(LASTS);
            vec![leader]
        }
        Fault::CutAnother => {
            network.isolate(host(another))?;
            sleep(LASTS);
            vec![another]
        }
        Fault::DeafAnother => {
            network.cut_one_way(host(leader), host(another))?;
            sleep(LASTS);
            vec![another]
        }
        Fault::DeafLeader => {
            for index in (0..members.len()).filter(|&index| index != leader) {
                network.cut_one_way(host(index), host(leader))?;
            }
            sleep(LASTS);
            vec![leader]
        }
        Fault::LossAtLeader | Fault::LossAtAnother => {
            let victim = if fault == Fault::LossAtLeader { leader } else { another };
            network.lose(host(victim), 20)?;
            sleep(LASTS);
            vec![victim]
        }
        Fault::Resets => {
            network.reset(host(another))?;
            sleep(LASTS);
            vec![another]
        }
        Fault::Flaps => {
            for _ in 0..3 {
                network.plug(host(another), false)?;
                sleep(LASTS / 6);
                network.plug(host(another), true)?;
                sleep(LASTS / 6);
            }
            vec![another]
        }
        Fault::SlowLink => {
            network.slow(host(another), 1)?;
            sleep(LASTS);
            vec![another]
        }
        Fault::PauseLeader => {
            members[leader].pause(true);
            sleep(LASTS);
            members[leader].pause(false);
            vec![leader]
        }
        Fault::SlowDisk => {
            slow_disk(members[leader].pid()?)?;
            vec![leader]
        }
        Fault::StoreAway => {
            network.isolate(STORE)?;
            sleep(2 * LASTS);
            (0..members.len()).collect()
        }
    })
}

/// Writes to each broker all the time, and when each was taken.
struct Probes {
    over: AtomicBool,
    begin: Instant,
    taken: Vec<Mutex<Vec<Instant>>>,
}

impl Probes {
    fn new(brokers: usize) -> Self {
        let taken = (0..brokers).map(|_| Mutex::new(Vec::new())).collect();
        Probes { over: AtomicBool::new(false), begin: Instant::now(), taken }
    }

    fn run(&self, broker: usize, client: Client) {
        let name = broker.to_string();
        while !self.over.load(Ordering::Relaxed) {
            let labels = [("__name__", "probes"), ("broker", name.as_str())];
            let body = WriteBody::new().series(&labels, &[(now_ms(), 1.0)]).snappy();
            if client.write(&body).is_ok_and(|answer| answer.status == 204) {
                self.taken[broker].lock().expect("no panic").push(Instant::now());
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// The longest time without one that was taken.
    fn longest(&self, broker: usize) -> Duration {
        let taken = self.taken[broker].lock().expect("no panic");
        let mut last = self.begin;
        let mut longest = Duration::ZERO;
        for &next in taken.iter().chain([&Instant::now()]) {
            longest = longest.max(next - last);
            last = next;
        }
        longest
    }
}

/// Who leads, as those say that can be asked.
fn leader(site: &Site) -> Result<usize> {
    let begin = Instant::now();
    while begin.elapsed() < WHOLE {
        for member in &site.members {
            let Ok(answer) = member.client().get("/api/v1/status/cluster") else { continue };
            let status: serde_json::Value = serde_json::from_slice(&answer.body)?;
            let members = status["data"]["members"].as_array().context("members of a cluster")?;
            let leads = members.iter().find(|member| member["isLeader"] == true);
            let name = leads.and_then(|member| member["name"].as_str());
            if let Some(number) = name.and_then(|name| name.strip_prefix("broker-")) {
                return Ok(number.parse::<usize>()? - 1);
            }
        }
        sleep(Duration::from_millis(50));
    }
    bail!("nobody leads")
}

/// Each broker shows everything that was acknowledged, and says so, soon.
fn whole(site: &Site) -> Result<()> {
    let begin = Instant::now();
    loop {
        match site.check_counts() {
            Err(error) if begin.elapsed() > WHOLE => {
                return Err(error.context(format!("{WHOLE:?} after the fault")));
            }
            Err(_) => sleep(Duration::from_millis(100)),
            Ok(()) => return Ok(()),
        }
    }
}

/// Each sync of a process takes 200 ms longer for a while.
fn slow_disk(pid: u32) -> Result<()> {
    let mut strace = Command::new("strace")
        .args(["-f", "-p", &pid.to_string(), "-o", "/dev/null", "-e", "trace=fdatasync,fsync"])
        .args(["-e", "inject=fdatasync,fsync:delay_enter=200000"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start strace; is it installed?")?;
    sleep(LASTS);
    // It lets go of the process when it is asked to end.
    let id = rustix::process::Pid::from_child(&strace);
    rustix::process::kill_process(id, rustix::process::Signal::INT)?;
    strace.wait()?;
    Ok(())
}
