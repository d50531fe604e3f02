//! A program that writes numbered lines to a file, rotated by all the ways there are.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::harness::random::Random;

/// Writes numbered lines and rotates the file now and then.
struct Writer {
    path: PathBuf,
    file: File,
    next: u64,
    rotations: u64,
    random: Random,
}

impl Writer {
    fn begin(directory: &Path, seed: u64) -> Result<Writer> {
        let path = directory.join("app.log");
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        Ok(Writer { path, file, next: 0, rotations: 0, random: Random::new(seed) })
    }

    fn step(&mut self) -> Result<()> {
        let mut text = String::new();
        for _ in 0..=self.random.below(20) {
            text.push_str(&format!("line {} of the ledger\n", self.next));
            self.next += 1;
        }
        // Some writes end within a line.
        let cut = text.len() - self.random.below(12) as usize;
        self.file.write_all(&text.as_bytes()[..cut])?;
        sleep(Duration::from_millis(self.random.below(10)));
        self.file.write_all(&text.as_bytes()[cut..])?;
        if self.random.below(15) == 0 {
            self.rotate()?;
        }
        Ok(())
    }

    fn rotate(&mut self) -> Result<()> {
        self.rotations += 1;
        let rotated = self.path.with_extension(format!("log.{}", self.rotations));
        match self.random.below(3) {
            0 => self.renew(&rotated)?,
            1 => {
                fs::copy(&self.path, &rotated)?;
                self.file.set_len(0)?;
            }
            _ => {
                self.renew(&rotated)?;
                let status = Command::new("gzip").arg(&rotated).status().context("start gzip")?;
                ensure!(status.success(), "gzip ended with {status}");
            }
        }
        Ok(())
    }

    fn renew(&mut self, rotated: &Path) -> Result<()> {
        fs::rename(&self.path, rotated)?;
        // Who writes goes on for a moment in the file it has.
        self.file.write_all(format!("line {} of the ledger\n", self.next).as_bytes())?;
        self.next += 1;
        self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        Ok(())
    }
}

/// The same on a thread of its own.
pub(crate) struct Writing {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Result<(u64, u64)>>,
}

impl Writing {
    /// Begins `app.log` in a directory.
    pub(crate) fn start(directory: &Path, seed: u64) -> Result<Writing> {
        let mut writer = Writer::begin(directory, seed)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                writer.step()?;
                sleep(Duration::from_millis(30));
            }
            Ok((writer.next, writer.rotations))
        });
        Ok(Writing { stop, thread })
    }

    /// How many lines were written, and how often the file was rotated.
    pub(crate) fn end(self) -> Result<(u64, u64)> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("it does not panic")
    }
}

/// The number of a line that such a program wrote.
///
/// # Errors
/// It never did.
pub(crate) fn number_of(line: &str) -> Result<u64> {
    let number = line.strip_prefix("line ").and_then(|it| it.strip_suffix(" of the ledger"));
    number.and_then(|number| number.parse().ok()).with_context(|| format!("a line {line:?}"))
}
