//! How far a source is read: what is written down with each batch, and again when a broker has it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use rapidhash::v3::{RapidSecrets, rapidhash_v3_inline};
use serde::{Deserialize, Serialize};

/// Not random: what it hashes is compared across restarts.
const SEED: u64 = 0x6c69_6e65_2066_7073;
/// Sources that are gone are remembered for this long, so that a copy of one that appears later is
/// known.
pub(crate) const REMEMBERED_MS: i64 = 24 * 60 * 60 * 1_000;

/// Number of a source. None is given twice in one directory of positions.
pub(crate) type SourceId = u64;

/// How far a source is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Everything before it is dealt with, but for the lines of `held`.
    pub(crate) through: u64,
    /// Lines that a pipeline holds back, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) held: Vec<u64>,
    /// What the source is.
    pub(crate) source: SourceState,
    /// When it was gone and all of it read, milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gone_ms: Option<i64>,
}

/// What a source is known by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SourceState {
    /// A file; offsets are bytes, of what it unpacks to if it is packed.
    File(FileState),
    /// A stream of entries that bear names; offsets count them.
    Entries {
        /// Which one, such as `journal`.
        name: String,
        /// The entry behind which reading goes on.
        cursor: String,
        /// The number of the first entry behind it.
        from: u64,
    },
}

impl Default for SourceState {
    fn default() -> Self {
        SourceState::File(FileState::default())
    }
}

/// What a file is known by. Inodes are used again, so its bytes have a say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileState {
    /// Under which name it was found first: that of the label `filename`.
    pub(crate) path: PathBuf,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// Its first bytes.
    pub(crate) head: Fingerprint,
    /// The bytes before [`Position::through`].
    pub(crate) tail: Fingerprint,
    /// Reading is inside a line whose beginning was too long and is dealt with.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) skipping: bool,
}

/// Some bytes, so that they are known again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    pub(crate) len: u32,
    pub(crate) hash: u64,
}

impl Fingerprint {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let secrets = const { RapidSecrets::seed(SEED) };
        let hash = rapidhash_v3_inline::<true, false, true>(bytes, &secrets);
        Fingerprint { len: u32::try_from(bytes.len()).unwrap_or(u32::MAX), hash }
    }

    /// Whether `bytes` begin with what it is of.
    pub(crate) fn begins(&self, bytes: &[u8]) -> bool {
        let own = bytes.get(..self.len as usize);
        self.len == 0 || own.is_some_and(|bytes| Fingerprint::of(bytes) == *self)
    }
}

impl Position {
    /// Where reading begins again: at the first line of which something is still to come.
    pub(crate) fn resume(&self) -> u64 {
        self.held.first().map_or(self.through, |first| self.through.min(*first))
    }

    /// Whether a line that is read again is dealt with.
    pub(crate) fn is_done(&self, offset: u64) -> bool {
        offset < self.through && self.held.binary_search(&offset).is_err()
    }

    /// The file, if it is one.
    pub(crate) fn file(&self) -> Option<&FileState> {
        match &self.source {
            SourceState::File(file) => Some(file),
            SourceState::Entries { .. } => None,
        }
    }
}

/// One source's new position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Update {
    pub(crate) id: SourceId,
    pub(crate) position: Position,
}

/// The positions of all sources.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "Listed")]
pub(crate) struct Positions {
    /// The next source's number.
    next: SourceId,
    sources: BTreeMap<SourceId, Position>,
    /// The newest file that has an inode: an older one had it before.
    #[serde(skip)]
    by_inode: HashMap<(u64, u64), SourceId>,
    #[serde(skip)]
    by_path: HashMap<PathBuf, Vec<SourceId>>,
}

/// As they are written.
#[derive(Deserialize)]
struct Listed {
    next: SourceId,
    sources: BTreeMap<SourceId, Position>,
}

impl From<Listed> for Positions {
    fn from(listed: Listed) -> Self {
        let Listed { next, sources } = listed;
        let mut positions = Positions { next, sources, ..Positions::default() };
        positions.index();
        positions
    }
}

impl Positions {
    pub(crate) fn apply(&mut self, updates: &[Update]) {
        for update in updates {
            self.next = self.next.max(update.id + 1);
            let before = self.sources.insert(update.id, update.position.clone());
            if let Some(file) = update.position.file() {
                let newest = self.by_inode.entry((file.device, file.inode)).or_insert(update.id);
                *newest = update.id.max(*newest);
                if before.is_none() {
                    self.by_path.entry(file.path.clone()).or_default().push(update.id);
                }
            }
        }
    }

