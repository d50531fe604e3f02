//! What is done to a line: filters, parsers, label filters, formats.
//!
//! A [`Pipeline`] is made of [`Stage`]s and reused for all lines of a query or a source: the labels of
//! a stream are looked at once, names of labels become numbers once, and values are ranges of the
//! line until a stage has to write something new. Stages are made from plain values, so that the
//! agent can use them without a query.

mod decolorize;
mod entry;
mod format;
mod ip;
mod json;
mod json_path;
mod json_scan;
mod label_filter;
mod line_filter;
mod logfmt;
mod logfmt_scan;
mod names;
mod number;
mod pattern;
mod pattern_parser;
mod regexp;
mod sample;
mod selection;
mod step;
mod template;

pub use decolorize::decolorize;
pub use entry::{Category, ERROR_DETAILS_LABEL, ERROR_LABEL, StageError};
pub use format::{FormatError, LabelFormat, LabelSource, LineFormat};
pub use ip::{IpMatcher, IpPatternError};
pub use json_path::{JsonPaths, PathError, PathStep, parse_json_path};
pub use json_scan::{JsonMembers, ScalarKind};
pub use label_filter::{Comparison, LabelFilter, TextMatch};
pub use line_filter::{LineFilter, LineFilterError, LineMatch};
pub use logfmt::{LogfmtFields, LogfmtOptions, LogfmtPairs, parse_logfmt_key};
pub use number::{NumberError, parse_bytes, parse_duration_ns, parse_float};
pub use pattern::{PatternError, PatternExpr};
pub use pattern_parser::{PatternParser, PatternParserError};
pub use regexp::{RegexpParser, RegexpParserError};
pub use sample::{Conversion, Grouping, Unwrap};
pub use selection::LabelSelection;
pub use template::{FreeTemplate, Template, TemplateError, TemplateMemory, template_functions};

use model::{NO_ZONES, Zones};

use entry::State;
use names::Name;
use sample::BoundGrouping;
use step::{Step, Work};
use template::Expressions;

/// One step of a pipeline.
#[derive(Debug, Clone)]
pub enum Stage {
    /// Drops lines by their text.
    LineFilter(LineFilter),
    /// Drops lines by their labels.
    LabelFilter(LabelFilter),
    /// Makes all of a JSON line labels.
    Json,
    /// Makes parts of a JSON line labels.
    JsonPaths(JsonPaths),
    /// Makes all pairs of a line labels.
    Logfmt(LogfmtOptions),
    /// Makes some pairs of a line labels.
    LogfmtFields(LogfmtFields),
    /// Makes groups of an expression labels.
    Regexp(RegexpParser),
    /// Makes captures of a pattern labels.
    Pattern(PatternParser),
    /// Undoes Promtail's `pack`.
    Unpack,
    /// Makes a new line of labels.
    LineFormat(LineFormat),
    /// Renames and makes labels.
    LabelFormat(LabelFormat),
    /// Takes control sequences of terminals out of the line.
    Decolorize,
    /// Takes labels away.
    Drop(LabelSelection),
    /// Takes all other labels away.
    Keep(LabelSelection),
    /// Makes a label the sample of the line.
    Unwrap(Unwrap),
}

/// Stages that lines pass one after the other.
#[derive(Debug)]
pub struct Pipeline {
    /// Line filters at the start, which need nothing but the line.
    first: Vec<LineFilter>,
    steps: Vec<Step>,
    state: State,
    /// The line, where it is no UTF-8: broken bytes are U+FFFD.
    replaced: String,
    /// The line a stage made, while a parser reads it.
    moved: String,
    scratch: String,
    scratch_names: Vec<Name>,
    expressions: Expressions,
    now_ns: i64,
    zones: Zones,
    unwrapped: Option<String>,
    grouping: BoundGrouping,
}

impl Pipeline {
    /// Makes a pipeline. `seed` keys its hash tables: give it something nobody outside knows.
    pub fn new(stages: Vec<Stage>, seed: u64) -> Self {
        let mut state = State::new(seed);
        let mut first = Vec::new();
        let mut steps = Vec::new();
        let mut unwrapped = None;
        for stage in stages {
            if let Stage::Unwrap(unwrap) = &stage {
                unwrapped = Some(unwrap.label().to_owned());
            }
            match stage {
                Stage::LineFilter(filter) if steps.is_empty() => first.push(filter),
                other => steps.push(Step::of(other, &mut state, seed)),
            }
        }
        let without = Grouping::Without(Vec::new());
        let grouping = BoundGrouping::new(&without, unwrapped.as_deref(), &mut state.names);
        state.names.pin();
        Pipeline {
            first,
            steps,
            state,
            replaced: String::new(),
            moved: String::new(),
            scratch: String::new(),
            scratch_names: Vec::new(),
            expressions: Expressions::default(),
            now_ns: 0,
            zones: NO_ZONES,
            unwrapped,
            grouping,
        }
    }

