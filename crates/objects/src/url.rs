//! URLs of stores.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use settings::Secret;

/// Why a URL names no store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a URL.
    #[error(
        "{0:?} is no URL of a store: write s3://BUCKET/PREFIX, gs://, az://, redis://, \
         redis+cluster://, file:///DIRECTORY or memory://"
    )]
    Scheme(String),
    /// A part is missing.
    #[error("the URL of the store names no {0}")]
    Missing(&'static str),
    /// A setting nobody knows.
    #[error("the URL of the store has the setting {found:?}, known are: {known}")]
    Setting {
        /// What is there.
        found: String,
        /// What may be there.
        known: &'static str,
    },
    /// A setting with a value that is none.
    #[error("the setting {name} of the store's URL is {value:?}, and should be {wanted}")]
    Value {
        /// Which.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
}

/// Which kind of store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreKind {
    /// S3 or something that speaks like it.
    S3 {
        /// The bucket.
        bucket: String,
        /// Where it is, if neither Amazon's nor named by the environment.
        endpoint: Option<String>,
        /// Its region, if the environment does not name it.
        region: Option<String>,
        /// Whether the bucket is in the path and not in the name of the host; if not given, it is
        /// everywhere but at Amazon.
        path_style: Option<bool>,
        /// The authorities to trust instead of the system's, PEM.
        ca_file: Option<PathBuf>,
    },
    /// Google Cloud Storage.
    Gcs {
        /// The bucket.
        bucket: String,
        /// Where it is, if not Google's.
        endpoint: Option<String>,
        /// As for S3.
        ca_file: Option<PathBuf>,
    },
    /// Azure Blob Storage.
    Azure {
        /// The container.
        container: String,
        /// The account, if the environment does not name it.
        account: Option<String>,
        /// Where it is, if not Azure's.
        endpoint: Option<String>,
        /// As for S3.
        ca_file: Option<PathBuf>,
    },
    /// Redis.
    Redis(RedisPlace),
    /// A directory.
    File {
        /// Which.
        directory: PathBuf,
    },
    /// This process.
    Memory,
}

/// Where a Redis is, and how it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisPlace {
    /// Host and port of at least one node.
    pub nodes: Vec<(String, u16)>,
    /// Whether they are a Redis Cluster.
    pub is_cluster: bool,
    /// Whether to speak TLS.
    pub tls: bool,
    /// Who to log in as, if the environment does not say.
    pub username: Option<String>,
    /// With what.
    pub password: Option<Secret>,
    /// Objects are forgotten after so many seconds, 0 for never; if not given, with the retention.
    pub ttl_s: Option<u64>,
    /// Replicas that must confirm a write.
    pub wait: u32,
    /// As for S3.
    pub ca_file: Option<PathBuf>,
}

/// A store, and the prefix below which everything of ours lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreUrl {
    /// Which store.
    pub kind: StoreKind,
    /// Without slashes at its ends; may be empty.
    pub prefix: String,
}

impl StoreUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// It names no store.
    pub fn parse(text: &str) -> Result<StoreUrl, UrlError> {
        let scheme_error = || UrlError::Scheme(without_secrets(text));
        let (scheme, rest) = text.split_once("://").ok_or_else(scheme_error)?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let settings = Settings::parse(query);
        let (host, path) = place.split_once('/').unwrap_or((place, ""));
        let prefix = path.trim_matches('/').to_owned();
        let kind = match scheme {
            "s3" => s3(host, settings)?,
            "gs" => {
                settings.only("endpoint, ca_file", &["endpoint", "ca_file"])?;
                let (endpoint, ca_file) = (settings.get("endpoint"), settings.ca_file());
                StoreKind::Gcs { bucket: named(host, "bucket")?, endpoint, ca_file }
            }
            "az" => {
                let known = "account, endpoint, ca_file";
                settings.only(known, &["account", "endpoint", "ca_file"])?;
                let (account, endpoint) = (settings.get("account"), settings.get("endpoint"));
                let (container, ca_file) = (named(host, "container")?, settings.ca_file());
                StoreKind::Azure { container, account, endpoint, ca_file }
            }
            "redis" | "rediss" | "redis+cluster" | "rediss+cluster" => {
                redis(scheme, host, settings)?
            }
            "file" => {
                settings.only("none", &[])?;
                if !host.is_empty() || path.is_empty() {
                    return Err(UrlError::Missing("directory: write file:///DIRECTORY"));
                }
                let directory = PathBuf::from(format!("/{path}"));
                return Ok(StoreUrl { kind: StoreKind::File { directory }, prefix: String::new() });
            }
            "memory" => StoreKind::Memory,
            _ => return Err(scheme_error()),
        };
        Ok(StoreUrl { kind, prefix })
    }

    /// Why a write that was confirmed can be lost; then the store may be a cache, and the truth only
    /// if that is accepted.
    pub fn weakness(&self) -> Option<&'static str> {
        match &self.kind {
            StoreKind::Redis(_) => Some(
                "Redis confirms a write before its replicas have it, so when a link is cut and a replica \
                 is promoted, what the old primary confirmed since is thrown away; wait= makes that \
                 rarer and does not exclude it",
            ),
            StoreKind::Memory => Some("what is in memory is gone when the process ends"),
            _ => None,
        }
    }
}

