//! Which blocks queries see: always those of one version of the catalog, never some of one and some of
//! another.
//!
//! What this broker wrote is open when it is listed; what others wrote has to be opened first, which takes
//! as long as the store takes. Until all blocks of a list can be read, the list before stays, with its
//! deletes and with the rows of the heads that are in blocks: so a merge of another broker takes nothing
//! away before its result is there. A block that cannot be read for long holds nothing up: answers say
//! that it is missing.

use std::collections::{BTreeMap, BTreeSet};

use catalog::{BlockId, BlockMeta, Signal};
use model::TimeRange;
use tokio::sync::oneshot;

use super::signals::{AnyBlock, Frozen};

/// Which deletes may hide something.
#[derive(Debug, Default, PartialEq)]
pub(super) struct NeededDeletes {
    pub(super) numbers: BTreeSet<u64>,
    /// The last delete that the list knows of: younger ones may hide something, too.
    pub(super) through: u64,
}

impl NeededDeletes {
    pub(super) fn has(&self, number: u64) -> bool {
        number > self.through || self.numbers.contains(&number)
    }
}

/// What the catalog lists.
pub(super) struct Listed {
    pub(super) blocks: Vec<BlockMeta>,
    pub(super) deletes: NeededDeletes,
    /// What of the heads is in these blocks.
    pub(super) cuts: Vec<Frozen>,
    /// Who waits until it is shown.
    pub(super) told: Vec<oneshot::Sender<()>>,
}

/// What is to be done to show a list.
#[derive(Default)]
pub(super) struct Step {
    pub(super) added: Vec<(BlockMeta, AnyBlock)>,
    pub(super) gone: Vec<BlockId>,
    /// Where there may be other samples than before.
    pub(super) changed: Vec<TimeRange>,
    /// `None` if those are as before.
    pub(super) deletes: Option<NeededDeletes>,
    pub(super) cuts: Vec<Frozen>,
    pub(super) told: Vec<oneshot::Sender<()>>,
}

/// The list that is shown, and those that wait for blocks.
#[derive(Default)]
pub(super) struct Listing {
    shown: BTreeMap<BlockId, BlockMeta>,
    /// Asked for and not yet here; whether nobody waits for it any more.
    opening: BTreeMap<BlockId, bool>,
    /// Here, and not yet shown.
    ready: BTreeMap<BlockId, (BlockMeta, AnyBlock)>,
    /// At most two: the one that is shown next, whose blocks are no more than they were, and the newest.
    waiting: Vec<Waiting>,
}

struct Waiting {
    listed: Listed,
    /// What it waits for.
    unread: BTreeSet<BlockId>,
}

impl Waiting {
    fn has(&self, id: BlockId) -> bool {
        self.listed.blocks.iter().any(|meta| meta.id == id)
    }
}

impl Listing {
    /// With what a start opened; what could not be opened is told as missing, and `late` is still tried.
    pub(super) fn new(shown: impl IntoIterator<Item = BlockMeta>, late: &[BlockMeta]) -> Listing {
        let shown = shown.into_iter().map(|meta| (meta.id, meta)).collect();
        let opening = late.iter().map(|meta| (meta.id, true)).collect();
        Listing { shown, opening, ..Listing::default() }
    }

    /// Takes a new list, with the blocks of it that this broker wrote. Yields what to do now, and which
    /// blocks have to be opened.
    pub(super) fn list(
        &mut self,
        mut listed: Listed,
        opened: BTreeMap<BlockId, AnyBlock>,
        open: &BTreeMap<BlockId, (BlockMeta, AnyBlock)>,
    ) -> (Option<Step>, Vec<BlockMeta>) {
        let metas: BTreeMap<BlockId, BlockMeta> =
            listed.blocks.iter().map(|meta| (meta.id, *meta)).collect();
        for (id, block) in opened {
            if let Some(meta) = metas.get(&id) {
                self.ready.insert(id, (*meta, block));
            }
        }
        let (mut unread, mut foreign) = (BTreeSet::new(), Vec::new());
        for (id, meta) in &metas {
            let is_given_up = self.opening.get(id) == Some(&true);
            if self.shown.get(id) == Some(meta) || self.ready.contains_key(id) || is_given_up {
                continue;
            }
            // The same bytes, of which the catalog says something else.
            if let Some((_, block)) = open.get(id) {
                self.ready.insert(*id, (*meta, block.clone()));
                continue;
            }
            unread.insert(*id);
            if self.opening.insert(*id, false).is_none() {
                foreign.push(*meta);
            }
        }
        self.opening.retain(|id, _| metas.contains_key(id));
        if self.waiting.len() == 2
            && let Some(newest) = self.waiting.pop()
        {
            let Listed { cuts, told, .. } = newest.listed;
            listed.cuts.splice(..0, cuts);
            listed.told.extend(told);
        }
        self.waiting.push(Waiting { listed, unread });
        (self.step(), foreign)
    }

