//! `/api/v1/admin/blocks` and `/api/v1/admin/keys`: what moves in from the store of one machine.
//!
//! `watchfire migrate` writes a block into the shared store under an id that is reserved here, and then
//! says so here; a block counts from then on.

use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use catalog::{BlockId, CatalogError, Command, Expected, NewBlock, Outcome, Signal};
use http::Method;
use model::{TenantName, TimeRange};
use net::{Access, ApiError, ErrorType, JsonBody, Routes};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::commit::CommitError;
use crate::{Broker, metadata};

/// Keys below tell which blocks of which store are here: `moved/STORE/BLOCK`.
const MOVED: &str = "moved/";
/// What may move: everything else is of the store it comes from, such as who is a user of it.
const MAY_MOVE: [&str; 3] = [metadata::PREFIX, "views/", "pushgateway/"];

pub(super) fn routes() -> Routes<Broker> {
    Routes::new()
        .route("/api/v1/admin/blocks", [Method::GET], Access::Admin, list)
        .route("/api/v1/admin/blocks", [Method::POST], Access::Admin, add)
        .route("/api/v1/admin/blocks/reserve", [Method::POST], Access::Admin, reserve)
        .route("/api/v1/admin/keys", [Method::POST], Access::Admin, put_key)
}

#[derive(Deserialize)]
struct OfStore {
    source: String,
}

/// A block of another store.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MovedBlock {
    /// The store it comes from, and its id there.
    source: String,
    source_id: u64,
    /// Under which id it lies in the shared store.
    id: u64,
    tenant: String,
    start_ms: i64,
    end_ms: i64,
    rows: u64,
    series: u64,
    size_bytes: u64,
    level: u8,
}

/// A key of another store.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MovedKey {
    key: String,
    /// Whose it is, where the key says so by number.
    tenant: Option<String>,
    /// In base64.
    value: String,
}

/// Which blocks of a store are here.
async fn list(
    State(broker): State<Broker>,
    Query(OfStore { source }): Query<OfStore>,
) -> Result<Response, ApiError> {
    in_a_cluster(&broker)?;
    let prefix = format!("{MOVED}{source}/");
    let keys = broker.list_keys(&prefix);
    let ids = keys.iter().filter_map(|(key, _)| key.strip_prefix(&prefix)?.parse::<u64>().ok());
    Ok(success(json!({ "blocks": ids.collect::<Vec<_>>() })))
}

/// An id for a block that is about to be written.
async fn reserve(State(broker): State<Broker>) -> Result<Response, ApiError> {
    in_a_cluster(&broker)?;
    match broker.apply(Command::ReserveIds { count: 1 }).await.map_err(refused)? {
        Outcome::Reserved(ids) => {
            let id = BlockId(ids.start);
            Ok(success(json!({ "id": id.0, "key": id.key(Signal::Metrics) })))
        }
        other => unreachable!("the catalog answers a reservation with ids, not {other:?}"),
    }
}

/// Lets a block count, once it is seen that it can be read.
async fn add(
    State(broker): State<Broker>,
    JsonBody(moved): JsonBody<MovedBlock>,
) -> Result<Response, ApiError> {
    in_a_cluster(&broker)?;
    let mark = format!("{MOVED}{}/{}", moved.source, moved.source_id);
    let id = BlockId(moved.id);
    if broker.get_key(&mark).is_some() {
        let why = format!("block {} of that store is here already", moved.source_id);
        return Err(ApiError::new(ErrorType::BadData, why).with_status(http::StatusCode::CONFLICT));
    }
    let name = tenant(&moved.tenant)?;
    let (opening, for_tenant) = (broker.clone(), broker.clone());
    let opened = broker.off_the_sockets(move || opening.inner.blocks.open_block(id)).await;
    opened
        .map_err(|error| bad(format!("block {id} cannot be read in the shared store: {error}")))?;
    let tenant = broker.off_the_sockets(move || for_tenant.tenant_for_write(name)).await;
    let added = NewBlock {
        id,
        tenant: tenant.map_err(refused)?,
        signal: Signal::Metrics,
        range: TimeRange::new(moved.start_ms, moved.end_ms),
        rows: moved.rows,
        series: moved.series,
        size_bytes: moved.size_bytes,
        level: moved.level,
    };
    // What is deleted here was deleted before the block came, and says nothing about it.
    let deletes_through = broker.inner.catalog.read(|state| state.last_delete());
    let command = Command::AddBlocks { added: vec![added], deletes_through };
    broker.apply(command).await.map_err(refused)?;
    let value = id.0.to_string().into_bytes();
    // Without it the block would come a second time, which is a waste and nothing worse: equal samples of
    // two blocks are one.
    broker.put_key_async(&mark, value, Expected::Any).await.map_err(refused)?;
    Ok(success(json!({ "id": id.0 })))
}

/// Takes over a key that is not here.
async fn put_key(
    State(broker): State<Broker>,
    JsonBody(moved): JsonBody<MovedKey>,
) -> Result<Response, ApiError> {
    in_a_cluster(&broker)?;
    if !MAY_MOVE.iter().any(|prefix| moved.key.starts_with(prefix)) {
        return Err(bad(format!("only keys below {} move", MAY_MOVE.join(", "))));
    }
    let value = base64::engine::general_purpose::STANDARD.decode(&moved.value);
    let value = value.map_err(|_| bad("the value is not base64".to_owned()))?;
    let key = match moved.key.strip_prefix(metadata::PREFIX) {
        None => moved.key,
        Some(rest) => {
            let family = rest.split_once('/').map(|(_, family)| family);
            let family = family.ok_or_else(|| bad("that is no key of metadata".to_owned()))?;
            let name = tenant(moved.tenant.as_deref().unwrap_or(TenantName::DEFAULT.as_str()))?;
            let for_tenant = broker.clone();
            let id = broker.off_the_sockets(move || for_tenant.tenant_for_write(name)).await;
            metadata::key(id.map_err(refused)?, family)
        }
    };
    let is_new = match broker.put_key_async(&key, value, Expected::Absent).await {
        Ok(_) => true,
        Err(error) if error.is_version_conflict() => false,
        Err(error) => return Err(refused(error)),
    };
    Ok(success(json!({ "new": is_new })))
}

fn in_a_cluster(broker: &Broker) -> Result<(), ApiError> {
    if broker.inner.clustered.is_some() {
        return Ok(());
    }
    Err(bad("this is one machine, whose data lies on its own disk: ask a broker of the cluster that the \
             data shall move to"
        .to_owned()))
}

fn tenant(name: &str) -> Result<TenantName, ApiError> {
    TenantName::parse(name).map_err(|error| bad(error.to_string()))
}

fn bad(why: String) -> ApiError {
    ApiError::new(ErrorType::BadData, why)
}

fn refused(error: CommitError) -> ApiError {
    let kind = match &error {
        CommitError::Catalog(
            CatalogError::UnfitBlock { .. } | CatalogError::DuplicateBlock { .. },
        ) => ErrorType::BadData,
        _ => ErrorType::Unavailable,
    };
    ApiError::new(kind, error.to_string())
}

fn success(data: Value) -> Response {
    Json(json!({ "status": "success", "data": data })).into_response()
}
