//! What a sender of remote write has to get right: in every request, and case by case.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::sender_cases::{COMPLAINT, Plan};
use crate::harness::write_receiver::{Message, Received, SeenSeries};

const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;
const CONTENT_TYPE_1: &str = "application/x-protobuf";
const CONTENT_TYPE_2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
const COUNTER: u64 = 1;

/// All that is known about how a case went.
pub(super) struct Evidence<'a> {
    pub(super) plan: &'a Plan,
    pub(super) requests: Vec<Received>,
    /// The sender's own `/metrics`, and its log.
    pub(super) metrics: &'a str,
    pub(super) log: &'a str,
    pub(super) target: SocketAddr,
}

/// One series as it is exposed.
#[derive(Debug)]
struct Exposed {
    labels: BTreeMap<String, String>,
    value: f64,
    t_ms: Option<i64>,
}

/// Judges a case.
pub(super) fn judge(evidence: &Evidence<'_>) -> Result<()> {
    let messages: Vec<Message> = evidence
        .requests
        .iter()
        .enumerate()
        .map(|(number, request)| {
            let message = Message::of(request).with_context(|| format!("request {number}"))?;
            well_formed(request, &message).with_context(|| format!("request {number}"))?;
            Ok(message)
        })
        .collect::<Result<_>>()?;
    ensure!(!messages.is_empty(), "nothing came");
    let taken: Vec<&Message> = messages
        .iter()
        .zip(&evidence.requests)
        .filter(|(_, request)| (200..300).contains(&request.status))
        .map(|(message, _)| message)
        .collect();
    in_order(&taken)?;
    let series: Vec<&SeenSeries> = taken.iter().flat_map(|message| &message.series).collect();
    let up = series.iter().find(|series| series.label("__name__") == "up");
    let up = up.context("`up` of the target did not come")?;
    ensure!(up.floats.iter().all(|(_, value)| *value == 1.0), "the target was down");
    delivered(evidence, &series)?;
    metadata(evidence, &messages)?;
    of_the_case(evidence, &messages, &series)
}

/// What holds for every request.
fn well_formed(request: &Received, message: &Message) -> Result<()> {
    ensure!(request.method == "POST", "the method is {}", request.method);
    let header = |name| request.header(name).unwrap_or_default();
    ensure!(
        header("content-encoding") == "snappy",
        "Content-Encoding {:?}",
        header("content-encoding")
    );
    let (content_type, version) =
        if message.is_two { (CONTENT_TYPE_2, "2.0.0") } else { (CONTENT_TYPE_1, "0.1.0") };
    ensure!(header("content-type") == content_type, "Content-Type {:?}", header("content-type"));
    let found = header("x-prometheus-remote-write-version");
    ensure!(found == version, "version {found:?} instead of {version}");
    ensure!(
        header("user-agent").starts_with("Watchfire/"),
        "User-Agent {:?}",
        header("user-agent")
    );
    // The framed format begins so.
    ensure!(!request.body.starts_with(&[0xff, 6, 0, 0]), "snappy frames");
    if message.is_two {
        ensure!(message.symbols.first().is_some_and(String::is_empty), "symbol 0 is not empty");
        let unique: BTreeSet<&String> = message.symbols.iter().collect();
        ensure!(unique.len() == message.symbols.len(), "a symbol is there twice");
        ensure!(message.metadata.is_empty(), "metadata beside the series");
    } else {
        ensure!(message.symbols.is_empty(), "symbols in version 1");
    }
    let samples = message.series.iter().map(|one| one.floats.len() + one.histograms.len());
    ensure!(samples.sum::<usize>() <= 2_000, "more than max_samples_per_send");
    message.series.iter().try_for_each(|series| {
        well_formed_series(series).with_context(|| format!("{:?}", series.labels))
    })
}

