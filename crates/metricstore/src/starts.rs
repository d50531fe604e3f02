//! When the values of a series began at zero.
//!
//! Of most series nobody says it, and of most others it changes when a process restarts. So it is no
//! column beside the samples but a function of time with few steps, kept apart: a series without one
//! costs nothing, one whose start stands still costs one step per head and block.

use codec::CodecError;
use codec::varint::{put_u64, take_u64};
use rapidhash::RapidHashMap;

/// A change of what is known: from this time on values began at `start_ms`, 0 = not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    t_ms: i64,
    start_ms: i64,
}

/// When values of one series began at zero, by their time. It says nothing about times at which
/// there is no sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Starts {
    /// Ascending in time; none is as the one before it. Before the first nothing is known.
    steps: Vec<Step>,
    /// The latest time of which something was noted.
    last_ms: i64,
}

impl Default for Starts {
    fn default() -> Self {
        Starts { steps: Vec::new(), last_ms: i64::MIN }
    }
}

impl Starts {
    /// Whether nothing is known at any time.
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Forgets everything and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.steps.clear();
        self.last_ms = i64::MIN;
    }

    /// When the value at `t_ms` began; 0 = not known.
    pub(crate) fn at(&self, t_ms: i64) -> i64 {
        // Fast path: most questions are about the newest.
        match self.steps.last() {
            None => 0,
            Some(last) if last.t_ms <= t_ms => last.start_ms,
            Some(_) => self.before(self.after(t_ms)),
        }
    }

    /// Index of the first step later than `t_ms`.
    fn after(&self, t_ms: i64) -> usize {
        self.steps.partition_point(|step| step.t_ms <= t_ms)
    }

    /// What is known right before step `index`.
    fn before(&self, index: usize) -> i64 {
        index.checked_sub(1).map_or(0, |before| self.steps[before].start_ms)
    }

    /// Notes when the value at `t_ms` began; 0 = not known. Values may come in any order; what was
    /// noted of other times stays.
    #[inline]
    pub(crate) fn set(&mut self, t_ms: i64, start_ms: i64) {
        let is_newest = self.last_ms <= t_ms;
        self.last_ms = self.last_ms.max(t_ms);
        // Fast path: it stands still.
        let known = self.at(t_ms);
        if known != start_ms {
            self.change(t_ms, start_ms, known, is_newest);
        }
    }

    fn change(&mut self, t_ms: i64, start_ms: i64, known: i64, is_newest: bool) {
        let mut index = self.after(t_ms);
        if !is_newest {
            // Times are whole, so what a late value says ends one behind it. A later one was noted,
            // so this is no overflow.
            let next_ms = t_ms + 1;
            match self.steps.get(index).filter(|step| step.t_ms == next_ms) {
                Some(next) if next.start_ms == start_ms => {
                    self.steps.remove(index);
                }
                Some(_) => {}
                None => self.steps.insert(index, Step { t_ms: next_ms, start_ms: known }),
            }
        }
        if index > 0 && self.steps[index - 1].t_ms == t_ms {
            index -= 1;
            self.steps.remove(index);
        }
        if self.before(index) != start_ms {
            self.steps.insert(index, Step { t_ms, start_ms });
        }
    }

    /// Appends when the values at each of `timestamps_ms` began, to `out`, which is padded by zeros
    /// to the length `before` first.
    pub(crate) fn append_to(&self, timestamps_ms: &[i64], before: usize, out: &mut Vec<i64>) {
        out.resize(before, 0);
        out.extend(timestamps_ms.iter().map(|&t_ms| self.at(t_ms)));
    }

    /// What is known of the times from `first_ms` to `last_ms`, both inclusive; `None` if nothing.
    pub(crate) fn between(&self, first_ms: i64, last_ms: i64) -> Option<Starts> {
        let (from, to) = (self.after(first_ms), self.after(last_ms));
        let steps = &self.steps[from.saturating_sub(1)..to.max(from)];
        steps
            .iter()
            .any(|step| step.start_ms != 0)
            .then(|| Starts { steps: steps.to_vec(), last_ms })
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.steps.capacity() * size_of::<Step>()
    }
}

/// The starts of the series of a shard between two cuts, by local ordinal. Few series have any, so
/// they are found by hash and cost the others nothing.
#[derive(Debug, Default)]
pub(crate) struct StartHead {
    series: RapidHashMap<u32, Starts>,
    bytes: usize,
}

impl StartHead {
    /// Whether nothing is known of any series.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// What is known of a series, if anything.
    pub(crate) fn get(&self, local: usize) -> Option<&Starts> {
        // Fast path: nothing is known of any, no hash.
        if self.series.is_empty() {
            return None;
        }
        self.series.get(&(local as u32))
    }

