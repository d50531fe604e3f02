//! Alerts from those who send them to those who are told: Debian's `amtool`, `prometheus` and
//! `prometheus-alertmanager` against the program, and webhooks and groups of rules over kills.

mod amtool;
mod behind;
mod kills;
mod outward;
mod prometheus;
mod ruler_api;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::harness::write_receiver::{Reaction, Received, WriteReceiver};
use crate::harness::{Client, Group, Launch, Scratch};

/// The group `alerting`.
pub(crate) const GROUP: Group = Group {
    name: "alerting",
    tests: &[
        ("amtool-asks-and-silences", amtool::asks_and_silences),
        ("amtool-through-a-console", amtool::through_a_console),
        ("amtool-reads-our-configuration", amtool::reads_our_configuration),
        ("prometheus-sends-what-fires", prometheus::sends_what_fires),
        ("rules-tell-alertmanager", outward::tells_alertmanager),
        ("alerts-outlive-kills", kills::alerts_outlive_kills),
        ("ruler-api-keeps-groups", ruler_api::keeps_groups_of_rulers),
        ("what-is-behind-an-alert", behind::goes_with_an_alert),
        ("groups-outlive-kills", ruler_api::groups_outlive_kills),
    ],
};

/// Where webhooks are told.
const HOOK: &str = "/hook";

/// Somebody who is told by webhooks, and takes each.
pub(crate) struct Listener(WriteReceiver);

impl Listener {
    pub(crate) fn start() -> Result<Listener> {
        WriteReceiver::start(Box::new(|_, _| Reaction::status(200))).map(Listener)
    }

    /// Where to tell.
    pub(crate) fn url(&self) -> String {
        format!("http://{}{HOOK}", self.0.address())
    }

    /// What was told, in order.
    pub(crate) fn told(&self) -> Result<Vec<(Received, Value)>> {
        let parsed = |received: Received| {
            let value = serde_json::from_slice(&received.body).context("a webhook is JSON")?;
            Ok((received, value))
        };
        self.0.received(HOOK).into_iter().map(parsed).collect()
    }

    /// Waits until a message is told that fits.
    pub(crate) fn wait_for(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        let begin = Instant::now();
        loop {
            let told = self.told()?;
            if let Some((_, message)) = told.iter().find(|(_, message)| fits(message)) {
                return Ok(message.clone());
            }
            let last = told.last().map(|(_, message)| message.to_string()).unwrap_or_default();
            let count = told.len();
            ensure!(
                begin.elapsed() < Duration::from_secs(30),
                "nobody was told of {what}; {count} other messages, the last: {last}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The program with this configuration of notifications, and no rules of its own.
fn launch(scratch: &Scratch, alertmanager: &str) -> Result<(Launch, PathBuf)> {
    let file = scratch.join("alertmanager.yml");
    std::fs::write(&file, alertmanager).context("write alertmanager.yml")?;
    let words = ["--alertmanager-config", &file.display().to_string()].map(str::to_owned);
    let launch = Launch::broker(&scratch.join("data"))
        .config("rules: {builtin: false}\n")
        .arguments(&words.each_ref().map(String::as_str));
    Ok((launch, file))
}

/// Posts alerts that never end, with these names; whether that was acknowledged.
pub(crate) fn fire(client: Client, names: &[String]) -> Result<bool> {
    let alert = |name: &String| json!({ "labels": { "alertname": name }, "endsAt": "2200-01-01T00:00:00Z" });
    let alerts: Value = names.iter().map(alert).collect();
    let headers = [("Content-Type", "application/json")];
    let answer = client.post("/api/v2/alerts", &headers, alerts.to_string().as_bytes())?;
    Ok(answer.status == 200)
}

/// The names of alerts in a message that fire, each with how often it is there.
pub(crate) fn firing(message: &Value) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    let alerts = message["alerts"].as_array().into_iter().flatten();
    for alert in alerts.filter(|alert| alert["status"] == "firing") {
        let name = alert["labels"]["alertname"].as_str().unwrap_or_default();
        *names.entry(name.to_owned()).or_default() += 1;
    }
    names
}
