//! Promtail's configuration, taken as it is.
//!
//! Source: the manual of Promtail 3, "Configuration". What has no effect here is told as a warning,
//! what is not collected as a mistake, each with its place.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::Labels;

use super::alloy_metrics::AlloyMetrics;
use super::config::{
    DockerSource, FileSource, JournalSource, LineLimits, LogJob, LogRoute, LogSink, LogSource,
    LogsConfig, RouteStep, StaticTarget, SyslogSource, SyslogTransport,
};
use super::go_values::GoDuration;
use super::load::{
    LoadedLogs, expand_variables, finish_warnings, has_text, is_variable, labels_of, merged,
    node_at, target_of, unique, without_effect,
};
use super::read_stage::{StageCheck, StageReader, Syntax, read_stages};
use super::stage::Stage;
use crate::diagnostic::{Diagnostic, Faults, Severity};
use crate::prometheus::read::discovery;
use crate::prometheus::read::{http_client, relabel};
use crate::prometheus::{HttpClientConfig, Surroundings, read_file};
use crate::relabel::RelabelConfig;
use crate::target_groups::read_group;
use crate::yaml::{
    ByteSize, Context, Document, FromNode, Milliseconds, Node, Section, Value, read_map,
};
use crate::{HttpUrl, NameValidation};

/// Loads Promtail's configuration. With `expand_env`, `${NAME}` is replaced by that variable of the
/// environment before anything is read. `check` tries what only a running pipeline knows.
///
/// # Errors
/// Everything that is wrong in the file.
pub fn load(
    path: &Path,
    surroundings: &dyn Surroundings,
    expand_env: bool,
    check: StageCheck<'_>,
) -> Result<LoadedLogs, Faults> {
    let file = path.to_string_lossy();
    let mut bytes = read_file(&file, path, surroundings)?;
    if expand_env && let Ok(text) = std::str::from_utf8(&bytes) {
        bytes = expand_variables(text, surroundings).into_bytes();
    }
    let directory = path.parent().unwrap_or(Path::new(""));
    parse(&file, &bytes, directory, expand_env, check)
}

/// As [`load`], of bytes; `file` is the name faults bear, `directory` where relative paths begin.
///
/// # Errors
/// Everything that is wrong in the text.
pub fn parse(
    file: &str,
    bytes: &[u8],
    directory: &Path,
    is_expanded: bool,
    check: StageCheck<'_>,
) -> Result<LoadedLogs, Faults> {
    let document = Document::parse(file, bytes)?;
    let context = Context::new(document.source(), directory);
    let (limits, stages) = (Cell::new(0), Cell::new(0));
    let reader = StageReader {
        context: &context,
        syntax: Syntax::Promtail,
        check,
        limits: &limits,
        stages: &stages,
    };
    let config = document.root().map(|root| read(&reader, root, is_expanded)).unwrap_or_default();
    let (faults, mut warnings) = finish_warnings(context);
    warnings.extend(document.trailing());
    if !faults.is_empty() {
        return Err(Faults::new(faults));
    }
    Ok(LoadedLogs { config, metrics: AlloyMetrics::default(), warnings })
}

/// Reads `pipeline_stages` below a key of another file, with faults at their places.
///
/// # Errors
/// Everything that is wrong with them.
pub fn parse_stages(
    document: &Document,
    key: &str,
    check: StageCheck<'_>,
) -> Result<(Vec<Stage>, Vec<Diagnostic>), Faults> {
    let context = Context::new(document.source(), Path::new(""));
    let (limits, count) = (Cell::new(0), Cell::new(0));
    let reader = StageReader {
        context: &context,
        syntax: Syntax::Promtail,
        check,
        limits: &limits,
        stages: &count,
    };
    let node = node_at(document, key);
    let stages = node.map(|node| read_stages(&reader, node, 0)).unwrap_or_default();
    let (faults, warnings) = finish_warnings(context);
    if faults.is_empty() { Ok((stages, warnings)) } else { Err(Faults::new(faults)) }
}

