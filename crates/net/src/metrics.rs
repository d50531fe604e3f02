//! What the edge counts about itself.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use wire::text_encode::TextEncoder;

/// Counters of one or more servers, shared by reference. Reading and adding are lock-free.
#[derive(Debug, Default)]
pub struct NetMetrics {
    pub(crate) connections_open: AtomicI64,
    pub(crate) connections_accepted: AtomicU64,
    pub(crate) connections_refused: AtomicU64,
    pub(crate) accept_errors: AtomicU64,
    pub(crate) silent_connections: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) decompressed_bytes: AtomicU64,
    pub(crate) refused_bodies: [AtomicU64; Refusal::ALL.len()],
    pub(crate) refused_origins: AtomicU64,
}

/// Why a request body was refused; the `reason` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    TooLarge,
    UnsupportedEncoding,
    Corrupt,
    Timeout,
    Broken,
}

impl Refusal {
    const ALL: [Refusal; 5] = [
        Refusal::TooLarge,
        Refusal::UnsupportedEncoding,
        Refusal::Corrupt,
        Refusal::Timeout,
        Refusal::Broken,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Refusal::TooLarge => "too_large",
            Refusal::UnsupportedEncoding => "unsupported_encoding",
            Refusal::Corrupt => "corrupt",
            Refusal::Timeout => "timeout",
            Refusal::Broken => "connection_broken",
        }
    }
}

impl NetMetrics {
    /// Connections open now, upgraded ones included.
    pub fn connections_open(&self) -> i64 {
        self.connections_open.load(Relaxed)
    }

    pub(crate) fn count_refusal(&self, reason: Refusal) {
        self.refused_bodies[reason as usize].fetch_add(1, Relaxed);
    }

    /// Writes every counter in Prometheus' text format.
    pub fn render(&self, out: &mut TextEncoder<'_>) {
        let counters = [
            (
                "watchfire_net_connections_accepted_total",
                "Connections accepted.",
                &self.connections_accepted,
            ),
            (
                "watchfire_net_connections_refused_total",
                "Connections refused because the connection limit was reached.",
                &self.connections_refused,
            ),
            (
                "watchfire_net_connections_silent_total",
                "Connections closed because no request line began in time.",
                &self.silent_connections,
            ),
            (
                "watchfire_net_accept_errors_total",
                "Failures of accept, such as too many open files.",
                &self.accept_errors,
            ),
            ("watchfire_net_received_bytes_total", "Bytes read from peers.", &self.received_bytes),
            ("watchfire_net_sent_bytes_total", "Bytes written to peers.", &self.sent_bytes),
            (
                "watchfire_net_decompressed_bytes_total",
                "Bytes of request bodies after decompression.",
                &self.decompressed_bytes,
            ),
            (
                "watchfire_net_origins_refused_total",
                "Requests refused because of a foreign Host or Origin.",
                &self.refused_origins,
            ),
        ];
        out.family("watchfire_net_connections_open", "gauge", "Connections open now.");
        out.sample("watchfire_net_connections_open", &[], self.connections_open() as f64);
        for (name, help, counter) in counters {
            out.family(name, "counter", help);
            out.sample(name, &[], counter.load(Relaxed) as f64);
        }
        let name = "watchfire_net_bodies_refused_total";
        out.family(name, "counter", "Request bodies refused, by reason.");
        for reason in Refusal::ALL {
            let count = self.refused_bodies[reason as usize].load(Relaxed);
            out.sample(name, &[("reason", reason.as_str())], count as f64);
        }
    }
}
