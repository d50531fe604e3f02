//! Credentials in one file: a line of JSON for each change, the last one of a key counts.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use super::{CredentialStore, Expected, StoreError, Versioned};
use crate::tls::{create_private_directory, read_limited, write_private};

/// Some 250,000 entries; no installation of one broker has a tenth of it.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// The file is written anew when so many of its lines have been replaced by later ones, and they
/// are more than the others.
const MIN_STALE_LINES: usize = 1_000;

/// A [`CredentialStore`] in a file of its own, which only its owner can read.
///
/// A change is one line and one sync. Reading never waits for a write. An unfinished line at the
/// end, which a crash leaves, was never acknowledged and is cut off.
pub struct FileStore {
    path: PathBuf,
    writer: Mutex<Writer>,
    entries: RwLock<BTreeMap<String, Entry>>,
}

struct Writer {
    file: File,
    /// Of the file, in whole lines.
    length: u64,
    lines: usize,
    version: u64,
    /// Why nothing can be written any more.
    fault: Option<String>,
}

#[derive(Clone)]
struct Entry {
    version: u64,
    value: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    key: std::borrow::Cow<'a, str>,
    version: u64,
    /// Absent when the key was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<std::borrow::Cow<'a, str>>,
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
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            create_private_directory(parent).map_err(|error| unavailable(&error))?;
        }
        let bytes = match read_limited(path, MAX_FILE_BYTES).map_err(|error| unavailable(&error))? {
            Some(bytes) => bytes,
            None => {
                write_private(path, b"").map_err(|error| unavailable(&error))?;
                Vec::new()
            }
        };
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let (entries, version, lines) = replay(path, &bytes[..whole])?;
        let file =
            OpenOptions::new().write(true).open(path).map_err(|error| unavailable(&error))?;
        let length = whole as u64;
        let writer = Writer { file, length, lines, version, fault: None };
        if whole < bytes.len() {
            writer.file.set_len(length).map_err(|error| unavailable(&error))?;
            tracing::warn!(path = %path.display(), "an unfinished change of users is dropped");
        }
        Ok(FileStore {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            entries: RwLock::new(entries),
        })
    }

    /// Changes `key` to `value`, or removes it, if it is as expected. What is read changes once it
    /// is durable.
    fn change(
        &self,
        key: &str,
        value: Option<&str>,
        expected: Expected,
    ) -> Result<u64, StoreError> {
        let mut writer = self.writer.lock();
        if let Some(fault) = &writer.fault {
            return Err(StoreError::Unavailable(fault.clone()));
        }
        let found = self.entries.read().get(key).map(|entry| entry.version);
        let fits = match expected {
            Expected::Any => true,
            Expected::Absent => found.is_none(),
            Expected::Version(version) => found == Some(version),
        };
        if !fits {
            return Err(StoreError::Conflict(key.to_owned()));
        }
        if value.is_none() && found.is_none() {
            return Ok(writer.version);
        }
        let version = writer.version + 1;
        let line = Line { key: key.into(), version, value: value.map(Into::into) };
        let line = encode(&line);
        if writer.length + line.len() as u64 > MAX_FILE_BYTES {
            self.rewrite(&mut writer)?;
        }
        self.append(&mut writer, &line)?;
        writer.version = version;
        let mut entries = self.entries.write();
        match value {
            Some(value) => {
                entries.insert(key.to_owned(), Entry { version, value: value.to_owned() });
            }
            None => {
                entries.remove(key);
            }
        }
        let stale = writer.lines.saturating_sub(entries.len());
        let is_worn = stale > MIN_STALE_LINES && stale > entries.len();
        drop(entries);
        if is_worn && let Err(error) = self.rewrite(&mut writer) {
            // The change itself is done.
            tracing::warn!(%error, "the file of users is not written anew");
        }
        Ok(version)
    }

    fn append(&self, writer: &mut Writer, line: &[u8]) -> Result<(), StoreError> {
        use std::os::unix::fs::FileExt;
        if writer.length + line.len() as u64 > MAX_FILE_BYTES {
            return Err(StoreError::Unavailable(format!(
                "{} would exceed the limit of {MAX_FILE_BYTES} bytes; remove users, tokens or \
                 hosts that are not needed",
                self.path.display()
            )));
        }
        if let Err(error) = writer.file.write_all_at(line, writer.length) {
            // What is there of the line would be read as damage once another follows it.
            if let Err(second) = writer.file.set_len(writer.length) {
                writer.fault = Some(format!("{error}, and then {second}; restart the server"));
            }
            return Err(unavailable(&error));
        }
        if let Err(error) = writer.file.sync_data() {
            // What a failed sync has written nobody knows, and trying again would not tell.
            let fault = format!("sync {}: {error}; restart the server", self.path.display());
            writer.fault = Some(fault.clone());
            return Err(StoreError::Unavailable(fault));
        }
        writer.length += line.len() as u64;
        writer.lines += 1;
        Ok(())
    }

    /// Replaces the file by one that holds what counts and nothing else.
    fn rewrite(&self, writer: &mut Writer) -> Result<(), StoreError> {
        let entries = self.entries.read().clone();
        let mut bytes = Vec::new();
        for (key, entry) in &entries {
            let value = Some(entry.value.as_str().into());
            let line = Line { key: key.as_str().into(), version: entry.version, value };
            bytes.write_all(&encode(&line)).expect("a Vec takes every byte");
        }
        write_private(&self.path, &bytes).map_err(|error| unavailable(&error))?;
        // The handle is still that of the file before.
        match OpenOptions::new().write(true).open(&self.path) {
            Ok(file) => writer.file = file,
            Err(error) => {
                writer.fault = Some(format!("{error}; restart the server"));
                return Err(unavailable(&error));
            }
        }
        writer.length = bytes.len() as u64;
        writer.lines = entries.len();
        Ok(())
    }
}

