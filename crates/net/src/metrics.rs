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
    pub(crate) inflight_body_bytes: AtomicU64,
    pub(crate) handshakes: AtomicU64,
    pub(crate) handshakes_waiting: AtomicI64,
    pub(crate) failed_handshakes: [AtomicU64; HandshakeFault::ALL.len()],
    pub(crate) cut_connections: AtomicU64,
    pub(crate) syslog_cut: AtomicU64,
    pub(crate) syslog_dropped: AtomicU64,
    logins: AtomicU64,
    credential_faults: [AtomicU64; CredentialFault::ALL.len()],
}

/// Why a request body was refused; the `reason` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    TooLarge,
    UnsupportedEncoding,
    Corrupt,
    Timeout,
    Broken,
    OverBudget,
}

impl Refusal {
    const ALL: [Refusal; 6] = [
        Refusal::TooLarge,
        Refusal::UnsupportedEncoding,
        Refusal::Corrupt,
        Refusal::Timeout,
        Refusal::Broken,
        Refusal::OverBudget,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Refusal::TooLarge => "too_large",
            Refusal::UnsupportedEncoding => "unsupported_encoding",
            Refusal::Corrupt => "corrupt",
            Refusal::Timeout => "timeout",
            Refusal::Broken => "connection_broken",
            Refusal::OverBudget => "over_budget",
        }
    }
}

/// Why a TLS connection did not come about; the `reason` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandshakeFault {
    /// It took too long.
    Timeout,
    /// The client speaks plain HTTP.
    PlainHttp,
    /// Client and server do not agree, or one does not trust the other.
    Refused,
}

impl HandshakeFault {
    const ALL: [HandshakeFault; 3] =
        [HandshakeFault::Timeout, HandshakeFault::PlainHttp, HandshakeFault::Refused];

    fn as_str(self) -> &'static str {
        match self {
            HandshakeFault::Timeout => "timeout",
            HandshakeFault::PlainHttp => "plain_http",
            HandshakeFault::Refused => "refused",
        }
    }
}

/// Why a credential did not count; the `reason` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CredentialFault {
    /// Wrong user name or password.
    Password,
    /// Unknown, revoked or ended token.
    Token,
    /// Ended session.
    Session,
    /// Too many wrong passwords before.
    Throttled,
    /// A session used from another site.
    Origin,
}

impl CredentialFault {
    const ALL: [CredentialFault; 5] = [
        CredentialFault::Password,
        CredentialFault::Token,
        CredentialFault::Session,
        CredentialFault::Throttled,
        CredentialFault::Origin,
    ];

    fn as_str(self) -> &'static str {
        match self {
            CredentialFault::Password => "password",
            CredentialFault::Token => "token",
            CredentialFault::Session => "session",
            CredentialFault::Throttled => "throttled",
            CredentialFault::Origin => "origin",
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

    pub(crate) fn count_handshake_fault(&self, fault: HandshakeFault) {
        self.failed_handshakes[fault as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn count_login(&self) {
        self.logins.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_credential_fault(&self, fault: CredentialFault) {
        self.credential_faults[fault as usize].fetch_add(1, Relaxed);
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
            (
                "watchfire_net_tls_handshakes_total",
                "TLS handshakes that succeeded.",
                &self.handshakes,
            ),
            (
                "watchfire_net_connections_cut_total",
                "Connections cut because nothing was asked in time or a certificate was revoked.",
                &self.cut_connections,
            ),
            (
                "watchfire_net_syslog_cut_total",
                "Messages of syslog that were cut because they are longer than syslog.max_message_bytes.",
                &self.syslog_cut,
            ),
            (
                "watchfire_net_syslog_dropped_total",
                "Datagrams of syslog dropped because they come faster than they are stored.",
                &self.syslog_dropped,
            ),
            ("watchfire_net_logins_total", "Sessions that began with a login.", &self.logins),
        ];
        out.family("watchfire_net_connections_open", "gauge", "Connections open now.");
        out.sample("watchfire_net_connections_open", &[], self.connections_open() as f64);
        let name = "watchfire_net_tls_handshakes_waiting";
        out.family(name, "gauge", "Connections that wait for their turn to shake hands.");
        out.sample(name, &[], self.handshakes_waiting.load(Relaxed) as f64);
        let name = "watchfire_net_inflight_body_bytes";
        out.family(name, "gauge", "Bytes of request bodies in memory, packed and unpacked.");
        out.sample(name, &[], self.inflight_body_bytes.load(Relaxed) as f64);
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
        let name = "watchfire_net_tls_handshakes_failed_total";
        out.family(name, "counter", "TLS handshakes that failed, by reason.");
        for fault in HandshakeFault::ALL {
            let count = self.failed_handshakes[fault as usize].load(Relaxed);
            out.sample(name, &[("reason", fault.as_str())], count as f64);
        }
        let name = "watchfire_net_credentials_refused_total";
        out.family(name, "counter", "Credentials that did not count, by reason.");
        for fault in CredentialFault::ALL {
            let count = self.credential_faults[fault as usize].load(Relaxed);
            out.sample(name, &[("reason", fault.as_str())], count as f64);
        }
    }
}
