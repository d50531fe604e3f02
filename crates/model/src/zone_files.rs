//! Zones of time by name, of files that a host has.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::zone::offset_at;

/// Finds the file of a zone by its name; `None` where there is no such zone. `UTC` and the empty name
/// need no file and have none.
pub type Zones = fn(&str) -> Option<Arc<[u8]>>;

/// Knows no zone.
pub const NO_ZONES: Zones = |_| None;

/// Where hosts keep the files.
const DIRECTORY: &str = "/usr/share/zoneinfo";

/// Largest file that is kept; those of the database are below 4 KiB.
const MAX_FILE_BYTES: usize = 256 << 10;

/// Names that are remembered; the database has some 600.
const MAX_NAMES: usize = 1_024;

/// Files of zones, read when they are first asked for.
#[derive(Debug)]
pub struct ZoneFiles {
    read: fn(&Path) -> io::Result<Vec<u8>>,
    known: Mutex<HashMap<String, Option<Arc<[u8]>>>>,
}

impl ZoneFiles {
    /// Files that `read` reads.
    pub fn new(read: fn(&Path) -> io::Result<Vec<u8>>) -> Self {
        ZoneFiles { read, known: Mutex::default() }
    }

    /// The file of a zone, `None` if there is none of that name. `Local` is the host's own. What was
    /// found, or not, is remembered.
    pub fn get(&self, name: &str) -> Option<Arc<[u8]>> {
        let path = path_of(name)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(name) {
            return found.clone();
        }
        let file = (self.read)(&path).ok().filter(|file| file.len() <= MAX_FILE_BYTES);
        let file = file.filter(|file| offset_at(file, 0).is_some()).map(Arc::from);
        // Names come from queries and lines, so there may be any number of them.
        if known.len() == MAX_NAMES {
            known.clear();
        }
        known.insert(name.to_owned(), file.clone());
        file
    }
}

/// Where the file of a zone is; `None` if the text is no name of one, or one that needs none.
fn path_of(name: &str) -> Option<PathBuf> {
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']);
    match name {
        "" | "UTC" => None,
        "Local" => Some(PathBuf::from("/etc/localtime")),
        name if name.len() <= 128 && name.split('/').all(is_part) => {
            Some(Path::new(DIRECTORY).join(name))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    static READS: AtomicUsize = AtomicUsize::new(0);

    fn read(path: &Path) -> io::Result<Vec<u8>> {
        READS.fetch_add(1, Ordering::Relaxed);
        match path.to_str() {
            Some("/usr/share/zoneinfo/Asia/Tokyo" | "/etc/localtime") => {
                Ok(crate::zone::tests::fixed("JST", 9 * 3_600))
            }
            Some("/usr/share/zoneinfo/zone.tab") => Ok(b"no zone".to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    #[test]
    fn files_are_read_once_and_only_those_of_zones() {
        let files = ZoneFiles::new(read);
        for _ in 0..3 {
            assert!(files.get("Asia/Tokyo").is_some() && files.get("Local").is_some());
            assert!(files.get("zone.tab").is_none() && files.get("Nowhere").is_none());
            for none in ["", "UTC", "/etc/localtime", "../localtime", "a//b", "a\0"] {
                assert!(files.get(none).is_none(), "{none}");
            }
        }
        assert_eq!(READS.load(Ordering::Relaxed), 4);
        for number in 0..2 * MAX_NAMES {
            assert!(files.get(&number.to_string()).is_none());
        }
        assert!(files.known.lock().expect("no panic").len() <= MAX_NAMES);
    }
}
