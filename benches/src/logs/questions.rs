//! What is asked: of the server, of VictoriaLogs, and of ripgrep over the same lines as files.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::corpus::{Form, RARE, request_id, user};
use super::push::Corpus;
use crate::http::url_encode;
use crate::server::{Kind, Server};

/// Runs of each question; the median counts.
const RUNS: usize = 5;
const SCANS: usize = 3;

/// One question.
pub(super) struct Question {
    pub(super) name: &'static str,
    query: String,
    /// The same in LogsQL. VictoriaLogs takes lines of JSON apart when they are pushed, so what is in them is asked
    /// for by field.
    logsql: String,
    /// Lines that are asked for; `None` for numbers.
    limit: Option<usize>,
    /// Arguments of a ripgrep that finds the same, or reads the same and finds what it can.
    scan: Vec<String>,
    /// What ripgrep reads.
    of: Option<Form>,
    /// Whether ripgrep counts what the answer has.
    is_counted: bool,
}

/// What a question cost.
pub(super) struct Asked {
    pub(super) p50_ms: f64,
    pub(super) first_ms: f64,
    pub(super) cpu_ms: f64,
    /// Bytes that the first asking read of files, from the disk or its cache.
    pub(super) read_bytes: u64,
    /// Lines, or the sum of all values.
    pub(super) found: f64,
}

pub(super) fn all(corpora: &[Corpus]) -> Vec<Question> {
    let mut all = Vec::new();
    for corpus in corpora {
        all.extend(of(corpus.form, corpus.lines));
    }
    all
}

fn of(form: Form, lines: u64) -> Vec<Question> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let middle = lines / 2;
    match form {
        Form::Json => {
            let id = request_id(middle);
            let who = format!("u-{}", user(middle | 1));
            vec![
                Question {
                    name: "needle: one line by an id, over everything",
                    query: format!("{{job=~\".+\"}} |= \"{id}\""),
                    logsql: format!("request_id:={id}"),
                    limit: Some(100),
                    scan: words(&["--count", "--fixed-strings", &id]),
                    of: None,
                    is_counted: true,
                },
                Question {
                    name: "rare word, over everything",
                    query: "{job=~\".+\"} |= \"inventory-backend\"".to_owned(),
                    logsql: "message:\"inventory-backend\"".to_owned(),
                    limit: Some(lines.div_ceil(RARE) as usize + 1),
                    scan: words(&["--count", "--fixed-strings", "inventory-backend"]),
                    of: None,
                    is_counted: true,
                },
                Question {
                    name: "level | json, one user",
                    query: format!("{{job=\"json\"}} | json user=\"user_id\" | user=\"{who}\""),
                    logsql: format!("{{job=\"json\"}} user_id:={who}"),
                    limit: Some(5_000),
                    scan: words(&["--count", "--fixed-strings", &format!("\"user_id\":\"{who}\"")]),
                    of: Some(form),
                    is_counted: true,
                },
                Question {
                    name: "sum by (detected_level) (count_over_time), all json",
                    query: "sum by (detected_level) (count_over_time({job=\"json\"}[6m]))".to_owned(),
                    logsql: "{job=\"json\"} | stats by (_time:6m, level) count() n".to_owned(),
                    limit: None,
                    scan: words(&["--count", "\"level\":\"(error|warn|info|debug)\""]),
                    of: Some(form),
                    is_counted: true,
                },
            ]
        }
        Form::Nginx => vec![
            Question {
                name: "newest 100 with a common word",
                query: "{job=\"nginx\"} |= \"GET\"".to_owned(),
                logsql: "{job=\"nginx\"} GET".to_owned(),
                limit: Some(100),
                scan: words(&["--count", "--max-count=100", "--fixed-strings", "GET"]),
                of: Some(form),
                is_counted: true,
            },
            Question {
                name: "regex: |~ \"/orders/4[0-9]{4} .* 50[02] \"",
                query: "{job=\"nginx\"} |~ \"/orders/4[0-9]{4} .* 50[02] \"".to_owned(),
                logsql: "{job=\"nginx\"} ~\"/orders/4[0-9]{4} .* 50[02] \"".to_owned(),
                limit: Some(5_000),
                scan: words(&["--count", "/orders/4[0-9]{4} .* 50[02] "]),
                of: Some(form),
                is_counted: false,
            },
            Question {
                name: "topk(10) by address of | pattern",
                query: "topk(10, sum by (ip) (count_over_time({job=\"nginx\"} | pattern `<ip> - - <_>` [6h])))"
                    .to_owned(),
                logsql: "{job=\"nginx\"} | extract \"<ip> - - \" | stats by (ip) count() n | sort by (n desc) limit 10"
                    .to_owned(),
                limit: None,
                scan: words(&["--no-line-number", "--only-matching", "^[0-9.]+"]),
                of: Some(form),
                is_counted: false,
            },
        ],
        Form::Logfmt => vec![
            Question {
                name: "quantile 0.99 of | logfmt | unwrap duration",
                query: "quantile_over_time(0.99, {job=\"logfmt\"} |= \"component=gateway\" | logfmt duration | unwrap duration(duration) [6m]) by ()"
                    .to_owned(),
                logsql: "{job=\"logfmt\"} \"component=gateway\" | unpack_logfmt fields (duration) | stats by (_time:6m) quantile(0.99, duration) n"
                    .to_owned(),
                limit: None,
                scan: words(&["--no-line-number", "--only-matching", "component=gateway.* duration=([0-9.]+)ms"]),
                of: Some(form),
                is_counted: false,
            },
            Question {
                name: "level=error, newest 1,000",
                query: "{job=\"logfmt\"} | detected_level=\"error\"".to_owned(),
                logsql: "{job=\"logfmt\"} \"level=error\"".to_owned(),
                limit: Some(1_000),
                scan: words(&["--count", "--max-count=1000", "--fixed-strings", "level=error"]),
                of: Some(form),
                is_counted: true,
            },
        ],
        Form::Syslog => vec![Question {
            name: "count of a phrase per 6 min",
            query: "sum(count_over_time({job=\"syslog\"} |= \"Failed password\" [6m]))".to_owned(),
            logsql: "{job=\"syslog\"} \"Failed password\" | stats by (_time:6m) count() n".to_owned(),
            limit: None,
            scan: words(&["--count", "--fixed-strings", "Failed password"]),
            of: Some(form),
            is_counted: true,
        }],
    }
}

