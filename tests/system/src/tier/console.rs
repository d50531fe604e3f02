//! A console in a process of its own: it says what its broker says, says so when there is none, and
//! goes on by itself when there is one again.

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::kills::join_token;
use crate::harness::process::binary;
use crate::harness::remote_write_2::{Exemplar2, Series2};
use crate::harness::{
    Client, Launch, Scratch, Server, WriteBody, WriteBody2, free_address, now_ms,
};
use crate::live::websocket::WebSocket;

const PATIENCE: Duration = Duration::from_secs(10);

/// A broker at fixed addresses, and how consoles and agents get to it.
pub(super) struct Site {
    pub(super) launch: Launch,
    pub(super) broker: Server,
    peers: String,
}

impl Site {
    pub(super) fn start(scratch: &Scratch) -> Result<Site> {
        let data = scratch.join("broker/data");
        std::fs::create_dir_all(data.parent().expect("a directory of its own"))?;
        let (listen, peers) = (free_address()?.to_string(), free_address()?.to_string());
        let launch = Launch::broker(&data)
            .config("storage:\n  flush_interval: 500ms\n")
            .arguments(&["--listen", &listen, "--peer-listen", &peers]);
        let broker = launch.start()?;
        Ok(Site { launch, broker, peers })
    }

    pub(super) fn member(&self, scratch: &Scratch, role: &str) -> Result<Launch> {
        let data = scratch.join(role).join("data");
        std::fs::create_dir_all(data.parent().expect("a directory of its own"))?;
        let token = join_token(&scratch.join("broker/data"), role)?;
        let launch = if role == "agent" { Launch::agent(&data) } else { Launch::console(&data) };
        Ok(launch.arguments(&["--broker", &self.peers, "--join", &token]))
    }
}

