//! Keys of an HTTP client, read from the mapping they share with others.

use crate::prometheus::{
    Authorization, BasicAuth, HttpClientConfig, HttpHeader, OAuth2, ProxyConfig, TlsConfig,
    TlsVersion,
};
use crate::yaml::{Context, FromNode, Node, OutputPath, Section, Value, pairs_of, read_map};
use crate::{HttpUrl, Secret};
use std::path::PathBuf;

/// Reads and checks the keys; `default` is what absent ones mean.
pub(crate) fn read(section: &mut Section<'_>, default: HttpClientConfig) -> HttpClientConfig {
    let basic_auth = read_basic_auth(section);
    let authorization = read_authorization(section);
    let oauth2 = read_oauth2(section);
    let bearer_token: Secret = section.value("bearer_token");
    let bearer_token_file: Option<PathBuf> = optional_path(section, "bearer_token_file");
    let mut config = HttpClientConfig {
        basic_auth,
        authorization,
        oauth2,
        tls: read_tls(section),
        proxy: read_proxy(section),
        follow_redirects: section.or("follow_redirects", default.follow_redirects),
        enable_http2: section.or("enable_http2", default.enable_http2),
        http_headers: read_headers(section),
    };
    check_authentication(section, &config, &bearer_token, bearer_token_file.is_some());
    if config.authorization.is_none() && (!bearer_token.is_empty() || bearer_token_file.is_some()) {
        config.authorization = Some(Authorization {
            scheme: "Bearer".to_owned(),
            credentials: bearer_token,
            credentials_file: bearer_token_file,
        });
    }
    config
}

/// Whether a section says anything about the client, other than what it would do anyway.
pub(super) fn is_custom(config: &HttpClientConfig) -> bool {
    *config != HttpClientConfig::default()
}

pub(crate) fn optional_path(section: &mut Section<'_>, key: &'static str) -> Option<PathBuf> {
    section.read::<PathBuf>(key).filter(|path| !path.as_os_str().is_empty())
}

/// Reads the path of a file that is written.
pub(super) fn optional_output(section: &mut Section<'_>, key: &'static str) -> Option<PathBuf> {
    section.read::<OutputPath>(key).map(|path| path.0).filter(|path| !path.as_os_str().is_empty())
}

pub(crate) fn optional_text(section: &mut Section<'_>, key: &'static str) -> Option<String> {
    section.read::<String>(key).filter(|text| !text.is_empty())
}

/// Keys that name a secret in a secret manager, which neither Prometheus nor Watchfire has.
fn refuse_reference(section: &mut Section<'_>, key: &'static str, instead: &str) {
    if optional_text(section, key).is_some() {
        let message = format!("{key} needs a secret manager, and there is none");
        section.fault(key, message, Some(instead));
    }
}

fn check_authentication(
    section: &Section<'_>,
    config: &HttpClientConfig,
    bearer_token: &Secret,
    bearer_token_file: bool,
) {
    let bearer = if !bearer_token.is_empty() {
        Some("bearer_token")
    } else if bearer_token_file {
        Some("bearer_token_file")
    } else {
        None
    };
    let one = Some("keep one of them and remove the others");
    if !bearer_token.is_empty() && bearer_token_file {
        let message = "at most one of bearer_token & bearer_token_file must be configured";
        section.fault("bearer_token_file", message, one);
    }
    if let Some(key) = bearer {
        if config.basic_auth.is_some() || config.oauth2.is_some() {
            let message = "at most one of basic_auth, oauth2, bearer_token & bearer_token_file \
                           must be configured";
            section.fault(key, message, one);
        }
        if config.authorization.is_some() {
            let message = "authorization is not compatible with bearer_token & bearer_token_file";
            section.fault(key, message, Some("move the token to authorization.credentials"));
        }
    }
    let several = [
        ("basic_auth", config.basic_auth.is_some()),
        ("oauth2", config.oauth2.is_some()),
        ("authorization", config.authorization.is_some()),
    ];
    let mut several = several.iter().filter(|(_, set)| *set);
    if let (Some(_), Some((key, _))) = (several.next(), several.next()) {
        let message = "at most one of basic_auth, oauth2 & authorization must be configured";
        section.fault(key, message, one);
    }
}

