//! Users, tokens and sessions: who there is, and every change of it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use settings::Secret;
use subtle::ConstantTimeEq;

use super::digest::token_digest;
use super::password::{MAX_PASSWORD_BYTES, Passwords};
use super::sessions::{SessionLife, Sessions, removed_cookie, session_id};
use super::throttle::Throttle;
use super::tokens::{ApiToken, ApiTokens};
use super::users::{User, UserRecord, Users, canonical, check_new_password, unknown};
use super::{AccountError, Actor, CredentialStore, Scopes, StoreError, Tenants};
use crate::metrics::CredentialFault;
use crate::tls::unix_ms;
use crate::{NetMetrics, audit, random};

/// What the local administrator's token begins with.
pub(super) const LOCAL_MARK: &str = "wfl_";
/// 256 bits.
const LOCAL_LETTERS: usize = 43;
/// 131 bits: it counts until the first user is made, and is typed from a terminal.
const SETUP_LETTERS: usize = 22;
const WRONG_PASSWORD: AccountError = AccountError::Wrong("user name or password is wrong");

/// Everyone who may log in, and everything that proves it. Share it with [`Arc`].
pub struct Accounts {
    pub(super) users: Users,
    pub(super) tokens: ApiTokens,
    pub(super) sessions: Sessions,
    passwords: Passwords,
    pub(super) throttle: Throttle,
    pub(super) metrics: Arc<NetMetrics>,
    local: Secret,
    setup: Mutex<Option<Secret>>,
    /// Held by who adds, removes or changes users: whether there is an administrator left is asked
    /// about all of them at once.
    changes: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Accounts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Accounts").finish_non_exhaustive()
    }
}

/// A login that succeeded.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Who logged in, in lower case.
    pub user: String,
    /// What they may do.
    pub scopes: Scopes,
    /// The `Set-Cookie` header that begins the session.
    pub cookie: HeaderValue,
}

impl Accounts {
    /// Accounts kept in `store`. Counts into `metrics`.
    pub fn new(
        store: Arc<dyn CredentialStore>,
        life: SessionLife,
        metrics: Arc<NetMetrics>,
    ) -> Arc<Accounts> {
        Arc::new(Accounts {
            users: Users::new(Arc::clone(&store)),
            tokens: ApiTokens::new(Arc::clone(&store)),
            sessions: Sessions::new(store, life),
            passwords: Passwords::new(),
            throttle: Throttle::default(),
            metrics,
            local: Secret::new(format!("{LOCAL_MARK}{}", random::alphanumeric(LOCAL_LETTERS))),
            setup: Mutex::new(None),
            changes: tokio::sync::Mutex::new(()),
        })
    }

    /// The token of whoever can read the data directory, new in each process; see
    /// [`super::write_local_access`].
    pub fn local_token(&self) -> &Secret {
        &self.local
    }

    pub(super) fn is_local_token(&self, token: &str) -> bool {
        // Digests have one length, so the comparison tells nothing about the token's.
        let (given, own) = (token_digest(token), token_digest(self.local.reveal()));
        given.as_bytes().ct_eq(own.as_bytes()).into()
    }

