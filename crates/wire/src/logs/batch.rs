//! Lines that are a batch already, as those of agents are: they are held against the tenant's limits
//! like all others, and get their level.

use model::{LogBatch, LogRecord};

use super::intake::Intake;
use super::pairs::Pairs;
use super::{LogContext, LogPushError, LogSummary};

/// Takes the lines of `batch` into `out`, which is emptied first. A stream or a line that is at fault is
/// a refusal.
///
/// # Errors
/// Status 413 if with its levels it is too large for a batch; `out` is then empty.
///
/// # Panics
/// `batch` is no whole batch, which none that was decoded is.
pub fn decode(
    batch: &LogBatch,
    context: &LogContext<'_>,
    out: &mut LogBatch,
) -> Result<LogSummary, LogPushError> {
    let mut intake = Intake::new(context, out);
    let (mut labels, mut pairs) = (Pairs::default(), Pairs::default());
    let (mut records, mut metadata) = (batch.records(), Vec::new());
    let mut full = None;
    while let Some(record) = records.next_record(&mut metadata).expect("a batch is whole") {
        match record {
            LogRecord::Stream(of_stream) => {
                labels.clear();
                of_stream.iter().for_each(|(name, value)| labels.push(name, value));
                intake.begin(&labels);
            }
            LogRecord::Line { timestamp_ns, line } => {
                pairs.clear();
                metadata.iter().for_each(|(name, value)| pairs.push(name, value));
                if let Err(error) = intake.line(timestamp_ns, line, &mut pairs) {
                    full = Some(error);
                    break;
                }
            }
        }
    }
    let summary = intake.finish();
    match full {
        None => Ok(summary),
        Some(error) => {
            out.clear();
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{Labels, LogLimits};

    use super::*;

    #[test]
    fn lines_are_held_against_the_limits_and_get_a_service() {
        let stream =
            |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied()).expect("valid");
        let mut batch = LogBatch::default();
        batch.stream(&stream(&[("job", "a")]));
        batch.push(5, b"short", &[("k", "v")]).expect("short");
        batch.push(6, b"longer than ten", &[]).expect("short");
        batch.stream(&stream(&[("a", "1"), ("b", "2")]));
        batch.push(7, b"of two labels", &[]).expect("short");
        let limits = LogLimits { max_line_bytes: 10, max_label_names: 1, ..LogLimits::default() };
        let context = LogContext { limits: &limits, levels: None, now_ns: 10 };
        let mut out = LogBatch::default();
        let summary = decode(&batch, &context, &mut out).expect("small");
        let mut wanted = LogBatch::default();
        wanted.stream(&stream(&[("job", "a"), ("service_name", "a")]));
        wanted.push(5, b"short", &[("k", "v")]).expect("short");
        assert_eq!(out, wanted);
        assert_eq!((summary.lines, summary.refusals.lines()), (1, 2));
    }
}
