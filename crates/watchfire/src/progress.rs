//! How far something long is: a bar on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two pictures of the bar.
const BAR_EVERY: Duration = Duration::from_millis(200);
/// Between two lines in a log.
const LINE_EVERY: Duration = Duration::from_secs(10);
const BAR_WIDTH: u64 = 24;

pub(crate) struct Progress {
    unit: &'static str,
    total: u64,
    done: u64,
    started: Instant,
    shown: Instant,
    is_terminal: bool,
}

impl Progress {
    /// `total` of `unit`, such as samples.
    pub(crate) fn new(total: u64, unit: &'static str) -> Progress {
        let (now, is_terminal) = (Instant::now(), std::io::stderr().is_terminal());
        Progress { unit, total, done: 0, started: now, shown: now, is_terminal }
    }

    /// Counts what is done.
    pub(crate) fn add(&mut self, more: u64) {
        self.done += more;
        let pause = if self.is_terminal { BAR_EVERY } else { LINE_EVERY };
        if self.shown.elapsed() >= pause {
            self.shown = Instant::now();
            self.show();
        }
    }

    /// Counts as not done what has to be done once more.
    pub(crate) fn take_back(&mut self, less: u64) {
        self.done = self.done.saturating_sub(less);
    }

    /// Clears the bar, so that a line can be printed.
    pub(crate) fn clear(&self) {
        if self.is_terminal {
            eprint!("\r\x1b[K");
        }
    }

    fn show(&self) {
        let line = line(self.unit, self.done, self.total, self.started.elapsed());
        if self.is_terminal {
            eprint!("\r\x1b[K{line}");
            // A terminal that takes nothing is no reason to stop.
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{line}");
        }
    }
}

fn line(unit: &str, done: u64, total: u64, elapsed: Duration) -> String {
    // What was expected may be less than what there is.
    let total = total.max(done).max(1);
    let seconds = elapsed.as_secs_f64().max(0.001);
    let per_second = done as f64 / seconds;
    let left = (total - done) as f64 / per_second.max(1.0);
    let filled = (done * BAR_WIDTH / total) as usize;
    let bar = "█".repeat(filled) + &"·".repeat(BAR_WIDTH as usize - filled);
    format!(
        "{bar} {:>3} %  {} of {} {unit}  {}/s  {} left",
        done * 100 / total,
        short(done as f64),
        short(total as f64),
        short(per_second),
        duration(left)
    )
}

/// A number of three digits or so.
pub(crate) fn short(number: f64) -> String {
    match number {
        n if n >= 1e9 => format!("{:.2} G", n / 1e9),
        n if n >= 1e6 => format!("{:.2} M", n / 1e6),
        n if n >= 1e4 => format!("{:.0} k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

fn duration(seconds: f64) -> String {
    match seconds.round() as u64 {
        s if s >= 3_600 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        s if s >= 60 => format!("{} min {} s", s / 60, s % 60),
        s => format!("{s} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_how_far_how_fast_and_how_long() {
        let text = line("samples", 250_000, 1_000_000, Duration::from_secs(2));
        assert_eq!(
            text,
            "██████··················  25 %  250 k of 1.00 M samples  125 k/s  6 s left"
        );
        assert!(line("samples", 5, 0, Duration::ZERO).contains("100 %"));
        assert_eq!(duration(3_725.0), "1 h 2 min");
    }
}
