//! The built-in certificate authority: one key in the data directory, from which every server and
//! every agent of this installation gets its certificate.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};

use crate::random;
use crate::tls::{
    CertificateNames, Fingerprint, MAX_CERTIFICATE_BYTES, TlsError, create_private_directory,
    read_limited, unix_ms, write_private, write_public,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The authority itself. Renewing it means joining every host again, so it outlives the hosts.
const AUTHORITY_LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 60 * 60);
/// Certificates of servers; renewed when a third is left.
pub(crate) const SERVER_LIFE: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Certificates of agents and consoles; they ask for a new one when a third is left.
pub(crate) const CLIENT_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Certificates hold this long before they are made, for clocks that are late.
const CLOCK_SLACK: Duration = Duration::from_secs(60 * 60);
/// A certificate's common name has no more characters (X.520, `ub-common-name`).
pub(crate) const MAX_NAME: usize = 64;

/// The file of the authority's certificate; give it to whoever shall trust this installation.
pub const CA_FILE: &str = "ca.pem";
const CA_KEY_FILE: &str = "ca-key.pem";

/// What a certificate allows its owner to be; the certificate's `OU`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Sends what it collects.
    Agent,
    /// Asks for what is stored.
    Console,
    /// Stores.
    Broker,
}

impl Role {
    /// `agent`, `console` or `broker`.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Agent => "agent",
            Role::Console => "console",
            Role::Broker => "broker",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Role::Agent, Role::Console, Role::Broker]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no role; give agent, console or broker"))
    }
}

/// A certificate authority with its key.
pub struct Authority {
    directory: PathBuf,
    certificate: CertificateDer<'static>,
    fingerprint: Fingerprint,
    issuer: Issuer<'static, KeyPair>,
}

/// Without the key.
impl fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Authority")
            .field("directory", &self.directory)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// A client's certificate, just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedClient {
    /// The certificate in DER.
    pub certificate: CertificateDer<'static>,
    /// Its serial number in hexadecimal.
    pub serial: String,
    /// When it ends, milliseconds since the epoch.
    pub expires_ms: i64,
}

/// A server's certificate and key, just made, in PEM.
pub(crate) struct IssuedServer {
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
}

