//! Prints what a pass over this host costs, in all and per collector:
//! `cargo run -p watchfire-agent --release --example pass [seconds [collector…]]`, with these
//! collectors besides those that run by default, or with `all`.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use agent::{AgentConfig, HostAgent};
use model::{Labels, MetricBatch};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds: u64 = std::env::args().nth(1).map_or(Ok(10), |text| text.parse())?;
    let mut stdout = std::io::stdout().lock();
    let mut enabled: Vec<String> = std::env::args().skip(2).collect();
    if enabled == ["all"] {
        enabled = agent::COLLECTORS.iter().map(|info| info.name.to_owned()).collect();
    }
    let config = AgentConfig { enabled_collectors: enabled, ..AgentConfig::default() };
    let (agent, mut receiver) = HostAgent::start(config)?;
    for line in agent.found() {
        writeln!(stdout, "{line}")?;
    }
    let mut collectors = BTreeMap::new();
    let mut cpu_before = cpu_seconds();
    for pass in 0..=seconds {
        let batch = receiver.recv_timeout(Duration::from_secs(5))?;
        add_durations(&batch, &mut collectors)?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let age_ms = now.as_secs_f64() * 1_000.0 - batch.timestamps_ms[0] as f64;
        writeln!(
            stdout,
            "pass {pass}: {} samples, received {age_ms:.3} ms after their timestamp",
            batch.rows(),
        )?;
        receiver.recycle(batch);
        if pass == 0 {
            cpu_before = cpu_seconds();
        }
    }
    let cpu_ms = (cpu_seconds() - cpu_before) * 1_000.0 / seconds.max(1) as f64;
    writeln!(stdout, "{cpu_ms:.2} ms of CPU time per pass, all threads, after the first")?;
    for (collector, (runs, total_s)) in collectors {
        let mean_us = total_s / f64::from(runs) * 1e6;
        writeln!(stdout, "{collector}: {runs} runs, {mean_us:.0} us each")?;
    }
    for row in agent.counters().rows().iter().filter(|row| row.value != 0.0) {
        writeln!(stdout, "{}{:?} {}", row.name, row.labels, row.value)?;
    }
    Ok(())
}

/// CPU time of this process.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Adds the runs of a pass and their seconds, by collector.
fn add_durations(
    batch: &MetricBatch,
    collectors: &mut BTreeMap<String, (u32, f64)>,
) -> Result<(), model::LabelError> {
    for series in &batch.series {
        let labels = Labels::from_packed(batch.label_bytes_of(series))?;
        if labels.metric_name() == Some("node_scrape_collector_duration_seconds") {
            let name = labels.get("collector").unwrap_or_default().to_owned();
            let (runs, total_s) = collectors.entry(name).or_default();
            *runs += 1;
            *total_s += batch.values[series.first_row as usize];
        }
    }
    Ok(())
}