fn well_formed_series(series: &SeenSeries) -> Result<()> {
    let names: Vec<&str> = series.labels.iter().map(|(name, _)| name.as_str()).collect();
    ensure!(names.windows(2).all(|pair| pair[0] < pair[1]), "labels are not sorted or not unique");
    ensure!(series.labels.iter().all(|(n, v)| !n.is_empty() && !v.is_empty()), "an empty label");
    ensure!(names.contains(&"__name__"), "no name");
    ensure!(names.contains(&"job") && names.contains(&"instance"), "no job or no instance");
    for name in &names {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        ensure!(
            name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()),
            "{name}"
        );
        ensure!(!name.starts_with("__") || *name == "__name__", "{name} is reserved");
    }
    let metric = series.label("__name__");
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    ensure!(metric.chars().all(plain), "the name");
    let (floats, histograms) = (&series.floats, &series.histograms);
    ensure!(floats.is_empty() != histograms.is_empty(), "floats and histograms, or neither");
    ensure!(floats.windows(2).all(|pair| pair[0].0 < pair[1].0), "times do not grow");
    ensure!(histograms.windows(2).all(|pair| pair[0].t_ms < pair[1].t_ms), "times do not grow");
    for histogram in histograms {
        ensure!(histogram.schema.is_some() && histogram.t_ms > 0, "no schema or no time");
        let bounds = &histogram.custom_values;
        ensure!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "bounds are not sorted");
    }
    let newest = floats.iter().map(|sample| sample.0).chain(histograms.iter().map(|one| one.t_ms));
    let newest = newest.max().unwrap_or_default();
    ensure!(series.starts.iter().all(|start| *start <= newest), "a start behind its sample");
    for exemplar in &series.exemplars {
        ensure!(!exemplar.labels.is_empty() && exemplar.value.is_finite(), "{exemplar:?}");
        ensure!(exemplar.t_ms > 0, "{exemplar:?}");
    }
    Ok(())
}

/// What was taken of a series came in the order of time.
fn in_order(messages: &[&Message]) -> Result<()> {
    let mut last: BTreeMap<&[(String, String)], i64> = BTreeMap::new();
    for series in messages.iter().flat_map(|message| &message.series) {
        let times = series.floats.iter().map(|sample| sample.0);
        for t_ms in times.chain(series.histograms.iter().map(|one| one.t_ms)) {
            let before = last.insert(&series.labels, t_ms);
            // Sent again is allowed, backwards is not.
            ensure!(before.is_none_or(|before| before <= t_ms), "{:?} goes back", series.labels);
        }
    }
    Ok(())
}

/// All that is exposed arrives: labels, values bit by bit, times.
fn delivered(evidence: &Evidence<'_>, series: &[&SeenSeries]) -> Result<()> {
    let plan = evidence.plan;
    if plan.name == "zero_timestamp" {
        // A sample of 1970 is older than anything that is kept: it is not stored and not sent, and
        // nothing else suffers.
        return Ok(());
    }
    let mut seen = BTreeMap::new();
    for one in series {
        let labels: BTreeMap<&str, &str> =
            one.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        seen.entry(labels).or_insert_with(Vec::new).extend(&one.floats);
    }
    let histograms: BTreeMap<&str, &SeenSeries> = series
        .iter()
        .filter(|one| !one.histograms.is_empty())
        .map(|one| (one.label("__name__"), *one))
        .collect();
    let instance = evidence.target.to_string();
    let mut known = BTreeSet::new();
    for mut exposed in exposed(&plan.exposed[0])? {
        exposed.labels.insert("job".to_owned(), plan.name.clone());
        exposed.labels.insert("instance".to_owned(), instance.clone());
        if !known.insert(exposed.labels.clone()) {
            continue;
        }
        let name = exposed.labels["__name__"].clone();
        if let Some(family) = histograms.keys().find(|family| {
            ["_bucket", "_sum", "_count"].iter().any(|suffix| name == format!("{family}{suffix}"))
        }) {
            converted(histograms[*family], &exposed, &name)?;
            continue;
        }
        let labels = exposed.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let floats = seen.get(&labels.collect::<BTreeMap<_, _>>());
        let floats = floats.with_context(|| format!("{:?} did not come", exposed.labels))?;
        let now_ms = evidence.requests.last().map_or(0, |last| last.at_ms);
        let is_right = |(t_ms, value): &&(i64, f64)| {
            let same = value.to_bits() == exposed.value.to_bits();
            let at_its_time = match exposed.t_ms {
                Some(wanted) => *t_ms == wanted,
                None => (now_ms - 60_000..=now_ms + 1_000).contains(t_ms),
            };
            same && at_its_time
        };
        ensure!(floats.iter().any(is_right), "{:?} came as {floats:?}", exposed.labels);
    }
    Ok(())
}

