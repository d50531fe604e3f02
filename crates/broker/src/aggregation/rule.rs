//! One rule at work: its series, its groups, its window.

use std::collections::HashMap;
use std::sync::Arc;

use catalog::LogPosition;
use codec::CodecError;
use codec::varint::{put_bytes, put_i64, put_u64, take_i64, take_prefixed, take_u64};
use model::{Labels, LabelsBuilder, METRIC_NAME, Matcher};
use settings::relabel::{LabelBuffer, relabel};
use settings::stream_aggregation::{AggregationOutput, AggregationRule};

use super::bytes::{put_f64, take_count, take_f64};
use super::group::{Group, Needs, Value};

/// No time.
const NEVER: i64 = i64::MIN;

/// A value that a rule writes at the end of a window.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Written {
    pub(super) labels: Labels,
    pub(super) t_ms: i64,
    pub(super) value: Value,
}

/// Where samples of a series go.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Packed labels of the series as the rule sees it.
    key: Arc<[u8]>,
    slot: u32,
    generation: u32,
}

impl Target {
    /// Memory its labels take.
    pub(super) fn key_bytes(&self) -> usize {
        self.key.len() + 2 * size_of::<usize>()
    }
}

/// A rule and all it knows.
pub(super) struct RuleState {
    pub(super) rule: AggregationRule,
    /// Frames of the log before it are of a time before the rule.
    pub(super) from: LogPosition,
    needs: Needs,
    /// Between the metric's name and the output's.
    suffix: String,
    /// When the window that is open began, and when it ends.
    begin_ms: i64,
    end_ms: i64,
    /// Until then first samples of counters do not count.
    ignore_first_until_ms: i64,
    /// Windows that are not written.
    ignored_windows: u64,
    inputs: Slots<Input>,
    groups: Slots<Group>,
}

/// What is known of one series.
#[derive(Debug, Clone, PartialEq)]
struct Input {
    key: Arc<[u8]>,
    /// Slot of its group.
    group: u32,
    deadline_ms: i64,
    /// Its last sample, as far as it counts.
    last_ms: i64,
    last: f64,
    /// Time of the sample from which on the rate of this window is taken.
    rate_ms: i64,
    rise: f64,
    /// The newest sample of an interval of deduplication that is not over.
    waiting: Option<(i64, f64)>,
    /// Newest timestamp that was taken: nothing before it is.
    newest_ms: i64,
    in_window: bool,
}

/// Things found by key, in places that stay.
#[derive(Debug)]
struct Slots<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
    by_key: HashMap<Arc<[u8]>, u32>,
    key_bytes: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots { slots: Vec::new(), free: Vec::new(), by_key: HashMap::new(), key_bytes: 0 }
    }
}

impl<T> Slots<T> {
    fn insert(&mut self, key: Arc<[u8]>, value: T) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize].1 = Some(value);
        self.key_bytes += key.len();
        self.by_key.insert(key, slot);
        slot
    }

    fn get(&mut self, slot: u32) -> &mut T {
        self.slots[slot as usize].1.as_mut().expect("slots of others are not asked for")
    }

    fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(|(_, value)| value.as_mut())
    }

    fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|(_, value)| value.as_ref())
    }

    fn len(&self) -> usize {
        self.by_key.len()
    }

    /// What it takes, but for what things hold themselves.
    fn bytes(&self) -> usize {
        let slot = size_of::<(u32, Option<T>)>();
        let entry = size_of::<(Arc<[u8]>, u32)>() + 2 * size_of::<usize>();
        self.slots.capacity() * slot + self.by_key.capacity() * entry + self.key_bytes
    }

    /// Removes what `is_gone`; its slots get another generation.
    fn remove(&mut self, key_of: impl Fn(&T) -> &Arc<[u8]>, is_gone: impl Fn(&T) -> bool) {
        for (at, (generation, value)) in self.slots.iter_mut().enumerate() {
            if value.as_ref().is_some_and(&is_gone) {
                let gone = value.take().expect("looked at just now");
                self.by_key.remove(key_of(&gone));
                self.key_bytes -= key_of(&gone).len();
                *generation = generation.wrapping_add(1);
                self.free.push(at as u32);
            }
        }
    }
}

