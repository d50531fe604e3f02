//! `/api/v1/{tokens,join-tokens,certificates}`: what programs and hosts prove themselves with.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{Path, State};
use axum::response::Response;
use net::auth::{
    AccountError, Accounts, Actor, DEFAULT_JOIN_LIFE, JoinTokens, PrincipalKind, StoreError,
};
use net::{JsonBody, Peers, Role};
use serde::Deserialize;
use serde_json::json;

use super::login::{never_stored, scopes, tenants};
use crate::respond::success;

/// What the routes for joining need.
#[derive(Debug, Clone)]
pub struct Joining {
    /// Tokens that wait to be used.
    pub tokens: JoinTokens,
    /// Who has joined.
    pub peers: Arc<Peers>,
    /// `HOST:PORT` under which other hosts reach the broker, for the command they are to run.
    pub broker: String,
    /// Whether it is one of a cluster, which others may join.
    pub is_cluster: bool,
}

/// An API token to make.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    name: String,
    scopes: Vec<String>,
    /// The one tenant whose data it reaches; without one it reaches all.
    #[serde(default)]
    tenant: Option<String>,
    /// A duration such as `90d`; without one the token holds until it is revoked.
    #[serde(default)]
    expires_in: Option<String>,
}

/// A join token to make.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewJoinToken {
    #[serde(default)]
    role: Option<String>,
    #[serde(default)]
    uses: Option<u32>,
    #[serde(default)]
    expires_in: Option<String>,
}

pub(super) async fn list(State(accounts): State<Arc<Accounts>>) -> Result<Response, AccountError> {
    Ok(success(json!({ "tokens": accounts.list_tokens().await? })))
}

/// The one answer that holds the token itself.
pub(super) async fn create(
    State(accounts): State<Arc<Accounts>>,
    actor: Actor,
    JsonBody(body): JsonBody<NewToken>,
) -> Result<Response, AccountError> {
    let life = body.expires_in.as_deref().map(duration).transpose()?;
    let (scopes, tenants) = (scopes(&body.scopes)?, tenants(body.tenant.as_deref())?);
    let made = accounts.create_token(&body.name, scopes, tenants, life, &actor);
    let (secret, token) = made.await?;
    Ok(never_stored(success(json!({
        "token": secret.reveal(),
        "id": token.id,
        "name": token.name,
        "scopes": token.scopes,
        "tenant": token.tenants,
        "created_ms": token.created_ms,
        "expires_ms": token.expires_ms,
    }))))
}

pub(super) async fn revoke(
    State(accounts): State<Arc<Accounts>>,
    Path(id): Path<String>,
    actor: Actor,
) -> Result<Response, AccountError> {
    if accounts.revoke_token(&id, &actor).await? {
        return Ok(success(json!({})));
    }
    Err(not_found("API token", &id))
}

pub(super) async fn list_join(
    State(joining): State<Arc<Joining>>,
) -> Result<Response, AccountError> {
    let tokens = joining.tokens.clone();
    let list = blocking(move || Ok(tokens.list(SystemTime::now())?)).await?;
    Ok(success(json!({ "tokens": list })))
}

/// Answers with the token and with the whole command for the next host.
pub(super) async fn create_join(
    State(joining): State<Arc<Joining>>,
    actor: Actor,
    JsonBody(body): JsonBody<NewJoinToken>,
) -> Result<Response, AccountError> {
    let role = body.role.as_deref().unwrap_or("agent").parse::<Role>();
    let role = role.map_err(AccountError::Invalid)?;
    if role == Role::Broker {
        may_let_brokers_in(&joining, &actor)?;
    }
    let life = body.expires_in.as_deref().map(duration).transpose()?;
    let (life, uses) = (life.unwrap_or(DEFAULT_JOIN_LIFE), body.uses.unwrap_or(1));
    let tokens = joining.tokens.clone();
    let create = move || Ok(tokens.create(role, uses, life, &actor, SystemTime::now())?);
    let (secret, pending) = blocking(create).await?;
    let (token, broker) = (secret.reveal(), &joining.broker);
    Ok(never_stored(success(json!({
        "token": token,
        "command": command(role, broker, token),
        "id": pending.id,
        "role": pending.role,
        "uses_left": pending.uses_left,
        "created_ms": pending.created_ms,
        "expires_ms": pending.expires_ms,
    }))))
}