const OWN_ADDRESS: &str = "the agent has an address of its own; give it with --listen";

fn read(reader: &StageReader<'_>, root: &Node, is_expanded: bool) -> LogsConfig {
    let context = reader.context;
    let Some(mut section) = Section::open(context, root, "config.Config") else {
        return LogsConfig::default();
    };
    if !is_expanded {
        warn_of_variables(context, root);
    }
    let sinks = sinks(&mut section);
    let positions = Some(positions(&mut section));
    let limits = limits(&mut section);
    let mut config = LogsConfig { limits, positions, ..LogsConfig::default() };
    without_effect(&mut section, "server", "Watchfire serves its own pages", OWN_ADDRESS);
    without_effect(
        &mut section,
        "wal",
        "lines are on disk, in the agent's spool, until they are acknowledged",
        "remove it, or keep it for Promtail",
    );
    for key in ["tracing", "options", "global", "runtime_config"] {
        let why = "it is about Promtail itself";
        without_effect(&mut section, key, why, "remove it, or keep it for Promtail");
    }
    let (sync_period, stdin) = target_config(&mut section);
    let broker_labels = external_labels(&section, &sinks);
    let mut names = Vec::new();
    for node in section.items("scrape_configs") {
        for mut job in jobs_of(reader, node, sync_period) {
            job.name = unique(job.name, &names);
            names.push(job.name.clone());
            if let Some(route) = job.routes.first_mut() {
                route.sinks = (0..sinks.len()).collect();
                if !broker_labels.is_empty() {
                    route.steps.push(RouteStep::ExternalLabels(broker_labels.clone()));
                }
            }
            config.jobs.push(job);
        }
    }
    if stdin {
        read_stdin(&mut config.jobs);
    }
    if config.jobs.is_empty() && !section.is_set("scrape_configs") {
        let message = "nothing is collected: there are no scrape_configs";
        let help = "add a job with static_configs and a label __path__".to_owned();
        context.warn(Severity::Warning, section.span_start(), message, Some(help));
    }
    config.sinks = sinks;
    section.finish();
    config
}

/// `${NAME}` in a file that is taken literally is most often a slip.
fn warn_of_variables(context: &Context<'_>, root: &Node) {
    let names_variable = |text: &str| {
        text.split("${").skip(1).any(|tail| {
            let name = tail.split(['}', ':']).next().unwrap_or_default();
            let is_upper = name.bytes().all(|b| !b.is_ascii_lowercase());
            tail.contains('}') && is_variable(name) && is_upper
        })
    };
    if has_text(root, &names_variable) {
        let message = "variables of the environment are not put in: ${…} is taken as it is";
        let help = "add --config-expand-env, as Promtail needs -config.expand-env".to_owned();
        context.warn(Severity::Warning, (root.span.0, root.span.0 + 1), message, Some(help));
    }
}

fn limits(section: &mut Section<'_>) -> LineLimits {
    let mut limits = LineLimits::default();
    // The name of older versions.
    for key in ["limits_config", "limit_config"] {
        let Some(mut inner) = section.section(key, "limit.Config") else { continue };
        let enabled: bool = inner.value("readline_rate_enabled");
        let rate: f64 = inner.or("readline_rate", 10_000.0);
        let burst: u64 = inner.or("readline_burst", 10_000);
        if enabled {
            if !(rate > 0.0 && rate.is_finite()) || burst == 0 {
                let message = "readline_rate and readline_burst have to be above 0";
                inner.fault("readline_rate", message, None);
            }
            limits.rate = Some((rate, burst));
        }
        limits.drop_above_rate = inner.or("readline_rate_drop", true);
        limits.max_streams = inner.value("max_streams");
        limits.max_line_bytes = match inner.node("max_line_size") {
            Some(node) => match &node.value {
                Value::Scalar(scalar) if scalar.integer().is_some() => {
                    u64::from_node(inner.context, node).unwrap_or(0)
                }
                _ => ByteSize::from_node(inner.context, node).unwrap_or_default().0,
            },
            None => 0,
        };
        limits.truncate_lines = inner.value("max_line_size_truncate");
        inner.finish();
    }
    limits
}

