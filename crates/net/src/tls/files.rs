//! Files that hold keys: private from the first byte, whole or not there.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::TlsError;

/// No certificate chain or key is longer.
pub(crate) const MAX_CERTIFICATE_BYTES: u64 = 1 << 20;

/// Makes `directory` and its parents; the last is for the owner alone.
pub(crate) fn create_private_directory(directory: &Path) -> Result<(), TlsError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| TlsError::file("create", directory, error))
}

/// Replaces `path` by `bytes`, mode 0600. After a crash the file is the old one or the new one.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), TlsError> {
    replace(path, bytes, 0o600)
}

/// As [`write_private`], readable by everyone, for certificates.
pub(crate) fn write_public(path: &Path, bytes: &[u8]) -> Result<(), TlsError> {
    replace(path, bytes, 0o644)
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), TlsError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
    let written = write_new(&beside, bytes, mode)
        .and_then(|()| std::fs::rename(&beside, path))
        .and_then(|()| sync_directory(path));
    written.map_err(|error| {
        // What is left would only be in the way of the next try; that it is left is no new fault.
        let _ = std::fs::remove_file(&beside);
        TlsError::file("write", path, error)
    })
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    // A left-over of a process with the same number.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // The mask of the process may have taken bits that are wanted.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_directory(path: &Path) -> std::io::Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

/// The content of `path`, or `None` if there is no such file. One of more than `limit` bytes is an
/// error, before it is in memory.
pub(crate) fn read_limited(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, TlsError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(TlsError::file("open", path, error)),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| TlsError::file("read", path, error))?;
    if bytes.len() as u64 > limit {
        return Err(TlsError::Invalid(format!(
            "{} is larger than {limit} bytes, so it is not what it should be",
            path.display()
        )));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_means_private_and_replaced_means_whole() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let inner = directory.path().join("a/b");
        create_private_directory(&inner).expect("made");
        let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&inner), 0o700);
        let key = inner.join("key.pem");
        write_private(&key, b"one").expect("written");
        std::fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("changed");
        write_private(&key, b"two").expect("written");
        assert_eq!(mode(&key), 0o600);
        write_public(&inner.join("ca.pem"), b"three").expect("written");
        assert_eq!(mode(&inner.join("ca.pem")), 0o644);
        assert_eq!(
            read_limited(&key, MAX_CERTIFICATE_BYTES).expect("readable").as_deref(),
            Some(&b"two"[..])
        );
        assert_eq!(read_limited(&inner.join("none"), 1).expect("no fault"), None);
        assert_eq!(std::fs::read_dir(&inner).expect("readable").count(), 2);
        std::fs::write(&key, vec![b'x'; (1 << 20) + 1]).expect("written");
        assert!(read_limited(&key, MAX_CERTIFICATE_BYTES).is_err());
    }
}
