//! Prometheus and we scrape the same targets by the same file, and then both hold the same.
//!
//! A target's answer depends on how often the one who asks has asked before. So the n-th scrape of
//! either finds the same, and what each of them holds just behind its n-th scrape is compared:
//! series, labels, values, and which of them have ended.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::peer::Scraper;
use crate::harness::{Client, Launch, Scratch, now_ms};

/// Scrapes that are compared.
const SCRAPES: usize = 6;
/// How far behind a scrape both are asked; scrapes are a second apart.
const BEHIND_MS: i64 = 400;

/// What a target answers, scrape by scrape; the last answer stays.
struct Script {
    job: &'static str,
    /// More keys of the job.
    keys: &'static str,
    answers: &'static [Answer],
}

#[derive(Clone, Copy)]
enum Answer {
    Text(&'static str),
    /// `NOW` stands for a time three seconds ago.
    Stamped(&'static str),
    OpenMetrics(&'static str),
    Gzip(&'static str),
    Status(u16),
    /// Says nothing and closes.
    Nothing,
}

use Answer::{Gzip, Nothing, OpenMetrics, Stamped, Status, Text};

const SCRIPTS: &[Script] = &[
    Script {
        job: "come-and-go",
        keys: "",
        answers: &[
            Text("a 1\nb{x=\"1\"} 2\n"),
            Text("b{x=\"1\"} 3\nc NaN\n"),
            Text("c +Inf\n"),
            Text(""),
            Text("a 4\nb{x=\"1\"} 5\nb{x=\"2\"} 6\n"),
        ],
    },
    Script {
        job: "fail-and-return",
        keys: "",
        answers: &[
            Text("a 1\nb 2\n"),
            Status(500),
            Text("a 3\n"),
            Nothing,
            Text("a{ 4\n"),
            Text("a 5\nb 6\n"),
        ],
    },
    Script {
        job: "conflicts",
        keys: "",
        answers: &[Text(
            "a{job=\"mine\",instance=\"here\",exported_job=\"too\"} 1\nb{team=\"\"} 2\nc{le=\"1\"} 3\n\
             d{exported_team=\"1\",team=\"2\",exported_exported_team=\"3\"} 4\n",
        )],
    },
    Script {
        job: "honor-labels",
        keys: "  honor_labels: true",
        answers: &[Text(
            "a{job=\"mine\",instance=\"\"} 1\nb{team=\"theirs\"} 2\nc{instance=\"i\"} 3\n",
        )],
    },
    Script {
        job: "sample-limit",
        keys: "  sample_limit: 2",
        answers: &[Text("a 1\nb 2\n"), Text("c 1\nd 2\ne 3\n"), Text("a 3\n")],
    },
    Script {
        job: "label-limits",
        keys: "  label_limit: 4\n  label_name_length_limit: 10\n  label_value_length_limit: 30",
        answers: &[
            Text("a{x=\"1\"} 1\n"),
            Text("a{x=\"1\",y=\"2\"} 1\n"),
            Text("a{long_long_long=\"1\"} 1\n"),
            Text("a{x=\"0123456789012345678901234567890123456789\"} 1\n"),
            Text("a 2\n"),
        ],
    },
    Script {
        job: "body-limit",
        keys: "  body_size_limit: 20B",
        answers: &[
            Text("a 1\n"),
            Text("a 1\nb 2\nc 3\nd 4\ne 5\n"),
            Gzip("a 1\n"),
            Gzip("a 1\nb 2\nc 3\nd 4\ne 5\n"),
            Text("a 2\n"),
        ],
    },
    Script {
        job: "metric-relabel",
        keys: "  metric_relabel_configs:
  - {source_labels: [__name__], regex: 'drop_.*', action: drop}
  - {source_labels: [__name__], regex: 'old_(.*)', target_label: __name__, replacement: 'new_$1'}
  - {source_labels: [path], regex: '/([^/]*).*', target_label: root}
  - {regex: path, action: labeldrop}
  - {source_labels: [root], modulus: 7, target_label: shard, action: hashmod}
  - {regex: 'q(.*)', replacement: 'r$1', action: labelmap}
  - {source_labels: [qx], target_label: qx, action: uppercase}",
        answers: &[
            Text("drop_a 1\nold_b{path=\"/x/y\"} 2\nc{path=\"/x\",qx=\"low\"} 3\n"),
            Text("c{path=\"/x\",qx=\"low\"} 4\ndrop_a 1\nd{path=\"/1\"} 1\n"),
            Text("d{path=\"/1/a\"} 7\nd{path=\"/2/b\"} 8\n"),
        ],
    },
    Script {
        job: "timestamps",
        keys: "",
        answers: &[
            Stamped("a 1 NOW\nb 1\n"),
            Stamped("a 2 NOW\nb 2\n"),
            Stamped("b 3\n"),
            Stamped("b 4\n"),
        ],
    },
    Script {
        job: "no-timestamps",
        keys: "  honor_timestamps: false",
        answers: &[Stamped("a 1 NOW\n"), Stamped("a 2 NOW\n"), Text("b 3\n")],
    },
    Script {
        job: "repeated",
        keys: "",
        answers: &[Text("a 1\na 2\nb{x=\"1\",y=\"2\"} 1\n"), Text("b{y=\"2\",x=\"1\"} 2\na 1\n")],
    },
    Script {
        job: "openmetrics",
        keys: "",
        answers: &[
            OpenMetrics(
                "# TYPE a counter\n# HELP a It counts.\na_total 1 # {t=\"x\"} 1\na_created 5\n# EOF\n",
            ),
            OpenMetrics("# TYPE s stateset\ns{s=\"on\"} 1\ns{s=\"off\"} 0\n# EOF\n"),
            OpenMetrics("a_total 3\n"),
            OpenMetrics("# TYPE a counter\na_total 4\n# EOF\n"),
        ],
    },
    Script {
        job: "escapes",
        keys: "",
        answers: &[Gzip("a{x=\"q\\\"b\\\\s\\nn\",y=\"é\"} 1\n# HELP a b\na{z=\"1\"} 2\n")],
    },
];

pub(super) fn same_scrapes(scratch: &Scratch) -> Result<String> {
    let targets = Targets::start()?;
    let file = scratch.join("prometheus.yml");
    std::fs::write(&file, configuration(targets.address))?;
    let file = file.to_str().context("a path in UTF-8")?;
    let server =
        Launch::broker(&scratch.join("data")).arguments(&["--prometheus-config", file]).start()?;
    let prometheus = Scraper::start(scratch, file)?;
    let (ours, theirs) = (server.client(), prometheus.client);
    let begin = Instant::now();
    let scraped = |client: &Client| -> Result<BTreeMap<String, Vec<i64>>> { scrape_times(client) };
    loop {
        let done = |times: &BTreeMap<String, Vec<i64>>| {
            times.len() == SCRIPTS.len() + 1 && times.values().all(|times| times.len() > SCRAPES)
        };
        if done(&scraped(&ours)?) && done(&scraped(&theirs)?) {
            break;
        }
        ensure!(begin.elapsed() < Duration::from_secs(40), "not all targets are scraped");
        std::thread::sleep(Duration::from_millis(300));
    }
    let (our_times, their_times) = (scraped(&ours)?, scraped(&theirs)?);
    let (mut compared, mut wrong) = (0, Vec::new());
    for job in our_times.keys() {
        for scrape in 0..SCRAPES {
            let a = held(&ours, job, our_times[job][scrape])?;
            let b = held(&theirs, job, their_times[job][scrape])?;
            compared += b.len();
            wrong.extend(differences(&a, &b).map(|line| format!("{job} #{}: {line}", scrape + 1)));
        }
    }
    ensure!(wrong.is_empty(), "{} differ:\n  {}", wrong.len(), wrong.join("\n  "));
    same_targets(&ours, &theirs)?;
    drop(prometheus);
    server.stop()?;
    Ok(format!("{} jobs, {SCRAPES} scrapes each, {compared} samples", our_times.len()))
}

fn configuration(targets: SocketAddr) -> String {
    let mut yaml =
        "global: {scrape_interval: 1s, scrape_timeout: 900ms}\nscrape_configs:\n".to_owned();
    for script in SCRIPTS {
        let (job, keys) = (script.job, script.keys);
        yaml.push_str(&format!(
            "- job_name: {job}\n  metrics_path: /{job}\n{keys}\n  \
             static_configs: [{{targets: ['{targets}'], labels: {{team: t}}}}]\n"
        ));
    }
    yaml.push_str(&format!(
        "- job_name: found
  metrics_path: /come-and-go
  params: {{who: [found, again]}}
  http_sd_configs: [{{url: 'http://{targets}/sd', refresh_interval: 1s}}]
  relabel_configs:
  - {{source_labels: [__meta_zone], target_label: zone}}
  - {{source_labels: [__address__], regex: 'drop.*', action: drop}}
  - {{target_label: __param_extra, replacement: 'x y'}}
  - {{source_labels: [__meta_url], regex: 'http://(.*):.*', target_label: found_by}}
"
    ));
    yaml
}

/// When each job was scraped, by the times of its `up`.
fn scrape_times(client: &Client) -> Result<BTreeMap<String, Vec<i64>>> {
    let data = client.data("/api/v1/query", &[("query", "up[2m]")])?;
    let mut times = BTreeMap::new();
    for series in data["result"].as_array().context("a matrix")? {
        let job = series["metric"]["job"].as_str().context("a job")?.to_owned();
        let points = series["values"].as_array().context("points")?;
        let times_of = points.iter().filter_map(|point| point[0].as_f64());
        times.insert(job, times_of.map(|time| (time * 1e3).round() as i64).collect());
    }
    Ok(times)
}

/// What is held of a target behind one of its scrapes: values by labels.
fn held(client: &Client, job: &str, scrape_ms: i64) -> Result<BTreeMap<String, String>> {
    let at_ms = scrape_ms + BEHIND_MS;
    let at = format!("{}.{:03}", at_ms / 1_000, at_ms % 1_000);
    // Labels of the target's own may hide those of the job; what it is known by does not change.
    let team = if job == "honor-labels" { "job=\"mine\"} or {" } else { "" };
    let query = format!("{{{team}job=\"{job}\",__name__!=\"scrape_duration_seconds\"}}");
    let data = client.data("/api/v1/query", &[("query", &query), ("time", &at)])?;
    let mut held = BTreeMap::new();
    for series in data["result"].as_array().context("a vector")? {
        let value = series["value"][1].as_str().context("a value")?.to_owned();
        let before = held.insert(series["metric"].to_string(), value);
        ensure!(before.is_none(), "{} comes twice", series["metric"]);
    }
    Ok(held)
}

fn differences<'a>(
    ours: &'a BTreeMap<String, String>,
    theirs: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = String> + 'a {
    let all: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    all.into_iter().filter_map(|labels| {
        let (a, b) = (ours.get(labels), theirs.get(labels));
        (a != b).then(|| format!("{labels} is {a:?} with us and {b:?} with Prometheus"))
    })
}

/// What both tell about their targets, as far as 2.42 tells it.
fn same_targets(ours: &Client, theirs: &Client) -> Result<()> {
    let told = |client: &Client| -> Result<BTreeMap<String, String>> {
        let answer: serde_json::Value =
            serde_json::from_slice(&client.get("/api/v1/targets")?.body)?;
        let mut told = BTreeMap::new();
        for target in answer["data"]["activeTargets"].as_array().context("a list")? {
            let mut discovered = target["discoveredLabels"].clone();
            let discovered = discovered.as_object_mut().context("labels")?;
            // Newer than 2.42.
            discovered.retain(|name, _| !name.contains("histograms"));
            let line = format!(
                "{} {} {discovered:?} {} {}",
                target["scrapeUrl"],
                target["labels"],
                target["scrapeInterval"],
                target["scrapeTimeout"]
            );
            told.insert(target["scrapePool"].to_string(), line);
        }
        Ok(told)
    };
    let (a, b) = (told(ours)?, told(theirs)?);
    ensure!(a == b, "targets differ: {a:#?} instead of {b:#?}");
    Ok(())
}

/// The targets: one port, a path for each.
struct Targets {
    address: SocketAddr,
}

/// How often who has asked for what.
type Turns = Arc<Mutex<BTreeMap<(bool, String), usize>>>;

impl Targets {
    /// Serves until the process ends.
    fn start() -> Result<Targets> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let turns: Turns = Arc::default();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let turns = Arc::clone(&turns);
                std::thread::spawn(move || {
                    // A scraper that goes away is its own affair.
                    let _ = serve(stream, address, &turns);
                });
            }
        });
        Ok(Targets { address })
    }
}

