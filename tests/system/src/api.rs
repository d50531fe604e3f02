//! The HTTP API of Prometheus 3, to the letter, and what Watchfire adds to it.

mod administering;
mod faults;
mod grafana;
mod imports;
mod loki;
mod names;
mod queries;
mod reading;
mod reloading;
mod starts;
mod transport;
mod ways_out;
mod writing;

use anyhow::{Result, ensure};

use crate::harness::{Client, Group, Launch, Scratch};

/// Tests of every endpoint in `docs/operating/api.md`.
pub(crate) const GROUP: Group = Group {
    name: "api",
    tests: &[
        ("faults-are-worded-as-prometheus-does", faults::faults),
        ("times-and-numbers", queries::times_and_numbers),
        ("get-and-post", queries::get_and_post),
        ("limit-and-stats", queries::limit_and_stats),
        ("timeout", queries::timeout),
        ("client-gone-query-gone", queries::cancellation),
        ("labels-and-series", reading::labels_and_series),
        ("escaped-names", reading::escaped_names),
        ("metadata", reading::metadata),
        ("searched-names", names::searched),
        ("completed-queries", names::completed),
        ("status", reading::status),
        ("format-and-parse", reading::format_and_parse),
        ("health", reading::health),
        ("grafana", grafana::sequence),
        ("loki-data-source", loki::data_source),
        ("loki-tail", loki::tail),
        ("unknown-paths-and-methods", transport::unknown_paths_and_methods),
        ("gzip", transport::gzip),
        ("head", transport::head),
        ("pages", transport::pages),
        ("foreign-origins", transport::foreign_origins),
        ("exports-over-a-limit", ways_out::exports_over_a_limit),
        ("named-origins", ways_out::named_origins),
        ("multipart-forms", ways_out::multipart),
        ("remote-write", writing::remote_write),
        ("remote-write-2", writing::remote_write_2),
        ("start-timestamps", starts::start_timestamps),
        ("text-import", writing::text_import),
        ("imports-over-http", imports::over_http),
        ("imports-over-tcp", imports::over_tcp),
        ("otlp", imports::otlp),
        ("delete-and-snapshot-commands", administering::delete_and_snapshot),
        ("reload-under-writers", reloading::under_writers),
        ("reload-of-broken-files", reloading::broken_files),
        ("reload-of-two-files", reloading::two_files),
        ("reload-and-kill", reloading::killed),
    ],
};

/// A broker that keeps samples from 1970, so that cases can be written with short times.
fn launch(scratch: &Scratch) -> Launch {
    Launch::broker(&scratch.join("data")).config("storage:\n  retention: 100y\n")
}

/// Stores lines of text format.
fn import(client: &Client, lines: &str) -> Result<()> {
    let response = client.post("/api/v1/import/prometheus", &[], lines.as_bytes())?;
    ensure!(response.status == 204, "{}: {}", response.status, response.text());
    Ok(())
}
