//! The file of exemplars, as `docs/formats/exemplars.md` draws it.

use codec::varint::{put_bytes, put_u64, take_prefixed, take_u64};
use codec::{CodecError, FileFrame, FileFrameError};
use model::{Exemplar, Labels, TenantId};

use crate::exemplars::ExemplarStore;
use crate::log_exemplars;

const FRAME: FileFrame = FileFrame { magic: *b"WFEXM\r\n\x1a", version: 1 };
/// LZ4 cannot shrink more than this.
const MAX_LZ4_RATIO: usize = 255;

/// Why a file of exemplars cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ExemplarFileError {
    /// A newer program wrote it.
    #[error("the exemplars have version {found}, this program reads up to {supported}: upgrade it")]
    Newer {
        /// What the file says.
        found: u8,
        /// The highest this program reads.
        supported: u8,
    },
    /// It is damaged, or no such file.
    #[error("the exemplars are damaged: {0}")]
    Damaged(String),
}

impl From<FileFrameError> for ExemplarFileError {
    fn from(error: FileFrameError) -> Self {
        match error {
            FileFrameError::Newer { found, supported } => {
                ExemplarFileError::Newer { found, supported }
            }
            FileFrameError::Damaged(what) => ExemplarFileError::Damaged(what.to_owned()),
        }
    }
}

/// The exemplars of one moment.
pub struct ExemplarSnapshot {
    pub(crate) changes: u64,
    pub(crate) series: Vec<Option<(TenantId, Labels)>>,
    /// With the place of their series.
    pub(crate) exemplars: Vec<(u32, Exemplar)>,
}

impl ExemplarSnapshot {
    /// [`ExemplarStore::changes`] at that moment.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Appends the file to `out`. About 100 ns per exemplar.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        // Numbers without gaps, by place.
        let mut numbers = vec![0_u64; self.series.len()];
        let used = self.series.iter().flatten().count();
        put_u64(&mut body, used as u64);
        let mut next = 0;
        for (number, series) in numbers.iter_mut().zip(&self.series) {
            let Some((tenant, labels)) = series else { continue };
            *number = next;
            next += 1;
            put_u64(&mut body, u64::from(tenant.0));
            put_bytes(&mut body, labels.as_packed());
        }
        put_u64(&mut body, self.exemplars.len() as u64);
        let mut before_ms = 0;
        for (place, exemplar) in &self.exemplars {
            put_u64(&mut body, numbers[*place as usize]);
            log_exemplars::put(exemplar, &mut before_ms, &mut body);
        }
        let start = FRAME.begin(out);
        put_u64(out, body.len() as u64);
        put_bytes(out, &lz4_flex::block::compress(&body));
        FileFrame::seal(start, out);
    }
}

impl ExemplarStore {
    /// Puts the exemplars of a file behind those that are here. If there are more than may be kept
    /// the oldest give way.
    ///
    /// # Errors
    /// The file is damaged or newer than this program; nothing of it is kept then.
    pub fn load(&mut self, bytes: &[u8]) -> Result<(), ExemplarFileError> {
        let (series, exemplars) = read(bytes)?;
        for (number, exemplar) in exemplars {
            let (tenant, labels) = &series[number];
            self.push(*tenant, labels, exemplar);
        }
        Ok(())
    }
}

type Contents = (Vec<(TenantId, Labels)>, Vec<(usize, Exemplar)>);

fn read(bytes: &[u8]) -> Result<Contents, ExemplarFileError> {
    let mut rest = FRAME.open(bytes)?;
    let len = take_len(&mut rest)?;
    let stored = take_prefixed(&mut rest)?;
    if !rest.is_empty() || len > stored.len().saturating_mul(MAX_LZ4_RATIO) {
        return Err(damaged("the body has another length than it says"));
    }
    let body = lz4_flex::block::decompress(stored, len)
        .map_err(|error| damaged(format!("the body does not unpack: {error}")))?;
    let mut rest = body.as_slice();
    // Every count is checked against the bytes that are left, and memory grows with what is read.
    let count = take_len(&mut rest)?;
    let mut series = Vec::with_capacity(count.min(rest.len() / 2));
    for _ in 0..count {
        let tenant = u32::try_from(take_u64(&mut rest)?)
            .map_err(|_| damaged("a tenant's number is above 2^32"))?;
        let labels = Labels::from_packed(take_prefixed(&mut rest)?)
            .map_err(|error| damaged(format!("labels of a series: {error}")))?;
        series.push((TenantId(tenant), labels));
    }
    let count = take_len(&mut rest)?;
    let mut exemplars = Vec::with_capacity(count.min(log_exemplars::most_in(rest.len())));
    let mut before_ms = 0;
    for _ in 0..count {
        let number = take_len(&mut rest)?;
        if number >= series.len() {
            return Err(damaged("an exemplar of a series that is not there"));
        }
        exemplars.push((number, log_exemplars::take(&mut rest, &mut before_ms)?));
    }
    if !rest.is_empty() {
        return Err(damaged("bytes behind the last exemplar"));
    }
    Ok((series, exemplars))
}

fn take_len(input: &mut &[u8]) -> Result<usize, CodecError> {
    Ok(usize::try_from(take_u64(input)?).unwrap_or(usize::MAX))
}

fn damaged(what: impl Into<String>) -> ExemplarFileError {
    ExemplarFileError::Damaged(what.into())
}

impl From<CodecError> for ExemplarFileError {
    fn from(error: CodecError) -> Self {
        damaged(error.to_string())
    }
}
