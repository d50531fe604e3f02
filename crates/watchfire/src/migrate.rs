//! `watchfire migrate`: the data of one machine moves into a cluster, while both go on.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use blockstore::{FileDisk, OpenError};
use broker::{BlockMeta, Broker, BrokerConfig, StoreCopy};
use bytes::Bytes;
use clap::Args;
use http::StatusCode;
use model::TenantName;
use net::auth::LocalAccess;
use objects::{PART_BYTES, Store, StoreOptions, StoreUrl};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::about::now_ms;
use crate::http_client::{Credentials, HttpClient, ServerArguments};
use crate::progress::{Progress, short};
use crate::waiting::Waiting;

/// What moves, and where to.
#[derive(Debug, Args)]
pub(crate) struct MigrateArguments {
    /// Data directory of the one machine, which may go on running: file:///DIR or DIR
    #[arg(long, value_name = "URL", value_parser = directory)]
    from: PathBuf,

    /// The store of the cluster, as its brokers are given it with --store
    #[arg(long, value_name = "URL")]
    to: String,

    /// The store may lose what it confirmed, as for the brokers
    #[arg(long)]
    accept_weaker_durability: bool,

    #[command(flatten)]
    cluster: ServerArguments,

    /// Say what would move, and move nothing
    #[arg(long)]
    dry_run: bool,
}

/// What to show below the help.
pub(crate) const EXAMPLES: &str = "\
Run it on the machine whose data moves, as the user who owns that. --url is a broker of the cluster, and
the token one of scope admin there: `watchfire token create --scope admin`.

Examples:
  watchfire migrate --dry-run --from file:///var/lib/watchfire --to s3://BUCKET/PREFIX \\
      --url https://broker-1.example.com:9595 --token-file admin.token
      how much there is
  watchfire migrate --from file:///var/lib/watchfire --to s3://BUCKET/PREFIX \\
      --url https://broker-1.example.com:9595 --token-file admin.token
      moves all of it; writes and queries go on at both

Then send writes to the cluster instead, and run the same once more: it moves what came meanwhile. What
moved before is recognised, so that one that broke off can be run again. The data stays where it was, too.";

/// Much memory takes its time to be written.
const TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// Deletes that come while the copy is made make another one necessary.
const COPIES: u32 = 3;
/// Another id is taken if the cluster refuses a block's: it may have been reserved for too long.
const IDS: u32 = 3;
/// What moves beside the blocks: types and help texts, saved views, pushed groups.
const KEYS: [&str; 3] = ["metadata/", "views/", "pushgateway/"];

fn directory(text: &str) -> Result<PathBuf, String> {
    let path = match text.split_once("://") {
        None => text,
        Some(("file", path)) => path,
        Some(_) => return Err("only the data of one machine moves: file:///DIR".to_owned()),
    };
    Ok(PathBuf::from(path))
}

/// Moves, and says what it does on standard error.
pub(crate) fn run(arguments: &MigrateArguments) -> Result<()> {
    let from = &arguments.from;
    ensure!(
        from.join("log").is_dir(),
        "{} is no data directory of one machine: give the one that `watchfire --data` was started with",
        from.display()
    );
    let mut client = arguments.cluster.client()?.with_answer_timeout(TIMEOUT);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let store = runtime.block_on(open_store(arguments))?;
    // Before anything is copied: it may be the wrong server.
    let probe = "/api/v1/admin/blocks?source=none";
    client.get(probe)?.success().with_context(|| client.url(probe))?;
    let copied = Copied::make(from)?;
    let moved = Move { client, runtime, store, copied };
    moved.run(arguments.dry_run)
}

async fn open_store(arguments: &MigrateArguments) -> Result<Store> {
    let url = StoreUrl::parse(&arguments.to).context("--to")?;
    let options = StoreOptions {
        accept_weaker_durability: arguments.accept_weaker_durability,
        ..StoreOptions::truth()
    };
    let cannot = || format!("the store {url} cannot be used");
    let store = Store::open(&url, options).await.with_context(cannot)?;
    let clusters = store.list("cluster/").await.with_context(cannot)?;
    ensure!(
        !clusters.is_empty(),
        "there is no cluster in {url}: found it first with `watchfire broker --store`, in the same prefix"
    );
    Ok(store)
}

/// A copy of the one machine's data, made for this move and removed after it.
struct Copied {
    directory: PathBuf,
    copy: StoreCopy,
}

