//! What happens to series when targets and configurations come and go.

use std::time::Duration;

use crate::support::{Scraped, Target, answer, config};

fn labels(target: &Target) -> String {
    format!("{{instance=\"{}\", job=\"j\"}}", target.address)
}

fn one_job(target: &Target, more: &str) -> String {
    format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
- job_name: j
  static_configs: [{{targets: ['{}']}}]
{more}",
        target.address
    )
}

#[tokio::test]
async fn a_failing_target_ends_its_series_and_stays_itself() {
    let target = Target::text("a 1\n").await;
    let mut scraped = Scraped::start(&one_job(&target, "")).await;
    let (a, up) = (format!("a{}", labels(&target)), format!("up{}", labels(&target)));
    scraped.until(|scraped| scraped.count(&a) >= 2).await;
    target.answers(|_, _| answer(500, &[], b""));
    scraped.until(|scraped| scraped.last(&up) == Some(0.0)).await;
    assert_eq!(scraped.last(&a), None, "a marker");
    assert_eq!(scraped.of(&a).last().map(|s| s.0), scraped.of(&up).last().map(|s| s.0));
    let markers = scraped.count(&a);
    scraped.during(Duration::from_millis(500)).await;
    assert_eq!(scraped.count(&a), markers, "one marker is enough");
    target.expose("a 2\n");
    scraped.until(|scraped| scraped.last(&a) == Some(2.0)).await;
    assert_eq!(scraped.last(&up), Some(1.0));
}

#[tokio::test]
async fn reloading_keeps_what_stays_and_ends_what_is_gone() {
    let (stays, goes) = (Target::text("a 1\n").await, Target::text("a 2\nb 3\n").await);
    let yaml = |targets: &str| {
        format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs: [{{job_name: j, static_configs: [{{targets: [{targets}]}}]}}]
"
        )
    };
    let (stays_address, goes_address) = (stays.address, goes.address);
    let both = yaml(&format!("'{stays_address}', '{goes_address}'"));
    let mut scraped = Scraped::start(&both).await;
    let (a, gone) = (format!("a{}", labels(&stays)), format!("a{}", labels(&goes)));
    let enough = |scraped: &Scraped| scraped.count(&a) >= 3 && scraped.count(&gone) >= 2;
    scraped.until(enough).await;
    scraped.reload(&yaml(&format!("'{stays_address}'"))).await;
    let up_gone = format!("up{}", labels(&goes));
    scraped.until(|scraped| scraped.last(&up_gone).is_none()).await;
    for series in ["a", "b", "up", "scrape_duration_seconds", "scrape_samples_scraped"] {
        let series = format!("{series}{}", labels(&goes));
        assert_eq!(scraped.last(&series), None, "{series} has ended");
        let samples = scraped.of(&series);
        let [.., before, marker] = samples else { panic!("{samples:?}") };
        let gap_ms = marker.0 - before.0;
        assert!((100..400).contains(&gap_ms), "where the next sample would be: {samples:?}");
    }
    let before = scraped.count(&a);
    scraped.until(|scraped| scraped.count(&a) >= before + 3).await;
    let times: Vec<i64> = scraped.of(&a).iter().map(|sample| sample.0).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] < 400), "no gap: {times:?}");
    assert!(scraped.of(&a).iter().all(|sample| sample.1.is_some()), "no marker");
    assert_eq!(scraped.scraper.targets(None).len(), 1);
    // Gone and back before it was due: nothing has happened.
    scraped.reload(&both).await;
    scraped.until(|scraped| scraped.last(&gone).is_some()).await;
    scraped.reload(&yaml(&format!("'{stays_address}'"))).await;
    scraped.reload(&both).await;
    let markers = |scraped: &Scraped| scraped.of(&gone).iter().filter(|s| s.1.is_none()).count();
    let before = scraped.count(&gone);
    scraped.until(|scraped| scraped.count(&gone) >= before + 2).await;
    assert_eq!(markers(&scraped), 1);
    // A job that is gone altogether.
    scraped.reload("scrape_configs: []").await;
    scraped.until(|scraped| scraped.last(&a).is_none() && scraped.last(&gone).is_none()).await;
    assert!(scraped.scraper.pools().is_empty());
}