fn read_basic_auth(section: &mut Section<'_>) -> Option<BasicAuth> {
    let mut inner = section.section("basic_auth", "config.plain")?;
    let auth = BasicAuth {
        username: inner.value("username"),
        username_file: optional_path(&mut inner, "username_file"),
        password: inner.value("password"),
        password_file: optional_path(&mut inner, "password_file"),
    };
    refuse_reference(&mut inner, "username_ref", "use username or username_file");
    refuse_reference(&mut inner, "password_ref", "use password or password_file");
    let one = Some("keep one of them");
    if !auth.username.is_empty() && auth.username_file.is_some() {
        let message = "at most one of basic_auth username, username_file & username_ref must be \
                       configured";
        inner.fault("username_file", message, one);
    }
    if !auth.password.is_empty() && auth.password_file.is_some() {
        let message = "at most one of basic_auth password, password_file & password_ref must be \
                       configured";
        inner.fault("password_file", message, one);
    }
    inner.finish();
    Some(auth)
}

fn read_authorization(section: &mut Section<'_>) -> Option<Authorization> {
    let mut inner = section.section("authorization", "config.plain")?;
    let scheme: String = inner.value("type");
    let scheme = scheme.trim();
    let auth = Authorization {
        scheme: if scheme.is_empty() { "Bearer" } else { scheme }.to_owned(),
        credentials: inner.value("credentials"),
        credentials_file: optional_path(&mut inner, "credentials_file"),
    };
    refuse_reference(&mut inner, "credentials_ref", "use credentials or credentials_file");
    if !auth.credentials.is_empty() && auth.credentials_file.is_some() {
        let message =
            "at most one of authorization credentials & credentials_file must be configured";
        inner.fault("credentials_file", message, Some("keep one of them"));
    }
    if auth.scheme.eq_ignore_ascii_case("basic") {
        let message = "authorization type cannot be set to \"basic\", use \"basic_auth\" instead";
        inner.fault("type", message, Some("write basic_auth: {username: …, password_file: …}"));
    }
    inner.finish();
    Some(auth)
}

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

fn read_oauth2(section: &mut Section<'_>) -> Option<Box<OAuth2>> {
    let mut inner = section.section("oauth2", "config.plain")?;
    let context = inner.context;
    let grant_type: String = inner.value("grant_type");
    let certificate_key: Secret = inner.value("client_certificate_key");
    let certificate_key_file = optional_path(&mut inner, "client_certificate_key_file");
    for key in ["client_certificate_key_id", "iss", "audience"] {
        inner.value::<String>(key);
    }
    inner.node("claims");
    let algorithm: String = inner.value("signature_algorithm");
    let oauth2 = OAuth2 {
        client_id: inner.value("client_id"),
        client_secret: inner.value("client_secret"),
        client_secret_file: optional_path(&mut inner, "client_secret_file"),
        scopes: inner.value("scopes"),
        token_url: inner.value("token_url"),
        endpoint_params: inner
            .node("endpoint_params")
            .map(|node| read_map::<String>(context, node))
            .unwrap_or_default(),
        tls: read_tls(&mut inner),
        proxy: read_proxy(&mut inner),
    };
    refuse_reference(&mut inner, "client_secret_ref", "use client_secret or client_secret_file");
    refuse_reference(
        &mut inner,
        "client_certificate_key_ref",
        "use client_certificate_key or client_certificate_key_file",
    );
    if oauth2.client_id.is_empty() {
        inner.fault("client_id", "oauth2 client_id must be configured", Some("add client_id: …"));
    }
    if oauth2.token_url.is_empty() {
        inner.fault("token_url", "oauth2 token_url must be configured", Some("add token_url: …"));
    }
    if grant_type == JWT_BEARER {
        if !certificate_key.is_empty() && certificate_key_file.is_some() {
            let message = "at most one of oauth2 client_certificate_key, \
                           client_certificate_key_file & client_certificate_key_ref must be \
                           configured using grant-type=urn:ietf:params:oauth:grant-type:jwt-bearer";
            inner.fault("client_certificate_key_file", message, Some("keep one of them"));
        }
        if !matches!(algorithm.as_str(), "" | "RS256" | "RS384" | "RS512") {
            let message = "valid signature algorithms are RS256, RS384 and RS512";
            inner.fault("signature_algorithm", message, None);
        }
        let message = "oauth2 grant_type jwt-bearer is not supported; requests go out without it";
        inner.warn("grant_type", message, Some("use client_credentials with client_secret_file"));
    } else if !oauth2.client_secret.is_empty() && oauth2.client_secret_file.is_some() {
        let message = "at most one of oauth2 client_secret, client_secret_file & \
                       client_secret_ref must be configured using grant-type=client_credentials";
        inner.fault("client_secret_file", message, Some("keep one of them"));
    }
    inner.finish();
    Some(Box::new(oauth2))
}

