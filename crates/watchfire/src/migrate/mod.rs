//! `watchfire migrate`: the data of one machine moves into a cluster, while both go on.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use broker::{BlockMeta, Signal};
use bytes::Bytes;
use clap::Args;
use http::StatusCode;
use model::TenantName;
use objects::{PART_BYTES, Store, StoreError, StoreOptions, StoreUrl};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use self::copied::{Copied, OnlyOne, TIMEOUT};
use self::interrupt::Interrupt;
use self::words::{Aged, Words};
use crate::about::now_ms;
use crate::http_client::{Answer, HttpClient, ServerArguments};
use crate::language::Language;
use crate::progress::{Progress, short};

mod copied;
mod interrupt;
mod words;

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

    /// Go on although some of it is older than the cluster keeps: what it would remove at once stays behind
    #[arg(long)]
    allow_expired: bool,

    /// Go on although something was deleted at the machine or in the cluster since the first run, which may
    /// be back after it: delete them again in the cluster then
    #[arg(long)]
    deleted_again: bool,

    /// No more runs follow: the cluster need not remember any longer what is deleted there meanwhile
    #[arg(long)]
    last: bool,

    /// Language [default: as in LC_ALL, LC_MESSAGES or LANG]
    #[arg(long, value_enum)]
    lang: Option<Language>,
}

/// What to show below the help.
pub(crate) const EXAMPLES: &str = "\
Run it on the machine whose data moves, as root beside its server. If the server is stopped, as the user
who owns the data. --url is a broker of the cluster, and the token one of scope admin there:
`watchfire token create --scope admin`.

Examples:
  watchfire migrate --dry-run --from file:///var/lib/watchfire --to s3://BUCKET/PREFIX \\
      --url https://broker-1.example.com:9595 --token-file admin.token
      how much there is, and what of it is older than the cluster keeps
  watchfire migrate --from file:///var/lib/watchfire --to s3://BUCKET/PREFIX \\
      --url https://broker-1.example.com:9595 --token-file admin.token
      moves all of it; writes and queries go on at both

Then send writes to the cluster instead, and run the same once more with --last: it moves what came
meanwhile. What moved before is recognised, so that one that broke off can be run again. The data stays
where it was, too.";

/// Another id is taken if the cluster refuses a block's: it may have been reserved for too long.
const IDS: u32 = 3;
/// The least time that the cluster keeps an id, and the objects below it, without hearing of them again.
const ID_KEPT: Duration = Duration::from_secs(60 * 60);
/// How often a broker is asked again that did not answer, or cannot now …
const ASKED_AGAIN: u32 = 12;
/// … and after what time.
const PAUSE: Duration = Duration::from_secs(5);
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
    let words = Words(arguments.lang.unwrap_or_else(Language::of_environment));
    let from = &arguments.from;
    ensure!(from.join("log").is_dir(), words.not_one_machine(from));
    let client = arguments.cluster.client()?.with_answer_timeout(TIMEOUT);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let interrupt = Interrupt::listen(&runtime, words)?;
    // Before anything is copied: it may be the wrong server.
    let mut cluster = Cluster { client };
    let known = cluster.known("none")?;
    let store = runtime.block_on(open_store(arguments, &known.cluster, words))?;
    let _only_one = OnlyOne::in_directory(from, words)?;
    let copied = Copied::make(from, arguments.dry_run, &interrupt, words)?;
    let source = copied.copy.store().to_string();
    let moving = Move { cluster, source, runtime, store, copied, interrupt, words };
    moving.run(arguments)
}

/// Opens the store, which must be the one of that cluster: ids of blocks are small numbers, and those of
/// another one have theirs below the same names.
async fn open_store(arguments: &MigrateArguments, cluster: &str, words: Words) -> Result<Store> {
    let url = StoreUrl::parse(&arguments.to).context("--to")?;
    let options = StoreOptions {
        accept_weaker_durability: arguments.accept_weaker_durability,
        ..StoreOptions::truth()
    };
    let cannot = || format!("the store {url} cannot be used");
    let store = Store::open(&url, options).await.with_context(cannot)?;
    let found = store.list("cluster/").await.with_context(cannot)?;
    let ids = found
        .iter()
        .filter_map(|object| object.key.strip_prefix("cluster/")?.strip_suffix(".json"))
        .collect::<Vec<_>>();
    ensure!(!ids.is_empty(), words.no_cluster(store.url()));
    if ids != [cluster] {
        let there = ids.join(", ");
        bail!(words.other_cluster(store.url(), &there, &arguments.cluster.url, cluster));
    }
    Ok(store)
}

/// The cluster, by one of its brokers.
struct Cluster {
    client: HttpClient,
}

