//! What every store has to do, whichever it is. Used by the tests of the crate `objects` too.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use blockstore::{Blobs, MemoryDisk};
use objects::{Operation, PART_BYTES, PageCache, SharedBlobs, Store, StoreError};

/// More objects than a page of a listing of S3 has.
const MANY: usize = 1_050;

/// Runs the whole suite on an empty store, and leaves it empty.
pub(crate) async fn check(store: &Store) -> Result<()> {
    store.probe("before").await?;
    objects_are_written_read_and_removed(store).await?;
    ranges_are_exact(store).await?;
    listings_are_complete_and_in_order(store).await?;
    uploads_appear_when_they_are_finished(store).await?;
    limits_are_told(store).await?;
    the_engines_see_the_same(store).await?;
    store.probe("after").await?;
    let left = store.list("").await?;
    ensure!(left.is_empty(), "something is left: {left:?}");
    Ok(())
}

/// Bytes that are like no others.
pub(crate) fn body(seed: usize, len: usize) -> Vec<u8> {
    let mut state = seed as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn is_missing<T>(found: &Result<T, StoreError>) -> bool {
    matches!(found, Err(StoreError::NotFound { .. }))
}

async fn objects_are_written_read_and_removed(store: &Store) -> Result<()> {
    let key = "tenant=1/seg-0.wf";
    ensure!(is_missing(&store.get(key).await) && is_missing(&store.size(key).await));
    ensure!(is_missing(&store.get_range(key, 0..1).await));
    store.delete(key).await?;
    for len in [0, 1, 100_000, (3 << 20) + 17] {
        let written = body(len, len);
        store.put(key, written.clone().into()).await?;
        ensure!(store.get(key).await? == written, "{len} bytes are other ones");
        ensure!(store.size(key).await? == len as u64, "{len} bytes have another length");
        // As a further attempt does whose first one was served.
        store.put(key, written.clone().into()).await?;
        ensure!(store.get(key).await? == written, "{len} bytes, twice, are other ones");
        store.delete(key).await?;
        store.delete(key).await?;
        ensure!(is_missing(&store.get(key).await), "{len} bytes stay");
    }
    Ok(())
}

async fn ranges_are_exact(store: &Store) -> Result<()> {
    let len = (2 << 20) + 99;
    let written = body(7, len);
    store.put("ranges/a", written.clone().into()).await?;
    for range in [0..1, 0..len, len - 1..len, 5..5, (1 << 20) - 3..(1 << 20) + 3, 17..2_000_017] {
        let found = store.get_range("ranges/a", range.start as u64..range.end as u64).await?;
        ensure!(found == written[range.clone()], "{range:?} are other bytes");
    }
    for range in [len as u64 - 1..len as u64 + 1, 0..len as u64 + 1, 9 << 20..10 << 20] {
        let found = store.get_range("ranges/a", range.clone()).await;
        ensure!(matches!(found, Err(StoreError::Damaged { .. })), "{range:?}: {found:?}");
    }
    store.delete("ranges/a").await?;
    Ok(())
}

async fn listings_are_complete_and_in_order(store: &Store) -> Result<()> {
    ensure!(store.list("nothing/").await?.is_empty());
    let mut keys: Vec<String> = (0..MANY).map(|n| format!("list/a/{n:05}")).collect();
    keys.extend(["list/a0", "list/b/c/d", "list/ab/e"].map(str::to_owned));
    for group in keys.chunks(32) {
        let puts = group.iter().map(|key| store.put(key, body(1, key.len()).into()));
        futures_util::future::try_join_all(puts).await?;
    }
    keys.sort_unstable();
    for prefix in ["list/", "list/a/", "list/b/c/", "list/ab/"] {
        let found = store.list(prefix).await?;
        let found: Vec<(&str, u64)> =
            found.iter().map(|info| (info.key.as_str(), info.size_bytes)).collect();
        let wanted: Vec<(&str, u64)> = keys
            .iter()
            .filter(|key| key.starts_with(prefix))
            .map(|key| (key.as_str(), key.len() as u64))
            .collect();
        ensure!(found == wanted, "{prefix}: {} instead of {}", found.len(), wanted.len());
    }
    for group in keys.chunks(32) {
        futures_util::future::try_join_all(group.iter().map(|key| store.delete(key))).await?;
    }
    ensure!(store.list("list/").await?.is_empty());
    Ok(())
}

async fn uploads_appear_when_they_are_finished(store: &Store) -> Result<()> {
    for (number, last) in [5, PART_BYTES, 0].into_iter().enumerate() {
        let key = format!("uploads/{number}");
        let whole = body(number, 2 * PART_BYTES + last);
        let mut upload = store.upload(&key).await?;
        for part in whole.chunks(PART_BYTES) {
            ensure!(is_missing(&store.size(&key).await), "an upload is seen before its end");
            upload.part(part.to_vec().into()).await?;
        }
        ensure!(upload.bytes() == whole.len() as u64);
        upload.finish().await?;
        ensure!(store.get(&key).await? == whole, "an upload of {} bytes is other", whole.len());
        store.delete(&key).await?;
    }
    let mut upload = store.upload("uploads/none").await?;
    upload.part(body(3, PART_BYTES).into()).await?;
    upload.abort().await;
    ensure!(is_missing(&store.get("uploads/none").await), "an upload that was given up is seen");
    Ok(())
}

async fn limits_are_told(store: &Store) -> Result<()> {
    let limit = usize::try_from(store.max_object_bytes())?;
    match store.put("limits/a", vec![0; limit + 1].into()).await {
        Err(StoreError::TooLarge { .. }) => {}
        other => bail!("an object above the limit: {other:?}"),
    }
    // An object that came in parts can be larger than what is read in one piece.
    let mut upload = store.upload("limits/b").await?;
    for _ in 0..=limit / PART_BYTES {
        upload.part(vec![1; PART_BYTES].into()).await?;
    }
    upload.finish().await?;
    match store.get("limits/b").await {
        Err(StoreError::TooLarge { .. }) => {}
        other => bail!("an object above the limit: {:?}", other.map(|bytes| bytes.len())),
    }
    let end = (limit + PART_BYTES - limit % PART_BYTES) as u64;
    ensure!(store.get_range("limits/b", end - 9..end).await? == [1; 9][..]);
    store.delete("limits/b").await?;
    Ok(())
}

/// Blobs over the store, with a cache on a disk in memory.
async fn the_engines_see_the_same(store: &Store) -> Result<()> {
    let (runtime, store) = (tokio::runtime::Handle::current(), store.clone());
    let work = move || -> Result<()> {
        let disk = MemoryDisk::new();
        let open_cache = || PageCache::open(Arc::new(disk.clone()), 64 << 20).map(Arc::new);
        let cache = open_cache()?;
        let cached = SharedBlobs::new(store.clone(), runtime.clone(), Some(Arc::clone(&cache)));
        let bare = SharedBlobs::new(store.clone(), runtime.clone(), None);
        for len in [0, 5, (1 << 20) + 1, 2 * PART_BYTES + 12_345, 2 * PART_BYTES] {
            let whole = body(len, len);
            let mut writer = cached.create("blobs/x/1")?;
            for piece in whole.chunks(300_007) {
                writer.write(piece)?;
            }
            ensure!(writer.position() == len as u64);
            let before = cached.open("blobs/x/1");
            ensure!(matches!(before, Err(blockstore::BlobError::NotFound { .. })));
            writer.finish()?;
            for blobs in [&cached, &bare] {
                let blob = blobs.open("blobs/x/1")?;
                ensure!(blob.size_bytes() == len as u64);
                for (offset, size) in [(0, len), (len / 3, len / 2), (len.saturating_sub(9), 9)] {
                    let mut out = vec![0; size.min(len - offset)];
                    blob.read_exact_at(offset as u64, &mut out)?;
                    ensure!(out == whole[offset..offset + out.len()], "{offset} {size} of {len}");
                }
                ensure!(blob.read_exact_at(len as u64, &mut [0]).is_err());
            }
            // What was read once is read from the disk, also by the next process.
            let asked = store.counters().requests(Operation::GetRange);
            let again = SharedBlobs::new(store.clone(), runtime.clone(), Some(open_cache()?));
            for blobs in [&cached, &again] {
                let mut out = vec![0; len];
                blobs.open("blobs/x/1")?.read_exact_at(0, &mut out)?;
                ensure!(out == whole, "{len} bytes from the cache are other ones");
            }
            ensure!(store.counters().requests(Operation::GetRange) == asked, "{len}: asked again");
            // Objects have a key once and for all; this test does not keep to it.
            drop((cached.delete("blobs/x/1")?, again));
            for file in blockstore::Disk::list(&disk, "")? {
                disk.damage(&file.key, |bytes| bytes[40] ^= 1);
            }
        }
        let mut dropped = cached.create("blobs/x/2")?;
        dropped.write(&body(1, PART_BYTES + 1))?;
        drop(dropped);
        let mut writer = cached.create("blobs/y")?;
        writer.write(b"to look at")?;
        writer.finish()?;
        let listed: Vec<String> = cached.list("blobs/")?.into_iter().map(|info| info.key).collect();
        ensure!(listed == ["blobs/y"], "{listed:?}");
        cached.quarantine("blobs/y")?;
        ensure!(cached.list("blobs/")?.is_empty());
        ensure!(cached.list("quarantine/blo")?.len() == 1, "a part of a name is a prefix too");
        cached.delete("quarantine/blobs/y")?;
        Ok(())
    };
    tokio::task::spawn_blocking(work).await?
}
