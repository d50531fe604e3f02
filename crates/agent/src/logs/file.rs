//! One file that is followed, from bytes to lines.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::os::unix::fs::{FileExt, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use flate2::bufread::MultiGzDecoder;
use model::Labels;

use super::batch::{BATCH_BYTES, LinesBatch, MAX_LINE_BYTES, cut};
use super::encoding::Encoding;
use super::entry::{Entry, Pipeline};
use super::position::{FileState, Fingerprint, Position, SourceId, SourceState, Update};
use super::status::{Progress, SourceKind, SourceStatus};
use crate::clock::wall_ns;

/// Bytes by whose hash a file is known.
const HEAD_BYTES: usize = 1_024;
/// Bytes before a position by which it is known that they are still those that were read.
pub(crate) const TAIL_BYTES: usize = 256;
/// What is read at once: the longest line, and what is compared before it.
pub(crate) const BUFFER_BYTES: usize = MAX_LINE_BYTES + TAIL_BYTES;

/// What all files use in turn.
pub(crate) struct Scratch {
    pub(crate) buffer: Vec<u8>,
    pub(crate) entry: Entry,
    /// The time of the last line: no two that are read get the same.
    last_ns: i64,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Scratch { buffer: vec![0; BUFFER_BYTES], entry: Entry::default(), last_ns: 0 }
    }

    /// A time for what is read now, later than that of all before.
    pub(crate) fn time_ns(&mut self) -> i64 {
        self.last_ns = wall_ns().max(self.last_ns + 1);
        self.last_ns
    }
}

/// How reading went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// There may be more.
    More,
    /// All whole lines are read.
    UpToDate,
    /// The batch is full.
    Full,
    /// A limit of the pipeline allows no further line before this moment.
    Waits(Instant),
    /// The bytes are not those that were read: somebody has truncated the file or written it anew.
    Rewritten,
}

/// A file that is followed.
pub(crate) struct Tailed {
    pub(crate) id: SourceId,
    /// Where it is now, as far as known.
    pub(crate) path: PathBuf,
    pub(crate) state: FileState,
    /// Of which files it is one, by their place in the configuration.
    pub(crate) group: usize,
    /// Whether something has moved since the last update.
    pub(crate) is_dirty: bool,
    /// Its size when it was looked at last.
    pub(crate) size: u64,
    /// When it was changed last, nanoseconds since the epoch.
    pub(crate) modified_ns: i128,
    /// Whether there may be lines that are not read.
    pub(crate) has_more: bool,
    pub(crate) changed_at: Instant,
    pub(crate) next_poll: Instant,
    pub(crate) deadline: Option<Instant>,
    /// Since when another file, or none, is where it was.
    pub(crate) moved_at: Option<Instant>,
    pub(crate) lines: u64,
    /// Why it could not be read when that was tried last.
    pub(crate) trouble: Option<String>,
    labels: Labels,
    encoding: Encoding,
    handle: Handle,
    through: u64,
    /// How far it had been read by an earlier run, while that is read again for lines that were held.
    replay: Option<Position>,
    pipeline: Box<dyn Pipeline>,
}

enum Handle {
    Plain(File),
    Packed(Box<Packed>),
    /// Nothing will follow.
    Finished,
}

/// Where reading of a file begins.
pub(crate) enum Begin {
    /// At a byte.
    At(u64),
    /// Where an earlier run was.
    Resume(Position),
}

