//! JSON lines: one object per line, as VictoriaLogs takes them at `/insert/jsonline`.
//!
//! ```text
//! {"_time":"2026-11-29T10:00:00Z","_msg":"a line","app":"shop","user":{"id":"7"}}
//! ```
//!
//! The field `_msg` is the line and `_time` its time; fields that the request names make the stream,
//! all others become structured metadata, `user.id` as `user_id`.

use model::LogBatch;

use super::fields::{FieldLines, FieldOptions};
use super::intake::Intake;
use super::{LogContext, LogPushError, LogSummary, check_body};

/// Decodes lines into `out`, which is emptied first. Lines that are no object, or whose time cannot
/// be read, are refusals; blank ones are passed over.
///
/// # Errors
/// Status 413 for a body that is too large; `out` is then empty.
pub fn decode(
    body: &[u8],
    options: &FieldOptions,
    context: &LogContext<'_>,
    out: &mut LogBatch,
) -> Result<LogSummary, LogPushError> {
    let mut intake = Intake::new(context, out);
    check_body(body, context.limits)?;
    let mut lines = FieldLines::default();
    let mut full = None;
    let split = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    for (number, line) in (1..).zip(split) {
        lines.at_line(number);
        if !line.is_empty()
            && let Err(error) = lines.json(line, options, &mut intake)
        {
            full = Some(error);
            break;
        }
    }
    let summary = intake.finish();
    match full {
        Some(full) => {
            out.clear();
            Err(full)
        }
        None => Ok(summary),
    }
}
