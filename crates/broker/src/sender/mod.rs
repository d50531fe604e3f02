//! Remote write to other systems: what the broker stores is sent on, as `remote_write` says.
//!
//! ```text
//! committer → log on the disk → reader (a thread per remote): decode, relabel, spread
//!                ▲ cursor         → shards (tasks): batch, encode, POST, retry
//!                └── what is delivered moves it, and only then the log may go
//! ```
//!
//! Ingest does nothing for it but to say how far the log is durable. See
//! `docs/decisions/0028-the-log-is-the-queue-of-remote-write.md` for why the log is the queue.

mod counters;
mod delivery;
mod left_out;
mod metadata;
mod reader;
mod render;
mod request;
mod resharding;
mod rows;
mod series;
mod shards;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use catalog::{Expected, LogPosition, State};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use model::Labels;
use net::client::{Client, ClientOptions};
use parking_lot::Mutex;
use settings::prometheus::{Config, RemoteWrite};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::Broker;
use crate::following::Following;
use crate::shards::AbortOnPanic;

use delivery::{Delivery, Parts};
use reader::{Reader, ReaderParts, Stop};

/// Keys of the catalog under which cursors are kept.
const PREFIX: &str = "remote_write/";
/// How long a stop of the process sends what is there; the rest goes after the next start.
const LAST_SENDING: Duration = Duration::from_secs(5);

/// The remotes that are written to.
#[derive(Default)]
pub(crate) struct Senders {
    active: Mutex<BTreeMap<String, Active>>,
    /// Held while the configuration changes.
    changing: tokio::sync::Mutex<()>,
    clients: std::sync::OnceLock<ClientOptions>,
}

impl Senders {
    /// About how many bytes the rows take that wait in shards.
    pub(crate) fn bytes(&self) -> u64 {
        let active = self.active.lock();
        active.values().map(|active| active.delivery.counters().pending_bytes()).sum()
    }
}

/// One remote at work.
struct Active {
    remote: RemoteWrite,
    external: Labels,
    delivery: Arc<Delivery>,
    stop: Arc<Stop>,
    thread: Option<std::thread::JoinHandle<()>>,
    metadata: JoinHandle<()>,
}

/// Remotes that can be put in effect: nothing about them can fail any more.
pub struct PreparedRemotes {
    wanted: Vec<Wanted>,
    external: Labels,
}

/// One of them.
struct Wanted {
    target: Target,
    /// `None` where the remote is at work already, just so.
    begin: Option<Begin>,
}

/// What a remote needs to be at work.
struct Begin {
    client: Client,
    /// The thread that reads the log for it, and waits to hear of what. Ends when this is dropped.
    parts: crossbeam_channel::Sender<ReaderParts>,
    thread: std::thread::JoinHandle<()>,
}

impl Begin {
    fn new(client: Client) -> Result<Begin> {
        let (parts, received) = crossbeam_channel::bounded::<ReaderParts>(1);
        let thread = std::thread::Builder::new()
            .name("remote-write".to_owned())
            .spawn(move || {
                let _guard = AbortOnPanic("remote-write");
                if let Ok(parts) = received.recv() {
                    Reader::new(parts).run();
                }
            })
            .context("start the thread of a remote")?;
        Ok(Begin { client, parts, thread })
    }
}

/// What is known of a remote before it is at work.
struct Target {
    key: String,
    name: String,
    remote: RemoteWrite,
    uri: Uri,
    headers: HeaderMap,
}

impl PreparedRemotes {
    /// No remote at all.
    pub fn none() -> Self {
        PreparedRemotes { wanted: Vec::new(), external: Labels::empty() }
    }
}

/// Keeps the log for remotes whose cursors are in the catalog until it is known whether they are
/// still configured.
pub(crate) fn hold_what_is_unsent(state: &State, following: &Following) {
    for (key, value) in state.keys(PREFIX) {
        following.hold(key, reader::read_cursor(&value.value).unwrap_or_default());
    }
}