/// A broker gets the key of the authority, and can be anyone on all hosts then. So an administrator's login or
/// token, or an open port, is not enough: it takes who could copy the key from the disk.
fn may_let_brokers_in(joining: &Joining, actor: &Actor) -> Result<(), AccountError> {
    if !joining.is_cluster {
        return Err(AccountError::Conflict(
            "this is one machine, which no broker can join: a cluster is founded with --store, see \
             docs/operating/cluster.md"
                .to_owned(),
        ));
    }
    if actor.principal.kind != PrincipalKind::Local {
        return Err(AccountError::Forbidden(
            "a token for a broker is made by who can read the data directory of a broker: run `watchfire \
             token create --role broker` on its host, as its user or as root",
        ));
    }
    Ok(())
}

/// What the next host is to run. Which store the brokers share, and how it gets at it, is its operator's
/// to fill in: the URL may say more than who makes tokens may know.
fn command(role: Role, broker: &str, token: &str) -> String {
    match role {
        Role::Agent | Role::Console => {
            format!("watchfire {role} --broker {broker} --join {token}")
        }
        Role::Broker => {
            // The others must reach it, too, unless all of them are on one host.
            let is_reached = broker.rsplit_once(':').is_some_and(|(host, _)| {
                let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
                host != "localhost" && !ip.is_ok_and(|ip| ip.is_loopback())
            });
            let listen = if is_reached { " --peer-listen 0.0.0.0:9596" } else { "" };
            format!("watchfire broker --store URL{listen} --join {broker} --join-token {token}")
        }
    }
}

pub(super) async fn revoke_join(
    State(joining): State<Arc<Joining>>,
    Path(id): Path<String>,
    actor: Actor,
) -> Result<Response, AccountError> {
    let (tokens, wanted) = (joining.tokens.clone(), id.clone());
    if blocking(move || Ok(tokens.revoke(&wanted, &actor)?)).await? {
        return Ok(success(json!({})));
    }
    Err(not_found("join token", &id))
}

pub(super) async fn list_certificates(
    State(joining): State<Arc<Joining>>,
) -> Result<Response, AccountError> {
    let peers = joining.peers.list()?;
    let list: Vec<_> = peers
        .iter()
        .map(|peer| {
            json!({
                "name": peer.name,
                "role": peer.role.as_str(),
                "joined_ms": peer.joined_ms,
                "expires_ms": peer.expires_ms,
            })
        })
        .collect();
    Ok(success(json!({ "certificates": list })))
}

/// Sends a host away: its certificate no longer counts and its connections are cut.
pub(super) async fn revoke_certificate(
    State(joining): State<Arc<Joining>>,
    Path(name): Path<String>,
    actor: Actor,
) -> Result<Response, AccountError> {
    let (peers, wanted) = (Arc::clone(&joining.peers), name.clone());
    if blocking(move || Ok(peers.revoke(&wanted, &actor)?)).await? {
        return Ok(success(json!({})));
    }
    Err(not_found("certificate", &name))
}

/// Runs what waits for the disk off the threads that serve sockets.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AccountError> + Send + 'static,
) -> Result<T, AccountError> {
    let stopping = |_| StoreError::Unavailable("the server is stopping".to_owned());
    tokio::task::spawn_blocking(work).await.map_err(stopping)?
}

fn duration(text: &str) -> Result<Duration, AccountError> {
    let ms = promql::parse_duration(text).ok().and_then(|ms| u64::try_from(ms).ok());
    ms.filter(|ms| *ms > 0).map(Duration::from_millis).ok_or_else(|| {
        let message = format!("expires_in: {text:?} is not a duration such as 15m, 12h or 90d");
        AccountError::Invalid(message)
    })
}

fn not_found(what: &str, name: &str) -> AccountError {
    let shown: String = name.chars().take(64).collect();
    AccountError::NotFound(format!("there is no {what} {shown:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_joins_from_another_host_listens_for_the_others() {
        let command = |broker| command(Role::Broker, broker, "wfj_x");
        for elsewhere in ["one.example:9596", "10.0.0.1:9596", "[2001:db8::1]:9596"] {
            let expected = format!(
                "watchfire broker --store URL --peer-listen 0.0.0.0:9596 --join {elsewhere} --join-token wfj_x"
            );
            assert_eq!(command(elsewhere), expected);
        }
        for here in ["127.0.0.1:9596", "[::1]:9596", "localhost:9596"] {
            assert!(!command(here).contains("--peer-listen"), "{here}");
        }
    }
}
