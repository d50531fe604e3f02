//! A process that writes objects and says which were confirmed, to be killed.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use futures_util::stream::{FuturesUnordered, StreamExt};
use objects::{Store, StoreError, StoreOptions};

use crate::contract::body;
use crate::harness::{self, open, options};

/// Writes under way, as a broker has.
const AT_ONCE: usize = 8;

/// Length of an object: some are less than a sector, some are parts of Redis in number.
fn len(number: usize) -> usize {
    number.wrapping_mul(7_919) % 40_000 + if number.is_multiple_of(50) { 2_500_000 } else { 0 }
}

/// Writes `crash/RUN-NUMBER` for ever.
fn write_forever(url: &str) -> Result<()> {
    harness::run(async {
        let credentials = objects::Credentials::from_environment();
        let store = open(url, StoreOptions { credentials, ..options() }).await?;
        let process = std::process::id();
        let mut writes = FuturesUnordered::new();
        for number in 0.. {
            let (store, key) = (store.clone(), format!("crash/{process}-{number}"));
            writes.push(async move {
                let outcome = store.put(&key, body(number, len(number)).into()).await;
                outcome.map(|()| key)
            });
            if writes.len() == AT_ONCE {
                let key = writes.next().await.expect("some are under way")?;
                let mut out = std::io::stdout().lock();
                writeln!(out, "{key}")?;
                out.flush()?;
            }
        }
        Ok(())
    })
}

/// As a subcommand.
pub(crate) fn run(url: &str) -> Result<bool> {
    write_forever(url)?;
    Ok(false)
}

/// The process, and what it has confirmed so far.
pub(crate) struct Writer {
    child: Child,
    confirmed: Arc<Mutex<Vec<String>>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(url: &str) -> Result<Writer> {
        Self::start_with(url, &[])
    }

    /// With credentials in its environment.
    pub(crate) fn start_with(url: &str, environment: &[(&str, &str)]) -> Result<Writer> {
        let own = std::env::current_exe().context("find this program")?;
        let mut child = Command::new(own)
            .args(["writer", url])
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the writer")?;
        let confirmed = Arc::new(Mutex::new(Vec::new()));
        let (lines, told) = (child.stdout.take().context("its output")?, Arc::clone(&confirmed));
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(lines).split(b'\n').map_while(Result::ok) {
                let key = String::from_utf8_lossy(&line).into_owned();
                told.lock().expect("no panic while it is locked").push(key);
            }
        });
        Ok(Writer { child, confirmed, reader: Some(reader) })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL; yields what was confirmed.
    pub(crate) fn kill(mut self) -> Result<Vec<String>> {
        self.child.kill()?;
        self.child.wait()?;
        let reader = self.reader.take().context("the reader runs")?;
        reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
        Ok(std::mem::take(&mut *self.confirmed.lock().expect("no panic while it is locked")))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Fails when it was killed before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads all that was confirmed, and sees that nothing of the rest is torn. Yields how many objects
/// there are that nobody confirmed.
pub(crate) async fn check(store: &Store, confirmed: &[String]) -> Result<usize> {
    let listed = store.list("crash/").await?;
    let keys: BTreeSet<&str> = listed.iter().map(|info| info.key.as_str()).collect();
    for key in confirmed {
        ensure!(keys.contains(key.as_str()), "{key} is lost");
    }
    let confirmed: BTreeSet<&str> = confirmed.iter().map(String::as_str).collect();
    for info in &listed {
        let number = info.key.rsplit('-').next().and_then(|text| text.parse().ok());
        let number: usize = number.with_context(|| format!("{} is no key of ours", info.key))?;
        match store.get(&info.key).await {
            Ok(bytes) => ensure!(bytes == body(number, len(number)), "{} is torn", info.key),
            Err(StoreError::Damaged { .. }) if !confirmed.contains(info.key.as_str()) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(listed.len() - confirmed.len())
}
