//! API tokens: for programs that send or ask.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use settings::Secret;

use super::digest::token_digest;
use super::store::{decode, encode};
use super::{
    AccountError, CredentialStore, Expected, Scope, Scopes, StoreError, Tenants, Versioned,
};
use crate::random;

const PREFIX: &str = "auth/token/";
const USED_PREFIX: &str = "auth/token-used/";
/// What every API token begins with, so that it is known where it leaks.
pub(crate) const MARK: &str = "wft_";
/// 256 bits.
const SECRET_LETTERS: usize = 43;
const MAX_TOKENS: usize = 1_000;
const MAX_NAME: usize = 64;
/// The longest life that can be asked for; without one a token holds until it is revoked.
const MAX_LIFE: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);
/// The time of last use is kept to the minute in memory, and to the hour on disk: each write costs
/// a sync.
const SEEN_EVERY_MS: i64 = 60_000;
const STORED_EVERY_MS: i64 = 3_600_000;

/// An API token without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiToken {
    /// Names it in lists and when it is revoked.
    pub id: String,
    /// What it is for, in the words of who made it.
    pub name: String,
    /// What its owner may do.
    pub scopes: Vec<Scope>,
    /// Whose data it reaches.
    #[serde(default, rename = "tenant")]
    pub tenants: Tenants,
    /// When it was made, milliseconds since the epoch.
    pub created_ms: i64,
    /// When it ends, milliseconds since the epoch; never if absent.
    pub expires_ms: Option<i64>,
    /// Who made it.
    pub created_by: String,
    /// When it was last used, to the minute; to the hour after a restart.
    #[serde(default)]
    pub last_used_ms: Option<i64>,
}

/// When a token was used: as known, and as stored.
#[derive(Debug, Clone, Copy)]
struct Used {
    seen_ms: i64,
    stored_ms: i64,
}

/// All API tokens.
#[derive(Clone)]
pub(crate) struct ApiTokens {
    store: Arc<dyn CredentialStore>,
    used: Arc<Mutex<HashMap<String, Used>>>,
}

impl ApiTokens {
    pub(crate) fn new(store: Arc<dyn CredentialStore>) -> Self {
        ApiTokens { store, used: Arc::default() }
    }

    /// Makes a token. Its text is in the result and nowhere else. Blocks until it is durable.
    pub(crate) fn create(
        &self,
        name: &str,
        (scopes, tenants): (Scopes, Tenants),
        life: Option<Duration>,
        by: &str,
        now_ms: i64,
    ) -> Result<(Secret, ApiToken), AccountError> {
        let name = name.trim();
        if !(1..=MAX_NAME).contains(&name.chars().count()) || name.chars().any(char::is_control) {
            let message = format!("give the token a name of 1 to {MAX_NAME} characters");
            return Err(AccountError::Invalid(message));
        }
        if scopes.is_empty() {
            let message = "give the token at least one scope of read, write and admin";
            return Err(AccountError::Invalid(message.to_owned()));
        }
        tenants.check(scopes)?;
        if life.is_some_and(|life| life.is_zero() || life > MAX_LIFE) {
            return Err(AccountError::Invalid("a token holds for at most ten years".to_owned()));
        }
        if self.list(now_ms)?.len() >= MAX_TOKENS {
            let message = format!("there are {MAX_TOKENS} tokens already; revoke some");
            return Err(AccountError::Conflict(message));
        }
        let secret = format!("{MARK}{}", random::alphanumeric(SECRET_LETTERS));
        let life_ms = life.map(|life| i64::try_from(life.as_millis()).unwrap_or(i64::MAX));
        let token = ApiToken {
            id: random::hexadecimal(&random::bytes::<4>()),
            name: name.to_owned(),
            scopes: scopes.iter().collect(),
            tenants,
            created_ms: now_ms,
            expires_ms: life_ms.map(|life_ms| now_ms.saturating_add(life_ms)),
            created_by: by.to_owned(),
            last_used_ms: None,
        };
        self.store.put(&key(&secret), &encode(&token), Expected::Absent)?;
        Ok((Secret::new(secret), token))
    }

