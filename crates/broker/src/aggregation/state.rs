//! All rules, as a function of the log: the same frames lead to the same windows.

use std::collections::HashMap;

use blockstore::{Frame, FrameKind};
use catalog::LogPosition;
use codec::varint::{put_bytes, put_i64, put_u64, take_i64, take_prefixed, take_u64};
use codec::{FileFrame, FileFrameError};
use metricstore::{LogDecoder, ResolvedBatch};
use model::{Labels, TenantId};
use settings::relabel::LabelBuffer;
use settings::stream_aggregation::AggregationRule;

use super::bytes::take_count;
use super::frame;
use super::rule::{RuleState, Taken, Target, Written};

const FRAME: FileFrame = FileFrame { magic: *b"WFAGG\r\n\x1a", version: 1 };

/// Why a file of open windows cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum StateFileError {
    /// A newer program wrote it.
    #[error("the windows have version {found}, this program reads up to {supported}: upgrade it")]
    Newer {
        /// What the file says.
        found: u8,
        /// The highest this program reads.
        supported: u8,
    },
    /// It is damaged.
    #[error("the windows are damaged: {0}")]
    Damaged(String),
}

impl From<FileFrameError> for StateFileError {
    fn from(error: FileFrameError) -> Self {
        match error {
            FileFrameError::Newer { found, supported } => {
                StateFileError::Newer { found, supported }
            }
            FileFrameError::Damaged(what) => StateFileError::Damaged(what.to_owned()),
        }
    }
}

/// Samples that no rule counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) no_number: u64,
    pub(super) repeated: u64,
    pub(super) old: u64,
}

/// The rules and what they know.
pub(super) struct State {
    rules: Vec<RuleState>,
    /// Before where all frames are taken. Those before it that come again only name series.
    pub(super) through: LogPosition,
    /// The end of windows that came last; behind it the clock may have been set back.
    pub(super) ended_ms: i64,
    pub(super) left_out: LeftOut,
    /// The file whose series `decoder` knows.
    file: u64,
    decoder: LogDecoder,
    series: SeriesTable,
    batch: ResolvedBatch,
}

/// Series by the numbers that `define` gives them.
#[derive(Default)]
struct SeriesTable {
    numbers: HashMap<Labels, u32>,
    /// For each, the rules that want it, by their places.
    targets: Vec<Vec<(usize, Target)>>,
    /// What labels and targets take.
    bytes: usize,
    buffer: LabelBuffer,
}

impl SeriesTable {
    fn define(&mut self, rules: &[RuleState], labels: Labels) -> u32 {
        if let Some(number) = self.numbers.get(&labels) {
            return *number;
        }
        let number = self.targets.len() as u32;
        let targets = self.targets_of(rules, &labels);
        self.targets.push(targets);
        self.numbers.insert(labels, number);
        number
    }

    /// Finds out anew which rules want the series, since they are others.
    fn renew(&mut self, rules: &[RuleState]) {
        self.bytes = 0;
        let numbers = std::mem::take(&mut self.numbers);
        for (labels, &number) in &numbers {
            self.targets[number as usize] = self.targets_of(rules, labels);
        }
        self.numbers = numbers;
    }

    fn targets_of(&mut self, rules: &[RuleState], labels: &Labels) -> Vec<(usize, Target)> {
        let found = rules.iter().enumerate();
        let buffer = &mut self.buffer;
        let found = found.filter_map(|(at, rule)| Some((at, rule.target(labels, buffer)?)));
        let targets: Vec<_> = found.collect();
        let of_target =
            |(_, target): &(usize, Target)| size_of::<(usize, Target)>() + target.key_bytes();
        self.bytes += labels.as_packed().len() + targets.iter().map(of_target).sum::<usize>();
        targets
    }

    fn bytes(&self) -> usize {
        self.numbers.capacity() * size_of::<(Labels, u32)>()
            + self.targets.capacity() * size_of::<Vec<(usize, Target)>>()
            + self.bytes
    }
}

impl State {
    /// Rules that begin now, behind `through`.
    pub(super) fn new(rules: &[AggregationRule], through: LogPosition, now_ms: i64) -> State {
        State {
            rules: State::rules_from(rules, through, now_ms),
            through,
            ended_ms: i64::MIN,
            left_out: LeftOut::default(),
            file: 0,
            decoder: LogDecoder::new(),
            series: SeriesTable::default(),
            batch: ResolvedBatch::default(),
        }
    }

