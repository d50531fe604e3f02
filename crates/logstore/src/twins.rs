//! Lines that are there already: the same text at the same time in the same stream is one line.

use hashbrown::HashSet;
use rapidhash::fast::RandomState;

/// Tells, of lines of one stream in order of time, which are there already. Remembers those of one time.
#[derive(Debug, Default)]
pub(crate) struct Twins {
    timestamp_ns: Option<i64>,
    /// The first line of that time.
    first: Vec<u8>,
    others: HashSet<Box<[u8]>, RandomState>,
}

impl Twins {
    /// Begins another stream.
    pub(crate) fn clear(&mut self) {
        self.timestamp_ns = None;
        self.others.clear();
    }

    /// Whether the line is new.
    pub(crate) fn is_new(&mut self, timestamp_ns: i64, line: &[u8]) -> bool {
        // Fast path: most times have one line.
        if self.timestamp_ns != Some(timestamp_ns) {
            self.timestamp_ns = Some(timestamp_ns);
            self.first.clear();
            self.first.extend_from_slice(line);
            if !self.others.is_empty() {
                self.others.clear();
            }
            return true;
        }
        self.first != line && !self.others.contains(line) && self.others.insert(line.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_new_once_a_time() {
        let mut twins = Twins::default();
        let mut is_new = |at, line: &str| twins.is_new(at, line.as_bytes());
        assert!(is_new(1, "a") && is_new(1, "b") && is_new(1, "c"));
        assert!(!is_new(1, "a") && !is_new(1, "b") && !is_new(1, "c"));
        assert!(is_new(2, "b") && is_new(2, "") && !is_new(2, ""));
        twins.clear();
        assert!(twins.is_new(2, b"b"));
    }
}
