//! One broker of three evaluates rules and notifies: which, is nobody's business. Killed, frozen and alone,
//! whoever has to be told is told, and of one alert once.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::site::{CONFIG, Place, Site};
use crate::alerting::{Listener, firing};
use crate::harness::random::Random;
use crate::harness::{Client, Scratch, free_address};

/// Until another broker has taken over, on a machine that compiles at the same time.
const TAKEN_OVER: Duration = Duration::from_secs(60);
/// Whoever tells twice does it within this time: an evaluation, and a group's interval.
const QUIET: Duration = Duration::from_secs(5);
/// Within this, what was sent is written down as sent.
const WRITTEN_DOWN: Duration = Duration::from_secs(2);
/// What is in a message of who cannot write down that it was sent.
const NOTE: &str = "it may be told again";

pub(super) fn one_notifies(scratch: &Scratch) -> Result<String> {
    let listener = Listener::start()?;
    let (rules, receivers) = (scratch.join("rules.yml"), scratch.join("alertmanager.yml"));
    write_rules(&rules, &["Always"])?;
    let configuration = format!(
        "route: {{receiver: hook, group_by: [alertname], group_wait: 100ms, group_interval: 1s, \
         repeat_interval: 10h}}\n\
         receivers:\n- name: hook\n  webhook_configs: [{{url: '{}'}}]\n",
        listener.url()
    );
    std::fs::write(&receivers, configuration).context("write alertmanager.yml")?;
    let config = format!(
        "{CONFIG}rules: {{builtin: false, files: ['{}']}}\nalertmanager: {{config_file: '{}'}}\n",
        rules.display(),
        receivers.display()
    );
    let place = |_| Ok(Place { config: config.clone(), ..Place::here(free_address()?)? });
    let places: Vec<Place> = (0..3).map(place).collect::<Result<_>>()?;
    let store = format!("file://{}", scratch.join("store").display());
    let mut site = Site::start_at(scratch, Random::seed(), store, &places)?;

    // Any broker takes alerts and silences, and tells of them.
    listener.wait_for("the rule", |message| firing(message).contains_key("Always"))?;
    for (at, member) in site.members.iter().enumerate() {
        fire(member.client(), &format!("At{at}"))?;
        let silence = silence(member.client(), &format!("Silenced{at}"))?;
        let after = (at + 1) % site.members.len();
        let listed = get(site.members[after].client(), "/api/v2/silences")?;
        ensure!(listed.to_string().contains(&silence), "{silence} is not at broker {after}");
        let rules = get(member.client(), "/api/v1/rules")?;
        let evaluated = &rules["data"]["groups"][0]["lastEvaluation"];
        ensure!(evaluated.as_str().is_some_and(|at| at > "2020"), "broker {at}: {rules}");
        listener
            .wait_for("an alert", |message| firing(message).contains_key(&format!("At{at}")))?;
    }

    // So it does with groups of rules.
    let first = holder(&site)?;
    let group = "name: kept\ninterval: 1s\nrules:\n- {alert: Kept, expr: vector(1)}\n";
    let keeps = site.members[(first + 2) % 3].client();
    let kept = keeps.post("/prometheus/config/v1/rules/team", &[], group.as_bytes())?;
    ensure!(kept.status == 202, "a group: {} {}", kept.status, kept.text());
    listener.wait_for("a kept group", |message| firing(message).contains_key("Kept"))?;
    // What is sent and not yet written down as sent when its sender dies may be told again.
    sleep(WRITTEN_DOWN);

    // Killed: another goes on.
    site.members[first].kill()?;
    let begin = Instant::now();
    let survivor = (first + 1) % 3;
    fire_at_last(&site, survivor, "Survivor")?;
    let taken = begin.elapsed();
    listener.wait_for("one after the kill", |message| firing(message).contains_key("Survivor"))?;
    let there = site.members[survivor].client().get("/prometheus/config/v1/rules/team/kept")?;
    ensure!(there.status == 200 && there.text() == group, "the group is {}", there.text());
    site.members[first].start_again()?;

    // Frozen: another takes over, and what wakes up tells nobody.
    let second = holder(&site)?;
    site.members[second].pause(true);
    let other = (second + 1) % 3;
    let frozen = fire_at_last(&site, other, "Thawed");
    let told = frozen.and_then(|()| {
        listener.wait_for("one beside a frozen broker", |m| firing(m).contains_key("Thawed"))
    });
    site.members[second].pause(false);
    told?;
    sleep(QUIET);
    check_told_once(&listener)?;

    // Alone: whoever has no majority tells all the same, and says so.
    let third = holder(&site)?;
    let others = [(third + 1) % 3, (third + 2) % 3];
    others.iter().for_each(|at| site.members[*at].pause(true));
    write_rules(&rules, &["Always", "Alone"])?;
    let reloaded = site.members[third].client().post("/-/reload", &[], b"");
    let told = listener.wait_for("one without a majority", |message| {
        firing(message).contains_key("Alone") && message.to_string().contains(NOTE)
    });
    others.iter().for_each(|at| site.members[*at].pause(false));
    let reloaded = reloaded?;
    ensure!(reloaded.status == 200, "reload: {}", reloaded.text());
    told.with_context(|| site.members[third].stderr())?;
    // Back together they have one state again.
    for at in 0..site.members.len() {
        fire_at_last(&site, others[0], &format!("Silenced{at}"))?;
    }
    fire_at_last(&site, others[0], "Together")?;
    listener.wait_for("one at the end", |message| firing(message).contains_key("Together"))?;
    sleep(QUIET);
    let counts = told_of(&listener)?;
    for (name, count) in counts {
        ensure!(!name.starts_with("Silenced"), "{name} was told although it is silenced");
        let most = if name == "Alone" { 2 } else { 1 };
        ensure!(count <= most, "{name} was told {count} times");
    }
    Ok(format!("a dead broker's turn was another's after {:.1} s", taken.as_secs_f64()))
}

