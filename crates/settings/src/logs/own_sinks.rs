//! `logs.sinks` of our own file: systems that lines go to besides the broker.

use std::path::Path;
use std::time::Duration;

use super::config::{LogSink, SinkProtocol, SlsTarget};
use super::go_values::GoDuration;
use super::load::{finish_warnings, labels_of, node_at};
use crate::diagnostic::{Diagnostic, Faults};
use crate::prometheus::HttpClientConfig;
use crate::prometheus::read::{discovery, http_client};
use crate::yaml::{ByteSize, Context, Document, Node, Section, items_of, read_map};
use crate::{HttpUrl, Secret};

/// Largest group of lines that SLS is sent: it takes 5 MB, and labels are in each line there.
const SLS_BATCH_BYTES: u64 = 3 << 20;

/// Reads a list of sinks below a key of another file, with faults at their places. Relative paths begin
/// in `directory`.
///
/// # Errors
/// Everything that is wrong with them.
pub fn parse_sinks(
    document: &Document,
    key: &str,
    directory: &Path,
) -> Result<(Vec<LogSink>, Vec<Diagnostic>), Faults> {
    let context = Context::new(document.source(), directory);
    let mut sinks: Vec<LogSink> = Vec::new();
    for node in node_at(document, key).map(|node| items_of(&context, node)).unwrap_or_default() {
        let Some(sink) = sink(&context, node) else { continue };
        if sinks.iter().any(|other| other.name == sink.name) {
            let message = format!("the name {:?} is taken by another sink", sink.name);
            let help = "give each a name of its own: its spool bears it".to_owned();
            context.fault((node.span.0, node.span.0 + 1), message, Some(help));
        }
        sinks.push(sink);
    }
    let (faults, warnings) = finish_warnings(context);
    if faults.is_empty() { Ok((sinks, warnings)) } else { Err(Faults::new(faults)) }
}

fn sink(context: &Context<'_>, node: &Node) -> Option<LogSink> {
    let mut section = Section::open(context, node, "a sink of logs")?;
    let kind: String = section.value("type");
    let name = http_client::optional_text(&mut section, "name").unwrap_or_else(|| kind.clone());
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !name.chars().all(is_name) || name.len() > 100 {
        let message = format!("{name:?} is no name of a sink");
        section.fault("name", message, Some("write up to 100 letters, digits, - and _"));
    }
    let (url, protocol) = match kind.as_str() {
        "loki" => (url(&mut section, "/loki/api/v1/push"), SinkProtocol::Loki),
        "otlp" => (url(&mut section, "/v1/logs"), SinkProtocol::Otlp),
        "sls" => sls(&mut section),
        _ => {
            let message = format!("type {kind:?} is none of loki, otlp, sls");
            section.fault("type", message, Some("add type: loki, otlp or sls"));
            return None;
        }
    };
    let default = LogSink::new(&name, url);
    let headers = section.node("headers").map(|node| read_map::<String>(context, node));
    let tenant = match protocol {
        SinkProtocol::Sls(_) => None,
        _ => http_client::optional_text(&mut section, "tenant_id"),
    };
    let mut duration = |key, default: Duration| {
        section.read::<GoDuration>(key).map_or(default, |duration| duration.0)
    };
    let batch_wait = duration("batch_wait", default.batch_wait);
    let timeout = duration("timeout", default.timeout);
    let min_backoff = duration("min_backoff_period", default.min_backoff);
    let max_backoff = duration("max_backoff_period", default.max_backoff);
    if timeout.is_zero() {
        section.fault("timeout", "timeout is 0: nothing is ever taken", Some("write 10s"));
    }
    if max_backoff < min_backoff {
        let message = "max_backoff_period is below min_backoff_period";
        section.fault("max_backoff_period", message, Some("make it longer"));
    }
    let size = section.read::<ByteSize>("batch_size").map_or(default.batch_bytes, |size| size.0);
    let largest = match protocol {
        SinkProtocol::Sls(_) => SLS_BATCH_BYTES,
        SinkProtocol::Loki | SinkProtocol::Otlp => u64::MAX,
    };
    if !(1..=largest).contains(&size) {
        let message = format!("batch_size is out of range; it must be from 1 to {largest} bytes");
        section.fault("batch_size", message, Some("write 1MiB"));
    }
    let sink = LogSink {
        protocol,
        tenant,
        headers: headers.unwrap_or_default(),
        external_labels: labels_of(&mut section, "external_labels"),
        batch_bytes: size,
        batch_wait,
        timeout,
        min_backoff,
        max_backoff,
        http: http_client::read(&mut section, HttpClientConfig::default()),
        ..default
    };
    section.finish();
    Some(sink)
}

