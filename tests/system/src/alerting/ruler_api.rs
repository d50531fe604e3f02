//! Groups of rules by the API of Mimir's and Loki's rulers: what was answered is there behind a kill -9, and
//! is evaluated.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Listener, launch};
use crate::harness::random::Random;
use crate::harness::{Client, Scratch};

const MIMIR: &str = "/prometheus/config/v1/rules";
const LOKI: &str = "/loki/api/v1/rules";
const KILLS: usize = 12;
const WRITERS: usize = 4;
const YAML: [(&str, &str); 1] = [("Content-Type", "application/yaml")];

/// As mimirtool and Grafana do it: keep, list, look at, change, delete; and what is kept is told by webhooks.
pub(super) fn keeps_groups_of_rulers(scratch: &Scratch) -> Result<String> {
    let listener = Listener::start()?;
    let configuration = format!(
        "route: {{receiver: hook, group_wait: 10ms, group_interval: 50ms, repeat_interval: 10h}}\n\
         receivers:\n- name: hook\n  webhook_configs: [{{url: '{}'}}]\n",
        listener.url()
    );
    let (launch, _) = launch(scratch, &configuration)?;
    let server = launch.start()?;
    let client = server.client();
    let group = "name: always\ninterval: 1s\nrules:\n- alert: Always\n  expr: vector(7) > 5\n  annotations:\n    \
                 summary: '{{ $value | humanizePercentage }}'\n";
    post(client, MIMIR, "team%2Fa", group)?;
    let told = listener
        .wait_for("Always", |message| message["alerts"][0]["labels"]["alertname"] == "Always")?;
    let said = &told["alerts"][0]["annotations"]["summary"];
    ensure!(said == "700%", "the annotation is {said}");
    let lines = "name: lines\ninterval: 1s\nrules:\n- alert: Quiet\n  expr: absent_over_time({job=\"none\"}[1m])\n";
    post(client, LOKI, "team%2Fa", lines)?;
    listener.wait_for("Quiet", |message| message["alerts"][0]["labels"]["alertname"] == "Quiet")?;
    let refused =
        client.post(&format!("{MIMIR}/x"), &YAML, b"name: x\nrules: [{alert: A, expr: 'a >'}]")?;
    let why = refused.text();
    ensure!(refused.status == 400 && why.contains("line 2"), "{}: {why}", refused.status);
    server.kill()?;
    let server = launch.start()?;
    let client = server.client();
    let kept = client.get(&format!("{MIMIR}/team%2Fa/always"))?;
    ensure!(kept.status == 200 && kept.text() == group, "{}: {}", kept.status, kept.text());
    ensure!(client.get(LOKI)?.text().starts_with("team/a:\n"), "the list of lines is another one");
    let list: Value = serde_json::from_slice(&client.get("/prometheus/api/v1/rules")?.body)?;
    let files: Vec<&Value> =
        list["data"]["groups"].as_array().into_iter().flatten().map(|one| &one["file"]).collect();
    ensure!(files == ["team/a", "team/a"], "the groups are {files:?}");
    for path in [format!("{MIMIR}/team%2Fa"), format!("{LOKI}/team%2Fa/lines")] {
        let deleted = client.request("DELETE", &path, &[], &[])?;
        ensure!(deleted.status == 202, "{path}: {}", deleted.status);
    }
    server.kill()?;
    let server = launch.start()?;
    let gone = server.client().get(&format!("{MIMIR}/team%2Fa/always"))?;
    ensure!(gone.status == 404 && gone.text() == "group does not exist\n", "{}", gone.text());
    server.stop()?;
    Ok("kept, told, refused, there behind a kill, deleted, gone behind a kill".to_owned())
}

/// Several clients post groups of their own while the program is killed again and again.
pub(super) fn groups_outlive_kills(scratch: &Scratch) -> Result<String> {
    let seed = Random::seed();
    run(scratch, seed).with_context(|| format!("seed {seed}"))
}

fn run(scratch: &Scratch, seed: u64) -> Result<String> {
    let mut random = Random::new(seed);
    let (launch, _) = launch(scratch, "route: {receiver: none}\nreceivers: [{name: none}]\n")?;
    let mut acknowledged: Vec<String> = Vec::new();
    for cycle in 0..KILLS {
        let server = launch.start().with_context(|| format!("after {cycle} kills"))?;
        let client = server.client();
        let life = Duration::from_millis(50 + random.below(300));
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    scope.spawn(move || write(client, &format!("g{cycle}-{writer}"), life))
                })
                .collect();
            std::thread::sleep(life);
            let killed = server.kill();
            for writer in writers {
                acknowledged.extend(writer.join().expect("a writer does not panic"));
            }
            killed
        })?;
    }
    ensure!(!acknowledged.is_empty(), "nothing was acknowledged");
    let server = launch.start()?;
    for name in &acknowledged {
        let kept = server.client().get(&format!("{MIMIR}/team/{name}"))?;
        ensure!(
            kept.status == 200 && kept.text() == group(name),
            "{name} is lost: {}",
            kept.status
        );
    }
    server.stop()?;
    Ok(format!("{KILLS} kills, {} groups acknowledged, 0 lost; seed {seed}", acknowledged.len()))
}

/// Posts groups until the server is gone. Yields those that were acknowledged.
fn write(client: Client, prefix: &str, life: Duration) -> Vec<String> {
    let (begin, mut acknowledged) = (Instant::now(), Vec::new());
    for number in 0.. {
        let name = format!("{prefix}-{number}");
        match client.post(&format!("{MIMIR}/team"), &YAML, group(&name).as_bytes()) {
            Ok(answer) if answer.status == 202 => acknowledged.push(name),
            _ if begin.elapsed() + Duration::from_millis(50) >= life => break,
            _ => {}
        }
        if begin.elapsed() > life + Duration::from_secs(5) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    acknowledged
}

fn group(name: &str) -> String {
    format!("name: {name}\nrules:\n- record: x\n  expr: vector(1)\n")
}

fn post(client: Client, path: &str, namespace: &str, yaml: &str) -> Result<()> {
    let answer = client.post(&format!("{path}/{namespace}"), &YAML, yaml.as_bytes())?;
    ensure!(answer.status == 202, "{path}: {}: {}", answer.status, answer.text());
    Ok(())
}
