//! Which slot of a Redis Cluster a key is in.
//!
//! Redis Cluster Specification, "Key distribution model": CRC-16/XMODEM of the key, or of what stands between
//! its first brace and the next closing one if that is not empty, modulo 16384.

/// How many there are.
pub(crate) const SLOTS: u16 = 16_384;

/// The slot of a key.
pub(crate) fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let hashed = tag.map(|(tag, _)| tag).filter(|tag| !tag.is_empty()).unwrap_or(key);
    crc16(hashed.as_bytes()) % SLOTS
}

fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0_u16;
    for byte in bytes {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            let carry = crc & 0x8000 != 0;
            crc <<= 1;
            if carry {
                crc ^= 0x1021;
            }
        }
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // The check value of the specification, and what `CLUSTER KEYSLOT` of Redis 7 answers.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (key, slot) in
            [("foo", 12_182), ("bar", 5_061), ("{foo}.bar", 12_182), ("x{foo}{bar}", 12_182)]
        {
            assert_eq!(slot_of(key), slot, "{key}");
        }
        assert_ne!(slot_of("a{}b"), slot_of("c{}d"), "an empty tag is none");
    }
}
