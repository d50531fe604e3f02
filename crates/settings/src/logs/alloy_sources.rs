//! The sources of lines of Alloy's configuration: files, the journal, syslog and containers.

use std::path::PathBuf;
use std::time::Duration;

use model::Labels;

use super::alloy::Reader;
use super::alloy_targets::{Containers, Targets};
use super::config::{
    DockerSource, FileSource, JournalSource, LogJob, LogSource, PodSource, SyslogSource,
    SyslogTransport,
};
use super::go_values::GoDuration;
use super::load::{labels_of, merged};
use crate::alloy::ast::Block;
use crate::diagnostic::Severity;
use crate::prometheus::read::http_client;
use crate::yaml::Section;

impl Reader<'_> {
    pub(super) fn files(&self, block: &Block) -> Vec<LogJob> {
        let mut targets = Targets::default();
        if let Some(value) =
            self.required(block, "targets").and_then(|expr| self.evaluator.value(expr))
        {
            self.add_targets(&value, &mut targets, 0);
        }
        if !targets.found.is_empty() {
            let message = "targets that are found are scraped; files are named";
            let help = "name the files with local.file_match".to_owned();
            self.context().warn(Severity::Mistake, block.span, message, Some(help));
        }
        if !targets.containers.is_empty() {
            let message = "containers are no files";
            let help = "read them with loki.source.docker".to_owned();
            self.context().warn(Severity::Mistake, block.span, message, Some(help));
        }
        let tree = self.tree(block);
        let Some(mut section) = Section::open(self.context(), &tree, "loki.source.file") else {
            return Vec::new();
        };
        let mut files = FileSource {
            targets: self.static_targets(&targets),
            sync_period: targets.sync_period.unwrap_or(Duration::from_secs(10)),
            encoding: http_client::optional_text(&mut section, "encoding"),
            tail_from_end: section.value("tail_from_end"),
            ..FileSource::default()
        };
        let legacy = http_client::optional_text(&mut section, "legacy_positions_file");
        files.legacy_positions = legacy.map(PathBuf::from);
        for key in ["file_watch", "file_match"] {
            if section.node(key).is_some() {
                let message = format!("{key} has no effect: files are watched as they change");
                section.warn(key, message, None);
            }
        }
        if let Some(mut inner) = section.section("decompression", "decompression") {
            let enabled: bool = inner.value("enabled");
            inner.value::<GoDuration>("initial_delay");
            let format: String = inner.value("format");
            if enabled && !matches!(format.as_str(), "gz" | "z" | "bz2") {
                let message = format!("unsupported compression format {format:?}");
                inner.fault("format", message, Some("write gz, z or bz2"));
            }
            files.compression = enabled.then_some(format);
            inner.finish();
        }
        section.finish();
        let mut jobs = self.jobs_of_pods(block, &targets, files.tail_from_end);
        if jobs.is_empty() || !files.targets.is_empty() {
            jobs.extend(self.job(block, LogSource::Files(files), Vec::new()));
        }
        jobs
    }

    /// Pods whose lines Alloy asks the API server for: here they are read from their files.
    pub(super) fn pods(&self, block: &Block) -> Vec<LogJob> {
        let mut targets = Targets::default();
        if let Some(value) =
            self.required(block, "targets").and_then(|expr| self.evaluator.value(expr))
        {
            self.add_targets(&value, &mut targets, 0);
        }
        let tree = self.tree(block);
        let Some(mut section) = Section::open(self.context(), &tree, "loki.source.kubernetes")
        else {
            return Vec::new();
        };
        for key in ["client", "clustering"] {
            if section.node(key).is_some() {
                let message =
                    format!("{key} has no effect: pods of this node are read by their files");
                section.warn(key, message, None);
            }
        }
        section.finish();
        let jobs = self.jobs_of_pods(block, &targets, false);
        if jobs.is_empty() {
            let message = "no pods: targets are not those of discovery.kubernetes";
            let help = "write targets = discovery.kubernetes.NAME.targets".to_owned();
            self.context().warn(Severity::Mistake, block.span, message, Some(help));
        }
        jobs
    }

    fn jobs_of_pods(&self, block: &Block, targets: &Targets, tail_from_end: bool) -> Vec<LogJob> {
        let mut jobs = Vec::new();
        for (pods, rules) in &targets.pods {
            let mut pods = PodSource {
                sync_period: targets.sync_period.unwrap_or(Duration::from_secs(10)),
                tail_from_end,
                ..pods.clone()
            };
            super::pods::check_rules(self.context(), block.span, rules, &mut pods);
            jobs.extend(self.job(block, LogSource::Pods(pods), rules.clone()));
        }
        jobs
    }

    pub(super) fn journal(&self, block: &Block) -> Vec<LogJob> {
        let tree = self.tree(block);
        let Some(mut section) = Section::open(self.context(), &tree, "loki.source.journal") else {
            return Vec::new();
        };
        let default = JournalSource::default();
        let (path, matches): (String, String) = (section.value("path"), section.value("matches"));
        let id = block.id();
        let job =
            Labels::from_pairs([("job", id.as_str())]).expect("one name, and it is not empty");
        let journal = JournalSource {
            max_age: section.read::<GoDuration>("max_age").map_or(default.max_age, |age| age.0),
            as_json: section.value("format_as_json"),
            path: (!path.is_empty()).then(|| self.context().join(&path)),
            matches: matches.split_whitespace().map(str::to_owned).collect(),
            labels: merged(&labels_of(&mut section, "labels"), &job),
        };
        section.finish();
        self.job(block, LogSource::Journal(journal), self.relabel_rules(block))
    }

    pub(super) fn syslog(&self, block: &Block) -> Vec<LogJob> {
        let tree = self.tree(block);
        let context = self.context();
        let Some(mut section) = Section::open(context, &tree, "loki.source.syslog") else {
            return Vec::new();
        };
        let mut jobs = Vec::new();
        for node in section.items("listener") {
            let Some(listener) = Section::open(context, node, "listener") else { continue };
            let source = LogSource::Syslog(listener_of(listener));
            jobs.extend(self.job(block, source, self.relabel_rules(block)));
        }
        section.finish();
        jobs
    }

    pub(super) fn docker(&self, block: &Block) -> Vec<LogJob> {
        let mut targets = Targets::default();
        if let Some(value) =
            self.required(block, "targets").and_then(|expr| self.evaluator.value(expr))
        {
            self.add_targets(&value, &mut targets, 0);
        }
        let tree = self.tree(block);
        let Some(mut section) = Section::open(self.context(), &tree, "loki.source.docker") else {
            return Vec::new();
        };
        let host: String = section.value("host");
        if host.is_empty() {
            section.fault("host", "missing required attribute \"host\"", Some("add host"));
        } else if !host.starts_with("unix://") {
            let message = "only a daemon on this host is read, by its socket";
            section.mistake("host", message, "write unix:///var/run/docker.sock");
        }
        let labels = labels_of(&mut section, "labels");
        let refresh = section.read::<GoDuration>("refresh_interval").map(|refresh| refresh.0);
        if section.node("client").is_some() {
            section.warn("client", "client has no effect: the daemon is read by its socket", None);
        }
        section.finish();
        let mut jobs = Vec::new();
        for Containers { filters, mut rules } in targets.containers {
            rules.extend(self.relabel_rules(block));
            let docker = DockerSource {
                host: host.clone(),
                refresh_interval: refresh.unwrap_or(Duration::from_secs(60)),
                filters,
                labels: labels.clone(),
            };
            jobs.extend(self.job(block, LogSource::Docker(docker), rules));
        }
        if jobs.is_empty() {
            let message = "no containers: targets are not those of discovery.docker";
            let help = "write targets = discovery.docker.NAME.targets".to_owned();
            self.context().warn(Severity::Mistake, block.span, message, Some(help));
        }
        jobs
    }
}

