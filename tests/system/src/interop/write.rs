//! Agents that write to us what they scrape.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::peer::VmAgent;
use crate::harness::{Launch, Scratch};

/// VictoriaMetrics' agent: everything it says it has sent is there, and nothing was refused.
pub(super) fn vmagent_writes(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let vmagent = VmAgent::start(scratch, client.address())?;
    let begin = Instant::now();
    let series = loop {
        let data = client.data("/api/v1/query", &[("query", r#"count({job="node"})"#)])?;
        let count = data["result"][0]["value"][1].as_str().and_then(|t| t.parse::<f64>().ok());
        let ups = client.data("/api/v1/query", &[("query", r#"count_over_time(up[1m])"#)])?;
        let ups = ups["result"][0]["value"][1].as_str().map_or(0.0, |t| t.parse().unwrap_or(0.0));
        match count {
            Some(count) if count > 200.0 && ups >= 3.0 => break count,
            _ => ensure!(begin.elapsed() < Duration::from_secs(30), "{data} after 30 s"),
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    let page = vmagent.client.get("/metrics")?.text();
    let refused: f64 = page
        .lines()
        .filter(|line| {
            line.starts_with("vmagent_remotewrite_requests_total")
                && !line.contains("status_code=\"2XX\"")
                || line.starts_with("vmagent_remotewrite_packets_dropped_total")
        })
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum();
    ensure!(refused == 0.0, "vmagent counts {refused} requests that failed");
    ensure!(client.metric("watchfire_broker_samples_rejected_total")? == 0.0, "samples refused");
    server.stop()?;
    Ok(format!("{series} series"))
}
