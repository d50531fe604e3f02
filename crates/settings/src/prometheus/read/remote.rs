//! `remote_write` and `remote_read`.

use std::time::Duration;

use super::{http_client, relabel};
use crate::prometheus::{
    HttpClientConfig, MetadataConfig, QueueConfig, RemoteRead, RemoteWrite, RemoteWriteMessage,
};
use crate::yaml::{Context, Milliseconds, Node, Section, read_labels};
use crate::{HttpUrl, NameValidation, Secret};

/// Reads `remote_write`.
pub(super) fn read_writes(root: &mut Section<'_>, names: NameValidation) -> Vec<RemoteWrite> {
    let context = root.context;
    let mut writes: Vec<RemoteWrite> = Vec::new();
    for node in root.items("remote_write") {
        if node.is_null() {
            let help = "remove the lone `-`".to_owned();
            context.fault(node.span, "empty or null remote write config section", Some(help));
            continue;
        }
        let Some(mut section) = Section::open(context, node, "config.plain") else { continue };
        let write = read_write(&mut section, names);
        if !write.name.is_empty() && writes.iter().any(|other| other.name == write.name) {
            let message =
                format!("found multiple remote write configs with job name {:?}", write.name);
            section.fault("name", message, Some("give each its own name"));
        }
        if writes.contains(&write) {
            let message = format!(
                "duplicate remote write configs are not allowed, found duplicate for URL: {}",
                write.url
            );
            section.fault("url", message, Some("remove one of them, or give each its own name"));
        }
        warn_of_what_cannot_work(&section, &write);
        writes.push(write);
        section.finish();
    }
    writes
}

fn warn_of_what_cannot_work(section: &Section<'_>, write: &RemoteWrite) {
    let is_http = matches!(write.url.scheme(), "http" | "https") && !write.url.host().is_empty();
    if section.is_set("url") && !is_http {
        let message = "nothing can be sent to this URL: it has no scheme http or https, or no host";
        section.mistake("url", message, "write http://HOST:PORT/PATH");
    }
    if write.round_robin_dns {
        let message = "round_robin_dns has no effect: the first address that answers is taken";
        section.warn("round_robin_dns", message, None);
    }
}

fn read_write(section: &mut Section<'_>, names: NameValidation) -> RemoteWrite {
    let write = RemoteWrite {
        url: read_url(section, "url for remote_write is empty"),
        remote_timeout: section
            .read::<Milliseconds>("remote_timeout")
            .map_or(Duration::from_secs(30), Milliseconds::duration),
        headers: http_client::read_plain_headers(
            section,
            "authorization header must be changed via the basic_auth, authorization, oauth2, \
             sigv4, azuread or google_iam parameter",
        ),
        write_relabel_configs: relabel::read(
            section,
            "write_relabel_configs",
            names,
            "empty or null relabeling rule in remote write config",
        ),
        name: section.value("name"),
        send_exemplars: section.value("send_exemplars"),
        send_native_histograms: section.value("send_native_histograms"),
        round_robin_dns: section.value("round_robin_dns"),
        protobuf_message: read_message(section),
        http: http_client::read(
            section,
            HttpClientConfig { enable_http2: false, ..HttpClientConfig::default() },
        ),
        queue: read_queue(section),
        metadata: read_metadata(section),
    };
    read_cloud_authentication(section, &write.http);
    write
}

fn read_url(section: &mut Section<'_>, empty: &str) -> HttpUrl {
    let node = section.node("url");
    let url: HttpUrl = section.value("url");
    if node.is_none_or(Node::is_null) {
        section.fault("url", empty, Some("add url: http://host/path"));
    }
    url
}

