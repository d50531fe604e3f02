//! A caller who is known.

use std::fmt;
use std::sync::Arc;

use model::TenantName;
use serde::{Deserialize, Serialize};

use super::Tenants;
use crate::{ApiError, ErrorType};

/// What a caller may do. `Admin` includes the others; `Write` does not include `Read`, so that a
/// token in the hands of a sender cannot be used to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Read stored data.
    Read,
    /// Store data.
    Write,
    /// See and change how the server works, and everything else.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Scope; 3] = [Scope::Read, Scope::Write, Scope::Admin];

    /// `read`, `write` or `admin`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Write => "write",
            Scope::Admin => "admin",
        }
    }

    /// The inverse of [`Scope::as_str`].
    pub fn parse(text: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A set of scopes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// Everything.
    pub const ALL: Scopes = Scopes(0b111);
    /// Nothing.
    pub const NONE: Scopes = Scopes(0);

    /// Whether a caller with these may do what needs `scope`.
    pub fn contains(self, scope: Scope) -> bool {
        let admin = 1 << Scope::Admin as u8;
        self.0 & (admin | 1 << scope as u8) != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The scopes that were given, without those that are only included.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.0 & (1 << *scope as u8) != 0)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Scopes(scopes.into_iter().fold(0, |bits, scope| bits | 1 << scope as u8))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

/// Comma-separated, as in `read,write`.
impl fmt::Display for Scopes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.iter().map(Scope::as_str).collect();
        formatter.write_str(&words.join(","))
    }
}

/// How a caller proved who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrincipalKind {
    /// Not at all: no login is needed where they come from.
    Anonymous,
    /// A user with a password, by basic auth or by the session that began with it.
    User,
    /// An API token.
    Token,
    /// Who can read the data directory: the command line on the server's own host.
    Local,
}

impl PrincipalKind {
    /// One word in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            PrincipalKind::Anonymous => "anonymous",
            PrincipalKind::User => "user",
            PrincipalKind::Token => "token",
            PrincipalKind::Local => "local",
        }
    }
}

/// Who is calling. Handlers behind a route that is not public take it as an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The user's or token's name.
    pub name: Arc<str>,
    /// How they proved it.
    pub kind: PrincipalKind,
    /// What they may do.
    pub scopes: Scopes,
    /// Whose data their credential reaches.
    pub tenants: Tenants,
    /// Whose data this request reads and writes.
    pub tenant: TenantName,
    /// Whether the request itself named it.
    pub(super) is_narrowed: bool,
}

impl Principal {
    /// Everyone where no login is needed.
    pub fn anonymous() -> Self {
        Principal::new("anonymous", PrincipalKind::Anonymous, Scopes::ALL, Tenants::All)
    }

    /// A caller whose request names no tenant.
    pub(super) fn new(name: &str, kind: PrincipalKind, scopes: Scopes, tenants: Tenants) -> Self {
        let tenant = tenants.unnamed();
        Principal { name: name.into(), kind, scopes, tenants, tenant, is_narrowed: false }
    }

    /// The answer to a request that needs a scope this caller has not.
    pub(crate) fn forbidden(&self, scope: Scope) -> ApiError {
        ApiError::new(
            ErrorType::Forbidden,
            format!(
                "{} {:?} has the scopes [{}] and this needs {scope}; let an administrator make a \
                 token with `watchfire token create --scope {scope}`, or add the scope to the user",
                self.kind.as_str(),
                self.name,
                self.scopes,
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_includes_everything_and_write_does_not_read() {
        let scopes = |list: &[Scope]| list.iter().copied().collect::<Scopes>();
        for scope in Scope::ALL {
            assert!(scopes(&[Scope::Admin]).contains(scope));
            assert!(scopes(&[scope]).contains(scope));
            assert!(!Scopes::NONE.contains(scope));
            assert_eq!(Scope::parse(scope.as_str()), Some(scope));
        }
        assert!(!scopes(&[Scope::Write]).contains(Scope::Read));
        assert!(!scopes(&[Scope::Read]).contains(Scope::Write));
        assert!(!scopes(&[Scope::Read, Scope::Write]).contains(Scope::Admin));
        assert_eq!(scopes(&[Scope::Write, Scope::Read]).to_string(), "read,write");
    }
}
