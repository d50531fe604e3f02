//! Promtail's files: what they are read as, and what is said about them.

use std::path::Path;
use std::time::Duration;

use super::promtail::parse;
use super::stage::Stage;
use super::{LoadedLogs, LogSource, RouteStep, SyslogTransport};
use crate::{Faults, Severity};

fn load(yaml: &str) -> Result<LoadedLogs, Faults> {
    parse("p.yml", yaml.as_bytes(), Path::new("/etc/promtail"), true, &|_| Ok(()))
}

fn valid(yaml: &str) -> LoadedLogs {
    load(yaml).unwrap_or_else(|faults| panic!("{}", faults.render()))
}

fn told(loaded: &LoadedLogs) -> Vec<(Severity, usize, &str)> {
    loaded.warnings.iter().map(|one| (one.severity, one.line, one.message.as_str())).collect()
}

/// The example of Promtail's own package, and what its manual shows.
#[test]
fn a_usual_file_is_read() {
    let loaded = valid(
        "server:
  http_listen_port: 9080
positions:
  filename: /tmp/positions.yaml
clients:
- url: http://localhost:3100/loki/api/v1/push
  tenant_id: t
  external_labels: {cluster: c}
  backoff_config: {max_retries: 3, min_period: 1s}
scrape_configs:
- job_name: system
  static_configs:
  - targets: [localhost]
    labels: {job: varlogs, __path__: /var/log/*log, __path_exclude__: /var/log/x.log}
  pipeline_stages:
  - cri: {}
  - match:
      selector: '{job=\"varlogs\"}'
      stages:
      - regex: {expression: '(?P<a>.)'}
- job_name: journal
  journal: {max_age: 12h, labels: {job: systemd-journal}, path: journal, matches: _TRANSPORT=kernel}
  relabel_configs:
  - source_labels: [__journal__systemd_unit]
    target_label: unit
- job_name: syslog
  syslog: {listen_address: '0.0.0.0:1514', listen_protocol: udp, idle_timeout: 60s, label_structured_data: yes}
- job_name: docker
  docker_sd_configs:
  - {host: 'unix:///var/run/docker.sock', refresh_interval: 5s, filters: [{name: name, values: [web]}]}
limits_config: {readline_rate_enabled: true, readline_rate: 5, readline_burst: 7, readline_rate_drop: false, max_line_size: 1KB}
target_config: {sync_period: 3s}
",
    );
    let config = &loaded.config;
    let names: Vec<&str> = config.jobs.iter().map(|job| job.name.as_str()).collect();
    assert_eq!(names, ["system", "journal", "syslog", "docker"]);
    let LogSource::Files(files) = &config.jobs[0].source else { panic!("files") };
    assert_eq!(files.targets.len(), 1);
    assert_eq!(files.targets[0].path, "/var/log/*log");
    assert_eq!(files.targets[0].exclude.as_deref(), Some("/var/log/x.log"));
    assert_eq!(files.targets[0].labels.to_string(), r#"{job="varlogs"}"#);
    assert_eq!(files.sync_period, Duration::from_secs(3));
    let steps = &config.jobs[0].routes[0].steps;
    let [RouteStep::Stages(stages), RouteStep::ExternalLabels(labels)] = steps.as_slice() else {
        panic!("{steps:?}")
    };
    assert!(
        matches!(stages.as_slice(), [Stage::Cri(_), Stage::Match(inner)] if inner.stages.len() == 1)
    );
    assert_eq!(labels.to_string(), r#"{cluster="c"}"#);
    let LogSource::Journal(journal) = &config.jobs[1].source else { panic!("the journal") };
    assert_eq!(journal.max_age, Duration::from_secs(12 * 3_600));
    assert_eq!(journal.path.as_deref(), Some(Path::new("/etc/promtail/journal")));
    assert_eq!(journal.matches, ["_TRANSPORT=kernel"]);
    assert_eq!(config.jobs[1].relabel.len(), 1);
    let LogSource::Syslog(syslog) = &config.jobs[2].source else { panic!("syslog") };
    assert_eq!((syslog.transport, syslog.max_message_bytes), (SyslogTransport::Udp, 8_192));
    assert!(syslog.label_structured_data && !syslog.use_incoming_timestamp);
    let LogSource::Docker(docker) = &config.jobs[3].source else { panic!("docker") };
    assert_eq!(docker.filters, [("name".to_owned(), vec!["web".to_owned()])]);
    assert_eq!(config.limits.rate, Some((5.0, 7)));
    assert!(!config.limits.drop_above_rate && config.limits.max_line_bytes == 1_024);
    assert_eq!(config.sinks[0].tenant.as_deref(), Some("t"));
    assert_eq!(config.sinks[0].min_backoff, Duration::from_secs(1));
    let lines: Vec<(Severity, usize)> =
        loaded.warnings.iter().map(|one| (one.severity, one.line)).collect();
    assert_eq!(lines, [1, 9].map(|line| (Severity::Warning, line)));
    assert_eq!(config.positions.as_deref(), Some(Path::new("/tmp/positions.yaml")));
}

#[test]
fn rules_see_the_labels_of_a_target_once() {
    let loaded = valid(
        "scrape_configs:
- job_name: a
  static_configs:
  - targets: [h1, h2]
    labels: {env: prod, __path__: /var/log/app.log}
  - labels: {env: test, __path__: /var/log/test.log}
  relabel_configs:
  - {source_labels: [__address__], target_label: host}
  - {source_labels: [env], regex: test, action: drop}
",
    );
    let LogSource::Files(files) = &loaded.config.jobs[0].source else { panic!("files") };
    let labels: Vec<String> = files.targets.iter().map(|t| t.labels.to_string()).collect();
    assert_eq!(labels, [r#"{env="prod", host="h1"}"#, r#"{env="prod", host="h2"}"#]);
}

#[test]
fn what_does_not_run_is_told_with_a_remedy() {
    for (yaml, severity, line, said, help) in [
        (
            "scrape_configs:\n- job_name: k\n  kafka: {topics: [a]}\n",
            Severity::Mistake,
            3,
            "kafka is not supported",
            "/loki/api/v1/push",
        ),
        (
            "scrape_configs:\n- job_name: k\n  kubernetes_sd_configs: [{role: node}]\n",
            Severity::Mistake,
            3,
            "role \"node\" finds no files",
            "role: pod",
        ),
        (
            "scrape_configs:\n- job_name: k\n  kubernetes_sd_configs: [{role: pod}]\n  relabel_configs: \
             [{source_labels: [__meta_kubernetes_pod_label_app], target_label: app}]\n",
            Severity::Warning,
            3,
            "__meta_kubernetes_pod_label_app of pods are empty",
            "labels and annotations are not",
        ),
        (
            "scrape_configs:\n- job_name: k\n  kubernetes_sd_configs: [{role: pod}]\n  relabel_configs: \
             [{source_labels: [__meta_kubernetes_pod_annotation_logs], regex: 'yes', action: keep}]\n",
            Severity::Mistake,
            3,
            "nothing is collected",
            "labels and annotations are not",
        ),
        (
            "scrape_configs:\n- job_name: k\n  consul_sd_configs: [{server: a}]\n",
            Severity::Mistake,
            3,
            "consul_sd_configs is not supported",
            "static_configs",
        ),
        (
            "scrape_configs:\n- job_name: k\n  static_configs: [{targets: [a], labels: {x: y}}]\n",
            Severity::Mistake,
            3,
            "no label __path__",
            "add __path__",
        ),
        (
            "scrape_configs:\n- job_name: k\n",
            Severity::Mistake,
            2,
            "has no source",
            "static_configs",
        ),
        (
            "scrape_configs:\n- job_name: k\n  pipeline_stages: [{geoip: {db: x}}]\n  journal: {}\n",
            Severity::Mistake,
            3,
            "the stage geoip is not supported and left out",
            "keep the address",
        ),
        (
            "wal: {enabled: true}\nscrape_configs: [{job_name: a, journal: {}}]\n",
            Severity::Warning,
            1,
            "wal has no effect",
            "",
        ),
        ("clients: []\n", Severity::Warning, 1, "nothing is collected", "static_configs"),
    ] {
        let loaded = valid(yaml);
        let [one] = loaded.warnings.as_slice() else { panic!("{yaml}: {:?}", told(&loaded)) };
        assert_eq!((one.severity, one.line), (severity, line), "{yaml}");
        assert!(one.message.contains(said), "{yaml}: {}", one.message);
        assert!(one.help.as_deref().unwrap_or_default().contains(help), "{yaml}: {:?}", one.help);
    }
}

#[test]
fn faults_have_their_place() {
    for (yaml, line, said) in [
        ("scrape_config: []\n", 1, "field scrape_config not found"),
        ("scrape_configs:\n- static_configs: []\n", 2, "job_name is empty"),
        ("clients:\n- url: ftp://x\n", 2, "URL scheme must be"),
        ("clients:\n- {}\n", 2, "client needs target URL"),
        ("clients:\n- {url: 'http://h', batchwait: 1}\n", 2, "time: invalid duration"),
        ("scrape_configs:\n- job_name: a\n  syslog: {}\n", 3, "no listen address"),
        (
            "scrape_configs:\n- job_name: a\n  syslog: {listen_address: x, listen_protocol: sctp}\n",
            3,
            "unrecognized syslog protocol",
        ),
        (
            "scrape_configs:\n- job_name: a\n  journal: {matches: kernel}\n",
            3,
            "'matches' config value \"kernel\"",
        ),
        (
            "scrape_configs:\n- job_name: a\n  journal: {max_agee: 1h}\n",
            3,
            "field max_agee not found",
        ),
        (
            "scrape_configs:\n- job_name: a\n  decompression: {enabled: true, format: rar}\n  \
             static_configs: []\n",
            3,
            "is none of gz, z, bz2",
        ),
        (
            "scrape_configs:\n- job_name: a\n  docker_sd_configs: [{refresh_interval: 1s}]\n",
            3,
            "host missing",
        ),
    ] {
        let faults = load(yaml).expect_err(yaml);
        let one = faults.iter().next().expect("a fault");
        assert_eq!(one.line, line, "{yaml}: {one}");
        assert!(one.message.contains(said), "{yaml}: {one}");
    }
}

#[test]
fn passwords_are_not_shown() {
    let yaml = "clients:\n- url: http://user:canary@h/push\n  basic_auth: {username: u, password: canary}\n  \
                nosuch: 1\n";
    let faults = load(yaml).expect_err("an unknown key");
    assert!(!faults.render().contains("canary") && !format!("{faults:?}").contains("canary"));
    let loaded = valid(&yaml.replace("  nosuch: 1\n", ""));
    assert!(!format!("{:?}", loaded.config).contains("canary"), "{:?}", loaded.config);
}

#[test]
fn what_is_piped_in_passes_the_stages_of_the_first_job() {
    let loaded = valid(
        "target_config: {stdin: true}
scrape_configs:
- job_name: a
  pipeline_stages: [{docker: {}}]
  static_configs: [{labels: {job: x, __path__: /f}}]
- {job_name: b, journal: {}}
",
    );
    let [job] = loaded.config.jobs.as_slice() else { panic!("{:?}", loaded.config.jobs) };
    assert!(matches!(&job.source, LogSource::Stdin { labels } if labels.get("job") == Some("x")));
    assert_eq!(job.routes[0].steps, [RouteStep::Stages(vec![Stage::Docker])]);
}

#[test]
fn variables_are_put_in_where_that_is_asked_for() {
    struct Env;
    impl crate::prometheus::Surroundings for Env {
        fn read(&self, _: &Path) -> std::io::Result<Vec<u8>> {
            let text = "clients: [{url: 'http://h/p', name: '${HOST}', tenant_id: '${NONE:-d}'}]\nscrape_configs: \
                        [{job_name: '${1}', journal: {}}]\n";
            Ok(text.into())
        }
        fn list(&self, _: &Path) -> std::io::Result<Vec<String>> {
            Ok(Vec::new())
        }
        fn variable(&self, name: &str) -> Option<String> {
            (name == "HOST").then(|| "loki".to_owned())
        }
    }
    let load = |expand| super::promtail::load(Path::new("p.yml"), &Env, expand, &|_| Ok(()));
    let loaded = load(true).expect("valid");
    assert_eq!(loaded.config.sinks[0].name, "loki");
    assert_eq!(loaded.config.sinks[0].tenant.as_deref(), Some("d"));
    assert_eq!(loaded.config.jobs[0].name, "${1}");
    let loaded = load(false).expect("valid");
    assert!(loaded.warnings.iter().any(|one| one.message.contains("are not put in")));
}
