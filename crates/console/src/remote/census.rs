//! Where series come from, as a broker tells it.

use model::{CensusEntry, CensusOrder, CensusReport};
use net::rpc::census_request::Order;
use net::rpc::{self, CensusResponse};

pub(super) fn order(order: CensusOrder) -> Order {
    match order {
        CensusOrder::Count => Order::Count,
        CensusOrder::New => Order::New,
        CensusOrder::Change => Order::Change,
    }
}

pub(super) fn arrived(found: CensusResponse) -> CensusReport {
    let entry = |one: rpc::CensusEntry| {
        let rpc::CensusEntry { name, count, before, new } = one;
        CensusEntry { name, count, before, new }
    };
    let list = |all: Vec<rpc::CensusEntry>| all.into_iter().map(entry).collect();
    CensusReport {
        series: entry(found.series.unwrap_or_default()),
        label_pairs: entry(found.label_pairs.unwrap_or_default()),
        series_by_metric: list(found.series_by_metric),
        series_by_label: list(found.series_by_label),
        series_by_pair: list(found.series_by_pair),
        values_by_label: list(found.values_by_label),
        series_by_focus_value: list(found.series_by_focus_value),
    }
}
