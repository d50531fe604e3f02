//! From a request to who sent it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{ConnectInfo, FromRequestParts, OptionalFromRequestParts, Request};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use settings::Secret;

use super::accounts::{Accounts, LOCAL_MARK, now_ms};
use super::sessions::session_id;
use super::standing::{Proof, Standing};
use super::tokens::{ApiToken, MARK};
use super::users::UserRecord;
use super::{AccountError, Principal, PrincipalKind, Scopes, StoreError, Tenants};
use crate::dialect::Dialect;
use crate::metrics::CredentialFault;
use crate::origin::{self, ConfiguredOrigin};
use crate::{ApiError, ErrorType, audit};

/// Whether callers have to say who they are; a request extension that [`crate::Routes`] asks.
#[derive(Debug, Clone)]
pub(crate) enum Door {
    /// No. Who shows the local token of these is known all the same.
    Open(Option<Arc<Accounts>>),
    /// Yes, one of these.
    Locked(Arc<Accounts>),
}

/// Marks a request that came over TLS.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OverTls;

/// Lets everyone who can reach `router` do everything, as [`Principal::anonymous`]: for servers
/// that only this host can reach, and where the operator has said so.
pub fn without_login(router: Router) -> Router {
    with_door(router, Door::Open(None))
}

fn with_door(router: Router, door: Door) -> Router {
    router.layer(from_fn(move |mut request: Request, next: Next| {
        request.extensions_mut().insert(door.clone());
        next.run(request)
    }))
}

/// Why a caller is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Nothing was said.
    Nobody,
    /// What was said does not count.
    Wrong(&'static str),
    /// The session was used from another site.
    ForeignOrigin,
    /// The account could not be looked at, or not any more.
    Account(AccountError),
}