    fn index(&mut self) {
        (self.by_inode, self.by_path) = Default::default();
        for (id, position) in &self.sources {
            if let Some(file) = position.file() {
                self.by_inode.insert((file.device, file.inode), *id);
                self.by_path.entry(file.path.clone()).or_default().push(*id);
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SourceId, &Position)> {
        self.sources.iter().map(|(id, position)| (*id, position))
    }

    #[cfg(test)]
    pub(crate) fn get(&self, id: SourceId) -> Option<&Position> {
        self.sources.get(&id)
    }

    /// A number that no source has had.
    pub(crate) fn next_id(&mut self) -> SourceId {
        self.next += 1;
        self.next - 1
    }

    /// The source of entries with a name.
    pub(crate) fn entries_named(&self, wanted: &str) -> Option<(SourceId, &Position)> {
        self.iter().find(|(_, position)| {
            matches!(&position.source, SourceState::Entries { name, .. } if name == wanted)
        })
    }

    /// A file by its numbers on the disk.
    pub(crate) fn file_at(&self, device: u64, inode: u64) -> Option<(SourceId, &Position)> {
        let id = self.by_inode.get(&(device, inode))?;
        let position = self.sources.get(id)?;
        let is_it = |file: &FileState| (file.device, file.inode) == (device, inode);
        position.file().is_some_and(is_it).then_some((*id, position))
    }

    /// Whether a file of this name was collected.
    pub(crate) fn knows_path(&self, path: &Path) -> bool {
        self.by_path.contains_key(path)
    }

    /// Files whose rotated copy a path may be, the newest last.
    pub(crate) fn copied_to(&self, path: &Path) -> Vec<(SourceId, Position)> {
        let mut ids: Vec<SourceId> = originals(path)
            .iter()
            .filter(|original| is_rotated(original, path))
            .filter_map(|original| self.by_path.get(original))
            .flatten()
            .copied()
            .collect();
        ids.sort_unstable();
        ids.dedup();
        let of = |id| self.sources.get(&id).map(|position| (id, position.clone()));
        ids.into_iter().filter_map(of).collect()
    }

    /// Forgets what is gone for long.
    pub(crate) fn forget(&mut self, now_ms: i64) {
        let is_recent = |gone_ms: i64| now_ms.saturating_sub(gone_ms) < REMEMBERED_MS;
        let before = self.sources.len();
        self.sources.retain(|_, position| position.gone_ms.is_none_or(is_recent));
        if self.sources.len() < before {
            self.index();
        }
    }
}

/// Names that a file may have had before rotation called it `path`: those for which [`is_rotated`] may
/// hold, and some others.
fn originals(path: &Path) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Vec::new();
    };
    let name = name.to_string_lossy();
    let mut found = Vec::new();
    for (at, _) in name.match_indices(['.', '-', '_']).filter(|(at, _)| *at > 0) {
        let (stem, rest) = name.split_at(at);
        found.push(directory.join(stem));
        for extension in rest.split('.').skip(1).filter(|part| !part.is_empty()) {
            found.push(directory.join(format!("{stem}.{extension}")));
        }
    }
    found
}

/// Whether `path` is what rotation calls a file that was `original`: `app.log.1`, `app.log-20261129.gz`,
/// `app-20261129.log`.
pub(crate) fn is_rotated(original: &Path, path: &Path) -> bool {
    if original == path || original.parent() != path.parent() {
        return false;
    }
    let (Some(original), Some(name)) = (original.file_name(), path.file_name()) else {
        return false;
    };
    let (original, name) = (original.to_string_lossy(), name.to_string_lossy());
    let is_mark = |rest: &str| rest.starts_with(['.', '-', '_']);
    if name.strip_prefix(&*original).is_some_and(is_mark) {
        return true;
    }
    let stem = original.rsplit_once('.').map_or(&*original, |(stem, _)| stem);
    let rest = name.strip_prefix(stem).filter(|rest| is_mark(rest));
    // What differs has to be a date or a number.
    rest.is_some_and(|rest| rest[1..].starts_with(|first: char| first.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_rotation_are_known() {
        let check = |original: &str, path: &str| is_rotated(Path::new(original), Path::new(path));
        for name in ["app.log.1", "app.log.2.gz", "app.log-20261129", "app-20261129.log.gz"] {
            assert!(check("/l/app.log", &format!("/l/{name}")), "{name}");
            let originals = originals(Path::new(&format!("/l/{name}")));
            assert!(originals.contains(&PathBuf::from("/l/app.log")), "{originals:?}");
        }
        for name in ["app.log", "apps.log", "app-worker.log", "app.logger", "other.log.1"] {
            assert!(!check("/l/app.log", &format!("/l/{name}")), "{name}");
        }
        assert!(!check("/l/app.log", "/m/app.log.1"));
    }

    #[test]
    fn a_position_with_lines_held_begins_at_the_first_and_leaves_out_what_is_done() {
        let position = Position { through: 100, held: vec![40, 70], ..Position::default() };
        assert_eq!(position.resume(), 40);
        let done: Vec<u64> =
            [40, 50, 70, 80, 100, 120].into_iter().filter(|at| position.is_done(*at)).collect();
        assert_eq!(done, [50, 80]);
        assert_eq!(Position { through: 9, ..Position::default() }.resume(), 9);
    }

    #[test]
    fn numbers_of_sources_are_never_given_twice() {
        let mut positions = Positions::default();
        let first = positions.next_id();
        let gone = Position { gone_ms: Some(0), ..Position::default() };
        positions.apply(&[Update { id: first, position: gone }]);
        positions.forget(REMEMBERED_MS - 1);
        assert!(positions.get(first).is_some());
        positions.forget(REMEMBERED_MS);
        assert!(positions.get(first).is_none());
        assert_eq!(positions.next_id(), first + 1);
        positions.apply(&[Update { id: 7, position: Position::default() }]);
        assert_eq!(positions.next_id(), 8);
    }
}
