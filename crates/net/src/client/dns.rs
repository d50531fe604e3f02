//! Name lookups, asynchronous: a dead name server costs no thread and delays nobody else.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use parking_lot::Mutex;

/// Files that say how names are looked up. As Go's resolver does, they are looked at again now
/// and then, so that a laptop that changes networks, or a container whose hosts file is rewritten,
/// needs no restart.
const SYSTEM_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// How often the files above are looked at.
const RECHECK: Duration = Duration::from_secs(5);

/// Answers are kept at most this long, whatever their TTL says: Prometheus keeps none at all.
const MAX_POSITIVE_TTL: Duration = Duration::from_secs(30);

/// A name that did not exist may exist a moment later.
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(2);

/// Lookups under way on one connection to a name server; a start with thousands of targets asks
/// for all of their names at once.
const MAX_ACTIVE_REQUESTS: usize = 4_096;

/// Looks names up by `/etc/hosts` and the name servers of `/etc/resolv.conf`, search domains
/// included. `nsswitch.conf` is not heeded, as in Go programs.
pub struct Dns {
    current: Mutex<Current>,
}

struct Current {
    resolver: Arc<TokioResolver>,
    stamps: [Option<SystemTime>; SYSTEM_FILES.len()],
    checked: Instant,
}

/// Record types for [`Dns::records`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DnsRecordKind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Services.
    Srv,
    /// Mail exchangers.
    Mx,
    /// Name servers.
    Ns,
}

/// One record. Names end with a dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsRecord {
    /// `A` or `AAAA`.
    Address(IpAddr),
    /// `SRV`.
    Service {
        /// The host.
        target: String,
        /// Its port.
        port: u16,
    },
    /// The host of an `MX`.
    MailExchanger(String),
    /// The host of an `NS`.
    NameServer(String),
}

/// Why a name could not be looked up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// The name servers say that there is nothing of this name.
    #[error("there is no host {0:?}; check the name, /etc/hosts and /etc/resolv.conf")]
    NoSuchName(String),
    /// No usable answer.
    #[error("cannot look up {name:?}: {reason}")]
    Failed {
        /// What was looked up.
        name: String,
        /// Why there is no answer.
        reason: String,
    },
}

impl Default for Dns {
    fn default() -> Self {
        Self::new()
    }
}

impl Dns {
    /// By the files of this system. Without a usable `/etc/resolv.conf` the name server is
    /// 127.0.0.1, as in Go programs. Must be used on a tokio runtime.
    pub fn new() -> Self {
        Dns {
            current: Mutex::new(Current {
                resolver: Arc::new(resolver()),
                stamps: stamps(),
                checked: Instant::now(),
            }),
        }
    }

    /// All addresses of `host`, which may be an address itself; never empty.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Ok(address) = literal.unwrap_or(host).parse() {
            return Ok(vec![address]);
        }
        let found = self.resolver().lookup_ip(host).await.map_err(|error| fault(host, &error))?;
        let addresses: Vec<IpAddr> = found.iter().collect();
        if addresses.is_empty() {
            return Err(DnsError::NoSuchName(host.to_owned()));
        }
        Ok(addresses)
    }

    /// The records of `name`, asked for anew; empty when there are none.
    ///
    /// # Errors
    /// [`DnsError::Failed`].
    pub async fn records(
        &self,
        name: &str,
        kind: DnsRecordKind,
    ) -> Result<Vec<DnsRecord>, DnsError> {
        let record_type = match kind {
            DnsRecordKind::A => RecordType::A,
            DnsRecordKind::Aaaa => RecordType::AAAA,
            DnsRecordKind::Srv => RecordType::SRV,
            DnsRecordKind::Mx => RecordType::MX,
            DnsRecordKind::Ns => RecordType::NS,
        };
        let resolver = self.resolver();
        resolver.clear_lookup_cache(name, record_type);
        match resolver.lookup(name, record_type).await {
            Ok(found) => {
                Ok(found.answers().iter().filter_map(|answer| record(&answer.data)).collect())
            }
            Err(error) if error.is_no_records_found() => Ok(Vec::new()),
            Err(error) => Err(fault(name, &error)),
        }
    }

    fn resolver(&self) -> Arc<TokioResolver> {
        let mut current = self.current.lock();
        if current.checked.elapsed() >= RECHECK {
            current.checked = Instant::now();
            let stamps = stamps();
            if stamps != current.stamps {
                current.stamps = stamps;
                current.resolver = Arc::new(resolver());
            }
        }
        Arc::clone(&current.resolver)
    }
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Dns")
    }
}

fn resolver() -> TokioResolver {
    let (config, mut options) =
        hickory_resolver::system_conf::read_system_conf().unwrap_or_else(|error| {
            tracing::debug!(%error, "no usable /etc/resolv.conf; asking 127.0.0.1 for names");
            let local = NameServerConfig::udp_and_tcp(IpAddr::V4(Ipv4Addr::LOCALHOST));
            (ResolverConfig::from_name_servers(vec![local]), ResolverOpts::default())
        });
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    options.positive_max_ttl = Some(MAX_POSITIVE_TTL);
    options.negative_max_ttl = Some(MAX_NEGATIVE_TTL);
    options.max_active_requests = MAX_ACTIVE_REQUESTS;
    options.try_tcp_on_error = true;
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build().expect("only encrypted transports, which are not compiled in, can fail")
}

fn stamps() -> [Option<SystemTime>; SYSTEM_FILES.len()] {
    SYSTEM_FILES.map(|path| Path::new(path).metadata().and_then(|meta| meta.modified()).ok())
}

fn record(data: &RData) -> Option<DnsRecord> {
    match data {
        RData::A(address) => Some(DnsRecord::Address(IpAddr::V4(address.0))),
        RData::AAAA(address) => Some(DnsRecord::Address(IpAddr::V6(address.0))),
        RData::SRV(srv) => {
            Some(DnsRecord::Service { target: srv.target.to_ascii(), port: srv.port })
        }
        RData::MX(mx) => Some(DnsRecord::MailExchanger(mx.exchange.to_ascii())),
        RData::NS(ns) => Some(DnsRecord::NameServer(ns.0.to_ascii())),
        // Aliases on the way to the records that were asked for.
        _ => None,
    }
}

fn fault(name: &str, error: &NetError) -> DnsError {
    if error.is_no_records_found() {
        return DnsError::NoSuchName(name.to_owned());
    }
    DnsError::Failed { name: name.to_owned(), reason: error.to_string() }
}
