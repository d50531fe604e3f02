//! Lines of logs, from a push to what queries read.
//!
//! They go the way of samples: a frame of the same log → durable → heads → acknowledged → blocks, by the
//! same flush and under the same command to the catalog. What is their own: a head for each tenant instead
//! of shards, because its streams are found by its own index; pushes that came lately, which are
//! told apart by their bytes; and deletes that look at times in nanoseconds.

mod arrivals;
mod collected;
mod deletes;
mod flush;
mod frame;
mod heads;
mod ingest;
mod levels;
mod live;
mod metrics;
mod pushes;
mod reader;

use std::sync::Arc;

use anyhow::Result;
use catalog::State;
use logstore::{IndexCache, LogFormat};
use parking_lot::Mutex;

pub(crate) use arrivals::Arrivals;
pub(crate) use deletes::{LineDelete, LineDeleteBook, LineDeletes, of_block, of_head};
pub(crate) use flush::{PlannedLines, plan_flush};
pub(crate) use frame::{put_pushes, split};
pub(crate) use heads::{FrozenHead, LogHeads};
pub(crate) use ingest::{LogCounters, NewLines, OnLines, StoredLines};
pub(crate) use levels::Levels;
pub(crate) use live::{LineHub, LineInbox};
pub(crate) use pushes::{Push, RecentPushes};

pub use collected::{CollectedError, CollectedLines, LOCAL_COLLECTORS};
pub use deletes::{LINE, PendingLineDelete};
pub use heads::LogHeadTotals;
pub use ingest::LogOutcome;
pub use live::{LineFeed, LiveLines};
pub use pushes::PushId;
pub use reader::{LogSelection, LogsReader};

/// What of lines becomes visible, and how blocks of them are written.
#[derive(Clone)]
pub(crate) struct Lines {
    pub(crate) heads: Arc<LogHeads>,
    pub(crate) deletes: Arc<LineDeleteBook>,
    pub(crate) format: LogFormat,
    pub(crate) counters: Arc<LogCounters>,
    /// Those whose lines are stored, as far as this broker knows.
    pub(crate) pushes: Arc<Mutex<RecentPushes>>,
    pub(crate) arrivals: Arc<Arrivals>,
}

impl Lines {
    /// Without lines, with the deletes of `state`. Blocks keep up to `index_bytes` of indexes in memory.
    ///
    /// # Errors
    /// A delete that this program cannot read.
    pub(crate) fn new(
        heads: LogHeads,
        state: &State,
        seed: u64,
        index_bytes: usize,
    ) -> Result<Lines> {
        Ok(Lines {
            heads: Arc::new(heads),
            deletes: Arc::new(LineDeleteBook::load(state)?),
            format: LogFormat::new(seed, IndexCache::new(index_bytes)),
            counters: Arc::default(),
            pushes: Arc::default(),
            arrivals: Arc::default(),
        })
    }

    /// Whether a push was stored lately.
    pub(crate) fn is_known(&self, push: &Push) -> bool {
        self.pushes.lock().is_known(&push.id, push.at_ms)
    }

    /// Notes that one is, or is about to be before anything that comes later is answered.
    pub(crate) fn note(&self, push: Option<Push>) {
        if let Some(push) = push {
            self.pushes.lock().note(push);
        }
    }

    /// Heads of nobody's lines, on the thread of whoever asks.
    pub(crate) fn inline(seed: u64) -> Lines {
        Lines {
            heads: Arc::new(LogHeads::inline(seed)),
            deletes: Arc::default(),
            format: LogFormat::new(seed, IndexCache::new(0)),
            counters: Arc::default(),
            pushes: Arc::default(),
            arrivals: Arc::default(),
        }
    }
}
