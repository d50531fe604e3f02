//! `export`: all lines of a query, however many, one JSON object or one line of text each, while later ones are still
//! read; and `context`: the lines around one.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::Response;
use logql::metric::Entry;
use logql::pipeline::{self, Category, Pipeline};
use logql::syntax::ast::Expr;
use model::Labels;
use net::{ApiError, ErrorType};
use tokio::sync::Semaphore;

use super::asked::{Bounds, Direction, limit_or};
use super::encode::{self, EntryForm, write_object, write_text};
use super::lines::{self, LinesAsked, LinesFound, StreamOut};
use super::pushdown::Pushdown;
use super::query::{asked, check_entries, now_ns, parsed, run, seed, wants_categories};
use super::refusal::{Refusal, data_error, metric_error};
use super::statistics::Statistics;
use super::time::parse_time_ns;
use crate::Console;
use crate::api::streamed::{self, Patience};
use crate::log_data::LogFault;
use crate::params::Params;
use crate::respond::bad_data;
use crate::running::hold;

/// Exports that may run at once.
const MAX_EXPORTS: usize = 4;
static EXPORTS: Semaphore = Semaphore::const_new(MAX_EXPORTS);
/// How long a reader may take nothing.
const STALL: Duration = Duration::from_secs(60);
/// Lines on each side of one, unless somebody says how many.
const DEFAULT_AROUND: usize = 10;

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Raw,
}

