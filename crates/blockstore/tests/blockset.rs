//! The life of blocks, with a format of lines: damaged ones are set aside, swaps are atomic,
//! readers keep what they hold.

use std::sync::Arc;

use blockstore::{
    BlobWriter, Blobs, BlockError, BlockFormat, BlockSet, BlockSummary, Counters, Disk, DiskBlobs,
    FileDisk, MemoryDisk, MergeError, MergeInput, MergeJob, MergePart, OpenBlock, Orphans, ReadAt,
};
use catalog::{BlockId, BlockMeta, Signal};
use model::{DEFAULT_TENANT, Labels, TimeRange};

/// Rows are bytes: a time below 100 and a letter. The checksum comes last.
struct Lines;

struct Rows {
    file: Arc<dyn ReadAt>,
    count: u64,
}

impl Rows {
    fn read(&self) -> Result<Vec<(u8, u8)>, BlockError> {
        let mut bytes = vec![0; (2 * self.count) as usize];
        self.file.read_exact_at(0, &mut bytes)?;
        Ok(bytes.chunks(2).map(|pair| (pair[0], pair[1])).collect())
    }
}

fn write(rows: &[(u8, u8)], out: &mut dyn BlobWriter) -> Result<(), BlockError> {
    let bytes: Vec<u8> = rows.iter().flat_map(|row| [row.0, row.1]).collect();
    out.write(&bytes)?;
    Ok(out.write(&codec::checksum(&bytes).to_le_bytes())?)
}

impl BlockFormat for Lines {
    type Block = Rows;
    /// The letter that is deleted.
    type Delete = u8;

    fn open(&self, file: Arc<dyn ReadAt>) -> Result<Rows, BlockError> {
        let corrupt = |detail: &str| BlockError::Corrupt { offset: 0, detail: detail.to_owned() };
        let len = file.size_bytes() as usize;
        let mut bytes = vec![0; len];
        file.read_exact_at(0, &mut bytes)?;
        let (rows, checksum) =
            bytes.split_last_chunk::<4>().ok_or_else(|| corrupt("no checksum"))?;
        if codec::checksum(rows).to_le_bytes() != *checksum {
            return Err(corrupt("checksum does not match"));
        }
        Ok(Rows { file, count: rows.len() as u64 / 2 })
    }

    fn conflicts(_: &Self::Block) -> u64 {
        0
    }

    fn merge_part(
        &self,
        inputs: &[MergeInput<Rows, u8>],
        keep: TimeRange,
        _: u8,
        part: &MergePart,
        out: &mut dyn BlobWriter,
    ) -> Result<(BlockSummary, Option<Labels>), MergeError> {
        debug_assert!(part.behind.is_none(), "there is no second part");
        let mut merged = std::collections::BTreeMap::new();
        let mut conflicts = 0;
        for (index, input) in inputs.iter().enumerate() {
            let rows =
                input.block.read().map_err(|error| MergeError { input: Some(index), error })?;
            for (time, letter) in rows.into_iter().filter(|row| {
                keep.contains(row.0.into()) && !input.deletes.iter().any(|letter| **letter == row.1)
            }) {
                conflicts += u64::from(*merged.entry(time).or_insert(letter) != letter);
            }
        }
        let rows: Vec<(u8, u8)> = merged.into_iter().collect();
        write(&rows, out).map_err(|error| MergeError { input: None, error })?;
        let end = rows.last().map_or(0, |row| i64::from(row.0) + 1);
        let range = TimeRange::new(rows.first().map_or(0, |row| row.0.into()), end);
        Ok((BlockSummary { range, series: 1, rows: rows.len() as u64, conflicts }, None))
    }
}

fn meta(id: u64, sequence: u64) -> BlockMeta {
    BlockMeta {
        id: BlockId(id),
        tenant: DEFAULT_TENANT,
        signal: Signal::Metrics,
        range: TimeRange::new(0, 100),
        rows: 2,
        series: 1,
        size_bytes: 8,
        level: 0,
        first_sequence: sequence,
        last_sequence: sequence,
        deletes_through: 0,
    }
}

fn put(blobs: &dyn Blobs, id: u64, rows: &[(u8, u8)]) {
    let mut out = blobs.create(&meta(id, 0).key()).expect("space");
    write(rows, &mut *out).expect("space");
    out.finish().expect("space");
}

