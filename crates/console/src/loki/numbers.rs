//! Queries that yield numbers.

use std::cell::{Cell, RefCell};

use logql::metric::{
    Entry, EvalOptions, Evaluation, MetricError, Request, Run, Sink, Source, Steps, evaluate,
};
use logql::syntax::ast::MetricExpr;
use model::Labels;
use net::ApiError;
use promql::SourceError;

use super::pushdown::Pushdown;
use super::refusal::{data_error, metric_error};
use super::statistics::Processed;
use crate::data::Work;
use crate::log_data::{LogFault, LogSnapshot};
use crate::running::refused;

/// Evaluates a query.
pub(super) fn evaluate_at(
    expr: &MetricExpr,
    steps: Steps,
    options: &EvalOptions,
    snapshot: &dyn LogSnapshot,
    work: &Work,
) -> Result<(Evaluation, Processed), ApiError> {
    loop {
        let held_before = work.bytes();
        let lines = Lines { snapshot, work, fault: RefCell::default(), processed: Cell::default() };
        match evaluate(expr, steps, &lines, options) {
            Ok(result) => return Ok((result, lines.processed.get())),
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
    fault: RefCell<Option<LogFault>>,
    processed: Cell<Processed>,
}

impl Lines<'_> {
    fn failed(&self, fault: LogFault) -> MetricError {
        *self.fault.borrow_mut() = Some(fault);
        MetricError::Source("the lines could not be read".to_owned())
    }
}

impl Source for Lines<'_> {
    fn read(&self, request: &Request<'_>, sink: &mut dyn Sink) -> Result<(), MetricError> {
        let pushdown = Pushdown::of(request.log)?;
        // Both ends of a request mean the nanosecond behind.
        let (start_ns, end_ns) =
            (request.after_ns.saturating_add(1), request.until_ns.saturating_add(1));
        let mut asked = pushdown.request(request.log, start_ns, end_ns);
        asked.needs_lines = request.needs_lines;
        asked.metadata = request.metadata;
        asked.takes_runs = request.takes_runs;
        let mut watched = Watched { sink, lines: self, processed: self.processed.get() };
        let read = self.snapshot.feed(&asked, &mut watched);
        self.processed.set(watched.processed);
        read.map_err(|fault| match fault {
            LogFault::Query(error) => error,
            fault => self.failed(fault),
        })
    }

    fn hold(&self, bytes: usize) -> Result<(), MetricError> {
        self.work.take(bytes).map_err(|error| self.failed(LogFault::Source(refused(error))))
    }
}

/// A sink whose lines are counted, and that ends when nobody waits any more.
struct Watched<'a> {
    sink: &'a mut dyn Sink,
    lines: &'a Lines<'a>,
    processed: Processed,
}

impl Watched<'_> {
    fn check(&self) -> Result<(), MetricError> {
        if self.processed.lines.is_multiple_of(1_024) && self.lines.work.is_cancelled() {
            return Err(self.lines.failed(LogFault::Source(SourceError::Cancelled)));
        }
        Ok(())
    }
}

impl Sink for Watched<'_> {
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