    /// A block can be read: one that was asked for, or one that was set aside here and is whole.
    pub(super) fn opened(&mut self, meta: BlockMeta, block: AnyBlock) -> Option<Step> {
        self.opening.remove(&meta.id);
        let is_waited_for = self.waiting.iter().any(|waiting| waiting.unread.contains(&meta.id));
        if self.waiting.iter().any(|waiting| waiting.has(meta.id)) {
            self.ready.insert(meta.id, (meta, block.clone()));
        }
        // It was given up or set aside, and is in the list that is shown.
        if !is_waited_for && let Some(&meta) = self.shown.get(&meta.id) {
            let (added, gone) = (vec![(meta, block)], vec![meta.id]);
            let changed = changed_by(&meta).into_iter().collect();
            return Some(Step { added, gone, changed, ..Step::default() });
        }
        self.resolve(meta.id)
    }

    /// A block cannot be read, and nobody shall wait for it.
    pub(super) fn unread(&mut self, meta: BlockMeta) -> Option<Step> {
        *self.opening.get_mut(&meta.id)? = true;
        self.resolve(meta.id)
    }

    fn resolve(&mut self, id: BlockId) -> Option<Step> {
        for waiting in &mut self.waiting {
            waiting.unread.remove(&id);
        }
        self.step()
    }

    /// Tells when the newest list is shown.
    pub(super) fn tell_when_shown(&mut self, tell: oneshot::Sender<()>) {
        match self.waiting.last_mut() {
            Some(waiting) => waiting.listed.told.push(tell),
            None => _ = tell.send(()),
        }
    }

    /// Whether a block is listed, as far as this broker shows the catalog.
    pub(super) fn has(&self, id: BlockId) -> bool {
        self.shown.contains_key(&id) || self.waiting.iter().any(|waiting| waiting.has(id))
    }

    /// Shows the newest list of which everything can be read.
    fn step(&mut self) -> Option<Step> {
        let last = self.waiting.iter().rposition(|waiting| waiting.unread.is_empty())?;
        let mut step = Step::default();
        let mut newest = None;
        for Waiting { listed, .. } in self.waiting.drain(..=last) {
            let Listed { blocks, deletes, cuts, told } = listed;
            step.cuts.extend(cuts);
            step.told.extend(told);
            newest = Some((blocks, deletes));
        }
        let (blocks, deletes) = newest?;
        let listed: BTreeMap<BlockId, BlockMeta> =
            blocks.into_iter().map(|meta| (meta.id, meta)).collect();
        for (id, meta) in listed.iter().filter(|(id, meta)| self.shown.get(id) != Some(meta)) {
            step.changed.extend(changed_by(meta));
            if let Some((_, block)) = self.ready.remove(id) {
                step.added.push((*meta, block));
            }
        }
        for (id, meta) in self.shown.iter().filter(|(id, meta)| listed.get(id) != Some(meta)) {
            step.changed.extend(changed_by(meta));
            step.gone.push(*id);
        }
        self.shown = listed;
        step.deletes = Some(deletes);
        // What a later list still waits for stays.
        let waiting = &self.waiting;
        self.ready.retain(|id, _| waiting.iter().any(|waiting| waiting.has(*id)));
        Some(step)
    }
}

