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
use crate::maintenance::is_damage;
use crate::{Broker, metadata};

/// Keys below tell which blocks of which store are here: `moved/STORE/BLOCK`.
const MOVED: &str = "moved/";
/// One key for each store whose blocks come: what was deleted before the first of them did.
const MOVING: &str = catalog::KEEPS_DELETES;
/// What may move: everything else is of the store it comes from, such as who is a user of it.
const MAY_MOVE: [&str; 3] = [metadata::PREFIX, "views/", "pushgateway/"];

pub(super) fn routes() -> Routes<Broker> {
    Routes::new()
        .route("/api/v1/admin/blocks", [Method::GET], Access::Admin, list)
        .route("/api/v1/admin/blocks", [Method::POST], Access::Admin, add)
        .route("/api/v1/admin/blocks/reserve", [Method::POST], Access::Admin, reserve)
        .route("/api/v1/admin/moves", [Method::POST], Access::Admin, begin)
        .route("/api/v1/admin/moves/end", [Method::POST], Access::Admin, end)
        .route("/api/v1/admin/keys", [Method::POST], Access::Admin, put_key)
}

#[derive(Deserialize)]
struct OfStore {
    source: String,
}

/// A store whose blocks come.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Begun {
    source: String,
    /// How many deletes it has seen.
    source_deletes: u64,
    /// What was deleted in the cluster or there since the first run is deleted here again by who asks.
    #[serde(default)]
    is_deleted_again: bool,
}

/// What was deleted when the first blocks of a store came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Since {
    /// The last delete here: later ones hide what is in the blocks that come.
    here: u64,
    /// The last one there.
    there: u64,
}

impl Since {
    fn of(value: &[u8]) -> Option<Since> {
        let (here, there) = std::str::from_utf8(value).ok()?.split_once(' ')?;
        Some(Since { here: here.parse().ok()?, there: there.parse().ok()? })
    }

    fn value(self) -> Vec<u8> {
        format!("{} {}", self.here, self.there).into_bytes()
    }
}

/// A block that is about to be written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reserved {
    #[serde(default)]
    signal: MovedSignal,
}

/// What is in a block. Programs that moved nothing but samples did not say so.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum MovedSignal {
    #[default]
    Metrics,
    Logs,
}

impl From<MovedSignal> for Signal {
    fn from(moved: MovedSignal) -> Self {
        match moved {
            MovedSignal::Metrics => Signal::Metrics,
            MovedSignal::Logs => Signal::Logs,
        }
    }
}

/// A block of another store.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MovedBlock {
    #[serde(default)]
    signal: MovedSignal,
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
    /// The store it comes from.
    source: String,
    key: String,
    /// Whose it is, where the key says so by number.
    tenant: Option<String>,
    /// In base64.
    value: String,
}

/// Which blocks of a store are here, and what becomes of those that come.
async fn list(
    State(broker): State<Broker>,
    Query(OfStore { source }): Query<OfStore>,
) -> Result<Response, ApiError> {
    in_a_cluster(&broker)?;
    let since = broker.get_key(&moving(&source)).and_then(|key| Since::of(&key.value));
    let config = &broker.inner.config;
    Ok(success(json!({
        "cluster": cluster(&broker),
        "blocks": blocks_of(&broker, &source),
        "samples_kept_ms": config.retention.time_ms,
        "kept_ms": config.kept().time_ms,
        "lines_kept_ms": config.logs_retention_ms,
        "source_deletes": since.map(|since| since.there),
    })))
}

/// An id for a block that is about to be written.
async fn reserve(
    State(broker): State<Broker>,
    JsonBody(reserved): JsonBody<Reserved>,
) -> Result<Response, ApiError> {
    in_a_cluster(&broker)?;
    match broker.apply(Command::ReserveIds { count: 1 }).await.map_err(refused)? {
        Outcome::Reserved(ids) => {
            let id = BlockId(ids.start);
            let (cluster, key) = (cluster(&broker), id.key(reserved.signal.into()));
            Ok(success(json!({ "cluster": cluster, "id": id.0, "key": key })))
        }
        other => unreachable!("the catalog answers a reservation with ids, not {other:?}"),
    }
}

