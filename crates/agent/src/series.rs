//! The series the collectors have, their label bytes, and which of them a pass has seen.

use std::collections::HashMap;

use model::{
    LabelError, Labels, METRIC_NAME, MetricBatch, MetricMetadata, MetricType, STALE_NAN_BITS,
};

use crate::exposition::Description;

/// Name, type and help of a metric, as they stand in a collector's table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) kind: MetricType,
    pub(crate) help: &'static str,
}

impl Family {
    pub(crate) const fn counter(name: &'static str, help: &'static str) -> Self {
        Family { name, kind: MetricType::Counter, help }
    }

    pub(crate) const fn gauge(name: &'static str, help: &'static str) -> Self {
        Family { name, kind: MetricType::Gauge, help }
    }
}

/// A series registered in [`Samples`]; good until it is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeriesRef(u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Registered, without a sample so far or since its stale marker was delivered.
    Absent,
    /// Had a sample in the last pass its collector ran in.
    Live,
    /// Vanished; its stale marker is not yet delivered.
    Gone,
    /// The slot may be given to another series.
    Free,
}

#[derive(Debug)]
struct Slot {
    labels: Labels,
    /// Index of its description.
    family: u32,
    /// As of the last pass its collector ran in.
    value: f64,
    owner: usize,
    last_pass: u64,
    state: State,
    released: bool,
}

/// The batch of the running pass and the register of all series that were ever in one.
///
/// A collector registers a series once and afterwards emits values by reference: a sample costs
/// one copy of its packed labels and no allocation. Whatever a collector emitted in its last run
/// and not in this one gets a stale marker, which is repeated until a batch with it was delivered.
#[derive(Debug)]
pub(crate) struct Samples {
    job: String,
    instance: String,
    slots: Vec<Slot>,
    free: Vec<u32>,
    gone: Vec<u32>,
    /// Given up in this pass while still live; `finish` turns them into gone ones.
    leaving: Vec<u32>,
    /// Index of each family's description, by name.
    described: HashMap<String, u32>,
    descriptions: Vec<Description>,
    undelivered_metadata: Vec<MetricMetadata>,
    batch: MetricBatch,
    timestamp_ms: i64,
    pass: u64,
    owner: usize,
}

impl Samples {
    /// An empty register; every series will bear these two labels.
    pub(crate) fn new(job: &str, instance: &str) -> Self {
        Samples {
            job: job.to_owned(),
            instance: instance.to_owned(),
            slots: Vec::new(),
            free: Vec::new(),
            gone: Vec::new(),
            leaving: Vec::new(),
            described: HashMap::new(),
            descriptions: Vec::new(),
            undelivered_metadata: Vec::new(),
            batch: MetricBatch::default(),
            timestamp_ms: 0,
            pass: 0,
            owner: 0,
        }
    }

    /// Starts a pass whose samples all bear `timestamp_ms`, in the memory of `batch`.
    pub(crate) fn begin(&mut self, timestamp_ms: i64, mut batch: MetricBatch) {
        batch.clear();
        self.batch = batch;
        self.timestamp_ms = timestamp_ms;
        self.pass += 1;
    }

    /// Says which collector registers from now on.
    pub(crate) fn set_owner(&mut self, owner: usize) {
        self.owner = owner;
    }

    /// Registers a series of a metric with a fixed name.
    pub(crate) fn register(&mut self, family: &Family, labels: &[(&str, &str)]) -> SeriesRef {
        self.register_named(family.name, family.kind, family.help, labels)
    }

    /// Registers a series. Labels with an empty value are left out. Allocates; done once per
    /// series.
    pub(crate) fn register_named(
        &mut self,
        name: &str,
        kind: MetricType,
        help: &str,
        labels: &[(&str, &str)],
    ) -> SeriesRef {
        let labels = self
            .labels(name, labels.iter().copied())
            .expect("collectors name each label once and use neither job nor instance");
        self.register_labels(name, kind, help, labels)
    }

