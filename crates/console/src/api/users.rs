//! `/api/v1/users`: who may log in.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use net::JsonBody;
use net::auth::{AccountError, Accounts, Actor};
use serde::Deserialize;
use serde_json::json;
use settings::Secret;

use super::login::{scopes, tenants};
use crate::respond::success;

/// A user to add.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    name: String,
    password: String,
    scopes: Vec<String>,
    /// The one tenant whose data they reach; without one they reach all.
    #[serde(default)]
    tenant: Option<String>,
}

/// A password that an administrator sets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPassword {
    password: String,
}

/// Scopes that an administrator sets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewScopes {
    scopes: Vec<String>,
}

/// The tenant that an administrator sets; `*` for all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTenant {
    tenant: String,
}

pub(super) async fn list(State(accounts): State<Arc<Accounts>>) -> Result<Response, AccountError> {
    Ok(success(json!({ "users": accounts.list_users()? })))
}

pub(super) async fn create(
    State(accounts): State<Arc<Accounts>>,
    actor: Actor,
    JsonBody(body): JsonBody<NewUser>,
) -> Result<Response, AccountError> {
    let (password, scopes) = (Secret::new(body.password), scopes(&body.scopes)?);
    let tenants = tenants(body.tenant.as_deref())?;
    let user = accounts.create_user(&body.name, password, scopes, tenants, &actor).await?;
    Ok(success(json!(user)))
}

pub(super) async fn delete(
    State(accounts): State<Arc<Accounts>>,
    Path(name): Path<String>,
    actor: Actor,
) -> Result<Response, AccountError> {
    accounts.delete_user(&name, &actor).await?;
    Ok(success(json!({})))
}

pub(super) async fn set_password(
    State(accounts): State<Arc<Accounts>>,
    Path(name): Path<String>,
    actor: Actor,
    JsonBody(body): JsonBody<NewPassword>,
) -> Result<Response, AccountError> {
    accounts.reset_password(&name, Secret::new(body.password), &actor).await?;
    Ok(success(json!({})))
}

pub(super) async fn set_scopes(
    State(accounts): State<Arc<Accounts>>,
    Path(name): Path<String>,
    actor: Actor,
    JsonBody(body): JsonBody<NewScopes>,
) -> Result<Response, AccountError> {
    let user = accounts.set_scopes(&name, scopes(&body.scopes)?, &actor).await?;
    Ok(success(json!(user)))
}

pub(super) async fn set_tenant(
    State(accounts): State<Arc<Accounts>>,
    Path(name): Path<String>,
    actor: Actor,
    JsonBody(body): JsonBody<NewTenant>,
) -> Result<Response, AccountError> {
    let user = accounts.set_tenants(&name, tenants(Some(&body.tenant))?, &actor).await?;
    Ok(success(json!(user)))
}
