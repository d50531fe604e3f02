//! Parts of objects on the local disk.
//!
//! An object is cached in chunks of 1 MiB, each in a file of its own with a checksum of every 64 KiB:
//! a small read checks what it takes and not the whole chunk. Nothing is synced: what a power cut
//! leaves is found by its checksum, and what is damaged is fetched again and never served.
//!
//! | bytes | what of a file, little endian |
//! |---|---|
//! | 8 | `WFPAGES1` |
//! | 16 | BLAKE3 of store and key |
//! | 4 | number of the chunk in the object |
//! | 4 | length of the chunk |
//! | 4 each | CRC-32 of each 64 KiB |
//! | 4 | CRC-32 of all bytes before |
//! | rest | the chunk |

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use blockstore::{BlobError, Disk};
use bytes::Bytes;
use parking_lot::Mutex;
use wire::text_encode::TextEncoder;

/// Unit of what is fetched, kept and dropped.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

/// Unit of what is checked.
const PIECE_BYTES: usize = 64 << 10;

const MAGIC: [u8; 8] = *b"WFPAGES1";
const HEAD_BYTES: usize = 32;

/// A chunk of an object: hash of its key, and its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ChunkId {
    pub(crate) object: [u8; 16],
    pub(crate) number: u32,
}

impl ChunkId {
    fn path(&self) -> String {
        let object: String = self.object.iter().map(|byte| format!("{byte:02x}")).collect();
        // 256 directories, so that none has too many names.
        format!("{}/{object}-{}", &object[..2], self.number)
    }

    fn parse(path: &str) -> Option<ChunkId> {
        let (object, number) = path.rsplit('/').next()?.split_once('-')?;
        let mut bytes = [0; 16];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(object.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        let id = ChunkId { object: bytes, number: number.parse().ok()? };
        (id.path() == path).then_some(id)
    }
}

/// Who keeps a chunk for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// This process, or nobody.
    Own,
    /// A neighbour: it can be had from there again.
    Neighbours,
}

/// Of the capacity, the share of what neighbours keep as well.
const NEIGHBOURS_SHARE: u64 = 4;

/// A bounded cache that survives restarts; which chunk was used last does not.
pub struct PageCache {
    disk: Arc<dyn Disk>,
    capacity_bytes: u64,
    kept: Mutex<Kept>,
    counters: CacheCounters,
}

/// What the cache did.
#[derive(Debug, Default)]
pub struct CacheCounters {
    hits: AtomicU64,
    misses: AtomicU64,
    evicted: AtomicU64,
    damaged: AtomicU64,
    unwritten: AtomicU64,
    bytes: AtomicU64,
    from_neighbours: AtomicU64,
}

/// Which chunks there are, and in which order they were used.
#[derive(Default)]
struct Kept {
    chunks: HashMap<ChunkId, KeptChunk>,
    by_use: BTreeMap<u64, ChunkId>,
    /// Those of them that neighbours keep.
    borrowed: BTreeMap<u64, ChunkId>,
    uses: u64,
    bytes: u64,
    borrowed_bytes: u64,
}

#[derive(Clone, Copy)]
struct KeptChunk {
    used: u64,
    bytes: u64,
    whose: Whose,
}

impl Kept {
    /// Notes a use; whether the chunk is there.
    fn touch(&mut self, id: ChunkId) -> bool {
        self.uses += 1;
        let Some(chunk) = self.chunks.get_mut(&id) else { return false };
        self.by_use.remove(&chunk.used);
        if self.borrowed.remove(&chunk.used).is_some() {
            self.borrowed.insert(self.uses, id);
        }
        chunk.used = self.uses;
        self.by_use.insert(self.uses, id);
        true
    }

    fn add(&mut self, id: ChunkId, bytes: u64, whose: Whose) {
        self.remove(id);
        self.uses += 1;
        self.chunks.insert(id, KeptChunk { used: self.uses, bytes, whose });
        self.by_use.insert(self.uses, id);
        self.bytes += bytes;
        if whose == Whose::Neighbours {
            self.borrowed.insert(self.uses, id);
            self.borrowed_bytes += bytes;
        }
    }

    fn remove(&mut self, id: ChunkId) -> bool {
        let Some(KeptChunk { used, bytes, whose }) = self.chunks.remove(&id) else { return false };
        self.by_use.remove(&used);
        self.bytes -= bytes;
        if whose == Whose::Neighbours {
            self.borrowed.remove(&used);
            self.borrowed_bytes -= bytes;
        }
        true
    }

