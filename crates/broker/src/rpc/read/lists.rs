//! Names, values, series and metadata: found as a whole, sent in pieces.

use std::collections::HashSet;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use model::{TenantId, TimeRange};
use net::rpc::{
    CardinalityRequest, CardinalityResponse, Exemplar, ExemplarsRequest, ExemplarsResponse,
    LabelsRequest, LabelsResponse, Metadata, MetadataResponse, SeriesExemplars, SeriesRequest,
    SeriesResponse,
};
use tonic::Status;

use super::super::messages::{self, limit, search};
use super::{Answers, MESSAGE_BYTES, fault, selectors, tenant};
use crate::{Broker, Reader};

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
        LabelsResponse { values, missing: Vec::new() }
    }
}

impl Piece for Bytes {
    type Message = SeriesResponse;

    fn bytes(&self) -> usize {
        self.len() + 4
    }

    fn message(labels: Vec<Self>) -> SeriesResponse {
        SeriesResponse { labels, missing: Vec::new() }
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
        ExemplarsResponse { series, missing: Vec::new() }
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

/// A list, and behind it what lacks in it, if anything does.
pub(super) struct Found<P: Piece> {
    pieces: Vec<P>,
    lacking: Option<P::Message>,
}

impl<P: Piece> Found<P> {
    fn new(
        pieces: Vec<P>,
        reader: &Reader,
        told: impl FnOnce(Vec<String>) -> P::Message,
    ) -> Found<P> {
        let lacking = Some(reader.lacking()).filter(|lacking| !lacking.is_empty());
        Found { pieces, lacking: lacking.map(told) }
    }

    pub(super) fn in_pieces(self) -> Answers<P::Message>
    where
        P::Message: 'static,
    {
        Box::pin(in_pieces(self.pieces).chain(stream::iter(self.lacking.map(Ok))))
    }
}

pub(super) fn labels(broker: &Broker, request: &LabelsRequest) -> Result<Found<String>, Status> {
    let told = |missing| LabelsResponse { values: Vec::new(), missing };
    let reader = broker.reader(tenant(broker, &request.tenant)?);
    let selectors = selectors(&request.selectors)?;
    let range = TimeRange::new(request.start_ms, request.end_ms);
    if let Some(asked) = &request.search {
        let of = (!request.name.is_empty()).then_some(request.name.as_str());
        let found = reader.search(of, &selectors, range, &search(asked)?);
        let found = found.map_err(|error| fault(&error))?;
        let found = found.into_iter().map(|one| one.name).collect();
        return Ok(Found::new(found, &reader, told));
    }
    let limit = limit(request.limit);
    let found = match request.name.as_str() {
        "" => reader.label_names(&selectors, range, limit),
        name => reader.label_values(name, &selectors, range, limit),
    };
    let found = found.map_err(|error| fault(&error))?;
    Ok(Found::new(found, &reader, told))
}

pub(super) fn series(broker: &Broker, request: &SeriesRequest) -> Result<Found<Bytes>, Status> {
    let reader = broker.reader(tenant(broker, &request.tenant)?);
    let selectors = selectors(&request.selectors)?;
    let range = TimeRange::new(request.start_ms, request.end_ms);
    let found = reader.series(&selectors, range, limit(request.limit));
    let found = found.map_err(|error| fault(&error))?;
    let found = found.iter().map(|labels| Bytes::copy_from_slice(labels.as_packed())).collect();
    Ok(Found::new(found, &reader, |missing| SeriesResponse { labels: Vec::new(), missing }))
}

/// A series with more exemplars than a message may be large comes in several parts.
pub(super) fn exemplars(
    broker: &Broker,
    request: &ExemplarsRequest,
) -> Result<Found<SeriesExemplars>, Status> {
    let reader = broker.reader(tenant(broker, &request.tenant)?);
    let selectors = selectors(&request.selectors)?;
    let range = TimeRange::new(request.start_ms, request.end_ms);
    let found = reader.exemplars(&selectors, range).map_err(|error| fault(&error))?;
    let found = messages::exemplars(found);
    Ok(Found::new(found, &reader, |missing| ExemplarsResponse { series: Vec::new(), missing }))
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
    let found = reader.cardinality(limit(request.limit)).map_err(|error| fault(&error))?;
    Ok(messages::cardinality(found.0, &found.1))
}
