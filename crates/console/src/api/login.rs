//! `/api/v1/{setup,login,logout,password,whoami}`: who is calling, and how they become known.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};
use model::TenantNameError;
use net::JsonBody;
use net::auth::{
    AccountError, Accounts, Connection, NewSession, Principal, PrincipalKind, Scope, Scopes,
    Tenants,
};
use serde::Deserialize;
use serde_json::{Value, json};
use settings::Secret;

use crate::respond::success;

/// The first user.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetUp {
    token: String,
    user: String,
    password: String,
}

/// A user who logs in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogIn {
    user: String,
    password: String,
}

/// A user who chooses another password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangePassword {
    user: String,
    password: String,
    new_password: String,
}

/// Makes the first user with the token of the setup link and logs them in.
pub(super) async fn set_up(
    State(accounts): State<Arc<Accounts>>,
    connection: Connection,
    JsonBody(body): JsonBody<SetUp>,
) -> Result<Response, AccountError> {
    let (token, password) = (Secret::new(body.token), Secret::new(body.password));
    let Connection { address, over_tls } = connection;
    let session = accounts.set_up(&token, &body.user, password, address, over_tls).await?;
    Ok(begun(&session))
}

/// The token of the setup link, for the command line on the server's host; null once there is a
/// user.
pub(super) async fn setup_token(
    State(accounts): State<Arc<Accounts>>,
) -> Result<Response, AccountError> {
    let token = accounts.setup_token()?;
    Ok(never_stored(success(json!({ "token": token.as_ref().map(Secret::reveal) }))))
}

pub(super) async fn log_in(
    State(accounts): State<Arc<Accounts>>,
    connection: Connection,
    JsonBody(body): JsonBody<LogIn>,
) -> Result<Response, AccountError> {
    let password = Secret::new(body.password);
    let Connection { address, over_tls } = connection;
    let session = accounts.log_in(&body.user, &password, address, over_tls).await?;
    Ok(begun(&session))
}

/// Ends the session, if there is one. Harmless for whoever calls it, so everyone may.
pub(super) async fn log_out(
    State(accounts): State<Arc<Accounts>>,
    connection: Connection,
    headers: HeaderMap,
) -> Result<Response, AccountError> {
    let cookie = accounts.log_out(&headers, connection.over_tls).await?;
    Ok(with_cookie(success(json!({})), cookie))
}

/// Needs no session: the password that is replaced is the proof.
pub(super) async fn change_password(
    State(accounts): State<Arc<Accounts>>,
    connection: Connection,
    JsonBody(body): JsonBody<ChangePassword>,
) -> Result<Response, AccountError> {
    let (current, new) = (Secret::new(body.password), Secret::new(body.new_password));
    let Connection { address, over_tls } = connection;
    let changed = accounts.change_password(&body.user, &current, new, address, over_tls);
    Ok(begun(&changed.await?))
}

/// Who is calling, for pages that have to decide what to show.
pub(super) async fn who_am_i(
    State(accounts): State<Arc<Accounts>>,
    principal: Option<Principal>,
) -> Result<Response, AccountError> {
    let is_open = principal.as_ref().is_some_and(|known| known.kind == PrincipalKind::Anonymous);
    let known = principal.map(|known| {
        json!({
            "name": &*known.name,
            "kind": known.kind.as_str(),
            "tenant": known.tenants,
            "scopes": Scope::ALL.into_iter().filter(|scope| known.scopes.contains(*scope))
                .map(Scope::as_str).collect::<Vec<_>>(),
        })
    });
    Ok(never_stored(success(json!({
        "login": if is_open { "none" } else { "required" },
        "setup": !is_open && accounts.setup_token()?.is_some(),
        "principal": known.unwrap_or(Value::Null),
    }))))
}

fn begun(session: &NewSession) -> Response {
    let scopes: Vec<_> = session.scopes.iter().map(Scope::as_str).collect();
    let answer = success(json!({ "user": session.user, "scopes": scopes }));
    with_cookie(answer, session.cookie.clone())
}

fn with_cookie(mut response: Response, cookie: HeaderValue) -> Response {
    response.headers_mut().append(header::SET_COOKIE, cookie);
    never_stored(response)
}

/// Answers that hold a secret, or who is calling, must not be kept by a cache.
pub(super) fn never_stored(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A list of words as scopes.
pub(super) fn scopes(words: &[String]) -> Result<Scopes, AccountError> {
    let wrong = |word: &String| {
        AccountError::Invalid(format!("{word:?} is no scope; give read, write or admin"))
    };
    words.iter().map(|word| Scope::parse(word).ok_or_else(|| wrong(word))).collect()
}

/// The tenants that a name or `*` stands for; all, if there is none.
pub(super) fn tenants(text: Option<&str>) -> Result<Tenants, AccountError> {
    let wrong = |error: TenantNameError| {
        AccountError::Invalid(format!("tenant: {error}; `*` stands for all tenants"))
    };
    text.map_or(Ok(Tenants::All), |text| Tenants::parse(text).map_err(wrong))
}
