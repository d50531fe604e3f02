//! Prometheus' configuration file, typed (`config/config.go` of Prometheus 3).

mod alerting;
mod check;
mod discovery;
mod global;
mod http_client;
mod load;
pub(crate) mod read;
mod remote;
pub mod rules;
mod scrape;

pub use alerting::{Alerting, AlertmanagerConfig};
pub use discovery::{Discovery, DnsDiscovery, DnsRecordType, FileDiscovery, HttpDiscovery};
pub use global::{Global, Otlp, Storage, Tracing, TranslationStrategy};
pub use http_client::{
    Authorization, BasicAuth, HttpClientConfig, HttpHeader, OAuth2, ProxyConfig, TlsConfig,
    TlsVersion,
};
pub(crate) use load::read_file;
pub use load::{Loaded, Surroundings};
pub(crate) use read::read_rules;
pub use remote::{MetadataConfig, QueueConfig, RemoteRead, RemoteWrite, RemoteWriteMessage};
pub use scrape::{NameEscaping, ScrapeConfig, ScrapeProtocol};

/// A whole configuration, checked, with every default filled in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// Defaults for all jobs.
    pub global: Global,
    /// Alertmanagers and rules over alerts.
    pub alerting: Alerting,
    /// Patterns of rule files, joined with the directory of the configuration.
    pub rule_files: Vec<String>,
    /// Patterns of files with more scrape configurations, joined likewise. What they hold is
    /// already in `scrape_configs`.
    pub scrape_config_files: Vec<String>,
    /// The jobs: those of the file, then those of `scrape_config_files`.
    pub scrape_configs: Vec<ScrapeConfig>,
    /// Retention and exemplars.
    pub storage: Storage,
    /// Spans of the process itself.
    pub tracing: Option<Tracing>,
    /// Stores to write to.
    pub remote_write: Vec<RemoteWrite>,
    /// Stores to read from.
    pub remote_read: Vec<RemoteRead>,
    /// Translation of OTLP metrics.
    pub otlp: Otlp,
}