/// What became of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Yes,
    /// It is no number.
    NoNumber,
    /// It is not newer than the one before it.
    Repeated,
    /// It is older than the window.
    Old,
}

/// Whether a rule wants a series. Native histograms are not aggregated.
pub(super) fn is_wanted(rule: &AggregationRule, labels: &Labels) -> bool {
    let matches = |matchers: &Vec<Matcher>| Matcher::all_match(matchers, labels);
    rule.selectors.is_empty() || rule.selectors.iter().any(matches)
}

impl RuleState {
    /// A rule that begins now, at `from` in the log.
    pub(super) fn new(rule: AggregationRule, from: LogPosition, now_ms: i64) -> RuleState {
        let mut suffix = format!(":{}", rule.interval);
        for (word, labels) in [("by", &rule.by), ("without", &rule.without)] {
            if !labels.is_empty() {
                suffix.push_str(&format!("_{word}_{}", labels.join("_")));
            }
        }
        let ignored_ms = i64::try_from(rule.ignore_first_sample_interval_ms).unwrap_or(i64::MAX);
        RuleState {
            from,
            needs: Needs::of(&rule.outputs),
            suffix,
            begin_ms: now_ms,
            end_ms: next_end(&rule, now_ms),
            ignore_first_until_ms: now_ms.saturating_add(ignored_ms),
            ignored_windows: rule.ignore_first_intervals,
            inputs: Slots::default(),
            groups: Slots::default(),
            rule,
        }
    }

