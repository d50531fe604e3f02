//! What a data directory remembers of the cluster its broker is of.

use std::path::Path;

use anyhow::{Context, Result, bail};
use blockstore::Disk;
use catalog::{BrokerId, StoreId};
use serde::{Deserialize, Serialize};

/// Below the data directory, which is its owner's alone: the URL of a store may hold a password.
const FILE: &str = "cluster.json";
const NEW_FILE: &str = "cluster.json.new";

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// It is about to found the cluster.
    Founding,
    /// It is about to join.
    Joining,
    /// It is one of the cluster.
    Member,
}

/// Of the file. It grows with every field that an older program must not leave out.
const VERSION: u32 = 2;
/// Since which version there may be a store for segments.
const WITH_SEGMENTS: u32 = 2;

/// What every version of the file has.
#[derive(Deserialize)]
struct Versioned {
    #[serde(default = "first")]
    version: u32,
}

fn first() -> u32 {
    1
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Home {
    #[serde(default = "first")]
    version: u32,
    cluster: String,
    broker: String,
    pub(super) stage: Stage,
    /// The URL of the store as it was given.
    pub(super) store: String,
    /// That of the store for segments, if they have their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    store_segments: Option<String>,
    pub(super) name: String,
    #[serde(default)]
    pub(super) zone: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) advertise: Option<String>,
}

impl Home {
    pub(super) fn new(
        cluster: StoreId,
        broker: BrokerId,
        stage: Stage,
        store: &str,
        name: &str,
    ) -> Home {
        Home {
            version: first(),
            cluster: cluster.to_string(),
            broker: broker.to_string(),
            stage,
            store: store.to_owned(),
            store_segments: None,
            name: name.to_owned(),
            zone: String::new(),
            advertise: None,
        }
    }

    pub(super) fn store_segments(&self) -> Option<&str> {
        self.store_segments.as_deref()
    }

    pub(super) fn set_store_segments(&mut self, url: Option<&str>) {
        self.store_segments = url.map(str::to_owned);
        // An older program may read what says nothing that it does not know.
        self.version = if url.is_some() { WITH_SEGMENTS } else { first() };
    }

    /// As it is, but for where segments lie: that is remembered when the cluster has agreed to it.
    pub(super) fn with_segments_of(&self, other: &Home) -> Home {
        let mut home = self.clone();
        home.set_store_segments(other.store_segments());
        home
    }

    /// Which cluster it is of, and how far it is.
    pub(super) fn become_one_of(&mut self, cluster: StoreId, stage: Stage) {
        (self.cluster, self.stage) = (cluster.to_string(), stage);
    }

    pub(super) fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The number of the broker.
    pub(super) fn broker(&self) -> BrokerId {
        BrokerId(u64::from_str_radix(&self.broker, 16).expect("looked at when it was read"))
    }

    /// What the directory remembers; nothing where one machine is alone, or nobody was.
    pub(super) fn read(data: &Path) -> Result<Option<Home>> {
        let path = data.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let damaged = || {
            format!(
                "{} cannot be understood: restore it, or give another --data and join as a new broker",
                path.display()
            )
        };
        let written: Versioned = serde_json::from_slice(&bytes).with_context(damaged)?;
        if written.version > VERSION {
            bail!(
                "{} was written by a newer version of Watchfire (format {}, this program knows {VERSION}): \
                 start that version on it",
                path.display(),
                written.version
            );
        }
        let home: Home = serde_json::from_slice(&bytes).with_context(damaged)?;
        if u64::from_str_radix(&home.broker, 16).is_err() || store_id(&home.cluster).is_none() {
            bail!(damaged());
        }
        Ok(Some(home))
    }

    /// Remembers it, durably and as a whole.
    pub(super) fn write(&self, disk: &dyn Disk) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).expect("strings are always JSON");
        let write = || {
            disk.remove(NEW_FILE)?;
            let mut file = disk.create(NEW_FILE)?;
            file.append(&[&text, b"\n"])?;
            file.sync_data()?;
            disk.rename(NEW_FILE, FILE)?;
            disk.sync_directory("")
        };
        write().context("remember the cluster in the data directory")
    }
}

/// Forgets a cluster that did not come about.
pub(super) fn forget(disk: &dyn Disk) -> Result<()> {
    let forget = || disk.remove(FILE).and_then(|()| disk.sync_directory(""));
    forget().context("forget the cluster in the data directory")
}

/// Whether a broker of a cluster has used the directory.
pub(crate) fn is_home(data: &Path) -> bool {
    data.join(FILE).exists()
}

/// The inverse of its text.
pub(super) fn store_id(text: &str) -> Option<StoreId> {
    let mut id = [0; 16];
    if text.len() != 2 * id.len() || !text.is_ascii() {
        return None;
    }
    for (index, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(StoreId(id))
}

#[cfg(test)]
mod tests {
    use blockstore::FileDisk;

    use super::*;

    #[test]
    fn a_directory_remembers_its_cluster_and_forgets_it() {
        let data = tempfile::tempdir().expect("a temporary directory");
        assert!(Home::read(data.path()).expect("readable").is_none());
        let disk = FileDisk::open(data.path()).expect("a good disk");
        let (cluster, broker) = (StoreId([0xab; 16]), BrokerId(7));
        let mut home = Home::new(cluster, broker, Stage::Founding, "file:///s", "b-1");
        home.write(&disk).expect("written");
        home.stage = Stage::Member;
        home.advertise = Some("b-1.example:9596".to_owned());
        home.set_store_segments(Some("redis://r/p"));
        assert_eq!(home.version, WITH_SEGMENTS);
        home.set_store_segments(None);
        assert_eq!(home.version, 1, "a version that knows one store reads it");
        let before = home.clone();
        home.set_store_segments(Some("redis://r/p"));
        assert!(home.with_segments_of(&before) == before);
        home.write(&disk).expect("written over");
        let found = Home::read(data.path()).expect("readable").expect("there");
        assert!(found == home && is_home(data.path()));
        assert_eq!((found.broker(), store_id(found.cluster())), (broker, Some(cluster)));
        forget(&disk).expect("removed");
        assert!(!is_home(data.path()));
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        let data = tempfile::tempdir().expect("a temporary directory");
        let good = r#"{"cluster":"abababababababababababababababab","broker":"07","stage":"member",
                       "store":"file:///s","name":"b"}"#;
        let read = |text: &str| {
            std::fs::write(data.path().join(FILE), text).expect("written");
            Home::read(data.path()).map(|home| home.is_some())
        };
        assert!(read(good).expect("understood"));
        let newer = good.replace("{\"cluster\"", "{\"version\":3,\"color\":1,\"cluster\"");
        let newer = format!("{:#}", read(&newer).expect_err("of next year"));
        assert!(newer.contains("newer version") && !newer.contains("--data"), "{newer}");
        for bad in [
            "",
            "{}",
            &good.replace("07", "x"),
            &good.replace("abab", "ab"),
            &good.replace("abab", "aéa"),
            &good.replace("member", "guest"),
            &good.replace("\"name\"", "\"names\""),
        ] {
            let error = format!("{:#}", read(bad).expect_err(bad));
            assert!(error.contains("cluster.json") && error.contains("--data"), "{error}");
        }
    }
}
