//! The certificate by which an agent, console or broker is known to others: how it gets one, keeps it, and gets the next.

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
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::auth::{JoinError, JoinToken};
use crate::authority::{Authority, CA_FILE, CLIENT_LIFE, IssuedClient, Role, certificate_pem};
use crate::channel::{NotAPeerPort, channel, status_words};
use crate::peers::{PeerIdentity, PeerRefusal, Peers};
use crate::rpc::ingest_client::IngestClient;
use crate::rpc::{EnrollRequest, EnrollResponse, RenewRequest};
use crate::tls::{
    ClientTls, Fingerprint, MAX_CERTIFICATE_BYTES, TlsError, create_private_directory, provider,
    read_limited, unix_ms, write_private,
};

/// A line with the digest of the token, key, certificate and authority, in this order, in one file:
/// it is replaced as a whole.
const FILE: &str = "identity.pem";
/// Readers of PEM skip what stands before the first block.
const TOKEN_LINE: &str = "Join-Token-SHA256: ";
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
    /// The certificate is of no use any more, and there is no token to get another with.
    #[error(
        "the certificate of this host has ended or is for another role: run `watchfire token \
         create --role {0}` on the broker's host and start this with the command it prints"
    )]
    Ended(Role),
    /// The list of those that have joined.
    #[error(transparent)]
    Peer(#[from] PeerRefusal),
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
    /// Digest of the token it joined with.
    joined_with: String,
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
    /// The token may stay on the command line: one that was used before is not looked at again,
    /// and nothing is asked, so that a host starts also while the broker is away. With a new one
    /// the broker is asked whether it still takes the certificate, and only if not, the host joins
    /// again.
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
        let token = token.map(str::parse::<JoinToken>).transpose()?;
        let identity = Self::load(&path)?.map(Arc::new);
        let token = match (&identity, token) {
            (None, None) => return Err(IdentityError::NotJoined(role)),
            (Some(identity), token) if identity.is_in_force(role) => match token {
                Some(token) if !identity.is_accepted(target, &token).await => token,
                _ => return Ok(Arc::clone(identity)),
            },
            (Some(_), None) => return Err(IdentityError::Ended(role)),
            (_, Some(token)) => token,
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
        if role == Role::Broker {
            let authority = CertificateDer::from(answer.ca_certificate_der.to_vec());
            Authority::adopt(directory, &authority, &answer.ca_key_pem)?;
        }
        store(&path, &token.digest(), &key, &answer)?;
        tracing::info!(name = answer.name, %role, broker = target, "joined");
        let identity = Self::load(&path)?;
        let identity = identity.ok_or_else(|| invalid(&path, &"it is gone"))?;
        Ok(Arc::new(identity))
    }

    /// Whether to go on with this certificate although there is `token`: it came with that very
    /// token, or the broker still takes it, or cannot be asked now. Not if the token leads to
    /// another installation.
    async fn is_accepted(self: &Arc<Self>, target: &str, token: &JoinToken) -> bool {
        if self.joined_with == token.digest() {
            return true;
        }
        if Fingerprint::of_certificate(&self.authority).ok() != Some(token.authority()) {
            return false;
        }
        let Ok(channel) = self.tls().and_then(|tls| channel(target, &tls)) else { return true };
        match self.ask_next(channel).await {
            Ok((key, answer)) => {
                if let Err(error) = self.take(&key, &answer) {
                    tracing::warn!(%error, "the renewed certificate is not kept");
                }
                true
            }
            Err(status) => status.code() != Code::Unauthenticated,
        }
    }

    /// The certificate of a broker that has the authority itself: the one in `directory` if it is in force,
    /// else a new one, which is put on the list of those that have joined. Blocks until that is durable.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn issue_own(
        directory: &Path,
        name: &str,
        authority: &Authority,
        peers: &Peers,
        now: SystemTime,
    ) -> Result<Arc<Identity>, IdentityError> {
        let path = directory.join(FILE);
        if let Some(identity) = Self::of_authority(&path, authority)? {
            return Ok(identity);
        }
        let (key, csr_der) = request()?;
        let issue = |name: &str| -> Result<_, IdentityError> {
            Ok(authority.issue_client(&csr_der, name, Role::Broker, now)?)
        };
        let (name, issued) = peers.add(name, Role::Broker, now, issue)?;
        store(&path, "", &key, &own_answer(authority, name, issued))?;
        let identity = Self::load(&path)?;
        Ok(Arc::new(identity.ok_or_else(|| invalid(&path, &"it is gone"))?))
    }

    /// As [`Identity::issue_own`], for a broker that cannot reach the list because that lies with the
    /// others: a certificate that has ended is replaced by one that is on no list. Brokers of a cluster
    /// know one another by their certificates alone ([`Peers::trust_brokers`]).
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn issue_unlisted(
        directory: &Path,
        name: &str,
        authority: &Authority,
        now: SystemTime,
    ) -> Result<Arc<Identity>, IdentityError> {
        let path = directory.join(FILE);
        if let Some(identity) = Self::of_authority(&path, authority)? {
            return Ok(identity);
        }
        // So it is when all brokers get a new authority, and when somebody put another one there.
        if Self::load(&path)?.is_some_and(|known| known.authority != *authority.certificate()) {
            tracing::warn!(
                "{} is not the authority that this broker's certificate is of: the others know it by one of \
                 the new authority only when they have that too. If nobody meant to replace it, stop this \
                 broker and copy ca.pem and ca-key.pem from the data directory of another one",
                authority.directory().join(CA_FILE).display()
            );
        }
        let (key, csr_der) = request()?;
        let issued = authority.issue_client(&csr_der, name, Role::Broker, now)?;
        store(&path, "", &key, &own_answer(authority, name.to_owned(), issued))?;
        let identity = Self::load(&path)?;
        Ok(Arc::new(identity.ok_or_else(|| invalid(&path, &"it is gone"))?))
    }

    /// Replaces the certificate of a broker that has the authority itself before it ends, for ever; spawn
    /// it beside the work. The next one goes on the list where that can be written.
    pub async fn keep_issuing(self: Arc<Self>, authority: Arc<Authority>, peers: Arc<Peers>) {
        loop {
            let now = SystemTime::now();
            let left_ms = self.expires_ms() - unix_ms(now);
            if u128::try_from(left_ms).unwrap_or(0) < CLIENT_LIFE.as_millis() / 3 {
                let (own, authority, peers) =
                    (Arc::clone(&self), Arc::clone(&authority), Arc::clone(&peers));
                let issued = move || own.issue_next(&authority, &peers, now);
                match tokio::task::spawn_blocking(issued).await {
                    Ok(Ok(())) => tracing::info!(name = %self.name(), "the certificate is renewed"),
                    Ok(Err(error)) => {
                        let hours_left = left_ms / 3_600_000;
                        tracing::warn!(%error, hours_left, "the certificate is not renewed yet");
                    }
                    // The process ends.
                    Err(_) => return,
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn issue_next(
        &self,
        authority: &Authority,
        peers: &Peers,
        now: SystemTime,
    ) -> Result<(), IdentityError> {
        let name = self.name();
        let (key, csr_der) = request()?;
        let issued = authority.issue_client(&csr_der, &name, Role::Broker, now)?;
        peers.note(&name, Role::Broker, &issued, now)?;
        Ok(self.take(&key, &own_answer(authority, name.to_string(), issued))?)
    }

    /// The broker's certificate of this authority that is there and in force.
    fn of_authority(path: &Path, authority: &Authority) -> Result<Option<Arc<Identity>>, TlsError> {
        let identity = Self::load(path)?.filter(|identity| {
            identity.is_in_force(Role::Broker) && identity.authority == *authority.certificate()
        });
        Ok(identity.map(Arc::new))
    }

    /// The certificate in `directory`, whether in force or not; `None` if there is none.
    ///
    /// # Errors
    /// The file cannot be read or used.
    pub fn open(directory: &Path) -> Result<Option<Arc<Identity>>, TlsError> {
        Ok(Self::load(&directory.join(FILE))?.map(Arc::new))
    }

    fn load(path: &Path) -> Result<Option<Identity>, TlsError> {
        let Some(pem) = read_limited(path, MAX_CERTIFICATE_BYTES)? else { return Ok(None) };
        let (authority, current) = parse(path, &pem)?;
        let joined_with = std::str::from_utf8(&pem).ok().and_then(|text| {
            text.lines().find_map(|line| line.strip_prefix(TOKEN_LINE)).map(str::to_owned)
        });
        let (path, joined_with) = (path.to_owned(), joined_with.unwrap_or_default());
        let current = ArcSwap::from_pointee(current);
        Ok(Some(Identity { path, joined_with, authority, current }))
    }

    fn is_in_force(&self, role: Role) -> bool {
        let peer = &self.current.load().peer;
        peer.role == role && peer.expires_ms > unix_ms(SystemTime::now())
    }

    /// The name in the certificate: the one asked for, perhaps with a number behind it.
    pub fn name(&self) -> Arc<str> {
        Arc::clone(&self.current.load().peer.name)
    }

    /// What the newest certificate says.
    pub fn peer(&self) -> PeerIdentity {
        self.current.load().peer.clone()
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
        let answer = self.ask_next(channel).await;
        let (key, answer) = answer.map_err(|status| refused(target, &status))?;
        Ok(self.take(&key, &answer)?)
    }

    async fn ask_next(&self, channel: Channel) -> Result<(KeyPair, EnrollResponse), Status> {
        let (key, csr_der) = request().map_err(|error| Status::internal(error.to_string()))?;
        let mut request = tonic::Request::new(RenewRequest { csr_der: csr_der.into() });
        request.set_timeout(CALL_TIMEOUT);
        let answer = IngestClient::new(channel).renew(request).await?;
        Ok((key, answer.into_inner()))
    }

    fn take(&self, key: &KeyPair, answer: &EnrollResponse) -> Result<(), TlsError> {
        let pem = store(&self.path, &self.joined_with, key, answer)?;
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

/// What a broker with the authority's key gives itself.
fn own_answer(authority: &Authority, name: String, issued: IssuedClient) -> EnrollResponse {
    EnrollResponse {
        certificate_der: issued.certificate.to_vec().into(),
        ca_certificate_der: authority.certificate().to_vec().into(),
        name,
        expires_ms: issued.expires_ms,
        ca_key_pem: String::new(),
    }
}

/// Writes what the broker gave, and yields what was written.
fn store(
    path: &Path,
    joined_with: &str,
    key: &KeyPair,
    answer: &EnrollResponse,
) -> Result<String, TlsError> {
    let pem = format!(
        "{TOKEN_LINE}{joined_with}\n{}{}{}",
        key.serialize_pem(),
        certificate_pem(&answer.certificate_der),
        certificate_pem(&answer.ca_certificate_der)
    );
    // What cannot be read back must not replace what can.
    parse(path, pem.as_bytes())?;
    write_private(path, pem.as_bytes())?;
    Ok(pem)
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
    let message = match NotAPeerPort::answered(target, status) {
        Some(other) => other.to_string(),
        None => status_words(status),
    };
    IdentityError::Refused { target: target.to_owned(), message }
}
