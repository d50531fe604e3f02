//! Files and directories that surveys read, each once per run.
//!
//! These functions allocate and may block, so they are for surveys only; collectors that run in
//! the pass use [`crate::proc_reader`].

use std::path::Path;

use crate::error::AgentError;
use crate::proc_reader::{parse_f64, parse_i64, read_error, read_once};

/// The names in a directory, ascending, without those that are not UTF-8, which the kernel never
/// makes.
///
/// # Errors
/// `NoData` if it does not exist, `Read` if it cannot be listed.
pub(crate) fn names(directory: &Path) -> Result<Vec<String>, AgentError> {
    let entries = std::fs::read_dir(directory).map_err(|error| read_error(directory, error))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    Ok(names)
}

/// The names in a directory; none if it cannot be listed.
pub(crate) fn names_if_any(directory: &Path) -> Vec<String> {
    names(directory).unwrap_or_default()
}

/// The whole file as text.
///
/// # Errors
/// As [`read_once`].
pub(crate) fn read_text(path: &Path) -> Result<String, AgentError> {
    let mut buffer = Vec::new();
    let length = read_once(path, &mut buffer)?.len();
    buffer.truncate(length);
    Ok(match String::from_utf8(buffer) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// The file without blanks at both ends; nothing if it cannot be read.
///
/// Not every file of a driver can: some answer `EINVAL` while the device sleeps, some only root.
pub(crate) fn text(path: &Path) -> Option<String> {
    read_text(path).ok().map(|text| text.trim().to_owned())
}

/// The number that is the whole file, whatever form a float may have.
pub(crate) fn number(path: &Path) -> Option<f64> {
    parse_f64(text(path)?.as_bytes())
}

/// The whole number, possibly negative, that is the whole file.
pub(crate) fn integer(path: &Path) -> Option<i64> {
    parse_i64(text(path)?.as_bytes())
}

/// Whether `name` begins with `prefix` and ends with a number; yields the number's digits.
pub(crate) fn numbered<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let digits = name.strip_prefix(prefix)?;
    let whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    whole.then_some(digits)
}

/// `text` as part of a metric's name: what may not stand in one becomes an underscore.
pub(crate) fn metric_name(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    text.chars().map(|c| if allowed(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_after_a_prefix() {
        assert_eq!(numbered("mc0", "mc"), Some("0"));
        assert_eq!(numbered("mc", "mc"), None);
        assert_eq!(numbered("mc0a", "mc"), None);
        assert_eq!(numbered("cpu1", "mc"), None);
    }

    #[test]
    fn names_of_metrics() {
        assert_eq!(metric_name("fs.file-nr"), "fs_file_nr");
        assert_eq!(metric_name("größe (kB)"), "gr__e__kB_");
    }

    #[test]
    fn what_is_not_there_reads_as_nothing() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let file = directory.path().join("file");
        assert!(names(&file).expect_err("absent").is_no_data());
        assert_eq!((text(&file), number(&file), integer(&file)), (None, None, None));
        std::fs::write(&file, b" -7\xff\n").expect("write");
        assert_eq!(text(&file).as_deref(), Some("-7\u{fffd}"));
        std::fs::write(&file, b"-7\n").expect("write");
        assert_eq!((number(&file), integer(&file)), (Some(-7.0), Some(-7)));
        assert_eq!(names(directory.path()).expect("listed"), ["file"]);
    }
}
