//! Where targets come from.

use std::time::Duration;

use super::HttpClientConfig;
use crate::{HttpUrl, TargetGroup};

/// One block of service discovery below a scrape configuration or an Alertmanager.
#[derive(Debug, Clone, PartialEq)]
pub enum Discovery {
    /// `static_configs`: all of its groups.
    Static(Vec<TargetGroup>),
    /// One entry of `file_sd_configs`.
    File(FileDiscovery),
    /// One entry of `http_sd_configs`.
    Http(Box<HttpDiscovery>),
    /// One entry of `dns_sd_configs`.
    Dns(DnsDiscovery),
    /// One entry of a mechanism that Watchfire checks and names in a warning, but does not run
    /// yet.
    Unsupported {
        /// The key of the file, such as `consul_sd_configs`.
        key: &'static str,
    },
}

/// Files of target groups, JSON or YAML.
#[derive(Debug, Clone, PartialEq)]
pub struct FileDiscovery {
    /// Patterns, already joined with the directory of the configuration. Only the last path
    /// element may hold `*`; each ends in `.json`, `.yml` or `.yaml`.
    pub files: Vec<String>,
    /// How often the files are read again even when nothing told of a change. Default 5 min.
    pub refresh_interval: Duration,
}

/// A server that answers with target groups as JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpDiscovery {
    /// The server; its scheme is `http` or `https` and it has a host.
    pub url: HttpUrl,
    /// How to speak to it.
    pub http: HttpClientConfig,
    /// How often to ask. Default 60 s.
    pub refresh_interval: Duration,
}

/// Names to look up.
#[derive(Debug, Clone, PartialEq)]
pub struct DnsDiscovery {
    /// The names; at least one.
    pub names: Vec<String>,
    /// What to ask for. Default `SRV`.
    pub record_type: DnsRecordType,
    /// The port of the targets; set unless the records name it themselves (`SRV`).
    pub port: u16,
    /// How often to ask. Default 30 s.
    pub refresh_interval: Duration,
}

/// Record types that name targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsRecordType {
    /// Host and port.
    Srv,
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Mail exchangers.
    Mx,
    /// Name servers.
    Ns,
}
