//! One program for all targets, so that it links once:
//! `fuzz --target=NAME --seeds=DIR CORPUS… -max_total_time=15`, where everything after one dash is
//! libFuzzer's. `cargo xtask fuzz` builds it with instrumentation and calls it.

#![no_main]
#![allow(clippy::print_stdout, reason = "a command line tool prints")]

use std::path::Path;
use std::sync::OnceLock;

use watchfire_fuzz::{TARGETS, Target};

static TARGET: OnceLock<&Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: prepare(),
    |bytes: &[u8]| {
        (TARGET.get().expect("set before the first input").run)(bytes);
    }
);

/// Runs before libFuzzer reads its flags: picks the target and writes its seeds and words where
/// libFuzzer will look for them.
fn prepare() {
    let mut name = None;
    let mut seeds = None;
    for argument in std::env::args() {
        match argument.split_once('=') {
            Some(("--target", value)) => name = Some(value.to_owned()),
            Some(("--seeds", value)) => seeds = Some(value.to_owned()),
            None if argument == "--list" => {
                TARGETS.iter().for_each(|target| println!("{}", target.name));
                std::process::exit(0);
            }
            _ => {}
        }
    }
    let Some(target) = TARGETS.iter().find(|target| Some(target.name) == name.as_deref()) else {
        eprintln!("fuzz: --target={name:?} is not among the targets that --list prints");
        std::process::exit(2);
    };
    if let Some(directory) = seeds
        && let Err(error) = watchfire_fuzz::write_seeds(target, Path::new(&directory))
    {
        eprintln!("fuzz: write seeds to {directory}: {error}");
        std::process::exit(2);
    }
    let _ = TARGET.set(target);
}
