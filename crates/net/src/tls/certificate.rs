//! The certificate a server shows, renewed while it runs.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    CertificateNames, Fingerprint, MAX_CERTIFICATE_BYTES, TlsError, from_unix_ms, provider,
    read_limited, write_private, write_public,
};
use crate::authority::{Authority, SERVER_LIFE};

/// How often it is looked whether the certificate has to be renewed or its files have changed.
const LOOK_EVERY: Duration = Duration::from_secs(60);

const CERTIFICATE_FILE: &str = "server.pem";
const KEY_FILE: &str = "server-key.pem";

/// Where a certificate comes from.
#[derive(Debug)]
enum Source {
    /// The built-in authority, for these names and whatever this host is called.
    Issued { authority: Arc<Authority>, configured: Vec<String> },
    /// Files of the operator.
    Files { certificate: PathBuf, key: PathBuf },
}

/// A server's certificate and key; give it to [`super::ServerTls`], to several if need be.
#[derive(Debug)]
pub struct ServerCertificate {
    source: Source,
    current: ArcSwap<Current>,
}

/// What is in use.
struct Current {
    key: Arc<CertifiedKey>,
    /// Of the file's bytes, to see whether files have changed.
    digest: [u8; 32],
    names: CertificateNames,
    expires: SystemTime,
}

/// Without the key.
impl std::fmt::Debug for Current {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Current")
            .field("names", &self.names)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl ServerCertificate {
    /// A certificate of the built-in authority for `configured` names and every name and address
    /// of this host. It is kept beside the authority's, so that a restart shows the same one; one
    /// that lacks a name or ends soon is replaced.
    ///
    /// # Errors
    /// The files cannot be read or written.
    pub fn issued(
        authority: Arc<Authority>,
        configured: Vec<String>,
        now: SystemTime,
    ) -> Result<Arc<ServerCertificate>, TlsError> {
        let names = CertificateNames::of_this_host(&configured);
        let current = match read_pair(&own_files(&authority)) {
            Ok(current) if is_good(&current, &authority, &names, now) => current,
            // What is there is of no use, for whatever reason: it can be made anew.
            Ok(_) | Err(_) => issue(&authority, &names, now)?,
        };
        let source = Source::Issued { authority, configured };
        Ok(Arc::new(ServerCertificate { source, current: ArcSwap::from_pointee(current) }))
    }

    /// A certificate of the operator's: a PEM file with the chain, leaf first, and one with the
    /// key. Changed files are taken over while the server runs.
    ///
    /// # Errors
    /// The files cannot be read, are no PEM, or do not belong together.
    pub fn from_files(
        certificate: PathBuf,
        key: PathBuf,
    ) -> Result<Arc<ServerCertificate>, TlsError> {
        let current = read_pair(&(certificate.clone(), key.clone()))?;
        let source = Source::Files { certificate, key };
        Ok(Arc::new(ServerCertificate { source, current: ArcSwap::from_pointee(current) }))
    }

    /// Renews what ends soon or lacks a name this host has now, and reads changed files. Yields
    /// whether there is a new certificate.
    ///
    /// # Errors
    /// It failed; the certificate in use stays.
    pub fn refresh(&self, now: SystemTime) -> Result<bool, TlsError> {
        let next = match &self.source {
            Source::Issued { authority, configured } => {
                let names = CertificateNames::of_this_host(configured);
                if is_good(&self.current.load(), authority, &names, now) {
                    return Ok(false);
                }
                issue(authority, &names, now)?
            }
            Source::Files { certificate, key } => {
                let next = read_pair(&(certificate.clone(), key.clone()))?;
                if next.digest == self.current.load().digest {
                    return Ok(false);
                }
                next
            }
        };
        self.current.store(Arc::new(next));
        Ok(true)
    }

    /// Calls [`ServerCertificate::refresh`] once a minute, for ever; spawn it beside the server.
    /// `renewed` is told of each new certificate, whoever made it new.
    pub async fn keep_fresh(self: Arc<Self>, renewed: impl Fn(&ServerCertificate) + Send) {
        let mut told = String::new();
        let mut known = self.current.load_full();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let certificate = Arc::clone(&self);
            // Files and signatures; both short, neither fit for a thread that serves sockets.
            let work = move || certificate.refresh(SystemTime::now());
            match tokio::task::spawn_blocking(work).await {
                Ok(Ok(is_new)) => {
                    if is_new {
                        tracing::info!(names = %self.names(), "the certificate is renewed");
                    }
                    told.clear();
                }
                Ok(Err(error)) => {
                    let error = error.to_string();
                    if error != told {
                        tracing::error!(error, "the server's certificate cannot be renewed");
                        told = error;
                    }
                }
                // The runtime ends.
                Err(_) => return,
            }
            let current = self.current.load_full();
            if !Arc::ptr_eq(&known, &current) {
                known = current;
                renewed(&self);
            }
        }
    }

