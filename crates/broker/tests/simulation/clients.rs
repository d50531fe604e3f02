//! Who writes to a simulated cluster, and what each remembers of what it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use broker::{BatchIdentity, Broker, CommitError, Delivery, Incarnation, Lane};
use model::{DEFAULT_TENANT, Labels, MatchOp, Matcher, MetricBatch, TimeRange};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::duties::DutyTold;
use crate::lines::LinesTold;
use crate::plan::Times;
use crate::world::{Dice, World};
use crate::{CALM, query, read};

/// Whoever waits longer gives the connection up.
const PATIENCE: Duration = Duration::from_secs(60);
/// For so long nobody notices that a process has ended.
const NOTICED_WITHIN: Duration = Duration::from_millis(700);
/// Batches of an agent that may be on their way.
const WINDOW: usize = 4;
/// Attempts at a batch that have timestamps of their own.
const ATTEMPTS: i64 = 100;

/// A sample: series and time.
pub(crate) type Place = (Series, i64);

/// A broker, and which of its starts.
pub(crate) type Process = (u64, u64);

/// A series: whose it is, the number of that client, and which of its own. It is told apart a million times
/// in a simulation, and has a name where a broker sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Series {
    pub(crate) of: char,
    pub(crate) number: u64,
    pub(crate) part: u64,
}

impl Series {
    /// The series of this name, which a client gave.
    pub(crate) fn named(name: &str) -> Series {
        let mut letters = name.chars();
        let of = letters.next().expect("a name begins with whose it is");
        let (number, part) = letters.as_str().split_once('-').expect("two numbers follow");
        let number_of = |text: &str| text.parse().expect("a number");
        Series { of, number: number_of(number), part: number_of(part) }
    }

    fn matchers(self) -> Vec<Matcher> {
        let equal =
            |name, value: &str| Matcher::new(name, MatchOp::Equal, value).expect("no regex");
        vec![equal("__name__", "m"), equal("series", &self.to_string())]
    }
}

impl fmt::Display for Series {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Series { of, number, part } = self;
        write!(out, "{of}{number}-{part}")
    }
}

impl fmt::Debug for Series {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}

/// What is known of a row that may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nobody said that it is stored.
    Sent,
    /// It is.
    Stored,
    /// It was, and a delete of it may be in effect, or not.
    Doubtful,
    /// It must not be seen.
    Deleted,
}

/// What clients were told. All of it is held against what can be read in the end.
#[derive(Default)]
pub(crate) struct Told {
    /// Every row that was ever sent, with its value.
    pub(crate) sent: BTreeMap<Place, f64>,
    /// Rows of clients without an identity that must be there, as they were told.
    pub(crate) stored: Vec<Place>,
    /// Batches of agents that must be there, by agent and number, with how many were told before.
    pub(crate) batches: BTreeMap<(u64, u64), usize>,
    /// The rows of each attempt at a batch.
    pub(crate) attempts: BTreeMap<(u64, u64), Vec<Vec<Place>>>,
    /// Rows that may be deleted.
    pub(crate) deletable: BTreeMap<Place, Fate>,
    pub(crate) refusals: BTreeMap<String, u64>,
    pub(crate) deletes: u64,
    pub(crate) known: u64,
    /// Queries at any broker, and those that said that they lack something.
    pub(crate) queries: u64,
    pub(crate) partial: u64,
    /// Queries that met a block that was removed: nobody told their brokers of the next list.
    pub(crate) unread: u64,
    /// Queries that had to be whole.
    pub(crate) in_calm: u64,
    pub(crate) lines: LinesTold,
    pub(crate) duty: DutyTold,
}

impl Told {
    /// A batch of an agent must be there from now on.
    fn note_batch(&mut self, number: u64, seq: u64) {
        let before = self.batches.len();
        self.batches.entry((number, seq)).or_insert(before);
    }
}

/// What clients share.
pub(crate) struct Site {
    pub(crate) brokers: Mutex<BTreeMap<u64, Broker>>,
    /// How often each was started.
    pub(crate) starts: Mutex<BTreeMap<u64, u64>>,
    pub(crate) world: Arc<World>,
    pub(crate) told: Mutex<Told>,
    pub(crate) times: Times,
    /// Nothing new is made, what there is is sent.
    pub(crate) is_over: AtomicBool,
}

impl Site {
    /// Takes the broker of a process that has started.
    pub(crate) fn open(&self, id: u64, broker: Broker) {
        *self.starts.lock().entry(id).or_default() += 1;
        self.brokers.lock().insert(id, broker);
    }

    /// One that runs, and which it is: with the number of its start.
    pub(crate) fn any(&self, dice: &mut Dice) -> Option<(Broker, Process)> {
        let brokers = self.brokers.lock();
        let at = dice.below(brokers.len().max(1) as u64) as usize;
        let (id, broker) = brokers.iter().nth(at)?;
        Some((broker.clone(), (*id, self.starts.lock()[id])))
    }

