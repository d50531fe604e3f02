//! `query_cache`: what results of range queries may take.

use std::time::Duration;

use anyhow::{Result, ensure};
use console::CacheSettings;

use super::duration_or_none_ms;
use super::keys::QueryCache;

/// Of the memory, the share that results may take by default, and at most how much.
const DEFAULT_SHARE: u64 = 32;
const MAX_DEFAULT_BYTES: u64 = 512 << 20;
const MAX_BYTES: usize = 1 << 40;
const DEFAULT_RECENT_MS: i64 = 60_000;
const MAX_RECENT_MS: i64 = 24 * 60 * 60 * 1_000;

/// The settings in effect of a process that may take `memory_bytes`.
pub(super) fn settings(keys: &QueryCache, memory_bytes: u64) -> Result<CacheSettings> {
    let default = (memory_bytes / DEFAULT_SHARE).min(MAX_DEFAULT_BYTES);
    let max_bytes = keys.max_bytes.unwrap_or(usize::try_from(default).unwrap_or(MAX_BYTES));
    ensure!(
        max_bytes <= MAX_BYTES,
        "query_cache.max_bytes: {max_bytes} is more than {MAX_BYTES}; give less, or 0 to keep nothing"
    );
    let recent_ms = duration_or_none_ms("query_cache.recent", keys.recent.as_deref())?;
    let recent_ms = recent_ms.unwrap_or(DEFAULT_RECENT_MS);
    ensure!(
        recent_ms <= MAX_RECENT_MS,
        "query_cache.recent: more than a day; results would hardly ever be kept"
    );
    let recent = Duration::from_millis(u64::try_from(recent_ms).unwrap_or(0));
    Ok(CacheSettings { max_bytes, recent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_follow_the_memory() {
        let read = |max_bytes, recent: Option<&str>, memory_bytes| {
            settings(&QueryCache { max_bytes, recent: recent.map(str::to_owned) }, memory_bytes)
        };
        let defaults = read(None, None, 1 << 30).expect("valid");
        assert_eq!((defaults.max_bytes, defaults.recent), (32 << 20, Duration::from_secs(60)));
        assert_eq!(read(None, None, 1 << 40).expect("valid").max_bytes, 512 << 20);
        let given = read(Some(0), Some("5s"), 1 << 30).expect("valid");
        assert_eq!((given.max_bytes, given.recent), (0, Duration::from_secs(5)));
        for none in ["0s", "0"] {
            let given = read(None, Some(none), 1 << 30).expect("keeps all steps");
            assert_eq!(given.recent, Duration::ZERO);
        }
        for (max_bytes, recent, told) in [
            (Some(1 << 41), None, "max_bytes"),
            (None, Some("2d"), "recent"),
            (None, Some("x"), "recent"),
            (None, Some("-1s"), "recent"),
        ] {
            let error = read(max_bytes, recent, 1 << 30).expect_err("refused");
            assert!(error.to_string().contains(&format!("query_cache.{told}")), "{error}");
        }
    }
}
