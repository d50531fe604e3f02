//! How each case of the suite for senders is set up: what is exposed, and what the receiver answers.
//!
//! Source: `remotewrite/sender` of Prometheus' compliance repository, whose cases name what is
//! exposed and what is wanted in words.

use std::fmt::Write as _;
use std::time::Duration;

use crate::harness::now_ms;
use crate::harness::write_receiver::Reaction;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// What a receiver says that refuses; it must be in the log, word for word.
pub(super) const COMPLAINT: &str = "no: {\"code\": 42, \"why\": 'out of <bounds> & 100% full'}";
const MINUTE_MS: i64 = 60_000;

/// How one case is run.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) content_type: &'static str,
    /// What the target exposes, scrape by scrape; the last text stays.
    pub(super) exposed: Vec<String>,
    /// The first answers; 204 afterwards.
    pub(super) answers: Vec<Reaction>,
    /// Whether version 1 is configured.
    pub(super) is_one: bool,
    /// Whether nobody listens at first.
    pub(super) is_away: bool,
    /// More keys of the job, the remote, and its `queue_config`.
    pub(super) job_keys: &'static str,
    pub(super) remote_keys: &'static str,
    pub(super) queue_keys: &'static str,
}

impl Plan {
    /// Where the receiver finds what belongs to the case.
    pub(super) fn path(&self) -> String {
        format!("/write/{}", self.name)
    }

    fn exposing(name: &str, text: &str) -> Plan {
        Plan {
            name: name.to_owned(),
            content_type: TEXT,
            exposed: vec![text.to_owned()],
            answers: Vec::new(),
            is_one: false,
            is_away: false,
            job_keys: "",
            remote_keys: "",
            queue_keys: "",
        }
    }

    fn answering(mut self, answers: &[Reaction]) -> Plan {
        self.answers = answers.to_vec();
        self
    }

    fn statuses(self, statuses: &[u16]) -> Plan {
        let answers: Vec<_> = statuses.iter().map(|status| Reaction::status(*status)).collect();
        self.answering(&answers)
    }
}

/// How to run a case; `None` if the suite had no such case when this was written.
pub(super) fn plan_of(name: &str, scrape_data: Option<&str>) -> Option<Plan> {
    let text = scrape_data.map(whole_lines);
    let generated = generated(name);
    let text = text.or(generated)?;
    let plan = Plan::exposing(name, &text);
    if text.contains(" # {") {
        // Exemplars exist in this format only.
        let text = format!("{text}# EOF\n");
        return Some(Plan { content_type: OPEN_METRICS, exposed: vec![text], ..plan });
    }
    reacting(name, plan.clone()).or_else(|| is_plain(name).then_some(plan))
}

/// The text as the suite's source means it: one case still bears the end of a Go expression, and
/// some have no line end.
fn whole_lines(text: &str) -> String {
    let text = text.strip_suffix("` + \"\\n").unwrap_or(text);
    format!("{}\n", text.trim_end_matches('\n'))
}

/// Texts the suite makes up in code.
fn generated(name: &str) -> Option<String> {
    let mut text = String::new();
    let mut series = |count: usize, labels: &dyn Fn(usize) -> String| {
        for number in 0..count {
            writeln!(text, "generated{{{}}} {number}", labels(number)).expect("a String");
        }
    };
    match name {
        "batch_size_reasonable" => series(2_500, &|number| format!("series=\"{number}\"")),
        "many_timeseries" => series(1_000, &|number| format!("series=\"{number}\"")),
        "high_cardinality" => series(500, &|number| {
            format!("path=\"/{number}\",user=\"u{}\",status=\"{}\"", number * 7, 200 + number % 5)
        }),
        "TestRobustnessUnderLoad" => series(300, &|number| format!("series=\"{number}\"")),
        "TestSymbolTableEfficiency" => {
            series(100, &|number| {
                format!("method=\"GET\",status=\"200\",host=\"{}\"", number % 10)
            });
        }
        "huge_label_values" => {
            writeln!(text, "generated{{huge=\"{}\"}} 1", "x".repeat(12_000)).expect("a String");
        }
        "very_long_metric_name" => {
            writeln!(text, "generated_{} 1", "long_".repeat(100)).expect("a String");
        }
        "future_timestamp" => {
            writeln!(text, "generated 1 {}", now_ms() + 5 * MINUTE_MS).expect("a String");
        }
        "TestConcurrentRequests"
        | "TestHTTPMethod"
        | "TestContentTypeNegotiation"
        | "TestRemoteWrite1Configuration"
        | "TestSampleOrdering"
        | "TestNetworkErrors"
        | "TestNoFallbackOn2xx" => text.push_str("test_metric 42\n"),
        _ => return None,
    }
    if name == "TestSymbolTableEfficiency" {
        // Each host ten times would be a series ten times.
        text = text.lines().take(10).fold(String::new(), |all, line| all + line + "\n");
    }
    Some(text)
}

