//! Seven brokers on three Garages, two consoles, and nginx before both: ten minutes in which any of them is
//! killed, seen by somebody who knows nginx alone. For hands, not for each run of the tests.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::garage::Garage;
use super::network::rounds_or;
use super::site::{Place, Site, free_address, join_token};
use crate::harness::network::Network;
use crate::harness::peer::{Host, Peer};
use crate::harness::random::Random;
use crate::harness::{Client, Launch, Scratch, Server, WriteBody, now_ms};
use crate::ledger::Ledger;

const BROKERS: usize = 7;
const GARAGES: u8 = 3;
const CONSOLES: usize = 2;
const WRITERS: u64 = 6;

/// What somebody met who asked all the time.
#[derive(Default)]
struct Met {
    answered: AtomicU64,
    refused: AtomicU64,
    slowest: Mutex<Vec<Duration>>,
    /// The longest times without a good answer.
    gaps: Mutex<Vec<Duration>>,
}

impl Met {
    /// Asks until it is over; `ask` says whether the answer was good.
    fn run(&self, over: &AtomicBool, ask: impl Fn() -> bool) {
        let mut last = Instant::now();
        while !over.load(Ordering::Relaxed) {
            let begin = Instant::now();
            let is_good = ask();
            self.slowest.lock().expect("no panic").push(begin.elapsed());
            match is_good {
                true => {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    self.gaps.lock().expect("no panic").push(last.elapsed());
                    last = Instant::now();
                }
                false => _ = self.refused.fetch_add(1, Ordering::Relaxed),
            }
            sleep(Duration::from_millis(50));
        }
    }

    fn told(&self) -> String {
        let at = |times: &Mutex<Vec<Duration>>, per_mille: usize| {
            let mut times = times.lock().expect("no panic").clone();
            times.sort();
            let at = (times.len() * per_mille / 1_000).min(times.len().saturating_sub(1));
            times.get(at).map_or(0.0, Duration::as_secs_f64)
        };
        format!(
            "{} good, {} not; time of each p50 {:.3} p99 {:.3} max {:.2} s; longest time without a good one {:.2} s",
            self.answered.load(Ordering::Relaxed),
            self.refused.load(Ordering::Relaxed),
            at(&self.slowest, 500),
            at(&self.slowest, 990),
            at(&self.slowest, 1_000),
            at(&self.gaps, 1_000),
        )
    }
}

/// nginx, which knows nothing but addresses.
fn nginx(
    scratch: &Scratch,
    brokers: &[SocketAddr],
    consoles: &[SocketAddr],
) -> Result<(Peer, Client, Client)> {
    let directory = scratch.join("nginx");
    std::fs::create_dir_all(&directory)?;
    let (writes, reads) = (free_address()?, free_address()?);
    let text = configuration(&directory, &[(writes, brokers), (reads, consoles)]);
    let path = directory.join("nginx.conf");
    std::fs::write(&path, text)?;
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-p").arg(&directory).arg("-c").arg(&path).args(["-g", "daemon off;"]);
    let peer = Peer::start(scratch, "nginx", writes, command)?;
    Ok((peer, Client::new(writes), Client::new(reads)))
}

/// A write may be sent to another broker when one fails: that does no harm, see docs/operating/cluster.md.
fn configuration(directory: &Path, sides: &[(SocketAddr, &[SocketAddr])]) -> String {
    let mut text = format!(
        "pid {0}/pid; error_log {0}/error.log; worker_processes 1;\nevents {{ worker_connections 512; }}\nhttp {{\n\
         access_log off; client_max_body_size 64m;\n",
        directory.display()
    );
    for (number, (listen, servers)) in sides.iter().enumerate() {
        text.push_str(&format!("upstream side{number} {{\n"));
        for server in *servers {
            text.push_str(&format!("  server {server} max_fails=1 fail_timeout=2s;\n"));
        }
        text.push_str(&format!(
            "}}\nserver {{ listen {listen}; location / {{\n  proxy_pass http://side{number};\n  \
             proxy_set_header Host $http_host; proxy_http_version 1.1; proxy_connect_timeout 1s;\n  \
             proxy_next_upstream error timeout http_502 http_503 http_504 non_idempotent;\n}} }}\n"
        ));
    }
    text + "}\n"
}

struct Console {
    launch: Launch,
    running: Option<Server>,
}