    /// What has to go so that `bytes` more fit; nothing if they do. What neighbours keep goes first while
    /// it takes more than its share: this process alone keeps the rest.
    fn to_forget(&self, bytes: u64, capacity_bytes: u64) -> Option<ChunkId> {
        if self.bytes + bytes <= capacity_bytes {
            return None;
        }
        let is_too_much = self.borrowed_bytes > capacity_bytes / NEIGHBOURS_SHARE;
        let from = if is_too_much { &self.borrowed } else { &self.by_use };
        from.first_key_value().map(|(_, id)| *id)
    }
}

impl PageCache {
    /// A cache on a disk that holds nothing else. What an earlier process left is used again, up to
    /// the capacity.
    ///
    /// # Errors
    /// Faults of the disk.
    pub fn open(disk: Arc<dyn Disk>, capacity_bytes: u64) -> Result<PageCache, BlobError> {
        let mut kept = Kept::default();
        for file in disk.list("")? {
            match ChunkId::parse(&file.key) {
                Some(id) => kept.add(id, file.size_bytes, Whose::Own),
                None if file.key == "lock" => {}
                None => disk.remove(&file.key)?,
            }
        }
        let cache = PageCache {
            disk,
            capacity_bytes,
            kept: Mutex::new(kept),
            counters: CacheCounters::default(),
        };
        cache.make_room(0);
        Ok(cache)
    }

    /// What it did.
    pub fn counters(&self) -> &CacheCounters {
        &self.counters
    }

    /// Fills `out` from `offset` of a chunk of `chunk_len` bytes; whether the cache has it, whole.
    pub(crate) fn read(
        &self,
        id: ChunkId,
        chunk_len: usize,
        offset: usize,
        out: &mut [u8],
    ) -> bool {
        if !self.kept.lock().touch(id) {
            self.counters.misses.fetch_add(1, Relaxed);
            return false;
        }
        if self.read_file(id, chunk_len, offset, out).is_some() {
            self.counters.hits.fetch_add(1, Relaxed);
            return true;
        }
        self.counters.damaged.fetch_add(1, Relaxed);
        self.counters.misses.fetch_add(1, Relaxed);
        self.forget(id);
        false
    }

    /// Whether a chunk is there, damaged or not.
    pub(crate) fn has(&self, id: ChunkId) -> bool {
        self.kept.lock().chunks.contains_key(&id)
    }

    fn read_file(
        &self,
        id: ChunkId,
        chunk_len: usize,
        offset: usize,
        out: &mut [u8],
    ) -> Option<()> {
        let file = self.disk.open(&id.path()).ok()?;
        let head_len = head_len(chunk_len);
        if file.size_bytes() != (head_len + chunk_len) as u64 {
            return None;
        }
        let mut head = vec![0; head_len];
        file.read_exact_at(0, &mut head).ok()?;
        let crcs = check_head(&head, id, chunk_len)?;
        let mut piece = [0; PIECE_BYTES];
        let end = offset + out.len();
        for number in offset / PIECE_BYTES..end.div_ceil(PIECE_BYTES) {
            let start = number * PIECE_BYTES;
            let len = (chunk_len - start).min(PIECE_BYTES);
            let piece = &mut piece[..len];
            file.read_exact_at((head_len + start) as u64, piece).ok()?;
            if crc32fast::hash(piece) != u32::from_le_bytes(*crcs.get(number)?) {
                return None;
            }
            let (from, to) = (offset.max(start), end.min(start + len));
            out[from - offset..to - offset].copy_from_slice(&piece[from - start..to - start]);
        }
        Some(())
    }

    /// Keeps a chunk. A fault of the disk costs the next reader a request, nothing else.
    pub(crate) fn add(&self, id: ChunkId, chunk: &[u8], whose: Whose) {
        if whose == Whose::Neighbours {
            self.counters.from_neighbours.fetch_add(1, Relaxed);
        }
        let head = head(id, chunk);
        let bytes = (head.len() + chunk.len()) as u64;
        if bytes > self.capacity_bytes || self.has(id) {
            return;
        }
        self.make_room(bytes);
        let path = id.path();
        let write = || {
            // Another thread may be writing the same; then this fails and the other counts.
            let mut file = self.disk.create(&path)?;
            let written = file.append(&[&head, chunk]);
            written.inspect_err(|_| _ = self.disk.remove(&path))
        };
        match write() {
            // Readers look here first, so none finds a file that is not whole.
            Ok(()) => self.kept.lock().add(id, bytes, whose),
            Err(error) => {
                self.counters.unwritten.fetch_add(1, Relaxed);
                tracing::debug!(%error, "a chunk is not kept");
            }
        }
        self.note_bytes();
    }

