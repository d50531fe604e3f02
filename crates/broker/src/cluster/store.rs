//! What the write path needs of a store that all brokers share, and how patient it is with it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use tokio::time::Instant;

/// A request on its way.
pub type StoreCall<T> = Pin<Box<dyn Future<Output = Result<T, StoreFault>> + Send>>;

/// Objects by key. Each is written once under a key that nobody else uses, and never over with other
/// bytes; nothing here asks for conditional writes, which some stores ignore.
pub trait ObjectStore: Send + Sync + 'static {
    /// Writes an object. It is durable, as far as the store is, when this is over. To write the same
    /// bytes again is no error.
    fn put(&self, key: String, bytes: Bytes) -> StoreCall<()>;

    /// Reads an object as a whole.
    fn get(&self, key: String) -> StoreCall<Bytes>;

    /// Removes an object; an absent one is no error.
    fn delete(&self, key: String) -> StoreCall<()>;

    /// All objects whose keys begin with `prefix`, which ends with `/`. What is written or removed meanwhile
    /// may be among them or not.
    fn list(&self, prefix: String) -> StoreCall<Vec<StoredObject>>;
}

/// An object of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    /// Its key.
    pub key: String,
    /// Its length.
    pub size_bytes: u64,
}

/// Why a store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreFault {
    /// There is no such object.
    #[error("there is no object {0}")]
    NotFound(String),
    /// What came back is not what was stored.
    #[error("{0}")]
    Damaged(String),
    /// It says no, and will say so again: credentials that have expired, no room, no writes. The text
    /// names the remedy.
    #[error("{0}")]
    Refused(String),
    /// It is in trouble or does not answer, and may in a moment. A write may still arrive.
    #[error("{0}")]
    Unavailable(String),
}

/// A write that is not confirmed after so long is given up.
pub(super) const PUT_DEADLINE: Duration = Duration::from_secs(15);
/// A request that nobody answers for so long is sent again.
const ATTEMPT: Duration = Duration::from_secs(5);
/// Pause before the second attempt; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// Most time for each MiB of a block, on top: blocks may be large, and nobody waits for them.
const PER_MIB: Duration = Duration::from_millis(500);
/// A list that is not complete after so long is asked for again.
const LIST_ATTEMPT: Duration = Duration::from_secs(120);

/// Writes a segment, several times if need be: the bytes are the same each time, so it does not matter
/// which attempt arrives, nor when.
pub(super) async fn put(
    store: &dyn ObjectStore,
    key: &str,
    bytes: &Bytes,
) -> Result<(), StoreFault> {
    put_within(store, key, bytes, ATTEMPT, PUT_DEADLINE).await
}

/// As [`put`], of a block.
pub(super) async fn put_block(
    store: &dyn ObjectStore,
    key: &str,
    bytes: &Bytes,
) -> Result<(), StoreFault> {
    let mib = u32::try_from(bytes.len() >> 20).unwrap_or(u32::MAX);
    let attempt = ATTEMPT + PER_MIB.saturating_mul(mib);
    put_within(store, key, bytes, attempt, 3 * attempt).await
}

async fn put_within(
    store: &dyn ObjectStore,
    key: &str,
    bytes: &Bytes,
    attempt: Duration,
    deadline: Duration,
) -> Result<(), StoreFault> {
    let end = Instant::now() + deadline;
    let mut pause = FIRST_PAUSE;
    loop {
        let call = store.put(key.to_owned(), bytes.clone());
        let fault = match within(attempt.min(end - Instant::now()), call).await {
            Ok(()) => return Ok(()),
            Err(StoreFault::Unavailable(why)) => StoreFault::Unavailable(why),
            Err(final_one) => return Err(final_one),
        };
        if Instant::now() + pause >= end {
            return Err(fault);
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(MAX_PAUSE);
    }
}

/// Lists objects, several times if need be.
pub(super) async fn list(
    store: &dyn ObjectStore,
    prefix: &str,
) -> Result<Vec<StoredObject>, StoreFault> {
    const ATTEMPTS: u32 = 3;
    let mut fault = StoreFault::Unavailable(String::new());
    for attempt in 0..ATTEMPTS {
        tokio::time::sleep(attempt * MAX_PAUSE).await;
        match within(LIST_ATTEMPT, store.list(prefix.to_owned())).await {
            Ok(listed) => return Ok(listed),
            Err(error) => fault = error,
        }
    }
    Err(fault)
}

/// Reads an object, as long as the store does not answer: whoever asks cannot go on without it. An object
/// that is not there is looked for a few times, because the catalog says that it is; so is one that the
/// store does not give although it answers.
pub(super) async fn get(store: &dyn ObjectStore, key: &str) -> Result<Bytes, StoreFault> {
    const LOOKS: u32 = 5;
    const TRIES: u32 = 10;
    let mut pause = FIRST_PAUSE;
    let (mut absent, mut kept_back) = (0, 0);
    loop {
        match within(3 * ATTEMPT, store.get(key.to_owned())).await {
            Ok(bytes) => return Ok(bytes),
            Err(fault @ StoreFault::NotFound(_)) => {
                absent += 1;
                if absent == LOOKS {
                    return Err(fault);
                }
            }
            Err(fault @ StoreFault::Damaged(_)) => return Err(fault),
            Err(error) => {
                tracing::warn!(key, %error, "the store is asked again");
                kept_back += u32::from(answers(store, key).await);
                if kept_back == TRIES {
                    return Err(error);
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(MAX_PAUSE);
    }
}

/// Whether the store answers what is asked of an object that nobody wrote.
async fn answers(store: &dyn ObjectStore, key: &str) -> bool {
    let nobodys = within(ATTEMPT, store.get(format!("{key}.absent"))).await;
    matches!(nobodys, Err(StoreFault::NotFound(_)))
}

/// Removes objects that nobody needs any more, several at a time. What a store does not remove stays there
/// until it is found as what nothing refers to.
pub(super) async fn delete_all(store: Arc<dyn ObjectStore>, keys: Vec<String>) {
    const AT_ONCE: usize = 8;
    const ATTEMPTS: u32 = 3;
    let delete = |key: String| {
        let store = Arc::clone(&store);
        async move {
            let mut fault = None;
            for attempt in 0..ATTEMPTS {
                tokio::time::sleep(attempt * MAX_PAUSE).await;
                match within(ATTEMPT, store.delete(key.clone())).await {
                    Ok(()) => return,
                    Err(error) => fault = Some(error),
                }
            }
            if let Some(fault) = fault {
                tracing::warn!(key, %fault, "an object that nobody needs stays in the store for now");
            }
        }
        .boxed()
    };
    stream::iter(keys).map(delete).buffer_unordered(AT_ONCE).collect::<()>().await;
}

async fn within<T>(time: Duration, call: StoreCall<T>) -> Result<T, StoreFault> {
    match tokio::time::timeout(time, call).await {
        Ok(answer) => answer,
        Err(_) => Err(StoreFault::Unavailable(format!(
            "the store did not answer within {} s: check the network and the store's load",
            time.as_secs_f64()
        ))),
    }
}