    /// A broker, if it runs.
    pub(crate) fn process(&self, id: u64) -> Option<(Broker, Process)> {
        let broker = self.brokers.lock().get(&id).cloned()?;
        Some((broker, (id, self.starts.lock()[&id])))
    }

    /// Whether a process has not ended.
    pub(crate) fn runs(&self, (id, start): Process) -> bool {
        self.brokers.lock().contains_key(&id) && self.starts.lock()[&id] == start
    }

    /// Waits for what a process answers, until its end is noticed: connections end with it.
    pub(crate) async fn answer_of<T>(
        &self,
        process: Process,
        answer: impl Future<Output = T>,
    ) -> Option<T> {
        let mut answer = std::pin::pin!(answer);
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Ok(answer) = timeout(NOTICED_WITHIN, &mut answer).await {
                return Some(answer);
            }
            if !self.runs(process) {
                break;
            }
        }
        None
    }

    /// Waits for what became of something that was sent to a process.
    pub(crate) async fn became<T>(
        &self,
        process: Process,
        answer: oneshot::Receiver<Result<T, CommitError>>,
    ) -> Push<T> {
        match self.answer_of(process, answer).await {
            Some(Ok(Ok(answer))) => Push::Stored(answer),
            Some(Ok(Err(error))) => {
                self.note(&error);
                match error {
                    CommitError::Unknown(_) | CommitError::Stopping => Push::Doubtful,
                    _ => Push::Refused,
                }
            }
            Some(Err(_)) | None => Push::Doubtful,
        }
    }

    fn note(&self, error: &CommitError) {
        let name = format!("{error:?}");
        let name = name.split([' ', '(']).next().unwrap_or_default().to_owned();
        *self.told.lock().refusals.entry(name).or_default() += 1;
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

pub(crate) fn labels(series: Series) -> Labels {
    Labels::from_pairs([("__name__", "m"), ("series", &series.to_string())]).expect("valid")
}

fn batch_of(rows: &[(Place, f64)]) -> MetricBatch {
    let mut batch = MetricBatch::default();
    for ((series, t_ms), value) in rows {
        batch.push(&labels(*series), *t_ms, *value);
    }
    batch
}

/// Says that rows are sent.
fn note_sent(site: &Site, rows: &[(Place, f64)]) {
    let mut told = site.told.lock();
    told.sent.extend(rows.iter().copied());
}

#[track_caller]
fn check_visible(broker: &Broker, rows: &[(Place, f64)]) {
    // Of their times only: auditors read all there is.
    let times = || rows.iter().map(|((_, t_ms), _)| *t_ms);
    let (from, to) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
    let range = TimeRange::new(from, to + 1);
    let series: BTreeSet<Series> = rows.iter().map(|((series, _), _)| *series).collect();
    let selectors: Vec<Vec<Matcher>> = series.into_iter().map(Series::matchers).collect();
    let found: BTreeMap<Place, f64> =
        selectors.iter().flat_map(|selector| read(broker, selector, range)).collect();
    for (place, value) in rows {
        assert_eq!(found.get(place), Some(value), "{place:?} was acknowledged and cannot be read");
    }
}

/// An agent: numbers its batches, keeps them until they are acknowledged, sends them in order to
/// whichever broker it reaches.
pub(crate) async fn agent(site: Arc<Site>, number: u64, seed: u64) {
    let mut dice = Dice(seed);
    let name: Arc<str> = format!("agent-{number}").into();
    let incarnation = Incarnation([number as u8; 16]);
    // Through which batch it was told that everything is stored, and how many it has made.
    let (mut through, mut made) = (0, 0);
    let mut attempts: BTreeMap<u64, i64> = BTreeMap::new();
    loop {
        let Some((broker, process)) = site.any(&mut dice) else {
            sleep(Duration::from_millis(200)).await;
            continue;
        };
        let (reply, marks) = oneshot::channel();
        broker.agent_marks(&name, incarnation, move |marks| _ = reply.send(marks));
        let Some(Ok(Ok(marks))) = site.answer_of(process, marks).await else {
            sleep(Duration::from_millis(300)).await;
            continue;
        };
        assert!(marks.live_through >= through, "{name}: a mark went back");
        assert!(marks.live_through <= made, "{name}: a mark of what was never sent");
        for seq in through + 1..=marks.live_through {
            site.told.lock().note_batch(number, seq);
        }
        through = marks.live_through;
        let (answers, mut answered) = mpsc::unbounded_channel();
        let mut sent = through;
        // Until something goes wrong, or it reconnects.
        for _ in 0..5 + dice.below(30) {
            if !site.is_over() {
                made += dice.below(3);
            }
            while sent < made && (sent - through) < WINDOW as u64 {
                let attempt = attempts.entry(sent + 1).or_default();
                *attempt += 1;
                send(&site, &broker, (&name, number, incarnation), sent, *attempt, &answers);
                sent += 1;
            }
            if site.is_over() && through == made {
                return;
            }
            sleep(Duration::from_millis(dice.below(400))).await;
            if sent == through {
                continue;
            }
            match site.answer_of(process, answered.recv()).await {
                Some(Some((seq, Ok(())))) => through = through.max(seq),
                Some(Some((_, Err(error)))) => {
                    site.note(&error);
                    sleep(Duration::from_millis(dice.below(1_500))).await;
                    break;
                }
                Some(None) | None => break,
            }
        }
    }
}

type Answers = mpsc::UnboundedSender<(u64, Result<(), CommitError>)>;

/// Sends one batch. Each attempt has timestamps of its own, so that two that are stored are seen.
fn send(
    site: &Arc<Site>,
    broker: &Broker,
    (name, number, incarnation): (&Arc<str>, u64, Incarnation),
    after_seq: u64,
    attempt: i64,
    answers: &Answers,
) {
    let seq = after_seq + 1;
    let t_ms = site.times.at(seq as i64) + attempt % ATTEMPTS;
    let series = |part: u64| Series { of: 'a', number, part: (seq + part) % 4 };
    let rows = vec![((series(0), t_ms), seq as f64), ((series(1), t_ms), seq as f64)];
    note_sent(site, &rows);
    let places = rows.iter().map(|(place, _)| *place).collect();
    site.told.lock().attempts.entry((number, seq)).or_default().push(places);
    let agent = Arc::clone(name);
    let identity = BatchIdentity { agent, incarnation, lane: Lane::Live, seq, after_seq };
    let (answers, site, at) = (answers.clone(), Arc::clone(site), broker.clone());
    let batch = batch_of(&rows);
    broker.ingest_from_agent(DEFAULT_TENANT, &identity, &batch, move |result| {
        let result = result.map(|Delivery { was_known, .. }| {
            if !was_known {
                check_visible(&at, &rows);
            }
            let mut told = site.told.lock();
            told.known += u64::from(was_known);
            told.note_batch(number, seq);
        });
        // The agent may have reconnected.
        let _ = answers.send((seq, result));
    });
}

/// What became of a push.
pub(crate) enum Push<T> {
    Stored(T),
    Refused,
    /// It may be stored, now or later.
    Doubtful,
}

async fn push(
    site: &Site,
    (broker, process): &(Broker, Process),
    rows: &[(Place, f64)],
) -> Push<impl Sized> {
    let (reply, answer) = oneshot::channel();
    let (at, sent) = (broker.clone(), rows.to_vec());
    broker.ingest(DEFAULT_TENANT, &batch_of(rows), move |result| {
        if result.is_ok() {
            check_visible(&at, &sent);
        }
        let _ = reply.send(result);
    });
    site.became(*process, answer).await
}

/// A client of remote write: sends each request again until it is taken.
pub(crate) async fn remote_writer(site: Arc<Site>, number: u64, seed: u64) {
    let mut dice = Dice(seed);
    for seq in 0.. {
        if site.is_over() {
            return;
        }
        let row = |part: u64| {
            let series = Series { of: 'w', number, part };
            ((series, site.times.at(seq)), seq as f64 + part as f64)
        };
        let rows: Vec<_> = (0..1 + dice.below(4)).map(row).collect();
        note_sent(&site, &rows);
        loop {
            if let Some(at) = site.any(&mut dice)
                && let Push::Stored(_) = push(&site, &at, &rows).await
            {
                site.told.lock().stored.extend(rows.iter().map(|(place, _)| *place));
                break;
            }
            sleep(Duration::from_millis(200 + dice.below(800))).await;
        }
        sleep(Duration::from_millis(dice.below(400))).await;
    }
}

/// A client that deletes what it wrote, now and then.
pub(crate) async fn deleter(site: Arc<Site>, number: u64, seed: u64) {
    let mut dice = Dice(seed);
    let mut series = Series { of: 'd', number, part: 0 };
    // Rows of which an attempt may still be stored at any time.
    let mut in_doubt: BTreeSet<i64> = BTreeSet::new();
    for seq in 0.. {
        if site.is_over() {
            return;
        }
        sleep(Duration::from_millis(dice.below(600))).await;
        let Some(at) = site.any(&mut dice) else { continue };
        if dice.percent(15) {
            if !delete(&site, &at, series, &in_doubt).await {
                // It may yet come to count, and would hide what is stored from now on.
                series.part += 1;
            }
            continue;
        }
        let t_ms = site.times.at(seq);
        let place = (series, t_ms);
        let rows = vec![(place, seq as f64)];
        note_sent(&site, &rows);
        site.told.lock().deletable.insert(place, Fate::Sent);
        match push(&site, &at, &rows).await {
            Push::Stored(_) => _ = site.told.lock().deletable.insert(place, Fate::Stored),
            Push::Refused => {}
            Push::Doubtful => _ = in_doubt.insert(t_ms),
        }
    }
}

/// Deletes a series; whether it is known to count.
async fn delete(
    site: &Arc<Site>,
    (broker, process): &(Broker, Process),
    series: Series,
    in_doubt: &BTreeSet<i64>,
) -> bool {
    let mine = |place: &Place| place.0 == series && !in_doubt.contains(&place.1);
    for (_, fate) in site.told.lock().deletable.iter_mut().filter(|(place, _)| mine(place)) {
        if *fate == Fate::Stored {
            *fate = Fate::Doubtful;
        }
    }
    let (reply, answer) = oneshot::channel();
    let selectors = [series.matchers()];
    broker.begin_delete(DEFAULT_TENANT, &selectors, TimeRange::all(), move |result| {
        let _ = reply.send(result);
    });
    match site.answer_of(*process, answer).await {
        Some(Ok(Ok(()))) => {}
        Some(Ok(Err(error))) => {
            site.note(&error);
            return false;
        }
        Some(Err(_)) | None => return false,
    }
    let mut told = site.told.lock();
    told.deletes += 1;
    for (_, fate) in told.deletable.iter_mut().filter(|(place, _)| mine(place)) {
        if *fate == Fate::Doubtful {
            *fate = Fate::Deleted;
        }
    }
    let found = read(broker, &series.matchers(), TimeRange::all());
    for (place, fate) in &told.deletable {
        let is_gone = place.0 == series && *fate == Fate::Deleted;
        assert!(!is_gone || !found.contains_key(place), "{place:?} was deleted and can be read");
    }
    true
}

/// A client that asks any broker for everything, and holds the answer against what anybody was told before
/// it asked.
pub(crate) async fn auditor(site: Arc<Site>, seed: u64) {
    let mut dice = Dice(seed);
    while !site.is_over() {
        sleep(Duration::from_millis(200 + dice.below(1_500))).await;
        let Some((broker, process)) = site.any(&mut dice) else { continue };
        let (stored, batches, deletable) = {
            let told = site.told.lock();
            (told.stored.len(), told.batches.len(), told.deletable.clone())
        };
        let is_calm = site.world.is_calm_for(CALM);
        // Objects may be removed while they are read.
        let takes = Duration::from_millis(dice.below(2_000));
        let answer = site.answer_of(process, query(&broker, takes)).await;
        let Some((found, missing)) = answer else {
            // The process may have ended meanwhile.
            assert!(!site.runs(process), "a query never ends");
            continue;
        };
        let is_calm = is_calm && site.world.is_calm_for(CALM);
        assert!(!is_calm || missing.is_empty(), "partial, and nothing bad happens: {missing:?}");
        let mut told = site.told.lock();
        told.queries += 1;
        told.in_calm += u64::from(is_calm);
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                // Who does not hear of new lists reads what others have merged.
                assert!(!missing.is_empty() || !site.runs(process), "a query fails: {error}");
                told.unread += 1;
                continue;
            }
        };
        for (place, value) in &found {
            assert_eq!(told.sent.get(place), Some(value), "{place:?} is invented");
        }
        for ((number, seq), attempts) in &told.attempts {
            let is_there = |rows: &&Vec<Place>| rows.iter().any(|row| found.contains_key(row));
            let times = attempts.iter().filter(is_there).count();
            assert!(times <= 1, "batch {seq} of agent {number} is found {times} times");
            let was_told = told.batches.get(&(*number, *seq)).is_some_and(|at| *at < batches);
            let is_lost = times == 0 && was_told;
            assert!(!is_lost || !missing.is_empty(), "batch {seq} of agent {number} is not found");
        }
        for (place, fate) in &deletable {
            let is_found = found.contains_key(place);
            // Deleted before the query began, or neither before nor meanwhile.
            match (fate, told.deletable.get(place)) {
                (Fate::Deleted, _) => {
                    assert!(!is_found || !missing.is_empty(), "{place:?} was deleted and is found")
                }
                (Fate::Stored, Some(Fate::Stored)) => {
                    assert!(is_found || !missing.is_empty(), "{place:?} is not found");
                }
                _ => {}
            }
        }
        if missing.is_empty() {
            let lost = told.stored[..stored].iter().find(|place| !found.contains_key(*place));
            assert_eq!(lost, None, "acknowledged before the query, and not found");
        } else {
            told.partial += 1;
        }
    }
}
