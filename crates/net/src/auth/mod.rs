//! Who is calling, and what they may do.
//!
//! A caller is known by an API token, by name and password, or by a session that began with them;
//! or need not be known at all, where the operator has said so. What a known caller may do is a
//! set of [`Scopes`], and [`crate::Routes`] compares it with what each route states.

mod account_error;
mod accounts;
mod digest;
mod file_store;
mod join_tokens;
mod local;
mod login;
mod password;
mod principal;
mod sessions;
mod standing;
pub(crate) mod store;
mod tenants;
mod throttle;
mod tokens;
mod users;

pub use account_error::AccountError;
pub use accounts::{Accounts, NewSession};
pub use file_store::FileStore;
pub use join_tokens::{
    DEFAULT_JOIN_LIFE, JoinError, JoinToken, JoinTokens, MAX_JOIN_LIFE, MAX_JOIN_USES, PendingJoin,
};
pub use local::{LocalAccess, LocalError, write_local_access};
pub use login::{Actor, Connection, without_login};
pub use principal::{Principal, PrincipalKind, Scope, Scopes};
pub use sessions::SessionLife;
pub use standing::Standing;
pub use store::{CredentialStore, Expected, StoreError, Versioned};
pub use tenants::{TENANT_HEADER, Tenants};
pub use tokens::ApiToken;
pub use users::User;

pub(crate) use login::{Door, OverTls};
pub(crate) use throttle::Throttle;

/// A password of `letters` letters and digits, for users whose password an administrator resets.
/// Each is worth 5.95 bits.
pub fn generate_password(letters: usize) -> String {
    crate::random::alphanumeric(letters)
}