    /// Registers a series whose labels somebody else chose. What they call `job` or `instance` is
    /// renamed to `exported_job` and `exported_instance`, as a scrape does it. Nothing if they
    /// name a label twice, or the metric by a label.
    pub(crate) fn register_foreign(
        &mut self,
        family: &str,
        kind: MetricType,
        help: &str,
        name: &str,
        labels: &[(&str, &str)],
    ) -> Option<SeriesRef> {
        let renamed = labels.iter().map(|&(label, value)| match label {
            "job" => ("exported_job", value),
            "instance" => ("exported_instance", value),
            _ => (label, value),
        });
        let labels = self.labels(name, renamed).ok()?;
        Some(self.register_labels(family, kind, help, labels))
    }

    fn labels<'a>(
        &'a self,
        name: &'a str,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Labels, LabelError> {
        let own =
            [(METRIC_NAME, name), ("job", self.job.as_str()), ("instance", self.instance.as_str())];
        Labels::from_pairs(own.into_iter().chain(labels))
    }

    fn register_labels(
        &mut self,
        family: &str,
        kind: MetricType,
        help: &str,
        labels: Labels,
    ) -> SeriesRef {
        let family = self.describe(family, kind, help);
        // A series that comes back before its marker was delivered takes its slot again, or one
        // batch would hold both its value and its marker.
        let mut marked = self.gone.iter().chain(&self.leaving);
        if let Some(&index) = marked.find(|&&i| self.slots[i as usize].labels == labels) {
            self.slots[index as usize].released = false;
            return SeriesRef(index);
        }
        let slot = Slot {
            labels,
            family,
            value: 0.0,
            owner: self.owner,
            last_pass: 0,
            state: State::Absent,
            released: false,
        };
        match self.free.pop() {
            Some(index) => {
                self.slots[index as usize] = slot;
                SeriesRef(index)
            }
            None => {
                let index =
                    u32::try_from(self.slots.len()).expect("series of a host fit in 32 bits");
                self.slots.push(slot);
                SeriesRef(index)
            }
        }
    }

    /// Of several descriptions of a family the first stands.
    fn describe(&mut self, name: &str, kind: MetricType, help: &str) -> u32 {
        if let Some(&index) = self.described.get(name) {
            return index;
        }
        let index = u32::try_from(self.descriptions.len()).expect("families fit in 32 bits");
        let (name, help) = (name.to_owned(), help.to_owned());
        self.undelivered_metadata.push(MetricMetadata {
            metric: name.clone(),
            kind,
            help: help.clone(),
            unit: String::new(),
        });
        self.described.insert(name.clone(), index);
        self.descriptions.push(Description { name, kind, help });
        index
    }

    /// Every series that had a sample in its collector's last run, with that sample.
    pub(crate) fn current(&self) -> impl Iterator<Item = (&Description, &Labels, f64)> {
        let live = self.slots.iter().filter(|slot| slot.state == State::Live);
        live.map(|slot| (&self.descriptions[slot.family as usize], &slot.labels, slot.value))
    }

    /// Adds a sample. A second sample of the same series in one pass is left out.
    pub(crate) fn emit(&mut self, series: SeriesRef, value: f64) {
        let slot = &mut self.slots[series.0 as usize];
        if slot.last_pass == self.pass {
            return;
        }
        slot.last_pass = self.pass;
        if slot.state == State::Gone {
            self.gone.retain(|&index| index != series.0);
        }
        slot.state = State::Live;
        slot.value = value;
        self.batch.push(&slot.labels, self.timestamp_ms, value);
    }

    /// Adds a sample of the series in `place`, registering it first if the place is empty.
    pub(crate) fn put(
        &mut self,
        place: &mut Option<SeriesRef>,
        value: f64,
        register: impl FnOnce(&mut Samples) -> SeriesRef,
    ) {
        let series = match *place {
            Some(series) => series,
            None => *place.insert(register(self)),
        };
        self.emit(series, value);
    }

    /// Gives a series up. If it was in the last pass and is not in this one, its stale marker
    /// follows; the reference must not be used again.
    pub(crate) fn release(&mut self, series: SeriesRef) {
        let slot = &mut self.slots[series.0 as usize];
        slot.released = true;
        match slot.state {
            State::Absent => self.free_slot(series.0),
            State::Live => self.leaving.push(series.0),
            State::Gone | State::Free => {}
        }
    }

    /// Ends the pass: adds stale markers for what the collectors in `ran` did not emit, and the
    /// metadata nobody got yet; yields the batch.
    pub(crate) fn finish(&mut self, ran: &[bool]) -> MetricBatch {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.state == State::Live && slot.last_pass != self.pass && ran[slot.owner] {
                slot.state = State::Gone;
                self.gone.push(index as u32);
            }
        }
        self.leaving.clear();
        for &index in &self.gone {
            let labels = &self.slots[index as usize].labels;
            self.batch.push(labels, self.timestamp_ms, f64::from_bits(STALE_NAN_BITS));
        }
        self.batch.metadata.extend_from_slice(&self.undelivered_metadata);
        std::mem::take(&mut self.batch)
    }

    /// Says that the last batch reached its consumer: its markers and metadata need no repeat.
    pub(crate) fn delivered(&mut self) {
        self.undelivered_metadata.clear();
        while let Some(index) = self.gone.pop() {
            let slot = &mut self.slots[index as usize];
            slot.state = State::Absent;
            if slot.released {
                self.free_slot(index);
            }
        }
    }

    fn free_slot(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.state = State::Free;
        slot.labels = Labels::empty();
        self.free.push(index);
    }

    /// Number of series that had a sample in their collector's last run.
    pub(crate) fn live(&self) -> usize {
        self.slots.iter().filter(|slot| slot.state == State::Live).count()
    }
}

