//! A cluster as the documentation founds it, restarted one broker after the other.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::site::Site;
use crate::harness::process::binary;
use crate::harness::{Scratch, random::Random};

pub(super) fn one_by_one(scratch: &Scratch) -> Result<String> {
    let mut site = Site::start(scratch, Random::seed())?;
    site.write_while(|_| {
        sleep(Duration::from_secs(1));
        Ok(())
    })?;
    site.check()?;

    // A token that is made at one broker counts at each.
    let token = |site: &Site, at: usize, words: &[&str]| -> Result<String> {
        let data = &site.members[at].data;
        let output =
            Command::new(binary()).arg("token").args(words).arg("--data").arg(data).output();
        let output = output.context("start watchfire token")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "watchfire token {words:?}: {said}");
        Ok(String::from_utf8(output.stdout)?)
    };
    token(&site, 1, &["create", "--scope", "read", "--name", "made-at-two"])?;
    for at in 0..3 {
        let listed = token(&site, at, &["list"])?;
        ensure!(listed.contains("made-at-two [read]"), "broker {}: {listed}", at + 1);
    }

    for at in 0..3 {
        site.write_while(|members| {
            sleep(Duration::from_millis(300));
            members[at].stop()?;
            sleep(Duration::from_millis(300));
            members[at].start_again()
        })
        .with_context(|| format!("restart broker {}", at + 1))?;
        site.check_counts().with_context(|| format!("after broker {} restarted", at + 1))?;
        ensure!(token(&site, at, &["list"])?.contains("made-at-two"), "a token is lost");
    }
    // All at once: nobody is there who could tell.
    for member in &mut site.members {
        member.kill()?;
    }
    std::thread::scope(|scope| {
        let starts: Vec<_> =
            site.members.iter_mut().map(|member| scope.spawn(|| member.start_again())).collect();
        starts.into_iter().try_for_each(|start| start.join().expect("no panic"))
    })
    .context("after all were killed")?;
    site.check()?;

    // A data directory that is lost is a broker that is: its host joins as another one.
    site.add(scratch, "broker-4")?;
    Ok(format!("{} samples, 3 restarts, all killed once", site.acknowledged_samples()))
}
