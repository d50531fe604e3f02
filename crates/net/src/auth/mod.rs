//! Who is calling, and what they may do.

mod digest;
mod file_store;
mod join_tokens;
mod principal;
pub(crate) mod store;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};

pub use file_store::FileStore;
pub use join_tokens::{
    DEFAULT_JOIN_LIFE, JoinError, JoinToken, JoinTokens, MAX_JOIN_LIFE, MAX_JOIN_USES, PendingJoin,
};
pub use principal::{Principal, PrincipalKind, Scope, Scopes};
pub use store::{CredentialStore, Expected, StoreError, Versioned};

use crate::{ApiError, ErrorType};

/// What is known about the sender of a request; a request extension that [`crate::Routes`] asks.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// Who it is.
    Known(Principal),
    /// Nobody, and why.
    Unknown(Unknown),
}

/// Why a caller is not known.
#[derive(Debug, Clone)]
pub(crate) struct Unknown {
    message: String,
}

impl IntoResponse for Unknown {
    fn into_response(self) -> Response {
        ApiError::new(ErrorType::Unauthorized, self.message).into_response()
    }
}

/// Marks a request that came over TLS.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OverTls;

/// Lets everyone who can reach `router` do everything, as [`Principal::anonymous`]: for servers
/// that only this host can reach, and where the operator has said so.
pub fn without_login(router: Router) -> Router {
    router.layer(from_fn(async |mut request: Request, next: Next| {
        request.extensions_mut().insert(Caller::Known(Principal::anonymous()));
        next.run(request).await
    }))
}