    /// The token with which the first user is made, as long as there is none; the same each time
    /// in one process. It belongs into a link: `https://HOST:9595/setup#TOKEN`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn setup_token(&self) -> Result<Option<Secret>, StoreError> {
        if !self.users.is_empty()? {
            return Ok(None);
        }
        let make = || Secret::new(random::alphanumeric(SETUP_LETTERS));
        Ok(Some(self.setup.lock().get_or_insert_with(make).clone()))
    }

    /// Makes the first user, an administrator, and logs them in.
    ///
    /// # Errors
    /// The token is wrong, there is a user already, or name or password cannot be taken.
    pub async fn set_up(
        self: &Arc<Self>,
        token: &Secret,
        name: &str,
        password: Secret,
        from: SocketAddr,
        over_tls: bool,
    ) -> Result<NewSession, AccountError> {
        let _one_at_a_time = self.changes.lock().await;
        let Some(expected) = self.setup_token()? else {
            let message = "this installation is set up already; log in instead";
            return Err(AccountError::Conflict(message.to_owned()));
        };
        // By address alone: strangers must not be able to keep the first user out.
        let address = from.ip();
        let attempt = self.throttle.attempt(&address.to_string(), address, Instant::now());
        let attempt = attempt.map_err(AccountError::Throttled)?;
        let (given, own) = (token_digest(token.reveal()), token_digest(expected.reveal()));
        if !bool::from(given.as_bytes().ct_eq(own.as_bytes())) {
            self.metrics.count_credential_fault(CredentialFault::Token);
            audit::refused("setup", name, from, "wrong setup token");
            return Err(AccountError::Wrong(
                "the setup link is not the one of this start; \
                 `watchfire admin setup-link` on the server's host prints it",
            ));
        }
        self.throttle.succeeded(attempt, Instant::now());
        let name = canonical(name)?;
        check_new_password(&name, password.reveal())?;
        let hash = self.passwords.hash(&password).await?;
        let (users, user, stored) = (self.users.clone(), name.clone(), hash);
        let may = (Scopes::ALL, Tenants::All);
        self.blocking(move || users.create(&user, stored, may, "setup", now_ms())).await?;
        *self.setup.lock() = None;
        audit::changed("setup", &name, &Actor::by_itself(&name, from));
        self.begin_session(&name, from, over_tls).await
    }

    /// Logs a user in.
    ///
    /// # Errors
    /// Name or password is wrong, or was too often.
    pub async fn log_in(
        self: &Arc<Self>,
        name: &str,
        password: &Secret,
        from: SocketAddr,
        over_tls: bool,
    ) -> Result<NewSession, AccountError> {
        // Checked each time, also when it was right a moment ago: this is where it is proven.
        let (name, _) = self.check_password(name, password, from, false).await?;
        self.begin_session(&name, from, over_tls).await
    }

    async fn begin_session(
        self: &Arc<Self>,
        name: &str,
        from: SocketAddr,
        over_tls: bool,
    ) -> Result<NewSession, AccountError> {
        let record = self.users.get(name)?.ok_or(WRONG_PASSWORD)?;
        let (sessions, user) = (self.sessions.clone(), name.to_owned());
        let password_id = record.password_id();
        let begin = move || Ok(sessions.begin(&user, password_id, now_ms())?);
        let id = self.blocking(begin).await?;
        self.metrics.count_login();
        audit::logged_in(name, from);
        let cookie = self.sessions.cookie(&id, over_tls);
        Ok(NewSession { user: name.to_owned(), scopes: record.scopes(), cookie })
    }

    /// Ends the session that a request bears, if it bears one, and yields the header that takes
    /// the cookie away.
    ///
    /// # Errors
    /// The store cannot be written; the session goes on.
    pub async fn log_out(
        self: &Arc<Self>,
        headers: &HeaderMap,
        over_tls: bool,
    ) -> Result<HeaderValue, AccountError> {
        if let Some(id) = session_id(headers, over_tls) {
            let (sessions, id) = (self.sessions.clone(), id.to_owned());
            self.blocking(move || Ok(sessions.end(&id)?)).await?;
        }
        Ok(removed_cookie(over_tls))
    }

    /// The user, if the password is theirs. With `may_remember` a password that was right within
    /// the last minutes is right without being hashed again.
    pub(super) async fn check_password(
        &self,
        name: &str,
        password: &Secret,
        from: SocketAddr,
        may_remember: bool,
    ) -> Result<(String, UserRecord), AccountError> {
        let shown = name;
        let name = canonical(name).ok();
        let record = match &name {
            Some(name) => self.users.get(name)?,
            None => None,
        };
        if password.reveal().len() > MAX_PASSWORD_BYTES {
            return Err(WRONG_PASSWORD);
        }
        let stored = record.as_ref().map(|record| record.password.clone());
        let hash = stored.as_deref();
        let user = name.clone().unwrap_or_else(|| shown.to_owned());
        let is_remembered = || {
            may_remember && hash.is_some_and(|hash| self.passwords.is_remembered(hash, password))
        };
        let verify = async {
            // Whoever waited for their turn may find that it was right.
            if is_remembered() {
                return Ok(true);
            }
            let attempt = self.throttle.attempt(&user, from.ip(), Instant::now());
            let attempt = attempt.map_err(|wait| {
                self.metrics.count_credential_fault(CredentialFault::Throttled);
                AccountError::Throttled(wait)
            })?;
            let is_right = self.passwords.verify(hash, password).await?;
            if let Some(hash) = hash.filter(|_| is_right) {
                self.throttle.succeeded(attempt, Instant::now());
                if may_remember {
                    self.passwords.remember(hash, password);
                }
            }
            Ok::<bool, AccountError>(is_right)
        };
        let is_right = match hash {
            _ if is_remembered() => true,
            Some(hash) => self.passwords.take_turns(hash, password, verify).await?,
            None => self.passwords.take_turns(shown, password, verify).await?,
        };
        match (is_right, name, record) {
            (true, Some(name), Some(record)) => Ok((name, record)),
            _ => {
                self.metrics.count_credential_fault(CredentialFault::Password);
                audit::refused("login", shown, from, "wrong user name or password");
                Err(WRONG_PASSWORD)
            }
        }
    }

    /// All users, by name.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list_users(&self) -> Result<Vec<User>, AccountError> {
        Ok(self.users.list()?)
    }

    /// Adds a user.
    ///
    /// # Errors
    /// Name, password, scopes or tenants cannot be taken, or there is one of this name.
    pub async fn create_user(
        self: &Arc<Self>,
        name: &str,
        password: Secret,
        scopes: Scopes,
        tenants: Tenants,
        by: &Actor,
    ) -> Result<User, AccountError> {
        let name = canonical(name)?;
        check_new_password(&name, password.reveal())?;
        let hash = self.passwords.hash(&password).await?;
        let _one_at_a_time = self.changes.lock().await;
        let (users, creator) = (self.users.clone(), by.principal.name.to_string());
        let may = (scopes, tenants);
        let create = move || users.create(&name, hash, may, &creator, now_ms());
        let user = self.blocking(create).await?;
        audit::changed("user_created", &format!("{} [{scopes}] {tenants}", user.name), by);
        Ok(user)
    }

    /// Removes a user and ends their sessions.
    ///
    /// # Errors
    /// There is no such user, or it is the last administrator.
    pub async fn delete_user(self: &Arc<Self>, name: &str, by: &Actor) -> Result<(), AccountError> {
        let name = canonical(name)?;
        let _one_at_a_time = self.changes.lock().await;
        let (users, sessions, user) = (self.users.clone(), self.sessions.clone(), name.clone());
        self.blocking(move || {
            users.delete(&user)?;
            Ok(sessions.end_all(&user)?)
        })
        .await?;
        audit::changed("user_deleted", &name, by);
        Ok(())
    }

    /// Replaces a user's scopes, from their next request on.
    ///
    /// # Errors
    /// There is no such user, there is no scope, or there would be no administrator.
    pub async fn set_scopes(
        self: &Arc<Self>,
        name: &str,
        scopes: Scopes,
        by: &Actor,
    ) -> Result<User, AccountError> {
        let name = canonical(name)?;
        let _one_at_a_time = self.changes.lock().await;
        let (users, user) = (self.users.clone(), name.clone());
        let user = self.blocking(move || users.set_scopes(&user, scopes)).await?;
        audit::changed("user_scopes", &format!("{name} [{scopes}]"), by);
        Ok(user)
    }

    /// Replaces the tenants that a user reaches, from their next request on.
    ///
    /// # Errors
    /// There is no such user, or they are an administrator and these are not all tenants.
    pub async fn set_tenants(
        self: &Arc<Self>,
        name: &str,
        tenants: Tenants,
        by: &Actor,
    ) -> Result<User, AccountError> {
        let name = canonical(name)?;
        let _one_at_a_time = self.changes.lock().await;
        let (users, user) = (self.users.clone(), name.clone());
        let user = self.blocking(move || users.set_tenants(&user, tenants)).await?;
        audit::changed("user_tenant", &format!("{name} {tenants}"), by);
        Ok(user)
    }

    /// Gives a user another password and ends their sessions.
    ///
    /// # Errors
    /// There is no such user, or the password cannot be taken.
    pub async fn reset_password(
        self: &Arc<Self>,
        name: &str,
        password: Secret,
        by: &Actor,
    ) -> Result<(), AccountError> {
        let name = canonical(name)?;
        if self.users.get(&name)?.is_none() {
            return Err(unknown(&name));
        }
        self.replace_password(&name, password).await?;
        self.throttle.forgive(&name);
        audit::changed("password_reset", &name, by);
        Ok(())
    }

    /// Lets a user who knows their password choose another; ends their sessions and begins a new
    /// one.
    ///
    /// # Errors
    /// Name or password is wrong, or the new one cannot be taken.
    pub async fn change_password(
        self: &Arc<Self>,
        name: &str,
        current: &Secret,
        new: Secret,
        from: SocketAddr,
        over_tls: bool,
    ) -> Result<NewSession, AccountError> {
        let (name, _) = self.check_password(name, current, from, false).await?;
        self.replace_password(&name, new).await?;
        audit::changed("password_changed", &name, &Actor::by_itself(&name, from));
        self.begin_session(&name, from, over_tls).await
    }

    async fn replace_password(
        self: &Arc<Self>,
        name: &str,
        password: Secret,
    ) -> Result<(), AccountError> {
        check_new_password(name, password.reveal())?;
        let hash = self.passwords.hash(&password).await?;
        let (users, sessions) = (self.users.clone(), self.sessions.clone());
        let user = name.to_owned();
        self.blocking(move || {
            users.set_password(&user, hash, now_ms())?;
            Ok(sessions.end_all(&user)?)
        })
        .await
    }

    /// The API tokens that count, the oldest first.
    ///
    /// # Errors
    /// The store.
    pub async fn list_tokens(self: &Arc<Self>) -> Result<Vec<ApiToken>, AccountError> {
        let tokens = self.tokens.clone();
        self.blocking(move || Ok(tokens.list(now_ms())?)).await
    }

    /// Makes an API token; its text is in the result and nowhere else.
    ///
    /// # Errors
    /// Name, scopes, tenants or life cannot be taken.
    pub async fn create_token(
        self: &Arc<Self>,
        name: &str,
        scopes: Scopes,
        tenants: Tenants,
        life: Option<Duration>,
        by: &Actor,
    ) -> Result<(Secret, ApiToken), AccountError> {
        let (tokens, name) = (self.tokens.clone(), name.to_owned());
        let creator = by.principal.name.to_string();
        let may = (scopes, tenants);
        let create = move || tokens.create(&name, may, life, &creator, now_ms());
        let (secret, token) = self.blocking(create).await?;
        let told = format!("{} {:?} [{scopes}] {tenants}", token.id, token.name);
        audit::changed("token_created", &told, by);
        Ok((secret, token))
    }

    /// Ends an API token at once. Yields whether there was one with this id.
    ///
    /// # Errors
    /// The store.
    pub async fn revoke_token(
        self: &Arc<Self>,
        id: &str,
        by: &Actor,
    ) -> Result<bool, AccountError> {
        let (tokens, wanted) = (self.tokens.clone(), id.to_owned());
        let revoked = self.blocking(move || Ok(tokens.revoke(&wanted)?)).await?;
        if let Some(token) = &revoked {
            audit::changed("token_revoked", &format!("{} {:?}", token.id, token.name), by);
        }
        Ok(revoked.is_some())
    }

    /// Runs what may wait for the disk, off the threads that serve sockets. It goes on when the
    /// caller leaves.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, AccountError> + Send + 'static,
    ) -> Result<T, AccountError> {
        let stopping = |_| StoreError::Unavailable("the server is stopping".to_owned());
        tokio::task::spawn_blocking(work).await.map_err(stopping)?
    }
}

pub(super) fn now_ms() -> i64 {
    unix_ms(SystemTime::now())
}
