//! The pool of connections behind a client.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use settings::prometheus::{ProxyConfig, TlsConfig};

use super::ClientOptions;
use super::connection::Used;
use super::connector::{Connector, describe};
use super::error::ClientError;
use super::proxy::ProxyRules;
use super::tls::{TlsSetup, TlsSource};

/// Longer than any sane interval, so that a target keeps its connection from scrape to scrape; as
/// Prometheus has it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Idle connections to one host. Prometheus keeps 1,000; more than a handful are of use only where
/// hundreds of targets share a host and a port.
const MAX_IDLE_PER_HOST: usize = 1_000;

/// A silent HTTP/2 connection is asked for a sign of life after this long, as in Prometheus.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(60);
/// … and given up when there is none.
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(15);

/// A pool of connections with one TLS setup.
pub(super) type Transport = legacy::Client<Connector, Full<Bytes>>;

/// Makes transports: a new one, without the old connections, when the files of TLS changed.
pub(super) struct Transports {
    options: ClientOptions,
    proxies: Arc<ProxyRules>,
    tls: TlsSource,
    current: Mutex<Option<(Arc<TlsSetup>, Transport)>>,
}

impl Transports {
    /// # Errors
    /// [`ClientError::Config`] for a proxy that cannot be used.
    pub(super) fn new(
        tls: &TlsConfig,
        proxy: &ProxyConfig,
        enable_http2: bool,
        options: &ClientOptions,
    ) -> Result<Self, ClientError> {
        Ok(Transports {
            options: options.clone(),
            proxies: Arc::new(ProxyRules::new(proxy)?),
            tls: TlsSource::new(tls, enable_http2),
            current: Mutex::new(None),
        })
    }

    pub(super) fn proxies(&self) -> &ProxyRules {
        &self.proxies
    }

    /// Whether the options can be used, as far as that shows without files.
    ///
    /// # Errors
    /// [`ClientError::Config`].
    pub(super) fn check(&self) -> Result<(), ClientError> {
        self.tls.check()
    }

    /// The transport for the files as they are now.
    ///
    /// # Errors
    /// As [`TlsSource::setup`].
    pub(super) async fn current(&self) -> Result<Transport, ClientError> {
        let setup = self.tls.setup().await?;
        let mut current = self.current.lock();
        if let Some((tls, transport)) = &*current
            && Arc::ptr_eq(tls, &setup)
        {
            return Ok(transport.clone());
        }
        let connector = Connector {
            options: self.options.clone(),
            proxies: Arc::clone(&self.proxies),
            tls: Arc::clone(&setup),
        };
        let transport = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
            .http2_keep_alive_interval(HTTP2_PING_INTERVAL)
            .http2_keep_alive_timeout(HTTP2_PING_TIMEOUT)
            .build(connector);
        *current = Some((setup, transport.clone()));
        Ok(transport)
    }
}

/// What the pool's error means. Connecting fails with an error of ours inside.
pub(super) fn failure(error: &legacy::Error) -> ClientError {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(known) = inner.downcast_ref::<ClientError>() {
            return known.clone();
        }
        source = inner.source();
    }
    ClientError::Broken(describe(error))
}

/// Whether a kept connection was closed by the server just when it was used again, so that asking
/// once more on a new one is right. The request must not have been answered at all.
pub(super) fn was_stale(error: &legacy::Error) -> bool {
    if error.is_connect() || !error.connect_info().is_some_and(Used::is_set) {
        return false;
    }
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(error) = inner.downcast_ref::<hyper::Error>()
            && (error.is_incomplete_message() || error.is_canceled() || error.is_closed())
        {
            return true;
        }
        if let Some(error) = inner.downcast_ref::<std::io::Error>() {
            return matches!(
                error.kind(),
                std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe
            );
        }
        source = inner.source();
    }
    false
}
