//! The body of a push.

use std::collections::BTreeMap;

use model::{LabelForm, Labels, LabelsBuilder, Limits, MetricType};
use wire::exposition::Parser;
use wire::{Entry, Series, WireError};

use super::group::{Families, Family, Group, PUSH_FAILURE_TIME, PUSH_TIME};

/// Why a push was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PushError {
    /// The body is not the text format, or above a limit.
    #[error("text format parsing error: {0}")]
    Malformed(#[from] WireError),
    /// It is, and cannot be taken.
    #[error("{0}")]
    Refused(String),
    /// There is no room for it.
    #[error("{0}")]
    TooLarge(String),
    /// The disk is full, or the broker stops.
    #[error("the push was not stored: {0}")]
    NotStored(String),
}

/// Reads a body. Labels of the grouping key replace those of the same name; a series without
/// `instance` gets none, so that nothing that scrapes or stores it adds its own.
///
/// # Errors
/// A fault of the text, a timestamp, a series that stands twice, labels outside of the limits.
pub(super) fn parse(
    body: &[u8],
    key: &BTreeMap<String, String>,
    limits: &Limits,
) -> Result<Families, PushError> {
    let mut families = Families::new();
    let mut parser = Parser::new(body);
    while let Some(entry) = parser.next_entry()? {
        match entry {
            Entry::Help { metric, text } => {
                family(&mut families, &metric).help = text.into_owned();
            }
            Entry::Type { metric, kind } => family(&mut families, &metric).kind = kind,
            Entry::Unit { .. } | Entry::Comment(_) => {}
            Entry::Histogram(_) => {
                let why = "native histograms cannot be pushed yet; push their classic buckets";
                return Err(PushError::Refused(why.to_owned()));
            }
            Entry::Series(series) => add(&series, key, limits, &mut families)?,
        }
    }
    // The gateway's own win over what is pushed by their names.
    families.retain(|name, family| {
        !family.series.is_empty() && name != PUSH_TIME && name != PUSH_FAILURE_TIME
    });
    for family in families.values_mut() {
        family.series.sort_by(|(a, _), (b, _)| a.cmp(b));
        if let Some(twice) = family.series.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(PushError::Refused(format!(
                "collected metric {} was collected before with the same name and label values; \
                 push each series once",
                twice[0].0
            )));
        }
    }
    Ok(families)
}

fn family<'f>(families: &'f mut Families, name: &str) -> &'f mut Family {
    families.entry(name.to_owned()).or_insert_with(|| Family {
        kind: MetricType::Unknown,
        help: String::new(),
        series: Vec::new(),
    })
}

fn add(
    series: &Series<'_>,
    key: &BTreeMap<String, String>,
    limits: &Limits,
    families: &mut Families,
) -> Result<(), PushError> {
    let refused = |why: String| PushError::Refused(why);
    let written = series.labels().map_err(|error| refused(error.to_string()))?;
    let name = written.metric_name().unwrap_or_default().to_owned();
    if series.timestamp_ms.is_some() {
        return Err(refused(format!(
            "pushed metrics must not have timestamps, {name} has one; leave it out, a sample gets \
             the time of the push"
        )));
    }
    let labels = with_key(&written, key);
    wire::decode_labels(LabelForm::Packed, labels.as_packed(), limits)
        .map_err(|error| refused(error.to_string()))?;
    let of = family_name(&name, families);
    family(families, &of).series.push((labels, series.value));
    Ok(())
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
            if let Some((labels, _)) = family.series.iter().find(|(labels, _)| theirs.has(labels)) {
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
    use super::*;

    fn key(job: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("job".to_owned(), job.to_owned())])
    }

    fn parsed(text: &str) -> Result<Vec<String>, String> {
        let families =
            parse(text.as_bytes(), &key("j"), &Limits::default()).map_err(|e| e.to_string())?;
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
        let families =
            |text: &str, job: &str| parse(text.as_bytes(), &key(job), &limits).expect("valid text");
        let group = |text: &str, job: &str| {
            let mut group = Group::new(key(job));
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
        let mut group = Group::new(key("a\"b\nc"));
        let text = "# HELP s two\\nlines\n# TYPE s summary\ns{quantile=\"0.5\"} NaN\ns_sum 1e300\n\
                    s_count +Inf\n{\"my.metric\",\"a.b\"=\"c\"} -0\n";
        group.families = parse(text.as_bytes(), &group.key, &Limits::default()).expect("valid");
        (group.pushed_ms, group.failed_ms) = (1_700_000_000_123, 5);
        let back = Group::decode(&group.encode(), &Limits::default()).expect("readable");
        assert_eq!(format!("{back:?}"), format!("{group:?}"));
        assert!(Group::decode(b"{}", &Limits::default()).is_err());
    }
}
