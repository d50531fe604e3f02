//! What each test of the suite sends and what a receiver has to answer.
//!
//! Source: `remotewrite/receiver` of Prometheus' compliance repository. Where the suite takes any
//! number up to a bound, these cases want the exact one.

use super::receiver_case::{Case, Encoding, SeriesSpec, Wanted, owned};
use crate::harness::remote_write_2::Histogram2;

const COUNTER: u8 = 1;
const GAUGE: u8 = 2;
const HISTOGRAM: u8 = 3;
const GAUGE_HISTOGRAM: u8 = 4;
const SUMMARY: u8 = 5;
const INFO: u8 = 6;
const STATE_SET: u8 = 7;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// The cases of a test; `None` if the suite had no such test when this was written.
pub(super) fn cases_of(test: &str) -> Option<Vec<Case>> {
    Some(match test {
        "TestSamplesWithMetadataAndExemplars"
        | "TestHistogramsWithMetadataAndExemplars"
        | "TestComplexSamplesRequest"
        | "TestComplexHistogramsRequest"
        | "TestMultipleMetricFamiliesSamples"
        | "TestMultipleMetricFamiliesHistograms"
        | "TestSpecialCharactersCombined"
        | "TestCustomBucketsHistogramWithExemplar" => vec![Case::stored("", combined(test))],
        "TestEdgeCaseCombinations" => edge_cases(),
        "TestManySamples" => vec![Case::stored("", (0..50).map(many_samples).collect())],
        "TestManyHistograms" => vec![Case::stored("", (0..50).map(many_histograms).collect())],
        "TestExemplars" => exemplars(),
        "TestExemplarWithCreatedTimestamp" => {
            let series = SeriesSpec::float(&REQUESTS, 250.0).since(-2 * HOUR_MS);
            let labels = [("trace_id", "abc123"), ("span_id", "span456")];
            vec![Case::stored("", vec![series.exemplar(&labels, 250.0)])]
        }
        "TestMultipleExemplars" => vec![Case::stored("", multiple_exemplars())],
        "TestExemplarTimestamps" => vec![Case::stored("", exemplar_timestamps())],
        "TestExemplarValidation" => {
            named_or_not("exemplar", |series| series.exemplar(&[("trace_id", "test_trace")], 1.0))
        }
        "TestExemplarSpecialValues" => special_exemplars(),
        "TestHistograms" => histograms(),
        "TestHistogramWithCreatedTimestamp" => {
            let shape = histogram(1.5, true, true, true);
            let series = SeriesSpec::native(&DURATION, shape).since(-30 * MINUTE_MS);
            vec![Case::stored("", vec![series])]
        }
        "TestMultipleHistograms" => {
            let first = SeriesSpec::native(
                &[("__name__", "hist1"), ("job", "test")],
                histogram(10.5, true, false, true),
            );
            let second = SeriesSpec::native(
                &[("__name__", "hist2"), ("job", "test")],
                histogram(5.2, false, true, false),
            );
            vec![Case::stored("", vec![first, second])]
        }
        "TestEmptyHistogram" => {
            let shape = histogram(0.0, false, false, false);
            vec![Case::stored("", vec![SeriesSpec::native(&[("__name__", "empty_hist")], shape)])]
        }
        "TestHistogramWithMetadata"
        | "TestHistogramWithExemplar"
        | "TestHistogramWithMetadataAndExemplar"
        | "TestMultipleHistogramsWithMetadata"
        | "TestMetadataWithComplexLabels" => vec![Case::stored("", described_histograms(test))],
        "TestMetadata" => metadata(),
        "TestCounterMetadataWithCreatedTimestamp" => {
            let series = SeriesSpec::float(&REQUESTS, 150.0).since(-HOUR_MS);
            vec![Case::stored("", vec![series.said(COUNTER, "Total HTTP requests", "requests")])]
        }
        "TestMetadataWithSamples" => {
            let series =
                SeriesSpec::float(&[("__name__", "http_requests_total"), ("job", "test")], 42.0);
            vec![Case::stored("", vec![series.said(COUNTER, "Total HTTP requests", "requests")])]
        }
        "TestMultipleMetadata" => {
            vec![Case::stored(
                "",
                vec![
                    SeriesSpec::float(&[("__name__", "cpu_usage")], 85.5).said(
                        GAUGE,
                        "CPU usage percentage",
                        "percent",
                    ),
                    SeriesSpec::float(&[("__name__", "memory_usage")], 4_096_000_000.0).said(
                        GAUGE,
                        "Memory usage in bytes",
                        "bytes",
                    ),
                    SeriesSpec::float(&[("__name__", "disk_usage"), ("device", "sda1")], 75.2)
                        .said(GAUGE, "Disk usage percentage", "percent"),
                ],
            )]
        }
        "TestMetadataValidation" => {
            named_or_not("metadata", |series| series.said(COUNTER, "Test help", "unit"))
        }
        "TestSingleMetric" => single_metric(),
        "TestCounterWithCreatedTimestamp" => {
            vec![Case::stored("", vec![SeriesSpec::float(&REQUESTS, 100.0).since(-HOUR_MS)])]
        }
        "TestMultipleMetrics" => multiple_metrics(),
        "TestBadContentTypes" => ["application/json", "image/png"]
            .map(|content_type| Case {
                content_type: Some(content_type),
                ..corrupt(415).variant(content_type)
            })
            .to_vec(),
        "TestBadContentEncodings" => ["gzip", "deflate"]
            .map(|encoding| Case {
                content_encoding: Some(encoding),
                ..corrupt(415).variant(encoding)
            })
            .to_vec(),
        "TestCorruptRequestBody" => vec![corrupt(400)],
        "TestRW1BasicCompatibility" => {
            let series = vec![
                SeriesSpec::float(&UP, 1.0),
                SeriesSpec::float(&[("__name__", "http_requests_total")], 100.0),
            ];
            vec![of_one(Case::stored("", series))]
        }
        "TestRW1ErrorHandling" => {
            let series = vec![SeriesSpec::float(&[("__name__", "error_test")], 1.0)];
            let case = of_one(Case::refused("", series, 400, 0));
            vec![Case { first_byte: Some(0xff), ..case }]
        }
        _ => return None,
    })
}

