//! Where the series of a time come from, for a console.

use model::{CensusEntry, CensusOrder, CensusReport, CensusRequest, TimeRange};
use net::rpc::census_request::Order;
use net::rpc::{self, CensusResponse};
use tonic::Status;

use super::super::messages;
use super::{fault, selectors, tenant};
use crate::Broker;

pub(super) fn answer(
    broker: &Broker,
    request: &rpc::CensusRequest,
) -> Result<CensusResponse, Status> {
    let compares = (request.before_start_ms, request.before_end_ms) != (0, 0);
    let before = TimeRange::new(request.before_start_ms, request.before_end_ms);
    let asked = CensusRequest {
        selectors: selectors(&request.selectors)?,
        range: TimeRange::new(request.start_ms, request.end_ms),
        before: compares.then_some(before),
        limit: messages::limit(request.limit),
        order: match request.order() {
            Order::Count => CensusOrder::Count,
            Order::New => CensusOrder::New,
            Order::Change => CensusOrder::Change,
        },
        focus: (!request.focus.is_empty()).then(|| request.focus.clone()),
    };
    let reader = broker.reader(tenant(broker, &request.tenant)?);
    let report = reader.census(&asked).map_err(|error| fault(&error))?;
    Ok(message(report, reader.lacking()))
}

fn message(report: CensusReport, missing: Vec<String>) -> CensusResponse {
    let entry = |one: CensusEntry| {
        let CensusEntry { name, count, before, new } = one;
        rpc::CensusEntry { name, count, before, new }
    };
    let list = |all: Vec<CensusEntry>| all.into_iter().map(entry).collect();
    CensusResponse {
        series: Some(entry(report.series)),
        label_pairs: Some(entry(report.label_pairs)),
        series_by_metric: list(report.series_by_metric),
        series_by_label: list(report.series_by_label),
        series_by_pair: list(report.series_by_pair),
        values_by_label: list(report.values_by_label),
        series_by_focus_value: list(report.series_by_focus_value),
        missing,
    }
}
