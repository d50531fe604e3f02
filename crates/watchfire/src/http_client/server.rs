//! The flags of every subcommand that asks a server.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::{Credentials, HttpClient, Trust};

const DEFAULT_URL: &str = "http://127.0.0.1:9595";

/// Which server to ask, and as whom.
#[derive(Clone, Args)]
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
    #[arg(long, value_name = "TOKEN", env = "WATCHFIRE_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,

    /// File with the API token
    #[arg(long, value_name = "FILE", env = "WATCHFIRE_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// Name to log in with instead of a token; the password is taken from WATCHFIRE_PASSWORD
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,

    /// Believe only the certificate authorities in this PEM file [default: those of the system and
    /// tls/ca.pem of a data directory on this host]
    #[arg(long, value_name = "FILE", env = "WATCHFIRE_CA_FILE")]
    pub(crate) ca_file: Option<PathBuf>,
}

impl ServerArguments {
    /// A client for the server named here.
    ///
    /// # Errors
    /// When the URL is none, or the token's file cannot be read.
    pub(crate) fn client(&self) -> Result<HttpClient> {
        let client = HttpClient::new(&self.url, &self.credentials()?)?;
        Ok(match &self.ca_file {
            Some(path) => client.with_trust(Trust::Only(path.clone())),
            None => client,
        })
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
            return Ok(Credentials::Basic { user: user.clone(), password });
        }
        // The argument comes first: it is the more deliberate of the two.
        if let Some(token) = &self.token {
            return Ok(Credentials::Bearer(token.trim().to_owned()));
        }
        let Some(path) = &self.token_file else { return Ok(Credentials::None) };
        let shown = path.display();
        let token = std::fs::read_to_string(path).with_context(|| format!("read {shown}"))?;
        let token = token.trim();
        ensure!(!token.is_empty(), "{shown} is empty; it must hold an API token");
        Ok(Credentials::Bearer(token.to_owned()))
    }
}

/// Without the token.
impl std::fmt::Debug for ServerArguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerArguments")
            .field("url", &self.url)
            .field("token", &self.token.as_ref().map(|_| "<secret>"))
            .field("token_file", &self.token_file)
            .field("user", &self.user)
            .field("ca_file", &self.ca_file)
            .finish()
    }
}

/// A URL as given, or `http://` before what has no scheme.
fn server_url(text: &str) -> Result<String, std::convert::Infallible> {
    Ok(if text.contains("://") { text.to_owned() } else { format!("http://{text}") })
}