fn open(
    blobs: &Arc<dyn Blobs>,
    metas: &[BlockMeta],
    orphans: Orphans,
    counters: &Arc<Counters>,
) -> (BlockSet<Lines>, Vec<BlockId>) {
    let (blobs, counters) = (Arc::clone(blobs), Arc::clone(counters));
    let (set, damaged) =
        BlockSet::open(blobs, Lines, Signal::Metrics, metas.iter().copied(), orphans, counters)
            .expect("damage is no error");
    (set, damaged.iter().map(|block| block.meta.id).collect())
}

fn ids(set: &BlockSet<Lines>) -> Vec<u64> {
    set.snapshot().iter().map(|open| open.meta.id.0).collect()
}

type Damage = fn(&mut Vec<u8>);

/// Both disks, the real one with its directory.
fn disks() -> (tempfile::TempDir, [Arc<dyn Disk>; 2]) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = FileDisk::open(directory.path()).expect("a new directory");
    (directory, [Arc::new(MemoryDisk::new()), Arc::new(file)])
}

#[test]
fn blocks_are_merged_swapped_and_deleted_while_readers_hold_them() {
    let (_directory, disks) = disks();
    for disk in disks {
        let blobs: Arc<dyn Blobs> = Arc::new(DiskBlobs::open(disk).expect("an empty disk"));
        put(&*blobs, 1, &[(1, b'a'), (2, b'a')]);
        put(&*blobs, 2, &[(2, b'b'), (3, b'b'), (99, b'z')]);
        let counters = Arc::default();
        // In commit order, whatever the ids.
        let (set, damaged) = open(&blobs, &[meta(1, 9), meta(2, 4)], Orphans::Delete, &counters);
        assert_eq!((ids(&set), damaged), (vec![2, 1], vec![]));
        let held = set.snapshot();
        let job = MergeJob {
            tenant: DEFAULT_TENANT,
            signal: Signal::Metrics,
            inputs: vec![BlockId(2), BlockId(1)],
            range: TimeRange::new(0, 100),
            level: 3,
            size_bytes: 16,
        };
        let merged = set
            .merge(&Lines, &job, BlockId(3), TimeRange::new(0, 50), &|_| Vec::new(), &mut || {})
            .expect("space");
        let (new, block) = merged.added.expect("rows are left");
        assert_eq!((merged.conflicts, new.rows, new.level, new.size_bytes), (1, 3, 3, 10));
        let added = OpenBlock { meta: BlockMeta { id: new.id, ..meta(3, 4) }, block };
        set.swap(&job.inputs, vec![added]);
        set.delete_blobs(&job.inputs).expect("a sound disk");
        assert_eq!(ids(&set), [3]);
        let rows = set.snapshot()[0].block.read().expect("a sound disk");
        assert_eq!(rows, [(1, b'a'), (2, b'b'), (3, b'b')]);
        assert_eq!(held[1].block.read().expect("held"), [(1, b'a'), (2, b'a')]);
        assert_eq!(blobs.list("blocks/").expect("a sound disk").len(), 1);
        // A delete, and nothing but what it hides.
        let job = MergeJob { inputs: vec![BlockId(3)], ..job };
        let deleted = |meta: &BlockMeta| {
            assert_eq!(meta.id, BlockId(3));
            vec![Arc::new(b'b')]
        };
        let merged = set
            .merge(&Lines, &job, BlockId(5), TimeRange::new(0, 50), &deleted, &mut || {})
            .expect("space");
        assert_eq!(merged.added.expect("a row is left").0.rows, 1);
        set.delete_blobs(&[BlockId(5)]).expect("a sound disk");
        // Nothing is left: no block, and no file.
        let job = MergeJob { inputs: vec![BlockId(3)], ..job };
        let nothing = set
            .merge(&Lines, &job, BlockId(4), TimeRange::new(50, 60), &|_| Vec::new(), &mut || {})
            .expect("space");
        assert!(nothing.added.is_none());
        assert_eq!(
            blobs.list("").expect("a sound disk").iter().filter(|b| b.key.contains("wfb")).count(),
            1
        );
        assert_eq!((counters.merges.get(), counters.merge_conflicts.get()), (3, 1));
    }
}

