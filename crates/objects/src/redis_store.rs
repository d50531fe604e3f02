//! Redis, alone or a cluster.
//!
//! What is not finished is forgotten by Redis itself after a day: parts get their place for good in
//! the same transaction that makes the object visible, so that a Redis which is full, or moves the slot
//! just then, does all of it or nothing.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use redis::{ErrorKind, Pipeline, RedisError, ServerErrorKind, Value, from_redis_value};

use crate::redis_link::{Links, Node};
use crate::redis_parts::{
    Manifest, PART_BYTES, SIZE_BYTES, manifest_key, object_key, part_key, pattern, size_of,
};
use crate::{
    Backend, ObjectInfo, PartsBackend, Purpose, RedisPlace, Refusal, StoreError, StoreOptions,
};

/// After so long a part of an object that was never finished is forgotten.
const UNFINISHED_S: u64 = 24 * 3_600;

/// Parts in one pipeline: what may lie in memory twice.
const PARTS_AT_ONCE: usize = 8;

/// How long replicas may take: less than the shortest attempt.
const WAIT_MS: u64 = 2_500;

/// Parts of an object without a manifest that are removed with one command.
const UNLINKED_AT_ONCE: usize = 64;

/// Keys that Redis looks at for one `SCAN`.
const SCAN_COUNT: u64 = 1_000;

#[derive(Clone)]
pub(crate) struct RedisStore(Arc<Inner>);

struct Inner {
    links: Links,
    ttl_s: u64,
    wait: u32,
    purpose: Purpose,
}

impl RedisStore {
    pub(crate) async fn open(
        place: &RedisPlace,
        options: &StoreOptions,
    ) -> Result<RedisStore, StoreError> {
        let retention_s = options.retention.map_or(0, |retention| retention.as_secs());
        Ok(RedisStore(Arc::new(Inner {
            links: Links::new(place, &options.credentials)?,
            ttl_s: place.ttl_s.unwrap_or(retention_s),
            wait: place.wait,
            purpose: options.purpose,
        })))
    }
}

impl Inner {
    async fn ask(
        &self,
        action: &'static str,
        key: &str,
        node: &Node,
        commands: Pipeline,
    ) -> Result<Vec<Value>, StoreError> {
        self.check_eviction(action, key).await?;
        let answered = self.links.ask(node, commands).await;
        answered.map_err(|error| self.sorted(action, key, &error))
    }

    /// A Redis that throws keys away when it is full holds copies only.
    async fn check_eviction(&self, action: &'static str, key: &str) -> Result<(), StoreError> {
        if self.purpose == Purpose::Cache || self.links.checked().load(Relaxed) {
            return Ok(());
        }
        let fault = |error: RedisError| self.sorted(action, key, &error);
        for node in self.links.primaries().await.map_err(fault)? {
            let mut commands = Pipeline::new();
            commands.cmd("INFO").arg("memory");
            let told = match self.links.ask(&node, commands).await {
                Ok(answers) => answers.into_iter().next().map(from_redis_value::<String>),
                // It may be forbidden; then it is the operator's word that counts.
                Err(error) if error.code() == Some("NOPERM") => None,
                Err(error) => return Err(fault(error)),
            };
            let Some(Ok(told)) = told else { continue };
            let setting = |name: &str| told.lines().find_map(|line| line.strip_prefix(name));
            let policy = setting("maxmemory_policy:").unwrap_or("noeviction").trim();
            if policy != "noeviction" && setting("maxmemory:").map(str::trim) != Some("0") {
                return Err(StoreError::Settings(format!(
                    "Redis has maxmemory-policy {policy} and throws objects away when it is full: \
                     set maxmemory-policy noeviction, or use it as a cache only"
                )));
            }
        }
        self.links.checked().store(true, Relaxed);
        Ok(())
    }

    async fn one(
        &self,
        action: &'static str,
        key: &str,
        commands: Pipeline,
    ) -> Result<Vec<Value>, StoreError> {
        self.ask(action, key, &Node::OfKey(manifest_key(key)), commands).await
    }