impl Refusal {
    /// The answer. A page that asks in the background gets no `Basic` challenge, at which the
    /// browser would open a window of its own.
    pub(crate) fn into_response(self, request: &HeaderMap) -> Response {
        let message = match self {
            Refusal::Account(AccountError::Wrong(message)) => message,
            Refusal::Account(error) => return error.into_response(),
            Refusal::ForeignOrigin => {
                return ApiError::new(
                    ErrorType::Forbidden,
                    "a session counts only for the console's own pages: the request's Origin is \
                     missing or foreign. Programs use an API token instead; behind a proxy, add \
                     the console's public name to `http.allowed_hosts`",
                )
                .with_status(StatusCode::FORBIDDEN)
                .into_response();
            }
            Refusal::Nobody => {
                "log in first: open the console in a browser, or send an API token as \
                 `Authorization: Bearer wft_…` or as the password of basic auth; \
                 `watchfire token create --scope read` makes one"
            }
            Refusal::Wrong(message) => message,
        };
        let mut response = ApiError::new(ErrorType::Unauthorized, message).into_response();
        let headers = response.headers_mut();
        let challenge = HeaderValue::from_static("Bearer realm=\"watchfire\"");
        headers.append(header::WWW_AUTHENTICATE, challenge);
        if !request.contains_key("sec-fetch-mode") {
            let challenge =
                HeaderValue::from_static("Basic realm=\"watchfire\", charset=\"UTF-8\"");
            headers.append(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<AccountError> for Refusal {
    fn from(error: AccountError) -> Self {
        Refusal::Account(error)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Refusal::Account(error.into())
    }
}

impl Door {
    /// Who sent a request, and for how long that is so.
    pub(crate) async fn identify(
        &self,
        parts: &Parts,
        dialect: Option<&Dialect>,
    ) -> Result<(Principal, Standing), Refusal> {
        match self {
            Door::Open(accounts) => {
                let is_local =
                    accounts.as_ref().is_some_and(|known| known.is_by_local_token(parts));
                let who = if is_local { local() } else { Principal::anonymous() };
                Ok((who, Standing::for_ever()))
            }
            Door::Locked(accounts) => {
                let (principal, proof) = accounts.identify(parts, dialect).await?;
                Ok((principal, Standing::by(accounts, proof)))
            }
        }
    }
}

/// Who can read the data directory.
fn local() -> Principal {
    Principal::new("local", PrincipalKind::Local, Scopes::ALL, Tenants::All)
}

impl Accounts {
    /// As [`without_login`], but who can read the data directory is told from others: a few things are for
    /// them alone, wherever the others come from.
    pub fn open_layer(self: &Arc<Self>, router: Router) -> Router {
        with_door(router, Door::Open(Some(Arc::clone(self))))
    }

    fn is_by_local_token(&self, parts: &Parts) -> bool {
        let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let words = value.to_str().ok().and_then(|text| text.trim().split_once(' '));
        words.is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case("bearer")
                && token.trim().starts_with(LOCAL_MARK)
                && self.is_local_token(token.trim())
        })
    }

    /// Demands of everyone who uses `router` that they say who they are, except for routes that
    /// are public.
    pub fn layer(self: &Arc<Self>, router: Router) -> Router {
        with_door(router, Door::Locked(Arc::clone(self)))
    }

    async fn identify(
        self: &Arc<Self>,
        parts: &Parts,
        dialect: Option<&Dialect>,
    ) -> Result<(Principal, Proof), Refusal> {
        let from = peer_address(parts);
        if let Some(token) = dialect.and_then(|dialect| (dialect.token)(parts)) {
            return self.by_token(token.reveal(), from);
        }
        let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
        if let Some(value) = values.next() {
            if values.next().is_some() {
                return Err(Refusal::Wrong("there is more than one Authorization header"));
            }
            return self.by_authorization(value, parts, from).await;
        }
        match session_id(&parts.headers, is_over_tls(parts)) {
            Some(id) => self.by_session(id, parts),
            None => Err(Refusal::Nobody),
        }
    }

    async fn by_authorization(
        self: &Arc<Self>,
        value: &HeaderValue,
        parts: &Parts,
        from: SocketAddr,
    ) -> Result<(Principal, Proof), Refusal> {
        const UNKNOWN: Refusal = Refusal::Wrong(
            "the Authorization header is neither `Bearer TOKEN` nor `Basic` with user and password",
        );
        let (scheme, rest) =
            value.to_str().ok().and_then(|text| text.trim().split_once(' ')).ok_or(UNKNOWN)?;
        let rest = rest.trim();
        // `Token` is what InfluxDB's clients call it.
        if scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token") {
            return self.by_token(rest, from);
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(UNKNOWN);
        }
        let decoded = STANDARD.decode(rest).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.map(Secret::new).ok_or(UNKNOWN)?;
        let (user, password) = decoded.reveal().split_once(':').ok_or(UNKNOWN)?;
        if password.starts_with(MARK) || password.starts_with(LOCAL_MARK) {
            return self.by_token(password, from);
        }
        // A browser that once was asked for them sends name and password along, whoever made it
        // send the request.
        if origin::changes_something(parts) && parts.headers.contains_key(header::ORIGIN) {
            self.check_origin(parts)?;
        }
        let password = Secret::new(password);
        let (name, record) = self.check_password(user, &password, from, true).await?;
        let proof = Proof::Password { user: name.clone(), password_id: record.password_id() };
        let kind = PrincipalKind::User;
        Ok((Principal::new(&name, kind, record.scopes(), record.tenants), proof))
    }

    fn by_token(
        self: &Arc<Self>,
        token: &str,
        from: SocketAddr,
    ) -> Result<(Principal, Proof), Refusal> {
        if token.starts_with(LOCAL_MARK) && self.is_local_token(token) {
            return Ok((local(), Proof::Local));
        }
        let Some(found) = self.used_token(token)? else {
            self.metrics.count_credential_fault(CredentialFault::Token);
            if self.throttle.may_tell(from.ip(), Instant::now()) {
                audit::refused("token", "", from, "unknown, revoked or ended token");
            }
            return Err(Refusal::Wrong("the token is unknown here, revoked, or has ended"));
        };
        let scopes = found.scopes.iter().copied().collect();
        let principal = Principal::new(&found.name, PrincipalKind::Token, scopes, found.tenants);
        Ok((principal, Proof::Token(Secret::new(token))))
    }

    fn by_session(
        self: &Arc<Self>,
        id: &str,
        parts: &Parts,
    ) -> Result<(Principal, Proof), Refusal> {
        const ENDED: Refusal = Refusal::Wrong("the session has ended; log in again");
        let Some((name, user)) = self.used_session(id)? else {
            self.metrics.count_credential_fault(CredentialFault::Session);
            return Err(ENDED);
        };
        if origin::changes_something(parts) {
            self.check_origin(parts)?;
        }
        let principal = Principal::new(&name, PrincipalKind::User, user.scopes(), user.tenants);
        Ok((principal, Proof::Session(Secret::new(id))))
    }

    /// The token with this text, if it counts; it is used by that.
    fn used_token(self: &Arc<Self>, token: &str) -> Result<Option<ApiToken>, StoreError> {
        let Some((found, store_ms)) = self.tokens.used(token, now_ms())? else { return Ok(None) };
        if let Some(used_ms) = store_ms {
            let (tokens, id) = (self.tokens.clone(), found.id.clone());
            tokio::task::spawn_blocking(move || tokens.store_use(&id, used_ms));
        }
        Ok(Some(found))
    }

    /// Whose session this is, if it counts; it is used by that.
    fn used_session(
        self: &Arc<Self>,
        id: &str,
    ) -> Result<Option<(String, UserRecord)>, StoreError> {
        let now_ms = now_ms();
        let Some((name, user, is_due)) = self.find_session(id, now_ms)? else { return Ok(None) };
        if is_due {
            let (sessions, id) = (self.sessions.clone(), id.to_owned());
            tokio::task::spawn_blocking(move || sessions.touch(&id, now_ms));
        }
        Ok(Some((name, user)))
    }

    /// Whose session this is, if it counts, without using it; and whether its last use is long ago.
    pub(super) fn find_session(
        &self,
        id: &str,
        now_ms: i64,
    ) -> Result<Option<(String, UserRecord, bool)>, StoreError> {
        let Some((session, is_due)) = self.sessions.find(id, now_ms)? else { return Ok(None) };
        let user = self.users.get(&session.user)?;
        // A password that was changed since ends the session, whatever became of its record.
        let user = user.filter(|user| user.password_id() == session.password_id);
        Ok(user.map(|user| (session.user, user, is_due)))
    }

    /// What a browser adds by itself counts only for pages of this very server, port included:
    /// cookies do not know ports, and `SameSite` knows sites only.
    fn check_origin(&self, parts: &Parts) -> Result<(), Refusal> {
        let configured = parts.extensions.get::<ConfiguredOrigin>().is_some();
        if configured || origin::is_same_origin(parts) {
            return Ok(());
        }
        self.metrics.count_credential_fault(CredentialFault::Origin);
        Err(Refusal::ForeignOrigin)
    }
}

/// Who changes something, and from where; for the audit log. Handlers behind a route that is not
/// public take it as an argument.
#[derive(Debug, Clone)]
pub struct Actor {
    /// Who.
    pub principal: Principal,
    /// The address of their connection.
    pub address: SocketAddr,
}

impl Actor {
    /// A user who changes something about themselves before they are logged in.
    pub(super) fn by_itself(name: &str, address: SocketAddr) -> Self {
        let principal = Principal::new(name, PrincipalKind::User, Scopes::NONE, Tenants::All);
        Actor { principal, address }
    }
}

impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let principal =
            <Principal as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        Ok(Actor { principal, address: peer_address(parts) })
    }
}