    /// Tells the time that `now` is in templates; 1970 if nobody does.
    pub fn set_now_ns(&mut self, now_ns: i64) {
        self.now_ns = now_ns;
    }

    /// Tells where zones of time are found that templates name; without that all are UTC.
    pub fn set_zones(&mut self, zones: Zones) {
        self.zones = zones;
    }

    /// Tells which labels [`Entry::for_each_grouped_label`] yields. Without a grouping it yields
    /// all, except the one the sample is unwrapped from.
    pub fn set_grouping(&mut self, grouping: &Grouping) {
        let unwrapped = self.unwrapped.as_deref();
        self.grouping = BoundGrouping::new(grouping, unwrapped, &mut self.state.names);
        self.state.names.pin();
    }

    /// Tells which labels somebody needs in the end, `None` if all. Parsers then make no others, and
    /// stop when they have these; so with no label needed they do nothing, and find no error.
    pub fn set_required(&mut self, labels: Option<&[String]>) {
        self.state.set_required(labels);
        self.state.names.pin();
    }

    /// Tells the labels of the stream the next lines are of.
    pub fn set_stream<'s>(&mut self, labels: impl IntoIterator<Item = (&'s str, &'s str)>) {
        self.state.set_stream(labels);
    }

    /// Sends a line through. `metadata` are labels that came with it. Yields `None` if a filter drops
    /// the line.
    pub fn process<'p, 's>(
        &'p mut self,
        timestamp_ns: i64,
        line: &'p [u8],
        metadata: impl IntoIterator<Item = (&'s str, &'s str)>,
    ) -> Option<Entry<'p>> {
        if !self.first.iter().all(|filter| filter.is_kept(line)) {
            return None;
        }
        self.state.begin();
        for (name, value) in metadata {
            self.state.add_metadata(name, value);
        }
        if self.steps.is_empty() {
            let (state, grouping) = (&self.state, &self.grouping);
            return Some(Entry { timestamp_ns, line, origin: "", state, grouping });
        }
        let origin = match std::str::from_utf8(line) {
            Ok(text) => text,
            Err(_) => {
                self.replaced.clear();
                self.replaced.push_str(&String::from_utf8_lossy(line));
                self.replaced.as_str()
            }
        };
        let state = &mut self.state;
        for step in &mut self.steps {
            let mut work = Work {
                raw: line,
                origin,
                timestamp_ns,
                now_ns: self.now_ns,
                zones: self.zones,
                state,
                moved: &mut self.moved,
                scratch: &mut self.scratch,
                names: &mut self.scratch_names,
                expressions: &mut self.expressions,
            };
            if !step.process(&mut work) {
                return None;
            }
        }
        let state = &self.state;
        let line = if state.line_span().is_some() { state.line(origin).as_bytes() } else { line };
        Some(Entry { timestamp_ns, line, origin, state, grouping: &self.grouping })
    }
}

/// A line that passed a pipeline.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'p> {
    timestamp_ns: i64,
    line: &'p [u8],
    origin: &'p str,
    state: &'p State,
    grouping: &'p BoundGrouping,
}

impl<'p> Entry<'p> {
    /// When it was written.
    pub fn timestamp_ns(&self) -> i64 {
        self.timestamp_ns
    }

    /// The line, as the stages left it.
    pub fn line(&self) -> &'p [u8] {
        self.line
    }

    /// The value of a label, `None` if there is none of that name. The error labels are found, too.
    pub fn label(&self, name: &str) -> Option<&'p str> {
        let mut found = None;
        self.for_each_label(|label, value, _| {
            if label == name {
                found = Some(value);
            }
        });
        found
    }

    /// Hands over every label with its value and category, in no order; no name twice. The error is
    /// among them.
    pub fn for_each_label(&self, mut take: impl FnMut(&'p str, &'p str, Category)) {
        let names = &self.state.names;
        self.state.for_each(self.origin, |name, value, category| {
            take(names.text(name), value, category);
        });
    }

    /// The sample unwrapped of the line, `None` if no stage does that.
    pub fn sample(&self) -> Option<f64> {
        self.state.sample()
    }

    /// Hands over the labels of the sample, as the grouping says, in no order. Of a line with an
    /// error these are all labels.
    pub fn for_each_grouped_label(&self, take: impl FnMut(&'p str, &'p str, Category)) {
        sample::for_each_grouped(self.state, self.origin, self.grouping, take);
    }

    /// Whether the labels are exactly the stream's, so that a reader may use what it knows of them.
    pub fn has_stream_labels_only(&self) -> bool {
        self.state.is_stream_only()
    }

    /// Why a stage failed, and its words; `None` if none did.
    pub fn error(&self) -> Option<(&'p str, &'p str)> {
        self.state
            .has_error()
            .then(|| (self.state.error(self.origin), self.state.error_details(self.origin)))
    }
}

#[cfg(test)]
mod tests;
