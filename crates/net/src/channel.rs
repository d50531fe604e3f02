//! gRPC connections from Watchfire's own processes to a broker.

use std::io;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{ConnectError, Status};

use crate::tls::{ClientTls, TlsError};

/// For the connection to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For the handshake behind it. When all agents come back at once, a broker takes them in turn.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// How often an idle connection is asked whether it lives, and how long it may take to say so: a
/// broker that is gone without a word is noticed within the sum.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Sent and not yet read by the broker, for one call: enough for a full second on a long way.
const WINDOW_BYTES: u32 = 4 << 20;

/// Whether a call failed before anything was sent: nothing came of it.
pub fn never_left(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A connection to the broker at `target` (`HOST:PORT`), made when it is first used and made anew
/// when it breaks; each time the name is looked up again and all its addresses are tried. Cheap to
/// clone; clones share the connection.
///
/// # Errors
/// `target` is not host and port.
pub fn channel(target: &str, tls: &ClientTls) -> Result<Channel, TlsError> {
    let wrong = |detail: &dyn std::fmt::Display| {
        TlsError::Invalid(format!(
            "{target:?} is not the address of a broker ({detail}); give HOST:PORT, such as \
             broker.example:9596"
        ))
    };
    // The scheme is not looked at: the connector below always speaks TLS.
    let uri: Uri = format!("http://{target}").parse().map_err(|error| wrong(&error))?;
    let port = uri.port_u16().filter(|port| *port != 0);
    let port = port.ok_or_else(|| wrong(&"the port is missing"))?;
    let host = uri.host().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| wrong(&"the host is missing"))?;
    if uri.path() != "/" || uri.query().is_some() || target.contains('@') {
        return Err(wrong(&"there is more than host and port"));
    }
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let endpoint = Endpoint::from(uri)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    let connector = TlsConnector::from(std::sync::Arc::clone(&tls.config));
    Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let (host, connector) = (host.clone(), connector.clone());
        async move { connect(&host, port, &connector).await.map(TokioIo::new) }
    })))
}

/// What a status says, with all that stands below it: why a broker could not be reached.
pub fn status_words(status: &Status) -> String {
    let mut words = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let text = error.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        cause = error.source();
    }
    words
}

async fn connect(
    host: &str,
    port: u16,
    connector: &TlsConnector,
) -> io::Result<TlsStream<TcpStream>> {
    let mut fault = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let addresses = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| named(&error, &format!("look up {host}")))?;
    for address in addresses {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => {
                // Batches must not wait for Nagle; on failure they do.
                let _ = socket.set_nodelay(true);
                return shake_hands(socket, host, port, connector).await;
            }
            Ok(Err(error)) => fault = named(&error, &format!("connect to {host}:{port}")),
            Err(_) => fault = late(&format!("connect to {host}:{port}"), CONNECT_TIMEOUT),
        }
    }
    Err(fault)
}

async fn shake_hands(
    socket: TcpStream,
    host: &str,
    port: u16,
    connector: &TlsConnector,
) -> io::Result<TlsStream<TcpStream>> {
    let what = format!("TLS with {host}:{port}");
    match timeout(HANDSHAKE_TIMEOUT, connector.connect(ClientTls::server_name(), socket)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if is_foreign(&error) => {
            let target = format!("{host}:{port}");
            Err(io::Error::new(io::ErrorKind::InvalidData, ForeignBroker { target }))
        }
        Ok(Err(error)) => match answers_as(&error) {
            Some(found) => {
                let target = format!("{host}:{port}");
                Err(io::Error::new(io::ErrorKind::InvalidData, NotAPeerPort { target, found }))
            }
            None => Err(named(&error, &what)),
        },
        Err(_) => Err(late(&what, HANDSHAKE_TIMEOUT)),
    }
}