const UP: [(&str, &str); 3] =
    [("__name__", "up"), ("job", "testjob"), ("instance", "localhost:9090")];
const REQUESTS: [(&str, &str); 2] = [("__name__", "http_requests_total"), ("job", "api")];
const DURATION: [(&str, &str); 2] = [("__name__", "request_duration_seconds"), ("job", "api")];

/// The same request in 1.0, whose answers have no headers.
fn of_one(case: Case) -> Case {
    let wanted = Wanted { samples: 0, ..case.wanted };
    Case { encoding: Encoding::One, wanted, ..case }
}

/// A body that is not snappy.
fn corrupt(status: u16) -> Case {
    let case = Case::refused("", vec![SeriesSpec::float(&[("__name__", "up")], 1.0)], status, 0);
    Case { first_byte: Some(b'0'), ..case }
}

/// The suite's histogram: 23 observations in positive buckets, 3 in negative ones, 1 at zero.
fn histogram(sum: f64, positive: bool, negative: bool, zero: bool) -> Histogram2 {
    let mut histogram = Histogram2 { sum, ..Default::default() };
    if positive {
        histogram.positive = (vec![(0, 3), (2, 2)], vec![1, 2, 1, 3, 1]);
        histogram.count += 23;
    }
    if negative {
        histogram.negative = (vec![(0, 2)], vec![1, 1]);
        histogram.count += 3;
    }
    if zero {
        histogram.zero_count = 1;
        histogram.count += 1;
    }
    histogram
}

fn custom_buckets(sum: f64) -> Histogram2 {
    Histogram2 {
        sum,
        schema: -53,
        count: 30,
        positive: (vec![(0, 6)], vec![2, 1, 2, 3, -1, -2]),
        custom_values: vec![0.1, 0.5, 1.0, 2.5, 5.0, 10.0],
        ..Default::default()
    }
}

