//! Where one message of syslog ends and the next begins on a connection.
//!
//! A frame begins with its length in bytes, `11 <13>message`, or ends with a newline; each says so by
//! its first byte, and one connection may have both. Source: RFC 6587, sections 3.4.1 and 3.4.2.

/// Digits of a length, at most.
const MAX_DIGITS: usize = 10;

/// Takes bytes as they come over a connection and yields messages.
#[derive(Debug)]
pub struct SyslogFrames {
    buffer: Vec<u8>,
    /// Where the next frame begins in the buffer.
    start: usize,
    max_message_bytes: usize,
    /// Bytes of a counted frame that is too long, which are passed over.
    passed_over: usize,
    /// Whether what comes up to the next newline is passed over.
    to_newline: bool,
    cut_messages: u64,
}

/// Why a connection cannot be read any further: it is to be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame begins with digits that are no length.
    #[error("a frame of syslog must begin with `<`, or with its length and a blank, not {0:?}")]
    Length(String),
    /// The connection ended inside of a frame.
    #[error("the connection ended {missing} bytes before the end of a message")]
    CutOff {
        /// How many bytes did not come.
        missing: usize,
    },
}

impl SyslogFrames {
    /// Frames of a connection at its beginning. Messages longer than `max_message_bytes` are cut.
    pub fn new(max_message_bytes: usize) -> Self {
        SyslogFrames {
            buffer: Vec::new(),
            start: 0,
            max_message_bytes: max_message_bytes.max(1),
            passed_over: 0,
            to_newline: false,
            cut_messages: 0,
        }
    }

    /// How many messages were cut.
    pub fn cut_messages(&self) -> u64 {
        self.cut_messages
    }

    /// Takes bytes that came. All messages are to be taken out before the next ones: the buffer grows
    /// by all that is not.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        let over = self.passed_over.min(bytes.len());
        self.passed_over -= over;
        self.buffer.extend_from_slice(&bytes[over..]);
    }

    /// The next message that is there whole, or the beginning of one that is too long.
    ///
    /// # Errors
    /// `Length`.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, FrameError> {
        if std::mem::take(&mut self.to_newline) && !self.pass_over_line() {
            self.to_newline = true;
            return Ok(None);
        }
        // Some senders put a newline behind a counted frame, too.
        while matches!(self.buffer.get(self.start), Some(b'\n' | b'\r' | 0)) {
            self.start += 1;
        }
        match self.buffer.get(self.start) {
            None => Ok(None),
            Some(b'0'..=b'9') => self.counted(),
            Some(_) => Ok(self.line()),
        }
    }

    /// What is left when the connection ended, if it is a message.
    ///
    /// # Errors
    /// The connection ended inside of a frame.
    pub fn finish(mut self) -> Result<Option<Vec<u8>>, FrameError> {
        if self.passed_over > 0 {
            return Err(FrameError::CutOff { missing: self.passed_over });
        }
        if self.to_newline {
            return Ok(None);
        }
        if let Some(message) = self.next_message()? {
            return Ok(Some(message.to_vec()));
        }
        let rest = &self.buffer[self.start..];
        if !rest.first().is_some_and(u8::is_ascii_digit) {
            return Ok((!rest.is_empty()).then(|| trimmed(rest).to_vec()));
        }
        Err(match length(rest)? {
            Some((begin, len)) => FrameError::CutOff { missing: begin + len - rest.len() },
            None => FrameError::Length(String::from_utf8_lossy(rest).into_owned()),
        })
    }

    fn counted(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let rest = &self.buffer[self.start..];
        let Some((begin, len)) = length(rest)? else { return Ok(None) };
        let taken = len.min(self.max_message_bytes);
        let Some(message_end) = Some(begin + taken).filter(|end| *end <= rest.len()) else {
            return Ok(None);
        };
        let first = self.start + begin;
        let whole_end = begin.saturating_add(len);
        self.cut_messages += u64::from(taken < len);
        // The rest of a long one might not be there yet.
        self.passed_over = whole_end.saturating_sub(rest.len());
        let next = self.start + whole_end.min(rest.len());
        let end = self.start + message_end;
        self.start = next;
        Ok(Some(trimmed(&self.buffer[first..end])))
    }

    fn line(&mut self) -> Option<&[u8]> {
        let rest = &self.buffer[self.start..];
        let first = self.start;
        match memchr::memchr(b'\n', rest) {
            Some(len) => {
                self.start += len + 1;
                let taken = len.min(self.max_message_bytes);
                self.cut_messages += u64::from(taken < len);
                Some(trimmed(&self.buffer[first..first + taken]))
            }
            None if rest.len() > self.max_message_bytes => {
                self.cut_messages += 1;
                self.start = self.buffer.len();
                self.to_newline = true;
                Some(trimmed(&self.buffer[first..first + self.max_message_bytes]))
            }
            None => None,
        }
    }

    /// Passes over what is there up to a newline; yields whether there is one.
    fn pass_over_line(&mut self) -> bool {
        match memchr::memchr(b'\n', &self.buffer[self.start..]) {
            Some(len) => {
                self.start += len + 1;
                true
            }
            None => {
                self.start = self.buffer.len();
                false
            }
        }
    }
}