/// Blocks of a store are about to come. From the first time on the catalog keeps what is deleted here, until
/// it is said that no more come: a block that was written there before hides it too.
async fn begin(
    State(broker): State<Broker>,
    JsonBody(begun): JsonBody<Begun>,
) -> Result<Response, ApiError> {
    in_a_cluster(&broker)?;
    if begun.source.is_empty() || begun.source.contains('/') {
        return Err(bad("source is no id of a store".to_owned()));
    }
    let key = moving(&begun.source);
    let known = broker.get_key(&key);
    let since = known.as_ref().and_then(|key| Since::of(&key.value));
    let (last, is_known) = broker.inner.catalog.read(|state| {
        let is_known = since.is_some_and(|since| state.knows_deletes_since(since.here));
        (state.last_delete(), is_known)
    });
    let why = match since {
        Some(since) if !is_known => Some(format!(
            "{} deletes were made in the cluster since blocks of that store came first, and not all of them \
             are known any more",
            last.saturating_sub(since.here)
        )),
        Some(since) if begun.source_deletes > since.there => Some(format!(
            "{} deletes were made at the machine since its blocks came first: what they took is still in the \
             cluster",
            begun.source_deletes - since.there
        )),
        None if known.is_some() || !blocks_of(&broker, &begun.source).is_empty() => Some(
            "the move of that store was ended, and what was deleted in the cluster since is not known any \
             more"
                .to_owned(),
        ),
        _ => None,
    };
    if let Some(why) = why.filter(|_| !begun.is_deleted_again) {
        let status = http::StatusCode::PRECONDITION_FAILED;
        return Err(ApiError::new(ErrorType::BadData, why).with_status(status));
    }
    let here = since.filter(|_| is_known).map_or(last, |since| since.here);
    let now = Since { here, there: begun.source_deletes };
    if since != Some(now) {
        let expected = known.map_or(Expected::Absent, |key| Expected::Version(key.version));
        broker.put_key_async(&key, now.value(), expected).await.map_err(refused)?;
    }
    Ok(success(json!({ "cluster": cluster(&broker) })))
}

/// No more blocks of a store come.
async fn end(
    State(broker): State<Broker>,
    JsonBody(OfStore { source }): JsonBody<OfStore>,
) -> Result<Response, ApiError> {
    in_a_cluster(&broker)?;
    broker.delete_key_async(&moving(&source), Expected::Any).await.map_err(refused)?;
    Ok(success(json!({})))
}

/// Lets a block count, once it is seen that it can be read. Asking again for the same changes nothing.
async fn add(
    State(broker): State<Broker>,
    JsonBody(moved): JsonBody<MovedBlock>,
) -> Result<Response, ApiError> {
    in_a_cluster(&broker)?;
    let mark = format!("{MOVED}{}/{}", moved.source, moved.source_id);
    let id = BlockId(moved.id);
    let value = id.0.to_string().into_bytes();
    if let Some(counts) = broker.get_key(&mark) {
        if counts.value == value {
            return Ok(success(json!({ "id": id.0 })));
        }
        let why = format!("block {} of that store is here already", moved.source_id);
        return Err(ApiError::new(ErrorType::BadData, why).with_status(http::StatusCode::CONFLICT));
    }
    let since = broker.get_key(&moving(&moved.source)).and_then(|key| Since::of(&key.value));
    let since = since.ok_or_else(|| bad("the move of that store has not begun".to_owned()))?;
    let name = tenant(&moved.tenant)?;
    let (opening, for_tenant) = (broker.clone(), broker.clone());
    let signal = moved.signal.into();
    let open = move || match signal {
        Signal::Metrics => opening.inner.blocks.open_block(id).map(drop),
        Signal::Logs => opening.inner.log_blocks.open_block(id).map(drop),
    };
    let opened = broker.off_the_sockets(open).await;
    if let Err(error) = opened {
        let why = format!("block {id} cannot be read in the shared store: {error}");
        return Err(match is_damage(&error) {
            true => gone(why),
            false => ApiError::new(ErrorType::Unavailable, why),
        });
    }
    let tenant = broker.off_the_sockets(move || for_tenant.tenant_for_write(name)).await;
    let added = NewBlock {
        id,
        tenant: tenant.map_err(refused)?,
        signal,
        range: TimeRange::new(moved.start_ms, moved.end_ms),
        rows: moved.rows,
        series: moved.series,
        size_bytes: moved.size_bytes,
        level: moved.level,
    };
    // What was deleted here before the first run says nothing about it; what was deleted later does.
    let command = Command::AddBlocks { added: vec![added], deletes_through: since.here };
    match broker.apply(command).await {
        Ok(_) => {}
        // The same was asked before, and its answer was lost.
        Err(CommitError::Catalog(CatalogError::DuplicateBlock { .. }))
            if broker.inner.catalog.read(|state| is_listed(state, &added)) => {}
        Err(error) => return Err(refused(error)),
    }
    // Without it the block would come a second time, which is a waste and nothing worse: equal samples of
    // two blocks are one, and so are equal lines of one time.
    broker.put_key_async(&mark, value, Expected::Any).await.map_err(refused)?;
    Ok(success(json!({ "id": id.0 })))
}

