//! `/federate`: the newest sample of every matching series, for another Prometheus to scrape.
//!
//! Source: Prometheus `web/federate.go`. Labels of the configuration's `external_labels` are added
//! where a series has none of the name, and an empty `instance` where it has none, so that whoever
//! scrapes with `honor_labels` keeps the series as it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use model::{DEFAULT_TENANT, Labels, METRIC_NAME, Matcher, is_stale_nan};
use promql::{Columns, Hints, SelectRequest, SourceError};
use wire::text_encode::{CONTENT_TYPE, TextEncoder};

use crate::Console;
use crate::data::{Data, Snapshot, Work};
use crate::execute::DEFAULT_LOOKBACK_MS;
use crate::params::Params;
use crate::respond::source_error;
use net::ApiError;

/// Newest time and value by labels.
type Newest = BTreeMap<Labels, (i64, f64)>;

pub(super) async fn federate(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, ApiError> {
    let selectors = params.selectors()?;
    let (now_ms, external) = (console.now_ms(), console.external_labels());
    let body = console
        .executor()
        .blocking(params.asked(), move |data, work| {
            let newest = newest(data, work, &selectors, now_ms).map_err(source_error)?;
            Ok(exposition(newest, &external))
        })
        .await?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response())
}

fn newest(
    data: &dyn Data,
    work: &Work,
    selectors: &[Vec<Matcher>],
    now_ms: i64,
) -> Result<Newest, SourceError> {
    let snapshot = data.snapshot(DEFAULT_TENANT, work)?;
    let mut newest = Newest::new();
    let mut samples = Columns::default();
    for matchers in selectors {
        collect(snapshot.as_ref(), matchers, now_ms, &mut samples, &mut newest)?;
    }
    Ok(newest)
}

fn collect(
    snapshot: &dyn Snapshot,
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
        let last = samples.timestamps_ms.last().zip(samples.values.last());
        if let Some((&t_ms, &value)) = last
            && !is_stale_nan(value)
        {
            newest.insert(set.labels(index).clone(), (t_ms, value));
        }
    }
    Ok(())
}

fn exposition(newest: Newest, external: &BTreeMap<String, String>) -> Vec<u8> {
    let mut series: Vec<_> = newest.into_iter().collect();
    // By name first, so that a family stands together; labels are in order already.
    series.sort_by(|(a, _), (b, _)| a.metric_name().cmp(&b.metric_name()));
    let mut out = Vec::with_capacity(series.len() * 128);
    let mut text = TextEncoder::new(&mut out);
    let mut family = None;
    for (labels, (t_ms, value)) in &series {
        // A series without a name has no line in an exposition.
        let Some(name) = labels.metric_name() else { continue };
        if family != Some(name) {
            text.family_type(name, "untyped");
            family = Some(name);
        }
        let own = labels.iter().filter(|(label, _)| *label != METRIC_NAME);
        let lacking = |name: &str| labels.get(name).is_none();
        let added = external.iter().filter(|(name, _)| lacking(name));
        let added = added.map(|(name, value)| (name.as_str(), value.as_str()));
        let no_instance =
            (lacking("instance") && !external.contains_key("instance")).then_some(("instance", ""));
        text.sample_at(name, own.chain(added).chain(no_instance), *value, Some(*t_ms));
    }
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
        let newest =
            newest.iter().map(|(pairs, sample)| (labels(pairs).expect("valid"), *sample)).collect();
        let external = BTreeMap::from([("dc".to_owned(), "east".to_owned())]);
        let text = String::from_utf8(exposition(newest, &external)).expect("text");
        assert_eq!(
            text,
            "# TYPE a untyped\na{dc=\"own\",instance=\"\"} 2 3000\n\
             a{instance=\"i\",z=\"1\",dc=\"east\"} NaN 2000\n\
             # TYPE b untyped\nb{a=\"1\",dc=\"east\",instance=\"\"} 1.5 1000\n"
        );
    }
}