impl Tailed {
    /// Begins to follow a file. `state` has its names; device and inode are those of what is opened.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn open(
        id: SourceId,
        path: PathBuf,
        state: FileState,
        begin: Begin,
        settings: (usize, Labels, Encoding, Box<dyn Pipeline>),
        now: Instant,
    ) -> io::Result<Tailed> {
        let (group, labels, encoding, pipeline) = settings;
        let (head, handle, info) = if is_packed(&path) {
            let (head, packed) = (head_of(&path)?, Packed::open(&path)?);
            let info = packed.decoder.get_ref().get_ref().metadata()?;
            (head, Handle::Packed(Box::new(packed)), info)
        } else {
            let file = File::open(&path)?;
            let mut head = vec![0; HEAD_BYTES];
            let len = read_at(&file, 0, &mut head)?;
            head.truncate(len);
            let info = file.metadata()?;
            (head, Handle::Plain(file), info)
        };
        let mut state = FileState { device: info.dev(), inode: info.ino(), ..state };
        let (through, replay) = match begin {
            Begin::At(through) => (through, None),
            Begin::Resume(position) if position.held.is_empty() => (position.through, None),
            Begin::Resume(position) => (position.resume(), Some(position)),
        };
        if replay.is_some() {
            // It is of another place.
            (state.tail, state.skipping) = (Fingerprint::default(), false);
        }
        if state.head.len == 0 {
            state.head = Fingerprint::of(&head);
        }
        Ok(Tailed {
            id,
            path,
            state,
            group,
            is_dirty: false,
            size: 0,
            modified_ns: 0,
            has_more: true,
            changed_at: now,
            next_poll: now,
            deadline: None,
            moved_at: None,
            lines: 0,
            trouble: None,
            labels,
            encoding: encoding.seen_in(&head),
            handle,
            through,
            replay,
            pipeline,
        })
    }

    /// Everything before it is read.
    pub(crate) fn through(&self) -> u64 {
        self.through
    }

    /// Bytes that are not read yet; 0 of a packed file, of which nobody knows how many it has.
    pub(crate) fn lag_bytes(&self) -> u64 {
        match self.handle {
            Handle::Plain(_) => self.size.saturating_sub(self.through),
            Handle::Packed(_) | Handle::Finished => 0,
        }
    }

    /// How it goes at a moment, for people.
    pub(crate) fn status(&self, now: Instant) -> SourceStatus {
        let is_limited = self.pipeline.ready_at().is_some_and(|at| at > now);
        let state = match &self.handle {
            Handle::Finished => Progress::Ended,
            _ if self.trouble.is_some() => Progress::Failing,
            _ if self.moved_at.is_some() => Progress::Moved,
            _ if is_limited => Progress::Limited,
            _ => Progress::Reading,
        };
        SourceStatus {
            name: self.path.display().to_string(),
            kind: SourceKind::File,
            state,
            read: self.through,
            size_bytes: self.size,
            lag_bytes: self.lag_bytes(),
            lines: self.lines,
            modified_ms: i64::try_from(self.modified_ns / 1_000_000).ok().filter(|ms| *ms > 0),
            error: self.trouble.clone(),
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.handle, Handle::Finished)
    }

    /// Whether a file that begins with `head` and has `len` bytes, if that is known, may be a copy of it.
    pub(crate) fn begins_with(&self, head: &[u8], len: Option<u64>) -> bool {
        let Handle::Plain(file) = &self.handle else { return false };
        let mut own = vec![0; head.len()];
        let is_as_long = || len.is_none_or(|len| self.look().is_ok_and(|info| info.len() >= len));
        !head.is_empty()
            && read_at(file, 0, &mut own).is_ok_and(|len| len == head.len())
            && own == head
            && is_as_long()
    }

    pub(crate) fn is_packed(&self) -> bool {
        matches!(self.handle, Handle::Packed(_))
    }

    /// What the system knows of the open file.
    ///
    /// # Errors
    /// Of the system; it is packed, and looked at only by its path.
    pub(crate) fn look(&self) -> io::Result<std::fs::Metadata> {
        match &self.handle {
            Handle::Plain(file) => file.metadata(),
            Handle::Packed(_) | Handle::Finished => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Reads some lines into the batch.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn read(
        &mut self,
        scratch: &mut Scratch,
        now: Instant,
        out: &mut LinesBatch,
    ) -> io::Result<Read> {
        if self.is_finished() {
            return Ok(Read::UpToDate);
        }
        if out.bytes() >= BATCH_BYTES {
            return Ok(Read::Full);
        }
        if let Some(at) = self.pipeline.ready_at().filter(|at| *at > now) {
            return Ok(Read::Waits(at));
        }
        if !self.know_head(scratch)? {
            return Ok(Read::Rewritten);
        }
        let checked = self.state.tail.len as usize;
        let mut buffer = std::mem::take(&mut scratch.buffer);
        let filled = self.handle.fill(self.through - checked as u64, &mut buffer);
        let read = filled.map(|(len, is_end)| {
            let is_it = self.state.tail.begins(&buffer[..len])
                && (self.through > 0 || self.is_head(&buffer[..len.min(HEAD_BYTES)]));
            if !is_it {
                return Read::Rewritten;
            }
            self.lines_of(&buffer[..len], checked, is_end, scratch, now, out)
        });
        scratch.buffer = buffer;
        if read.is_err() && self.is_packed() {
            // It is still being written, perhaps: what cannot be unpacked now may be later.
            self.handle = Handle::Packed(Box::new(Packed::open(&self.path)?));
        }
        read
    }

    /// Hands lines in that lie in `bytes` behind the first `at`. The file goes on behind them, or it
    /// `is_end`.
    fn lines_of(
        &mut self,
        bytes: &[u8],
        mut at: usize,
        is_end: bool,
        scratch: &mut Scratch,
        now: Instant,
        out: &mut LinesBatch,
    ) -> Read {
        let (begin, first) = (at, self.through);
        let mut read = Read::UpToDate;
        while at < bytes.len() {
            if out.bytes() >= BATCH_BYTES {
                read = Read::Full;
                break;
            }
            if let Some(ready_at) = self.pipeline.ready_at().filter(|ready_at| *ready_at > now) {
                read = Read::Waits(ready_at);
                break;
            }
            let rest = &bytes[at..];
            let (len, line) = match self.encoding.line_len(rest) {
                Some(len) => (len, &rest[..len]),
                None if is_end => (rest.len(), rest),
                None if self.state.skipping => {
                    (rest.len() - rest.len() % self.encoding.unit(), rest)
                }
                None if rest.len() >= MAX_LINE_BYTES => {
                    let whole = cut(rest, MAX_LINE_BYTES).len();
                    let whole = whole - whole % self.encoding.unit();
                    (whole, &rest[..whole])
                }
                None => break,
            };
            if len == 0 {
                break;
            }
            let is_whole = is_end || self.encoding.line_len(line).is_some();
            if self.state.skipping {
                self.state.skipping = !is_whole;
            } else {
                let offset = first + (at - begin) as u64;
                self.line(offset, line, scratch, now, out);
                if !is_whole {
                    out.counts.cut += 1;
                    self.state.skipping = true;
                }
            }
            at += len;
            read = Read::More;
        }
        if at > begin {
            self.through = first + (at - begin) as u64;
            self.state.tail = Fingerprint::of(&bytes[at.saturating_sub(TAIL_BYTES)..at]);
            self.is_dirty = true;
            self.deadline = self.pipeline.deadline();
        }
        if is_end && at == bytes.len() {
            self.handle = Handle::Finished;
            // That it is wholly read is a part of its position.
            self.is_dirty = true;
        }
        read
    }

    fn line(
        &mut self,
        offset: u64,
        line: &[u8],
        scratch: &mut Scratch,
        now: Instant,
        out: &mut LinesBatch,
    ) {
        if self.replay.as_ref().is_some_and(|position| position.is_done(offset)) {
            return;
        }
        self.lines += 1;
        let time_ns = scratch.time_ns();
        let line = self.encoding.line(line);
        scratch.entry.begin(offset, time_ns, &self.labels, &line);
        self.pipeline.process(&mut scratch.entry, now, out);
    }

    /// Puts out what the pipeline held for long enough.
    pub(crate) fn flush(&mut self, now: Option<Instant>, out: &mut LinesBatch) {
        self.pipeline.flush(now, out);
        self.deadline = self.pipeline.deadline();
        self.is_dirty = true;
    }

    /// Takes what stands behind the last line's end as a line, and all that the pipeline holds: nothing
    /// follows.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn finish(
        &mut self,
        scratch: &mut Scratch,
        now: Instant,
        out: &mut LinesBatch,
    ) -> io::Result<()> {
        if let Handle::Plain(_) = &self.handle {
            let mut buffer = std::mem::take(&mut scratch.buffer);
            let filled = self.handle.fill(self.through, &mut buffer);
            if let Ok((len, _)) = filled {
                self.lines_of(&buffer[..len], 0, true, scratch, now, out);
            }
            scratch.buffer = buffer;
            filled?;
        }
        self.handle = Handle::Finished;
        self.flush(None, out);
        Ok(())
    }

    /// Gives up what the pipeline knows, because the file begins anew; yields what it holds first.
    pub(crate) fn end(&mut self, out: &mut LinesBatch) {
        self.handle = Handle::Finished;
        self.flush(None, out);
    }

    /// How far it is read.
    pub(crate) fn update(&mut self, gone_ms: Option<i64>) -> Update {
        self.is_dirty = false;
        let (mut through, mut state) = (self.through, self.state.clone());
        let mut held = Vec::new();
        self.pipeline.held(&mut held);
        match &self.replay {
            Some(replay) if self.through < replay.through && gone_ms.is_none() => {
                held.extend(replay.held.iter().filter(|offset| **offset >= self.through));
                through = replay.through;
                if let Some(file) = replay.file() {
                    (state.tail, state.skipping) = (file.tail, file.skipping);
                }
            }
            _ => self.replay = None,
        }
        held.sort_unstable();
        held.dedup();
        let source = SourceState::File(state);
        Update { id: self.id, position: Position { through, held, source, gone_ms } }
    }

    /// Sees to it that as much of the beginning is known as may be; false if it is not what it was.
    fn know_head(&mut self, scratch: &mut Scratch) -> io::Result<bool> {
        let Handle::Plain(file) = &self.handle else { return Ok(true) };
        // While nothing is read, the head is that of the bytes which are read first.
        let is_known = self.state.head.len as usize >= HEAD_BYTES && self.state.tail.len > 0;
        if is_known || self.through == 0 {
            return Ok(true);
        }
        let mut buffer = std::mem::take(&mut scratch.buffer);
        let len = read_at(file, 0, &mut buffer[..HEAD_BYTES]);
        let is_it = len.map(|len| self.is_head(&buffer[..len]));
        scratch.buffer = buffer;
        is_it
    }

    /// Whether the file begins as before, if it begins so; then that is known of it.
    fn is_head(&mut self, head: &[u8]) -> bool {
        if !self.state.head.begins(head) {
            return false;
        }
        if head.len() > self.state.head.len as usize {
            if self.state.head.len < 2 {
                self.encoding = self.encoding.seen_in(head);
            }
            self.state.head = Fingerprint::of(head);
        }
        true
    }
}

