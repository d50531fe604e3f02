//! Whom Watchfire's own processes trust when they connect to a broker.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{BROKER_NAME, Fingerprint, TlsError, provider};

/// TLS of a client that knows its server by the built-in authority, wherever the server is.
#[derive(Clone)]
pub struct ClientTls {
    pub(crate) config: Arc<ClientConfig>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ClientTls")
    }
}

impl ClientTls {
    /// For who has no certificate yet: trusts the server whose authority has this fingerprint,
    /// as a join token says it.
    ///
    /// # Errors
    /// The provider refuses, which it does not.
    pub fn pinning(authority: Fingerprint) -> Result<ClientTls, TlsError> {
        let config = PinnedVerifier::config(Pin::Authority(authority), &[&TLS13])?;
        Ok(ClientTls { config: Arc::new(with_h2(config)) })
    }

    /// For who has joined: trusts brokers of `authority` and shows what `own` yields at each new
    /// connection.
    pub(crate) fn joined(
        authority: &CertificateDer<'static>,
        own: Arc<dyn ResolvesClientCert>,
    ) -> Result<ClientTls, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone())?;
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_client_cert_resolver(own);
        Ok(ClientTls { config: Arc::new(with_h2(config)) })
    }

    /// For the command line on the server's own host: HTTP/1.1 to the server whose certificate, or
    /// whose authority, has this fingerprint.
    ///
    /// # Errors
    /// The provider refuses, which it does not.
    pub(crate) fn local(server: Fingerprint) -> Result<ClientTls, TlsError> {
        let config = PinnedVerifier::config(Pin::Server(server), &[&TLS13, &TLS12])?;
        Ok(ClientTls { config: Arc::new(config) })
    }

    /// The name to be verified in every broker's certificate.
    pub(crate) fn server_name() -> ServerName<'static> {
        ServerName::try_from(BROKER_NAME).expect("a constant host name")
    }
}

fn with_h2(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// What a fingerprint is of.
#[derive(Debug, Clone, Copy)]
enum Pin {
    /// The authority: the chain must contain it, and the server's certificate must be of it, in
    /// force, and for the right name.
    Authority(Fingerprint),
    /// The server's own key: the handshake proves that it has the key, so neither name nor issuer
    /// matter.
    Server(Fingerprint),
}

/// Verifies servers by a fingerprint instead of by a list of authorities.
#[derive(Debug)]
struct PinnedVerifier {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl PinnedVerifier {
    fn config(
        pin: Pin,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<ClientConfig, TlsError> {
        let verifier = Arc::new(PinnedVerifier { pin, provider: provider() });
        Ok(ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth())
    }
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let is = |certificate: &CertificateDer<'_>, pinned: Fingerprint| {
            Fingerprint::of_certificate(certificate).is_ok_and(|print| print == pinned)
        };
        let authority = match self.pin {
            Pin::Server(server) if is(end_entity, server) => {
                return Ok(ServerCertVerified::assertion());
            }
            Pin::Server(_) => {
                return Err(CertificateError::ApplicationVerificationFailure.into());
            }
            Pin::Authority(authority) => {
                intermediates.iter().find(|certificate| is(certificate, authority))
            }
        };
        let authority = authority.ok_or(CertificateError::UnknownIssuer)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let provider = Arc::clone(&self.provider);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
