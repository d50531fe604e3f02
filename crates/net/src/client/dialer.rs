//! Connections for protocols other than HTTP, under the same rules about addresses and TLS.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use settings::prometheus::TlsConfig;
use tokio::net::TcpStream;

use super::ClientOptions;
use super::connector::{encrypt, open};
use super::error::ClientError;
use super::tls::TlsSource;

/// A connection that is encrypted.
pub type EncryptedStream = tokio_rustls::client::TlsStream<TcpStream>;

/// Makes connections to addresses that may be connected to, and encrypts them.
pub struct Dialer {
    tls: TlsSource,
    options: ClientOptions,
}

impl Dialer {
    /// A dialer with these settings of TLS; their files are read when they are needed, and watched.
    ///
    /// # Errors
    /// [`ClientError::Config`] for settings that can never work.
    pub fn new(tls: &TlsConfig, options: &ClientOptions) -> Result<Self, ClientError> {
        let tls = TlsSource::new(tls, false);
        tls.check()?;
        Ok(Dialer { tls, options: options.clone() })
    }

    /// A connection to one of the host's addresses. Whoever calls has a deadline.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`], [`ClientError::RefusedAddress`].
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, ClientError> {
        let counters = &self.options.counters;
        counters.connections.fetch_add(1, Relaxed);
        let result = open(&self.options, host, port).await;
        match &result {
            Err(ClientError::RefusedAddress(_)) => {
                counters.refused_addresses.fetch_add(1, Relaxed);
            }
            Err(_) => {
                counters.failed_connections.fetch_add(1, Relaxed);
            }
            Ok(_) => {}
        }
        result
    }

    /// Encrypts a connection to `host`, whose certificate has to bear that name or the one of the
    /// settings. No protocol is offered by ALPN: servers of mail refuse those of HTTP.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`], [`ClientError::Credentials`], [`ClientError::Config`].
    pub async fn encrypt(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<EncryptedStream, ClientError> {
        let setup = self.tls.setup().await?;
        let mut config = (*setup.config).clone();
        config.alpn_protocols.clear();
        let expected = setup.server_name.as_deref().unwrap_or(host);
        encrypt(&Arc::new(config), expected, stream).await
    }
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Dialer")
    }
}