/// Reads `tls_config`.
pub(crate) fn read_tls(section: &mut Section<'_>) -> TlsConfig {
    match section.section("tls_config", "config.plain") {
        Some(inner) => read_tls_keys(inner),
        None => TlsConfig::default(),
    }
}

/// Reads the keys of a TLS configuration, which are all the mapping may hold.
pub(crate) fn read_tls_keys(mut inner: Section<'_>) -> TlsConfig {
    let tls = TlsConfig {
        ca: optional_text(&mut inner, "ca"),
        cert: optional_text(&mut inner, "cert"),
        key: inner.read::<Secret>("key").filter(|key| !key.is_empty()),
        ca_file: optional_path(&mut inner, "ca_file"),
        cert_file: optional_path(&mut inner, "cert_file"),
        key_file: optional_path(&mut inner, "key_file"),
        server_name: optional_text(&mut inner, "server_name"),
        insecure_skip_verify: inner.value("insecure_skip_verify"),
        min_version: inner.read("min_version").flatten(),
        max_version: inner.read("max_version").flatten(),
    };
    for (key, instead) in [
        ("ca_ref", "use ca or ca_file"),
        ("cert_ref", "use cert or cert_file"),
        ("key_ref", "use key or key_file"),
    ] {
        refuse_reference(&mut inner, key, instead);
    }
    check_tls(&inner, &tls);
    warn_old_tls(&inner, &tls);
    inner.finish();
    tls
}

fn check_tls(section: &Section<'_>, tls: &TlsConfig) {
    let one = Some("keep one of them");
    for (key, both, message) in [
        (
            "ca_file",
            tls.ca.is_some() && tls.ca_file.is_some(),
            "at most one of ca, ca_file & ca_ref must be configured",
        ),
        (
            "cert_file",
            tls.cert.is_some() && tls.cert_file.is_some(),
            "at most one of cert, cert_file & cert_ref must be configured",
        ),
        (
            "key_file",
            tls.key.is_some() && tls.key_file.is_some(),
            "at most one of key and key_file must be configured",
        ),
    ] {
        if both {
            section.fault(key, message, one);
        }
    }
    let cert = tls.cert.is_some() || tls.cert_file.is_some();
    let key = tls.key.is_some() || tls.key_file.is_some();
    if cert && !key {
        let place = if tls.cert.is_some() { "cert" } else { "cert_file" };
        let message = "exactly one of key or key_file must be configured when a client \
                       certificate is configured";
        section.fault(place, message, Some("add key_file: …"));
    }
    if key && !cert {
        let place = if tls.key.is_some() { "key" } else { "key_file" };
        let message = "exactly one of cert or cert_file must be configured when a client key is \
                       configured";
        section.fault(place, message, Some("add cert_file: …"));
    }
    if let (Some(min), Some(max)) = (tls.min_version, tls.max_version)
        && max < min
    {
        let message = "tls_config.max_version must be greater than or equal to \
                       tls_config.min_version if both are specified";
        section.fault("max_version", message, Some("raise max_version or remove it"));
    }
}

/// TLS 1.0 and 1.1 are broken (RFC 8996), so the library does not have them.
fn warn_old_tls(section: &Section<'_>, tls: &TlsConfig) {
    if tls.max_version.is_some_and(|max| max < TlsVersion::Tls12) {
        let message = "TLS 1.0 and 1.1 are not spoken, so no connection can be made";
        section.mistake("max_version", message, "write TLS12 or TLS13, or remove the key");
    } else if tls.min_version.is_some_and(|min| min < TlsVersion::Tls12) {
        let message = "TLS 1.0 and 1.1 are not spoken; the lowest version is TLS 1.2";
        section.warn("min_version", message, Some("write TLS12 if the servers speak it"));
    }
}

impl FromNode for TlsVersion {
    fn from_node(context: &Context<'_>, node: &Node) -> Option<Self> {
        let text = String::from_node(context, node)?;
        let version = match text.as_str() {
            "TLS10" => TlsVersion::Tls10,
            "TLS11" => TlsVersion::Tls11,
            "TLS12" => TlsVersion::Tls12,
            "TLS13" => TlsVersion::Tls13,
            _ => {
                let help = "write TLS10, TLS11, TLS12 or TLS13".to_owned();
                context.fault(node.span, format!("unknown TLS version: {text}"), Some(help));
                return None;
            }
        };
        Some(version)
    }
}

