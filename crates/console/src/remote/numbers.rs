//! Numbers of live series: the user's stay the same when a broker's begin anew, and are the same for a
//! series that several brokers have.

use std::collections::{HashMap, HashSet};

use model::Labels;
use net::rpc::{self, LiveEvents};
use promql::SourceError;

use super::budget::Held;
use super::fault::garbled;
use super::label::ClusterLabel;
use super::labels_of;

/// Series one feed may have, as at the broker.
const MAX_SERIES: usize = 1 << 16;
/// What a series of a feed takes besides its labels.
const SERIES_BYTES: usize = 100;
/// Newest times of a series that are remembered, where several brokers may have it.
const REMEMBERED: usize = 8;
/// What they take.
const REMEMBERED_BYTES: usize = size_of::<Recent>() + 16;

/// All series of one feed.
pub(super) struct Numbers {
    own: HashMap<Labels, u32>,
    /// The next new series' own.
    next: u32,
    /// Own numbers by those of each broker.
    by_broker: Vec<HashMap<u32, u32>>,
    /// By own number; of series of several brokers alone.
    recent: HashMap<u32, Recent>,
    /// For the labels in `own`.
    held: Held,
}

/// Times of the samples that came last.
#[derive(Default)]
struct Recent {
    times: [Option<i64>; REMEMBERED],
    next: usize,
}

impl Recent {
    /// Whether there has been no sample of this time, as far as is remembered.
    fn is_new(&mut self, t_ms: i64) -> bool {
        if self.times.contains(&Some(t_ms)) {
            return false;
        }
        self.times[self.next] = Some(t_ms);
        self.next = (self.next + 1) % REMEMBERED;
        true
    }
}

/// New series, samples, and how many are missed.
pub(super) type Translated = (Vec<(u32, Labels)>, Vec<(u32, i64, f64)>, u64);

impl Numbers {
    pub(super) fn new(brokers: usize, held: Held) -> Self {
        let by_broker = vec![HashMap::new(); brokers];
        Numbers { own: HashMap::new(), next: 0, by_broker, recent: HashMap::new(), held }
    }

    /// The broker begins its numbers anew.
    pub(super) fn begin(&mut self, broker: usize) {
        self.by_broker[broker].clear();
    }

    fn bytes_of(&self, labels: &Labels) -> usize {
        let remembered = if self.by_broker.len() > 1 { REMEMBERED_BYTES } else { 0 };
        SERIES_BYTES + remembered + labels.as_packed().len()
    }