/// Cases in which the receiver or the target does something, or the configuration is another.
fn reacting(name: &str, plan: Plan) -> Option<Plan> {
    let said = |status, text: &str| {
        Reaction::Status(status, String::new(), text.as_bytes().to_vec(), Duration::ZERO)
    };
    let counting = |status, samples: usize| {
        let headers = format!("X-Prometheus-Remote-Write-Samples-Written: {samples}\r\n");
        Reaction::Status(status, headers, b"some were refused".to_vec(), Duration::ZERO)
    };
    Some(match name {
        "exponential_backoff_on_retries" | "backoff_required" => plan.statuses(&[503; 4]),
        "backoff_max_delay" => plan.statuses(&[503; 7]),
        "backoff_with_jitter" => plan.statuses(&[500; 5]),
        "TestConcurrentRequests" => Plan { queue_keys: ", min_shards: 4", ..plan },
        "handle_connection_refused" => Plan { is_away: true, ..plan },
        "handle_timeout" => {
            let late =
                Reaction::Status(204, String::new(), Vec::new(), Duration::from_millis(1_500));
            Plan { remote_keys: "  remote_timeout: 500ms\n", ..plan.answering(&[late]) }
        }
        "handle_partial_write" | "TestNetworkErrors" => plan.answering(&[
            Reaction::Raw(b"HTTP/1.1 204 No Con".to_vec()),
            Reaction::Raw(b"HTTP/1.1 500 Said\r\nContent-Length: 100\r\n\r\nhalf".to_vec()),
        ]),
        "handle_malformed_response" => {
            plan.answering(&[Reaction::Raw(b"\x00\x01this is no HTTP\r\n\r\n".to_vec())])
        }
        "sender_continues_after_errors" => plan.statuses(&[500, 400, 503, 404, 502]),
        "handle_invalid_status_code" => plan.statuses(&[999]),
        "handle_empty_response" => plan.answering(&[Reaction::Raw(Vec::new())]),
        "handle_large_error_response" | "handle_large_error_body" => {
            plan.answering(&[said(500, &"x".repeat(1 << 20)), said(400, &"y".repeat(1 << 20))])
        }
        "TestRobustnessUnderLoad" => plan.statuses(&[503, 204, 503, 204, 500, 204, 502]),
        "fallback_on_415_unsupported_media_type"
        | "retry_with_different_version"
        | "fallback_header_changes"
        | "accept_success_after_fallback"
        | "persistent_fallback_choice"
        | "TestContentTypeNegotiation" => plan.statuses(&[415]),
        "TestNoFallbackOn2xx" => plan.statuses(&[200, 202, 204]),
        "ignore_response_body_on_success" => plan.answering(&[said(200, "{\"error\": \"none\"}")]),
        "handle_partial_write_response" => plan.answering(&[counting(400, 2)]),
        "handle_missing_written_headers" => plan.answering(&[said(400, "nothing was written")]),
        "log_error_messages_verbatim" => plan.answering(&[said(400, COMPLAINT)]),
        "handle_200_ok" => plan.statuses(&[200; 20]),
        "no_retry_on_400" => plan.statuses(&[400]),
        "no_retry_on_401" => plan.statuses(&[401]),
        "no_retry_on_404" => plan.statuses(&[404]),
        "no_retry_on_413" => plan.statuses(&[413]),
        "may_retry_on_429" => {
            let wish = "Retry-After: 1\r\n".to_owned();
            let busy = Reaction::Status(429, wish, Vec::new(), Duration::ZERO);
            Plan { queue_keys: ", retry_on_http_429: true", ..plan.answering(&[busy]) }
        }
        "retry_on_500" => plan.statuses(&[500]),
        "retry_on_502" => plan.statuses(&[502]),
        "retry_on_503" => plan.statuses(&[503]),
        "retry_on_504" => plan.statuses(&[504]),
        // The text of the case is no exposition; a series that vanishes is how one comes to be.
        "stale_marker" => Plan {
            exposed: vec![
                "test_metric 42\n".to_owned(),
                "test_metric 42\n".to_owned(),
                String::new(),
            ],
            ..plan
        },
        "zero_timestamp" => plan,
        name if name.starts_with("histogram_") || name == "native_histogram_structure" => {
            Plan { job_keys: "  convert_classic_histograms_to_nhcb: true\n", ..plan }
        }
        name if name.starts_with("rw1_") || name == "TestRemoteWrite1Configuration" => {
            Plan { is_one: true, ..plan }
        }
        _ => return None,
    })
}

