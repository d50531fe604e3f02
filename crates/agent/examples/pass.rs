//! Prints what a pass over this host costs: `cargo run -p watchfire-agent --release --example pass
//! [seconds]`.

use std::io::Write;
use std::time::Duration;

use agent::{AgentConfig, HostAgent, RecvError};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds: u64 = std::env::args().nth(1).map_or(Ok(10), |text| text.parse())?;
    let mut stdout = std::io::stdout().lock();
    let (agent, mut receiver) = HostAgent::start(AgentConfig::default())?;
    for line in agent.found() {
        writeln!(stdout, "{line}")?;
    }
    for pass in 0..=seconds {
        let batch = match receiver.recv_timeout(Duration::from_secs(5)) {
            Ok(batch) => batch,
            Err(error @ (RecvError::Timeout | RecvError::Closed)) => return Err(error.into()),
        };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let age_ms = now.as_secs_f64() * 1_000.0 - batch.timestamps_ms[0] as f64;
        writeln!(
            stdout,
            "pass {pass}: {} samples, received {age_ms:.3} ms after their timestamp",
            batch.rows(),
        )?;
        receiver.recycle(batch);
    }
    for row in agent.counters().rows().iter().filter(|row| row.value != 0.0) {
        writeln!(stdout, "{}{:?} {}", row.name, row.labels, row.value)?;
    }
    Ok(())
}
