//! What we store is written on to Debian's Prometheus and VictoriaMetrics and to another Watchfire,
//! and then all of them hold the same.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::peer::{NodeExporter, Scraper, VictoriaMetrics};
use crate::harness::write_receiver::{Message, Reaction, WriteReceiver};
use crate::harness::{Client, Launch, Scratch, WriteBody, now_ms};

const LIFE: Duration = Duration::from_secs(9);
const PATIENCE: Duration = Duration::from_secs(20);

/// Scraped and pushed samples, staleness markers and native histograms arrive at every remote.
pub(super) fn remotes_hold_the_same(scratch: &Scratch) -> Result<String> {
    let flags = ["--web.enable-remote-write-receiver", "--enable-feature=native-histograms"];
    let empty = scratch.join("empty.yml");
    std::fs::write(&empty, "")?;
    let prometheus = Scraper::with(scratch, &empty.display().to_string(), &flags)?;
    let victoria = VictoriaMetrics::start(scratch)?;
    let second = Launch::broker(&directory(scratch, "second")?.join("data")).start()?;
    let exporter = NodeExporter::start(scratch)?;
    let remote = |address, more: &str| {
        format!(
            "- url: http://{address}/api/v1/write\n  send_native_histograms: true\n  \
             queue_config: {{batch_send_deadline: 300ms, max_samples_per_send: 500}}\n{more}"
        )
    };
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 900ms, external_labels: {{site: here}}}}\n\
         scrape_configs:\n- job_name: node\n  static_configs: [{{targets: ['{}']}}]\n\
         - job_name: gone\n  static_configs: [{{targets: ['127.0.0.1:1']}}]\nremote_write:\n{}{}{}",
        exporter.client.address(),
        remote(prometheus.client.address(), ""),
        remote(victoria.client.address(), ""),
        remote(second.client().address(), "  protobuf_message: io.prometheus.write.v2.Request\n"),
    );
    let file = scratch.join("sender.yml");
    std::fs::write(&file, config)?;
    let shown = file.display().to_string();
    let first = Launch::broker(&directory(scratch, "first")?.join("data"))
        .arguments(&["--prometheus-config", &shown])
        .start()?;
    let begin = Instant::now();
    push(&first.client())?;
    std::thread::sleep(LIFE.saturating_sub(begin.elapsed()));
    wait_until_sent(&first.client(), 3)?;
    // Far enough back that it has arrived everywhere.
    let at_ms = now_ms() - 3_000;
    let ours = held(&first.client(), at_ms)?;
    ensure!(ours.len() > 500, "only {} series are there", ours.len());
    for (name, client) in [
        ("prometheus", prometheus.client),
        ("victoria-metrics", victoria.client),
        ("watchfire", second.client()),
    ] {
        let theirs = held(&client, at_ms).with_context(|| name.to_owned())?;
        same(&ours, &theirs).with_context(|| format!("{name} holds something else"))?;
    }
    for client in [prometheus.client, second.client()] {
        let form = [("query", "histogram_count(pushed_histogram)"), ("time", &seconds(at_ms))];
        let answers = [first.client(), client].map(|client| client.data("/api/v1/query", &form));
        let [ours, theirs] =
            answers.map(|answer| Ok::<_, anyhow::Error>(answer?["result"][0]["value"][1].clone()));
        let (ours, theirs) = (ours?, theirs?);
        ensure!(ours.is_string() && ours == theirs, "histograms: {ours} and {theirs}");
    }
    let sent = total(&first.client(), "prometheus_remote_storage_samples_total")?;
    let failed = total(&first.client(), "prometheus_remote_storage_samples_failed_total")?;
    ensure!(failed == 0.0, "{failed} samples were refused");
    second.stop()?;
    first.stop()?;
    Ok(format!("{} series equal at 3 remotes, {sent} samples sent, none refused", ours.len()))
}

