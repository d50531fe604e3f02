//! `/federate`: the newest sample of every matching series, for another Prometheus to scrape.
//!
//! Source: Prometheus `web/federate.go`. Labels of the configuration's `external_labels` are added
//! where a series has none of the name, and an empty `instance` where it has none, so that whoever
//! scrapes with `honor_labels` keeps the series as it is. Native histograms come with the protobuf
//! format, for who prefers it; text has none of them but those with custom bounds, which become classic
//! ones in both.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use model::{FloatHistogram, Labels, METRIC_NAME, Matcher, is_stale_nan};
use promql::{Columns, Hints, SelectRequest, SourceError};
use wire::name_escaping::Negotiated;
use wire::protobuf_encode::{FamilyEncoder, Sample};
use wire::text_encode::TextEncoder;

use super::streamed::warn;
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
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = Negotiated::of(accepted);
    let (body, away) = console
        .executor()
        .blocking(params.asked(), move |data, work| {
            let (newest, away) = newest(data, work, &selectors, now_ms).map_err(source_error)?;
            Ok((exposition(newest, &external, format), away))
        })
        .await?;
    let mut answer = ([(header::CONTENT_TYPE, format.content_type())], body).into_response();
    warn(answer.headers_mut(), &away);
    Ok(answer)
}

fn newest(
    data: &QueryData,
    work: &Work,
    selectors: &[Vec<Matcher>],
    now_ms: i64,
) -> Result<(Newest, Vec<String>), SourceError> {
    let snapshot = data.snapshot(work)?;
    let mut newest = Newest::new();
    let mut samples = Columns::default();
    for matchers in selectors {
        collect(&snapshot, matchers, now_ms, &mut samples, &mut newest)?;
    }
    Ok((newest, snapshot.away()))
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
                let is_stale = histogram.is_stale();
                (!is_stale).then(|| (t_ms, Value::Histogram(Arc::clone(histogram))))
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

fn exposition(newest: Newest, external: &BTreeMap<String, String>, format: Negotiated) -> Vec<u8> {
    let mut series: Vec<_> = newest.into_iter().collect();
    // By name first, so that a family stands together; labels are in order already.
    series.sort_by(|(a, _), (b, _)| a.metric_name().cmp(&b.metric_name()));
    let mut out = Vec::with_capacity(series.len() * 128);
    let mut families = FamilyEncoder::new(format.escaping);
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
        if format.is_protobuf {
            let sample = match value {
                Value::Float(value) => Sample::Float(*value),
                Value::Histogram(histogram) => Sample::Histogram(histogram),
            };
            families.push(name, labels, sample, *t_ms, &mut out);
            continue;
        }
        let kind = match value {
            Value::Float(_) => "untyped",
            Value::Histogram(histogram) if histogram.layout.is_custom() => "histogram",
            Value::Histogram(_) => continue,
        };
        let mut text = TextEncoder::new(&mut out).with_names(format.escaping);
        if family != Some((name, kind)) {
            text.family_type(name, kind);
            family = Some((name, kind));
        }
        match value {
            Value::Float(value) => text.sample_at(name, labels, *value, Some(*t_ms)),
            Value::Histogram(value) => text.classic_histogram(name, labels, value, Some(*t_ms)),
        }
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
        let text =
            String::from_utf8(exposition(newest, &external, Negotiated::default())).expect("text");
        assert_eq!(
            text,
            "# TYPE a untyped\na{dc=\"own\",instance=\"\"} 2 3000\n\
             a{instance=\"i\",z=\"1\",dc=\"east\"} NaN 2000\n\
             # TYPE b untyped\nb{a=\"1\",dc=\"east\",instance=\"\"} 1.5 1000\n"
        );
    }
}