pub(super) fn ten_minutes(scratch: &Scratch) -> Result<String> {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let lasts = Duration::from_secs(6 * rounds_or(100) as u64);
    let network = Network::new(GARAGES)?;
    let host = |host| Host { on: network.on(host), address: network.peers(host).into() };
    let garage = Garage::start(scratch, (0..GARAGES).map(host).collect())?;
    // Each broker lives with one of the Garages, whose port for S3 listens on loopback alone.
    let mut places = Vec::new();
    for number in 0..BROKERS {
        let (host, port) = ((number % usize::from(GARAGES)) as u8, number as u16);
        let peers = SocketAddr::new(network.peers(host).into(), 9_700 + port);
        let listen = SocketAddr::new(network.requests(host).into(), 9_600 + port);
        let mut place = Place::at(peers, listen, network.on(host));
        garage.equip(&mut place)?;
        places.push(place);
    }
    let mut site = Site::start_at(scratch, seed, garage.store()?, &places)?;
    let seeds: Vec<String> = site.members.iter().map(|member| member.peers.to_string()).collect();
    let (mut consoles, mut addresses) = (Vec::new(), Vec::new());
    for number in 0..CONSOLES {
        let directory = scratch.join(&format!("console-{number}"));
        std::fs::create_dir_all(&directory)?;
        let token = join_token(&site.members[0].data, "console")?;
        let listen = free_address()?;
        let (listen_text, seeds) = (listen.to_string(), seeds.join(","));
        let launch = Launch::console(&directory.join("data"));
        let launch = launch.arguments(&["--listen", &listen_text, "--broker", &seeds]);
        let running = launch.clone().arguments(&["--join", &token]).start()?;
        consoles.push(Console { launch, running: Some(running) });
        addresses.push(listen);
    }
    let brokers: Vec<SocketAddr> = places.iter().map(|place| place.listen).collect();
    let (_nginx, writes, reads) = nginx(scratch, &brokers, &addresses)?;
    // One batch after the other goes to any broker.
    let mut ledger = Ledger::new(&scratch.join("ledger.txt"), WRITERS, seed)?.honest();
    let (written, read) = (Met::default(), Met::default());
    let over = AtomicBool::new(false);
    let (mut broker_kills, mut console_kills) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            written.run(&over, || {
                let body =
                    WriteBody::new().series(&[("__name__", "probe")], &[(now_ms(), 1.0)]).snappy();
                writes.write(&body).is_ok_and(|answer| answer.status == 204)
            });
        });
        scope.spawn(|| {
            read.run(&over, || {
                let asked = reads.envelope("/api/v1/query", &[("query", "count(probe)")]);
                asked
                    .is_ok_and(|(status, answer)| status == 200 && answer.get("warnings").is_none())
            });
        });
        let outcome = ledger.write_while(writes, || {
            let begin = Instant::now();
            while begin.elapsed() < lasts {
                sleep(Duration::from_millis(1_000 + random.below(3_000)));
                let away = Duration::from_millis(500 + random.below(2_500));
                let victim = random.below((BROKERS + CONSOLES) as u64) as usize;
                match victim.checked_sub(BROKERS) {
                    None => {
                        site.members[victim].kill()?;
                        sleep(away);
                        site.members[victim].start_again()?;
                        broker_kills += 1;
                    }
                    Some(console) => {
                        let console = &mut consoles[console];
                        console.running.take().context("it runs")?.kill()?;
                        sleep(away);
                        console.running = Some(console.launch.start()?);
                        console_kills += 1;
                    }
                }
            }
            Ok(())
        });
        over.store(true, Ordering::Relaxed);
        outcome
    })
    .with_context(|| format!("seed {seed}"))?;
    println!("writes   {}", written.told());
    println!("queries  {}", read.told());
    for (index, client) in
        site.members.iter().map(super::site::Member::client).chain([reads]).enumerate()
    {
        check_soon(&ledger, client).with_context(|| format!("as number {} shows it", index + 1))?;
    }
    Ok(format!(
        "{BROKERS} brokers, {CONSOLES} consoles, {:.0} s, {broker_kills} + {console_kills} kills, seed {seed}; {} samples, \
         0 lost, 0 doubled",
        lasts.as_secs_f64(),
        ledger.acknowledged_samples()
    ))
}

/// One that was killed last may still be reading.
fn check_soon(ledger: &Ledger, client: Client) -> Result<()> {
    let begin = Instant::now();
    loop {
        match ledger.check(client) {
            Ok(()) => return Ok(()),
            Err(error) if begin.elapsed() > Duration::from_secs(30) => {
                return Err(error);
            }
            Err(_) => sleep(Duration::from_millis(200)),
        }
    }
}
