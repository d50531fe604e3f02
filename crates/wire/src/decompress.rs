//! The one place where compressed bytes from outside are unpacked.
//!
//! Every encoding has a hard cap on its output, and no buffer is sized by what a stream declares
//! about itself unless the compressed bytes at hand can really unfold to it.

use std::io::Read;

use crate::WireError;

/// Most memory a zstd frame may demand for its window, as a power of two: 8 MiB, the bound
/// RFC 9659 sets for `Content-Encoding: zstd`.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// First allocation for encodings that do not tell their length; `Vec` doubles from there.
const FIRST_STEP_BYTES: usize = 64 << 10;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// Snappy's block format, which remote write and Loki mean by `snappy`.
    SnappyBlock,
    /// Snappy's framing format, `x-snappy-framed`.
    SnappyFramed,
    /// RFC 1952, any number of members.
    Gzip,
    /// RFC 9110 `deflate`: zlib (RFC 1950), or the bare RFC 1951 stream some clients send.
    Deflate,
    /// RFC 8878.
    Zstd,
}

impl Encoding {
    /// The encoding a `Content-Encoding` token names, or `None` if it is not supported.
    /// Case does not matter. An empty value is `identity`.
    pub fn from_content_encoding(token: &str) -> Option<Self> {
        const NAMES: [(&str, Encoding); 8] = [
            ("", Encoding::Identity),
            ("identity", Encoding::Identity),
            ("gzip", Encoding::Gzip),
            ("x-gzip", Encoding::Gzip),
            ("deflate", Encoding::Deflate),
            ("zstd", Encoding::Zstd),
            ("snappy", Encoding::SnappyBlock),
            ("x-snappy-framed", Encoding::SnappyFramed),
        ];
        let token = token.trim();
        NAMES.iter().find(|(name, _)| token.eq_ignore_ascii_case(name)).map(|(_, e)| *e)
    }

    /// The name used in errors and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Encoding::Identity => "identity",
            Encoding::SnappyBlock => "snappy",
            Encoding::SnappyFramed => "x-snappy-framed",
            Encoding::Gzip => "gzip",
            Encoding::Deflate => "deflate",
            Encoding::Zstd => "zstd",
        }
    }
}

/// Unpacks `input` and appends it to `out`.
///
/// At most `max_bytes` are appended. Besides `out`, memory is bounded by the decoder's window:
/// 32 KiB for gzip and deflate, 64 KiB for snappy, 8 MiB for zstd.
///
/// # Errors
/// [`WireError::Limit`] when more than `max_bytes` come out, [`WireError::Compression`] when
/// `input` is damaged, cut off, or not of its encoding. `out` is then as it was.
pub fn decompress(
    encoding: Encoding,
    input: &[u8],
    max_bytes: usize,
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    let before = out.len();
    let result = match encoding {
        Encoding::Identity => identity(input, max_bytes, out),
        Encoding::SnappyBlock => snappy_block(input, max_bytes, out),
        Encoding::SnappyFramed => {
            drain(encoding, snap::read::FrameDecoder::new(input), max_bytes, out)
        }
        Encoding::Gzip => {
            drain(encoding, flate2::bufread::MultiGzDecoder::new(input), max_bytes, out)
        }
        Encoding::Deflate if is_zlib(input) => {
            drain(encoding, flate2::bufread::ZlibDecoder::new(input), max_bytes, out)
        }
        Encoding::Deflate => {
            drain(encoding, flate2::bufread::DeflateDecoder::new(input), max_bytes, out)
        }
        Encoding::Zstd => zstd_frames(input, max_bytes, out),
    };
    if result.is_err() {
        out.truncate(before);
    }
    result
}

fn identity(input: &[u8], max_bytes: usize, out: &mut Vec<u8>) -> Result<(), WireError> {
    if input.len() > max_bytes {
        return Err(too_large(Encoding::Identity, max_bytes));
    }
    out.extend_from_slice(input);
    Ok(())
}

