//! Who writes lines of logs to a simulated cluster, and what is held against it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, LogSelection, PushId};
use logstore::{Entries, NsRange, Query, ReadError};
use model::{DEFAULT_TENANT, Labels, LogBatch, MatchOp, Matcher};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::CALM;
use crate::clients::{Fate, Place, Push, Series, Site};
use crate::world::Dice;

const MS: i64 = 1_000_000;

/// What clients were told of lines.
#[derive(Default)]
pub(crate) struct LinesTold {
    /// Every line that was ever sent: its stream and time in milliseconds, which its text repeats.
    pub(crate) sent: BTreeSet<Place>,
    /// Those that must be there, as they were told.
    pub(crate) stored: Vec<Place>,
    /// Where a request was sent whose lines got another time with each attempt, by its client and number.
    pub(crate) attempts: BTreeMap<(u64, u64), BTreeSet<Place>>,
    /// Those of them that must be there, with how many were told before.
    pub(crate) named: BTreeMap<(u64, u64), usize>,
    /// Lines that may be deleted.
    pub(crate) deletable: BTreeMap<Place, Fate>,
    pub(crate) deletes: u64,
    /// Queries that were whole.
    pub(crate) whole: u64,
}

/// What was told before a query began.
struct Before {
    stored: usize,
    named: usize,
    deletable: BTreeMap<Place, Fate>,
}

impl LinesTold {
    fn before(&self) -> Before {
        let (stored, named) = (self.stored.len(), self.named.len());
        Before { stored, named, deletable: self.deletable.clone() }
    }
}

/// A client that pushes each batch of lines again until it is taken, wherever; some name their pushes.
pub(crate) async fn line_writer(site: Arc<Site>, number: u64, seed: u64) {
    let mut dice = Dice(seed);
    for seq in 0.. {
        if site.is_over() {
            return;
        }
        let place = |part: u64| (Series { of: 'l', number, part: part % 2 }, part);
        let places: Vec<Place> = (0..1 + dice.below(4))
            .map(place)
            .map(|(stream, part)| (stream, site.times.at(seq) + part as i64))
            .collect();
        let name = format!("{number}-{seq}");
        let push = dice.percent(50).then(|| PushId::of(DEFAULT_TENANT, &name, b""));
        site.told.lock().lines.sent.extend(places.iter().copied());
        loop {
            if let Some((broker, process)) = site.any(&mut dice) {
                let (reply, answer) = oneshot::channel();
                let (at, sent) = (broker.clone(), places.clone());
                broker.ingest_logs(DEFAULT_TENANT, batch_of(&places), push, move |result| {
                    // The clock of a broker may be behind: lines are ahead of it then, and it says so.
                    let is_whole = result.as_ref().map_or(true, |outcome| outcome.too_new == 0);
                    if result.as_ref().is_ok_and(|outcome| !outcome.was_known) && is_whole {
                        check_visible(&at, &sent);
                    }
                    let _ = reply.send(result.map(|_| is_whole));
                });
                if let Push::Stored(true) = site.became(process, answer).await {
                    site.told.lock().lines.stored.extend(&places);
                    break;
                }
            }
            sleep(Duration::from_millis(200 + dice.below(800))).await;
        }
        sleep(Duration::from_millis(dice.below(500))).await;
    }
}

/// A client that asks any broker for all lines, and holds the answer against what was told before it asked.
pub(crate) async fn line_auditor(site: Arc<Site>, seed: u64) {
    let mut dice = Dice(seed);
    while !site.is_over() {
        sleep(Duration::from_millis(300 + dice.below(2_000))).await;
        let Some((broker, process)) = site.any(&mut dice) else { continue };
        let before = site.told.lock().lines.before();
        let is_calm = site.world.is_calm_for(CALM);
        // Objects may be removed while they are read.
        let takes = Duration::from_millis(dice.below(2_000));
        let Some((found, missing)) = site.answer_of(process, find(&broker, takes)).await else {
            assert!(!site.runs(process), "a query of lines never ends");
            continue;
        };
        let is_calm = is_calm && site.world.is_calm_for(CALM);
        assert!(!is_calm || missing.is_empty(), "partial, and nothing bad happens: {missing:?}");
        let mut told = site.told.lock();
        let Ok(found) = found else {
            assert!(!missing.is_empty() || !site.runs(process), "a query of lines fails");
            continue;
        };
        let is_whole = missing.is_empty();
        check_found(&found, &told.lines, &before, is_whole, "at a broker");
        told.lines.whole += u64::from(is_whole);
    }
}

