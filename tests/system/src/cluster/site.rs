//! Three brokers over one directory, and what each of them acknowledged.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::Signal;

use crate::harness::process::binary;
use crate::harness::{Client, Launch, Scratch, Server, WriteBody, free_address, now_ms};
use crate::ledger::Ledger;

/// Whether any broker answers with what the others hold. Without it, what a broker acknowledged is read
/// from that broker.
pub(super) const READS_ACROSS: bool = true;

/// Blocks are written all the time, so that kills hit flushes too.
pub(super) const CONFIG: &str = "storage:\n  flush_interval: 1s\n";
const WRITERS: u64 = 2;
const PATIENCE: Duration = Duration::from_secs(60);
/// Until everything that was acknowledged can be read again at each broker.
const WHOLE: Duration = Duration::from_secs(30);

/// A broker and how it is started.
pub(super) struct Member {
    pub(super) data: PathBuf,
    pub(super) peers: SocketAddr,
    /// From its data directory, without a word of the cluster.
    again: Launch,
    running: Option<Server>,
}

/// The brokers, and the ledger of each.
pub(super) struct Site {
    pub(super) store: String,
    pub(super) members: Vec<Member>,
    ledgers: Vec<Ledger>,
}

/// What `watchfire token create` prints for the next host: its last word.
pub(crate) fn join_token(data: &Path, role: &str) -> Result<String> {
    let output = Command::new(binary())
        .args(["token", "create", "--role", role, "--data"])
        .arg(data)
        .output()
        .context("start watchfire token create")?;
    let text = String::from_utf8(output.stdout)?;
    let token = text.split_whitespace().next_back().filter(|word| word.starts_with("wfj_"));
    token.map(str::to_owned).with_context(|| {
        format!("no token in {text:?}: {}", String::from_utf8_lossy(&output.stderr))
    })
}

/// Where a broker runs, and listens before and after each restart.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) peers: SocketAddr,
    pub(super) listen: SocketAddr,
    /// Words that lead to another host.
    pub(super) on: Vec<String>,
    pub(super) environment: Vec<(&'static str, &'static str)>,
    /// Its configuration file.
    pub(super) config: String,
}

impl Place {
    /// This host, and the port for peers that others know of.
    pub(super) fn here(peers: SocketAddr) -> Result<Place> {
        Ok(Place::at(peers, free_address()?, Vec::new()))
    }

    /// Another host, to which the words `on` lead.
    pub(super) fn at(peers: SocketAddr, listen: SocketAddr, on: Vec<String>) -> Place {
        Place { peers, listen, on, environment: Vec::new(), config: CONFIG.to_owned() }
    }
}

/// A broker in a directory of its own, on ports that stay.
pub(super) fn launch(
    scratch: &Scratch,
    name: &str,
    peers: SocketAddr,
) -> Result<(Launch, PathBuf)> {
    launch_at(scratch, name, &Place::here(peers)?)
}

fn launch_at(scratch: &Scratch, name: &str, place: &Place) -> Result<(Launch, PathBuf)> {
    std::fs::create_dir_all(scratch.join(name))?;
    let data = scratch.join(&format!("{name}/data"));
    let (listen, peers) = (place.listen.to_string(), place.peers.to_string());
    let mut words = vec!["--listen", &listen, "--peer-listen", &peers, "--name", name];
    if !place.listen.ip().is_loopback() {
        words.push("--insecure-no-auth");
    }
    let launch = Launch::broker(&data).config(&place.config).arguments(&words).on(place.on.clone());
    let launch = place.environment.iter().fold(launch, |launch, (k, v)| launch.env(k, v));
    Ok((launch, data))
}

impl Member {
    pub(super) fn client(&self) -> Client {
        self.running.as_ref().expect("it runs").client()
    }

    /// Stops it where it stands, or lets it go on.
    pub(super) fn pause(&self, is_paused: bool) {
        self.signal(if is_paused { Signal::STOP } else { Signal::CONT });
    }

    pub(super) fn pid(&self) -> Result<u32> {
        self.running.as_ref().expect("it runs").pid()
    }

    pub(super) fn stderr(&self) -> String {
        self.running.as_ref().map(Server::stderr).unwrap_or_default()
    }

    pub(super) fn stop(&mut self) -> Result<()> {
        self.running.take().expect("it runs").stop()
    }

    pub(super) fn kill(&mut self) -> Result<()> {
        self.running.take().expect("it runs").kill()
    }

    /// From its next start on it is the program that comes next, or this one again.
    pub(super) fn install(&mut self, is_next: bool) {
        let value = if is_next { "1" } else { "0" };
        self.again = self.again.clone().env("WATCHFIRE_POSE_AS_NEXT", value);
    }

    /// As it was installed: the data directory knows the rest.
    pub(super) fn start_again(&mut self) -> Result<()> {
        self.running = Some(self.again.start()?);
        Ok(())
    }
}

impl Member {
    pub(super) fn signal(&self, signal: Signal) {
        self.running.as_ref().expect("it runs").signal(signal);
    }

    /// As it was installed, without waiting for it to be ready.
    pub(super) fn spawn_again(&self) -> Result<Server> {
        self.again.spawn()
    }

    /// Starts what must not run, as it was installed; yields what it said.
    pub(super) fn refused_again(&self, within: Duration) -> Result<String> {
        let mut server = self.spawn_again()?;
        let status = server.wait_end(within).context("it runs")?;
        ensure!(!status.success(), "it ended well: {}", server.stderr());
        Ok(server.stderr())
    }
}

