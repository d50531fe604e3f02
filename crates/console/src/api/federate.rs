//! `/federate`: the newest sample of every matching series, for another Prometheus to scrape.
//!
//! Source: Prometheus `web/federate.go`. Labels of the configuration's `external_labels` are added
//! where a series has none of the name, and an empty `instance` where it has none, so that whoever
//! scrapes with `honor_labels` keeps the series as it is. Native histograms come with the protobuf
//! format, for who prefers it; text has none of them, nor has protobuf those with custom bounds.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use model::{FloatHistogram, Labels, METRIC_NAME, Matcher, is_stale_nan};
use promql::{Columns, Hints, SelectRequest, SourceError};
use wire::protobuf_encode::{self, FamilyEncoder, Sample};
use wire::text_encode::{self, TextEncoder};

use crate::Console;
use crate::counted::{CountedSnapshot, QueryData};
use crate::data::Work;
use crate::execute::DEFAULT_LOOKBACK_MS;
use crate::params::Params;
use crate::respond::source_error;
use net::ApiError;

/// Newest time and value by labels.
type Newest = BTreeMap<Labels, (i64, Value)>;

/// The newest sample of a series.
enum Value {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

pub(super) async fn federate(
    State(console): State<Arc<Console>>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let selectors = params.selectors()?;
    let (now_ms, external) = (console.now_ms(), console.external_labels());
    let is_protobuf = prefers_protobuf(&headers);
    let body = console
        .executor()
        .blocking(params.asked(), move |data, work| {
            let newest = newest(data, work, &selectors, now_ms).map_err(source_error)?;
            Ok(exposition(newest, &external, is_protobuf))
        })
        .await?;
    let kind = if is_protobuf { protobuf_encode::CONTENT_TYPE } else { text_encode::CONTENT_TYPE };
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

/// Whether `Accept` puts delimited protobuf before everything else, as a scraper of native histograms
/// does.
fn prefers_protobuf(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let (mut protobuf, mut others) = (0.0, 0.0_f64);
    for one in accepted.flat_map(|value| value.split(',')) {
        let mut parts = one.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let (mut quality, mut is_family, mut is_delimited) = (1.0, false, false);
        for part in parts {
            match part.split_once('=') {
                Some(("q", text)) => quality = text.parse().unwrap_or(0.0),
                Some(("proto", name)) => is_family = name == "io.prometheus.client.MetricFamily",
                Some(("encoding", name)) => is_delimited = name == "delimited",
                _ => {}
            }
        }
        if kind == "application/vnd.google.protobuf" && is_family && is_delimited {
            protobuf = quality;
        } else {
            others = others.max(quality);
        }
    }
    protobuf > 0.0 && protobuf >= others
}

fn newest(
    data: &QueryData,
    work: &Work,
    selectors: &[Vec<Matcher>],
    now_ms: i64,
) -> Result<Newest, SourceError> {
    let snapshot = data.snapshot(work)?;
    let mut newest = Newest::new();
    let mut samples = Columns::default();
    for matchers in selectors {
        collect(&snapshot, matchers, now_ms, &mut samples, &mut newest)?;
    }
    Ok(newest)
}

fn collect(
    snapshot: &CountedSnapshot,
    matchers: &[Matcher],
    now_ms: i64,
    samples: &mut Columns,
    newest: &mut Newest,
) -> Result<(), SourceError> {
    let start_ms = now_ms - DEFAULT_LOOKBACK_MS;
    let set = snapshot.select(&SelectRequest {
        matchers,
        start_ms,
        end_ms: now_ms,
        hints: Hints::default(),
    })?;
    for index in 0..set.len() {
        samples.clear();
        set.read(index, samples)?;
        let float = samples.timestamps_ms.last().zip(samples.values.last());
        let histograms = &samples.histograms;
        let histogram = histograms.timestamps_ms.last().zip(histograms.histograms.last());
        let newest_of = match (float, histogram) {
            (float, Some((&t_ms, histogram))) if float.is_none_or(|(&at, _)| at < t_ms) => {
                let is_shown = !histogram.is_stale() && !histogram.layout.is_custom();
                is_shown.then(|| (t_ms, Value::Histogram(Arc::clone(histogram))))
            }
            (Some((&t_ms, &value)), _) if !is_stale_nan(value) => Some((t_ms, Value::Float(value))),
            _ => None,
        };
        if let Some(sample) = newest_of {
            newest.insert(set.labels(index).clone(), sample);
        }
    }
    Ok(())
}

fn exposition(newest: Newest, external: &BTreeMap<String, String>, is_protobuf: bool) -> Vec<u8> {
    let mut series: Vec<_> = newest.into_iter().collect();
    // By name first, so that a family stands together; labels are in order already.
    series.sort_by(|(a, _), (b, _)| a.metric_name().cmp(&b.metric_name()));
    let mut out = Vec::with_capacity(series.len() * 128);
    let mut families = FamilyEncoder::new();
    let mut family = None;
    for (labels, (t_ms, value)) in &series {
        // A series without a name has no line in an exposition.
        let Some(name) = labels.metric_name() else { continue };
        let own = labels.iter().filter(|(label, _)| *label != METRIC_NAME);
        let lacking = |name: &str| labels.get(name).is_none();
        let added = external.iter().filter(|(name, _)| lacking(name));
        let added = added.map(|(name, value)| (name.as_str(), value.as_str()));
        let no_instance =
            (lacking("instance") && !external.contains_key("instance")).then_some(("instance", ""));
        let labels = own.chain(added).chain(no_instance);
        let sample = match value {
            Value::Float(value) if !is_protobuf => {
                let mut text = TextEncoder::new(&mut out);
                if family != Some(name) {
                    text.family_type(name, "untyped");
                    family = Some(name);
                }
                text.sample_at(name, labels, *value, Some(*t_ms));
                continue;
            }
            Value::Histogram(_) if !is_protobuf => continue,
            Value::Float(value) => Sample::Float(*value),
            Value::Histogram(histogram) => Sample::Histogram(histogram),
        };
        families.push(name, labels, sample, *t_ms, &mut out);
    }
    families.finish(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_stand_together_and_labels_are_added_where_they_lack() {
        let labels = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied());
        let newest = [
            (&[("__name__", "b"), ("a", "1")][..], (1_000, 1.5)),
            (&[("__name__", "a"), ("z", "1"), ("instance", "i")], (2_000, f64::NAN)),
            (&[("__name__", "a"), ("dc", "own")], (3_000, 2.0)),
            (&[("nameless", "x")], (3_000, 2.0)),
        ];
        let newest = newest
            .iter()
            .map(|(pairs, (t_ms, value))| {
                (labels(pairs).expect("valid"), (*t_ms, Value::Float(*value)))
            })
            .collect();
        let external = BTreeMap::from([("dc".to_owned(), "east".to_owned())]);
        let text = String::from_utf8(exposition(newest, &external, false)).expect("text");
        assert_eq!(
            text,
            "# TYPE a untyped\na{dc=\"own\",instance=\"\"} 2 3000\n\
             a{instance=\"i\",z=\"1\",dc=\"east\"} NaN 2000\n\
             # TYPE b untyped\nb{a=\"1\",dc=\"east\",instance=\"\"} 1.5 1000\n"
        );
    }

    #[test]
    fn protobuf_is_for_who_prefers_it() {
        let delimited = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        for (accept, expected) in [
            (
                format!(
                    "{delimited};q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1"
                ),
                true,
            ),
            (format!("application/openmetrics-text;version=1.0.0;q=0.6,{delimited};q=0.5"), false),
            (delimited.to_owned(), true),
            ("application/vnd.google.protobuf;encoding=text".to_owned(), false),
            ("*/*".to_owned(), false),
            (String::new(), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().expect("a header"));
            assert_eq!(prefers_protobuf(&headers), expected, "{accept}");
        }
    }
}
