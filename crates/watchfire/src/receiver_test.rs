//! `watchfire test receiver`: tells a receiver that this is a test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alerting::notify::{Outcome, made_up_alert};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use http::StatusCode;
use receivers::{Deliverer, DeliveryOptions};
use ruler::notify::NotifyConfiguration;
use serde::Deserialize;
use serde_json::json;
use settings::alertmanager::MatcherMode;

use crate::about::now_ms;
use crate::check::ThisMachine;
use crate::http_client::ServerArguments;

/// What to show below the help.
pub(crate) const EXAMPLES: &str = "\
Exit status: 0 if everybody was told, 1 if not.

Examples:
  watchfire test receiver ops --alertmanager-config alertmanager.yml
      from here, by a file that no server uses yet
  watchfire test receiver ops
      by the server on this host, with the configuration that is in effect there
  watchfire test receiver ops --alert alertname=DiskFull --alert severity=page
      of an alert with these labels";

const PATH: &str = "/api/v1/notifications/test";
/// An integration has ten seconds, and all are told at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Who is told, and by whom.
#[derive(Debug, Args)]
pub(crate) struct ReceiverTestArguments {
    /// The receiver
    #[arg(value_name = "NAME")]
    receiver: String,

    /// Take the receiver from this alertmanager.yml and tell it from here; no server is asked
    #[arg(long, value_name = "FILE")]
    alertmanager_config: Option<PathBuf>,

    /// A label of the alert that is made up; may be given several times
    #[arg(long, value_name = "LABEL=VALUE", value_parser = label)]
    alert: Vec<(String, String)>,

    /// Which server to ask.
    #[command(flatten)]
    server: ServerArguments,
}

/// What came of one integration.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    integration: String,
    index: usize,
    outcome: String,
    error: Option<String>,
    took_seconds: f64,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or_default();
    if name.is_empty() {
        return Err("give a name and a value, such as severity=page".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// Tells the receiver and prints what came of it; whether everybody was told.
///
/// # Errors
/// Nobody could be told.
pub(crate) fn run(arguments: &ReceiverTestArguments) -> Result<bool> {
    let labels: BTreeMap<String, String> = arguments.alert.iter().cloned().collect();
    let name = arguments.receiver.as_str();
    let all = match &arguments.alertmanager_config {
        Some(path) => from_here(path, name, &labels, &arguments.server.url)?,
        None => by_server(&arguments.server, name, &labels)?,
    };
    ensure!(
        !all.is_empty(),
        "the receiver {name:?} tells nobody: it has no integrations; give it one, such as \
         webhook_configs"
    );
    for one in &all {
        println!("{}", line(name, one));
    }
    Ok(all.iter().all(|one| one.outcome == "delivered"))
}

/// As `webhook[0]: delivered in 0.012 s`.
fn line(receiver: &str, told: &Told) -> String {
    let Told { integration, index, outcome, error, took_seconds } = told;
    let outcome = match outcome.as_str() {
        "retry" => "failed and would be tried again,",
        other => other,
    };
    let line = format!("{integration}[{index}]: {outcome} in {took_seconds:.3} s");
    let Some(error) = error else { return line };
    let place = format!("{receiver}/{integration}[{index}]: ");
    format!("{line}: {}", error.strip_prefix(&place).unwrap_or(error))
}

fn from_here(
    path: &Path,
    name: &str,
    labels: &BTreeMap<String, String>,
    external_url: &str,
) -> Result<Vec<Told>> {
    let configuration =
        NotifyConfiguration::load(path, MatcherMode::Fallback, Arc::new(ThisMachine))?;
    let known = &configuration.config.receivers;
    if known.iter().all(|receiver| receiver.name != name) {
        let names: Vec<&str> = known.iter().map(|receiver| receiver.name.as_str()).collect();
        bail!("{}: there is no receiver {name:?}; there are {}", path.display(), names.join(", "));
    }
    let templates = Arc::clone(&configuration.templates);
    let options = DeliveryOptions::operator(external_url);
    let deliverer = Deliverer::new(&configuration.config, templates, options)
        .with_context(|| path.display().to_string())?;
    let now_ns = now_ms().saturating_mul(1_000_000);
    let alert = made_up_alert(labels, now_ns).context("--alert")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("start the runtime")?;
    let tested = runtime.block_on(deliverer.test(name, Arc::from([alert]), now_ns));
    let told = |one: receivers::TestResult| {
        let (outcome, error) = match one.outcome {
            Outcome::Delivered { .. } => ("delivered", None),
            Outcome::Retry { message, .. } => ("retry", Some(message)),
            Outcome::Failed { message } => ("failed", Some(message)),
        };
        Told {
            integration: one.kind.to_owned(),
            index: one.index,
            outcome: outcome.to_owned(),
            error,
            took_seconds: one.took.as_secs_f64(),
        }
    };
    Ok(tested.into_iter().map(told).collect())
}

fn by_server(
    server: &ServerArguments,
    name: &str,
    labels: &BTreeMap<String, String>,
) -> Result<Vec<Told>> {
    #[derive(Deserialize)]
    struct Envelope {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        results: Vec<Told>,
    }
    let mut client = server.client()?.with_answer_timeout(ANSWER_TIMEOUT);
    let mut body = json!({ "receiver": name });
    // Servers before this one know no labels.
    if !labels.is_empty() {
        body["labels"] = json!(labels);
    }
    let answer = client.post_json(PATH, &body)?;
    if answer.status == StatusCode::NOT_FOUND
        && let Ok(refusal) = serde_json::from_slice::<serde_json::Value>(&answer.body)
        && let Some(error) = refusal["error"].as_str()
    {
        bail!("{error}");
    }
    let answer = answer.success().with_context(|| client.url(PATH))?;
    let envelope: Envelope = serde_json::from_slice(&answer.body)
        .with_context(|| format!("{} answered with something else", client.url(PATH)))?;
    Ok(envelope.data.results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_came_of_it() {
        let told = |outcome: &str, error: Option<&str>| Told {
            integration: "webhook".to_owned(),
            index: 1,
            outcome: outcome.to_owned(),
            error: error.map(str::to_owned),
            took_seconds: 0.0124,
        };
        assert_eq!(line("ops", &told("delivered", None)), "webhook[1]: delivered in 0.012 s");
        assert_eq!(
            line("ops", &told("retry", Some("ops/webhook[1]: unexpected status code 500"))),
            "webhook[1]: failed and would be tried again, in 0.012 s: unexpected status code 500"
        );
    }

    #[test]
    fn labels_have_names() {
        assert_eq!(label("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(label("=b").is_err() && label("a").is_err());
    }
}
