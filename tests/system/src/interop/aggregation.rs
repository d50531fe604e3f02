//! Debian's Prometheus writes into rules of streaming aggregation, through kill -9 of us.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::peer::{NodeExporter, Scraper};
use crate::harness::{Client, Launch, Scratch};

const PATIENCE: Duration = Duration::from_secs(30);
const METRIC: &str = "node_cpu_seconds_total";
const OUTPUT: &str = "node_cpu_seconds_total:2s_without_cpu";
/// How long after its end a window may take what comes: that it ends is noticed by a thread, which
/// has to get its turn first.
const NOTICED_MS: i64 = 1_000;

/// What rules write is the sum of what Prometheus scraped, to the sample, and the input is not
/// stored.
pub(super) fn rules_sum_up_what_prometheus_writes(scratch: &Scratch) -> Result<String> {
    let launch = Launch::broker(&scratch.join("data")).config(
        "stream_aggregation:\n  rules:\n  - match: node_cpu_seconds_total{mode!=\"iowait\"}\n    \
         interval: 2s\n    without: [cpu]\n    staleness_interval: 1m\n    outputs: [total, \
         count_samples, count_series]\n",
    );
    let mut server = launch.start()?;
    let address = server.client().address();
    let launch = launch.arguments(&["--listen", &address.to_string()]);
    let exporter = NodeExporter::start(scratch)?;
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 900ms}}\nscrape_configs:\n- job_name: node\n  \
         static_configs: [{{targets: ['{}']}}]\nremote_write:\n- url: http://{address}/api/v1/write\n  \
         queue_config: {{batch_send_deadline: 200ms, min_backoff: 50ms, max_backoff: 200ms}}\n",
        exporter.client.address()
    );
    let file = scratch.join("prometheus.yml");
    std::fs::write(&file, config)?;
    let prometheus = Scraper::start(scratch, &file.display().to_string())?;
    wait_for_windows(&server.client(), 3)?;
    server.kill()?;
    server = launch.start()?;
    let before = windows(&server.client())?.len();
    wait_for_windows(&server.client(), before + 3)?;

    let ours = matrix(&server.client(), &format!("{OUTPUT}_total[5m]"))?;
    let theirs = matrix(&prometheus.client, &format!("{METRIC}{{mode!=\"iowait\"}}[5m]"))?;
    let mut modes = 0;
    for (labels, totals) in &ours {
        let mode = &labels["mode"];
        // How much all CPUs rose from the first scrape to each.
        let mut rises: BTreeMap<i64, f64> = BTreeMap::new();
        for (_, samples) in theirs.iter().filter(|(labels, _)| labels.get("mode") == Some(mode)) {
            for sample in samples {
                *rises.entry(sample.0).or_default() += sample.1 - samples[0].1;
            }
        }
        for (t_ms, total) in totals {
            let is_one = rises.iter().any(|(scraped_ms, rise)| {
                let late_ms = t_ms - scraped_ms;
                (-NOTICED_MS..4_000).contains(&late_ms) && (rise - total).abs() < 1e-6
            });
            ensure!(is_one, "{mode}: the total {total} at {t_ms} is none of {rises:?}");
        }
        modes += 1;
    }
    ensure!(modes >= 7, "{modes} modes");
    let cpus = theirs.iter().filter(|(labels, _)| labels["mode"] == "idle").count() as f64;
    let counts = matrix(&server.client(), &format!("{OUTPUT}_count_samples{{mode=\"idle\"}}[5m]"))?;
    let counted: f64 = counts.iter().flat_map(|(_, samples)| samples).map(|sample| sample.1).sum();
    let last_ms = counts[0].1.last().context("no count")?.0;
    let scraped = |until_ms: i64| -> usize {
        let idle = theirs.iter().filter(|(labels, _)| labels["mode"] == "idle");
        idle.flat_map(|(_, samples)| samples).filter(|sample| sample.0 <= until_ms).count()
    };
    let (least, most) = (scraped(last_ms - 2_000) as f64, scraped(last_ms + NOTICED_MS) as f64);
    ensure!((least..=most).contains(&counted), "{counted} counted, {least} to {most} scraped");
    let series = matrix(&server.client(), &format!("{OUTPUT}_count_series{{mode=\"idle\"}}[5m]"))?;
    ensure!(series[0].1.iter().all(|sample| sample.1 == cpus), "{series:?}, {cpus} CPUs");
    let stored = matrix(&server.client(), &format!("{METRIC}{{mode!=\"iowait\"}}[5m]"))?;
    ensure!(stored.is_empty(), "the input is stored: {stored:?}");
    let others = matrix(&server.client(), &format!("{METRIC}[5m]"))?;
    ensure!(!others.is_empty(), "what no rule matches is not stored");
    server.stop()?;
    let windows = ours[0].1.len();
    Ok(format!("{modes} totals of {windows} windows, {counted} samples, each once"))
}

type Matrix = Vec<(BTreeMap<String, String>, Vec<(i64, f64)>)>;

fn matrix(client: &Client, query: &str) -> Result<Matrix> {
    let data = client.data("/api/v1/query", &[("query", query)])?;
    let mut matrix = Matrix::new();
    for one in data["result"].as_array().context("no result")? {
        let labels = one["metric"].as_object().context("no labels")?.iter();
        let labels = labels
            .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()));
        let mut samples = Vec::new();
        for pair in one["values"].as_array().context("no samples")? {
            let t = pair[0].as_f64().context("no time")?;
            samples.push(((t * 1e3).round() as i64, pair[1].as_str().context("text")?.parse()?));
        }
        matrix.push((labels.collect(), samples));
    }
    Ok(matrix)
}

fn windows(client: &Client) -> Result<Vec<(i64, f64)>> {
    let found = matrix(client, &format!("{OUTPUT}_count_samples{{mode=\"idle\"}}[5m]"))?;
    Ok(found.into_iter().next().map(|(_, samples)| samples).unwrap_or_default())
}

fn wait_for_windows(client: &Client, count: usize) -> Result<()> {
    let begin = Instant::now();
    while windows(client)?.len() < count {
        ensure!(begin.elapsed() < PATIENCE, "waited in vain for {count} windows");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
