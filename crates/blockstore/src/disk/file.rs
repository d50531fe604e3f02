//! A directory of the operating system as a [`Disk`].
#![expect(clippy::disallowed_methods, reason = "the one place that touches the file system")]

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Disk, DiskFile, assert_plain, fault};
use crate::blobs::{BlobError, BlobInfo, ReadAt};

/// Held for as long as a process uses the directory; its content is the pid.
const LOCK_FILE: &str = "lock";

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it. Two writers would destroy each other's log.
    #[error(
        "data directory {directory} is in use by process {pid}: stop that process or choose \
         another directory"
    )]
    Locked {
        /// The directory.
        directory: PathBuf,
        /// The other process, `unknown` if it did not say.
        pid: String,
    },
    /// It cannot be created, read or locked.
    #[error("{action} data directory {directory}: {source}")]
    Io {
        /// What was tried, in present tense.
        action: &'static str,
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A directory, locked against other processes until it is dropped unless it is shared. Files are
/// opened close-on-exec, as everything in `std` is.
#[derive(Debug)]
pub struct FileDisk {
    root: PathBuf,
    /// The lock lives as long as this handle.
    _lock: Option<File>,
}

impl FileDisk {
    /// Creates the directory if needed and locks it.
    ///
    /// # Errors
    /// `Locked`; faults of the system.
    pub fn open(root: &Path) -> Result<FileDisk, OpenError> {
        let failed =
            |action| move |source| OpenError::Io { action, directory: root.to_owned(), source };
        create_directory(root).map_err(|fault| failed(fault.action)(fault.source))?;
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(root.join(LOCK_FILE))
            .map_err(failed("open the lock of"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = fs::read_to_string(root.join(LOCK_FILE)).unwrap_or_default();
                let pid = if pid.trim().is_empty() { "unknown" } else { pid.trim() };
                return Err(OpenError::Locked { directory: root.to_owned(), pid: pid.to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock")(source)),
        }
        let pid = format!("{:<10}\n", std::process::id());
        // A full disk refuses this; the lock holds all the same.
        let _ = lock.write_all_at(pid.as_bytes(), 0);
        Ok(FileDisk { root: root.to_owned(), _lock: Some(lock) })
    }

    /// Creates the directory if needed and does not lock it: for directories in which every file is
    /// written once, under a name that no other process uses.
    ///
    /// # Errors
    /// Faults of the system.
    pub fn shared(root: &Path) -> Result<FileDisk, OpenError> {
        create_directory(root).map_err(|fault| OpenError::Io {
            action: fault.action,
            directory: root.to_owned(),
            source: fault.source,
        })?;
        Ok(FileDisk { root: root.to_owned(), _lock: None })
    }

    fn resolve(&self, path: &str) -> PathBuf {
        assert_plain(path);
        self.root.join(path)
    }

    fn copy(&self, from: &str, to: &str) -> Result<(), BlobError> {
        fs::copy(self.resolve(from), self.resolve(to)).map_err(|e| fault("copy", from, e))?;
        let copy = File::open(self.resolve(to)).map_err(|e| fault("open", to, e))?;
        copy.sync_all().map_err(|e| sync_failed(to, e))
    }

    /// Creates the directories above the file `path`, durably.
    fn prepare(&self, path: &str) -> Result<(), BlobError> {
        let full = self.resolve(path);
        let Some(directory) = full.parent() else { return Ok(()) };
        create_directory(directory).map_err(|failed| match failed.action {
            SYNC => sync_failed(path, failed.source),
            _ => fault("create the directory of", path, failed.source),
        })
    }
}

impl Disk for FileDisk {
    fn create(&self, path: &str) -> Result<Box<dyn DiskFile>, BlobError> {
        self.prepare(path)?;
        // What is stored is nobody else's, whatever the umask of who started the program.
        let mut options = OpenOptions::new();
        options.append(true).create_new(true).mode(0o600);
        let open = options.open(self.resolve(path));
        let file = open.map_err(|e| fault("create", path, e))?;
        Ok(Box::new(AppendedFile { file, path: path.to_owned() }))
    }

    fn open(&self, path: &str) -> Result<Arc<dyn ReadAt>, BlobError> {
        let open = || {
            let file = File::open(self.resolve(path))?;
            let metadata = file.metadata()?;
            if metadata.is_file() {
                Ok((file, metadata.len()))
            } else {
                Err(io::Error::other("is not a regular file"))
            }
        };
        let (file, size_bytes) = open().map_err(|e| fault("open", path, e))?;
        Ok(Arc::new(ReadFile { file, size_bytes, path: path.to_owned() }))
    }

    fn list(&self, directory: &str) -> Result<Vec<BlobInfo>, BlobError> {
        let mut files = Vec::new();
        let mut directories = vec![directory.to_owned()];
        while let Some(directory) = directories.pop() {
            let read = read_directory(&self.resolve(&directory));
            let entries = match read {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(|e| fault("list", &directory, e))?,
            };
            for (name, size_bytes, is_directory) in entries {
                let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
                if is_directory {
                    directories.push(path);
                } else {
                    files.push(BlobInfo { key: path, size_bytes });
                }
            }
        }
        files.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(files)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), BlobError> {
        self.prepare(to)?;
        fs::rename(self.resolve(from), self.resolve(to)).map_err(|e| fault("rename", from, e))
    }

    fn link(&self, from: &str, to: &str) -> Result<(), BlobError> {
        self.prepare(to)?;
        let linked = fs::hard_link(self.resolve(from), self.resolve(to));
        match linked {
            Err(e) if has_no_links(&e) => self.copy(from, to),
            other => other.map_err(|e| fault("link", from, e)),
        }
    }

    fn rename_directory(&self, from: &str, to: &str) -> Result<(), BlobError> {
        if self.resolve(to).exists() {
            let taken = io::ErrorKind::AlreadyExists.into();
            return Err(fault("rename", to, taken));
        }
        self.rename(from, to)
    }

    fn remove_directory(&self, directory: &str) -> Result<(), BlobError> {
        match fs::remove_dir_all(self.resolve(directory)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|e| fault("remove", directory, e)),
        }
    }

    fn remove(&self, path: &str) -> Result<(), BlobError> {
        match fs::remove_file(self.resolve(path)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|e| fault("remove", path, e)),
        }
    }

    fn truncate(&self, path: &str, size_bytes: u64) -> Result<(), BlobError> {
        let file = OpenOptions::new().write(true).open(self.resolve(path));
        let file = file.map_err(|e| fault("open", path, e))?;
        file.set_len(size_bytes).map_err(|e| fault("truncate", path, e))?;
        file.sync_data().map_err(|e| sync_failed(path, e))
    }

    fn sync_directory(&self, directory: &str) -> Result<(), BlobError> {
        match sync_directory(&self.resolve(directory)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|e| sync_failed(directory, e)),
        }
    }

    fn free_space_bytes(&self) -> Result<u64, BlobError> {
        let space = rustix::fs::statvfs(&self.root)
            .map_err(|e| fault("ask for the free space of", "", e.into()))?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

struct AppendedFile {
    file: File,
    path: String,
}

impl DiskFile for AppendedFile {
    fn append(&mut self, parts: &[&[u8]]) -> Result<(), BlobError> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut left = slices.as_mut_slice();
        // Drops empty slices, which alone would look like a disk that takes nothing.
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match self.file.write_vectored(left) {
                Ok(0) => {
                    let nothing = io::ErrorKind::WriteZero.into();
                    return Err(fault("append to", &self.path, nothing));
                }
                Ok(written) => IoSlice::advance_slices(&mut left, written),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(fault("append to", &self.path, e)),
            }
        }
        Ok(())
    }

    fn sync_data(&mut self) -> Result<(), BlobError> {
        self.file.sync_data().map_err(|e| sync_failed(&self.path, e))
    }

    fn truncate(&mut self, size_bytes: u64) -> Result<(), BlobError> {
        self.file.set_len(size_bytes).map_err(|e| fault("truncate", &self.path, e))
    }
}

struct ReadFile {
    file: File,
    size_bytes: u64,
    path: String,
}

impl ReadAt for ReadFile {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<(), BlobError> {
        self.file.read_exact_at(out, offset).map_err(|e| fault("read", &self.path, e))
    }
}

/// Whether a file cannot have a second name here: another file system, one without links, or too
/// many names.
fn has_no_links(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let codes = [Errno::XDEV, Errno::PERM, Errno::MLINK, Errno::OPNOTSUPP, Errno::NOSYS];
    error.raw_os_error().is_some_and(|code| codes.iter().any(|e| e.raw_os_error() == code))
}

fn sync_failed(path: &str, source: io::Error) -> BlobError {
    BlobError::SyncFailed { key: path.to_owned(), source }
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// What failed while a directory was made.
struct DirectoryFault {
    /// In present tense; [`SYNC`] if its name may not be durable.
    action: &'static str,
    source: io::Error,
}

const SYNC: &str = "sync the directory above";

/// Creates a directory and those above it; each new name is synced before it is used. One whose
/// sync failed must not be used: it is there, so that nobody would sync it again.
fn create_directory(directory: &Path) -> Result<(), DirectoryFault> {
    if directory.as_os_str().is_empty() || directory.is_dir() {
        return Ok(());
    }
    let above = directory.parent().unwrap_or(Path::new(""));
    create_directory(above)?;
    match fs::create_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
        other => other.map_err(|source| DirectoryFault { action: "create", source })?,
    }
    sync_directory(if above.as_os_str().is_empty() { Path::new(".") } else { above })
        .map_err(|source| DirectoryFault { action: SYNC, source })
}

/// Name, size and whether it is a directory. Names that are not UTF-8 are not ours. Links are not
/// followed: one that leads nowhere is a file that cannot be opened.
fn read_directory(directory: &Path) -> io::Result<Vec<(String, u64, bool)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = match entry.metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        if let Ok(name) = entry.file_name().into_string() {
            entries.push((name, metadata.len(), metadata.is_dir()));
        }
    }
    Ok(entries)
}
