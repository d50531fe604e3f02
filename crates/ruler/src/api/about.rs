//! What the API tells of the process it is in.

use std::sync::Arc;

use net::NetMetrics;

/// What the API tells of the process it is in.
pub struct About {
    /// Version of the program.
    pub version: String,
    /// Revision it was built from, if known.
    pub revision: String,
    /// When it started, milliseconds since 1970.
    pub started_ms: i64,
    /// Where users reach it, for templates.
    pub external_url: String,
    /// The brokers that notify together.
    pub cluster: Box<dyn Fn() -> ClusterAbout + Send + Sync>,
    /// Where bodies of requests are counted.
    pub net_metrics: Arc<NetMetrics>,
}

/// The brokers that notify together, in the words Alertmanager has for its own cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterAbout {
    /// The name of this one, if there are several.
    pub name: Option<String>,
    /// How they are.
    pub status: ClusterStatus,
    /// All of them.
    pub peers: Vec<PeerAbout>,
}

/// How a cluster is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClusterStatus {
    /// Its members agree.
    Ready,
    /// They do not agree yet.
    Settling,
    /// There is none: this is one machine.
    #[default]
    Disabled,
}

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAbout {
    /// Its name.
    pub name: String,
    /// Where the others reach it.
    pub address: String,
}