    fn make_room(&self, bytes: u64) {
        loop {
            let one = self.kept.lock().to_forget(bytes, self.capacity_bytes);
            let Some(one) = one else { break };
            self.forget(one);
            self.counters.evicted.fetch_add(1, Relaxed);
        }
        self.note_bytes();
    }

    /// A chunk is gone, or of no use.
    pub(crate) fn forget(&self, id: ChunkId) {
        if self.kept.lock().remove(id) {
            // A file that stays is found by the next start.
            let _ = self.disk.remove(&id.path());
        }
    }

    /// Nothing of an object is kept any more.
    pub(crate) fn forget_object(&self, object: [u8; 16]) {
        let of_it = |id: &&ChunkId| id.object == object;
        let ids: Vec<ChunkId> = self.kept.lock().chunks.keys().filter(of_it).copied().collect();
        ids.into_iter().for_each(|id| self.forget(id));
        self.note_bytes();
    }

    fn note_bytes(&self) {
        self.counters.bytes.store(self.kept.lock().bytes, Relaxed);
    }
}

impl CacheCounters {
    /// Chunks that were read from the disk.
    pub fn hits(&self) -> u64 {
        self.hits.load(Relaxed)
    }

    /// Chunks that were not there, or damaged.
    pub fn misses(&self) -> u64 {
        self.misses.load(Relaxed)
    }

    /// Chunks that were there and damaged.
    pub fn damaged(&self) -> u64 {
        self.damaged.load(Relaxed)
    }

    /// Chunks that were not there and came from neighbours instead of the store.
    pub fn from_neighbours(&self) -> u64 {
        self.from_neighbours.load(Relaxed)
    }

    /// Bytes on the disk.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Writes all counters in Prometheus' text format.
    pub fn render(&self, out: &mut TextEncoder<'_>) {
        for (name, kind, help, value) in [
            (
                "watchfire_objects_cache_hits_total",
                "counter",
                "Chunks of objects read from the local disk.",
                &self.hits,
            ),
            (
                "watchfire_objects_cache_misses_total",
                "counter",
                "Chunks of objects that the local disk did not have.",
                &self.misses,
            ),
            (
                "watchfire_objects_cache_neighbour_chunks_total",
                "counter",
                "Chunks of objects that the local disk did not have and another broker gave.",
                &self.from_neighbours,
            ),
            (
                "watchfire_objects_cache_evictions_total",
                "counter",
                "Chunks of objects dropped from the local disk for others.",
                &self.evicted,
            ),
            (
                "watchfire_objects_cache_damaged_total",
                "counter",
                "Chunks of objects that were damaged on the local disk and fetched again.",
                &self.damaged,
            ),
            (
                "watchfire_objects_cache_write_failures_total",
                "counter",
                "Chunks of objects that the local disk did not take.",
                &self.unwritten,
            ),
            (
                "watchfire_objects_cache_bytes",
                "gauge",
                "Local disk that chunks of objects take.",
                &self.bytes,
            ),
        ] {
            out.family(name, kind, help);
            out.sample(name, &[], value.load(Relaxed) as f64);
        }
    }
}

/// Length of what [`encode_chunk`] makes of a chunk.
pub(crate) fn encoded_len(chunk_len: usize) -> usize {
    head_len(chunk_len) + chunk_len
}

/// A chunk as it is kept, with its head.
pub(crate) fn encode_chunk(id: ChunkId, chunk: &[u8]) -> Vec<u8> {
    let mut bytes = head(id, chunk);
    bytes.extend_from_slice(chunk);
    bytes
}

/// The inverse: the chunk, if it is this one, whole, and nothing is behind it.
pub(crate) fn decode_chunk(id: ChunkId, chunk_len: usize, bytes: Bytes) -> Option<Bytes> {
    let (head, chunk) = bytes.split_at_checked(head_len(chunk_len))?;
    let crcs = check_head(head, id, chunk_len)?;
    let mut pieces = chunk.chunks(PIECE_BYTES).zip(crcs);
    let is_whole = chunk.len() == chunk_len
        && pieces.all(|(piece, crc)| crc32fast::hash(piece) == u32::from_le_bytes(*crc));
    is_whole.then(|| bytes.slice(head.len()..))
}

