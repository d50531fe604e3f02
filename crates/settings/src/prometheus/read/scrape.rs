//! One entry of `scrape_configs`.

use super::{discovery, http_client, relabel};
use crate::prometheus::{Global, HttpClientConfig, NameEscaping, ScrapeConfig, ScrapeProtocol};
use crate::suggestion::nearest;
use crate::yaml::{ByteSize, Context, FromNode, Milliseconds, Node, Section, read_map};
use crate::{NameValidation, format_duration};

/// Reads an entry, with `global` filled in. `None` if it could not be read at all.
pub(crate) fn read(context: &Context<'_>, node: &Node, global: &Global) -> Option<ScrapeConfig> {
    if node.is_null() {
        let help = "remove the lone `-`".to_owned();
        context.fault(node.span, "empty or null scrape config section", Some(help));
        return None;
    }
    let mut section = Section::open(context, node, "config.ScrapeConfig")?;
    let job_name: String = section.value("job_name");
    if job_name.is_empty() {
        section.fault("job_name", "job_name is empty", Some("add job_name: …"));
    }
    let mut config = inherited(global, job_name);
    read_names(&mut section, global, &mut config);
    read_times(&mut section, global, &mut config);
    read_request(&mut section, &mut config);
    read_histograms(&mut section, &mut config);
    read_limits(&mut section, &mut config);
    config.scrape_protocols = job_protocols(&mut section, global, &config);
    config.fallback_scrape_protocol = read_fallback(&mut section, &config.job_name);
    let names = config.metric_name_validation_scheme;
    config.relabel_configs = relabel::read(
        &mut section,
        "relabel_configs",
        names,
        "empty or null target relabeling rule in scrape config",
    );
    config.metric_relabel_configs = relabel::read(
        &mut section,
        "metric_relabel_configs",
        names,
        "empty or null metric relabeling rule in scrape config",
    );
    check_scheme(&section, &config);
    config.discovery =
        discovery::read(&mut section, &config.relabel_configs, &labels_before(&config));
    section.finish();
    Some(config)
}

/// A job that says nothing but its name.
fn inherited(global: &Global, job_name: String) -> ScrapeConfig {
    ScrapeConfig {
        job_name,
        honor_labels: false,
        honor_timestamps: true,
        track_timestamps_staleness: false,
        params: Vec::new(),
        scrape_interval: global.scrape_interval,
        scrape_timeout: global.scrape_timeout,
        scrape_protocols: Vec::new(),
        fallback_scrape_protocol: None,
        scrape_native_histograms: global.scrape_native_histograms,
        always_scrape_classic_histograms: global.always_scrape_classic_histograms,
        convert_classic_histograms_to_nhcb: global.convert_classic_histograms_to_nhcb,
        extra_scrape_metrics: global.extra_scrape_metrics,
        scrape_failure_log_file: global.scrape_failure_log_file.clone(),
        metrics_path: "/metrics".to_owned(),
        scheme: "http".to_owned(),
        enable_compression: true,
        body_size_limit: global.body_size_limit,
        sample_limit: global.sample_limit,
        target_limit: global.target_limit,
        label_limit: global.label_limit,
        label_name_length_limit: global.label_name_length_limit,
        label_value_length_limit: global.label_value_length_limit,
        native_histogram_bucket_limit: 0,
        native_histogram_min_bucket_factor: 0.0,
        keep_dropped_targets: global.keep_dropped_targets,
        metric_name_validation_scheme: global.metric_name_validation_scheme,
        metric_name_escaping_scheme: NameEscaping::AllowUtf8,
        http: HttpClientConfig::default(),
        discovery: Vec::new(),
        relabel_configs: Vec::new(),
        metric_relabel_configs: Vec::new(),
    }
}

/// A scheme nobody speaks is a slip, unless a rule sets another.
fn check_scheme(section: &Section<'_>, config: &ScrapeConfig) {
    let rules = &config.relabel_configs;
    let replaced = rules.iter().any(|rule| rule.fields().target_label == "__scheme__");
    if !replaced && !matches!(config.scheme.as_str(), "http" | "https" | "") {
        let message = format!("no target can be scraped by {:?}", config.scheme);
        section.mistake("scheme", message, "write http or https");
    }
}

/// What is asked, and how the answer is taken.
fn read_request(section: &mut Section<'_>, config: &mut ScrapeConfig) {
    let context = section.context;
    config.honor_labels = section.value("honor_labels");
    config.honor_timestamps = section.or("honor_timestamps", true);
    config.track_timestamps_staleness = section.value("track_timestamps_staleness");
    if let Some(node) = section.node("params") {
        config.params = read_map::<Vec<String>>(context, node);
    }
    if let Some(path) = http_client::optional_output(section, "scrape_failure_log_file") {
        config.scrape_failure_log_file = Some(path);
    }
    if let Some(extra) = section.read("extra_scrape_metrics").flatten() {
        config.extra_scrape_metrics = extra;
    }
    if let Some(path) = section.read("metrics_path") {
        config.metrics_path = path;
    }
    if let Some(scheme) = section.read("scheme") {
        config.scheme = scheme;
    }
    config.enable_compression = section.or("enable_compression", true);
    config.http = http_client::read(section, HttpClientConfig::default());
}

