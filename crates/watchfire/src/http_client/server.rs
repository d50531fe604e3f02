//! The flags of every subcommand that asks a server.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use model::TenantName;
use net::auth::LocalAccess;
use settings::Secret;

use super::trust::data_directories;
use super::{Credentials, HttpClient, Trust};

const DEFAULT_URL: &str = "http://127.0.0.1:9595";

/// Which server to ask, and as whom.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServerArguments {
    /// Where to ask
    #[arg(
        long,
        value_name = "URL",
        env = "WATCHFIRE_URL",
        default_value = DEFAULT_URL,
        value_parser = server_url
    )]
    pub(crate) url: String,

    /// API token; better in WATCHFIRE_TOKEN or --token-file, as everybody on this host can list
    /// the arguments of programs
    #[arg(long, value_name = "TOKEN", env = "WATCHFIRE_TOKEN", hide_env_values = true, value_parser = secret)]
    pub(crate) token: Option<Secret>,

    /// File with the API token
    #[arg(long, value_name = "FILE", env = "WATCHFIRE_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// Name to log in with instead of a token; the password is taken from WATCHFIRE_PASSWORD
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,

    /// Whose data is meant, if the credential reaches more than one tenant [default: default]
    #[arg(long, value_name = "NAME", env = "WATCHFIRE_TENANT", value_parser = tenant)]
    pub(crate) tenant: Option<TenantName>,

    /// Believe only the certificate authorities in this PEM file [default: those of the system and
    /// tls/ca.pem of a data directory on this host]
    #[arg(long, value_name = "FILE", env = "WATCHFIRE_CA_FILE")]
    pub(crate) ca_file: Option<PathBuf>,
}

impl ServerArguments {
    /// A client for the server named here; without any name or credential, for one that runs on
    /// this host with a data directory this user may read, as its administrator.
    ///
    /// # Errors
    /// When the URL is none, or the token's file cannot be read.
    pub(crate) fn client(&self) -> Result<HttpClient> {
        let credentials = self.credentials()?;
        let local = if credentials == Credentials::None && !self.is_named() {
            data_directories().find_map(|data| LocalAccess::read(&data).ok())
        } else {
            None
        };
        let client = match local {
            Some(local) => {
                HttpClient::new(local.url(), &Credentials::Bearer(local.token().clone()))?
            }
            None => HttpClient::new(&self.url, &credentials)?,
        };
        let client = match &self.ca_file {
            Some(path) => client.with_trust(Trust::Only(path.clone())),
            None => client,
        };
        Ok(client.for_tenant(self.tenant))
    }

    /// Whether another server than the one on this machine is meant.
    pub(crate) fn is_named(&self) -> bool {
        self.url != DEFAULT_URL
    }

    fn credentials(&self) -> Result<Credentials> {
        if let Some(user) = &self.user {
            let password = std::env::var("WATCHFIRE_PASSWORD")
                .ok()
                .context("--user needs the password in the environment: WATCHFIRE_PASSWORD")?;
            let password = Secret::new(password);
            return Ok(Credentials::Basic { user: user.clone(), password });
        }
        // The argument comes first: it is the more deliberate of the two.
        if let Some(token) = &self.token {
            return Ok(Credentials::Bearer(token.clone()));
        }
        let Some(path) = &self.token_file else { return Ok(Credentials::None) };
        let shown = path.display();
        let token = std::fs::read_to_string(path).with_context(|| format!("read {shown}"))?;
        let token = token.trim();
        ensure!(!token.is_empty(), "{shown} is empty; it must hold an API token");
        Ok(Credentials::Bearer(Secret::new(token)))
    }
}

fn tenant(text: &str) -> Result<TenantName, String> {
    TenantName::parse(text).map_err(|error| error.to_string())
}

fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text.trim()))
}

/// A URL as given, or `http://` before what has no scheme.
fn server_url(text: &str) -> Result<String, std::convert::Infallible> {
    Ok(if text.contains("://") { text.to_owned() } else { format!("http://{text}") })
}
