//! A program beside the servers: started with its output in a file, killed when dropped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::usage;

/// A start takes at most this long.
const START_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// A running program.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts it; what it writes goes to the file `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Program> {
        let name = command.get_program().to_string_lossy().into_owned();
        let file = File::create(log).with_context(|| format!("make {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        Ok(Program { name, child, log: log.to_owned() })
    }

    /// Waits until `is_ready` is true.
    ///
    /// # Errors
    /// The program ended or is not ready after a minute; with the end of what it wrote.
    pub(crate) fn wait_until(&mut self, mut is_ready: impl FnMut() -> bool) -> Result<()> {
        let started = Instant::now();
        while !is_ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}:\n{}", self.name, self.last_words());
            }
            if started.elapsed() > START_LIMIT {
                bail!("{} is not ready after {START_LIMIT:?}:\n{}", self.name, self.last_words());
            }
            sleep(POLL);
        }
        Ok(())
    }

    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        usage::cpu_seconds(self.child.id())
    }

    pub(crate) fn memory(&self) -> Result<usage::Memory> {
        usage::memory(self.child.id())
    }

    fn last_words(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(2_000)..]).into_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only if the program has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
