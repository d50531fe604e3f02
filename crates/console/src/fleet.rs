//! Who sends: the agents behind `/api/v1/agents`.

use std::collections::BTreeMap;
use std::pin::Pin;

use serde::{Serialize, Serializer};

/// Where the console learns about agents.
pub trait Fleet: Send + Sync + 'static {
    /// Every agent that is connected or was, sorted by name.
    fn agents(&self) -> Vec<Agent>;

    /// Takes an agent that is away off the list, durably.
    fn remove<'a>(&'a self, name: &'a str) -> Removal<'a>;
}

/// Whether an agent was taken off the list.
pub type Removal<'a> = Pin<Box<dyn Future<Output = Result<(), RemovalError>> + Send + 'a>>;

/// Why it was not; the text is for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovalError {
    /// There is none of that name.
    Unknown(String),
    /// It is connected.
    Connected(String),
    /// That could not be kept.
    Failed(String),
}

/// One agent, as the API tells it. Counts are since the agent's start.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// Name in its certificate.
    pub name: String,
    /// Whether its stream is open now.
    pub connected: bool,
    /// Name of its host.
    pub hostname: String,
    /// Version of its program.
    pub version: String,
    /// Where it connects from; empty if it is not connected.
    pub address: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// First digits of the hash of its configuration.
    pub config_hash: String,
    /// When its program started, milliseconds since the epoch; RFC 3339 in JSON.
    #[serde(serialize_with = "rfc3339")]
    pub started: i64,
    /// When something last came from it.
    #[serde(serialize_with = "rfc3339")]
    pub last_seen: i64,
    /// When its certificate ends; 0 if unknown.
    #[serde(serialize_with = "rfc3339")]
    pub certificate_expires: i64,
    /// Age of the oldest batch that it has collected and this broker has not stored, seconds.
    pub lag_seconds: f64,
    /// Bytes in its spool.
    pub spool_bytes: u64,
    /// Most bytes its spool may hold.
    pub spool_limit_bytes: u64,
    /// Highest stored number in the lane of fresh batches; a string in JSON, whose numbers are too
    /// small for it.
    #[serde(serialize_with = "digits")]
    pub live_through_seq: u64,
    /// Highest stored number in the lane of what the spool kept.
    #[serde(serialize_with = "digits")]
    pub backlog_through_seq: u64,
    /// Samples it collected.
    pub samples_collected: u64,
    /// Samples it had to drop.
    pub samples_dropped: u64,
    /// Batches it had to drop.
    pub batches_dropped: u64,
    /// Series it sends now.
    pub active_series: u64,
    /// Its resident memory.
    pub resident_bytes: u64,
    /// CPU time it used.
    pub cpu_seconds: f64,
    /// Scrape targets it reaches.
    pub targets_up: u32,
    /// Scrape targets it does not reach.
    pub targets_down: u32,
    /// What the broker last refused of it, and why; empty if nothing was.
    pub last_complaint: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn rfc3339<S: Serializer>(t_ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    match t_ms {
        0 => serializer.serialize_none(),
        t_ms => serializer.serialize_str(&model::rfc3339(*t_ms)),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn digits<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}
