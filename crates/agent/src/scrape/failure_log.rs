//! `scrape_failure_log_file`: one line of JSON for each scrape that failed.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::counters::ScrapeCounters;

/// Lines that wait for the disk; what comes on top is counted and left out.
const QUEUE: usize = 1_024;

/// Writes to one file; cheap to clone. The file is closed with the last clone.
#[derive(Clone)]
pub(super) struct FailureLog {
    lines: Sender<Vec<u8>>,
}

/// The files of one configuration, each opened once.
#[derive(Default)]
pub(super) struct FailureLogs(HashMap<PathBuf, FailureLog>);

impl FailureLogs {
    /// The log at `path`, appended to if it exists.
    ///
    /// # Errors
    /// It cannot be opened for writing.
    pub(super) async fn open(&mut self, path: &Path) -> io::Result<FailureLog> {
        if let Some(log) = self.0.get(path) {
            return Ok(log.clone());
        }
        let file = File::options().create(true).append(true).open(path).await?;
        let (lines, waiting) = channel(QUEUE);
        tokio::spawn(write(file, waiting, path.to_owned()));
        let log = FailureLog { lines };
        self.0.insert(path.to_owned(), log.clone());
        Ok(log)
    }
}

impl FailureLog {
    /// Writes one line, sooner or later.
    pub(super) fn log(
        &self,
        now_ms: i64,
        job: &str,
        target: &str,
        message: &str,
        counters: &ScrapeCounters,
    ) {
        let line = serde_json::json!({
            "time": model::rfc3339(now_ms),
            "level": "ERROR",
            "msg": message,
            "job_name": job,
            "target": target,
        });
        let mut line = line.to_string().into_bytes();
        line.push(b'\n');
        if self.lines.try_send(line).is_err() {
            counters.failure_lines_dropped.add(1);
        }
    }
}

async fn write(mut file: File, mut lines: Receiver<Vec<u8>>, path: PathBuf) {
    let mut is_well = true;
    while let Some(line) = lines.recv().await {
        let written = async {
            file.write_all(&line).await?;
            file.flush().await
        };
        match written.await {
            Ok(()) => is_well = true,
            Err(error) => {
                if is_well {
                    let path = path.display();
                    tracing::warn!(%path, %error, "cannot write the log of failed scrapes");
                }
                is_well = false;
            }
        }
    }
}
