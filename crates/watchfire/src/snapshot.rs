//! `watchfire snapshot`: has a running server write a copy of its store.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::Value;

use crate::http_client::ServerArguments;
use crate::waiting::Waiting;

/// What to copy, and where.
#[derive(Debug, Args)]
pub(crate) struct SnapshotArguments {
    #[command(flatten)]
    server: ServerArguments,

    /// Leave out what is in memory and in no block yet: faster, and without the last minutes
    #[arg(long)]
    skip_head: bool,
}

/// What to show below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  watchfire snapshot
      a copy of all that is stored, below snapshots/ of the server's data directory
  name=$(watchfire snapshot) && tar -C watchfire-data/snapshots -czf backup.tgz \"$name\"
      its name is all that goes to standard output

Blocks are linked where the file system can, so a copy takes hardly any space until the store goes on
without them. It is a data directory of its own: `watchfire --data <data>/snapshots/<name>` starts on it.
It holds neither users nor tokens nor certificates.";

/// Much memory takes its time to be written.
const TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Asks for the copy and prints its name.
pub(crate) fn run(arguments: &SnapshotArguments) -> Result<()> {
    let mut client = arguments.server.client()?.with_answer_timeout(TIMEOUT);
    let path = "/api/v1/admin/tsdb/snapshot";
    let form: &[_] = if arguments.skip_head { &[("skip_head", "true".to_owned())] } else { &[] };
    let started = Instant::now();
    let waiting = Waiting::begin(if arguments.skip_head {
        "linking blocks"
    } else {
        "writing what is in memory into blocks, and linking them"
    });
    let answer = client.post_form(path, form);
    drop(waiting);
    let answer = answer?.success().with_context(|| client.url(path))?;
    let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let name = told["data"]["name"].as_str().with_context(|| {
        format!("{} answered with something else than a snapshot's name", client.url(path))
    })?;
    eprintln!(
        "a copy as of now lies in snapshots/{name} of the server's data directory, written in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    println!("{name}");
    Ok(())
}