/// Holds what a broker finds in the end against what was told.
pub(crate) async fn check_lines(broker: &Broker, site: &Site, when: &str) {
    let (found, missing) = find(broker, Duration::ZERO).await;
    assert!(missing.is_empty(), "{when}: {missing:?}");
    let found = found.unwrap_or_else(|error| panic!("{when}: {error}"));
    let told = &site.told.lock().lines;
    check_found(&found, told, &told.before(), true, when);
}

/// Holds an answer against what was told before it was asked for, and by now.
#[track_caller]
fn check_found(
    found: &BTreeSet<Place>,
    told: &LinesTold,
    before: &Before,
    is_whole: bool,
    when: &str,
) {
    let invented = found.iter().find(|place| !told.sent.contains(*place));
    assert_eq!(invented, None, "{when}: a line is invented");
    for (request, attempts) in &told.attempts {
        let times = attempts.intersection(found).count();
        assert!(times <= 1, "{when}: {request:?} is there {times} times");
        let was_told = told.named.get(request).is_some_and(|at| *at < before.named);
        assert!(times == 1 || !was_told || !is_whole, "{when}: {request:?} is lost");
    }
    for (place, fate) in &before.deletable {
        let is_found = found.contains(place);
        match (fate, told.deletable.get(place)) {
            (Fate::Deleted, _) => {
                assert!(!is_found || !is_whole, "{when}: {place:?} was deleted and is there");
            }
            (Fate::Stored, Some(Fate::Stored)) => {
                assert!(is_found || !is_whole, "{when}: {place:?} is lost");
            }
            _ => {}
        }
    }
    if is_whole {
        let lost = told.stored[..before.stored].iter().find(|place| !found.contains(*place));
        assert_eq!(lost, None, "{when}: a line was acknowledged and is lost");
    }
}

fn text_of((stream, t_ms): Place) -> String {
    format!("{stream} said something at {t_ms}")
}

pub(crate) fn batch_of(places: &[Place]) -> LogBatch {
    let mut batch = LogBatch::default();
    for place @ (stream, t_ms) in places {
        let labels = Labels::from_pairs([("app", "l"), ("stream", &stream.to_string())]);
        batch.stream(&labels.expect("valid"));
        batch.push(t_ms * MS, text_of(*place).as_bytes(), &[("level", "info")]).expect("short");
    }
    batch
}

fn all() -> Vec<Matcher> {
    vec![Matcher::new("app", MatchOp::Equal, "l").expect("no regex")]
}

/// What one broker shows itself.
pub(crate) fn shown(broker: &Broker) -> BTreeSet<Place> {
    let selection = broker.logs_reader(DEFAULT_TENANT).select(&all(), NsRange::all());
    let found = read(selection.expect("there is memory")).map_err(|(_, error)| error);
    found.expect("every block is readable")
}

#[track_caller]
pub(crate) fn check_visible(broker: &Broker, places: &[Place]) {
    let found = shown(broker);
    for place in places {
        assert!(found.contains(place), "{place:?} was acknowledged and cannot be read");
    }
}

/// What a query of lines at a broker finds that takes its time to read, and what it says that it lacks.
async fn find(
    broker: &Broker,
    takes: Duration,
) -> (Result<BTreeSet<Place>, ReadError>, Vec<String>) {
    let reader = broker.logs_reader(DEFAULT_TENANT);
    let selected = reader.select_in_task(&all(), NsRange::all()).await;
    let selection = selected.unwrap_or_else(|error| panic!("a query of lines fails: {error}"));
    let missing = selection.missing.clone();
    sleep(takes).await;
    let found = read(selection).map_err(|(selection, error)| {
        reader.report(&selection, &error);
        error
    });
    (found, missing)
}

fn read(selection: LogSelection) -> Result<BTreeSet<Place>, (Box<LogSelection>, ReadError)> {
    let places = places_of(&selection);
    places.map_err(|error| (Box::new(selection), error))
}

fn places_of(selection: &LogSelection) -> Result<BTreeSet<Place>, ReadError> {
    let query = Query::new(all(), selection.range);
    let mut entries = Entries::new(query, selection.sources.clone())?;
    let mut found = BTreeSet::new();
    while let Some(entry) = entries.next_entry()? {
        let stream = Series::named(entry.labels.get("stream").expect("all have it"));
        let place = (stream, entry.timestamp_ns / MS);
        assert_eq!(entry.line, text_of(place).as_bytes(), "a line has another's text");
        assert_eq!(entry.timestamp_ns % MS, 0, "{place:?} was moved");
        assert!(found.insert(place), "{place:?} is there twice");
    }
    Ok(found)
}
