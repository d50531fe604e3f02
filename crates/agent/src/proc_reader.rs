//! Files of `/proc` and `/sys` that are read again and again, and parsers over their bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::AgentError;

/// Larger than anything the kernel writes into one of these files: `/proc/stat` of a machine with
/// 4,096 CPUs and 20,000 interrupts is below 1 MiB.
const MAX_FILE_BYTES: usize = 8 << 20;

/// First size of a buffer: one page, which is what most of these files need.
const FIRST_BUFFER_BYTES: usize = 4_096;

/// One file that stays open and is read from its start on every pass, into the same buffer.
///
/// Re-reading an open file saves the path walk and the inode work, about 12 % of a pass over 21
/// files. A file that fails is closed and opened anew on the next read, so a device or a mount
/// that comes back is found.
#[derive(Debug)]
pub(crate) struct ProcFile {
    path: PathBuf,
    file: Option<File>,
    buffer: Vec<u8>,
    length: usize,
}

impl ProcFile {
    /// Names the file; nothing is opened yet.
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        ProcFile { path: path.into(), file: None, buffer: Vec::new(), length: 0 }
    }

    /// The whole file as it is now. Allocates only when the file outgrows every earlier read.
    ///
    /// # Errors
    /// `NoData` if the file does not exist or the kernel has the feature switched off, `Read`,
    /// `TooLarge`.
    pub(crate) fn read(&mut self) -> Result<&[u8], AgentError> {
        self.length = 0;
        match self.fill() {
            Ok(length) => self.length = length,
            Err(error) => {
                self.file = None;
                return Err(error);
            }
        }
        Ok(self.last())
    }

    /// What the last [`ProcFile::read`] yielded; empty if it failed.
    pub(crate) fn last(&self) -> &[u8] {
        &self.buffer[..self.length]
    }

    fn fill(&mut self) -> Result<usize, AgentError> {
        let file = match &self.file {
            Some(file) => file,
            None => {
                let opened = File::open(&self.path).map_err(|e| read_error(&self.path, e))?;
                self.file.insert(opened)
            }
        };
        read_all(file, &self.path, &mut self.buffer)
    }

    /// The malformed-file error for this file.
    pub(crate) fn malformed(&self, expected: &'static str) -> AgentError {
        AgentError::Malformed { path: self.path.clone(), expected }
    }
}

/// Reads `file` from its start until the kernel says that nothing follows; yields the length.
///
/// A short read is no end: the kernel hands out records up to its own buffer's size.
fn read_all(file: &File, path: &Path, buffer: &mut Vec<u8>) -> Result<usize, AgentError> {
    let mut length = 0;
    loop {
        if length == buffer.len() {
            if length >= MAX_FILE_BYTES {
                return Err(AgentError::TooLarge {
                    path: path.to_owned(),
                    limit_bytes: MAX_FILE_BYTES,
                });
            }
            buffer.resize((length * 2).clamp(FIRST_BUFFER_BYTES, MAX_FILE_BYTES), 0);
        }
        match file.read_at(&mut buffer[length..], length as u64) {
            Ok(0) => return Ok(length),
            Ok(count) => length += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(read_error(path, e)),
        }
    }
}

/// Reads a file that is not worth keeping open into `buffer`; yields the bytes.
///
/// # Errors
/// As [`ProcFile::read`].
pub(crate) fn read_once<'a>(path: &Path, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], AgentError> {
    let file = File::open(path).map_err(|e| read_error(path, e))?;
    let length = read_all(&file, path, buffer)?;
    Ok(&buffer[..length])
}

/// `NoData` for what a kernel answers when it lacks a feature, `Read` for the rest.
pub(crate) fn read_error(path: &Path, source: io::Error) -> AgentError {
    let absent = matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::Unsupported)
        || matches!(source.kind(), io::ErrorKind::NotADirectory);
    // Pressure files answer EOPNOTSUPP when booted with psi=0.
    if absent || source.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) {
        AgentError::NoData { path: path.to_owned() }
    } else {
        AgentError::Read { path: path.to_owned(), source }
    }
}

/// The lines of `bytes`, without their line feeds. A last line may lack one.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty())
}

/// The fields of a line, separated by any number of blanks and tabs.
pub(crate) fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&b| b == b' ' || b == b'\t').filter(|field| !field.is_empty())
}

/// A decimal number without sign. `None` if a byte is no digit, for the empty string, and when
/// the number does not fit.
pub(crate) fn parse_u64(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let mut number = 0_u64;
    for &digit in digits {
        let value = digit.wrapping_sub(b'0');
        if value > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(value))?;
    }
    Some(number)
}

/// A decimal number with an optional minus sign.
pub(crate) fn parse_i64(text: &[u8]) -> Option<i64> {
    match text.strip_prefix(b"-") {
        Some(digits) => 0_i64.checked_sub_unsigned(parse_u64(digits)?),
        None => i64::try_from(parse_u64(text)?).ok(),
    }
}

/// A hexadecimal number, with or without `0x`.
pub(crate) fn parse_hex(text: &[u8]) -> Option<u64> {
    let digits = text.strip_prefix(b"0x").unwrap_or(text);
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    let mut number = 0_u64;
    for &digit in digits {
        let value = char::from(digit).to_digit(16)?;
        number = number << 4 | u64::from(value);
    }
    Some(number)
}

/// A decimal number as a float; the nearest one, as `strconv.ParseFloat` gives it.
pub(crate) fn parse_f64(text: &[u8]) -> Option<f64> {
    match parse_u64(text) {
        // Exact below 2^53 and correctly rounded above, so the same as parsing as a float.
        Some(number) => Some(number as f64),
        None => std::str::from_utf8(text).ok()?.parse().ok(),
    }
}

/// `bytes` without blanks and line feeds at both ends.
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_file_is_read_again_as_it_is_now() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("loadavg");
        let mut file = ProcFile::new(&path);
        assert!(file.read().expect_err("absent").is_no_data());
        std::fs::write(&path, "1 2").expect("write");
        assert_eq!(file.read().expect("present"), b"1 2");
        std::fs::write(&path, vec![b'x'; 10_000]).expect("write");
        assert_eq!(file.read().expect("grown").len(), 10_000);
        std::fs::write(&path, "").expect("write");
        assert_eq!(file.read().expect("empty"), b"");
    }

    #[test]
    fn an_endless_file_is_refused() {
        let mut file = ProcFile::new("/dev/zero");
        assert!(matches!(file.read(), Err(AgentError::TooLarge { .. })));
    }

    #[test]
    fn numbers_at_their_limits() {
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
        assert_eq!(parse_u64(b""), None);
        assert_eq!(parse_u64(b"1a"), None);
        assert_eq!(parse_i64(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse_i64(b"-"), None);
        assert_eq!(parse_hex(b"0x1303"), Some(0x1303));
        assert_eq!(parse_hex(b"ffffffffffffffff"), Some(u64::MAX));
        assert_eq!(parse_hex(b"0x"), None);
        assert_eq!(parse_f64(b"0.21"), Some(0.21));
        assert_eq!(parse_f64(b"x"), None);
    }

    proptest! {
        #[test]
        fn numbers_agree_with_the_standard_library(text in "[0-9a-fx -]{0,22}") {
            let bytes = text.as_bytes();
            prop_assert_eq!(parse_u64(bytes), text.parse::<u64>().ok());
            prop_assert_eq!(parse_i64(bytes), text.parse::<i64>().ok());
        }
    }
}
