//! When counters began, from the sender through log, head and blocks to queries, exports and another
//! server.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::harness::remote_write_2::Series2;
use crate::harness::{Client, Launch, Scratch, WriteBody2, now_ms};

/// How long a flush, or a remote, may take.
const PATIENCE: Duration = Duration::from_secs(60);
const FEATURE: &str = "enable_features: [use-start-timestamps]\n";

/// Remote write 2.0 in and out, `start_timestamp()` and `resets()`, flush, restart, export and import.
pub(super) fn start_timestamps(scratch: &Scratch) -> Result<String> {
    // A server in which the feature is off, to which the other one writes.
    let receiver = Launch::broker(&scratch.join("receiver")).start()?;
    let remotes = scratch.join("remotes.yml");
    let address = receiver.client().address();
    std::fs::write(
        &remotes,
        format!(
            "remote_write:\n- url: http://{address}/api/v1/write\n  protobuf_message: \
             io.prometheus.write.v2.Request\n  queue_config: {{batch_send_deadline: 100ms}}\n"
        ),
    )?;
    let shown = remotes.display().to_string();
    let launch = Launch::broker(&scratch.join("data"))
        .config(&format!("{FEATURE}storage:\n  flush_interval: 1s\n"))
        .arguments(&["--prometheus-config", &shown]);
    let server = launch.start()?;
    let client = server.client();

    // The process behind `c_total` starts anew between the second and the third sample, and counts
    // beyond what it had before the third is taken: no value tells that. Of `plain_total` nothing is known.
    let first_ms = now_ms() - 60_000;
    let began = [first_ms - 10_000, first_ms - 10_000, first_ms + 20_000, first_ms + 20_000];
    let sample = |n: i64, start_ms| (first_ms + n * 15_000, 10.0 * (n + 1) as f64, start_ms);
    let series = |name: &str, starts: [i64; 4]| Series2 {
        labels: vec![("__name__".to_owned(), name.to_owned())],
        samples: (0..4).zip(starts).map(|(n, start_ms)| sample(n, start_ms)).collect(),
        ..Series2::default()
    };
    let body = WriteBody2::new()
        .series(&series("c_total", began))
        .series(&series("plain_total", [0; 4]))
        .snappy();
    let answer = client.write_2(&body)?;
    ensure!(answer.status == 204, "{}: {}", answer.status, answer.text());
    let last_ms = first_ms + 45_000;

    let check = |client: &Client, name: &str, uses: bool, place: &str| -> Result<()> {
        let ask = |query: &str, t_ms| value_at(client, query, t_ms);
        for (n, start_ms) in (0..).zip(began) {
            let t_ms = first_ms + n * 15_000;
            let told = ask(&format!("start_timestamp({name})"), t_ms)?;
            let want = start_ms as f64 / 1e3;
            ensure!(told == Some(want), "{place}: {name} began at {told:?}, not {want}");
        }
        let resets = ask(&format!("resets({name}[5m])"), last_ms)?;
        let want = if uses { 1.0 } else { 0.0 };
        ensure!(resets == Some(want), "{place}: {resets:?} resets of {name}, not {want}");
        // 10 until the first sample, 10 until the second, then 40 from zero; or 30 and the same again for
        // the rest of the range, as far as it may be guessed.
        let increase = ask(&format!("increase({name}[5m])"), last_ms)?.context("an increase")?;
        let is_sum = (increase - 60.0).abs() < 1e-6;
        ensure!(is_sum == uses, "{place}: an increase of {name} of {increase}");
        let plain = ask("start_timestamp(plain_total)", last_ms)?;
        ensure!(plain == Some(0.0) || plain.is_none(), "{place}: {plain:?} of plain_total");
        Ok(())
    };
    check(&client, "c_total", true, "head")?;
    let begin = Instant::now();
    while client.metric("watchfire_broker_block_samples")? < 8.0 {
        ensure!(begin.elapsed() < PATIENCE, "nothing was flushed");
        std::thread::sleep(Duration::from_millis(50));
    }
    check(&client, "c_total", true, "blocks")?;
    let begin = Instant::now();
    let ours = receiver.client();
    while value_at(&ours, "c_total", last_ms)?.is_none() {
        ensure!(begin.elapsed() < PATIENCE, "the remote got nothing");
        std::thread::sleep(Duration::from_millis(50));
    }
    check(&ours, "c_total", false, "remote")?;

    let lines = client.get("/api/v1/export?match[]=c_total")?.text();
    let told = format!("\"startTimestamps\":[{},{},{},{}]", began[0], began[1], began[2], began[3]);
    ensure!(lines.contains(&told), "{lines}");
    let other = client.get("/api/v1/export?match[]=plain_total")?.text();
    ensure!(!other.contains("startTimestamps"), "{other}");
    let renamed = lines.replace("c_total", "d_total");
    let answer = client.post("/api/v1/import", &[], renamed.as_bytes())?;
    ensure!(answer.status == 204, "{}: {}", answer.status, answer.text());
    check(&client, "d_total", true, "import")?;
    // What is only in the log comes back out of it.
    server.kill()?;
    let server = launch.start()?;
    check(&server.client(), "c_total", true, "after a restart")?;
    check(&server.client(), "d_total", true, "import, after a restart")?;
    server.stop()?;
    receiver.stop()?;

    let wrong = Launch::broker(&scratch.join("wrong")).config("enable_features: [st-synthesis]\n");
    let text = wrong.start().err().context("an unknown feature was taken")?.to_string();
    ensure!(text.contains("st-synthesis") && text.contains("st-storage"), "{text}");
    Ok("head, blocks, remote, export, import and log tell the same".to_owned())
}

fn value_at(client: &Client, query: &str, t_ms: i64) -> Result<Option<f64>> {
    let time = format!("{}.{:03}", t_ms / 1_000, t_ms % 1_000);
    let data = client.data("/api/v1/query", &[("query", query), ("time", &time)])?;
    let text = data["result"][0]["value"][1].as_str();
    text.map(|text| text.parse().context("a number")).transpose()
}
