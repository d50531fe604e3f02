//! Messages of processes of Watchfire to and from what they mean.

use bytes::Bytes;
use governor::Refused;
use metricstore::{Cardinality, MetricError};
use model::{Labels, MatchOp, Matcher, NameSearch, SearchAlgorithm, SearchOrder, TimeRange};
use net::rpc::matcher::Op;
use net::rpc::name_search::Order;
use net::rpc::{CardinalityResponse, Counted, Exemplar, Selector, SeriesExemplars};
use tonic::{Code, Status};

use crate::{HeadTotals, ReadError};

/// Each takes up to some 600 bytes.
const EXEMPLARS_PER_PART: usize = 512;

/// 0 is no limit.
pub(crate) fn limit(wanted: u64) -> usize {
    match wanted {
        0 => usize::MAX,
        wanted => usize::try_from(wanted).unwrap_or(usize::MAX),
    }
}

/// Compiles the conditions of one.
///
/// # Errors
/// A pattern or an operator makes no sense.
pub(crate) fn matchers(selector: &Selector) -> Result<Vec<Matcher>, Status> {
    let matcher = |given: &net::rpc::Matcher| {
        let op = match given.op() {
            Op::Equal => MatchOp::Equal,
            Op::NotEqual => MatchOp::NotEqual,
            Op::Regex => MatchOp::Regex,
            Op::NotRegex => MatchOp::NotRegex,
            Op::Unspecified => return Err(Status::invalid_argument("a matcher without operator")),
        };
        Matcher::new(given.name.clone(), op, given.value.clone())
            .map_err(|error| Status::invalid_argument(error.to_string()))
    };
    selector.matchers.iter().map(matcher).collect()
}

pub(crate) fn selectors(given: &[Selector]) -> Result<Vec<Vec<Matcher>>, Status> {
    given.iter().map(matchers).collect()
}

/// A fault of the store, as it is told locally, with a code by which consoles know its kind.
pub(crate) fn fault(error: &ReadError) -> Status {
    let text = error.to_string();
    match error {
        ReadError::Store(MetricError::TooManySeries { .. })
        | ReadError::Refused(Refused::TooLarge(_)) => Status::resource_exhausted(text),
        // As when it is nobody's turn.
        ReadError::Refused(Refused::Later(_)) => Status::aborted(text),
        ReadError::Refused(Refused::Cancelled) => Status::cancelled(text),
        ReadError::Store(_) => Status::data_loss(text),
    }
}

/// How names are to be found.
///
/// # Errors
/// It makes no sense.
pub(crate) fn search(asked: &net::rpc::NameSearch) -> Result<NameSearch, Status> {
    let order = match asked.order() {
        Order::Ascending => SearchOrder::Ascending,
        Order::Descending => SearchOrder::Descending,
        Order::Score => SearchOrder::Score,
        Order::Unspecified => return Err(Status::invalid_argument("a search without order")),
    };
    let algorithm = match asked.by_similarity {
        true => SearchAlgorithm::JaroWinkler,
        false => SearchAlgorithm::Subsequence,
    };
    Ok(NameSearch {
        terms: asked.terms.clone(),
        algorithm,
        threshold: asked.threshold,
        folds_case: asked.folds_case,
        order,
        limit: limit(asked.limit),
    })
}

/// What a call that failed says of the same fault here; `None` if it is not one of the question, but of
/// who was asked or of the way there.
pub(crate) fn fault_of(status: &Status) -> Option<ReadError> {
    let text = || status.message().to_owned();
    match status.code() {
        Code::ResourceExhausted => Some(Refused::TooLarge(text()).into()),
        Code::Aborted => Some(Refused::Later(text()).into()),
        _ => None,
    }
}

/// As [`matchers`] reads it.
pub(crate) fn selector_of(matchers: &[Matcher]) -> Selector {
    let condition = |matcher: &Matcher| {
        let op = match matcher.op {
            MatchOp::Equal => Op::Equal,
            MatchOp::NotEqual => Op::NotEqual,
            MatchOp::Regex => Op::Regex,
            MatchOp::NotRegex => Op::NotRegex,
        };
        net::rpc::Matcher {
            op: op.into(),
            name: matcher.name.clone(),
            value: matcher.value.clone(),
        }
    };
    Selector { matchers: matchers.iter().map(condition).collect() }
}

