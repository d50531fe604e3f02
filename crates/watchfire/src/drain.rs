//! `watchfire drain`: lets a broker leave its cluster.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde::Deserialize;

use crate::doctor::size;
use crate::http_client::{HttpClient, ServerArguments};

/// What to show below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  watchfire drain
      on the host of the broker: it takes no more writes, makes blocks of what it has, and leaves
  watchfire drain broker-3 --url https://broker-3:9595 --token-file token
      from elsewhere; the name makes sure that no other one is meant

Agents and senders go on with other brokers meanwhile. When it has left, stop its process. To interrupt this
command does not call the broker back.";

const PATH: &str = "/api/v1/cluster/drain";
/// How often it is asked how far it is.
const EVERY: Duration = Duration::from_secs(1);
/// Of one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Who leaves.
#[derive(Debug, Args)]
pub(crate) struct DrainArguments {
    /// Name of the broker, to make sure that the one that is asked is meant
    name: Option<String>,

    /// Which broker to ask.
    #[command(flatten)]
    server: ServerArguments,
}

#[derive(Deserialize)]
struct Envelope {
    data: Progress,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Progress {
    step: String,
    segments: u64,
    segment_bytes: u64,
    trouble: Option<String>,
}

/// Asks the broker to leave and waits until it has left.
pub(crate) fn run(arguments: &DrainArguments) -> Result<()> {
    let mut client = arguments.server.client()?.with_answer_timeout(ANSWER_TIMEOUT);
    let form: Vec<(&str, String)> =
        arguments.name.iter().map(|name| ("name", name.clone())).collect();
    let answer = client.post_form(PATH, &form)?.success().with_context(|| client.url(PATH))?;
    let mut progress = parsed(&client, &answer.body)?;
    tell(&progress);
    while progress.step != "left" {
        std::thread::sleep(EVERY);
        let answer = client.get(PATH)?.success().with_context(|| client.url(PATH))?;
        let now = parsed(&client, &answer.body)?;
        if now != progress {
            tell(&now);
            progress = now;
        }
    }
    eprintln!("the broker has left the cluster: its process may be stopped");
    Ok(())
}

fn parsed(client: &HttpClient, body: &[u8]) -> Result<Progress> {
    let envelope: Envelope = serde_json::from_slice(body).with_context(|| {
        format!("{} answered with something else than how far it is", client.url(PATH))
    })?;
    Ok(envelope.data)
}

fn tell(progress: &Progress) {
    let Progress { step, segments, segment_bytes, trouble } = progress;
    eprintln!("{step}: {segments} segments in no block yet ({})", size(*segment_bytes));
    if let Some(trouble) = trouble {
        eprintln!("  it goes on trying: {trouble}");
    }
}
