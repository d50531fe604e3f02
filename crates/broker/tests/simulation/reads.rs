//! What a broker shows.

use std::collections::BTreeMap;
use std::time::Duration;

use broker::{Broker, ReadError, Selection};
use metricstore::MetricError;
use model::{DEFAULT_TENANT, MatchOp, Matcher, TimeRange};
use tokio::time::sleep;

use crate::clients::{Place, Series};

/// What one broker has itself of a selection: in its heads, and all blocks.
pub(crate) fn read(broker: &Broker, selector: &[Matcher]) -> BTreeMap<Place, f64> {
    let selected = broker.reader(DEFAULT_TENANT).select(selector, TimeRange::all());
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
    let mut samples = BTreeMap::new();
    for (index, labels) in selected.labels().iter().enumerate() {
        let (mut timestamps, mut values) = (Vec::new(), Vec::new());
        selected.read(index, &mut timestamps, &mut values)?;
        let series = Series::named(labels.get("series").expect("all have it"));
        for (t_ms, value) in timestamps.into_iter().zip(values) {
            let before = samples.insert((series, t_ms), value);
            assert!(before.is_none(), "{series} at {t_ms} is there twice");
        }
    }
    Ok(samples)
}
