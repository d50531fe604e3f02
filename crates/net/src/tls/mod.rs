//! TLS: what servers show, whom they ask, and whom clients trust.
//!
//! One provider (ring) and two protocol ranges: TLS 1.2 and 1.3 where browsers and foreign clients
//! come, TLS 1.3 alone between Watchfire's own processes.

mod certificate;
mod client;
mod files;
mod fingerprint;
mod names;
mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::CryptoProvider;

pub use certificate::ServerCertificate;
pub use client::ClientTls;
pub use fingerprint::Fingerprint;
pub use server::{MutualTls, ServerTls};

pub(crate) use files::{
    MAX_CERTIFICATE_BYTES, create_private_directory, read_limited, write_private, write_public,
};
pub(crate) use names::CertificateNames;

/// The name by which Watchfire's own processes know a broker, whatever its address: a certificate
/// with this name and of the right authority is a broker. So that no address translation, alias or
/// new address of a broker ever keeps agents away.
pub const BROKER_NAME: &str = "broker.watchfire.internal";

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{action} {}: {error}", path.display())]
    File {
        /// What was tried, such as `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A file, a certificate or a request is not what it should be.
    #[error("{0}")]
    Invalid(String),
    /// Keys cannot be made or used.
    #[error("cryptography failed: {0}")]
    Crypto(String),
}

impl TlsError {
    pub(crate) fn file(action: &'static str, path: &Path, error: std::io::Error) -> Self {
        TlsError::File { action, path: path.to_owned(), error }
    }
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        TlsError::Crypto(error.to_string())
    }
}

impl From<rcgen::Error> for TlsError {
    fn from(error: rcgen::Error) -> Self {
        TlsError::Crypto(error.to_string())
    }
}

/// The one implementation of the primitives; chosen here and not process-wide, so that nothing
/// depends on the order of the start.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Milliseconds since the epoch.
pub(crate) fn unix_ms(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    }
}

/// The inverse of [`unix_ms`] for times from 1970 on.
pub(crate) fn from_unix_ms(ms: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