/// Where a counted frame's message begins and how long it is; `None` where that is not there yet.
fn length(rest: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let shown = || {
        let shown = &rest[..rest.len().min(digits + 1).min(MAX_DIGITS + 1)];
        FrameError::Length(String::from_utf8_lossy(shown).into_owned())
    };
    if digits > MAX_DIGITS {
        return Err(shown());
    }
    match rest.get(digits) {
        None => Ok(None),
        Some(b' ') => {
            let text = std::str::from_utf8(&rest[..digits]).map_err(|_| shown())?;
            let len = text.parse().map_err(|_| shown())?;
            Ok(Some((digits + 1, len)))
        }
        Some(_) => Err(shown()),
    }
}

/// Without what senders put behind a message to end it.
fn trimmed(message: &[u8]) -> &[u8] {
    let end = message.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r' | 0));
    &message[..end.map_or(0, |last| last + 1)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All messages of a connection on which the bytes came in such pieces.
    fn messages(bytes: &[u8], piece: usize, max: usize) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut frames = SyslogFrames::new(max);
        let mut all = Vec::new();
        for piece in bytes.chunks(piece.max(1)) {
            frames.push(piece);
            while let Some(message) = frames.next_message()? {
                all.push(message.to_vec());
            }
        }
        all.extend(frames.finish()?);
        Ok(all)
    }

    #[test]
    fn both_kinds_of_frames_on_one_connection() {
        let bytes = b"<1>a\r\n11 <2>b\nb <3>c\n\n5 <4>d\n<5>e";
        for piece in 1..bytes.len() {
            let all = messages(bytes, piece, 100).expect("valid frames");
            let all: Vec<_> = all.iter().map(|message| String::from_utf8_lossy(message)).collect();
            assert_eq!(all, ["<1>a", "<2>b\nb <3>c", "<4>d", "<5>e"], "{piece}");
        }
    }

    #[test]
    fn long_messages_are_cut_and_the_next_is_whole() {
        let bytes = b"<1>aaaaaaaaaa\n12 <2>bbbbbbbbb<3>c\n";
        for piece in 1..bytes.len() {
            let all = messages(bytes, piece, 5).expect("valid frames");
            assert_eq!(all, [b"<1>aa".to_vec(), b"<2>bb".to_vec(), b"<3>c".to_vec()], "{piece}");
        }
    }

    #[test]
    fn what_is_no_frame_is_told() {
        for (bytes, wanted) in [
            (&b"12foo bar"[..], "must begin with"),
            (b"12345678901 x", "must begin with"),
            (b"123 aa", "ended 121 bytes before"),
            (b"123", "must begin with"),
        ] {
            for piece in [1, 100] {
                let error = messages(bytes, piece, 10).expect_err("no frame").to_string();
                assert!(error.contains(wanted), "{error}");
            }
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            bytes in prop::collection::vec(
                prop_oneof![Just(b'\n'), Just(b' '), Just(b'<'), Just(b'1'), Just(b'5'), any::<u8>()],
                0..60,
            ),
            piece in 1_usize..10,
        ) {
            prop_assert_eq!(messages(&bytes, piece, 7), messages(&bytes, 100, 7));
        }
    }
}
