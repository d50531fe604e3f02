//! Debian's `amtool`, which speaks to us as to an Alertmanager.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Listener, launch};
use crate::cluster::join_token;
use crate::harness::{Launch, Scratch, free_address};

/// `amtool` with these words, told where we are. Yields what it prints.
fn amtool(address: SocketAddr, words: &[&str]) -> Result<String> {
    let url = format!("--alertmanager.url=http://{address}");
    let output = Command::new("amtool").arg(&url).args(words).output();
    let output = output.context("run amtool; `cargo xtask test` installs it")?;
    let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    ensure!(output.status.success(), "amtool {words:?} ended with {}: {out}{err}", output.status);
    Ok(out.trim().to_owned())
}

/// The same, read as JSON.
fn amtool_json(address: SocketAddr, words: &[&str]) -> Result<Value> {
    let text = amtool(address, &[words, &["-o", "json"]].concat())?;
    serde_json::from_str(&text).with_context(|| format!("amtool {words:?} printed {text}"))
}

fn configuration(listener: &Listener) -> String {
    format!(
        "global: {{resolve_timeout: 1h}}\n\
         route:\n  receiver: hook\n  group_by: [alertname]\n  group_wait: 200ms\n  \
         group_interval: 300ms\n  routes:\n  - matchers: [team=\"db\"]\n    receiver: nobody\n\
         receivers:\n- name: hook\n  webhook_configs: [{{url: '{}'}}]\n- name: nobody\n",
        listener.url()
    )
}

pub(super) fn asks_and_silences(scratch: &Scratch) -> Result<String> {
    let listener = Listener::start()?;
    let (launch, _) = launch(scratch, &configuration(&listener))?;
    let server = launch.start()?;
    let address = server.client().address();
    let alerts = |words: &[&str]| -> Result<usize> {
        let found = amtool_json(address, &[&["alert", "query"], words].concat())?;
        Ok(found.as_array().map_or(0, Vec::len))
    };
    ensure!(alerts(&[])? == 0, "there are alerts at the start");
    for words in [&["Foo", "host=a"][..], &["alertname=Foo", "host=b"], &["Bar", "team=db"]] {
        let add = ["alert", "add", "--annotation=summary=it is down", "--generator-url=http://p/g"];
        amtool(address, &[&add[..], words].concat())?;
    }
    ensure!(alerts(&[])? == 3 && alerts(&["Foo"])? == 2 && alerts(&["host=~a|b"])? == 2);
    ensure!(alerts(&["-r", "nobody"])? == 1 && alerts(&["host=c"])? == 0);
    let message = listener.wait_for("both hosts", |message| {
        message["alerts"].as_array().is_some_and(|alerts| alerts.len() == 2)
    })?;
    ensure!(message["commonAnnotations"]["summary"] == "it is down", "told: {message}");
    ensure!(message["alerts"][0]["generatorURL"] == "http://p/g", "told: {message}");

    let add =
        ["silence", "add", "-a", "ann", "-c", "work", "-d", "1h", "alertname=Foo", "host=~a.*"];
    let id = amtool(address, &add)?;
    ensure!(alerts(&[])? == 2 && alerts(&["-s"])? == 1 && alerts(&["-s", "-a"])? == 3);
    let silences = amtool_json(address, &["silence", "query"])?;
    let silence = &silences[0];
    ensure!(silence["id"] == *id && silence["comment"] == "work", "silence: {silence}");
    ensure!(silence["matchers"][1]["isRegex"] == true, "silence: {silence}");
    ensure!(amtool_json(address, &["silence", "query", "host=x"])?[0].is_null());
    // What `update -q` prints is an address in memory.
    amtool(address, &["silence", "update", "-d", "2h", &id])?;
    amtool(address, &["silence", "update", "-c", "more work", &id])?;
    let exported = amtool_json(address, &["silence", "query"])?;
    ensure!(exported[0]["comment"] == "more work", "silences: {exported}");
    ensure!(exported[0]["id"] == *id && exported[1].is_null(), "silences: {exported}");
    amtool(address, &["silence", "expire", &id])?;
    ensure!(alerts(&[])? == 3, "an expired silence still holds");
    ensure!(amtool(address, &["silence", "query", "-q"])?.is_empty());
    ensure!(amtool(address, &["silence", "query", "--expired", "-q"])?.contains(&id));
    let file = scratch.join("silences.json");
    let mut imported = exported;
    imported[0]["id"] = "".into();
    std::fs::write(&file, imported.to_string())?;
    let id = amtool(address, &["silence", "import", &file.display().to_string()])?;
    ensure!(alerts(&[])? == 2, "an imported silence does not hold");
    let failed = amtool(address, &["silence", "expire", "00000000-0000-0000-0000-000000000000"]);
    ensure!(failed.is_err(), "a silence there is not was expired");

    // All of it outlives a restart.
    server.stop()?;
    let server = launch.start()?;
    let address = server.client().address();
    let silences = amtool(address, &["silence", "query", "-q"])?;
    ensure!(id.contains(&silences) && !silences.is_empty(), "{silences} of {id} is left");
    let left = amtool_json(address, &["alert", "query", "-s", "-a"])?;
    ensure!(left.as_array().map(Vec::len) == Some(3), "alerts after the restart: {left}");
    server.stop()?;
    Ok("alerts and silences of amtool".to_owned())
}

