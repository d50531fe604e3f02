//! Queries that yield numbers.

use logql::metric::{
    Entry, EvalOptions, Evaluation, MetricError, Request, Run, Sink, Source, Steps, evaluate,
};
use logql::syntax::ast::MetricExpr;
use model::Labels;
use net::ApiError;
use parking_lot::Mutex;
use promql::SourceError;

use super::pushdown::Pushdown;
use super::refusal::{data_error, metric_error};
use super::statistics::Processed;
use crate::data::Work;
use crate::log_data::{LogFault, LogRequest, LogSnapshot};
use crate::running::refused;

/// Evaluates a query.
pub(crate) fn evaluate_at(
    expr: &MetricExpr,
    steps: Steps,
    options: &EvalOptions,
    snapshot: &dyn LogSnapshot,
    work: &Work,
) -> Result<(Evaluation, Processed), ApiError> {
    loop {
        let held_before = work.bytes();
        let lines = Lines { snapshot, work, fault: Mutex::default(), processed: Mutex::default() };
        match evaluate(expr, steps, &lines, options) {
            Ok(result) => return Ok((result, lines.processed.into_inner())),
            Err(error) => match lines.fault.into_inner() {
                // What was held for what does not count.
                Some(LogFault::Again) => work.give_back(work.bytes() - held_before),
                Some(LogFault::Source(error)) => return Err(data_error(error)),
                Some(LogFault::Query(error)) => return Err(metric_error(error)),
                None => return Err(metric_error(error)),
            },
        }
    }
}

/// A view as a source of lines for the evaluator.
struct Lines<'a> {
    snapshot: &'a dyn LogSnapshot,
    work: &'a Work,
    /// What the evaluator's error is a stand-in for.
    fault: Mutex<Option<LogFault>>,
    processed: Mutex<Processed>,
}

impl Lines<'_> {
    fn failed(&self, fault: LogFault) -> MetricError {
        *self.fault.lock() = Some(fault);
        MetricError::Source("the lines could not be read".to_owned())
    }
}

impl Lines<'_> {
    fn asked<'q>(&self, request: &Request<'q>) -> Result<LogRequest<'q>, MetricError> {
        let pushdown = Pushdown::of(request.log)?;
        // Both ends of a request mean the nanosecond behind.
        let (start_ns, end_ns) =
            (request.after_ns.saturating_add(1), request.until_ns.saturating_add(1));
        let mut asked = pushdown.request(request.log, start_ns, end_ns);
        asked.needs_lines = request.needs_lines;
        asked.metadata = request.metadata;
        asked.takes_runs = request.takes_runs;
        Ok(asked)
    }

    fn watched<'s, S: Sink + ?Sized>(&'s self, sink: &'s mut S) -> Watched<'s, S> {
        Watched { sink, lines: self, processed: Processed::default() }
    }

    fn outcome(&self, read: Result<(), LogFault>) -> Result<(), MetricError> {
        read.map_err(|fault| match fault {
            LogFault::Query(error) => error,
            fault => self.failed(fault),
        })
    }
}

impl Source for Lines<'_> {
    fn read(&self, request: &Request<'_>, sink: &mut dyn Sink) -> Result<(), MetricError> {
        let asked = self.asked(request)?;
        let mut watched = self.watched(sink);
        let read = self.snapshot.feed(&asked, &mut watched);
        self.processed.lock().merge(watched.processed);
        self.outcome(read)
    }

    /// As [`Pushdown`] tells the store.
    fn filters_lines(&self) -> bool {
        true
    }

    fn width(&self) -> usize {
        self.snapshot.width()
    }

    fn read_parts(
        &self,
        request: &Request<'_>,
        sinks: &mut [&mut (dyn Sink + Send)],
    ) -> Result<(), MetricError> {
        let asked = self.asked(request)?;
        let mut watched: Vec<Watched<'_, dyn Sink + Send>> =
            sinks.iter_mut().map(|sink| self.watched(&mut **sink)).collect();
        let mut parts: Vec<&mut (dyn Sink + Send)> =
            watched.iter_mut().map(|one| one as &mut (dyn Sink + Send)).collect();
        let read = self.snapshot.feed_parts(&asked, &mut parts);
        watched.iter().for_each(|one| self.processed.lock().merge(one.processed));
        self.outcome(read)
    }

    fn hold(&self, bytes: usize) -> Result<(), MetricError> {
        self.work.take(bytes).map_err(|error| self.failed(LogFault::Source(refused(error))))
    }
}

/// A sink whose lines are counted, and that ends when nobody waits any more.
struct Watched<'a, S: ?Sized> {
    sink: &'a mut S,
    lines: &'a Lines<'a>,
    processed: Processed,
}

impl<S: Sink + ?Sized> Watched<'_, S> {
    fn check(&self) -> Result<(), MetricError> {
        if self.processed.lines.is_multiple_of(1_024) && self.lines.work.is_cancelled() {
            return Err(self.lines.failed(LogFault::Source(SourceError::Cancelled)));
        }
        Ok(())
    }
}

impl<S: Sink + ?Sized> Sink for Watched<'_, S> {
    fn stream(&mut self, labels: &Labels) {
        self.sink.stream(labels);
    }

    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), MetricError> {
        self.processed.add(entry);
        self.check()?;
        self.sink.entry(entry)
    }

    fn takes_run(&self, first_ns: i64, last_ns: i64) -> bool {
        self.sink.takes_run(first_ns, last_ns)
    }

    fn run(&mut self, run: Run<'_>) -> Result<(), MetricError> {
        self.processed.lines += run.lines;
        self.processed.line_bytes += run.bytes;
        self.check()?;
        self.sink.run(run)
    }
}