fn read_histograms(section: &mut Section<'_>, config: &mut ScrapeConfig) {
    for (key, switch) in [
        ("scrape_native_histograms", &mut config.scrape_native_histograms),
        ("always_scrape_classic_histograms", &mut config.always_scrape_classic_histograms),
        ("convert_classic_histograms_to_nhcb", &mut config.convert_classic_histograms_to_nhcb),
    ] {
        if let Some(on) = section.read(key).flatten() {
            *switch = on;
        }
    }
    config.native_histogram_bucket_limit = section.value("native_histogram_bucket_limit");
    config.native_histogram_min_bucket_factor = section.value("native_histogram_min_bucket_factor");
}

/// A limit of 0 is none of the job's own.
fn read_limits(section: &mut Section<'_>, config: &mut ScrapeConfig) {
    if let ByteSize(bytes @ 1..) = section.value("body_size_limit") {
        config.body_size_limit = bytes;
    }
    for (key, limit) in [
        ("sample_limit", &mut config.sample_limit),
        ("target_limit", &mut config.target_limit),
        ("label_limit", &mut config.label_limit),
        ("label_name_length_limit", &mut config.label_name_length_limit),
        ("label_value_length_limit", &mut config.label_value_length_limit),
        ("keep_dropped_targets", &mut config.keep_dropped_targets),
    ] {
        if let own @ 1.. = section.value(key) {
            *limit = own;
        }
    }
}

/// The labels a target of this job has before it is relabeled, beside its own.
fn labels_before(config: &ScrapeConfig) -> Vec<(String, String)> {
    let mut labels = vec![
        ("job".to_owned(), config.job_name.clone()),
        ("__scheme__".to_owned(), config.scheme.clone()),
        ("__metrics_path__".to_owned(), config.metrics_path.clone()),
        ("__scrape_interval__".to_owned(), format_duration(config.scrape_interval)),
        ("__scrape_timeout__".to_owned(), format_duration(config.scrape_timeout)),
    ];
    labels.extend(config.params.iter().filter_map(|(name, values)| {
        values.first().map(|value| (format!("__param_{name}"), value.clone()))
    }));
    labels
}

fn read_times(section: &mut Section<'_>, global: &Global, config: &mut ScrapeConfig) {
    let job = &config.job_name;
    let interval =
        section.value::<Milliseconds>("scrape_interval").or_if_zero(global.scrape_interval);
    let timeout = section.value::<Milliseconds>("scrape_timeout").duration();
    if timeout > interval {
        let message = format!(
            "scrape timeout greater than scrape interval for scrape config with job name {job:?}"
        );
        section.fault("scrape_timeout", message, Some("lower it to at most the interval"));
    }
    config.scrape_interval = interval;
    config.scrape_timeout =
        if timeout.is_zero() { global.scrape_timeout.min(interval) } else { timeout };
}

/// Which names are valid, and how they are asked for. What the job leaves open follows `global`;
/// a job that sets the validation alone gets the escaping that goes with it.
fn read_names(section: &mut Section<'_>, global: &Global, config: &mut ScrapeConfig) {
    let fitting = |names| match names {
        NameValidation::Legacy => NameEscaping::Underscores,
        NameValidation::Utf8 => NameEscaping::AllowUtf8,
    };
    let local: Option<NameValidation> =
        section.read::<Unset<NameValidation>>("metric_name_validation_scheme").and_then(|v| v.0);
    let names = local.unwrap_or(global.metric_name_validation_scheme);
    let escaping: Option<NameEscaping> =
        section.read::<Unset<NameEscaping>>("metric_name_escaping_scheme").and_then(|v| v.0);
    let from_global = global
        .metric_name_escaping_scheme
        .unwrap_or_else(|| fitting(global.metric_name_validation_scheme));
    let escaping = escaping.unwrap_or(if local.is_some() { fitting(names) } else { from_global });
    if escaping == NameEscaping::AllowUtf8 && names == NameValidation::Legacy {
        let message = "utf8 metric names requested but validation scheme is not set to UTF8";
        let key = if section.has("metric_name_escaping_scheme") {
            "metric_name_escaping_scheme"
        } else {
            "metric_name_validation_scheme"
        };
        let help = "set metric_name_validation_scheme to utf8, or metric_name_escaping_scheme to \
                    underscores, dots or values";
        section.fault(key, message, Some(help));
    }
    config.metric_name_validation_scheme = names;
    config.metric_name_escaping_scheme = escaping;
}

/// A word that may be empty, which means it is not set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unset<T>(pub(super) Option<T>);

