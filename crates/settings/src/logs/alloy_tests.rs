//! Alloy's files: what they are read as, and what is said about them.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::alloy::parse;
use super::stage::{MetricKind, Stage};
use super::{LoadedLogs, LogSource, RouteStep, SyslogTransport};
use crate::prometheus::{Discovery, Surroundings};
use crate::{Faults, Severity};

struct Env;

impl Surroundings for Env {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn variable(&self, name: &str) -> Option<String> {
        (name == "LOKI").then(|| "http://loki/push".to_owned())
    }
}

fn load(text: &str) -> Result<LoadedLogs, Faults> {
    parse("c.alloy", text.as_bytes(), Path::new("/etc/alloy"), &Env, &|_| Ok(()))
}

fn valid(text: &str) -> LoadedLogs {
    load(text).unwrap_or_else(|faults| panic!("{}", faults.render()))
}

const WRITE: &str = "loki.write \"w\" {\n  endpoint {\n    url = sys.env(\"LOKI\")\n  }\n}\n";

/// The examples of the manual, joined.
#[test]
fn a_usual_file_is_read() {
    let loaded = valid(
        r#"
logging {
  level = "info"
}

local.file_match "applogs" {
  path_targets = [{"__path__" = "/tmp/app-logs/*.log", job = "app"}]
  sync_period  = "5s"
}

loki.source.file "local_files" {
  targets       = local.file_match.applogs.targets
  forward_to    = [loki.process.add.receiver]
  tail_from_end = true
}

loki.process "add" {
  forward_to = [loki.relabel.r.receiver]

  stage.logfmt {
    mapping = { "extracted_level" = "level" }
  }
  stage.labels {
    values = { "level" = "extracted_level", "other" = "" }
  }
  stage.match {
    selector = "{job=\"app\"} |= `noisy`"
    stage.drop {
      expression = ".*"
      longer_than = "8KB"
    }
    stage.docker { }
  }
  stage.metrics {
    metric.counter {
      name      = "lines_total"
      match_all = true
      action    = "inc"
    }
    metric.histogram {
      name    = "took"
      buckets = [1, 2.5]
    }
  }
  stage.static_labels {
    values = { host = constants.hostname, env = coalesce(sys.env("NONE"), "dev") }
  }
}

loki.relabel "r" {
  forward_to = [loki.write.w.receiver]
  rule {
    source_labels = ["level"]
    regex         = "debug"
    action        = "drop"
  }
  rule {
    action = "labeldrop"
    regex  = "other"
  }
}

loki.relabel "journal" {
  forward_to = []
  rule {
    source_labels = ["__journal__systemd_unit"]
    target_label  = "unit"
  }
}

loki.source.journal "read" {
  forward_to    = [loki.write.w.receiver]
  relabel_rules = loki.relabel.journal.rules
  labels        = {component = "j"}
  max_age       = "12h"
}

loki.source.syslog "s" {
  listener {
    address = "127.0.0.1:51893"
  }
  listener {
    address  = "127.0.0.1:51898"
    protocol = "udp"
    labels   = { protocol = "udp" }
  }
  forward_to = [loki.write.w.receiver]
}

discovery.docker "linux" {
  host = "unix:///var/run/docker.sock"
}

discovery.relabel "containers" {
  targets = discovery.docker.linux.targets
  rule {
    source_labels = ["__meta_docker_container_name"]
    target_label  = "container"
  }
}

loki.source.docker "default" {
  host       = "unix:///var/run/docker.sock"
  targets    = discovery.relabel.containers.output
  labels     = {"app" = "docker"}
  forward_to = [loki.write.w.receiver]
}

loki.write "w" {
  external_labels = {cluster = "c"}
  endpoint {
    url       = sys.env("LOKI")
    tenant_id = "t"
    basic_auth {
      username = "u"
      password = "canary"
    }
  }
}
"#,
    );
    let config = &loaded.config;
    let names: Vec<&str> = config.jobs.iter().map(|job| job.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "loki.source.file.local_files",
            "loki.source.journal.read",
            "loki.source.syslog.s",
            "loki.source.syslog.s-2",
            "loki.source.docker.default",
        ]
    );
    let LogSource::Files(files) = &config.jobs[0].source else { panic!("files") };
    assert!(files.tail_from_end && files.sync_period == Duration::from_secs(5));
    assert_eq!(files.targets[0].path, "/tmp/app-logs/*.log");
    assert_eq!(files.targets[0].labels.to_string(), r#"{job="app"}"#);
    let [route] = config.jobs[0].routes.as_slice() else { panic!("{:?}", config.jobs[0].routes) };
    let [RouteStep::Stages(stages), RouteStep::Relabel(rules), RouteStep::ExternalLabels(labels)] =
        route.steps.as_slice()
    else {
        panic!("{:?}", route.steps)
    };
    assert_eq!((rules.len(), labels.to_string()), (2, r#"{cluster="c"}"#.to_owned()));
    let [
        Stage::Logfmt(logfmt),
        Stage::Labels(made),
        Stage::Match(inner),
        Stage::Metrics(metrics),
        Stage::StaticLabels(fixed),
    ] = stages.as_slice()
    else {
        panic!("{stages:?}")
    };
    assert_eq!(logfmt.mapping, [("level".to_owned(), "extracted_level".to_owned())]);
    assert_eq!(made.labels[1], ("other".to_owned(), "other".to_owned()));
    assert!(
        matches!(inner.stages.as_slice(), [Stage::Drop(drop), Stage::Docker] if drop.longer_than == Some(8_192))
    );
    assert_eq!(metrics[0].name, "loki_process_custom_lines_total");
    assert!(
        matches!(&metrics[1].kind, MetricKind::Histogram { buckets } if buckets == &[1.0, 2.5])
    );
    assert!(fixed.contains(&("env".to_owned(), "dev".to_owned())));
    let LogSource::Journal(journal) = &config.jobs[1].source else { panic!("the journal") };
    let labels = journal.labels.to_string();
    assert_eq!(labels, r#"{component="j", job="loki.source.journal.read"}"#);
    assert_eq!((config.jobs[1].relabel.len(), journal.max_age.as_secs()), (1, 43_200));
    let LogSource::Syslog(syslog) = &config.jobs[3].source else { panic!("syslog") };
    assert_eq!(syslog.transport, SyslogTransport::Udp);
    let LogSource::Docker(docker) = &config.jobs[4].source else { panic!("docker") };
    assert_eq!((docker.labels.get("app"), config.jobs[4].relabel.len()), (Some("docker"), 1));
    assert_eq!(config.sinks[0].url.reveal(), "http://loki/push");
    assert_eq!(config.sinks[0].tenant.as_deref(), Some("t"));
    assert!(!format!("{config:?}").contains("canary"));
    let told: Vec<(Severity, usize)> =
        loaded.warnings.iter().map(|one| (one.severity, one.line)).collect();
    assert_eq!(told, [(Severity::Warning, 2)]);
}

#[test]
fn targets_are_joined_and_relabeled() {
    let loaded = valid(&format!(
        "{WRITE}discovery.relabel \"d\" {{
  targets = array.concat([{{__path__ = \"/a\", n = 1}}], [{{__path__ = \"/b\", n = 2}}])
  rule {{
    source_labels = [\"n\"]
    regex = \"2\"
    action = \"drop\"
  }}
  rule {{
    source_labels = [\"__path__\"]
    target_label = \"from\"
  }}
}}
loki.source.file \"f\" {{
  targets = array.concat(discovery.relabel.d.output, [{{__path__ = \"/c\"}}])
  forward_to = [loki.write.w.receiver]
}}
"
    ));
    let LogSource::Files(files) = &loaded.config.jobs[0].source else { panic!("files") };
    let shown: Vec<String> =
        files.targets.iter().map(|target| format!("{}{}", target.path, target.labels)).collect();
    assert_eq!(shown, [r#"/a{from="/a", n="1"}"#, "/c{}"]);
}

#[test]
fn ways_part_and_equal_ones_are_one() {
    let file = |forward: &str| {
        format!(
            "{WRITE}loki.write \"x\" {{\n  endpoint {{\n    url = \"http://x/\"\n  }}\n}}\nloki.write \"y\" {{\n  \
             external_labels = {{y = \"1\"}}\n  endpoint {{\n    url = \"http://y/\"\n  }}\n}}\nloki.process \"p\" \
             {{\n  stage.docker {{}}\n  forward_to = [{forward}]\n}}\nloki.source.journal \"j\" {{\n  \
             forward_to = [loki.process.p.receiver]\n}}\n"
        )
    };
    let loaded = valid(&file("loki.write.w.receiver, loki.write.x.receiver"));
    let [route] = loaded.config.jobs[0].routes.as_slice() else { panic!("one way") };
    assert_eq!((route.steps.len(), route.sinks.as_slice()), (1, &[0, 1][..]));
    let loaded = valid(&file("loki.write.w.receiver, loki.write.y.receiver"));
    let [route] = loaded.config.jobs[0].routes.as_slice() else { panic!("one way") };
    let [RouteStep::Stages(_), RouteStep::Branches(ways)] = route.steps.as_slice() else {
        panic!("{:?}", route.steps)
    };
    assert_eq!((ways.len(), ways[0].sinks.as_slice(), ways[1].steps.len()), (2, &[0][..], 1));
}

#[test]
fn what_does_not_run_is_told_with_a_remedy() {
    let journal = "loki.source.journal \"j\" {\n  forward_to = [loki.write.w.receiver]\n}\n"
        .to_owned()
        + WRITE;
    for (more, severity, said, help) in [
        (
            "loki.source.kafka \"k\" {\n}\n",
            Severity::Mistake,
            "loki.source.kafka is not supported",
            "/loki/api/v1/push",
        ),
        (
            "otelcol.receiver.otlp \"o\" {\n}\n",
            Severity::Mistake,
            "the agent takes no OTLP",
            "4317",
        ),
        (
            "prometheus.scrape \"s\" {\n  targets = [{__address__ = \"a:1\"}]\n  forward_to = []\n}\n",
            Severity::Mistake,
            "samples of prometheus.scrape.s go nowhere",
            "prometheus.remote_write",
        ),
        ("loki.echo \"e\" { }\n", Severity::Warning, "lines are not printed", ""),
        (
            "discovery.consul \"k\" { }\n",
            Severity::Mistake,
            "discovery.consul is not supported",
            "local.file_match",
        ),
        (
            "loki.source.file \"f\" {\n  targets = [{a = \"b\"}]\n  forward_to = [loki.write.w.receiver]\n}\n",
            Severity::Mistake,
            "no label __path__",
            "add __path__",
        ),
        (
            "loki.source.file \"f\" {\n  targets = [{__path__ = \"/b\"}]\n  forward_to = []\n}\n",
            Severity::Mistake,
            "go nowhere",
            "loki.write",
        ),
        (
            "loki.process \"p\" {\n  forward_to = [loki.write.w.receiver]\n  stage.geoip {\n    db = \"x\"\n  }\n}\n",
            Severity::Mistake,
            "the stage geoip is not supported",
            "keep the address",
        ),
    ] {
        let loaded = valid(&format!("{more}{journal}"));
        let [one] = loaded.warnings.as_slice() else { panic!("{more}: {:?}", loaded.warnings) };
        assert_eq!(one.severity, severity, "{more}");
        assert!(one.message.contains(said), "{more}: {}", one.message);
        assert!(one.help.as_deref().unwrap_or_default().contains(help), "{more}: {:?}", one.help);
        assert!(one.line >= 1, "{more}");
    }
}

#[test]
fn faults_have_their_place() {
    for (text, line, said) in [
        (
            "loki.proces \"p\" {\n}\n",
            1,
            "cannot find the definition of component name \"loki.proces\"",
        ),
        ("a = 1\n", 1, "unrecognized attribute name \"a\""),
        ("loki.write {\n}\n", 1, "component \"loki.write\" must have a label"),
        (
            "loki.write \"a\" {\n}\nloki.write \"a\" {\n}\n",
            3,
            "block loki.write.a already declared",
        ),
        ("declare \"x\" {\n}\n", 1, "declare is not supported"),
        ("loki.process \"p\" {\n}\n", 1, "missing required attribute \"forward_to\""),
        (
            "loki.process \"p\" {\n  forward_to = [loki.write.nosuch.receiver]\n}\n",
            2,
            "component \"loki.write.nosuch.receiver\" does not exist or is out of scope",
        ),
        ("loki.process \"p\" {\n  forward_to = [\"x\"]\n}\n", 2, "a string takes no lines"),
        (
            "loki.process \"p\" {\n  forward_to = []\n  stage.json {\n    expresions = {a = \"\"}\n  }\n}\n",
            4,
            "field expresions not found in type stage",
        ),
        (
            "loki.process \"p\" {\n  forward_to = []\n  stage.jsn {\n  }\n}\n",
            3,
            "Unknown stage type: jsn",
        ),
        (
            "loki.process \"p\" {\n  forward_to = []\n  stage.output {\n    source = loki.process.p.receiver\n  }\n}\n",
            4,
            "loki.process.p.receiver cannot stand here",
        ),
        ("loki.write \"w\" {\n  endpoint {\n    url = \"x\"\n  }\n}\n", 3, "URL scheme must be"),
        (
            "loki.process \"a\" {\n  forward_to = [loki.process.b.receiver]\n}\nloki.process \"b\" {\n  \
             forward_to = [loki.process.a.receiver]\n}\nloki.source.journal \"j\" {\n  forward_to = \
             [loki.process.a.receiver]\n}\n",
            2,
            "lines go in a circle",
        ),
        (
            "loki.source.syslog \"s\" {\n  forward_to = []\n  listener {\n    protocol = \"sctp\"\n  }\n}\n",
            4,
            "missing required attribute \"address\"",
        ),
    ] {
        let faults = load(text).expect_err(text);
        let found = faults.iter().find(|one| one.message.contains(said));
        let one = found.unwrap_or_else(|| panic!("{text}\n{}", faults.render()));
        assert_eq!(one.line, line, "{text}: {one}");
    }
}

#[test]
fn passwords_are_not_shown() {
    let text = "loki.write \"w\" {\n  endpoint {\n    url = \"http://h/\"\n    basic_auth {\n      password = \
                \"canary\" nosuch\n    }\n  }\n}\n";
    let faults = load(text).expect_err("a fault of form");
    assert!(!faults.render().contains("canary"), "{}", faults.render());
}

#[test]
fn what_is_scraped_becomes_jobs() {
    let loaded = valid(
        "discovery.dns \"d\" {
  names = [\"_metrics._tcp.example.com\"]
}
discovery.relabel \"d\" {
  targets = discovery.dns.d.targets
  rule {
    target_label = \"zone\"
    replacement  = \"a\"
  }
}
prometheus.exporter.unix \"host\" { }
prometheus.scrape \"s\" {
  targets = concat(
    [{__address__ = \"a:1\", service = \"x\"}, {__address__ = \"a:2\"}],
    discovery.relabel.d.output,
    prometheus.exporter.unix.host.targets,
  )
  scrape_interval          = \"15s\"
  scrape_fallback_protocol = \"PrometheusText0.0.4\"
  basic_auth {
    username = \"u\"
    password = \"p\"
  }
  clustering {
    enabled = true
  }
  forward_to = [prometheus.relabel.r.receiver]
}
prometheus.relabel \"r\" {
  rule {
    action        = \"drop\"
    source_labels = [\"__name__\"]
    regex         = \"go_.*\"
  }
  forward_to = [prometheus.remote_write.w.receiver]
}
prometheus.remote_write \"w\" {
  external_labels = {cluster = \"c\"}
  endpoint {
    url = \"http://mimir/api/v1/push\"
  }
}
",
    );
    let [fixed, found] = loaded.metrics.scrape_configs.as_slice() else { panic!("{loaded:?}") };
    assert_eq!(
        (&*fixed.job_name, &*found.job_name),
        ("prometheus.scrape.s", "prometheus.scrape.s-2")
    );
    assert_eq!(fixed.scrape_interval, Duration::from_secs(15));
    assert_eq!(fixed.http.basic_auth.as_ref().map(|auth| &*auth.username), Some("u"));
    assert!(fixed.fallback_scrape_protocol.is_some());
    let [Discovery::Static(groups)] = fixed.discovery.as_slice() else { panic!("{fixed:?}") };
    assert_eq!(groups[0].targets.len(), 2);
    assert_eq!((fixed.metric_relabel_configs.len(), fixed.relabel_configs.len()), (1, 0));
    let [Discovery::Dns(dns)] = found.discovery.as_slice() else { panic!("{found:?}") };
    assert_eq!((dns.names.len(), found.relabel_configs.len()), (1, 1));
    assert_eq!(loaded.metrics.external_labels.get("cluster"), Some("c"));
    let told: Vec<&str> = loaded.warnings.iter().map(|one| one.message.as_str()).collect();
    assert_eq!(told.len(), 2, "{told:?}");
}

#[test]
fn pods_are_read_by_their_files() {
    let loaded = valid(
        "discovery.kubernetes \"pods\" {
  role = \"pod\"
  namespaces {
    names = [\"shop\"]
  }
}
discovery.relabel \"pods\" {
  targets = discovery.kubernetes.pods.targets
  rule {
    source_labels = [\"__meta_kubernetes_pod_uid\", \"__meta_kubernetes_pod_container_name\"]
    separator     = \"/\"
    replacement   = \"/data/pods/*$1/*.log\"
    target_label  = \"__path__\"
  }
}
local.file_match \"pods\" {
  path_targets = discovery.relabel.pods.output
}
loki.source.file \"files\" {
  targets    = local.file_match.pods.targets
  forward_to = [loki.write.w.receiver]
}
loki.source.kubernetes \"api\" {
  targets    = discovery.kubernetes.pods.targets
  forward_to = [loki.write.w.receiver]
}
loki.write \"w\" { }
",
    );
    let [files, api] = loaded.config.jobs.as_slice() else { panic!("{loaded:?}") };
    let (LogSource::Pods(first), LogSource::Pods(second)) = (&files.source, &api.source) else {
        panic!("{loaded:?}")
    };
    assert_eq!((first.directory.to_str(), files.relabel.len()), (Some("/data/pods"), 1));
    assert_eq!(first.namespaces, ["shop"]);
    assert_eq!((second.directory.to_str(), api.relabel.len()), (Some("/var/log/pods"), 0));
    assert_eq!(loaded.warnings, []);
}
