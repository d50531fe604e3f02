//! How an object lies in Redis.
//!
//! The object `K` is a manifest under `{K}` and parts under `{K}/0`, `{K}/1` …: the braces put all of
//! them into one slot of a cluster, so that one node writes them and one `WAIT` speaks for them.
//!
//! | bytes | what of the manifest, little endian |
//! |---|---|
//! | 8 | `WFREDIS1` |
//! | 8 | length of the object |
//! | 4 | length of each part but the last |
//! | 4 | number of parts |
//! | 4 each | CRC-32 of each part |
//! | 4 | CRC-32 of all bytes before |

/// Longest value: Redis serves one command after the other, and a longer one makes others wait.
pub(crate) const PART_BYTES: usize = 1 << 20;

const MAGIC: [u8; 8] = *b"WFREDIS1";
const HEAD_BYTES: usize = 24;

/// What the beginning of a manifest is asked for when only the length is of interest.
pub(crate) const SIZE_BYTES: usize = 16;

/// Length and checksums of an object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Manifest {
    pub(crate) size: u64,
    pub(crate) crcs: Vec<u32>,
}

impl Manifest {
    /// Adds the next part.
    pub(crate) fn push(&mut self, part: &[u8]) {
        self.size += part.len() as u64;
        self.crcs.push(crc32fast::hash(part));
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let count = u32::try_from(self.crcs.len()).expect("an object has fewer parts");
        let mut bytes = Vec::with_capacity(HEAD_BYTES + 4 * self.crcs.len() + 4);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.size.to_le_bytes());
        bytes.extend_from_slice(&(PART_BYTES as u32).to_le_bytes());
        bytes.extend_from_slice(&count.to_le_bytes());
        self.crcs.iter().for_each(|crc| bytes.extend_from_slice(&crc.to_le_bytes()));
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// `None` for what is no manifest of this version, or a damaged one.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Manifest> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        let is_whole = crc32fast::hash(body) == u32::from_le_bytes(*crc);
        let size = size_of(body).filter(|_| is_whole)?;
        let (head, crcs) = body.split_at_checked(HEAD_BYTES)?;
        let part_bytes = u32::from_le_bytes(*head[16..].first_chunk()?);
        let count = u32::from_le_bytes(*head[20..].first_chunk()?);
        let (crcs, []) = crcs.as_chunks::<4>() else { return None };
        let wanted = size.div_ceil(PART_BYTES as u64);
        let fits = part_bytes as usize == PART_BYTES
            && u64::from(count) == wanted
            && crcs.len() as u64 == wanted;
        let crcs = crcs.iter().map(|crc| u32::from_le_bytes(*crc)).collect();
        fits.then_some(Manifest { size, crcs })
    }

    /// Length of a part, which must be there.
    pub(crate) fn part_len(&self, number: usize) -> usize {
        let before = number as u64 * PART_BYTES as u64;
        usize::try_from((self.size - before).min(PART_BYTES as u64)).expect("a part is small")
    }

    /// Whether these are the bytes of a part.
    pub(crate) fn fits(&self, number: usize, part: &[u8]) -> bool {
        part.len() == self.part_len(number) && crc32fast::hash(part) == self.crcs[number]
    }
}

/// The length of an object from the beginning of its manifest.
pub(crate) fn size_of(bytes: &[u8]) -> Option<u64> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (size, _) = rest.split_first_chunk::<8>()?;
    (*magic == MAGIC).then(|| u64::from_le_bytes(*size))
}

pub(crate) fn manifest_key(key: &str) -> String {
    format!("{{{key}}}")
}

pub(crate) fn part_key(key: &str, number: usize) -> String {
    format!("{{{key}}}/{number}")
}

/// The key of an object from that of its manifest; `None` for other keys.
pub(crate) fn object_key(manifest_key: &str) -> Option<&str> {
    manifest_key.strip_prefix('{')?.strip_suffix('}')
}

/// The pattern of `SCAN` for manifests of objects below a prefix.
pub(crate) fn pattern(prefix: &str) -> String {
    let mut pattern = String::from("{");
    for c in prefix.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '^' | '\\' | '-') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern + "*}"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(size: usize) -> Manifest {
        let bytes = vec![7; size];
        let mut manifest = Manifest::default();
        bytes.chunks(PART_BYTES).for_each(|part| manifest.push(part));
        manifest
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written_and_never_damaged() {
        for size in [0, 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES] {
            let written = manifest(size);
            let bytes = written.encode();
            assert_eq!(size_of(&bytes), Some(size as u64));
            assert_eq!(Manifest::decode(&bytes), Some(written));
            for len in 0..bytes.len() {
                assert_eq!(Manifest::decode(&bytes[..len]), None, "{size} cut to {len}");
            }
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Manifest::decode(&damaged), None, "{size} bit {bit}");
            }
        }
    }

    #[test]
    fn a_manifest_that_promises_too_much_is_none() {
        let mut bytes = manifest(1).encode();
        bytes[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        let body = bytes.len() - 4;
        let crc = crc32fast::hash(&bytes[..body]);
        bytes[body..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Manifest::decode(&bytes), None);
    }

    #[test]
    fn keys_of_one_object_share_a_slot_and_are_told_apart() {
        assert_eq!(manifest_key("a/b"), "{a/b}");
        assert_eq!(part_key("a/b", 3), "{a/b}/3");
        assert_eq!(object_key("{a/b}"), Some("a/b"));
        assert_eq!(object_key("{a/b}/3"), None);
        assert_eq!(pattern("a*/"), "{a\\*/*}");
    }
}
