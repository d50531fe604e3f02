//! Background work of a cluster: jobs that any broker may do, each done by one at a time.
//!
//! | job | lease | who |
//! |---|---|---|
//! | merges and everything else that writes blocks anew | `merge/<tenant>/<day>` | nearest to tenant and day |
//! | what a dead broker left | `adopt/<broker>` | nearest to it |
//! | segments that could not be read | `unread/<broker>` | nearest to their broker |
//! | retention, marks | `retention` | nearest to that word |
//! | objects that nothing refers to | `orphans` | nearest to that word |
//! | damaged blocks | `quarantine/<block>` | who met one |
//! | blocks that were set aside and are whole again | `quarantine/<block>` | nearest to that word |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use catalog::{BlockId, BrokerId, Command};
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::adoption::Adoption;
use super::damage::Mending;
use super::kept::{Keeping, MayNot};
use super::leases::{Leases, NoResult};
use super::merging::Merging;
use super::orphans::Orphans;
use super::signals::Named;
use super::unread::Missing;
use crate::deletes::Done;
use crate::maintenance::Planner;

/// How often retention is looked after.
const SWEEP: Duration = Duration::from_secs(60);
/// After a failure of one job it is not tried again for this long; twice as long after each further one …
const RETRY: Duration = Duration::from_secs(10);
/// … so often.
const MOST_DOUBLED: u32 = 2;
/// How often it is said that this broker may not remove anything.
const COMPLAINED_EVERY: Duration = Duration::from_secs(300);
/// Place of the job on the circle.
pub(super) const RETENTION_PLACE: u64 = 0x7265_7465_6e74_696f;

/// How patient the background work of a cluster is.
#[derive(Debug, Clone, Copy)]
pub struct Background {
    /// How often it is looked whether something is due.
    pub every: Duration,
    /// A broker that is silent for so long is taken for dead: another makes blocks of its segments.
    pub adopt_after: Duration,
    /// For how long nothing must have referred to an object of the store before it is removed. Longer than
    /// any query, and than any write takes.
    pub orphan_age: Duration,
    /// A block of the store that is damaged, or not there, for so long is taken out for all brokers; a
    /// segment of a dead broker is passed over.
    pub damaged_after: Duration,
    /// Blocks that are larger than this together are not made one: the outcome lies in memory before it
    /// is stored.
    pub max_merge_bytes: u64,
}

impl Default for Background {
    /// 5 s, 5 minutes, an hour, 10 minutes, 512 MiB.
    fn default() -> Self {
        Background {
            every: Duration::from_secs(5),
            adopt_after: Duration::from_secs(300),
            orphan_age: Duration::from_secs(3_600),
            damaged_after: Duration::from_secs(600),
            max_merge_bytes: 512 << 20,
        }
    }
}

/// All jobs, of one broker.
pub(super) struct Jobs {
    pub(super) own: BrokerId,
    pub(super) every: Duration,
    pub(super) leases: Leases,
    pub(super) planner: Arc<Mutex<Planner>>,
    pub(super) keeping: Keeping,
    pub(super) merging: Merging,
    pub(super) adoption: Adoption,
    pub(super) mending: Mending,
    pub(super) missing: Missing,
    pub(super) orphans: Orphans,
}

/// When what failed is tried again.
pub(super) struct Rests<K>(BTreeMap<K, (u32, Instant)>);

impl<K: Ord> Default for Rests<K> {
    fn default() -> Self {
        Rests(BTreeMap::new())
    }
}

impl<K: Ord> Rests<K> {
    pub(super) fn is_over(&self, of: &K) -> bool {
        self.0.get(of).is_none_or(|(_, until)| Instant::now() >= *until)
    }

    /// Notes what became of `what`; a failure is told.
    pub(super) fn note(&mut self, of: K, what: &str, outcome: Result<()>) {
        let now = Instant::now();
        let Err(error) = outcome else {
            self.0.remove(&of);
            return;
        };
        tracing::warn!("{what} failed and is tried again; nothing is lost: {error:#}");
        // What is not tried any more, because it is done by another or gone, is forgotten.
        self.0.retain(|_, (_, until)| now < *until + 10 * RETRY);
        let (failures, until) = self.0.entry(of).or_insert((0, now));
        *until = now + RETRY * 2_u32.pow((*failures).min(MOST_DOUBLED));
        *failures += 1;
    }
}

impl Jobs {
    /// Works until nobody can ask any more, or it is aborted. What brokers left and damaged blocks do not
    /// wait for merges.
    pub(super) async fn run(self, cleanings: UnboundedReceiver<Done>) {
        let Jobs {
            own,
            every,
            leases,
            planner,
            keeping,
            merging,
            adoption,
            mending,
            missing,
            orphans,
        } = self;
        let work = Rewriting { own, every, leases, planner, keeping, merging, missing, orphans };
        tokio::select! {
            biased;
            () = mending.run() => {}
            () = adoption.run() => {}
            () = work.run(cleanings) => {}
        }
    }
}

/// What is done one after the other.
struct Rewriting {
    own: BrokerId,
    every: Duration,
    leases: Leases,
    planner: Arc<Mutex<Planner>>,
    keeping: Keeping,
    merging: Merging,
    missing: Missing,
    orphans: Orphans,
}