    /// Ends a [`transaction`], waits for as many replicas as are wanted, and yields what its commands
    /// answered.
    async fn write(&self, key: &str, mut commands: Pipeline) -> Result<Vec<Value>, StoreError> {
        commands.cmd("EXEC");
        if self.wait > 0 {
            commands.cmd("WAIT").arg(self.wait).arg(WAIT_MS);
        }
        let asked = self.one("write", key, commands).await;
        let mut answers = asked.map_err(|error| match self.links.is_cluster() {
            true => perhaps_done(error),
            false => error,
        })?;
        if self.wait > 0 {
            let confirmed: u32 =
                answers.pop().and_then(|answer| from_redis_value(answer).ok()).unwrap_or(0);
            if confirmed < self.wait {
                let why = format!(
                    "{confirmed} replicas confirmed it within {WAIT_MS} ms, and wait={} asks for more",
                    self.wait
                );
                return Err(StoreError::Failed { action: "write", key: key.to_owned(), why });
            }
        }
        let done = answers.pop().and_then(|done| from_redis_value::<Vec<Value>>(done).ok());
        let failed = |why: String| StoreError::Failed { action: "write", key: key.to_owned(), why };
        let done = done.ok_or_else(|| failed("it does not say that it was done".to_owned()))?;
        let each = done.into_iter().map(Value::extract_error);
        each.collect::<Result<_, RedisError>>().map_err(|error| failed(error.to_string()))
    }

    /// A transaction that writes parts which follow each other, the first of them with the given number.
    fn set_parts(&self, key: &str, first: usize, bytes: &[u8]) -> Pipeline {
        let ttl_s = if self.ttl_s == 0 { UNFINISHED_S } else { self.ttl_s.min(UNFINISHED_S) };
        let mut commands = transaction();
        for (number, part) in bytes.chunks(PART_BYTES).enumerate() {
            let number = first + number;
            commands.cmd("SET").arg(part_key(key, number)).arg(part).arg("EX").arg(ttl_s);
        }
        commands
    }

    /// Redis keeps a key for as long as objects are kept.
    fn keep(&self, commands: &mut Pipeline, key: &str) {
        match self.ttl_s {
            0 => commands.cmd("PERSIST").arg(key),
            ttl_s => commands.cmd("EXPIRE").arg(key).arg(ttl_s),
        };
    }

    /// After the given commands, gives the parts their place for good and makes the object visible.
    async fn finish(
        &self,
        key: &str,
        manifest: &Manifest,
        mut commands: Pipeline,
    ) -> Result<(), StoreError> {
        let parts: Vec<String> =
            (0..manifest.crcs.len()).map(|number| part_key(key, number)).collect();
        for part in &parts {
            self.keep(&mut commands, part);
        }
        commands.cmd("SET").arg(manifest_key(key)).arg(manifest.encode());
        if self.ttl_s > 0 {
            commands.arg("EX").arg(self.ttl_s);
        }
        if !parts.is_empty() {
            commands.cmd("EXISTS").arg(&parts);
        }
        let mut answers = self.write(key, commands).await?;
        let there = match parts.len() {
            0 => 0,
            _ => answers.pop().and_then(|answer| from_redis_value(answer).ok()).unwrap_or(0),
        };
        if there == parts.len() {
            return Ok(());
        }
        // A node was replaced between the parts and this by one that does not have them.
        let why = format!("only {there} of its {} parts are still there", parts.len());
        Err(StoreError::Failed { action: "write", key: key.to_owned(), why })
    }

