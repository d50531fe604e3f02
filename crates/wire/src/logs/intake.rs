//! Where lines of every protocol go: they are measured against the tenant's limits, told apart from
//! their twins, given their level, and put into the batch.

use std::borrow::Cow;
use std::cell::OnceCell;

use model::go_time::GoTime;
use model::{LabelError, Labels, LogBatch, LogBatchError, LogLimits, MAX_LOG_LINE_BYTES};

use super::pairs::Pairs;
use super::refusals::LogRefusal;
use super::stream_labels;
use super::twins::Twins;
use super::{DETECTED_LEVEL, LineLevels, LogContext, LogPushError, LogSummary};

const SERVICE_NAME: &str = "service_name";
const UNKNOWN_SERVICE: &str = "unknown_service";

/// One request on its way into a batch.
pub(super) struct Intake<'a> {
    limits: &'a LogLimits,
    levels: Option<&'a dyn LineLevels>,
    /// Names of metadata that hold a level.
    level_metadata: Vec<Cow<'a, str>>,
    now_ns: i64,
    out: &'a mut LogBatch,
    twins: Twins,
    summary: LogSummary,
    stream: Stream,
    /// What the last line was refused with.
    refusal: String,
    cut: Vec<u8>,
}

/// The stream under way.
struct Stream {
    /// As they came.
    pairs: Pairs,
    labels: Labels,
    state: State,
    /// For the twins.
    id: u64,
    /// The level that the labels name.
    level: Option<String>,
    /// The labels for errors, once there is one.
    shown: OnceCell<String>,
    with_service: Pairs,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// There was none yet.
    None,
    /// Nothing of it is in the batch.
    Valid,
    Begun,
    /// Its labels are at fault, as `Intake::refusal` says; whether that was told.
    Refused(LogRefusal, bool),
}

/// `fields`, and those with a full stop also as objects in objects are called when they become metadata:
/// `log_level` is what Elastic's `log.level` is then.
fn level_metadata(fields: &[String]) -> Vec<Cow<'_, str>> {
    let names = fields.iter().flat_map(|field| {
        let flat = field.contains('.').then(|| Cow::Owned(field.replace('.', "_")));
        [Some(Cow::Borrowed(field.as_str())), flat]
    });
    names.flatten().collect()
}

impl<'a> Intake<'a> {
    /// Begins a request; `out` is emptied.
    pub(super) fn new(context: &LogContext<'a>, out: &'a mut LogBatch) -> Self {
        out.clear();
        Intake {
            limits: context.limits,
            levels: context.levels.filter(|_| {
                context.limits.discover_log_levels && context.limits.allow_structured_metadata
            }),
            level_metadata: level_metadata(&context.limits.log_level_fields),
            now_ns: context.now_ns,
            out,
            twins: Twins::new(),
            summary: LogSummary::default(),
            stream: Stream {
                pairs: Pairs::default(),
                labels: Labels::empty(),
                state: State::None,
                id: 0,
                level: None,
                shown: OnceCell::new(),
                with_service: Pairs::default(),
            },
            refusal: String::new(),
            cut: Vec::new(),
        }
    }

    /// The time of a line that has none: each gets its own, so that they keep their order and none is
    /// taken for another one.
    pub(super) fn arrival_ns(&mut self) -> i64 {
        let before = self.summary.timed_here;
        self.summary.timed_here += 1;
        self.now_ns.saturating_add_unsigned(before)
    }

    /// What the last line that was not taken was refused with.
    pub(super) fn refusal(&self) -> &str {
        &self.refusal
    }

    pub(super) fn finish(self) -> LogSummary {
        LogSummary { moved_lines: self.twins.moved(), ..self.summary }
    }

    /// Lines that follow are of a stream with these labels, in any order.
    pub(super) fn begin(&mut self, labels: &Pairs) {
        if labels.iter().all(|(_, value)| value.is_empty()) {
            let text = "error at least one label pair is required per stream".to_owned();
            self.begin_refused(LogRefusal::MissingLabels, text);
            return;
        }
        self.begin_any(labels);
    }

    /// As [`Intake::begin`], where no label is no fault, because that of the service is added.
    pub(super) fn begin_any(&mut self, labels: &Pairs) {
        // Fast path: the same stream goes on.
        if matches!(self.stream.state, State::Valid | State::Begun) && self.stream.pairs == *labels
        {
            return;
        }
        match self.valid_labels(labels) {
            Ok(labels) => self.begin_valid(labels),
            Err((reason, text)) => return self.begin_refused(reason, text),
        }
        self.stream.pairs.clone_from(labels);
    }

