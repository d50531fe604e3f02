//! The cases of Prometheus' compliance suite for receivers of remote write.
//!
//! The suite's files name tests; what each of them sends and expects stands in `receiver_cases`.
//! A name that is not known there fails, so a new test cannot pass unnoticed.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::receiver_case::{Case, Encoding, Wanted};
use super::receiver_cases::cases_of;
use crate::harness::remote_write_2::Exemplar2;
use crate::harness::{Client, Launch, Response, WriteBody, now_ms};

const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// What became of one case.
enum Outcome {
    Passed,
    Failed(String),
}

pub(super) fn run(directory: &Path) -> Result<bool> {
    let scratch = std::env::temp_dir().join(format!(
        "watchfire-receiver-{}-{}",
        std::process::id(),
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.subsec_nanos())
    ));
    std::fs::create_dir_all(&scratch)?;
    let server = Launch::broker(&scratch.join("data")).start()?;
    let mut sender = Sender { client: server.client(), last_ms: 0 };
    let (mut passed, mut failed) = (0, 0);
    for path in json_files(directory)? {
        let text = std::fs::read_to_string(&path)?;
        let tests: Vec<Value> = serde_json::from_str(&text)
            .with_context(|| format!("{} is no list of tests", path.display()))?;
        if tests.iter().any(|test| test.get("scrape_data").is_some()) {
            let counts = super::sender::run(&tests, &scratch)?;
            (passed, failed) = (passed + counts.passed, failed + counts.failed);
            continue;
        }
        for test in &tests {
            for (name, outcome) in run_test(&mut sender, test)? {
                match outcome {
                    Outcome::Passed => passed += 1,
                    Outcome::Failed(why) => {
                        failed += 1;
                        println!("{name} FAIL {why}");
                    }
                }
            }
        }
    }
    server.stop()?;
    std::fs::remove_dir_all(&scratch)?;
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0 && passed > 0)
}

fn json_files(directory: &Path) -> Result<Vec<std::path::PathBuf>> {
    let entries = std::fs::read_dir(directory)
        .with_context(|| format!("list the cases in {}", directory.display()))?;
    let mut paths: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    Ok(paths)
}

