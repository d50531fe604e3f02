//! Who writes lines that are deleted, and lines of which only the name of their request tells whether they are
//! stored.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, PushId};
use model::{DEFAULT_TENANT, MatchOp, Matcher, TimeRange};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::clients::{Fate, Place, Process, Push, Series, Site};
use crate::lines::{batch_of, check_visible, shown};
use crate::world::Dice;

/// Attempts at a request that have times of their own.
const ATTEMPTS: i64 = 100;

/// A client that names its requests and sends each again until it is taken, wherever. Their lines get their time
/// where they arrive, so each attempt has another one.
pub(crate) async fn named_writer(site: Arc<Site>, number: u64, seed: u64) {
    let mut dice = Dice(seed);
    for seq in 0_u64.. {
        if site.is_over() {
            return;
        }
        let id = PushId::of(DEFAULT_TENANT, &format!("named {number}-{seq}"), b"");
        for attempt in 0.. {
            if let Some(at) = site.any(&mut dice) {
                let t_ms = site.times.at(seq as i64) + attempt % ATTEMPTS;
                let place = (Series { of: 'n', number, part: 0 }, t_ms);
                {
                    let told = &mut site.told.lock().lines;
                    told.sent.insert(place);
                    told.attempts.entry((number, seq)).or_default().insert(place);
                }
                if let Push::Stored(true) = push(&site, &at, place, Some(id)).await {
                    let told = &mut site.told.lock().lines;
                    let before = told.named.len();
                    told.named.entry((number, seq)).or_insert(before);
                    break;
                }
            }
            sleep(Duration::from_millis(200 + dice.below(800))).await;
        }
        sleep(Duration::from_millis(dice.below(500))).await;
    }
}

/// Sends one line; yields whether it is stored, now or before.
async fn push(
    site: &Site,
    (broker, process): &(Broker, Process),
    place: Place,
    name: Option<PushId>,
) -> Push<bool> {
    let (reply, answer) = oneshot::channel();
    let at = broker.clone();
    let done = move |result: Result<broker::LogOutcome, broker::CommitError>| {
        // The clock of a broker may be behind: a line is ahead of it then, and it says so.
        let is_whole = result.as_ref().map_or(true, |outcome| outcome.too_new == 0);
        if result.as_ref().is_ok_and(|outcome| !outcome.was_known) && is_whole {
            check_visible(&at, &[place]);
        }
        let _ = reply.send(result.map(|_| is_whole));
    };
    match name {
        Some(name) => broker.ingest_named_logs(DEFAULT_TENANT, batch_of(&[place]), name, done),
        None => broker.ingest_logs(DEFAULT_TENANT, batch_of(&[place]), None, done),
    }
    site.became(*process, answer).await
}

/// A client that deletes the lines that it wrote, now and then.
pub(crate) async fn line_deleter(site: Arc<Site>, number: u64, seed: u64) {
    let mut dice = Dice(seed);
    let mut stream = Series { of: 'x', number, part: 0 };
    // Lines of which an attempt may still be stored at any time.
    let mut in_doubt: BTreeSet<Place> = BTreeSet::new();
    for seq in 0.. {
        if site.is_over() {
            return;
        }
        sleep(Duration::from_millis(dice.below(600))).await;
        let Some(at) = site.any(&mut dice) else { continue };
        if dice.percent(15) {
            if !delete(&site, &at, stream, &in_doubt).await {
                // It may yet come to count, and would hide what is stored from now on.
                stream.part += 1;
            }
            continue;
        }
        let place = (stream, site.times.at(seq));
        {
            let told = &mut site.told.lock().lines;
            told.sent.insert(place);
            told.deletable.insert(place, Fate::Sent);
        }
        match push(&site, &at, place, None).await {
            Push::Stored(true) => _ = site.told.lock().lines.deletable.insert(place, Fate::Stored),
            Push::Stored(false) | Push::Refused => {}
            Push::Doubtful => _ = in_doubt.insert(place),
        }
    }
}

/// Deletes the lines of a stream; whether that is known to count.
async fn delete(
    site: &Site,
    (broker, process): &(Broker, Process),
    stream: Series,
    in_doubt: &BTreeSet<Place>,
) -> bool {
    let mine = |place: &Place| place.0 == stream && !in_doubt.contains(place);
    let turn = |from: Fate, to: Fate| {
        let deletable = &mut site.told.lock().lines.deletable;
        for (_, fate) in deletable.iter_mut().filter(|(place, _)| mine(place)) {
            if *fate == from {
                *fate = to;
            }
        }
    };
    turn(Fate::Stored, Fate::Doubtful);
    let equal = |name, value: &str| Matcher::new(name, MatchOp::Equal, value).expect("no regex");
    let selector = vec![equal("app", "l"), equal("stream", &stream.to_string())];
    let (reply, answer) = oneshot::channel();
    broker.begin_delete_logs(DEFAULT_TENANT, &[selector], TimeRange::all(), move |result| {
        let _ = reply.send(result);
    });
    let Push::Stored(()) = site.became(*process, answer).await else { return false };
    turn(Fate::Doubtful, Fate::Deleted);
    let found = shown(broker);
    let told = &mut site.told.lock().lines;
    told.deletes += 1;
    let is_gone = |place: &Place| told.deletable.get(place) == Some(&Fate::Deleted);
    let back = found.iter().find(|place| is_gone(place));
    assert_eq!(back, None, "a line was deleted and can be read");
    true
}
