//! Where Promtail or Alloy was, from which the first start goes on.
//!
//! Their positions name paths and bytes, nothing by which a file is known again. So a file is looked at
//! when it is taken over: if it is younger than what is noted, the file that was read is the one that
//! rotation has put beside it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufReader, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use flate2::bufread::MultiGzDecoder;
use settings::logs::positions::{self, NotedPosition};

use super::config::ForeignPositions;
use super::file::{TAIL_BYTES, head_of, is_packed};
use super::journal;
use super::position::{
    FileState, Fingerprint, Position, Positions, SourceState, Update, is_rotated,
};
use crate::error::AgentError;

/// How far back the beginning of a line is looked for.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// The positions of others that are not taken over yet. What this process knows itself counts more.
///
/// # Errors
/// A file of positions is there and cannot be read: to go on would read everything again.
pub(crate) fn take_over(
    foreign: &[ForeignPositions],
    positions: &mut Positions,
    now_ms: i64,
) -> Result<Vec<Update>, AgentError> {
    let mut updates = Vec::new();
    for of_one in foreign {
        let name = format!("taken over: {}", of_one.path.display());
        if positions.entries_named(&name).is_some() {
            continue;
        }
        let noted = read(of_one)?;
        let (mut files, mut journals) = (0, 0);
        if let Some((noted, written)) = &noted {
            for (path, at) in smallest(noted) {
                match position_of(path, at, of_one.unpacks, *written, now_ms) {
                    Ok(found) => {
                        for position in found {
                            files += usize::from(add(position, positions, &mut updates));
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => tracing::warn!(
                        path = %path.display(), %error,
                        "a file cannot be looked at; its position is not taken over"
                    ),
                }
            }
            if let Some(cursor) = cursor_of(of_one, noted)
                && positions.entries_named(journal::NAME).is_none()
            {
                let position = entries(journal::NAME.to_owned(), cursor);
                journals += usize::from(add(position, positions, &mut updates));
            }
        }
        let path = of_one.path.display();
        match &noted {
            Some(_) => {
                tracing::info!(%path, files, journals, "positions of another collector are taken over");
            }
            None => tracing::info!(
                %path,
                "there are no positions of another collector; files are read from their beginnings"
            ),
        }
        add(entries(name, String::new()), positions, &mut updates);
    }
    Ok(updates)
}

/// Takes a position up, unless the file is known already.
fn add(position: Position, positions: &mut Positions, updates: &mut Vec<Update>) -> bool {
    let is_known =
        position.file().is_some_and(|file| positions.file_at(file.device, file.inode).is_some());
    if is_known {
        return false;
    }
    let update = Update { id: positions.next_id(), position };
    positions.apply(std::slice::from_ref(&update));
    updates.push(update);
    true
}

fn entries(name: String, cursor: String) -> Position {
    let source = SourceState::Entries { name, cursor, from: 0 };
    Position { source, ..Position::default() }
}

type Noted = (Vec<NotedPosition>, Option<SystemTime>);

/// What is noted, and when the file was written; nothing if there is no file.
fn read(foreign: &ForeignPositions) -> Result<Option<Noted>, AgentError> {
    for path in std::iter::once(&foreign.path).chain(&foreign.older) {
        let fault = |reason: String| AgentError::TakeOver { path: path.clone(), reason };
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(fault(error.to_string())),
        };
        let written = fs::metadata(path).and_then(|info| info.modified()).ok();
        let noted = positions::parse(&path.to_string_lossy(), &text);
        return noted.map(|noted| Some((noted, written))).map_err(|faults| fault(faults.render()));
    }
    Ok(None)
}

/// The files, each with the least that is noted of it: Alloy may read one several times.
fn smallest(noted: &[NotedPosition]) -> BTreeMap<&Path, u64> {
    let mut files = BTreeMap::new();
    for NotedPosition { source, position } in noted {
        if let (path, Ok(at)) = (Path::new(source), position.parse::<u64>())
            && path.is_absolute()
        {
            files.entry(path).and_modify(|least: &mut u64| *least = at.min(*least)).or_insert(at);
        }
    }
    files
}

/// Behind which entry of the journal reading goes on.
fn cursor_of(foreign: &ForeignPositions, noted: &[NotedPosition]) -> Option<String> {
    let job = foreign.journal.as_deref()?;
    let is_it = |one: &&NotedPosition| {
        let name = &one.source;
        let name = name.strip_prefix("cursor-").or_else(|| name.strip_prefix("journal-"));
        name == Some(job)
    };
    // Both begin with the number of a sequence; other sources note other things under such names.
    let found = noted.iter().find(is_it).filter(|one| one.position.starts_with("s="));
    found.map(|one| one.position.clone())
}

/// What is known by a position: of the file, and of the one that it was before it was rotated.
fn position_of(
    path: &Path,
    at: u64,
    unpacks: bool,
    written: Option<SystemTime>,
    now_ms: i64,
) -> io::Result<Vec<Position>> {
    let info = fs::metadata(path)?;
    if !info.is_file() {
        return Ok(Vec::new());
    }
    if is_packed(path) {
        // Who does not unpack has taken it for text, and its lines are those of a file it had read.
        let (through, is_end) = unpacked(path, unpacks.then_some(at))?;
        let gone_ms = is_end.then_some(now_ms);
        return Ok(vec![Position { gone_ms, ..of_file(path, path, through)? }]);
    }
    let is_younger = written.is_some_and(|at| info.created().is_ok_and(|created| created > at));
    if !is_younger && at <= info.len() {
        return Ok(vec![of_file(path, path, line_begin(path, at)?)?]);
    }
    let mut found = vec![of_file(path, path, 0)?];
    if is_younger && let Some(rotated) = rotated(path, at) {
        found.push(of_file(path, &rotated, line_begin(&rotated, at)?)?);
    }
    Ok(found)
}

/// A position in a file that was called `named` when it was read.
fn of_file(named: &Path, path: &Path, through: u64) -> io::Result<Position> {
    let (info, head) = (fs::metadata(path)?, head_of(path)?);
    let mut tail = Vec::new();
    if !is_packed(path) {
        tail = vec![0; through.min(TAIL_BYTES as u64) as usize];
        let begin = through - tail.len() as u64;
        fs::File::open(path)?.read_exact_at(&mut tail, begin)?;
    }
    let source = SourceState::File(FileState {
        path: named.to_owned(),
        device: info.dev(),
        inode: info.ino(),
        head: Fingerprint::of(&head),
        tail: Fingerprint::of(&tail),
        skipping: false,
    });
    Ok(Position { through, source, ..Position::default() })
}

/// Where the line begins that is not read, at or before a position: others write theirs down at any
/// moment, also within a line.
fn line_begin(path: &Path, at: u64) -> io::Result<u64> {
    let begin = at.saturating_sub(MAX_LINE_BYTES);
    let mut bytes = vec![0; usize::try_from(at - begin).unwrap_or(0)];
    fs::File::open(path)?.read_exact_at(&mut bytes, begin)?;
    // Of UTF-16 with the lower half first, a zero follows.
    let is_at_end = bytes.ends_with(b"\n") || bytes.ends_with(b"\n\0");
    let newline = memchr::memrchr(b'\n', &bytes);
    Ok(match newline {
        _ if is_at_end => at,
        Some(newline) => begin + newline as u64 + 1,
        None if begin == 0 => 0,
        None => at,
    })
}

/// The newest file beside `path` that may have been it before a rotation, with at least so many bytes.
fn rotated(path: &Path, at: u64) -> Option<PathBuf> {
    let entries = fs::read_dir(path.parent()?).ok()?.flatten().map(|entry| entry.path());
    let rotated = entries.filter(|other| is_rotated(path, other) && !is_packed(other));
    let of = |other: PathBuf| {
        let info = fs::metadata(&other).ok().filter(|info| info.is_file() && info.len() >= at)?;
        Some((info.modified().ok()?, other))
    };
    rotated.filter_map(of).max().map(|(_, other)| other)
}

/// The number of unpacked bytes that so many lines have, or all, and whether there are no more.
fn unpacked(path: &Path, lines: Option<u64>) -> io::Result<(u64, bool)> {
    let mut decoder = MultiGzDecoder::new(BufReader::new(fs::File::open(path)?));
    let (mut buffer, mut bytes, mut left) = (vec![0; 64 << 10], 0, lines.unwrap_or(u64::MAX));
    loop {
        let len = decoder.read(&mut buffer)?;
        if len == 0 {
            return Ok((bytes, true));
        }
        let mut at = 0;
        while left > 0
            && let Some(newline) = memchr::memchr(b'\n', &buffer[at..len])
        {
            (at, left) = (at + newline + 1, left - 1);
        }
        if left == 0 {
            let is_end = at == len && decoder.read(&mut buffer)? == 0;
            return Ok((bytes + at as u64, is_end));
        }
        bytes += len as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Duration;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    struct Scene(tempfile::TempDir);

    impl Scene {
        fn new() -> Scene {
            Scene(tempfile::tempdir().expect("a directory"))
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            fs::write(self.path(name), text).expect("written");
            self.path(name)
        }

        fn noted(&self, pairs: &[(&str, &str)]) -> ForeignPositions {
            let mut text = "positions:\n".to_owned();
            for (path, position) in pairs {
                let path = match path.starts_with("cursor-") {
                    true => (*path).to_owned(),
                    false => self.path(path).display().to_string(),
                };
                text.push_str(&format!("  {path}: \"{position}\"\n"));
            }
            let path = self.write("positions.yaml", &text);
            ForeignPositions {
                path,
                older: None,
                journal: Some("system".to_owned()),
                unpacks: false,
            }
        }
    }

    /// By name: how far.
    fn through(updates: &[Update]) -> BTreeMap<String, u64> {
        let of = |update: &Update| {
            let path = &update.position.file()?.path;
            let name = path.file_name()?.to_string_lossy().into_owned();
            Some((name, update.position.through))
        };
        updates.iter().filter_map(of).collect()
    }

    #[test]
    fn positions_are_taken_over_once() {
        let scene = Scene::new();
        scene.write("a.log", "one\ntwo\n");
        scene.write("cut.log", "one\ntwo\n");
        scene.write("short.log", "o\n");
        let cursor = "s=96c;i=63d5";
        let noted = scene.noted(&[
            ("a.log", "4"),
            ("cut.log", "6"),
            ("short.log", "4"),
            ("gone.log", "4"),
            ("cursor-system", cursor),
        ]);
        let mut positions = Positions::default();
        let updates =
            take_over(std::slice::from_ref(&noted), &mut positions, 1).expect("taken over");
        let wanted = [("a.log", 4), ("cut.log", 4), ("short.log", 0)];
        let wanted = wanted.map(|(name, at)| (name.to_owned(), at));
        assert_eq!(through(&updates), BTreeMap::from(wanted));
        let (_, journal) = positions.entries_named(journal::NAME).expect("a cursor");
        assert!(
            matches!(&journal.source, SourceState::Entries { cursor: found, .. } if found == cursor)
        );
        scene.write("later.log", "one\n");
        let noted = scene.noted(&[("later.log", "4")]);
        assert_eq!(take_over(&[noted], &mut positions, 1).expect("nothing to do"), []);
    }

    #[test]
    fn what_is_known_counts_more_and_what_cannot_be_read_stops() {
        let scene = Scene::new();
        let path = scene.write("a.log", "one\ntwo\n");
        let mut positions = Positions::default();
        let known = Update { id: 0, position: of_file(&path, &path, 8).expect("a file") };
        positions.apply(&[known]);
        let noted = scene.noted(&[("a.log", "4")]);
        let updates = take_over(&[noted], &mut positions, 1).expect("taken over");
        assert_eq!(through(&updates), BTreeMap::new());
        let path = scene.write("broken.yaml", "positions: [");
        let noted = ForeignPositions { path, older: None, journal: None, unpacks: false };
        let error = take_over(&[noted], &mut positions, 1).expect_err("broken").to_string();
        assert!(error.contains("broken.yaml"), "{error}");
    }

    #[test]
    fn a_file_that_is_younger_than_the_note_is_another_one() {
        let scene = Scene::new();
        scene.write("a.log", "one\ntwo\n");
        let noted = scene.noted(&[("a.log", "4")]);
        fs::rename(scene.path("a.log"), scene.path("a.log.1")).expect("renamed");
        std::thread::sleep(Duration::from_millis(30));
        let path = scene.write("a.log", "three\nfour\n");
        if fs::metadata(&path).and_then(|info| info.created()).is_err() {
            // Not every file system knows when a file was made.
            return;
        }
        let mut positions = Positions::default();
        let updates = take_over(&[noted], &mut positions, 1).expect("taken over");
        let of = |name: &str| {
            let info = fs::metadata(scene.path(name)).expect("a file");
            positions.file_at(info.dev(), info.ino()).expect("known").1.through
        };
        assert_eq!((of("a.log"), of("a.log.1"), updates.len()), (0, 4, 3));
    }

    #[test]
    fn packed_files_are_counted_in_lines_or_are_done() {
        let scene = Scene::new();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"one\ntwo\nthree\n").expect("packed");
        fs::write(scene.path("a.gz"), encoder.finish().expect("packed")).expect("written");
        for (unpacks, lines, through, is_gone) in
            [(true, 2, 8, false), (true, 3, 14, true), (true, 9, 14, true), (false, 1, 14, true)]
        {
            let found = position_of(&scene.path("a.gz"), lines, unpacks, None, 7).expect("read");
            assert_eq!((found[0].through, found[0].gone_ms.is_some()), (through, is_gone));
        }
    }
}
