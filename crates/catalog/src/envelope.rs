//! Version byte in front, checksum behind: the frame of commands and snapshots.

use std::sync::atomic::{AtomicU8, Ordering};

use codec::{CodecError, varint};
use model::{MatchOp, TenantId, TimeRange};

use crate::{
    BlockId, BlockMeta, CatalogError, LabelCondition, LogPosition, NewBlock, Signal, StoreId,
    Tombstone,
};

/// Version of commands and snapshots that this program writes, and the highest it reads.
pub const FORMAT_VERSION: u8 = 6;

/// The feature level of this program, which a broker says in [`crate::BrokerInfo::feature_level`].
pub const FEATURE_LEVEL: u32 = 3;

/// The feature level that a cluster has to have before anything of [`Signal::Logs`] is written in it: a
/// broker below stops at a block of a signal that it does not know, and cannot read such a segment.
pub const LOGS_LEVEL: u32 = 2;

/// The feature level that a cluster has to have before its brokers agree on pushes of lines.
pub const PUSHES_LEVEL: u32 = 3;

/// The first version that knows that signal.
const LOGS_VERSION: u8 = 5;

/// The first version that has pushes of lines, in segments and in the snapshot.
pub(crate) const PUSHES_VERSION: u8 = 6;

/// The first version that a cluster wrote, and so the oldest that this program still writes.
const OLDEST_WRITTEN: u8 = 4;

/// Levels, and versions with them, by which this process poses as a later program.
static POSED: AtomicU8 = AtomicU8::new(0);

/// Has this process pose as the program that comes next: it says the next feature level, and writes and
/// reads the next version, whose fields are those of this one. That is how it is tested what two
/// versions do beside each other before there are two. For the whole process, and for good.
#[cfg(debug_assertions)]
pub fn pose_as_next() {
    POSED.store(1, Ordering::Relaxed);
}

/// The feature level of this process: [`FEATURE_LEVEL`].
pub fn feature_level() -> u32 {
    FEATURE_LEVEL + u32::from(POSED.load(Ordering::Relaxed))
}

/// The version of commands and snapshots that all brokers of a cluster read of which
/// [`crate::State::feature_level`] is what all know: while programs of two versions run beside each
/// other, the newer ones write what the older ones read. Each level brings one version.
pub fn format_version(feature_level: u32) -> u8 {
    let later = u8::try_from(feature_level.saturating_sub(1)).unwrap_or(u8::MAX);
    OLDEST_WRITTEN.saturating_add(later).min(newest())
}

/// The highest version that this process reads and writes.
fn newest() -> u8 {
    FORMAT_VERSION + POSED.load(Ordering::Relaxed)
}

const CHECKSUM_LEN: usize = 4;