fn snappy_block(input: &[u8], max_bytes: usize, out: &mut Vec<u8>) -> Result<(), WireError> {
    let encoding = Encoding::SnappyBlock;
    let declared = snap::raw::decompress_len(input).map_err(|error| corrupt(encoding, error))?;
    if declared > max_bytes {
        return Err(too_large(encoding, max_bytes));
    }
    // The densest element copies 64 bytes with three, so a longer claim is a lie; after this
    // check the allocation below is proportional to the input.
    if declared > input.len().saturating_mul(22) {
        return Err(WireError::Compression {
            encoding: encoding.as_str(),
            reason: format!("{} bytes cannot unfold to the declared {declared}", input.len()),
        });
    }
    let before = out.len();
    out.resize(before + declared, 0);
    let written = snap::raw::Decoder::new()
        .decompress(input, &mut out[before..])
        .map_err(|error| corrupt(encoding, error))?;
    out.truncate(before + written);
    Ok(())
}

fn zstd_frames(input: &[u8], max_bytes: usize, out: &mut Vec<u8>) -> Result<(), WireError> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input)
        .map_err(|error| corrupt(Encoding::Zstd, error))?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|error| corrupt(Encoding::Zstd, error))?;
    drain(Encoding::Zstd, decoder, max_bytes, out)
}

/// Reads `decoder` to its end, or to one byte past the cap.
fn drain(
    encoding: Encoding,
    decoder: impl Read,
    max_bytes: usize,
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    let before = out.len();
    out.reserve(FIRST_STEP_BYTES.min(max_bytes));
    let read = decoder
        .take(max_bytes as u64 + 1)
        .read_to_end(out)
        .map_err(|error| corrupt(encoding, error))?;
    if read > max_bytes {
        out.truncate(before);
        return Err(too_large(encoding, max_bytes));
    }
    Ok(())
}

/// Whether the first two bytes are a zlib header (RFC 1950, section 2.2). A bare deflate stream
/// that looks like one is possible in theory; clients that send bare streams start otherwise.
fn is_zlib(input: &[u8]) -> bool {
    let [first, second, ..] = input else { return false };
    first & 0x0f == 8 && (u16::from(*first) << 8 | u16::from(*second)).is_multiple_of(31)
}

fn corrupt(encoding: Encoding, error: impl std::fmt::Display) -> WireError {
    WireError::Compression { encoding: encoding.as_str(), reason: error.to_string() }
}