/// Where positions are, from where the program was started if the path is not absolute, as there.
fn positions(section: &mut Section<'_>) -> PathBuf {
    let default = PathBuf::from("/var/log/positions.yaml");
    let Some(mut inner) = section.section("positions", "positions.Config") else { return default };
    let name: String = inner.value("filename");
    inner.value::<GoDuration>("sync_period");
    inner.value::<bool>("ignore_invalid_yaml");
    inner.finish();
    if name.is_empty() { default } else { PathBuf::from(name) }
}

fn target_config(section: &mut Section<'_>) -> (Duration, bool) {
    let default = Duration::from_secs(10);
    let Some(mut inner) = section.section("target_config", "file.Config") else {
        return (default, false);
    };
    let period = inner.read::<GoDuration>("sync_period").map(|period| period.0);
    let stdin = inner.value("stdin");
    inner.finish();
    (period.filter(|period| !period.is_zero()).unwrap_or(default), stdin)
}

fn sinks(section: &mut Section<'_>) -> Vec<LogSink> {
    let context = section.context;
    let mut sinks: Vec<LogSink> = Vec::new();
    let mut nodes = section.items("clients");
    // A single one in older files.
    nodes.extend(section.node("client").filter(|node| !node.is_empty()));
    for node in nodes {
        let Some(mut inner) = Section::open(context, node, "client.Config") else { continue };
        let url = discovery::read_http_url(&mut inner, "url", "client needs target URL");
        let taken: Vec<String> = sinks.iter().map(|sink| sink.name.clone()).collect();
        let name = http_client::optional_text(&mut inner, "name");
        let name = unique(name.unwrap_or_else(|| "client".to_owned()), &taken);
        sinks.push(sink(&mut inner, &name, url));
        inner.finish();
    }
    if sinks.is_empty() && section.is_set("scrape_configs") {
        // Promtail needs one; here lines go to the broker.
        return sinks;
    }
    sinks
}

/// The keys of a client.
fn sink(inner: &mut Section<'_>, name: &str, url: HttpUrl) -> LogSink {
    let default = LogSink::new(name, url);
    let context = inner.context;
    let headers = inner.node("headers").map(|node| read_map::<String>(context, node));
    let batch_wait = inner.read::<GoDuration>("batchwait").map_or(default.batch_wait, |d| d.0);
    let timeout = inner.read::<GoDuration>("timeout").map_or(default.timeout, |d| d.0);
    let mut sink = LogSink {
        tenant: http_client::optional_text(inner, "tenant_id"),
        headers: headers.unwrap_or_default(),
        external_labels: labels_of(inner, "external_labels"),
        batch_bytes: inner.or("batchsize", default.batch_bytes),
        batch_wait,
        timeout,
        http: http_client::read(inner, HttpClientConfig::default()),
        ..default
    };
    if let Some(mut backoff) = inner.section("backoff_config", "backoff.Config") {
        let mut read = |key| backoff.read::<GoDuration>(key).map(|d| d.0);
        sink.min_backoff = read("min_period").unwrap_or(sink.min_backoff);
        sink.max_backoff = read("max_period").unwrap_or(sink.max_backoff);
        if backoff.read::<u64>("max_retries").is_some() {
            let message = "max_retries has no effect: lines are kept and sent again until they are \
                           taken";
            backoff.warn("max_retries", message, Some("agent.spool limits what is kept"));
        }
        backoff.finish();
    }
    if inner.value::<bool>("drop_rate_limited_batches") {
        let message = "drop_rate_limited_batches has no effect: such lines are sent again later";
        inner.warn("drop_rate_limited_batches", message, None);
    }
    sink
}

