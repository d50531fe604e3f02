//! What is told and shown of one agent.

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::Incarnation;

/// What an agent says of itself when it connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentHello {
    /// Its name, as in its certificate.
    pub name: Arc<str>,
    /// Its spool.
    pub incarnation: Incarnation,
    /// Address it connects from, without the port; empty inside one process.
    pub address: String,
    /// Name of its host, as the host says.
    pub hostname: String,
    /// Version of its program.
    pub version: String,
    /// Labels for the fleet's table.
    pub labels: BTreeMap<String, String>,
    /// Tells configurations apart.
    pub config_hash: String,
    /// When the agent started, milliseconds since the epoch.
    pub started_ms: i64,
    /// When its certificate ends; 0 if it has none.
    pub certificate_expires_ms: i64,
}

/// What only the agent knows of itself, as of its last word. Counts are since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct AgentStatus {
    /// The agent's clock, milliseconds since the epoch.
    pub now_ms: i64,
    /// What its spool holds.
    pub spool_bytes: u64,
    /// What it may hold.
    pub spool_limit_bytes: u64,
    /// When the oldest batch was collected that is not acknowledged; 0 if there is none.
    pub oldest_unacknowledged_ms: i64,
    /// Samples collected.
    pub samples_collected: u64,
    /// Samples dropped.
    pub samples_dropped: u64,
    /// Batches dropped.
    pub batches_dropped: u64,
    /// Series it collects.
    pub active_series: u64,
    /// Its memory.
    pub resident_bytes: u64,
    /// Its processor time.
    pub cpu_seconds: f64,
    /// Targets of its scraper that answer.
    pub targets_up: u32,
    /// Targets that do not.
    pub targets_down: u32,
}

/// One agent, for the fleet's table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AgentRow {
    /// Its name.
    pub name: String,
    /// Whether it is connected now.
    pub connected: bool,
    /// Address it last connected from; empty inside one process.
    pub address: String,
    /// Name of its host.
    pub hostname: String,
    /// Version of its program.
    pub version: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Tells configurations apart.
    pub config_hash: String,
    /// Its spool, 32 hexadecimal digits.
    pub incarnation: String,
    /// When it started, milliseconds since the epoch; 0 if it is not connected.
    pub started_ms: i64,
    /// When it was first seen.
    pub first_seen_ms: i64,
    /// When anything was last heard of it.
    pub last_seen_ms: i64,
    /// When its certificate ends; 0 if it has none.
    pub certificate_expires_ms: i64,
    /// How far it is behind: age of the oldest batch it has that is not stored, by its own clock;
    /// if it is not connected, since when nothing was heard.
    pub lag_ms: i64,
    /// Through which batch of the live lane everything is stored.
    pub live_through: u64,
    /// The same of the backlog.
    pub backlog_through: u64,
    /// Batches stored since this broker started.
    pub batches_stored: u64,
    /// Samples refused in them, since this broker started.
    pub samples_refused: u64,
    /// What was last refused, and why; empty if nothing was.
    pub last_complaint: String,
    /// What it last said of itself, if it is connected.
    pub status: AgentStatus,
}
