//! What the console needs of the lines of logs behind it. `watchfire` wires the two together.

use std::ops::ControlFlow;
use std::sync::Arc;

use logql::metric::{Entry, MetadataWanted, MetricError, Sink};
use model::{Labels, LogBatch, Matcher};
use promql::SourceError;

/// Whether a line is wanted, by its bytes.
pub type LineFilterTest = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// Which lines are wanted, and what of them. What it says of lines may be used to read less; a view that yields
/// more lines than it describes is right as well.
#[derive(Clone)]
pub struct LogRequest<'q> {
    /// Conditions on the labels of streams, all of which hold.
    pub matchers: &'q [Matcher],
    /// First time, nanoseconds since the epoch.
    pub start_ns: i64,
    /// The first time behind.
    pub end_ns: i64,
    /// Whether the newest line comes first.
    pub newest_first: bool,
    /// Lists of texts: each line holds one of each list. None of them is empty.
    pub needles: Vec<Vec<Vec<u8>>>,
    /// Labels of each line with their values, which are not empty: of its stream, if that has one of the name, else
    /// of its structured metadata.
    pub fields: Vec<(String, String)>,
    /// Labels of each line with their values, which are not empty: of its stream or its structured metadata, if one of
    /// the name is there, else read of the line, as `json` or `logfmt` do.
    pub values: Vec<(String, String)>,
    /// What each line passes besides.
    pub test: Option<LineFilterTest>,
    /// Whether somebody reads the lines.
    pub needs_lines: bool,
    /// Which structured metadata somebody reads.
    pub metadata: MetadataWanted<'q>,
    /// Whether runs of lines may be handed over instead of lines.
    pub takes_runs: bool,
}

/// Why lines could not be had.
#[derive(Debug)]
pub enum LogFault {
    /// A fault of the store.
    Source(SourceError),
    /// Whoever takes the lines wants no more.
    Query(MetricError),
    /// A part of the data turned out to be damaged, and is left out from now on. What was handed over does not
    /// count; what was asked may be asked again.
    Again,
}

impl From<SourceError> for LogFault {
    fn from(error: SourceError) -> Self {
        LogFault::Source(error)
    }
}

/// Lines of one stream that were counted.
#[derive(Debug, Clone, Copy)]
pub struct LogCount<'a> {
    /// Labels of the stream.
    pub labels: &'a Labels,
    /// Their level; empty if they have none.
    pub level: &'a str,
    /// None of them is before.
    pub first_ns: i64,
    /// None of them is after.
    pub last_ns: i64,
    /// How many they are.
    pub lines: u64,
    /// Sum of their lengths.
    pub bytes: u64,
}

/// What a view has read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogReads {
    /// Blocks that were selected.
    pub blocks: u64,
    /// Parts of memory that were.
    pub heads: u64,
    /// Lines that were looked at.
    pub lines: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Takes a line; yields whether there shall be more.
pub type EachLine<'a> = dyn FnMut(&Labels, &Entry<'_>) -> ControlFlow<()> + 'a;

/// Whether lines between two times may be counted together.
pub type TakesCount<'a> = dyn FnMut(i64, i64) -> bool + 'a;

/// One subscription to new lines.
pub trait LineFeed: Send {
    /// Waits until there is something to say and takes it; `None` at the end.
    fn next(&mut self) -> NextLines<'_>;

    /// Waits until nothing is missed from here on, as far as that can be known within seconds.
    fn begun(&mut self) -> Begun<'_>;
}

/// What [`LineFeed::begun`] waits for.
pub type Begun<'a> = std::pin::Pin<Box<dyn std::future::Future<Output = ()> + Send + 'a>>;

/// What [`LineFeed::next`] waits for. Whoever waits no more loses nothing.
pub type NextLines<'a> = std::pin::Pin<
    Box<dyn std::future::Future<Output = Option<Result<NewLines, SourceError>>> + Send + 'a>,
>;

/// What came in since the last call.
#[derive(Debug, Default)]
pub struct NewLines {
    /// The lines, in the order in which they came.
    pub batch: LogBatch,
    /// How many were dropped because the reader was too slow.
    pub missed: u64,
    /// The first of those: labels of the stream, and the time in nanoseconds since the epoch.
    pub dropped: Vec<(Labels, i64)>,
    /// What lines may lack, in words: which brokers do not answer, and which answer again.
    pub notes: Vec<String>,
}

/// The lines of a tenant, for one request.
pub trait LogSnapshot: Send + Sync {
    /// Hands over lines of all streams in one order of time.
    ///
    /// # Errors
    /// [`LogFault::Source`], [`LogFault::Again`].
    fn lines(&self, request: &LogRequest<'_>, each: &mut EachLine<'_>) -> Result<(), LogFault>;

    /// Hands over lines stream by stream, or runs of lines where the sink takes them.
    ///
    /// # Errors
    /// [`LogFault`].
    fn feed(&self, request: &LogRequest<'_>, sink: &mut dyn Sink) -> Result<(), LogFault>;

    /// How many sinks it can hand lines to at once.
    fn width(&self) -> usize {
        1
    }

    /// As [`LogSnapshot::feed`], with threads of its own, for several sinks: what that hands over first comes to the first
    /// sink, what follows to the next. A sink may get nothing.
    ///
    /// # Errors
    /// As [`LogSnapshot::feed`].
    fn feed_parts(
        &self,
        request: &LogRequest<'_>,
        sinks: &mut [&mut (dyn Sink + Send)],
    ) -> Result<(), LogFault> {
        match sinks {
            [] => Ok(()),
            [first, ..] => self.feed(request, *first),
        }
    }

    /// Hands over how many lines there are, by stream and level, lines of up to a minute together where `takes`
    /// allows it.
    ///
    /// # Errors
    /// [`LogFault::Source`], [`LogFault::Again`].
    fn counts(
        &self,
        request: &LogRequest<'_>,
        takes: &mut TakesCount<'_>,
        each: &mut dyn FnMut(LogCount<'_>),
    ) -> Result<(), LogFault>;

    /// Labels of the streams that satisfy any of `selectors` and have lines in a range, ascending; at most `limit`.
    ///
    /// # Errors
    /// Faults of the store; too much memory.
    fn streams(
        &self,
        selectors: &[Vec<Matcher>],
        start_ns: i64,
        end_ns: i64,
        limit: usize,
    ) -> Result<Vec<Labels>, LogFault>;

    /// What is missing in what was asked so far, because it was damaged or could not be asked, in words.
    fn missing(&self) -> Vec<String>;

    /// What was read so far.
    fn reads(&self) -> LogReads;
}