    /// Removes an object whose manifest cannot be read, or is not there, and the parts it may have left.
    async fn unlink_unknown(&self, key: &str) -> Result<(), StoreError> {
        for first in (0..).step_by(UNLINKED_AT_ONCE) {
            let mut commands = Pipeline::new();
            commands.cmd("UNLINK");
            if first == 0 {
                commands.arg(manifest_key(key));
            }
            for number in first..first + UNLINKED_AT_ONCE {
                commands.arg(part_key(key, number));
            }
            let answer = self.one("delete", key, commands).await?.pop().unwrap_or(Value::Nil);
            // Parts follow each other.
            if from_redis_value(answer).unwrap_or(0_usize) < UNLINKED_AT_ONCE {
                break;
            }
        }
        Ok(())
    }

    async fn manifest(&self, action: &'static str, key: &str) -> Result<Manifest, StoreError> {
        let mut commands = Pipeline::new();
        commands.cmd("GET").arg(manifest_key(key));
        let answer = self.one(action, key, commands).await?.pop().unwrap_or(Value::Nil);
        let found: Option<Vec<u8>> = from_redis_value(answer).unwrap_or_default();
        let bytes = found.ok_or_else(|| StoreError::NotFound { key: key.to_owned() })?;
        let damaged = || StoreError::Damaged {
            key: key.to_owned(),
            why: "its manifest in Redis is none, or not of this version".to_owned(),
        };
        Manifest::decode(&bytes).ok_or_else(damaged)
    }

    async fn read(
        &self,
        key: &str,
        manifest: &Manifest,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        let (start, end) = (range.start.min(manifest.size), range.end.min(manifest.size));
        let mut bytes = BytesMut::new();
        let part_bytes = PART_BYTES as u64;
        let numbers: Vec<usize> = (start / part_bytes..end.div_ceil(part_bytes))
            .map(|number| usize::try_from(number).expect("a manifest fits memory"))
            .collect();
        for numbers in numbers.chunks(PARTS_AT_ONCE) {
            let mut commands = Pipeline::new();
            for number in numbers {
                commands.cmd("GET").arg(part_key(key, *number));
            }
            let answers = self.one("read", key, commands).await?;
            for (&number, answer) in numbers.iter().zip(answers) {
                let part: Option<Vec<u8>> = from_redis_value(answer).unwrap_or_default();
                let damaged = |why| StoreError::Damaged { key: key.to_owned(), why };
                let part = part.ok_or_else(|| {
                    damaged(format!(
                        "part {number} is gone from Redis; is its maxmemory-policy noeviction?"
                    ))
                })?;
                if !manifest.fits(number, &part) {
                    return Err(damaged(format!("part {number} is not what was written")));
                }
                let before = number as u64 * part_bytes;
                let at = |place: u64| {
                    let inside = place.saturating_sub(before).min(part.len() as u64);
                    usize::try_from(inside).expect("a part is small")
                };
                bytes.extend_from_slice(&part[at(start)..at(end)]);
            }
        }
        Ok(bytes.freeze())
    }

