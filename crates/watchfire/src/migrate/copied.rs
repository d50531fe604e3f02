//! The copy of the one machine's data that a move reads.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use blockstore::{FileDisk, OpenError};
use broker::{Broker, BrokerConfig, StoreCopy};
use net::auth::LocalAccess;

use super::data_of;
use super::interrupt::Interrupt;
use super::words::Words;
use crate::about::now_ms;
use crate::http_client::{Credentials, HttpClient};
use crate::waiting::Waiting;

/// Much memory takes its time to be written.
pub(super) const TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// Deletes that come while the copy is made make another one necessary.
const COPIES: u32 = 3;
/// So their names begin, by which those are known that another run left.
const PREFIX: &str = "migrate-";

/// Keeps a second move of the same directory out until it is dropped.
pub(super) struct OnlyOne(#[expect(dead_code, reason = "holds the lock")] File);

impl OnlyOne {
    /// Holds the directory, and removes copies that an earlier move left.
    ///
    /// # Errors
    /// Another move is at work, or the directory cannot be read.
    pub(super) fn in_directory(from: &Path, words: Words) -> Result<OnlyOne> {
        let log = from.join("log");
        // No file of its own, which would be left to somebody else.
        let directory = File::open(&log).with_context(|| format!("open {}", log.display()))?;
        match directory.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => bail!(words.another_is_at_work(from)),
            Err(std::fs::TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("lock {}", log.display()));
            }
        }
        let copies = match std::fs::read_dir(from.join("snapshots")) {
            Ok(copies) => copies,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(OnlyOne(directory));
            }
            Err(error) => return Err(error).context("list the snapshots"),
        };
        for copy in copies {
            let copy = copy.context("list the snapshots")?;
            if copy.file_name().to_string_lossy().starts_with(PREFIX) {
                let path = copy.path();
                let removed = std::fs::remove_dir_all(&path);
                removed.with_context(|| format!("remove {}", path.display()))?;
                eprintln!("{}", words.left_behind(&path));
            }
        }
        Ok(OnlyOne(directory))
    }
}

/// A copy, made for this move and removed after it.
pub(super) struct Copied {
    pub(super) directory: PathBuf,
    pub(super) copy: StoreCopy,
    /// Deletes of the machine, by their numbers, as far as they were still known.
    pub(super) deletes: BTreeMap<u64, String>,
    words: Words,
}

impl Copied {
    /// Has the copy made by the server that uses the directory, or here if none does. If it is only
    /// looked at, nothing is written anew for it.
    pub(super) fn make(
        from: &Path,
        is_looked_at: bool,
        interrupt: &Interrupt,
        words: Words,
    ) -> Result<Copied> {
        let mut maker = Maker::of(from, words)?;
        let mut deletes = BTreeMap::new();
        for _ in 0..COPIES {
            let waiting = Waiting::begin(words.copying());
            let name = maker.copy(from);
            drop(waiting);
            let directory = from.join("snapshots").join(name?);
            let opened = StoreCopy::open(&directory).context("read the copy");
            if opened.is_err() {
                let _ = std::fs::remove_dir_all(&directory);
            }
            let copy = opened?;
            deletes.extend(copy.deletes());
            let deletes = deletes.clone();
            let copied = Copied { directory, copy, deletes, words };
            interrupt.check()?;
            if is_looked_at || !copied.copy.has_deletes() {
                return Ok(copied);
            }
            let waiting = Waiting::begin(words.cleaning());
            let cleaned = maker.clean();
            drop(waiting);
            cleaned?;
            interrupt.check()?;
        }
        bail!(words.deleted_meanwhile())
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            eprintln!("{}", self.words.copy_stays(&self.directory, &error));
        }
    }
}

/// Who can make a copy.
enum Maker {
    /// The server whose directory it is.
    Server(Box<HttpClient>),
    /// Nobody uses the directory: a broker without a socket.
    Here(Broker),
}

impl Maker {
    fn of(from: &Path, words: Words) -> Result<Maker> {
        // Before anything is written there.
        let owner = from.metadata().context("look at --from")?.uid();
        let is_owners = owner == rustix::process::geteuid().as_raw();
        let is_used = from.join("lock").exists() && is_locked(from)?;
        if is_used {
            let access = LocalAccess::read(from).context("find the server that uses --from")?;
            let token = Credentials::Bearer(access.token().clone());
            let client = HttpClient::new(access.url(), &token)?.with_answer_timeout(TIMEOUT);
            return Ok(Maker::Server(Box::new(client)));
        }
        if !is_owners {
            bail!(words.not_the_owner(from, owner));
        }
        // Nothing is looked after: how long its data is kept is written in a configuration that nobody gave.
        let config = BrokerConfig::without_upkeep(from.to_owned(), now_ms);
        let broker = Broker::open(config, std::sync::Arc::default()).context("open --from")?;
        Ok(Maker::Here(broker))
    }

    /// Yields its name.
    fn copy(&mut self, from: &Path) -> Result<String> {
        match self {
            Maker::Server(client) => {
                let path = "/api/v1/admin/tsdb/snapshot";
                let told = data_of(client.post_form(path, &[])?.success()?)?;
                let name = told["name"].as_str().context("the server names no copy")?;
                let (copies, named) = (from.join("snapshots"), format!("{PREFIX}{name}"));
                std::fs::rename(copies.join(name), copies.join(&named))
                    .with_context(|| format!("give the copy {name} a name of its own"))?;
                Ok(named)
            }
            Maker::Here(broker) => {
                let name = format!("{PREFIX}{}", now_ms());
                broker.snapshot(&name, true).context("make a copy")?;
                Ok(name)
            }
        }
    }

    fn clean(&mut self) -> Result<()> {
        match self {
            Maker::Server(client) => {
                client.post_form("/api/v1/admin/tsdb/clean_tombstones", &[])?.success()?;
            }
            Maker::Here(broker) => broker.clean_deleted().context("remove what is deleted")?,
        }
        Ok(())
    }
}

/// Whether a process uses the directory.
fn is_locked(from: &Path) -> Result<bool> {
    match FileDisk::open(from) {
        Ok(_unlocked) => Ok(false),
        Err(OpenError::Locked { .. }) => Ok(true),
        Err(error) => Err(error).context("open --from"),
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        if let Maker::Here(broker) = self {
            broker.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::Language;

    #[test]
    fn one_move_at_a_time_and_copies_of_earlier_ones_go() {
        let data = tempfile::tempdir().expect("a temporary directory");
        let (from, words) = (data.path(), Words(Language::En));
        assert!(OnlyOne::in_directory(from, words).is_err(), "there is no log");
        for directory in ["log", "snapshots/migrate-20261129", "snapshots/20261129"] {
            std::fs::create_dir_all(from.join(directory)).expect("new");
        }
        let first = OnlyOne::in_directory(from, words).expect("nobody else");
        assert!(!from.join("snapshots/migrate-20261129").exists());
        assert!(from.join("snapshots/20261129").exists(), "that is somebody's backup");
        let second = OnlyOne::in_directory(from, words).err().expect("the first is at work");
        assert!(second.to_string().contains("another `watchfire migrate`"), "{second}");
        drop(first);
        OnlyOne::in_directory(from, words).expect("the first is over");
    }
}
