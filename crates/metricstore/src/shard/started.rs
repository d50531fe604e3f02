//! Floats of which it is known when they began at zero.

use super::{AppendOutcome, HeadChunks, Held, Shard};
use crate::generation::Probes;
use crate::rows::ShardRows;
use crate::starts::Starts;

impl Shard {
    /// As [`Shard::append`], of floats of some of which it is known when they began, now or before.
    pub(super) fn append_started(&mut self, rows: &ShardRows, outcome: &mut AppendOutcome) {
        for (row, &ordinal) in rows.ordinals.iter().enumerate() {
            debug_assert_eq!(ordinal % self.shards, self.index, "row of another shard");
            let (t_ms, value) = (rows.timestamps_ms[row], rows.values[row]);
            let (local, start_ms) = ((ordinal / self.shards) as usize, rows.start_ms(row));
            let held = if self.open.is_news(local, t_ms) {
                None
            } else {
                // Starts are kept by time, so there may be no second sample of one time.
                let has_starts = start_ms != 0 || self.open.starts().get(local).is_some();
                let probes = if has_starts { Probes::All } else { Probes::Few };
                self.find_or_touch(local, t_ms, probes)
            };
            match held {
                None => {
                    self.open.note_start(local, t_ms, start_ms);
                    self.open.push(local, t_ms, value);
                    outcome.appended += 1;
                }
                Some(Held::Float(bits)) if bits == value.to_bits() => {
                    outcome.duplicates_equal += 1;
                }
                Some(_) => outcome.conflict(ordinal),
            }
        }
    }
}

impl HeadChunks {
    /// What is known of when the values of the series at `place` in one source began, if anything.
    pub(crate) fn starts_in(&self, place: usize, generation: usize) -> Option<&Starts> {
        if let Some(held) = self.frozen.get(generation) {
            return held.starts().get((self.ordinals[place] / self.shards) as usize);
        }
        let found = self.starts.binary_search_by_key(&(place as u32), |(place, _)| *place);
        found.ok().map(|index| &self.starts[index].1)
    }

    /// Whether something is known of when values of the series at `place` began.
    pub(crate) fn has_starts(&self, place: usize) -> bool {
        (0..self.generations()).any(|generation| self.starts_in(place, generation).is_some())
    }
}
