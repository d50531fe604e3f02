//! Names, values, series and metadata: found as a whole, sent in pieces.

use std::collections::HashSet;

use bytes::Bytes;
use futures_util::stream;
use model::{NameSearch, SearchAlgorithm, SearchOrder, TenantId, TimeRange};
use net::rpc::name_search::Order;
use net::rpc::{
    self, CardinalityRequest, CardinalityResponse, Counted, Exemplar, ExemplarsRequest,
    ExemplarsResponse, LabelsRequest, LabelsResponse, Metadata, MetadataResponse, SeriesExemplars,
    SeriesRequest, SeriesResponse,
};
use tonic::Status;

use super::{Answers, MESSAGE_BYTES, fault, selectors, tenant};
use crate::Broker;

/// Each takes up to some 600 bytes.
const EXEMPLARS_PER_PART: usize = 512;

/// Something of which a message holds many.
pub(super) trait Piece: Sized + Send + 'static {
    /// The message.
    type Message: Send;

    /// About the bytes it takes.
    fn bytes(&self) -> usize;

    fn message(pieces: Vec<Self>) -> Self::Message;
}

impl Piece for String {
    type Message = LabelsResponse;

    fn bytes(&self) -> usize {
        self.len() + 4
    }

    fn message(values: Vec<Self>) -> LabelsResponse {
        LabelsResponse { values }
    }
}

impl Piece for Bytes {
    type Message = SeriesResponse;

    fn bytes(&self) -> usize {
        self.len() + 4
    }

    fn message(labels: Vec<Self>) -> SeriesResponse {
        SeriesResponse { labels }
    }
}

impl Piece for Metadata {
    type Message = MetadataResponse;

    fn bytes(&self) -> usize {
        self.metric.len() + self.kind.len() + self.help.len() + self.unit.len() + 16
    }

    fn message(metadata: Vec<Self>) -> MetadataResponse {
        MetadataResponse { metadata }
    }
}

impl Piece for SeriesExemplars {
    type Message = ExemplarsResponse;

    fn bytes(&self) -> usize {
        let of_one = |exemplar: &Exemplar| exemplar.labels.len() + 32;
        self.labels.len() + 8 + self.exemplars.iter().map(of_one).sum::<usize>()
    }

    fn message(series: Vec<Self>) -> ExemplarsResponse {
        ExemplarsResponse { series }
    }
}

/// Messages of bounded size, made when they are taken; none if there is nothing.
pub(super) fn in_pieces<P: Piece>(all: Vec<P>) -> Answers<P::Message> {
    let pieces = all.into_iter().peekable();
    Box::pin(stream::unfold(pieces, |mut pieces| async move {
        pieces.peek()?;
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(piece) = pieces.next_if(|_| bytes < MESSAGE_BYTES) {
            bytes += piece.bytes();
            taken.push(piece);
        }
        Some((Ok(P::message(taken)), pieces))
    }))
}

pub(super) fn labels(broker: &Broker, request: &LabelsRequest) -> Result<Vec<String>, Status> {
    let reader = broker.reader(tenant(broker, &request.tenant)?);
    let selectors = selectors(&request.selectors)?;
    let range = TimeRange::new(request.start_ms, request.end_ms);
    if let Some(asked) = &request.search {
        let of = (!request.name.is_empty()).then_some(request.name.as_str());
        let found = reader.search(of, &selectors, range, &search(asked)?);
        let found = found.map_err(|error| fault(&error))?;
        return Ok(found.into_iter().map(|one| one.name).collect());
    }
    let limit = limit(request.limit);
    Ok(if request.name.is_empty() {
        reader.label_names(&selectors, range, limit)
    } else {
        reader.label_values(&request.name, &selectors, range, limit)
    })
}

fn search(asked: &rpc::NameSearch) -> Result<NameSearch, Status> {
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

pub(super) fn series(broker: &Broker, request: &SeriesRequest) -> Result<Vec<Bytes>, Status> {
    let reader = broker.reader(tenant(broker, &request.tenant)?);
    let selectors = selectors(&request.selectors)?;
    let range = TimeRange::new(request.start_ms, request.end_ms);
    let found = reader.series(&selectors, range, limit(request.limit));
    let found = found.map_err(|error| fault(&error))?;
    Ok(found.iter().map(|labels| Bytes::copy_from_slice(labels.as_packed())).collect())
}

/// A series with more exemplars than a message may be large comes in several parts.
pub(super) fn exemplars(
    broker: &Broker,
    request: &ExemplarsRequest,
) -> Result<Vec<SeriesExemplars>, Status> {
    let reader = broker.reader(tenant(broker, &request.tenant)?);
    let selectors = selectors(&request.selectors)?;
    let range = TimeRange::new(request.start_ms, request.end_ms);
    let mut parts = Vec::new();
    for series in reader.exemplars(&selectors, range) {
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
    Ok(parts)
}

/// Of the families in `metrics`, or of all if that is empty.
pub(super) fn metadata(broker: &Broker, tenant: TenantId, metrics: &[String]) -> Vec<Metadata> {
    let wanted: HashSet<&String> = metrics.iter().collect();
    let known = broker.metadata(tenant).into_iter();
    known
        .filter(|one| wanted.is_empty() || wanted.contains(&one.metric))
        .map(|one| Metadata {
            metric: one.metric,
            kind: one.kind.as_str().to_owned(),
            help: one.help,
            unit: one.unit,
        })
        .collect()
}

pub(super) fn cardinality(
    broker: &Broker,
    request: &CardinalityRequest,
) -> Result<CardinalityResponse, Status> {
    let reader = broker.reader(tenant(broker, &request.tenant)?);
    let (head, found) = (reader.head(), reader.cardinality(limit(request.limit)));
    let counted = |list: Vec<(String, u64)>| {
        list.into_iter().map(|(name, count)| Counted { name, count }).collect()
    };
    let range = head.range;
    Ok(CardinalityResponse {
        series: found.series,
        label_pairs: found.label_pairs,
        chunks: head.chunks,
        min_time_ms: if range.is_empty() { i64::MAX } else { range.start_ms },
        max_time_ms: if range.is_empty() { i64::MIN } else { range.end_ms - 1 },
        series_by_metric: counted(found.series_by_metric),
        values_by_label: counted(found.values_by_label),
        bytes_by_label: counted(found.bytes_by_label),
        series_by_pair: counted(found.series_by_pair),
    })
}

/// 0 is no limit.
pub(super) fn limit(wanted: u64) -> usize {
    match wanted {
        0 => usize::MAX,
        wanted => usize::try_from(wanted).unwrap_or(usize::MAX),
    }
}
