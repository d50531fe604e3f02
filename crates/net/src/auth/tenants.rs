//! Which tenants a credential reaches, and which of them a request concerns.

use std::fmt;

use http::{HeaderMap, HeaderName};
use model::{TenantName, TenantNameError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{AccountError, Principal, Scope, Scopes};
use crate::{ApiError, ErrorType};

/// By which a request says which of the tenants that its credential reaches it concerns, as in
/// Mimir, Loki and Tempo; the metadata key of gRPC is the same.
pub const TENANT_HEADER: HeaderName = HeaderName::from_static("x-scope-orgid");

/// How all of them are written.
const ALL: &str = "*";

/// The tenants that a credential reaches. Written as `*` or as a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Tenants {
    /// All that there are and will be.
    #[default]
    All,
    /// One.
    One(TenantName),
}

impl Tenants {
    /// Reads `*` or a name.
    ///
    /// # Errors
    /// The text is neither.
    pub fn parse(text: &str) -> Result<Tenants, TenantNameError> {
        match text {
            ALL => Ok(Tenants::All),
            name => TenantName::parse(name).map(Tenants::One),
        }
    }

    /// Whether `tenant` is among them.
    pub fn contains(self, tenant: TenantName) -> bool {
        match self {
            Tenants::All => true,
            Tenants::One(own) => own == tenant,
        }
    }

    /// Whose data a request concerns that names no tenant.
    pub(crate) fn unnamed(self) -> TenantName {
        match self {
            Tenants::All => TenantName::DEFAULT,
            Tenants::One(own) => own,
        }
    }

    /// Whoever has the scope admin reaches all tenants: they could make themselves a token for any.
    ///
    /// # Errors
    /// The scopes hold it, and these are not all.
    pub(super) fn check(self, scopes: Scopes) -> Result<(), AccountError> {
        match self {
            Tenants::One(tenant) if scopes.contains(Scope::Admin) => {
                Err(AccountError::Invalid(format!(
                    "who has the scope admin reaches every tenant and cannot be kept to {tenant}; \
                     give read and write only, or leave the tenant out"
                )))
            }
            Tenants::All | Tenants::One(_) => Ok(()),
        }
    }
}

impl fmt::Display for Tenants {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tenants::All => formatter.write_str(ALL),
            Tenants::One(tenant) => tenant.fmt(formatter),
        }
    }
}

impl Serialize for Tenants {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Tenants {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Tenants::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl Principal {
    /// As the request has it: for the tenant that its header names, if it has one.
    pub(crate) fn narrowed_by(self, headers: &HeaderMap) -> Result<Principal, ApiError> {
        let mut values = headers.get_all(TENANT_HEADER).iter();
        let Some(value) = values.next() else { return Ok(self) };
        if values.next().is_some() {
            return Err(bad("X-Scope-OrgID stands in the request more than once; send it once"));
        }
        let text = String::from_utf8_lossy(value.as_bytes());
        let named = TenantName::parse(&text);
        self.narrowed_to(named.map_err(|error| bad(&format!("X-Scope-OrgID: {error}")))?)
    }

    /// The same caller, who concerns themselves with `tenant` only.
    ///
    /// # Errors
    /// Their credential does not reach it.
    pub fn narrowed_to(mut self, tenant: TenantName) -> Result<Principal, ApiError> {
        if !self.tenants.contains(tenant) {
            return Err(ApiError::new(
                ErrorType::Forbidden,
                format!(
                    "{} {:?} is for the tenant {} and not for {tenant}; leave X-Scope-OrgID out, or \
                     use a credential of {tenant}: `watchfire token create --scope read --tenant \
                     {tenant}` makes one",
                    self.kind.as_str(),
                    self.name,
                    self.tenants,
                ),
            ));
        }
        self.tenant = tenant;
        self.is_narrowed = true;
        Ok(self)
    }

    /// Whether they may see what is of `tenant` in lists that are not of one tenant alone, such as
    /// that of running queries.
    pub fn sees(&self, tenant: TenantName) -> bool {
        self.tenant == tenant || self.sees_all()
    }

    /// Whether such lists hold all tenants for them: they reach all, and the request names none.
    pub fn sees_all(&self) -> bool {
        self.tenants == Tenants::All && !self.is_narrowed
    }
}

fn bad(message: &str) -> ApiError {
    ApiError::new(ErrorType::BadData, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::PrincipalKind;
    use http::{HeaderValue, StatusCode};

    fn narrowed(tenants: &str, values: &[&[u8]]) -> Result<Principal, ApiError> {
        let tenants = Tenants::parse(tenants).expect("tenants");
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_bytes(value).expect("a value");
            headers.append("X-Scope-OrgID", value);
        }
        Principal::new("ann", PrincipalKind::Token, Scopes::NONE, tenants).narrowed_by(&headers)
    }

    #[test]
    fn the_header_only_narrows() {
        let tenant = |tenants, values| narrowed(tenants, values).expect("may").tenant.to_string();
        assert_eq!(tenant("*", &[]), "default");
        assert_eq!(tenant("*", &[b"acme"]), "acme");
        assert_eq!(tenant("acme", &[]), "acme");
        assert_eq!(tenant("acme", &[b"acme"]), "acme");
        for other in [&b"other"[..], b"default", b"ACME"] {
            let error = narrowed("acme", &[other]).expect_err("another one");
            assert_eq!(error.status, StatusCode::FORBIDDEN);
            assert!(error.message.contains("acme") && error.message.contains("--tenant"));
        }
        for bad in [&b""[..], b"a|b", b"../x", b"*", b"\xff", b"a b"] {
            let error = narrowed("*", &[bad]).expect_err("no name");
            assert_eq!(error.status, StatusCode::BAD_REQUEST);
            assert!(error.message.contains("1 to 64"), "{}", error.message);
        }
        let error = narrowed("*", &[b"acme", b"acme"]).expect_err("twice");
        assert!(error.message.contains("more than once"), "{}", error.message);
    }

    #[test]
    fn only_who_reaches_all_and_names_none_sees_all() {
        let acme = TenantName::parse("acme").expect("a name");
        assert!(narrowed("*", &[]).expect("may").sees(acme));
        assert!(narrowed("*", &[b"acme"]).expect("may").sees(acme));
        assert!(!narrowed("*", &[b"other"]).expect("may").sees(acme));
        assert!(!narrowed("other", &[]).expect("may").sees(acme));
    }

    #[test]
    fn an_administrator_reaches_every_tenant() {
        let one = Tenants::parse("acme").expect("a name");
        let scopes = |list: &[Scope]| list.iter().copied().collect::<Scopes>();
        one.check(scopes(&[Scope::Read, Scope::Write])).expect("may be");
        one.check(scopes(&[Scope::Read, Scope::Admin])).expect_err("may not be");
        Tenants::All.check(Scopes::ALL).expect("may be");
    }

    #[test]
    fn they_are_stored_as_they_are_written() {
        for text in ["*", "acme"] {
            let tenants = Tenants::parse(text).expect("tenants");
            let json = serde_json::to_string(&tenants).expect("a text");
            assert_eq!(json, format!("{text:?}"));
            assert_eq!(serde_json::from_str::<Tenants>(&json).expect("own form"), tenants);
        }
        assert!(serde_json::from_str::<Tenants>("\"a|b\"").is_err());
    }
}
