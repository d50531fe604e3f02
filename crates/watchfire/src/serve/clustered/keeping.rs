//! Objects in a store that forgets what is old: Redis.
//!
//! Redis gets an expiry with each object, so that nothing stays for ever of a cluster that is gone. While the
//! cluster lives, what counts is renewed every hour: only the catalog says when something has to go, and an
//! expiry of a shorter retention does not outlive the start that makes it longer.

use std::time::Duration;

use anyhow::{Result, bail};
use broker::cluster::tiers::mark_of;
use catalog::{State, segment_key};
use consensus::Consensus;
use objects::{ObjectInfo, Store, StoreError};
use tokio::task::JoinSet;

use super::store::{CLUSTERS, Stores};

const EVERY: Duration = Duration::from_secs(60 * 60);
/// What a start writes itself is there by then.
const FIRST: Duration = Duration::from_secs(60);
/// Objects that are renewed at once.
const AT_ONCE: usize = 8;

/// Keeps what counts, for ever. Names are every broker's to renew, objects the leader's.
pub(super) async fn keep(stores: Stores, cluster: String, consensus: Consensus) {
    let all = [Some(&stores.blocks), stores.segments.as_ref()];
    if !all.iter().flatten().any(|store| store.forgets()) {
        return;
    }
    tokio::time::sleep(FIRST).await;
    loop {
        for store in all.iter().flatten().filter(|store| store.forgets()) {
            if let Err(error) = renew_names(store, &cluster).await {
                let (store, error) = (store.url(), format!("{error:#}"));
                tracing::warn!(
                    store,
                    error,
                    "the name of the cluster in the store is not renewed now"
                );
            }
        }
        let status = consensus.status();
        if status.leader == Some(status.id) {
            let (blocks, segments) = consensus.read(|state| (blocks(state), segments(state)));
            renew_all(&stores.blocks, blocks).await;
            renew_all(stores.segments.as_ref().unwrap_or(&stores.blocks), segments).await;
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Writes the names of the cluster anew as they are.
async fn renew_names(store: &Store, cluster: &str) -> Result<()> {
    let found = store.list(CLUSTERS).await?;
    let is_own = |key: &str| mark_of(key).is_some_and(|(id, _)| id == cluster);
    let own: Vec<&ObjectInfo> = found.iter().filter(|object| is_own(&object.key)).collect();
    if own.is_empty() {
        bail!("it is gone: somebody has emptied the store, and what was there alone is lost");
    }
    for object in own {
        store.renew(&object.key).await?;
    }
    Ok(())
}

/// Also those that are set aside: somebody may restore them.
fn blocks(state: &State) -> Vec<String> {
    let all = state.blocks().chain(state.quarantined());
    all.map(catalog::BlockMeta::key).collect()
}

/// Also those that could not be read.
fn segments(state: &State) -> Vec<String> {
    let listed = state.brokers().flat_map(|(id, broker)| {
        broker.segments.iter().map(move |(seq, segment)| segment_key(id, segment.epoch, *seq))
    });
    let unread = state.unread_segments();
    listed.chain(unread.map(|(id, seq, segment)| segment_key(id, segment.epoch, seq))).collect()
}

async fn renew_all(store: &Store, keys: Vec<String>) {
    if !store.forgets() {
        return;
    }
    let mut failed = Vec::new();
    for keys in keys.chunks(AT_ONCE) {
        let mut renewing = JoinSet::new();
        for key in keys {
            let (store, key) = (store.clone(), key.clone());
            renewing.spawn(async move { store.renew(&key).await.err() });
        }
        failed.extend(renewing.join_all().await.into_iter().flatten());
    }
    // Some were flushed or merged meanwhile, and removed.
    if let Some(error) = failed.iter().find(|error| !matches!(error, StoreError::NotFound { .. })) {
        let store = store.url();
        tracing::warn!(store, objects = failed.len(), %error,
            "objects are not kept longer for now: it is tried again within an hour");
    }
}