impl Question {
    /// Asks the server for the time from `start_ns` to `end_ns`.
    pub(super) fn ask(&self, server: &Server, (start_ns, end_ns): (i64, i64)) -> Result<Asked> {
        let is_peer = server.kind == Kind::VictoriaLogs;
        let query = url_encode(if is_peer { &self.logsql } else { &self.query });
        let path = match self.limit {
            limit if is_peer => {
                // Without a limit all are yielded, in no order.
                let limit = limit.map_or(String::new(), |limit| format!("&limit={limit}"));
                format!("/select/logsql/query?query={query}{limit}&start={start_ns}&end={end_ns}")
            }
            Some(limit) => format!(
                "/loki/api/v1/query_range?query={query}&limit={limit}&start={start_ns}&end={end_ns}"
            ),
            // Steps as long as windows, so that each line counts once.
            None => {
                let step = if self.query.contains("[6h]") { 21_600 } else { 360 };
                format!(
                    "/loki/api/v1/query_range?query={query}&step={step}&start={}&end={end_ns}",
                    start_ns + step * 1_000_000_000
                )
            }
        };
        let mut client = server.client()?;
        let (cpu, read) = (server.cpu_seconds()?, server.read_bytes()?);
        let (mut times, mut found, mut read_bytes) = (Vec::new(), 0.0, 0);
        for run in 0..RUNS {
            let started = Instant::now();
            let body = client.get(&path)?.successful().with_context(|| self.query.clone())?;
            times.push(started.elapsed().as_secs_f64() * 1e3);
            if run == 0 {
                read_bytes = server.read_bytes()? - read;
                found = if is_peer { total_of_rows(&body)? } else { total(&body)? };
            }
        }
        let cpu_ms = (server.cpu_seconds()? - cpu) * 1e3 / RUNS as f64;
        let first_ms = times[0];
        times.sort_by(f64::total_cmp);
        Ok(Asked { p50_ms: times[RUNS / 2], first_ms, cpu_ms, read_bytes, found })
    }

    /// Milliseconds of ripgrep over the files, which are in the page cache, and what it counts.
    pub(super) fn scan(&self, files: &[(Form, PathBuf)]) -> Result<(f64, f64)> {
        let files: Vec<&Path> = files
            .iter()
            .filter(|(form, _)| self.of.is_none_or(|only| only == *form))
            .map(|(_, file)| file.as_path())
            .collect();
        let mut times = Vec::new();
        let mut found = 0.0;
        for _ in 0..SCANS {
            let started = Instant::now();
            let output = Command::new("rg")
                .args(["--no-config", "--no-filename"])
                .args(&self.scan)
                .args(&files)
                .stdin(Stdio::null())
                .output()
                .context("start rg: install Debian's package ripgrep (apt-get install ripgrep)")?;
            times.push(started.elapsed().as_secs_f64() * 1e3);
            // 1: nothing found.
            ensure!(output.status.code().is_some_and(|code| code < 2), "rg: {:?}", output);
            let counts = output.stdout.split(|byte| *byte == b'\n');
            found = counts
                .filter_map(|count| std::str::from_utf8(count).ok()?.parse::<f64>().ok())
                .sum();
        }
        times.sort_by(f64::total_cmp);
        Ok((times[SCANS / 2], found))
    }

    /// # Errors
    /// The server found something else than ripgrep.
    pub(super) fn compare(&self, found: f64, scanned: f64) -> Result<()> {
        let most = self.limit.map_or(f64::INFINITY, |limit| limit as f64);
        if self.is_counted && found != scanned.min(most) {
            bail!("{}: {found} found, and {scanned} by ripgrep: {}", self.name, self.query);
        }
        Ok(())
    }
}

/// Lines of an answer in JSON lines, or the sum of its values.
fn total_of_rows(body: &[u8]) -> Result<f64> {
    let mut total = 0.0;
    for row in body.split(|byte| *byte == b'\n').filter(|row| !row.is_empty()) {
        let row: Value = serde_json::from_slice(row).context("a row is no JSON")?;
        let number = row["n"].as_str().map(|n| n.parse::<f64>().unwrap_or(f64::NAN));
        total += number.unwrap_or(1.0);
    }
    Ok(total)
}

/// Lines of an answer, or the sum of its values.
fn total(body: &[u8]) -> Result<f64> {
    let answer: Value = serde_json::from_slice(body).context("the answer is no JSON")?;
    let data = &answer["data"];
    let results = data["result"].as_array().context("the answer has no result")?;
    let is_streams = data["resultType"] == "streams";
    let mut total = 0.0;
    for values in results.iter().filter_map(|one| one["values"].as_array()) {
        if is_streams {
            total += values.len() as f64;
            continue;
        }
        for value in values {
            let value = value[1].as_str().context("a sample has no value")?;
            total += value.parse::<f64>().context("a value is no number")?;
        }
    }
    Ok(total)
}