/// One metric without labels of its own.
#[derive(Debug)]
pub(crate) struct Single {
    family: Family,
    series: Option<SeriesRef>,
}

impl Single {
    pub(crate) const fn new(family: Family) -> Self {
        Single { family, series: None }
    }

    /// Adds a sample.
    pub(crate) fn emit(&mut self, out: &mut Samples, value: f64) {
        let family = self.family;
        out.put(&mut self.series, value, |out| out.register(&family, &[]));
    }
}

/// The series that belong to the keys of one file: devices, CPUs, field names.
///
/// Files list their keys in the same order on every pass, so the row for a key is nearly always
/// the one after the row before, and finding it costs one comparison. Rows whose key is absent in
/// a pass are dropped and their series released.
#[derive(Debug)]
pub(crate) struct Keyed<const N: usize, X = ()> {
    rows: Vec<Row<N, X>>,
    next: usize,
}

/// The series of one key, and what else a collector keeps for it.
#[derive(Debug)]
pub(crate) struct Row<const N: usize, X = ()> {
    pub(crate) key: Box<[u8]>,
    pub(crate) series: [Option<SeriesRef>; N],
    pub(crate) extra: X,
    seen: bool,
}

impl<const N: usize, X: Default> Keyed<N, X> {
    pub(crate) const fn new() -> Self {
        Keyed { rows: Vec::new(), next: 0 }
    }

    /// Starts a pass over the file.
    pub(crate) fn begin(&mut self) {
        self.next = 0;
        for row in &mut self.rows {
            row.seen = false;
        }
    }

    /// The row for `key`, made if it is new.
    pub(crate) fn row(&mut self, key: &[u8]) -> &mut Row<N, X> {
        let expected = self.rows.get(self.next).is_some_and(|row| *row.key == *key);
        let at = if expected {
            self.next
        } else {
            match self.rows.iter().position(|row| *row.key == *key) {
                Some(at) => at,
                None => {
                    let row =
                        Row { key: key.into(), series: [None; N], extra: X::default(), seen: true };
                    self.rows.insert(self.next, row);
                    self.next
                }
            }
        };
        self.next = at + 1;
        self.rows[at].seen = true;
        &mut self.rows[at]
    }

