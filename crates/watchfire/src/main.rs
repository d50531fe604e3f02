//! One program, all roles. `main` is the table of subcommands; everything else is a file of its
//! own name.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program speaks to its user")]

use std::process::ExitCode;

use clap::Parser;

mod about;
mod cli;
mod config;
mod file_handles;
mod http_client;
mod language;
mod metrics;
mod query;
mod ranges;
mod serve;
mod source;
mod top;
mod words;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        None => serve::run(&cli.serve, serve::Roles::ALL),
        Some(Command::Broker(arguments)) => serve::run(&arguments, serve::Roles::BROKER),
        Some(Command::Query(arguments)) => query::run(&arguments),
        Some(Command::Top(arguments)) => top::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("watchfire: {error:#}");
            ExitCode::FAILURE
        }
    }
}
