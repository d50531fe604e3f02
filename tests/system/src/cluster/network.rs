//! Three brokers on hosts of their own, over S3: whatever breaks between them, and between them and
//! the store, what was acknowledged is there once, and writes go on where a majority can agree.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::moto::{BUCKET, MOTO_CREDENTIALS, Moto};
use super::site::{Member, Place, Site, until_taken};
use crate::harness::network::Network;
use crate::harness::random::Random;
use crate::harness::{Client, Scratch, WriteBody, now_ms};

pub(super) const BROKERS: u8 = 3;
/// The host of the store.
pub(super) const STORE: u8 = 3;
/// How long a fault lasts.
const LASTS: Duration = Duration::from_millis(2_500);
/// An election on a machine that compiles at the same time; the figures of each run are printed.
const RESUME: Duration = Duration::from_secs(15);

/// What breaks, and whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
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

/// Rounds over all faults; more by hand: `WATCHFIRE_TEST_ROUNDS=10 watchfire-system cluster-stores/network`.
fn rounds() -> usize {
    rounds_or(1)
}

pub(super) fn rounds_or(usual: usize) -> usize {
    std::env::var("WATCHFIRE_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

pub(super) fn faults(scratch: &Scratch) -> Result<String> {
    let network = Network::new(BROKERS + 1)?;
    let moto = Moto::start(
        scratch,
        &network.on(STORE),
        SocketAddr::new(network.requests(STORE).into(), 5_000),
    )?;
    let store = moto.url(network.peers(STORE).into(), BUCKET);
    let mut places = places(&network);
    for place in &mut places {
        place.environment = MOTO_CREDENTIALS.to_vec();
    }
    strike_all(scratch, &network, store, &places, FAULTS)
}

/// A host for each broker.
pub(super) fn places(network: &Network) -> Vec<Place> {
    let place = |host| {
        let peers = SocketAddr::new(network.peers(host).into(), 9_596);
        let listen = SocketAddr::new(network.requests(host).into(), 9_595);
        Place::at(peers, listen, network.on(host))
    };
    (0..BROKERS).map(place).collect()
}

/// Founds a cluster at `places` and lets each of `faults` come and go, in any order.
pub(super) fn strike_all(
    scratch: &Scratch,
    network: &Network,
    store: String,
    places: &[Place],
    faults: &[Fault],
) -> Result<String> {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let mut site = Site::start_at(scratch, seed, store, places)?;
    let mut resumed: BTreeMap<Fault, Vec<Duration>> = BTreeMap::new();
    for round in 0..rounds() {
        let mut order = faults.to_vec();
        for last in (1..order.len()).rev() {
            order.swap(last, random.below(last as u64 + 1) as usize);
        }
        for fault in order {
            let context = || format!("{fault:?}, seed {seed}, round {round}");
            let leader = site.leader().with_context(context)?;
            let another = (leader + 1 + random.below(2) as usize) % usize::from(BROKERS);
            let away = site
                .write_while(|members| {
                    strike(members, |members| touch(fault, network, members, leader, another))
                })
                .with_context(context)?
                .at_others;
            ensure!(away < RESUME, "no write was taken for {away:?}: {}", context());
            resumed.entry(fault).or_default().push(away);
            site.check_counts_soon().with_context(context)?;
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
        rounds() * faults.len(),
        site.acknowledged_samples(),
        figures.join(", ")
    ))
}

/// For how long no write was taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Away {
    /// By one of those that the fault does not touch; where it touches all, from its end on until all take
    /// something again.
    pub(super) at_others: Duration,
    /// By anybody.
    pub(super) anywhere: Duration,
    /// From the end of the fault on until all took something again.
    pub(super) after: Duration,
}

/// Lets `touch` bring a fault and take it away, while everybody is written to. It yields whom it touches.
pub(super) fn strike(
    members: &mut [Member],
    touch: impl FnOnce(&mut [Member]) -> Result<Vec<usize>>,
) -> Result<Away> {
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
        let touched = touch(members);
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
        let at_others = rest.map(|index| probes.longest(&[index])).max().unwrap_or(after);
        let all: Vec<usize> = (0..clients.len()).collect();
        Ok(Away { at_others, anywhere: probes.longest(&all), after })
    })
}

/// Lets a fault come, last, and go. Yields whom it touches.
pub(super) fn touch(
    fault: Fault,
    network: &Network,
    members: &mut [Member],
    leader: usize,
    another: usize,
) -> Result<Vec<usize>> {
    let touched = bring(fault, network, members, leader, another);
    network.heal().and(touched)
}

fn bring(
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

    /// The longest time in which none of `brokers` took one.
    fn longest(&self, brokers: &[usize]) -> Duration {
        let taken = brokers.iter().map(|&broker| self.taken[broker].lock().expect("no panic"));
        let mut moments: Vec<Instant> = taken.flat_map(|taken| taken.clone()).collect();
        moments.push(Instant::now());
        moments.sort_unstable();
        let mut last = self.begin;
        let mut longest = Duration::ZERO;
        for next in moments {
            longest = longest.max(next - last);
            last = next;
        }
        longest
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
