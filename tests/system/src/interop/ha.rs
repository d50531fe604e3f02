//! Two of Debian's Prometheus that scrape the same and write to us: one of them is stored, and the
//! other when the first is killed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::peer::{NodeExporter, Scraper};
use crate::harness::{Client, Launch, Scratch, now_ms};

const PATIENCE: Duration = Duration::from_secs(30);
const QUERY: &str = "node_cpu_seconds_total{cluster=\"pair\",cpu=\"0\",mode=\"idle\"}[5m]";

/// One replica is stored; after its end the other is, from behind its last sample; after kill -9 of
/// us, and when the first comes back, it stays so.
pub(super) fn pairs_are_deduplicated(scratch: &Scratch) -> Result<String> {
    let launch = Launch::broker(&scratch.join("data"))
        .config("ha_tracker: {enabled: true, failover_timeout: 3s}\n");
    let mut server = launch.start()?;
    // Both write to one address, before and after our restart.
    let address = server.client().address();
    let launch = launch.arguments(&["--listen", &address.to_string()]);
    let exporter = NodeExporter::start(scratch)?;
    let start = |name: &str| {
        let config = format!(
            "global:\n  scrape_interval: 1s\n  scrape_timeout: 900ms\n  external_labels: {{cluster: \
             pair, __replica__: {name}}}\nscrape_configs:\n- job_name: node\n  static_configs: \
             [{{targets: ['{}']}}]\nremote_write:\n- url: http://{address}/api/v1/write\n  \
             queue_config: {{batch_send_deadline: 200ms, min_backoff: 50ms, max_backoff: 200ms}}\n",
            exporter.client.address()
        );
        let file = scratch.join(&format!("{name}.yml"));
        std::fs::write(&file, config)?;
        Scraper::named(scratch, name, &file.display().to_string(), &[])
    };
    let first = start("a")?;
    wait_for_elected(&server.client(), "a")?;
    let second = start("b")?;
    wait_until("something is left out", || {
        let name = "watchfire_broker_ha_samples_deduplicated_total";
        Ok(server.client().metric(name)? > 1_000.0)
    })?;
    let by_first = held(&first.client)?;
    drop(first);
    wait_for_elected(&server.client(), "b")?;
    let changed_ms = now_ms();
    std::thread::sleep(Duration::from_secs(3));
    server.kill()?;
    server = launch.start()?;
    let first = start("a")?;
    std::thread::sleep(Duration::from_secs(5));
    wait_for_elected(&server.client(), "b")?;
    let by_second = held(&second.client)?;
    let sent_until = by_second.iter().rev().nth(1).copied().context("b has samples")?;
    wait_until("what b scraped is here", || {
        Ok(held(&server.client())?.iter().any(|t_ms| *t_ms >= sent_until))
    })?;
    let ours = held(&server.client())?;
    drop((first, second));

    let of_first: Vec<i64> = ours.iter().copied().filter(|t_ms| by_first.contains(t_ms)).collect();
    let of_second: Vec<i64> =
        ours.iter().copied().filter(|t_ms| by_second.contains(t_ms)).collect();
    let (last, begin) = (of_first.last().context("a is stored")?, of_second.first());
    let begin = begin.context("b is stored")?;
    ensure!(of_first.len() >= 3 && of_second.len() >= 6, "{of_first:?} and {of_second:?}");
    // The last scrape may have been written after we asked what there is.
    let unknown: Vec<_> = ours
        .iter()
        .filter(|t_ms| !by_first.contains(t_ms) && !by_second.contains(t_ms))
        .filter(|t_ms| **t_ms <= sent_until && (**t_ms <= *last || **t_ms >= *begin))
        .collect();
    ensure!(unknown.is_empty(), "{unknown:?} are of neither");
    ensure!(last < begin, "times overlap: a until {last}, b from {begin}");
    let lost: Vec<_> = by_first.iter().filter(|t_ms| !ours.contains(t_ms)).collect();
    // What it had scraped when it was killed may not have been sent.
    ensure!(lost.iter().all(|t_ms| **t_ms > last - 1_500), "of a is lost {lost:?}, until {last}");
    let lost: Vec<_> =
        by_second.range(changed_ms..=sent_until).filter(|t_ms| !ours.contains(t_ms)).collect();
    ensure!(lost.is_empty(), "of b is lost {lost:?}");
    let names = server.client().get_data("/api/v1/labels")?;
    let names = names.as_array().context("no list")?;
    ensure!(names.iter().any(|name| name == "cluster"), "the cluster's label is stored");
    ensure!(names.iter().all(|name| name != "__replica__"), "the replica's label is not");
    server.stop()?;
    Ok(format!("{} samples of a, then {} of b, none between", of_first.len(), of_second.len()))
}

/// Times of one series.
fn held(client: &Client) -> Result<BTreeSet<i64>> {
    let query = match client.data("/api/v1/query", &[("query", QUERY)])? {
        data if data["result"].as_array().is_some_and(|list| !list.is_empty()) => data,
        // A server does not add its external labels to what it answers.
        _ => client.data("/api/v1/query", &[("query", &QUERY.replace("cluster=\"pair\",", ""))])?,
    };
    let values = query["result"][0]["values"].as_array().cloned().unwrap_or_default();
    let time = |pair: &serde_json::Value| Some((pair[0].as_f64()? * 1e3).round() as i64);
    values.iter().map(|pair| time(pair).context("no time")).collect()
}

fn wait_for_elected(client: &Client, replica: &str) -> Result<()> {
    wait_until(&format!("{replica} is elected"), || {
        let status = client.get_data("/api/v1/status/ha_tracker")?;
        Ok(status["clusters"][0]["replica"] == replica)
    })
}

fn wait_until(what: &str, done: impl Fn() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !done()? {
        ensure!(begin.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
