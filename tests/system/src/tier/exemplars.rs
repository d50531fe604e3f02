//! Exemplars that an agent scrapes, while its broker is killed and away.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::console::{Site, wait_until};
use crate::harness::{Client, Scratch};
use crate::interop::exemplars::Target;

const STEPS: u64 = 6;

/// Each exemplar that was shown while the broker was away is there once, also for a console.
pub(super) fn through_an_outage(scratch: &Scratch) -> Result<String> {
    let target = Target::start()?;
    let site = Site::start(scratch)?;
    let file = scratch.join("scrape.yml");
    std::fs::write(
        &file,
        format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 490ms}}\nscrape_configs:\n\
             - job_name: t\n  static_configs: [{{targets: ['{}']}}]\n",
            target.address
        ),
    )?;
    let file = file.display().to_string();
    let agent =
        site.member(scratch, "agent")?.arguments(&["--prometheus-config", &file]).start()?;
    let console = site.member(scratch, "console")?.start()?;
    let remote = console.client();
    // Each is shown until it was seen, so that none is asked for that no scrape could see.
    wait_until("the exemplar shown first", || Ok(traces(&remote)?.len() == 1))?;
    target.show(1);
    wait_until("the next exemplar", || Ok(traces(&remote)?.len() == 2))?;
    let mut broker = Some(site.broker);
    for step in 2..=STEPS {
        target.show(step);
        match step {
            // Perhaps while a batch with an exemplar is under way.
            2 => broker.take().expect("it runs").kill()?,
            5 => broker = Some(site.launch.start()?),
            _ => {}
        }
        sleep(Duration::from_millis(700));
        // One scrape may have begun before, with what was shown then; another may have been answered later
        // than a busy machine waits.
        let seen = target.served() + 3;
        wait_until("a scrape of it", || Ok(target.served() >= seen))?;
    }
    let wanted: Vec<String> = (0..=STEPS).map(|step| format!("of-counter-{step}")).collect();
    let are_there =
        || Ok(remote.get("/-/ready")?.status == 200 && traces(&remote)?.len() as u64 == STEPS + 1);
    wait_until("all exemplars", are_there)
        .with_context(|| format!("there are {:?}", traces(&remote).ok()))?;
    let found = traces(&remote)?;
    ensure!(found == wanted, "{found:?}");
    let broker = broker.context("it was started again")?;
    let here = broker.client().data("/api/v1/query_exemplars", &[("query", "h_bucket")])?;
    let there = remote.data("/api/v1/query_exemplars", &[("query", "h_bucket")])?;
    ensure!(here == there && here.as_array().is_some_and(|all| all.len() == 2), "{here}");
    console.stop()?;
    agent.stop()?;
    broker.stop()?;
    Ok(format!("{} exemplars in order, {} shown while the broker was away", found.len(), 3))
}

/// Ids of traces in the exemplars of the target's counter, in their order.
fn traces(client: &Client) -> Result<Vec<String>> {
    let (status, answer) = client.envelope("/api/v1/query_exemplars", &[("query", "c_total")])?;
    ensure!(status == 200 || status == 503, "{answer}");
    let exemplars: &[Value] =
        answer["data"][0]["exemplars"].as_array().map_or(&[][..], Vec::as_slice);
    let trace = |one: &Value| one["labels"]["trace_id"].as_str().map(str::to_owned);
    exemplars.iter().map(|one| trace(one).context("a trace's id")).collect()
}