/// Cases in which nothing happens: what is exposed has to arrive, in the right form.
fn is_plain(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "multiple_series_per_request",
        "batch_size_reasonable",
        "handles_varying_cardinality",
        "efficient_symbol_reuse",
        "metadata_batching",
        "samples_with_metadata",
        "multiple_metric_types",
        "high_cardinality_labels",
        "complete_metric_family",
        "mixed_labels_and_metadata",
        "real_world_scenario",
        "empty_scrape",
        "huge_label_values",
        "unicode_in_labels",
        "many_timeseries",
        "high_cardinality",
        "very_long_metric_name",
        "special_float_combinations",
        "future_timestamp",
        "metric_name_with_colons",
        "mixed_sample_and_histogram_families",
        "label_lexicographic_ordering",
        "metric_name_label_present",
        "metric_name_format_valid",
        "label_name_format_valid",
        "no_duplicate_label_names",
        "label_names_not_empty",
        "label_values_may_be_empty",
        "reserved_label_prefix",
        "unicode_in_label_values",
        "special_chars_in_label_values",
        "very_long_label_names",
        "very_long_label_values",
        "many_labels_per_series",
        "metadata_type_counter",
        "metadata_type_gauge",
        "metadata_type_histogram",
        "metadata_type_summary",
        "metadata_help_text",
        "metadata_unit",
        "metadata_help_with_newlines",
        "metadata_help_with_special_chars",
        "metadata_help_refs_valid",
        "metadata_consistent_across_series",
        "metadata_empty_help_allowed",
        "content_type_protobuf",
        "content_type_with_proto_param",
        "content_encoding_snappy",
        "version_header_present",
        "version_header_value",
        "user_agent_present",
        "snappy_block_format",
        "protobuf_parseable",
        "TestHTTPMethod",
        "process_written_count_headers",
        "handle_204_no_content",
        "float_value_encoding",
        "integer_value_encoding",
        "zero_value_encoding",
        "negative_value_encoding",
        "positive_infinity_encoding",
        "negative_infinity_encoding",
        "nan_encoding",
        "timestamp_milliseconds_format",
        "timestamp_recent",
        "multiple_samples_same_series",
        "large_float_values",
        "small_float_values",
        "scientific_notation",
        "precision_preservation",
        "job_instance_labels_present",
        "TestSampleOrdering",
        "empty_string_at_index_zero",
        "string_deduplication",
        "labels_refs_valid_indices",
        "labels_refs_even_length",
        "TestSymbolTableEfficiency",
        "timestamp_int64_milliseconds",
        "timestamp_ordering_within_series",
        "start_timestamp_for_counters",
        "start_timestamp_for_histograms",
        "start_timestamp_zero_handling",
        "timestamp_precision",
        "timestamp_future_values",
        "start_timestamp_before_sample_timestamp",
    ];
    NAMES.contains(&name)
}
