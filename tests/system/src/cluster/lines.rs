//! Lines at brokers that are killed: pushed with and without times, tailed by an agent, deleted.
//!
//! Each line has a number in its stream, and whoever sends it repeats it, at whichever broker, until it is
//! acknowledged. In the end every broker shows each number once, and counts as many lines and bytes.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};

use super::site::{Member, Place, Site, join_token};
use crate::harness::{
    Client, Launch, Scratch, Server, free_address, now_ms, random::Random, random::mix,
};
use crate::rotating::{Writing, number_of};

const CONFIG: &str = "storage:\n  flush_interval: 1s\nlogs:\n  collect: false\n";
const ROUNDS: usize = 10;
const WRITERS: u64 = 2;
/// Until something that is repeated is acknowledged.
const PATIENCE: Duration = Duration::from_secs(60);
/// What one answer may hold.
const PAGE: usize = 5_000;

/// All brokers, and what all that write and read here share.
struct World {
    brokers: Vec<Client>,
    began_ms: i64,
    seed: u64,
    over: AtomicBool,
}

/// A stream and what stands in it.
struct Sent {
    selector: String,
    lines: u64,
    bytes: u64,
}

/// What became of a request that was sent once.
enum Answer {
    Stored,
    /// Refused for now, or nobody knows.
    Again(String),
}

pub(super) fn kills(scratch: &Scratch) -> Result<String> {
    let seed = Random::seed();
    killed(scratch, seed).with_context(|| format!("seed {seed}"))
}

fn killed(scratch: &Scratch, seed: u64) -> Result<String> {
    let store = format!("file://{}", scratch.join("store").display());
    let place = |_| Ok(Place { config: CONFIG.to_owned(), ..Place::here(free_address()?)? });
    let places: Vec<Place> = (0..3).map(place).collect::<Result<_>>()?;
    let mut site = Site::start_at(scratch, seed, store, &places)?;
    let brokers = site.members.iter().map(Member::client).collect();
    let world = World { brokers, began_ms: now_ms(), seed, over: AtomicBool::new(false) };
    let logs = scratch.join("logs");
    fs::create_dir_all(&logs)?;
    let writing = Writing::start(&logs, seed)?;
    let mut agent = Agent::start(scratch, &site)?;

    let acknowledged: Vec<AtomicU64> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
    let (sent, deletes, reads, kills) = thread::scope(|scope| {
        let world = &world;
        let writers = acknowledged.iter().zip(0..).flat_map(|(acknowledged, number)| {
            [
                scope.spawn(move || timed(world, number, acknowledged)),
                scope.spawn(move || untimed(world, number)),
            ]
        });
        let writers: Vec<_> = writers.collect();
        let deleting = scope.spawn(move || deletes(world));
        let first = &acknowledged[0];
        let reading = scope.spawn(move || reads(world, first));
        let kills = kill(&mut site, &mut agent, seed);
        world.over.store(true, Ordering::Relaxed);
        let ended = |outcome: thread::Result<_>| outcome.map_err(|_| anyhow!("it panicked"));
        let mut sent = Vec::new();
        for writer in writers {
            sent.push(ended(writer.join())??);
        }
        let deletes = deleting.join().map_err(|_| anyhow!("it panicked"))??;
        let reads = reading.join().map_err(|_| anyhow!("it panicked"))??;
        Ok::<_, anyhow::Error>((sent, deletes, reads, kills?))
    })?;
    let (written, rotations) = writing.end()?;
    world.wait_for_tailed(written)?;
    // Whatever came twice is there by then.
    sleep(Duration::from_secs(1));
    let mut lines = 0;
    for (at, broker) in world.brokers.iter().enumerate() {
        lines = world
            .check(broker, &sent, written, &deletes)
            .with_context(|| format!("as broker {} shows it", at + 1))?;
    }
    agent.stop()?;
    let again: u64 = world.brokers.iter().map(|broker| again(broker).unwrap_or_default()).sum();
    Ok(format!(
        "{} brokers and {} agents killed over {rotations} rotations and {} deletes: {lines} lines, each once; \
         {again} requests known again, {reads} reads meanwhile",
        kills[0],
        kills[1],
        deletes.len()
    ))
}

