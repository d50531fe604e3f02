//! The blocks of one signal: opened, shared with readers, swapped, merged, removed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use catalog::{BlockId, BlockMeta, NewBlock, Signal};
use model::{Labels, TimeRange};
use rustix::io::Errno;

use crate::blobs::{BlobError, BlobWriter, Blobs};
use crate::counters::Counters;
use crate::format::{BlockError, BlockFormat, MergeError, MergeInput, MergePart};
use crate::plan::MergeJob;

/// An open block and what the catalog says of it.
pub struct OpenBlock<F: BlockFormat> {
    /// What the catalog says.
    pub meta: BlockMeta,
    /// What the format reads.
    pub block: Arc<F::Block>,
}

/// A block that could not be opened. Its blob, if there is one, is in quarantine; the catalog has
/// to be told.
#[derive(Debug)]
pub struct DamagedBlock {
    /// What the catalog says.
    pub meta: BlockMeta,
    /// What is wrong.
    pub error: BlockError,
}

/// What to do with blobs that the catalog does not list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphans {
    /// Delete them: a flush or merge that never committed wrote them, or a deletion that a power
    /// cut undid. Right if the whole catalog could be read.
    Delete,
    /// Move them to quarantine: the command that lists them may have been lost, see
    /// [`crate::ReplayReport::catalog_intact`].
    Quarantine,
}

/// What a merge wrote.
pub struct Merged<F: BlockFormat> {
    /// The new block, open and checked, for the catalog's swap; `None` if no row was left.
    pub added: Option<(NewBlock, Arc<F::Block>)>,
    /// Rows left out because an earlier commit has another value for the same series and time.
    pub conflicts: u64,
}

/// Where a merge writes a block to.
pub struct MergeOut<'a> {
    /// A reserved one.
    pub id: BlockId,
    /// Its bytes.
    pub blob: &'a mut dyn BlobWriter,
}

/// One part of what a merge wrote.
pub struct MergedPart {
    /// The new block, for the catalog's swap; `None` if no row was left.
    pub new: Option<NewBlock>,
    /// As [`Merged::conflicts`], of this part.
    pub conflicts: u64,
    /// Its last series if another part follows.
    pub last: Option<Labels>,
}

/// The deletes that may hide rows of a block.
pub type DeletesOf<'a, F> = dyn Fn(&BlockMeta) -> Vec<Arc<<F as BlockFormat>::Delete>> + 'a;

/// A block of a merge with the deletes that concern it.
type InputOf<F> = MergeInput<<F as BlockFormat>::Block, <F as BlockFormat>::Delete>;

/// All blocks of one signal, sorted in commit order.
pub struct BlockSet<F: BlockFormat> {
    blobs: Arc<dyn Blobs>,
    format: F,
    signal: Signal,
    counters: Arc<Counters>,
    blocks: Mutex<Arc<[Arc<OpenBlock<F>>]>>,
}

impl<F: BlockFormat> BlockSet<F> {
    /// Opens the blocks that the catalog lists. One that is missing, damaged or unreadable is set
    /// aside and reported: a start never fails because of it.
    ///
    /// A blob that the catalog does not list is handled as `orphans` says, but only if its name
    /// is one that this program gives: what a human put there stays.
    ///
    /// # Errors
    /// `Version`: a newer program wrote a block; `Unavailable`: a shared store is away; too few file
    /// handles or memory; the listing, or a move to quarantine, fails.
    pub fn open(
        blobs: Arc<dyn Blobs>,
        format: F,
        signal: Signal,
        metas: impl IntoIterator<Item = BlockMeta>,
        orphans: Orphans,
        counters: Arc<Counters>,
    ) -> Result<(BlockSet<F>, Vec<DamagedBlock>), BlockError> {
        let set = Self::without_blocks(blobs, format, signal, counters);
        let metas: Vec<BlockMeta> =
            metas.into_iter().filter(|meta| meta.signal == signal).collect();
        set.remove_orphans(&metas.iter().map(|meta| meta.id).collect(), orphans)?;
        let mut opened = Vec::with_capacity(metas.len());
        let mut damaged = Vec::new();
        for meta in metas {
            match set.open_block(meta.id) {
                Ok(block) => opened.push(OpenBlock { meta, block }),
                Err(error) if is_own_fault(&error) => return Err(error),
                Err(error) => {
                    set.set_aside(meta.id)?;
                    damaged.push(DamagedBlock { meta, error });
                }
            }
        }
        set.swap(&[], opened);
        Ok((set, damaged))
    }

    /// A set without blocks, of a store that others use, too: what is not in it is left alone.
    pub fn without_blocks(
        blobs: Arc<dyn Blobs>,
        format: F,
        signal: Signal,
        counters: Arc<Counters>,
    ) -> BlockSet<F> {
        BlockSet { blobs, format, signal, counters, blocks: Mutex::new(Arc::new([])) }
    }