/// A listener of `loki.source.syslog`.
fn listener_of(mut section: Section<'_>) -> SyslogSource {
    let listen_address: String = section.value("address");
    if listen_address.is_empty() {
        section.fault("address", "missing required attribute \"address\"", Some("add address"));
    }
    let protocol: String = section.value("protocol");
    if !matches!(protocol.as_str(), "" | "tcp" | "udp") {
        let message =
            format!("syslog listener protocol should be either 'tcp' or 'udp', got {protocol}");
        section.fault("protocol", message, None);
    }
    let format: String = section.value("syslog_format");
    if !matches!(format.as_str(), "" | "rfc5424" | "rfc3164") {
        let message = format!("invalid syslog format {format:?}; expected rfc5424 or rfc3164");
        section.fault("syslog_format", message, None);
    }
    let has_tls = section.is_set("tls_config");
    let tls = http_client::read_tls(&mut section);
    let udp = protocol == "udp";
    let idle = section.read::<GoDuration>("idle_timeout").map(|timeout| timeout.0);
    let syslog = SyslogSource {
        listen_address,
        transport: if udp { SyslogTransport::Udp } else { SyslogTransport::Tcp },
        tls: has_tls.then_some(tls),
        idle_timeout: idle.unwrap_or(Duration::from_secs(120)),
        label_structured_data: section.value("label_structured_data"),
        use_incoming_timestamp: section.value("use_incoming_timestamp"),
        use_rfc5424_message: section.value("use_rfc5424_message"),
        is_rfc3164: format == "rfc3164",
        max_message_bytes: section.or("max_message_length", 8_192),
        labels: labels_of(&mut section, "labels"),
    };
    section.finish();
    syslog
}
