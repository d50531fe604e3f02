//! Whether a credential counts still, for answers that go on for as long as there is a connection.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use model::TenantName;
use settings::Secret;

use super::accounts::now_ms;
use super::{Accounts, Scope, Scopes, StoreError, Tenants};
use crate::{ApiError, ErrorType};

/// Asks again what was asked when a request came. Handlers behind a route that is not public take it
/// as an argument where their answer goes on, as a WebSocket does.
#[derive(Debug, Clone)]
pub struct Standing {
    /// `None` where no login is needed.
    by: Option<(Arc<Accounts>, Proof)>,
}

/// By what a caller is known.
#[derive(Debug, Clone)]
pub(super) enum Proof {
    /// The token of this process, which never ends before it.
    Local,
    /// The text of a token.
    Token(Secret),
    /// The id of a session.
    Session(Secret),
    /// A password, by what names it without telling it.
    Password { user: String, password_id: String },
}

impl Standing {
    pub(super) fn for_ever() -> Standing {
        Standing { by: None }
    }

    pub(super) fn by(accounts: &Arc<Accounts>, proof: Proof) -> Standing {
        Standing { by: Some((Arc::clone(accounts), proof)) }
    }

    /// Whether the caller still may do what needs `scope` with what is of `tenant`. A few microseconds.
    ///
    /// # Errors
    /// Why not, in at most 123 bytes, which is what a WebSocket takes for a reason.
    pub fn check(&self, scope: Scope, tenant: TenantName) -> Result<(), &'static str> {
        let Some((accounts, proof)) = &self.by else { return Ok(()) };
        match accounts.rights(proof) {
            Ok(None) => {
                Err("the token, session or password was revoked, changed or has ended; log in \
                             again or use another token")
            }
            Ok(Some((scopes, _))) if !scopes.contains(scope) => {
                Err("the scope that this needs was taken from the caller")
            }
            Ok(Some((_, tenants))) if !tenants.contains(tenant) => {
                Err("the caller does not reach this tenant any more")
            }
            Ok(Some(_)) => Ok(()),
            Err(_) => Err("users and tokens cannot be read; try again"),
        }
    }
}