/// Labels that lines get on their way to the broker: those on which all clients agree.
fn external_labels(section: &Section<'_>, sinks: &[LogSink]) -> Labels {
    let Some(first) = sinks.first() else { return Labels::empty() };
    if sinks.iter().all(|sink| sink.external_labels == first.external_labels) {
        return first.external_labels.clone();
    }
    let message = "the clients have different external_labels, so the broker gets none of them";
    section.warn("clients", message, Some("set what the broker is to get with static_labels"));
    Labels::empty()
}

/// Sources that Promtail has and that are not collected here, with what to do instead.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("azure_event_hubs", "forward the hub's lines to the broker's OTLP or Loki push"),
    ("cloudflare", "have Cloudflare push to the broker's HTTP endpoints"),
    ("gcplog", "push to the broker's Loki endpoint, /loki/api/v1/push"),
    ("gelf", "send syslog instead, or push to /loki/api/v1/push"),
    ("heroku_drain", "push to the broker's Loki endpoint, /loki/api/v1/push"),
    ("kafka", "keep Promtail for it and point its client at the broker's /loki/api/v1/push"),
    ("loki_push_api", "push to the broker itself, at /loki/api/v1/push"),
    ("windows_events", "Watchfire's agent runs on Linux"),
];

/// Mechanisms of discovery that Promtail has and that are not run for lines.
const UNSUPPORTED_DISCOVERY: &[(&str, &str)] = &[
    ("azure_sd_configs", ""),
    ("consul_sd_configs", ""),
    ("consulagent_sd_configs", ""),
    ("digitalocean_sd_configs", ""),
    ("dns_sd_configs", ""),
    ("dockerswarm_sd_configs", ""),
    ("ec2_sd_configs", ""),
    ("gce_sd_configs", ""),
    ("marathon_sd_configs", ""),
    ("nerve_sd_configs", ""),
    ("openstack_sd_configs", ""),
    ("serverset_sd_configs", ""),
    ("triton_sd_configs", ""),
];

/// The sources of one scrape configuration, each a job.
fn jobs_of(reader: &StageReader<'_>, node: &Node, sync_period: Duration) -> Vec<LogJob> {
    let context = reader.context;
    let Some(mut section) = Section::open(context, node, "scrapeconfig.Config") else {
        return Vec::new();
    };
    let name: String = section.value("job_name");
    if name.is_empty() {
        section.fault("job_name", "job_name is empty", Some("give the job a name"));
    }
    let stages = match section.node("pipeline_stages") {
        Some(node) => read_stages(reader, node, 0),
        None => Vec::new(),
    };
    let empty = "empty or null relabel_configs";
    let rules = relabel::read(&mut section, "relabel_configs", NameValidation::Utf8, empty);
    let mut sources = Vec::new();
    if let Some(files) = files(&mut section, &rules, sync_period) {
        sources.push(LogSource::Files(files));
    }
    sources.extend(section.section("journal", "JournalTargetConfig").map(journal));
    sources.extend(section.section("syslog", "SyslogTargetConfig").and_then(syslog));
    for node in section.items("docker_sd_configs") {
        let docker = Section::open(context, node, "moby.DockerSDConfig").map(docker);
        sources.extend(docker.map(LogSource::Docker));
    }
    let mut unsupported = 0;
    for node in section.items("kubernetes_sd_configs") {
        let Some(inner) = Section::open(context, node, "kubernetes.SDConfig") else { continue };
        let Some(mut pods) = super::pods::read(inner) else {
            unsupported += 1;
            continue;
        };
        let place = section.key_place("kubernetes_sd_configs");
        super::pods::check_rules(context, place, &rules, &mut pods);
        pods.sync_period = sync_period;
        sources.push(LogSource::Pods(pods));
    }
    for (key, help) in UNSUPPORTED.iter().chain(UNSUPPORTED_DISCOVERY) {
        if section.node(key).is_some_and(|node| !node.is_empty()) {
            unsupported += 1;
            let help = if help.is_empty() {
                "name the files with static_configs or file_sd_configs"
            } else {
                help
            };
            let message = format!("{key} is not supported: nothing of it is collected");
            let place = section.key_place(key);
            context.warn(Severity::Mistake, place, message, Some(help.to_owned()));
        }
    }
    if sources.is_empty() && unsupported == 0 {
        let message = format!("the job {name:?} has no source: nothing is collected");
        let help = "add static_configs, file_sd_configs, journal, syslog or docker_sd_configs";
        let place = section.span_start();
        context.warn(Severity::Mistake, place, message, Some(help.to_owned()));
    }
    section.finish();
    let steps = |stages: &Vec<Stage>| match stages.is_empty() {
        true => Vec::new(),
        false => vec![RouteStep::Stages(stages.clone())],
    };
    let job = |source| LogJob {
        name: name.clone(),
        source,
        relabel: rules.clone(),
        routes: vec![LogRoute { steps: steps(&stages), sinks: Vec::new() }],
    };
    sources.into_iter().map(job).collect()
}