/// What the cluster knows of a store.
struct Known {
    cluster: String,
    /// Blocks that it has.
    blocks: BTreeSet<u64>,
    /// How long it keeps samples, anything that samples become, and lines; `None` is for ever. Milliseconds.
    samples_kept_ms: Option<i64>,
    kept_ms: Option<i64>,
    lines_kept_ms: Option<i64>,
    /// Whether it takes lines: programs that do not say nothing of how long they keep them.
    takes_lines: bool,
    /// The last delete of the store when its first blocks came.
    source_deletes: Option<u64>,
}

impl Known {
    /// Of what a broker of the cluster says.
    fn told(told: &Value) -> Result<Known> {
        let ids = told["blocks"].as_array().context("the cluster lists no blocks")?;
        let cluster = told["cluster"].as_str();
        Ok(Known {
            cluster: cluster.context("the broker does not say whose it is: upgrade it")?.to_owned(),
            blocks: ids.iter().filter_map(Value::as_u64).collect(),
            samples_kept_ms: told["samples_kept_ms"].as_i64(),
            kept_ms: told["kept_ms"].as_i64(),
            lines_kept_ms: told["lines_kept_ms"].as_i64(),
            takes_lines: told.get("lines_kept_ms").is_some(),
            source_deletes: told["source_deletes"].as_u64(),
        })
    }
}

/// `told` of a block with what is in it. Brokers that take nothing but samples refuse to be told so.
fn of_signal(signal: Signal, mut told: Value) -> Value {
    if signal != Signal::Metrics {
        told["signal"] = signal.name().into();
    }
    told
}

impl Cluster {
    fn known(&mut self, source: &str) -> Result<Known> {
        let path = format!("/api/v1/admin/blocks?source={source}");
        let answer = self.client.get(&path)?.success();
        Known::told(&data_of(answer.with_context(|| self.client.url(&path))?)?)
    }

    /// Asks for what may be asked for twice, until there is an answer that says more than "not now".
    fn ask(&mut self, path: &str, body: &Value, interrupt: &Interrupt) -> Result<Answer> {
        for asked in 0.. {
            let answer = self.client.post_json(path, body);
            let is_not_now = answer.as_ref().map_or(true, |answer| {
                matches!(
                    answer.status,
                    StatusCode::SERVICE_UNAVAILABLE
                        | StatusCode::TOO_MANY_REQUESTS
                        | StatusCode::BAD_GATEWAY
                        | StatusCode::GATEWAY_TIMEOUT
                )
            });
            if !is_not_now || asked == ASKED_AGAIN {
                return answer;
            }
            interrupt.check()?;
            std::thread::sleep(PAUSE);
        }
        unreachable!("the last answer is returned")
    }
}

/// Everything that a move needs.
struct Move {
    cluster: Cluster,
    source: String,
    runtime: Runtime,
    store: Store,
    copied: Copied,
    interrupt: Interrupt,
    words: Words,
}

