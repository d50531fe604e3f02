//! Files that may change while they are in use.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

/// How old an opinion about a file may be.
const RECHECK: Duration = Duration::from_secs(1);

/// Largest file that is read: a bundle of authorities has some 250 kB.
const MAX_BYTES: u64 = 4 << 20;

/// A small text file; read again when it changed, looked at once a second at most.
#[derive(Debug)]
pub(super) struct WatchedFile {
    path: PathBuf,
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug, Clone)]
struct Seen {
    text: Arc<str>,
    stamp: Stamp,
    checked: Instant,
}

/// What changes when a file does. Secrets of Kubernetes change by exchange of a symbolic link, so
/// the file behind it is another one, possibly with the same time and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

impl WatchedFile {
    pub(super) fn new(path: PathBuf) -> Self {
        WatchedFile { path, seen: Mutex::new(None) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file's content, trimmed; the error names the file.
    pub(super) async fn text(&self) -> io::Result<Arc<str>> {
        let seen = self.seen.lock().clone();
        let stamp = match seen {
            Some(seen) if seen.checked.elapsed() < RECHECK => return Ok(seen.text),
            Some(seen) => {
                let meta = tokio::fs::metadata(&self.path).await.map_err(|e| self.named(e))?;
                let stamp = Stamp::of(&meta);
                if stamp == seen.stamp {
                    *self.seen.lock() = Some(Seen { checked: Instant::now(), ..seen.clone() });
                    return Ok(seen.text);
                }
                stamp
            }
            None => Stamp::of(&tokio::fs::metadata(&self.path).await.map_err(|e| self.named(e))?),
        };
        if stamp.bytes > MAX_BYTES {
            return Err(self.named(io::Error::other(format!(
                "it has {} bytes, which is above the limit of {MAX_BYTES}",
                stamp.bytes
            ))));
        }
        let text = tokio::fs::read_to_string(&self.path).await.map_err(|e| self.named(e))?;
        let text: Arc<str> = Arc::from(text.trim());
        let seen = Seen { text: Arc::clone(&text), stamp, checked: Instant::now() };
        *self.seen.lock() = Some(seen);
        Ok(text)
    }

    fn named(&self, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("cannot read {}: {error}", self.path.display()))
    }
}

impl Stamp {
    fn of(meta: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Stamp { modified: meta.modified().ok(), bytes: meta.len(), inode: meta.ino() }
    }
}
