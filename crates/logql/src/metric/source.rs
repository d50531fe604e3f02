//! Where lines come from.

use model::{Labels, Matcher};

use super::MetricError;
use crate::syntax::ast::LogExpr;

/// Which lines a query wants, and what of them.
#[derive(Debug, Clone, Copy)]
pub struct Request<'q> {
    /// The selection: streams by its matchers, and the stages that follow, of which a store may use
    /// the line filters to leave out blocks. The stages run all the same, but for those of
    /// [`Source::filters_lines`].
    pub log: &'q LogExpr,
    /// Lines after this time, in nanoseconds.
    pub after_ns: i64,
    /// Lines up to this time, and at it, in nanoseconds.
    pub until_ns: i64,
    /// Whether somebody reads the lines. If not, they may be empty.
    pub needs_lines: bool,
    /// Which structured metadata somebody reads.
    pub metadata: MetadataWanted<'q>,
    /// Whether lines may be given as [`Run`]s at all.
    pub takes_runs: bool,
}

impl<'q> Request<'q> {
    /// Conditions on the streams' labels.
    pub fn matchers(&self) -> &'q [Matcher] {
        &self.log.matchers
    }
}

/// Which structured metadata a query reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetadataWanted<'q> {
    /// Perhaps all.
    All,
    /// Only these, sorted.
    Named(&'q [String]),
}

/// A line.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// When it was written.
    pub timestamp_ns: i64,
    /// The line; may be empty where the request says that nobody reads it.
    pub line: &'a [u8],
    /// Length of the line.
    pub line_bytes: u64,
    /// Its structured metadata.
    pub metadata: &'a [(&'a str, &'a str)],
}

/// Lines that no window of the query tells apart, without what is in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run<'a> {
    /// Time of the oldest.
    pub first_ns: i64,
    /// Time of the newest.
    pub last_ns: i64,
    /// How many they are.
    pub lines: u64,
    /// Sum of their lengths.
    pub bytes: u64,
    /// What the request wants of their structured metadata, which all of them have in common.
    pub metadata: &'a [(&'a str, &'a str)],
}

/// What a source hands lines to.
pub trait Sink {
    /// Tells the stream the next lines are of.
    fn stream(&mut self, labels: &Labels);

    /// Takes a line of that stream.
    ///
    /// # Errors
    /// The query has none of its results any more, and the source stops.
    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), MetricError>;

    /// Whether all lines of the stream between two times that have the same metadata, as far as the request wants
    /// it, may be given as one [`Run`]: nobody reads them, and they are in the same windows.
    fn takes_run(&self, first_ns: i64, last_ns: i64) -> bool;

    /// Takes lines for which [`Sink::takes_run`] holds.
    ///
    /// # Errors
    /// As [`Sink::entry`].
    fn run(&mut self, run: Run<'_>) -> Result<(), MetricError>;
}

/// Lines of streams.
pub trait Source: Sync {
    /// Hands over all lines that a request asks for, stream by stream, in any order of time. A
    /// stream may come more than once.
    ///
    /// # Errors
    /// The lines cannot be read, or the sink wants no more.
    fn read(&self, request: &Request<'_>, sink: &mut dyn Sink) -> Result<(), MetricError>;

    /// Whether it hands over no line that the request's line filters do not let pass, as far as they come before any
    /// stage that makes another line. Then they do not run again, and may be all that reads lines.
    fn filters_lines(&self) -> bool {
        false
    }

    /// How many sinks it can hand lines to at once.
    fn width(&self) -> usize {
        1
    }

    /// As [`Source::read`], with threads of its own, for several sinks: those that [`Source::read`] hands over first come
    /// to the first sink, those that follow to the next. A sink may get none.
    ///
    /// # Errors
    /// As [`Source::read`].
    fn read_parts(
        &self,
        request: &Request<'_>,
        sinks: &mut [&mut (dyn Sink + Send)],
    ) -> Result<(), MetricError> {
        match sinks {
            [] => Ok(()),
            [first, ..] => self.read(request, *first),
        }
    }

    /// Counts memory that the query is about to hold, in bytes; it is held until the query ends.
    ///
    /// # Errors
    /// There is no more for it.
    fn hold(&self, bytes: usize) -> Result<(), MetricError> {
        let _ = bytes;
        Ok(())
    }
}