    /// The blocks now, in commit order: of two rows with the same series and time the earlier
    /// block's wins. Readers keep what they hold readable, also after it is removed.
    pub fn snapshot(&self) -> Arc<[Arc<OpenBlock<F>>]> {
        Arc::clone(&self.lock())
    }

    /// Opens and checks one block that was just written, before the catalog is told of it.
    ///
    /// # Errors
    /// As [`BlockFormat::open`].
    pub fn open_block(&self, id: BlockId) -> Result<Arc<F::Block>, BlockError> {
        let file = self.blobs.open(&id.key(self.signal))?;
        self.format.open(file).map(Arc::new)
    }

    /// Opens one block as the store has it, past all copies and caches that are nearer.
    ///
    /// # Errors
    /// As [`BlockFormat::open`].
    pub fn open_in_store(&self, id: BlockId, format: &F) -> Result<Arc<F::Block>, BlockError> {
        let file = self.blobs.open_past_copies(&id.key(self.signal))?;
        format.open(file).map(Arc::new)
    }

    /// Forgets copies of a block that are nearer than the store, which has it otherwise.
    pub fn forget_copies(&self, id: BlockId) {
        self.blobs.forget_copies(&id.key(self.signal));
    }

    /// Adds the blocks of a committed flush.
    pub fn add(&self, added: Vec<OpenBlock<F>>) {
        self.swap(&[], added);
    }

    /// Replaces blocks as a committed command says; a reader sees either all of the old or all of
    /// the new. Blobs stay: see [`BlockSet::delete_blobs`].
    pub fn swap(&self, removed: &[BlockId], added: Vec<OpenBlock<F>>) {
        let removed: BTreeSet<BlockId> = removed.iter().copied().collect();
        let mut blocks = self.lock();
        let kept = blocks.iter().filter(|block| !removed.contains(&block.meta.id)).cloned();
        let mut all: Vec<_> = kept.chain(added.into_iter().map(Arc::new)).collect();
        all.sort_unstable_by_key(|open| {
            (open.meta.first_sequence, open.meta.last_sequence, open.meta.id)
        });
        *blocks = all.into();
    }

    /// Notes that deletes up to a number hide nothing in these blocks, as a committed command says.
    pub fn settle(&self, ids: &[BlockId], deletes_through: u64) {
        let snapshot = self.snapshot();
        let named = snapshot.iter().filter(|open| ids.contains(&open.meta.id));
        let settled = named.map(|open| OpenBlock {
            meta: BlockMeta { deletes_through, ..open.meta },
            block: Arc::clone(&open.block),
        });
        self.swap(ids, settled.collect());
    }

    /// Deletes the blobs of blocks that a committed command removed. Readers that hold them read
    /// on.
    ///
    /// # Errors
    /// Faults of the store. What stays is an orphan, which the next start deletes.
    pub fn delete_blobs(&self, ids: &[BlockId]) -> Result<(), BlobError> {
        for id in ids {
            self.blobs.delete(&id.key(self.signal))?;
            self.counters.blocks_deleted.add(1);
        }
        Ok(())
    }

    /// Takes a block out that turned out to be damaged, and moves its blob to quarantine. The
    /// catalog has to be told.
    ///
    /// # Errors
    /// Faults of the store.
    pub fn quarantine(&self, id: BlockId) -> Result<(), BlobError> {
        self.swap(&[id], Vec::new());
        self.set_aside(id)
    }

    /// Writes the block that `job` asks for, under a reserved id, with the rows inside `keep`, and
    /// opens it. Then commit the swap, then call [`BlockSet::swap`]. `format` is that of the set, as it is
    /// to be for this merge. `deletes` yields those that
    /// concern a block; their rows are left out. `between` is called now and then while it goes on, at
    /// the latest after some pages: it may add blocks, and must not touch those of the job.
    ///
    /// # Errors
    /// A damaged input is named by its index in the job; the rest is the store's.
    pub fn merge(
        &self,
        format: &F,
        job: &MergeJob,
        id: BlockId,
        keep: TimeRange,
        deletes: &DeletesOf<'_, F>,
        between: &mut (dyn FnMut() + Send),
    ) -> Result<Merged<F>, MergeError> {
        let failed = |error| MergeError { input: None, error };
        let key = id.key(self.signal);
        let out = self.blobs.create(&key).map_err(|e| failed(e.into()))?;
        let mut out = Pausing { out, between };
        let all = MergePart::default();
        let MergedPart { new, conflicts, .. } =
            self.merge_into(format, job, keep, deletes, &all, MergeOut { id, blob: &mut out })?;
        let Some(new) = new else { return Ok(Merged { added: None, conflicts }) };
        out.out.finish().map_err(|e| failed(e.into()))?;
        let block = self.open_block(id).map_err(failed)?;
        Ok(Merged { added: Some((new, block)), conflicts })
    }

