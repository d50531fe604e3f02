//! How a process of Watchfire's own gets its certificate from one of several brokers.

use std::path::Path;
use std::sync::Arc;

use crate::{Identity, IdentityError, Role};

/// The certificate of this process as `role`: the one in `directory` (usually `<data>/tls`) if it is in force,
/// else a new one for `token` from the first of `brokers` (`HOST:PORT`) that gives one. `name` is
/// the wish; the certificate's name counts.
///
/// # Errors
/// There is neither a certificate nor a token, or every broker refused or could not be reached;
/// then the last one's reason.
///
/// # Panics
/// There is no broker.
pub async fn join(
    directory: &Path,
    brokers: &[String],
    token: Option<&str>,
    name: &str,
    role: Role,
) -> Result<Arc<Identity>, IdentityError> {
    let (last, others) = brokers.split_last().expect("there is a broker");
    for broker in others {
        match Identity::load_or_join(directory, broker, token, name, role).await {
            // Another broker may be reached, and knows the token too if they are one cluster.
            Err(error @ IdentityError::Refused { .. }) => {
                tracing::warn!(broker, %error, "no certificate; trying the next broker");
            }
            other => return other,
        }
    }
    Identity::load_or_join(directory, last, token, name, role).await
}