impl Handle {
    /// Fills as much of `buffer` as there is from `at` on; whether nothing will ever follow.
    fn fill(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
        match self {
            Handle::Plain(file) => read_at(file, at, buffer).map(|len| (len, false)),
            Handle::Packed(packed) => packed.fill(at, buffer),
            Handle::Finished => Ok((0, true)),
        }
    }
}

fn read_at(file: &File, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read_at(&mut buffer[len..], at + len as u64) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// Whether a file is packed, by its name.
pub(crate) fn is_packed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz")
}

/// The first bytes of a file, unpacked.
///
/// # Errors
/// It cannot be read.
pub(crate) fn head_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD_BYTES];
    let len = if is_packed(path) {
        Packed::open(path)?.fill(0, &mut head)?.0
    } else {
        read_at(&File::open(path)?, 0, &mut head)?
    };
    head.truncate(len);
    Ok(head)
}

/// Whether a file has the bytes that were read of another one up to a position. `None` if it is not as
/// long.
///
/// # Errors
/// It cannot be read.
pub(crate) fn continues(path: &Path, position: &Position) -> io::Result<Option<bool>> {
    let Some(state) = position.file() else { return Ok(Some(false)) };
    if !state.head.begins(&head_of(path)?) {
        return Ok(Some(false));
    }
    let mut tail = vec![0; state.tail.len as usize];
    let at = position.through.saturating_sub(u64::from(state.tail.len));
    let len = if is_packed(path) {
        Packed::open(path)?.fill(at, &mut tail)?.0
    } else {
        read_at(&File::open(path)?, at, &mut tail)?
    };
    Ok((len == tail.len()).then(|| state.tail.begins(&tail)))
}

