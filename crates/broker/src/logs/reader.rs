//! A view of one tenant's lines, across heads and blocks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use blockstore::{BlockFormat, InMemory};
use catalog::{BlockId, BlockMeta, LOGS_LEVEL, Signal, State};
use governor::{Account, Held};
use logstore::{NsRange, ReadError, Source};
use model::{Matcher, TenantId, TimeRange};
use net::rpc::FreshLines;
use net::rpc::fresh_request::Ask;
use parking_lot::Mutex;

use super::deletes::{of_block, of_head};
use crate::Broker;
use crate::cluster::{CaughtUp, Clustered, FreshAnswer, Gathered};
use crate::maintenance::{Damaged, is_damage, words_of_quarantined};
use crate::rpc::messages;

const MILLISECOND_NS: i64 = 1_000_000;

/// Reads lines that are committed. The list of deletes is taken first, heads second and blocks third, while
/// a flush publishes blocks first and drops heads second; a line that is found in both is one. What is past
/// its retention is not there, whether it was removed already or not.
///
/// In a cluster the heads of the other brokers come first of all, and whatever reads waits for them: it is for
/// a thread that may wait. One reader is for one query.
pub struct LogsReader {
    broker: Broker,
    tenant: TenantId,
    account: Arc<Account>,
    caught_up: CaughtUp,
    /// Blocks that turned out to be damaged, and what to say of them.
    left_out: Mutex<BTreeMap<BlockId, String>>,
}

/// Where the lines of a range are. They stay readable for as long as somebody holds this, whatever is flushed,
/// merged, deleted or removed meanwhile.
pub struct LogSelection {
    /// In order of commits, for [`logstore::Query`] with the matchers that were selected by.
    pub sources: Vec<Source>,
    /// The part of the range that is kept: what the query is to ask for.
    pub range: NsRange,
    /// What is missing in the range because it was damaged, in words.
    pub missing: Vec<String>,
    /// Those of the first sources, which are blocks of the store.
    blocks: Vec<BlockId>,
    /// The memory of what was copied of the heads, and of what other brokers gave.
    _held: Vec<Held>,
}

impl LogSelection {
    /// Leaves a source out that cannot be read; what was asked can be asked again without it.
    ///
    /// # Panics
    /// It is none of the sources.
    pub fn remove(&mut self, error: &ReadError) {
        self.sources.remove(error.source_index);
        if error.source_index < self.blocks.len() {
            let block = self.blocks.remove(error.source_index);
            self.missing.push(format!("partial answer: block {block} cannot be read"));
        } else {
            self.missing.push(format!("partial answer: lines of a head cannot be read: {error}"));
        }
    }
}

impl Broker {
    /// A view of one tenant's lines.
    pub fn logs_reader(&self, tenant: TenantId) -> LogsReader {
        self.logs_reader_for(tenant, self.governor().account())
    }

    /// As [`Broker::logs_reader`]; what other brokers give counts for `account`.
    pub fn logs_reader_for(&self, tenant: TenantId, account: Arc<Account>) -> LogsReader {
        let (broker, caught_up) = (self.clone(), CaughtUp::new());
        LogsReader { broker, tenant, account, caught_up, left_out: Mutex::default() }
    }
}

impl LogsReader {
    /// Where the lines in a range are of the streams whose labels satisfy all matchers. Of the heads, up to 64
    /// KiB per stream are copied; of blocks, nothing is read.
    ///
    /// # Errors
    /// Too much is in the heads; nobody waits any more.
    pub fn select(
        &self,
        matchers: &[Matcher],
        range: NsRange,
    ) -> Result<LogSelection, crate::ReadError> {
        let range = self.kept(range);
        let gathered = self.fresh(matchers, range)?;
        self.select_beside(gathered, matchers, range)
    }

    /// As [`LogsReader::select`], for tasks: waits for other brokers without a thread, and then reads on this
    /// one.
    ///
    /// # Errors
    /// As [`LogsReader::select`].
    pub async fn select_in_task(
        &self,
        matchers: &[Matcher],
        range: NsRange,
    ) -> Result<LogSelection, crate::ReadError> {
        let range = self.kept(range);
        let gathered = match &self.broker.inner.clustered {
            Some(clustered) if clustered.has_level(LOGS_LEVEL) => {
                self.gather(clustered, matchers, range).await?
            }
            _ => Gathered::default(),
        };
        self.select_beside(gathered, matchers, range)
    }

    /// The part of a range that is kept.
    fn kept(&self, range: NsRange) -> NsRange {
        let oldest_ms = self.broker.oldest_log_ms(self.broker.now_ms());
        let start_ns = range.start_ns.max(oldest_ms.saturating_mul(MILLISECOND_NS));
        NsRange::new(start_ns, range.end_ns)
    }