    /// Notes when a value began; 0 = not known. `latest_ms` is that of the series' samples so far.
    pub(crate) fn set(&mut self, local: usize, t_ms: i64, start_ms: i64, latest_ms: Option<i64>) {
        let starts = match self.series.get_mut(&(local as u32)) {
            Some(starts) => starts,
            None if start_ms == 0 => return,
            None => {
                let last_ms = latest_ms.unwrap_or(i64::MIN);
                let new = Starts { steps: Vec::new(), last_ms };
                self.series.entry(local as u32).or_insert(new)
            }
        };
        let before = starts.bytes();
        starts.set(t_ms, start_ms);
        self.bytes += starts.bytes();
        self.bytes -= before;
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.series.capacity() * (size_of::<Starts>() + size_of::<u32>()) + self.bytes
    }
}

/// The starts of the series of one group of a block.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupStarts {
    /// Places of the series that have any, ascending.
    places: Vec<u32>,
    /// Where the steps of each of them end.
    ends: Vec<u32>,
    steps: Vec<Step>,
}

/// Most steps of a page that a reader accepts. Few bytes may stand for many equal steps.
const MAX_STEPS: usize = 1 << 18;

/// How the starts of a page are written.
const ABSOLUTE: u8 = 0;
/// As the time of their step minus the start.
const DISTANCE: u8 = 1;

impl GroupStarts {
    /// Whether no series has any.
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Number of steps.
    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// Notes when the value at `t_ms` of the series at `place` began. Places come in ascending order,
    /// and so do the times of each.
    pub(crate) fn push(&mut self, place: u32, t_ms: i64, start_ms: i64) {
        if self.places.last() != Some(&place) {
            if start_ms == 0 {
                return;
            }
            self.places.push(place);
            self.ends.push(self.steps.len() as u32);
        } else if self.steps.last().is_some_and(|last| last.start_ms == start_ms) {
            return;
        }
        self.steps.push(Step { t_ms, start_ms });
        *self.ends.last_mut().expect("pushed with the place") = self.steps.len() as u32;
    }

    /// Forgets everything and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.places.clear();
        self.ends.clear();
        self.steps.clear();
    }

    /// What is known of the series at `place`; `None` if nothing.
    pub(crate) fn of(&self, place: u32) -> Option<Starts> {
        let index = self.places.binary_search(&place).ok()?;
        let from = index.checked_sub(1).map_or(0, |before| self.ends[before]) as usize;
        let steps = self.steps[from..self.ends[index] as usize].to_vec();
        Some(Starts { last_ms: steps.last()?.t_ms, steps })
    }

    /// Appends the page of `docs/formats/metric-block.md`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let column = |of: &mut dyn Iterator<Item = i64>, out: &mut Vec<u8>| {
            codec::encode_i64s(&of.collect::<Vec<_>>(), out);
        };
        put_u64(out, self.places.len() as u64);
        column(&mut self.places.iter().map(|place| i64::from(*place)), out);
        let before = std::iter::once(0).chain(self.ends.iter().copied());
        let lens = self.ends.iter().zip(before).map(|(end, before)| i64::from(end - before));
        column(&mut lens.into_iter(), out);
        column(&mut self.steps.iter().map(|step| step.t_ms), out);
        // Those of a counter stand still, those of what counts anew each time move with time.
        let (mut absolute, mut distance) = (Vec::new(), Vec::new());
        column(&mut self.steps.iter().map(|step| step.start_ms), &mut absolute);
        let distances = self.steps.iter().map(|step| step.t_ms.wrapping_sub(step.start_ms));
        column(&mut { distances }, &mut distance);
        if distance.len() < absolute.len() {
            out.push(DISTANCE);
            out.extend_from_slice(&distance);
        } else {
            out.push(ABSOLUTE);
            out.extend_from_slice(&absolute);
        }
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.steps.capacity() * size_of::<Step>() + self.places.capacity() * 2 * size_of::<u32>()
    }

    /// Reads a page of a group of `series` series.
    pub(crate) fn decode(mut input: &[u8], series: usize) -> Result<GroupStarts, StartsFault> {
        use StartsFault::Invalid;
        let count = usize::try_from(take_u64(&mut input)?).unwrap_or(usize::MAX);
        if count == 0 || count > series {
            return Err(Invalid("number of series with starts"));
        }
        let (mut places, mut lens) = (Vec::new(), Vec::new());
        codec::decode_i64s(&mut input, count, &mut places)?;
        codec::decode_i64s(&mut input, count, &mut lens)?;
        let is_place = |place: &i64| (0..series as i64).contains(place);
        if !places.iter().all(is_place) || !places.is_sorted_by(|a, b| a < b) {
            return Err(Invalid("series with starts out of order"));
        }
        let mut ends = Vec::with_capacity(count);
        let mut end = 0;
        for &len in &lens {
            if len < 1 || len > MAX_STEPS as i64 - end {
                return Err(Invalid("number of starts"));
            }
            end += len;
            ends.push(end as u32);
        }
        let (mut times, mut starts) = (Vec::new(), Vec::new());
        codec::decode_i64s(&mut input, end as usize, &mut times)?;
        let form = codec::varint::take_bytes(&mut input, 1)?[0];
        codec::decode_i64s(&mut input, end as usize, &mut starts)?;
        if form > DISTANCE || !input.is_empty() {
            return Err(Invalid("form of starts, or bytes after them"));
        }
        let step = |(&t_ms, &said): (&i64, &i64)| {
            let start_ms = if form == DISTANCE { t_ms.wrapping_sub(said) } else { said };
            Step { t_ms, start_ms }
        };
        let steps: Vec<Step> = times.iter().zip(&starts).map(step).collect();
        let mut from = 0;
        for &end in &ends {
            if !steps[from..end as usize].is_sorted_by(|a, b| a.t_ms < b.t_ms) {
                return Err(Invalid("starts out of order"));
            }
            from = end as usize;
        }
        let places = places.into_iter().map(|place| place as u32).collect();
        Ok(GroupStarts { places, ends, steps })
    }
}

