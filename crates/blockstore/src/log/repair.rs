//! Puts the files of a log in order before they are read.

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::StoreId;

use super::frame::{FILE_HEADER_LEN, FILE_VERSION, FileHeader, HeaderFound};
use super::{DIRECTORY, LogError, NameKind, log_path, moved_path, parse_path};
use crate::blobs::ReadAt;
use crate::disk::{Disk, read_by_pages};
use crate::quarantine;

/// A file in the log's directory and what its first bytes say.
pub(super) struct NamedFile {
    pub(super) path: String,
    pub(super) kind: NameKind,
    /// The sequence in its name.
    pub(super) named: u64,
    /// As listed.
    pub(super) size_bytes: u64,
    /// `None` if it cannot be opened.
    pub(super) file: Option<Arc<dyn ReadAt>>,
    /// `None` if it is damaged.
    pub(super) header: Option<FileHeader>,
}

/// The files of the log in ascending order of names, and the store most of them name.
pub(super) struct Arranged {
    pub(super) files: Vec<NamedFile>,
    pub(super) store: Option<StoreId>,
    /// Files moved to quarantine as a whole: their old paths and why.
    pub(super) removed: Vec<(NamedFile, &'static str, String)>,
}

/// Lists the log; gives exchanged files their names back; moves what does not belong here to
/// quarantine. May be interrupted at any step and repeated.
pub(super) fn arrange(disk: &dyn Disk) -> Result<Arranged, LogError> {
    let mut removed = Vec::new();
    let mut files = list(disk)?;
    let store = common_store(&files);
    let foreign = |f: &NamedFile| f.header.is_some_and(|header| Some(header.store) != store);
    let mut changed = false;
    for file in files.extract_if(.., |file| file.kind != NameKind::Copy && foreign(file)) {
        let saved = quarantine::move_file(disk, &file.path)?;
        removed.push((file, "belongs to another store", saved));
    }
    for file in &files {
        if let (NameKind::Log, Some(header)) = (file.kind, file.header)
            && header.sequence != file.named
        {
            disk.rename(&file.path, &moved_path(header.sequence, file.named))?;
            changed = true;
        }
    }
    if changed {
        // Durable before a name is taken again: a power cut that kept only the second renaming
        // would bury a file under another.
        disk.sync_directory(DIRECTORY)?;
        files = list(disk)?;
    }
    for file in files.extract_if(.., |file| file.kind == NameKind::Moved) {
        changed = true;
        let target = log_path(file.named);
        if disk.open(&target).is_ok() {
            let saved = quarantine::move_file(disk, &file.path)?;
            removed.push((file, "is a second file with the same sequence", saved));
        } else {
            disk.rename(&file.path, &target)?;
        }
    }
    if changed {
        disk.sync_directory(DIRECTORY)?;
        files = list(disk)?;
    }
    Ok(Arranged { files, store, removed })
}

fn list(disk: &dyn Disk) -> Result<Vec<NamedFile>, LogError> {
    let mut files = Vec::new();
    for info in disk.list(DIRECTORY)? {
        let Some((kind, named)) = parse_path(&info.key) else { continue };
        let file = disk.open(&info.key).ok();
        let header = match file.as_deref().map(read_header) {
            None | Some(HeaderFound::Damaged) => None,
            Some(HeaderFound::Good(header)) => Some(header),
            Some(HeaderFound::Newer(found)) => {
                let (what, supported) = ("log format version", FILE_VERSION);
                return Err(LogError::Newer { what, file: info.key, found, supported });
            }
        };
        let size_bytes = file.as_ref().map_or(info.size_bytes, |file| file.size_bytes());
        files.push(NamedFile { path: info.key, kind, named, size_bytes, file, header });
    }
    Ok(files)
}

fn read_header(file: &dyn ReadAt) -> HeaderFound {
    if file.size_bytes() < FILE_HEADER_LEN as u64 {
        return HeaderFound::Damaged;
    }
    let mut bytes = [0; FILE_HEADER_LEN];
    read_by_pages(file, 0, &mut bytes);
    FileHeader::decode(&bytes)
}

/// The identity that most headers name, copies included; of equals the smallest.
fn common_store(files: &[NamedFile]) -> Option<StoreId> {
    let mut votes: BTreeMap<StoreId, usize> = BTreeMap::new();
    for header in files.iter().filter_map(|file| file.header) {
        *votes.entry(header.store).or_default() += 1;
    }
    let most = votes.values().copied().max()?;
    votes.into_iter().find(|(_, count)| *count == most).map(|(store, _)| store)
}
