//! Deletes under kill -9: what was deleted stays away, what was not stays there, and a delete nobody
//! was told about happened whole or not at all.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::BUSY;
use crate::harness::random::Random;
use crate::harness::{Client, Launch, Scratch, Server, WriteBody, now_ms};

const KILLS: usize = 40;
/// Series that are written to together; a delete names one group of them.
const GROUPS: u64 = 6;
const SERIES: u64 = 3;
/// Steps go to these windows in turn, so that blocks of several times are affected.
const WINDOWS: u64 = 3;
const WINDOW_MS: i64 = 2 * 3_600_000;
const STEP_MS: i64 = 10;
/// Longest life of a program that a timer kills.
const KILLED_WITHIN: Duration = Duration::from_secs(30);

/// What the program must have: step by step, group by group.
type Held = BTreeSet<(u64, u64)>;

/// A request that may be sent again.
#[derive(Debug, Clone, Copy)]
enum Request {
    /// One sample of every series.
    Write {
        step: u64,
    },
    /// Steps of one group.
    Delete {
        group: u64,
        first: u64,
        last: u64,
    },
    Clean,
}

struct Model {
    base_ms: i64,
    held: Held,
    steps: u64,
    /// Sent and not answered.
    in_doubt: Option<Request>,
    deleted: usize,
}

impl Model {
    fn at_ms(&self, step: u64) -> i64 {
        self.base_ms - (step % WINDOWS).cast_signed() * WINDOW_MS + step.cast_signed() * STEP_MS
    }

    /// The steps whose times lie between those of two steps.
    fn between(&self, first: u64, last: u64) -> impl Fn(&u64) -> bool {
        let (base_ms, range) = (self.base_ms, self.at_ms(first)..=self.at_ms(last));
        let at_ms = move |step: u64| {
            base_ms - (step % WINDOWS).cast_signed() * WINDOW_MS + step.cast_signed() * STEP_MS
        };
        move |step| range.contains(&at_ms(*step))
    }

    fn after(&self, request: Request) -> Held {
        let mut held = self.held.clone();
        match request {
            Request::Write { step } => held.extend((0..GROUPS).map(|group| (step, group))),
            Request::Delete { group, first, last } => {
                let hit = self.between(first, last);
                held.retain(|(step, of)| *of != group || !hit(step));
            }
            Request::Clean => {}
        }
        held
    }

    /// Sends a request; without an answer it is in doubt. Yields whether there was one.
    fn send(&mut self, client: Client, request: Request) -> Result<bool> {
        self.in_doubt = Some(request);
        let answer = match request {
            Request::Write { step } => client.write(&self.body(step)),
            Request::Delete { group, first, last } => client.post(
                &format!(
                    "/api/v1/admin/tsdb/delete_series?match[]=deleted%7Bg=%22{group}%22%7D\
                     &start={}&end={}",
                    self.at_ms(first) as f64 / 1e3,
                    self.at_ms(last) as f64 / 1e3
                ),
                &[],
                &[],
            ),
            Request::Clean => client.post("/api/v1/admin/tsdb/clean_tombstones", &[], &[]),
        };
        let Ok(answer) = answer else { return Ok(false) };
        // A program that is being killed answers nothing: every other status is a fault.
        ensure!(answer.status == 204, "{request:?}: {} {}", answer.status, answer.text());
        let held = self.after(request);
        self.deleted += self.held.difference(&held).count();
        self.held = held;
        self.in_doubt = None;
        Ok(true)
    }

    fn body(&self, step: u64) -> Vec<u8> {
        let sample = [(self.at_ms(step), step as f64)];
        let mut body = WriteBody::new();
        for group in 0..GROUPS {
            for series in 0..SERIES {
                let (group, series) = (group.to_string(), series.to_string());
                let labels = [("__name__", "deleted"), ("g", &group), ("s", &series)];
                body = body.series(&labels, &sample);
            }
        }
        body.snappy()
    }

    fn next(&mut self, random: &mut Random) -> Request {
        match random.below(10) {
            0..=6 => {
                self.steps += 1;
                Request::Write { step: self.steps }
            }
            7 | 8 => {
                let (one, other) = (random.below(self.steps + 1), random.below(self.steps + 1));
                let group = random.below(GROUPS);
                // In the order of their times, which are of any windows.
                let in_order = self.at_ms(one) <= self.at_ms(other);
                let (first, last) = if in_order { (one, other) } else { (other, one) };
                Request::Delete { group, first, last }
            }
            _ => Request::Clean,
        }
    }