#[test]
fn damaged_and_missing_blocks_are_set_aside_and_the_rest_is_served() {
    let (directory, disks) = disks();
    let recipes: [(&str, Damage); 7] = [
        ("truncate", |bytes| bytes.truncate(0)),
        ("truncate", |bytes| bytes.truncate(5)),
        ("zero", |bytes| bytes.fill(0xff)),
        ("flip", |bytes| bytes[0] ^= 1),
        ("flip", |bytes| *bytes.last_mut().expect("bytes") ^= 128),
        ("append-garbage", |bytes| bytes.extend_from_slice(&[7; 1 << 16])),
        ("dup-tail", |bytes| bytes.push(bytes[bytes.len() - 1])),
    ];
    for (index, (name, damage)) in recipes.iter().enumerate() {
        let memory = MemoryDisk::new();
        let disk: Arc<dyn Disk> = Arc::new(memory.clone());
        let blobs: Arc<dyn Blobs> =
            Arc::new(DiskBlobs::open(Arc::clone(&disk)).expect("an empty disk"));
        put(&*blobs, 1, &[(1, b'a')]);
        put(&*blobs, 2, &[(2, b'b')]);
        memory.damage(&meta(1, 0).key(), damage);
        let counters = Arc::default();
        let metas = [meta(1, 1), meta(2, 2), meta(5, 3)];
        let (set, damaged) = open(&blobs, &metas, Orphans::Delete, &counters);
        assert_eq!(ids(&set), [2], "recipe {index}, {name}");
        assert_eq!(damaged, [BlockId(1), BlockId(5)]);
        assert_eq!(counters.blocks_damaged.get(), 2);
        let kept = disk.list("quarantine").expect("a sound disk");
        assert!(kept[0].key.contains("00000000000000000001.wfb"), "{kept:?}");
        assert!(blobs.open(&meta(1, 0).key()).is_err(), "it is never opened again");
    }
    // A link that leads to itself instead of a block.
    let [_, disk] = disks;
    let blobs: Arc<dyn Blobs> = Arc::new(DiskBlobs::open(disk).expect("an empty disk"));
    put(&*blobs, 2, &[(2, b'b')]);
    let link = directory.path().join(meta(1, 0).key());
    std::os::unix::fs::symlink(&link, &link).expect("links work");
    let (set, damaged) = open(&blobs, &[meta(1, 1), meta(2, 2)], Orphans::Delete, &Arc::default());
    assert_eq!((ids(&set), damaged), (vec![2], vec![BlockId(1)]));
}

#[test]
fn blobs_that_nobody_lists_go_or_are_kept_and_foreign_names_stay() {
    for (orphans, kept) in [(Orphans::Delete, 0), (Orphans::Quarantine, 1)] {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let blobs: Arc<dyn Blobs> =
            Arc::new(DiskBlobs::open(Arc::clone(&disk)).expect("an empty disk"));
        put(&*blobs, 1, &[(1, b'a')]);
        put(&*blobs, 2, &[(2, b'b')]);
        for name in ["blocks/metrics/notes.txt", "blocks/metrics/7.wfb"] {
            blobs.create(name).expect("space").finish().expect("space");
        }
        let counters = Arc::default();
        let (set, _) = open(&blobs, &[meta(2, 1)], orphans, &counters);
        assert_eq!(ids(&set), [2]);
        assert_eq!(counters.blocks_orphaned.get(), 1);
        assert_eq!(blobs.list("blocks/").expect("a sound disk").len(), 3);
        assert_eq!(disk.list("quarantine").expect("a sound disk").len(), kept);
    }
}

#[test]
fn a_block_that_turns_out_damaged_is_taken_out() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let blobs: Arc<dyn Blobs> = Arc::new(DiskBlobs::open(disk).expect("an empty disk"));
    put(&*blobs, 1, &[(1, b'a')]);
    let (set, _) = open(&blobs, &[meta(1, 1)], Orphans::Delete, &Arc::default());
    let held = set.snapshot();
    set.quarantine(BlockId(1)).expect("a sound disk");
    assert!(ids(&set).is_empty());
    assert_eq!(held[0].block.read().expect("held"), [(1, b'a')]);
    set.quarantine(BlockId(1)).expect("twice is no error");
}
