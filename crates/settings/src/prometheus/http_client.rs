//! How to speak to an HTTP server: credentials, TLS, proxy, headers.

use std::path::PathBuf;

use crate::{HttpUrl, Secret};

/// The keys Prometheus accepts wherever it calls something over HTTP
/// (`prometheus/common`, `config/http_config.go`).
///
/// At most one of `basic_auth`, `authorization` and `oauth2` is set. `bearer_token` and
/// `bearer_token_file` of the file have already become `authorization`. Paths are joined with the
/// directory of the file that named them.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpClientConfig {
    /// Name and password.
    pub basic_auth: Option<BasicAuth>,
    /// A header `Authorization: <scheme> <credentials>`.
    pub authorization: Option<Authorization>,
    /// A token fetched from a token server (client credentials grant).
    pub oauth2: Option<Box<OAuth2>>,
    /// TLS towards the server.
    pub tls: TlsConfig,
    /// The proxy on the way.
    pub proxy: ProxyConfig,
    /// Whether 3xx answers are followed.
    pub follow_redirects: bool,
    /// Whether HTTP/2 may be negotiated over TLS.
    pub enable_http2: bool,
    /// Headers added to every request, in the order of the file.
    pub http_headers: Vec<HttpHeader>,
}

impl Default for HttpClientConfig {
    fn default() -> Self {
        HttpClientConfig {
            basic_auth: None,
            authorization: None,
            oauth2: None,
            tls: TlsConfig::default(),
            proxy: ProxyConfig::default(),
            follow_redirects: true,
            enable_http2: true,
            http_headers: Vec::new(),
        }
    }
}

/// Name and password; each is given in place or by a file, not both.
///
/// A file is read before each request by whoever sends it; its content is trimmed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BasicAuth {
    /// The name, empty when it comes from a file or is empty on purpose.
    pub username: String,
    /// The file that holds the name.
    pub username_file: Option<PathBuf>,
    /// The password.
    pub password: Secret,
    /// The file that holds the password.
    pub password_file: Option<PathBuf>,
}

/// The value of the header `Authorization`.
#[derive(Debug, Clone, PartialEq)]
pub struct Authorization {
    /// The scheme, `Bearer` unless the file says otherwise; never `Basic`.
    pub scheme: String,
    /// The credentials.
    pub credentials: Secret,
    /// The file that holds the credentials; read before each request, trimmed.
    pub credentials_file: Option<PathBuf>,
}

/// Where a token comes from. `client_id` and `token_url` are never empty.
#[derive(Debug, Clone, PartialEq)]
pub struct OAuth2 {
    /// The client's name at the token server.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: Secret,
    /// The file that holds the client's secret.
    pub client_secret_file: Option<PathBuf>,
    /// Scopes to ask for.
    pub scopes: Vec<String>,
    /// Where to ask.
    pub token_url: String,
    /// Parameters added to the request, by ascending name.
    pub endpoint_params: Vec<(String, String)>,
    /// TLS towards the token server.
    pub tls: TlsConfig,
    /// The proxy on the way to the token server.
    pub proxy: ProxyConfig,
}

/// TLS of a client. Each of CA, certificate and key is given in place (PEM) or by a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TlsConfig {
    /// Authorities to trust, PEM.
    pub ca: Option<String>,
    /// Own certificate, PEM.
    pub cert: Option<String>,
    /// Own key, PEM.
    pub key: Option<Secret>,
    /// The file with the authorities to trust.
    pub ca_file: Option<PathBuf>,
    /// The file with the own certificate.
    pub cert_file: Option<PathBuf>,
    /// The file with the own key.
    pub key_file: Option<PathBuf>,
    /// The name to expect in the server's certificate instead of the host of the URL.
    pub server_name: Option<String>,
    /// Whether the server's certificate is taken unseen.
    pub insecure_skip_verify: bool,
    /// The lowest version to speak.
    pub min_version: Option<TlsVersion>,
    /// The highest version to speak.
    pub max_version: Option<TlsVersion>,
}

/// Versions of TLS as the files name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// `TLS10`; no longer spoken by Watchfire, so as a minimum it means TLS 1.2.
    Tls10,
    /// `TLS11`; no longer spoken by Watchfire, so as a minimum it means TLS 1.2.
    Tls11,
    /// `TLS12`.
    Tls12,
    /// `TLS13`.
    Tls13,
}

/// The proxy between here and the server. Either `proxy_url` or `proxy_from_environment` or
/// neither.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProxyConfig {
    /// The proxy.
    pub proxy_url: Option<HttpUrl>,
    /// Hosts reached without the proxy, comma-separated as in the environment variable
    /// `NO_PROXY`: names with their subdomains, addresses, CIDR ranges, `*`.
    pub no_proxy: String,
    /// Whether `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` of the environment count.
    pub proxy_from_environment: bool,
    /// Headers sent to the proxy with CONNECT, by ascending name.
    pub proxy_connect_header: Vec<(String, Vec<Secret>)>,
}

/// One header added to every request; the values of the three lists are sent in this order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HttpHeader {
    /// The name in canonical form (`X-Scope-Orgid`).
    pub name: String,
    /// Values shown in the configuration.
    pub values: Vec<String>,
    /// Values that are not shown.
    pub secrets: Vec<Secret>,
    /// Files that hold one value each.
    pub files: Vec<PathBuf>,
}