fn read_message(section: &mut Section<'_>) -> RemoteWriteMessage {
    let text: String = section.or("protobuf_message", "prometheus.WriteRequest".to_owned());
    match text.as_str() {
        "prometheus.WriteRequest" => RemoteWriteMessage::V1,
        "io.prometheus.write.v2.Request" => RemoteWriteMessage::V2,
        _ => {
            let message = format!(
                "invalid protobuf_message value: unknown type for remote write protobuf message \
                 {text}, supported: prometheus.WriteRequest, io.prometheus.write.v2.Request"
            );
            section.fault("protobuf_message", message, None);
            RemoteWriteMessage::V1
        }
    }
}

fn read_queue(root: &mut Section<'_>) -> QueueConfig {
    let default = QueueConfig::default();
    let Some(mut section) = root.section("queue_config", "config.QueueConfig") else {
        return default;
    };
    let queue = QueueConfig {
        capacity: positive(&mut section, "capacity", default.capacity),
        max_shards: positive(&mut section, "max_shards", default.max_shards),
        min_shards: positive(&mut section, "min_shards", default.min_shards),
        max_samples_per_send: positive(
            &mut section,
            "max_samples_per_send",
            default.max_samples_per_send,
        ),
        batch_send_deadline: section
            .read::<Milliseconds>("batch_send_deadline")
            .map_or(default.batch_send_deadline, Milliseconds::duration),
        min_backoff: section
            .read::<Milliseconds>("min_backoff")
            .map_or(default.min_backoff, Milliseconds::duration),
        max_backoff: section
            .read::<Milliseconds>("max_backoff")
            .map_or(default.max_backoff, Milliseconds::duration),
        retry_on_http_429: section.value("retry_on_http_429"),
        sample_age_limit: section.value::<Milliseconds>("sample_age_limit").duration(),
    };
    let place = |section: &Section<'_>, one, other| {
        if section.has(one) { one } else { other }
    };
    if queue.min_shards > queue.max_shards {
        let message = "remote write queue min_shards must not be greater than max_shards";
        let key = place(&section, "min_shards", "max_shards");
        section.fault(key, message, Some("lower min_shards or raise max_shards"));
    }
    if queue.max_backoff < queue.min_backoff {
        let message = "remote write queue max_backoff must not be less than min_backoff";
        let key = place(&section, "max_backoff", "min_backoff");
        section.fault(key, message, Some("raise max_backoff or lower min_backoff"));
    }
    section.finish();
    queue
}

fn positive(section: &mut Section<'_>, key: &'static str, default: u64) -> u64 {
    let Some(number) = section.read::<i64>(key) else { return default };
    match u64::try_from(number) {
        Ok(number) if number > 0 => number,
        _ => {
            let message = format!("remote write queue {key} must be positive");
            section.fault(key, message, Some("write 1 or more, or remove the key"));
            default
        }
    }
}

fn read_metadata(root: &mut Section<'_>) -> MetadataConfig {
    let default = MetadataConfig::default();
    let Some(mut section) = root.section("metadata_config", "config.MetadataConfig") else {
        return default;
    };
    let metadata = MetadataConfig {
        send: section.or("send", default.send),
        send_interval: section
            .read::<Milliseconds>("send_interval")
            .map_or(default.send_interval, Milliseconds::duration),
        max_samples_per_send: section.or("max_samples_per_send", default.max_samples_per_send),
    };
    section.finish();
    metadata
}

/// Credentials of clouds are checked for their keys and for standing alone.
fn read_cloud_authentication(section: &mut Section<'_>, http: &HttpClientConfig) {
    let mut set: Vec<&'static str> = Vec::new();
    for (name, present) in [
        ("basic_auth", http.basic_auth.is_some()),
        ("authorization", http.authorization.is_some()),
        ("oauth2", http.oauth2.is_some()),
    ] {
        if present {
            set.push(name);
        }
    }
    if read_sigv4(section) {
        set.push("sigv4");
    }
    if let Some(mut azure) = section.section("azuread", "azuread.plain") {
        read_azure(&mut azure);
        azure.finish();
        set.push("azuread");
        section.warn("azuread", "azuread is not supported; requests go out without a token", None);
    }
    if let Some(mut google) = section.section("google_iam", "googleiam.Config") {
        http_client::optional_path(&mut google, "credentials_file");
        google.finish();
        set.push("google_iam");
        let message = "google_iam is not supported; requests go out without a token";
        section.warn("google_iam", message, None);
    }
    if let [.., _, last] = set.as_slice() {
        let message = format!(
            "at most one of basic_auth, authorization, oauth2, sigv4, azuread or google_iam must \
             be configured. Currently configured: [{}]",
            set.join(" ")
        );
        section.fault(last, message, Some("keep one of them"));
    }
}

