//! Tests of the whole program, over its sockets and its files, as a user and as bad luck meet it:
//! `watchfire-system GROUP…` runs groups of tests, `watchfire-system GROUP/WORD` those of a group
//! whose name holds a word. `watchfire-system conformance SUITE DIRECTORY` runs cases kept as data.
//!
//! Each test starts the binary that was built beside this one (or `WATCHFIRE_BIN`) on a directory
//! of its own, prints `name ok|FAIL figure`, and leaves the directory behind only when it failed.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test runner speaks to its user")]

mod alerting;
mod api;
mod browser;
mod cluster;
mod conformance;
mod crash;
mod docs;
mod faults;
mod harness;
mod interop;
mod ledger;
mod live;
mod memory;
mod quickstart;
mod rotating;
mod security;
mod tenants;
mod tier;

use std::path::Path;
use std::process::ExitCode;

use harness::{Group, runner};

/// Every group of tests; the groups of one area lie in the module of that name.
const GROUPS: &[Group] = &[
    alerting::GROUP,
    api::GROUP,
    browser::GROUP,
    cluster::GROUP,
    cluster::OVER_STORES,
    cluster::BY_HAND,
    crash::GROUP,
    docs::GROUP,
    faults::GROUP,
    interop::GROUP,
    live::GROUP,
    memory::GROUP,
    quickstart::GROUP,
    security::GROUP,
    tenants::GROUP,
    tier::GROUP,
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["conformance", suite, directory] => conformance::run(suite, Path::new(directory)),
        _ => runner::run(GROUPS, &wanted),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("watchfire-system: {error:#}");
            ExitCode::from(2)
        }
    }
}