    /// Whether the built-in authority issues it, so that clients trust it by that authority.
    pub fn is_issued(&self) -> bool {
        matches!(self.source, Source::Issued { .. })
    }

    /// The fingerprint of the certificate in use.
    ///
    /// # Errors
    /// None for a certificate that could be loaded; the type says so because parsing can fail.
    pub fn fingerprint(&self) -> Result<Fingerprint, TlsError> {
        Fingerprint::of_certificate(&self.current.load().key.cert[0])
    }

    /// When the certificate in use ends.
    pub fn expires(&self) -> SystemTime {
        self.current.load().expires
    }

    /// The names and addresses in the certificate, comma-separated.
    pub fn names(&self) -> String {
        let current = self.current.load();
        let hosts = current.names.hosts.iter().cloned();
        let addresses = current.names.addresses.iter().map(IpAddr::to_string);
        hosts.chain(addresses).collect::<Vec<_>>().join(", ")
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.load().key))
    }
}

fn own_files(authority: &Authority) -> (PathBuf, PathBuf) {
    let directory = authority.directory();
    (directory.join(CERTIFICATE_FILE), directory.join(KEY_FILE))
}

/// Whether a certificate of the built-in authority may be used on.
fn is_good(
    current: &Current,
    authority: &Authority,
    names: &CertificateNames,
    now: SystemTime,
) -> bool {
    current.names.covers(names)
        && current.expires > now + SERVER_LIFE / 3
        && current.key.cert.last() == Some(authority.certificate())
}

fn issue(
    authority: &Authority,
    names: &CertificateNames,
    now: SystemTime,
) -> Result<Current, TlsError> {
    let issued = authority.issue_server(names, now)?;
    let (certificate_path, key_path) = own_files(authority);
    // With the authority's own behind it: who pins that one has to be shown it.
    let authority_pem = read_limited(
        &authority.directory().join(crate::authority::CA_FILE),
        MAX_CERTIFICATE_BYTES,
    )?;
    let authority_pem = String::from_utf8(authority_pem.unwrap_or_default())
        .map_err(|error| TlsError::Invalid(error.to_string()))?;
    let chain = issued.certificate_pem + &authority_pem;
    // A crash in between leaves two files that do not belong together, which the start replaces.
    write_private(&key_path, issued.key_pem.as_bytes())?;
    write_public(&certificate_path, chain.as_bytes())?;
    read_pair(&(certificate_path, key_path))
}

fn read_pair((certificate, key): &(PathBuf, PathBuf)) -> Result<Current, TlsError> {
    let chain_pem = read_required(certificate)?;
    let key_pem = read_required(key)?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain_pem)
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(certificate, &error))?;
    let Some(leaf) = chain.first() else {
        return Err(TlsError::Invalid(format!(
            "{} holds no certificate: it must begin with -----BEGIN CERTIFICATE-----",
            certificate.display()
        )));
    };
    let (names, expires) = read_leaf(leaf).map_err(|error| invalid(certificate, &error))?;
    let key_der = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|error| invalid(key, &error))?;
    let certified = CertifiedKey::from_der(chain, key_der, &provider()).map_err(|error| {
        TlsError::Invalid(format!(
            "{} and {} cannot be used together: {error}",
            certificate.display(),
            key.display()
        ))
    })?;
    let digest = Sha256::new().chain_update(&chain_pem).chain_update(&key_pem).finalize().into();
    Ok(Current { key: Arc::new(certified), digest, names, expires })
}