/// As [`search`] reads it.
pub(crate) fn search_of(search: &NameSearch) -> net::rpc::NameSearch {
    let order = match search.order {
        SearchOrder::Ascending => Order::Ascending,
        SearchOrder::Descending => Order::Descending,
        SearchOrder::Score => Order::Score,
    };
    net::rpc::NameSearch {
        terms: search.terms.clone(),
        by_similarity: search.algorithm == SearchAlgorithm::JaroWinkler,
        threshold: search.threshold,
        folds_case: search.folds_case,
        order: order.into(),
        limit: search.limit as u64,
    }
}

/// A series with more exemplars than a message may be large comes in several parts.
pub(crate) fn exemplars(found: Vec<model::SeriesExemplars>) -> Vec<SeriesExemplars> {
    let mut parts = Vec::new();
    for series in found {
        let labels = Bytes::copy_from_slice(series.labels.as_packed());
        for exemplars in series.exemplars.chunks(EXEMPLARS_PER_PART) {
            let exemplar = |one: &model::Exemplar| Exemplar {
                labels: Bytes::copy_from_slice(one.labels.as_packed()),
                value: one.value,
                timestamp_ms: one.t_ms,
                is_dated: one.is_dated,
            };
            let exemplars = exemplars.iter().map(exemplar).collect();
            parts.push(SeriesExemplars { labels: labels.clone(), exemplars });
        }
    }
    parts
}

/// What [`exemplars`] made, part by part; what is malformed is left out.
pub(crate) fn exemplars_of(
    parts: Vec<SeriesExemplars>,
) -> impl Iterator<Item = model::SeriesExemplars> {
    parts.into_iter().filter_map(|part| {
        let exemplar = |one: Exemplar| {
            let (value, t_ms, is_dated) = (one.value, one.timestamp_ms, one.is_dated);
            Some(model::Exemplar { labels: labels_of(&one.labels)?, value, t_ms, is_dated })
        };
        let exemplars = part.exemplars.into_iter().filter_map(exemplar).collect();
        Some(model::SeriesExemplars { labels: labels_of(&part.labels)?, exemplars })
    })
}

/// Labels in their packed form.
pub(crate) fn labels_of(packed: &[u8]) -> Option<Labels> {
    Labels::from_packed(packed).ok()
}

/// Where the series of heads come from, and how much there is in them.
pub(crate) fn cardinality(found: Cardinality, head: &HeadTotals) -> CardinalityResponse {
    let counted = |list: Vec<(String, u64)>| {
        list.into_iter().map(|(name, count)| Counted { name, count }).collect()
    };
    let range = head.range;
    CardinalityResponse {
        series: found.series,
        label_pairs: found.label_pairs,
        chunks: head.chunks,
        min_time_ms: if range.is_empty() { i64::MAX } else { range.start_ms },
        max_time_ms: if range.is_empty() { i64::MIN } else { range.end_ms - 1 },
        series_by_metric: counted(found.series_by_metric),
        values_by_label: counted(found.values_by_label),
        bytes_by_label: counted(found.bytes_by_label),
        series_by_pair: counted(found.series_by_pair),
    }
}

/// As [`cardinality`] made it.
pub(crate) fn cardinality_of(found: CardinalityResponse) -> (Cardinality, HeadTotals) {
    let counted = |list: Vec<Counted>| list.into_iter().map(|one| (one.name, one.count)).collect();
    let range = match found.min_time_ms <= found.max_time_ms {
        true => TimeRange::new(found.min_time_ms, found.max_time_ms.saturating_add(1)),
        false => HeadTotals::EMPTY.range,
    };
    let head = HeadTotals { chunks: found.chunks, range, ..HeadTotals::EMPTY };
    let cardinality = Cardinality {
        series: found.series,
        label_pairs: found.label_pairs,
        series_by_metric: counted(found.series_by_metric),
        values_by_label: counted(found.values_by_label),
        bytes_by_label: counted(found.bytes_by_label),
        series_by_pair: counted(found.series_by_pair),
    };
    (cardinality, head)
}