/// Requests that were known when they came again, since the broker's start.
fn again(broker: &Client) -> Result<u64> {
    Ok(broker.metric("watchfire_broker_log_pushes_known_total")? as u64)
}

/// Kills brokers and the agent, one after the other, the leader first.
fn kill(site: &mut Site, agent: &mut Agent, seed: u64) -> Result<[usize; 2]> {
    let mut random = Random::new(mix(seed));
    let mut kills = [0, 0];
    for round in 0..ROUNDS {
        sleep(Duration::from_millis(random.below(700)));
        let away = Duration::from_millis(random.below(1_200));
        let die = if round == 0 { 0 } else { random.below(6) };
        let victim = match die {
            0 => site.leader()?,
            1 => {
                agent.restart(away)?;
                kills[1] += 1;
                continue;
            }
            number => number as usize % 3,
        };
        site.members[victim].kill()?;
        sleep(away);
        site.members[victim].start_again()?;
        kills[0] += 1;
    }
    // Whatever the seed says.
    if kills[1] == 0 {
        agent.restart(Duration::from_millis(100))?;
        kills[1] += 1;
    }
    Ok(kills)
}

/// Who reads the file.
struct Agent {
    launch: Launch,
    running: Option<Server>,
}

impl Agent {
    fn start(scratch: &Scratch, site: &Site) -> Result<Agent> {
        let token = join_token(&site.members[0].data, "agent")?;
        let data = scratch.join("agent/data");
        fs::create_dir_all(scratch.join("agent"))?;
        let config = format!(
            "agent:\n  enabled: false\nlogs:\n  containers: false\n  journal: {{enabled: false}}\n  files:\n    \
             - paths: ['{}/app.log*']\n      labels: {{job: tailed}}\n",
            scratch.join("logs").display()
        );
        // It knows of one broker; that one tells of the others.
        let broker = site.members[0].peers.to_string();
        let arguments = ["--broker", &broker, "--join", &token];
        let launch = Launch::agent(&data).config(&config).arguments(&arguments);
        let running = Some(launch.start().context("the agent")?);
        Ok(Agent { launch, running })
    }

    fn restart(&mut self, away: Duration) -> Result<()> {
        self.running.take().expect("it runs").kill()?;
        sleep(away);
        self.running = Some(self.launch.start().context("the agent")?);
        Ok(())
    }

    fn stop(self) -> Result<()> {
        self.running.expect("it runs").stop()
    }
}

/// A name for a request, and what is in it.
struct Request {
    path: &'static str,
    key: String,
    body: String,
}

impl Request {
    /// As Loki's push; times are of the numbers.
    fn push(world: &World, key: &str, stream: &Value, lines: &[(i64, String)]) -> Request {
        let times = lines.iter().map(|(time_ns, line)| json!([time_ns.to_string(), line]));
        let values: Vec<Value> = times.collect();
        let body = json!({"streams": [{"stream": stream, "values": values}]}).to_string();
        Request { path: "/loki/api/v1/push", key: world.key(key), body }
    }

    fn send(&self, broker: Client) -> Result<Answer> {
        let headers = [("Content-Type", "application/json"), ("Idempotency-Key", &self.key)];
        let answer = match broker.post(self.path, &headers, self.body.as_bytes()) {
            Err(error) => return Ok(Answer::Again(format!("{error:#}"))),
            Ok(answer) => answer,
        };
        match answer.status {
            200 | 204 => Ok(Answer::Stored),
            503 => Ok(Answer::Again(answer.text())),
            status => bail!("a good request was answered {status}: {}", answer.text()),
        }
    }

    /// Sends it to any broker until one has stored it; how often it had to be sent.
    fn store(&self, world: &World, random: &mut Random) -> Result<u64> {
        let begin = Instant::now();
        for attempt in 1.. {
            match self.send(world.any(random))? {
                Answer::Stored => return Ok(attempt),
                Answer::Again(why) => {
                    ensure!(begin.elapsed() < PATIENCE, "{} is not stored: {why}", self.key);
                    sleep(Duration::from_millis(20));
                }
            }
        }
        unreachable!("it goes on")
    }

