//! A few lines as they are, for whoever shows them elsewhere than in an answer of the API.

use std::ops::ControlFlow;

use logql::pipeline::Pipeline;
use logql::syntax::ast::LogExpr;
use net::ApiError;

use super::lines::label_list;
use super::pushdown::Pushdown;
use super::refusal::data_error;
use crate::log_data::{LogFault, LogSnapshot};
use crate::respond::bad_data;

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLine {
    /// Nanoseconds since the epoch.
    pub t_ns: i64,
    /// As it is behind the pipeline; what is no UTF-8 is U+FFFD in it.
    pub line: String,
    /// All labels behind the pipeline, sorted.
    pub labels: Vec<(String, String)>,
}

/// The newest lines of a query from `start_ns` on and before `end_ns`, the newest first.
pub(crate) fn newest(
    log: &LogExpr,
    (start_ns, end_ns): (i64, i64),
    most: usize,
    snapshot: &dyn LogSnapshot,
) -> Result<Vec<FoundLine>, ApiError> {
    let query = |error: &dyn std::fmt::Display| bad_data(error.to_string());
    let pushdown = Pushdown::of(log).map_err(|error| query(&error))?;
    let mut request = pushdown.request(log, start_ns, end_ns);
    request.newest_first = true;
    loop {
        let stages = logql::compile::stages(log).map_err(|error| query(&error))?;
        let mut pipeline = Pipeline::new(stages, super::seed());
        pipeline.set_now_ns(end_ns);
        pipeline.set_zones(super::zones::of_host);
        let mut stream = None;
        let mut found = Vec::new();
        let outcome = snapshot.lines(&request, &mut |labels, line| {
            if stream.as_ref() != Some(labels) {
                pipeline.set_stream(labels.iter());
                stream = Some(labels.clone());
            }
            let metadata = line.metadata.iter().copied();
            if let Some(kept) = pipeline.process(line.timestamp_ns, line.line, metadata) {
                let mut labels = Vec::new();
                label_list(&kept, false, &mut labels);
                let line = String::from_utf8_lossy(kept.line()).into_owned();
                found.push(FoundLine { t_ns: kept.timestamp_ns(), line, labels });
            }
            match found.len() < most {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        match outcome {
            Ok(()) => return Ok(found),
            Err(LogFault::Again) => {}
            Err(LogFault::Source(error)) => return Err(data_error(error)),
            Err(LogFault::Query(error)) => return Err(query(&error)),
        }
    }
}
