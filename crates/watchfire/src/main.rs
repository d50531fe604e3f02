//! One program, all roles. `main` is the table of subcommands; everything else is a file of its
//! own name.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program speaks to its user")]

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

mod about;
mod admin;
mod check;
mod cli;
mod cluster;
mod collected;
mod completions;
mod config;
mod delete;
mod doctor;
mod drain;
mod file_handles;
mod http_client;
mod import;
mod language;
mod log_helpers;
mod log_source;
mod man;
mod metrics;
mod migrate;
mod progress;
mod query;
mod ranges;
mod receiver_test;
mod rule_check;
mod rule_data;
mod rule_test;
mod serve;
mod snapshot;
mod source;
mod token;
mod top;
mod waiting;
mod words;

use check::{CheckArguments, CheckSubject};
use cli::{Cli, Command};

/// It gives memory back to the system when a large query or an explosion of series is over, which
/// the system's own does not; see `docs/decisions/0025-one-budget-of-memory.md`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        None => serve::run(&cli.serve, serve::Roles::ALL),
        Some(Command::Broker(arguments)) => serve::run(&arguments, serve::Roles::BROKER),
        Some(Command::Agent(arguments)) => serve::run_agent(&arguments),
        Some(Command::Console(arguments)) => serve::run_console(&arguments),
        Some(Command::Query(arguments)) => query::run(&arguments),
        Some(Command::Import(arguments)) => import::run(&arguments),
        Some(Command::Migrate(arguments)) => migrate::run(&arguments),
        Some(Command::Delete(arguments)) => delete::run(&arguments),
        Some(Command::Drain(arguments)) => drain::run(&arguments),
        Some(Command::Snapshot(arguments)) => snapshot::run(&arguments),
        Some(Command::Top(arguments)) => top::run(&arguments),
        // The exit code of these is their answer.
        Some(Command::Check(CheckArguments {
            subject: Some(CheckSubject::Rules(arguments)),
            ..
        })) => return rule_check::run(&arguments),
        Some(Command::Check(arguments)) => check::run(&arguments),
        Some(Command::Test(arguments)) => return rule_test::run(&arguments),
        Some(Command::Doctor(arguments)) => return doctor::run(&arguments),
        Some(Command::Cluster(arguments)) => return cluster::run(&arguments),
        Some(Command::Token(arguments)) => token::run(&arguments),
        Some(Command::Admin(arguments)) => admin::run(&arguments),
        Some(Command::Completions(arguments)) => completions::run(&arguments, Cli::command()),
        Some(Command::Man(arguments)) => man::run(&arguments, Cli::command()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match error.downcast_ref::<settings::Faults>() {
                Some(faults) => eprintln!("{}", faults.render()),
                None => eprintln!("watchfire: {error:#}"),
            }
            ExitCode::FAILURE
        }
    }
}
