//! Which broker has its turn: what is to be done by exactly one of the brokers at each moment, such as a
//! scrape, without asking anybody at that moment.
//!
//! The leader keeps lists of brokers in the catalog, see `rows`; each broker that takes part reads them
//! twice a second. Who cannot be sure to know the latest, because its own lease is nearly over, has no
//! turn.

mod rows;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use catalog::{BrokerId, Expected, Ring};
use consensus::Consensus;
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use self::rows::{Candidate, Rows, owner};
use crate::shared_catalog::SharedCatalog;
use crate::{Broker, CommitError};

/// How often it is looked.
const EVERY: Duration = Duration::from_millis(500);
/// A turn ends so long before the own lease does, milliseconds.
const MARGIN_MS: i64 = 1_000;
/// A lease that was not seen to be renewed for so long may be over for others.
const RENEWED_WITHIN: Duration = Duration::from_millis(5_000);
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
    task: Mutex<Option<AbortHandle>>,
}

/// What was read last.
#[derive(Default)]
struct Known {
    version: Option<u64>,
    rings: Vec<(i64, Ring)>,
    names: BTreeMap<BrokerId, String>,
    /// End of the own lease by the own clock, and when that was seen to change.
    lease: Option<(i64, Instant)>,
}

impl Turns {
    /// Whose turn it is with `key`, a hash that all brokers agree about, at a moment, milliseconds since
    /// the epoch. Not before the moment has come: what is known now may change until then.
    pub fn of(&self, key: u64, at_ms: i64) -> Turn {
        let known = self.known.lock();
        match owner(&known.rings, key, at_ms) {
            Some(id) if id == self.own => match known.is_sure((self.now_ms)()) {
                true => Turn::Own,
                false => Turn::Nobody,
            },
            Some(id) => {
                let name = known.names.get(&id).cloned();
                Turn::Of(name.unwrap_or_else(|| id.to_string()))
            }
            None => Turn::Nobody,
        }
    }

    /// The name of this broker.
    pub fn own_name(&self) -> String {
        let known = self.known.lock();
        known.names.get(&self.own).cloned().unwrap_or_else(|| self.own.to_string())
    }

    fn read(&self, consensus: &Consensus) {
        let mut known = self.known.lock();
        consensus.read(|state| {
            let lease = state.lease(&format!("broker/{}", self.own)).map(|lease| lease.until_ms);
            if lease != known.lease.map(|(until_ms, _)| until_ms) {
                known.lease = lease.map(|until_ms| (until_ms, Instant::now()));
            }
            let names = state.brokers().map(|(id, broker)| (id, broker.info.name.clone()));
            known.names = names.collect();
            let lists = state.get(LISTS);
            let version = lists.map(|lists| lists.version);
            if version != known.version {
                known.version = version;
                let rows =
                    lists.and_then(|lists| serde_json::from_slice::<Rows>(&lists.value).ok());
                known.rings = rows.unwrap_or_default().rings();
            }
        });
    }
}

impl Known {
    /// Whether no other broker can take this one for dead, nor know lists that take something from it.
    fn is_sure(&self, now_ms: i64) -> bool {
        self.lease.is_some_and(|(until_ms, seen)| {
            now_ms < until_ms - MARGIN_MS && seen.elapsed() < RENEWED_WITHIN
        })
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
            task: Mutex::default(),
        });
        let (consensus, broker) = (consensus.clone(), self.clone());
        let weak = Arc::downgrade(&turns);
        let task = tokio::spawn(async move {
            loop {
                let Some(turns) = weak.upgrade() else { return };
                turns.read(&consensus);
                drop(turns);
                if let Err(error) = keep(&broker, &consensus, own, takes_part).await {
                    tracing::debug!(%error, "whose turn it is to scrape was not written");
                }
                tokio::time::sleep(EVERY).await;
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
) -> Result<(), CommitError> {
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
        broker.put_key_async(LISTS, value, expected).await?;
    }
    Ok(())
}