impl Site {
    /// Founds a cluster and lets two others join, as docs/operating/cluster.md says.
    pub(super) fn start(scratch: &Scratch, seed: u64) -> Result<Site> {
        let store = format!("file://{}", scratch.join("store").display());
        let place = |_| Place::here(free_address()?);
        let places: Vec<Place> = (0..3).map(place).collect::<Result<_>>()?;
        Self::start_at(scratch, seed, store, &places)
    }

    /// As [`Site::start`], over any store and on any hosts.
    pub(super) fn start_at(
        scratch: &Scratch,
        seed: u64,
        store: String,
        places: &[Place],
    ) -> Result<Site> {
        let mut site = Site { store, members: Vec::new(), ledgers: Vec::new() };
        for (part, place) in (0_u64..).zip(places) {
            site.add_at(scratch, &format!("broker-{}", part + 1), place)?;
            let file = scratch.join(&format!("ledger-{part}.txt"));
            let parts = places.len() as u64;
            site.ledgers.push(Ledger::one_of(&file, WRITERS, seed, part, parts)?);
        }
        let begin = Instant::now();
        while !site.members[0].stderr().contains("other members vote from now on") {
            ensure!(begin.elapsed() < PATIENCE, "one still votes: {}", site.members[0].stderr());
            sleep(Duration::from_millis(20));
        }
        Ok(site)
    }

    /// One more broker: the first founds, the others join at the first.
    pub(super) fn add(&mut self, scratch: &Scratch, name: &str) -> Result<()> {
        self.add_at(scratch, name, &Place::here(free_address()?)?)
    }

    fn add_at(&mut self, scratch: &Scratch, name: &str, place: &Place) -> Result<()> {
        let (again, data) = launch_at(scratch, name, place)?;
        let mut first = again.clone().arguments(&["--store", &self.store]);
        if let Some(founder) = self.members.first() {
            let token = join_token(&founder.data, "broker")?;
            let seed = founder.peers.to_string();
            first = first.arguments(&["--join", &seed, "--join-token", &token]);
        }
        let running = Some(first.start().with_context(|| name.to_owned())?);
        self.members.push(Member { data, peers: place.peers, again, running });
        Ok(())
    }

    /// Lets the writers of every broker that runs write to it until `during` returns.
    pub(super) fn write_while<T>(
        &mut self,
        during: impl FnOnce(&mut [Member]) -> Result<T>,
    ) -> Result<T> {
        let Site { members, ledgers, .. } = self;
        let clients: Vec<Option<Client>> =
            members.iter().map(|m| m.running.as_ref().map(Server::client)).collect();
        let over = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writing: Vec<_> = ledgers
                .iter_mut()
                .zip(clients)
                .filter_map(|(ledger, client)| Some((ledger, client?)))
                .map(|(ledger, client)| {
                    scope.spawn(move || {
                        ledger.write_while(client, || {
                            while !over.load(Ordering::Relaxed) {
                                sleep(Duration::from_millis(5));
                            }
                            Ok(())
                        })
                    })
                })
                .collect();
            let outcome = during(members);
            over.store(true, Ordering::Relaxed);
            for writing in writing {
                writing.join().map_err(|_| anyhow!("a writer panicked"))??;
            }
            outcome
        })
    }

    /// Samples acknowledged so far.
    pub(super) fn acknowledged_samples(&self) -> u64 {
        self.ledgers.iter().map(Ledger::acknowledged_samples).sum()
    }

    /// Everything that was acknowledged is there once, and nothing else.
    pub(super) fn check(&self) -> Result<()> {
        self.check_with(Ledger::check)
    }

    /// As [`Site::check`], by the number of samples alone.
    pub(super) fn check_counts(&self) -> Result<()> {
        self.check_with(Ledger::check_counts)
    }

    /// As [`Site::check_counts`], within half a minute: brokers that were cut off hear of the rest first.
    pub(super) fn check_counts_soon(&self) -> Result<()> {
        let begin = Instant::now();
        loop {
            match self.check_counts() {
                Err(error) if begin.elapsed() > WHOLE => {
                    return Err(error.context(format!("{WHOLE:?} after the fault")));
                }
                Err(_) => sleep(Duration::from_millis(100)),
                Ok(()) => return Ok(()),
            }
        }
    }

    /// The place of who leads, as those say that can be asked.
    pub(super) fn leader(&self) -> Result<usize> {
        let begin = Instant::now();
        while begin.elapsed() < WHOLE {
            for member in self.members.iter().filter(|member| member.running.is_some()) {
                let Ok(answer) = member.client().get("/api/v1/status/cluster") else { continue };
                let status: serde_json::Value = serde_json::from_slice(&answer.body)?;
                let members = status["data"]["members"].as_array().context("a cluster's")?;
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

    fn check_with(&self, check: impl Fn(&Ledger, Client) -> Result<()>) -> Result<()> {
        for (part, ledger) in self.ledgers.iter().enumerate() {
            for (index, member) in self.members.iter().enumerate() {
                if READS_ACROSS || part == index {
                    let who =
                        || format!("what broker {} took, as {} shows it", part + 1, index + 1);
                    check(ledger, member.client()).with_context(who)?;
                }
            }
        }
        Ok(())
    }
}

/// Writes one sample of a metric of its own until it is taken; yields how long that took.
pub(super) fn until_taken(client: Client, value: f64) -> Result<Duration> {
    let begin = Instant::now();
    let body = WriteBody::new().series(&[("__name__", "probe")], &[(now_ms(), value)]).snappy();
    loop {
        let answer = client.write(&body);
        if answer.as_ref().is_ok_and(|answer| answer.status == 204) {
            return Ok(begin.elapsed());
        }
        let said = answer.map(|answer| answer.text());
        ensure!(begin.elapsed() < PATIENCE, "nothing is taken: {said:?}");
        sleep(Duration::from_millis(20));
    }
}
