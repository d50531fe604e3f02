//! Tests of the crate `objects` against real stores: `watchfire-stores GROUP…` runs groups of tests,
//! `watchfire-stores GROUP/WORD` those of a group whose name holds a word. Each starts the programs it
//! needs on ports of its own; `cargo xtask test stores` installs them.
//!
//! `watchfire-stores contract URL` runs the contract of every store on one that is not started here,
//! empty below its prefix, with credentials of the environment.
//!
//! `watchfire-stores writer URL` writes objects until it is killed and prints each key once it is
//! confirmed: what the crash tests kill.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test runner speaks to its user")]

mod ceph;
mod contract;
mod directory;
mod harness;
mod peers;
mod redis_alone;
mod redis_cache;
mod redis_cluster;
mod s3;
mod writer;

use std::process::ExitCode;

use harness::{Group, runner};

const GROUPS: &[Group] = &[
    directory::GROUP,
    ceph::GROUP,
    redis_alone::GROUP,
    redis_cluster::GROUP,
    redis_cache::GROUP,
    s3::GROUP,
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["writer", url] => writer::run(url),
        ["contract", url] => harness::run(async {
            contract::check(&harness::open(url, objects::StoreOptions::cache()).await?).await?;
            println!("the contract holds");
            Ok(true)
        }),
        [] => {
            let all: Vec<String> = GROUPS.iter().map(|group| group.name.to_owned()).collect();
            runner::run(GROUPS, &all)
        }
        _ => runner::run(GROUPS, &wanted),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("watchfire-stores: {error:#}");
            ExitCode::from(2)
        }
    }
}