/// As a URL without secrets.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = &self.prefix;
        match &self.kind {
            StoreKind::S3 { bucket, endpoint, .. } => {
                write!(f, "s3://{bucket}/{prefix}")?;
                match endpoint {
                    Some(endpoint) => write!(f, "?endpoint={}", without_secrets(endpoint)),
                    None => Ok(()),
                }
            }
            StoreKind::Gcs { bucket, .. } => write!(f, "gs://{bucket}/{prefix}"),
            StoreKind::Azure { container, .. } => write!(f, "az://{container}/{prefix}"),
            StoreKind::Redis(place) => {
                let tls = if place.tls { "s" } else { "" };
                let cluster = if place.is_cluster { "+cluster" } else { "" };
                let node = |(host, port): &(String, u16)| format!("{host}:{port}");
                let nodes: Vec<String> = place.nodes.iter().map(node).collect();
                write!(f, "redis{tls}{cluster}://{}/{prefix}", nodes.join(","))
            }
            StoreKind::File { directory } => write!(f, "file://{}", directory.display()),
            StoreKind::Memory => write!(f, "memory://{prefix}"),
        }
    }
}

struct Settings(BTreeMap<String, String>);

impl Settings {
    fn parse(query: &str) -> Settings {
        let pairs = form_urlencoded::parse(query.as_bytes());
        Settings(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    fn only(&self, known: &'static str, names: &[&str]) -> Result<(), UrlError> {
        match self.0.keys().find(|name| !names.contains(&name.as_str())) {
            Some(found) => Err(UrlError::Setting { found: found.clone(), known }),
            None => Ok(()),
        }
    }

    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|value| !value.is_empty()).cloned()
    }

    fn ca_file(&self) -> Option<PathBuf> {
        self.get("ca_file").map(PathBuf::from)
    }

    fn parsed<T: std::str::FromStr>(
        &self,
        name: &'static str,
        wanted: &'static str,
    ) -> Result<Option<T>, UrlError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| UrlError::Value { name, value, wanted })
    }
}

fn s3(host: &str, settings: Settings) -> Result<StoreKind, UrlError> {
    let known = "endpoint, region, path_style, ca_file";
    settings.only(known, &["endpoint", "region", "path_style", "ca_file"])?;
    Ok(StoreKind::S3 {
        bucket: named(host, "bucket")?,
        endpoint: settings.get("endpoint"),
        region: settings.get("region"),
        path_style: settings.parsed("path_style", "true or false")?,
        ca_file: settings.ca_file(),
    })
}

