//! How a new host gets its certificate, and a known one its next: the broker's side.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::extract::ConnectInfo;
use tonic::{Request, Response, Status};

use crate::audit;
use crate::auth::{JoinError, JoinToken, JoinTokens, StoreError, Throttle};
use crate::authority::{Authority, IssuedClient, Role, check_name};
use crate::peers::{PeerIdentity, PeerRefusal, Peers};
use crate::rpc::{EnrollRequest, EnrollResponse, RenewRequest};
use crate::tls::TlsError;

/// A PKCS #10 request for a P-256 key has some 250 bytes, one for RSA 4096 below 2 KiB.
const MAX_REQUEST_BYTES: usize = 4 << 10;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
enum EnrollError {
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    Peer(#[from] PeerRefusal),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("{0}")]
    Malformed(String),
}

impl From<EnrollError> for Status {
    fn from(error: EnrollError) -> Status {
        let message = error.to_string();
        match error {
            EnrollError::Join(JoinError::Store(_)) | EnrollError::Peer(PeerRefusal::Store(_)) => {
                Status::unavailable(message)
            }
            EnrollError::Join(JoinError::Unknown) => Status::unauthenticated(message),
            EnrollError::Join(JoinError::OtherRole(..)) => Status::permission_denied(message),
            EnrollError::Peer(PeerRefusal::NamesTaken(_)) => Status::already_exists(message),
            EnrollError::Peer(_) => Status::unauthenticated(message),
            EnrollError::Join(_) | EnrollError::Tls(_) | EnrollError::Malformed(_) => {
                Status::invalid_argument(message)
            }
        }
    }
}

/// Issues certificates for join tokens and for certificates that end. A broker's `Enroll` and
/// `Renew` call it and nothing else.
#[derive(Debug, Clone)]
pub struct Enrollment {
    tokens: JoinTokens,
    authority: Arc<Authority>,
    peers: Arc<Peers>,
    /// How many lines strangers may write into the audit log.
    refusals: Arc<Throttle>,
}

impl Enrollment {
    /// For `authority`, with its join tokens and the list of who has joined.
    pub fn new(tokens: JoinTokens, authority: Arc<Authority>, peers: Arc<Peers>) -> Self {
        Enrollment { tokens, authority, peers, refusals: Arc::default() }
    }

    /// The rpc `Enroll`: a certificate for whoever has a join token. The name is as asked, or with
    /// a number behind it when another host has it.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for a token that does not count, `INVALID_ARGUMENT` for a malformed
    /// request, `UNAVAILABLE` when nothing can be stored.
    pub async fn enroll(
        &self,
        request: Request<EnrollRequest>,
    ) -> Result<Response<EnrollResponse>, Status> {
        let address = peer_address(&request);
        let this = self.clone();
        blocking(move || {
            let request = request.into_inner();
            let result = this.enroll_blocking(&request, SystemTime::now());
            match &result {
                Ok((name, by, _)) => audit::joined(name, &request.role, by, address),
                Err(error) if this.refusals.may_tell(address.ip(), Instant::now()) => {
                    audit::join_refused(&request.name, address, error);
                }
                Err(_) => {}
            }
            let (name, _, issued) = result?;
            let mut answer = this.answer(name, &issued);
            // Its token said so.
            if request.role.parse() == Ok(Role::Broker) {
                answer.get_mut().ca_key_pem = this.authority.key_pem();
            }
            Ok(answer)
        })
        .await
    }

    /// The rpc `Renew`: the next certificate for the owner of the one that the connection shows.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` without a certificate in force, `INVALID_ARGUMENT` for a malformed
    /// request, `UNAVAILABLE` when nothing can be stored.
    pub async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<EnrollResponse>, Status> {
        let peer = request.extensions().get::<PeerIdentity>().cloned();
        let peer = peer.ok_or_else(|| Status::unauthenticated("Renew needs a certificate"))?;
        let address = peer_address(&request);
        let this = self.clone();
        blocking(move || {
            let request = request.into_inner();
            let now = SystemTime::now();
            check_size(&request.csr_der)?;
            let issued = this
                .authority
                .issue_client(&request.csr_der, &peer.name, peer.role, now)
                .map_err(EnrollError::from)?;
            this.peers.renew(&peer, &issued, now).map_err(EnrollError::from)?;
            audit::renewed(&peer.name, peer.role, address);
            Ok(this.answer(peer.name.to_string(), &issued))
        })
        .await
    }

    fn enroll_blocking(
        &self,
        request: &EnrollRequest,
        now: SystemTime,
    ) -> Result<(String, String, IssuedClient), EnrollError> {
        let token: JoinToken = request.token.parse()?;
        let role: Role = request.role.parse().map_err(EnrollError::Malformed)?;
        // Everything that can be wrong is looked at before the token is used up.
        self.tokens.check(&token, role, now)?;
        check_name(&request.name)?;
        check_size(&request.csr_der)?;
        let issue = |name: &str| -> Result<_, EnrollError> {
            Ok(self.authority.issue_client(&request.csr_der, name, role, now)?)
        };
        issue(&request.name)?;
        let pending = self.tokens.redeem(&token, role, now)?;
        let (name, issued) = self.peers.add(&request.name, role, now, issue)?;
        Ok((name, format!("join token {} of {}", pending.id, pending.created_by), issued))
    }

    fn answer(&self, name: String, issued: &IssuedClient) -> Response<EnrollResponse> {
        Response::new(EnrollResponse {
            certificate_der: issued.certificate.to_vec().into(),
            ca_certificate_der: self.authority.certificate().to_vec().into(),
            name,
            expires_ms: issued.expires_ms,
            ca_key_pem: String::new(),
        })
    }
}

fn check_size(request: &[u8]) -> Result<(), EnrollError> {
    if request.len() <= MAX_REQUEST_BYTES {
        return Ok(());
    }
    Err(EnrollError::Malformed(format!(
        "the certificate request has {} bytes, the limit is {MAX_REQUEST_BYTES}",
        request.len()
    )))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => {
            let stopping = StoreError::Unavailable("the broker is stopping".to_owned());
            Err(Status::unavailable(stopping.to_string()))
        }
    }
}

/// Of the connection; unknown only where a test calls without one.
fn peer_address<T>(request: &Request<T>) -> SocketAddr {
    let unknown = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    request.extensions().get::<ConnectInfo<SocketAddr>>().map_or(unknown, |info| info.0)
}