fn read_required(path: &Path) -> Result<Vec<u8>, TlsError> {
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    read_limited(path, MAX_CERTIFICATE_BYTES)?
        .ok_or_else(|| TlsError::file("read", path, missing()))
}

fn invalid(path: &Path, error: &dyn std::fmt::Display) -> TlsError {
    TlsError::Invalid(format!("{} cannot be used: {error}", path.display()))
}

fn read_leaf(der: &[u8]) -> Result<(CertificateNames, SystemTime), String> {
    let (_, leaf) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
    let mut hosts = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    let alternative = leaf.subject_alternative_name().map_err(|error| error.to_string())?;
    for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(host) => {
                hosts.insert((*host).to_owned());
            }
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let v6 = <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
                addresses.extend(v4.or(v6));
            }
            _ => {}
        }
    }
    let expires = from_unix_ms(leaf.validity().not_after.timestamp().saturating_mul(1_000));
    Ok((CertificateNames { hosts, addresses }, expires))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(directory: &Path) -> Arc<Authority> {
        Arc::new(Authority::open(directory, SystemTime::now()).expect("made"))
    }

    #[test]
    fn it_is_kept_over_a_restart_and_renewed_before_it_ends() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let authority = authority(directory.path());
        let now = SystemTime::now();
        let make = |names: &[&str], now| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            ServerCertificate::issued(Arc::clone(&authority), names, now).expect("issued")
        };
        let first = make(&["mon.example"], now);
        let print = first.fingerprint().expect("parses");
        assert!(first.names().contains("mon.example"));
        assert_eq!(make(&["mon.example"], now).fingerprint().expect("parses"), print);
        assert_ne!(make(&["other.example"], now).fingerprint().expect("parses"), print);
        let early = now + SERVER_LIFE / 2;
        let late = now + SERVER_LIFE * 3 / 4;
        assert!(!first.refresh(early).expect("nothing to do"));
        assert!(first.refresh(late).expect("renewed"));
        assert!(first.expires() > now + SERVER_LIFE);
    }

    #[test]
    fn files_are_read_again_and_a_bad_change_changes_nothing() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let authority = authority(directory.path());
        let names = CertificateNames::of_this_host(&["a.example".to_owned()]);
        let write = |names: &CertificateNames| {
            let pair = authority.issue_server(names, SystemTime::now()).expect("issued");
            let (certificate, key) =
                (directory.path().join("mine.pem"), directory.path().join("mine.key"));
            std::fs::write(&certificate, &pair.certificate_pem).expect("written");
            std::fs::write(&key, &pair.key_pem).expect("written");
            (certificate, key)
        };
        let (certificate, key) = write(&names);
        let loaded =
            ServerCertificate::from_files(certificate.clone(), key.clone()).expect("loads");
        assert!(!loaded.refresh(SystemTime::now()).expect("unchanged"));
        let print = loaded.fingerprint().expect("parses");
        write(&names);
        assert!(loaded.refresh(SystemTime::now()).expect("changed"));
        let second = loaded.fingerprint().expect("parses");
        assert_ne!(second, print);
        std::fs::write(&certificate, "nothing").expect("written");
        let error = loaded.refresh(SystemTime::now()).expect_err("no PEM").to_string();
        assert!(error.contains("mine.pem holds no certificate"), "{error}");
        assert_eq!(loaded.fingerprint().expect("parses"), second);
        write(&names);
        std::fs::write(&key, authority.issue_server(&names, SystemTime::now()).expect("x").key_pem)
            .expect("written");
        let error = loaded.refresh(SystemTime::now()).expect_err("two pairs").to_string();
        assert!(error.contains("cannot be used together"), "{error}");
        assert!(!format!("{loaded:?}").contains("PRIVATE"));
    }
}