/// A classic histogram that the scrape made a native one.
fn converted(series: &SeenSeries, exposed: &Exposed, name: &str) -> Result<()> {
    let histogram = series.histograms.first().context("no histogram")?;
    ensure!(histogram.schema == Some(-53), "schema {:?}", histogram.schema);
    if name.ends_with("_count") {
        ensure!(histogram.count == exposed.value, "{histogram:?} has another count");
    } else if name.ends_with("_sum") {
        ensure!(histogram.sum == exposed.value, "{histogram:?} has another sum");
    } else if let Some(bound) = exposed.labels.get("le").filter(|bound| *bound != "+Inf") {
        let bound: f64 = bound.parse()?;
        ensure!(histogram.custom_values.contains(&bound), "{histogram:?} lacks {bound}");
    }
    Ok(())
}

/// Lines of an exposition, as far as the cases use the format.
fn exposed(text: &str) -> Result<Vec<Exposed>> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| {
            // Behind that stands an exemplar.
            let line = line.split(" # ").next().unwrap_or_default();
            let (series, rest) = match line.find('}').filter(|at| line[..*at].contains('{')) {
                Some(_) => {
                    let end = end_of_labels(line).context("labels without an end")?;
                    line.split_at(end)
                }
                None => line.split_at(line.find(' ').context("no value")?),
            };
            let (name, pairs) = series.split_once('{').unwrap_or((series, ""));
            let mut labels = BTreeMap::from([("__name__".to_owned(), name.trim().to_owned())]);
            let mut pairs = pairs.trim_end_matches('}');
            while let Some((label, rest)) = pairs.split_once("=\"") {
                let (value, rest) = rest.split_once('"').context("a value without an end")?;
                let label = label.trim_start_matches(',').to_owned();
                let value = match label.as_str() {
                    // Bounds are written in one way, as since Prometheus 3.
                    "le" | "quantile" if value != "+Inf" => format!("{:?}", value.parse::<f64>()?),
                    _ => value.to_owned(),
                };
                if !value.is_empty() {
                    labels.insert(label, value);
                }
                pairs = rest;
            }
            let mut words = rest.split_whitespace();
            let value = words.next().context("no value")?;
            let value = match value {
                "NaN" => f64::from_bits(0x7ff8_0000_0000_0001),
                value => value.parse().with_context(|| format!("{line:?}"))?,
            };
            Ok(Exposed { labels, value, t_ms: words.next().map(str::parse).transpose()? })
        })
        .collect()
}

fn end_of_labels(line: &str) -> Option<usize> {
    let mut quoted = false;
    for (at, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '}' if !quoted => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Types and help texts that are exposed come along, with the series or on their own.
fn metadata(evidence: &Evidence<'_>, messages: &[Message]) -> Result<()> {
    const TYPES: [&str; 4] = ["counter", "gauge", "histogram", "summary"];
    const NUMBERS: [u64; 4] = [COUNTER, 2, 3, 5];
    let text = &evidence.plan.exposed[0];
    for line in text.lines() {
        let Some((family, kind)) = line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' '))
        else {
            continue;
        };
        let at = TYPES.iter().position(|known| *known == kind).context("a type of no case")?;
        let helps: Vec<&str> = text
            .lines()
            .filter_map(|line| {
                line.strip_prefix("# HELP ")?.strip_prefix(family)?.strip_prefix(' ')
            })
            .collect();
        let is_of = |series: &&SeenSeries| {
            let rest = series.label("__name__").strip_prefix(family);
            rest.is_some_and(|rest| ["", "_total", "_bucket", "_sum", "_count"].contains(&rest))
        };
        let mut found: Vec<(u64, String)> = Vec::new();
        for message in messages {
            for series in message.series.iter().filter(is_of) {
                found.extend(series.metadata.clone().map(|(kind, help, _)| (kind, help)));
            }
            let own = message.metadata.iter().filter(|entry| entry.0 == family);
            found.extend(own.map(|entry| (entry.1, entry.2.clone())));
        }
        ensure!(!found.is_empty() || !has_series(text, family), "nothing is told of {family}");
        for (number, help) in &found {
            ensure!(*number == NUMBERS[at], "{family} is told to be of type {number}");
            // A backslash before a line's end escapes nothing.
            let is_exposed = helps.iter().any(|one| one.replace("\\\\", "\\") == *help);
            let is_none = helps.is_empty() && help.is_empty();
            ensure!(is_exposed || is_none, "{family} is told to be {help:?}, not {helps:?}");
        }
        let unique: BTreeSet<_> = found.iter().collect();
        ensure!(unique.len() <= 1, "{family} is told to be {unique:?}");
    }
    Ok(())
}

