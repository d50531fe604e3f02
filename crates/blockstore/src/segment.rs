//! Segments: what one broker of a cluster made durable at once, as `docs/formats/segment.md` draws it.
//!
//! A segment can be read with nothing else at hand: its payloads name every series they have rows of.
//! Batches of one tenant and signal lie in one section, so that whoever wants a tenant's rows need not
//! unpack those of others. Batches have numbers, by which the catalog says which of them do not count.

use std::collections::BTreeMap;
use std::io::Read;

use bytes::Bytes;
use catalog::{BrokerId, MAX_BATCHES_PER_SEGMENT, Signal};
use codec::varint::{put_bytes, put_u64, take_bytes, take_prefixed, take_u64};
use model::TenantId;

const MAGIC: [u8; 8] = *b"WFSEG\r\n\x1a";
const VERSION: u8 = 1;
const HEADER_LEN: usize = 40;
/// Length and checksum of the footer, and the magic again.
const TAIL_LEN: usize = 16;
/// A segment waits for a network and is read once or never: more would only cost time.
const ZSTD_LEVEL: i32 = 1;

/// Which segment it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    /// Who wrote it.
    pub broker: BrokerId,
    /// In which epoch of its log.
    pub epoch: u64,
    /// Its number.
    pub seq: u64,
}

impl SegmentName {
    /// Key of its blob.
    pub fn key(&self) -> String {
        catalog::segment_key(self.broker, self.epoch, self.seq)
    }

    /// The name in a key that [`SegmentName::key`] made; `None` of any other.
    pub fn of_key(key: &str) -> Option<SegmentName> {
        let (broker, file) = key.strip_prefix("segments/")?.split_once('/')?;
        let (epoch, seq) = file.strip_suffix(".wfs")?.split_once('-')?;
        let broker = BrokerId(u64::from_str_radix(broker, 16).ok()?);
        let name = SegmentName { broker, epoch: epoch.parse().ok()?, seq: seq.parse().ok()? };
        (name.key() == key).then_some(name)
    }
}

/// Why bytes are not the segment that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// They are damaged, or those of another one.
    #[error("segment is corrupt at byte {offset}: {detail}")]
    Corrupt {
        /// Where it was noticed.
        offset: usize,
        /// What is wrong.
        detail: &'static str,
    },
    /// A newer program wrote it.
    #[error("segment has format version {found}, this program reads up to {VERSION}: upgrade it")]
    Version {
        /// What it says.
        found: u8,
    },
}

/// Collects the batches of one segment.
#[derive(Debug, Default)]
pub struct SegmentWriter {
    sections: BTreeMap<(TenantId, Signal), Section>,
    batches: u32,
    payload_bytes: usize,
}

#[derive(Debug, Default)]
struct Section {
    batches: u64,
    /// Of its last batch.
    last: u32,
    unpacked: Vec<u8>,
}

/// A batch of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentBatch {
    /// Its number.
    pub number: u32,
    /// Whose rows it has.
    pub tenant: TenantId,
    /// Of which kind.
    pub signal: Signal,
    /// What was added.
    pub payload: Bytes,
}

impl SegmentWriter {
    /// One without batches.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a batch; yields its number. An empty payload takes a number and no place.
    ///
    /// # Panics
    /// The segment [is full](SegmentWriter::is_full).
    pub fn add(&mut self, tenant: TenantId, signal: Signal, payload: &[u8]) -> u32 {
        assert!(!self.is_full(), "whoever adds looks first");
        let number = self.batches;
        self.batches += 1;
        if payload.is_empty() {
            return number;
        }
        let section = self.sections.entry((tenant, signal)).or_default();
        put_u64(&mut section.unpacked, u64::from(number - section.last));
        put_bytes(&mut section.unpacked, payload);
        section.last = number;
        section.batches += 1;
        self.payload_bytes += payload.len();
        number
    }

    /// Whether it has as many batches as there are numbers.
    pub fn is_full(&self) -> bool {
        self.batches == MAX_BATCHES_PER_SEGMENT
    }

    /// Batches so far.
    pub fn batches(&self) -> u32 {
        self.batches
    }

    /// Bytes of payload so far, unpacked.
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// The bytes of the segment. About 3 ms for each MiB of payload.
    pub fn seal(self, name: SegmentName) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.payload_bytes / 2 + 256);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, 0, 0, 0, 0, 0, 0, 0]);
        for number in [name.broker.0, name.epoch, name.seq] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let mut footer = Vec::new();
        put_u64(&mut footer, u64::from(self.batches));
        put_u64(&mut footer, self.sections.len() as u64);
        for ((tenant, signal), section) in self.sections {
            let packed = zstd::bulk::compress(&section.unpacked, ZSTD_LEVEL)
                .expect("memory for zstd's context");
            put_u64(&mut footer, u64::from(tenant.0));
            put_u64(&mut footer, signal as u64);
            put_u64(&mut footer, section.batches);
            put_u64(&mut footer, out.len() as u64);
            put_u64(&mut footer, packed.len() as u64);
            put_u64(&mut footer, section.unpacked.len() as u64);
            footer.extend_from_slice(&codec::checksum(&packed).to_le_bytes());
            out.extend_from_slice(&packed);
        }
        let len = u32::try_from(footer.len()).expect("some bytes for each tenant");
        let mut sealed = out[..HEADER_LEN].to_vec();
        sealed.extend_from_slice(&footer);
        sealed.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&sealed[HEADER_LEN..]);
        out.extend_from_slice(&codec::checksum(&sealed).to_le_bytes());
        out.extend_from_slice(&MAGIC);
        out
    }
}

