//! Stages as they run: what each does to a line that is on its way.

use std::fmt;

use model::Zones;

use super::Stage;
use super::decolorize;
use super::entry::State;
use super::format::FormatWork;
use super::json::{self, JsonParser};
use super::line_filter::LineFilter;
use super::logfmt::LogfmtParser;
use super::names::Name;
use super::template::Expressions;

/// What a step works on.
pub(super) struct Work<'w> {
    /// The line as it came.
    pub(super) raw: &'w [u8],
    /// The same as text.
    pub(super) origin: &'w str,
    pub(super) timestamp_ns: i64,
    pub(super) now_ns: i64,
    pub(super) zones: Zones,
    pub(super) state: &'w mut State,
    /// The line a stage made, while a parser reads it.
    pub(super) moved: &'w mut String,
    pub(super) scratch: &'w mut String,
    pub(super) names: &'w mut Vec<Name>,
    pub(super) expressions: &'w mut Expressions,
}

impl Work<'_> {
    /// The state, and what formats need besides.
    fn split(&mut self) -> (&mut State, FormatWork<'_>) {
        let work = FormatWork {
            timestamp_ns: self.timestamp_ns,
            now_ns: self.now_ns,
            zones: self.zones,
            expressions: self.expressions,
            out: self.scratch,
        };
        (self.state, work)
    }

    fn is_kept_by(&self, filter: &LineFilter) -> bool {
        match self.state.line_span() {
            Some(line) => filter.is_kept(self.state.text(self.origin, line).as_bytes()),
            None => filter.is_kept(self.raw),
        }
    }
}

type Body = dyn FnMut(&mut Work<'_>) -> bool + Send;

/// A stage, with the names of its labels as numbers and with what it remembers from line to line.
pub(super) struct Step(Box<Body>);

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Step")
    }
}

impl Step {
    fn new(body: impl FnMut(&mut Work<'_>) -> bool + Send + 'static) -> Self {
        Step(Box::new(body))
    }

    /// A step that reads the line as it is now and drops none. It gets the line as it came, the line
    /// as it is, the state, and a text to use as it likes.
    fn parser(mut parse: impl FnMut(&str, &str, &mut State, &mut String) + Send + 'static) -> Self {
        Self::new(move |work| {
            // Parsers write to the state while they read the line, so a changed line is moved.
            let line = match work.state.line_span() {
                Some(line) => {
                    work.moved.clear();
                    work.moved.push_str(work.state.text(work.origin, line));
                    work.moved.as_str()
                }
                None => work.origin,
            };
            parse(work.origin, line, work.state, work.scratch);
            true
        })
    }

    /// What `stage` does, in a pipeline with this state.
    pub(super) fn of(stage: Stage, state: &mut State, seed: u64) -> Self {
        let names = &mut state.names;
        match stage {
            Stage::LineFilter(filter) => Self::new(move |work| work.is_kept_by(&filter)),
            Stage::LabelFilter(mut filter) => {
                filter.bind(names);
                Self::new(move |work| filter.is_kept(work.origin, work.state))
            }
            Stage::Json => {
                let mut parser = JsonParser::new(seed);
                Self::parser(move |origin, line, state, _| parser.process(origin, line, state))
            }
            Stage::JsonPaths(mut paths) => {
                paths.bind(names);
                Self::parser(move |origin, line, state, scratch| {
                    paths.process(origin, line, state, scratch);
                })
            }
            Stage::Logfmt(options) => {
                let mut parser = LogfmtParser::new(options, seed);
                Self::parser(move |origin, line, state, _| parser.process(origin, line, state))
            }
            Stage::LogfmtFields(mut fields) => {
                fields.bind(names);
                Self::parser(move |origin, line, state, scratch| {
                    fields.process(origin, line, state, scratch);
                })
            }
            Stage::Regexp(mut parser) => {
                parser.bind(names);
                Self::parser(move |origin, line, state, _| parser.process(origin, line, state))
            }
            Stage::Pattern(mut parser) => {
                parser.bind(names);
                Self::parser(move |origin, line, state, _| parser.process(origin, line, state))
            }
            Stage::Unpack => Self::parser(json::unpack),
            Stage::Decolorize => Self::parser(|_, line, state, _| decolorize::process(line, state)),
            Stage::LineFormat(mut format) => {
                format.bind(names);
                Self::new(move |work| {
                    let origin = work.origin;
                    let (state, mut work) = work.split();
                    format.process(origin, state, &mut work);
                    true
                })
            }
            Stage::LabelFormat(mut format) => {
                format.bind(names);
                Self::new(move |work| {
                    let origin = work.origin;
                    let (state, mut work) = work.split();
                    format.process(origin, state, &mut work);
                    true
                })
            }
            Stage::Drop(mut selection) => {
                selection.bind(names);
                Self::new(move |work| {
                    selection.drop_from(work.origin, work.state);
                    true
                })
            }
            Stage::Keep(mut selection) => {
                selection.bind(names);
                Self::new(move |work| {
                    selection.keep_in(work.origin, work.state, work.names);
                    true
                })
            }
            Stage::Unwrap(mut unwrap) => {
                unwrap.bind(names);
                Self::new(move |work| unwrap.process(work.origin, work.state))
            }
        }
    }

    /// Yields whether the line stays.
    pub(super) fn process(&mut self, work: &mut Work<'_>) -> bool {
        (self.0)(work)
    }
}
