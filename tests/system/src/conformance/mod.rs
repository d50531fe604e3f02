//! Cases that are kept as data and need the running program.

mod receiver;
mod receiver_case;
mod receiver_cases;
mod sender;
mod sender_cases;
mod sender_checks;

use std::path::Path;

use anyhow::{Result, bail};

/// Runs the cases in a directory and prints the closing line. Yields whether all passed.
///
/// # Errors
/// A file that is not of the known shape; the program does not start.
pub(crate) fn run(suite: &str, directory: &Path) -> Result<bool> {
    match suite {
        "remote-write" => receiver::run(directory),
        other => bail!("no conformance cases for {other:?}; suites here: remote-write"),
    }
}
