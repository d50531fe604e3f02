//! `/api/v1/admin/tsdb/*` and `/api/v1/status/tsdb/blocks`: what administrators do to what is stored.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use model::TenantName;
use net::auth::Principal;
use serde_json::{Value, json};

use crate::params::Params;
use crate::respond::{bad_data, parameter, success};
use crate::storage::{Storage, StorageError, StoredBlock};
use net::{ApiError, ErrorType};

/// What answers requests for administration.
pub struct Administration {
    /// The store.
    pub storage: Arc<dyn Storage>,
    /// Milliseconds since the epoch; names copies.
    pub now_ms: fn() -> i64,
    /// Tells apart copies of one second.
    pub random: fn() -> u64,
}

/// Hides samples of all series that match any of `match[]`, from `start` to `end`, both inclusive.
/// 204 when it is durable and in effect.
pub(super) async fn delete_series(
    State(administration): State<Arc<Administration>>,
    params: Params,
) -> Result<Response, ApiError> {
    if params.all("match[]").next().is_none() {
        return Err(bad_data("no match[] parameter provided"));
    }
    let (range, selectors, tenant) = (params.range()?, params.selectors()?, params.tenant());
    // As in Prometheus, times that cross delete nothing.
    if !range.is_empty() {
        let storage = Arc::clone(&administration.storage);
        blocking("", move || storage.delete_series(tenant, &selectors, range)).await?;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Removes what is deleted from the disk.
pub(super) async fn clean_tombstones(
    State(administration): State<Arc<Administration>>,
) -> Result<Response, ApiError> {
    let storage = Arc::clone(&administration.storage);
    blocking("", move || storage.clean_deleted()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Copies the store; answers with the name of the copy.
pub(super) async fn snapshot(
    State(administration): State<Arc<Administration>>,
    params: Params,
) -> Result<Response, ApiError> {
    let skip_head = match params.get("skip_head") {
        None => false,
        Some(text) => parse_bool(text).ok_or_else(|| {
            let why = format!("strconv.ParseBool: parsing {text:?}: invalid syntax");
            parameter("skip_head", format!("unable to parse boolean: {why}"))
        })?,
    };
    let name = snapshot_name((administration.now_ms)(), (administration.random)());
    let (storage, of_copy) = (Arc::clone(&administration.storage), name.clone());
    blocking("create snapshot: ", move || storage.snapshot(&of_copy, !skip_head)).await?;
    Ok(success(json!({ "name": name })))
}

/// The blocks, as Prometheus shows its own.
pub(super) async fn blocks(
    State(administration): State<Arc<Administration>>,
    principal: Principal,
) -> Result<Response, ApiError> {
    let storage = Arc::clone(&administration.storage);
    // Counting what is deleted in each takes a while where there are many.
    let blocks = blocking("", move || Ok(storage.blocks())).await?;
    Ok(success(json!({ "blocks": shown_to(&principal, &blocks) })))
}

/// Those of a tenant whose name was lost are shown to who sees all.
fn shown_to(principal: &Principal, blocks: &[StoredBlock]) -> Vec<Value> {
    let is_shown = |block: &&StoredBlock| match block.tenant {
        Some(tenant) => principal.sees(tenant),
        None => principal.sees_all(),
    };
    blocks.iter().filter(is_shown).map(block).collect()
}

fn block(block: &StoredBlock) -> Value {
    let mut shown = json!({
        "ulid": block.id,
        "tenant": block.tenant.as_ref().map(TenantName::as_str),
        "minTime": block.min_time_ms,
        "maxTime": block.end_time_ms,
        "stats": {
            "numSamples": block.samples,
            "numSeries": block.series,
            "numBytes": block.size_bytes,
            "numTombstones": block.deletes,
        },
        "compaction": { "level": block.level, "sources": [block.id] },
        "rollupMs": block.rollup_ms,
        "downsampled": block.is_downsampled,
        "rollupsAlone": block.is_rollups_alone,
        "version": 1,
    });
    if block.tenant.is_none() {
        let number = block.tenant_number;
        // No name begins like this.
        shown["tenant"] = format!("#{number}").into();
        shown["note"] = format!(
            "the name of the tenant with the number {number} was lost when the catalog was damaged: no \
             request reads these samples, nobody else gets the number, and they go with the \
             retention; a snapshot from before has the name"
        )
        .into();
    }
    shown
}

/// Runs what waits for the disk off the threads that serve sockets; errors begin with `what`.
async fn blocking<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|_| ApiError::new(ErrorType::Unavailable, "the server is stopping"))?;
    done.map_err(|error| {
        let kind = match error {
            StorageError::Limit(_) => ErrorType::Execution,
            StorageError::Failed(_) => ErrorType::Internal,
            StorageError::Unavailable(_) => ErrorType::Unavailable,
        };
        ApiError::new(kind, format!("{what}{error}"))
    })
}

/// `20060102T150405Z-` and 16 hexadecimal digits, as Prometheus names its snapshots.
fn snapshot_name(now_ms: i64, random: u64) -> String {
    let time = model::rfc3339(now_ms);
    let seconds: String = time.chars().take(19).filter(|c| !matches!(c, '-' | ':')).collect();
    format!("{seconds}Z-{random:016x}")
}

/// What Go's `strconv.ParseBool` takes.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_have_the_names_that_prometheus_gives() {
        assert_eq!(snapshot_name(1_435_781_451_781, 0xabc), "20150701T201051Z-0000000000000abc");
    }

    #[test]
    fn blocks_without_a_name_are_shown_to_who_sees_all() {
        let acme = TenantName::parse("acme").expect("a name");
        let block = |tenant, tenant_number| StoredBlock {
            tenant,
            tenant_number,
            id: format!("block-{tenant_number}"),
            min_time_ms: 0,
            end_time_ms: 1,
            samples: 1,
            series: 1,
            size_bytes: 1,
            deletes: 0,
            level: 0,
            rollup_ms: 300_000,
            is_downsampled: true,
            is_rollups_alone: false,
        };
        let blocks = [block(Some(acme), 1), block(None, 7)];
        let everybody = Principal::anonymous();
        let shown = shown_to(&everybody, &blocks);
        assert_eq!(shown.len(), 2);
        assert_eq!(shown[0]["rollupMs"], 300_000);
        assert!(shown[0]["downsampled"] == true && shown[0]["rollupsAlone"] == false);
        assert!(shown[0]["tenant"] == "acme" && shown[0]["note"].is_null(), "{}", shown[0]);
        assert!(shown[1]["tenant"] == "#7" && shown[1]["ulid"] == "block-7", "{}", shown[1]);
        let note = shown[1]["note"].as_str().unwrap_or_default();
        assert!(note.contains("number 7 was lost") && note.contains("snapshot"), "{note}");
        let mut bound = everybody;
        bound.tenants = net::auth::Tenants::parse("acme").expect("a name");
        bound.tenant = acme;
        assert_eq!(shown_to(&bound, &blocks), shown[..1]);
    }

    #[test]
    fn booleans_are_those_of_go() {
        assert_eq!(
            ["1", "T", "false", "0"].map(parse_bool),
            [Some(true), Some(true), Some(false), Some(false)]
        );
        assert_eq!(["yes", "tRUE", ""].map(parse_bool), [None; 3]);
    }
}