    /// The tokens that count, the oldest first. Forgets those that have ended.
    pub(crate) fn list(&self, now_ms: i64) -> Result<Vec<ApiToken>, StoreError> {
        let mut found = Vec::new();
        for (key, record) in self.store.list(PREFIX)? {
            let Some(mut token) = decode::<ApiToken>(&key, &record) else { continue };
            if has_ended(&token, now_ms) {
                self.forget(&key, &token.id)?;
                continue;
            }
            token.last_used_ms = self.last_used(&token.id)?;
            found.push(token);
        }
        found.sort_by_key(|token| token.created_ms);
        Ok(found)
    }

    /// Ends a token; yields it if there was one with this id. Blocks until it is durable.
    pub(crate) fn revoke(&self, id: &str) -> Result<Option<ApiToken>, StoreError> {
        for (key, record) in self.store.list(PREFIX)? {
            let token = decode::<ApiToken>(&key, &record).filter(|token| token.id == id);
            if let Some(token) = token {
                self.forget(&key, id)?;
                return Ok(Some(token));
            }
        }
        Ok(None)
    }

    /// The token with this text, if it counts now. Asks memory only.
    pub(crate) fn find(&self, secret: &str, now_ms: i64) -> Result<Option<ApiToken>, StoreError> {
        if secret.len() != MARK.len() + SECRET_LETTERS {
            return Ok(None);
        }
        let key = key(secret);
        let Some(record) = self.store.get(&key)? else { return Ok(None) };
        let token = decode::<ApiToken>(&key, &record);
        Ok(token.filter(|token| !has_ended(token, now_ms)))
    }

    /// As [`ApiTokens::find`]; it is used by that. The second is the time to be given to
    /// [`ApiTokens::store_use`], if it is time.
    pub(crate) fn used(
        &self,
        secret: &str,
        now_ms: i64,
    ) -> Result<Option<(ApiToken, Option<i64>)>, StoreError> {
        let Some(token) = self.find(secret, now_ms)? else { return Ok(None) };
        let mut used = self.used.lock();
        let never = Used { seen_ms: i64::MIN, stored_ms: i64::MIN };
        let last = used.entry(token.id.clone()).or_insert(never);
        if now_ms.saturating_sub(last.seen_ms) >= SEEN_EVERY_MS {
            last.seen_ms = now_ms;
        }
        let is_due = now_ms.saturating_sub(last.stored_ms) >= STORED_EVERY_MS;
        if is_due {
            last.stored_ms = now_ms;
        }
        Ok(Some((token, is_due.then_some(now_ms))))
    }

    /// Writes down when a token was used. Blocks.
    pub(crate) fn store_use(&self, id: &str, used_ms: i64) {
        let key = format!("{USED_PREFIX}{id}");
        if let Err(error) = self.store.put(&key, &encode(&used_ms), Expected::Any) {
            tracing::warn!(%error, "when a token was last used is not written down");
        }
    }

    fn last_used(&self, id: &str) -> Result<Option<i64>, StoreError> {
        let seen = self.used.lock().get(id).map(|used| used.seen_ms);
        let key = format!("{USED_PREFIX}{id}");
        let read = |record: Versioned| decode::<i64>(&key, &record);
        let stored = if seen.is_none() { self.store.get(&key)?.and_then(read) } else { None };
        Ok(seen.or(stored))
    }

    fn forget(&self, key: &str, id: &str) -> Result<(), StoreError> {
        self.store.delete(key, Expected::Any)?;
        self.used.lock().remove(id);
        self.store.delete(&format!("{USED_PREFIX}{id}"), Expected::Any)
    }
}

fn has_ended(token: &ApiToken, now_ms: i64) -> bool {
    token.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms)
}

fn key(secret: &str) -> String {
    format!("{PREFIX}{}", token_digest(secret))
}
