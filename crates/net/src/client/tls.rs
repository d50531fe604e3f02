//! TLS of the client: authorities, own certificate, versions; files are watched.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use settings::prometheus::{TlsConfig, TlsVersion};

use super::error::ClientError;
use super::self_signed::TrustingSelfSigned;
use super::watched::WatchedFile;

/// What a connector needs to encrypt.
pub(super) struct TlsSetup {
    /// Towards servers.
    pub(super) config: Arc<ClientConfig>,
    /// Towards proxies that want TLS themselves; they speak HTTP/1.1.
    pub(super) proxy_config: Arc<ClientConfig>,
    /// The name to expect instead of the URL's host.
    pub(super) server_name: Option<String>,
}

/// The settings of one client and the files behind them.
pub(super) struct TlsSource {
    config: TlsConfig,
    enable_http2: bool,
    files: [Option<WatchedFile>; 3],
    current: Mutex<Option<(Pems, Arc<TlsSetup>)>>,
    /// Why new files are of no use, and for how many requests: told when it begins and when it ends.
    unusable: Mutex<Option<(String, u64)>>,
}

/// Authorities, certificate and key, from wherever they come.
#[derive(Clone, PartialEq)]
struct Pems([Option<Arc<str>>; 3]);

impl TlsSource {
    pub(super) fn new(config: &TlsConfig, enable_http2: bool) -> Self {
        let files = [&config.ca_file, &config.cert_file, &config.key_file]
            .map(|path| path.clone().map(WatchedFile::new));
        TlsSource {
            config: config.clone(),
            enable_http2,
            files,
            current: Mutex::default(),
            unusable: Mutex::default(),
        }
    }

    /// Whether what stands in the configuration itself can be used. Files are not looked at.
    ///
    /// # Errors
    /// [`ClientError::Config`].
    pub(super) fn check(&self) -> Result<(), ClientError> {
        if self.files.iter().any(Option::is_some) {
            return self.versions().map(drop);
        }
        let key = self.config.key.as_ref().map(|key| key.reveal());
        let inline = [self.config.ca.as_deref(), self.config.cert.as_deref(), key];
        self.build(&Pems(inline.map(|pem| pem.map(Arc::from)))).map(drop)
    }

    /// The setup by the files as they are now; the same `Arc` as long as nothing changed.
    ///
    /// Files that turn bad later do not end what works: certificate and key cannot be exchanged
    /// in one step, and between the two they do not fit each other.
    ///
    /// # Errors
    /// When no setup could be made yet: `Credentials` because of a file, otherwise `Config`.
    pub(super) async fn setup(&self) -> Result<Arc<TlsSetup>, ClientError> {
        let known = self.current.lock().clone();
        let built = match (self.pems().await, &known) {
            (Ok(pems), Some((before, setup))) if *before == pems => {
                self.note_usable();
                return Ok(Arc::clone(setup));
            }
            (Ok(pems), _) => self.build(&pems).map(|setup| (pems, Arc::new(setup))),
            (Err(error), _) => Err(error),
        };
        match (built, known) {
            (Ok((pems, setup)), _) => {
                *self.current.lock() = Some((pems, Arc::clone(&setup)));
                self.note_usable();
                Ok(setup)
            }
            (Err(error), Some((_, setup))) => {
                self.note_unusable(&error.to_string());
                Ok(setup)
            }
            (Err(error), None) => Err(error),
        }
    }

    fn note_unusable(&self, reason: &str) {
        let mut unusable = self.unusable.lock();
        match &mut *unusable {
            Some((known, requests)) if known == reason => *requests += 1,
            other => {
                let requests = other.as_ref().map_or(0, |(_, requests)| *requests);
                *other = Some((reason.to_owned(), requests + 1));
                let error = reason;
                tracing::warn!(error, "new TLS files are of no use; going on with the old ones");
            }
        }
    }

    fn note_usable(&self) {
        if let Some((_, requests)) = self.unusable.lock().take() {
            tracing::info!(
                requests,
                "TLS files are of use again; so many requests had the old ones"
            );
        }
    }