    /// Lines that follow are of a stream whose labels are at fault.
    pub(super) fn begin_refused(&mut self, reason: LogRefusal, text: String) {
        self.refusal = text;
        self.stream.state = State::Refused(reason, false);
    }

    /// As [`Intake::begin_refused`], for labels that are no such text.
    pub(super) fn begin_unreadable(&mut self, labels: &str, error: &str) {
        let labels = stream_labels::cut(labels);
        let text = format!("error parsing labels '{labels}' with error: {error}");
        self.begin_refused(LogRefusal::InvalidLabels, text);
    }

    fn begin_valid(&mut self, labels: Labels) {
        let stream = &mut self.stream;
        stream.id = self.twins.stream(labels.as_packed());
        stream.level = self.levels.and_then(|levels| {
            let fields = &self.limits.log_level_fields;
            let word = fields.iter().find_map(|field| labels.get(field))?;
            Some(levels.of_word(word).unwrap_or(word).to_owned())
        });
        stream.labels = labels;
        stream.shown = OnceCell::new();
        stream.state = State::Valid;
    }

    /// The labels of a stream with that of its service, if they keep to the limits.
    fn valid_labels(&mut self, pairs: &Pairs) -> Result<Labels, (LogRefusal, String)> {
        let with_service = &mut self.stream.with_service;
        with_service.clone_from(pairs);
        let is_known = pairs.get(SERVICE_NAME).is_some_and(|name| !name.is_empty());
        let services = &self.limits.discover_service_name;
        if !is_known && !services.is_empty() {
            let named = |label: &String| pairs.get(label).filter(|name| !name.is_empty());
            with_service
                .push(SERVICE_NAME, services.iter().find_map(named).unwrap_or(UNKNOWN_SERVICE));
        }
        let pairs = &self.stream.with_service;
        let shown = || stream_labels::shown(pairs.iter());
        let labels = match Labels::from_pairs(pairs.iter().filter(|(_, value)| !value.is_empty())) {
            Ok(labels) => labels,
            Err(LabelError::Duplicate(name)) => {
                let text = format!("stream '{}' has duplicate label name: '{name}'", shown());
                return Err((LogRefusal::DuplicateLabelNames, text));
            }
            Err(error) => {
                let text = format!("error parsing labels '{}' with error: {error}", shown());
                return Err((LogRefusal::InvalidLabels, text));
            }
        };
        let count = labels.len() - usize::from(labels.get(SERVICE_NAME).is_some());
        let limit = self.limits.max_label_names;
        if labels.is_empty() {
            let text = "error at least one label pair is required per stream".to_owned();
            return Err((LogRefusal::MissingLabels, text));
        }
        if count > limit {
            let text =
                format!("entry for stream '{}' has {count} label names; limit {limit}", shown());
            return Err((LogRefusal::MaxLabelNames, text));
        }
        for (name, value) in labels.iter() {
            let (reason, what, found) = if name.len() > self.limits.max_label_name_bytes {
                (LogRefusal::LabelNameTooLong, "name", name)
            } else if value.len() > self.limits.max_label_value_bytes {
                (LogRefusal::LabelValueTooLong, "value", value)
            } else {
                continue;
            };
            let found = stream_labels::cut(found);
            return Err((
                reason,
                format!("stream '{}' has label {what} too long: '{found}'", shown()),
            ));
        }
        Ok(labels)
    }

    /// Takes a line of the stream, or counts why it is not taken; yields whether it was. `metadata`
    /// may be changed.
    ///
    /// # Errors
    /// The batch is full.
    pub(super) fn line(
        &mut self,
        timestamp_ns: i64,
        line: &[u8],
        metadata: &mut Pairs,
    ) -> Result<bool, LogPushError> {
        self.line_with(timestamp_ns, line, metadata, &[])
    }

