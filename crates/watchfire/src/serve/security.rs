//! Who may talk to this process, and in which language: accounts, certificates, join tokens.

use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result};
use axum::Router;
use net::auth::{
    Accounts, CredentialStore, FileStore, JoinTokens, SessionLife, write_local_access,
};
use net::tls::{MutualTls, ServerCertificate, ServerTls};
use net::{Authority, Enrollment, NetMetrics, Peers};

use crate::config::Config;

/// Users, tokens and sessions lie in this file below the data directory, apart from the store: they
/// must be readable before the store is, and a lost store must not lock its owner out.
const CREDENTIALS: &str = "credentials.json";
/// The authority's directory below the data directory.
pub(super) const TLS: &str = "tls";

/// Everything that says who is who.
pub(super) struct Security {
    pub(super) accounts: Arc<Accounts>,
    authority: Arc<Authority>,
    peers: Arc<Peers>,
    join_tokens: JoinTokens,
    /// What 9595 shows; `None` where it speaks plain HTTP.
    public: Option<Arc<ServerCertificate>>,
    needs_login: bool,
}

impl Security {
    /// Opens what the data directory keeps, and makes what is not there yet. Users and tokens lie in
    /// `store`, if there is one, else there as well.
    pub(super) fn open(
        config: &Config,
        store: Option<Arc<dyn CredentialStore>>,
        metrics: Arc<NetMetrics>,
    ) -> Result<Security> {
        make_data_directory(config)?;
        warn_of_readers(config);
        let now = SystemTime::now();
        let store = match store {
            Some(store) => store,
            None => {
                let path = config.data.join(CREDENTIALS);
                Arc::new(FileStore::open(&path).context("open users and tokens")?)
            }
        };
        let authority = Authority::open(&config.data.join(TLS), now)
            .context("open the certificate authority")?;
        let authority = Arc::new(authority);
        let public = match (&config.tls.files, config.needs_login) {
            (Some((certificate, key)), _) => {
                Some(ServerCertificate::from_files(certificate.clone(), key.clone())?)
            }
            (None, true) => Some(issued(&authority, config, now)?),
            (None, false) => None,
        };
        Ok(Security {
            accounts: Accounts::new(Arc::clone(&store), SessionLife::default(), metrics),
            join_tokens: JoinTokens::new(Arc::clone(&store), authority.fingerprint()),
            peers: Peers::new(store),
            authority,
            public,
            needs_login: config.needs_login,
        })
    }

    /// The authority, of this installation or of all brokers of a cluster.
    pub(super) fn authority(&self) -> &Arc<Authority> {
        &self.authority
    }

    /// Who has joined.
    pub(super) fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    /// Keeps a name from agents that join: this process collects under it.
    pub(super) fn reserve_name(&self, name: &str) {
        self.peers.reserve(name);
    }

    /// Makes a socket speak what it has to.
    pub(super) fn dress(&self, bound: net::Bound) -> Result<net::Bound> {
        Ok(match &self.public {
            None => bound,
            Some(certificate) => bound.with_tls(ServerTls::new(Arc::clone(certificate))?),
        })
    }

    /// How a port speaks TLS that always does, also where the API is plain HTTP.
    pub(super) fn tls_of_ports(&self, config: &Config) -> Result<ServerTls> {
        let certificate = match &self.public {
            Some(certificate) => Arc::clone(certificate),
            None => {
                let certificate = issued(&self.authority, config, SystemTime::now())?;
                tokio::spawn(Arc::clone(&certificate).keep_fresh(|_| {}));
                certificate
            }
        };
        Ok(ServerTls::new(certificate)?)
    }

    /// Demands a login where one is needed.
    pub(super) fn guard(&self, router: Router) -> Router {
        if self.needs_login {
            self.accounts.layer(router)
        } else {
            self.accounts.open_layer(router)
        }
    }

    /// How agents and consoles talk to this process.
    pub(super) fn mutual_tls(&self, config: &Config) -> Result<MutualTls> {
        // Other processes of ours know the authority, not whoever signed the operator's files.
        let certificate = match &self.public {
            Some(certificate) if certificate.is_issued() => Arc::clone(certificate),
            _ => issued(&self.authority, config, SystemTime::now())?,
        };
        tokio::spawn(Arc::clone(&certificate).keep_fresh(|_| {}));
        Ok(MutualTls::new(certificate, &self.authority, Arc::clone(&self.peers))?)
    }

    /// What gives joining hosts their certificates.
    pub(super) fn enrollment(&self) -> Enrollment {
        Enrollment::new(
            self.join_tokens.clone(),
            Arc::clone(&self.authority),
            Arc::clone(&self.peers),
        )
    }

    /// What the routes for join tokens need; `broker` is where hosts are to connect, and `is_cluster` says
    /// whether brokers may be among them.
    pub(super) fn joining(&self, broker: String, is_cluster: bool) -> console::Joining {
        console::Joining {
            tokens: self.join_tokens.clone(),
            peers: Arc::clone(&self.peers),
            broker,
            is_cluster,
        }
    }

    /// `http` or `https`.
    pub(super) fn scheme(&self) -> &'static str {
        if self.public.is_some() { "https" } else { "http" }
    }

    /// The link with which the first user is made, where one is needed and there is none yet.
    pub(super) fn setup_link(&self, address: &str) -> Result<Option<String>> {
        if !self.needs_login {
            return Ok(None);
        }
        let token = self.accounts.setup_token().context("read the users")?;
        Ok(token.map(|token| format!("https://{address}/setup#{}", token.reveal())))
    }

    /// Lets the command line on this host find the server, now and after each renewal of the
    /// certificate.
    pub(super) fn let_the_owner_in(&self, config: &Config, address: SocketAddr) {
        let url = format!("{}://{address}", self.scheme());
        let (data, accounts) = (config.data.clone(), Arc::clone(&self.accounts));
        let write = move |certificate: Option<&ServerCertificate>| -> Result<()> {
            let server = certificate.map(ServerCertificate::fingerprint).transpose()?;
            Ok(write_local_access(&data, &url, accounts.local_token(), server)?)
        };
        // On a full disk everything else still starts.
        if let Err(error) = write(self.public.as_deref()) {
            tracing::warn!(
                error = format!("{error:#}"),
                "local.token was not written: commands on this host need --url and --token until a \
                 restart"
            );
        }
        if let Some(certificate) = &self.public {
            tokio::spawn(Arc::clone(certificate).keep_fresh(move |certificate| {
                if let Err(error) = write(Some(certificate)) {
                    tracing::warn!(%error, "local.token still names the certificate of before");
                }
            }));
        }
    }
}

/// Others on this host have no business with what is stored here.
pub(super) fn make_data_directory(config: &Config) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.data)
        .with_context(|| format!("make the data directory {}", config.data.display()))
}

/// Says so where others may look into it.
fn warn_of_readers(config: &Config) {
    // One that was there before: files in it are their owner's, but older ones need not be.
    let mode = std::fs::metadata(&config.data).map(|found| found.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o007 != 0) {
        tracing::warn!(
            "everybody on this host can look into the data directory, which holds data and credentials: \
             chmod o= {}",
            config.data.display()
        );
    }
}

fn issued(
    authority: &Arc<Authority>,
    config: &Config,
    now: SystemTime,
) -> Result<Arc<ServerCertificate>> {
    ServerCertificate::issued(Arc::clone(authority), config.tls.names.clone(), now)
        .context("make this server's certificate")
}
