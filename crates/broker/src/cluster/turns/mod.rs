//! Which broker has its turn: what is to be done by exactly one of the brokers at each moment, such as a
//! scrape, without asking anybody at that moment.
//!
//! The leader keeps lists of brokers in the catalog, see `rows`; each broker that takes part reads them
//! several times a second. Who cannot be sure to know the latest, because its own lease is nearly over or was
//! taken a moment ago, has no turn.

mod rows;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use catalog::{BrokerId, Command, Expected, Ring};
use consensus::Consensus;
use model::TimeRange;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use self::rows::{Candidate, Rows, owner};
use super::members::ALIVE_FOR;
use crate::Broker;
use crate::shared_catalog::SharedCatalog;

/// How often it is looked.
const EVERY: Duration = Duration::from_millis(250);
/// A turn ends so long before the own lease does.
const MARGIN: Duration = Duration::from_millis(1_000);
/// A lease that was not seen to be renewed for so long may be over for others.
const RENEWED_WITHIN: Duration = ALIVE_FOR.saturating_sub(MARGIN);
/// How long the cluster may take to note a list.
const AGREE: Duration = Duration::from_millis(900);
/// One that was stopped gives its lease back; so long it may take until others have its turns.
const STOPPED: Duration = Duration::from_secs(2);
/// Where the lists lie in the key space.
const LISTS: &str = "cluster/turns/scrape";
/// Below it, one key for each broker that takes part.
const PARTAKERS: &str = "cluster/scrapers/";

/// Whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// This broker's.
    Own,
    /// That of another, by name.
    Of(String),
    /// Nobody's that this broker knows.
    Nobody,
}

/// Tells whose turn it is. Ends with its last handle.
pub struct Turns {
    own: BrokerId,
    now_ms: fn() -> i64,
    known: Mutex<Known>,
    gone: watch::Sender<TimeRange>,
    task: Mutex<Option<AbortHandle>>,
}

/// What was read last.
#[derive(Default)]
struct Known {
    version: Option<u64>,
    rows: Rows,
    rings: Vec<(i64, Ring)>,
    names: BTreeMap<BrokerId, String>,
    lease: Option<OwnLease>,
}

/// What was seen of the own lease.
#[derive(Debug, Clone, Copy)]
struct OwnLease {
    /// Its end by the own clock.
    until_ms: i64,
    /// When that was seen to change.
    seen: Instant,
    /// When, by the own clock, it was first seen to be renewed after a time in which it may have been over.
    since_ms: i64,
}

impl OwnLease {
    fn next(before: Option<OwnLease>, until_ms: i64, now_ms: i64, seen: Instant) -> OwnLease {
        let is_in_time = |before: &OwnLease| {
            // The clock may have been set back.
            (0..=millis(RENEWED_WITHIN)).contains(&(until_ms - before.until_ms))
                && seen - before.seen < RENEWED_WITHIN
        };
        let kept = before.filter(is_in_time);
        OwnLease { until_ms, seen, since_ms: kept.map_or(now_ms, |before| before.since_ms) }
    }

    /// Whether no other broker can take this one for dead, nor know lists that take something from it.
    fn is_sure(&self, now_ms: i64, now: Instant) -> bool {
        // The leader may have found it over just before it was renewed. What it wrote then lies before every
        // renewal that is proposed when it cannot write it any more.
        let proposed_ms = self.until_ms - millis(ALIVE_FOR);
        proposed_ms > self.since_ms + millis(AGREE)
            && now_ms < self.until_ms - millis(MARGIN)
            && now - self.seen < RENEWED_WITHIN
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).expect("seconds")
}

impl Turns {
    /// Whose turn it is with `key`, a hash that all brokers agree about, at a moment, milliseconds since
    /// the epoch. Not before the moment has come: what is known now may change until then.
    pub fn of(&self, key: u64, at_ms: i64) -> Turn {
        let known = self.known.lock();
        match owner(&known.rings, key, at_ms) {
            Some(id) if id == self.own => {
                let is_sure = |lease: OwnLease| lease.is_sure((self.now_ms)(), Instant::now());
                if known.lease.is_some_and(is_sure) { Turn::Own } else { Turn::Nobody }
            }
            Some(id) => {
                let name = known.names.get(&id).cloned();
                Turn::Of(name.unwrap_or_else(|| id.to_string()))
            }
            None => Turn::Nobody,
        }
    }

    /// Tells, each time that a broker is found dead, in which time nobody did what was its turn: from the
    /// last renewal of its lease until it is others' and this one knows.
    pub fn gone(&self) -> watch::Receiver<TimeRange> {
        self.gone.subscribe()
    }

    /// The name of this broker.
    pub fn own_name(&self) -> String {
        let known = self.known.lock();
        known.names.get(&self.own).cloned().unwrap_or_else(|| self.own.to_string())
    }