fn has_series(text: &str, family: &str) -> bool {
    text.lines().any(|line| line.starts_with(family))
}

/// What a case wants besides.
fn of_the_case(
    evidence: &Evidence<'_>,
    messages: &[Message],
    series: &[&SeenSeries],
) -> Result<()> {
    let requests = &evidence.requests;
    let answers = &evidence.plan.answers;
    match evidence.plan.name.as_str() {
        "exponential_backoff_on_retries"
        | "backoff_required"
        | "backoff_max_delay"
        | "backoff_with_jitter" => backs_off(requests, answers.len()),
        "handle_connection_refused" => failed_then_delivered(evidence, 0),
        "handle_timeout"
        | "handle_malformed_response"
        | "handle_empty_response"
        | "retry_on_500"
        | "retry_on_502"
        | "retry_on_503"
        | "retry_on_504" => failed_then_delivered(evidence, 1),
        "handle_partial_write" | "TestNetworkErrors" => failed_then_delivered(evidence, 2),
        "may_retry_on_429" => {
            failed_then_delivered(evidence, 1)?;
            let pause = requests[1].at - requests[0].at;
            ensure!(
                pause >= Duration::from_secs(1),
                "sent again after {pause:?}, before Retry-After"
            );
            Ok(())
        }
        "no_retry_on_400"
        | "no_retry_on_401"
        | "no_retry_on_404"
        | "no_retry_on_413"
        | "handle_partial_write_response"
        | "handle_missing_written_headers"
        | "log_error_messages_verbatim"
        | "handle_invalid_status_code" => refused_once(evidence, messages),
        "handle_large_error_response" | "handle_large_error_body" => {
            ensure!(requests[0].body == requests[1].body, "not sent again after 500");
            ensure!(requests[1].body != requests[2].body, "sent again after 400");
            Ok(())
        }
        "sender_continues_after_errors" => {
            ensure!(requests.len() > answers.len() + 2, "{} requests", requests.len());
            Ok(())
        }
        "TestRobustnessUnderLoad" => {
            ensure!(requests.len() > answers.len(), "{} requests", requests.len());
            ensure!(counted(evidence, "samples_failed_total")? == 0.0, "samples were given up");
            Ok(())
        }
        "fallback_on_415_unsupported_media_type"
        | "retry_with_different_version"
        | "fallback_header_changes"
        | "accept_success_after_fallback"
        | "persistent_fallback_choice"
        | "TestContentTypeNegotiation" => {
            ensure!(messages[0].is_two, "the first request is not of version 2");
            ensure!(messages[1..].iter().all(|message| !message.is_two), "version 2 after 415");
            let [first, second] = [&messages[0], &messages[1]].map(samples);
            ensure!(first == second, "the refused samples were not sent in version 1");
            ensure!(counted(evidence, "samples_failed_total")? == 0.0, "samples were given up");
            Ok(())
        }
        "TestNoFallbackOn2xx" => {
            ensure!(messages.iter().all(|message| message.is_two), "version 1 after success");
            Ok(())
        }
        "process_written_count_headers"
        | "handle_200_ok"
        | "handle_204_no_content"
        | "ignore_response_body_on_success" => {
            ensure!(counted(evidence, "samples_failed_total")? == 0.0, "samples were given up");
            ensure!(counted(evidence, "samples_retried_total")? == 0.0, "samples were sent again");
            ensure!(counted(evidence, "samples_total")? > 0.0, "nothing is counted");
            Ok(())
        }
        "multiple_series_per_request"
        | "complete_metric_family"
        | "multiple_metric_types"
        | "mixed_sample_and_histogram_families" => {
            let exposed = exposed(&evidence.plan.exposed[0])?.len();
            ensure!(messages[0].series.len() > exposed, "{} series", messages[0].series.len());
            Ok(())
        }
        "TestConcurrentRequests" => {
            let shards = counted(evidence, "shards")?;
            ensure!(shards >= 4.0, "{shards} shards");
            Ok(())
        }
        "stale_marker" => {
            let own = series.iter().filter(|one| one.label("__name__") == "test_metric");
            let mut bits = own.flat_map(|one| &one.floats).map(|(_, value)| value.to_bits());
            ensure!(bits.any(|bits| bits == STALE_NAN_BITS), "no marker came");
            Ok(())
        }
        "TestSampleOrdering"
        | "multiple_samples_same_series"
        | "timestamp_ordering_within_series" => {
            let up = series.iter().filter(|one| one.label("__name__") == "up");
            let times: BTreeSet<i64> = up.flat_map(|one| &one.floats).map(|one| one.0).collect();
            ensure!(times.len() >= 3, "only {} scrapes came", times.len());
            Ok(())
        }
        name if name.starts_with("rw1_") || name == "TestRemoteWrite1Configuration" => {
            ensure!(messages.iter().all(|message| !message.is_two), "version 2");
            ensure!(series.iter().all(|one| one.histograms.is_empty()), "a native histogram");
            Ok(())
        }
        _ if evidence.plan.is_one => bail!("version 1 and not checked"),
        _ => {
            ensure!(messages.iter().all(|message| message.is_two), "version 1");
            Ok(())
        }
    }
}