/// What answers is a broker, or pretends to be one, of another authority. Waiting does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{target} belongs to another installation than the one this host joined: if it was set up anew, \
     run `watchfire token create` there and start this host once with `--join TOKEN`, what it has \
     kept is then sent; otherwise check address and port: hosts join at the peer port, 9596 unless it was \
     chosen otherwise, not at that of the console"
)]
pub struct ForeignBroker {
    target: String,
}

/// What answers is no port for hosts of the installation. Waiting does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{target} answers as {found}, not as a port for agents and consoles: give the broker's peer port \
     (--peer-listen), 9596 unless it was chosen otherwise; the port of the console and the API, 9595, \
     is another one"
)]
pub struct NotAPeerPort {
    target: String,
    found: &'static str,
}

impl NotAPeerPort {
    /// Of the one at `target`, if `status` is what an HTTP server makes of a call: one of the same
    /// authority whose certificate is as good, such as that of the console.
    pub fn answered(target: &str, status: &Status) -> Option<NotAPeerPort> {
        // So tonic words an answer that is HTTP and not gRPC; there is no code of its own for it.
        let words = ["while receiving response with status: ", "mapped from HTTP status code "];
        let behind = words.iter().find_map(|words| Some(status.message().split_once(words)?.1));
        // 5xx may be a proxy's, while the broker behind it is away.
        let is_http = behind.is_some_and(|code| code.starts_with('4'));
        is_http.then(|| NotAPeerPort { target: target.to_owned(), found: "an HTTPS server" })
    }
}

/// What else than a peer port the other end is, as far as the handshake tells.
fn answers_as(error: &io::Error) -> Option<&'static str> {
    use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>())?;
    match cause {
        // The same authority, for the names by which browsers know the server.
        rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            Some("an HTTPS server")
        }
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            Some("a server without TLS")
        }
        _ => None,
    }
}

/// Whether the certificate of the other end is of another authority. One of the same name makes
/// for a wrong signature.
fn is_foreign(error: &io::Error) -> bool {
    use rustls::CertificateError::{BadSignature, UnknownIssuer};
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature)))
}

/// Connects to the broker at `target` (`HOST:PORT`) and ends the connection again, to see whether
/// it is the right one.
///
/// # Errors
/// It cannot be reached, or is another one: then [`ForeignBroker`] is inside.
pub async fn try_broker(target: &str, tls: &ClientTls) -> io::Result<()> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "give HOST:PORT");
    let (host, port) = target.rsplit_once(':').ok_or_else(invalid)?;
    let port = port.parse().map_err(|_| invalid())?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    connect(host, port, &TlsConnector::from(std::sync::Arc::clone(&tls.config))).await.map(drop)
}

fn named(error: &io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

fn late(what: &str, limit: Duration) -> io::Error {
    let seconds = limit.as_secs();
    io::Error::new(io::ErrorKind::TimedOut, format!("{what}: no answer within {seconds} s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_http_are_no_answers_of_a_broker() {
        let is_told = |text: &str| NotAPeerPort::answered("b:1", &Status::internal(text)).is_some();
        assert!(is_told(
            "protocol error: received message with invalid compression flag: 116 (valid flags are 0 \
             and 1) while receiving response with status: 405 Method Not Allowed"
        ));
        assert!(is_told("grpc-status header missing, mapped from HTTP status code 404"));
        assert!(!is_told("grpc-status header missing, mapped from HTTP status code 503"));
        assert!(!is_told("transport error"));
    }

    #[tokio::test]
    async fn an_address_is_host_and_port() {
        let tls = ClientTls::pinning("ab".repeat(32).parse().expect("valid")).expect("valid");
        for good in ["broker.example:9596", "10.0.0.1:1", "[::1]:9596"] {
            assert!(channel(good, &tls).is_ok(), "{good}");
        }
        for bad in ["", "broker", "broker:0", ":9596", "http://b:1", "b:1/x", "b:99999", "u@b:1"] {
            let error = channel(bad, &tls).expect_err(bad).to_string();
            assert!(error.contains("give HOST:PORT"), "{error}");
        }
    }
}
