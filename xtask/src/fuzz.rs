//! `cargo xtask fuzz` and the stage `fuzz`: builds all targets once, instrumented, and runs them.
//!
//! What cargo-fuzz does with `--sanitizer none`, on the stable compiler: coverage counters for
//! libFuzzer, debug assertions, overflow checks. There is no address sanitizer, which stable has
//! not; nothing of the crates under test is unsafe.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::{self, Counts, root};

/// Everything the search goes by is counted by these: edges taken, and what is compared with what.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg",
    "fuzzing",
];

/// How long a target runs in the stage.
const STAGE_SECONDS: u64 = 15;
/// How long it runs for a human who says nothing else.
const HUMAN_SECONDS: u64 = 60;
/// Targets that run at once in the stage.
const STAGE_WIDTH: usize = 2;

/// Address space of a run. What is asked for beyond it is refused and ends the process at the
/// input that asked, even if the memory would never have been touched.
const ADDRESS_SPACE_KIB: u64 = 1 << 20;
const MAX_RSS_MIB: u64 = 512;
/// Seconds that one input may take.
const INPUT_SECONDS: u64 = 10;
const MAX_INPUT_BYTES: u64 = 4_096;

/// `cargo xtask fuzz [TARGET [FILE…] [--seconds N]]`. Without a target, lists them; with files,
/// runs these inputs once instead of searching.
pub(crate) fn run(words: &[&str]) -> Result<bool> {
    let program = build()?;
    let Some((name, rest)) = words.split_first() else {
        targets(&program)?.iter().for_each(|name| println!("{name}"));
        return Ok(true);
    };
    let known = targets(&program)?;
    if !known.iter().any(|target| target == name) {
        bail!("there is no target {name:?}; targets are: {}", known.join(", "));
    }
    let (files, seconds) = match rest {
        [files @ .., "--seconds", seconds] => {
            (files, seconds.parse::<u64>().context("--seconds wants a whole number")?)
        }
        files => (files, HUMAN_SECONDS),
    };
    if files.is_empty() {
        let run = Run::start(&program, name, seconds, &[], Stdio::inherit())?;
        println!("  searching for {seconds} s; the log is {}", run.log.display());
        return run.finish();
    }
    let mut command = limited(&program, name);
    for file in files {
        command.arg(std::path::absolute(file)?);
    }
    Ok(command.status().context("start the fuzz program")?.success())
}

/// Every target for a short while, from its seeds and with the same random numbers each time: what
/// the stage finds is found again. `cargo xtask fuzz TARGET` goes on from what it found before.
pub(crate) fn stage() -> Result<Counts> {
    let program = build()?;
    let names = targets(&program)?;
    let mut counts = Counts::default();
    for pair in names.chunks(STAGE_WIDTH) {
        let runs: Vec<Run> = pair
            .iter()
            .map(|name| {
                let corpus = directory().join("runs").join(name).join("corpus");
                // Absent before the first run.
                let _ = std::fs::remove_dir_all(corpus);
                Run::start(&program, name, STAGE_SECONDS, &["-seed=1"], Stdio::null())
            })
            .collect::<Result<_>>()?;
        for run in runs {
            match run.finish()? {
                true => counts.passed += 1,
                false => counts.failed += 1,
            }
        }
    }
    Ok(counts)
}

/// Where the instrumented program, corpora and crashing inputs are: a second set of compiler flags
/// must not undo what the first has built.
fn directory() -> PathBuf {
    let targets = std::env::var_os("CARGO_TARGET_DIR");
    targets.map_or_else(|| root().join("target"), PathBuf::from).join("fuzz")
}

fn build() -> Result<PathBuf> {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    // With a platform, build scripts and macros are not instrumented.
    let arguments = [
        "build",
        "--quiet",
        "--profile=fuzz",
        "--package=watchfire-fuzz",
        "--features=engine",
        "--target",
        &platform,
    ];
    let status = process::command(".", "cargo", &arguments)
        .env("CARGO_TARGET_DIR", directory())
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"))
        .status()
        .context("start cargo")?;
    if !status.success() {
        bail!("the fuzz targets do not build; libFuzzer needs a C++ compiler (Debian: g++)");
    }
    Ok(directory().join(platform).join("fuzz/fuzz"))
}

