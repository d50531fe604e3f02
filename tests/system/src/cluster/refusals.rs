//! What cannot work is refused at the start, with its cause and what to do.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::site::{join_token, launch};
use crate::harness::{Launch, Scratch, free_address};

const PATIENCE: Duration = Duration::from_secs(60);

/// Starts what must not run; the text it ends with has all the words.
pub(super) fn refused(launch: &Launch, words: &[&str]) -> Result<()> {
    let mut server = launch.spawn()?;
    let status = server.wait_end(PATIENCE).context("it runs")?;
    let said = server.stderr();
    ensure!(!status.success(), "it ended well: {said}");
    let missing: Vec<&&str> = words.iter().filter(|word| !said.contains(**word)).collect();
    ensure!(missing.is_empty(), "{missing:?} is not in: {said}");
    Ok(())
}

pub(super) fn refusals(scratch: &Scratch) -> Result<String> {
    let url = |name: &str| format!("file://{}", scratch.join(name).display());
    let (store, other_store) = (url("store"), url("other-store"));
    let founder = |name: &str, store: &str| -> Result<_> {
        let peers = free_address()?;
        let (again, data) = launch(scratch, name, peers)?;
        let running = again.clone().arguments(&["--store", store]).start()?;
        Ok((running, again, data, peers.to_string()))
    };
    let (first, again, data, peers) = founder("first", &store)?;
    let (other, _, other_data, _) = founder("other", &other_store)?;
    let mut count = 0;
    // Each in a directory of its own, so that nothing is left of the one before.
    let mut try_with = |arguments: &[&str], config: &str, words: &[&str]| -> Result<()> {
        count += 1;
        let (launch, _) = launch(scratch, &format!("refused-{count}"), free_address()?)?;
        let launch = if config.is_empty() { launch } else { launch.config(config) };
        refused(&launch.arguments(arguments), words).with_context(|| format!("{arguments:?}"))
    };
    let token = |data: &Path, role: &str| join_token(data, role);
    let good = token(&data, "broker")?;

    // The store.
    try_with(
        &["--store", &store],
        "",
        &["belongs to cluster", "first founded", "--join HOST:9596"],
    )?;
    try_with(&["--store", "memory://"], "", &["--accept-weaker-durability"])?;
    try_with(&["--store", "redis://127.0.0.1:1/x"], "", &["--accept-weaker-durability"])?;
    try_with(&["--store", "nonsense"], "", &["nonsense", "s3://BUCKET/PREFIX"])?;
    let empty = url("empty");
    let joining = |store: &str, peers: &str, token: &str| {
        ["--store", store, "--join", peers, "--join-token", token].map(str::to_owned)
    };
    let mut try_join = |store: &str, peers: &str, token: &str, words: &[&str]| -> Result<()> {
        let arguments = joining(store, peers, token);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        try_with(&arguments, "", words)
    };
    try_join(&empty, &peers, &good, &["there is no cluster in the store", "without --join"])?;
    // The cluster of one, the store of another.
    try_join(&other_store, &peers, &good, &["that is broker first of cluster", "--store"])?;

    // The token.
    let mut wrong = good.clone();
    let letter = if wrong.as_bytes()[5] == b'x' { "y" } else { "x" };
    wrong.replace_range(5..6, letter);
    try_join(
        &store,
        &peers,
        &wrong,
        &["the join token is unknown here", "watchfire token create"],
    )?;
    try_join(&store, &peers, "wfj_what", &["this is no join token"])?;
    let for_agents = token(&data, "agent")?;
    try_join(&store, &peers, &for_agents, &["for the role agent, not broker", "--role broker"])?;
    // Of another installation, and so of another authority.
    let foreign = token(&other_data, "broker")?;
    try_join(&store, &peers, &foreign, &["another installation"])?;
    let words = ["could not reach this broker at 127.0.0.1", "--peer-listen 0.0.0.0:9596"];
    try_join(&store, "first.example:9596", &good, &words)?;
    try_join(&store, "127.0.0.1:1", &good, &["127.0.0.1:1", "refused"])?;
    let arguments = ["--store", &store, "--join", &peers];
    try_with(&arguments, "", &["--join-token TOKEN", "watchfire token create --role broker"])?;
    try_with(&["--join", &peers, "--join-token", &good], "", &["--store URL"])?;

    // What follows the log of one machine.
    let aggregation = "stream_aggregation:\n  rules:\n    - match: a\n      interval: 1m\n      outputs: \
                       [total]\n";
    try_with(
        &["--store", &empty],
        aggregation,
        &["stream_aggregation", "leave it out in a cluster"],
    )?;
    let prometheus = scratch.join("prometheus.yml");
    std::fs::write(&prometheus, "remote_write:\n  - url: http://127.0.0.1:1/\n")?;
    let prometheus = prometheus.display().to_string();
    let arguments = ["--store", &url("remote"), "--prometheus-config", &prometheus];
    try_with(&arguments, "", &["remote_write", "leave it out in a cluster"])?;

    // Directories.
    let alone = scratch.join("alone/data");
    std::fs::create_dir_all(scratch.join("alone"))?;
    Launch::broker(&alone).start()?.stop()?;
    let with_data = Launch::broker(&alone).arguments(&["--store", &empty]);
    refused(&with_data, &["that is the data of one machine", "--data"])?;
    first.kill()?;
    refused(&again.clone().arguments(&["--store", &other_store]), &["is not that of this broker"])?;
    refused(&again.clone().arguments(&["--store", &empty]), &["no cluster is named in it"])?;
    // None of this has harmed it.
    again.start()?.stop()?;
    other.stop()?;
    Ok(format!("{} starts refused, each with its cause and remedy", count + 3))
}