    /// Series and groups it knows.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.inputs.len(), self.groups.len())
    }

    /// Memory it takes. Where groups keep values it looks at each of them.
    pub(super) fn bytes(&self) -> usize {
        let kept = match self.needs.keeps_values() {
            true => self.groups.values().map(Group::kept_bytes).sum(),
            false => 0,
        };
        self.inputs.bytes() + self.groups.bytes() + kept
    }

    /// Where samples of a series with these labels go; `None` if the rule does not want them.
    pub(super) fn target(&self, labels: &Labels, buffer: &mut LabelBuffer) -> Option<Target> {
        if !is_wanted(&self.rule, labels) {
            return None;
        }
        let rule = &self.rule;
        buffer.load(labels);
        for name in &rule.drop_input_labels {
            buffer.remove(name);
        }
        if !relabel(&rule.input_relabel_configs, buffer) {
            return None;
        }
        let labels = buffer.to_labels().ok().filter(|labels| labels.metric_name().is_some())?;
        Some(Target { key: Arc::from(labels.as_packed()), slot: u32::MAX, generation: 0 })
    }

    /// Takes a sample.
    pub(super) fn take(&mut self, target: &mut Target, t_ms: i64, value: f64) -> Taken {
        // Staleness markers too: a series that comes back goes on, one that does not is forgotten.
        if value.is_nan() {
            return Taken::NoNumber;
        }
        if self.rule.ignore_old_samples && t_ms < self.begin_ms {
            return Taken::Old;
        }
        let place = target.slot as usize;
        let is_valid =
            self.inputs.slots.get(place).is_some_and(|(generation, input)| {
                *generation == target.generation && input.is_some()
            });
        if !is_valid {
            target.slot = match self.inputs.by_key.get(&target.key) {
                Some(slot) => *slot,
                None => self.add_input(Arc::clone(&target.key)),
            };
            target.generation = self.inputs.slots[target.slot as usize].0;
        }
        let input = self.inputs.get(target.slot);
        if t_ms <= input.newest_ms {
            return Taken::Repeated;
        }
        input.newest_ms = t_ms;
        let dedup_ms = self.rule.dedup_interval_ms as i64;
        let counts = if dedup_ms == 0 {
            Some((t_ms, value))
        } else {
            let before = input.waiting.replace((t_ms, value));
            before
                .filter(|(before_ms, _)| before_ms.div_euclid(dedup_ms) < t_ms.div_euclid(dedup_ms))
        };
        self.refresh(target.slot);
        if let Some((t_ms, value)) = counts {
            self.count(target.slot, t_ms, value);
        }
        Taken::Yes
    }

    /// Keeps a series and its group from being forgotten.
    fn refresh(&mut self, slot: u32) {
        let staleness_ms = self.rule.staleness_interval_ms as i64;
        let deadline_ms = self.end_ms.saturating_add(staleness_ms);
        let input = self.inputs.get(slot);
        input.deadline_ms = deadline_ms;
        self.groups.get(input.group).deadline_ms = deadline_ms;
    }

    /// A sample that is counted.
    fn count(&mut self, slot: u32, t_ms: i64, value: f64) {
        let ignores_first = self.end_ms <= self.ignore_first_until_ms;
        let input = self.inputs.get(slot);
        let group = self.groups.get(input.group);
        if !input.in_window {
            input.in_window = true;
            group.count_series();
        }
        group.take(self.needs, t_ms, value);
        if !self.needs.counters {
            return;
        }
        if input.last_ms == NEVER {
            let first = if ignores_first { 0.0 } else { value };
            group.rise(first, 0.0);
            input.rate_ms = t_ms;
        } else {
            // A counter that is less than before began again at zero.
            let rise = if value >= input.last { value - input.last } else { value };
            group.rise(rise, rise);
            input.rise += rise;
        }
        (input.last_ms, input.last) = (t_ms, value);
    }

    fn add_input(&mut self, key: Arc<[u8]>) -> u32 {
        let labels = Labels::from_trusted_packed(&key);
        let (by, without) = (&self.rule.by, &self.rule.without);
        let kept = labels.filter(|name| {
            let is_listed = |list: &[String]| list.iter().any(|listed| listed == name);
            name == METRIC_NAME || if by.is_empty() { !is_listed(without) } else { is_listed(by) }
        });
        let group_key: Arc<[u8]> = Arc::from(kept.as_packed());
        let group = match self.groups.by_key.get(&group_key) {
            Some(slot) => *slot,
            None => {
                let group = Group::new(Arc::clone(&group_key));
                self.groups.insert(group_key, group)
            }
        };
        let input = Input {
            key: Arc::clone(&key),
            group,
            deadline_ms: NEVER,
            last_ms: NEVER,
            last: 0.0,
            rate_ms: NEVER,
            rise: 0.0,
            waiting: None,
            newest_ms: NEVER,
            in_window: false,
        };
        self.inputs.insert(key, input)
    }

    /// Whether the window that is open has anything to write but what goes on.
    pub(super) fn has_samples(&self) -> bool {
        self.groups.values().any(Group::has_samples)
            || self.inputs.values().any(|input| input.waiting.is_some())
    }

    /// Whether the window that is open has to end.
    pub(super) fn is_due(&self, now_ms: i64) -> bool {
        self.end_ms <= now_ms || self.is_ahead(now_ms)
    }

    /// Whether the window is one of a time that is not there yet, because the clock was set back. By
    /// less it is not worth a window of its own: then the one that is open becomes longer.
    fn is_ahead(&self, now_ms: i64) -> bool {
        self.end_ms.saturating_sub(now_ms) > 2 * self.rule.interval_ms as i64
    }

    /// Ends the window, if it [is due](RuleState::is_due) at `at_ms`, and begins the one in which
    /// `at_ms` lies. What it writes is put behind `out`.
    pub(super) fn end_window(&mut self, at_ms: i64, out: &mut Vec<Written>) {
        if !self.is_due(at_ms) {
            return;
        }
        let ended_ms = self.end_ms;
        self.finish(ended_ms.min(at_ms), out);
        let next_ms = next_end(&self.rule, at_ms);
        let interval_ms = self.rule.interval_ms as i64;
        // While there was no process nobody could send anything: that time does not count. Nor does
        // time by which the clock was set back.
        let missed_ms = (next_ms - interval_ms).saturating_sub(ended_ms);
        if missed_ms != 0 {
            let later =
                |deadline_ms: &mut i64| *deadline_ms = deadline_ms.saturating_add(missed_ms);
            self.inputs.values_mut().for_each(|input| later(&mut input.deadline_ms));
            self.groups.values_mut().for_each(|group| later(&mut group.deadline_ms));
            let ignored_ms = self.rule.ignore_first_sample_interval_ms as i64;
            let until_ms = at_ms.saturating_add(ignored_ms);
            self.ignore_first_until_ms = match missed_ms {
                1.. => until_ms,
                _ => until_ms.min(self.ignore_first_until_ms),
            };
        }
        if missed_ms < 0 {
            // Timestamps by the clock as it was would keep out all that comes.
            for input in self.inputs.values_mut() {
                for time in [&mut input.newest_ms, &mut input.last_ms, &mut input.rate_ms] {
                    *time = if *time > next_ms { at_ms } else { *time };
                }
            }
        }
        let stale_ms = ended_ms.saturating_add(missed_ms);
        self.inputs.remove(|input| &input.key, |input| input.deadline_ms <= stale_ms);
        self.groups.remove(|group| &group.key, |group| group.deadline_ms <= stale_ms);
        self.begin_ms = next_ms - interval_ms;
        self.end_ms = next_ms;
    }

    /// Ends the window early, at a stop; what comes until its real end is a window of its own.
    pub(super) fn end_early(&mut self, at_ms: i64, out: &mut Vec<Written>) {
        if self.rule.flush_on_shutdown && self.has_samples() {
            // The time it begins is another sample's: that of the window before it.
            self.finish(at_ms.max(self.begin_ms.saturating_add(1)), out);
        }
    }

    fn finish(&mut self, t_ms: i64, out: &mut Vec<Written>) {
        for slot in 0..self.inputs.slots.len() as u32 {
            let Some(input) = &mut self.inputs.slots[slot as usize].1 else { continue };
            if let Some((t_ms, value)) = input.waiting.take() {
                self.count(slot, t_ms, value);
            }
        }
        if self.needs.counters {
            for slot in 0..self.inputs.slots.len() {
                let Some(input) = &mut self.inputs.slots[slot].1 else { continue };
                if input.in_window && input.rate_ms != NEVER && input.last_ms > input.rate_ms {
                    let seconds = input.last_ms.saturating_sub(input.rate_ms) as f64 / 1_000.0;
                    self.groups.get(input.group).take_rate(input.rise / seconds);
                    input.rate_ms = input.last_ms;
                }
                input.rise = 0.0;
            }
        }
        self.inputs.values_mut().for_each(|input| input.in_window = false);
        if self.ignored_windows > 0 {
            self.ignored_windows -= 1;
        } else {
            let mut writer = Writer::new(&self.rule, &self.suffix, t_ms);
            for group in self.groups.values() {
                writer.write(group, out);
            }
        }
        self.groups.values_mut().for_each(Group::begin_window);
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        for time in [self.begin_ms, self.end_ms, self.ignore_first_until_ms] {
            put_i64(out, time);
        }
        put_u64(out, self.ignored_windows);
        // Slots are numbered anew, without gaps.
        let mut numbers = vec![0; self.groups.slots.len()];
        put_u64(out, self.groups.len() as u64);
        let used = self.groups.slots.iter().enumerate();
        let used = used.filter_map(|(at, (_, group))| Some((at, group.as_ref()?)));
        for (number, (at, group)) in used.enumerate() {
            numbers[at] = number as u64;
            put_bytes(out, &group.key);
            group.encode(out);
        }
        put_u64(out, self.inputs.len() as u64);
        for input in self.inputs.values() {
            put_bytes(out, &input.key);
            put_u64(out, numbers[input.group as usize]);
            for time in [input.deadline_ms, input.last_ms, input.rate_ms, input.newest_ms] {
                put_i64(out, time);
            }
            put_f64(out, input.last);
            put_f64(out, input.rise);
            out.push(u8::from(input.in_window) | u8::from(input.waiting.is_some()) << 1);
            if let Some((t_ms, value)) = input.waiting {
                put_i64(out, t_ms);
                put_f64(out, value);
            }
        }
        put_u64(out, self.from.file);
        put_u64(out, self.from.offset);
    }

    /// Replaces what is known by what [`RuleState::encode`] wrote of the same rule.
    ///
    /// # Errors
    /// The bytes are no such thing.
    pub(super) fn decode(&mut self, input: &mut &[u8]) -> Result<(), CodecError> {
        for time in [&mut self.begin_ms, &mut self.end_ms, &mut self.ignore_first_until_ms] {
            *time = take_i64(input)?;
        }
        self.ignored_windows = take_u64(input)?;
        for _ in 0..take_count(input)? {
            let key = take_key(input)?;
            let group = Group::decode(Arc::clone(&key), input)?;
            self.groups.insert(key, group);
        }
        let groups = self.groups.len() as u64;
        for _ in 0..take_count(input)? {
            let key = take_key(input)?;
            let group = take_u64(input)?;
            if group >= groups {
                let field = "the group of a series";
                return Err(CodecError::Invalid { offset: 0, field, found: group });
            }
            let mut times = [0; 4];
            for time in &mut times {
                *time = take_i64(input)?;
            }
            let [deadline_ms, last_ms, rate_ms, newest_ms] = times;
            let (last, rise) = (take_f64(input)?, take_f64(input)?);
            let flags = codec::varint::take_bytes(input, 1)?[0];
            let waiting = match flags & 2 {
                0 => None,
                _ => Some((take_i64(input)?, take_f64(input)?)),
            };
            let one = Input {
                key: Arc::clone(&key),
                group: group as u32,
                deadline_ms,
                last_ms,
                last,
                rate_ms,
                rise,
                waiting,
                newest_ms,
                in_window: flags & 1 == 1,
            };
            self.inputs.insert(key, one);
        }
        // Not there in files of programs that let a new rule count from the beginning.
        self.from = match input.is_empty() {
            true => LogPosition::default(),
            false => LogPosition { file: take_u64(input)?, offset: take_u64(input)? },
        };
        Ok(())
    }
}