    /// Memory it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.rules.iter().map(RuleState::bytes).sum::<usize>() + self.series.bytes()
    }

    fn rules_from(rules: &[AggregationRule], from: LogPosition, now_ms: i64) -> Vec<RuleState> {
        rules.iter().map(|rule| RuleState::new(rule.clone(), from, now_ms)).collect()
    }

    /// Begins rules that are not there yet, behind all that is taken.
    pub(super) fn begin_rules(&mut self, rules: &[AggregationRule], now_ms: i64) {
        for rule in rules {
            let is_it = |known: &RuleState| known.rule.identity == rule.identity;
            if !self.rules.iter().any(is_it) {
                self.rules.push(RuleState::new(rule.clone(), self.through, now_ms));
            }
        }
        self.series.renew(&self.rules);
    }

    /// Ends all rules but these. What those write that do so at a stop is put behind `out`.
    pub(super) fn keep_rules(
        &mut self,
        rules: &[AggregationRule],
        at_ms: i64,
        out: &mut Vec<Written>,
    ) {
        self.rules.retain_mut(|known| {
            let stays = rules.iter().any(|rule| rule.identity == known.rule.identity);
            if !stays {
                known.end_early(at_ms, out);
            }
            stays
        });
        self.series.renew(&self.rules);
    }

    /// Ends rules without a trace.
    pub(super) fn forget_rules(&mut self, rules: &[AggregationRule]) {
        let is_gone =
            |known: &RuleState| rules.iter().any(|rule| rule.identity == known.rule.identity);
        self.rules.retain(|known| !is_gone(known));
        self.series.renew(&self.rules);
    }

    /// The rules there are.
    pub(super) fn rules(&self) -> Vec<AggregationRule> {
        self.rules.iter().map(|known| known.rule.clone()).collect()
    }

    /// Whether a window has to end.
    pub(super) fn is_due(&self, now_ms: i64) -> bool {
        self.rules.iter().any(|rule| rule.is_due(now_ms))
    }

    /// Series and groups known to rules.
    pub(super) fn sizes(&self) -> (usize, usize) {
        let sizes = self.rules.iter().map(RuleState::sizes);
        sizes.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    }

    /// Takes a frame of the log, in order. Yields the end of windows if it is one; what they write
    /// is put behind `out`.
    ///
    /// # Errors
    /// The frame is unusable; nothing of it is taken.
    pub(super) fn take_frame(
        &mut self,
        frame: &Frame,
        out: &mut Vec<Written>,
    ) -> Result<Option<i64>, String> {
        if frame.position < self.through {
            return self.name_series(frame).map(|()| None);
        }
        self.through = frame.end;
        match frame.kind {
            FrameKind::AggregationEnd => {
                let at_ms = frame::end_of(&frame.payload)?;
                self.end_windows(frame.position, at_ms, out);
                Ok(Some(at_ms))
            }
            FrameKind::Aggregated => {
                let input = frame::split(&frame.payload)?.input;
                self.take_input(frame.position, &input).map(|()| None)
            }
            _ => Ok(None),
        }
    }

    /// There are no frames before `position` but those that were taken.
    pub(super) fn passed(&mut self, position: LogPosition) {
        self.through = self.through.max(position);
    }

    fn name_series(&mut self, frame: &Frame) -> Result<(), String> {
        if frame.kind != FrameKind::Aggregated {
            return Ok(());
        }
        let input = frame::split(&frame.payload)?.input;
        self.enter(frame.position.file);
        let State { rules, series, decoder, .. } = self;
        let mut define = |_: TenantId, labels: Labels| series.define(rules, labels);
        decoder.define_as(&input, &mut define).map_err(|error| error.to_string())
    }

    fn enter(&mut self, file: u64) {
        if file != self.file {
            self.file = file;
            self.decoder = LogDecoder::new();
            // Series that were released do not stay for ever.
            self.series = SeriesTable::default();
        }
    }

    fn take_input(&mut self, position: LogPosition, payload: &[u8]) -> Result<(), String> {
        self.enter(position.file);
        let State { rules, series, decoder, batch, .. } = self;
        // One tenant so far; the labels of others would need a table of their own.
        let mut define = |_: TenantId, labels: Labels| series.define(rules, labels);
        decoder.decode_as(payload, &mut define, 1, batch).map_err(|error| error.to_string())?;
        for rows in &self.batch.shards {
            let samples = rows.timestamps_ms.iter().zip(&rows.values);
            for (&number, (&t_ms, &value)) in rows.ordinals.iter().zip(samples) {
                for (at, target) in &mut self.series.targets[number as usize] {
                    let rule = &mut self.rules[*at];
                    if position < rule.from {
                        continue;
                    }
                    match rule.take(target, t_ms, value) {
                        Taken::Yes => {}
                        Taken::NoNumber => self.left_out.no_number += 1,
                        Taken::Repeated => self.left_out.repeated += 1,
                        Taken::Old => self.left_out.old += 1,
                    }
                }
            }
        }
        Ok(())
    }

    fn end_windows(&mut self, position: LogPosition, at_ms: i64, out: &mut Vec<Written>) {
        self.ended_ms = at_ms;
        let begun = self.rules.iter_mut().filter(|rule| position >= rule.from);
        begun.for_each(|rule| rule.end_window(at_ms, out));
    }

    /// Ends the windows of rules that want it, because the process stops.
    pub(super) fn end_early(&mut self, at_ms: i64, out: &mut Vec<Written>) {
        self.rules.iter_mut().for_each(|rule| rule.end_early(at_ms, out));
    }

    /// Appends the file to `out`.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = FRAME.begin(out);
        put_u64(out, self.through.file);
        put_u64(out, self.through.offset);
        put_i64(out, self.ended_ms);
        put_u64(out, self.rules.len() as u64);
        let mut body = Vec::new();
        for rule in &self.rules {
            put_bytes(out, rule.rule.identity.as_bytes());
            body.clear();
            rule.encode(&mut body);
            put_bytes(out, &body);
        }
        FileFrame::seal(start, out);
    }

    /// The state of a file, for the rules there are now: those that are new begin now, at `end` of
    /// the log. Yields also how many rules of the file are not there any more.
    ///
    /// # Errors
    /// The file is damaged or newer than this program.
    pub(super) fn decode(
        bytes: &[u8],
        rules: &[AggregationRule],
        end: LogPosition,
        now_ms: i64,
    ) -> Result<(State, usize), StateFileError> {
        let mut input = FRAME.open(bytes)?;
        State::read(&mut input, rules, end, now_ms)
            .map_err(|error| StateFileError::Damaged(error.to_string()))
    }

    fn read(
        input: &mut &[u8],
        rules: &[AggregationRule],
        end: LogPosition,
        now_ms: i64,
    ) -> Result<(State, usize), codec::CodecError> {
        let through = LogPosition { file: take_u64(input)?, offset: take_u64(input)? };
        let mut state = State::new(rules, through, now_ms);
        state.rules = State::rules_from(rules, end, now_ms);
        state.ended_ms = take_i64(input)?;
        let mut gone = 0;
        for _ in 0..take_count(input)? {
            let identity = take_prefixed(input)?;
            let mut body = take_prefixed(input)?;
            let is_it = |rule: &&mut RuleState| rule.rule.identity.as_bytes() == identity;
            match state.rules.iter_mut().find(is_it) {
                Some(rule) => rule.decode(&mut body)?,
                None => gone += 1,
            }
        }
        Ok((state, gone))
    }
}