/// Appends the envelope and what `body` writes into it.
pub(crate) fn seal(out: &mut Vec<u8>, version: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    // The bodies of versions 1 to 3 are read and never written: no cluster has them.
    out.push(version.clamp(OLDEST_WRITTEN, newest()));
    body(out);
    let checksum = codec::checksum(&out[start..]);
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// Checks the envelope of `bytes` and lets `body` take all that is inside.
pub(crate) fn unseal<T>(
    bytes: &[u8],
    body: impl FnOnce(&mut Fields<'_>) -> Result<T, CatalogError>,
) -> Result<T, CatalogError> {
    let corrupt = |offset, detail| CatalogError::Corrupt { offset, detail };
    let (sealed, checksum) = bytes
        .split_last_chunk::<CHECKSUM_LEN>()
        .filter(|(sealed, _)| !sealed.is_empty())
        .ok_or(corrupt(bytes.len(), "shorter than its envelope"))?;
    if codec::checksum(sealed) != u32::from_le_bytes(*checksum) {
        return Err(corrupt(sealed.len(), "checksum does not match"));
    }
    // After the checksum, so that a flipped bit is not taken for a newer program.
    let version = sealed[0];
    if version > newest() {
        return Err(CatalogError::NewerVersion { found: version, supported: newest() });
    }
    if version == 0 {
        return Err(corrupt(0, "version 0 was never written"));
    }
    let mut fields = Fields { input: &sealed[1..], end: sealed.len(), version };
    let value = body(&mut fields)?;
    if fields.input.is_empty() {
        Ok(value)
    } else {
        Err(fields.corrupt("bytes follow the last field"))
    }
}

/// Takes fields from the front; errors count offsets from the beginning of the envelope.
pub(crate) struct Fields<'a> {
    input: &'a [u8],
    end: usize,
    /// Of the envelope.
    pub(crate) version: u8,
}

impl<'a> Fields<'a> {
    /// An error at the field that comes next.
    pub(crate) fn corrupt(&self, detail: &'static str) -> CatalogError {
        CatalogError::Corrupt { offset: self.end - self.input.len(), detail }
    }

    fn located<T>(&self, taken: Result<T, CodecError>) -> Result<T, CatalogError> {
        taken.map_err(|_| self.corrupt("number or length is damaged"))
    }

    pub(crate) fn number(&mut self) -> Result<u64, CatalogError> {
        let taken = varint::take_u64(&mut self.input);
        self.located(taken)
    }

    pub(crate) fn signed(&mut self) -> Result<i64, CatalogError> {
        let taken = varint::take_i64(&mut self.input);
        self.located(taken)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], CatalogError> {
        let taken = varint::take_prefixed(&mut self.input);
        self.located(taken)
    }

    pub(crate) fn text(&mut self) -> Result<String, CatalogError> {
        let bytes = self.bytes()?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.corrupt("text is not UTF-8"))?;
        Ok(text.to_owned())
    }

    pub(crate) fn store(&mut self) -> Result<StoreId, CatalogError> {
        self.sixteen().map(StoreId)
    }

    pub(crate) fn sixteen(&mut self) -> Result<[u8; 16], CatalogError> {
        let taken = varint::take_bytes(&mut self.input, 16);
        let bytes = self.located(taken)?;
        Ok(bytes.try_into().expect("sixteen bytes were taken"))
    }

    pub(crate) fn position(&mut self) -> Result<LogPosition, CatalogError> {
        Ok(LogPosition { file: self.number()?, offset: self.number()? })
    }

    /// A count and as many items. Memory grows with what is there, not with the count.
    pub(crate) fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, CatalogError>,
    ) -> Result<Vec<T>, CatalogError> {
        let count = self.number()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    pub(crate) fn id(&mut self) -> Result<BlockId, CatalogError> {
        self.number().map(BlockId)
    }

    pub(crate) fn new_block(&mut self) -> Result<NewBlock, CatalogError> {
        let id = self.id()?;
        Ok(NewBlock {
            id,
            tenant: self.tenant()?,
            signal: self.signal()?,
            range: TimeRange::new(self.signed()?, self.signed()?),
            rows: self.number()?,
            series: self.number()?,
            size_bytes: self.number()?,
            level: u8::try_from(self.number()?).map_err(|_| self.corrupt("level is above 255"))?,
        })
    }

    /// Versions 1 and 2 know no deletes.
    pub(crate) fn deletes_through(&mut self) -> Result<u64, CatalogError> {
        if self.version < 3 { Ok(0) } else { self.number() }
    }

    pub(crate) fn tombstone(&mut self) -> Result<Tombstone, CatalogError> {
        let number = self.number()?;
        Ok(Tombstone {
            number,
            tenant: self.tenant()?,
            signal: self.signal()?,
            range: TimeRange::new(self.signed()?, self.signed()?),
            at_ms: self.signed()?,
            selectors: self.list(|fields| fields.list(Fields::condition))?,
        })
    }

    fn condition(&mut self) -> Result<LabelCondition, CatalogError> {
        let op = match self.number()? {
            1 => MatchOp::Equal,
            2 => MatchOp::NotEqual,
            3 => MatchOp::Regex,
            4 => MatchOp::NotRegex,
            _ => return Err(self.corrupt("unknown way to compare")),
        };
        Ok(LabelCondition { op, name: self.text()?, value: self.text()? })
    }

    fn tenant(&mut self) -> Result<TenantId, CatalogError> {
        let number = self.number()?;
        u32::try_from(number).map(TenantId).map_err(|_| self.corrupt("tenant is above 2^32"))
    }

    fn signal(&mut self) -> Result<Signal, CatalogError> {
        let signal = Signal::from_number(self.number()?);
        let is_known = |signal: &Signal| *signal != Signal::Logs || self.version >= LOGS_VERSION;
        signal.filter(is_known).ok_or_else(|| self.corrupt("unknown signal"))
    }

    pub(crate) fn block(&mut self) -> Result<BlockMeta, CatalogError> {
        let block = self.new_block()?;
        let (first, last) = (self.number()?, self.number()?);
        Ok(BlockMeta::place(&block, first, last, self.deletes_through()?))
    }
}

pub(crate) fn put_list<'a, T: 'a>(
    out: &mut Vec<u8>,
    items: impl ExactSizeIterator<Item = &'a T>,
    put: impl Fn(&mut Vec<u8>, &T),
) {
    varint::put_u64(out, items.len() as u64);
    for item in items {
        put(out, item);
    }
}

pub(crate) fn put_id(out: &mut Vec<u8>, id: &BlockId) {
    varint::put_u64(out, id.0);
}

pub(crate) fn put_position(out: &mut Vec<u8>, position: LogPosition) {
    varint::put_u64(out, position.file);
    varint::put_u64(out, position.offset);
}

pub(crate) fn put_new_block(out: &mut Vec<u8>, block: &NewBlock) {
    varint::put_u64(out, block.id.0);
    varint::put_u64(out, block.tenant.0.into());
    varint::put_u64(out, block.signal as u64);
    varint::put_i64(out, block.range.start_ms);
    varint::put_i64(out, block.range.end_ms);
    varint::put_u64(out, block.rows);
    varint::put_u64(out, block.series);
    varint::put_u64(out, block.size_bytes);
    varint::put_u64(out, block.level.into());
}

pub(crate) fn put_block(out: &mut Vec<u8>, block: &BlockMeta) {
    put_new_block(out, &block.as_new());
    varint::put_u64(out, block.first_sequence);
    varint::put_u64(out, block.last_sequence);
    varint::put_u64(out, block.deletes_through);
}

pub(crate) fn put_tombstone(out: &mut Vec<u8>, tombstone: &Tombstone) {
    varint::put_u64(out, tombstone.number);
    varint::put_u64(out, tombstone.tenant.0.into());
    varint::put_u64(out, tombstone.signal as u64);
    varint::put_i64(out, tombstone.range.start_ms);
    varint::put_i64(out, tombstone.range.end_ms);
    varint::put_i64(out, tombstone.at_ms);
    put_list(out, tombstone.selectors.iter(), |out, selector| {
        put_list(out, selector.iter(), put_condition);
    });
}

fn put_condition(out: &mut Vec<u8>, condition: &LabelCondition) {
    let op = match condition.op {
        MatchOp::Equal => 1,
        MatchOp::NotEqual => 2,
        MatchOp::Regex => 3,
        MatchOp::NotRegex => 4,
    };
    varint::put_u64(out, op);
    varint::put_bytes(out, condition.name.as_bytes());
    varint::put_bytes(out, condition.value.as_bytes());
}
