//! How a server's sockets speak TLS.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};

use super::{ServerCertificate, TlsError, provider};
use crate::authority::Authority;
use crate::peers::Peers;

/// HTTPS for browsers and foreign clients: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
#[derive(Clone)]
pub struct ServerTls {
    pub(crate) config: Arc<ServerConfig>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Shows `certificate`, whatever it is at the time of each handshake.
    ///
    /// # Errors
    /// The provider refuses, which it does not.
    pub fn new(certificate: Arc<ServerCertificate>) -> Result<ServerTls, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(certificate);
        // The first that the client can, too. HTTP/1.1 before 2: of a query as people type it, with
        // quotation marks, only 1.1 can be mended (see `request_line`); h2 resets the stream.
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
        config.ticketer = rustls::crypto::ring::Ticketer::new()?;
        Ok(ServerTls { config: Arc::new(config) })
    }
}

/// TLS 1.3 between Watchfire's own processes, which know one another by their certificates. A
/// client without one gets in, because the first thing a new one does is to ask for it; what it
/// may call is decided per call, see [`crate::Bound::serve_rpc`]. One whose certificate is of
/// another authority or has ended does not.
#[derive(Clone)]
pub struct MutualTls {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) peers: Arc<Peers>,
}

impl fmt::Debug for MutualTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MutualTls").finish_non_exhaustive()
    }
}

impl MutualTls {
    /// Shows `certificate`, which `authority` has issued, and takes the certificates of those
    /// among `peers`.
    ///
    /// # Errors
    /// The authority's certificate cannot be used.
    pub fn new(
        certificate: Arc<ServerCertificate>,
        authority: &Authority,
        peers: Arc<Peers>,
    ) -> Result<MutualTls, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate().clone())?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .allow_unauthenticated()
            .build()
            .map_err(|error| TlsError::Crypto(error.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(certificate);
        config.alpn_protocols = vec![b"h2".to_vec()];
        // After a broker's restart every agent comes back at once; a ticket spares both sides the
        // signatures. What the ticket says about the certificate is checked as if it were new.
        config.ticketer = rustls::crypto::ring::Ticketer::new()?;
        Ok(MutualTls { config: Arc::new(config), peers })
    }
}
