//! The certificate of an agent or console: how it gets one, keeps it, and gets the next.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tonic::Status;
use tonic::transport::Channel;

use crate::auth::{JoinError, JoinToken};
use crate::authority::{CLIENT_LIFE, Role};
use crate::channel::channel;
use crate::peers::PeerIdentity;
use crate::rpc::ingest_client::IngestClient;
use crate::rpc::{EnrollRequest, EnrollResponse, RenewRequest};
use crate::tls::{
    ClientTls, MAX_CERTIFICATE_BYTES, TlsError, create_private_directory, provider, read_limited,
    unix_ms, write_private,
};

/// Key, certificate and authority, in this order, in one file: it is replaced as a whole.
const FILE: &str = "identity.pem";
/// How often it is looked whether the certificate has to be renewed.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);
/// For one call that asks for a certificate.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Files, keys or addresses.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The token is none.
    #[error(transparent)]
    Token(#[from] JoinError),
    /// There is neither a certificate nor a token to get one with.
    #[error(
        "this host has not joined yet: run `watchfire token create --role {0}` on the broker's \
         host and start this with the command it prints"
    )]
    NotJoined(Role),
    /// The broker could not be asked, or refused.
    #[error("the broker at {target} gave no certificate: {message}")]
    Refused {
        /// Who was asked.
        target: String,
        /// What it said, or why it could not be asked.
        message: String,
    },
}

/// This process's certificate, in use by every connection made with [`Identity::tls`].
pub struct Identity {
    path: PathBuf,
    authority: CertificateDer<'static>,
    current: ArcSwap<Current>,
}

struct Current {
    key: Arc<CertifiedKey>,
    peer: PeerIdentity,
}

/// Without the key.
impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = &self.current.load().peer;
        formatter.debug_struct("Identity").field("peer", peer).finish_non_exhaustive()
    }
}