fn files(
    section: &mut Section<'_>,
    rules: &[RelabelConfig],
    sync_period: Duration,
) -> Option<FileSource> {
    let context = section.context;
    let mut files = FileSource { sync_period, ..FileSource::default() };
    for node in section.items("static_configs") {
        let Some(group) = read_group(context, node) else { continue };
        let mut targets = group.targets;
        if targets.is_empty() {
            // A group of files needs no host.
            targets.push(Labels::empty());
        }
        for target in targets {
            let Some(target) = target_of(&merged(&target, &group.labels), rules) else { continue };
            push_target(context, node, &mut files.targets, target);
        }
    }
    for node in section.items("file_sd_configs") {
        files.discovery.extend(discovery::read_file(context, node));
    }
    files.encoding = http_client::optional_text(section, "encoding");
    if let Some(mut inner) = section.section("decompression", "DecompressionConfig") {
        let enabled: bool = inner.value("enabled");
        inner.value::<GoDuration>("initial_delay");
        let format: String = inner.value("format");
        if enabled && !matches!(format.as_str(), "gz" | "z" | "bz2") {
            let message = format!("decompression format {format:?} is none of gz, z, bz2");
            inner.fault("format", message, None);
        }
        files.compression = enabled.then_some(format);
        inner.finish();
    }
    let any = section.has("static_configs") || section.has("file_sd_configs");
    any.then_some(files)
}

fn push_target(
    context: &Context<'_>,
    node: &Node,
    targets: &mut Vec<StaticTarget>,
    target: StaticTarget,
) {
    if target.path.is_empty() {
        let message = "the target has no label __path__: no file is read";
        let help = "add __path__: /var/log/*.log to its labels".to_owned();
        context.warn(Severity::Mistake, (node.span.0, node.span.0 + 1), message, Some(help));
        return;
    }
    if !targets.contains(&target) {
        targets.push(target);
    }
}

fn journal(mut section: Section<'_>) -> LogSource {
    let default = JournalSource::default();
    let matches: String = section.value("matches");
    let path: String = section.value("path");
    let journal = JournalSource {
        max_age: section.read::<GoDuration>("max_age").map_or(default.max_age, |age| age.0),
        as_json: section.value("json"),
        path: (!path.is_empty()).then(|| section.context.join(&path)),
        matches: matches.split_whitespace().map(str::to_owned).collect(),
        labels: labels_of(&mut section, "labels"),
    };
    for wrong in journal.matches.iter().filter(|text| !text.contains('=') && *text != "+") {
        let message = format!("Error parsing journal reader 'matches' config value {wrong:?}");
        section.fault("matches", message, Some("write FIELD=value"));
    }
    section.finish();
    LogSource::Journal(journal)
}

