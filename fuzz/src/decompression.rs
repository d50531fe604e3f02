//! Compressed bodies: bombs stay below the cap, and own bodies come back.

use wire::decompress::{Encoding, decompress};

use crate::input::Input;

/// What a body may unpack to here.
const CAP: usize = 1 << 20;

pub(crate) const ENCODINGS: [Encoding; 6] = [
    Encoding::SnappyBlock,
    Encoding::SnappyFramed,
    Encoding::Gzip,
    Encoding::Zstd,
    Encoding::Deflate,
    Encoding::Identity,
];

/// The last byte picks the encoding, so that whole files of a format can be inputs.
pub(crate) fn decompression(bytes: &[u8]) {
    let (body, last) = match bytes.split_last() {
        Some((last, body)) => (body, *last),
        None => (bytes, 0),
    };
    let encoding = ENCODINGS[usize::from(last) % ENCODINGS.len()];
    for body in [body, bytes] {
        let mut out = b"kept".to_vec();
        match decompress(encoding, body, CAP, &mut out) {
            Ok(()) => assert!(out.len() <= 4 + CAP, "{} bytes above the cap", out.len()),
            Err(_) => assert_eq!(out, b"kept", "an error leaves nothing behind"),
        }
        assert!(out.starts_with(b"kept"));
        assert!(out.capacity() <= 4 * CAP, "{} bytes of memory", out.capacity());
        // A smaller cap: a limit, never a part of the body.
        let len = out.len() - 4;
        if len > 1 {
            let small = decompress(encoding, body, len - 1, &mut Vec::new());
            assert!(small.expect_err("above the cap").is_limit());
        }
    }
    let mut input = Input(body);
    let text = input.bytes(4_096);
    let packed = pack(encoding, text);
    let mut out = Vec::new();
    decompress(encoding, &packed, CAP, &mut out).expect("own body");
    assert_eq!(out, text);
}

/// Packs as clients do.
pub(crate) fn pack(encoding: Encoding, text: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let done = "memory takes all bytes";
    match encoding {
        Encoding::Identity => text.to_vec(),
        Encoding::SnappyBlock => snap::raw::Encoder::new().compress_vec(text).expect(done),
        Encoding::SnappyFramed => {
            let mut writer = snap::write::FrameEncoder::new(Vec::new());
            writer.write_all(text).expect(done);
            writer.into_inner().expect(done)
        }
        Encoding::Gzip => {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            writer.write_all(text).expect(done);
            writer.finish().expect(done)
        }
        Encoding::Deflate => {
            let mut writer =
                flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            writer.write_all(text).expect(done);
            writer.finish().expect(done)
        }
        Encoding::Zstd => zstd::bulk::compress(text, 1).expect(done),
    }
}
