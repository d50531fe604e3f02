//! A file of `chunks/`, read a window at a time: such files have half a gibibyte.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use wire::prometheus_block::{CHUNKS_HEAD_BYTES, check_chunks_head, chunk_bytes, read_chunk};
use wire::prometheus_chunk::Samples;

/// Chunks of one series lie beside each other, and series in the order of the index, so that a
/// window serves many of them.
const WINDOW_BYTES: usize = 1 << 20;
/// Bytes that tell how long a chunk is.
const LENGTH_BYTES: usize = 10;

pub(super) struct ChunkFile {
    path: PathBuf,
    file: File,
    window: Vec<u8>,
    window_start: usize,
}

impl ChunkFile {
    pub(super) fn open(path: &Path) -> Result<ChunkFile> {
        let shown = || format!("read {}", path.display());
        let file = File::open(path).with_context(shown)?;
        let mut chunks =
            ChunkFile { path: path.to_owned(), file, window: Vec::new(), window_start: 0 };
        check_chunks_head(chunks.bytes(0, CHUNKS_HEAD_BYTES)?).with_context(shown)?;
        Ok(chunks)
    }

    /// Appends the samples of the chunk at `offset`.
    pub(super) fn read(&mut self, offset: usize, out: &mut Samples) -> Result<()> {
        let path = self.path.clone();
        let place = || format!("{} at byte {offset}", path.display());
        let length = chunk_bytes(self.bytes(offset, LENGTH_BYTES)?).with_context(place)?;
        read_chunk(self.bytes(offset, length)?, out).with_context(place)
    }

    /// At least `length` bytes from `offset` on, fewer only at the end of the file.
    fn bytes(&mut self, offset: usize, length: usize) -> Result<&[u8]> {
        let window_end = self.window_start + self.window.len();
        if offset < self.window_start || offset + length > window_end {
            self.window.resize(length.max(WINDOW_BYTES), 0);
            let mut filled = 0;
            while filled < self.window.len() {
                let place = (offset + filled) as u64;
                match self.file.read_at(&mut self.window[filled..], place) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        self.window.clear();
                        return Err(error).with_context(|| format!("read {}", self.path.display()));
                    }
                }
            }
            self.window.truncate(filled);
            self.window_start = offset;
        }
        Ok(&self.window[offset - self.window_start..])
    }
}
