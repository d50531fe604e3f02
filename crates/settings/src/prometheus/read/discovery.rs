//! Service discovery blocks.

use std::time::Duration;

use model::Labels;

use super::{http_client, mechanisms};
use crate::HttpUrl;
use crate::diagnostic::Severity;
use crate::prometheus::{
    Discovery, DnsDiscovery, DnsRecordType, FileDiscovery, HttpClientConfig, HttpDiscovery,
};
use crate::relabel::{LabelBuffer, RelabelConfig, relabel};
use crate::target_groups::{TargetGroup, read_group};
use crate::yaml::{Context, FromNode, Milliseconds, Node, ReferenceKind, Section};

/// Reads every block of discovery. `rules` are those the targets will pass, with the labels
/// `before` added to them.
pub(super) fn read(
    section: &mut Section<'_>,
    rules: &[RelabelConfig],
    before: &[(String, String)],
) -> Vec<Discovery> {
    let mut found = Vec::new();
    if let Some(groups) = read_static(section, rules, before) {
        found.push(Discovery::Static(groups));
    }
    let context = section.context;
    for node in entries(section, "file_sd_configs") {
        found.extend(read_file(context, node).map(Discovery::File));
    }
    for node in entries(section, "http_sd_configs") {
        found.extend(read_http(context, node).map(Box::new).map(Discovery::Http));
    }
    for node in entries(section, "dns_sd_configs") {
        found.extend(read_dns(context, node).map(Discovery::Dns));
    }
    for mechanism in mechanisms::ALL {
        for node in entries(section, mechanism.key) {
            mechanism.check(context, node);
            found.push(Discovery::Unsupported { key: mechanism.key });
        }
        if section.has(mechanism.key) {
            let message =
                format!("{} is not supported yet; its targets are not scraped", mechanism.key);
            let help = "list the targets with static_configs, file_sd_configs, http_sd_configs \
                        or dns_sd_configs until it is";
            section.warn(mechanism.key, message, Some(help));
        }
    }
    found
}

/// The entries of one mechanism, without those that are nothing.
fn entries<'a>(section: &mut Section<'a>, key: &'static str) -> Vec<&'a Node> {
    let mut nodes = section.items(key);
    nodes.retain(|node| {
        if node.is_null() {
            let help = "remove the lone `-`".to_owned();
            let message = format!("empty or null section in {key}");
            section.context.fault(node.span, message, Some(help));
        }
        !node.is_null()
    });
    nodes
}

fn read_static(
    section: &mut Section<'_>,
    rules: &[RelabelConfig],
    before: &[(String, String)],
) -> Option<Vec<TargetGroup>> {
    let context = section.context;
    let nodes = entries(section, "static_configs");
    if !section.has("static_configs") {
        return None;
    }
    let mut groups = Vec::with_capacity(nodes.len());
    for (index, node) in nodes.into_iter().enumerate() {
        let Some(mut group) = read_group(context, node) else { continue };
        group.source = index.to_string();
        for labels in &group.targets {
            let address = labels.get("__address__").unwrap_or_default();
            let Some(wrong) = invalid_address(labels, &group.labels, rules, before) else {
                continue;
            };
            let message = format!("{wrong:?} is not a valid hostname");
            let help = "write host:port only; the path belongs to metrics_path, http or https to \
                        scheme";
            let place = node.span_of_text(address);
            if rules.is_empty() {
                context.fault(place, message, Some(help.to_owned()));
            } else {
                // Prometheus starts with it and cannot use the target.
                let message = format!("{message} after relabeling");
                context.warn(Severity::Mistake, place, message, Some(help.to_owned()));
            }
        }
        groups.push(group);
    }
    Some(groups)
}

/// The address a target ends up with, if it is one that cannot be connected to. A target that is
/// dropped has none.
fn invalid_address(
    target: &Labels,
    group: &Labels,
    rules: &[RelabelConfig],
    before: &[(String, String)],
) -> Option<String> {
    let mut labels = LabelBuffer::new();
    for (name, value) in before {
        labels.set(name, value);
    }
    for (name, value) in group.iter().chain(target.iter()) {
        labels.set(name, value);
    }
    let kept = relabel(rules, &mut labels);
    let address = labels.get("__address__");
    (kept && address.contains('/')).then(|| address.to_owned())
}