/// The batches of a segment in the order of their numbers, those without payload left out. About 1 ms
/// for each MiB. Few bytes may unpack to many: not to more than `max_bytes`.
///
/// # Errors
/// They are not the bytes of this segment.
pub fn read_segment(
    bytes: &[u8],
    name: SegmentName,
    max_bytes: u64,
) -> Result<Vec<SegmentBatch>, SegmentError> {
    let corrupt = |offset, detail| SegmentError::Corrupt { offset, detail };
    let is_short = bytes.len() < HEADER_LEN + TAIL_LEN;
    if is_short || bytes[..8] != MAGIC || bytes[bytes.len() - 8..] != MAGIC {
        return Err(corrupt(0, "it does not begin and end as a segment"));
    }
    if bytes[8] > VERSION {
        return Err(SegmentError::Version { found: bytes[8] });
    }
    let (sealed, tail) = bytes.split_at(bytes.len() - TAIL_LEN);
    let len = u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]);
    let checksum = u32::from_le_bytes([tail[4], tail[5], tail[6], tail[7]]);
    let begin = usize::try_from(len).ok().and_then(|len| sealed.len().checked_sub(len));
    let begin = begin.filter(|begin| *begin >= HEADER_LEN);
    let begin = begin.ok_or(corrupt(sealed.len(), "the footer is longer than the segment"))?;
    let guarded = [&sealed[..HEADER_LEN], &sealed[begin..], &tail[..4]].concat();
    if codec::checksum(&guarded) != checksum {
        return Err(corrupt(begin, "the checksum of the footer does not match"));
    }
    let stated = [name.broker.0, name.epoch, name.seq].map(u64::to_le_bytes).concat();
    if sealed[16..HEADER_LEN] != stated {
        return Err(corrupt(16, "it is another segment"));
    }
    let mut footer = &sealed[begin..];
    let mut batches = Vec::new();
    read_footer(&mut footer, &sealed[..begin], max_bytes, &mut batches)
        .map_err(|detail| corrupt(sealed.len() - footer.len(), detail))?;
    batches.sort_by_key(|batch| batch.number);
    Ok(batches)
}

fn read_footer(
    footer: &mut &[u8],
    sections: &[u8],
    mut max_bytes: u64,
    batches: &mut Vec<SegmentBatch>,
) -> Result<(), &'static str> {
    let number = |input: &mut &[u8]| take_u64(input).map_err(|_| "the footer ends early");
    let count = number(footer)?;
    for _ in 0..number(footer)? {
        let tenant = u32::try_from(number(footer)?).map_err(|_| "a tenant above 2^32")?;
        let tenant = TenantId(tenant);
        let signal = number(footer)?;
        let signal = Signal::from_number(signal).ok_or("a signal that nobody knows")?;
        let (stated, offset, packed) = (number(footer)?, number(footer)?, number(footer)?);
        let unpacked = number(footer)?;
        let left = max_bytes.checked_sub(unpacked);
        max_bytes = left.ok_or("it unpacks to more than a segment may hold")?;
        let checksum = take_bytes(footer, 4).map_err(|_| "the footer ends early")?;
        let end = offset.checked_add(packed).and_then(|end| usize::try_from(end).ok());
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let packed =
            end.and_then(|end| sections.get(start..end)).ok_or("a section lies outside")?;
        if codec::checksum(packed).to_le_bytes() != checksum {
            return Err("the checksum of a section does not match");
        }
        let section = Bytes::from(unpack(packed, unpacked)?);
        let mut rest = &section[..];
        let (mut at, mut found) = (0_u64, 0);
        while !rest.is_empty() {
            let step = take_u64(&mut rest).map_err(|_| "a section ends early")?;
            let payload = take_prefixed(&mut rest).map_err(|_| "a section ends early")?;
            at = at.checked_add(step).filter(|at| *at < count).ok_or("a batch above the count")?;
            let payload = section.slice_ref(payload);
            let number = u32::try_from(at).map_err(|_| "a batch above the count")?;
            batches.push(SegmentBatch { number, tenant, signal, payload });
            found += 1;
        }
        if found != stated {
            return Err("a section has another number of batches");
        }
    }
    if footer.is_empty() { Ok(()) } else { Err("bytes follow the footer") }
}

/// Grows as bytes come: what is stated decides no allocation.
fn unpack(packed: &[u8], stated: u64) -> Result<Vec<u8>, &'static str> {
    let mut unpacked = Vec::new();
    let decoder = zstd::Decoder::with_buffer(packed).map_err(|_| "no memory for zstd's context")?;
    let read = decoder.take(stated.saturating_add(1)).read_to_end(&mut unpacked);
    match read {
        Ok(_) if unpacked.len() as u64 == stated => Ok(unpacked),
        _ => Err("a section does not unpack to what is stated"),
    }
}