fn head_len(chunk_len: usize) -> usize {
    HEAD_BYTES + 4 * chunk_len.div_ceil(PIECE_BYTES) + 4
}

fn head(id: ChunkId, chunk: &[u8]) -> Vec<u8> {
    let mut head = Vec::with_capacity(head_len(chunk.len()));
    let len = u32::try_from(chunk.len()).expect("a chunk is small");
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&id.object);
    head.extend_from_slice(&id.number.to_le_bytes());
    head.extend_from_slice(&len.to_le_bytes());
    for piece in chunk.chunks(PIECE_BYTES) {
        head.extend_from_slice(&crc32fast::hash(piece).to_le_bytes());
    }
    head.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
    head
}

/// The checksums of the pieces, if it is the head of this chunk.
fn check_head(head: &[u8], id: ChunkId, chunk_len: usize) -> Option<&[[u8; 4]]> {
    let (body, crc) = head.split_last_chunk::<4>()?;
    let len = u32::try_from(chunk_len).ok()?;
    let is_ours = crc32fast::hash(body) == u32::from_le_bytes(*crc)
        && body.get(..8)? == MAGIC
        && body.get(8..24)? == id.object
        && body.get(24..28)? == id.number.to_le_bytes()
        && body.get(28..HEAD_BYTES)? == len.to_le_bytes();
    is_ours.then(|| body[HEAD_BYTES..].as_chunks().0)
}

#[cfg(test)]
mod tests {
    use blockstore::MemoryDisk;

    use super::*;

    fn id(number: u32) -> ChunkId {
        ChunkId { object: [0xa7; 16], number }
    }

