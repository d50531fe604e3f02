//! The section `tracing`.

use std::time::Duration;

use crate::prometheus::TlsConfig;
use crate::prometheus::read::http_client::read_tls;
use crate::yaml::{Milliseconds, Section, pairs_of};

/// Where spans of the notifier itself would be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// `grpc` or `http`.
    pub client_type: String,
    /// Host and port; never empty.
    pub endpoint: String,
    /// The share of traces that is kept, from 0 to 1.
    pub sampling_fraction: f64,
    /// Whether TLS is left out.
    pub insecure: bool,
    /// TLS towards the endpoint.
    pub tls: TlsConfig,
    /// Whether requests are compressed with gzip.
    pub compression: bool,
    /// How long a request may take; zero for the protocol's own limit.
    pub timeout: Duration,
}

/// Reads `tracing`.
pub(super) fn read(root: &mut Section<'_>) -> Option<Tracing> {
    let mut section = root.section("tracing", "tracing.plain")?;
    let context = section.context;
    let client_type: String = section.or("client_type", "grpc".to_owned());
    if !matches!(client_type.as_str(), "grpc" | "http") {
        let message =
            format!("expected tracing client type to be to be http or grpc, but got {client_type}");
        section.fault("client_type", message, Some("write grpc or http"));
    }
    let compression: String = section.value("compression");
    if !matches!(compression.as_str(), "" | "gzip") {
        let message =
            format!("invalid compression type {compression} provided, valid options: gzip");
        section.fault("compression", message, Some("write gzip or remove the key"));
    }
    if let Some(headers) = section.node("http_headers") {
        pairs_of(context, headers);
    }
    let tracing = Tracing {
        client_type,
        endpoint: section.value("endpoint"),
        sampling_fraction: section.value("sampling_fraction"),
        insecure: section.value("insecure"),
        tls: read_tls(&mut section),
        compression: compression == "gzip",
        timeout: section.value::<Milliseconds>("timeout").duration(),
    };
    if tracing.endpoint.is_empty() {
        section.fault("endpoint", "tracing endpoint must be set", Some("add endpoint: host:4317"));
    }
    section.finish();
    root.warn("tracing", "tracing has no effect: the notifier sends no spans of its own", None);
    Some(tracing)
}
