//! The parts of the harness of `tests/system` that know nothing of the program.

#[path = "../../system/src/harness/ceph.rs"]
#[allow(dead_code, reason = "each crate needs another part")]
pub(crate) mod ceph;
#[path = "../../system/src/harness/image.rs"]
#[allow(dead_code, reason = "not every test breaks file systems")]
pub(crate) mod image;
#[path = "../../system/src/harness/peer.rs"]
#[allow(dead_code, reason = "each crate needs another part")]
pub(crate) mod peer;
#[path = "../../system/src/harness/ports.rs"]
pub(crate) mod ports;
#[path = "../../system/src/harness/random.rs"]
#[allow(dead_code, reason = "not every test needs all of it")]
pub(crate) mod random;
#[path = "../../system/src/harness/redis.rs"]
#[allow(dead_code, reason = "each crate needs another part")]
pub(crate) mod redis;
#[path = "../../system/src/harness/runner.rs"]
pub(crate) mod runner;

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result};
use objects::{Store, StoreOptions, StoreUrl};

pub(crate) use runner::{Group, Scratch};

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.expect("the clock is past 1970").as_millis()).expect("fits for ages")
}

/// Runs a test on a runtime of its own.
pub(crate) fn run<T>(test: impl Future<Output = Result<T>>) -> Result<T> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().context("make a runtime")?;
    runtime.block_on(test)
}

/// As a cache, so that every kind of store is taken; without credentials of the environment.
pub(crate) fn options() -> StoreOptions {
    StoreOptions { credentials: objects::Credentials::none(), ..StoreOptions::cache() }
}

/// The same for somebody in a hurry.
pub(crate) fn impatient() -> StoreOptions {
    let deadline = Duration::from_secs(3);
    StoreOptions {
        write_deadline: deadline,
        read_deadline: deadline,
        list_deadline: deadline,
        ..options()
    }
}

pub(crate) async fn open(url: &str, options: StoreOptions) -> Result<Store> {
    let url = StoreUrl::parse(url).context("read the URL")?;
    Store::open(&url, options).await.context("open the store")
}