pub(super) fn wait_until(what: &str, is_so: impl Fn() -> Result<bool>) -> Result<Duration> {
    let begin = Instant::now();
    while !is_so()? {
        ensure!(begin.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        sleep(Duration::from_millis(20));
    }
    Ok(begin.elapsed())
}

/// What a GET says, but for figures that are another each time.
fn said(client: &Client, path: &str) -> Result<(u16, String)> {
    let answer = client.get(path)?;
    Ok((answer.status, answer.text()))
}

pub(super) fn same_answers(scratch: &Scratch) -> Result<String> {
    let site = Site::start(scratch)?;
    let broker = site.broker.client();
    let end_ms = now_ms() / 1_000 * 1_000;
    let mut body = WriteBody::new();
    for series in 0..200_i64 {
        let number = series.to_string();
        let samples: Vec<(i64, f64)> = (0..120)
            .map(|step| (end_ms - (119 - step) * 15_000, ((series * step) % 97) as f64 / 3.0))
            .collect();
        body = body.series(&[("__name__", "load"), ("job", "j"), ("n", number.as_str())], &samples);
    }
    for series in ["a", "b"] {
        let samples: Vec<(i64, Vec<i64>)> = (1..60)
            .map(|step| (end_ms - (60 - step) * 15_000, vec![step, 2 * step, step / 2]))
            .collect();
        body = body.histograms(&[("__name__", "latency"), ("s", series)], &samples);
    }
    let answer = broker.write(&body.snappy())?;
    ensure!(answer.status == 204, "{}: {}", answer.status, answer.text());
    let answer = broker.write_2(&exemplars(end_ms).snappy())?;
    ensure!(answer.status == 204, "{}: {}", answer.status, answer.text());
    let agent = site.member(scratch, "agent")?.config("agent:\n  instance: web-1\n").start()?;
    let console = site.member(scratch, "console")?.start()?;
    let remote = console.client();
    wait_until("the agent's samples", || {
        let data = remote.data("/api/v1/query", &[("query", "node_load1")])?;
        Ok(data["result"].as_array().is_some_and(|found| !found.is_empty()))
    })?;
    let (start, end) = ((end_ms / 1_000 - 1_800).to_string(), (end_ms / 1_000).to_string());
    let mut compared = 0;
    for query in [
        "load",
        "sum by (job) (rate(load[2m]))",
        "topk(5, load)",
        "histogram_quantile(0.9, latency)",
        "latency",
        "quantile_over_time(0.5, load{n=~\"1.*\"}[5m])",
        "load offset 5m > 10",
        "count(load) or vector(0)",
        "max_over_time(load[5m:30s])",
    ] {
        let instant = [("query", query), ("time", &*end)];
        let range = [("query", query), ("start", &*start), ("end", &*end), ("step", "15")];
        for (path, form) in [("/api/v1/query", &instant[..]), ("/api/v1/query_range", &range[..])] {
            let (here, there) = (broker.envelope(path, form)?, remote.envelope(path, form)?);
            ensure!(here == there, "{query}: the broker says {here:?}, the console {there:?}");
            let is_some = here.1["data"]["result"].as_array().is_some_and(|all| !all.is_empty());
            ensure!(here.0 == 200 && is_some, "{query}: {here:?}");
            compared += 1;
        }
    }
    for path in [
        "/api/v1/label/n/values",
        "/api/v1/series?match[]=load&match[]=latency",
        "/api/v1/query_exemplars?query=rate(load[5m])",
        "/api/v1/query_exemplars?query=load{n=\"2\"}/latency",
        "/api/v1/query_exemplars?query=nothing",
        "/api/v1/metadata",
        "/api/v1/search/metric_names?search[]=lod&sort_by=score&include_score=true",
        "/api/v1/search/label_names?match[]=load",
        "/api/v1/search/label_values?label=n&search[]=1&limit=4",
        "/api/v1/completions?query=rate(lo",
        "/api/v1/completions?query=load%7Bn%3D%22",
        "/federate?match[]=load",
        "/api/v1/targets",
        "/api/v1/scrape_pools",
        "/api/v1/metrics",
    ] {
        let (here, there) = (said(&broker, path)?, said(&remote, path)?);
        ensure!(here == there && here.0 == 200, "{path}: {here:?} and {there:?}");
        compared += 1;
    }
    let agents: Value = serde_json::from_slice(&remote.get("/api/v1/agents")?.body)?;
    ensure!(agents["data"]["agents"][0]["connected"] == true, "{agents}");
    let mut socket = WebSocket::subscribe(&remote, "node_load1")?;
    let series = socket.expect("series", PATIENCE)?;
    ensure!(series["series"][0][1]["instance"] == "web-1", "{series}");
    for _ in 0..3 {
        socket.expect("samples", PATIENCE)?;
    }
    let write = remote.write(&body.snappy())?;
    ensure!(write.status == 501 && write.text().contains("Send to http://"), "{}", write.text());
    console.stop()?;
    agent.stop()?;
    site.broker.stop()?;
    Ok(format!("{compared} answers equal, live samples of an agent through the console"))
}

/// More exemplars of one series than are sent at once, and some of others.
fn exemplars(end_ms: i64) -> WriteBody2 {
    let owned = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let series = |n: i64, count: i64| Series2 {
        labels: vec![owned("__name__", "load"), owned("job", "j"), owned("n", &n.to_string())],
        exemplars: (0..count)
            .map(|number| Exemplar2 {
                labels: vec![owned("trace_id", &format!("{number:032x}"))],
                value: number as f64 / 7.0,
                t_ms: end_ms - count + number,
            })
            .collect(),
        ..Series2::default()
    };
    WriteBody2::new().series(&series(2, 1_300)).series(&series(1, 3)).series(&series(3, 1))
}

pub(super) fn outage(scratch: &Scratch) -> Result<String> {
    let site = Site::start(scratch)?;
    let agent = site.member(scratch, "agent")?.start()?;
    let mut console = site.member(scratch, "console")?.start()?;
    let remote = console.client();
    let ask = || remote.envelope("/api/v1/query", &[("query", "count(node_load1)")]);
    wait_until("samples", || Ok(ask()?.1["data"]["result"][0].is_object()))?;
    let mut socket = WebSocket::subscribe(&remote, "node_load1")?;
    let series = socket.expect("series", PATIENCE)?;
    let mut away = Duration::ZERO;
    let mut back = Duration::ZERO;
    let mut running = Some(site.broker);
    for _ in 0..3 {
        running.take().expect("it runs").kill()?;
        let begin = Instant::now();
        let (status, answer) = ask()?;
        let error = answer["error"].as_str().unwrap_or_default();
        ensure!(status == 503 && error.contains("no broker answers; tried 127."), "{answer}");
        away = away.max(begin.elapsed());
        wait_until("not to be ready", || Ok(remote.get("/-/ready")?.status == 503))?;
        ensure!(remote.get("/-/healthy")?.status == 200, "the console itself is well");
        let told = socket.expect("error", PATIENCE)?;
        let told = told["error"].as_str().unwrap_or_default().to_owned();
        ensure!(told.contains("does not answer"), "the live connection says {told:?}");
        running = Some(site.launch.start()?);
        let taken = wait_until("to be ready again", || {
            Ok(remote.get("/-/ready")?.status == 200 && ask()?.0 == 200)
        })?;
        back = back.max(taken);
        // The same connection goes on, and says that there is a hole.
        socket.expect("missed", PATIENCE)?;
        let samples = socket.expect("samples", PATIENCE)?;
        ensure!(
            samples["samples"][0][0] == series["series"][0][0],
            "the series keeps its number: {samples}"
        );
    }
    ensure!(console.is_running(), "the console was not restarted");
    ensure!(remote.metric("watchfire_console_subscription_restarts_total")? >= 3.0, "restarts");
    console.stop()?;
    agent.stop()?;
    running.take().expect("it runs").stop()?;
    Ok(format!(
        "3 brokers killed: an error within {} ms, well within {} ms of the broker's return",
        away.as_millis(),
        back.as_millis()
    ))
}

/// A day of which rollups are all that is left: a console apart gets the last sample of each window
/// where its broker does, and says so too.
pub(super) fn thinned_days(scratch: &Scratch) -> Result<String> {
    const DAY_MS: i64 = 86_400_000;
    let Site { launch, broker, peers } = Site::start(scratch)?;
    let midnight_ms = (now_ms() / DAY_MS - 3) * DAY_MS;
    let mut body = WriteBody::new();
    for series in 0..20_i64 {
        let number = series.to_string();
        let samples: Vec<(i64, f64)> = (0..1_440)
            .map(|minute| {
                (midnight_ms + minute * 60_000 + 7_000, (minute * (series + 3) % 611) as f64)
            })
            .collect();
        body = body.series(&[("__name__", "old_total"), ("n", number.as_str())], &samples);
    }
    let answer = broker.client().write(&body.snappy())?;
    ensure!(answer.status == 204, "{}: {}", answer.status, answer.text());
    let query =
        [("query", "sum(old_total)"), ("time", &*(midnight_ms / 1_000 + 7_320).to_string())];
    let before = broker.client().data("/api/v1/query", &query)?;
    wait_until("the samples to be in blocks", || {
        Ok(broker.client().metric("watchfire_broker_head_samples")? == 0.0)
    })?;
    broker.stop()?;
    let launch = launch.config(
        "storage:\n  retention: 1d\n  flush_interval: 500ms\n  \
         rollups: [{resolution: 5m, for: 30d}, {resolution: 1h, for: 1y}]\n",
    );
    let site = Site { broker: launch.start()?, launch, peers };
    let broker = site.broker.client();
    wait_until("the day to be rollups", || {
        Ok(broker.metric("watchfire_broker_thinned_blocks_total")? > 0.0
            && broker.data("/api/v1/query", &query)? != before)
    })?;
    let console = site.member(scratch, "console")?.start()?;
    let remote = console.client();
    let at = |hours: i64| (midnight_ms / 1_000 + hours * 3_600).to_string();
    let (start, end) = (at(2), at(20));
    let mut compared = 0;
    for query in ["old_total", "sum by (n) (rate(old_total[7m]))", "topk(3, old_total offset 90s)"]
    {
        let instant = [("query", query), ("time", &*end)];
        let range = [("query", query), ("start", &*start), ("end", &*end), ("step", "240")];
        for (path, form) in [("/api/v1/query", &instant[..]), ("/api/v1/query_range", &range[..])] {
            let (here, there) = (broker.envelope(path, form)?, remote.envelope(path, form)?);
            ensure!(here == there, "{query}: the broker says {here:?}, the console {there:?}");
            let is_some = here.1["data"]["result"].as_array().is_some_and(|all| !all.is_empty());
            ensure!(here.0 == 200 && is_some, "{query}: {here:?}");
            let told = there.1["infos"].to_string();
            ensure!(told.contains("some samples are past their retention"), "{query}: {told}");
            compared += 1;
        }
    }
    // Of whole windows the broker tells all; the console has the last samples only, and says so.
    let whole = [("query", "count_over_time(old_total{n=\"3\"}[1h])"), ("time", &*end)];
    let (here, there) =
        (broker.envelope("/api/v1/query", &whole)?, remote.envelope("/api/v1/query", &whole)?);
    let value = |answer: &Value| answer["data"]["result"][0]["value"][1].clone();
    ensure!(value(&here.1) == "60" && here.1["infos"].is_null(), "{here:?}");
    ensure!(value(&there.1) == "12" && there.1["infos"].is_array(), "{there:?}");
    let explained = broker.data("/api/v1/query_explain", &whole)?;
    let rollups = &explained["totals"]["rollups"];
    ensure!(*rollups == serde_json::json!(["5m"]), "explained as {rollups}");
    console.stop()?;
    site.broker.stop()?;
    Ok(format!("{compared} answers from the last samples of windows equal, and said to be"))
}

/// Runs a console that must not start; yields what it says.
fn refused(arguments: &[&str], data: &Path) -> Result<String> {
    let output = Command::new(binary())
        .args(["console", "--listen", "127.0.0.1:0", "--data"])
        .arg(data)
        .args(arguments)
        .output()
        .context("start watchfire console")?;
    ensure!(!output.status.success(), "it started");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

pub(super) fn refusals(scratch: &Scratch) -> Result<String> {
    let site = Site::start(scratch)?;
    let says = |arguments: &[&str], data: &Path, wanted: &str| -> Result<()> {
        let text = refused(arguments, data)?;
        ensure!(text.contains(wanted), "{arguments:?}: {text:?} lacks {wanted:?}");
        Ok(())
    };
    let nobody = scratch.join("nobody");
    says(&[], &nobody, "a console needs a broker to ask")?;
    says(&["--broker", &site.peers], &nobody, "token create --role console")?;
    let good = join_token(&scratch.join("broker/data"), "console")?;
    let last = if good.ends_with('a') { 'b' } else { 'a' };
    let wrong = format!("{}{last}", &good[..good.len() - 1]);
    says(&["--broker", &site.peers, "--join", &wrong], &nobody, "gave no certificate")?;
    let for_agent = join_token(&scratch.join("broker/data"), "agent")?;
    says(&["--broker", &site.peers, "--join", &for_agent], &nobody, "role")?;
    let agent = site.member(scratch, "agent")?.start()?;
    agent.stop()?;
    let agents = scratch.join("agent/data");
    says(&["--broker", &site.peers], &agents, "for another role")?;
    // Sent away while it runs.
    let console = site.member(scratch, "console")?.arguments(&["--name", "c-1"]).start()?;
    let remote = console.client();
    let output = Command::new(binary())
        .args(["admin", "revoke-certificate", "c-1", "--data"])
        .arg(scratch.join("broker/data"))
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    wait_until("the console to be cut", || Ok(remote.get("/-/ready")?.status == 503))?;
    let (status, answer) = remote.envelope("/api/v1/query", &[("query", "up")])?;
    let error = answer["error"].as_str().unwrap_or_default();
    ensure!(status == 503 && error.contains("revoked"), "{status} {answer}");
    console.stop()?;
    site.broker.stop()?;
    Ok("4 tokens and certificates refused at the start, one cut while it ran".to_owned())
}