    /// As [`Intake::line`], with metadata that many lines share. It is not copied for lines that have
    /// too much of it.
    ///
    /// # Errors
    /// The batch is full.
    pub(super) fn line_with(
        &mut self,
        timestamp_ns: i64,
        line: &[u8],
        metadata: &mut Pairs,
        shared: &[&Pairs],
    ) -> Result<bool, LogPushError> {
        let mut of_metadata = (metadata.len(), metadata.bytes());
        for pairs in shared {
            of_metadata = (of_metadata.0 + pairs.len(), of_metadata.1 + pairs.bytes());
        }
        let bytes = (line.len() + of_metadata.1) as u64;
        if let State::Refused(reason, is_told) = self.stream.state {
            let errors = u64::from(!is_told);
            self.summary.refusals.add(reason, &self.refusal, errors, 1, bytes);
            self.stream.state = State::Refused(reason, true);
            return Ok(false);
        }
        let len = line.len();
        // The buffer is taken out, for the line may lie in it.
        let mut cut = std::mem::take(&mut self.cut);
        let line = self.truncated(line, &mut cut);
        let taken = match self.fault(timestamp_ns, line, of_metadata) {
            Some((reason, text)) => {
                self.refuse_line(reason, text, bytes);
                Ok(false)
            }
            None => {
                if line.len() < len {
                    self.summary.truncated_lines += 1;
                    self.summary.truncated_bytes += (len - line.len()) as u64;
                }
                for pairs in shared {
                    metadata.extend(pairs);
                }
                self.add_level(line, metadata);
                self.put(timestamp_ns, line, metadata).map(|()| true)
            }
        };
        self.cut = cut;
        taken
    }

    /// Counts a line that is not of its format.
    pub(super) fn refuse_malformed(&mut self, text: String, bytes: usize) {
        // A stream that is refused anyway goes on with its own text.
        let of_stream = match self.stream.state {
            State::Refused(..) => Some(std::mem::take(&mut self.refusal)),
            _ => None,
        };
        self.refuse_line(LogRefusal::Malformed, text, bytes as u64);
        if let Some(of_stream) = of_stream {
            self.refusal = of_stream;
        }
    }

    fn refuse_line(&mut self, reason: LogRefusal, text: String, bytes: u64) {
        self.refusal = text;
        self.summary.refusals.add(reason, &self.refusal, 1, 1, bytes);
    }

    fn max_line_bytes(&self) -> usize {
        or_most(self.limits.max_line_bytes)
    }

    /// The line, or what is left of it where it is too long and may be cut. It is cut between
    /// characters, if it has some.
    fn truncated<'l>(&self, line: &'l [u8], cut: &'l mut Vec<u8>) -> &'l [u8] {
        let max = self.max_line_bytes();
        if line.len() <= max || !self.limits.truncate_lines {
            return line;
        }
        let mark = self.limits.truncate_identifier.as_bytes();
        let mark = if mark.len() > max { &[][..] } else { mark };
        let mut end = max - mark.len();
        let is_within = |at: usize| line[at] & 0xc0 == 0x80;
        let start_of_character = (end.saturating_sub(3)..=end).rev().find(|at| !is_within(*at));
        if let Some(start) = start_of_character {
            end = start;
        }
        if mark.is_empty() {
            return &line[..end];
        }
        cut.clear();
        cut.extend_from_slice(&line[..end]);
        cut.extend_from_slice(mark);
        cut
    }

    /// Why the line, which has so many pairs of metadata of so many bytes, is not taken.
    fn fault(
        &self,
        timestamp_ns: i64,
        line: &[u8],
        (count, bytes): (usize, usize),
    ) -> Option<(LogRefusal, String)> {
        let limits = self.limits;
        let labels = &self.stream.labels;
        let stream = || self.stream.shown.get_or_init(|| stream_labels::shown(labels.iter()));
        let oldest_ns = limits.max_age_ns.map(|age_ns| self.now_ns.saturating_sub(age_ns));
        if let Some(oldest_ns) = oldest_ns.filter(|oldest_ns| timestamp_ns < *oldest_ns) {
            let text = format!(
                "entry for stream '{}' has timestamp too old: {}, oldest acceptable timestamp is: {}",
                stream(),
                shown_time(timestamp_ns),
                shown_time(oldest_ns)
            );
            return Some((LogRefusal::TooOld, text));
        }
        if timestamp_ns > self.now_ns.saturating_add(limits.creation_grace_ns) {
            let time = shown_time(timestamp_ns);
            let text = format!("entry for stream '{}' has timestamp too new: {time}", stream());
            return Some((LogRefusal::TooNew, text));
        }
        let (max, len) = (self.max_line_bytes(), line.len());
        if len > max {
            let text = format!(
                "max entry size '{max}' bytes exceeded for stream '{}' while adding an entry with \
                 length '{len}' bytes",
                stream()
            );
            return Some((LogRefusal::LineTooLong, text));
        }
        if count == 0 {
            return None;
        }
        if !limits.allow_structured_metadata {
            let text = format!(
                "stream '{}' includes structured metadata, but this feature is disallowed. Please see \
                 `limits_config.allow_structured_metadata` or contact your Loki administrator to enable it",
                stream()
            );
            return Some((LogRefusal::MetadataDisallowed, text));
        }
        let max = or_most(limits.max_structured_metadata_bytes);
        if bytes > max {
            let text = format!(
                "stream '{}' has structured metadata too large: '{bytes}' bytes, limit: '{max}' bytes. \
                 Please see `limits_config.max_structured_metadata_size` or contact your Loki \
                 administrator to increase it",
                stream()
            );
            return Some((LogRefusal::MetadataTooLarge, text));
        }
        let max = limits.max_structured_metadata_entries;
        if max != 0 && count > max {
            let text = format!(
                "stream '{}' has too many structured metadata labels: '{count}', limit: '{max}'. \
                 Please see `limits_config.max_structured_metadata_entries_count` or contact your Loki \
                 administrator to increase it",
                stream()
            );
            return Some((LogRefusal::MetadataTooMany, text));
        }
        None
    }