/// Why a page of starts is refused.
#[derive(Debug)]
pub(crate) enum StartsFault {
    Codec(CodecError),
    Invalid(&'static str),
}

impl From<CodecError> for StartsFault {
    fn from(error: CodecError) -> Self {
        StartsFault::Codec(error)
    }
}

impl std::fmt::Display for StartsFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartsFault::Codec(error) => write!(f, "{error}"),
            StartsFault::Invalid(detail) => f.write_str(detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_start_that_stands_still_is_one_step() {
        let mut starts = Starts::default();
        (100..1_100).for_each(|t_ms| starts.set(t_ms, 7));
        assert_eq!(starts.steps, [Step { t_ms: 100, start_ms: 7 }]);
        assert_eq!([99, 100, 5_000].map(|t_ms| starts.at(t_ms)), [0, 7, 7]);
        assert_eq!(starts.between(500, 600).expect("known").at(550), 7);
        assert_eq!(starts.between(10, 99), None);
    }

    #[test]
    fn a_page_of_one_target_is_small() {
        let mut group = GroupStarts::default();
        for place in 0..512 {
            (0..480)
                .for_each(|n| group.push(place, 1_700_000_000_000 + n * 15_000, 1_699_999_000_123));
        }
        let mut page = Vec::new();
        group.encode(&mut page);
        assert!(page.len() <= 32, "{} bytes for 512 series of 480 samples", page.len());
        let mut deltas = GroupStarts::default();
        for place in 0..8 {
            let t_ms = |n: i64| 1_700_000_000_000 + n * 60_000;
            (0..1_024).for_each(|n| deltas.push(place, t_ms(n), t_ms(n - 1)));
        }
        page.clear();
        deltas.encode(&mut page);
        assert!(page.len() <= 8 * 64, "{} bytes for 8 series of 1,024 deltas", page.len());
    }

    proptest! {
        #[test]
        fn what_was_noted_in_any_order_is_found(
            notes in prop::collection::vec((0_i64..40, 0_i64..4), 0..80),
        ) {
            let (mut starts, mut naive) = (Starts::default(), BTreeMap::new());
            for (t_ms, start_ms) in notes {
                starts.set(t_ms, start_ms);
                naive.insert(t_ms, start_ms);
                for (&t_ms, &start_ms) in &naive {
                    prop_assert_eq!(starts.at(t_ms), start_ms, "at {} of {:?}", t_ms, starts);
                }
                let is_ascending = |steps: &[Step]| steps.is_sorted_by(|a, b| a.t_ms < b.t_ms);
                prop_assert!(is_ascending(&starts.steps), "{:?}", starts);
            }
        }

        #[test]
        fn pages_are_read_as_written(
            notes in prop::collection::btree_map((0_u32..20, 0_i64..50), any::<i64>(), 0..200),
        ) {
            let mut group = GroupStarts::default();
            let mut naive: BTreeMap<u32, Starts> = BTreeMap::new();
            for (&(place, t_ms), &start_ms) in &notes {
                group.push(place, t_ms, start_ms);
                naive.entry(place).or_default().set(t_ms, start_ms);
            }
            let mut page = Vec::new();
            group.encode(&mut page);
            if !group.is_empty() {
                let read = GroupStarts::decode(&page, 20).expect("own page");
                prop_assert_eq!(&read, &group);
            }
            for (place, starts) in naive {
                prop_assert_eq!(group.of(place).unwrap_or_default().steps, starts.steps);
            }
        }

        #[test]
        fn any_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = GroupStarts::decode(&bytes, 64);
        }
    }
}
