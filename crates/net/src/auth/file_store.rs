//! Credentials in one file.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{CredentialStore, Expected, StoreError, Versioned};
use crate::tls::{create_private_directory, read_limited, write_private};

/// Some 250,000 entries; no installation of one broker has a tenth of it.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// A [`CredentialStore`] in a file of its own, which can be read by its owner only.
///
/// Every write replaces the whole file and syncs it: a few milliseconds with a thousand entries,
/// some 50 with ten thousand, which is right for what changes by hand or once in weeks. Reading
/// never waits for a write.
pub struct FileStore {
    path: PathBuf,
    /// Held during a write.
    writing: Mutex<()>,
    /// What is durable.
    content: ArcSwap<Content>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u64,
    keys: BTreeMap<String, Entry>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Entry {
    version: u64,
    value: String,
}

/// Without the value.
impl fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Entry").field("version", &self.version).finish_non_exhaustive()
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FileStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl FileStore {
    /// The store in `path`, empty if there is no such file. Its directory is made.
    ///
    /// # Errors
    /// The file cannot be read, or was not written by this.
    pub fn open(path: &Path) -> Result<FileStore, StoreError> {
        let unavailable = |error: &dyn fmt::Display| StoreError::Unavailable(error.to_string());
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            create_private_directory(parent).map_err(|error| unavailable(&error))?;
        }
        let content = match read_limited(path, MAX_FILE_BYTES)
            .map_err(|error| unavailable(&error))?
        {
            None => Content::default(),
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                StoreError::Unavailable(format!(
                    "{} cannot be understood: {error}; bring it back from a backup, or remove it \
                     to begin without users",
                    path.display()
                ))
            })?,
        };
        let content = ArcSwap::from_pointee(content);
        Ok(FileStore { path: path.to_owned(), writing: Mutex::new(()), content })
    }

    /// Changes `key` if it is as expected and, once that is durable, makes it what is read.
    fn change(
        &self,
        key: &str,
        expected: Expected,
        change: impl FnOnce(&mut Content),
    ) -> Result<(), StoreError> {
        let _one_at_a_time = self.writing.lock();
        let content = self.content.load();
        content.check(key, expected)?;
        let mut next = Content::clone(&content);
        change(&mut next);
        let bytes = serde_json::to_vec(&next).expect("strings and numbers are always JSON");
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(StoreError::Unavailable(format!(
                "{} would exceed the limit of {MAX_FILE_BYTES} bytes; remove users, tokens or \
                 hosts that are not needed",
                self.path.display()
            )));
        }
        write_private(&self.path, &bytes)
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        self.content.store(Arc::new(next));
        Ok(())
    }
}

impl Content {
    fn check(&self, key: &str, expected: Expected) -> Result<(), StoreError> {
        let found = self.keys.get(key).map(|entry| entry.version);
        let fits = match expected {
            Expected::Any => true,
            Expected::Absent => found.is_none(),
            Expected::Version(version) => found == Some(version),
        };
        if fits { Ok(()) } else { Err(StoreError::Conflict(key.to_owned())) }
    }
}

impl From<&Entry> for Versioned {
    fn from(entry: &Entry) -> Self {
        Versioned { value: entry.value.clone().into_bytes(), version: entry.version }
    }
}

impl CredentialStore for FileStore {
    fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        Ok(self.content.load().keys.get(key).map(Versioned::from))
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>, StoreError> {
        let content = self.content.load();
        let from = content.keys.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        let found = from.take_while(|(key, _)| key.starts_with(prefix));
        Ok(found.map(|(key, entry)| (key.clone(), entry.into())).collect())
    }

    fn put(&self, key: &str, value: &[u8], expected: Expected) -> Result<u64, StoreError> {
        let value = String::from_utf8(value.to_vec())
            .map_err(|_| StoreError::Unavailable("a value is no text".to_owned()))?;
        let mut version = 0;
        self.change(key, expected, |content| {
            content.version += 1;
            version = content.version;
            content.keys.insert(key.to_owned(), Entry { version, value });
        })?;
        Ok(version)
    }

    fn delete(&self, key: &str, expected: Expected) -> Result<(), StoreError> {
        if expected == Expected::Any && !self.content.load().keys.contains_key(key) {
            return Ok(());
        }
        self.change(key, expected, |content| {
            content.keys.remove(key);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_versioned_key_space_that_survives() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("state/credentials.json");
        let store = FileStore::open(&path).expect("empty");
        assert_eq!(store.get("auth/a").expect("readable"), None);
        let first = store.put("auth/a", b"one", Expected::Absent).expect("written");
        let conflict = StoreError::Conflict("auth/a".to_owned());
        assert_eq!(store.put("auth/a", b"two", Expected::Absent), Err(conflict.clone()));
        let second = store.put("auth/a", b"two", Expected::Version(first)).expect("written");
        assert!(second > first);
        assert_eq!(store.delete("auth/a", Expected::Version(first)), Err(conflict));
        store.put("auth/b", b"three", Expected::Any).expect("written");
        store.put("other", b"x", Expected::Any).expect("written");
        let store = FileStore::open(&path).expect("found");
        let keys = |prefix: &str| {
            let found = store.list(prefix).expect("readable");
            found.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        assert_eq!(keys("auth/"), ["auth/a", "auth/b"]);
        let found = store.get("auth/a").expect("readable").expect("there");
        assert_eq!((found.value.as_slice(), found.version), (&b"two"[..], second));
        store.delete("auth/a", Expected::Any).expect("removed");
        store.delete("auth/a", Expected::Any).expect("no error");
        assert_eq!(keys("auth/"), ["auth/b"]);
        assert!(!format!("{store:?} {found:?}").contains("two"));
        let conflicts = std::thread::scope(|scope| {
            let write = || store.put("auth/race", b"x", Expected::Absent).is_err();
            let all: Vec<_> = (0..8).map(|_| scope.spawn(write)).collect();
            let all = all.into_iter().map(|thread| thread.join().expect("no panic"));
            all.filter(|lost| *lost).count()
        });
        assert_eq!(conflicts, 7);
        std::fs::write(&path, "no store").expect("written");
        let error = FileStore::open(&path).expect_err("damaged").to_string();
        assert!(error.contains("credentials.json") && error.contains("backup"), "{error}");
    }
}