impl Identity {
    /// The certificate in `directory` (usually `<data>/tls`) if it is in force; otherwise asks the
    /// broker at `target` (`HOST:PORT`) for one with `token`. The broker is known by the
    /// fingerprint in the token, so the first connection is as safe as every later one.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub async fn load_or_join(
        directory: &Path,
        target: &str,
        token: Option<&str>,
        name: &str,
        role: Role,
    ) -> Result<Arc<Identity>, IdentityError> {
        let path = directory.join(FILE);
        let token = match (Self::load(&path)?, token) {
            (Some(identity), _) if identity.is_in_force(role) => return Ok(Arc::new(identity)),
            (_, None) => return Err(IdentityError::NotJoined(role)),
            (_, Some(token)) => token.parse::<JoinToken>()?,
        };
        create_private_directory(directory)?;
        let channel = channel(target, &ClientTls::pinning(token.authority())?)?;
        let (key, csr_der) = request()?;
        let request = EnrollRequest {
            token: token.reveal(),
            name: name.to_owned(),
            csr_der: csr_der.into(),
            role: role.as_str().to_owned(),
        };
        let mut request = tonic::Request::new(request);
        request.set_timeout(CALL_TIMEOUT);
        let answer = IngestClient::new(channel).enroll(request).await;
        let answer = answer.map_err(|status| refused(target, &status))?.into_inner();
        store(&path, &key, &answer)?;
        tracing::info!(name = answer.name, %role, broker = target, "joined");
        let identity = Self::load(&path)?;
        let identity = identity.ok_or_else(|| invalid(&path, &"it is gone"))?;
        Ok(Arc::new(identity))
    }

    fn load(path: &Path) -> Result<Option<Identity>, TlsError> {
        let Some(pem) = read_limited(path, MAX_CERTIFICATE_BYTES)? else { return Ok(None) };
        let (authority, current) = parse(path, &pem)?;
        let path = path.to_owned();
        Ok(Some(Identity { path, authority, current: ArcSwap::from_pointee(current) }))
    }

    fn is_in_force(&self, role: Role) -> bool {
        let peer = &self.current.load().peer;
        peer.role == role && peer.expires_ms > unix_ms(SystemTime::now())
    }

    /// The name in the certificate: the one asked for, perhaps with a number behind it.
    pub fn name(&self) -> Arc<str> {
        Arc::clone(&self.current.load().peer.name)
    }

    /// When the certificate ends, milliseconds since the epoch.
    pub fn expires_ms(&self) -> i64 {
        self.current.load().peer.expires_ms
    }

    /// TLS that trusts this installation's brokers alone and shows the newest certificate at each
    /// new connection.
    ///
    /// # Errors
    /// The authority's certificate cannot be used.
    pub fn tls(self: &Arc<Self>) -> Result<ClientTls, TlsError> {
        let own: Arc<dyn ResolvesClientCert> = Arc::new(Shown(Arc::clone(self)));
        ClientTls::joined(&self.authority, own)
    }

    /// Renews the certificate over `channel` before it ends, for ever; spawn it beside the work.
    pub async fn keep_fresh(self: Arc<Self>, channel: Channel, target: String) {
        loop {
            let left_ms = self.expires_ms() - unix_ms(SystemTime::now());
            if u128::try_from(left_ms).unwrap_or(0) < CLIENT_LIFE.as_millis() / 3 {
                match self.renew(channel.clone(), &target).await {
                    Ok(()) => tracing::info!(name = %self.name(), "the certificate is renewed"),
                    Err(error) => {
                        let hours_left = left_ms / 3_600_000;
                        tracing::warn!(%error, hours_left, "the certificate is not renewed yet");
                    }
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Asks for the next certificate now, and uses it from the next connection on.
    ///
    /// # Errors
    /// The broker cannot be asked or refuses, or the file cannot be written; the certificate in
    /// use stays.
    pub async fn renew(&self, channel: Channel, target: &str) -> Result<(), IdentityError> {
        let (key, csr_der) = request()?;
        let mut request = tonic::Request::new(RenewRequest { csr_der: csr_der.into() });
        request.set_timeout(CALL_TIMEOUT);
        let answer = IngestClient::new(channel).renew(request).await;
        let answer = answer.map_err(|status| refused(target, &status))?.into_inner();
        let pem = store(&self.path, &key, &answer)?;
        let (_, current) = parse(&self.path, pem.as_bytes())?;
        self.current.store(Arc::new(current));
        Ok(())
    }
}

/// What connections ask for the certificate.
#[derive(Debug)]
struct Shown(Arc<Identity>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.current.load().key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A new key, and the request for a certificate. The broker decides what is in it.
fn request() -> Result<(KeyPair, Vec<u8>), TlsError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let request = CertificateParams::default().serialize_request(&key)?;
    Ok((key, request.der().to_vec()))
}

/// Writes what the broker gave, and yields what was written.
fn store(path: &Path, key: &KeyPair, answer: &EnrollResponse) -> Result<String, TlsError> {
    let pem = format!(
        "{}{}{}",
        key.serialize_pem(),
        certificate_pem(&answer.certificate_der),
        certificate_pem(&answer.ca_certificate_der)
    );
    // What cannot be read back must not replace what can.
    parse(path, pem.as_bytes())?;
    write_private(path, pem.as_bytes())?;
    Ok(pem)
}

/// RFC 7468: Base64 in lines of 64 characters.
fn certificate_pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().copied().map(char::from));
        pem.push('\n');
    }
    pem + "-----END CERTIFICATE-----\n"
}

fn parse(path: &Path, pem: &[u8]) -> Result<(CertificateDer<'static>, Current), TlsError> {
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| invalid(path, &error))?;
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(path, &error))?;
    let [own, authority] = &certificates[..] else {
        return Err(invalid(path, &"it must hold two certificates, its own and the authority's"));
    };
    let peer = PeerIdentity::of_certificate(own)
        .ok_or_else(|| invalid(path, &"its certificate names no role"))?;
    let key = CertifiedKey::from_der(vec![own.clone()], key, &provider())
        .map_err(|error| invalid(path, &error))?;
    Ok((authority.clone(), Current { key: Arc::new(key), peer }))
}

fn invalid(path: &Path, error: &dyn fmt::Display) -> TlsError {
    TlsError::Invalid(format!(
        "{} cannot be used: {error}; remove it and join again",
        path.display()
    ))
}

/// The status in words, with what the transport says below it.
fn refused(target: &str, status: &Status) -> IdentityError {
    let mut message = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = error.source();
    }
    IdentityError::Refused { target: target.to_owned(), message }
}
