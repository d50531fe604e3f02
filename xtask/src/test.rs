//! `cargo xtask test`: all stages in order, one line each, and the closing count.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::process::{self, Counts};
use crate::{fuzz, simulate, stages, tools};

/// A stage's name, what it proves, and what runs it.
struct Stage {
    name: &'static str,
    run: fn() -> Result<Counts>,
}

/// Cheap stages come first so that a slip is told within seconds. Those in one line run beside each
/// other: they wait for the clock more than they compute, and measure nothing.
const STAGES: &[&[Stage]] = &[
    &[Stage { name: "format", run: stages::format }],
    &[Stage { name: "tidy", run: stages::tidy }],
    &[Stage { name: "clippy", run: stages::clippy }],
    &[Stage { name: "web", run: stages::web }],
    &[Stage { name: "unit", run: stages::unit }],
    &[Stage { name: "promql", run: stages::promql }],
    &[Stage { name: "logql", run: stages::logql }],
    &[Stage { name: "host-metrics", run: stages::host_metrics }],
    &[Stage { name: "textparse", run: stages::textparse }],
    &[Stage { name: "discovery", run: stages::discovery }],
    &[Stage { name: "alerting", run: stages::alerting }],
    &[Stage { name: "fuzz", run: fuzz::stage }],
    &[Stage { name: "simulate", run: simulate::stage }],
    &[Stage { name: "remote-write", run: stages::remote_write }],
    &[
        Stage { name: "system", run: stages::system },
        Stage { name: "browser", run: stages::browser },
    ],
    &[Stage { name: "stores", run: stages::stores }],
    &[
        Stage { name: "cluster", run: stages::cluster },
        Stage { name: "cluster-stores", run: stages::cluster_stores },
    ],
    &[Stage { name: "measured", run: stages::measured }],
    &[Stage { name: "crash", run: stages::crash }],
    &[Stage { name: "dist", run: stages::dist }],
    &[Stage { name: "quickstart", run: stages::quickstart }],
];

/// Runs the stages named in `wanted`, or all. Yields whether nothing failed.
pub(crate) fn run(wanted: &[&str]) -> Result<bool> {
    let all = || STAGES.iter().copied().flatten();
    for name in wanted {
        if !all().any(|stage| stage.name == *name) {
            let known: Vec<_> = all().map(|stage| stage.name).collect();
            bail!("there is no stage {name:?}; stages are: {}", known.join(", "));
        }
    }
    tools::install()?;
    let mut total = Counts::default();
    let mut lines = Vec::new();
    for beside in STAGES {
        let is_wanted = |stage: &&Stage| wanted.is_empty() || wanted.contains(&stage.name);
        let stages: Vec<&Stage> = beside.iter().filter(is_wanted).collect();
        let outcomes: Vec<(Counts, String)> = std::thread::scope(|scope| {
            let runs: Vec<_> =
                stages.iter().map(|&stage| scope.spawn(move || run_one(stage))).collect();
            runs.into_iter().map(|run| run.join().expect("a stage does not panic")).collect()
        });
        for (counts, line) in outcomes {
            total.add(counts);
            lines.push(line);
        }
    }
    let failures = process::failures();
    if !failures.is_empty() {
        println!("\nwhat failed:\n  {}", failures.join("\n  "));
    }
    println!("\n{}", lines.join("\n"));
    println!("\n{} passed, {} failed", total.passed, total.failed);
    Ok(total.failed == 0 && total.passed > 0)
}

/// Runs a stage, and yields what it counted and its line.
fn run_one(stage: &Stage) -> (Counts, String) {
    println!("== {}", stage.name);
    let started = Instant::now();
    let counts = (stage.run)().unwrap_or_else(|error| {
        let line = format!("{}: {error:#}", stage.name);
        println!("  {line}");
        process::note_failure(&line);
        Counts { passed: 0, failed: 1 }
    });
    let word = if counts.failed == 0 { "ok" } else { "FAIL" };
    let line = format!(
        "{:<12} {word:<4} {:>6} of {:<6} {:>5} s",
        stage.name,
        counts.passed,
        counts.passed + counts.failed,
        started.elapsed().as_secs()
    );
    println!("  {line}");
    (counts, line)
}