fn targets(program: &Path) -> Result<Vec<String>> {
    let output = Command::new(program).arg("--list").output().context("list fuzz targets")?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        bail!("the fuzz program cannot list its targets ({}): {}", output.status, told.trim());
    }
    let names: Vec<String> =
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    // A stage that searches nothing must not pass.
    if names.is_empty() {
        bail!("the fuzz program lists no targets");
    }
    Ok(names)
}

/// The program with its target and its bounds.
fn limited(program: &Path, name: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    // A shell, because it has `ulimit` and this workspace has no unsafe code.
    let script = format!("ulimit -v {ADDRESS_SPACE_KIB} && exec \"$@\"");
    command.args(["-c", &script, "sh"]).arg(program).arg(format!("--target={name}")).args([
        format!("-rss_limit_mb={MAX_RSS_MIB}"),
        format!("-timeout={INPUT_SECONDS}"),
        format!("-max_len={MAX_INPUT_BYTES}"),
    ]);
    command
}

/// One target at work.
struct Run {
    name: String,
    child: Child,
    log: PathBuf,
    crashes: PathBuf,
}

impl Run {
    fn start(
        program: &Path,
        name: &str,
        seconds: u64,
        flags: &[&str],
        output: Stdio,
    ) -> Result<Run> {
        let home = directory().join("runs").join(name);
        let (corpus, crashes) = (home.join("corpus"), home.join("crashes"));
        for directory in [&corpus, &home.join("seeds"), &crashes] {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("make {}", directory.display()))?;
        }
        // libFuzzer opens it before the program has written it.
        std::fs::write(home.join("words"), "").context("begin the dictionary")?;
        let log = home.join("log");
        let to_log = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let mut command = limited(program, name);
        command
            .arg(format!("--seeds={}", home.display()))
            .arg(&corpus)
            .arg(home.join("seeds"))
            .arg(format!("-artifact_prefix={}/", crashes.display()))
            .arg(format!("-dict={}", home.join("words").display()))
            .args([format!("-max_total_time={seconds}"), "-print_final_stats=1".to_owned()])
            .args(flags)
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(to_log);
        let child = command.spawn().context("start the fuzz program")?;
        Ok(Run { name: name.to_owned(), child, log, crashes })
    }

    /// Waits, and says what came of it in one line; after a crash, how to see it again.
    fn finish(mut self) -> Result<bool> {
        let status = self.child.wait()?;
        let log = std::fs::read(&self.log).context("read the log of a run")?;
        let log = String::from_utf8_lossy(&log);
        if status.success() {
            let executed = value_of(&log, "stat::number_of_executed_units:");
            let memory = value_of(&log, "stat::peak_rss_mb:");
            let covered = log.lines().rev().find_map(|line| line.split_once(" cov: "));
            let covered = covered.map_or("?", |(_, rest)| rest.split(' ').next().unwrap_or("?"));
            println!(
                "  {:<20} ok   {executed:>9} inputs, {covered:>6} edges, {memory} MiB",
                self.name
            );
            return Ok(true);
        }
        println!("  {:<20} FAIL {status}", self.name);
        process::note_failure(&format!("fuzz {} FAIL {status}", self.name));
        let told = ["panicked at", "ERROR: ", "SUMMARY: ", "memory allocation of"];
        let mut lines = log.lines().peekable();
        while let Some(line) = lines.next() {
            if told.iter().any(|word| line.contains(word)) {
                println!("    {line}");
                // What a panic says stands on the lines behind its place.
                if line.contains("panicked at") {
                    (0..4).filter_map(|_| lines.next()).for_each(|line| println!("    {line}"));
                }
            }
        }
        match log.lines().find_map(|line| line.split_once("Test unit written to ")) {
            Some((_, input)) => {
                println!(
                    "    the input is {input}\n    again: cargo xtask fuzz {} {input}",
                    self.name
                );
            }
            None => println!("    no input was kept in {}", self.crashes.display()),
        }
        println!("    the log is {}", self.log.display());
        Ok(false)
    }
}

/// The word behind `key` at the start of a line.
fn value_of<'a>(log: &'a str, key: &str) -> &'a str {
    log.lines().find_map(|line| line.strip_prefix(key)).map_or("?", str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_targets_is_an_error() {
        // They take any argument, print nothing, and end well and badly.
        let (nothing, fails) = (Path::new("/bin/true"), Path::new("/bin/false"));
        let told = |program| targets(program).expect_err("no list").to_string();
        assert_eq!(told(nothing), "the fuzz program lists no targets");
        assert!(told(fails).contains("cannot list its targets"));
    }
}