pub(crate) fn read_file(context: &Context<'_>, node: &Node) -> Option<FileDiscovery> {
    let mut section = Section::open(context, node, "file.plain")?;
    let nodes = section.items("files");
    if nodes.is_empty() {
        let message = "file service discovery config must contain at least one path name";
        section.fault("files", message, Some("add files: [targets/*.yml]"));
    }
    let mut files = Vec::with_capacity(nodes.len());
    for node in nodes {
        let Some(name) = String::from_node(context, node) else { continue };
        if !is_discovery_file(&name) {
            let message = format!("path name {name:?} is not valid for file discovery");
            let help = "a path ends in .json, .yml or .yaml, and only its last part may hold *";
            context.fault(node.span, message, Some(help.to_owned()));
        }
        let path = super::join(context, &name);
        context.refer(ReferenceKind::Targets, node.span, path.clone());
        files.push(path);
    }
    let discovery = FileDiscovery { files, refresh_interval: refresh(&mut section, 300) };
    section.finish();
    Some(discovery)
}

/// `^[^*]*(\*[^/]*)?\.(json|yml|yaml|JSON|YML|YAML)$`
fn is_discovery_file(name: &str) -> bool {
    let endings = [".json", ".yml", ".yaml", ".JSON", ".YML", ".YAML"];
    endings.iter().filter_map(|ending| name.strip_suffix(ending)).any(super::is_pattern)
}

pub(crate) fn read_http(context: &Context<'_>, node: &Node) -> Option<HttpDiscovery> {
    let mut section = Section::open(context, node, "http.plain")?;
    let discovery = HttpDiscovery {
        url: read_http_url(&mut section, "url", "URL is missing"),
        refresh_interval: refresh(&mut section, 60),
        http: http_client::read(&mut section, HttpClientConfig::default()),
    };
    section.finish();
    Some(discovery)
}

/// Reads a URL that must have a host and be `http` or `https`.
pub(crate) fn read_http_url(
    section: &mut Section<'_>,
    key: &'static str,
    missing: &str,
) -> HttpUrl {
    let text: String = section.value(key);
    if text.is_empty() {
        section.fault(key, missing, Some("add url: http://host/path"));
        return HttpUrl::default();
    }
    let url: HttpUrl = section.value(key);
    if url.reveal().is_empty() {
        return url;
    }
    if !matches!(url.scheme(), "http" | "https") {
        let help = "begin it with http:// or https://";
        section.fault(key, "URL scheme must be 'http' or 'https'", Some(help));
    }
    if url.host().is_empty() {
        section.fault(key, "host is missing in URL", Some("write http://host/path"));
    }
    url
}

pub(crate) fn read_dns(context: &Context<'_>, node: &Node) -> Option<DnsDiscovery> {
    let mut section = Section::open(context, node, "dns.plain")?;
    let names: Vec<String> = section.value("names");
    if names.is_empty() {
        let message = "DNS-SD config must contain at least one SRV record name";
        section.fault("names", message, Some("add names: [_metrics._tcp.example.com]"));
    }
    let record_type = read_record_type(&mut section);
    let port = port(&mut section, 0);
    if record_type.is_some_and(|kind| kind != DnsRecordType::Srv) && port == 0 {
        let message = "a port is required in DNS-SD configs for all record types except SRV";
        section.fault("port", message, Some("add port: …"));
    }
    let discovery = DnsDiscovery {
        names,
        record_type: record_type.unwrap_or(DnsRecordType::Srv),
        port,
        refresh_interval: refresh(&mut section, 30),
    };
    section.finish();
    Some(discovery)
}

fn read_record_type(section: &mut Section<'_>) -> Option<DnsRecordType> {
    let text: String = section.or("type", "SRV".to_owned());
    match text.to_ascii_uppercase().as_str() {
        "SRV" => Some(DnsRecordType::Srv),
        "A" => Some(DnsRecordType::A),
        "AAAA" => Some(DnsRecordType::Aaaa),
        "MX" => Some(DnsRecordType::Mx),
        "NS" => Some(DnsRecordType::Ns),
        _ => {
            let message = format!("invalid DNS-SD records type {text}");
            section.fault("type", message, Some("write SRV, A, AAAA, MX or NS"));
            None
        }
    }
}

/// Reads `refresh_interval`; nothing or zero means `default_s` seconds.
pub(crate) fn refresh(section: &mut Section<'_>, default_s: u64) -> Duration {
    section.value::<Milliseconds>("refresh_interval").or_if_zero(Duration::from_secs(default_s))
}

/// Reads `port`.
pub(super) fn port(section: &mut Section<'_>, default: u16) -> u16 {
    let Some(number) = section.read::<i64>("port") else { return default };
    u16::try_from(number).unwrap_or_else(|_| {
        let message = format!("port {number} is out of range");
        section.fault("port", message, Some("a port is a number from 1 to 65535"));
        default
    })
}
