//! What is asked of the system about files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises this process' limit on open files as far as it may itself; half of it is left to others.
pub(super) fn most_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let effective = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    effective.map_or(usize::MAX, |files| usize::try_from(files / 2).unwrap_or(usize::MAX))
}

/// Where the first line begins at or behind a byte; the byte itself at the end of the file.
pub(super) fn line_begin(path: &Path, at: u64) -> io::Result<u64> {
    if at == 0 {
        return Ok(0);
    }
    let mut bytes = vec![0; 64 << 10];
    let len = File::open(path)?.read_at(&mut bytes, at - 1)?;
    let newline = memchr::memchr(b'\n', &bytes[..len]);
    Ok(newline.map_or(at, |newline| at + newline as u64))
}
