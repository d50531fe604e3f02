//! `watchfire drain`: lets a broker leave its cluster, or takes one out that is lost.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use crate::doctor::size;
use crate::http_client::{HttpClient, ServerArguments, encode_form};
use crate::language::Language;

/// What to show below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  watchfire drain
      on the host of the broker: it takes no more writes, makes blocks of what it has, and leaves
  watchfire drain broker-3
      on the host of another broker, or with --url and --token-file from elsewhere: it passes that on
  watchfire drain --lost broker-3
      on the host of another broker: broker-3 is gone for good, and its place and vote are taken away

Agents and senders go on with other brokers meanwhile. When it has left, stop its process. To interrupt this
command does not call the broker back; to restart the broker does, until it has left.";

const PATH: &str = "/api/v1/cluster/drain";
const REMOVE: &str = "/api/v1/cluster/remove";
const CERTIFICATES: &str = "/api/v1/certificates";
/// How often it is asked how far it is.
const EVERY: Duration = Duration::from_secs(1);
/// Of one answer: to take out one that is lost, the others agree twice.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// It goes on by itself; for so long it may not answer.
const SILENCE: Duration = Duration::from_secs(30);

/// Who leaves.
#[derive(Debug, Args)]
pub(crate) struct DrainArguments {
    /// Name of the broker that is to leave [default: the one that is asked]
    #[arg(conflicts_with = "lost")]
    name: Option<String>,

    /// Take out this broker, which is gone for good, instead of the one that is asked
    #[arg(long, value_name = "NAME")]
    lost: Option<String>,

    /// Which broker to ask.
    #[command(flatten)]
    server: ServerArguments,

    /// Language [default: as in LC_ALL, LC_MESSAGES or LANG]
    #[arg(long, value_enum)]
    lang: Option<Language>,
}

#[derive(Deserialize)]
struct Envelope<T> {
    data: T,
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
    let language = arguments.lang.unwrap_or_else(Language::of_environment);
    match &arguments.lost {
        Some(lost) => take_out(&mut client, lost, language),
        None => drain(&mut client, arguments.name.as_deref(), language),
    }
}

fn drain(client: &mut HttpClient, name: Option<&str>, language: Language) -> Result<()> {
    let form: Vec<(&str, String)> =
        name.map(|name| ("name", name.to_owned())).into_iter().collect();
    let answer = client.post_form(PATH, &form)?.success().with_context(|| client.url(PATH))?;
    let mut progress: Progress = parsed(client, PATH, &answer.body)?;
    tell(&progress, language);
    let mut answered = Instant::now();
    while progress.step != "left" {
        std::thread::sleep(EVERY);
        let now: Progress = match progress_of(client, name) {
            Ok(Some(now)) => now,
            // The others have forgotten it.
            Ok(None) => break,
            Err(error) if answered.elapsed() < SILENCE => {
                tracing::debug!("{error:#}");
                continue;
            }
            Err(error) => {
                return Err(error.context(match language {
                    Language::En => "the broker does not answer; it goes on leaving if it runs",
                    Language::Zh => "broker 没有回应；如果它仍在运行，离开过程会继续",
                }));
            }
        };
        answered = Instant::now();
        if now != progress {
            tell(&now, language);
            progress = now;
        }
    }
    eprintln!(
        "{}",
        match language {
            Language::En =>
                "the broker has left the cluster and its certificate is revoked: its process may be stopped",
            Language::Zh => "broker 已离开集群，其证书已吊销：可以停止它的进程",
        }
    );
    Ok(())
}

/// `None` if there is no broker of this name any more.
fn progress_of(client: &mut HttpClient, name: Option<&str>) -> Result<Option<Progress>> {
    let path = match name {
        None => PATH.to_owned(),
        Some(name) => format!("{PATH}?{}", encode_form(&[("name", name.to_owned())])),
    };
    let answer = client.get(&path)?;
    if name.is_some() && answer.status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let answer = answer.success().with_context(|| client.url(&path))?;
    parsed(client, &path, &answer.body).map(Some)
}

fn take_out(client: &mut HttpClient, lost: &str, language: Language) -> Result<()> {
    let form = [("name", lost.to_owned())];
    client.post_form(REMOVE, &form)?.success().with_context(|| client.url(REMOVE))?;
    // Its name is free then. A certificate of a broker counts all the same, until it ends.
    if has_certificate(client, lost)? {
        let path = format!("{CERTIFICATES}/{lost}");
        client.delete(&path)?.success().with_context(|| client.url(&path))?;
    }
    eprintln!(
        "{}",
        match language {
            Language::En => format!("the broker {lost} is no part of the cluster any more"),
            Language::Zh => format!("broker {lost} 已不再属于集群"),
        }
    );
    Ok(())
}

/// Whether the name on the list of certificates is a broker's.
fn has_certificate(client: &mut HttpClient, name: &str) -> Result<bool> {
    let answer = client.get(CERTIFICATES)?.success().with_context(|| client.url(CERTIFICATES))?;
    let listed: Value = parsed(client, CERTIFICATES, &answer.body)?;
    let certificates = listed["certificates"].as_array().into_iter().flatten();
    let mut brokers = certificates.filter(|one| one["role"] == "broker");
    Ok(brokers.any(|one| one["name"] == name))
}

fn parsed<T: serde::de::DeserializeOwned>(
    client: &HttpClient,
    path: &str,
    body: &[u8],
) -> Result<T> {
    let envelope: Envelope<T> = serde_json::from_slice(body).with_context(|| {
        format!("{} answered with something else than was asked", client.url(path))
    })?;
    Ok(envelope.data)
}

fn tell(progress: &Progress, language: Language) {
    eprintln!("{}", told(progress, language));
}

fn told(progress: &Progress, language: Language) -> String {
    let Progress { step, segments, segment_bytes, trouble } = progress;
    let size = size(*segment_bytes);
    let mut told = match language {
        Language::En => format!("{step}: {segments} segments in no block yet ({size})"),
        Language::Zh => {
            let step = match step.as_str() {
                "serving" => "服务中",
                "finishing" => "正在完成已接收的写入",
                "flushing" => "正在写成块",
                "leaving" => "正在退出",
                "left" => "已离开",
                newer => newer,
            };
            format!("{step}：还有 {segments} 个段未写成块（{size}）")
        }
    };
    if let Some(trouble) = trouble {
        told += match language {
            Language::En => "\n  it goes on trying: ",
            Language::Zh => "\n  会继续重试：",
        };
        told += trouble;
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_it_is_is_told_in_both_languages() {
        for step in ["serving", "finishing", "flushing", "leaving", "left"] {
            let trouble = Some("the store is full".to_owned());
            let progress =
                Progress { step: step.to_owned(), segments: 3, segment_bytes: 4_096, trouble };
            let english = told(&progress, Language::En);
            assert!(english.starts_with(&format!("{step}: 3 segments")), "{english}");
            let chinese = told(&progress, Language::Zh);
            assert!(!chinese.contains(step) && chinese.contains("3 个段"), "{chinese}");
            assert!(
                english.ends_with("the store is full") && chinese.ends_with("the store is full")
            );
        }
    }
}