    /// A number for a series that has none; `None` if there are too many.
    ///
    /// # Errors
    /// There is no room for its labels.
    fn add(&mut self, labels: &Labels) -> Result<Option<u32>, SourceError> {
        if self.own.len() >= MAX_SERIES && !self.forget() {
            return Ok(None);
        }
        if let Err(full) = self.held.grow(self.bytes_of(labels)) {
            if !self.forget() {
                return Err(full);
            }
            self.held.grow(0)?;
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.own.insert(labels.clone(), number);
        Ok(Some(number))
    }

    /// Drops series that no broker has told again since its numbers began anew; whether there were any.
    /// Those that come back do so under another number.
    fn forget(&mut self) -> bool {
        let told: HashSet<u32> = self.by_broker.iter().flat_map(HashMap::values).copied().collect();
        let gone: Vec<Labels> = self
            .own
            .iter()
            .filter(|(_, number)| !told.contains(number))
            .map(|(labels, _)| labels.clone())
            .collect();
        for labels in &gone {
            if let Some(number) = self.own.remove(labels) {
                self.recent.remove(&number);
            }
            self.held.shrink(self.bytes_of(labels));
        }
        !gone.is_empty()
    }

    /// What a broker tells, in the user's numbers, with the label of its cluster.
    ///
    /// # Errors
    /// There is no room for the series, or no broker tells such.
    pub(super) fn translate(
        &mut self,
        broker: usize,
        events: LiveEvents,
        label: Option<&ClusterLabel>,
    ) -> Result<Translated, SourceError> {
        let mut new = Vec::new();
        for rpc::LiveSeries { number, labels } in events.series {
            let mut labels = labels_of(&labels)?;
            if let Some(label) = label {
                labels = label.added_to(&labels);
            }
            let own = match self.own.get(&labels) {
                Some(own) => *own,
                None => {
                    let Some(own) = self.add(&labels)? else { continue };
                    new.push((own, labels));
                    own
                }
            };
            self.by_broker[broker].insert(number, own);
        }
        let columns = [events.timestamps_ms.len(), events.values.len()];
        if columns != [events.series_numbers.len(); 2] {
            return Err(garbled("live columns of different lengths"));
        }
        let mut samples = Vec::with_capacity(events.values.len());
        let mut missed = events.missed;
        let times = events.timestamps_ms.into_iter().zip(events.values);
        let is_only = self.by_broker.len() == 1;
        for (number, (t_ms, value)) in events.series_numbers.into_iter().zip(times) {
            match self.by_broker[broker].get(&number) {
                Some(own) => {
                    if is_only || self.recent.entry(*own).or_default().is_new(t_ms) {
                        samples.push((*own, t_ms, value));
                    }
                }
                None => missed += 1,
            }
        }
        Ok((new, samples, missed))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use bytes::Bytes;

    use super::super::budget::Budget;
    use super::super::counters::Counters;
    use super::*;

    /// Series as a broker tells them, under numbers from `first` on, each with a sample.
    fn told(first: u32, names: &[&str]) -> LiveEvents {
        let series = |(number, name): (u32, &&str)| {
            let labels = Labels::from_pairs([("__name__", *name)]).expect("valid");
            rpc::LiveSeries { number, labels: Bytes::copy_from_slice(labels.as_packed()) }
        };
        let count = names.len();
        LiveEvents {
            series: (first..).zip(names).map(series).collect(),
            series_numbers: (first..).take(count).collect(),
            timestamps_ms: vec![1; count],
            values: vec![1.0; count],
            ..LiveEvents::default()
        }
    }

    fn own_numbers(numbers: &mut Numbers, events: LiveEvents) -> Vec<u32> {
        let (_, samples, missed) = numbers.translate(0, events, None).expect("room");
        assert_eq!(missed, 0);
        samples.iter().map(|(own, _, _)| *own).collect()
    }

    #[test]
    fn labels_are_held_and_given_back_and_forgotten_when_room_is_needed() {
        let counters = Arc::<Counters>::default();
        let held = || counters.held_bytes.load(Ordering::Relaxed);
        let budget = Arc::new(Budget::new(3 * (SERIES_BYTES + 30), Arc::clone(&counters)));
        let mut numbers =
            Numbers::new(1, budget.query(governor::Governor::unlimited().account()).hold());
        assert_eq!(own_numbers(&mut numbers, told(0, &["a", "b", "c"])), [0, 1, 2]);
        let full = held();
        assert!(full > 3 * SERIES_BYTES);
        let error = numbers.translate(0, told(3, &["d"]), None).expect_err("no room");
        assert!(matches!(&error, SourceError::Limit(_)), "{error:?}");
        assert!(error.to_string().contains("limits.max_query_bytes"), "{error}");
        drop(numbers);
        assert_eq!(held(), 0);
        let mut numbers =
            Numbers::new(1, budget.query(governor::Governor::unlimited().account()).hold());
        assert_eq!(own_numbers(&mut numbers, told(0, &["a", "b", "c"])), [0, 1, 2]);
        // The broker begins anew: what it tells again keeps its number, also where another series
        // takes the room of those that it does not.
        numbers.begin(0);
        assert_eq!(own_numbers(&mut numbers, told(0, &["c", "d", "a"])), [2, 3, 4]);
        assert_eq!(held(), full);
        numbers.translate(0, told(3, &["e"]), None).expect_err("no room");
        drop(numbers);
        assert_eq!(held(), 0);
    }

    #[test]
    fn what_several_brokers_tell_is_shown_once() {
        let budget = Arc::new(Budget::new(1 << 20, Arc::default()));
        let held = || budget.query(governor::Governor::unlimited().account()).hold();
        let mut numbers = Numbers::new(2, held());
        let tell = |numbers: &mut Numbers, broker, times: &[i64], label: Option<&ClusterLabel>| {
            let events = LiveEvents {
                series_numbers: vec![5; times.len()],
                timestamps_ms: times.to_vec(),
                values: vec![broker as f64; times.len()],
                ..told(5, &["a"])
            };
            let (new, samples, missed) = numbers.translate(broker, events, label).expect("room");
            assert_eq!(missed, 0);
            let shown = samples.iter().map(|(own, t_ms, _)| (*own, *t_ms)).collect::<Vec<_>>();
            (new.len(), shown)
        };
        assert_eq!(tell(&mut numbers, 0, &[10, 20], None), (1, vec![(0, 10), (0, 20)]));
        assert_eq!(tell(&mut numbers, 1, &[10, 20, 30], None), (0, vec![(0, 30)]));
        assert_eq!(tell(&mut numbers, 0, &[30, 40], None), (0, vec![(0, 40)]));
        // Apart if they bear the names of their clusters.
        let mut numbers = Numbers::new(2, held());
        let label = |value: &str| ClusterLabel { name: "c".to_owned(), value: value.to_owned() };
        assert_eq!(tell(&mut numbers, 0, &[10], Some(&label("x"))), (1, vec![(0, 10)]));
        assert_eq!(tell(&mut numbers, 1, &[10], Some(&label("y"))), (1, vec![(1, 10)]));
    }
}