pub(super) async fn export(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, Refusal> {
    let now_ns = now_ns(&console);
    let bounds = Bounds::ordered(&params, now_ns)?;
    let direction =
        params.get("direction").map_or(Ok(Direction::Forward), |_| Direction::of(&params))?;
    let limit = limit_or(&params, "limit", usize::MAX)?;
    let form = match params.get("format").unwrap_or("json") {
        "json" => Form::Json,
        "raw" => Form::Raw,
        other => {
            let quoted = model::quote::quote(other);
            return Err(Refusal::bad(format!(
                "{quoted} is no format of an export; use json or raw"
            )));
        }
    };
    let Expr::Log(log) = parsed(&params)? else {
        return Err(Refusal::bad("only queries that yield lines can be exported"));
    };
    let permit = EXPORTS.try_acquire().map_err(|_| {
        let text =
            format!("{MAX_EXPORTS} exports run already, which is the limit; ask again later");
        Refusal::from(ApiError::new(ErrorType::Unavailable, text))
    })?;
    let kind = match form {
        Form::Json => "application/x-ndjson",
        Form::Raw => "text/plain; charset=utf-8",
    };
    let listed = asked(&params, (bounds.start_ns, bounds.end_ns, 0));
    let executor = Arc::clone(console.executor());
    let patience = Patience::Stalled(STALL);
    let answer = streamed::answer(executor, kind, patience, listed, move |data, work, pieces| {
        let _permit = permit;
        let wrong = |error: logql::syntax::ParseError| bad_data(error.to_string());
        let snapshot = data.logs(work).map_err(data_error)?;
        let pushdown = Pushdown::of(&log).map_err(wrong)?;
        let Bounds { start_ns, end_ns } = bounds.of_lines();
        let mut request = pushdown.request(&log, start_ns, end_ns);
        request.newest_first = direction == Direction::Backward;
        let (mut labels, mut written) = (Vec::new(), 0_usize);
        loop {
            let mut pipeline = Pipeline::new(logql::compile::stages(&log).map_err(wrong)?, seed());
            pipeline.set_now_ns(now_ns);
            pipeline.set_zones(super::zones::of_host);
            let mut stream = Labels::empty();
            let mut outcome = Ok(());
            let read = snapshot.lines(&request, &mut |of, line: &Entry<'_>| {
                if stream != *of {
                    pipeline.set_stream(of.iter());
                    stream = of.clone();
                }
                let metadata = line.metadata.iter().copied();
                let Some(kept) = pipeline.process(line.timestamp_ns, line.line, metadata) else {
                    return ControlFlow::Continue(());
                };
                if written == 0 {
                    outcome = pieces.begin(snapshot.missing());
                }
                if outcome.is_ok() {
                    outcome = pieces.write(work, |out| write_row(out, &kept, form, &mut labels));
                }
                written += 1;
                if outcome.is_err() || written >= limit {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            });
            data.count_samples(snapshot.reads().lines);
            match read {
                Ok(()) => return outcome,
                // What was sent cannot be taken back.
                Err(LogFault::Again) if written > 0 => {
                    let text = "a block turned out to be damaged; ask again for what can be read";
                    return Err(ApiError::new(ErrorType::Internal, text));
                }
                Err(LogFault::Again) => {}
                Err(LogFault::Source(error)) => return Err(data_error(error)),
                Err(LogFault::Query(error)) => return Err(metric_error(error)),
            }
        }
    });
    Ok(answer.await?)
}

fn write_row(
    out: &mut Vec<u8>,
    line: &pipeline::Entry<'_>,
    form: Form,
    labels: &mut Vec<(String, String)>,
) {
    if form == Form::Raw {
        out.extend_from_slice(line.line());
        out.push(b'\n');
        return;
    }
    out.extend_from_slice(b"{\"timestamp\":\"");
    out.extend_from_slice(itoa::Buffer::new().format(line.timestamp_ns()).as_bytes());
    out.extend_from_slice(b"\",\"line\":");
    write_text(out, line.line());
    for (category, name) in [
        (Category::Stream, "labels"),
        (Category::StructuredMetadata, "structuredMetadata"),
        (Category::Parsed, "parsed"),
    ] {
        labels.clear();
        line.for_each_label(|name, value, of| {
            if of == category {
                labels.push((name.to_owned(), value.to_owned()));
            }
        });
        labels.sort_unstable();
        out.extend_from_slice(format!(",\"{name}\":").as_bytes());
        write_object(out, labels.iter().map(|(n, v)| (n.as_str(), v.as_str())));
    }
    out.extend_from_slice(b"}\n");
}

/// Lines before a time, and at it and after it, oldest first.
pub(super) async fn context(
    State(console): State<Arc<Console>>,
    headers: http::HeaderMap,
    params: Params,
) -> Result<Response, Refusal> {
    let now_ns = now_ns(&console);
    let at = params.get("time").ok_or_else(|| Refusal::bad("time is missing: that of the line"))?;
    let at_ns = parse_time_ns(at).map_err(Refusal::bad)?;
    let around = |name| -> Result<usize, Refusal> {
        let lines = super::asked::integer(&params, name, DEFAULT_AROUND as i64)?;
        let lines = usize::try_from(lines)
            .map_err(|_| Refusal::bad(format!("{name} must not be negative")))?;
        check_entries(lines)?;
        Ok(lines)
    };
    let (before, after) = (around("before")?, around("after")?);
    let Expr::Log(log) = parsed(&params)? else {
        return Err(Refusal::bad("only queries that yield lines have lines around a line"));
    };
    let categorize = wants_categories(&headers, &params);
    let listed = asked(&params, (at_ns, at_ns, 0));
    run(&console, listed, move |data, work, queued| {
        let began = Instant::now();
        let snapshot = data.logs(work).map_err(data_error)?;
        let find = |bounds, direction, limit| -> Result<LinesFound, ApiError> {
            if limit == 0 {
                return Ok(LinesFound::default());
            }
            let asked = LinesAsked {
                bounds,
                limit,
                direction,
                form: EntryForm::of(categorize),
                now_ns,
                seed: seed(),
                ..LinesAsked::default()
            };
            lines::find(&log, &asked, &*snapshot, work)
        };
        let earlier = Bounds { start_ns: i64::MIN, end_ns: at_ns };
        let later = Bounds { start_ns: at_ns, end_ns: i64::MAX };
        let earlier = find(earlier, Direction::Backward, before)?;
        let later = find(later, Direction::Forward, after + 1)?;
        let mut processed = earlier.processed;
        processed.merge(later.processed);
        let yielded = earlier.lines + later.lines;
        let mut streams = joined(earlier.streams, later.streams);
        let reads = snapshot.reads();
        data.count_samples(reads.lines);
        let executed = began.elapsed();
        let statistics = Statistics { reads, processed, queued, executed, yielded };
        let mut body = Vec::new();
        encode::begin(&mut body, &snapshot.missing(), "streams", categorize);
        encode::write_streams(&mut body, &mut streams, EntryForm::of(categorize));
        encode::end(&mut body, &statistics.to_json());
        let held = hold(work, body.capacity()).map_err(data_error)?;
        Ok(encode::answer(body, held))
    })
    .await
}

/// Earlier lines, newest first, and later ones, oldest first, in one order.
fn joined(earlier: Vec<StreamOut>, later: Vec<StreamOut>) -> Vec<StreamOut> {
    let mut streams: Vec<StreamOut> = earlier.into_iter().map(StreamOut::reversed).collect();
    for stream in later {
        match streams.iter_mut().find(|known| known.labels == stream.labels) {
            Some(known) => known.append(stream),
            None => streams.push(stream),
        }
    }
    streams.sort_by(|a, b| a.labels.cmp(&b.labels));
    streams
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(app: &str, elements: &[&str]) -> StreamOut {
        let mut out = StreamOut {
            labels: vec![("app".to_owned(), app.to_owned())],
            values: Vec::new(),
            starts: Vec::new(),
        };
        for element in elements {
            if !out.values.is_empty() {
                out.values.push(b',');
            }
            out.starts.push(out.values.len());
            out.values.extend_from_slice(element.as_bytes());
        }
        out
    }

    #[test]
    fn lines_before_and_after_come_in_one_order() {
        let earlier = vec![stream("a", &["[3]", "[22]", "[1]"]), stream("c", &["[0]"])];
        let later = vec![stream("a", &["[4]", "[5]"]), stream("b", &["[6]"])];
        let joined = joined(earlier, later);
        let texts: Vec<&str> =
            joined.iter().map(|one| std::str::from_utf8(&one.values).expect("text")).collect();
        assert_eq!(texts, ["[1],[22],[3],[4],[5]", "[6]", "[0]"]);
        for stream in joined {
            let again = stream.reversed().reversed();
            let texts = std::str::from_utf8(&again.values).expect("text");
            assert_eq!(texts.matches('[').count(), again.starts.len(), "{texts}");
        }
    }
}
