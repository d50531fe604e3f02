//! What a start finds in the directory of a spool.

use std::sync::Arc;

use blockstore::{Disk, ReadAt};

use super::Lane;
use super::counters::SpoolCounters;
use super::record::{FILE_HEADER_LEN, FileHeader, HeaderFound, Incarnation};
use crate::error::AgentError;

/// Begins the names of files that are kept for a human.
const DAMAGED: &str = "damaged-";

/// A file of a lane, its header checked.
pub(super) struct FoundFile {
    pub(super) header: FileHeader,
    pub(super) path: String,
    pub(super) file: Arc<dyn ReadAt>,
}

/// The files of a spool.
pub(super) struct Directory {
    files: Vec<FoundFile>,
    /// For each lane a number above those in all names.
    next_files: [u64; 3],
}

impl Directory {
    /// Lists a spool. Files whose header is damaged are set aside.
    ///
    /// # Errors
    /// `SpoolNewer`; `Spool` if the directory cannot be listed.
    pub(super) fn find(disk: &dyn Disk, counters: &SpoolCounters) -> Result<Directory, AgentError> {
        let (mut files, mut next_files) = (Vec::new(), [1; 3]);
        for info in disk.list("").map_err(AgentError::Spool)? {
            let name = info.key.strip_prefix(DAMAGED).unwrap_or(&info.key);
            let Some((lane, number)) = parse_file_name(name) else { continue };
            let next = &mut next_files[lane as usize - 1];
            *next = (*next).max(number.saturating_add(1));
            if name != info.key {
                continue;
            }
            let file = match disk.open(&info.key) {
                Ok(file) => file,
                Err(error) => {
                    // It may be readable at the next start, so it stays where it is.
                    counters.damaged(info.size_bytes);
                    tracing::warn!(path = info.key, %error, "a file of the spool cannot be opened");
                    continue;
                }
            };
            match read_header(file.as_ref()) {
                HeaderFound::Good(header) if (header.lane, header.number) == (lane, number) => {
                    files.push(FoundFile { header, path: info.key, file });
                }
                HeaderFound::Newer(kind) => {
                    let what = "format version";
                    return Err(AgentError::SpoolNewer { path: info.key, what, kind });
                }
                HeaderFound::Good(_) | HeaderFound::Damaged => {
                    set_aside(disk, counters, &info.key, info.size_bytes);
                }
            }
        }
        Ok(Directory { files, next_files })
    }

    /// The name of the spool: that in the newest file, in the lane that always has one.
    pub(super) fn incarnation(&self) -> Option<Incarnation> {
        let newest = |lane| {
            let of_lane = self.files.iter().filter(move |file| file.header.lane == lane);
            of_lane.max_by_key(|file| file.header.number)
        };
        Lane::ALL.into_iter().find_map(newest).map(|file| file.header.incarnation)
    }

    /// The files of one lane, by ascending number; those of another spool are set aside.
    pub(super) fn take_lane(
        &mut self,
        lane: Lane,
        incarnation: &Incarnation,
        disk: &dyn Disk,
        counters: &SpoolCounters,
    ) -> Vec<FoundFile> {
        let of_lane = self.files.extract_if(.., |found| found.header.lane == lane);
        let (mut own, foreign): (Vec<_>, Vec<_>) =
            of_lane.partition(|found| found.header.incarnation == *incarnation);
        for found in foreign {
            set_aside(disk, counters, &found.path, found.file.size_bytes());
        }
        own.sort_by_key(|found| found.header.number);
        own
    }

    /// A number that no file of the lane has or had.
    pub(super) fn next_file(&self, lane: Lane) -> u64 {
        self.next_files[lane as usize - 1]
    }
}

fn read_header(file: &dyn ReadAt) -> HeaderFound {
    let mut bytes = [0; FILE_HEADER_LEN];
    if file.size_bytes() < FILE_HEADER_LEN as u64 || file.read_exact_at(0, &mut bytes).is_err() {
        return HeaderFound::Damaged;
    }
    FileHeader::decode(&bytes)
}

/// Takes a file out of the spool. One without content is only a creation that was cut short.
fn set_aside(disk: &dyn Disk, counters: &SpoolCounters, path: &str, size_bytes: u64) {
    let result = if size_bytes <= FILE_HEADER_LEN as u64 {
        disk.remove(path)
    } else {
        counters.damaged(size_bytes);
        tracing::warn!(path, size_bytes, "a file of the spool is unreadable and was set aside");
        disk.rename(path, &format!("{DAMAGED}{path}"))
    };
    if let Err(error) = result {
        tracing::warn!(path, %error, "a file of the spool cannot be set aside");
    }
}

/// The name of a file.
pub(super) fn file_name(lane: Lane, number: u64) -> String {
    format!("{}-{number:020}.wfs", lane.as_str())
}

/// Lane and number in the name of a file; `None` if it is no file of a lane.
fn parse_file_name(name: &str) -> Option<(Lane, u64)> {
    let (lane, number) = name.strip_suffix(".wfs")?.split_once('-')?;
    let lane = Lane::ALL.into_iter().find(|known| known.as_str() == lane)?;
    let digits = number.len() == 20 && number.bytes().all(|byte| byte.is_ascii_digit());
    Some((lane, digits.then(|| number.parse().ok())??))
}
