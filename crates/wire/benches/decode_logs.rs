//! How fast lines of other systems become batches: `cargo bench -p watchfire-wire --bench decode_logs`.
//!
//! Load: 20,000 lines of about 130 bytes in 20 streams, with one pair of metadata each, in memory;
//! limits are the defaults, levels are not looked for.

#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

use model::{Labels, LogBatch, LogLimits};
use wire::logs::otlp_logs::{self, OtlpLogOptions};
use wire::logs::syslog::{self, SyslogOptions};
use wire::logs::{FieldOptions, LogContext};
use wire::logs::{json_line, loki_json, loki_push};

const LINES: usize = 20_000;
const STREAMS: usize = 20;
const NOW_NS: i64 = 1_700_000_000_000_000_000;

fn line(index: usize) -> String {
    format!(
        "level=info caller=handler.go:{} method=GET path=/api/v1/orders/{index} status=200 \
         duration={}ms bytes={} request_id={:016x}",
        index % 400,
        index % 977,
        index * 37 % 100_000,
        index as u64 * 0x9e37_79b9
    )
}

/// Runs `work` often enough and prints the best rate, in bytes of lines.
fn measure(name: &str, body_bytes: usize, line_bytes: u64, mut work: impl FnMut()) {
    let best = (0..50)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    println!(
        "{name:<16} {:>6.2} M lines/s {:>6.0} MB/s of lines {:>6.0} MB/s of body",
        LINES as f64 / best / 1e6,
        line_bytes as f64 / best / 1e6,
        body_bytes as f64 / best / 1e6
    );
}

fn main() {
    let limits = LogLimits::default();
    let context = LogContext { limits: &limits, levels: None, now_ns: NOW_NS };
    let mut batch = LogBatch::default();
    let (mut json, mut fields, mut otlp) = (String::new(), String::new(), String::new());
    let mut messages = Vec::new();
    for stream in 0..STREAMS {
        let app = format!("app-{stream}");
        batch.stream(&Labels::from_pairs([("app", app.as_str())]).expect("valid"));
        let comma = if stream > 0 { "," } else { "" };
        write!(json, "{comma}{{\"stream\":{{\"app\":\"{app}\"}},\"values\":[").expect("a string");
        write!(
            otlp,
            "{comma}{{\"resource\":{{\"attributes\":[{{\"key\":\"service.name\",\"value\":\
             {{\"stringValue\":\"{app}\"}}}}]}},\"scopeLogs\":[{{\"logRecords\":["
        )
        .expect("a string");
        for index in 0..LINES / STREAMS {
            let line = line(stream * LINES / STREAMS + index);
            let time_ns = NOW_NS + index as i64;
            batch.push(time_ns, line.as_bytes(), &[("pod", "x7k2p")]).expect("it is small");
            let comma = if index > 0 { "," } else { "" };
            write!(json, "{comma}[\"{time_ns}\",\"{line}\",{{\"pod\":\"x7k2p\"}}]")
                .expect("a string");
            writeln!(
                fields,
                "{{\"_time\":\"{time_ns}\",\"_msg\":\"{line}\",\"app\":\"{app}\",\"pod\":\"x7k2p\"}}"
            )
            .expect("a string");
            write!(
                otlp,
                "{comma}{{\"timeUnixNano\":\"{time_ns}\",\"severityNumber\":9,\"body\":\
                 {{\"stringValue\":\"{line}\"}},\"attributes\":[{{\"key\":\"pod\",\"value\":\
                 {{\"stringValue\":\"x7k2p\"}}}}]}}"
            )
            .expect("a string");
            messages.push(format!("<14>1 2023-11-14T22:13:20.{index:09}Z host {app} 1 - - {line}"));
        }
        json.push_str("]}");
        otlp.push_str("]}]}");
    }
    let json = format!("{{\"streams\":[{json}]}}");
    let otlp = format!("{{\"resourceLogs\":[{otlp}]}}");
    let otlp = wire::otlp::logs_to_protobuf(otlp.as_bytes()).expect("valid JSON");
    let mut push = Vec::new();
    loki_push::encode(&batch, &mut push);
    let bytes = batch.line_bytes();
    let mut out = LogBatch::default();
    let check = |name: &str, lines: u64| assert_eq!(lines, LINES as u64, "{name}");

    measure("Loki protobuf", push.len(), bytes, || {
        let summary = loki_push::decode(&push, &context, &mut out).expect("own bytes");
        check("Loki protobuf", summary.lines);
        black_box(&out);
    });
    measure("Loki JSON", json.len(), bytes, || {
        let summary = loki_json::decode(json.as_bytes(), &context, &mut out).expect("own text");
        check("Loki JSON", summary.lines);
        black_box(&out);
    });
    let options = OtlpLogOptions::default();
    measure("OTLP protobuf", otlp.len(), bytes, || {
        let summary = otlp_logs::decode(&otlp, &options, &context, &mut out).expect("own bytes");
        check("OTLP protobuf", summary.lines);
        black_box(&out);
    });
    let options = FieldOptions::default();
    measure("JSON lines", fields.len(), bytes, || {
        let summary = json_line::decode(fields.as_bytes(), &options, &context, &mut out);
        check("JSON lines", summary.expect("own text").lines);
        black_box(&out);
    });
    let options = SyslogOptions::default();
    let message_bytes = messages.iter().map(String::len).sum();
    measure("syslog", message_bytes, bytes, || {
        let all = messages.iter().map(|message| message.as_bytes());
        let summary = syslog::decode(all, &options, &context, &mut out).expect("own text");
        check("syslog", summary.lines);
        black_box(&out);
    });
}