    /// Selects from what this broker has and what others gave.
    fn select_beside(
        &self,
        gathered: Gathered,
        matchers: &[Matcher],
        range: NsRange,
    ) -> Result<LogSelection, crate::ReadError> {
        let inner = &self.broker.inner;
        let within = milliseconds_of(range);
        let Gathered { answers, mut lacking } = gathered;
        let (deletes, _) = inner.lines.deletes.current();
        let heads = inner.lines.heads.select(self.tenant, matchers, range);
        let own_bytes = heads.iter().map(|found| found.head.own_bytes()).sum();
        let mut held = vec![self.account.hold(own_bytes)?];
        let (open, mut missing) = {
            // Both at one moment: later a block may be there again that is not in this answer.
            let damaged = inner.damaged.lock();
            let lost = damaged.values().filter(|damaged| self.concerns(&damaged.meta, within));
            let lost = lost.map(Damaged::words);
            (inner.log_blocks.snapshot(), lost.collect::<Vec<_>>())
        };
        // In this order: a block leaves the first list after it came into the second.
        missing.extend(inner.catalog.read(|state| self.lost(state, within)));
        missing.append(&mut lacking);
        let left_out = self.left_out.lock();
        missing.extend(left_out.values().cloned());
        missing.sort_unstable();
        missing.dedup();
        let (mut sources, mut blocks) = (Vec::new(), Vec::new());
        let is_meant =
            |meta: &BlockMeta| self.concerns(meta, within) && !left_out.contains_key(&meta.id);
        for one in open.iter().filter(|open| is_meant(&open.meta)) {
            let deletes = of_block(&deletes, u64::MAX, &one.meta);
            sources.push(Source::Block { block: Arc::clone(&one.block), deletes });
            blocks.push(one.meta.id);
        }
        for FreshAnswer { broker, bytes, deletes_through, held: memory } in answers {
            match inner.lines.format.open(Arc::new(InMemory(bytes))) {
                Ok(block) => {
                    let deletes = of_head(&deletes, self.tenant, deletes_through, u64::MAX);
                    sources.push(Source::Block { block: Arc::new(block), deletes });
                    held.push(memory);
                }
                Err(error) => missing.push(format!(
                    "partial answer: what broker {broker} has in memory cannot be read: {error}"
                )),
            }
        }
        sources.extend(heads.into_iter().map(|found| Source::Head {
            deletes: of_head(&deletes, self.tenant, found.deletes_through, u64::MAX),
            head: found.head,
        }));
        Ok(LogSelection { sources, range, missing, blocks, _held: held })
    }

    /// What the other brokers have in no block, and what lacks of it, in words; nothing beside a log.
    fn fresh(&self, matchers: &[Matcher], range: NsRange) -> Result<Gathered, crate::ReadError> {
        let Some(clustered) = &self.broker.inner.clustered else { return Ok(Gathered::default()) };
        // Below it nobody has lines.
        if !clustered.has_level(LOGS_LEVEL) {
            return Ok(Gathered::default());
        }
        let Some(runtime) = &clustered.peers.runtime else {
            let lacking = vec!["partial answer: the other brokers were not asked".to_owned()];
            return Ok(Gathered { lacking, ..Gathered::default() });
        };
        runtime.block_on(self.gather(clustered, matchers, range))
    }

    async fn gather(
        &self,
        clustered: &Clustered,
        matchers: &[Matcher],
        range: NsRange,
    ) -> Result<Gathered, crate::ReadError> {
        let within = milliseconds_of(range);
        let ask = Ask::Lines(FreshLines {
            selector: Some(messages::selector_of(matchers)),
            start_ns: range.start_ns,
            end_ns: range.end_ns,
        });
        let name = self.broker.tenant_name(self.tenant).unwrap_or_default();
        let time_limit = Duration::from_millis(self.broker.limits_of(name).query_timeout_ms);
        // What the catalog says to be missing may be in a block by the time that blocks are looked at.
        let lost = Mutex::default();
        let look = |state: &State| *lost.lock() = self.lost(state, within);
        let known = (&look as _, &self.caught_up);
        let gathering = clustered.peers.gather(self.tenant, ask, &self.account, time_limit, known);
        let mut gathered = gathering.await?;
        gathered.lacking.append(&mut lost.into_inner());
        Ok(gathered)
    }

    /// What cannot be read as far as the catalog knows, in words.
    fn lost(&self, state: &State, range: TimeRange) -> Vec<String> {
        let blocks = state.quarantined().filter(|meta| self.concerns(meta, range));
        let blocks = blocks.map(words_of_quarantined);
        // Whose lines are in a segment only it says.
        let segments = self.broker.inner.clustered.iter().flat_map(|own| own.missing(state));
        let segments = segments.filter(|(.., segment)| segment.range.overlaps(&range));
        let words = segments.map(|(broker, seq, segment)| {
            format!(
                "partial answer: segment {seq} of broker {broker} with {} rows of all tenants from {} to \
                 {} ms cannot be read",
                segment.rows, segment.range.start_ms, segment.range.end_ms
            )
        });
        blocks.chain(words).collect()
    }

    /// Sets a block aside that turned out to be damaged, and leaves it out of what this reader selects from now
    /// on. One that could not be read for another reason, such as too few file handles, stays. Yields whether it
    /// is left out.
    pub fn report(&self, selection: &LogSelection, error: &ReadError) -> bool {
        let damaged = selection.blocks.get(error.source_index);
        let Some(block) = damaged.filter(|_| is_damage(&error.error)) else { return false };
        tracing::error!(%block, %error, "a query found a damaged block of logs");
        let words = format!("partial answer: block {block} is damaged and cannot be read");
        self.left_out.lock().insert(*block, words);
        self.broker.inner.wake.damaged(*block);
        true
    }

    /// The broker that is read.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    fn concerns(&self, meta: &BlockMeta, range: TimeRange) -> bool {
        (meta.tenant, meta.signal) == (self.tenant, Signal::Logs) && meta.range.overlaps(&range)
    }
}

/// The milliseconds that hold all times of a range.
fn milliseconds_of(range: NsRange) -> TimeRange {
    let last_ms = range.end_ns.saturating_sub(1).div_euclid(MILLISECOND_NS);
    TimeRange::new(range.start_ns.div_euclid(MILLISECOND_NS), last_ms + 1)
}