    /// Sends what is stored once more, now and then, as a sender does whose answer was lost.
    fn store_again(&self, world: &World, random: &mut Random) -> Result<()> {
        if random.below(3) == 0 {
            self.send(world.any(random))?;
        }
        Ok(())
    }
}

fn line(number: u64) -> String {
    format!("line {number} of the ledger")
}

/// Pushes lines that bear their times.
fn timed(world: &World, writer: u64, acknowledged: &AtomicU64) -> Result<Sent> {
    let mut random = Random::new(mix(world.seed ^ writer));
    let stream = json!({"job": "pushed", "writer": writer.to_string()});
    let selector = format!("{{job=\"pushed\", writer=\"{writer}\"}}");
    let mut sent = Sent { selector, lines: 0, bytes: 0 };
    while world.goes_on() {
        let lines: Vec<_> = (0..=random.below(20))
            .map(|at| (world.time_ns(sent.lines + at), line(sent.lines + at)))
            .collect();
        let name = format!("pushed-{writer}-{}", sent.lines);
        let request = Request::push(world, &name, &stream, &lines);
        request.store(world, &mut random)?;
        sent.add(lines.iter().map(|(_, line)| line));
        acknowledged.store(sent.lines, Ordering::Relaxed);
        request.store_again(world, &mut random)?;
        sleep(Duration::from_millis(random.below(30)));
    }
    Ok(sent)
}

/// Sends lines that get their times from the broker, so that only the name of a request tells whether it is
/// stored.
fn untimed(world: &World, writer: u64) -> Result<Sent> {
    let mut random = Random::new(mix(world.seed ^ (writer + WRITERS)));
    let selector = format!("{{job=\"named\", app=\"{writer}\"}}");
    let mut sent = Sent { selector, lines: 0, bytes: 0 };
    while world.goes_on() {
        let lines: Vec<_> = (0..=random.below(20)).map(|at| line(sent.lines + at)).collect();
        let app = writer.to_string();
        let objects = lines.iter().map(|line| json!({"job": "named", "app": app, "_msg": line}));
        let body = objects.map(|object| format!("{object}\n")).collect();
        let key = world.key(&format!("named-{writer}-{}", sent.lines));
        let path = "/insert/jsonline?_stream_fields=job,app";
        let request = Request { path, key, body };
        request.store(world, &mut random)?;
        sent.add(lines.iter());
        request.store_again(world, &mut random)?;
        sleep(Duration::from_millis(random.below(30)));
    }
    Ok(sent)
}

/// What is left of each stream of which something was deleted.
fn deletes(world: &World) -> Result<BTreeMap<u64, Vec<u64>>> {
    let mut random = Random::new(mix(world.seed ^ u64::MAX));
    let mut left = BTreeMap::new();
    let mut round = 0;
    while world.goes_on() {
        round += 1;
        let stream = json!({"job": "deleted", "round": round.to_string()});
        let lines = |numbers: std::ops::Range<u64>| {
            numbers.map(|number| (world.time_ns(number), line(number))).collect::<Vec<_>>()
        };
        let before = Request::push(world, &format!("before-{round}"), &stream, &lines(0..20));
        // An attempt that nobody answered may come to count after the delete, and is new then.
        if before.store(world, &mut random)? > 1 {
            continue;
        }
        let is_filtered = round % 2 == 0;
        let filter = if is_filtered { " |~ \"line 1.? of\"" } else { "" };
        let query = format!("{{job=\"deleted\", round=\"{round}\"}}{filter}");
        world.delete(&query, &mut random)?;
        let after = Request::push(world, &format!("after-{round}"), &stream, &lines(100..110));
        after.store(world, &mut random)?;
        let stays = |number: &u64| is_filtered && *number != 1 && !(10..20).contains(number);
        left.insert(round, (0..20).filter(stays).chain(100..110).collect());
        sleep(Duration::from_millis(random.below(200)));
    }
    Ok(left)
}

