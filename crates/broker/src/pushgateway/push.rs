//! The body of a push.

use std::collections::BTreeMap;

use model::{LabelForm, Labels, LabelsBuilder, Limits, MetricType};
use wire::{Entry, HistogramSeries, Series, WireError, exposition, protobuf_exposition};

use crate::commit::CommitError;

use super::group::{Families, Family, Group, NativeSeries, PUSH_FAILURE_TIME, PUSH_TIME};

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Prometheus' text format 0.0.4.
    Text,
    /// `io.prometheus.client.MetricFamily`, each with its length before it.
    Protobuf,
}

impl Form {
    /// By the `Content-Type`; text unless it says protobuf, as in the Pushgateway. `None` for
    /// another protobuf message.
    pub(super) fn of(content_type: &str) -> Option<Form> {
        let mut parts = content_type.split(';').map(|part| part.trim().to_ascii_lowercase());
        if parts.next().as_deref() != Some("application/vnd.google.protobuf") {
            return Some(Form::Text);
        }
        let parts: Vec<String> = parts.map(|part| part.replace('"', "")).collect();
        let has = |wanted: &str| parts.iter().any(|part| part == wanted);
        let is_families =
            has("proto=io.prometheus.client.metricfamily") && has("encoding=delimited");
        is_families.then_some(Form::Protobuf)
    }

    fn name(self) -> &'static str {
        match self {
            Form::Text => "text format",
            Form::Protobuf => "protobuf",
        }
    }
}

/// Why a push was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PushError {
    /// The body is not what it says it is, or above a limit.
    #[error("{format} parsing error: {error}")]
    Malformed {
        /// What it says it is.
        format: &'static str,
        /// The fault.
        error: WireError,
    },
    /// It is, and cannot be taken.
    #[error("{0}")]
    Refused(String),
    /// There is no room for it.
    #[error("{0}")]
    TooLarge(String),
    /// The tenant may not write, or not now; with after how many seconds it may try again.
    #[error("{0}")]
    Later(String, u64),
    /// The disk is full, or the broker stops.
    #[error("the push was not stored: {0}")]
    NotStored(String),
    /// Another broker of the cluster changed the group in the same moment.
    #[error(
        "the push was not stored: another broker changed the group in the same moment; send it again"
    )]
    Raced,
}

impl PushError {
    /// Of what refuses to keep it.
    pub(super) fn not_stored(error: CommitError) -> Self {
        match error.is_version_conflict() {
            true => PushError::Raced,
            false => PushError::NotStored(error.to_string()),
        }
    }

    /// Of what refuses a push before it is kept.
    pub(super) fn refused(error: CommitError) -> Self {
        match error.retry_after_seconds() {
            Some(seconds) => PushError::Later(error.to_string(), seconds),
            None => PushError::NotStored(error.to_string()),
        }
    }
}

/// Reads a body. Labels of the grouping key replace those of the same name; a series without
/// `instance` gets none, so that nothing that scrapes or stores it adds its own. A histogram with
/// classic and native buckets is kept as both.
///
/// # Errors
/// A fault of the form, a timestamp, a series that stands twice, labels outside of the limits, a
/// native histogram that contradicts itself.
pub(super) fn parse(
    body: &[u8],
    form: Form,
    key: &BTreeMap<String, String>,
    limits: &Limits,
) -> Result<Families, PushError> {
    let mut families = read(body, form, key, limits)?;
    settle(&mut families)?;
    Ok(families)
}

/// Reads a body, families without samples among it.
pub(super) fn read(
    body: &[u8],
    form: Form,
    key: &BTreeMap<String, String>,
    limits: &Limits,
) -> Result<Families, PushError> {
    let malformed = |error| PushError::Malformed { format: form.name(), error };
    let mut families = Families::new();
    match form {
        Form::Text => {
            let mut parser = exposition::Parser::new(body);
            while let Some(entry) = parser.next_entry().map_err(malformed)? {
                take(entry, key, limits, &mut families)?;
            }
        }
        Form::Protobuf => {
            let options = protobuf_exposition::Options { keep_classic: true, ..Default::default() };
            let mut parser = protobuf_exposition::Parser::new(body, options);
            while let Some(entry) = parser.next_entry().map_err(malformed)? {
                take(entry, key, limits, &mut families)?;
            }
        }
    }
    Ok(families)
}