#[tokio::test]
async fn the_same_series_from_another_place_go_on() {
    let (old, new) = (Target::text("a 1\nb 1\n").await, Target::text("a 2\n").await);
    let yaml = |target: &Target| {
        format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
- job_name: j
  static_configs: [{{targets: ['{}'], labels: {{instance: i}}}}]
",
            target.address
        )
    };
    let mut scraped = Scraped::start(&yaml(&old)).await;
    let (a, b) = ("a{instance=\"i\", job=\"j\"}", "b{instance=\"i\", job=\"j\"}");
    scraped.until(|scraped| scraped.count(a) >= 2).await;
    scraped.reload(&yaml(&new)).await;
    scraped.until(|scraped| scraped.last(a) == Some(2.0)).await;
    scraped.during(Duration::from_millis(500)).await;
    assert!(scraped.of(a).iter().all(|sample| sample.1.is_some()), "{:?}", scraped.of(a));
    assert!(scraped.of("up{instance=\"i\", job=\"j\"}").iter().all(|s| s.1 == Some(1.0)));
    assert_eq!(scraped.last(b), None, "what the new place does not have has ended");
}

#[tokio::test]
async fn external_labels_are_added_where_a_series_has_none() {
    let target = Target::text("a{zone=\"own\"} 1\nb{l=\"x\"} 2\n").await;
    let yaml = |zone: &str| {
        let job = one_job(&target, "  label_limit: 4\n");
        job.replace("global: {", &format!("global: {{external_labels: {{zone: {zone}}}, "))
    };
    let mut scraped = Scraped::start(&yaml("east")).await;
    let address = target.address;
    let of = |name: &str, zone: &str| {
        format!("{name}{{instance=\"{address}\", job=\"j\", zone=\"{zone}\"}}")
    };
    let of_b = |zone: &str| of("b", zone).replace("zone=", "l=\"x\", zone=");
    let (own, east, west) = (of("a", "own"), of_b("east"), of_b("west"));
    scraped.until(|scraped| scraped.count(&east) >= 2).await;
    assert!(scraped.count(&own) >= 2, "{:?}", scraped.series);
    assert_eq!(
        scraped.last(&of("up", "east")),
        Some(1.0),
        "label_limit looks at what is there before"
    );
    scraped.reload(&yaml("west")).await;
    scraped.until(|scraped| scraped.count(&west) >= 1).await;
    assert_eq!((scraped.last(&east), scraped.last(&west)), (None, Some(2.0)));
    assert_eq!(scraped.last(&of("up", "west")), Some(1.0));
}

#[tokio::test]
async fn rules_and_limits_change_without_a_restart() {
    let target = Target::text("a{x=\"1\"} 1\nb 2\n").await;
    let mut scraped = Scraped::start(&one_job(&target, "")).await;
    let address = target.address;
    let a = format!("a{{instance=\"{address}\", job=\"j\", x=\"1\"}}");
    let b = format!("b{}", labels(&target));
    scraped.until(|scraped| scraped.count(&b) >= 1).await;
    let rule = "  metric_relabel_configs:
  - {source_labels: [__name__], regex: b, action: drop}
  - {regex: x, action: labeldrop}
";
    scraped.reload(&one_job(&target, rule)).await;
    let short = format!("a{}", labels(&target));
    scraped.until(|scraped| scraped.count(&short) >= 2).await;
    assert_eq!((scraped.last(&a), scraped.last(&b)), (None, None));
    scraped.reload(&one_job(&target, "  sample_limit: 1\n")).await;
    let up = format!("up{}", labels(&target));
    scraped.until(|scraped| scraped.last(&up) == Some(0.0)).await;
    assert_eq!(scraped.last(&short), None);
    scraped.reload(&one_job(&target, "  target_limit: 1\n")).await;
    scraped.until(|scraped| scraped.last(&b) == Some(2.0)).await;
    let more = "  target_limit: 1
  relabel_configs: [{target_label: extra, replacement: x}]
- job_name: k
  target_limit: 1
  static_configs: [{targets: ['127.0.0.1:1', '127.0.0.1:2']}]
";
    scraped.reload(&one_job(&target, more)).await;
    scraped
        .until(|scraped| {
            scraped.scraper.targets(Some("k")).iter().all(|t| !t.last_error.is_empty())
                && !scraped.scraper.targets(Some("k")).is_empty()
        })
        .await;
    for target in scraped.scraper.targets(Some("k")) {
        let error = "target_limit exceeded (number of targets: 2, limit: 1)";
        assert_eq!(target.last_error, error);
    }
    scraped.until(|scraped| scraped.last(&b).is_none()).await;
}