/// A file that is unpacked from its beginning on.
struct Packed {
    decoder: MultiGzDecoder<BufReader<File>>,
    /// Unpacked bytes from `begin` on.
    window: Vec<u8>,
    begin: u64,
    is_end: bool,
}

impl Packed {
    fn open(path: &Path) -> io::Result<Packed> {
        let decoder = MultiGzDecoder::new(BufReader::new(File::open(path)?));
        Ok(Packed { decoder, window: Vec::new(), begin: 0, is_end: false })
    }

    /// As [`Handle::fill`]. `at` never lies before what was asked for last.
    fn fill(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
        loop {
            let behind = usize::try_from(at.saturating_sub(self.begin)).unwrap_or(usize::MAX);
            let drop = behind.min(self.window.len());
            self.window.drain(..drop);
            self.begin += drop as u64;
            let is_there = self.begin >= at;
            if self.is_end || is_there && self.window.len() >= buffer.len() {
                let len = if is_there { self.window.len().min(buffer.len()) } else { 0 };
                buffer[..len].copy_from_slice(&self.window[..len]);
                return Ok((len, self.is_end && len == self.window.len()));
            }
            let old = self.window.len();
            self.window.resize(old + (64 << 10), 0);
            let more = self.decoder.read(&mut self.window[old..]);
            self.window.truncate(old + *more.as_ref().unwrap_or(&0));
            self.is_end = more? == 0;
        }
    }
}

#[cfg(test)]
mod tests;