fn take(
    entry: Entry<'_>,
    key: &BTreeMap<String, String>,
    limits: &Limits,
    families: &mut Families,
) -> Result<(), PushError> {
    match entry {
        Entry::Help { metric, text } => family(families, &metric).help = text.into_owned(),
        Entry::Type { metric, kind } => family(families, &metric).kind = kind,
        Entry::Unit { .. } | Entry::Comment(_) => {}
        Entry::Histogram(series) => add_histogram(&series, key, limits, families)?,
        Entry::Series(series) => add(&series, key, limits, families)?,
    }
    Ok(())
}

/// Drops families without samples, sorts the others, and refuses what stands twice.
pub(super) fn settle(families: &mut Families) -> Result<(), PushError> {
    // The gateway's own win over what is pushed by their names.
    families.retain(|name, family| {
        !family.is_empty() && name != PUSH_TIME && name != PUSH_FAILURE_TIME
    });
    for family in families.values_mut() {
        family.series.sort_by(|(a, _), (b, _)| a.cmp(b));
        family.histograms.sort_by(|a, b| a.labels.cmp(&b.labels));
        let floats = family.series.windows(2).find(|pair| pair[0].0 == pair[1].0);
        let histograms = family.histograms.windows(2).find(|pair| pair[0].labels == pair[1].labels);
        let twice = floats.map(|pair| &pair[0].0).or(histograms.map(|pair| &pair[0].labels));
        if let Some(labels) = twice {
            return Err(PushError::Refused(format!(
                "collected metric {labels} was collected before with the same name and label \
                 values; push each series once"
            )));
        }
    }
    Ok(())
}

fn family<'f>(families: &'f mut Families, name: &str) -> &'f mut Family {
    families.entry(name.to_owned()).or_insert_with(|| Family {
        kind: MetricType::Unknown,
        help: String::new(),
        series: Vec::new(),
        histograms: Vec::new(),
    })
}

fn add(
    series: &Series<'_>,
    key: &BTreeMap<String, String>,
    limits: &Limits,
    families: &mut Families,
) -> Result<(), PushError> {
    let written = series.labels().map_err(|error| PushError::Refused(error.to_string()))?;
    let labels = pushed_labels(&written, series.timestamp_ms, key, limits)?;
    let of = family_name(written.metric_name().unwrap_or_default(), families);
    family(families, &of).series.push((labels, series.value));
    Ok(())
}

fn add_histogram(
    series: &HistogramSeries<'_>,
    key: &BTreeMap<String, String>,
    limits: &Limits,
    families: &mut Families,
) -> Result<(), PushError> {
    let written = series.labels().map_err(|error| PushError::Refused(error.to_string()))?;
    let labels = pushed_labels(&written, series.timestamp_ms, key, limits)?;
    if let Err(error) = series.histogram.validate() {
        let why = format!("{labels} is no valid native histogram: {error}");
        return Err(PushError::Refused(why));
    }
    let (start_ms, histogram) = (series.start_timestamp_ms, series.histogram.clone());
    let name = written.metric_name().unwrap_or_default();
    family(families, name).histograms.push(NativeSeries { labels, start_ms, histogram });
    Ok(())
}

/// The labels under which a series is kept.
fn pushed_labels(
    written: &Labels,
    timestamp_ms: Option<i64>,
    key: &BTreeMap<String, String>,
    limits: &Limits,
) -> Result<Labels, PushError> {
    if timestamp_ms.is_some() {
        let name = written.metric_name().unwrap_or_default();
        return Err(PushError::Refused(format!(
            "pushed metrics must not have timestamps, {name} has one; leave it out, a sample gets \
             the time of the push"
        )));
    }
    let labels = with_key(written, key);
    wire::decode_labels(LabelForm::Packed, labels.as_packed(), limits)
        .map_err(|error| PushError::Refused(error.to_string()))?;
    Ok(labels)
}

fn with_key(written: &Labels, key: &BTreeMap<String, String>) -> Labels {
    let mut labels = LabelsBuilder::from_labels(written);
    for (name, value) in key {
        labels.set(name, value);
    }
    labels.build()
}