impl Broker {
    /// Looks whether the remotes of `config` can be written to, without a change to those at work.
    /// To be called where tokio runs.
    ///
    /// # Errors
    /// What of the configuration can never work.
    pub async fn prepare_remote_writes(&self, config: &Config) -> Result<PreparedRemotes> {
        if self.inner.clustered.is_some() && !config.remote_write.is_empty() {
            bail!("remote_write reads the log of one machine: leave it out in a cluster");
        }
        let external = config.global.external_labels.clone();
        let options = self.inner.senders.clients.get_or_init(ClientOptions::operator);
        let mut wanted = Vec::new();
        for (remote, key) in config.remote_write.iter().zip(keys(&config.remote_write)) {
            let described = || format!("remote_write to {}", remote.url);
            let uri = Uri::try_from(remote.url.reveal())
                .map_err(|error| anyhow!("{error}"))
                .with_context(described)?;
            let headers = headers(remote).with_context(described)?;
            let is_at_work = self
                .inner
                .senders
                .active
                .lock()
                .get(&key)
                .is_some_and(|active| active.is_just(remote, &external));
            let begin = match is_at_work {
                true => None,
                false => {
                    let client = Client::open(&remote.http, options).await;
                    let client = client.with_context(described)?;
                    Some(Begin::new(client).with_context(described)?)
                }
            };
            let name = match remote.name.as_str() {
                "" => key[PREFIX.len()..PREFIX.len() + 6].to_owned(),
                name => name.to_owned(),
            };
            let target = Target { key, name, remote: remote.clone(), uri, headers };
            wanted.push(Wanted { target, begin });
        }
        Ok(PreparedRemotes { wanted, external })
    }

    /// Puts remotes in effect in place of those of before. One that is the same goes on; one whose
    /// options changed goes on where it was; one that is gone is forgotten, with what waited for it.
    /// A new one gets what is stored from now on. Returns when that is durable.
    pub async fn put_remote_writes(&self, prepared: PreparedRemotes) {
        let _changing = self.inner.senders.changing.lock().await;
        let PreparedRemotes { wanted, external } = prepared;
        let mut ending = Vec::new();
        {
            let mut active = self.inner.senders.active.lock();
            let keys: Vec<String> = active.keys().cloned().collect();
            for key in keys {
                let stays = wanted.iter().any(|one| one.target.key == key && one.begin.is_none());
                if !stays {
                    ending.extend(active.remove(&key));
                }
            }
        }
        let now = Instant::now();
        let ended = tokio::task::spawn_blocking(move || {
            ending.into_iter().for_each(|active| active.end(now));
        });
        if ended.await.is_err() {
            tracing::error!("a thread of remote write panicked while it ended");
        }
        self.forget_all_but(&wanted).await;
        for one in wanted {
            if let Wanted { begin: Some(begin), target } = one {
                let (key, name) = (target.key.clone(), target.name.clone());
                match self.start_remote(target, &external, begin).await {
                    Ok(active) => {
                        self.inner.senders.active.lock().insert(key, active);
                    }
                    // The broker stops. Its place is in the catalog, for the next start.
                    Err(error) => tracing::warn!(
                        remote = name,
                        error = format!("{error:#}"),
                        "the remote is not written to before the next start"
                    ),
                }
            }
        }
    }

    /// Forgets cursors of remotes that are not configured any more.
    async fn forget_all_but(&self, wanted: &[Wanted]) {
        let following = &self.inner.following;
        let mut let_go = false;
        for (key, _) in self.list_keys(PREFIX) {
            if wanted.iter().any(|one| one.target.key == key) {
                continue;
            }
            following.release(&key);
            let_go = true;
            match self.delete_key_async(&key, Expected::Any).await {
                Ok(()) => tracing::info!(
                    key,
                    "a remote is no longer in remote_write: what waited for it is forgotten"
                ),
                Err(error) => tracing::warn!(%error, key, "a remote could not be forgotten yet"),
            }
        }
        if let_go {
            let _ = self.send(crate::commit::Message::LetGo);
        }
    }

