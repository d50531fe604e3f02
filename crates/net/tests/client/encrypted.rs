//! TLS: whom the client trusts, whom it shows itself to, which HTTP it then speaks.

use std::sync::Arc;
use std::time::Duration;

use http::{Uri, Version};
use net::client::{Client, ClientOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use settings::Secret;
use settings::prometheus::{HttpClientConfig, TlsConfig, TlsVersion};
use tokio_rustls::TlsAcceptor;

use crate::server::{Server, get, ok, open, serve_with};

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed")
}

/// A certificate for `name` and its key, both PEM.
fn leaf(authority: &CertifiedIssuer<'static, KeyPair>, name: &str) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, authority).expect("signed");
    (certificate.pem(), key.serialize_pem())
}

/// What `openssl req -x509` makes: its own authority.
fn self_signed(name: &str, not_after: (i32, u8, u8)) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_after = rcgen::date_time_ymd(not_after.0, not_after.1, not_after.2);
    (params.self_signed(&key).expect("signed").pem(), key.serialize_pem())
}

fn acceptor((cert, key): &(String, String), clients: Option<&str>) -> TlsAcceptor {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            let ca = CertificateDer::from_pem_slice(authority.as_bytes()).expect("PEM");
            roots.add(ca).expect("an authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .expect("a verifier");
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).expect("PEM")];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
    let mut config = builder.with_single_cert(chain, key).expect("a certificate");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

fn https(server: &Server, host: &str) -> Uri {
    format!("https://{host}:{}/", server.address.port()).parse().expect("a URL")
}

fn with_tls(tls: TlsConfig) -> HttpClientConfig {
    HttpClientConfig { tls, ..HttpClientConfig::default() }
}

#[tokio::test]
async fn a_given_authority_is_trusted_and_no_other() {
    let authority = authority();
    let server =
        serve_with(|_| ok("in"), Some(acceptor(&leaf(&authority, "localhost"), None))).await;
    let trusting = TlsConfig { ca: Some(authority.pem()), ..TlsConfig::default() };
    let client = open(&with_tls(trusting.clone())).await;
    assert_eq!(get(&client, &https(&server, "localhost")).await, Ok((200, "in".to_owned())));
    let error = get(&client, &https(&server, "127.0.0.1")).await.expect_err("another name");
    assert!(error.to_string().contains("not valid for name"), "{error}");
    let named = TlsConfig { server_name: Some("localhost".to_owned()), ..trusting };
    let client = open(&with_tls(named)).await;
    assert!(get(&client, &https(&server, "127.0.0.1")).await.is_ok());
    let client = open(&HttpClientConfig::default()).await;
    let error = get(&client, &https(&server, "localhost")).await.expect_err("unknown authority");
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    let unseen = TlsConfig { insecure_skip_verify: true, ..TlsConfig::default() };
    assert!(get(&open(&with_tls(unseen)).await, &https(&server, "localhost")).await.is_ok());
}

#[tokio::test]
async fn a_certificate_that_is_its_own_authority_is_trusted_by_name_and_time() {
    let good = self_signed("localhost", (2100, 1, 1));
    let server = serve_with(|_| ok("in"), Some(acceptor(&good, None))).await;
    let client =
        open(&with_tls(TlsConfig { ca: Some(good.0.clone()), ..TlsConfig::default() })).await;
    assert_eq!(get(&client, &https(&server, "localhost")).await, Ok((200, "in".to_owned())));
    let error = get(&client, &https(&server, "127.0.0.1")).await.expect_err("another name");
    assert!(error.to_string().contains("not valid for name"), "{error}");
    let old = self_signed("localhost", (2001, 1, 1));
    let server = serve_with(|_| ok("in"), Some(acceptor(&old, None))).await;
    let client =
        open(&with_tls(TlsConfig { ca: Some(old.0.clone()), ..TlsConfig::default() })).await;
    let error = get(&client, &https(&server, "localhost")).await.expect_err("expired");
    assert!(error.to_string().to_lowercase().contains("expired"), "{error}");
}

