//! The fleet as metrics.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wire::text_encode::TextEncoder;

use super::known::Known;
use super::{Agent, Fleet};
use crate::Broker;

/// Agents that have metrics of their own, the first by name: who has more asks the API.
const MAX_LABELLED: usize = 1_000;

/// Name, type, help and value of one metric of each agent.
type OfAgent = (&'static str, &'static str, &'static str, fn(&Known, i64) -> f64);

const OF_AGENTS: [OfAgent; 6] = [
    ("watchfire_agent_up", "gauge", "Whether the agent is connected.", |known, _| {
        f64::from(u8::from(known.session.is_some()))
    }),
    (
        "watchfire_agent_lag_seconds",
        "gauge",
        "Age of the agent's oldest batch that is not stored; of its last word if it is not connected.",
        |known, now_ms| known.lag_ms(now_ms) as f64 / 1_000.0,
    ),
    (
        "watchfire_agent_last_seen_timestamp_seconds",
        "gauge",
        "When anything was last heard of the agent.",
        |known, _| known.last_seen_ms as f64 / 1_000.0,
    ),
    (
        "watchfire_agent_reported_spool_bytes",
        "gauge",
        "What the agent's spool holds, as it says.",
        |known, _| known.status.spool_bytes as f64,
    ),
    (
        "watchfire_agent_reported_dropped_samples_total",
        "counter",
        "Samples the agent had to drop since its start, as it says.",
        |known, _| known.status.samples_dropped as f64,
    ),
    (
        "watchfire_agent_certificate_expiry_timestamp_seconds",
        "gauge",
        "When the agent's certificate ends; 0 if it has none.",
        |known, _| known.kept.certificate_expires_ms() as f64 / 1_000.0,
    ),
];

impl Broker {
    /// Writes the fleet's metrics; those of single agents bear its name as label `agent`, for at
    /// most 1,000 agents.
    pub fn render_fleet(&self, out: &mut TextEncoder<'_>) {
        let Fleet { agents, connected, replaced_sessions } = &*self.inner.fleet;
        let now_ms = self.now_ms();
        let (known, agents): (usize, Vec<Arc<Agent>>) = {
            let agents = agents.read();
            let listed = agents.values().filter(|agent| !agent.known.lock().is_removed());
            let mut listed: Vec<Arc<Agent>> = listed.cloned().collect();
            let known = listed.len();
            listed.truncate(MAX_LABELLED);
            (known, listed)
        };
        let connected = connected.load(Ordering::Relaxed);
        let replaced = replaced_sessions.load(Ordering::Relaxed);
        for (name, kind, help, value) in [
            (
                "watchfire_broker_agents_connected",
                "gauge",
                "Agents connected now.",
                connected as f64,
            ),
            (
                "watchfire_broker_agents_known",
                "gauge",
                "Agents connected or remembered.",
                known as f64,
            ),
            (
                "watchfire_broker_agent_sessions_replaced_total",
                "counter",
                "Streams of agents ended because the same agent opened another.",
                replaced as f64,
            ),
        ] {
            out.family(name, kind, help);
            out.sample(name, &[], value);
        }
        for (name, kind, help, value) in OF_AGENTS {
            out.family(name, kind, help);
            for agent in &agents {
                out.sample(name, &[("agent", &agent.name)], value(&agent.known.lock(), now_ms));
            }
        }
    }
}
