//! A store as the engines see one: synchronous, with a cache on the local disk.
//!
//! `blockstore::BlockSet`, and through it `metricstore`'s blocks, read and write
//! [`blockstore::Blobs`]; in a cluster the broker gives them this one, on one machine alone
//! `blockstore::DiskBlobs`. Nothing else depends on it.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use blockstore::{BlobError, BlobInfo, BlobWriter, Blobs, ReadAt};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::page_cache::{CHUNK_BYTES, ChunkId, Whose};
use crate::{PART_BYTES, PageCache, RedisCache, Refusal, Store, StoreError, Upload};

/// Locks against several threads that fetch the same chunk.
const STRIPES: usize = 64;

/// Chunks fetched at once for one large read.
const FETCHES_AT_ONCE: usize = 4;

/// After copies of an object were found damaged, those of neighbours are not asked for so long: theirs
/// may be what was damaged.
const DISTRUST: Duration = Duration::from_secs(3_600);
/// Objects that are distrusted; more than that, and nobody is asked.
const MAX_DISTRUSTED: usize = 10_000;

/// A chunk on its way from a neighbour; `None` if the store is to be asked.
pub type NeighbourCall = Pin<Box<dyn Future<Output = Option<Bytes>> + Send>>;

/// Processes that cache objects of the same store, each those that are nearest to it.
pub trait Neighbours: Send + Sync + 'static {
    /// Part `number` of an object of `size_bytes`, in parts of a mebibyte, from the neighbour that is
    /// nearest to it; see [`SharedBlobs::chunk`], by which that one answers. At once `None` if nobody is
    /// nearer than this process, and soon if the neighbour does not answer.
    fn chunk(&self, key: &str, size_bytes: u64, number: u32) -> NeighbourCall;
}

/// A shared store for whoever may block.
///
/// Every method waits on a runtime that others drive: call them from threads that may block, never
/// from a task of that runtime (tokio panics then rather than to stand still).
///
/// Objects have a key once and for all, so what is cached is right for as long as it is whole. A
/// blob that is deleted is not kept for those who have it open, as files are: whoever plans deletes
/// waits until no query can have it any more.
#[derive(Clone)]
pub struct SharedBlobs {
    store: Store,
    runtime: Handle,
    cache: Option<Arc<PageCache>>,
    /// Behind `cache`, which others have too.
    shared: Option<RedisCache>,
    stripes: Arc<[Mutex<()>; STRIPES]>,
    neighbours: Arc<OnceLock<Arc<dyn Neighbours>>>,
    /// Whose copies are not to be had from neighbours, until when.
    distrusted: Arc<Mutex<HashMap<[u8; 16], Instant>>>,
}

impl SharedBlobs {
    /// `runtime` must be driven by other threads than those that call.
    pub fn new(store: Store, runtime: Handle, cache: Option<Arc<PageCache>>) -> Self {
        let stripes = Arc::new([const { Mutex::new(()) }; STRIPES]);
        let (neighbours, distrusted) = (Arc::default(), Arc::default());
        SharedBlobs { store, runtime, cache, shared: None, stripes, neighbours, distrusted }
    }

    /// With a cache that others share, for what the one on the local disk does not have. Without that one it is
    /// of no use: small reads go to the store then.
    pub fn with_shared_cache(self, shared: RedisCache) -> Self {
        SharedBlobs { shared: Some(shared), ..self }
    }

    /// From now on, and for all clones, chunks that the cache does not have come from `neighbours` where
    /// they are nearer. Only the first call counts.
    pub fn set_neighbours(&self, neighbours: Arc<dyn Neighbours>) {
        let _ = self.neighbours.set(neighbours);
    }

    /// Part `number` of an object of `size_bytes`, in parts of a mebibyte, for a neighbour: from the cache or,
    /// through it, from the store, and from nobody else.
    ///
    /// # Errors
    /// As those of a read; `UnexpectedEof` if there is no such part.
    pub fn chunk(&self, key: &str, size_bytes: u64, number: u32) -> Result<Bytes, BlobError> {
        let blobs = self.alone();
        let blob =
            SharedBlob { object: self.object(key), key: key.to_owned(), size: size_bytes, blobs };
        let start = u64::from(number) * CHUNK_BYTES as u64;
        if start >= size_bytes {
            let source = std::io::ErrorKind::UnexpectedEof.into();
            return Err(BlobError::Io { action: "read", key: key.to_owned(), source });
        }
        let mut chunk = vec![0; blob.chunk_len(number)];
        blob.read_exact_at(start, &mut chunk)?;
        Ok(chunk.into())
    }

    /// As it is, but without neighbours.
    fn alone(&self) -> SharedBlobs {
        SharedBlobs { neighbours: Arc::default(), ..self.clone() }
    }

