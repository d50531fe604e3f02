//! Who asks.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use settings::Secret;

/// What a request proves its sender with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// Nothing.
    #[default]
    None,
    /// An API token.
    Bearer(Secret),
    /// Name and password.
    Basic {
        /// The user's name, without a colon.
        user: String,
        /// The password.
        password: Secret,
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
            Credentials::Bearer(token) => format!("Bearer {}", token.reveal()),
            Credentials::Basic { user, password } => {
                format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.reveal())))
            }
        };
        let mut header = HeaderValue::try_from(text)
            .context("the token has characters that no token has; is it the right file?")?;
        header.set_sensitive(true);
        Ok(Some(header))
    }
}