    /// Ends the pass over the file: forgets the keys that were not in it.
    pub(crate) fn finish(&mut self, out: &mut Samples) {
        self.rows.retain(|row| {
            if !row.seen {
                row.series.iter().flatten().for_each(|&series| out.release(series));
            }
            row.seen
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Family = Family::gauge("up", "Whether it is up.");

    struct Bench {
        samples: Samples,
        now_ms: i64,
    }

    impl Bench {
        fn new() -> Self {
            Bench { samples: Samples::new("node", "h"), now_ms: 0 }
        }

        /// A pass of one collector that sees these devices; yields `device=value` or `device=stale`.
        fn pass(&mut self, devices: &mut Keyed<1>, seen: &[&str], ran: bool) -> Vec<String> {
            self.now_ms += 1_000;
            self.samples.begin(self.now_ms, MetricBatch::default());
            if ran {
                devices.begin();
                for device in seen {
                    let row = devices.row(device.as_bytes());
                    self.samples.put(&mut row.series[0], 1.0, |out| {
                        out.register(&UP, &[("device", device)])
                    });
                }
                devices.finish(&mut self.samples);
            }
            let batch = self.samples.finish(&[ran]);
            assert!(batch.timestamps_ms.iter().all(|&t_ms| t_ms == self.now_ms));
            let mut lines: Vec<_> = batch
                .series
                .iter()
                .map(|series| {
                    let labels = Labels::from_packed(batch.label_bytes_of(series)).expect("packed");
                    let value = batch.values[series.first_row as usize];
                    let device = labels.get("device").expect("own label").to_owned();
                    assert_eq!(
                        (labels.get("job"), labels.get("instance")),
                        (Some("node"), Some("h"))
                    );
                    device + if model::is_stale_nan(value) { "=stale" } else { "=1" }
                })
                .collect();
            lines.sort();
            lines
        }
    }

    #[test]
    fn what_vanishes_is_marked_once() {
        let (mut bench, mut devices) = (Bench::new(), Keyed::new());
        assert_eq!(bench.pass(&mut devices, &["a", "b"], true), ["a=1", "b=1"]);
        bench.samples.delivered();
        assert_eq!(bench.pass(&mut devices, &["a"], true), ["a=1", "b=stale"]);
        bench.samples.delivered();
        assert_eq!(bench.pass(&mut devices, &["a"], true), ["a=1"]);
        bench.samples.delivered();
        assert_eq!(bench.pass(&mut devices, &["b", "a"], true), ["a=1", "b=1"]);
        assert_eq!(bench.samples.slots.len(), 2, "the slot of b was reused");
    }

    #[test]
    fn a_marker_is_repeated_until_it_is_delivered() {
        let (mut bench, mut devices) = (Bench::new(), Keyed::new());
        bench.pass(&mut devices, &["a", "b", "c"], true);
        bench.samples.delivered();
        assert_eq!(bench.pass(&mut devices, &["a"], true), ["a=1", "b=stale", "c=stale"]);
        // That batch was dropped; meanwhile c comes back.
        assert_eq!(bench.pass(&mut devices, &["c", "a"], true), ["a=1", "b=stale", "c=1"]);
        bench.samples.delivered();
        assert_eq!(bench.pass(&mut devices, &["a", "c"], true), ["a=1", "c=1"]);
    }

    #[test]
    fn the_series_of_a_collector_that_did_not_run_stand() {
        let (mut bench, mut devices) = (Bench::new(), Keyed::new());
        bench.pass(&mut devices, &["a"], true);
        bench.samples.delivered();
        assert!(bench.pass(&mut devices, &[], false).is_empty());
        assert_eq!(bench.samples.live(), 1);
        assert_eq!(bench.pass(&mut devices, &[], true), ["a=stale"]);
    }

    #[test]
    fn metadata_is_sent_until_it_is_delivered() {
        let (mut bench, mut devices) = (Bench::new(), Keyed::<1>::new());
        bench.pass(&mut devices, &["a"], true);
        for (delivered, want) in [(false, 1), (true, 1), (false, 0)] {
            bench.samples.begin(0, MetricBatch::default());
            assert_eq!(bench.samples.finish(&[false]).metadata.len(), want);
            if delivered {
                bench.samples.delivered();
            }
        }
    }

    #[test]
    fn a_series_given_up_and_taken_again_in_one_pass_is_not_marked() {
        let (mut bench, mut devices) = (Bench::new(), Keyed::new());
        bench.pass(&mut devices, &["a"], true);
        bench.samples.delivered();
        let series = devices.row(b"a").series[0].take().expect("registered");
        bench.samples.release(series);
        assert_eq!(bench.pass(&mut devices, &["a"], true), ["a=1"]);
        bench.samples.delivered();
        assert_eq!(bench.pass(&mut devices, &[], true), ["a=stale"]);
    }

    #[test]
    fn a_key_that_is_listed_twice_gives_one_sample() {
        let (mut bench, mut devices) = (Bench::new(), Keyed::new());
        assert_eq!(bench.pass(&mut devices, &["a", "b", "a"], true), ["a=1", "b=1"]);
        assert_eq!(bench.pass(&mut devices, &["b", "a"], true), ["a=1", "b=1"]);
    }
}
