//! `cargo xtask`: everything around the build, in one place.

#![allow(clippy::print_stdout, reason = "a command line tool prints")]

use std::process::ExitCode;

mod bench;
mod dist;
mod fuzz;
mod licences;
mod process;
mod simulate;
mod stages;
mod test;
mod tidy;
mod tools;

const USAGE: &str = "\
cargo xtask <command>

  test [STAGE…]          install what tests need and run all stages, or the named ones
  conformance SUITE DIR  run the data-driven cases in DIR (suites: discovery,
                         host-metrics, logql, promql, remote-write, textparse)
  fuzz [TARGET]          list the fuzz targets, or search with one; --seconds N, or files
                         to run once instead
  bench NAME             run a benchmark side by side with its peers (ingest, query, restart,
                         agent, scrape, fleet, cluster, rolling, logs, alerting, viewers, hour)
  simulate               break simulated clusters until time is over; --seconds N, --seeds N,
                         --seed S, --release
  tidy                   check the arrows between crates, sizes and names
  web                    rebuild web/dist from its sources
  dist                   build all files of a release into target/dist
  dist --check           the same of target/debug/watchfire, fast, only to check it";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["test", stages @ ..] => test::run(stages),
        ["conformance", suite, rest @ ..] => stages::conformance(suite, rest),
        ["fuzz", rest @ ..] => fuzz::run(rest),
        ["bench", name, rest @ ..] => bench::run(name, rest),
        ["simulate", rest @ ..] => simulate::run(rest),
        ["tidy"] => tidy::run(),
        ["web"] => stages::build_web(),
        ["dist"] => dist::run(),
        ["dist", "--check"] => dist::check().map(|counts| counts.failed == 0),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
