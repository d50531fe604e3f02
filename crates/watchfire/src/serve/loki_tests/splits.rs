//! What is asked of lines has one answer, wherever they lie: in one block, or in heads, blocks and merged blocks, however
//! they came.

use std::time::{Duration, Instant};

use logstore::NsRange;

use super::*;

/// Random numbers that come again.
struct Numbers(u64);

impl Numbers {
    /// Below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for end in (1..all.len()).rev() {
            all.swap(end, self.below(end + 1));
        }
    }
}

#[derive(Clone)]
struct Sent {
    labels: Vec<(&'static str, &'static str)>,
    t_ns: i64,
    text: String,
    metadata: Vec<(&'static str, String)>,
}

/// Lines of all forms, each with a time of its own; some are there twice.
fn lines(numbers: &mut Numbers) -> Vec<Sent> {
    let mut lines: Vec<Sent> = Vec::new();
    for n in 0..600 {
        if n % 37 == 5 {
            lines.push(lines[numbers.below(lines.len())].clone());
            continue;
        }
        let app = ["web", "db", "batch"][numbers.below(3)];
        let mut labels = vec![("app", app)];
        if app == "web" {
            labels.push(("env", ["prod", "test"][numbers.below(2)]));
        }
        let level = ["info", "warn", "error"][numbers.below(3)];
        let (status, took, id) =
            (200 + 100 * numbers.below(4), numbers.below(900), numbers.below(40));
        let text = match numbers.below(6) {
            0 => format!(
                r#"{{"status":{status},"took":"{took}ms","path":"/p/{id}","user":{{"id":{id}}}}}"#
            ),
            1 => format!(
                "level={level} status={status} took={took}ms size={id}KB msg=\"checkpoint {id} done\""
            ),
            2 => format!("10.0.{}.{} - GET /p/{id} {status} {took}", id % 7, id),
            3 => format!(r#"{{"_entry":"packed {id}","pod":"p{}"}}"#, id % 3),
            4 => "\u{1b}[31mcoloured\u{1b}[0m and plain".to_owned(),
            _ => format!("needle-{id} in plain words {level}"),
        };
        let mut metadata = vec![("detected_level", level.to_owned())];
        if numbers.below(3) == 0 {
            metadata.push(("trace_id", format!("t{id}")));
        }
        // Up to the second, so that windows end between lines, and each time is once.
        let t_ns = START_S * SECOND_NS + (n as i64 * 5 * SECOND_NS) + numbers.below(1_000) as i64;
        lines.push(Sent { labels, t_ns, text, metadata });
    }
    lines
}

fn push(server: &Server, lines: &[Sent]) {
    let mut batch = LogBatch::default();
    for line in lines {
        batch.stream(&Labels::from_pairs(line.labels.iter().copied()).expect("valid"));
        let metadata: Vec<(&str, &str)> =
            line.metadata.iter().map(|(name, value)| (*name, value.as_str())).collect();
        batch.push(line.t_ns, line.text.as_bytes(), &metadata).expect("short");
    }
    let (done, stored) = std::sync::mpsc::channel();
    server.broker.ingest_logs(DEFAULT_TENANT, batch, None, move |result| {
        let _ = done.send(result.is_ok());
    });
    assert!(stored.recv().expect("answered"));
}

/// Blocks and heads that a query reads.
fn sources(server: &Server) -> usize {
    let reader = server.broker.logs_reader(DEFAULT_TENANT);
    reader.select(&[], NsRange::all()).expect("there is memory").sources.len()
}

/// Until there are no more of them: heads are let go, and blocks merged, a moment later.
#[track_caller]
fn wait_for(server: &Server, most: usize) {
    let end = Instant::now() + Duration::from_secs(60);
    while sources(server) > most {
        assert!(Instant::now() < end, "{} sources are left", sources(server));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Makes blocks of what is in heads. The copy that it is asked for besides does not matter.
fn flush(server: &Server, name: &str) {
    let _ = server.broker.snapshot(name, true);
}

const LINES: &[&str] = &[
    r#"{app="web"}"#,
    r#"{app=~".+"} |= "needle""#,
    r#"{} |= "needle-7 ""#,
    r#"{app=~".+"} != "plain" !~ "check.*""#,
    r#"{app=~".+"} |~ "(?i)NEEDLE-1\\d""#,
    r#"{app=~".+"} |> "<_> GET <_> 500 <_>""#,
    r#"{app=~".+"} |= ip("10.0.3.0/24")"#,
    r#"{app=~".+"} | trace_id="t7""#,
    r#"{app=~".+"} | detected_level="error" | trace_id!="""#,
    r#"{app="web"} | json | status >= 400"#,
    r#"{app="web"} | json id="user.id" | id = 7"#,
    r#"{app=~".+"} | logfmt | took > 300ms and size < 20KB"#,
    r#"{app=~".+"} | logfmt --strict | __error__!="""#,
    r#"{app=~".+"} | pattern "<ip> - <method> <path> <status> <took>" | status="500""#,
    r#"{app=~".+"} | regexp "needle-(?P<n>\\d+)" | n=~"1.*""#,
    r#"{app=~".+"} | unpack | pod="p1""#,
    r#"{app=~".+"} | decolorize |= "coloured and""#,
    r#"{app=~".+"} | json | line_format "{{.status}} {{.path | upper}}" | label_format s="{{.status}}" | drop user_id"#,
    r#"{app=~".+"} | logfmt | keep level, took"#,
    r#"{app=~"web|db"} | json | __error__="JSONParserErr""#,
];

const NUMBERS: &[&str] = &[
    r#"count_over_time({app=~".+"}[7m])"#,
    r#"sum(count_over_time({app=~".+"}[5m]))"#,
    r#"sum by (app) (rate({app=~".+"}[4m]))"#,
    r#"sum by (level, detected_level) (count_over_time({app=~".+"}[5m]))"#,
    r#"sum by (detected_level) (bytes_over_time({app=~".+"}[5m] offset 3m))"#,
    r#"bytes_rate({app="web"}[5m])"#,
    r#"sum by (trace_id) (count_over_time({app=~".+"} | trace_id!="" [10m]))"#,
    r#"sum by (status) (count_over_time({app=~".+"} | json | __error__="" [10m]))"#,
    r#"sum(count_over_time({app=~".+"} |= "needle" [3m]))"#,
    r#"sum by (app) (sum_over_time({app=~".+"} | logfmt | __error__="" | unwrap duration(took) [10m]))"#,
    r#"quantile_over_time(0.9, {app=~".+"} | json | __error__="" | unwrap duration(took) [10m]) by (app)"#,
    r#"max_over_time({app=~".+"} | logfmt | __error__="" | unwrap bytes(size) [10m]) by (app)"#,
    r#"first_over_time({app=~".+"} | json | __error__="" | unwrap status [10m]) by (app)"#,
    r#"last_over_time({app=~".+"} | json | __error__="" | unwrap status [10m]) by (app)"#,
    r#"stddev_over_time({app=~".+"} | json | __error__="" | unwrap status [10m]) by (app)"#,
    r#"rate_counter({app="web"} | json | __error__="" | unwrap status [10m])"#,
    r#"absent_over_time({app="none"}[5m])"#,
    r#"topk(2, sum by (app, env) (count_over_time({app=~".+"}[10m])))"#,
    r#"sum(rate({app="web"}[5m])) / sum(rate({app=~".+"}[5m]))"#,
    r#"sum by (app) (count_over_time({app=~".+"}[5m])) > 10 or vector(1)"#,
    r#"label_replace(sum by (app) (count_over_time({app=~".+"}[5m])), "x", "$1", "app", "(.).*")"#,
];

/// An answer without what tells of the way to it, with lists in one order.
fn comparable(mut answer: Value) -> Value {
    if let Some(data) = answer["data"].as_object_mut() {
        data.remove("stats");
        if let Some(result) = data.get_mut("result").and_then(Value::as_array_mut) {
            result.sort_by_key(|one| one.get("stream").or(one.get("metric")).map(Value::to_string));
        }
    }
    answer
}

/// Sums of fractions depend on their order in the last digits.
fn rounded(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Ok(number) = text.parse::<f64>()
                && text.contains('.')
            {
                *text = format!("{number:.9e}");
            }
        }
        Value::Array(all) => all.iter_mut().for_each(rounded),
        Value::Object(all) => all.values_mut().for_each(rounded),
        _ => {}
    }
}

/// All that is asked, with the answers.
fn answers(server: &Server) -> Vec<(String, Value)> {
    let mut categorized = HeaderMap::new();
    let flags = "x-loki-response-encoding-flags";
    categorized.insert(flags, "categorize-labels".parse().expect("a value"));
    let mut found = Vec::new();
    let mut note = |what: String, answer: Value| found.push((what, comparable(answer)));
    for query in LINES {
        for (limit, direction) in [("5000", "backward"), ("17", "forward"), ("17", "backward")] {
            let pairs = [("query", *query), ("limit", limit), ("direction", direction)];
            let answer = server.json_with("query_range", &pairs, &categorized);
            note(format!("{query} {limit} {direction}"), answer);
        }
    }
    for query in NUMBERS {
        for step in ["60", "613"] {
            let mut answer = server.json("query_range", &[("query", *query), ("step", step)]);
            rounded(&mut answer["data"]["result"]);
            note(format!("{query} step {step}"), answer);
        }
        let mut answer = server.json("query", &[("query", *query), ("time", "1700005700")]);
        rounded(&mut answer["data"]["result"]);
        note(format!("{query} at the end"), answer);
    }
    let selector = ("query", r#"{app=~".+"}"#);
    for (path, pairs) in [
        ("labels", &[][..]),
        ("label/app/values", &[]),
        ("label/env/values", &[("query", r#"{app="web"}"#)]),
        ("series", &[("match[]", r#"{app=~"w.+|db"}"#)]),
        ("index/volume", &[selector]),
        ("index/volume", &[selector, ("targetLabels", "app")]),
        ("index/volume_range", &[selector, ("step", "300")]),
        ("detected_labels", &[selector]),
        ("detected_fields", &[selector, ("line_limit", "5000")]),
        ("detected_field/trace_id/values", &[selector, ("line_limit", "5000")]),
    ] {
        note(format!("{path} {pairs:?}"), server.json(path, pairs));
    }
    let mut stats = server.json("index/stats", &[selector]);
    stats.as_object_mut().expect("an object").remove("chunks");
    note("index/stats".to_owned(), stats);
    found
}

#[track_caller]
fn assert_same(found: &[(String, Value)], wanted: &[(String, Value)], when: &str) {
    for ((what, found), (_, wanted)) in found.iter().zip(wanted) {
        assert_eq!(found, wanted, "{when}: {what}");
    }
}

#[test]
fn an_answer_does_not_depend_on_where_lines_lie() {
    for seed in 1..=3 {
        let mut numbers = Numbers(seed);
        let mut lines = lines(&mut numbers);
        let one = Server::new();
        push(&one, &lines);
        let wanted = answers(&one);
        let empty: Vec<&String> = wanted
            .iter()
            .filter(|(_, answer)| answer["data"]["result"].as_array().is_some_and(Vec::is_empty))
            .map(|(what, _)| what)
            .collect();
        assert_eq!(empty, [] as [&String; 0], "seed {seed}: nothing is compared");
        flush(&one, "one");
        wait_for(&one, 1);
        assert_same(&answers(&one), &wanted, &format!("seed {seed}, one block"));

        // A day later, so that blocks are merged when there are several.
        let split = Server::at(|| (START_S + 90_000) * 1_000);
        numbers.shuffle(&mut lines);
        let mut rest = &lines[..];
        let mut parts = 0;
        while !rest.is_empty() {
            let (part, others) = rest.split_at((1 + numbers.below(90)).min(rest.len()));
            push(&split, part);
            parts += 1;
            // The last part stays in the head.
            if !others.is_empty() && numbers.below(3) > 0 {
                flush(&split, &format!("part-{parts}"));
            }
            rest = others;
        }
        let when = format!("seed {seed}, {parts} parts in {} sources", sources(&split));
        assert_same(&answers(&split), &wanted, &when);
        wait_for(&split, 2);
        assert_same(&answers(&split), &wanted, &format!("{when}, merged"));
    }
}