    /// Who may have chunks of an object, if anybody.
    fn neighbours_for(&self, object: [u8; 16]) -> Option<&Arc<dyn Neighbours>> {
        let neighbours = self.neighbours.get()?;
        let mut distrusted = self.distrusted.lock();
        // Fast path: nothing was ever damaged.
        if distrusted.is_empty() {
            return Some(neighbours);
        }
        distrusted.retain(|_, until| Instant::now() < *until);
        let may = distrusted.len() < MAX_DISTRUSTED && !distrusted.contains_key(&object);
        may.then_some(neighbours)
    }

    /// The name under which chunks of an object are cached.
    fn object(&self, key: &str) -> [u8; 16] {
        let mut hash = blake3::Hasher::new();
        // A cache that was used for another store has nothing of this one.
        hash.update(self.store.url().as_bytes()).update(&[0]).update(key.as_bytes());
        let mut object = [0; 16];
        object.copy_from_slice(&hash.finalize().as_bytes()[..16]);
        object
    }

    fn open_sized(&self, key: &str) -> Result<SharedBlob, BlobError> {
        let size = self.runtime.block_on(self.store.size(key));
        let size = size.map_err(|error| fault("open", key, error))?;
        Ok(SharedBlob { blobs: self.clone(), key: key.to_owned(), object: self.object(key), size })
    }
}

impl Blobs for SharedBlobs {
    fn create(&self, key: &str) -> Result<Box<dyn BlobWriter>, BlobError> {
        let (blobs, key) = (self.clone(), key.to_owned());
        Ok(Box::new(SharedWriter { blobs, key, gathered: Vec::new(), upload: None }))
    }

    fn open(&self, key: &str) -> Result<Arc<dyn ReadAt>, BlobError> {
        Ok(Arc::new(self.open_sized(key)?))
    }

    fn open_past_copies(&self, key: &str) -> Result<Arc<dyn ReadAt>, BlobError> {
        let blob = SharedBlobs { cache: None, shared: None, ..self.alone() }.open_sized(key)?;
        Ok(Arc::new(InStore { blob, held: Mutex::default() }))
    }

    fn forget_copies(&self, key: &str) {
        let object = self.object(key);
        if let Some(cache) = &self.cache {
            cache.forget_object(object);
        }
        self.distrusted.lock().insert(object, Instant::now() + DISTRUST);
        let Some(shared) = self.shared.clone() else { return };
        let (store, key) = (self.store.clone(), key.to_owned());
        self.runtime.spawn(async move {
            let size = store.size(&key).await.unwrap_or(0);
            let chunks = u32::try_from(size.div_ceil(CHUNK_BYTES as u64)).unwrap_or(u32::MAX);
            shared.forget(&key, chunks).await;
        });
    }

    fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>, BlobError> {
        // A store lists directories; a prefix may end within a name.
        let directory =
            prefix.rsplit_once('/').map_or(String::new(), |(above, _)| format!("{above}/"));
        let listed = self.runtime.block_on(self.store.list(&directory));
        let listed = listed.map_err(|error| fault("list", prefix, error))?;
        let below = listed.into_iter().filter(|info| info.key.starts_with(prefix));
        let info =
            |info: crate::ObjectInfo| BlobInfo { key: info.key, size_bytes: info.size_bytes };
        Ok(below.map(info).collect())
    }

    fn delete(&self, key: &str) -> Result<(), BlobError> {
        // What is cached of it is never asked for again, and goes when its place is needed.
        let deleted = self.runtime.block_on(self.store.delete(key));
        deleted.map_err(|error| fault("delete", key, error))
    }

    fn quarantine(&self, key: &str) -> Result<(), BlobError> {
        let blob = self.open_sized(key)?;
        let mut copy = self.create(&format!("quarantine/{key}"))?;
        let mut offset = 0;
        let part_bytes = PART_BYTES as u64;
        while offset < blob.size {
            let end = (offset + part_bytes).min(blob.size);
            // Past the cache: it is the store's bytes that are of interest.
            let part = self.runtime.block_on(self.store.get_range(key, offset..end));
            copy.write(&part.map_err(|error| fault("read", key, error))?)?;
            offset = end;
        }
        copy.finish()?;
        self.delete(key)
    }
}

/// Gathers parts; what fits into one is written with one request.
struct SharedWriter {
    blobs: SharedBlobs,
    key: String,
    gathered: Vec<u8>,
    upload: Option<Upload>,
}

impl SharedWriter {
    fn send_part(&mut self, part: Vec<u8>) -> Result<(), BlobError> {
        let SharedBlobs { store, runtime, .. } = &self.blobs;
        let failed = |error| fault("write", &self.key, error);
        let upload = match &mut self.upload {
            Some(upload) => upload,
            None => {
                let begun = runtime.block_on(store.upload(&self.key)).map_err(failed)?;
                self.upload.insert(begun)
            }
        };
        runtime.block_on(upload.part(Bytes::from(part))).map_err(failed)
    }
}