fn serve(mut stream: TcpStream, own: SocketAddr, turns: &Turns) -> Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().context("a request")??;
    let mut is_ours = false;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        is_ours |= line.starts_with("user-agent: watchfire");
        if line.is_empty() {
            break;
        }
    }
    let target = request.split(' ').nth(1).context("a target")?.to_owned();
    if target.starts_with("/sd") {
        let body = format!(
            "[{{\"targets\": [\"{own}\", \"drop:1\"], \"labels\": {{\"__meta_zone\": \"z\"}}}}]"
        );
        return Ok(respond(&mut stream, "200 OK", "application/json", "", body.as_bytes())?);
    }
    let turn = {
        let mut turns = turns.lock().expect("no thread panics with it");
        let turn = turns.entry((is_ours, target.clone())).or_default();
        *turn += 1;
        *turn - 1
    };
    let path = target.split('?').next().unwrap_or_default();
    let script = SCRIPTS.iter().find(|script| path[1..] == *script.job).context("a script")?;
    let answer = script.answers[turn.min(script.answers.len() - 1)];
    Ok(write_answer(&mut stream, answer)?)
}

fn write_answer(stream: &mut TcpStream, answer: Answer) -> std::io::Result<()> {
    let (ok, plain) = ("200 OK", "text/plain; version=0.0.4");
    match answer {
        Text(body) => respond(stream, ok, plain, "", body.as_bytes()),
        Stamped(body) => {
            let body = body.replace("NOW", &(now_ms() - 3_000).to_string());
            respond(stream, ok, plain, "", body.as_bytes())
        }
        OpenMetrics(body) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            respond(stream, ok, kind, "", body.as_bytes())
        }
        Gzip(body) => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(body.as_bytes())?;
            respond(stream, ok, plain, "Content-Encoding: gzip\r\n", &encoder.finish()?)
        }
        Status(code) => respond(stream, &format!("{code} Wrong"), plain, "", b"nothing here\n"),
        Nothing => Ok(()),
    }
}

fn respond(
    stream: &mut TcpStream,
    status: &str,
    content_type: &str,
    more: &str,
    body: &[u8],
) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{more}Content-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)
}
