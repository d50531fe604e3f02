//! `watchfire completions`: what a shell needs to complete the command line.

use std::io::Write;

use anyhow::{Context, Result};
use clap::{Args, Command};
use clap_complete::Shell;

/// For which shell.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CompletionsArguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  watchfire completions bash | sudo tee /usr/share/bash-completion/completions/watchfire
  watchfire completions zsh > ~/.zfunc/_watchfire       # with fpath+=~/.zfunc before compinit
  watchfire completions fish > ~/.config/fish/completions/watchfire.fish

The .deb has them already.";

/// Prints the completion script of `command` for the shell.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn run(arguments: &CompletionsArguments, mut command: Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "watchfire", &mut script);
    match std::io::stdout().write_all(&script) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("print"),
        _ => Ok(()),
    }
}