/// A reload changes all remotes or none, and those that stay go on.
pub(super) fn reload_is_all_or_nothing(scratch: &Scratch) -> Result<String> {
    let receiver = WriteReceiver::start(Box::new(|_, _| Reaction::status(204)))?;
    let file = scratch.join("sender.yml");
    let write = |remotes: &[&str], more: &str| {
        let remotes = remotes.iter().fold(String::new(), |all, name| {
            all + &format!(
                "- {{url: 'http://{}/{name}', name: {name}, queue_config: {{batch_send_deadline: \
                 100ms}}}}\n",
                receiver.address()
            )
        });
        std::fs::write(&file, format!("remote_write:\n{remotes}{more}"))
    };
    write(&["a", "b"], "")?;
    let shown = file.display().to_string();
    let server = Launch::broker(&scratch.join("data"))
        .arguments(&["--prometheus-config", &shown])
        .start()?;
    let client = server.client();
    let mut number = 0_i64;
    let mut say = || -> Result<f64> {
        number += 1;
        let body =
            WriteBody::new().series(&[("__name__", "said")], &[(now_ms() + number, number as f64)]);
        ensure!(client.write(&body.snappy())?.status == 204, "not acknowledged");
        Ok(number as f64)
    };
    let heard = |name: &str| -> Result<Vec<f64>> {
        let mut values = Vec::new();
        for request in receiver.received(&format!("/{name}")) {
            let series = Message::of(&request)?.series;
            values.extend(series.iter().flat_map(|one| &one.floats).map(|sample| sample.1));
        }
        Ok(values)
    };
    let wait = |name: &str, value: f64| -> Result<()> {
        let begin = Instant::now();
        while !heard(name)?.contains(&value) {
            ensure!(begin.elapsed() < PATIENCE, "{name} did not get {value}: {:?}", heard(name)?);
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    };
    let reload = || client.post("/-/reload", &[], b"");
    let one = say()?;
    wait("a", one)?;
    wait("b", one)?;
    // The second of these can never work: nothing changes.
    write(&["c"], "- {url: 'http://h/', proxy_url: 'socks5://h:1'}\n")?;
    let refused = reload()?;
    ensure!(refused.status == 500, "a proxy of no use is answered {}", refused.status);
    let two = say()?;
    wait("a", two)?;
    wait("b", two)?;
    write(&["b", "c"], "")?;
    ensure!(reload()?.status == 200, "the reload is refused");
    let three = say()?;
    wait("b", three)?;
    wait("c", three)?;
    ensure!(heard("b")? == [one, two, three], "the one that stayed got {:?}", heard("b")?);
    ensure!(heard("c")? == [three], "the new one got {:?}", heard("c")?);
    ensure!(heard("a")? == [one, two], "the one that is gone got {:?}", heard("a")?);
    // One that comes back is new.
    write(&["a", "b", "c"], "")?;
    ensure!(reload()?.status == 200, "the reload is refused");
    let four = say()?;
    wait("a", four)?;
    ensure!(heard("a")? == [one, two, four], "the one that came back got {:?}", heard("a")?);
    server.stop()?;
    Ok("1 reload refused as a whole, 2 in effect, nothing lost or sent to the wrong one".to_owned())
}

fn directory(scratch: &Scratch, name: &str) -> Result<std::path::PathBuf> {
    let path = scratch.join(name);
    std::fs::create_dir_all(&path)?;
    Ok(path)
}

/// Samples that no scrape brings: of the past, out of order, ending, and histograms.
fn push(client: &Client) -> Result<()> {
    let now_ms = now_ms();
    for step in 0..4 {
        let t_ms = now_ms - 8_000 + step * 2_000;
        let stale = f64::from_bits(0x7ff0_0000_0000_0002);
        let ends = if step == 3 { stale } else { step as f64 };
        let body = WriteBody::new()
            .series(&[("__name__", "pushed"), ("job", "push")], &[(t_ms, step as f64 * 1.1)])
            .series(&[("__name__", "pushed_inf"), ("job", "push")], &[(t_ms, f64::INFINITY)])
            .series(&[("__name__", "ends"), ("job", "push")], &[(t_ms, ends)])
            .histograms(
                &[("__name__", "pushed_histogram"), ("job", "push")],
                &[(t_ms, vec![1 + step, 2 + step, 3])],
            );
        let status = client.write(&body.snappy())?.status;
        ensure!(status == 204, "a push is answered {status}");
    }
    Ok(())
}

/// Waits until each remote has taken what was stored until now.
fn wait_until_sent(client: &Client, remotes: usize) -> Result<()> {
    let begin = Instant::now();
    let until = now_ms() as f64 / 1e3 - 2.0;
    loop {
        let page = client.get("/metrics")?.text();
        let begins = "prometheus_remote_storage_queue_highest_sent_timestamp_seconds{";
        let sent = page.lines().filter(|line| line.starts_with(begins));
        let sent = sent.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        if sent.filter(|sent| *sent >= until).count() == remotes {
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "not all is sent:\n{page}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn total(client: &Client, name: &str) -> Result<f64> {
    let page = client.get("/metrics")?.text();
    let lines = page.lines().filter(|line| line.starts_with(&format!("{name}{{")));
    Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}

fn seconds(t_ms: i64) -> String {
    format!("{}.{:03}", t_ms / 1_000, t_ms % 1_000)
}

/// All float series with their samples of the last seconds before `at_ms`, and the value a query
/// finds then.
fn held(client: &Client, at_ms: i64) -> Result<BTreeMap<String, Vec<(String, f64)>>> {
    let mut series: BTreeMap<String, Vec<(String, f64)>> = BTreeMap::new();
    for query in ["{job=~\"node|gone|push\",__name__!=\"pushed_histogram\"}[5s]"] {
        let form = [("query", query), ("time", &seconds(at_ms))];
        let data = client.data("/api/v1/query", &form)?;
        for one in data["result"].as_array().context("no result")? {
            let mut labels: BTreeMap<&str, &str> = one["metric"]
                .as_object()
                .context("no labels")?
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()))
                .collect();
            // Only remotes have it.
            labels.remove("site");
            let samples = one["values"].as_array().context("no samples")?.iter().map(sample);
            series.insert(format!("{labels:?}"), samples.collect::<Result<_>>()?);
        }
    }
    Ok(series)
}

fn sample(pair: &Value) -> Result<(String, f64)> {
    let t = pair[0].as_f64().context("no time")?;
    let value = pair[1].as_str().context("no value")?.replace("Inf", "inf");
    Ok((format!("{t:.3}"), value.parse()?))
}

fn same(
    ours: &BTreeMap<String, Vec<(String, f64)>>,
    theirs: &BTreeMap<String, Vec<(String, f64)>>,
) -> Result<()> {
    for (labels, samples) in ours {
        let found = theirs.get(labels).with_context(|| format!("{labels} is missing"))?;
        let is_same = samples.len() == found.len()
            && samples.iter().zip(found).all(|(a, b)| {
                let close = (a.1 - b.1).abs() <= 1e-12 * a.1.abs();
                a.0 == b.0 && (a.1 == b.1 || close || a.1.is_nan() && b.1.is_nan())
            });
        ensure!(is_same, "{labels}: {samples:?} and {found:?}");
    }
    ensure!(ours.len() == theirs.len(), "{} and {} series", ours.len(), theirs.len());
    Ok(())
}
