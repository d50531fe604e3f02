//! Which complaints are worth a line in the log: a new one at once, the same one once in a while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// One line in this time for what stays as it is.
const SAY_EVERY: Duration = Duration::from_secs(10 * 60);
/// Kinds that are told apart; further ones count as one.
const MAX_KINDS: usize = 32;
/// What tells kinds apart; behind it come numbers and names, which differ each time.
const KIND_BYTES: usize = 48;

/// Keeps the log readable while something stays bad for days. Any thread may use it.
#[derive(Debug, Default)]
pub struct Complaints {
    said: Mutex<HashMap<String, Said>>,
}

#[derive(Debug)]
struct Said {
    at: Instant,
    kept_quiet: u64,
}

impl Complaints {
    /// Whether to write the line now; yields how many like it were not written since the last one.
    /// Lines are alike when they begin alike, numbers aside.
    pub fn may_say(&self, line: &str, now: Instant) -> Option<u64> {
        let line = line.replace("samples", "sample");
        let letters = line.chars().filter(|c| !c.is_ascii_digit());
        let mut kind: String = letters.take(KIND_BYTES).collect();
        let mut said = self.said.lock();
        if said.len() >= MAX_KINDS && !said.contains_key(&kind) {
            kind.clear();
        }
        let Some(known) = said.get_mut(&kind) else {
            said.insert(kind, Said { at: now, kept_quiet: 0 });
            return Some(0);
        };
        if now.saturating_duration_since(known.at) < SAY_EVERY {
            known.kept_quiet += 1;
            return None;
        }
        known.at = now;
        Some(std::mem::take(&mut known.kept_quiet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_bad_is_said_once_in_a_while() {
        let complaints = Complaints::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let line = |samples| format!("{samples} samples refused: the series has no name");
        let one = "1 sample refused: the series has no name";
        assert_eq!(complaints.may_say(one, at(0)), Some(0));
        for second in 1..600 {
            assert_eq!(complaints.may_say(&line(second), at(second)), None);
        }
        assert_eq!(complaints.may_say("3 samples refused: timestamp is too old", at(9)), Some(0));
        assert_eq!(complaints.may_say(&line(7), at(600)), Some(599));
        assert_eq!(complaints.may_say(&line(7), at(601)), None);
    }

    #[test]
    fn kinds_are_bounded() {
        let complaints = Complaints::default();
        let start = Instant::now();
        let mut lines = 0;
        for letter in 'a'..='z' {
            for other in 'a'..='z' {
                lines +=
                    usize::from(complaints.may_say(&format!("{letter}{other}"), start).is_some());
            }
        }
        assert_eq!(lines, MAX_KINDS + 1);
    }
}
