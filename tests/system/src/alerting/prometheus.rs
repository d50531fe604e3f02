//! Debian's `prometheus` with a rule that fires, and us as its Alertmanager.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Listener, firing, launch};
use crate::harness::peer::Peer;
use crate::harness::{Scratch, free_address};

pub(super) fn sends_what_fires(scratch: &Scratch) -> Result<String> {
    let listener = Listener::start()?;
    let configuration = format!(
        "route: {{receiver: hook, group_by: [alertname], group_wait: 100ms, group_interval: 500ms}}\n\
         receivers:\n- name: hook\n  webhook_configs: [{{url: '{}'}}]\n",
        listener.url()
    );
    let (launch, _) = launch(scratch, &configuration)?;
    let server = launch.start()?;
    let ours = server.client().address();
    let rules = "groups:\n- name: g\n  rules:\n  - alert: Always\n    expr: vector(7) > 1\n    \
                 labels: {severity: page}\n    \
                 annotations: {summary: 'it is {{ $value }} & <more>'}\n";
    std::fs::write(scratch.join("rules.yml"), rules)?;
    let file = scratch.join("prometheus.yml");
    let config = format!(
        "global: {{evaluation_interval: 1s, external_labels: {{site: here}}}}\n\
         rule_files: [rules.yml]\n\
         alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{ours}']}}]}}]}}\n"
    );
    std::fs::write(&file, config)?;
    let address = free_address()?;
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", scratch.join("prometheus").display()))
        .arg(format!("--web.listen-address={address}"))
        .arg("--rules.alert.resend-delay=1s");
    let mut prometheus = Peer::start(scratch, "prometheus", address, command)?;
    let message = listener
        .wait_for("what fires", |message| firing(message).contains_key("Always"))
        .context("while Prometheus runs")?;
    let alert = &message["alerts"][0];
    ensure!(message["version"] == "4" && message["receiver"] == "hook", "told: {message}");
    ensure!(message["groupLabels"]["alertname"] == "Always", "told: {message}");
    ensure!(alert["labels"]["severity"] == "page", "told: {message}");
    ensure!(alert["labels"]["site"] == "here", "told: {message}");
    ensure!(alert["annotations"]["summary"] == "it is 7 & <more>", "told: {message}");
    let url = alert["generatorURL"].as_str().unwrap_or_default();
    ensure!(url.contains("/graph?g0.expr="), "told: {message}");
    // It is sent again each second, and told once.
    let told = listener.told()?.len();
    std::thread::sleep(std::time::Duration::from_secs(3));
    ensure!(listener.told()?.len() == told && told == 1, "{told} messages of one alert");
    // Nobody sends it any more, so that it ends.
    prometheus.kill()?;
    let ended = listener.wait_for("the end", |message| message["status"] == "resolved")?;
    ensure!(ended["alerts"][0]["labels"]["alertname"] == "Always", "told: {ended}");
    server.stop()?;
    Ok("fired, told once, resolved".to_owned())
}