    fn read(&self, consensus: &Consensus) {
        let now_ms = (self.now_ms)();
        let mut known = self.known.lock();
        consensus.read(|state| {
            let lease = state.lease(&format!("broker/{}", self.own)).map(|lease| lease.until_ms);
            if lease != known.lease.map(|lease| lease.until_ms) {
                known.lease = lease
                    .map(|until_ms| OwnLease::next(known.lease, until_ms, now_ms, Instant::now()));
            }
            let names = state.brokers().map(|(id, broker)| (id, broker.info.name.clone()));
            known.names = names.collect();
            let lists = state.get(LISTS);
            let version = lists.map(|lists| lists.version);
            if version != known.version {
                let rows =
                    lists.and_then(|lists| serde_json::from_slice::<Rows>(&lists.value).ok());
                let rows = rows.unwrap_or_default();
                known.rings = rows.rings();
                // One that has just come has nothing to make up for.
                if known.version.is_some()
                    && let Some((dead, from_ms)) = rows.taken_at_once(&known.rows, now_ms)
                {
                    let seen_ms = |id: &u64| match state.lease(&format!("broker/{}", BrokerId(*id)))
                    {
                        Some(lease) => lease.until_ms - millis(ALIVE_FOR),
                        None => from_ms - millis(STOPPED),
                    };
                    let since_ms = dead.iter().map(seen_ms).min().unwrap_or(from_ms);
                    self.gone.send_replace(TimeRange::new(since_ms, from_ms.max(now_ms)));
                }
                known.rows = rows;
                known.version = version;
            }
        });
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().take() {
            task.abort();
        }
    }
}

impl std::fmt::Debug for Turns {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Turns").field("own", &self.own).finish_non_exhaustive()
    }
}

impl Broker {
    /// Takes part in scraping, or helps those that do to agree whose turn it is; `None` beside a log. To
    /// be called once, on a tokio runtime, and kept.
    pub fn scrape_turns(&self, takes_part: bool) -> Option<Arc<Turns>> {
        let SharedCatalog::Agreed(consensus) = &self.inner.catalog else { return None };
        let (_, own) = self.cluster_ring()?;
        let turns = Arc::new(Turns {
            own,
            now_ms: self.inner.config.now_ms,
            known: Mutex::default(),
            gone: watch::Sender::new(TimeRange::new(0, 0)),
            task: Mutex::default(),
        });
        let (consensus, broker) = (consensus.clone(), self.clone());
        let weak = Arc::downgrade(&turns);
        let task = tokio::spawn(async move {
            let reading = async {
                while let Some(turns) = weak.upgrade() {
                    turns.read(&consensus);
                    drop(turns);
                    tokio::time::sleep(EVERY).await;
                }
            };
            // It waits for the cluster; what is known must not.
            let keeping = async {
                loop {
                    if let Err(error) = keep(&broker, &consensus, own, takes_part).await {
                        tracing::debug!(%error, "whose turn it is to scrape was not written");
                    }
                    tokio::time::sleep(EVERY).await;
                }
            };
            tokio::select! {
                () = reading => {}
                () = keeping => {}
            }
        });
        *turns.task.lock() = Some(task.abort_handle());
        Some(turns)
    }
}

/// Says whether this broker takes part and, if it leads, writes the lists anew if that is due.
async fn keep(
    broker: &Broker,
    consensus: &Consensus,
    own: BrokerId,
    takes_part: bool,
) -> Result<()> {
    let key = format!("{PARTAKERS}{own}");
    match (takes_part, broker.get_key(&key)) {
        (true, None) => _ = broker.put_key_async(&key, Vec::new(), Expected::Any).await?,
        (false, Some(_)) => broker.delete_key_async(&key, Expected::Any).await?,
        _ => {}
    }
    if !consensus.is_leader() {
        return Ok(());
    }
    let partakers: BTreeSet<String> =
        broker.list_keys(PARTAKERS).into_iter().map(|(key, _)| key).collect();
    let members = broker.cluster_members();
    let candidate = |member: &crate::ClusterMember| Candidate {
        id: member.id,
        is_alive: member.is_alive,
        is_willing: !member.is_draining && partakers.contains(&format!("{PARTAKERS}{}", member.id)),
    };
    let candidates: Vec<Candidate> = members.iter().map(candidate).collect();
    let written = broker.get_key(LISTS);
    let (rows, expected) = match &written {
        Some(written) => {
            let rows = serde_json::from_slice(&written.value).unwrap_or_default();
            (rows, Expected::Version(written.version))
        }
        None => (Rows::default(), Expected::Absent),
    };
    if let Some(revised) = rows.revised(&candidates, (broker.inner.config.now_ms)()) {
        let value = serde_json::to_vec(&revised).expect("numbers are JSON");
        let put = Command::Put { key: LISTS.to_owned(), value, expected };
        consensus.propose(put, AGREE).await?;
    }
    Ok(())
}