/// Where there may be other samples than before when a block comes or goes.
fn changed_by(meta: &BlockMeta) -> Option<TimeRange> {
    (meta.signal == Signal::Metrics).then_some(meta.range)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use blockstore::{BlockFormat, InMemory};
    use metricstore::{Deletes, HeadSnapshot, MetricFormat, Registry, Selected, Shard, ShardRows};
    use model::DEFAULT_TENANT;

    use super::*;

    fn meta(id: u64) -> BlockMeta {
        BlockMeta {
            id: BlockId(id),
            tenant: DEFAULT_TENANT,
            signal: Signal::Metrics,
            range: TimeRange::new(0, 1),
            rows: 1,
            series: 1,
            size_bytes: 1,
            level: 0,
            first_sequence: id,
            last_sequence: id,
            deletes_through: 0,
        }
    }

    fn block() -> AnyBlock {
        let registry = Registry::new(1);
        let labels = model::Labels::from_pairs([("__name__", "m")]).expect("valid");
        let mut rows = ShardRows::default();
        rows.push(registry.intern(DEFAULT_TENANT, &labels, 0), 0, 1.0);
        let mut shard = Shard::new(0, 1);
        shard.append(&rows);
        let series = registry.select(DEFAULT_TENANT, &[]);
        let (deletes, range) = (Deletes::default(), TimeRange::all());
        let chunks = vec![shard.select(series.ordinals(), range)];
        let head = HeadSnapshot { tenant: DEFAULT_TENANT, deletes, series, chunks };
        let one = Selected::new(&registry, head, &[], &[], range, 1).expect("no block is read");
        let (format, mut out) = (MetricFormat::new(1), InMemory::default());
        one.write_block(&format, &mut out).expect("memory");
        AnyBlock::Samples(Arc::new(format.open(Arc::new(out)).expect("sound")))
    }

    fn listed(ids: &[u64], deletes: &[u64]) -> Listed {
        Listed {
            blocks: ids.iter().map(|id| meta(*id)).collect(),
            deletes: NeededDeletes {
                numbers: deletes.iter().copied().collect(),
                through: deletes.iter().copied().max().unwrap_or(0),
            },
            cuts: Vec::new(),
            told: Vec::new(),
        }
    }

    /// Added, gone, deletes.
    type Ids = (Vec<u64>, Vec<u64>, Option<Vec<u64>>);

    fn ids(step: Option<Step>) -> Option<Ids> {
        let step = step?;
        let added = step.added.iter().map(|(meta, _)| meta.id.0).collect();
        let gone = step.gone.iter().map(|id| id.0).collect();
        Some((added, gone, step.deletes.map(|deletes| deletes.numbers.into_iter().collect())))
    }

    #[test]
    fn a_merge_of_another_takes_nothing_away_before_its_result_is_there() {
        let mut listing = Listing::new([meta(1), meta(2)], &[]);
        let (step, foreign) = listing.list(listed(&[3], &[]), BTreeMap::new(), &BTreeMap::new());
        assert!(step.is_none() && foreign.len() == 1 && listing.has(BlockId(1)));
        let (tell, mut told) = oneshot::channel();
        listing.tell_when_shown(tell);
        // A flush of our own meanwhile waits, too, and is not lost; a further one takes its place.
        let own = || BTreeMap::from([(BlockId(4), block())]);
        let (step, foreign) = listing.list(listed(&[3, 4], &[9]), own(), &BTreeMap::new());
        assert!(step.is_none() && foreign.is_empty());
        let (step, foreign) =
            listing.list(listed(&[3, 4, 5], &[9]), BTreeMap::new(), &BTreeMap::new());
        assert!(step.is_none() && foreign.len() == 1);
        assert!(told.try_recv().is_err());
        let step = listing.opened(meta(3), block()).expect("the first list can be read");
        assert_eq!(step.told.len(), 1);
        assert_eq!(ids(Some(step)), Some((vec![3], vec![1, 2], Some(vec![]))));
        let step = listing.opened(meta(5), block());
        assert_eq!(ids(step), Some((vec![4, 5], vec![], Some(vec![9]))));
        let (tell, mut told) = oneshot::channel();
        listing.tell_when_shown(tell);
        assert!(told.try_recv().is_ok(), "nothing is waited for");
    }

    #[test]
    fn what_cannot_be_read_holds_nothing_up_and_comes_later() {
        let mut listing = Listing::new([meta(1)], &[]);
        let (step, foreign) = listing.list(listed(&[2, 3], &[]), BTreeMap::new(), &BTreeMap::new());
        assert!(step.is_none() && foreign.len() == 2);
        assert!(listing.opened(meta(3), block()).is_none());
        assert_eq!(ids(listing.unread(meta(2))), Some((vec![3], vec![1], Some(vec![]))));
        // It is not asked for again, and is shown when it is there.
        let (step, foreign) =
            listing.list(listed(&[2, 3, 4], &[]), BTreeMap::new(), &BTreeMap::new());
        assert!(step.is_none() && foreign.len() == 1 && foreign[0].id == BlockId(4));
        assert_eq!(ids(listing.opened(meta(2), block())), Some((vec![2], vec![2], None)));
        assert_eq!(ids(listing.opened(meta(4), block())), Some((vec![4], vec![], Some(vec![]))));
        // One that is gone by then is nobody's.
        let (_, foreign) = listing.list(listed(&[5], &[]), BTreeMap::new(), &BTreeMap::new());
        assert_eq!(foreign.len(), 1);
        let (step, _) = listing.list(listed(&[4], &[]), BTreeMap::new(), &BTreeMap::new());
        assert_eq!(ids(step), Some((vec![], vec![2, 3], Some(vec![]))));
        assert!(listing.opened(meta(5), block()).is_none());
        // One that was set aside and is whole after all comes back.
        assert_eq!(ids(listing.opened(meta(4), block())), Some((vec![4], vec![4], None)));
    }

    #[test]
    fn a_list_that_waits_does_not_end_deletes_that_came_later() {
        let mut listing = Listing::new([meta(1)], &[]);
        let (step, _) = listing.list(listed(&[2], &[3, 7]), BTreeMap::new(), &BTreeMap::new());
        assert!(step.is_none());
        let step = listing.opened(meta(2), block()).expect("it is all");
        let deletes = step.deletes.expect("the list has some");
        let has: Vec<u64> = (1..10).filter(|number| deletes.has(*number)).collect();
        assert_eq!(has, [3, 7, 8, 9]);
    }
}