/// Counts what was acknowledged while brokers are killed: an answer without a warning has all of it.
fn reads(world: &World, acknowledged: &AtomicU64) -> Result<u64> {
    let mut random = Random::new(mix(world.seed ^ (1 << 32)));
    let mut answers = 0;
    while world.goes_on() {
        let least = acknowledged.load(Ordering::Relaxed);
        let query = "sum(count_over_time({job=\"pushed\", writer=\"0\"}[1h]))";
        let time = ((now_ms() + 1_000) * 1_000_000).to_string();
        let form = [("query", query), ("time", &time)];
        let asked = world.any(&mut random).envelope("/loki/api/v1/query", &form);
        // One that is killed, or starts, answers otherwise.
        if let Ok((200, answer)) = asked
            && answer.get("warnings").is_none_or(|warnings| *warnings == json!([]))
        {
            let count = answer["data"]["result"][0]["value"][1].as_str().unwrap_or("0");
            let count: u64 = count.parse().with_context(|| format!("{answer}"))?;
            ensure!(count >= least, "{count} lines are counted, {least} were acknowledged");
            answers += 1;
        }
        sleep(Duration::from_millis(random.below(50)));
    }
    ensure!(answers > 0, "no read was answered");
    Ok(answers)
}

impl Sent {
    fn add<'l>(&mut self, lines: impl Iterator<Item = &'l String>) {
        for line in lines {
            self.lines += 1;
            self.bytes += line.len() as u64;
        }
    }
}

impl World {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    fn any(&self, random: &mut Random) -> Client {
        self.brokers[random.below(self.brokers.len() as u64) as usize]
    }

    fn key(&self, name: &str) -> String {
        format!("{name}-{}", self.seed)
    }

    /// The time of a line by its number: none have the same, in one stream.
    fn time_ns(&self, number: u64) -> i64 {
        self.began_ms * 1_000_000 + number.cast_signed()
    }