impl BlobWriter for SharedWriter {
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), BlobError> {
        while !bytes.is_empty() {
            let (taken, rest) = bytes.split_at(bytes.len().min(PART_BYTES - self.gathered.len()));
            self.gathered.extend_from_slice(taken);
            bytes = rest;
            if self.gathered.len() == PART_BYTES && !bytes.is_empty() {
                let part = std::mem::take(&mut self.gathered);
                self.send_part(part)?;
            }
        }
        Ok(())
    }

    fn position(&self) -> u64 {
        self.upload.as_ref().map_or(0, Upload::bytes) + self.gathered.len() as u64
    }

    fn finish(mut self: Box<Self>) -> Result<(), BlobError> {
        let last = std::mem::take(&mut self.gathered);
        let SharedBlobs { store, runtime, .. } = self.blobs.clone();
        let failed = |error| fault("write", &self.key, error);
        if self.upload.is_none() {
            return runtime.block_on(store.put(&self.key, last.into())).map_err(failed);
        }
        self.send_part(last)?;
        let upload = self.upload.take().expect("it was begun");
        runtime.block_on(upload.finish()).map_err(|error| fault("write", &self.key, error))
    }
}

impl Drop for SharedWriter {
    fn drop(&mut self) {
        if let Some(upload) = self.upload.take() {
            // It may take a while, and nobody waits for it.
            self.blobs.runtime.spawn(upload.abort());
        }
    }
}

/// A chunk that the cache did not have.
struct Fetched {
    chunk: Bytes,
    whose: Whose,
}

/// An object of known length.
struct SharedBlob {
    blobs: SharedBlobs,
    key: String,
    object: [u8; 16],
    size: u64,
}

impl SharedBlob {
    /// Length of a chunk that the object has.
    fn chunk_len(&self, number: u32) -> usize {
        let before = u64::from(number) * CHUNK_BYTES as u64;
        usize::try_from((self.size - before).min(CHUNK_BYTES as u64)).expect("a chunk is small")
    }

    /// From a neighbour that is nearer to it, or from what all share, or from the store.
    async fn fetch(&self, number: u32) -> Result<Fetched, StoreError> {
        let len = self.chunk_len(number);
        if let Some(neighbours) = self.blobs.neighbours_for(self.object) {
            let asked = neighbours.chunk(&self.key, self.size, number).await;
            // One that is cut is none; what is in it is checked by whoever decodes it.
            if let Some(chunk) = asked.filter(|chunk| chunk.len() == len) {
                return Ok(Fetched { chunk, whose: Whose::Neighbours });
            }
        }
        let shared = self.blobs.shared.as_ref();
        if let Some(shared) = shared
            && let Some(chunk) = shared.get(&self.key, number, len).await
        {
            return Ok(Fetched { chunk, whose: Whose::Own });
        }
        let start = u64::from(number) * CHUNK_BYTES as u64;
        let chunk = self.blobs.store.get_range(&self.key, start..start + len as u64).await?;
        if let Some(shared) = shared {
            shared.put_later(&self.key, number, chunk.clone());
        }
        Ok(Fetched { chunk, whose: Whose::Own })
    }

    /// The piece of one chunk that lies in a range, from the cache or, through it, from the store.
    fn read_chunk(
        &self,
        cache: &PageCache,
        number: u32,
        offset: usize,
        out: &mut [u8],
    ) -> Result<(), BlobError> {
        let id = ChunkId { object: self.object, number };
        let len = self.chunk_len(number);
        if cache.read(id, len, offset, out) {
            return Ok(());
        }
        let stripe = usize::from(self.object[0] ^ number.to_le_bytes()[0]) % STRIPES;
        let _alone = self.blobs.stripes[stripe].lock();
        // Another thread may have fetched it meanwhile.
        if cache.has(id) && cache.read(id, len, offset, out) {
            return Ok(());
        }
        let fetched = self.blobs.runtime.block_on(self.fetch(number));
        let Fetched { chunk, whose } = fetched.map_err(|error| fault("read", &self.key, error))?;
        out.copy_from_slice(&chunk[offset..offset + out.len()]);
        cache.add(id, &chunk, whose);
        Ok(())
    }