fn take_key(input: &mut &[u8]) -> Result<Arc<[u8]>, CodecError> {
    let bytes = take_prefixed(input)?;
    match Labels::from_packed(bytes) {
        Ok(labels) if labels.metric_name().is_some() => Ok(Arc::from(bytes)),
        _ => {
            let (field, found) = ("labels of a series", bytes.len() as u64);
            Err(CodecError::Invalid { offset: 0, field, found })
        }
    }
}

/// The end of the window in which `now_ms` lies: a multiple of the interval.
fn next_end(rule: &AggregationRule, now_ms: i64) -> i64 {
    let interval_ms = rule.interval_ms as i64;
    (now_ms.div_euclid(interval_ms) + 1).saturating_mul(interval_ms)
}

/// Gives outputs their labels.
struct Writer<'a> {
    rule: &'a AggregationRule,
    suffix: &'a str,
    t_ms: i64,
    buffer: LabelBuffer,
}

impl<'a> Writer<'a> {
    fn new(rule: &'a AggregationRule, suffix: &'a str, t_ms: i64) -> Self {
        Writer { rule, suffix, t_ms, buffer: LabelBuffer::new() }
    }

    fn write(&mut self, group: &Group, out: &mut Vec<Written>) {
        let labels = Labels::from_trusted_packed(&group.key);
        for output in &self.rule.outputs {
            group.show(output, &mut |quantile, value| {
                if let Some(labels) = self.labels(&labels, output, quantile) {
                    out.push(Written { labels, t_ms: self.t_ms, value });
                }
            });
        }
    }

    /// `None` if relabeling drops it.
    fn labels(
        &mut self,
        of_group: &Labels,
        output: &AggregationOutput,
        quantile: Option<f64>,
    ) -> Option<Labels> {
        let mut labels = LabelsBuilder::from_labels(of_group);
        if !self.rule.keep_metric_names {
            let name = of_group.metric_name().unwrap_or_default();
            labels.set(METRIC_NAME, &format!("{name}{}_{}", self.suffix, output.name()));
        }
        if let Some(phi) = quantile {
            labels.set("quantile", &phi.to_string());
        }
        let labels = labels.build();
        if self.rule.output_relabel_configs.is_empty() {
            return Some(labels);
        }
        self.buffer.load(&labels);
        if !relabel(&self.rule.output_relabel_configs, &mut self.buffer) {
            return None;
        }
        self.buffer.to_labels().ok().filter(|labels| labels.metric_name().is_some())
    }
}
