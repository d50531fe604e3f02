//! `loki.write` of Alloy.

use model::Labels;

use super::config::LogSink;
use super::go_values::GoDuration;
use super::load::{labels_of, unique};
use crate::prometheus::HttpClientConfig;
use crate::prometheus::read::{discovery, http_client};
use crate::yaml::{ByteSize, Section, read_map};

/// Where lines may go, of all `loki.write`.
#[derive(Default)]
pub(super) struct Sinks {
    pub(super) all: Vec<LogSink>,
}

/// Reads a `loki.write`: labels that all its lines get, and the indexes of its endpoints.
pub(super) fn read(mut section: Section<'_>, id: &str, sinks: &mut Sinks) -> (Labels, Vec<usize>) {
    let context = section.context;
    let labels = labels_of(&mut section, "external_labels");
    if section.value::<u64>("max_streams") > 0 {
        let message = "max_streams has no effect";
        section.warn("max_streams", message, Some("the broker limits streams of a tenant"));
    }
    if section.node("wal").is_some() {
        let message = "wal has no effect: lines are on disk, in the agent's spool, until they are \
                       acknowledged";
        section.warn("wal", message, None);
    }
    let mut indexes = Vec::new();
    for node in section.items("endpoint") {
        let Some(mut endpoint) = Section::open(context, node, "endpoint") else { continue };
        let url =
            discovery::read_http_url(&mut endpoint, "url", "missing required attribute \"url\"");
        let taken: Vec<String> = sinks.all.iter().map(|sink| sink.name.clone()).collect();
        let name = http_client::optional_text(&mut endpoint, "name");
        let name = unique(name.unwrap_or_else(|| id.to_owned()), &taken);
        let default = LogSink::new(&name, url);
        let mut duration = |key| endpoint.read::<GoDuration>(key).map(|duration| duration.0);
        let batch_wait = duration("batch_wait").unwrap_or(default.batch_wait);
        let timeout = duration("remote_timeout").unwrap_or(default.timeout);
        let min_backoff = duration("min_backoff_period").unwrap_or(default.min_backoff);
        let max_backoff = duration("max_backoff_period").unwrap_or(default.max_backoff);
        let batch = endpoint.read::<ByteSize>("batch_size").map(|size| size.0);
        let headers = endpoint.node("headers").map(|node| read_map::<String>(context, node));
        for (key, why) in [
            ("max_backoff_retries", "lines are kept and sent again until they are taken"),
            ("retry_on_http_429", "such lines are always sent again"),
            ("queue_config", "lines wait in the agent's spool"),
        ] {
            if endpoint.node(key).is_some() {
                endpoint.warn(key, format!("{key} has no effect: {why}"), None);
            }
        }
        sinks.all.push(LogSink {
            tenant: http_client::optional_text(&mut endpoint, "tenant_id"),
            headers: headers.unwrap_or_default(),
            external_labels: labels.clone(),
            batch_bytes: batch.unwrap_or(default.batch_bytes),
            batch_wait,
            timeout,
            min_backoff,
            max_backoff,
            http: http_client::read(&mut endpoint, HttpClientConfig::default()),
            ..default
        });
        indexes.push(sinks.all.len() - 1);
        endpoint.finish();
    }
    section.finish();
    (labels, indexes)
}