/// The family a sample belongs to: a histogram's or summary's parts to the whole.
fn family_name(name: &str, families: &Families) -> String {
    for (suffix, of_summary) in [("_bucket", false), ("_sum", true), ("_count", true)] {
        let Some(whole) = name.strip_suffix(suffix) else { continue };
        let is_part = families.get(whole).is_some_and(|family| match family.kind {
            MetricType::Histogram | MetricType::GaugeHistogram => true,
            MetricType::Summary => of_summary,
            _ => false,
        });
        if is_part {
            return whole.to_owned();
        }
    }
    name.to_owned()
}

/// Whether the families of a push can stand beside those of the other groups, as one exposition.
///
/// # Errors
/// Another type for the same family, or the same series in another group.
pub(super) fn check_consistent<'g>(
    families: &Families,
    others: impl Iterator<Item = &'g Group>,
) -> Result<(), PushError> {
    for other in others {
        for (name, family) in families {
            let Some(theirs) = other.families.get(name) else { continue };
            if theirs.kind != family.kind {
                return Err(PushError::Refused(format!(
                    "pushed metrics are invalid or inconsistent with existing metrics: {name} is \
                     a {}, the group {:?} has it as a {}; use one type, or another name",
                    family.kind.as_str(),
                    other.key,
                    theirs.kind.as_str()
                )));
            }
            let mut floats = family.series.iter().map(|(labels, _)| labels);
            let mut native = family.histograms.iter().map(|one| &one.labels);
            let shared = floats.find(|labels| theirs.has(labels));
            if let Some(labels) =
                shared.or_else(|| native.find(|labels| theirs.has_histogram(labels)))
            {
                return Err(PushError::Refused(format!(
                    "pushed metrics are invalid or inconsistent with existing metrics: {labels} \
                     was collected before with the same name and label values, in the group {:?}; \
                     push it under one grouping key",
                    other.key
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::TenantName;

    use super::*;

    fn key(job: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("job".to_owned(), job.to_owned())])
    }

    fn parsed(text: &str) -> Result<Vec<String>, String> {
        let families = parse(text.as_bytes(), Form::Text, &key("j"), &Limits::default())
            .map_err(|e| e.to_string())?;
        Ok(families
            .iter()
            .flat_map(|(name, family)| {
                let kind = family.kind.as_str();
                family.series.iter().map(move |(l, v)| format!("{name} {kind} {l} {v}"))
            })
            .collect())
    }

    #[test]
    fn bodies_become_families() {
        let text = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\n\
                    h_count 2\n# TYPE g gauge\ng{job=\"other\",instance=\"i\"} 4\ng_sum 5\n\
                    push_time_seconds 1\n";
        assert_eq!(
            parsed(text).expect("valid"),
            [
                "g gauge g{instance=\"i\", job=\"j\"} 4",
                "g_sum unknown g_sum{job=\"j\"} 5",
                "h histogram h_bucket{job=\"j\", le=\"+Inf\"} 2",
                "h histogram h_bucket{job=\"j\", le=\"1.0\"} 1",
                "h histogram h_count{job=\"j\"} 2",
                "h histogram h_sum{job=\"j\"} 3",
            ]
        );
    }

    #[test]
    fn forms_are_told_by_the_content_type() {
        for (content_type, form) in [
            (protobuf_exposition::CONTENT_TYPE, Some(Form::Protobuf)),
            (
                "application/vnd.google.protobuf;encoding=delimited;\
                 proto=\"io.prometheus.client.MetricFamily\"",
                Some(Form::Protobuf),
            ),
            ("application/vnd.google.protobuf", None),
            ("application/vnd.google.protobuf; proto=x; encoding=delimited", None),
            ("text/plain; version=0.0.4", Some(Form::Text)),
            ("", Some(Form::Text)),
        ] {
            assert_eq!(Form::of(content_type), form, "{content_type}");
        }
    }

    /// A field of any content below 128 bytes.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(content.len()).expect("short")], content].concat()
    }

    /// A family `h` whose histogram has native buckets: 2 and 2 in schema 0, and so many in all.
    fn native(count: u8, timestamp: bool) -> Vec<u8> {
        let sum = [&[2 << 3 | 1][..], &4.5_f64.to_le_bytes()].concat();
        let span = field(12, &[1 << 3, 6, 2 << 3, 2]);
        let deltas = [13 << 3, 4, 13 << 3, 0];
        let histogram = [&[1 << 3, count][..], &sum, &[5 << 3, 0], &span, &deltas].concat();
        let label = field(1, &[field(1, b"x"), field(2, b"1")].concat());
        let time: &[u8] = if timestamp { &[6 << 3, 9] } else { &[] };
        let metric = field(4, &[&label[..], &field(7, &histogram), time].concat());
        let family = [field(1, b"h"), field(2, b"help"), vec![3 << 3, 4], metric].concat();
        field(0, &family)[1..].to_vec()
    }

    #[test]
    fn native_histograms_are_kept_and_read_back() {
        let limits = Limits::default();
        let mut group = Group::new(TenantName::DEFAULT, key("j"));
        group.families =
            parse(&native(4, false), Form::Protobuf, &group.key, &limits).expect("valid");
        let family = &group.families["h"];
        assert_eq!((family.kind, &*family.help), (MetricType::Histogram, "help"));
        assert!(family.series.is_empty(), "it has no classic buckets");
        let one = &family.histograms[0];
        assert_eq!(one.labels.to_string(), "h{job=\"j\", x=\"1\"}");
        assert_eq!((one.histogram.sum(), one.histogram.bucket_count()), (4.5, 2));
        let back = Group::decode(&group.encode(), |_| Arc::default()).expect("readable");
        assert_eq!(back, group);
        let check = |body: &[u8], job: &str| {
            let families = parse(body, Form::Protobuf, &key(job), &limits)?;
            check_consistent(&families, [&group].into_iter())
        };
        assert_eq!(check(&native(4, false), "k"), Ok(()));
        for (body, job, why) in [
            (native(4, false), "j", "collected before"),
            (native(4, true), "k", "must not have timestamps"),
            (native(9, false), "k", "no valid native histogram"),
            ([native(4, false), native(4, false)].concat(), "k", "collected before"),
            (native(4, false)[..9].to_vec(), "k", "protobuf parsing error"),
        ] {
            let error = check(&body, job).expect_err(why).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_taken_is_told() {
        for (text, why) in [
            ("a 1 1000\n", "must not have timestamps"),
            ("a{x=\"1\"} 1\na{x=\"1\"} 2\n", "collected before"),
            ("a{x=\"1\"} 1\na{x=\"1\",job=\"k\"} 2\n", "collected before"),
            ("a{", "parsing error: line 1"),
        ] {
            let error = parsed(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn groups_are_consistent_with_each_other() {
        let limits = Limits::default();
        let families = |text: &str, job: &str| {
            parse(text.as_bytes(), Form::Text, &key(job), &limits).expect("valid text")
        };
        let group = |text: &str, job: &str| {
            let mut group = Group::new(TenantName::DEFAULT, key(job));
            group.families = families(text, job);
            group
        };
        let others = [group("# TYPE a counter\na 1\n", "k")];
        let check = |text: &str, job: &str| check_consistent(&families(text, job), others.iter());
        assert_eq!(check("# TYPE a counter\na 1\n", "j"), Ok(()));
        let error = check("# TYPE a gauge\na 1\n", "j").expect_err("another type").to_string();
        assert!(error.contains("a is a gauge") && error.contains("counter"), "{error}");
        let error = check("# TYPE a counter\na 1\n", "k").expect_err("the same").to_string();
        assert!(error.contains("collected before"), "{error}");
    }

    #[test]
    fn groups_read_back() {
        let mut group = Group::new(TenantName::DEFAULT, key("a\"b\nc"));
        let text = "# HELP s two\\nlines\n# TYPE s summary\ns{quantile=\"0.5\"} NaN\ns_sum 1e300\n\
                    s_count +Inf\n{\"my.metric\",\"a.b\"=\"c\"} -0\n";
        group.families =
            parse(text.as_bytes(), Form::Text, &group.key, &Limits::default()).expect("valid");
        (group.pushed_ms, group.failed_ms) = (1_700_000_000_123, 5);
        let back = Group::decode(&group.encode(), |_| Arc::default()).expect("readable");
        assert_eq!(format!("{back:?}"), format!("{group:?}"));
        assert!(Group::decode(b"{}", |_| Arc::default()).is_err());
    }
}