fn read_proxy(section: &mut Section<'_>) -> ProxyConfig {
    let context = section.context;
    let proxy = ProxyConfig {
        proxy_url: section.read::<HttpUrl>("proxy_url").filter(|url| !url.reveal().is_empty()),
        no_proxy: section.value("no_proxy"),
        proxy_from_environment: section.value("proxy_from_environment"),
        proxy_connect_header: section
            .node("proxy_connect_header")
            .map(|node| read_map::<Vec<Secret>>(context, node))
            .unwrap_or_default(),
    };
    let url = proxy.proxy_url.is_some();
    if !proxy.proxy_connect_header.is_empty() && !proxy.proxy_from_environment && !url {
        let message = "if proxy_connect_header is configured, proxy_url or \
                       proxy_from_environment must also be configured";
        section.fault("proxy_connect_header", message, Some("add proxy_url: http://…"));
    }
    if proxy.proxy_from_environment && url {
        let message = "if proxy_from_environment is configured, proxy_url must not be configured";
        section.fault("proxy_url", message, Some("remove one of the two"));
    }
    if proxy.proxy_from_environment && !proxy.no_proxy.is_empty() {
        let message = "if proxy_from_environment is configured, no_proxy must not be configured";
        section.fault("no_proxy", message, Some("set NO_PROXY in the environment instead"));
    }
    if !url && !proxy.proxy_from_environment && !proxy.no_proxy.is_empty() {
        let message = "if no_proxy is configured, proxy_url must also be configured";
        section.fault("no_proxy", message, Some("add proxy_url: http://…"));
    }
    proxy
}

/// Headers that Watchfire sets itself, in canonical form.
const RESERVED_HEADERS: [&str; 18] = [
    "Accept-Encoding",
    "Authorization",
    "Connection",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "Host",
    "Keep-Alive",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "User-Agent",
    "Www-Authenticate",
    "X-Amz-Content-Sha256",
    "X-Amz-Date",
    "X-Amz-Security-Token",
    "X-Prometheus-Remote-Read-Version",
    "X-Prometheus-Remote-Write-Version",
    "X-Prometheus-Scrape-Timeout-Seconds",
];

fn read_headers(section: &mut Section<'_>) -> Vec<HttpHeader> {
    let Some(node) = section.node("http_headers") else { return Vec::new() };
    let context = section.context;
    let mut headers = Vec::new();
    for (key, value) in pairs_of(context, node) {
        let Some(name) = String::from_node(context, key) else { continue };
        let name = canonical_header(&name);
        if RESERVED_HEADERS.contains(&name.as_str()) {
            let help = "Watchfire sets this header itself; for credentials use basic_auth, \
                        authorization or oauth2";
            let message = format!("setting header {name:?} is not allowed");
            context.fault(key.span, message, Some(help.to_owned()));
        }
        let Some(mut inner) = Section::open(context, value, "config.Header") else { continue };
        headers.push(HttpHeader {
            name,
            values: inner.value("values"),
            secrets: inner.value("secrets"),
            files: inner.value("files"),
        });
        inner.finish();
    }
    headers
}

/// Go's `textproto.CanonicalMIMEHeaderKey`: words begin with a capital; a name that is no token
/// stays as it is.
pub(crate) fn canonical_header(name: &str) -> String {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !name.bytes().all(token) {
        return name.to_owned();
    }
    let mut start = true;
    name.chars()
        .map(|c| {
            let canonical = if start { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
            start = c == '-';
            canonical
        })
        .collect()
}

/// Reads the plain `headers` of remote write, remote read and tracing; `authorization` is what
/// to say where that header is given.
pub(super) fn read_plain_headers(
    section: &mut Section<'_>,
    authorization: &str,
) -> Vec<(String, String)> {
    let Some(node) = section.node("headers") else { return Vec::new() };
    let context = section.context;
    if let Value::Mapping(pairs) = &node.value {
        for (key, _) in pairs {
            let Some(name) = String::from_node(context, key) else { continue };
            let canonical = canonical_header(&name);
            // Of the reserved names one is about scraping only.
            let reserved = RESERVED_HEADERS.contains(&canonical.as_str())
                && canonical != "X-Prometheus-Scrape-Timeout-Seconds";
            if canonical == "Authorization" {
                context.fault(key.span, authorization, None);
            } else if reserved {
                let message = format!("{name} is a reserved header. It must not be changed");
                context.fault(key.span, message, Some("remove it".to_owned()));
            }
        }
    }
    read_map(context, node)
}