fn write_rules(path: &Path, alerts: &[&str]) -> Result<()> {
    let rules: String =
        alerts.iter().map(|name| format!("  - {{alert: {name}, expr: vector(1)}}\n")).collect();
    let text = format!("groups:\n- name: g\n  interval: 1s\n  rules:\n{rules}");
    std::fs::write(path, text).context("write rules.yml")
}

fn get(client: Client, path: &str) -> Result<Value> {
    let answer = client.get(path)?;
    ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text());
    serde_json::from_slice(&answer.body).with_context(|| path.to_owned())
}

fn fire(client: Client, name: &str) -> Result<()> {
    ensure!(crate::alerting::fire(client, &[name.to_owned()])?, "{name} is not taken");
    Ok(())
}

/// Sends an alert until it is taken, as Prometheus does.
fn fire_at_last(site: &Site, at: usize, name: &str) -> Result<()> {
    let begin = Instant::now();
    loop {
        match fire(site.members[at].client(), name) {
            Ok(()) => return Ok(()),
            Err(error) if begin.elapsed() > TAKEN_OVER => return Err(error),
            Err(_) => sleep(Duration::from_millis(100)),
        }
    }
}

/// Silences alerts of a name; yields the silence's.
fn silence(client: Client, name: &str) -> Result<String> {
    let silence = json!({
        "matchers": [{ "name": "alertname", "value": name, "isRegex": false }],
        "startsAt": "2020-01-01T00:00:00Z", "endsAt": "2200-01-01T00:00:00Z",
        "createdBy": "test", "comment": "none",
    });
    let headers = [("Content-Type", "application/json")];
    let answer = client.post("/api/v2/silences", &headers, silence.to_string().as_bytes())?;
    ensure!(answer.status == 200, "a silence: {} {}", answer.status, answer.text());
    let told: Value = serde_json::from_slice(&answer.body)?;
    told["silenceID"].as_str().map(str::to_owned).context("a silence has a name")
}

/// Who evaluates and notifies.
fn holder(site: &Site) -> Result<usize> {
    let begin = Instant::now();
    while begin.elapsed() < TAKEN_OVER {
        for (at, member) in site.members.iter().enumerate() {
            let Ok(answer) = member.client().get("/metrics") else { continue };
            if answer.text().lines().any(|line| line == "watchfire_ruler_active 1") {
                return Ok(at);
            }
        }
        sleep(Duration::from_millis(50));
    }
    bail!("nobody evaluates rules")
}

/// How often somebody was told that each alert fires.
fn told_of(listener: &Listener) -> Result<BTreeMap<String, usize>> {
    let mut told = BTreeMap::new();
    for (_, message) in listener.told()? {
        firing(&message).into_keys().for_each(|name| *told.entry(name).or_default() += 1);
    }
    Ok(told)
}

fn check_told_once(listener: &Listener) -> Result<()> {
    match told_of(listener)?.into_iter().find(|(_, count)| *count > 1) {
        Some((name, count)) => bail!("{name} was told {count} times"),
        None => Ok(()),
    }
}
