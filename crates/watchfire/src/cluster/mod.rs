//! `watchfire cluster`: how the brokers are that a server belongs to.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use broker::cluster::status::{ClusterStatus, Level};
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::Value;

use crate::http_client::ServerArguments;
use crate::language::Language;

mod table;
mod words;

/// A broker waits 2 s for those that do not answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  watchfire cluster status
      members, votes, load, and what to do if something is wrong
  watchfire cluster status --url https://broker-2:9595 --token-file token
      as another broker sees it
  watchfire cluster status --json | jq '.findings[] | select(.level != \"ok\")'
      for scripts

Exit status: 0 all well, 1 warnings, 2 something is wrong or nobody could be asked.";

/// What concerns all brokers of a cluster.
#[derive(Debug, Args)]
pub(crate) struct ClusterCommandArguments {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Show members, votes, load and what is wrong
    #[command(after_long_help = EXAMPLES)]
    Status(StatusArguments),
}

#[derive(Debug, Args)]
struct StatusArguments {
    /// Which server to ask.
    #[command(flatten)]
    server: ServerArguments,

    /// Print one JSON object: `data` of GET /api/v1/status/cluster
    #[arg(long)]
    json: bool,

    /// Language [default: as in LC_ALL, LC_MESSAGES or LANG]
    #[arg(long, value_enum)]
    lang: Option<Language>,
}

/// Does what `arguments` say; the exit code is the answer.
pub(crate) fn run(arguments: &ClusterCommandArguments) -> ExitCode {
    let ClusterCommand::Status(arguments) = &arguments.command;
    match status(arguments) {
        Ok(level) => ExitCode::from(match level {
            Level::Ok => 0,
            Level::Warn => 1,
            Level::Bad => 2,
        }),
        Err(error) => {
            eprintln!("watchfire: {error:#}");
            ExitCode::from(2)
        }
    }
}

#[derive(Deserialize)]
struct Envelope {
    data: Value,
}

fn status(arguments: &StatusArguments) -> Result<Level> {
    let mut client = arguments.server.client()?.with_answer_timeout(ANSWER_TIMEOUT);
    let path = "/api/v1/status/cluster";
    let url = client.url(path);
    let answer = client.get(path)?.success().with_context(|| url.clone())?;
    let envelope: Envelope = serde_json::from_slice(&answer.body)
        .with_context(|| format!("{url} answered with something else than a state"))?;
    let status = ClusterStatus::deserialize(&envelope.data)
        .with_context(|| format!("{url} answered with something else than a state"))?;
    let language = arguments.lang.unwrap_or_else(Language::of_environment);
    let color = std::io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let text = if arguments.json {
        let mut text = serde_json::to_string_pretty(&envelope.data).context("write JSON")?;
        text.push('\n');
        text
    } else {
        table::text(&status, language, color)
    };
    // A reader that has seen enough, such as `head`, changes nothing about the cluster.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(status.verdict)
}
