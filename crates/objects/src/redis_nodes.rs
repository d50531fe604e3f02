//! Nodes of a Redis that is a cache: which has what, and which are left alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, RedisError, cmd};
use tokio::time::{Instant, timeout};

use crate::redis_link::{Dialing, SlotRange};
use crate::redis_slot::{SLOTS, slot_of};

/// For a connection and its first answer: nobody waits for these.
pub(crate) const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// Pause before a node is tried that was left alone; each further one is twice as long.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The place of a node that is not there: of slots of nobody.
const NOBODY: u16 = u16::MAX;

/// Which node has which slots.
#[derive(Default)]
pub(crate) struct Nodes {
    pub(crate) all: Vec<Arc<Node>>,
    /// By slot, the place of its node; empty if every key is on the only one.
    by_slot: Vec<u16>,
}

/// A node, and the connection to it unless it is left alone.
pub(crate) struct Node {
    pub(crate) address: (String, u16),
    pub(crate) link: Mutex<Option<MultiplexedConnection>>,
    /// How often it was late in a row.
    pub(crate) late: AtomicU32,
    away: Mutex<Away>,
}

/// Why a node is left alone, if it is.
struct Away {
    since: Option<Instant>,
    why: String,
    next: Instant,
    pause: Duration,
}

/// A node that is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAway {
    /// Its address.
    pub address: String,
    /// For how long.
    pub for_ms: u64,
    /// Why.
    pub why: String,
}

impl Nodes {
    /// One that has every key.
    pub(crate) fn only(node: Node) -> Nodes {
        Nodes { all: vec![Arc::new(node)], by_slot: Vec::new() }
    }

    /// One that has none.
    pub(crate) fn without_slots(node: Node) -> Nodes {
        Nodes { all: vec![Arc::new(node)], by_slot: vec![NOBODY; usize::from(SLOTS)] }
    }

    /// By slots, with the connections of those that are known.
    pub(crate) fn laid_out(known: &Nodes, ranges: Vec<SlotRange>) -> Nodes {
        let mut nodes = Nodes { all: Vec::new(), by_slot: vec![NOBODY; usize::from(SLOTS)] };
        for SlotRange { first, last, primary: address } in ranges {
            let place = nodes.all.iter().position(|node| node.address == address);
            let place = place.unwrap_or_else(|| {
                let old = known.all.iter().find(|node| node.address == address);
                nodes.all.push(old.map_or_else(|| Arc::new(Node::new(address)), Arc::clone));
                nodes.all.len() - 1
            });
            let Ok(place) = u16::try_from(place) else { continue };
            if let Some(slots) = nodes.by_slot.get_mut(usize::from(first)..=usize::from(last)) {
                slots.fill(place);
            }
        }
        nodes
    }

    /// Whether anything can lie on any of them.
    pub(crate) fn have_slots(&self) -> bool {
        match self.by_slot.is_empty() {
            true => !self.all.is_empty(),
            false => self.by_slot.iter().any(|place| *place != NOBODY),
        }
    }

    /// Where a key lies.
    pub(crate) fn of_key(&self, key: &str) -> Option<&Arc<Node>> {
        let place = match self.by_slot.is_empty() {
            true => 0,
            false => usize::from(*self.by_slot.get(usize::from(slot_of(key)))?),
        };
        self.all.get(place)
    }
}

impl Node {
    pub(crate) fn new(address: (String, u16)) -> Node {
        let away = Away {
            since: Some(Instant::now()),
            why: "it has not answered yet".to_owned(),
            next: Instant::now(),
            pause: FIRST_PAUSE,
        };
        Node { address, link: Mutex::default(), late: AtomicU32::new(0), away: Mutex::new(away) }
    }

    pub(crate) fn because(self, why: String) -> Node {
        self.away.lock().why = why;
        self
    }

    /// Since when it is left alone, and why, if it is.
    pub(crate) fn away(&self) -> Option<NodeAway> {
        let away = self.away.lock();
        let for_ms = away.since?.elapsed().as_millis();
        let for_ms = u64::try_from(for_ms).unwrap_or(u64::MAX);
        Some(NodeAway { address: self.shown(), for_ms, why: away.why.clone() })
    }

    pub(crate) fn shown(&self) -> String {
        format!("{}:{}", self.address.0, self.address.1)
    }

    /// It has answered with what it was asked for.
    pub(crate) fn is_well(&self) {
        // Fast path: it always does.
        if self.late.swap(0, Relaxed) == 0 && self.away.lock().pause == FIRST_PAUSE {
            return;
        }
        self.away.lock().pause = FIRST_PAUSE;
    }

    pub(crate) fn is_away(&self, why: String) {
        let mut away = self.away.lock();
        tracing::warn!(node = self.shown(), why, "the shared cache is left alone for a while");
        away.since.get_or_insert_with(Instant::now);
        away.why = why;
        away.next = Instant::now() + away.pause;
        // Who answers here and not when it counts is asked less and less.
        away.pause = (2 * away.pause).min(MAX_PAUSE);
    }

    /// Connects, if it is time.
    pub(crate) async fn connect(&self, dialing: &Dialing) {
        if self.link.lock().is_some() || Instant::now() < self.away.lock().next {
            return;
        }
        let connecting = async {
            let mut link = dial(dialing, &self.address).await?;
            link.req_packed_command(&cmd("PING")).await?.extract_error()?;
            Ok::<_, RedisError>(link)
        };
        let why = match timeout(CONNECT_PATIENCE, connecting).await {
            Ok(Ok(link)) => {
                self.late.store(0, Relaxed);
                if self.away.lock().since.take().is_some() {
                    tracing::info!(node = self.shown(), "the shared cache is used");
                }
                *self.link.lock() = Some(link);
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it does not answer within {} s", CONNECT_PATIENCE.as_secs()),
        };
        let mut away = self.away.lock();
        away.since.get_or_insert_with(Instant::now);
        away.why = why;
        away.next = Instant::now() + away.pause;
        away.pause = (2 * away.pause).min(MAX_PAUSE);
    }
}

pub(crate) async fn dial(
    dialing: &Dialing,
    address: &(String, u16),
) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_PATIENCE))
        .set_response_timeout(Some(CONNECT_PATIENCE));
    dialing.client(address)?.get_multiplexed_async_connection_with_config(&config).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u16, last: u16, port: u16) -> SlotRange {
        SlotRange { first, last, primary: ("r".to_owned(), port) }
    }

    #[test]
    fn slots_lead_to_their_nodes_and_connections_stay() {
        let ranges = vec![range(0, 99, 1), range(100, 16_383, 2)];
        let first = Nodes::laid_out(&Nodes::default(), ranges);
        assert_eq!((first.by_slot[99], first.by_slot[100]), (0, 1));
        // One is new, one has gone; a range that cannot be is none, and some slots are nobody's.
        let ranges = vec![range(0, 0, 3), range(7, 9, 2), range(5, 3, 2), range(9, 65_535, 3)];
        let second = Nodes::laid_out(&first, ranges);
        assert!(Arc::ptr_eq(&second.all[1], &first.all[1]));
        assert_eq!(second.all.len(), 2);
        assert_eq!((second.by_slot[0], second.by_slot[8], second.by_slot[9]), (0, 1, 1));
        assert_eq!(second.by_slot[3], NOBODY);
    }
}
