//! Requests that are secret themselves, and connections for other protocols.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Uri};
use net::client::{Client, ClientError, ClientOptions, Dialer, Post};
use settings::prometheus::{HttpClientConfig, TlsConfig};

use super::server::{answer, ok, serve};

async fn post(client: &Client, url: &Uri) -> Result<u16, ClientError> {
    let (headers, body) = (HeaderMap::new(), Bytes::from_static(b"secret"));
    let deadline = Instant::now() + Duration::from_secs(5);
    let response = client.post(&Post { url, headers: &headers, body, deadline }).await?;
    Ok(response.status.as_u16())
}

#[tokio::test]
async fn nobody_else_sees_a_confidential_request() {
    let other = serve(|_| ok("")).await;
    let to = format!("http://localhost:{}/", other.address.port());
    let server = serve(move |request| match request.uri.path() {
        "/moved" => answer(308, &[("location", "/here?a=1")], ""),
        "/away" => answer(307, &[("location", &to)], ""),
        _ => ok(""),
    })
    .await;
    let config = HttpClientConfig::default();
    let client = Client::confidential(&config, &ClientOptions::operator()).expect("usable options");
    assert_eq!(post(&client, &server.url("/moved")).await, Ok(200));
    let here = server.requests().pop().expect("a request");
    assert_eq!((here.uri.to_string().as_str(), &here.body[..]), ("/here?a=1", &b"secret"[..]));
    let error = post(&client, &server.url("/away")).await.expect_err("another host");
    assert!(
        error.to_string().contains("redirects to another host or port, \"localhost:"),
        "{error}"
    );
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn options_are_checked_without_files() {
    let tls = TlsConfig { ca: Some("nonsense".to_owned()), ..TlsConfig::default() };
    let config = HttpClientConfig { tls: tls.clone(), ..HttpClientConfig::default() };
    let options = ClientOptions::operator();
    let error = Client::confidential(&config, &options).expect_err("no authority");
    assert!(matches!(error, ClientError::Config(_)), "{error}");
    assert!(Dialer::new(&tls, &options).is_err());
    let absent = TlsConfig { ca_file: Some("/nowhere/ca.pem".into()), ..TlsConfig::default() };
    let config = HttpClientConfig { tls: absent, ..HttpClientConfig::default() };
    assert!(Client::confidential(&config, &options).is_ok());
}

#[tokio::test]
async fn a_dialer_asks_where_it_may_connect() {
    let server = serve(|_| ok("")).await;
    let refusing = ClientOptions {
        addresses: Arc::new(|_| Err("not there".to_owned())),
        ..ClientOptions::operator()
    };
    let port = server.address.port();
    let dialer = Dialer::new(&TlsConfig::default(), &refusing).expect("usable settings");
    let error = dialer.connect("127.0.0.1", port).await.expect_err("refused");
    assert!(matches!(error, ClientError::RefusedAddress(_)), "{error}");
    let dialer = Dialer::new(&TlsConfig::default(), &ClientOptions::operator()).expect("settings");
    assert!(dialer.connect("localhost", port).await.is_ok());
}
