//! A receiver that hangs beside one that does not: how much later the other one is told.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Options;
use super::alerts::{NO_RULES, encode, now_ms, post};
use super::sink::Sink;
use crate::scrape::quantile;
use crate::server::{Flushing, Kind, Server, Setup};
use crate::table::{Table, grouped};

/// Groups, each of which both receivers are told of.
const GROUPS: usize = 200;
const ALERTS_PER_GROUP: usize = 5;
const GROUP_WAIT: Duration = Duration::from_secs(1);
const TOLD_LIMIT: Duration = Duration::from_secs(120);

/// Seconds from the post to the message, for each alert, in order.
type Delays = Vec<f64>;

/// Posts to each server with and without one that hangs, and yields the table.
pub(super) fn run(options: &Options) -> Result<String> {
    let options = Options {
        alerts: GROUPS * ALERTS_PER_GROUP,
        group: ALERTS_PER_GROUP,
        // No group is in two requests: its second part would wait for its next message.
        batch: 10 * ALERTS_PER_GROUP,
        connections: 1,
        ..options.clone()
    };
    let mut table = Table::new([
        "server",
        "hanging",
        "alerts",
        "told s p50",
        "p99",
        "max",
        "held up by s p50",
        "p99",
        "max",
    ]);
    for kind in options.beside(Kind::Alertmanager) {
        eprintln!("{}: a receiver that hangs", kind.name());
        let alone = measure(&options, kind, false)?;
        let beside = measure(&options, kind, true)?;
        for (hanging, delays) in [("none", &alone), ("one", &beside)] {
            let at = |share| quantile(delays, share);
            let more = |share| match hanging {
                "none" => "-".to_owned(),
                _ => format!("{:.3}", at(share) - quantile(&alone, share)),
            };
            let shown = |share| format!("{:.3}", at(share));
            table.push(vec![
                kind.name().to_owned(),
                hanging.to_owned(),
                grouped(delays.len() as f64),
                shown(0.5),
                shown(0.99),
                shown(1.0),
                more(0.5),
                more(0.99),
                more(1.0),
            ]);
        }
    }
    Ok(format!(
        "{}\n\
         {GROUPS} groups of {ALERTS_PER_GROUP} alerts, posted at once; groups wait {} s. The route to the receiver that hangs \
         stands before the other one and continues: it takes each message and never answers. Told: from the first post to the message at \
         the receiver that answers.\n",
        table.render(),
        GROUP_WAIT.as_secs()
    ))
}

fn measure(options: &Options, kind: Kind, hangs: bool) -> Result<Delays> {
    let (sink, hanging) = (Sink::start(false)?, Sink::start(true)?);
    let route = "  routes:\n  - {receiver: hanging, continue: true}\n  - {receiver: sink}\n";
    let yaml = format!(
        "route:\n  receiver: sink\n  group_by: [alertname, cluster]\n  group_wait: {}s\n  \
         group_interval: 5m\n  repeat_interval: 4h\n{}\
         receivers:\n- name: sink\n  webhook_configs: [{{url: '{}'}}]\n\
         - name: hanging\n  webhook_configs: [{{url: '{}'}}]\n",
        GROUP_WAIT.as_secs(),
        if hangs { route } else { "" },
        sink.url(),
        hanging.url()
    );
    let (alertmanager_config, config) = (Some(yaml), NO_RULES.to_owned());
    let setup = Setup { alertmanager_config, config, ..Flushing::Default.into() };
    let server = Server::start(kind, setup)?;
    sleep(Duration::from_secs(2));
    let now_ms = now_ms()?;
    let bodies = encode(options, now_ms, now_ms);
    let began = Instant::now();
    post(options, &server, &bodies)?;
    sink.wait_for(options.alerts, TOLD_LIMIT)?;
    let mut delays: Delays =
        sink.look(|told| told.alerts.values().map(|(_, at)| (*at - began).as_secs_f64()).collect());
    delays.sort_by(f64::total_cmp);
    Ok(delays)
}
