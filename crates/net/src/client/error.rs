//! Why a request failed, in words for people.

use std::time::Duration;

/// Why there is no answer, or none that may be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// An option of the client cannot be used; nothing was sent.
    #[error("{0}")]
    Config(String),
    /// The URL cannot be requested.
    #[error("{0}")]
    Url(String),
    /// A file with credentials or for TLS cannot be read or used, or the token server gave no token.
    #[error("{0}")]
    Credentials(String),
    /// No connection: name lookup, TCP, proxy or TLS.
    #[error("{0}")]
    Unreachable(String),
    /// Connections to this address are not allowed.
    #[error("{0}")]
    RefusedAddress(String),
    /// The deadline came first.
    #[error("no complete answer within {0:?}; the server or the network is too slow")]
    Timeout(Duration),
    /// A redirect that cannot be followed.
    #[error("{0}")]
    Redirect(String),
    /// The body is larger than the caller allows.
    #[error("body size limit exceeded: the answer has more than {limit} bytes")]
    BodyTooLarge {
        /// The caller's limit.
        limit: usize,
    },
    /// The connection broke, or what came is not HTTP.
    #[error("{0}")]
    Broken(String),
}
