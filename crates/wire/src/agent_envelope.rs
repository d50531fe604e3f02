//! What stands around the batches of Watchfire's own agents: version, length, one zstd frame, checksum.

use codec::varint::{put_u64, take_u64};
use zstd::bulk::Compressor;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation as _, OutBuffer};
use zstd::zstd_safe;

use crate::WireError;

/// Largest payload a broker takes. Agents split what would be larger.
pub const MAX_PAYLOAD_BYTES: usize = 4 << 20;

/// Scratch that a thread keeps between batches.
pub(crate) const KEPT_SCRATCH_BYTES: usize = 1 << 20;

const LEVEL: i32 = 1;
const CHECKSUM_LEN: usize = 4;
/// Most memory a frame may demand for its window, as a power of two; level 1 takes far less.
const WINDOW_LOG_MAX: u32 = 23;
/// Bytes that honest batches unfold from each of theirs, far more than labels do. More is granted
/// when it is really there.
const USUAL_RATIO: usize = 64;

/// What the payload says it unpacks to, unchecked; `None` if that cannot be read.
pub fn body_len(bytes: &[u8]) -> Option<usize> {
    let len = take_u64(&mut bytes.get(1..)?).ok()?;
    usize::try_from(len).ok()
}

/// The error for a payload above [`MAX_PAYLOAD_BYTES`].
pub(crate) fn too_large(format: &'static str, bytes: usize) -> WireError {
    WireError::Limit {
        what: format!("{format} of {bytes} bytes"),
        limit: format!("{MAX_PAYLOAD_BYTES} bytes"),
        remedy: "the agent must send smaller batches",
    }
}

/// Puts bodies into envelopes.
pub(crate) struct Sealer {
    compressor: Compressor<'static>,
}

impl Sealer {
    pub(crate) fn new() -> Self {
        Sealer { compressor: Compressor::new(LEVEL).expect("memory for zstd's context") }
    }

    /// Appends the envelope of `body` to `out`.
    pub(crate) fn seal(&mut self, version: u8, body: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.push(version);
        put_u64(out, body.len() as u64);
        let frame = out.len();
        out.resize(frame + zstd_safe::compress_bound(body.len()), 0);
        let packed = self
            .compressor
            .compress_to_buffer(body, &mut out[frame..])
            .expect("there is room for the worst case");
        out.truncate(frame + packed);
        let checksum = codec::checksum(&out[start..]);
        out.extend_from_slice(&checksum.to_le_bytes());
    }
}

/// Takes bodies out of envelopes.
pub(crate) struct Opener {
    decoder: Decoder<'static>,
    body: Vec<u8>,
}

impl Opener {
    pub(crate) fn new() -> Self {
        let mut decoder = Decoder::new().expect("memory for zstd's context");
        decoder
            .set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))
            .expect("8 MiB is a size zstd knows");
        Opener { decoder, body: Vec::new() }
    }

    /// The body. `check` is asked whether it may have as many bytes as the envelope says, before any
    /// are taken.
    ///
    /// # Errors
    /// [`WireError::Newer`]: a version above `version`; [`WireError::Malformed`] or
    /// [`WireError::Compression`]: damaged; what `check` says.
    pub(crate) fn open(
        &mut self,
        format: &'static str,
        version: u8,
        bytes: &[u8],
        check: impl Fn(usize) -> Result<(), WireError>,
    ) -> Result<&[u8], WireError> {
        let malformed = |reason| WireError::Malformed { format, offset: 0, reason };
        let (sealed, checksum) = bytes
            .split_last_chunk::<CHECKSUM_LEN>()
            .filter(|(sealed, _)| !sealed.is_empty())
            .ok_or(malformed("shorter than its envelope"))?;
        if codec::checksum(sealed) != u32::from_le_bytes(*checksum) {
            return Err(malformed("checksum does not match"));
        }
        // After the checksum, so that a flipped bit is not taken for a newer program.
        let found = sealed[0];
        if found == 0 {
            return Err(malformed("version 0 was never written"));
        }
        if found > version {
            let (found, supported) = (u64::from(found), u64::from(version));
            return Err(WireError::Newer { format, what: "its version", found, supported });
        }
        let mut frame = &sealed[1..];
        let len = take_u64(&mut frame).map_err(|_| malformed("length of the body is damaged"))?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        check(len)?;
        self.body.clear();
        self.body.shrink_to(KEPT_SCRATCH_BYTES);
        self.decompress(frame, len)
            .map_err(|reason| WireError::Compression { encoding: "zstd", reason })?;
        Ok(&self.body)
    }

    /// Fills the body with exactly `len` bytes. Its memory grows with what is there, not with `len`.
    fn decompress(&mut self, frame: &[u8], len: usize) -> Result<(), String> {
        self.decoder.reinit().map_err(|error| error.to_string())?;
        let mut input = InBuffer::around(frame);
        self.body.reserve_exact(len.min(frame.len().saturating_mul(USUAL_RATIO)));
        loop {
            let written = self.body.len();
            let mut output = OutBuffer::around_pos(&mut self.body, written);
            let hint =
                self.decoder.run(&mut input, &mut output).map_err(|error| error.to_string())?;
            if self.body.len() > len {
                return Err(format!("more than the {len} bytes it should unpack to"));
            }
            if hint == 0 {
                break;
            }
            if self.body.len() < self.body.capacity() {
                return Err("cut off".to_owned());
            }
            let more = (len - self.body.len()).min(self.body.len());
            if more == 0 {
                return Err(format!("more than the {len} bytes it should unpack to"));
            }
            self.body.reserve_exact(more);
        }
        if self.body.len() != len || input.pos() != frame.len() {
            return Err(format!("{} bytes instead of {len}, or bytes behind", self.body.len()));
        }
        Ok(())
    }
}