#[tokio::test]
async fn http2_is_spoken_where_both_want_it() {
    let authority = authority();
    let server = serve_with(|_| ok(""), Some(acceptor(&leaf(&authority, "localhost"), None))).await;
    let mut config = with_tls(TlsConfig { ca: Some(authority.pem()), ..TlsConfig::default() });
    for enable in [true, false] {
        config.enable_http2 = enable;
        let client = open(&config).await;
        for _ in 0..2 {
            get(&client, &https(&server, "localhost")).await.expect("an answer");
        }
    }
    let versions: Vec<Version> = server.requests().iter().map(|seen| seen.version).collect();
    let expected = [Version::HTTP_2, Version::HTTP_2, Version::HTTP_11, Version::HTTP_11];
    assert_eq!(versions, expected);
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn files_of_tls_are_watched() {
    let (first, second) = (authority(), authority());
    let clients = authority();
    let server_acceptor = acceptor(&leaf(&second, "localhost"), Some(&clients.pem()));
    let server = serve_with(|_| ok("in"), Some(server_acceptor)).await;
    let folder = tempfile::tempdir().expect("a directory");
    let path = |name: &str| folder.path().join(name);
    let (cert, key) = leaf(&clients, "me");
    for (name, text) in [("ca", first.pem()), ("cert", cert), ("key", key)] {
        std::fs::write(path(name), text).expect("written");
    }
    let client = open(&with_tls(TlsConfig {
        ca_file: Some(path("ca")),
        cert_file: Some(path("cert")),
        key_file: Some(path("key")),
        ..TlsConfig::default()
    }))
    .await;
    let url = https(&server, "localhost");
    assert!(get(&client, &url).await.is_err(), "the wrong authority");
    std::fs::write(path("ca"), second.pem()).expect("written");
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    assert_eq!(get(&client, &url).await, Ok((200, "in".to_owned())));
    std::fs::write(path("ca"), "half a file").expect("written");
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    assert_eq!(get(&client, &url).await, Ok((200, "in".to_owned())), "the old one stays");
}

/// Prometheus starts without the file as well, and complains of that job alone.
#[tokio::test]
async fn a_file_of_tls_may_come_later() {
    let authority = authority();
    let server_acceptor = acceptor(&leaf(&authority, "localhost"), None);
    let server = serve_with(|_| ok("in"), Some(server_acceptor)).await;
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("ca");
    let config = with_tls(TlsConfig { ca_file: Some(path.clone()), ..TlsConfig::default() });
    let client = open(&config).await;
    let url = https(&server, "localhost");
    let error = get(&client, &url).await.expect_err("no file").to_string();
    assert!(error.contains(&path.display().to_string()), "{error}");
    std::fs::write(&path, "half a file").expect("written");
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    let error = get(&client, &url).await.expect_err("no certificate").to_string();
    assert!(error.contains("ca_file") && error.contains("cannot be used"), "{error}");
    std::fs::write(&path, authority.pem()).expect("written");
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    assert_eq!(get(&client, &url).await, Ok((200, "in".to_owned())));
}

#[tokio::test]
async fn what_can_never_work_is_refused() {
    let options = ClientOptions::operator();
    for (tls, word) in [
        (TlsConfig { max_version: Some(TlsVersion::Tls11), ..TlsConfig::default() }, "version"),
        (TlsConfig { ca: Some("no PEM".to_owned()), ..TlsConfig::default() }, "ca cannot be used"),
        (
            TlsConfig {
                cert: Some(authority().pem()),
                key: Some(Secret::new("canary")),
                ..TlsConfig::default()
            },
            "key cannot be used",
        ),
    ] {
        let error = Client::open(&with_tls(tls), &options).await.expect_err("refused").to_string();
        assert!(error.contains(word) && !error.contains("canary"), "{error}");
    }
    let old = TlsConfig { min_version: Some(TlsVersion::Tls10), ..TlsConfig::default() };
    assert!(Client::open(&with_tls(old), &options).await.is_ok());
}

#[tokio::test]
async fn an_encrypted_server_behind_a_proxy_gets_its_own_handshake() {
    let authority = authority();
    let server =
        serve_with(|_| ok("in"), Some(acceptor(&leaf(&authority, "localhost"), None))).await;
    let proxy = crate::proxied::tunnelling_proxy(server.address).await;
    let mut config = with_tls(TlsConfig { ca: Some(authority.pem()), ..TlsConfig::default() });
    config.proxy = crate::proxied::through(&format!("http://me:pw@{}", proxy.address));
    config.proxy.proxy_connect_header = vec![("X-Through".to_owned(), vec![Secret::new("here")])];
    let client = open(&config).await;
    assert_eq!(get(&client, &https(&server, "localhost")).await, Ok((200, "in".to_owned())));
    let head = proxy.heads.lock().expect("no panic").pop().expect("a tunnel");
    let port = server.address.port();
    assert!(head.starts_with(&format!("CONNECT localhost:{port} HTTP/1.1\r\n")), "{head}");
    assert!(head.contains("x-through: here\r\n"), "{head}");
    assert!(head.contains("proxy-authorization: Basic bWU6cHc=\r\n"), "{head}");
    assert_eq!(server.requests()[0].header("proxy-authorization"), None);
}
