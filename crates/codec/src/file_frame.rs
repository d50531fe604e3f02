//! The frame of a file that is read and written as a whole: what kind it is, its version, its body, a
//! checksum.
//!
//! ```text
//! magic 8 B | version 1 B | body | CRC-32 of all before 4 B LE
//! ```

use crate::checksum;

const CHECKSUM_LEN: usize = 4;

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFrame {
    /// Its first bytes.
    pub magic: [u8; 8],
    /// The version this program writes, and the highest it reads; from 1.
    pub version: u8,
}

/// Why the body of a file is not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileFrameError {
    /// A newer program wrote it.
    #[error("version {found}, this program reads up to {supported}")]
    Newer {
        /// What the file says.
        found: u8,
        /// The highest this program reads.
        supported: u8,
    },
    /// It is damaged, or of another kind.
    #[error("{0}")]
    Damaged(&'static str),
}

impl FileFrame {
    /// Appends magic and version to `out`; the body goes behind it. Yields where the frame begins, for
    /// [`FileFrame::seal`].
    pub fn begin(&self, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.extend_from_slice(&self.magic);
        out.push(self.version);
        start
    }

    /// Ends the frame that began at `start`.
    pub fn seal(start: usize, out: &mut Vec<u8>) {
        let checksum = checksum(&out[start..]);
        out.extend_from_slice(&checksum.to_le_bytes());
    }

    /// The body of a file.
    ///
    /// # Errors
    /// The file is damaged, of another kind or of a newer program.
    pub fn open<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], FileFrameError> {
        let (sealed, stored) = bytes
            .split_last_chunk::<CHECKSUM_LEN>()
            .filter(|(sealed, _)| sealed.len() > self.magic.len())
            .ok_or(FileFrameError::Damaged("shorter than its frame"))?;
        let (magic, rest) = sealed.split_at(self.magic.len());
        if magic != self.magic {
            return Err(FileFrameError::Damaged(
                "its first bytes are those of another kind of file",
            ));
        }
        if checksum(sealed) != u32::from_le_bytes(*stored) {
            return Err(FileFrameError::Damaged("the checksum does not match"));
        }
        // After the checksum, so that a flipped bit is not taken for a newer program.
        match rest[0] {
            0 => Err(FileFrameError::Damaged("version 0 was never written")),
            found if found > self.version => {
                Err(FileFrameError::Newer { found, supported: self.version })
            }
            _ => Ok(&rest[1..]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: FileFrame = FileFrame { magic: *b"WFTEST\r\n", version: 2 };

    fn file(kind: FileFrame, body: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        let start = kind.begin(&mut out);
        out.extend_from_slice(body);
        FileFrame::seal(start, &mut out);
        out.split_off(start)
    }

    #[test]
    fn a_frame_gives_back_its_body_and_nothing_else() {
        for body in [&b""[..], b"some", &[0; 5_000]] {
            assert_eq!(KIND.open(&file(KIND, body)), Ok(body));
        }
        let older = file(FileFrame { version: 1, ..KIND }, b"older");
        assert_eq!(KIND.open(&older), Ok(&b"older"[..]));
        let newer = file(FileFrame { version: 3, ..KIND }, b"newer");
        assert_eq!(KIND.open(&newer), Err(FileFrameError::Newer { found: 3, supported: 2 }));
        let never = file(FileFrame { version: 0, ..KIND }, b"");
        assert!(matches!(KIND.open(&never), Err(FileFrameError::Damaged(_))));
        let whole = file(KIND, b"some");
        for len in 0..whole.len() {
            assert!(matches!(KIND.open(&whole[..len]), Err(FileFrameError::Damaged(_))), "{len}");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            assert!(matches!(KIND.open(&flipped), Err(FileFrameError::Damaged(_))), "{at}");
        }
    }
}
