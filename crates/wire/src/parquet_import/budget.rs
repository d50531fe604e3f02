//! How much a file may unfold to.

use crate::WireError;
use crate::pair_rows::push_pair;

/// What was read of a row, or what is wrong with it.
pub(super) type Told<T> = Result<T, &'static str>;

/// How many times the largest body the pages may take that are held at once: one of each column, and
/// its dictionary.
const HELD_RATIO: usize = 2;
/// How many times the largest body all may take that is unpacked, looked at and copied, one thing
/// after another. A few seconds with the default; runs and dictionaries make much of little.
const WORK_RATIO: u64 = 128;

/// What is left of it.
#[derive(Debug)]
pub(super) struct Budget {
    held: usize,
    work: u64,
    max_held: usize,
    max_work: u64,
    max_labels: usize,
}

impl Budget {
    pub(super) fn new(max_body_bytes: usize) -> Self {
        let max_held = max_body_bytes.saturating_mul(HELD_RATIO).min(u32::MAX as usize);
        let max_work = (max_body_bytes as u64).saturating_mul(WORK_RATIO);
        Budget { held: max_held, work: max_work, max_held, max_work, max_labels: max_body_bytes }
    }

    /// Takes memory, which [`Budget::give_back`] gives back.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), WireError> {
        self.held = self.held.checked_sub(bytes).ok_or_else(|| WireError::Limit {
            what: "pages and dictionaries of a row group of a Parquet file".to_owned(),
            limit: format!("{} bytes", self.max_held),
            remedy: "write smaller row groups and pages or raise `limits.max_body_bytes`",
        })?;
        Ok(())
    }

    pub(super) fn give_back(&mut self, bytes: usize) {
        self.held += bytes;
    }

    /// Takes bytes that are looked at.
    pub(super) fn work(&mut self, bytes: u64) -> Result<(), WireError> {
        self.work = self.work.checked_sub(bytes).ok_or_else(|| WireError::Limit {
            what: "a Parquet file, unpacked,".to_owned(),
            limit: format!("{} bytes", self.max_work),
            remedy: "split the file or raise `limits.max_body_bytes`",
        })?;
        Ok(())
    }

    /// Appends a label to those of a row. The inner error is that they are too long, whatever limits
    /// the store has: a dictionary makes many long texts of a few bytes.
    pub(super) fn push_label(
        &mut self,
        out: &mut Vec<u8>,
        name: &[u8],
        value: &[u8],
    ) -> Result<Told<()>, WireError> {
        let bytes = name.len() + value.len();
        self.work(bytes as u64)?;
        if out.len() + bytes > self.max_labels {
            return Ok(Err("labels are longer than a whole request may be"));
        }
        push_pair(out, name, value);
        Ok(Ok(()))
    }
}
