//! A few lines as they are, for whoever shows them elsewhere than in an answer of the API.

use std::ops::ControlFlow;

use logql::pipeline::Pipeline;
use logql::syntax::ast::LogExpr;
use net::ApiError;

use super::lines::label_list;
use super::pushdown::Pushdown;
use super::refusal::data_error;
use crate::data::Work;
use crate::log_data::{LogFault, LogSnapshot};
use crate::respond::bad_data;
use crate::running::hold;

/// Of one text, bytes: as much as a rule's annotation may have by default.
const MOST_TEXT_BYTES: usize = 64 << 10;
/// Of all of them together; lines beyond it are left out.
const MOST_BYTES: usize = 1 << 20;

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLine {
    /// Nanoseconds since the epoch.
    pub t_ns: i64,
    /// As it is behind the pipeline, its beginning if it is long; what is no UTF-8 is U+FFFD in it.
    pub line: String,
    /// All labels behind the pipeline, sorted; of long values the beginning.
    pub labels: Vec<(String, String)>,
}

/// The newest lines of a query from `start_ns` on and before `end_ns`, the newest first.
pub(crate) fn newest(
    log: &LogExpr,
    (start_ns, end_ns): (i64, i64),
    most: usize,
    snapshot: &dyn LogSnapshot,
    work: &Work,
) -> Result<Vec<FoundLine>, ApiError> {
    let query = |error: &dyn std::fmt::Display| bad_data(error.to_string());
    let pushdown = Pushdown::of(log).map_err(|error| query(&error))?;
    let mut request = pushdown.request(log, start_ns, end_ns);
    request.newest_first = true;
    let _held = hold(work, MOST_BYTES + MOST_TEXT_BYTES).map_err(data_error)?;
    loop {
        let stages = logql::compile::stages(log).map_err(|error| query(&error))?;
        let mut pipeline = Pipeline::new(stages, super::seed());
        pipeline.set_now_ns(end_ns);
        pipeline.set_zones(super::zones::of_host);
        let mut stream = None;
        let (mut found, mut bytes) = (Vec::new(), 0);
        let outcome = snapshot.lines(&request, &mut |labels, line| {
            if stream.as_ref() != Some(labels) {
                pipeline.set_stream(labels.iter());
                stream = Some(labels.clone());
            }
            let metadata = line.metadata.iter().copied();
            if let Some(kept) = pipeline.process(line.timestamp_ns, line.line, metadata) {
                let mut labels = Vec::new();
                label_list(&kept, false, &mut labels);
                labels.iter_mut().for_each(|(_, value)| cut(value));
                let line = kept.line();
                let begin = &line[..line.len().min(MOST_TEXT_BYTES)];
                let mut line = String::from_utf8_lossy(begin).into_owned();
                cut(&mut line);
                bytes += line.len();
                bytes += labels.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
                if bytes > MOST_BYTES && !found.is_empty() {
                    return ControlFlow::Break(());
                }
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

/// Shortens a text to what one may have.
fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(MOST_TEXT_BYTES));
}
