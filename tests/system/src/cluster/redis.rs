//! A Redis Cluster as the only place of data: what breaks at the brokers loses nothing. What breaks between
//! the nodes of Redis does, as the consent that it needs says; then it is told which objects are gone.

use std::collections::BTreeSet;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::network::{BROKERS, Fault, STORE, places, strike_all};
use super::site::{Place, Site};
use crate::harness::network::Network;
use crate::harness::peer::Host;
use crate::harness::process::binary;
use crate::harness::random::Random;
use crate::harness::redis::{PASSWORD, RedisCluster};
use crate::harness::{Client, Scratch, free_address};

/// Of the brokers, and of the way to the store as a whole: the links between its nodes stay. What is the
/// brokers' alone, whatever the store is, is in `network`.
const FAULTS: &[Fault] =
    &[Fault::KillLeader, Fault::CutAnother, Fault::PauseLeader, Fault::StoreAway];

const ACCEPTED: &str = "cluster:\n  accept_weaker_durability: true\n";
const PATIENCE: Duration = Duration::from_secs(40);

fn with_redis(mut place: Place, flush_interval: &str) -> Place {
    place.environment.push(("REDIS_PASSWORD", PASSWORD));
    place.config = format!("storage:\n  flush_interval: {flush_interval}\n{ACCEPTED}");
    place
}

pub(super) fn brokers_break(scratch: &Scratch) -> Result<String> {
    let network = Network::new(BROKERS + 1)?;
    let host = Host { on: network.on(STORE), address: network.peers(STORE).into() };
    let redis = RedisCluster::start_at(scratch, &[host])?;
    let places: Vec<Place> =
        places(&network).into_iter().map(|place| with_redis(place, "1s")).collect();
    strike_all(scratch, &network, redis.url("wf?wait=1"), &places, FAULTS)
}

/// One primary is cut off from all other nodes, and not from the brokers: for a moment it goes on
/// confirming what nobody else has, then its replica takes its place. Brokers that live still have all of
/// it in memory; those that start afterwards miss it, say so in each answer, and name it.
pub(super) fn a_primary_is_cut_off(scratch: &Scratch) -> Result<String> {
    let network = Network::new(2)?;
    let host = |host| Host { on: network.on(host), address: network.peers(host).into() };
    let redis = RedisCluster::start_at(scratch, &[host(0), host(1)])?;
    ensure!(redis.is_primary(0), "the node that is to be cut off is none");
    let place = || Ok(with_redis(Place::here(free_address()?)?, "1h"));
    let places: Vec<Place> = (0..BROKERS).map(|_| place()).collect::<Result<_>>()?;
    let mut site = Site::start_at(scratch, Random::seed(), redis.url("wf"), &places)?;
    let primaries = || (1..6).filter(|&node| redis.is_primary(node)).count();
    ensure!(primaries() == 2, "{} others are primaries", primaries());
    site.write_while(|_| {
        sleep(Duration::from_secs(1));
        network.cut(0, 1)?;
        let begin = Instant::now();
        while primaries() < 3 {
            ensure!(begin.elapsed() < PATIENCE, "no replica takes the place of its primary");
            sleep(Duration::from_millis(50));
        }
        network.heal()?;
        sleep(Duration::from_secs(1));
        Ok(())
    })?;
    let begin = Instant::now();
    while !redis.is_whole()? {
        ensure!(begin.elapsed() < PATIENCE, "Redis does not become whole");
        sleep(Duration::from_millis(50));
    }
    site.write_while(|_| {
        sleep(Duration::from_secs(1));
        Ok(())
    })?;
    site.check().context("from memory")?;
    for member in &mut site.members {
        member.kill()?;
    }
    std::thread::scope(|scope| {
        let starts: Vec<_> =
            site.members.iter_mut().map(|member| scope.spawn(|| member.start_again())).collect();
        starts.into_iter().try_for_each(|start| start.join().expect("no panic"))
    })
    .context("after all were killed")?;
    told(&site)
}

/// Compares what is missing with what is told to be.
fn told(site: &Site) -> Result<String> {
    let client = site.members[0].client();
    let acknowledged = site.acknowledged_samples();
    let (readable, warnings) = readable(client)?;
    ensure!(readable < acknowledged, "nothing is lost: this proves nothing");
    let status = client.get_data("/api/v1/status/cluster")?;
    let members = status["members"].as_array().context("members")?;
    let mut named = BTreeSet::new();
    let mut rows = 0;
    for report in members.iter().map(|member| &member["report"]) {
        let missing = report["missing"].as_array().context("a report of each")?;
        let count = report["missingCount"].as_u64().context("a number")?;
        ensure!(count == missing.len() as u64, "{count} are missing, too many to be named here");
        for what in missing.iter().filter_map(serde_json::Value::as_str) {
            if !named.insert(what) {
                continue;
            }
            let words: Vec<&str> = what.split(' ').collect();
            let at = words.iter().position(|word| *word == "samples").context("rows are told")?;
            rows += words[at - 1].parse::<u64>()?;
            ensure!(what.contains("(object segments/"), "no object is named in {what}");
        }
    }
    // Others tell of it in words of their own.
    for what in &named {
        let number = what.split(" of broker").next().unwrap_or_default();
        let number = number.trim_start_matches("partial answer: ");
        let range = what.split(" from ").nth(1).and_then(|rest| rest.split(" (").next());
        let range = range.context("a range is told")?;
        let is_it = |told: &String| told.contains(number) && told.contains(range);
        ensure!(warnings.iter().any(is_it), "{what} is not among {warnings:#?}");
    }
    let named = named.len();
    // A batch that was sent twice is in two segments.
    ensure!(readable + rows >= acknowledged, "{readable} + {rows} are not {acknowledged}");
    let url = format!("http://{}", client.address());
    let output = Command::new(binary())
        .args(["cluster", "status", "--url", &url, "--lang", "en"])
        .output()
        .context("start watchfire cluster status")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let listed = said.lines().filter(|line| line.contains("(object segments/")).count();
    ensure!(output.status.code() == Some(2) && listed >= named, "{named} are missing: {said}");
    Ok(format!(
        "{} of {acknowledged} samples lost with {named} segments, each named by answers and `cluster status`",
        acknowledged - readable
    ))
}

/// Samples of all ledgers that can be read, and what is said to lack.
fn readable(client: Client) -> Result<(u64, Vec<String>)> {
    let form = [("query", "sum(count_over_time(ledger[12h]))")];
    let (status, answer) = client.envelope("/api/v1/query", &form)?;
    ensure!(status == 200, "{status}: {answer}");
    let count = answer["data"]["result"][0]["value"][1].as_str().unwrap_or("0").parse()?;
    let warnings = answer["warnings"].as_array().cloned().unwrap_or_default();
    let warnings = warnings.iter().filter_map(|told| told.as_str().map(str::to_owned)).collect();
    Ok((count, warnings))
}
