//! Numbers, bits and checksums: the lossless column codecs of Watchfire.
//!
//! A column is appended to the caller's buffer and taken from the front of the caller's slice.
//! How many values it holds is the caller's knowledge (a block header); everything else the
//! column says itself. All layouts are drawn in `docs/formats/codec.md`.
//!
//! Decoders trust nothing: damaged bytes give a [`CodecError`] that says where, never a panic and
//! never an allocation beyond the count asked for, which [`MAX_COLUMN_LEN`] bounds.
//!
//! | module | what |
//! |---|---|
//! | [`varint`] | LEB128 numbers, length-prefixed bytes |
//! | [`bitpack`] | up to 128 numbers of one width |
//! | `block` | frame of reference with patches over `bitpack` |
//! | `ints`, `floats` | columns: [`encode_i64s`], [`encode_f64s`] |
//! | `histograms` | native histograms of one layout: [`encode_histograms`] |
//! | `histogram_rows` | single ones, and layouts: [`put_histogram`], [`put_layout`] |
//! | `trimmed` | values of different series: [`encode_trimmed_f64s`] |
//! | `postings` | sorted ordinals: [`encode_postings`] |
//! | `file_frame` | what stands around a file's body: [`FileFrame`] |

pub mod bitpack;
pub mod varint;

mod block;
mod error;
mod file_frame;
mod floats;
mod histogram_rows;
mod histograms;
mod ints;
mod postings;
mod trimmed;

pub use error::CodecError;
pub use file_frame::{FileFrame, FileFrameError};
pub use floats::{decode_f64s, decode_f64s_at, encode_f64s, encode_f64s_bytewise};
pub use histogram_rows::{put_histogram, put_layout, take_histogram, take_layout};
pub use histograms::{MAX_HISTOGRAM_CELLS, decode_histograms, encode_histograms};
pub use ints::{decode_i64s, encode_i64s};
pub use postings::{decode_postings, encode_postings};
pub use trimmed::{decode_trimmed_f64s, encode_trimmed_f64s};

/// Most values a column may hold. A larger count can only come from a corrupt header.
pub const MAX_COLUMN_LEN: usize = 1 << 24;

/// CRC-32 (IEEE 802.3, as zlib computes it) of `bytes`. About 10 GB/s where the CPU has
/// carry-less multiplication.
///
/// With `cfg(fuzzing)`, which only `cargo xtask fuzz` sets, all are 0: so that damage reaches the
/// decoders behind the checksums.
pub fn checksum(bytes: &[u8]) -> u32 {
    if cfg!(fuzzing) { 0 } else { crc32fast::hash(bytes) }
}

/// Refuses counts that only a corrupt header can state.
fn check_count(count: usize) -> Result<(), CodecError> {
    if count > MAX_COLUMN_LEN {
        return Err(CodecError::TooLong { count, limit: MAX_COLUMN_LEN });
    }
    Ok(())
}
