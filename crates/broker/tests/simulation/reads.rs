//! What a broker shows.

use std::collections::BTreeMap;
use std::time::Duration;

use broker::{Broker, ReadError, Selection};
use metricstore::MetricError;
use model::{DEFAULT_TENANT, MatchOp, Matcher, TimeRange};
use tokio::time::sleep;

use crate::clients::{Place, Series};

/// What one broker has itself of a selection: in its heads, and all blocks.
pub(crate) fn read(
    broker: &Broker,
    selector: &[Matcher],
    range: TimeRange,
) -> BTreeMap<Place, f64> {
    let selected = broker.reader(DEFAULT_TENANT).select(selector, range);
    samples(&selected.expect("every block is readable")).expect("every block is readable")
}

/// What a query at a broker finds that takes its time to read, and what it says that it lacks.
///
/// # Errors
/// A block cannot be read: it was removed.
pub(crate) async fn query(
    broker: &Broker,
    takes: Duration,
) -> (Result<BTreeMap<Place, f64>, MetricError>, Vec<String>) {
    let reader = broker.reader(DEFAULT_TENANT);
    let selected = match reader.select_in_task(&[all()], TimeRange::all()).await {
        Ok(selected) => selected,
        Err(ReadError::Store(error)) => return (Err(error), reader.missing(TimeRange::all())),
        Err(error) => panic!("a query fails: {error}"),
    };
    sleep(takes).await;
    let found = samples(&selected).inspect_err(|error| reader.report(error));
    (found, reader.missing(TimeRange::all()))
}

pub(crate) fn all() -> Matcher {
    Matcher::new("__name__", MatchOp::Equal, "m").expect("no regex")
}

fn samples(selected: &Selection) -> Result<BTreeMap<Place, f64>, MetricError> {
    let mut samples = Vec::new();
    for (index, labels) in selected.labels().iter().enumerate() {
        let (mut timestamps, mut values) = (Vec::new(), Vec::new());
        selected.read(index, &mut timestamps, &mut values)?;
        let series = Series::named(labels.get("series").expect("all have it"));
        samples.extend(timestamps.into_iter().zip(values).map(|(t, value)| ((series, t), value)));
    }
    samples.sort_unstable_by_key(|(place, _)| *place);
    for pair in samples.windows(2) {
        let (series, t_ms) = pair[0].0;
        assert_ne!(pair[0].0, pair[1].0, "{series} at {t_ms} is there twice");
    }
    Ok(samples.into_iter().collect())
}
