//! Who asks.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

/// What a request proves its sender with.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// Nothing.
    #[default]
    None,
    /// An API token.
    Bearer(String),
    /// Name and password.
    Basic {
        /// The user's name, without a colon.
        user: String,
        /// The password.
        password: String,
    },
}

impl Credentials {
    /// The `Authorization` header, marked so that nothing prints it.
    ///
    /// # Errors
    /// When a token has characters that no header can carry.
    pub(crate) fn header(&self) -> Result<Option<HeaderValue>> {
        let text = match self {
            Credentials::None => return Ok(None),
            Credentials::Bearer(token) => format!("Bearer {token}"),
            Credentials::Basic { user, password } => {
                format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
            }
        };
        let mut header = HeaderValue::try_from(text)
            .context("the token has characters that no token has; is it the right file?")?;
        header.set_sensitive(true);
        Ok(Some(header))
    }
}

/// Says which kind it is, never the secret.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Credentials::None => f.write_str("None"),
            Credentials::Bearer(_) => f.write_str("Bearer(<secret>)"),
            Credentials::Basic { user, .. } => write!(f, "Basic({user:?}, <secret>)"),
        }
    }
}