#[cfg(test)]
mod tests {
    use model::{MatchOp, Matcher};
    use proptest::prelude::*;
    use settings::stream_aggregation::read_rules;
    use settings::yaml::Document;

    use super::*;

    fn rules() -> Vec<AggregationRule> {
        let yaml = "- {match: m, interval: 10s, by: [job], outputs: [total, 'quantiles(0.5)', \
                    unique_samples, histogram_bucket], dedup_interval: 5s}\n- {interval: 1m, \
                    outputs: [rate_sum]}\n";
        let document = Document::parse("f.yml", yaml.as_bytes()).expect("YAML");
        let parse = |text: &str| {
            Ok(vec![Matcher::new("__name__", MatchOp::Equal, text).expect("no regex")])
        };
        read_rules(&document, "", &parse).expect("rules")
    }

    const LATER: LogPosition = LogPosition { file: u64::MAX, offset: 0 };

    fn filled() -> State {
        let mut state = State::new(&rules(), LogPosition { file: 3, offset: 77 }, 5_000);
        let mut buffer = LabelBuffer::new();
        for step in 0..40_i64 {
            let pod = (step % 3).to_string();
            let pairs = [("__name__", "m"), ("job", "j"), ("pod", pod.as_str())];
            let labels = Labels::from_pairs(pairs).expect("valid");
            for rule in &mut state.rules {
                let mut target = rule.target(&labels, &mut buffer).expect("wanted");
                rule.take(&mut target, 5_000 + step * 700, step as f64 * 1.5 - 9.0);
            }
        }
        state
    }

    fn encoded(state: &State) -> Vec<u8> {
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        bytes
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut state = filled();
        let (mut read, gone) =
            State::decode(&encoded(&state), &rules(), LATER, 0).expect("written");
        assert_eq!((gone, read.through, read.sizes()), (0, state.through, state.sizes()));
        assert_eq!(encoded(&read), encoded(&state));
        // Both go on alike.
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        assert!(state.bytes() > 3_000, "{}", state.bytes());
        state.end_windows(LATER, 60_000, &mut ours);
        read.end_windows(LATER, 60_000, &mut theirs);
        assert!(!ours.is_empty());
        assert_eq!(ours, theirs);
        let (_, gone) = State::decode(&encoded(&state), &rules()[1..], LATER, 0).expect("written");
        assert_eq!(gone, 1, "a rule that is not there any more");
    }

    proptest! {
        #[test]
        fn damage_is_an_error_or_something_else_to_read(
            at in 9..400_usize,
            byte in any::<u8>(),
            cut in 0..400_usize,
        ) {
            let mut bytes = encoded(&filled());
            let len = bytes.len() - size_of::<u32>();
            bytes.truncate(len);
            bytes[at % len] = byte;
            bytes.truncate(len - cut % len);
            prop_assert!(State::decode(&bytes, &rules(), LATER, 0).is_err(), "the checksum is wrong");
            // With a right one it must not panic.
            let checksum = codec::checksum(&bytes);
            bytes.extend_from_slice(&checksum.to_le_bytes());
            if let Ok((mut state, _)) = State::decode(&bytes, &rules(), LATER, 0) {
                state.end_windows(LATER, 1_000_000, &mut Vec::new());
            }
        }
    }
}
