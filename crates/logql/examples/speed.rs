//! Times pipelines over lines in memory: 20,000 lines of each form, made up but shaped like real ones.
//!
//! `cargo run --release -p watchfire-logql --example speed [filter]` prints medians of seven runs on
//! one thread. With a filter, only pipelines whose name contains it run.

use std::error::Error;
use std::io::{self, Write};
use std::time::Instant;

use logql::pipeline::{
    Comparison, JsonPaths, LabelFilter, LineFilter, LineFormat, LineMatch, LogfmtOptions,
    PatternParser, Pipeline, RegexpParser, Stage, TextMatch, parse_json_path,
};

const LINES: usize = 20_000;
const RUNS: usize = 7;

fn main() -> Result<(), Box<dyn Error>> {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let (json, logfmt, access) = (json_lines(), logfmt_lines(), access_lines());
    let all = [("json", &json), ("logfmt", &logfmt), ("access", &access)];
    let mut out = io::stdout().lock();
    for (form, name, stages) in pipelines()? {
        if !name.contains(&filter) {
            continue;
        }
        let Some((_, lines)) = all.iter().find(|(known, _)| *known == form) else { continue };
        let bytes: usize = lines.iter().map(String::len).sum();
        let mut pipeline = Pipeline::new(stages, 1);
        pipeline.set_stream([("app", "shop"), ("env", "prod"), ("host", "h1")]);
        let mut times = Vec::with_capacity(RUNS);
        let mut kept = 0;
        for _ in 0..RUNS {
            kept = 0;
            let start = Instant::now();
            for (at, line) in lines.iter().enumerate() {
                let metadata = [("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736")];
                kept +=
                    usize::from(pipeline.process(at as i64, line.as_bytes(), metadata).is_some());
            }
            times.push(start.elapsed());
        }
        times.sort_unstable();
        let seconds = times[RUNS / 2].as_secs_f64();
        writeln!(
            out,
            "{name:<44} {:>6.0} ns/line {:>7.0} MB/s  kept {kept} of {LINES}",
            seconds * 1e9 / LINES as f64,
            bytes as f64 / seconds / 1e6,
        )?;
    }
    Ok(())
}

type Case = (&'static str, &'static str, Vec<Stage>);

fn pipelines() -> Result<Vec<Case>, Box<dyn Error>> {
    let contains =
        |text: &str| Stage::LineFilter(LineFilter::keep(vec![LineMatch::contains(text)]));
    let logfmt = || Stage::Logfmt(LogfmtOptions::default());
    let slow =
        || Stage::LabelFilter(LabelFilter::duration_ns("took", Comparison::Greater, 900_000_000));
    let failed =
        || Stage::LabelFilter(LabelFilter::number("status", Comparison::GreaterOrEqual, 500.0));
    let regex = LineMatch::regex("(?i)status=5\\d\\d")?;
    let json_paths =
        JsonPaths::new(vec![("status".to_owned(), parse_json_path("response.status")?)]);
    let not_get =
        Stage::LabelFilter(LabelFilter::text("method", TextMatch::NotEqual("GET".into())));
    let pattern = "<ip> - - [<_>] \"<method> <path> <_>\" <status> <size> <_>";
    let regexp =
        r#"^(?P<ip>\S+) - - \[[^\]]+\] "(?P<method>\w+) (?P<path>\S+) [^"]+" (?P<status>\d+)"#;
    Ok(vec![
        ("json", "json: |= needle", vec![contains("4bf92f3577b3ffff")]),
        ("json", "json: | json", vec![Stage::Json]),
        ("json", "json: | json status=…", vec![Stage::JsonPaths(json_paths)]),
        (
            "json",
            "json: | json | response_status >= 500",
            vec![
                Stage::Json,
                Stage::LabelFilter(LabelFilter::number(
                    "response_status",
                    Comparison::GreaterOrEqual,
                    500.0,
                )),
            ],
        ),
        (
            "logfmt",
            "logfmt: |~ (?i)status=5..",
            vec![Stage::LineFilter(LineFilter::keep(vec![regex]))],
        ),
        ("logfmt", "logfmt: | logfmt", vec![logfmt()]),
        ("logfmt", "logfmt: | logfmt | took > 900ms", vec![logfmt(), slow()]),
        (
            "logfmt",
            "logfmt: | logfmt | line_format fields",
            vec![
                logfmt(),
                Stage::LineFormat(LineFormat::new("{{.method}} {{.path}} {{.status}}")?),
            ],
        ),
        (
            "logfmt",
            "logfmt: | logfmt | line_format functions",
            vec![
                logfmt(),
                Stage::LineFormat(LineFormat::new(
                    "{{.method | lower}} {{if eq .status \"200\"}}ok{{else}}{{.status}}{{end}}",
                )?),
            ],
        ),
        (
            "access",
            "access: | pattern | method != GET",
            vec![Stage::Pattern(PatternParser::new(pattern)?), not_get],
        ),
        (
            "access",
            "access: | pattern | status >= 500",
            vec![Stage::Pattern(PatternParser::new(pattern)?), failed()],
        ),
        ("access", "access: | regexp", vec![Stage::Regexp(RegexpParser::new(regexp)?)]),
    ])
}

fn json_lines() -> Vec<String> {
    (0..LINES)
        .map(|at| {
            format!(
                "{{\"ts\":\"2026-01-01T00:00:{:02}.{:06}Z\",\"level\":\"{}\",\"msg\":\"request \\\"done\\\"\",\
                 \"request\":{{\"method\":\"{}\",\"path\":\"/api/v1/items/{at}\",\"id\":\"{:032x}\"}},\
                 \"response\":{{\"status\":{},\"bytes\":{},\"took_ms\":{}.5}},\"tags\":[\"a\",\"b\"],\"user\":{}}}",
                at % 60,
                at,
                ["info", "warn", "error"][at % 3],
                ["GET", "POST"][at % 2],
                at * 7_919,
                [200, 404, 500][at % 3],
                at * 13 % 90_000,
                at % 1_000,
                at % 97,
            )
        })
        .collect()
}

fn logfmt_lines() -> Vec<String> {
    (0..LINES)
        .map(|at| {
            format!(
                "ts=2026-01-01T00:00:{:02}.{:06}Z level={} caller=server.go:{} msg=\"request done\" method={} \
                 path=/api/v1/items/{at} status={} took={}ms trace={:032x}",
                at % 60,
                at,
                ["info", "warn", "error"][at % 3],
                at % 400,
                ["GET", "POST"][at % 2],
                [200, 404, 500][at % 3],
                at % 1_000,
                at * 7_919,
            )
        })
        .collect()
}

fn access_lines() -> Vec<String> {
    (0..LINES)
        .map(|at| {
            format!(
                "10.0.{}.{} - - [01/Jan/2026:00:00:{:02} +0000] \"{} /api/v1/items/{at} HTTP/1.1\" {} {} \"-\" \"curl/8.0\"",
                at % 256,
                at % 200,
                at % 60,
                ["GET", "POST"][at % 2],
                [200, 404, 500][at % 3],
                at * 13 % 90_000,
            )
        })
        .collect()
}
