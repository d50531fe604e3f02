//! `cargo xtask simulate` and the stage `simulate`: whole clusters on one thread each, under faults.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::process::{self, Counts};

/// How long the stage runs, on each core. Seeds are fresh each time; those that found something once
/// are among the unit tests.
const STAGE_SECONDS: u64 = 60;
/// How long it runs for a human who says nothing else.
const HUMAN_SECONDS: u64 = 60;

/// How the last line of a search begins.
const SUMS: &str = "simulate: ";

/// `cargo xtask simulate [--seconds N] [--seeds N] [--seed S] [--release]`.
pub(crate) fn run(words: &[&str]) -> Result<bool> {
    let (mut seconds, mut seeds, mut seed, mut profile) = (None, None, None, "dev");
    let mut rest = words;
    loop {
        rest = match rest {
            [] => break,
            ["--seconds", number, rest @ ..] => {
                seconds = Some(number.parse().context("--seconds wants a whole number")?);
                rest
            }
            ["--seeds", number, rest @ ..] => {
                seeds = Some(number.parse().context("--seeds wants a whole number")?);
                rest
            }
            ["--seed", number, rest @ ..] => {
                seed = Some(number.parse::<u64>().context("--seed wants a whole number")?);
                rest
            }
            ["--release", rest @ ..] => {
                profile = "release";
                rest
            }
            [other, ..] => {
                bail!("simulate takes --seconds N, --seeds N, --seed S and --release, not {other}")
            }
        };
    }
    if seconds.is_none() && seeds.is_none() {
        seconds = Some(HUMAN_SECONDS);
    }
    Ok(search(&[("SECONDS", seconds), ("SEEDS", seeds), ("SEED", seed)], profile)?.failed == 0)
}

pub(crate) fn stage() -> Result<Counts> {
    search(&[("SECONDS", Some(STAGE_SECONDS))], "dev")
}

/// Each seed that fails is named in the output, with the command that shows it again.
fn search(numbers: &[(&str, Option<u64>)], profile: &str) -> Result<Counts> {
    let test = ["--ignored", "--exact", "faults_of_many_seeds", "--nocapture"];
    // Of the whole workspace, so that what unit tests were built from serves.
    let cargo = ["test", "--quiet", "--workspace", "--test=simulation", "--profile"];
    let mut command =
        process::command(".", "cargo", &[&cargo[..], &[profile, "--"], &test].concat());
    for (name, number) in numbers {
        match number {
            Some(number) => command.env(name, number.to_string()),
            None => command.env_remove(name),
        };
    }
    // What the harness says of one test that is a search tells nothing.
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("start cargo; is it installed?")?;
    let told = child.stderr.take().expect("standard error is piped");
    let mut sums = None;
    for line in BufReader::new(told).lines() {
        let line = line.context("read what the search says")?;
        if line.starts_with(SUMS) {
            sums = Some(line);
        } else {
            println!("  {line}");
        }
    }
    let is_well = child.wait()?.success();
    match sums {
        Some(sums) => println!("{sums}"),
        None => bail!("the search ended before its time, see above"),
    }
    Ok(Counts { passed: is_well.into(), failed: (!is_well).into() })
}