impl Move {
    fn run(mut self, arguments: &MigrateArguments) -> Result<()> {
        let (started, words) = (Instant::now(), self.words);
        let known = self.cluster.known(&self.source)?;
        let blocks = self.copied.copy.blocks();
        let (mut left, here): (Vec<_>, Vec<_>) =
            blocks.into_iter().partition(|(meta, _)| !known.blocks.contains(&meta.id.0));
        let now_ms = now_ms();
        let kept_from = |kept_ms: Option<i64>| kept_ms.map_or(i64::MIN, |kept| now_ms - kept);
        let kept_of = |meta: &BlockMeta| match meta.signal {
            Signal::Metrics => known.kept_ms,
            Signal::Logs => known.lines_kept_ms,
        };
        let aged = |blocks: &[(BlockMeta, Option<TenantName>)], signal, kept_ms: Option<i64>| {
            let old = blocks.iter().filter(|(meta, _)| {
                meta.signal == signal && meta.range.end_ms <= kept_from(kept_ms)
            });
            let rows = old.clone().map(|(meta, _)| meta.rows).sum();
            Some(Aged { signal, blocks: old.count(), rows, kept_ms: kept_ms? })
                .filter(|aged| aged.blocks > 0)
        };
        let expired = [
            aged(&left, Signal::Metrics, known.kept_ms),
            aged(&left, Signal::Logs, known.lines_kept_ms),
        ];
        left.retain(|(meta, _)| meta.range.end_ms > kept_from(kept_of(meta)));
        let thinned = aged(&left, Signal::Metrics, known.samples_kept_ms);
        let keys = KEYS.iter().flat_map(|prefix| self.copied.copy.keys(prefix));
        let keys = keys.map(|(key, value)| (self.tenant_of(&key), key, value));
        let (keys, nameless): (Vec<_>, Vec<_>) = keys.partition(|(of, ..)| *of != Whose::Unknown);
        let bytes: u64 = left.iter().map(|(meta, _)| meta.size_bytes).sum();
        let rows_of = |signal| {
            let of_signal = left.iter().filter(|(meta, _)| meta.signal == signal);
            short(of_signal.map(|(meta, _)| meta.rows).sum::<u64>() as f64)
        };
        let (samples, lines) = (rows_of(Signal::Metrics), rows_of(Signal::Logs));
        let rows = (&*samples, &*lines);
        eprintln!(
            "{}",
            words.amount(left.len(), rows, &short(bytes as f64), keys.len(), self.store.url())
        );
        let mut notes = Vec::new();
        if !here.is_empty() {
            notes.push(words.there_already(here.len()));
        }
        notes.extend(expired.iter().flatten().map(|aged| words.expired(*aged)));
        notes.extend(thinned.map(|aged| words.thinned(aged)));
        match self.copied.copy.quarantined() {
            0 => {}
            quarantined => notes.push(words.quarantined(quarantined)),
        }
        if !nameless.is_empty() {
            notes.push(words.nameless(nameless.len()));
        }
        if self.copied.copy.has_deletes() {
            notes.push(words.not_cleaned());
        }
        notes.iter().for_each(|note| eprintln!("{note}"));
        // Before anything is written, in the cluster or its store.
        let has_lines = left.iter().any(|(meta, _)| meta.signal == Signal::Logs);
        ensure!(known.takes_lines || !has_lines, words.takes_no_lines());
        if arguments.dry_run {
            eprintln!("{}", words.dry_run());
            return Ok(());
        }
        let is_lost = expired.iter().any(Option::is_some) || thinned.is_some();
        ensure!(!is_lost || arguments.allow_expired, words.retention_first());
        self.begin(known.source_deletes, arguments.deleted_again)?;
        let mut progress = Progress::new(bytes, words.bytes());
        for (meta, tenant) in left {
            let moved = self.move_block(&meta, tenant, &mut progress);
            moved.with_context(|| {
                progress.clear();
                words.block_failed(&meta.id.to_string())
            })?;
        }
        progress.clear();
        let mut new_keys = 0;
        let mut progress = Progress::new(keys.len() as u64, words.keys());
        for (whose, key, value) in keys {
            new_keys += u64::from(self.move_key(whose, &key, &value).with_context(|| {
                progress.clear();
                words.key_failed(&key)
            })?);
            progress.add(1);
        }
        progress.clear();
        if arguments.last {
            let ended = json!({ "source": self.source });
            self.cluster.ask("/api/v1/admin/moves/end", &ended, &self.interrupt)?.success()?;
        }
        let seconds = started.elapsed().as_secs_f64();
        eprintln!("{}", words.moved(seconds, rows, new_keys, arguments.last));
        Ok(())
    }

    /// Tells the cluster that blocks are about to come. What was deleted since the first did must not come
    /// back with them.
    fn begin(&mut self, source_deletes: Option<u64>, is_deleted_again: bool) -> Result<()> {
        let body = json!({
            "source": self.source,
            "source_deletes": self.copied.copy.last_delete(),
            "is_deleted_again": is_deleted_again,
        });
        let answer = self.cluster.ask("/api/v1/admin/moves", &body, &self.interrupt)?;
        if answer.status != StatusCode::PRECONDITION_FAILED {
            return answer.success().map(|_| ());
        }
        let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let since = source_deletes.unwrap_or(u64::MAX);
        let deletes = self.copied.deletes.iter().filter(|(number, _)| **number > since);
        let deletes: Vec<&str> = deletes.map(|(_, delete)| delete.as_str()).collect();
        bail!(self.words.deleted_since(told["error"].as_str().unwrap_or_default(), &deletes))
    }