/// Runs the cases of a test that the file names, or all of them where it names none.
fn run_test(sender: &mut Sender, test: &Value) -> Result<Vec<(String, Outcome)>> {
    let name = test["name"].as_str().context("a test without a name")?;
    let wanted: Vec<&str> =
        test["cases"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let Some(cases) = cases_of(name) else {
        let why = "this test is not known here".to_owned();
        return Ok(vec![(name.to_owned(), Outcome::Failed(why))]);
    };
    let mut results = Vec::new();
    for case in wanted.iter().filter(|case| !cases.iter().any(|known| known.name == **case)) {
        let why = "this case is not known here".to_owned();
        results.push((format!("{name}/{case}"), Outcome::Failed(why)));
    }
    for case in cases.iter().filter(|case| wanted.is_empty() || wanted.contains(&case.name)) {
        let shown = format!("{name}/{}{}", case.name, case.variant);
        let outcome = match sender.run(case) {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        results.push((shown, outcome));
    }
    Ok(results)
}

struct Sender {
    client: Client,
    last_ms: i64,
}

impl Sender {
    fn run(&mut self, case: &Case) -> Result<Outcome> {
        // Each request has a time of its own, so that none repeats a sample of another.
        let t_ms = now_ms().max(self.last_ms + 1);
        self.last_ms = t_ms;
        let answer = self.send(case, t_ms)?;
        let outcome = judge(case, &answer);
        if case.wanted.status == 204 && !matches!(outcome, Outcome::Failed(_)) {
            self.look_for(case, t_ms)?;
        }
        Ok(outcome)
    }

    fn send(&self, case: &Case, t_ms: i64) -> Result<Response> {
        let (mut body, content_type, version) = match case.encoding {
            Encoding::One => {
                let body = case.series.iter().fold(WriteBody::new(), |body, series| {
                    let samples: Vec<_> = series
                        .body(t_ms)
                        .samples
                        .iter()
                        .map(|&(t_ms, value, _)| (t_ms, value))
                        .collect();
                    body.series(&series.labels, &samples)
                });
                (body.snappy(), "application/x-protobuf", None)
            }
            Encoding::Two => {
                let kind = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
                (case.body(t_ms).snappy(), kind, Some("2.0.0"))
            }
        };
        if let Some(first) = case.first_byte {
            body[0] = first;
        }
        let mut headers = vec![
            ("Content-Type", case.content_type.unwrap_or(content_type)),
            ("Content-Encoding", case.content_encoding.unwrap_or("snappy")),
        ];
        headers.extend(version.map(|version| ("X-Prometheus-Remote-Write-Version", version)));
        self.client.post("/api/v1/write", &headers, &body)
    }

    /// What was acknowledged can be read: each float at its time, each histogram's count, each
    /// exemplar.
    fn look_for(&self, case: &Case, t_ms: i64) -> Result<()> {
        for series in &case.series {
            let body = series.body(t_ms);
            let matchers: Vec<String> = body
                .labels
                .iter()
                .map(|(name, value)| format!("{}={}", quoted(name), quoted(value)))
                .collect();
            let selector = format!("{{{}}}", matchers.join(","));
            let at = |t_ms: i64| format!("{}.{:03}", t_ms / 1_000, t_ms % 1_000);
            for &(t_ms, value, _) in &body.samples {
                let time = at(t_ms);
                let form = [("query", selector.as_str()), ("time", time.as_str())];
                let data = self.client.data("/api/v1/query", &form)?;
                let text = value_of(&data, body.labels.len());
                if value.to_bits() == STALE_NAN_BITS {
                    ensure!(text.is_none(), "{selector} is stale and has {text:?}");
                    continue;
                }
                let text = text.with_context(|| format!("{selector} has nothing at {time}"))?;
                let found: f64 = text.parse().with_context(|| format!("{selector}: {text}"))?;
                ensure!(
                    found == value || found.is_nan() && value.is_nan(),
                    "{selector} has {found} at {time}, not {value}"
                );
            }
            for histogram in &body.histograms {
                let time = at(histogram.t_ms);
                let query = format!("histogram_count({selector})");
                let form = [("query", query.as_str()), ("time", time.as_str())];
                let data = self.client.data("/api/v1/query", &form)?;
                // The function leaves the name out.
                let found = value_of(&data, body.labels.len() - 1);
                let wanted = histogram.count.to_string();
                ensure!(found == Some(&wanted), "{query} is {found:?}, not {wanted}");
            }
            for exemplar in &body.exemplars {
                let time = at(exemplar.t_ms);
                let form = [("query", selector.as_str()), ("start", &time), ("end", &time)];
                let data = self.client.data("/api/v1/query_exemplars", &form)?;
                ensure!(
                    has_exemplar(&data, &body.labels, exemplar),
                    "{selector} has no exemplar {exemplar:?}: {data}"
                );
            }
        }
        Ok(())
    }
}

/// The value of the series that has so many labels: a selector also finds series with more.
fn value_of(data: &Value, labels: usize) -> Option<&str> {
    let mut series = data["result"].as_array()?.iter();
    let exact =
        series.find(|series| series["metric"].as_object().is_some_and(|m| m.len() == labels))?;
    exact["value"][1].as_str()
}

/// Whether the answer has the exemplar, among those of the series with just these labels.
fn has_exemplar(data: &Value, series: &[(String, String)], wanted: &Exemplar2) -> bool {
    let is_same = |labels: &Value, pairs: &[(String, String)]| {
        // An empty value is no label.
        let pairs: Vec<_> = pairs.iter().filter(|(_, value)| !value.is_empty()).collect();
        labels.as_object().is_some_and(|labels| {
            labels.len() == pairs.len()
                && pairs
                    .iter()
                    .all(|(name, value)| labels.get(name) == Some(&value.as_str().into()))
        })
    };
    let says_so = |found: &Value| {
        let value = found["value"].as_str().and_then(|value| value.parse::<f64>().ok());
        let is_value =
            |value: f64| value == wanted.value || value.is_nan() && wanted.value.is_nan();
        let t_ms = found["timestamp"].as_f64().map(|seconds| (seconds * 1_000.0).round() as i64);
        is_same(&found["labels"], &wanted.labels)
            && value.is_some_and(is_value)
            && t_ms == Some(wanted.t_ms)
    };
    let of_series = |one: &&Value| is_same(&one["seriesLabels"], series);
    let found = data.as_array().into_iter().flatten().find(of_series);
    found.and_then(|one| one["exemplars"].as_array()).is_some_and(|all| all.iter().any(says_so))
}

/// A string of PromQL.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn judge(case: &Case, answer: &Response) -> Outcome {
    let count = |what: &str| {
        let name = format!("x-prometheus-remote-write-{what}-written");
        answer.header(&name).map(|value| value.parse::<u64>().unwrap_or(u64::MAX))
    };
    let Wanted { status, samples, histograms, exemplars } = case.wanted;
    let found = [count("samples"), count("histograms"), count("exemplars")];
    let told = || {
        format!(
            "answered {} with {found:?} written, expected {status} with {samples}, {histograms}, \
             {exemplars}: {}",
            answer.status,
            answer.text()
        )
    };
    let is_two = case.encoding == Encoding::Two && case.content_type.is_none();
    if answer.status != status || is_two != found.iter().all(Option::is_some) {
        return Outcome::Failed(told());
    }
    let [found_samples, found_histograms, found_exemplars] = found.map(Option::unwrap_or_default);
    if (found_samples, found_histograms, found_exemplars) == (samples, histograms, exemplars) {
        Outcome::Passed
    } else {
        Outcome::Failed(told())
    }
}