fn unavailable(error: &dyn fmt::Display) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

fn encode(line: &Line<'_>) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(line).expect("strings and numbers are always JSON");
    bytes.push(b'\n');
    bytes
}

/// What whole lines amount to: entries, highest version, number of lines.
fn replay(path: &Path, bytes: &[u8]) -> Result<(BTreeMap<String, Entry>, u64, usize), StoreError> {
    let mut entries = BTreeMap::new();
    let (mut highest, mut lines) = (0, 0);
    for text in bytes.split_inclusive(|byte| *byte == b'\n') {
        lines += 1;
        let line: Line<'_> = serde_json::from_slice(text).map_err(|_| {
            StoreError::Unavailable(format!(
                "line {lines} of {} is damaged; bring the file back from a backup, or remove it \
                 to begin without users, tokens and hosts",
                path.display()
            ))
        })?;
        highest = highest.max(line.version);
        let version = line.version;
        match line.value {
            Some(value) => {
                let value = value.into_owned();
                entries.insert(line.key.into_owned(), Entry { version, value });
            }
            None => {
                entries.remove(&*line.key);
            }
        }
    }
    Ok((entries, highest, lines))
}

impl From<&Entry> for Versioned {
    fn from(entry: &Entry) -> Self {
        Versioned { value: entry.value.clone().into_bytes(), version: entry.version }
    }
}

impl CredentialStore for FileStore {
    fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        Ok(self.entries.read().get(key).map(Versioned::from))
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>, StoreError> {
        let entries = self.entries.read();
        let from = entries.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        let found = from.take_while(|(key, _)| key.starts_with(prefix));
        Ok(found.map(|(key, entry)| (key.clone(), entry.into())).collect())
    }

    fn put(&self, key: &str, value: &[u8], expected: Expected) -> Result<u64, StoreError> {
        let value = std::str::from_utf8(value)
            .map_err(|_| StoreError::Unavailable("a value is no text".to_owned()))?;
        self.change(key, Some(value), expected)
    }