    /// Sends one request after the other until one has no answer. Yields how many cleanings were
    /// answered.
    fn work(&mut self, client: Client, random: &mut Random) -> Result<usize> {
        let (born, mut cleanings) = (Instant::now(), 0);
        loop {
            let request = self.next(random);
            if !self.send(client, request)? {
                return Ok(cleanings);
            }
            cleanings += usize::from(matches!(request, Request::Clean));
            ensure!(born.elapsed() < KILLED_WITHIN, "the program was not killed");
        }
    }

    /// Compares everything the program has, with a request in doubt done or not.
    fn check(&self, client: Client) -> Result<()> {
        let found = read(client)?;
        if found == self.held {
            return Ok(());
        }
        let after = self.in_doubt.map(|request| self.after(request));
        ensure!(
            after.as_ref() == Some(&found),
            "{} too many, as {:?}; {} too few, as {:?}; in doubt: {:?}",
            found.difference(&self.held).count(),
            found.difference(&self.held).next(),
            self.held.difference(&found).count(),
            self.held.difference(&found).next(),
            self.in_doubt
        );
        Ok(())
    }
}

/// What the program has; all series of a group have to have the same.
fn read(client: Client) -> Result<Held> {
    let data = client.data("/api/v1/query", &[("query", "deleted[12h]")])?;
    let rows = data["result"].as_array().context("result is an array")?;
    let mut all = BTreeSet::new();
    for row in rows {
        let number = |label: &str| -> Result<u64> {
            let text = row["metric"][label].as_str().context("a label is missing")?;
            Ok(text.parse()?)
        };
        let (group, series) = (number("g")?, number("s")?);
        for sample in row["values"].as_array().context("values")? {
            let step: u64 = sample[1].as_str().context("a value")?.parse()?;
            ensure!(all.insert((step, group, series)), "step {step} of {group}, {series} twice");
        }
    }
    let held: Held = all.iter().map(|&(step, group, _)| (step, group)).collect();
    let whole = |&(step, group): &(u64, u64)| {
        (0..SERIES).all(|series| all.contains(&(step, group, series)))
    };
    ensure!(held.iter().all(whole), "a delete or a write happened for a part of its series");
    Ok(held)
}

pub(super) fn deletes(scratch: &Scratch) -> Result<String> {
    let seed = Random::seed();
    run(scratch, seed).with_context(|| format!("seed {seed}"))
}

fn run(scratch: &Scratch, seed: u64) -> Result<String> {
    let mut random = Random::new(seed);
    let launch = Launch::broker(&scratch.join("data")).config(BUSY);
    let mut model = Model {
        base_ms: now_ms() - 600_000,
        held: Held::new(),
        steps: 0,
        in_doubt: None,
        deleted: 0,
    };
    let (mut doubted, mut cleaned) = (0, 0);
    for cycle in 0..KILLS {
        let server = launch.start()?;
        settle(&mut model, &server).with_context(|| format!("after {cycle} kills"))?;
        let client = server.client();
        let life = Duration::from_millis(30 + random.below(250));
        let cleanings = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(life);
                server.signal(Signal::KILL);
            });
            model.work(client, &mut random)
        })?;
        cleaned += cleanings;
        server.kill()?;
        doubted += usize::from(model.in_doubt.is_some());
    }
    let server = launch.start()?;
    settle(&mut model, &server).context("after the last kill")?;
    let answer = server.client().post("/api/v1/admin/tsdb/clean_tombstones", &[], &[])?;
    ensure!(answer.status == 204, "{}", answer.text());
    model.check(server.client()).context("after cleaning")?;
    server.stop()?;
    let server = launch.start()?;
    model.check(server.client()).context("after a clean stop")?;
    server.stop()?;
    ensure!(model.deleted > 100 && cleaned > 0, "too little was deleted to prove anything");
    Ok(format!(
        "{KILLS} kills, {} steps, {} of groups deleted, {} left; {doubted} requests in doubt, \
         {cleaned} cleanings; seed {seed}",
        model.steps,
        model.deleted,
        model.held.len()
    ))
}

/// Checks what is there, and sends again what is in doubt.
fn settle(model: &mut Model, server: &Server) -> Result<()> {
    model.check(server.client())?;
    if let Some(request) = model.in_doubt {
        ensure!(model.send(server.client(), request)?, "no answer to {request:?}, sent again");
        model.check(server.client()).context("after sending again")?;
    }
    Ok(())
}