    /// As [`BlockSet::merge`], of one part of the outcome, with the bytes of the block to somewhere else: they
    /// are complete when this returns.
    ///
    /// # Errors
    /// As [`BlockSet::merge`].
    pub fn merge_into(
        &self,
        format: &F,
        job: &MergeJob,
        keep: TimeRange,
        deletes: &DeletesOf<'_, F>,
        part: &MergePart,
        MergeOut { id, blob: out }: MergeOut<'_>,
    ) -> Result<MergedPart, MergeError> {
        let inputs = self.inputs(job, deletes)?;
        let (summary, last) = format.merge_part(&inputs, keep, job.level, part, out)?;
        self.counters.merges.add(1);
        self.counters.merged_rows.add(summary.rows);
        // A block bears those of its inputs on.
        let known: u64 = match part.behind {
            None => inputs.iter().map(|input| F::conflicts(&input.block)).sum(),
            Some(_) => 0,
        };
        let conflicts = summary.conflicts.saturating_sub(known);
        self.counters.merge_conflicts.add(conflicts);
        if summary.rows == 0 {
            return Ok(MergedPart { new: None, conflicts, last });
        }
        let size_bytes = out.position();
        self.counters.merged_bytes.add(size_bytes);
        let new = NewBlock {
            id,
            tenant: job.tenant,
            signal: job.signal,
            range: summary.range,
            rows: summary.rows,
            series: summary.series,
            size_bytes,
            level: job.level,
        };
        Ok(MergedPart { new: Some(new), conflicts, last })
    }

    /// The open blocks of a job, in its order.
    fn inputs(
        &self,
        job: &MergeJob,
        deletes: &DeletesOf<'_, F>,
    ) -> Result<Vec<InputOf<F>>, MergeError> {
        let snapshot = self.snapshot();
        let by_id: BTreeMap<BlockId, &OpenBlock<F>> =
            snapshot.iter().map(|open| (open.meta.id, &**open)).collect();
        let input = |open: &&OpenBlock<F>| MergeInput {
            block: Arc::clone(&open.block),
            deletes: deletes(&open.meta),
        };
        let find = |(index, id): (usize, &BlockId)| {
            by_id.get(id).map(input).ok_or_else(|| {
                let error = BlobError::NotFound { key: id.key(self.signal) }.into();
                MergeError { input: Some(index), error }
            })
        };
        job.inputs.iter().enumerate().map(find).collect()
    }

    fn set_aside(&self, id: BlockId) -> Result<(), BlobError> {
        self.counters.blocks_damaged.add(1);
        match self.blobs.quarantine(&id.key(self.signal)) {
            Err(BlobError::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    fn remove_orphans(
        &self,
        listed: &BTreeSet<BlockId>,
        orphans: Orphans,
    ) -> Result<(), BlobError> {
        for blob in self.blobs.list(&format!("blocks/{}/", self.signal.name()))? {
            let id = BlockId::of_key(&blob.key, self.signal);
            if id.is_none_or(|id| listed.contains(&id)) {
                continue;
            }
            self.counters.blocks_orphaned.add(1);
            match orphans {
                Orphans::Delete => self.blobs.delete(&blob.key)?,
                Orphans::Quarantine => self.blobs.quarantine(&blob.key)?,
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Arc<[Arc<OpenBlock<F>>]>> {
        self.blocks.lock().expect("no panic while the list is replaced")
    }
}

/// Gives others a turn after each write: one thread does all that writes blocks, and a merge may take
/// minutes.
struct Pausing<'a> {
    out: Box<dyn BlobWriter>,
    between: &'a mut (dyn FnMut() + Send),
}

impl BlobWriter for Pausing<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.out.write(bytes)?;
        (self.between)();
        Ok(())
    }

    fn position(&self) -> u64 {
        self.out.position()
    }

    fn finish(self: Box<Self>) -> Result<(), BlobError> {
        self.out.finish()
    }
}

/// Whether the block may be good and this process, or its way to the store, is not: it must not be set
/// aside.
fn is_own_fault(error: &BlockError) -> bool {
    let short = [Errno::MFILE, Errno::NFILE, Errno::NOMEM].map(Errno::raw_os_error);
    match error {
        BlockError::Version { .. } => true,
        BlockError::Corrupt { .. } => false,
        BlockError::Blob(BlobError::Unavailable { .. }) => true,
        BlockError::Blob(BlobError::Io { source, .. }) => {
            source.raw_os_error().is_some_and(|code| short.contains(&code))
        }
        BlockError::Blob(_) => false,
    }
}