    fn delete(&self, query: &str, random: &mut Random) -> Result<()> {
        let begin = Instant::now();
        let start = ((self.began_ms - 60_000) / 1_000).to_string();
        let form: String = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("query", query), ("start", &start)])
            .finish();
        loop {
            let target = format!("/loki/api/v1/delete?{form}");
            let why = match self.any(random).post(&target, &[], b"") {
                Ok(answer) if answer.status == 204 => return Ok(()),
                Ok(answer) if answer.status >= 500 => answer.text(),
                Ok(answer) => bail!("a delete was answered {}: {}", answer.status, answer.text()),
                Err(error) => format!("{error:#}"),
            };
            ensure!(begin.elapsed() < PATIENCE, "{query} is not deleted: {why}");
            sleep(Duration::from_millis(20));
        }
    }

    /// Answers about a selector, over all that was sent here.
    fn ask(&self, broker: &Client, path: &str, more: &[(&str, &str)]) -> Result<Value> {
        let start = ((self.began_ms - 60_000) * 1_000_000).to_string();
        let end = ((now_ms() + 60_000) * 1_000_000).to_string();
        let times = [("start", start.as_str()), ("end", end.as_str())];
        let times = times.iter().filter(|(name, _)| more.iter().all(|(known, _)| known != name));
        let form: Vec<_> = more.iter().chain(times).copied().collect();
        let (status, answer) = broker.envelope(path, &form)?;
        ensure!(status == 200, "{path} {form:?} answered {status}: {answer}");
        let warnings = &answer["warnings"];
        ensure!(warnings.is_null() || *warnings == json!([]), "{path} {form:?}: {warnings}");
        Ok(answer)
    }

    /// How often each number is read in the streams of a selector.
    fn numbers(&self, broker: &Client, selector: &str) -> Result<BTreeMap<u64, u64>> {
        let mut found = BTreeMap::new();
        let mut from = ((self.began_ms - 60_000) * 1_000_000).to_string();
        loop {
            let limit = PAGE.to_string();
            let form = [
                ("query", selector),
                ("start", &from),
                ("limit", &limit),
                ("direction", "forward"),
            ];
            let answer = self.ask(broker, "/loki/api/v1/query_range", &form)?;
            let mut page = Vec::new();
            for stream in answer["data"]["result"].as_array().context("streams")? {
                for value in stream["values"].as_array().context("lines")? {
                    let time_ns: i64 = value[0].as_str().context("a time")?.parse()?;
                    page.push((time_ns, number_of(value[1].as_str().context("a line")?)?));
                }
            }
            let is_last = page.len() < PAGE;
            let last_ns = page.iter().map(|(time_ns, _)| *time_ns).max().unwrap_or_default();
            // The next page begins with all of its last time.
            for (_, number) in page.iter().filter(|(time_ns, _)| is_last || *time_ns != last_ns) {
                *found.entry(*number).or_insert(0) += 1;
            }
            if is_last {
                return Ok(found);
            }
            from = last_ns.to_string();
        }
    }

    /// Waits until the agent has brought everything.
    fn wait_for_tailed(&self, written: u64) -> Result<()> {
        let begin = Instant::now();
        loop {
            let found = self.numbers(&self.brokers[0], TAILED)?.len() as u64;
            if found >= written {
                return Ok(());
            }
            ensure!(begin.elapsed() < PATIENCE, "{found} of {written} lines of the file came");
            sleep(Duration::from_millis(200));
        }
    }

    /// Compares what a broker shows with what was sent; yields how many lines that are.
    fn check(
        &self,
        broker: &Client,
        sent: &[Sent],
        written: u64,
        deletes: &BTreeMap<u64, Vec<u64>>,
    ) -> Result<u64> {
        let mut all = 0;
        let tailed_bytes = (0..written).map(|number| line(number).len() as u64).sum();
        let tailed = Sent { selector: TAILED.to_owned(), lines: written, bytes: tailed_bytes };
        for sent in sent.iter().chain([&tailed]) {
            let found = self.numbers(broker, &sent.selector)?;
            once(&found, 0..sent.lines).with_context(|| sent.selector.clone())?;
            self.check_counts(broker, &sent.selector, sent.lines, sent.bytes)?;
            all += sent.lines;
        }
        for (round, left) in deletes {
            let selector = format!("{{job=\"deleted\", round=\"{round}\"}}");
            let found = self.numbers(broker, &selector)?;
            once(&found, left.iter().copied()).with_context(|| selector.clone())?;
            let bytes = left.iter().map(|number| line(*number).len() as u64).sum();
            self.check_counts(broker, &selector, left.len() as u64, bytes)?;
            all += left.len() as u64;
        }
        Ok(all)
    }

    /// What is counted without reading lines agrees.
    fn check_counts(&self, broker: &Client, selector: &str, lines: u64, bytes: u64) -> Result<()> {
        let query = [("query", selector)];
        let stats = self.ask(broker, "/loki/api/v1/index/stats", &query)?;
        let told = (stats["entries"].as_u64(), stats["bytes"].as_u64());
        ensure!(
            told == (Some(lines), Some(bytes)),
            "{selector}: {lines} lines, {bytes} B: {stats}"
        );
        let volume = self.ask(broker, "/loki/api/v1/index/volume", &query)?;
        let rows = volume["data"]["result"].as_array().context("rows")?;
        let volumes = rows.iter().filter_map(|row| row["value"][1].as_str()?.parse::<u64>().ok());
        ensure!(volumes.sum::<u64>() == bytes, "{selector}: {bytes} B: {volume}");
        Ok(())
    }
}

const TAILED: &str = "{job=\"tailed\"}";

/// Whether each number was found once, and no other.
fn once(found: &BTreeMap<u64, u64>, wanted: impl Iterator<Item = u64>) -> Result<()> {
    let mut found = found.clone();
    let mut lost = Vec::new();
    for number in wanted {
        match found.remove(&number) {
            None => lost.push(number),
            Some(1) => {}
            Some(times) => bail!("line {number} is there {times} times"),
        }
    }
    ensure!(lost.is_empty(), "{} lines are lost: {:?}", lost.len(), &lost[..lost.len().min(10)]);
    ensure!(found.is_empty(), "lines that nobody sent, or that were deleted: {found:?}");
    Ok(())
}