    fn move_block(
        &mut self,
        meta: &BlockMeta,
        tenant: Option<TenantName>,
        progress: &mut Progress,
    ) -> Result<()> {
        let tenant = tenant.with_context(|| {
            format!("the name of its tenant, number {}, was lost", meta.tenant.0)
        })?;
        let file = self.copied.directory.join(meta.key());
        for attempt in 1.. {
            self.interrupt.check()?;
            let reserved = Instant::now();
            let wanted = of_signal(meta.signal, json!({}));
            let path = "/api/v1/admin/blocks/reserve";
            let told = self.cluster.ask(path, &wanted, &self.interrupt);
            let told = data_of(told?.success()?)?;
            let (id, key) = (told["id"].as_u64(), told["key"].as_str());
            let (id, key) = id.zip(key).context("the cluster reserves no id")?;
            ensure!(
                key.split('/').any(|part| part == meta.signal.name()),
                self.words.takes_no_lines()
            );
            let upload = self.upload(key, &file, progress);
            self.runtime.block_on(upload)?;
            let answer = self.cluster.ask(
                "/api/v1/admin/blocks",
                &of_signal(
                    meta.signal,
                    json!({
                        "source": self.source,
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
                ),
                &self.interrupt,
            )?;
            // What was written and does not count is removed by the cluster, which alone can be sure of it.
            match answer.status {
                // Another move was faster.
                StatusCode::CONFLICT => return Ok(()),
                StatusCode::GONE if attempt < IDS => {
                    progress.take_back(meta.size_bytes);
                    let took = reserved.elapsed();
                    ensure!(took < ID_KEPT, self.words.too_slow(took.as_secs() / 60));
                }
                _ => return answer.success().map(|_| ()),
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Whether the key was not there.
    fn move_key(&mut self, whose: Whose, key: &str, value: &[u8]) -> Result<bool> {
        self.interrupt.check()?;
        let tenant = match whose {
            Whose::Of(tenant) => Some(tenant.to_string()),
            Whose::All | Whose::Unknown => None,
        };
        let body = json!({
            "source": self.source,
            "key": key,
            "tenant": tenant,
            "value": base64::engine::general_purpose::STANDARD.encode(value),
        });
        let answer = self.cluster.ask("/api/v1/admin/keys", &body, &self.interrupt)?.success()?;
        Ok(data_of(answer)?["new"].as_bool().unwrap_or_default())
    }

    /// Metadata is kept by the number of a tenant, which differs from store to store.
    fn tenant_of(&self, key: &str) -> Whose {
        let Some(rest) = key.strip_prefix("metadata/") else { return Whose::All };
        let number = rest.split_once('/').and_then(|(number, _)| number.parse().ok());
        let name = number.and_then(|id| self.copied.copy.tenant_name(model::TenantId(id)));
        name.map_or(Whose::Unknown, Whose::Of)
    }

    /// Writes a file into the store, part by part, where nothing is yet.
    async fn upload(&self, key: &str, path: &Path, progress: &mut Progress) -> Result<()> {
        match self.store.size(key).await {
            Err(StoreError::NotFound { .. }) => {}
            Ok(_) => bail!(self.words.object_is_there(key, self.store.url())),
            Err(error) => return Err(error).context("look whether the object is there"),
        }
        let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let mut part = || -> Result<Bytes> {
            let mut bytes = Vec::with_capacity(PART_BYTES);
            file.by_ref()
                .take(PART_BYTES as u64)
                .read_to_end(&mut bytes)
                .context("read the block")?;
            Ok(bytes.into())
        };
        let first = part()?;
        if first.len() < PART_BYTES {
            progress.add(first.len() as u64);
            return Ok(self.store.put(key, first).await?);
        }
        let mut upload = self.store.upload(key).await?;
        let mut bytes = first;
        loop {
            let length = bytes.len();
            let written = match self.interrupt.check() {
                Ok(()) => upload.part(bytes).await.map_err(anyhow::Error::from),
                Err(interrupted) => Err(interrupted),
            };
            if let Err(error) = written {
                upload.abort().await;
                return Err(error);
            }
            progress.add(length as u64);
            bytes = if length < PART_BYTES { Bytes::new() } else { part()? };
            if bytes.is_empty() {
                return Ok(upload.finish().await?);
            }
        }
    }
}

/// Whose a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The key, or its value, says so by name.
    All,
    /// That tenant's.
    Of(TenantName),
    /// One whose name was lost.
    Unknown,
}

/// What an answer says.
fn data_of(answer: Answer) -> Result<Value> {
    let mut told: Value =
        serde_json::from_slice(&answer.body).context("the answer is not what was asked for")?;
    Ok(told["data"].take())
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

    #[test]
    fn clusters_of_the_version_before_take_samples_alone() {
        let told = json!({ "cluster": "c", "blocks": [1, 2], "kept_ms": 5 });
        let before = Known::told(&told).expect("it says enough");
        assert!(!before.takes_lines && before.blocks.contains(&2));
        let for_ever = json!({ "cluster": "c", "blocks": [], "lines_kept_ms": null });
        let known = Known::told(&for_ever).expect("it says enough");
        assert!(known.takes_lines && known.lines_kept_ms.is_none());
        // A field that it does not know is refused there, with the block uploaded.
        assert_eq!(of_signal(Signal::Metrics, json!({ "id": 1 })), json!({ "id": 1 }));
        assert_eq!(of_signal(Signal::Logs, json!({ "id": 1 }))["signal"], "logs");
    }
}
