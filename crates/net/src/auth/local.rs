//! How the command line on the server's own host finds the server and proves who it is: by a file
//! in the data directory that only its owner can read.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};
use settings::Secret;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::tls::{
    ClientTls, Fingerprint, MAX_CERTIFICATE_BYTES, TlsError, read_limited, write_private,
};

const FILE: &str = "local.token";
/// For one request and its answer.
const TIME_LIMIT: Duration = Duration::from_secs(30);
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Why the server of a data directory cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// There is no such file.
    #[error(
        "no server has run with {0}, or another user runs it: start `watchfire` there, give its \
         directory with --data, and run this as the same user"
    )]
    NoServer(String),
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] TlsError),
    /// The server does not answer.
    #[error("ask the server at {url}: {message}")]
    Unreachable {
        /// Where it was.
        url: String,
        /// What happened.
        message: String,
    },
}

/// What is in the file.
#[derive(Serialize, Deserialize)]
struct Content {
    url: String,
    token: String,
    /// Fingerprint of the server's certificate, if it speaks TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    server: Option<String>,
}

/// Writes `<data>/local.token`, mode 0600: where the server is (`http://…` or `https://…`), the
/// token of [`super::Accounts::local_token`], and with TLS the fingerprint of its certificate. Call
/// it at each start, and again when the certificate is renewed.
///
/// # Errors
/// The file cannot be written.
pub fn write_local_access(
    data: &Path,
    url: &str,
    token: &Secret,
    server: Option<Fingerprint>,
) -> Result<(), TlsError> {
    let server = server.map(|print| print.to_string());
    let content = Content { url: url.to_owned(), token: token.reveal().to_owned(), server };
    let bytes = serde_json::to_vec(&content).expect("strings are always JSON");
    write_private(&data.join(FILE), &bytes)
}

/// The way to the server of a data directory, as its administrator.
#[derive(Debug)]
pub struct LocalAccess {
    url: String,
    token: Secret,
    server: Option<Fingerprint>,
}

impl LocalAccess {
    /// Reads what [`write_local_access`] wrote.
    ///
    /// # Errors
    /// There is no such file, or it cannot be read.
    pub fn read(data: &Path) -> Result<LocalAccess, LocalError> {
        let path = data.join(FILE);
        let bytes = read_limited(&path, MAX_CERTIFICATE_BYTES)?;
        let bytes = bytes.ok_or_else(|| LocalError::NoServer(data.display().to_string()))?;
        let wrong = || {
            TlsError::Invalid(format!(
                "{} cannot be understood; a start of the server writes it anew",
                path.display()
            ))
        };
        let content: Content = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
        let server = content.server.map(|text| text.parse()).transpose()?;
        Ok(LocalAccess { url: content.url, token: Secret::new(content.token), server })
    }

    /// Where the server is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What the administrator's requests bear, in `Authorization: Bearer`.
    pub fn token(&self) -> &Secret {
        &self.token
    }

    /// Sends one request; `body` is JSON. Yields status and body of the answer, whatever the
    /// status.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<(StatusCode, Bytes), LocalError> {
        let unreachable =
            |message: String| LocalError::Unreachable { url: self.url.clone(), message };
        match timeout(TIME_LIMIT, self.exchange(method, path, body)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(unreachable(format!("{error}; is it running?"))),
            Err(_) => Err(unreachable(format!("no answer within {} s", TIME_LIMIT.as_secs()))),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let uri: Uri = self.url.parse()?;
        let authority = uri.authority().ok_or("the address names no host")?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().ok_or("the address has no port")?;
        let socket = TcpStream::connect((host.as_str(), port)).await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, authority.as_str())
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.reveal()))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.map(ToString::to_string).unwrap_or_default())))?;
        match self.server {
            None => send(socket, request).await,
            Some(server) => {
                let connector = TlsConnector::from(ClientTls::local(server)?.config);
                let stream = connector.connect(ServerName::try_from(host)?, socket).await?;
                send(stream, request).await
            }
        }
    }
}

async fn send<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await?.to_bytes();
    driver.abort();
    Ok((status, body))
}
