//! Credentials of a process that has no broker beside it, in one file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{CredentialStore, Expected, StoreError, Versioned};
use crate::tls::{create_private_directory, read_limited, write_private};

/// A [`CredentialStore`] in a file of its own, for consoles that run apart from a broker. Every
/// write replaces the whole file, which is right for the some hundred entries there are. The file
/// can be read by its owner only.
pub struct FileStore {
    path: PathBuf,
    content: Mutex<Content>,
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
        let content = match read_limited(path).map_err(|error| unavailable(&error))? {
            None => Content::default(),
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                StoreError::Unavailable(format!(
                    "{} cannot be understood: {error}; bring it back from a backup, or remove it \
                     to begin without users",
                    path.display()
                ))
            })?,
        };
        Ok(FileStore { path: path.to_owned(), content: Mutex::new(content) })
    }

    /// Writes `next` and, once that is durable, makes it what is read.
    fn replace(&self, content: &mut Content, next: Content) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(&next).expect("strings and numbers are always JSON");
        write_private(&self.path, &bytes)
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        *content = next;
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
        Ok(self.content.lock().keys.get(key).map(Versioned::from))
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>, StoreError> {
        let content = self.content.lock();
        let from = content.keys.range(prefix.to_owned()..);
        let found = from.take_while(|(key, _)| key.starts_with(prefix));
        Ok(found.map(|(key, entry)| (key.clone(), entry.into())).collect())
    }

    fn put(&self, key: &str, value: &[u8], expected: Expected) -> Result<u64, StoreError> {
        let value = String::from_utf8(value.to_vec())
            .map_err(|_| StoreError::Unavailable("a value is no text".to_owned()))?;
        let mut content = self.content.lock();
        content.check(key, expected)?;
        let mut next = content.clone();
        next.version += 1;
        let version = next.version;
        next.keys.insert(key.to_owned(), Entry { version, value });
        self.replace(&mut content, next)?;
        Ok(version)
    }

    fn delete(&self, key: &str, expected: Expected) -> Result<(), StoreError> {
        let mut content = self.content.lock();
        content.check(key, expected)?;
        let mut next = content.clone();
        if next.keys.remove(key).is_some() {
            self.replace(&mut content, next)?;
        }
        Ok(())
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
        std::fs::write(&path, "no store").expect("written");
        let error = FileStore::open(&path).expect_err("damaged").to_string();
        assert!(error.contains("credentials.json") && error.contains("backup"), "{error}");
    }
}