    async fn start_remote(
        &self,
        target: Target,
        external: &Labels,
        begin: Begin,
    ) -> Result<Active> {
        let Begin { client, parts: reader, thread } = begin;
        let Target { key, name, remote, uri, headers } = target;
        let inner = &self.inner;
        let known = self.get_key(&key).and_then(|value| reader::read_cursor(&value.value));
        let cursor = match known {
            Some(cursor) => cursor,
            None => self.first_cursor(&key).await,
        };
        let runtime = Handle::current();
        let delivery = Arc::new(Delivery::new(Parts {
            remote: remote.clone(),
            name: name.clone(),
            client,
            uri,
            headers,
            metadata: Arc::clone(&inner.metadata),
            runtime: runtime.clone(),
            now_ms: inner.config.now_ms,
            seed: inner.config.hash_seed(),
        }));
        let stop = Arc::new(Stop::default());
        let committer = inner.committer.lock().clone().context("the broker is stopping")?;
        let store = inner.catalog.read(State::store).context("the store has no identity")?;
        let parts = ReaderParts {
            key,
            delivery: Arc::clone(&delivery),
            external: external.clone(),
            disk: Arc::clone(&inner.disk),
            store,
            following: Arc::clone(&inner.following),
            committer,
            cursor,
            in_effect: Arc::clone(&inner.in_effect),
            stop: Arc::clone(&stop),
        };
        reader.send(parts).ok().context("the thread of a remote has ended")?;
        let metadata = runtime.spawn(metadata::run(Arc::clone(&delivery)));
        let external = external.clone();
        Ok(Active { remote, external, delivery, stop, thread: Some(thread), metadata })
    }

    /// Where a new remote begins: what is acknowledged from now on lies behind.
    async fn first_cursor(&self, key: &str) -> LogPosition {
        let cursor = self.inner.following.durable();
        self.inner.following.hold(key, cursor);
        let value = cursor.to_string().into_bytes();
        if let Err(error) = self.put_key_async(key, value, Expected::Any).await {
            tracing::warn!(
                %error,
                "the place of a new remote in the log is not durable yet: after a crash before it \
                 is, it would begin anew"
            );
        }
        cursor
    }

    /// Sends what is there for some seconds, and keeps the place for the next start.
    pub(crate) fn stop_remote_writes(&self) {
        let ending = std::mem::take(&mut *self.inner.senders.active.lock());
        let deadline = Instant::now() + LAST_SENDING;
        ending.values().for_each(|active| active.stop.at(deadline));
        self.inner.following.wake_all();
        ending.into_values().for_each(|active| active.end(deadline));
    }
}

impl Active {
    fn is_just(&self, remote: &RemoteWrite, external: &Labels) -> bool {
        self.remote == *remote && self.external == *external
    }

    /// Ends it at the latest at `deadline`, but for the request that is under way.
    fn end(mut self, deadline: Instant) {
        self.stop.at(deadline);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a thread of remote write panicked while stopping");
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.metadata.abort();
        // Without a stop of the broker nobody waits for the thread, but it ends.
        self.stop.at(Instant::now());
    }
}

/// The key of each remote: what it is called if it has a name, else where it is. So a remote whose
/// options change goes on where it was.
fn keys(remotes: &[RemoteWrite]) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for remote in remotes {
        let mut text = match remote.name.as_str() {
            "" => format!("url {}", remote.url.reveal()),
            name => format!("name {name}"),
        };
        let key = loop {
            let hash = blake3::hash(text.as_bytes()).to_hex();
            let key = format!("{PREFIX}{}", &hash[..16]);
            if !keys.contains(&key) {
                break key;
            }
            // Several without a name at one URL are told apart by their order.
            text.push('+');
        };
        keys.push(key);
    }
    keys
}

fn headers(remote: &RemoteWrite) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &remote.headers {
        let name = HeaderName::try_from(name).with_context(|| format!("header {name:?}"))?;
        let value = HeaderValue::try_from(value)
            .with_context(|| format!("the value of the header {name}"))?;
        headers.insert(name, value);
    }
    Ok(headers)
}