impl Copied {
    /// Has the copy made by the server that uses the directory, or here if none does.
    fn make(from: &Path) -> Result<Copied> {
        let mut maker = Maker::of(from)?;
        for _ in 0..COPIES {
            let waiting = Waiting::begin("writing what is in memory into blocks, and linking them");
            let name = maker.copy();
            drop(waiting);
            let directory = from.join("snapshots").join(name?);
            let copy = StoreCopy::open(&directory).context("read the copy")?;
            let copied = Copied { directory, copy };
            if !copied.copy.has_deletes() {
                return Ok(copied);
            }
            let waiting = Waiting::begin("writing blocks anew without what is deleted");
            let cleaned = maker.clean();
            drop(waiting);
            cleaned?;
        }
        bail!(
            "something was deleted each time while the copy was made: wait until deleting is over, and \
             run this again"
        )
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            eprintln!("the copy {} stays: {error}; remove it", self.directory.display());
        }
    }
}

/// Who can make a copy.
enum Maker {
    /// The server whose directory it is.
    Server(Box<HttpClient>),
    /// Nobody uses the directory: a broker without a socket.
    Here(Broker),
}

impl Maker {
    fn of(from: &Path) -> Result<Maker> {
        match FileDisk::open(from) {
            Ok(unlocked) => drop(unlocked),
            Err(OpenError::Locked { .. }) => {
                let access = LocalAccess::read(from).context("find the server that uses --from")?;
                let token = Credentials::Bearer(access.token().clone());
                let client = HttpClient::new(access.url(), &token)?.with_answer_timeout(TIMEOUT);
                return Ok(Maker::Server(Box::new(client)));
            }
            Err(error) => return Err(error).context("open --from"),
        }
        let config = BrokerConfig::new(from.to_owned(), now_ms);
        let broker = Broker::open(config, std::sync::Arc::default()).context("open --from")?;
        Ok(Maker::Here(broker))
    }

    fn copy(&mut self) -> Result<String> {
        match self {
            Maker::Server(client) => {
                let path = "/api/v1/admin/tsdb/snapshot";
                let told = data_of(client.post_form(path, &[])?.success()?)?;
                let name = told["name"].as_str().context("the server names no copy")?;
                Ok(name.to_owned())
            }
            Maker::Here(broker) => {
                let name = format!("migrate-{}", now_ms());
                broker.snapshot(&name, true).context("make a copy")?;
                Ok(name)
            }
        }
    }

    fn clean(&mut self) -> Result<()> {
        match self {
            Maker::Server(client) => {
                client.post_form("/api/v1/admin/tsdb/clean_tombstones", &[])?.success()?;
            }
            Maker::Here(broker) => broker.clean_deleted().context("remove what is deleted")?,
        }
        Ok(())
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        if let Maker::Here(broker) = self {
            broker.stop();
        }
    }
}

/// Everything that a move needs.
struct Move {
    client: HttpClient,
    runtime: Runtime,
    store: Store,
    copied: Copied,
}

impl Move {
    fn run(mut self, dry_run: bool) -> Result<()> {
        let started = Instant::now();
        let source = self.copied.copy.store().to_string();
        let known = self.known(&source)?;
        let blocks = self.copied.copy.blocks();
        let (left, here): (Vec<_>, Vec<_>) =
            blocks.into_iter().partition(|(meta, _)| !known.contains(&meta.id.0));
        let keys: Vec<_> = KEYS.iter().flat_map(|prefix| self.copied.copy.keys(prefix)).collect();
        let bytes: u64 = left.iter().map(|(meta, _)| meta.size_bytes).sum();
        let samples: u64 = left.iter().map(|(meta, _)| meta.rows).sum();
        eprintln!(
            "{} blocks with {} samples and {} bytes, and {} keys, to {}",
            left.len(),
            short(samples as f64),
            short(bytes as f64),
            keys.len(),
            self.store.url()
        );
        if !here.is_empty() {
            eprintln!("{} more blocks are there already", here.len());
        }
        let quarantined = self.copied.copy.quarantined();
        if quarantined > 0 {
            eprintln!("{quarantined} blocks are damaged and in quarantine: they do not move");
        }
        if dry_run {
            eprintln!("--dry-run: nothing moves");
            return Ok(());
        }
        let mut progress = Progress::new(bytes, "bytes");
        for (meta, tenant) in left {
            let moved = self.move_block(&source, &meta, tenant, &mut progress);
            moved.with_context(|| {
                progress.clear();
                format!("move block {}; what moved before counts, run this again", meta.id)
            })?;
        }
        progress.clear();
        let mut new_keys = 0;
        let mut progress = Progress::new(keys.len() as u64, "keys");
        for (key, value) in keys {
            new_keys += u64::from(self.move_key(&key, &value).with_context(|| {
                progress.clear();
                format!("move the key {key}")
            })?);
            progress.add(1);
        }
        progress.clear();
        eprintln!(
            "moved in {:.1} s: {} samples can be asked for in the cluster, {new_keys} keys are new there. \
             What has come to the one machine since is not among them: send writes to the cluster, then \
             run this once more",
            started.elapsed().as_secs_f64(),
            short(samples as f64)
        );
        Ok(())
    }