    /// All manifests of one node below a prefix.
    async fn scan(
        &self,
        node: &Node,
        prefix: &str,
        found: &mut Vec<ObjectInfo>,
    ) -> Result<(), StoreError> {
        let mut cursor = 0_u64;
        loop {
            let mut commands = Pipeline::new();
            commands.cmd("SCAN").arg(cursor).arg("MATCH").arg(pattern(prefix));
            commands.arg("COUNT").arg(SCAN_COUNT);
            let answer = self.ask("list", prefix, node, commands).await?.pop();
            let page: Result<(u64, Vec<String>), _> =
                from_redis_value(answer.unwrap_or(Value::Nil));
            let unread = |error: redis::ParsingError| StoreError::Failed {
                action: "list",
                key: prefix.to_owned(),
                why: error.to_string(),
            };
            let (next, keys) = page.map_err(unread)?;
            let mut commands = Pipeline::new();
            for key in &keys {
                commands.cmd("GETRANGE").arg(key).arg(0).arg(SIZE_BYTES - 1);
            }
            let sizes = match keys.is_empty() {
                true => Vec::new(),
                false => self.ask("list", prefix, node, commands).await?,
            };
            for (key, size) in keys.iter().zip(sizes) {
                let head: Vec<u8> = from_redis_value(size).unwrap_or_default();
                // Gone since, or not ours.
                let Some(size_bytes) = size_of(&head) else { continue };
                let Some(key) = object_key(key) else { continue };
                found.push(ObjectInfo { key: key.to_owned(), size_bytes });
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    fn sorted(&self, action: &'static str, key: &str, error: &RedisError) -> StoreError {
        let (key, why) = (key.to_owned(), error.to_string());
        let refused =
            |refusal| StoreError::Refused { refusal, action, key: key.clone(), why: why.clone() };
        let is_cluster = self.links.is_cluster();
        match code_of(error) {
            "OOM" => return refused(Refusal::Full),
            "MISCONF" => return refused(Refusal::ReadOnly),
            "READONLY" if !is_cluster => return refused(Refusal::ReadOnly),
            "NOAUTH" | "WRONGPASS" => return refused(Refusal::Credentials),
            "NOPERM" => return refused(Refusal::Permission),
            "MOVED" | "ASK" if !is_cluster => {
                let why = format!("{why}: it is a cluster, so write redis+cluster:// in the URL");
                return StoreError::Refused { refusal: Refusal::Place, action, key, why };
            }
            "EXECABORT" | "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "NOREPLICAS"
            | "BUSY" | "READONLY" | "MOVED" | "ASK" => {
                return StoreError::Busy { action, key, why };
            }
            _ => {}
        }
        match error.kind() {
            ErrorKind::AuthenticationFailed => refused(Refusal::Credentials),
            ErrorKind::ClusterConnectionNotFound => StoreError::Unreachable { action, key, why },
            ErrorKind::Io if error.is_connection_refusal() => {
                StoreError::Unreachable { action, key, why }
            }
            ErrorKind::Io | ErrorKind::Parse => StoreError::Failed { action, key, why },
            ErrorKind::Server(ServerErrorKind::ResponseError)
                if why.contains("cluster support disabled") =>
            {
                let why = format!("{why}: it is no cluster, so write redis:// in the URL");
                StoreError::Refused { refusal: Refusal::Place, action, key, why }
            }
            _ => refused(Refusal::Other),
        }
    }
}

/// The beginning of commands of which all are done or none; [`Inner::write`] ends it.
fn transaction() -> Pipeline {
    let mut commands = Pipeline::new();
    commands.cmd("MULTI");
    commands
}

/// What Redis calls an error: of a transaction that was given up, what made it so.
fn code_of(error: &RedisError) -> &str {
    let code = error.code().unwrap_or_default();
    let cause = error.detail().filter(|_| code == "EXECABORT");
    let cause = cause.and_then(|detail| detail.split_once("because of: "));
    cause.and_then(|(_, cause)| cause.split_whitespace().next()).unwrap_or(code)
}

/// What a write in a cluster comes to. The crate follows slots that move and connects anew, and tells
/// of its last attempt only: that one did nothing, and the one before may have.
fn perhaps_done(error: StoreError) -> StoreError {
    match error {
        StoreError::Busy { action, key, why } | StoreError::Unreachable { action, key, why } => {
            StoreError::Failed { action, key, why }
        }
        other => other,
    }
}

#[async_trait]
impl Backend for RedisStore {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let mut manifest = Manifest::default();
        bytes.chunks(PART_BYTES).for_each(|part| manifest.push(part));
        let mut groups = bytes.chunks(PARTS_AT_ONCE * PART_BYTES).enumerate().peekable();
        let mut last = transaction();
        while let Some((number, group)) = groups.next() {
            let commands = self.0.set_parts(key, number * PARTS_AT_ONCE, group);
            match groups.peek() {
                Some(_) => _ = self.0.write(key, commands).await?,
                // One round trip for all that is not large.
                None => last = commands,
            }
        }
        self.0.finish(key, &manifest, last).await
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Bytes, StoreError> {
        let manifest = self.0.manifest("read", key).await?;
        if manifest.size > limit {
            return Err(StoreError::TooLarge { key: key.to_owned(), bytes: manifest.size, limit });
        }
        self.0.read(key, &manifest, 0..manifest.size).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let manifest = self.0.manifest("read", key).await?;
        self.0.read(key, &manifest, range).await
    }

    async fn size(&self, key: &str) -> Result<u64, StoreError> {
        Ok(self.0.manifest("look at", key).await?.size)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let fault = |error: RedisError| self.0.sorted("list", prefix, &error);
        let mut found = Vec::new();
        for node in self.0.links.primaries().await.map_err(fault)? {
            self.0.scan(&node, prefix, &mut found).await?;
        }
        // SCAN may show a key twice, and so does a slot that moves meanwhile.
        found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        found.dedup_by(|a, b| a.key == b.key);
        Ok(found)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let manifest = match self.0.manifest("delete", key).await {
            Ok(manifest) => manifest,
            Err(StoreError::NotFound { .. } | StoreError::Damaged { .. }) => {
                return self.0.unlink_unknown(key).await;
            }
            Err(error) => return Err(error),
        };
        // The manifest goes first: no reader is to find an object without parts.
        let mut commands = Pipeline::new();
        commands.cmd("UNLINK").arg(manifest_key(key));
        for number in 0..manifest.crcs.len() {
            commands.arg(part_key(key, number));
        }
        self.0.one("delete", key, commands).await.map(|_| ())
    }

    fn forgets(&self) -> bool {
        true
    }

    async fn renew(&self, key: &str) -> Result<(), StoreError> {
        let manifest = self.0.manifest("keep", key).await?;
        let parts: Vec<String> =
            (0..manifest.crcs.len()).map(|number| part_key(key, number)).collect();
        let mut commands = Pipeline::new();
        for one in parts.iter().chain([&manifest_key(key)]) {
            self.0.keep(&mut commands, one);
        }
        if !parts.is_empty() {
            commands.cmd("EXISTS").arg(&parts);
        }
        let mut answers = self.0.one("keep", key, commands).await?;
        let there = match parts.len() {
            0 => 0,
            _ => answers.pop().and_then(|answer| from_redis_value(answer).ok()).unwrap_or(0),
        };
        if there == parts.len() {
            return Ok(());
        }
        let why = format!("only {there} of its {} parts are in Redis", parts.len());
        Err(StoreError::Damaged { key: key.to_owned(), why })
    }

    async fn begin(&self, key: &str) -> Result<Arc<dyn PartsBackend>, StoreError> {
        let (store, key) = (self.clone(), key.to_owned());
        Ok(Arc::new(RedisParts { store, key, manifest: Mutex::default() }))
    }
}

struct RedisParts {
    store: RedisStore,
    key: String,
    manifest: Mutex<Manifest>,
}

#[async_trait]
impl PartsBackend for RedisParts {
    async fn part(&self, number: u32, bytes: Bytes) -> Result<(), StoreError> {
        let first = number as usize * (crate::PART_BYTES / PART_BYTES);
        if !bytes.is_empty() {
            self.store.0.write(&self.key, self.store.0.set_parts(&self.key, first, &bytes)).await?;
        }
        let mut manifest = self.manifest.lock();
        if manifest.crcs.len() == first {
            bytes.chunks(PART_BYTES).for_each(|part| manifest.push(part));
        }
        Ok(())
    }

    async fn finish(&self) -> Result<(), StoreError> {
        let manifest = self.manifest.lock().clone();
        self.store.0.finish(&self.key, &manifest, transaction()).await
    }

    async fn abort(&self) -> Result<(), StoreError> {
        let count = self.manifest.lock().crcs.len();
        if count == 0 {
            return Ok(());
        }
        let mut commands = Pipeline::new();
        commands.cmd("UNLINK");
        for number in 0..count {
            commands.arg(part_key(&self.key, number));
        }
        self.store.0.one("delete", &self.key, commands).await.map(|_| ())
    }
}