/// Where a request came from. Handlers take it as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// The address at the other end.
    pub address: SocketAddr,
    /// Whether it is encrypted up to here.
    pub over_tls: bool,
}

impl<S: Sync> FromRequestParts<S> for Connection {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Connection { address: peer_address(parts), over_tls: is_over_tls(parts) })
    }
}

impl<S: Sync> FromRequestParts<S> for Principal {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts
            .extensions
            .get::<Principal>()
            .cloned()
            .ok_or_else(|| ApiError::new(ErrorType::Internal, "a public route asks who is calling"))
    }
}

/// For public routes that answer differently to who is known. `None` where nobody is, for whatever
/// reason.
impl<S: Sync> OptionalFromRequestParts<S> for Principal {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        _: &S,
    ) -> Result<Option<Self>, std::convert::Infallible> {
        if let Some(principal) = parts.extensions.get::<Principal>() {
            return Ok(Some(principal.clone()));
        }
        let Some(door) = parts.extensions.get::<Door>().cloned() else { return Ok(None) };
        Ok(door.identify(parts, None).await.ok().map(|(principal, _)| principal))
    }
}

/// The server inserts it; only requests that never saw a socket have none.
fn peer_address(parts: &Parts) -> SocketAddr {
    let unknown = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map_or(unknown, |info| info.0)
}

fn is_over_tls(parts: &Parts) -> bool {
    parts.extensions.get::<OverTls>().is_some()
}