    /// Fetches what a large read needs, several chunks at once.
    fn fetch_ahead(
        &self,
        cache: &PageCache,
        numbers: std::ops::Range<u32>,
    ) -> Result<(), BlobError> {
        let id = |number| ChunkId { object: self.object, number };
        let missing: Vec<u32> = numbers.filter(|number| !cache.has(id(*number))).collect();
        if missing.len() < 2 {
            return Ok(());
        }
        let fetched = self.blobs.runtime.block_on(async {
            let fetches = missing.iter().map(|&number| async move {
                let chunk = self.fetch(number).await?;
                Ok::<_, StoreError>((number, chunk))
            });
            let fetches = stream::iter(fetches).buffer_unordered(FETCHES_AT_ONCE);
            fetches
                .try_for_each(|(number, Fetched { chunk, whose })| async move {
                    cache.add(id(number), &chunk, whose);
                    Ok(())
                })
                .await
        });
        fetched.map_err(|error| fault("read", &self.key, error))
    }
}

impl ReadAt for SharedBlob {
    fn size_bytes(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<(), BlobError> {
        let end = offset.saturating_add(out.len() as u64);
        if end > self.size {
            let source = std::io::ErrorKind::UnexpectedEof.into();
            return Err(BlobError::Io { action: "read", key: self.key.clone(), source });
        }
        let Some(cache) = &self.blobs.cache else {
            let read =
                self.blobs.runtime.block_on(self.blobs.store.get_range(&self.key, offset..end));
            out.copy_from_slice(&read.map_err(|error| fault("read", &self.key, error))?);
            return Ok(());
        };
        let chunk_bytes = CHUNK_BYTES as u64;
        let number = |at: u64| {
            u32::try_from(at).map_err(|_| BlobError::Io {
                action: "read",
                key: self.key.clone(),
                source: std::io::ErrorKind::FileTooLarge.into(),
            })
        };
        let numbers = number(offset / chunk_bytes)?..number(end.div_ceil(chunk_bytes))?;
        self.fetch_ahead(cache, numbers.clone())?;
        let mut rest = out;
        let mut at = offset;
        for number in numbers {
            if rest.is_empty() {
                break;
            }
            let inside = usize::try_from(at % chunk_bytes).expect("a chunk is small");
            let len = rest.len().min(self.chunk_len(number) - inside);
            let (piece, left) = rest.split_at_mut(len);
            self.read_chunk(cache, number, inside, piece)?;
            rest = left;
            at += len as u64;
        }
        Ok(())
    }
}

/// An object that is read as the store has it. Whoever reads all of it in small pieces asks for each chunk
/// once.
struct InStore {
    blob: SharedBlob,
    /// The chunks that were read last.
    held: Mutex<VecDeque<(u32, Bytes)>>,
}

/// How many are held: a merge reads at several places of a block side by side.
const HELD_CHUNKS: usize = 8;

impl InStore {
    fn chunk(&self, number: u32) -> Result<Bytes, BlobError> {
        let mut held = self.held.lock();
        if let Some(at) = held.iter().position(|(one, _)| *one == number) {
            let found = held.remove(at).expect("it was found there");
            let chunk = found.1.clone();
            held.push_back(found);
            return Ok(chunk);
        }
        let fetched = self.blob.blobs.runtime.block_on(self.blob.fetch(number));
        let chunk = fetched.map_err(|error| fault("read", &self.blob.key, error))?.chunk;
        while held.len() >= HELD_CHUNKS {
            held.pop_front();
        }
        held.push_back((number, chunk.clone()));
        Ok(chunk)
    }
}

impl ReadAt for InStore {
    fn size_bytes(&self) -> u64 {
        self.blob.size
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<(), BlobError> {
        let end = offset.saturating_add(out.len() as u64);
        let beyond = |kind: std::io::ErrorKind| {
            let (action, key, source) = ("read", self.blob.key.clone(), kind.into());
            BlobError::Io { action, key, source }
        };
        if end > self.blob.size {
            return Err(beyond(std::io::ErrorKind::UnexpectedEof));
        }
        let (mut at, mut rest) = (offset, out);
        while !rest.is_empty() {
            let number = u32::try_from(at / CHUNK_BYTES as u64)
                .map_err(|_| beyond(std::io::ErrorKind::FileTooLarge))?;
            let inside = usize::try_from(at % CHUNK_BYTES as u64).expect("a chunk is small");
            let len = rest.len().min(self.blob.chunk_len(number) - inside);
            let (piece, left) = rest.split_at_mut(len);
            piece.copy_from_slice(&self.chunk(number)?[inside..inside + len]);
            (at, rest) = (at + len as u64, left);
        }
        Ok(())
    }
}

/// In the words of the engines.
fn fault(action: &'static str, key: &str, error: StoreError) -> BlobError {
    let key = key.to_owned();
    match error {
        StoreError::NotFound { .. } => BlobError::NotFound { key },
        StoreError::Refused { refusal: Refusal::Full, .. } => BlobError::Full { key },
        StoreError::Damaged { why, .. } => BlobError::Damaged { key, why },
        error => BlobError::Unavailable { action, key, source: Box::new(error) },
    }
}
