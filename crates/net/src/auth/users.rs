//! People who log in.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::store::{decode, encode};
use super::{AccountError, CredentialStore, Expected, Scope, Scopes, StoreError, Tenants};

const PREFIX: &str = "auth/user/";
/// Users at most; this is no directory.
const MAX_USERS: usize = 1_000;
const MAX_NAME: usize = 64;
/// Bytes of the shortest password.
const MIN_PASSWORD_BYTES: usize = 10;

/// What others may know of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// The name, in lower case.
    pub name: String,
    /// What they may do.
    pub scopes: Vec<Scope>,
    /// Whose data they reach.
    #[serde(rename = "tenant")]
    pub tenants: Tenants,
    /// When they were added, milliseconds since the epoch.
    pub created_ms: i64,
    /// When the password was last set, milliseconds since the epoch.
    pub password_set_ms: i64,
    /// Who added them.
    pub created_by: String,
}

/// What is stored.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct UserRecord {
    pub(crate) password: String,
    scopes: Vec<Scope>,
    #[serde(default, rename = "tenant")]
    pub(crate) tenants: Tenants,
    created_ms: i64,
    password_set_ms: i64,
    created_by: String,
}

impl UserRecord {
    pub(crate) fn scopes(&self) -> Scopes {
        self.scopes.iter().copied().collect()
    }

    /// Tells one password of a user from the next, in sessions that began with it.
    pub(crate) fn password_id(&self) -> String {
        blake3::hash(self.password.as_bytes()).to_hex()[..16].to_owned()
    }

    fn shown(&self, name: String) -> User {
        User {
            name,
            scopes: self.scopes.clone(),
            tenants: self.tenants,
            created_ms: self.created_ms,
            password_set_ms: self.password_set_ms,
            created_by: self.created_by.clone(),
        }
    }
}

/// All users. Everything here may block.
#[derive(Clone)]
pub(crate) struct Users {
    store: Arc<dyn CredentialStore>,
}

impl Users {
    pub(crate) fn new(store: Arc<dyn CredentialStore>) -> Self {
        Users { store }
    }

    /// The user called `name`, which is [`canonical`]. Asks memory only.
    pub(crate) fn get(&self, name: &str) -> Result<Option<UserRecord>, StoreError> {
        let key = key(name);
        Ok(self.store.get(&key)?.and_then(|record| decode(&key, &record)))
    }

    pub(crate) fn list(&self) -> Result<Vec<User>, StoreError> {
        let found = self.records()?;
        Ok(found.into_iter().map(|(name, record, _)| record.shown(name)).collect())
    }