fn combined(test: &str) -> Vec<SeriesSpec> {
    match test {
        "TestSamplesWithMetadataAndExemplars" => {
            let labels = [("__name__", "http_requests_total"), ("job", "api"), ("method", "POST")];
            vec![
                SeriesSpec::float(&labels, 1.0)
                    .said(COUNTER, "Total number of HTTP requests", "requests")
                    .exemplar(&[("trace_id", "request_trace_123"), ("user_id", "user789")], 1.0),
            ]
        }
        "TestHistogramsWithMetadataAndExemplars" => {
            let labels = [("__name__", "request_duration_seconds"), ("service", "auth")];
            vec![
                SeriesSpec::native(&labels, histogram(0.456, true, true, true))
                    .said(HISTOGRAM, "HTTP request duration distribution", "seconds")
                    .exemplar(&[("trace_id", "slow_request_trace"), ("endpoint", "/login")], 0.456),
            ]
        }
        "TestComplexSamplesRequest" => vec![
            SeriesSpec::float(&[("__name__", "cpu_usage"), ("instance", "server1")], 0.85)
                .said(GAUGE, "CPU usage ratio", "ratio")
                .exemplar(&[("trace_id", "high_cpu_trace"), ("process", "worker")], 0.85),
            SeriesSpec::float(
                &[("__name__", "memory_usage"), ("instance", "server1")],
                8_589_934_592.0,
            )
            .said(GAUGE, "Memory usage in bytes", "bytes"),
        ],
        "TestComplexHistogramsRequest" => vec![
            SeriesSpec::native(
                &[("__name__", "response_time_hist"), ("endpoint", "/api/v1/users")],
                histogram(0.125, true, false, true),
            )
            .said(HISTOGRAM, "Response time distribution", "seconds")
            .exemplar(&[("trace_id", "fast_response"), ("user", "premium")], 0.125),
            SeriesSpec::native(
                &[("__name__", "request_size_hist"), ("method", "POST")],
                histogram(1_024.0, false, true, true),
            )
            .said(HISTOGRAM, "Request size distribution", "bytes"),
        ],
        "TestMultipleMetricFamiliesSamples" => vec![
            SeriesSpec::float(&[("__name__", "http_requests_total"), ("status", "200")], 1_000.0)
                .said(COUNTER, "Total HTTP requests", "requests")
                .exemplar(&[("trace_id", "successful_request")], 1_000.0),
            SeriesSpec::float(
                &[("__name__", "temperature_celsius"), ("location", "datacenter1")],
                23.5,
            )
            .said(GAUGE, "Temperature in Celsius", "celsius"),
        ],
        "TestMultipleMetricFamiliesHistograms" => vec![
            SeriesSpec::native(
                &[("__name__", "request_duration_seconds"), ("handler", "/metrics")],
                histogram(0.003, true, false, true),
            )
            .said(HISTOGRAM, "Request duration in seconds", "seconds")
            .exemplar(&[("trace_id", "metrics_scrape"), ("scraper", "prometheus")], 0.003),
        ],
        "TestSpecialCharactersCombined" => vec![
            SeriesSpec::float(
                &[
                    ("__name__", "test_metric"),
                    ("job", "test-job_with.special@chars"),
                    ("instance", "localhost:9090"),
                    ("environment", "test🚀"),
                ],
                42.0,
            )
            .said(
                GAUGE,
                "Test metric with special characters: äöü, newlines\nand \"quotes\"",
                "special/units",
            )
            .exemplar(
                &[
                    ("trace_id", "special_trace_äöü-123"),
                    ("span_id", "span_with.dots-and_underscores"),
                ],
                42.0,
            ),
        ],
        _ => vec![
            SeriesSpec::native(
                &[("__name__", "custom_latency_hist"), ("version", "v2")],
                custom_buckets(0.05),
            )
            .exemplar(&[("trace_id", "custom_bucket_trace"), ("bucket", "0.1")], 0.05),
        ],
    }
}

fn edge_cases() -> Vec<Case> {
    let orphan = || SeriesSpec::labels(&[("__name__", "orphan_metric")]);
    let old = SeriesSpec::float(&[("__name__", "old_metric")], 1.0).at(-HOUR_MS).exemplar_at(
        &[("trace_id", "old_trace")],
        1.0,
        -30 * MINUTE_MS,
    );
    vec![
        Case::stored(
            "metadata_without_data",
            vec![orphan().said(COUNTER, "Orphaned metric metadata", "count")],
        ),
        // The suite takes a 400 as well.
        Case::refused(
            "exemplars_without_data",
            vec![orphan().exemplar(&[("trace_id", "orphan_trace")], 42.0)],
            400,
            0,
        ),
        Case::stored(
            "mixed_timestamp_data",
            vec![old, SeriesSpec::float(&[("__name__", "new_metric")], 2.0)],
        ),
    ]
}