    /// Adds the level to the metadata, or writes the one that is there as all are written.
    ///
    /// What is said outright goes first: metadata of this name, then labels and metadata that name a
    /// level, then what the line looks like.
    fn add_level(&self, line: &[u8], metadata: &mut Pairs) {
        let Some(levels) = self.levels else { return };
        let known = metadata.iter().position(|(name, _)| name == DETECTED_LEVEL);
        if let Some(index) = known {
            let (_, value) = metadata.at(index);
            if let Some(level) = levels.of_word(value).filter(|level| *level != value) {
                metadata.set_value(index, level);
            }
            return;
        }
        let of_labels = self.stream.level.as_deref();
        let of_metadata = || {
            let word = self.level_metadata.iter().find_map(|field| metadata.get(field))?;
            Some(levels.of_word(word).map_or_else(|| word.to_owned(), str::to_owned))
        };
        if let Some(level) = of_labels {
            metadata.push(DETECTED_LEVEL, level);
        } else if let Some(level) = of_metadata() {
            if !level.is_empty() {
                metadata.push(DETECTED_LEVEL, &level);
            }
        } else {
            let level = levels.of_line(text_of(line), metadata.get(super::SEVERITY_NUMBER));
            metadata.push(DETECTED_LEVEL, level);
        }
    }

    fn put(
        &mut self,
        timestamp_ns: i64,
        line: &[u8],
        metadata: &Pairs,
    ) -> Result<(), LogPushError> {
        debug_assert!(self.stream.state != State::None, "a line is of a stream");
        if self.stream.state != State::Begun {
            self.out.stream(&self.stream.labels);
            self.stream.state = State::Begun;
        }
        let timestamp_ns = self.twins.place(self.stream.id, line, timestamp_ns);
        self.out.push_with(timestamp_ns, line, metadata.iter()).map_err(|error| match error {
            LogBatchError::TooLarge { what, found, limit } => LogPushError {
                status: 413,
                text: format!(
                    "{what}, with the labels and metadata of each, are {found} bytes, the limit is \
                     {limit}; send smaller batches"
                ),
            },
            LogBatchError::Corrupt { .. } => unreachable!("nothing is read"),
        })?;
        self.summary.lines += 1;
        self.summary.line_bytes += line.len() as u64;
        self.summary.metadata_bytes += metadata.bytes() as u64;
        Ok(())
    }
}

/// A limit of which 0 stands for what a store takes.
fn or_most(limit: usize) -> usize {
    if limit == 0 { MAX_LOG_LINE_BYTES } else { limit.min(MAX_LOG_LINE_BYTES) }
}

/// A time as Go writes it by its layout `RFC3339`.
fn shown_time(timestamp_ns: i64) -> String {
    let mut out = String::new();
    GoTime::from_unix_ns(timestamp_ns).format_into(&mut out, "2006-01-02T15:04:05Z07:00");
    out
}

/// The beginning of a line that is text; nearly always all of it.
fn text_of(line: &[u8]) -> &str {
    // Of ASCII this looks at many bytes at once, which iterating over chunks does not.
    match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(_) => line.utf8_chunks().next().map_or("", |chunk| chunk.valid()),
    }
}