impl Accounts {
    /// What the proof allows now; `None` if it is none any more. To ask is no use of it: a session of which
    /// nothing but an open connection is left ends as if there was none.
    fn rights(&self, proof: &Proof) -> Result<Option<(Scopes, Tenants)>, StoreError> {
        match proof {
            Proof::Local => Ok(Some((Scopes::ALL, Tenants::All))),
            Proof::Token(token) => {
                let token = self.tokens.find(token.reveal(), now_ms())?;
                Ok(token.map(|token| (token.scopes.iter().copied().collect(), token.tenants)))
            }
            Proof::Session(id) => {
                let found = self.find_session(id.reveal(), now_ms())?;
                Ok(found.map(|(_, user, _)| (user.scopes(), user.tenants)))
            }
            Proof::Password { user, password_id } => {
                let user = self.users.get(user)?;
                let user = user.filter(|user| user.password_id() == *password_id);
                Ok(user.map(|user| (user.scopes(), user.tenants)))
            }
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Standing {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let standing = parts.extensions.get::<Standing>().cloned();
        standing.ok_or_else(|| {
            let message =
                "nothing tells here how long this caller may read; please report it as a bug";
            ApiError::new(ErrorType::Internal, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    use std::time::{Duration, Instant};

    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use http::{HeaderName, Request, header};

    use super::*;
    use crate::NetMetrics;
    use crate::auth::{Actor, Door, FileStore, SessionLife};

    const FROM: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

    async fn standing(accounts: &Arc<Accounts>, name: HeaderName, value: &str) -> Standing {
        let request = Request::builder().header(name, value).body(()).expect("a valid request");
        let (parts, ()) = request.into_parts();
        let door = Door::Locked(Arc::clone(accounts));
        let (_, standing) = door.identify(&parts, None).await.expect("known");
        standing
    }

    /// A page that is left open is nobody who works with it.
    #[tokio::test]
    async fn to_ask_is_no_use() {
        const IDLE: Duration = Duration::from_millis(600);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = FileStore::open(&directory.path().join("credentials")).expect("empty");
        let life = SessionLife { idle: IDLE, ..SessionLife::default() };
        let accounts = Accounts::new(Arc::new(store), life, Arc::default());
        let by = Actor::by_itself("root", FROM);
        let password = Secret::new("a long enough password");
        let root = accounts.create_user("root", password.clone(), Scopes::ALL, Tenants::All, &by);
        root.await.expect("nobody yet");
        let made = accounts.create_token("t", Scopes::ALL, Tenants::All, None, &by).await;
        let by_token = Standing::by(&accounts, Proof::Token(made.expect("a token").0));
        let session = accounts.log_in("root", &password, FROM, false).await.expect("a session");
        let cookie = session.cookie.to_str().expect("text").split(';').next().expect("a cookie");
        let by_session = standing(&accounts, header::COOKIE, cookie).await;
        let begin = Instant::now();
        while by_session.check(Scope::Read, TenantName::DEFAULT).is_ok() {
            assert!(begin.elapsed() < 10 * IDLE, "the session goes on for ever");
            assert_eq!(by_token.check(Scope::Read, TenantName::DEFAULT), Ok(()));
            tokio::time::sleep(IDLE / 20).await;
        }
        let tokens = accounts.tokens.list(now_ms()).expect("readable");
        assert_eq!(tokens[0].last_used_ms, None, "no request came with it");
    }

    #[tokio::test]
    async fn a_caller_stands_until_the_credential_is_revoked_or_changed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = FileStore::open(&directory.path().join("credentials")).expect("empty");
        let metrics = Arc::new(NetMetrics::default());
        let accounts = Accounts::new(Arc::new(store), SessionLife::default(), metrics);
        let by = Actor::by_itself("root", FROM);
        let tenant = |name: &str| TenantName::parse(name).expect("a name");
        let (acme, other) = (tenant("acme"), tenant("other"));
        let own = Tenants::One(acme);
        let read: Scopes = [Scope::Read].into_iter().collect();
        let password = Secret::new("a long enough password");
        // Somebody has to be the administrator who may not be removed.
        let root = accounts.create_user("root", password.clone(), Scopes::ALL, Tenants::All, &by);
        root.await.expect("nobody yet");
        accounts.create_user("eve", password.clone(), read, own, &by).await.expect("a user");

        let (text, token) =
            accounts.create_token("t", read, own, None, &by).await.expect("a token");
        let bearer = format!("Bearer {}", text.reveal());
        let by_token = standing(&accounts, header::AUTHORIZATION, &bearer).await;
        let basic = BASE64_STANDARD.encode(format!("eve:{}", password.reveal()));
        let by_password =
            standing(&accounts, header::AUTHORIZATION, &format!("Basic {basic}")).await;
        let session = accounts.log_in("eve", &password, FROM, false).await.expect("a session");
        let cookie = session.cookie.to_str().expect("text").split(';').next().expect("a cookie");
        let by_session = standing(&accounts, header::COOKIE, cookie).await;
        for standing in [&by_token, &by_password, &by_session] {
            assert_eq!(standing.check(Scope::Read, acme), Ok(()));
            assert!(standing.check(Scope::Write, acme).expect_err("may not").contains("scope"));
            assert!(standing.check(Scope::Read, other).expect_err("may not").contains("tenant"));
        }
        assert_eq!(Standing::for_ever().check(Scope::Admin, other), Ok(()));

        accounts.set_tenants("eve", Tenants::One(other), &by).await.expect("a user");
        for standing in [&by_password, &by_session] {
            assert!(standing.check(Scope::Read, acme).expect_err("may not").contains("tenant"));
            assert_eq!(standing.check(Scope::Read, other), Ok(()));
        }
        let new = Secret::new("another long password");
        accounts.reset_password("eve", new, &by).await.expect("a user");
        assert!(accounts.revoke_token(&token.id, &by).await.expect("writable"));
        for standing in [&by_token, &by_password, &by_session] {
            let why = standing.check(Scope::Read, other).expect_err("it ended");
            assert!(why.contains("revoked") && why.len() <= 123, "{why}");
        }
    }
}
