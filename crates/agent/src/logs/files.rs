//! The files that are followed: which there are, which of them are the same, and whose turn it is.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::batch::LinesBatch;
use super::config::{FileGroup, Start};
use super::file::{Begin, Read, Scratch, Tailed, continues, head_of, is_packed};
use super::glob::Glob;
use super::path_labels;
use super::position::{FileState, Position, Positions, REMEMBERED_MS, SourceId, Update};
use super::status::{CollectionStatus, LookStatus, PatternStatus};
use crate::clock::Now;
use system::{line_begin, most_files};

mod moved;
mod system;

/// A file that is quiet for this long, and how often it is looked at then.
const PACES: [(Duration, Duration); 4] = [
    (Duration::from_secs(10), Duration::from_millis(100)),
    (Duration::from_secs(60), Duration::from_millis(500)),
    (Duration::from_secs(600), Duration::from_secs(1)),
    (Duration::MAX, Duration::from_secs(2)),
];
/// Quiet files come due together, on this grid: each look for who is due goes over all of them.
const GRID: Duration = Duration::from_millis(500);
/// When nothing is due, it is looked for who is after this time.
const NOTHING_DUE: Duration = Duration::from_secs(60);
/// Who wrote to a file that was renamed may go on for a while.
const RENAMED_PATIENCE: Duration = Duration::from_secs(600);
/// … that was removed.
const REMOVED_PATIENCE: Duration = Duration::from_secs(3);
/// A copy of a file that is shorter than what was read of that one is being written.
const COPY_PATIENCE: Duration = Duration::from_secs(10);
/// Chunks of one file before the others have their turn.
const CHUNKS: usize = 4;

/// All files that are followed.
pub(crate) struct Files {
    groups: Vec<FileGroup>,
    host: String,
    tailed: HashMap<SourceId, Tailed>,
    by_inode: HashMap<(u64, u64), SourceId>,
    /// Our own output, which must not be fed to ourselves.
    own: HashSet<(u64, u64)>,
    /// How far all sources are read, those of earlier runs included.
    pub(crate) positions: Positions,
    /// Groups of which one names a file that is collected for the other, so that each is told once.
    overlaps: HashSet<(usize, usize)>,
    /// Paths that could not be opened, so that each is told once.
    troubled: HashSet<PathBuf>,
    /// Packed files that are read to their end, and their sizes.
    done: HashMap<(u64, u64), u64>,
    /// Sources that were found to be gone and are not noted as such yet.
    gone: Vec<Update>,
    /// Files that may be open at a time.
    most: usize,
    has_scanned: bool,
    /// Where the grid of polls begins.
    began: Instant,
    /// Nothing has its turn before.
    due_at: Instant,
}

/// A file that begins to be followed, or why it does not.
type Begun = Result<(SourceId, FileState, Begin), &'static str>;

/// What a turn of all files brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// All that is due was looked at.
    Done,
    /// The batch is full; files wait.
    Full,
}

impl Files {
    pub(crate) fn new(groups: Vec<FileGroup>, host: String, positions: Positions) -> Self {
        let own = ["/proc/self/fd/1", "/proc/self/fd/2"];
        let own = own.iter().filter_map(|path| fs::metadata(path).ok());
        Files {
            groups,
            host,
            tailed: HashMap::new(),
            by_inode: HashMap::new(),
            own: own.map(|info| (info.dev(), info.ino())).collect(),
            positions,
            overlaps: HashSet::new(),
            troubled: HashSet::new(),
            done: HashMap::new(),
            gone: Vec::new(),
            most: most_files(),
            has_scanned: false,
            began: Instant::now(),
            due_at: Instant::now(),
        }
    }

    /// Looks which files there are.
    pub(crate) fn scan(&mut self, now: Now, status: &CollectionStatus) {
        let mut looked = LookStatus::default();
        for group in 0..self.groups.len() {
            let mut found = Vec::new();
            for glob in &self.groups[group].paths {
                let before = found.len();
                glob.find(&mut found);
                let (pattern, files) = (glob.as_str().to_owned(), found.len() - before);
                let reason = (files == 0).then(|| glob.why_nothing());
                looked.patterns.push(PatternStatus { pattern, files, reason });
            }
            found.sort_unstable();
            found.dedup();
            for path in found {
                let is_excluded = |glob: &Glob| glob.is_match(&path);
                if self.groups[group].exclude.iter().any(is_excluded) {
                    looked.pass_over(&path, "the configuration excludes it");
                } else if let Some(reason) = self.meet(group, &path, now, status) {
                    looked.pass_over(&path, reason);
                }
            }
        }
        *status.looked.lock() = looked;
        if !self.has_scanned {
            self.has_scanned = true;
            self.find_moved(now, status);
        }
        status.files.set(self.tailed.values().filter(|file| !file.is_finished()).count());
    }