    pub(crate) fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.store.list(PREFIX)?.is_empty())
    }

    pub(crate) fn create(
        &self,
        name: &str,
        password_hash: String,
        (scopes, tenants): (Scopes, Tenants),
        by: &str,
        now_ms: i64,
    ) -> Result<User, AccountError> {
        if scopes.is_empty() {
            return Err(no_scope());
        }
        tenants.check(scopes)?;
        if self.store.list(PREFIX)?.len() >= MAX_USERS {
            let message = format!("there are {MAX_USERS} users already; remove some");
            return Err(AccountError::Conflict(message));
        }
        let record = UserRecord {
            password: password_hash,
            scopes: scopes.iter().collect(),
            tenants,
            created_ms: now_ms,
            password_set_ms: now_ms,
            created_by: by.to_owned(),
        };
        match self.store.put(&key(name), &encode(&record), Expected::Absent) {
            Ok(_) => Ok(record.shown(name.to_owned())),
            Err(StoreError::Conflict(_)) => {
                Err(AccountError::Conflict(format!("there is a user {name:?} already")))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Replaces the hash of the password.
    pub(crate) fn set_password(
        &self,
        name: &str,
        password_hash: String,
        now_ms: i64,
    ) -> Result<(), AccountError> {
        let change = |record: &mut UserRecord| {
            record.password.clone_from(&password_hash);
            record.password_set_ms = now_ms;
            Ok(())
        };
        self.change(name, change).map(|_| ())
    }

    /// Replaces the scopes.
    pub(crate) fn set_scopes(&self, name: &str, scopes: Scopes) -> Result<User, AccountError> {
        if scopes.is_empty() {
            return Err(no_scope());
        }
        if !scopes.contains(Scope::Admin) {
            self.keep_an_administrator(name)?;
        }
        self.change(name, |record| {
            record.tenants.check(scopes)?;
            record.scopes = scopes.iter().collect();
            Ok(())
        })
    }

    /// Replaces the tenants.
    pub(crate) fn set_tenants(&self, name: &str, tenants: Tenants) -> Result<User, AccountError> {
        self.change(name, |record| {
            tenants.check(record.scopes())?;
            record.tenants = tenants;
            Ok(())
        })
    }

    pub(crate) fn delete(&self, name: &str) -> Result<(), AccountError> {
        if self.get(name)?.is_none() {
            return Err(unknown(name));
        }
        self.keep_an_administrator(name)?;
        Ok(self.store.delete(&key(name), Expected::Any)?)
    }

    /// Someone besides `name` must be able to change users.
    fn keep_an_administrator(&self, name: &str) -> Result<(), AccountError> {
        let is_other_admin = |(other, record, _): &(String, UserRecord, u64)| {
            other != name && record.scopes().contains(Scope::Admin)
        };
        if self.records()?.iter().any(is_other_admin) {
            return Ok(());
        }
        Err(AccountError::Conflict(format!(
            "{name:?} is the last administrator; give another user the scope admin first"
        )))
    }

    fn change(
        &self,
        name: &str,
        change: impl Fn(&mut UserRecord) -> Result<(), AccountError>,
    ) -> Result<User, AccountError> {
        let key = key(name);
        loop {
            let stored = self.store.get(&key)?.ok_or_else(|| unknown(name))?;
            let mut record: UserRecord = decode(&key, &stored).ok_or_else(|| unknown(name))?;
            change(&mut record)?;
            let expected = Expected::Version(stored.version);
            match self.store.put(&key, &encode(&record), expected) {
                Ok(_) => return Ok(record.shown(name.to_owned())),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn records(&self) -> Result<Vec<(String, UserRecord, u64)>, StoreError> {
        let found = self.store.list(PREFIX)?;
        let read = |(key, stored): &(String, super::Versioned)| {
            let name = key.strip_prefix(PREFIX)?.to_owned();
            Some((name, decode(key, stored)?, stored.version))
        };
        Ok(found.iter().filter_map(read).collect())
    }
}

fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

pub(crate) fn unknown(name: &str) -> AccountError {
    let shown: String = name.chars().take(MAX_NAME).collect();
    AccountError::NotFound(format!("there is no user {shown:?}"))
}

fn no_scope() -> AccountError {
    AccountError::Invalid("give at least one scope of read, write and admin".to_owned())
}

/// A name as it is stored: `Ann` and `ann` are one user.
///
/// # Errors
/// It is none; the text says what is allowed.
pub(crate) fn canonical(name: &str) -> Result<String, AccountError> {
    let fits = (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._@-+".contains(&byte));
    if fits {
        return Ok(name.to_ascii_lowercase());
    }
    Err(AccountError::Invalid(format!(
        "a user's name has 1 to {MAX_NAME} letters, digits or . _ @ - +"
    )))
}

/// Whether a password may be chosen.
///
/// # Errors
/// Not this one; the text says why, without it.
pub(crate) fn check_new_password(name: &str, password: &str) -> Result<(), AccountError> {
    if password.len() < MIN_PASSWORD_BYTES {
        return Err(AccountError::Invalid(format!(
            "the password needs at least {MIN_PASSWORD_BYTES} characters"
        )));
    }
    if password.len() > super::password::MAX_PASSWORD_BYTES {
        let most = super::password::MAX_PASSWORD_BYTES;
        return Err(AccountError::Invalid(format!("the password has more than {most} bytes")));
    }
    let first = password.chars().next();
    if password.eq_ignore_ascii_case(name) || password.chars().all(|letter| Some(letter) == first) {
        return Err(AccountError::Invalid(
            "the password must not be the user's name or one character repeated".to_owned(),
        ));
    }
    Ok(())
}
