//! What is counted of lines.

use catalog::Signal;

use crate::Broker;
use crate::metrics::{MetricRow, counter, gauge};

impl Broker {
    pub(crate) fn log_rows(&self) -> Vec<MetricRow> {
        let lines = &self.inner.lines;
        let (counters, head) = (&lines.counters, lines.heads.totals());
        let hub = lines.heads.hub();
        let (blocks, rows, bytes) = self.block_totals(Signal::Logs);
        vec![
            counter(
                "watchfire_broker_log_pushes_total",
                "Requests whose lines were stored.",
                &counters.pushes,
            ),
            counter(
                "watchfire_broker_log_pushes_known_total",
                "Requests that came again within ten minutes and were not stored again.",
                &counters.known_pushes,
            ),
            counter("watchfire_broker_log_lines_total", "Lines stored.", &counters.lines),
            counter(
                "watchfire_broker_log_line_bytes_total",
                "Bytes of the lines stored, without labels and metadata.",
                &counters.line_bytes,
            ),
            counter(
                "watchfire_broker_log_lines_too_old_total",
                "Lines left out because they are older than storage.logs_retention.",
                &counters.too_old,
            ),
            counter(
                "watchfire_broker_log_lines_too_new_total",
                "Lines left out because their time is more than ten minutes ahead.",
                &counters.too_new,
            ),
            counter(
                "watchfire_broker_log_syslog_lost_total",
                "Messages of syslog that could not be stored while the broker stopped, or by a refusal of all.",
                &counters.syslog_lost,
            ),
            counter(
                "watchfire_broker_log_lines_flushed_total",
                "Lines written to blocks by flushes.",
                &counters.flushed_lines,
            ),
            counter(
                "watchfire_broker_log_merges_total",
                "Merges of blocks of lines.",
                &counters.merges,
            ),
            gauge(
                "watchfire_broker_log_live_subscriptions",
                "Live subscriptions of lines.",
                hub.subscriptions() as f64,
            ),
            counter(
                "watchfire_broker_log_live_lines_total",
                "Lines handed to live subscriptions.",
                &hub.delivered,
            ),
            counter(
                "watchfire_broker_log_live_lines_missed_total",
                "Lines that live subscriptions missed because their readers were too slow.",
                &hub.missed,
            ),
            gauge("watchfire_broker_log_head_lines", "Lines in the head.", head.lines as f64),
            gauge(
                "watchfire_broker_log_head_streams",
                "Streams that have lines in the head.",
                head.streams as f64,
            ),
            gauge(
                "watchfire_broker_log_head_bytes",
                "Memory of the head of lines.",
                head.bytes as f64,
            ),
            gauge("watchfire_broker_log_blocks", "Blocks of lines.", blocks as f64),
            gauge("watchfire_broker_log_block_lines", "Lines in blocks.", rows as f64),
            gauge("watchfire_broker_log_block_bytes", "Size of all blocks of lines.", bytes as f64),
            gauge(
                "watchfire_broker_log_deletes_pending",
                "Deletes of lines that are hidden and not removed yet; with those of samples at most 1000.",
                lines.deletes.current().0.len() as f64,
            ),
            gauge(
                "watchfire_broker_recovery_log_lines",
                "Lines the start replayed from the log.",
                self.inner.recovered.lines as f64,
            ),
        ]
    }
}