/// The URL of a push; one without a path gets the usual one.
fn url(section: &mut Section<'_>, path: &str) -> HttpUrl {
    let url = discovery::read_http_url(section, "url", "a sink needs a url");
    let text = url.reveal();
    let has_path = text
        .split_once("://")
        .is_some_and(|(_, rest)| rest.split_once('/').is_some_and(|(_, path)| !path.is_empty()));
    if has_path || text.is_empty() {
        return url;
    }
    HttpUrl::parse(&format!("{}{path}", text.trim_end_matches('/'))).unwrap_or(url)
}

fn sls(section: &mut Section<'_>) -> (HttpUrl, SinkProtocol) {
    let endpoint: String = section.value("endpoint");
    let project: String = section.value("project");
    let logstore: String = section.value("logstore");
    for (key, value, example) in [
        ("endpoint", &endpoint, "cn-hangzhou.log.aliyuncs.com"),
        ("project", &project, "my-project"),
        ("logstore", &logstore, "my-logstore"),
    ] {
        if value.is_empty() {
            let help = format!("add {key}: {example}");
            section.fault(key, format!("a sink of type sls needs a key {key}"), Some(&help));
        }
    }
    let is_name =
        |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    for (key, value) in [("project", &project), ("logstore", &logstore)] {
        if !is_name(value) {
            let message = format!("{value:?} is no name of a {key}");
            section.fault(key, message, Some("it has letters, digits, - and _"));
        }
    }
    let (scheme, host) = endpoint.split_once("://").unwrap_or(("https", endpoint.as_str()));
    let host = host.trim_end_matches('/');
    if !matches!(scheme, "http" | "https") || host.contains(['/', '@', '?']) {
        let message = format!("{endpoint:?} is no endpoint of SLS");
        section.fault("endpoint", message, Some("write cn-hangzhou.log.aliyuncs.com"));
    }
    let named = format!("{project}.{host}");
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    // An address has no names below it; the project is in the header Host alone, then.
    let is_address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    let asked = if is_address { host } else { &named };
    let url = format!("{scheme}://{asked}/logstores/{logstore}/shards/lb");
    let url = HttpUrl::parse(&url).unwrap_or_else(|error| {
        section.fault("endpoint", error.to_string(), Some("write cn-hangzhou.log.aliyuncs.com"));
        HttpUrl::default()
    });
    let target = SlsTarget {
        host: named,
        logstore,
        topic: section.value("topic"),
        source: section.value("source"),
        access_key_id: section.value::<Secret>("access_key_id"),
        access_key_id_file: http_client::optional_path(section, "access_key_id_file"),
        access_key_secret: section.value::<Secret>("access_key_secret"),
        access_key_secret_file: http_client::optional_path(section, "access_key_secret_file"),
        security_token_file: http_client::optional_path(section, "security_token_file"),
    };
    for (value, key, file, other) in [
        (&target.access_key_id, "access_key_id", &target.access_key_id_file, "access_key_id_file"),
        (
            &target.access_key_secret,
            "access_key_secret",
            &target.access_key_secret_file,
            "access_key_secret_file",
        ),
    ] {
        if !value.is_empty() && file.is_some() {
            let message = format!("at most one of {key} & {other} must be configured");
            section.fault(other, message, Some("keep one of them"));
        }
    }
    (url, SinkProtocol::Sls(Box::new(target)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Vec<LogSink>, String> {
        let text = format!("logs:\n  sinks:\n{yaml}");
        let document = Document::parse("w.yml", text.as_bytes()).expect("YAML");
        match parse_sinks(&document, "logs.sinks", Path::new("/etc/w")) {
            Ok((sinks, warnings)) => {
                assert_eq!(warnings, []);
                Ok(sinks)
            }
            Err(faults) => Err(faults.to_string()),
        }
    }

    #[test]
    fn sinks_are_read() {
        let sinks = read(
            "  - {type: loki, url: 'http://l:3100', tenant_id: t, batch_size: 64KiB, batch_wait: 2s}\n\
             \x20 - {type: otlp, name: collector, url: 'https://o/x', headers: {a: b}, timeout: 3s}\n\
             \x20 - type: sls\n    endpoint: cn-hangzhou.log.aliyuncs.com\n    project: p\n    logstore: l\n    \
             topic: web\n    access_key_id: id\n    access_key_secret_file: secret\n    \
             external_labels: {zone: a}\n    tls_config: {ca_file: ca.pem}\n",
        )
        .expect("valid");
        assert_eq!(sinks[0].url.reveal(), "http://l:3100/loki/api/v1/push");
        assert_eq!((sinks[0].tenant.as_deref(), sinks[0].batch_bytes), (Some("t"), 64 << 10));
        assert_eq!(sinks[0].batch_wait, Duration::from_secs(2));
        assert_eq!((&*sinks[1].name, sinks[1].url.reveal()), ("collector", "https://o/x"));
        let SinkProtocol::Sls(sls) = &sinks[2].protocol else { panic!("{:?}", sinks[2]) };
        assert_eq!(
            sinks[2].url.reveal(),
            "https://p.cn-hangzhou.log.aliyuncs.com/logstores/l/shards/lb"
        );
        assert_eq!(sls.access_key_secret_file.as_deref(), Some(Path::new("/etc/w/secret")));
        assert_eq!((sls.access_key_id.reveal(), &*sls.topic), ("id", "web"));
        assert!(!format!("{sinks:?}").contains("\"id\""), "secrets are not shown");
        let sinks =
            read("  - {type: sls, endpoint: 'http://127.0.0.1:8', project: p, logstore: l}\n");
        let sinks = sinks.expect("valid");
        assert_eq!(sinks[0].url.reveal(), "http://127.0.0.1:8/logstores/l/shards/lb");
        let SinkProtocol::Sls(sls) = &sinks[0].protocol else { panic!("{:?}", sinks[0]) };
        assert_eq!(sls.host, "p.127.0.0.1:8");
    }

    #[test]
    fn mistakes_are_named() {
        for (yaml, wanted) in [
            ("  - {type: kafka}\n", "none of loki, otlp, sls"),
            ("  - {type: loki}\n", "needs a url"),
            ("  - {type: loki, url: 'ftp://a'}\n", "http"),
            ("  - {type: loki, url: 'http://a', topic: t}\n", "topic"),
            ("  - {type: sls, project: p, logstore: l}\n", "endpoint"),
            ("  - {type: sls, endpoint: a/b, project: p, logstore: l}\n", "endpoint"),
            ("  - {type: sls, endpoint: a, project: p/q, logstore: l}\n", "project"),
            (
                "  - {type: sls, endpoint: a, project: p, logstore: l, batch_size: 9MiB}\n",
                "batch_size",
            ),
            ("  - {type: otlp, url: 'http://a', name: 'a b'}\n", "no name of a sink"),
            ("  - {type: otlp, url: 'http://a', timeout: 0s}\n", "timeout"),
            ("  - {type: otlp, url: 'http://a'}\n  - {type: otlp, url: 'http://b'}\n", "taken"),
        ] {
            let error = read(yaml).expect_err(yaml);
            assert!(error.contains(wanted), "{yaml}: {error}");
        }
    }
}