#[tokio::test]
async fn a_bad_configuration_changes_nothing() {
    let target = Target::text("a 1\n").await;
    let mut scraped = Scraped::start(&one_job(&target, "")).await;
    let a = format!("a{}", labels(&target));
    scraped.until(|scraped| scraped.count(&a) >= 1).await;
    let bad = one_job(
        &target,
        "- job_name: k
  scrape_failure_log_file: /no/such/folder/file
  static_configs: [{targets: [x]}]
",
    );
    let error = scraped.scraper.reload(&config(&bad)).await.expect_err("refused").to_string();
    assert!(error.contains("\"k\"") && error.contains("/no/such/folder"), "{error}");
    assert_eq!(scraped.scraper.pools(), ["j"]);
    let before = scraped.count(&a);
    scraped.until(|scraped| scraped.count(&a) >= before + 2).await;
    assert!(scraped.of(&a).iter().all(|sample| sample.1.is_some()));
}

/// As `watchfire check` says: a mistake, which stops nothing but its own job.
#[tokio::test]
async fn a_job_without_its_ca_file_is_down_and_says_why() {
    let target = Target::text("a 1\n").await;
    let both = one_job(
        &target,
        "- job_name: k
  scheme: https
  tls_config: {ca_file: /no/such/file}
  static_configs: [{targets: [127.0.0.1:1]}]
",
    );
    let mut scraped = Scraped::start(&both).await;
    let a = format!("a{}", labels(&target));
    scraped.until(|scraped| scraped.count(&a) >= 1).await;
    scraped
        .until(|scraped| {
            let targets = scraped.scraper.targets(Some("k"));
            targets.iter().any(|target| target.last_error.contains("/no/such/file"))
        })
        .await;
}

#[tokio::test]
async fn failures_are_logged_where_the_job_wants_it() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("failures.log");
    let target = Target::new(|_, _| answer(503, &[], b"")).await;
    let more = format!("  scrape_failure_log_file: {}\n", path.display());
    let mut scraped = Scraped::start(&one_job(&target, &more)).await;
    let up = format!("up{}", labels(&target));
    scraped.until(|scraped| scraped.count(&up) >= 3).await;
    let log = std::fs::read_to_string(&path).expect("written");
    let line: serde_json::Value =
        serde_json::from_str(log.lines().next().expect("a line")).expect("JSON");
    assert_eq!(line["msg"], "server returned HTTP status 503 Service Unavailable");
    assert_eq!(line["job_name"], "j");
    assert_eq!(line["target"], format!("http://{}/metrics", target.address));
    assert_eq!(line["level"], "ERROR");
}

#[tokio::test]
async fn what_targets_say_of_their_families() {
    let target = Target::text("# HELP a What it is.\n# TYPE a counter\na 1\n").await;
    let mut scraped = Scraped::start(&one_job(&target, "")).await;
    let a = format!("a{}", labels(&target));
    scraped.until(|scraped| scraped.count(&a) >= 3).await;
    assert_eq!(scraped.families.len(), 1, "told once");
    let told = scraped.scraper.metadata(&|_| true, None, 10);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].metadata.help, "What it is.");
    assert_eq!(told[0].target.to_string(), labels(&target));
    assert!(
        scraped.scraper.metadata(&|labels| labels.get("job") == Some("x"), None, 10).is_empty()
    );
    assert!(scraped.scraper.metadata(&|_| true, Some("b"), 10).is_empty());
    let mut page = Vec::new();
    scraped.scraper.render(&mut wire::text_encode::TextEncoder::new(&mut page));
    let page = String::from_utf8(page).expect("text");
    assert!(page.contains("watchfire_agent_scrape_pool_targets{scrape_job=\"j\"} 1\n"), "{page}");
    assert!(page.contains("watchfire_net_client_connections_total 1\n"), "{page}");
}
