//! From a URL to a connection: look up, check, connect, pass the proxy, encrypt.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Uri;
use http::uri::Scheme;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower::Service;

use super::ClientOptions;
use super::connection::{Connection, Stream};
use super::error::ClientError;
use super::proxy::{Proxy, ProxyRules};
use super::tls::TlsSetup;

/// When an address does not answer, the next one is tried beside it after this long (RFC 8305).
const NEXT_ADDRESS_DELAY: Duration = Duration::from_millis(250);

/// Makes connections for one client.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) options: ClientOptions,
    pub(super) proxies: Arc<ProxyRules>,
    pub(super) tls: Arc<TlsSetup>,
}

impl Service<Uri> for Connector {
    type Response = Connection;
    type Error = ClientError;
    type Future = Pin<Box<dyn Future<Output = Result<Connection, ClientError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let counters = Arc::clone(&connector.options.counters);
            counters.connections.fetch_add(1, Relaxed);
            let result = connector.connect(&uri).await;
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
        })
    }
}

impl Connector {
    async fn connect(&self, uri: &Uri) -> Result<Connection, ClientError> {
        let host = uri.host().unwrap_or_default();
        let is_https = uri.scheme() == Some(&Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let stream: Box<dyn Stream> = match self.proxies.proxy_for(is_https, host, port) {
            None => Box::new(self.open(host, port).await?),
            Some(proxy) => {
                let stream = self.open_proxy(proxy).await?;
                if !is_https {
                    return Ok(Connection::new(stream).proxied());
                }
                self.proxies.tunnel(proxy, stream, host, port).await?
            }
        };
        if !is_https {
            return Ok(Connection::new(stream));
        }
        let expected = self.tls.server_name.as_deref().unwrap_or(host);
        let tls = encrypt(&self.tls.config, expected, stream).await?;
        let is_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Connection::new(Box::new(tls)).http2(is_http2))
    }

    async fn open_proxy(&self, proxy: &Proxy) -> Result<Box<dyn Stream>, ClientError> {
        let stream = self.open(&proxy.host, proxy.port).await?;
        if !proxy.is_https {
            return Ok(Box::new(stream));
        }
        Ok(Box::new(encrypt(&self.tls.proxy_config, &proxy.host, stream).await?))
    }

    async fn open(&self, host: &str, port: u16) -> Result<TcpStream, ClientError> {
        open(&self.options, host, port).await
    }
}

/// A TCP connection to one of the host's addresses that may be connected to.
pub(super) async fn open(
    options: &ClientOptions,
    host: &str,
    port: u16,
) -> Result<TcpStream, ClientError> {
    let addresses = options
        .dns
        .addresses(host)
        .await
        .map_err(|error| ClientError::Unreachable(error.to_string()))?;
    let mut refusal = String::new();
    let allowed: Vec<IpAddr> = addresses
        .into_iter()
        .filter(|address| match (options.addresses)(*address) {
            Ok(()) => true,
            Err(reason) => {
                refusal = reason;
                false
            }
        })
        .collect();
    if allowed.is_empty() {
        return Err(ClientError::RefusedAddress(format!(
            "connections to {host:?} are refused: {refusal}"
        )));
    }
    let stream = race(&interleave(&allowed), port).await.map_err(|(address, error)| {
        ClientError::Unreachable(format!("cannot connect to {address}: {}", describe(&error)))
    })?;
    // Requests are small and whole; on failure they wait for Nagle.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

pub(super) async fn encrypt<S: Stream>(
    config: &Arc<ClientConfig>,
    host: &str,
    stream: S,
) -> Result<tokio_rustls::client::TlsStream<S>, ClientError> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let name = ServerName::try_from(bare.to_owned()).map_err(|_| {
        ClientError::Unreachable(format!("{host:?} is no name that a certificate could bear"))
    })?;
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await.map_err(|error| {
        ClientError::Unreachable(format!("TLS with {host:?} failed: {}", describe(&error)))
    })
}

/// Families take turns, the first address's first, so that a broken IPv6 costs one delay.
fn interleave(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let first_is_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (one, other): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut mixed = Vec::with_capacity(addresses.len());
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    loop {
        let (a, b) = (one.next(), other.next());
        if a.is_none() && b.is_none() {
            return mixed;
        }
        mixed.extend(a.into_iter().chain(b));
    }
}

/// Connects to the first address that answers; the error is that of the last one tried.
async fn race(addresses: &[IpAddr], port: u16) -> Result<TcpStream, (SocketAddr, io::Error)> {
    let mut waiting = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut last = None;
    loop {
        if let Some(&address) = waiting.next() {
            let address = SocketAddr::new(address, port);
            attempts.push(async move {
                TcpStream::connect(address).await.map_err(|error| (address, error))
            });
        }
        let has_more = !waiting.as_slice().is_empty();
        tokio::select! {
            outcome = attempts.next() => match outcome {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(failed)) => last = Some(failed),
                None => {
                    return Err(last.expect("no attempt is left only after one has failed"));
                }
            },
            () = tokio::time::sleep(NEXT_ADDRESS_DELAY), if has_more => {}
        }
    }
}

/// An error with everything behind it, since the outermost text is often only a category.
pub(super) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let more = inner.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let parse = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().expect("an address")).collect()
        };
        assert_eq!(
            interleave(&parse(&["::1", "::2", "10.0.0.1", "::3"])),
            parse(&["::1", "10.0.0.1", "::2", "::3"])
        );
        assert_eq!(interleave(&parse(&["10.0.0.1"])), parse(&["10.0.0.1"]));
    }

    #[tokio::test]
    async fn a_dead_address_does_not_hide_a_live_one() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = listener.local_addr().expect("bound").port();
        // Nobody listens on the first; it refuses at once.
        let addresses = ["127.0.0.2", "127.0.0.1"].map(|text| text.parse().expect("an address"));
        let stream = race(&addresses, port).await.expect("the second answers");
        assert_eq!(stream.peer_addr().expect("connected").ip(), addresses[1]);
        drop(listener);
        let (address, _) = race(&addresses[..1], port).await.expect_err("nobody listens");
        assert_eq!(address.ip(), addresses[0]);
    }
}
