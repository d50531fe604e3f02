//! Bad inputs that nobody sends but that the program fetches or reads: what targets and discovery
//! answer to it, and its configuration. Each with the verdict of its source.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::corpus::{ABSENT, Case, PROTOBUF, cases, root};
use crate::harness::{Launch, Scratch};

/// What a target says about its body: protocol of the cases, type, encoding.
const BODIES: &[(&str, &str, &str)] = &[
    ("prom-text", "text/plain; version=0.0.4", "identity"),
    ("openmetrics", "application/openmetrics-text; version=1.0.0", "identity"),
    ("prom-protobuf", PROTOBUF, "identity"),
    ("gzip", "text/plain; version=0.0.4", "gzip"),
    ("zstd", "text/plain; version=0.0.4", "zstd"),
    ("discovery-targets", "application/json", "identity"),
    ("json", "application/json", "identity"),
];

/// Longest that all targets may take to be scraped once.
const PATIENCE: Duration = Duration::from_secs(60);
const MEMORY_BYTES: u64 = 320 << 20;

/// One case as a target or a discovery server answers it.
struct Answer {
    protocol: &'static str,
    head: String,
    case: Case,
}

impl Answer {
    fn is_discovery(&self) -> bool {
        self.head.contains("application/json")
    }
}

/// Every case of an exposition is a target's answer, every list of targets a discovery server's.
pub(super) fn scraped(scratch: &Scratch) -> Result<String> {
    let Some(root) = root() else { return Ok(ABSENT.to_owned()) };
    let mut answers = Vec::new();
    for &(protocol, kind, encoding) in BODIES {
        for case in cases(&root, protocol)? {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Encoding: {encoding}\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n",
                case.bytes.len()
            );
            answers.push(Answer { protocol, head, case });
        }
    }
    let answers = Arc::new(answers);
    let address = serve(Arc::clone(&answers))?;
    let mut yaml = "global: {scrape_interval: 2s, scrape_timeout: 2s, body_size_limit: 32MB}\n\
                    scrape_configs:\n"
        .to_owned();
    for (number, answer) in answers.iter().enumerate() {
        yaml.push_str(&format!("- job_name: '{number}'\n"));
        yaml.push_str(&if answer.is_discovery() {
            format!("  http_sd_configs: [{{url: 'http://{address}/{number}'}}]\n")
        } else {
            format!("  metrics_path: /{number}\n  static_configs: [{{targets: ['{address}']}}]\n")
        });
    }
    let file = scratch.join("prometheus.yml");
    std::fs::write(&file, yaml)?;
    let server = Launch::broker(&scratch.join("data"))
        .arguments(&["--prometheus-config", file.to_str().context("a path in UTF-8")?])
        .start()?;
    let client = server.client();
    let before = server.peak_resident_bytes()?;
    let begin = Instant::now();
    let active = loop {
        let data = client.get_data("/api/v1/targets?state=active")?;
        let active = data["activeTargets"].as_array().context("no targets")?.clone();
        if active.iter().all(|target| target["health"] != "unknown") && !active.is_empty() {
            break active;
        }
        ensure!(begin.elapsed() < PATIENCE, "not every target was scraped in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(200));
    };
    let mut wrong = Vec::new();
    let (mut up, mut down) = (0, 0);
    for target in &active {
        let number: usize = target["scrapePool"].as_str().unwrap_or_default().parse()?;
        let answer = &answers[number];
        let is_up = target["health"] == "up";
        *(if is_up { &mut up } else { &mut down }) += 1;
        if let Some(fault) = disagrees(answer, is_up, &target["lastError"]) {
            wrong.push(fault);
        }
    }
    ensure!(wrong.is_empty(), "{} verdicts differ:\n{}", wrong.len(), wrong.join("\n"));
    let grown = server.peak_resident_bytes()?.saturating_sub(before);
    ensure!(grown < MEMORY_BYTES, "the cases cost {} MiB of memory", grown >> 20);
    let said = server.stderr();
    ensure!(!said.contains("panicked"), "{said}");
    server.stop()?;
    let discovered = answers.iter().filter(|answer| answer.is_discovery()).count();
    Ok(format!("{up} scrapes taken, {down} refused, {discovered} answers of discovery"))
}