impl<T> Default for Unset<T> {
    fn default() -> Self {
        Unset(None)
    }
}

impl FromNode for Unset<NameValidation> {
    fn from_node(context: &Context<'_>, node: &Node) -> Option<Self> {
        let text = String::from_node(context, node)?;
        match text.as_str() {
            "" => Some(Unset(None)),
            "utf8" => Some(Unset(Some(NameValidation::Utf8))),
            "legacy" => Some(Unset(Some(NameValidation::Legacy))),
            _ => {
                let message = format!("unrecognized ValidationScheme: {text:?}");
                context.fault(node.span, message, Some("write utf8 or legacy".to_owned()));
                None
            }
        }
    }
}

impl FromNode for Unset<NameEscaping> {
    fn from_node(context: &Context<'_>, node: &Node) -> Option<Self> {
        let text = String::from_node(context, node)?;
        if text.is_empty() {
            return Some(Unset(None));
        }
        let known = [
            NameEscaping::AllowUtf8,
            NameEscaping::Underscores,
            NameEscaping::Dots,
            NameEscaping::Values,
        ];
        let found = known.into_iter().find(|escaping| escaping.name() == text);
        if found.is_none() {
            let message = format!(
                "unknown scrape config name escaping method specified, must be one of \
                 'allow-utf-8', 'underscores', 'dots', or 'values', got {text:?}"
            );
            let help = nearest(&text, known.map(NameEscaping::name))
                .map(|name| format!("did you mean `{name}`?"));
            context.fault(node.span, message, help);
        }
        found.map(|escaping| Unset(Some(escaping)))
    }
}

fn job_protocols(
    section: &mut Section<'_>,
    global: &Global,
    config: &ScrapeConfig,
) -> Vec<ScrapeProtocol> {
    let where_from = format!("for scrape config with job name {:?}", config.job_name);
    read_protocols(section, &where_from).or_else(|| global.scrape_protocols.clone()).unwrap_or_else(
        || {
            if config.scrape_native_histograms {
                ScrapeProtocol::DEFAULT_WITH_NATIVE_HISTOGRAMS.to_vec()
            } else {
                ScrapeProtocol::DEFAULT.to_vec()
            }
        },
    )
}

/// Reads `scrape_protocols`; `None` if the key is absent or wrong.
pub(super) fn read_protocols(
    section: &mut Section<'_>,
    where_from: &str,
) -> Option<Vec<ScrapeProtocol>> {
    let names: Vec<String> = section.read("scrape_protocols")?;
    if names.is_empty() {
        // `null` leaves the key unset, an empty list is refused.
        let set = section.node("scrape_protocols").is_some_and(|node| !node.is_null());
        if set {
            let message = format!("scrape_protocols cannot be empty {where_from}");
            section.fault("scrape_protocols", message, Some("list a protocol or remove the key"));
        }
        return None;
    }
    let mut protocols = Vec::with_capacity(names.len());
    for name in &names {
        let Some(protocol) = ScrapeProtocol::ALL.into_iter().find(|known| known.name() == *name)
        else {
            let message = format!("scrape_protocols: {} {where_from}", unknown_protocol(name));
            let help = protocol_help(name);
            section.fault("scrape_protocols", message, help.as_deref());
            return None;
        };
        if protocols.contains(&protocol) {
            let shown = names.join(" ");
            let message =
                format!("duplicated protocol in scrape_protocols, got [{shown}] {where_from}");
            section.fault("scrape_protocols", message, Some("list each protocol once"));
            return None;
        }
        protocols.push(protocol);
    }
    Some(protocols)
}

fn unknown_protocol(name: &str) -> String {
    let known = ScrapeProtocol::ALL.map(ScrapeProtocol::name).join(" ");
    format!("unknown scrape protocol {name}, supported: [{known}]")
}

fn protocol_help(name: &str) -> Option<String> {
    nearest(name, ScrapeProtocol::ALL.map(ScrapeProtocol::name))
        .map(|known| format!("did you mean `{known}`?"))
}

fn read_fallback(section: &mut Section<'_>, job: &str) -> Option<ScrapeProtocol> {
    let node = section.node("fallback_scrape_protocol")?;
    if node.is_null() {
        return None;
    }
    if !node.is_scalar() {
        let message = format!("cannot unmarshal {} into config.ScrapeProtocol", node.describe());
        let help = "name one protocol, such as PrometheusText0.0.4";
        section.fault("fallback_scrape_protocol", message, Some(help));
        return None;
    }
    let name = String::from_node(section.context, node).filter(|name| !name.is_empty())?;
    let found = ScrapeProtocol::ALL.into_iter().find(|known| known.name() == name);
    if found.is_none() {
        let message = format!(
            "invalid fallback_scrape_protocol for scrape config with job name {job:?}: {}",
            unknown_protocol(&name)
        );
        let help = protocol_help(&name);
        section.fault("fallback_scrape_protocol", message, help.as_deref());
    }
    found
}
