//! Where targets come from and what they become.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use model::Labels;

use crate::support::{Scraped, Target, answer};

fn pairs(labels: &Labels) -> Vec<(&str, &str)> {
    labels.iter().collect()
}

#[tokio::test]
async fn targets_are_relabeled_as_prometheus_does() {
    let mut scraped = Scraped::start(
        "scrape_configs:
- job_name: j
  scrape_interval: 5s
  scrape_timeout: 4s
  keep_dropped_targets: 1
  static_configs:
  - targets: ['a:1', 'b:2', 'drop-me', 'drop-me-too', 'a/b']
    labels: {group: g, __meta_x: m}
  relabel_configs:
  - {source_labels: [__address__], regex: 'drop.*', action: drop}
  - {source_labels: [__meta_x], target_label: kept}
  - {source_labels: [__address__], regex: 'b:2', target_label: __scheme__, replacement: https}
  - {source_labels: [__address__], regex: 'b:2', target_label: job, replacement: other}
  - {source_labels: [__address__], regex: 'b:2', target_label: __scrape_interval__, replacement: 9s}
",
    )
    .await;
    while scraped.scraper.targets(None).is_empty() {
        scraped.during(std::time::Duration::from_millis(20)).await;
    }
    let targets = scraped.scraper.targets(None);
    assert_eq!(targets.len(), 2, "{targets:#?}");
    let (a, b) = (&targets[0], &targets[1]);
    assert_eq!((a.url.as_str(), a.interval.as_str()), ("http://a:1/metrics", "5s"));
    let expected = [("group", "g"), ("instance", "a:1"), ("job", "j"), ("kept", "m")];
    assert_eq!(pairs(&a.labels), expected);
    assert_eq!(a.health.as_str(), "unknown");
    let expected = [
        ("__address__", "a:1"),
        ("__always_scrape_classic_histograms__", "false"),
        ("__convert_classic_histograms_to_nhcb__", "false"),
        ("__meta_x", "m"),
        ("__metrics_path__", "/metrics"),
        ("__scheme__", "http"),
        ("__scrape_interval__", "5s"),
        ("__scrape_native_histograms__", "false"),
        ("__scrape_timeout__", "4s"),
        ("group", "g"),
        ("job", "j"),
    ];
    assert_eq!(pairs(&a.discovered), expected);
    assert_eq!((b.url.as_str(), b.interval.as_str()), ("https://b:2/metrics", "9s"));
    assert_eq!(b.labels.get("job"), Some("other"));
    assert_eq!(scraped.scraper.dropped_targets(Some("j")).len(), 1, "as many as are kept");
    assert_eq!(scraped.scraper.dropped_counts(), [("j".to_owned(), 2)]);
    let discovered = scraped.scraper.dropped_targets(None)[0].discovered.clone();
    assert_eq!(discovered.get("__address__"), Some("drop-me"));
    let steps = scraped.scraper.relabel_steps("j", &b.discovered).expect("a job");
    assert_eq!(steps.len(), 5);
    assert!(steps.iter().all(|step| step.kept));
    assert_eq!(steps[1].labels.get("kept"), Some("m"));
    let steps = scraped.scraper.relabel_steps("j", &discovered).expect("a job");
    assert!(steps.iter().all(|step| !step.kept && step.labels.is_empty()));
    assert!(scraped.scraper.relabel_steps("k", &discovered).is_none());
}

#[tokio::test]
async fn targets_in_files_are_followed() {
    let target = Target::text("a 1\n").await;
    let folder = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: String| {
        std::fs::write(folder.path().join(name), text).expect("written");
    };
    write("one.json", format!("[{{\"targets\": [\"{}\"]}}]", target.address));
    let mut scraped = Scraped::start(&format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
- job_name: j
  file_sd_configs: [{{files: ['{0}/*.json', '{0}/*.yml']}}]
  relabel_configs: [{{source_labels: [__meta_filepath], target_label: file, regex: '.*/(.*)'}}]
",
        folder.path().display()
    ))
    .await;
    let series =
        |file: &str| format!("a{{file=\"{file}\", instance=\"{}\", job=\"j\"}}", target.address);
    scraped.until(|scraped| scraped.count(&series("one.json")) >= 1).await;
    write("two.yml", format!("- targets: ['{}']\n", target.address));
    scraped.until(|scraped| scraped.count(&series("two.yml")) >= 1).await;
    write("one.json", "[{".to_owned());
    let before = scraped.count(&series("one.json"));
    scraped.until(|scraped| scraped.count(&series("one.json")) >= before + 8).await;
    assert!(scraped.last(&series("one.json")).is_some(), "a broken file ends nothing");
    std::fs::remove_file(folder.path().join("one.json")).expect("removed");
    scraped.until(|scraped| scraped.last(&series("one.json")).is_none()).await;
    assert!(scraped.last(&series("two.yml")).is_some());
}

#[tokio::test]
async fn targets_from_a_server_are_followed() {
    let target = Target::text("a 1\n").await;
    let address = target.address;
    let asked = Arc::new(AtomicUsize::new(0));
    let turn = Arc::clone(&asked);
    let server = Target::new(move |_, _| {
        let json = [("content-type", "application/json; charset=utf-8")];
        match turn.fetch_add(1, Ordering::SeqCst) {
            0 => {
                let body =
                    format!("[{{\"targets\": [\"{address}\"], \"labels\": {{\"x\": \"y\"}}}}]");
                answer(200, &json, body.as_bytes())
            }
            1 => answer(500, &[], b""),
            2 => answer(200, &[("content-type", "text/html")], b"[]"),
            3 => answer(200, &json, b"{"),
            4 => answer(200, &json, b"null"),
            _ => answer(200, &json, b"[]"),
        }
    })
    .await;
    let mut scraped = Scraped::start(&format!(
        "global: {{scrape_interval: 100ms, scrape_timeout: 100ms}}
scrape_configs:
- job_name: j
  http_sd_configs: [{{url: 'http://{}/sd', refresh_interval: 300ms}}]
  relabel_configs: [{{source_labels: [__meta_url], target_label: url}}]
",
        server.address
    ))
    .await;
    let a = format!(
        "a{{instance=\"{address}\", job=\"j\", url=\"http://{}/sd\", x=\"y\"}}",
        server.address
    );
    scraped.until(|scraped| scraped.count(&a) >= 1).await;
    scraped.until(|_| asked.load(Ordering::SeqCst) >= 4).await;
    assert!(scraped.last(&a).is_some(), "answers that are none end nothing");
    scraped.until(|scraped| scraped.last(&a).is_none()).await;
    let (_, headers) = &server.requests()[0];
    assert_eq!(headers["accept"], "application/json");
    assert_eq!(headers["x-prometheus-refresh-interval-seconds"], "0.3");
}