impl Rewriting {
    async fn run(mut self, mut cleanings: UnboundedReceiver<Done>) {
        const RETENTION: &str = "removing what is too old";
        const MISSING: &str = "reading missing segments";
        const ORPHANS: &str = "looking for objects of nobody";
        let mut rests = Rests::default();
        let (mut swept, mut looked, mut told) = (Instant::now(), Instant::now(), None);
        let mut is_busy = false;
        loop {
            let pause = if is_busy { Duration::ZERO } else { self.every };
            match tokio::time::timeout(pause, cleanings.recv()).await {
                Ok(None) => return,
                Ok(Some(first)) => self.clean(first, &mut cleanings).await,
                Err(_) => {}
            }
            let may_remove = self.may_remove(&mut told);
            is_busy = may_remove && self.merging.step().await;
            if looked.elapsed() >= SWEEP {
                looked = Instant::now();
                let abandoned = self.leases.abandoned();
                if self.merging.members.ring().owner(RETENTION_PLACE) == Some(self.own) {
                    self.leases.give_back(abandoned).await;
                }
            }
            let is_due = swept.elapsed() >= SWEEP.min(12 * self.every);
            if may_remove && is_due && rests.is_over(&RETENTION) {
                swept = Instant::now();
                rests.note(RETENTION, RETENTION, self.expire().await);
            }
            if rests.is_over(&MISSING) {
                rests.note(MISSING, MISSING, self.missing.step().await);
            }
            if rests.is_over(&ORPHANS) {
                rests.note(ORPHANS, ORPHANS, self.orphans.step().await);
            }
        }
    }

    /// Whether this broker may remove anything; if not, says so once in a while.
    fn may_remove(&self, told: &mut Option<Instant>) -> bool {
        match self.keeping.may_remove() {
            Ok(()) => return true,
            // For some seconds after a start.
            Err(MayNot::Unheard) => {}
            Err(why) if told.is_none_or(|told| told.elapsed() >= COMPLAINED_EVERY) => {
                *told = Some(Instant::now());
                tracing::error!("{why}");
            }
            Err(_) => {}
        }
        false
    }

    /// Cleans once for all who wait for it.
    async fn clean(&mut self, first: Done, cleanings: &mut UnboundedReceiver<Done>) {
        let mut waiting = vec![first];
        while let Ok(another) = cleanings.try_recv() {
            waiting.push(another);
        }
        let outcome = self.merging.clean_deleted().await.map_err(|error| format!("{error:#}"));
        for reply in waiting {
            // They may have gone meanwhile.
            let _ = reply.send(outcome.clone());
        }
    }

    /// Forgets what retention no longer keeps, and marks of agents that are silent for longer.
    async fn expire(&self) -> Result<()> {
        if self.merging.members.ring().owner(RETENTION_PLACE) != Some(self.own) {
            return Ok(());
        }
        let planner = Arc::clone(&self.planner);
        let writing = &self.merging.writing;
        let before_ms = planner.lock().forgotten_before_ms();
        let is_due = |before_ms: i64| {
            writing.consensus.read(|state| state.marks().any(|(_, _, m)| m.at_ms < before_ms))
        };
        let before_ms = before_ms.filter(|before_ms| is_due(*before_ms));
        let named: Vec<Named> = writing.consensus.read(|state| {
            let (listed, damaged) = planner.lock().expired(state);
            let expired: BTreeSet<BlockId> = listed.into_iter().chain(damaged).collect();
            let all = state.blocks().chain(state.quarantined());
            let gone = all.filter(|meta| expired.contains(&meta.id));
            gone.map(|meta| (meta.id, meta.signal)).collect()
        });
        let removed: Vec<BlockId> = named.iter().map(|(id, _)| *id).collect();
        let unread: Vec<(BrokerId, u64)> = match planner.lock().kept_since_ms() {
            None => Vec::new(),
            Some(since_ms) => writing.consensus.read(|state| {
                let unread = state.unread_segments();
                let old = unread.filter(|(_, _, segment)| segment.range.end_ms <= since_ms);
                old.map(|(broker, seq, _)| (broker, seq)).collect()
            }),
        };
        if removed.is_empty() && before_ms.is_none() && unread.is_empty() {
            return Ok(());
        }
        let Some(lease) = self.leases.take("retention".to_owned()).await else { return Ok(()) };
        let mut outcome = Ok(());
        if !removed.is_empty() {
            let count = removed.len() as u64;
            let expired = lease.propose(Command::Expire { removed }).await;
            outcome = expired.map(|_| {
                writing.remove_blocks_later(named);
                writing.counters.expired_blocks.fetch_add(count, Ordering::Relaxed);
            });
        }
        if outcome.is_ok() && !unread.is_empty() {
            // Their objects are nobody's then.
            let forget = Command::ForgetUnread { segments: unread };
            outcome = lease.propose(forget).await.map(|_| ());
        }
        if let (Ok(()), Some(before_ms)) = (&outcome, before_ms) {
            outcome = lease.propose(Command::ExpireMarks { before_ms }).await.map(|_| ());
        }
        lease.give().await;
        match outcome {
            // Some of it was merged meanwhile.
            Err(NoResult::Refused(_)) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