/// Name, time and value bits of all floats.
fn samples(message: &Message) -> BTreeSet<(String, i64, u64)> {
    let of = |series: &SeenSeries| {
        let name = format!("{:?}", series.labels);
        let floats = series.floats.iter();
        floats.map(|(t_ms, value)| (name.clone(), *t_ms, value.to_bits())).collect::<Vec<_>>()
    };
    message.series.iter().flat_map(of).collect()
}

/// The same is sent again after pauses that double up to the configured maximum, not in step.
fn backs_off(requests: &[Received], refusals: usize) -> Result<()> {
    ensure!(requests.len() > refusals, "{} requests", requests.len());
    let attempts = &requests[..=refusals];
    ensure!(attempts.iter().all(|one| one.body == attempts[0].body), "another request between");
    for (number, attempt) in attempts.iter().enumerate() {
        let told = attempt.header("retry-attempt").map_or(Ok(0), str::parse::<usize>)?;
        ensure!(told == number, "attempt {number} says it is {told}");
    }
    let pauses: Vec<Duration> = attempts.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    let mut least = Duration::from_millis(100);
    for pause in &pauses {
        // A busy machine makes pauses longer.
        let most = least.mul_f64(1.1) + Duration::from_millis(700);
        ensure!(*pause >= least && *pause <= most, "pauses of {pauses:?}");
        least = (least * 2).min(Duration::from_millis(800));
    }
    let unique: BTreeSet<&Duration> = pauses.iter().collect();
    ensure!(unique.len() == pauses.len(), "pauses in step: {pauses:?}");
    Ok(())
}

/// What failed so many times was sent again, the same, until it was taken.
fn failed_then_delivered(evidence: &Evidence<'_>, failures: usize) -> Result<()> {
    let requests = &evidence.requests;
    ensure!(requests.len() > failures, "{} requests", requests.len());
    let first = &requests[..=failures];
    ensure!(first.iter().all(|one| one.body == first[0].body), "not the same was sent again");
    ensure!(first[failures].status == 204, "status {}", first[failures].status);
    ensure!(counted(evidence, "samples_retried_total")? > 0.0, "no retry is counted");
    ensure!(counted(evidence, "samples_failed_total")? == 0.0, "samples were given up");
    Ok(())
}

/// What is refused for good is counted and not sent again; what follows is.
fn refused_once(evidence: &Evidence<'_>, messages: &[Message]) -> Result<()> {
    let refused = samples(&messages[0]);
    let later: BTreeSet<_> = messages[1..].iter().flat_map(samples).collect();
    ensure!(refused.is_disjoint(&later), "refused samples were sent again");
    ensure!(!later.is_empty(), "nothing was sent after the refusal");
    let written = if evidence.plan.name == "handle_partial_write_response" { 2 } else { 0 };
    let failed = counted(evidence, "samples_failed_total")?;
    ensure!(failed == (refused.len() - written) as f64, "{failed} of {} failed", refused.len());
    if evidence.plan.name == "log_error_messages_verbatim" {
        ensure!(evidence.log.contains(COMPLAINT), "the log does not say {COMPLAINT}");
    }
    Ok(())
}

/// A number of the case's remote in the sender's own metrics.
fn counted(evidence: &Evidence<'_>, what: &str) -> Result<f64> {
    let begin =
        format!("prometheus_remote_storage_{what}{{remote_name=\"{}\",", evidence.plan.name);
    let line = evidence.metrics.lines().find(|line| line.starts_with(&begin));
    let line = line.with_context(|| format!("no {begin}"))?;
    Ok(line.rsplit(' ').next().unwrap_or_default().parse()?)
}