/// Reads `sigv4`; whether it is there.
pub(super) fn read_sigv4(section: &mut Section<'_>) -> bool {
    let Some(mut sigv4) = section.section("sigv4", "sigv4.plain") else { return false };
    let access: String = sigv4.value("access_key");
    let secret: Secret = sigv4.value("secret_key");
    for key in ["region", "profile", "role_arn", "external_id", "service_name"] {
        sigv4.value::<String>(key);
    }
    sigv4.value::<bool>("use_fips_sts_endpoint");
    if access.is_empty() != secret.is_empty() {
        let message = "must provide a AWS SigV4 Access key and Secret Key if credentials are \
                       specified in the SigV4 config";
        let key = if access.is_empty() { "secret_key" } else { "access_key" };
        sigv4.fault(key, message, Some("set both or neither"));
    }
    sigv4.finish();
    section.warn("sigv4", "sigv4 is not supported; requests go out unsigned", None);
    true
}

fn read_azure(section: &mut Section<'_>) {
    section.value::<String>("cloud");
    section.value::<String>("scope");
    for (key, fields) in [
        ("managed_identity", &["client_id"][..]),
        ("oauth", &["client_id", "tenant_id"]),
        ("sdk", &["tenant_id"]),
        ("workload_identity", &["client_id", "tenant_id", "token_file_path"]),
    ] {
        let Some(mut inner) = section.section(key, "azuread.plain") else { continue };
        for field in fields {
            inner.value::<String>(field);
        }
        if key == "oauth" {
            inner.value::<Secret>("client_secret");
        }
        inner.finish();
    }
}

/// Reads `remote_read`.
pub(super) fn read_reads(root: &mut Section<'_>) -> Vec<RemoteRead> {
    let context = root.context;
    let mut reads: Vec<RemoteRead> = Vec::new();
    for node in root.items("remote_read") {
        if node.is_null() {
            let help = "remove the lone `-`".to_owned();
            context.fault(node.span, "empty or null remote read config section", Some(help));
            continue;
        }
        let Some(mut section) = Section::open(context, node, "config.plain") else { continue };
        let read = read_read(context, &mut section);
        if !read.name.is_empty() && reads.iter().any(|other| other.name == read.name) {
            let message =
                format!("found multiple remote read configs with job name {:?}", read.name);
            section.fault("name", message, Some("give each its own name"));
        }
        reads.push(read);
        section.finish();
    }
    reads
}

fn read_read(context: &Context<'_>, section: &mut Section<'_>) -> RemoteRead {
    RemoteRead {
        url: read_url(section, "url for remote_read is empty"),
        remote_timeout: section
            .read::<Milliseconds>("remote_timeout")
            .map_or(Duration::from_secs(60), Milliseconds::duration),
        chunked_read_limit: section.or("chunked_read_limit", 50_000_000),
        headers: http_client::read_plain_headers(
            section,
            "authorization header must be changed via the basic_auth, authorization, oauth2, \
             sigv4, azuread or google_iam parameter",
        ),
        read_recent: section.value("read_recent"),
        name: section.value("name"),
        http: http_client::read(section, HttpClientConfig::default()),
        required_matchers: section
            .node("required_matchers")
            .map(|node| read_labels(context, node, NameValidation::Utf8))
            .unwrap_or_default(),
        filter_external_labels: section.or("filter_external_labels", true),
    }
}