impl Authority {
    /// The authority in `directory`, usually `<data>/tls`; made there at the first start. Its key
    /// is a file that only the owner can read, written whole and synced.
    ///
    /// # Errors
    /// The files cannot be read or written, or do not belong together.
    pub fn open(directory: &Path, now: SystemTime) -> Result<Authority, TlsError> {
        create_private_directory(directory)?;
        let (ca_path, key_path) = (directory.join(CA_FILE), directory.join(CA_KEY_FILE));
        let key_pem = read_limited(&key_path, MAX_CERTIFICATE_BYTES)?;
        let ca_pem = read_limited(&ca_path, MAX_CERTIFICATE_BYTES)?;
        let key = match &key_pem {
            Some(pem) => key_from_pem(pem, &key_path)?,
            None if ca_pem.is_some() => {
                return Err(TlsError::Invalid(format!(
                    "{} is gone, and without it no certificate can be issued: bring it back, or \
                     remove {} as well, after which every agent has to join again",
                    key_path.display(),
                    ca_path.display()
                )));
            }
            None => {
                let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
                // The key first: a crash in between leaves one without certificate, which the
                // next start makes.
                write_private(&key_path, key.serialize_pem().as_bytes())?;
                key
            }
        };
        let certificate = match ca_pem {
            Some(pem) => CertificateDer::from_pem_slice(&pem).map_err(|error| {
                TlsError::Invalid(format!("{} is no certificate: {error}", ca_path.display()))
            })?,
            None => {
                let certificate = authority_params(now).self_signed(&key)?;
                write_public(&ca_path, certificate.pem().as_bytes())?;
                certificate.der().clone()
            }
        };
        let fingerprint = Fingerprint::of_certificate(&certificate)?;
        // A certificate that the same key signs bears the same public key.
        let own = Fingerprint::of_certificate(authority_params(now).self_signed(&key)?.der())?;
        if own != fingerprint {
            return Err(TlsError::Invalid(format!(
                "{} is not the key of {}: bring back the two that belong together",
                key_path.display(),
                ca_path.display()
            )));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Authority { directory: directory.to_owned(), certificate, fingerprint, issuer })
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its own certificate, which clients trust.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its key, for a broker that joins.
    pub(crate) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Puts the authority of a cluster into `directory`, from where [`Authority::open`] takes it: that of
    /// the broker this one joins. The key is written first, so that a crash in between leaves a directory
    /// in which this can be done again.
    ///
    /// # Errors
    /// Another authority is there, the two do not belong together, or they cannot be written.
    pub(crate) fn adopt(
        directory: &Path,
        certificate: &CertificateDer<'_>,
        key_pem: &str,
    ) -> Result<(), TlsError> {
        create_private_directory(directory)?;
        let (ca_path, key_path) = (directory.join(CA_FILE), directory.join(CA_KEY_FILE));
        let fingerprint = Fingerprint::of_certificate(certificate)?;
        let key = key_from_pem(key_pem.as_bytes(), &key_path)?;
        let of_key = authority_params(SystemTime::now()).self_signed(&key)?;
        if Fingerprint::of_certificate(of_key.der())? != fingerprint {
            return Err(TlsError::Invalid(
                "the broker gave a key that is not that of its authority".to_owned(),
            ));
        }
        if let Some(pem) = read_limited(&ca_path, MAX_CERTIFICATE_BYTES)? {
            let there = CertificateDer::from_pem_slice(&pem).ok();
            let there = there.and_then(|there| Fingerprint::of_certificate(&there).ok());
            if there != Some(fingerprint) {
                return Err(TlsError::Invalid(format!(
                    "{} is the authority of another installation, whose data is here: join with an empty \
                     --data directory",
                    ca_path.display()
                )));
            }
        }
        write_private(&key_path, key_pem.as_bytes())?;
        write_public(&ca_path, certificate_pem(certificate).as_bytes())
    }

    /// What join tokens carry, so that the joiner knows the right server.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Makes a key and a certificate for a server. About 0.1 ms.
    pub(crate) fn issue_server(
        &self,
        names: &CertificateNames,
        now: SystemTime,
    ) -> Result<IssuedServer, TlsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let (mut params, _) = leaf_params("Watchfire server", Role::Broker, now, SERVER_LIFE);
        params.subject_alt_names = alternative_names(&names.hosts, &names.addresses)?;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(IssuedServer { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// Makes a certificate for the key in `request` (PKCS #10, DER), whose signature proves that
    /// the sender has it. Name and role are those given here; what the request asks for besides
    /// its key is ignored. About 0.1 ms.
    ///
    /// # Errors
    /// The request is malformed or not signed by its own key, or the name is none.
    pub fn issue_client(
        &self,
        request: &[u8],
        name: &str,
        role: Role,
        now: SystemTime,
    ) -> Result<IssuedClient, TlsError> {
        check_name(name)?;
        let request = CertificateSigningRequestDer::from(request);
        let request = CertificateSigningRequestParams::from_der(&request).map_err(|error| {
            TlsError::Invalid(format!("the certificate request cannot be used: {error}"))
        })?;
        let (mut params, serial) = leaf_params(name, role, now, CLIENT_LIFE);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&request.public_key, &self.issuer)?;
        let expires_ms = unix_ms(now + CLIENT_LIFE);
        Ok(IssuedClient { certificate: certificate.der().clone(), serial, expires_ms })
    }
}

/// RFC 7468: Base64 in lines of 64 characters.
pub(crate) fn certificate_pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().copied().map(char::from));
        pem.push('\n');
    }
    pem + "-----END CERTIFICATE-----\n"
}

