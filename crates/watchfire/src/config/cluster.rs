//! What makes a broker one of a cluster.

use anyhow::Result;
use objects::StoreUrl;
use settings::Secret;

use super::keys;
use crate::cli::ClusterArguments;

/// Blocks of the shared store that are kept on the local disk, unless told otherwise.
const DEFAULT_CACHE_BYTES: u64 = 8 << 30;

/// In the place of a URL of the segments' store: none.
pub(crate) const WITH_BLOCKS: &str = "blocks";
/// In the place of the URL of a former one: what was in it is gone.
pub(crate) const LOST: &str = "lost";

/// The stores that the file names.
pub(super) struct Stores {
    pub(super) blocks: Option<String>,
    pub(super) segments: Option<String>,
}

/// How a broker is one of a cluster. Whether it is one, the store's URL or its data directory says.
#[derive(Debug, Clone)]
pub(crate) struct ClusterSettings {
    /// Where segments and blocks lie; shown without its secrets only.
    pub(crate) store: Option<Secret>,
    /// Where segments lie instead, [`WITH_BLOCKS`] for nowhere else.
    pub(crate) store_segments: Option<Secret>,
    /// Where they lay before, [`LOST`] if that cannot be read.
    pub(crate) former_store_segments: Option<Secret>,
    /// Brokers of the cluster to join, `HOST:PORT`; none where this one founds it.
    pub(crate) join: Vec<String>,
    pub(crate) join_token: Option<Secret>,
    /// Its name in the cluster.
    pub(crate) name: String,
    /// The failure domain it stands in, if one is named.
    pub(crate) zone: Option<String>,
    /// Where others reach its peer port, if that is not where it listens.
    pub(crate) advertise: Option<String>,
    pub(crate) accept_weaker_durability: bool,
    /// A Redis that keeps chunks of blocks for all brokers.
    pub(crate) cache: Option<Secret>,
    /// Of the cache on the local disk; 0 for none.
    pub(crate) cache_bytes: u64,
    /// Whether blocks that other brokers are nearer to are read through their caches.
    pub(crate) share_cache: bool,
    /// Whether other brokers compute parts of this one's queries, and this one of theirs.
    pub(crate) spread_queries: bool,
    /// Version of what the cluster keeps that is to be changed to what this broker is told to keep.
    pub(crate) change_kept: Option<u64>,
}

/// `host` is the name of this one, where no other is given.
pub(super) fn settings(
    keys: &keys::Cluster,
    stores: Stores,
    arguments: &ClusterArguments,
    host: &str,
) -> Result<ClusterSettings> {
    let given = |flag: &Option<String>, key: &Option<String>| flag.clone().or_else(|| key.clone());
    let store = url(("--store", &arguments.store), ("storage.store", stores.blocks), None)?;
    let store_segments = url(
        ("--store-segments", &arguments.store_segments),
        ("storage.store_segments", stores.segments),
        Some(WITH_BLOCKS),
    )?;
    let former = ("--former-store-segments", &arguments.former_store_segments);
    let former_store_segments = url(former, ("", None), Some(LOST))?;
    let (from, join) = match arguments.join.is_empty() {
        false => ("--join", arguments.join.clone()),
        true => ("cluster.join", keys.join.clone()),
    };
    let advertise = given(&arguments.advertise, &keys.advertise);
    let cache = url(("--cache", &arguments.cache), ("cluster.cache", keys.cache.clone()), None)?;
    for (key, address) in join
        .iter()
        .map(|address| (from, address))
        .chain(advertise.iter().map(|a| ("cluster.advertise", a)))
    {
        crate::cli::host_and_port(address)
            .map_err(|why| anyhow::anyhow!("{key}: {address:?}: {why}"))?;
    }
    Ok(ClusterSettings {
        store: store.map(Secret::new),
        store_segments: store_segments.map(Secret::new),
        former_store_segments: former_store_segments.map(Secret::new),
        join,
        join_token: arguments.join_token.clone().map(Secret::new),
        name: given(&arguments.name, &keys.name).unwrap_or_else(|| host.to_owned()),
        zone: given(&arguments.zone, &keys.zone),
        advertise,
        accept_weaker_durability: arguments.accept_weaker_durability
            || keys.accept_weaker_durability.unwrap_or(false),
        cache: cache.map(Secret::new),
        cache_bytes: keys.cache_bytes.unwrap_or(DEFAULT_CACHE_BYTES),
        share_cache: keys.share_cache.unwrap_or(false),
        spread_queries: keys.spread_queries.unwrap_or(true),
        change_kept: arguments.change_kept,
    })
}

/// The URL of a store from a flag or, without one, a key; or the word that may stand for it.
fn url(
    flag: (&str, &Option<String>),
    key: (&str, Option<String>),
    word: Option<&str>,
) -> Result<Option<String>> {
    let (from, url) = match flag.1 {
        Some(url) => (flag.0, Some(url.clone())),
        None => key,
    };
    if let Some(url) = url.as_deref().filter(|url| Some(*url) != word) {
        StoreUrl::parse(url).map_err(|error| anyhow::anyhow!("{from}: {error}"))?;
    }
    Ok(url)
}
