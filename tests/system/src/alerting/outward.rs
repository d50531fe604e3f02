//! Debian's `prometheus-alertmanager` as one of several Alertmanagers that our rules tell.

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::harness::peer::Peer;
use crate::harness::{Client, Launch, Scratch, free_address};

/// How long something may take on a slow, busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The file of Alertmanager's own server: the user `sre` with the password `test`.
const WEB: &str =
    "basic_auth_users:\n  sre: $2b$12$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay\n";

pub(super) fn tells_alertmanager(scratch: &Scratch) -> Result<String> {
    let address = free_address()?;
    let mut alertmanager =
        Peer::start(scratch, "alertmanager", address, command(scratch, address)?)?;
    // Takes connections and answers nothing.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let silent_address = silent.local_addr()?;
    let closed = free_address()?;
    let targets = scratch.join("alertmanagers.json");
    std::fs::write(&targets, format!("[{{\"targets\": [\"{address}\"]}}]"))?;
    let file = scratch.join("prometheus.yml");
    let others = format!(
        "  - {{timeout: 1s, static_configs: [{{targets: ['{silent_address}', '{closed}']}}]}}\n"
    );
    let write = |blocks: &str| {
        let config = format!(
            "global: {{evaluation_interval: 1s, external_labels: {{site: here, replica: a}}}}\n\
             rule_files: [rules.yml]\nalerting:\n  \
             alert_relabel_configs: [{{regex: replica, action: labeldrop}}]\n  \
             alertmanagers:\n{others}{blocks}"
        );
        std::fs::write(&file, config)
    };
    write(
        "  - path_prefix: /am/\n    basic_auth: {username: sre, password: test}\n    \
         relabel_configs: [{source_labels: [__address__], regex: 'old:.*', action: drop}]\n    \
         alert_relabel_configs: [{target_label: by, replacement: watchfire}]\n    \
         file_sd_configs: [{files: [alertmanagers.json]}]\n    \
         static_configs: [{targets: ['old:9093']}]\n",
    )?;
    let rules = |expression: &str| {
        let text = format!(
            "groups:\n- name: g\n  rules:\n  - alert: Always\n    expr: {expression}\n    \
             annotations: {{summary: 'it is {{{{ $value }}}}'}}\n"
        );
        std::fs::write(scratch.join("rules.yml"), text)
    };
    rules("vector(7) > 1")?;
    let server = Launch::broker(&scratch.join("data"))
        .config("rules: {builtin: false, resend_delay: 1s}\n")
        .arguments(&["--prometheus-config", &file.display().to_string()])
        .start()?;
    let client = server.client();
    let url = format!("http://{address}/am/api/v2/alerts");
    let alert = wait("what fires", || Ok(alerts(address)?.into_iter().next()))?;
    let labels = serde_json::json!({ "alertname": "Always", "site": "here", "by": "watchfire" });
    ensure!(alert["labels"] == labels, "told: {alert}");
    ensure!(alert["annotations"]["summary"] == "it is 7", "told: {alert}");
    let generator = alert["generatorURL"].as_str().unwrap_or_default();
    ensure!(generator.contains("/graph?g0.expr=vector%287%29+%3E+1&g0.tab=1"), "told: {alert}");
    // The two that do not answer are told as well, and fail without anybody waiting for them.
    let listed = client.get_data("/api/v1/alertmanagers")?;
    let urls = |key: &str| -> Vec<String> {
        let all = listed[key].as_array().into_iter().flatten();
        all.filter_map(|one| one["url"].as_str().map(str::to_owned)).collect()
    };
    let active = urls("activeAlertmanagers");
    ensure!(active.len() == 3 && active.contains(&url), "active: {listed}");
    ensure!(
        urls("droppedAlertmanagers") == ["http://old:9093/am/api/v2/alerts"],
        "dropped: {listed}"
    );
    let failed = format!("http://{silent_address}/api/v2/alerts");
    wait("the failure", || Ok((of(client, "errors_total", &failed)? > 0.0).then_some(())))?;
    ensure!(of(client, "errors_total", &url)? == 0.0, "errors of the one that answers");
    // It starts anew and knows nothing; rules tell it again.
    alertmanager.kill()?;
    let before = of(client, "errors_total", &url)?;
    wait("errors", || Ok((of(client, "errors_total", &url)? > before).then_some(())))?;
    std::fs::remove_dir_all(scratch.join("alertmanager"))?;
    let _again = Peer::start(scratch, "alertmanager", address, command(scratch, address)?)?;
    wait("what still fires", || Ok(alerts(address)?.into_iter().next()))?;
    // The rule no longer fires: Alertmanager is told that it is over, and lists it no more.
    rules("vector(7) > 9")?;
    ensure!(client.post("/-/reload", &[], b"")?.status == 200, "not reloaded");
    wait("the end", || Ok(alerts(address)?.is_empty().then_some(())))?;
    write("")?;
    ensure!(client.post("/-/reload", &[], b"")?.status == 200, "not reloaded");
    let listed = client.get_data("/api/v1/alertmanagers")?;
    ensure!(!listed.to_string().contains(&url), "still there: {listed}");
    server.stop()?;
    Ok("fired, told again after a loss, resolved; two that do not answer delay nobody".to_owned())
}

fn command(scratch: &Scratch, address: std::net::SocketAddr) -> Result<Command> {
    let write = |name: &str, text: &str| -> Result<String> {
        let path = scratch.join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let config = write("am.yml", "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")?;
    let web = write("web.yml", WEB)?;
    let mut command = Command::new("prometheus-alertmanager");
    command
        .arg(format!("--config.file={config}"))
        .arg(format!("--web.config.file={web}"))
        .arg(format!("--storage.path={}", scratch.join("alertmanager").display()))
        .arg(format!("--web.listen-address={address}"))
        .arg("--web.route-prefix=/am")
        .arg("--cluster.listen-address=");
    Ok(command)
}

/// What Alertmanager lists: alerts that fire.
fn alerts(address: std::net::SocketAddr) -> Result<Vec<Value>> {
    let headers = [("Authorization", "Basic c3JlOnRlc3Q=")];
    let answer = Client::new(address).request("GET", "/am/api/v2/alerts", &headers, b"")?;
    ensure!(answer.status == 200, "Alertmanager answers {}", answer.status);
    Ok(serde_json::from_slice(&answer.body)?)
}

/// A count of one Alertmanager.
fn of(client: Client, name: &str, url: &str) -> Result<f64> {
    let line = format!("prometheus_notifications_{name}{{alertmanager=\"{url}\"}} ");
    let page = client.get("/metrics")?.text();
    let value = page.lines().find_map(|row| row.strip_prefix(&line));
    Ok(value.map(str::parse).transpose()?.unwrap_or_default())
}

fn wait<T>(what: &str, look: impl Fn() -> Result<Option<T>>) -> Result<T> {
    let begin = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(begin.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}
