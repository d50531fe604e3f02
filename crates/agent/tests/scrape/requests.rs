//! What a target is asked, and what becomes of its answer.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::{Scraped, Target, answer, text};

fn gzip(body: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body.as_bytes()).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

#[tokio::test]
async fn a_target_is_asked_as_prometheus_asks() {
    let target = Target::text("a 1\n").await;
    let mut scraped = Scraped::start(&format!(
        "global: {{scrape_interval: 250ms, scrape_timeout: 200ms}}
scrape_configs:
- job_name: j
  metrics_path: /a path
  params: {{module: [x, y], 'q r': ['1&2']}}
  basic_auth: {{username: u, password: p}}
  static_configs: [{{targets: ['{0}'], labels: {{team: t, __param_module: z}}}}]
",
        target.address
    ))
    .await;
    let series = format!("a{{instance=\"{}\", job=\"j\", team=\"t\"}}", target.address);
    scraped.until(|scraped| scraped.count(&series) >= 2).await;
    let requests = target.requests();
    let (uri, headers) = &requests[0];
    assert_eq!(uri, "/a%20path?module=z&module=y&q+r=1%262");
    let header = |name: &str| headers.get(name).expect(name).to_str().expect("ASCII");
    assert_eq!(
        header("accept"),
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
         application/openmetrics-text;version=0.0.1;q=0.5,\
         text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,\
         */*;q=0.2"
    );
    assert_eq!(header("accept-encoding"), "gzip");
    assert_eq!(header("x-prometheus-scrape-timeout-seconds"), "0.2");
    assert_eq!(header("authorization"), "Basic dTpw");
    assert!(header("user-agent").starts_with("Watchfire/"));
    let samples = scraped.of(&series);
    assert!((150..450).contains(&(samples[1].0 - samples[0].0)), "{samples:?}");
    let target = format!("{{instance=\"{}\", job=\"j\", team=\"t\"}}", target.address);
    for (name, value) in [
        ("up", 1.0),
        ("scrape_samples_scraped", 1.0),
        ("scrape_samples_post_metric_relabeling", 1.0),
        ("scrape_series_added", 0.0),
    ] {
        assert_eq!(scraped.last(&format!("{name}{target}")), Some(value), "{name}");
    }
    assert_eq!(scraped.of(&format!("scrape_series_added{target}"))[0].1, Some(1.0));
    let duration = scraped.last(&format!("scrape_duration_seconds{target}")).expect("a number");
    assert!(duration > 0.0 && duration < 0.2, "{duration}");
}

#[tokio::test]
async fn answers_are_taken_by_what_they_say_of_themselves() {
    let target = Target::new(|uri, _| match uri.path() {
        "/gzip" => answer(
            200,
            &[("content-type", "text/plain"), ("content-encoding", "gzip")],
            &gzip("a 1\n"),
        ),
        "/openmetrics" => answer(
            200,
            &[("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")],
            b"a 1\n# EOF\n",
        ),
        "/nothing" => answer(200, &[], b"a 1\n"),
        "/html" => answer(200, &[("content-type", "text/html")], b"a 1\n"),
        "/empty" => answer(200, &[("content-type", "text/html")], b""),
        "/missing" => answer(404, &[], b"a 1\n"),
        "/bomb" => answer(
            200,
            &[("content-type", "text/plain"), ("content-encoding", "gzip")],
            &gzip(&"a 1\n".repeat(100_000)),
        ),
        "/large" => text(&"a 1\n".repeat(1_000)),
        _ => answer(200, &[("content-type", "text/plain"), ("content-encoding", "br")], b"a 1\n"),
    })
    .await;
    let jobs =
        ["gzip", "openmetrics", "nothing", "html", "empty", "missing", "bomb", "large", "br"]
            .map(|name| {
                format!(
                    "- job_name: {name}
  metrics_path: /{name}
  static_configs: [{{targets: ['{}'], labels: {{instance: i}}}}]
",
                    target.address
                )
            })
            .concat();
    let mut scraped = Scraped::start(&format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 150ms, body_size_limit: 4000B, \
         extra_scrape_metrics: true}}
scrape_configs:
{jobs}- job_name: fallback
  metrics_path: /html
  fallback_scrape_protocol: PrometheusText0.0.4
  static_configs: [{{targets: ['{}'], labels: {{instance: i}}}}]
",
        target.address
    ))
    .await;
    scraped.during(std::time::Duration::from_millis(600)).await;
    let errors = scraped.scraper.targets(None);
    let error_of = |job: &str| {
        let target = errors.iter().find(|target| target.pool == job).expect("a target");
        target.last_error.clone()
    };
    for (job, up, body_bytes, error) in [
        ("gzip", 1.0, 4.0, ""),
        ("openmetrics", 1.0, 10.0, ""),
        ("fallback", 1.0, 4.0, ""),
        ("empty", 1.0, 0.0, ""),
        ("nothing", 0.0, 4.0, "blank Content-Type"),
        ("html", 0.0, 4.0, "unsupported Content-Type \"text/html\""),
        ("missing", 0.0, 0.0, "server returned HTTP status 404 Not Found"),
        ("bomb", 0.0, -1.0, "body size limit exceeded"),
        ("large", 0.0, -1.0, "body size limit exceeded"),
        ("br", 0.0, 0.0, "Content-Encoding \"br\""),
    ] {
        let labels = format!("{{instance=\"i\", job=\"{job}\"}}");
        assert_eq!(scraped.last(&format!("up{labels}")), Some(up), "{job}");
        let size = scraped.last(&format!("scrape_body_size_bytes{labels}"));
        assert_eq!(size, Some(body_bytes), "{job}");
        assert_eq!(scraped.last(&format!("scrape_timeout_seconds{labels}")), Some(0.15));
        let found = error_of(job);
        assert_eq!(found.is_empty(), error.is_empty(), "{job}: {found}");
        assert!(found.contains(error), "{job}: {found}");
    }
}

#[tokio::test]
async fn a_target_that_is_dead_or_slow_delays_no_other() {
    let target = Target::text("a 1\n").await;
    // Takes connections and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let silent = silent.local_addr().map(|address| (silent, address)).expect("bound");
    let mut scraped = Scraped::start(&format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
- job_name: j
  static_configs: [{{targets: ['127.0.0.1:1', '{}', 'no-such-host.invalid', '{}']}}]
",
        silent.1, target.address
    ))
    .await;
    let good = format!("up{{instance=\"{}\", job=\"j\"}}", target.address);
    let slow = format!("up{{instance=\"{}\", job=\"j\"}}", silent.1);
    scraped.until(|scraped| scraped.count(&good) >= 5 && scraped.count(&slow) >= 2).await;
    let samples = scraped.of(&good);
    assert!(samples.iter().all(|sample| sample.1 == Some(1.0)), "{samples:?}");
    let times: Vec<i64> = samples.iter().map(|sample| sample.0).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] < 400), "none is missed: {times:?}");
    assert_eq!(scraped.last(&slow), Some(0.0));
    assert_eq!(scraped.last("up{instance=\"127.0.0.1:1\", job=\"j\"}"), Some(0.0));
    let totals = scraped.scraper.totals();
    assert_eq!((totals.up, totals.series), (1, 1), "{totals:?}");
    let errors: Vec<String> =
        scraped.scraper.targets(Some("j")).into_iter().map(|target| target.last_error).collect();
    assert!(errors.iter().any(|error| error.contains("Connection refused")), "{errors:?}");
    assert!(errors.iter().any(|error| error.contains("no complete answer")), "{errors:?}");
}

#[tokio::test]
async fn large_answers_are_taken_as_small_ones_are() {
    let lines: String = (0..60_000).map(|index| format!("m{{i=\"{index}\"}} {index}\n")).collect();
    let target = Target::text(&lines).await;
    let mut scraped = Scraped::start(&format!(
        "global: {{scrape_interval: 10s, scrape_timeout: 10s}}
scrape_configs: [{{job_name: j, static_configs: [{{targets: ['{}']}}]}}]
",
        target.address
    ))
    .await;
    let up = format!("up{{instance=\"{}\", job=\"j\"}}", target.address);
    scraped.until(|scraped| scraped.count(&up) >= 1).await;
    assert_eq!(scraped.last(&up), Some(1.0));
    let series = format!("m{{i=\"59999\", instance=\"{}\", job=\"j\"}}", target.address);
    assert_eq!(scraped.last(&series), Some(59_999.0));
}

/// A protobuf field of bytes.
fn bytes_field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2, u8::try_from(bytes.len()).expect("short")];
    field.extend_from_slice(bytes);
    field
}

/// A protobuf field of a double.
fn double_field(number: u8, value: f64) -> Vec<u8> {
    let mut field = vec![number << 3 | 1];
    field.extend_from_slice(&value.to_le_bytes());
    field
}

/// `h` with three observations, two of them in `(1, 2]` and one in `(2, 4]`, both as classic and as
/// native buckets of schema 0.
fn histogram_family() -> Vec<u8> {
    let classic = |count: u8, bound: f64| {
        bytes_field(3, &[vec![1 << 3, count], double_field(2, bound)].concat())
    };
    let histogram = [
        vec![1 << 3, 3],
        double_field(2, 6.5),
        classic(2, 2.0),
        classic(3, 4.0),
        // schema 0, zero threshold, one span of two buckets from 1, deltas 2 and -1 in zigzag.
        vec![5 << 3, 0],
        double_field(6, 1e-128),
        bytes_field(12, &[1 << 3, 2, 2 << 3, 2]),
        bytes_field(13, &[4, 1]),
    ]
    .concat();
    let family =
        [bytes_field(1, b"h"), vec![3 << 3, 4], bytes_field(4, &bytes_field(7, &histogram))]
            .concat();
    let mut delimited = vec![u8::try_from(family.len()).expect("short")];
    delimited.extend_from_slice(&family);
    delimited
}

#[tokio::test]
async fn native_histograms_come_by_protobuf() {
    let kind = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; \
                encoding=delimited";
    let body = histogram_family();
    let target = Target::new(move |_, _| answer(200, &[("content-type", kind)], &body)).await;
    let yaml = |native: bool| {
        format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
- job_name: j
  scrape_native_histograms: {native}
  static_configs: [{{targets: ['{}'], labels: {{instance: i}}}}]
",
            target.address
        )
    };
    let mut scraped = Scraped::start(&yaml(true)).await;
    let histogram = "h{instance=\"i\", job=\"j\"}";
    scraped.until(|scraped| scraped.histograms.contains_key(histogram)).await;
    assert_eq!(scraped.histograms[histogram][0].1, Some(6.5));
    let (_, headers) = &target.requests()[0];
    let accept = headers["accept"].to_str().expect("ASCII");
    assert!(accept.starts_with("application/vnd.google.protobuf;"), "{accept}");
    let count = "h_count{instance=\"i\", job=\"j\"}";
    assert!(!scraped.series.contains_key(count));
    // Without native histograms the classic one of the same name is taken.
    scraped.reload(&yaml(false)).await;
    scraped.until(|scraped| scraped.series.contains_key(count)).await;
    assert_eq!(scraped.last(count), Some(3.0));
    let bucket = "h_bucket{instance=\"i\", job=\"j\", le=\"2.0\"}";
    assert_eq!(scraped.last(bucket), Some(2.0));
    let ended = scraped.histograms[histogram].last().expect("samples").1;
    assert_eq!(ended, None, "the native one has ended");
}
