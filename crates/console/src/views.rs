//! Saved views: what a page shows, under a name, for everyone of a tenant.
//!
//! A view is the address of a page, taken apart into the page and its parameters; what those mean
//! is the page's business. Views lie in the broker's key space, so they survive a restart, and each
//! has a version, so that two people who change one at the same time notice.

use std::sync::Arc;

use model::TenantName;
use net::auth::Principal;
use serde::{Deserialize, Serialize};

use crate::keys::{KeyError, Keys, Stored, Wanted};

/// Views of one tenant at most. Every file of the broker's log begins with all of them.
const MAX_VIEWS: usize = 500;
/// Characters of a name; a menu shows no more.
const MAX_NAME_CHARS: usize = 80;
/// Bytes of the parameters; browsers and proxies cut longer addresses.
const MAX_PARAMETERS_BYTES: usize = 4 << 10;
/// Letters of a page's name.
const MAX_PAGE_BYTES: usize = 32;

/// A view as the API tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct View {
    /// Its name, unique within the tenant.
    name: String,
    /// The page, such as `hosts`.
    page: String,
    /// The parameters of the page's address, without `?`.
    params: String,
    /// Who saved it last.
    changed_by: String,
    /// When, milliseconds since the epoch.
    changed_ms: i64,
    /// Differs after each change.
    version: u64,
}

/// A view as it is kept. Fields that a newer version adds are ignored.
#[derive(Serialize, Deserialize)]
struct Kept {
    page: String,
    params: String,
    changed_by: String,
    changed_ms: i64,
}

/// Why a view was not saved or removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ViewError {
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// There is no such view.
    #[error("there is no view {0:?}; it may have been deleted or renamed")]
    NotFound(String),
    /// Somebody else changed it.
    #[error(
        "the view {0:?} was changed by somebody else meanwhile; read it again, or save under \
         another name"
    )]
    Conflict(String),
    /// There are too many.
    #[error("there are {MAX_VIEWS} views, which is the limit; delete some that nobody uses")]
    TooMany,
    /// The store failed.
    #[error("{0}")]
    Store(String),
}

/// What to save.
pub(crate) struct Draft<'a> {
    pub(crate) name: &'a str,
    pub(crate) page: &'a str,
    pub(crate) params: &'a str,
    /// The version it replaces; 0 if there must be none of this name, `None` to replace any.
    pub(crate) version: Option<u64>,
}

/// All views of a tenant, sorted by name. One that cannot be read is left out and told in the log.
pub(crate) fn list(keys: &Arc<dyn Keys>, tenant: TenantName) -> Vec<View> {
    let prefix = prefix(tenant);
    keys.list(&prefix).into_iter().filter_map(|(key, stored)| view(&prefix, &key, stored)).collect()
}

/// Saves a view; it is durable when this returns, which yields its version. Blocks.
pub(crate) fn save(
    keys: &Arc<dyn Keys>,
    by: &Principal,
    draft: &Draft<'_>,
    now_ms: i64,
) -> Result<View, ViewError> {
    check(draft)?;
    let prefix = prefix(by.tenant);
    let key = format!("{prefix}{}", draft.name);
    let present = keys.list(&prefix);
    let found = present.iter().find(|(other, _)| *other == key).map(|(_, stored)| stored.version);
    if draft.version.is_some_and(|version| version != found.unwrap_or(0)) {
        return Err(ViewError::Conflict(draft.name.to_owned()));
    }
    // Two who save at the same time may both get the last place; the limit bounds the log's files,
    // not a buffer, so one more does no harm.
    if found.is_none() && present.len() >= MAX_VIEWS {
        return Err(ViewError::TooMany);
    }
    let kept = Kept {
        page: draft.page.to_owned(),
        params: draft.params.to_owned(),
        changed_by: by.name.to_string(),
        changed_ms: now_ms,
    };
    let value = serde_json::to_vec(&kept).expect("texts and numbers are always JSON");
    let wanted = match draft.version {
        None => Wanted::Any,
        Some(0) => Wanted::Absent,
        Some(version) => Wanted::Version(version),
    };
    let version = keys.put(&key, value, wanted).map_err(|error| failed(draft.name, error))?;
    Ok(View {
        name: draft.name.to_owned(),
        page: kept.page,
        params: kept.params,
        changed_by: kept.changed_by,
        changed_ms: kept.changed_ms,
        version,
    })
}

/// Removes a view, durably. Blocks.
pub(crate) fn delete(
    keys: &Arc<dyn Keys>,
    tenant: TenantName,
    name: &str,
) -> Result<(), ViewError> {
    let key = format!("{}{name}", prefix(tenant));
    let Some(version) = keys.list(&key).into_iter().find(|(other, _)| *other == key) else {
        return Err(ViewError::NotFound(name.chars().take(MAX_NAME_CHARS).collect()));
    };
    let wanted = Wanted::Version(version.1.version);
    keys.delete(&key, wanted).map_err(|error| failed(name, error))
}

fn prefix(tenant: TenantName) -> String {
    // As it was before there were others; no name has the sign that stands before those.
    if tenant.is_default() { "views/0/".to_owned() } else { format!("views/={tenant}/") }
}

fn view(prefix: &str, key: &str, stored: Stored) -> Option<View> {
    let name = key.strip_prefix(prefix)?.to_owned();
    let kept = match serde_json::from_slice::<Kept>(&stored.value) {
        Ok(kept) => kept,
        Err(error) => {
            tracing::warn!(key, %error, "a saved view cannot be read and is left out");
            return None;
        }
    };
    Some(View {
        name,
        page: kept.page,
        params: kept.params,
        changed_by: kept.changed_by,
        changed_ms: kept.changed_ms,
        version: stored.version,
    })
}

fn check(draft: &Draft<'_>) -> Result<(), ViewError> {
    let invalid = |message: String| Err(ViewError::Invalid(message));
    let Draft { name, page, params, .. } = draft;
    let length = name.chars().count();
    if length == 0 || length > MAX_NAME_CHARS {
        return invalid(format!(
            "the name has {length} characters; a view's name has 1 to {MAX_NAME_CHARS}"
        ));
    }
    if name.trim() != *name || name.chars().any(char::is_control) {
        return invalid(
            "the name begins or ends with a space, or has a control character; leave them out"
                .to_owned(),
        );
    }
    // It becomes the path of a link; anything but a plain word could lead elsewhere.
    let is_word = !page.is_empty() && page.bytes().all(|byte| byte.is_ascii_lowercase());
    if !is_word || page.len() > MAX_PAGE_BYTES {
        return invalid(format!(
            "page: a page is named by 1 to {MAX_PAGE_BYTES} small letters, such as \"hosts\""
        ));
    }
    if params.len() > MAX_PARAMETERS_BYTES {
        return invalid(format!(
            "params: {} bytes, the limit is {MAX_PARAMETERS_BYTES}; shorten the filter",
            params.len()
        ));
    }
    if params.chars().any(char::is_control) {
        return invalid("params: a control character; percent-encode it".to_owned());
    }
    Ok(())
}

fn failed(name: &str, error: KeyError) -> ViewError {
    match error {
        KeyError::Conflict => ViewError::Conflict(name.to_owned()),
        KeyError::Unavailable(reason) => ViewError::Store(reason),
    }
}