fn syslog(mut section: Section<'_>) -> Option<LogSource> {
    let address: String = section.value("listen_address");
    if address.is_empty() {
        let help = Some("add listen_address: 0.0.0.0:1514");
        section.fault("listen_address", "no listen address", help);
    }
    let protocol: String = section.value("listen_protocol");
    let transport = match protocol.as_str() {
        "" | "tcp" => SyslogTransport::Tcp,
        "udp" => SyslogTransport::Udp,
        other => {
            let message =
                format!("unrecognized syslog protocol {other:?}, supported protocols are tcp, udp");
            section.fault("listen_protocol", message, None);
            SyslogTransport::Tcp
        }
    };
    let format: String = section.value("syslog_format");
    if !matches!(format.as_str(), "" | "rfc5424" | "rfc3164") {
        let message = format!("invalid syslog format {format:?}; expected rfc5424 or rfc3164");
        section.fault("syslog_format", message, None);
    }
    let has_tls = section.is_set("tls_config");
    let tls = http_client::read_tls(&mut section);
    let syslog = SyslogSource {
        listen_address: address,
        transport,
        tls: has_tls.then_some(tls),
        idle_timeout: section
            .read::<GoDuration>("idle_timeout")
            .map_or(Duration::from_secs(120), |timeout| timeout.0),
        label_structured_data: section.value("label_structured_data"),
        use_incoming_timestamp: section.value("use_incoming_timestamp"),
        use_rfc5424_message: section.value("use_rfc5424_message"),
        is_rfc3164: format == "rfc3164",
        max_message_bytes: section.or("max_message_length", 8_192),
        labels: labels_of(&mut section, "labels"),
    };
    section.finish();
    Some(LogSource::Syslog(syslog))
}

fn docker(mut section: Section<'_>) -> DockerSource {
    let context = section.context;
    let host: String = section.value("host");
    if host.is_empty() {
        section.fault("host", "host missing", Some("add host: unix:///var/run/docker.sock"));
    } else if !host.starts_with("unix://") {
        let message = "only a daemon on this host is read, by its socket";
        section.mistake("host", message, "write unix:///var/run/docker.sock");
    }
    section.value::<i64>("port");
    section.value::<String>("host_networking_host");
    section.value::<bool>("match_first_network");
    http_client::read(&mut section, HttpClientConfig::default());
    let mut filters = Vec::new();
    for node in section.items("filters") {
        let Some(mut filter) = Section::open(context, node, "moby.Filter") else { continue };
        filters.push((filter.value("name"), filter.value("values")));
        filter.finish();
    }
    let refresh = section.value::<Milliseconds>("refresh_interval");
    let docker = DockerSource {
        host,
        refresh_interval: refresh.or_if_zero(Duration::from_secs(60)),
        filters,
        labels: Labels::empty(),
    };
    section.finish();
    docker
}

/// What is piped in passes the stages of the first job with files, as in Promtail.
fn read_stdin(jobs: &mut Vec<LogJob>) {
    let first = jobs.iter().position(|job| matches!(job.source, LogSource::Files(_)));
    let (routes, labels) = match first.map(|at| &jobs[at]) {
        Some(LogJob { source: LogSource::Files(files), routes, .. }) => {
            (routes.clone(), files.targets.first().map(|target| target.labels.clone()))
        }
        _ => (vec![LogRoute::default()], None),
    };
    let labels = labels.unwrap_or_else(|| {
        Labels::from_pairs([("job", "stdin")]).expect("one name, and it is not empty")
    });
    // Nothing else is read then.
    *jobs = vec![LogJob {
        name: "stdin".to_owned(),
        source: LogSource::Stdin { labels },
        relabel: Vec::new(),
        routes,
    }];
}
