//! HMAC (RFC 2104), over any hash with blocks of 64 bytes.

use sha2::{Digest, Sha256};

const BLOCK_BYTES: usize = 64;

/// HMAC-SHA-256 of `data`.
pub(crate) fn hmac_sha256(key: &[u8], data: &[u8]) -> [u8; 32] {
    let [inner, outer] = pads::<Sha256>(key);
    let inner = Sha256::new().chain_update(inner).chain_update(data).finalize();
    Sha256::new().chain_update(outer).chain_update(inner).finalize().into()
}

/// HMAC-MD5 of `data`; only CRAM-MD5 of mail asks for it.
pub(crate) fn hmac_md5(key: &[u8], data: &[u8]) -> [u8; 16] {
    let [inner, outer] = pads::<md5::Md5>(key);
    let inner = md5::Md5::new().chain_update(inner).chain_update(data).finalize();
    md5::Md5::new().chain_update(outer).chain_update(inner).finalize().into()
}

fn pads<D: Digest>(key: &[u8]) -> [[u8; BLOCK_BYTES]; 2] {
    let mut block = [0; BLOCK_BYTES];
    if key.len() > BLOCK_BYTES {
        let digest = D::digest(key);
        block[..digest.len()].copy_from_slice(&digest);
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    [block.map(|byte| byte ^ 0x36), block.map(|byte| byte ^ 0x5c)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::hex;

    #[test]
    fn the_examples_of_the_standards_hold() {
        // RFC 4231, cases 2 and 6; RFC 2202, cases 2 and 6.
        let (key, data) = (b"Jefe", b"what do ya want for nothing?");
        assert_eq!(
            hex(&hmac_sha256(key, data)),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(hex(&hmac_md5(key, data)), "750c783e6ab0b503eaa86e310a5db738");
        let data = b"Test Using Larger Than Block-Size Key - Hash Key First";
        assert_eq!(
            hex(&hmac_sha256(&[0xaa; 131], data)),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
        assert_eq!(hex(&hmac_md5(&[0xaa; 80], data)), "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd");
    }
}