    /// Takes note of a path that a pattern names; yields why it is not followed.
    fn meet(
        &mut self,
        group: usize,
        path: &Path,
        now: Now,
        status: &CollectionStatus,
    ) -> Option<String> {
        let info = match fs::metadata(path) {
            Ok(info) => info,
            Err(error) => return Some(error.to_string()),
        };
        let key = (info.dev(), info.ino());
        if self.own.contains(&key) {
            return Some("this process itself writes to it".to_owned());
        }
        if self.done.get(&key) == Some(&info.len()) {
            self.keep_known(key, now);
            return Some("it is packed, and read to its end".to_owned());
        }
        if let Some(file) = self.by_inode.get(&key).and_then(|id| self.tailed.get_mut(id)) {
            // It was renamed, or has two names.
            let is_there =
                |path: &Path| fs::metadata(path).is_ok_and(|info| (info.dev(), info.ino()) == key);
            if file.path == path {
                let (path, by) = (path.to_owned(), file.group);
                return (by != group).then(|| self.told_overlap(group, by, &path));
            }
            if is_there(&file.path) {
                return Some(format!("it is another name of {}", file.path.display()));
            }
            (file.path, file.moved_at) = (path.to_owned(), None);
            return None;
        }
        match self.adopt(group, path, key, now) {
            Ok(reason) => {
                self.troubled.remove(path);
                reason.map(str::to_owned)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                status.errors.add(1);
                if self.troubled.len() < 10_000 && self.troubled.insert(path.to_owned()) {
                    tracing::warn!(path = %path.display(), %error, "a file is not collected; it is tried again");
                }
                Some(error.to_string())
            }
        }
    }

    /// Why a file of a group is collected as one of another group, which is told in the log once.
    fn told_overlap(&mut self, group: usize, by: usize, path: &Path) -> String {
        let names = |group: usize| {
            let paths = self.groups[group].paths.iter().map(Glob::as_str);
            paths.collect::<Vec<_>>().join(", ")
        };
        let (mine, other) = (names(group), names(by));
        if self.overlaps.insert((group, by)) {
            tracing::warn!(
                path = %path.display(), paths = mine, collected_by = other,
                "two groups or jobs name the same file, which is collected once: the labels and stages of \
                 the one under `paths` do not apply to it; exclude the file from one of both"
            );
        }
        format!(
            "it is collected already, by {other}: the labels and stages of {mine} do not apply to it"
        )
    }

    /// Sees to it that the position of a packed file is not forgotten while the file is there.
    fn keep_known(&mut self, key: (u64, u64), now: Now) {
        let Some((id, position)) = self.positions.file_at(key.0, key.1) else { return };
        let is_old = |gone_ms: i64| now.wall_ms.saturating_sub(gone_ms) > REMEMBERED_MS / 2;
        if position.gone_ms.is_some_and(is_old) {
            let position = Position { gone_ms: Some(now.wall_ms), ..position.clone() };
            let update = Update { id, position };
            self.positions.apply(std::slice::from_ref(&update));
            self.gone.push(update);
        }
    }