    async fn pems(&self) -> Result<Pems, ClientError> {
        let key = self.config.key.as_ref().map(|key| key.reveal());
        let inline = [self.config.ca.as_deref(), self.config.cert.as_deref(), key];
        let mut pems = Pems([None, None, None]);
        for ((pem, file), inline) in pems.0.iter_mut().zip(&self.files).zip(inline) {
            *pem =
                match file {
                    Some(file) => Some(file.text().await.map_err(|error| {
                        ClientError::Credentials(format!("tls_config: {error}"))
                    })?),
                    None => inline.map(Arc::from),
                };
        }
        Ok(pems)
    }

    fn build(&self, Pems([ca, cert, key]): &Pems) -> Result<TlsSetup, ClientError> {
        let provider = Arc::new(ring::default_provider());
        let versions = self.versions()?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(|error| ClientError::Config(format!("tls_config: {error}")))?;
        let builder = if self.config.insecure_skip_verify {
            let unseen = Arc::new(TakenUnseen(provider));
            builder.dangerous().with_custom_certificate_verifier(unseen)
        } else if let Some(ca) = ca {
            let verifier = self.authorities(ca, provider)?;
            builder.dangerous().with_custom_certificate_verifier(verifier)
        } else {
            builder.with_root_certificates(system_authorities())
        };
        let mut config = match (cert, key) {
            (Some(cert), Some(key)) => {
                let chain = certificates(cert).map_err(|reason| self.unusable("cert", &reason))?;
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                    .map_err(|error| self.unusable("key", &error.to_string()))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| self.unusable("cert", &error.to_string()))?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let proxy_config = Arc::new(config.clone());
        if self.enable_http2 {
            config.alpn_protocols.insert(0, b"h2".to_vec());
        }
        Ok(TlsSetup {
            config: Arc::new(config),
            proxy_config,
            server_name: self.config.server_name.clone().filter(|name| !name.is_empty()),
        })
    }

    fn authorities(
        &self,
        pem: &str,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<TrustingSelfSigned>, ClientError> {
        let trusted = certificates(pem).map_err(|reason| self.unusable("ca", &reason))?;
        let mut roots = RootCertStore::empty();
        for certificate in &trusted {
            roots
                .add(certificate.clone())
                .map_err(|error| self.unusable("ca", &error.to_string()))?;
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| self.unusable("ca", &error.to_string()))?;
        Ok(Arc::new(TrustingSelfSigned::new(verifier, trusted)))
    }

    /// The versions to offer, by `min_version` and `max_version`.
    fn versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>, ClientError> {
        let least = self.config.min_version.unwrap_or(TlsVersion::Tls12);
        let most = self.config.max_version.unwrap_or(TlsVersion::Tls13);
        let versions: Vec<_> = [(TlsVersion::Tls13, &TLS13), (TlsVersion::Tls12, &TLS12)]
            .into_iter()
            .filter(|(version, _)| *version >= least && *version <= most)
            .map(|(_, version)| version)
            .collect();
        if versions.is_empty() {
            return Err(ClientError::Config(
                "tls_config leaves no version to speak; TLS 1.2 and 1.3 are supported, so raise \
                 `max_version` or lower `min_version`"
                    .to_owned(),
            ));
        }
        Ok(versions)
    }

    /// Names the key of the configuration and, if there is one, the file behind it.
    fn unusable(&self, key: &str, reason: &str) -> ClientError {
        let index = match key {
            "ca" => 0,
            "cert" => 1,
            _ => 2,
        };
        match &self.files[index] {
            Some(file) => ClientError::Credentials(format!(
                "tls_config: {key}_file {} cannot be used: {reason}",
                file.path().display()
            )),
            None => ClientError::Config(format!("tls_config: {key} cannot be used: {reason}")),
        }
    }
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    if found.is_empty() {
        return Err("there is no PEM block `CERTIFICATE` in it".to_owned());
    }
    Ok(found)
}

/// The authorities this system trusts, read once. May be empty, and then nothing is trusted.
fn system_authorities() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    Arc::clone(ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::debug!(%error, "an authority of the system cannot be read");
        }
        // Systems ship certificates that no longer follow the rules; the others still count.
        roots.add_parsable_certificates(found.certs);
        Arc::new(roots)
    }))
}

/// `insecure_skip_verify`: any certificate, but the peer must own its key.
#[derive(Debug)]
struct TakenUnseen(Arc<CryptoProvider>);

impl ServerCertVerifier for TakenUnseen {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