/// What is wrong with the outcome of a scrape, if anything is.
fn disagrees(answer: &Answer, is_up: bool, error: &Value) -> Option<String> {
    let Case { name, expect, source, .. } = &answer.case;
    // VictoriaMetrics' dialect is stricter in some places and laxer in others.
    let is_other_dialect = answer.protocol == "prom-text" && source.starts_with("VictoriaMetrics");
    let fits = match expect.as_str() {
        "accept" => is_up,
        // Prometheus' scraper takes no bytes at all for no samples, whatever the format demands.
        "reject" => !is_up || answer.case.bytes.is_empty(),
        // Labels beyond the store's limits are refused series by series, behind the scrape.
        _ => true,
    };
    let is_told = is_up || error.as_str().is_some_and(|error| !error.is_empty());
    let is_right = (fits || is_other_dialect) && is_told;
    (!is_right).then(|| format!("{} {name}: {expect}, up {is_up}: {error}", answer.protocol))
}

fn serve(answers: Arc<Vec<Answer>>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answers = Arc::clone(&answers);
            // Whoever has seen enough hangs up.
            std::thread::spawn(move || answer(stream, &answers));
        }
    });
    Ok(address)
}

fn answer(stream: TcpStream, answers: &[Answer]) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let number = head.split(['/', ' ', '?']).find_map(|word| word.parse::<usize>().ok());
    let Some(answer) = number.and_then(|number| answers.get(number)) else { return Ok(()) };
    let mut stream = reader.into_inner();
    stream.write_all(answer.head.as_bytes())?;
    stream.write_all(&answer.case.bytes)
}

/// Every configuration on reload: refused if its source refuses it, and then the one before stays.
pub(super) fn configured(scratch: &Scratch) -> Result<String> {
    let Some(root) = root() else { return Ok(ABSENT.to_owned()) };
    let file = scratch.join("prometheus.yml");
    std::fs::write(&file, GOOD)?;
    let server = Launch::broker(&scratch.join("data"))
        .arguments(&["--prometheus-config", file.to_str().context("a path in UTF-8")?])
        .start()?;
    let client = server.client();
    let (mut counts, mut wrong) = (Vec::new(), Vec::new());
    for (protocol, before, indent) in [
        ("prometheus-config", "", ""),
        ("http-client-config", "scrape_configs:\n- job_name: a\n", "  "),
        ("auth-config", "scrape_configs:\n- job_name: a\n", "  "),
        ("alert-rules", "", ""),
        ("alertmanager-config", "", ""),
        ("streamaggr-config", "", ""),
    ] {
        let cases = cases(&root, protocol)?;
        let mut refused = 0;
        for case in &cases {
            let mut yaml = before.as_bytes().to_vec();
            for line in case.bytes.split_inclusive(|byte| *byte == b'\n') {
                yaml.extend_from_slice(indent.as_bytes());
                yaml.extend_from_slice(line);
            }
            std::fs::write(&file, &yaml)?;
            let answer = client.post("/-/reload", &[], &[])?;
            let is_refused = answer.status == 500;
            ensure!(is_refused || answer.status == 200, "{} was {}", case.name, answer.status);
            refused += usize::from(is_refused);
            // Only Prometheus' own files are judged as wholes; the others are parts of files, or
            // files of other programs, which must only do no harm. What promtool alone finds is a
            // mistake here, which `watchfire check` tells, and files that name others are refused
            // for what is in those.
            let is_whole = ["scrape_config_files", "cmd/promtool"];
            let is_whole = !is_whole.iter().any(|part| case.source.contains(part));
            let is_judged = protocol == "prometheus-config" && case.expect == "reject" && is_whole;
            if is_judged && !is_refused {
                wrong.push(format!("{protocol} {} ({}) is taken", case.name, case.source));
            }
            if is_refused {
                ensure!(!answer.body.is_empty(), "{} is refused without a reason", case.name);
            }
        }
        counts.push(format!("{refused} of {} {protocol}", cases.len()));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    std::fs::write(&file, GOOD)?;
    let answer = client.post("/-/reload", &[], &[])?;
    ensure!(answer.status == 200, "a good file is refused afterwards: {}", answer.text());
    let pools = client.get_data("/api/v1/scrape_pools")?;
    ensure!(pools["scrapePools"] == serde_json::json!(["good"]), "{pools}");
    let said = server.stderr();
    ensure!(!said.contains("panicked"), "{said}");
    server.stop()?;
    Ok(format!("refused {}", counts.join(", ")))
}

const GOOD: &str = "scrape_configs:\n- job_name: good\n";