    /// Blocks of the store that the cluster has.
    fn known(&mut self, source: &str) -> Result<BTreeSet<u64>> {
        let path = format!("/api/v1/admin/blocks?source={source}");
        let told = data_of(self.client.get(&path)?.success()?)?;
        let ids = told["blocks"].as_array().context("the cluster lists no blocks")?;
        Ok(ids.iter().filter_map(Value::as_u64).collect())
    }

    fn move_block(
        &mut self,
        source: &str,
        meta: &BlockMeta,
        tenant: Option<TenantName>,
        progress: &mut Progress,
    ) -> Result<()> {
        let tenant = tenant.with_context(|| {
            format!("the name of its tenant, number {}, was lost", meta.tenant.0)
        })?;
        let path = self.copied.directory.join(meta.key());
        for attempt in 1.. {
            let told = self.client.post_form("/api/v1/admin/blocks/reserve", &[])?.success()?;
            let told = data_of(told)?;
            let (id, key) = (told["id"].as_u64(), told["key"].as_str());
            let (id, key) = id.zip(key).context("the cluster reserves no id")?;
            self.runtime.block_on(upload(&self.store, key, &path, progress))?;
            let answer = self.client.post_json(
                "/api/v1/admin/blocks",
                &json!({
                    "source": source,
                    "source_id": meta.id.0,
                    "id": id,
                    "tenant": tenant.as_str(),
                    "start_ms": meta.range.start_ms,
                    "end_ms": meta.range.end_ms,
                    "rows": meta.rows,
                    "series": meta.series,
                    "size_bytes": meta.size_bytes,
                    "level": meta.level,
                }),
            )?;
            if answer.status == StatusCode::CONFLICT {
                // Another move was faster.
                self.runtime.block_on(self.store.delete(key))?;
                return Ok(());
            }
            // Anything else than a clear no may mean that the block counts by now.
            let is_no = answer.status == StatusCode::BAD_REQUEST;
            match answer.success() {
                Ok(_) => return Ok(()),
                Err(error) if !is_no => return Err(error),
                Err(error) => {
                    self.runtime.block_on(self.store.delete(key))?;
                    if attempt == IDS {
                        return Err(error);
                    }
                }
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Whether the key was not there.
    fn move_key(&mut self, key: &str, value: &[u8]) -> Result<bool> {
        // Metadata is kept by the number of a tenant, which differs from store to store.
        let number = key.strip_prefix("metadata/").and_then(|rest| rest.split_once('/'));
        let number = number.and_then(|(number, _)| number.parse().ok()).map(model::TenantId);
        let tenant = number.and_then(|id| self.copied.copy.tenant_name(id));
        let body = json!({
            "key": key,
            "tenant": tenant.map(|name| name.as_str().to_owned()),
            "value": base64::engine::general_purpose::STANDARD.encode(value),
        });
        let answer = self.client.post_json("/api/v1/admin/keys", &body)?.success()?;
        Ok(data_of(answer)?["new"].as_bool().unwrap_or_default())
    }
}

/// What an answer says.
fn data_of(answer: crate::http_client::Answer) -> Result<Value> {
    let mut told: Value =
        serde_json::from_slice(&answer.body).context("the answer is not what was asked for")?;
    Ok(told["data"].take())
}

/// Writes a file into the store, part by part.
async fn upload(store: &Store, key: &str, path: &Path, progress: &mut Progress) -> Result<()> {
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut part = || -> Result<Bytes> {
        let mut bytes = Vec::with_capacity(PART_BYTES);
        file.by_ref().take(PART_BYTES as u64).read_to_end(&mut bytes).context("read the block")?;
        Ok(bytes.into())
    };
    let first = part()?;
    if first.len() < PART_BYTES {
        progress.add(first.len() as u64);
        return Ok(store.put(key, first).await?);
    }
    let mut upload = store.upload(key).await?;
    let mut bytes = first;
    loop {
        let length = bytes.len();
        if let Err(error) = upload.part(bytes).await {
            upload.abort().await;
            return Err(error.into());
        }
        progress.add(length as u64);
        bytes = if length < PART_BYTES { Bytes::new() } else { part()? };
        if bytes.is_empty() {
            return Ok(upload.finish().await?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_move() {
        assert_eq!(directory("file:///var/lib/watchfire"), Ok("/var/lib/watchfire".into()));
        assert_eq!(directory("watchfire-data"), Ok("watchfire-data".into()));
        assert!(directory("s3://bucket/prefix").is_err());
    }
}
