//! Whose certificates are believed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Where Watchfire's own authority keeps its certificate, below a data directory.
const AUTHORITY_FILE: &str = "tls/ca.pem";
/// Data directory of the packaged services.
const PACKAGED_DATA: &str = "/var/lib/watchfire";
/// Data directory of a plain start.
const DEFAULT_DATA: &str = "watchfire-data";

/// Which authorities a client believes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Those of the system, and Watchfire's own if a data directory is readable here: of
    /// `WATCHFIRE_DATA`, `./watchfire-data` and `/var/lib/watchfire` the first that has one.
    #[default]
    System,
    /// Only those in this PEM file.
    Only(PathBuf),
}

impl Trust {
    /// Settings for TLS 1.2 and 1.3 with a verified server and no client certificate.
    ///
    /// # Errors
    /// When the file of [`Trust::Only`] cannot be read or holds no certificate.
    pub(crate) fn client_config(&self) -> Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        match self {
            Trust::Only(path) => add_file(&mut roots, path)?,
            Trust::System => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if let Some(path) = own_authority() {
                    add_file(&mut roots, &path)?;
                }
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("set up TLS")?
            .with_root_certificates(roots)
            .with_no_client_auth())
    }
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<()> {
    let shown = path.display();
    let pem = std::fs::read(path).with_context(|| format!("read {shown}"))?;
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("{shown} is not a PEM file of certificates"))?;
    ensure!(!certificates.is_empty(), "{shown} holds no certificate");
    for certificate in certificates {
        roots.add(certificate).with_context(|| format!("{shown} holds no usable certificate"))?;
    }
    Ok(())
}

/// Where a Watchfire on this machine may keep its data, the most deliberate first.
pub(super) fn data_directories() -> impl Iterator<Item = PathBuf> {
    let named = std::env::var_os("WATCHFIRE_DATA").map(PathBuf::from);
    named.into_iter().chain([DEFAULT_DATA.into(), PACKAGED_DATA.into()])
}

/// The certificate of a Watchfire on this machine, if this user can read it.
fn own_authority() -> Option<PathBuf> {
    data_directories().map(|data| data.join(AUTHORITY_FILE)).find(|path| is_safe(path))
}

/// Whether `path` can be read and is the word of this user, root or a service: in a directory
/// where anybody can write, such as /tmp, `watchfire-data` may be anybody's.
fn is_safe(path: &Path) -> bool {
    let Ok(metadata) = path.metadata() else { return false };
    let own = rustix::process::geteuid().as_raw();
    let is_packaged = path.starts_with(PACKAGED_DATA);
    (is_packaged || metadata.uid() == own || metadata.uid() == 0)
        && metadata.mode() & 0o022 == 0
        && std::fs::File::open(path).is_ok()
}