fn redis(scheme: &str, host: &str, settings: Settings) -> Result<StoreKind, UrlError> {
    settings.only("ttl, wait, ca_file", &["ttl", "wait", "ca_file"])?;
    let (login, nodes) = match host.rsplit_once('@') {
        Some((login, nodes)) => (Some(login), nodes),
        None => (None, host),
    };
    let (username, password) = match login.map(|login| login.split_once(':').unwrap_or((login, "")))
    {
        Some((username, password)) => {
            let some = |text: &str| (!text.is_empty()).then(|| decoded(text));
            (some(username), some(password).map(Secret::new))
        }
        None => (None, None),
    };
    let nodes =
        nodes.split(',').filter(|node| !node.is_empty()).map(node).collect::<Result<_, _>>();
    let nodes: Vec<(String, u16)> = nodes?;
    if nodes.is_empty() {
        return Err(UrlError::Missing("host"));
    }
    let is_cluster = scheme.ends_with("+cluster");
    if !is_cluster && nodes.len() > 1 {
        let value = format!("{} hosts", nodes.len());
        let wanted = "one; several are written redis+cluster://HOST:PORT,HOST:PORT";
        return Err(UrlError::Value { name: "host", value, wanted });
    }
    Ok(StoreKind::Redis(RedisPlace {
        nodes,
        is_cluster,
        tls: scheme.starts_with("rediss"),
        username,
        password,
        ttl_s: settings.parsed("ttl", "a number of seconds, 0 for never")?,
        wait: settings.parsed("wait", "a number of replicas")?.unwrap_or(0),
        ca_file: settings.ca_file(),
    }))
}

/// `HOST`, `HOST:PORT`, `[ADDRESS]:PORT`.
fn node(text: &str) -> Result<(String, u16), UrlError> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (text, "6379"),
    };
    let wanted = "between 1 and 65535";
    let value = port.to_owned();
    let port = port.parse().map_err(|_| UrlError::Value { name: "port", value, wanted })?;
    Ok((host.to_owned(), port))
}

fn named(host: &str, what: &'static str) -> Result<String, UrlError> {
    if host.is_empty() { Err(UrlError::Missing(what)) } else { Ok(host.to_owned()) }
}

/// A part of a URL in which `%40` stands for `@`.
fn decoded(text: &str) -> String {
    // The query decoder takes `+` for a space; here it is itself.
    let text = text.replace('+', "%2B");
    form_urlencoded::parse(text.as_bytes())
        .next()
        .map_or(text.clone(), |(name, _)| name.into_owned())
}

/// A URL without what stands in front of an `@`.
fn without_secrets(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        (None, Some((_, rest))) => format!("…@{rest}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        StoreUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).to_string()
    }

    #[test]
    fn every_kind_is_read_and_shown_without_secrets() {
        for (text, wanted) in [
            ("s3://b/p/q/", "s3://b/p/q"),
            ("s3://b", "s3://b/"),
            ("s3://b/p?endpoint=http://h:1", "s3://b/p?endpoint=http://h:1"),
            ("gs://b/p", "gs://b/p"),
            ("az://c/p?account=a", "az://c/p"),
            ("redis://u:p%40ss@h/p?ttl=60", "redis://h:6379/p"),
            ("rediss+cluster://:s@h:1,i:2/p?wait=1", "rediss+cluster://h:1,i:2/p"),
            ("redis://[::1]/p", "redis://[::1]:6379/p"),
            ("redis://[::1]:7/p", "redis://[::1]:7/p"),
            ("file:///var/lib/x", "file:///var/lib/x"),
            ("memory://", "memory://"),
        ] {
            assert_eq!(shown(text), wanted);
        }
        let url = StoreUrl::parse("redis://u:p%40s+s@h/p?ttl=60&wait=2").expect("it is one");
        let StoreKind::Redis(place) = &url.kind else { panic!("{url:?}") };
        assert_eq!((place.username.as_deref(), place.ttl_s, place.wait), (Some("u"), Some(60), 2));
        assert_eq!(place.password.as_ref().map(Secret::reveal), Some("p@s+s"));
        assert!(!format!("{url:?}").contains("p@s"));
    }

    #[test]
    fn what_is_no_store_is_told() {
        for (text, part) in [
            ("http://h", "no URL of a store"),
            ("nothing", "no URL of a store"),
            ("s3:///p", "names no bucket"),
            ("s3://b?regoin=x", "region"),
            ("s3://b?path_style=perhaps", "true or false"),
            ("file://host/x", "names no directory"),
            ("redis:///p", "names no host"),
            ("redis://a,b", "redis+cluster"),
            ("redis://a:x", "65535"),
            ("redis://a:70000", "65535"),
            ("redis://a?ttl=x", "number of seconds"),
        ] {
            let error = StoreUrl::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let error = StoreUrl::parse("redi://u:secret@h").expect_err("misspelt").to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