fn many_samples(index: u32) -> SeriesSpec {
    let (name, series) = (format!("counter_metric_{index}"), format!("series_{index}"));
    let value = f64::from(index * 100);
    SeriesSpec::float(&[("__name__", &name), ("series", &series)], value)
        .said(COUNTER, &format!("Counter metric number {index}"), "count")
        .exemplar(&[("trace_id", &format!("trace_{index}"))], value)
}

fn many_histograms(index: u32) -> SeriesSpec {
    let (name, bucket) = (format!("histogram_metric_{index}"), format!("bucket_{index}"));
    let sum = f64::from(index) / 10.0;
    let shape = histogram(sum, true, index.is_multiple_of(2), true);
    SeriesSpec::native(&[("__name__", &name), ("bucket", &bucket)], shape)
        .said(HISTOGRAM, &format!("Histogram metric number {index}"), "seconds")
        .exemplar(&[("trace_id", &format!("trace_{index}"))], sum)
}

fn exemplars() -> Vec<Case> {
    type Pairs = &'static [(&'static str, &'static str)];
    let cases: [(&'static str, Pairs, Pairs, f64); 7] = [
        ("basic_exemplar", &REQUESTS, &[("trace_id", "abc123def456")], 1.0),
        (
            "exemplar_with_span_id",
            &[("__name__", "request_duration_seconds"), ("method", "GET")],
            &[("trace_id", "xyz789"), ("span_id", "span123")],
            0.125,
        ),
        (
            "exemplar_without_trace_id",
            &[("__name__", "cpu_usage"), ("instance", "host1")],
            &[("user_id", "user123")],
            0.85,
        ),
        (
            "exemplar_with_multiple_labels",
            &[("__name__", "request_latency"), ("service", "auth")],
            &[("trace_id", "trace456"), ("user", "admin"), ("endpoint", "/login")],
            0.05,
        ),
        ("exemplar_no_labels", &[("__name__", "simple_counter")], &[], 1.0),
        (
            "exemplar_with_special_chars",
            &[("__name__", "test_metric")],
            &[("trace_id", "trace-with-dashes_and_underscores.123")],
            42.0,
        ),
        (
            "exemplar_with_unicode",
            &[("__name__", "unicode_test"), ("region", "🌍")],
            &[("trace_id", "unicode_trace_测试")],
            100.0,
        ),
    ];
    cases
        .into_iter()
        .map(|(name, labels, of_exemplar, value)| {
            let series = SeriesSpec::float(labels, value).exemplar(of_exemplar, value);
            Case::stored(name, vec![series])
        })
        .collect()
}

fn multiple_exemplars() -> Vec<SeriesSpec> {
    let duration = |method| [("__name__", "request_duration"), ("method", method)];
    vec![
        SeriesSpec::float(&duration("GET"), 0.1)
            .exemplar(&[("trace_id", "trace1"), ("span_id", "span1")], 0.1),
        SeriesSpec::float(&duration("POST"), 0.25)
            .exemplar(&[("trace_id", "trace2"), ("span_id", "span2")], 0.25),
        SeriesSpec::float(&[("__name__", "error_count"), ("service", "payment")], 1.0)
            .exemplar(&[("trace_id", "trace3"), ("user", "test_user")], 1.0),
    ]
}

fn exemplar_timestamps() -> Vec<SeriesSpec> {
    [(0.05, -HOUR_MS, "old_trace"), (0.15, -MINUTE_MS, "recent_trace"), (0.08, 0, "current_trace")]
        .into_iter()
        .map(|(value, offset_ms, trace)| {
            SeriesSpec::float(&[("__name__", "latency_hist")], value)
                .at(offset_ms)
                .exemplar(&[("trace_id", trace)], value)
        })
        .collect()
}

/// A series without name, one with an empty one, and a valid one; `add` gives them what the test
/// is about.
fn named_or_not(what: &str, add: fn(SeriesSpec) -> SeriesSpec) -> Vec<Case> {
    let names = if what == "exemplar" {
        ["exemplar_without_name_label", "exemplar_with_empty_name", "exemplar_with_valid_name"]
    } else {
        ["metadata_without_name_label", "metadata_with_empty_name", "metadata_with_valid_name"]
    };
    let series = |labels| vec![add(SeriesSpec::float(labels, 1.0))];
    vec![
        Case::refused(names[0], series(&[("job", "test")]), 400, 0),
        Case::refused(names[1], series(&[("__name__", "")]), 400, 0),
        Case::stored(names[2], series(&[("__name__", "valid_metric")])),
    ]
}

fn special_exemplars() -> Vec<Case> {
    [0.0, -123.456, 1e10, 1e-10, f64::from_bits(0x7ff8_0000_0000_0001), f64::INFINITY]
        .into_iter()
        .chain([f64::NEG_INFINITY])
        .map(|value| {
            let series = SeriesSpec::float(&[("__name__", "test_metric")], value)
                .exemplar(&[("trace_id", "special_value_trace")], value);
            Case::stored("", vec![series]).variant(&value.to_string())
        })
        .collect()
}

fn histograms() -> Vec<Case> {
    let plain = |name| vec![("__name__", name)];
    let stored = |name, labels: Vec<(&str, &str)>, shape| {
        Case::stored(name, vec![SeriesSpec::native(&labels, shape)])
    };
    let mut with_job = plain("test_histogram");
    with_job.push(("job", "test"));
    let mut with_instance = plain("test_histogram");
    with_instance.push(("instance", "localhost"));
    let bad = Histogram2 { count: 99, ..histogram(1.0, true, false, false) };
    let bad = vec![SeriesSpec::native(&plain("minimal_hist"), bad)];
    vec![
        stored("basic_histogram", plain("test_histogram"), histogram(1.0, true, true, true)),
        stored("custom_buckets_histogram", plain("test_histogram"), custom_buckets(1.0)),
        stored("positive_only_histogram", with_job, histogram(1.0, true, false, true)),
        stored("negative_only_histogram", with_instance, histogram(1.0, false, true, false)),
        stored("minimal_histogram", plain("minimal_hist"), histogram(1.0, false, false, true)),
        Case::refused("bad_count_histogram", bad, 400, 0),
    ]
}

fn described_histograms(test: &str) -> Vec<SeriesSpec> {
    match test {
        "TestHistogramWithMetadata" => {
            vec![SeriesSpec::native(&DURATION, histogram(2.5, true, true, true)).said(
                HISTOGRAM,
                "HTTP request duration in seconds",
                "seconds",
            )]
        }
        "TestHistogramWithExemplar" => vec![
            SeriesSpec::native(
                &[("__name__", "http_request_duration_seconds"), ("method", "GET")],
                histogram(1.23, true, false, true),
            )
            .exemplar(&[("trace_id", "abc123def456"), ("span_id", "span789")], 1.23),
        ],
        "TestHistogramWithMetadataAndExemplar" => vec![
            SeriesSpec::native(
                &[("__name__", "response_size_bytes"), ("service", "upload")],
                histogram(10_485_760.0, true, true, true),
            )
            .said(HISTOGRAM, "HTTP response size in bytes", "bytes")
            .exemplar(&[("trace_id", "large_upload_trace"), ("user_id", "user456")], 10_485_760.0),
        ],
        "TestMultipleHistogramsWithMetadata" => vec![
            SeriesSpec::native(
                &[("__name__", "cpu_usage_histogram"), ("instance", "server1")],
                histogram(0.75, true, false, true),
            )
            .said(HISTOGRAM, "CPU usage distribution", "ratio"),
            SeriesSpec::native(
                &[("__name__", "memory_usage_histogram"), ("instance", "server1")],
                histogram(8_589_934_592.0, true, true, false),
            )
            .said(HISTOGRAM, "Memory usage distribution", "bytes"),
        ],
        _ => vec![
            SeriesSpec::native(
                &[
                    ("__name__", "http_request_duration_seconds"),
                    ("job", "api-server"),
                    ("instance", "localhost:8080"),
                    ("method", "GET"),
                    ("status", "200"),
                    ("endpoint", "/api/v1/users"),
                ],
                histogram(0.250, true, true, true),
            )
            .said(HISTOGRAM, "HTTP request duration in seconds", "seconds"),
        ],
    }
}

fn metadata() -> Vec<Case> {
    let cases: [(&'static str, &str, u8, &str, &str); 10] = [
        ("counter_metadata", "http_requests_total", COUNTER, "Total number", "requests"),
        ("gauge_metadata", "cpu_usage_percent", GAUGE, "Current CPU usage", "percent"),
        ("histogram_metadata", "request_duration_seconds", HISTOGRAM, "Duration", "seconds"),
        ("metadata_no_help_no_unit", "simple_counter", COUNTER, "", ""),
        (
            "metadata_with_special_chars",
            "test_metric",
            GAUGE,
            "Test metric with\nnewlines and \"quotes\"",
            "bytes/sec",
        ),
        ("unspecified_metadata_type", "unknown_metric", 0, "Unknown metric type", ""),
        ("info_metadata_type", "build_info", INFO, "Build information", ""),
        ("stateset_metadata_type", "node_state", STATE_SET, "Node state information", ""),
        ("summary_metadata_type", "request_latency_summary", SUMMARY, "Latency", "seconds"),
        (
            "gauge_histogram_metadata_type",
            "temperature_histogram",
            GAUGE_HISTOGRAM,
            "Temperature distribution gauge histogram",
            "celsius",
        ),
    ];
    cases
        .into_iter()
        .map(|(name, metric, kind, help, unit)| {
            let labels = [("__name__", metric)];
            let series = match kind {
                HISTOGRAM => SeriesSpec::native(&labels, histogram(1.0, true, true, true)),
                _ => SeriesSpec::float(&labels, 1.0),
            };
            Case::stored(name, vec![series.said(kind, help, unit)])
        })
        .collect()
}

/// The values that the suite sends each metric with.
fn values() -> [(&'static str, f64); 5] {
    [
        ("1.0", 1.0),
        ("StaleNaN", f64::from_bits(0x7ff0_0000_0000_0002)),
        ("NaN", f64::from_bits(0x7ff8_0000_0000_0001)),
        ("Inf", f64::INFINITY),
        ("-Inf", f64::NEG_INFINITY),
    ]
}

fn single_metric() -> Vec<Case> {
    let named = |name, job: &str, instance: &str, value: &str| {
        owned(&[("__name__", name), (job, value), (instance, "localhost:9090")])
    };
    let stored: [(&'static str, Vec<(String, String)>); 5] = [
        ("simple metric", owned(&[("__name__", "up")])),
        ("simple metric with multiple labels", owned(&UP)),
        ("simple metric with newlines", named("up", "job", "instance", "test\njob\n")),
        (
            "simple metric with dots",
            named("resource.cpu.usage", "job.name", "instance.name", "testjob"),
        ),
        (
            "simple metric with spaces",
            named("resource cpu usage", "job name", "instance name", "testjob"),
        ),
    ];
    let refused: [(&'static str, Vec<(String, String)>); 2] =
        [("simple metric without name label", owned(&UP[1..])), ("empty metric", Vec::new())];
    let mut cases = Vec::new();
    for (shown, value) in values() {
        let series = |labels: &Vec<(String, String)>| vec![SeriesSpec::of(labels.clone(), value)];
        let stored = stored.iter().map(|(name, labels)| Case::stored(name, series(labels)));
        let refused =
            refused.iter().map(|(name, labels)| Case::refused(name, series(labels), 400, 0));
        cases.extend(stored.chain(refused).map(|case| case.variant(shown)));
    }
    cases
}

fn multiple_metrics() -> Vec<Case> {
    let mut cases = Vec::new();
    for (shown, value) in values() {
        let instance = |port: u16, is_named: bool| {
            let instance = format!("localhost:{port}");
            let labels = [("__name__", "up"), ("job", "testjob"), ("instance", &instance)];
            SeriesSpec::float(&labels[usize::from(!is_named)..], value)
        };
        let all = |named: [bool; 4]| {
            (9_090..).zip(named).map(|(port, is_named)| instance(port, is_named)).collect()
        };
        cases.extend(
            [
                Case::stored("multiple metrics", all([true; 4])),
                Case::refused("multiple metrics, without name label", all([false; 4]), 400, 0),
                Case::refused(
                    "multiple metrics, 1 without name label",
                    all([false, true, true, true]),
                    400,
                    3,
                ),
            ]
            .map(|case| case.variant(shown)),
        );
    }
    cases
}