    /// Begins to follow a file, from where it was read to if that is known; yields why it does not.
    fn adopt(
        &mut self,
        group: usize,
        path: &Path,
        key: (u64, u64),
        now: Now,
    ) -> std::io::Result<Option<&'static str>> {
        let head = head_of(path)?;
        let known = self.positions.file_at(key.0, key.1).map(|(id, known)| (id, known.clone()));
        let known = known.filter(|(_, position)| {
            position.gone_ms.is_none_or(|_| fs::metadata(path).is_ok_and(|info| info.len() > 0))
                && position.file().is_some_and(|file| file.head.begins(&head))
        });
        let info = fs::metadata(path)?;
        let (id, state, begin) = match known {
            Some((id, position)) if position.gone_ms.is_some() && is_packed(path) => {
                // All of it was read.
                let state = position.file().cloned().unwrap_or_default();
                (id, state, Begin::At(position.through))
            }
            Some((id, position)) if position.through <= info.len() || is_packed(path) => {
                let state = position.file().cloned().unwrap_or_default();
                (id, state, Begin::Resume(position))
            }
            known => {
                let is_known = known.is_some() || self.positions.knows_path(path);
                match self.begin_of_new(group, path, key, &info, is_known)? {
                    Ok(begun) => begun,
                    Err(reason) => return Ok(Some(reason)),
                }
            }
        };
        self.open(id, group, path, state, begin, (key, now)).map(|()| None)
    }

    /// Where a file begins that was never seen with these bytes, or why that is not known yet.
    /// `is_known` says that its name was collected.
    fn begin_of_new(
        &mut self,
        group: usize,
        path: &Path,
        key: (u64, u64),
        info: &fs::Metadata,
        is_known: bool,
    ) -> std::io::Result<Begun> {
        const YOUNG: &str = "it may be a copy that is being written; that is known in a moment";
        let state = FileState {
            path: path.to_owned(),
            device: key.0,
            inode: key.1,
            ..FileState::default()
        };
        // A file of which this is a copy is read itself, as long as it is there.
        let head = head_of(path)?;
        let len = (!is_packed(path)).then_some(info.len());
        let candidates = self.positions.copied_to(path);
        let is_original = |id: SourceId| {
            let file = self.tailed.get(&id);
            file.is_some_and(|file| !file.is_finished() && file.begins_with(&head, len))
        };
        if candidates.iter().any(|(id, _)| is_original(*id)) {
            return Ok(Err("it is a copy of a file that is collected itself"));
        }
        // The newest first: an older one of the same name was rotated before.
        let candidates = candidates.into_iter().rev();
        for (id, original) in candidates.filter(|(id, _)| !self.is_followed(*id)) {
            match continues(path, &original) {
                // Nothing of it was read, so that nothing tells it from others that begin alike.
                Ok(Some(true)) if original.through == 0 && original.gone_ms.is_some() => {}
                Ok(Some(true)) if original.gone_ms.is_none() => {
                    let state = original.file().cloned().unwrap_or_default();
                    return Ok(Ok((id, state, Begin::Resume(original))));
                }
                Ok(Some(true)) => {
                    let known = original.file().cloned().unwrap_or_default();
                    let state = FileState { head: known.head, tail: known.tail, ..state };
                    let id = self.positions.next_id();
                    return Ok(Ok((id, state, Begin::At(original.through))));
                }
                Ok(Some(false)) => {}
                // It is being written, or is a part of what was read.
                Ok(None) if is_young(info) => return Ok(Err(YOUNG)),
                Ok(None) => {
                    let at = if is_packed(path) { original.through } else { info.len() };
                    return Ok(Ok((self.positions.next_id(), state, Begin::At(at))));
                }
                Err(_) if is_young(info) => return Ok(Err(YOUNG)),
                Err(error) => return Err(error),
            }
        }
        let id = self.positions.next_id();
        if self.has_scanned || is_known || is_packed(path) {
            return Ok(Ok((id, state, Begin::At(0))));
        }
        let begin = match self.groups[group].start {
            Start::Beginning => 0,
            Start::End => line_begin(path, info.len())?,
            Start::Last(bytes) => line_begin(path, info.len().saturating_sub(bytes))?,
        };
        Ok(Ok((id, state, Begin::At(begin))))
    }

    fn is_followed(&self, id: SourceId) -> bool {
        self.tailed.get(&id).is_some_and(|file| !file.is_finished())
    }

    fn open(
        &mut self,
        id: SourceId,
        group: usize,
        path: &Path,
        state: FileState,
        begin: Begin,
        (key, now): ((u64, u64), Now),
    ) -> std::io::Result<()> {
        if self.tailed.len() >= self.most {
            return Err(std::io::Error::other(format!(
                "{} files are open, half of what the system lets this process open; raise that limit \
                 (ulimit -n, or LimitNOFILE of the service)",
                self.most
            )));
        }
        let settings = &self.groups[group];
        let labels = path_labels::of_file(settings, &state.path, path, &self.host);
        let of_file = (group, labels, settings.encoding, settings.stages.start());
        let file = Tailed::open(id, path.to_owned(), state, begin, of_file, now.at)?;
        if (file.state.device, file.state.inode) != key {
            // Another file has come to be there meanwhile; the next look sees to it.
            return Err(std::io::ErrorKind::NotFound.into());
        }
        self.by_inode.insert((file.state.device, file.state.inode), id);
        // So that copies of it are known before anything of it is kept.
        let mut file = file;
        self.positions.apply(&[file.update(None)]);
        self.tailed.insert(id, file);
        self.due_at = self.due_at.min(now.at);
        Ok(())
    }

    /// Gives every file its turn that is due. Reads as long as the batch is not full.
    pub(crate) fn turn(
        &mut self,
        scratch: &mut Scratch,
        now: Now,
        out: &mut LinesBatch,
        status: &CollectionStatus,
    ) -> Turn {
        if now.at < self.due_at {
            return Turn::Done;
        }
        let is_due = |file: &&Tailed| due_at(file) <= now.at;
        let due = self.tailed.values().filter(is_due);
        let mut due: Vec<(Instant, SourceId)> = due.map(|file| (file.next_poll, file.id)).collect();
        // Who waits longest comes first: one file that fills every batch must not keep others from theirs.
        due.sort_unstable();
        for (_, id) in due {
            let Some(mut file) = self.tailed.remove(&id) else { continue };
            let turn = self.turn_of(&mut file, scratch, now, out, status);
            if file.is_finished() && !file.is_dirty {
                // Its position says so by now.
                let key = (file.state.device, file.state.inode);
                if self.by_inode.get(&key) == Some(&id) {
                    self.by_inode.remove(&key);
                }
                if is_packed(&file.path) {
                    self.done.insert(key, file.size);
                }
            } else {
                self.tailed.insert(id, file);
            }
            if turn == Turn::Full {
                self.due_at = now.at;
                return Turn::Full;
            }
        }
        self.due_at = self.tailed.values().map(due_at).min().unwrap_or(now.at + NOTHING_DUE);
        Turn::Done
    }

    fn turn_of(
        &mut self,
        file: &mut Tailed,
        scratch: &mut Scratch,
        now: Now,
        out: &mut LinesBatch,
        status: &CollectionStatus,
    ) -> Turn {
        if file.deadline.is_some_and(|deadline| deadline <= now.at) {
            file.flush(Some(now.at), out);
        }
        if file.is_finished() {
            file.next_poll = now.at + PACES[0].1;
            return Turn::Done;
        }
        let (is_here, size, modified_ns) = self.whereabouts(file);
        if (size, modified_ns) != (file.size, file.modified_ns) {
            (file.size, file.modified_ns, file.changed_at) = (size, modified_ns, now.at);
            file.has_more = true;
        }
        let mut read = Ok(Read::UpToDate);
        if file.has_more || file.is_packed() {
            let before = file.through();
            for _ in 0..CHUNKS {
                read = file.read(scratch, now.at, out);
                if !matches!(read, Ok(Read::More)) {
                    break;
                }
            }
            status.read_bytes.add(file.through().saturating_sub(before));
        }
        let quiet = now.at.saturating_duration_since(file.changed_at);
        let pace =
            PACES.iter().find(|(below, _)| quiet < *below).map_or(PACES[3].1, |(_, pace)| *pace);
        file.next_poll = self.paced(now.at, pace);
        file.trouble = read.as_ref().err().map(ToString::to_string);
        // A file of which a part of a line is left is not read again until it changes.
        file.has_more = !matches!(read, Ok(Read::UpToDate | Read::Rewritten));
        match read {
            Ok(Read::More) => file.next_poll = now.at,
            Ok(Read::Waits(until)) => file.next_poll = until,
            Ok(Read::Full) => {
                file.next_poll = now.at;
                return Turn::Full;
            }
            Ok(Read::UpToDate) => self.see_whether_it_ended(file, is_here, scratch, now, out),
            Ok(Read::Rewritten) => self.begin_again(file, now, out, status),
            Err(error) => {
                status.errors.add(1);
                if self.troubled.len() < 10_000 && self.troubled.insert(file.path.clone()) {
                    let path = file.path.display();
                    tracing::warn!(%path, %error, "a file cannot be read; it is tried again");
                }
                file.next_poll = self.paced(now.at, PACES[3].1);
            }
        }
        Turn::Done
    }

    /// When a file of that pace is looked at again.
    fn paced(&self, now: Instant, pace: Duration) -> Instant {
        let next = now + pace;
        if pace < GRID {
            return next;
        }
        let of_grid = next.saturating_duration_since(self.began).as_nanos() % GRID.as_nanos();
        next - Duration::from_nanos(u64::try_from(of_grid).unwrap_or(0))
    }

    /// Whether the file is still where it was, its size, and when it was changed, in nanoseconds.
    fn whereabouts(&self, file: &Tailed) -> (bool, u64, i128) {
        let key = (file.state.device, file.state.inode);
        let of = |info: &fs::Metadata| {
            (info.len(), i128::from(info.mtime()) * 1_000_000_000 + i128::from(info.mtime_nsec()))
        };
        match fs::metadata(&file.path) {
            Ok(info) if (info.dev(), info.ino()) == key => {
                let (size, modified_ns) = of(&info);
                (true, size, modified_ns)
            }
            _ => {
                let known = (file.size, file.modified_ns);
                let (size, modified_ns) = file.look().map_or(known, |info| of(&info));
                (false, size, modified_ns)
            }
        }
    }

    fn see_whether_it_ended(
        &mut self,
        file: &mut Tailed,
        is_here: bool,
        scratch: &mut Scratch,
        now: Now,
        out: &mut LinesBatch,
    ) {
        if is_here {
            file.moved_at = None;
            return;
        }
        let moved_at = *file.moved_at.get_or_insert(now.at);
        let names = file.look().map_or(0, |info| info.nlink());
        let patience = if names == 0 { REMOVED_PATIENCE } else { RENAMED_PATIENCE };
        let quiet_since = moved_at.max(file.changed_at);
        if now.at.saturating_duration_since(quiet_since) < patience {
            // Whoever still writes to it does so now.
            file.next_poll = file.next_poll.min(now.at + PACES[0].1);
            return;
        }
        if let Err(error) = file.finish(scratch, now.at, out) {
            tracing::warn!(path = %file.path.display(), %error, "the end of a file cannot be read");
            file.end(out);
        }
    }

    /// A file was truncated or written anew: it begins again, as another one.
    fn begin_again(
        &mut self,
        file: &mut Tailed,
        now: Now,
        out: &mut LinesBatch,
        status: &CollectionStatus,
    ) {
        status.truncations.add(1);
        let original = file.update(None);
        file.end(out);
        if let (Some(state), Some(directory)) = (original.position.file(), file.path.parent()) {
            // What was written to it before that and not read is in a copy, if somebody made one.
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            let paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
            let (id, held) = (self.positions.next_id(), Vec::new());
            let position = Position { held, ..original.position.clone() };
            self.copied(file.group, id, state, &position, &paths, now);
        }
        let id = self.positions.next_id();
        let state = FileState {
            path: file.state.path.clone(),
            device: file.state.device,
            inode: file.state.inode,
            ..FileState::default()
        };
        let (group, path) = (file.group, file.path.clone());
        let key = (state.device, state.inode);
        if let Err(error) = self.open(id, group, &path, state, Begin::At(0), (key, now)) {
            // The next scan finds it.
            tracing::debug!(path = %path.display(), %error, "a truncated file is not opened yet");
        }
    }

    /// The positions of all files that moved.
    pub(crate) fn updates(&mut self, now_ms: i64) -> Vec<Update> {
        let dirty = self.tailed.values_mut().filter(|file| file.is_dirty);
        let update = |file: &mut Tailed| file.update(file.is_finished().then_some(now_ms));
        let mut updates: Vec<Update> = dirty.map(update).collect();
        self.positions.apply(&updates);
        updates.append(&mut self.gone);
        updates
    }

    /// When the next file is due.
    pub(crate) fn next_poll(&self) -> Instant {
        self.due_at
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Tailed> {
        self.tailed.values()
    }
}

/// When a file is due.
fn due_at(file: &Tailed) -> Instant {
    file.deadline.map_or(file.next_poll, |at| at.min(file.next_poll))
}

/// Whether a file was written to just now.
fn is_young(info: &fs::Metadata) -> bool {
    let age = info.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    age.is_none_or(|age| age < COPY_PATIENCE)
}
