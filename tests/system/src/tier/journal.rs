//! Entries of a real journal come once each, whatever is killed meanwhile, and also when the journal has
//! let go of the entry that was read last. `systemd-journal-remote` writes the journal.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::lines::settled;
use crate::harness::random::Random;
use crate::harness::{Launch, Scratch, free_address, now_ms};

const WRITER: &str = "/lib/systemd/systemd-journal-remote";
const ROUNDS: usize = 12;
const BOOT: &str = "0f6e1d9c3b5a47288c1e2d3f4a5b6c7d";

/// Writes numbered entries.
struct Journal {
    directory: PathBuf,
    file: u64,
    next: u64,
    last_us: i64,
}

impl Journal {
    fn begin(directory: &Path) -> Result<Journal> {
        fs::create_dir_all(directory)?;
        Ok(Journal { directory: directory.to_owned(), file: 0, next: 0, last_us: 0 })
    }

    /// Writes `count` entries of this moment, each a microsecond after the other.
    fn write(&mut self, count: u64) -> Result<()> {
        let mut text = String::new();
        for _ in 0..count {
            self.last_us = (self.last_us + 1).max(now_ms() * 1_000);
            text.push_str(&entry(self.last_us, &format!("line {} of the ledger", self.next)));
            self.next += 1;
        }
        self.put(&text)
    }

    fn put(&self, text: &str) -> Result<()> {
        let path = self.directory.join(format!("ledger{}.journal", self.file));
        let mut writer = Command::new(WRITER)
            .arg("--output")
            .arg(&path)
            .arg("-")
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start {WRITER}, of the package systemd-journal-remote"))?;
        writer.stdin.take().context("it is piped")?.write_all(text.as_bytes())?;
        let status = writer.wait()?;
        ensure!(status.success(), "{WRITER} ended with {status}");
        Ok(())
    }

    /// Lets go of all that was written.
    fn vacuum(&mut self) -> Result<()> {
        fs::remove_file(self.directory.join(format!("ledger{}.journal", self.file)))?;
        self.file += 1;
        Ok(())
    }
}

fn entry(time_us: i64, message: &str) -> String {
    format!(
        "__REALTIME_TIMESTAMP={time_us}\n__MONOTONIC_TIMESTAMP={time_us}\n_BOOT_ID={BOOT}\n_HOSTNAME=h\n\
         _SYSTEMD_UNIT=ledger.service\nPRIORITY=6\nMESSAGE={message}\n\n"
    )
}

/// A process that has all roles, and a journal that is written and emptied.
pub(super) fn once_each(scratch: &Scratch) -> Result<String> {
    let mut journal = Journal::begin(&scratch.join("journal"))?;
    let day_ago_us = (now_ms() - 24 * 3_600 * 1_000) * 1_000;
    journal.put(&entry(day_ago_us, "older than it may be"))?;
    journal.write(500)?;
    let listen = free_address()?;
    let config = format!(
        "storage:\n  flush_interval: 500ms\nlogs:\n  containers: false\n  labels: {{job: ledger}}\n  \
         journal:\n    enabled: true\n    max_age: 7h\n    arguments: ['--directory={}']\n",
        journal.directory.display()
    );
    let launch = Launch::all(&scratch.join("data"))
        .config(&config)
        .arguments(&["--listen", &listen.to_string()]);
    let began_ms = now_ms();
    let mut running = launch.start()?;
    let seed = Random::seed();
    let mut random = Random::new(seed);
    for round in 0..ROUNDS {
        journal.write(1 + random.below(40))?;
        sleep(Duration::from_millis(random.below(1_500)));
        running.kill()?;
        journal.write(random.below(40))?;
        running = launch.start()?;
        if round == ROUNDS / 2 {
            // Everything is read before it goes, and more is there when somebody looks again.
            settled(&running.client(), journal.next, began_ms)
                .with_context(|| format!("seed {seed}"))?;
            running.stop()?;
            journal.vacuum()?;
            journal.write(3)?;
            running = launch.start()?;
        }
    }
    let found = settled(&running.client(), journal.next, began_ms)
        .with_context(|| format!("seed {seed}"))?;
    running.stop()?;
    Ok(format!("{ROUNDS} kills and an emptied journal: {found} entries, each once; seed {seed}"))
}