/// Whether the catalog lists a block as this one.
fn is_listed(state: &catalog::State, block: &NewBlock) -> bool {
    let NewBlock { id, tenant, signal, range, rows, series, size_bytes, level } = *block;
    state.block(id).is_some_and(|listed| {
        (listed.tenant, listed.signal, listed.range) == (tenant, signal, range)
            && (listed.rows, listed.series, listed.size_bytes) == (rows, series, size_bytes)
            && listed.level == level
    })
}

fn moving(source: &str) -> String {
    format!("{MOVING}{source}")
}

fn blocks_of(broker: &Broker, source: &str) -> Vec<u64> {
    let prefix = format!("{MOVED}{source}/");
    let keys = broker.list_keys(&prefix);
    keys.iter().filter_map(|(key, _)| key.strip_prefix(&prefix)?.parse().ok()).collect()
}

/// Whose store blocks are to be written into.
fn cluster(broker: &Broker) -> Option<String> {
    broker.inner.catalog.read(|state| state.store().map(|store| store.to_string()))
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
            // Nobody else's, where its name is not known.
            let name = moved.tenant.as_deref();
            let name = name.ok_or_else(|| bad("metadata is of a tenant: name it".to_owned()))?;
            let name = tenant(name)?;
            let for_tenant = broker.clone();
            let id = broker.off_the_sockets(move || for_tenant.tenant_for_write(name)).await;
            metadata::key(id.map_err(refused)?, family)
        }
    };
    // What was deleted here since it came does not come back. Metadata comes with samples anyway.
    let mark = (!key.starts_with(metadata::PREFIX))
        .then(|| format!("{MOVED}{}/key/{}", moved.source, blake3::hash(key.as_bytes()).to_hex()));
    let was_here = mark.as_ref().is_some_and(|mark| broker.get_key(mark).is_some());
    let is_new = match was_here {
        true => false,
        false => match broker.put_key_async(&key, value, Expected::Absent).await {
            Ok(_) => true,
            Err(error) if error.is_version_conflict() => false,
            Err(error) => return Err(refused(error)),
        },
    };
    if let Some(mark) = mark.filter(|_| !was_here) {
        broker.put_key_async(&mark, Vec::new(), Expected::Any).await.map_err(refused)?;
    }
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

/// The object that was named is of no use: it has to be written anew, under another id.
fn gone(why: String) -> ApiError {
    ApiError::new(ErrorType::BadData, why).with_status(http::StatusCode::GONE)
}

fn refused(error: CommitError) -> ApiError {
    match &error {
        CommitError::Catalog(CatalogError::UnfitBlock { .. }) => gone(error.to_string()),
        CommitError::Catalog(CatalogError::DuplicateBlock { .. }) => bad(error.to_string()),
        _ => ApiError::new(ErrorType::Unavailable, error.to_string()),
    }
}

fn success(data: Value) -> Response {
    Json(json!({ "status": "success", "data": data })).into_response()
}