fn too_large(encoding: Encoding, max_bytes: usize) -> WireError {
    WireError::Limit {
        what: format!("{} body after decompression", encoding.as_str()),
        limit: format!("{max_bytes} bytes"),
        remedy: "send smaller batches or raise `limits.max_body_bytes`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    const ALL: [Encoding; 6] = [
        Encoding::Identity,
        Encoding::SnappyBlock,
        Encoding::SnappyFramed,
        Encoding::Gzip,
        Encoding::Deflate,
        Encoding::Zstd,
    ];

    fn compress(encoding: Encoding, input: &[u8]) -> Vec<u8> {
        let level = flate2::Compression::fast();
        match encoding {
            Encoding::Identity => input.to_vec(),
            Encoding::SnappyBlock => {
                snap::raw::Encoder::new().compress_vec(input).expect("small input")
            }
            Encoding::SnappyFramed => {
                let mut writer = snap::write::FrameEncoder::new(Vec::new());
                writer.write_all(input).expect("a Vec takes every byte");
                writer.into_inner().expect("a Vec takes every byte")
            }
            Encoding::Gzip => {
                let mut writer = flate2::write::GzEncoder::new(Vec::new(), level);
                writer.write_all(input).expect("a Vec takes every byte");
                writer.finish().expect("a Vec takes every byte")
            }
            Encoding::Deflate => {
                let mut writer = flate2::write::ZlibEncoder::new(Vec::new(), level);
                writer.write_all(input).expect("a Vec takes every byte");
                writer.finish().expect("a Vec takes every byte")
            }
            Encoding::Zstd => zstd::encode_all(input, 1).expect("a Vec takes every byte"),
        }
    }

    proptest! {
        #[test]
        fn round_trips_up_to_the_cap(
            input in proptest::collection::vec(0_u8..4, 0..2_000),
            missing in 0_usize..3,
        ) {
            for encoding in ALL {
                let packed = compress(encoding, &input);
                let cap = input.len().saturating_sub(missing);
                let mut out = b"kept".to_vec();
                match decompress(encoding, &packed, cap, &mut out) {
                    Ok(()) => {
                        prop_assert!(input.len() <= cap);
                        prop_assert_eq!(&out[4..], &input[..]);
                    }
                    Err(error) => {
                        prop_assert!(input.len() > cap && error.is_limit(), "{}", error);
                        prop_assert_eq!(&out[..], b"kept");
                    }
                }
            }
        }

        #[test]
        fn damage_never_panics_nor_passes_the_cap(
            input in proptest::collection::vec(any::<u8>(), 0..300),
            at in any::<proptest::sample::Index>(),
            flip in 1_u8..=255,
        ) {
            for encoding in ALL {
                let mut packed = compress(encoding, &input);
                if !packed.is_empty() {
                    let at = at.index(packed.len());
                    packed[at] ^= flip;
                }
                for bytes in [&packed[..], &input[..]] {
                    let mut out = Vec::new();
                    let _ = decompress(encoding, bytes, 1_000, &mut out);
                    prop_assert!(out.len() <= 1_000);
                }
            }
        }
    }

    #[test]
    fn a_cut_stream_is_an_error() {
        let input: Vec<u8> = (0..5_000_u32).flat_map(u32::to_le_bytes).collect();
        for encoding in ALL.into_iter().filter(|e| *e != Encoding::Identity) {
            let packed = compress(encoding, &input);
            let error = decompress(encoding, &packed[..packed.len() - 1], 1 << 20, &mut Vec::new())
                .expect_err("the last byte is missing");
            assert!(!error.is_limit(), "{encoding:?}: {error}");
        }
    }

    #[test]
    fn a_bare_deflate_stream_is_accepted() {
        let level = flate2::Compression::fast();
        let mut writer = flate2::write::DeflateEncoder::new(Vec::new(), level);
        writer.write_all(b"hello hello hello").expect("a Vec takes every byte");
        let packed = writer.finish().expect("a Vec takes every byte");
        let mut out = Vec::new();
        decompress(Encoding::Deflate, &packed, 100, &mut out).expect("valid stream");
        assert_eq!(out, b"hello hello hello");
    }

    #[test]
    fn bombs_are_refused_in_bounded_memory() {
        // 64 MiB of zeroes; only the cap may be allocated.
        let zeroes = vec![0; 64 << 20];
        for encoding in [Encoding::Gzip, Encoding::Deflate, Encoding::Zstd, Encoding::SnappyBlock] {
            let bomb = compress(encoding, &zeroes);
            let mut out = Vec::new();
            let error = decompress(encoding, &bomb, 1 << 20, &mut out).expect_err("a bomb");
            assert!(error.is_limit(), "{error}");
            assert!(out.capacity() <= 4 << 20, "{encoding:?} took {}", out.capacity());
        }
        let mut lie = Vec::new();
        crate::protobuf::push_varint(&mut lie, 1 << 20);
        lie.extend_from_slice(&[0, b'x']);
        let mut out = Vec::new();
        let error = decompress(Encoding::SnappyBlock, &lie, 1 << 30, &mut out).expect_err("a lie");
        assert!(error.to_string().contains("cannot unfold"), "{error}");
        assert_eq!(out.capacity(), 0);
    }

    #[test]
    fn the_limit_error_tells_the_remedy() {
        let error = decompress(Encoding::Identity, b"abc", 2, &mut Vec::new()).expect_err("3 > 2");
        assert_eq!(
            error.to_string(),
            "identity body after decompression exceeds the limit of 2 bytes; send smaller batches \
             or raise `limits.max_body_bytes`"
        );
    }
}