    fn delete(&self, key: &str, expected: Expected) -> Result<(), StoreError> {
        self.change(key, None, expected).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(store: &FileStore, prefix: &str) -> Vec<String> {
        let found = store.list(prefix).expect("readable");
        found.into_iter().map(|(key, _)| key).collect()
    }

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
        assert_eq!(keys(&store, "auth/"), ["auth/a", "auth/b"]);
        let found = store.get("auth/a").expect("readable").expect("there");
        assert_eq!((found.value.as_slice(), found.version), (&b"two"[..], second));
        store.delete("auth/a", Expected::Any).expect("removed");
        store.delete("auth/a", Expected::Any).expect("no error");
        assert_eq!(keys(&FileStore::open(&path).expect("found"), "auth/"), ["auth/b"]);
        assert!(!format!("{store:?} {found:?}").contains("two"));
        use std::os::unix::fs::PermissionsExt;
        let mode = path.metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn one_of_many_wins() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = FileStore::open(&directory.path().join("store")).expect("empty");
        let conflicts = std::thread::scope(|scope| {
            let write = || store.put("auth/race", b"x", Expected::Absent).is_err();
            let all: Vec<_> = (0..8).map(|_| scope.spawn(write)).collect();
            let all = all.into_iter().map(|thread| thread.join().expect("no panic"));
            all.filter(|lost| *lost).count()
        });
        assert_eq!(conflicts, 7);
    }

    #[test]
    fn replaced_lines_do_not_pile_up() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("store");
        let line =
            |version: u64| format!("{{\"key\":\"k\",\"version\":{version},\"value\":\"v\"}}\n");
        let old: String = (1..=MIN_STALE_LINES as u64 + 1).map(line).collect();
        std::fs::write(&path, old).expect("written");
        let store = FileStore::open(&path).expect("found");
        let version = store.put("k", b"new", Expected::Any).expect("written");
        assert_eq!(version, MIN_STALE_LINES as u64 + 2);
        let text = std::fs::read_to_string(&path).expect("readable");
        assert_eq!(text.lines().count(), 1, "{}", text.len());
        store.put("other", b"x", Expected::Any).expect("written to the new file");
        let store = FileStore::open(&path).expect("found");
        assert_eq!(store.get("k").expect("readable").expect("there").version, version);
        assert_eq!(keys(&store, ""), ["k", "other"]);
    }

    #[test]
    fn what_a_crash_cuts_off_was_never_acknowledged() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("store");
        let store = FileStore::open(&path).expect("empty");
        store.put("auth/a", b"one", Expected::Any).expect("written");
        let before = std::fs::read(&path).expect("readable");
        store.put("auth/a", b"two", Expected::Any).expect("written");
        let after = std::fs::read(&path).expect("readable");
        for length in before.len()..after.len() {
            std::fs::write(&path, &after[..length]).expect("written");
            let store = FileStore::open(&path).expect("the line before counts");
            let found = store.get("auth/a").expect("readable").expect("there");
            assert_eq!(found.value, b"one");
            store.put("auth/b", b"three", Expected::Any).expect("written");
            FileStore::open(&path).expect("whole lines again");
        }
        let mut damaged = after;
        damaged[before.len() / 2] = b'\n';
        std::fs::write(&path, damaged).expect("written");
        let error = FileStore::open(&path).expect_err("damaged").to_string();
        assert!(error.contains("line 1 of") && error.contains("backup"), "{error}");
    }

    proptest! {
        // Every step is a sync.
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn it_agrees_with_a_map(
            steps in prop::collection::vec((0_u8..4, prop::option::of("[a-z\"\\\\\n]{0,4}")), 0..40)
        ) {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let path = directory.path().join("store");
            let store = FileStore::open(&path).expect("empty");
            let mut model = BTreeMap::new();
            for (key, value) in steps {
                let key = format!("k{key}");
                match value {
                    Some(value) => {
                        store.put(&key, value.as_bytes(), Expected::Any).expect("written");
                        model.insert(key, value);
                    }
                    None => {
                        store.delete(&key, Expected::Any).expect("written");
                        model.remove(&key);
                    }
                }
            }
            for store in [store, FileStore::open(&path).expect("found")] {
                let found: BTreeMap<_, _> = store.list("").expect("readable").into_iter()
                    .map(|(key, found)| (key, String::from_utf8(found.value).expect("text")))
                    .collect();
                prop_assert_eq!(&found, &model);
            }
        }
    }
}