/// A console of its own passes all of it on, for users that it knows itself.
pub(super) fn through_a_console(scratch: &Scratch) -> Result<String> {
    let listener = Listener::start()?;
    let (launch, _) = launch(scratch, &configuration(&listener))?;
    let peers = free_address()?.to_string();
    let server = launch.arguments(&["--peer-listen", &peers]).start()?;
    let token = join_token(&scratch.join("data"), "console")?;
    let console = Launch::console(&scratch.join("console"));
    let console = console.arguments(&["--broker", &peers, "--join", &token]).start()?;
    let (there, here) = (console.client().address(), server.client().address());
    amtool(there, &["alert", "add", "Foo", "host=a", "--annotation=summary=it is down"])?;
    let message = listener.wait_for("the alert", |message| {
        message["alerts"].as_array().is_some_and(|alerts| alerts.len() == 1)
    })?;
    ensure!(message["commonAnnotations"]["summary"] == "it is down", "told: {message}");
    let add = ["silence", "add", "-a", "ann", "-c", "work", "-d", "1h", "alertname=Foo"];
    let id = amtool(there, &add)?;
    for address in [there, here] {
        let listed = amtool(address, &["silence", "query", "-q"])?;
        ensure!(listed == id, "{address} lists {listed}, not {id}");
        let silenced = amtool_json(address, &["alert", "query", "-s"])?;
        ensure!(silenced[0]["labels"]["alertname"] == "Foo", "{address}: {silenced}");
    }
    amtool(there, &["silence", "expire", &id])?;
    ensure!(amtool(here, &["silence", "query", "-q"])?.is_empty(), "it was expired");
    let refused = amtool(there, &["silence", "expire", "00000000-0000-0000-0000-000000000000"]);
    ensure!(refused.is_err(), "a silence there is not was expired");
    console.stop()?;
    server.stop()?;
    Ok("alerts and silences at a console".to_owned())
}

pub(super) fn reads_our_configuration(scratch: &Scratch) -> Result<String> {
    // `amtool` of that age cannot read the mark that stands where a URL of a webhook stood.
    let configuration = "route:\n  receiver: all\n  group_wait: 200ms\n  routes:\n  \
                         - matchers: [team=\"db\"]\n    receiver: db\n\
                         receivers: [{name: all}, {name: db}]\n";
    let (launch, file) = launch(scratch, configuration)?;
    let server = launch.start()?;
    let address = server.client().address();
    let check = amtool(address, &["check-config", path(&file)])?;
    ensure!(check.contains("SUCCESS") && check.contains("2 receivers"), "checked: {check}");
    let shown = amtool(address, &["config", "show"])?;
    ensure!(shown.contains("group_wait: 200ms"), "configuration: {shown}");
    for (labels, receiver) in [("team=db", "db"), ("team=web", "all")] {
        let verify = format!("--verify.receivers={receiver}");
        let told = amtool(address, &["config", "routes", "test", &verify, labels])?;
        ensure!(told == receiver, "{labels} goes to {told}");
    }
    let tree = amtool(address, &["config", "routes", "show"])?;
    ensure!(tree.contains("{team=\"db\"}") && tree.contains("receiver: db"), "tree: {tree}");
    let cluster = amtool(address, &["cluster", "show"])?;
    ensure!(cluster.contains("disabled"), "cluster: {cluster}");
    server.stop()?;
    Ok("configuration, routes and cluster".to_owned())
}

fn path(file: &Path) -> &str {
    file.to_str().expect("a path of the test is UTF-8")
}
