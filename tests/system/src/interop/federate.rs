//! Debian's Prometheus and another broker federate from us, in protobuf. The former is too old for
//! histograms whose counts are floats, as those of federation are; the latter gets them too. Debian's
//! federates in text as well, and reads names that it does not know by itself.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::peer::Scraper;
use crate::harness::remote_write_2::{Histogram2, Series2};
use crate::harness::{Client, Launch, Scratch, WriteBody, WriteBody2, now_ms};

const PATIENCE: Duration = Duration::from_secs(20);

/// What others have scraped of `/federate` is what we hold; in text there are no histograms but classic ones.
pub(super) fn others_federate(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let ours = server.client();
    let labels = |name| [("__name__", name), ("job", "j"), ("instance", "i")];
    let t_ms = now_ms();
    let body = WriteBody::new()
        .series(&labels("load"), &[(t_ms, 1.25)])
        .histograms(&labels("seconds"), &[(t_ms - 500, vec![1, 2, 3]), (t_ms, vec![4, 6, 9])]);
    ensure!(ours.write(&body.snappy())?.status == 204, "the push is refused");
    let owned = |name| labels(name).map(|(name, value)| (name.to_owned(), value.to_owned()));
    let custom = Histogram2 {
        t_ms,
        schema: -53,
        count: 6,
        sum: 4.5,
        positive: (vec![(0, 3)], vec![1, 1, 1]),
        custom_values: vec![0.5, 1e6],
        ..Histogram2::default()
    };
    let series = |name, samples, histograms| Series2 {
        labels: owned(name).to_vec(),
        samples,
        histograms,
        ..Series2::default()
    };
    let body = WriteBody2::new()
        .series(&series("http.reqs", vec![(t_ms, 7.0, 0)], Vec::new()))
        .series(&series("custom", Vec::new(), vec![custom]));
    ensure!(ours.write_2(&body.snappy())?.status == 204, "the second push is refused");
    let config = format!(
        "scrape_configs:\n- job_name: federate\n  honor_labels: true\n  metrics_path: /federate\n  \
         scrape_interval: 1s\n  scrape_timeout: 900ms\n  params: {{'match[]': ['{{job=\"j\"}}']}}\n  \
         static_configs: [{{targets: ['{}']}}]\n",
        ours.address()
    );
    let file = scratch.join("prometheus.yml");
    std::fs::write(&file, &config)?;
    let flags = ["--enable-feature=native-histograms"];
    let prometheus = Scraper::with(scratch, &file.display().to_string(), &flags)?;
    let own = scratch.join("own.yml");
    std::fs::write(&own, format!("global: {{scrape_native_histograms: true}}\n{config}"))?;
    let own = own.display().to_string();
    let second = scratch.join("second");
    std::fs::create_dir_all(&second)?;
    let second =
        Launch::broker(&second.join("data")).arguments(&["--prometheus-config", &own]).start()?;
    let in_text = Scraper::named(scratch, "in-text", &file.display().to_string(), &[])?;
    let (protobuf, old, new) = (prometheus.client, in_text.client, second.client());
    for (client, query) in [
        (&protobuf, "load"),
        (&old, "load"),
        (&new, "load"),
        (&new, "histogram_count(seconds)"),
        (&new, "histogram_sum(seconds)"),
        (&new, "histogram_quantile(0.5, seconds)"),
        (&new, "histogram_fraction(0, 2, seconds)"),
    ] {
        let wanted = values(&ours, query, t_ms)?;
        ensure!(wanted.contains("\"i\"") && !wanted.contains("NaN"), "{query}: {wanted}");
        let begin = Instant::now();
        loop {
            let found = values(client, query, t_ms)?;
            if found == wanted {
                break;
            }
            ensure!(begin.elapsed() < PATIENCE, "{query}: {found} instead of {wanted}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    for (client, query, wanted) in [
        // 2.42 cannot read the name itself, and would take nothing of an answer that has it.
        (&old, "http_reqs", "7"),
        (&protobuf, "http_reqs", "7"),
        (&new, "{\"http.reqs\"}", "7"),
        (&old, "custom_bucket{le=\"0.5\"}", "1"),
        (&old, "custom_bucket{le=\"1e+06\"}", "3"),
        (&old, "custom_bucket{le=\"+Inf\"}", "6"),
        (&new, "custom_bucket{le=\"0.5\"}", "1"),
        (&new, "custom_bucket{le=\"+Inf\"}", "6"),
        (&new, "custom_count", "6"),
        (&new, "custom_sum", "4.5"),
    ] {
        let begin = Instant::now();
        loop {
            let found = values(client, query, t_ms)?;
            if found.contains(&format!(",\"{wanted}\"]")) {
                break;
            }
            ensure!(begin.elapsed() < PATIENCE, "{query}: {found} instead of {wanted}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    let text = ours.get("/federate?match[]=%7Bjob=%22j%22%7D")?;
    ensure!(
        text.header("content-type").is_some_and(|kind| kind.ends_with("; escaping=underscores"))
            && text.text().contains("load{")
            && !text.text().contains("seconds"),
        "{}",
        text.text()
    );
    second.stop()?;
    server.stop()?;
    Ok("17 answers as they should be".to_owned())
}

fn values(client: &Client, query: &str, t_ms: i64) -> Result<String> {
    let time = format!("{}.{:03}", t_ms / 1_000, t_ms % 1_000);
    let data = client.data("/api/v1/query", &[("query", query), ("time", &time)])?;
    Ok(data["result"].to_string())
}