    fn chunk(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at / 7) as u8).collect()
    }

    fn cache(disk: &MemoryDisk, capacity_bytes: u64) -> PageCache {
        PageCache::open(Arc::new(disk.clone()), capacity_bytes).expect("a good disk")
    }

    fn reads(cache: &PageCache, number: u32, len: usize) -> bool {
        let mut out = vec![0; len];
        cache.read(id(number), len, 0, &mut out) && out == chunk(len)
    }

    #[test]
    fn every_range_is_read_and_survives_a_restart() {
        let disk = MemoryDisk::new();
        let first = cache(&disk, 10 << 20);
        let len = 3 * PIECE_BYTES + 17;
        first.add(id(5), &chunk(len), Whose::Own);
        for cache in [first, cache(&disk, 10 << 20)] {
            for (offset, size) in [(0, len), (0, 1), (len - 1, 1), (PIECE_BYTES - 3, 9), (7, 0)] {
                let mut out = vec![0; size];
                assert!(cache.read(id(5), len, offset, &mut out), "{offset} {size}");
                assert_eq!(out, chunk(len)[offset..offset + size]);
            }
            assert!(!reads(&cache, 6, len));
        }
    }

    #[test]
    fn a_chunk_that_is_sent_is_read_whole_or_not_at_all() {
        for len in [0, 1, PIECE_BYTES, PIECE_BYTES + 100] {
            let sent = encode_chunk(id(3), &chunk(len));
            assert_eq!(sent.len(), encoded_len(len));
            let read =
                |bytes: &[u8], number| decode_chunk(id(number), len, Bytes::copy_from_slice(bytes));
            assert_eq!(read(&sent, 3).expect("whole"), chunk(len));
            assert_eq!(read(&sent, 4), None, "another chunk");
            assert_eq!(decode_chunk(id(3), len + 1, Bytes::from(sent.clone())), None);
            assert_eq!(read(&[&sent[..], b"x"].concat(), 3), None, "something behind it");
            for place in (0..sent.len()).step_by(61).chain(0..head_len(len)) {
                let mut damaged = sent.clone();
                damaged[place] ^= 0x10;
                assert_eq!(read(&damaged, 3), None, "byte {place} of {len}");
                assert_eq!(read(&sent[..place], 3), None, "cut to {place}");
            }
        }
    }

    #[test]
    fn what_is_damaged_is_never_served_and_can_be_kept_again() {
        let len = PIECE_BYTES + 100;
        let bytes = head_len(len) + len;
        for place in (0..bytes).step_by(61).chain(0..head_len(len)) {
            let disk = MemoryDisk::new();
            let cache = cache(&disk, 10 << 20);
            cache.add(id(0), &chunk(len), Whose::Own);
            disk.damage(&id(0).path(), |bytes| bytes[place] ^= 0x10);
            let mut out = vec![0; len];
            assert!(!cache.read(id(0), len, 0, &mut out), "byte {place}");
            assert_eq!(cache.counters().damaged(), 1);
            cache.add(id(0), &chunk(len), Whose::Own);
            assert!(reads(&cache, 0, len));
        }
    }

    #[test]
    fn a_power_cut_at_any_step_leaves_nothing_wrong() {
        let len = 2 * PIECE_BYTES;
        for step in 0..12 {
            for seed in 0..40 {
                let disk = MemoryDisk::new();
                let before = cache(&disk, 10 << 20);
                disk.cut_power_after(step);
                (0..3).for_each(|number| before.add(id(number), &chunk(len), Whose::Own));
                let after = cache(&disk.crash(seed), 10 << 20);
                for number in 0..3 {
                    let mut out = vec![0; len];
                    if after.read(id(number), len, 0, &mut out) {
                        assert!(out == chunk(len), "step {step} seed {seed}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let disk = MemoryDisk::new();
        let len = 1_000;
        let each = (head_len(len) + len) as u64;
        let cache_of_three = cache(&disk, 3 * each);
        (0..3).for_each(|number| cache_of_three.add(id(number), &chunk(len), Whose::Own));
        assert!(reads(&cache_of_three, 0, len));
        cache_of_three.add(id(3), &chunk(len), Whose::Own);
        let there: Vec<u32> = (0..4).filter(|n| reads(&cache_of_three, *n, len)).collect();
        assert_eq!(there, [0, 2, 3]);
        assert_eq!(cache_of_three.counters().bytes(), 3 * each);
        assert_eq!(disk.list("").expect("a good disk").len(), 3);
        let smaller = cache(&disk, each);
        assert_eq!(smaller.counters().bytes(), each);
        assert_eq!(disk.list("").expect("a good disk").len(), 1, "a smaller one forgets");
        smaller.add(id(9), &chunk(5_000), Whose::Own);
        assert!(!reads(&smaller, 9, 5_000), "what is larger than all is not kept");
    }

    #[test]
    fn what_neighbours_keep_goes_first_above_its_share() {
        let len = 1_000;
        let each = (head_len(len) + len) as u64;
        let cache = cache(&MemoryDisk::new(), 8 * each);
        let there = |cache: &PageCache| -> Vec<u32> {
            (0..20).filter(|number| cache.has(id(*number))).collect()
        };
        (0..6).for_each(|number| cache.add(id(number), &chunk(len), Whose::Own));
        // Two are a quarter: the third takes the place of the first.
        (10..13).for_each(|number| cache.add(id(number), &chunk(len), Whose::Neighbours));
        assert_eq!(there(&cache), [1, 2, 3, 4, 5, 10, 11, 12]);
        assert!(reads(&cache, 10, len), "it is used");
        cache.add(id(13), &chunk(len), Whose::Neighbours);
        assert_eq!(there(&cache), [1, 2, 3, 4, 5, 10, 12, 13]);
        cache.add(id(6), &chunk(len), Whose::Own);
        assert_eq!(there(&cache), [1, 2, 3, 4, 5, 6, 10, 13]);
        // Within the share, what was not used for longest goes, whosever it is.
        cache.add(id(7), &chunk(len), Whose::Own);
        assert_eq!(there(&cache), [2, 3, 4, 5, 6, 7, 10, 13]);
        cache.forget(id(10));
        cache.add(id(14), &chunk(len), Whose::Neighbours);
        assert_eq!((there(&cache).len(), cache.counters().from_neighbours()), (8, 5));
    }

    #[test]
    fn a_full_disk_keeps_nothing_and_harms_nothing() {
        let disk = MemoryDisk::new();
        let cache = cache(&disk, 10 << 20);
        disk.set_capacity_bytes(Some(500));
        cache.add(id(0), &chunk(1_000), Whose::Own);
        assert!(!reads(&cache, 0, 1_000));
        assert_eq!(disk.list("").expect("a good disk"), []);
    }
}
