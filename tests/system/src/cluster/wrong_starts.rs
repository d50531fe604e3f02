//! A broker whose directory, store or rules are not what they were: it does not start, or says at each look
//! what is wrong; and when it is put right nothing is lost.

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::site::{CONFIG, Member, Place, Site, until_taken};
use crate::harness::process::binary;
use crate::harness::random::Random;
use crate::harness::{Client, Launch, Scratch, free_address};

const PATIENCE: Duration = Duration::from_secs(60);
const RULES: &str = "  retention_rules: [{selector: '{env=\"dev\"}', for: 2d}]\n";

/// What `watchfire cluster status` prints, and the code it ends with.
fn cluster_status(client: Client) -> Result<(String, Option<i32>)> {
    let url = format!("http://{}", client.address());
    let output = Command::new(binary())
        .args(["cluster", "status", "--url", &url, "--lang", "en"])
        .output()
        .context("start watchfire cluster status")?;
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code()))
}

fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !is_so().with_context(|| what.to_owned())? {
        ensure!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn refused(member: &Member, words: &[&str]) -> Result<()> {
    let said = member.refused_again(PATIENCE).with_context(|| format!("{words:?}"))?;
    for word in words {
        ensure!(said.contains(word), "{word:?} is not in {said}");
    }
    Ok(())
}

/// Puts other contents into a file while `during` runs.
fn with_other(path: &Path, other: &[u8], during: impl FnOnce() -> Result<()>) -> Result<()> {
    let kept = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    std::fs::write(path, other)?;
    let outcome = during();
    std::fs::write(path, kept)?;
    outcome.with_context(|| format!("with another {}", path.display()))
}

pub(super) fn put_right(scratch: &Scratch) -> Result<String> {
    let seed = Random::seed();
    let mut places: Vec<Place> =
        (0..3).map(|_| Place::here(free_address()?)).collect::<Result<_>>()?;
    places[1].config = format!("{CONFIG}{RULES}");
    let store = format!("file://{}", scratch.join("store").display());
    let mut site = Site::start_at(scratch, seed, store, &places)?;
    let for_a_second = |_: &mut [Member]| {
        sleep(Duration::from_secs(1));
        Ok(())
    };
    site.write_while(for_a_second)?;

    // Rules that differ are told, with who has which; a reload is enough to put them right.
    let first = site.members[0].client();
    let words = ["different storage.retention_rules", "{env=\"dev\"} for 2d (broker-2)"];
    let others = "none (broker-1, broker-3)";
    until("rules that differ are told", || {
        let (said, code) = cluster_status(first)?;
        Ok(code == Some(1) && words.iter().chain([&others]).all(|word| said.contains(word)))
    })?;
    std::fs::write(scratch.join("broker-2/watchfire.yml"), CONFIG)?;
    site.members[1].signal(Signal::HUP);
    until("equal rules are well", || Ok(!cluster_status(first)?.0.contains("retention_rules")))?;

    site.members[2].stop()?;
    let data = site.members[2].data.clone();
    let tls = data.join("tls");
    let new = scratch.join("elsewhere/data");
    std::fs::create_dir_all(scratch.join("elsewhere"))?;
    Launch::broker(&new).start()?.stop()?;
    let of_new = |file: &str| std::fs::read(new.join("tls").join(file)).context(file.to_owned());
    let third = &mut site.members[2];
    let words = ["ca-key.pem is not the key of", "ca.pem", "that belong together"];
    with_other(&tls.join("ca.pem"), &of_new("ca.pem")?, || refused(third, &words))?;
    with_other(&tls.join("ca.pem"), b"no certificate", || refused(third, &["ca.pem"]))?;
    let home = std::fs::read_to_string(data.join("cluster.json"))?;
    let home: serde_json::Value = serde_json::from_str(&home)?;
    let mut of_another = home.clone();
    of_another["cluster"] = "0123456789abcdef0123456789abcdef".into();
    let words = ["is not that of this broker", "0123456789abcdef0123456789abcdef"];
    let path = data.join("cluster.json");
    with_other(&path, of_another.to_string().as_bytes(), || refused(third, &words))?;
    with_other(&path, b"{", || refused(third, &["cluster.json cannot be understood"]))?;
    let mut newer = home;
    newer["version"] = 99.into();
    let words = ["written by a newer version", "start that version on it"];
    with_other(&path, newer.to_string().as_bytes(), || refused(third, &words))?;

    // Both files of another installation: that is how a new authority begins, so it starts, and waits for
    // others that have it too. It says so, and the others have nothing to do with it.
    let identity = std::fs::read(tls.join("identity.pem"))?;
    let other_key = of_new("ca-key.pem")?;
    with_other(&tls.join("ca-key.pem"), &other_key, || {
        with_other(&tls.join("ca.pem"), &of_new("ca.pem")?, || waits_for_others(third))
    })?;
    ensure!(std::fs::read(tls.join("identity.pem"))? != identity, "it made no certificate");
    let taken = until_taken(site.members[0].client(), 1.0)?;
    site.members[2].start_again()?;
    site.write_while(for_a_second)?;
    site.check().with_context(|| format!("seed {seed}"))?;
    Ok(format!(
        "6 wrong starts told, {} samples, 0 lost, 0 doubled; a write meanwhile took {:.1} s",
        site.acknowledged_samples(),
        taken.as_secs_f64()
    ))
}

/// It runs, says why nobody knows it, and is no broker yet.
fn waits_for_others(member: &Member) -> Result<()> {
    let mut server = member.spawn_again()?;
    let words = ["is not the authority that this broker's certificate is of", "of another one"];
    until("it says that the authority is another one", || {
        ensure!(server.is_running(), "it ended: {}", server.stderr());
        let said = server.stderr();
        Ok(words.iter().all(|word| said.contains(word)))
    })?;
    sleep(Duration::from_secs(2));
    ensure!(server.is_running() && !server.is_ready(), "it is ready: {}", server.stderr());
    server.kill()
}
