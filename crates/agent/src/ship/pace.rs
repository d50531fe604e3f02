//! How often the log says that a broker is not to be had.

use std::time::{Duration, Instant};

/// What stays as it is is said again after this long.
const SAY_EVERY: Duration = Duration::from_secs(5 * 60);

/// Why there is no stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It broke, or could not be opened: that may pass.
    Broken,
    /// The broker will not have this agent, or is none of its installation: somebody has to act.
    Refused,
}

/// What was last said of each broker.
#[derive(Debug, Default)]
pub(super) struct Pace {
    said: Vec<Option<(Trouble, Instant)>>,
}

impl Pace {
    /// Whether the trouble with a broker is worth a line: when it is another one than before, and
    /// then every five minutes.
    pub(super) fn may_say(&mut self, broker: usize, trouble: Trouble, now: Instant) -> bool {
        if self.said.len() <= broker {
            self.said.resize(broker + 1, None);
        }
        let may = match self.said[broker] {
            Some((known, at)) if known == trouble => now.saturating_duration_since(at) >= SAY_EVERY,
            Some(_) | None => true,
        };
        if may {
            self.said[broker] = Some((trouble, now));
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_that_stays_is_said_every_five_minutes() {
        let mut pace = Pace::default();
        let start = Instant::now();
        let hour = (0..3_600).map(|second| start + Duration::from_secs(second));
        let said = hour.filter(|now| pace.may_say(0, Trouble::Refused, *now)).count();
        assert_eq!(said, 12);
        let end = start + Duration::from_secs(3_600);
        assert!(pace.may_say(1, Trouble::Refused, end), "another broker");
        assert!(pace.may_say(0, Trouble::Broken, end), "another trouble");
        assert!(!pace.may_say(0, Trouble::Broken, end));
    }
}