/// What an agent, console or broker may be called: letters, digits, `.`, `_` and `-`, not first `.` or
/// `-`, at most 64.
///
/// # Errors
/// It is not; the text says what is allowed.
pub fn check_name(name: &str) -> Result<(), TlsError> {
    let fits = (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && !name.starts_with(['.', '-']);
    if fits {
        return Ok(());
    }
    let shown: String = name.chars().take(MAX_NAME + 1).collect();
    Err(TlsError::Invalid(format!(
        "{shown:?} cannot be the name of a host here: give 1 to {MAX_NAME} letters, digits, dots, \
         underscores or hyphens"
    )))
}

fn key_from_pem(pem: &[u8], path: &Path) -> Result<KeyPair, TlsError> {
    let wrong = |error: &dyn fmt::Display| {
        TlsError::Invalid(format!("{} is no private key: {error}", path.display()))
    };
    let text = std::str::from_utf8(pem).map_err(|error| wrong(&error))?;
    KeyPair::from_pem(text).map_err(|error| wrong(&error))
}

fn authority_params(now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Watchfire");
    params.distinguished_name.push(DnType::CommonName, "Watchfire built-in CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (now - DAY).into();
    params.not_after = (now + AUTHORITY_LIFE).into();
    params
}

/// Parameters of a certificate that signs nothing, and its serial number in hexadecimal.
fn leaf_params(
    name: &str,
    role: Role,
    now: SystemTime,
    life: Duration,
) -> (CertificateParams, String) {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Watchfire");
    params.distinguished_name.push(DnType::OrganizationalUnitName, role.as_str());
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - CLOCK_SLACK).into();
    params.not_after = (now + life).into();
    let mut serial = random::bytes::<16>();
    // Positive, and of fixed length: DER cuts leading zeroes, and the highest bit is the sign.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    (params, random::hexadecimal(&serial))
}

fn alternative_names(
    hosts: &BTreeSet<String>,
    addresses: &BTreeSet<IpAddr>,
) -> Result<Vec<SanType>, TlsError> {
    let mut names = Vec::new();
    for host in hosts {
        names.push(SanType::DnsName(host.as_str().try_into()?));
    }
    names.extend(addresses.iter().copied().map(SanType::IpAddress));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use x509_parser::prelude::{FromDer, X509Certificate};

    fn request(key: &KeyPair) -> Vec<u8> {
        let mut params = CertificateParams::new(["evil.example".to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, "someone-else");
        params.distinguished_name.push(DnType::OrganizationalUnitName, "broker");
        params.serialize_request(key).expect("signed").der().to_vec()
    }

    #[test]
    fn it_is_made_once_and_found_again() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let now = SystemTime::now();
        let first = Authority::open(directory.path(), now).expect("made");
        let again = Authority::open(directory.path(), now + DAY).expect("found");
        assert_eq!(first.fingerprint(), again.fingerprint());
        assert_eq!(first.certificate(), again.certificate());
        let mode = directory.path().join(CA_KEY_FILE).metadata().expect("there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        assert!(!format!("{first:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_lost_certificate_is_made_anew_and_a_lost_or_foreign_key_is_told() {
        let now = SystemTime::now();
        let (one, two) = (tempfile::tempdir(), tempfile::tempdir());
        let (one, two) = (one.expect("a directory"), two.expect("a directory"));
        let print = Authority::open(one.path(), now).expect("made").fingerprint();
        Authority::open(two.path(), now).expect("made");
        std::fs::remove_file(one.path().join(CA_FILE)).expect("removed");
        let again = Authority::open(one.path(), now).expect("made anew");
        assert_eq!(again.fingerprint(), print);
        let foreign = two.path().join(CA_KEY_FILE);
        std::fs::copy(foreign, one.path().join(CA_KEY_FILE)).expect("copied");
        let error = Authority::open(one.path(), now).expect_err("another key").to_string();
        assert!(error.contains("is not the key of"), "{error}");
        std::fs::remove_file(one.path().join(CA_KEY_FILE)).expect("removed");
        let error = Authority::open(one.path(), now).expect_err("no key").to_string();
        assert!(error.contains("join again"), "{error}");
    }

    #[test]
    fn a_client_gets_the_name_it_is_given_and_not_the_one_it_asks_for() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let now = SystemTime::now();
        let authority = Authority::open(directory.path(), now).expect("made");
        let key = KeyPair::generate().expect("a key");
        let issued =
            authority.issue_client(&request(&key), "web-1", Role::Agent, now).expect("issued");
        let (_, certificate) = X509Certificate::from_der(&issued.certificate).expect("DER");
        assert_eq!(certificate.subject().to_string(), "O=Watchfire, OU=agent, CN=web-1");
        assert!(certificate.subject_alternative_name().expect("well-formed").is_none());
        assert_eq!(certificate.raw_serial_as_string().replace(':', ""), issued.serial);
        assert!(!certificate.is_ca());
        let mut forged = request(&key);
        let last = forged.len() - 1;
        forged[last] ^= 1;
        for wrong in [&forged[..], b"", b"rubbish"] {
            assert!(authority.issue_client(wrong, "web-1", Role::Agent, now).is_err());
        }
        for name in ["", "a b", "a/b", "a,CN=b", "-x", &"x".repeat(65), "ä"] {
            assert!(authority.issue_client(&request(&key), name, Role::Agent, now).is_err());
        }
    }
}
