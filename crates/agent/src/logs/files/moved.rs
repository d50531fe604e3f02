//! Files that are not where they were.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::super::file::{Begin, continues, head_of, is_packed};
use super::super::position::{FileState, Position, SourceId, Update, is_rotated};
use super::super::status::CollectionStatus;
use super::Files;
use crate::clock::Now;

/// What became of a file that is not where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Followed,
    /// A copy of it is followed under a number of its own.
    AsAnother,
    Nowhere,
}

impl Files {
    /// Looks for files that an earlier run had not read whole and that have another name by now, or are
    /// packed.
    pub(super) fn find_moved(&mut self, now: Now, status: &CollectionStatus) {
        let missing: Vec<(SourceId, Position)> = self
            .positions
            .iter()
            .filter(|(id, position)| position.gone_ms.is_none() && !self.tailed.contains_key(id))
            .map(|(id, position)| (id, position.clone()))
            .collect();
        for (id, position) in missing {
            let Some(state) = position.file().cloned() else { continue };
            let group = self.groups.iter().position(|group| {
                group.paths.iter().any(|glob| glob.is_match(&state.path))
                    && !group.exclude.iter().any(|glob| glob.is_match(&state.path))
            });
            // What is not to be collected any more keeps its position for a day.
            let found = group.map(|group| self.moved(group, id, &state, &position, now));
            if found != Some(Found::Followed) {
                let gone = Position { gone_ms: Some(now.wall_ms), ..position };
                if found == Some(Found::Nowhere) {
                    status.lost_files.add(1);
                    tracing::warn!(
                        path = %state.path.display(),
                        read_bytes = gone.through,
                        "a file is gone that was collected; what was written to it since cannot be read"
                    );
                }
                let update = Update { id, position: gone };
                self.positions.apply(std::slice::from_ref(&update));
                self.gone.push(update);
            }
        }
    }

    /// Follows a file that was moved, or a copy of it.
    fn moved(
        &mut self,
        group: usize,
        id: SourceId,
        state: &FileState,
        position: &Position,
        now: Now,
    ) -> Found {
        let directory = state.path.parent().map(fs::read_dir);
        let Some(Ok(directory)) = directory else { return Found::Nowhere };
        let mut paths: Vec<PathBuf> = directory.flatten().map(|entry| entry.path()).collect();
        paths.sort_unstable();
        let is_it = |path: &&PathBuf| {
            fs::metadata(path).is_ok_and(|info| {
                (info.dev(), info.ino()) == (state.device, state.inode)
                    && (info.len() >= position.through || is_packed(path))
            }) && head_of(path).is_ok_and(|head| state.head.begins(&head))
        };
        if let Some(path) = paths.iter().find(is_it) {
            let begin = Begin::Resume(position.clone());
            let key = (state.device, state.inode);
            let opened = self.open(id, group, path, state.clone(), begin, (key, now));
            return opened.map_or(Found::Nowhere, |()| Found::Followed);
        }
        self.copied(group, id, state, position, &paths, now)
    }

    /// Follows a rotated copy of a file, from where that was read to.
    pub(super) fn copied(
        &mut self,
        group: usize,
        id: SourceId,
        state: &FileState,
        position: &Position,
        paths: &[PathBuf],
        now: Now,
    ) -> Found {
        let is_copy = |path: &&PathBuf| {
            is_rotated(&state.path, path)
                && continues(path, position).is_ok_and(|same| same == Some(true))
        };
        let Some(path) = paths.iter().find(is_copy) else { return Found::Nowhere };
        let Ok(info) = fs::metadata(path) else { return Found::Nowhere };
        let key = (info.dev(), info.ino());
        if self.by_inode.contains_key(&key) {
            return Found::AsAnother;
        }
        let begin = Begin::Resume(position.clone());
        let opened = self.open(id, group, path, state.clone(), begin, (key, now));
        if opened.is_ok()
            && let Some(file) = self.tailed.get_mut(&id)
        {
            // No pattern need name it: a start finds it by its position alone.
            file.is_dirty = true;
        }
        opened.map_or(Found::Nowhere, |()| Found::Followed)
    }
}
