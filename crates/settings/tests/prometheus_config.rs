//! Prometheus' configuration: defaults, inheritance, secrets, included files, and that nothing
//! panics.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use settings::prometheus::{
    Config, Discovery, DnsRecordType, Loaded, NameEscaping, ScrapeProtocol, Surroundings,
};
use settings::{Faults, NameValidation, Severity};

struct Files(BTreeMap<PathBuf, Vec<u8>>);

impl Files {
    fn new(files: &[(&str, &str)]) -> Files {
        Files(files.iter().map(|(path, text)| (path.into(), text.as_bytes().to_vec())).collect())
    }
}

impl Surroundings for Files {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.get(path).cloned().ok_or(io::ErrorKind::NotFound.into())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let inside = self.0.keys().filter(|path| path.parent() == Some(directory));
        Ok(inside.map(|path| path.file_name().expect("a file").to_string_lossy().into()).collect())
    }

    fn variable(&self, name: &str) -> Option<String> {
        (name == "HOME_CITY").then(|| "杭州".to_owned())
    }
}

fn load_bytes(yaml: &[u8]) -> Result<Loaded, Faults> {
    let files = Files([(PathBuf::from("/etc/p/prometheus.yml"), yaml.to_vec())].into());
    Config::load(Path::new("/etc/p/prometheus.yml"), &files)
}

fn load(yaml: &str) -> Loaded {
    load_bytes(yaml.as_bytes()).unwrap_or_else(|faults| panic!("{}", faults.render()))
}

fn refused(yaml: &str) -> String {
    load_bytes(yaml.as_bytes()).expect_err(yaml).render()
}

const JOB: &str = "scrape_configs:\n  - job_name: j\n";

#[test]
fn an_empty_file_has_every_default() {
    for yaml in ["", "# nothing\n", "global:\nscrape_configs:\n", "global: {}\n"] {
        assert_eq!(load(yaml).config, Config::default(), "{yaml}");
    }
    let config = load(JOB).config;
    let job = &config.scrape_configs[0];
    assert_eq!(job.scrape_interval, Duration::from_secs(60));
    assert_eq!(job.scrape_timeout, Duration::from_secs(10));
    assert_eq!((job.metrics_path.as_str(), job.scheme.as_str()), ("/metrics", "http"));
    assert!(job.honor_timestamps && job.enable_compression && job.http.follow_redirects);
    assert!(!job.honor_labels && !job.scrape_native_histograms);
    assert_eq!(job.scrape_protocols, ScrapeProtocol::DEFAULT);
    assert_eq!(job.metric_name_escaping_scheme, NameEscaping::AllowUtf8);
}

#[test]
fn a_job_inherits_what_it_does_not_say() {
    let config = load(
        "global:\n  scrape_interval: 30s\n  scrape_timeout: 20s\n  sample_limit: 7\n  \
         body_size_limit: 1MB\n  scrape_native_histograms: true\n  extra_scrape_metrics: true\n  \
         metric_name_validation_scheme: legacy\n  scrape_failure_log_file: f.log\n\
         scrape_configs:\n  - job_name: a\n  - job_name: b\n    scrape_interval: 5s\n    \
         sample_limit: 9\n    scrape_native_histograms: false\n    \
         metric_name_validation_scheme: utf8\n",
    )
    .config;
    let [a, b] = config.scrape_configs.as_slice() else { panic!("two jobs") };
    assert_eq!(
        (a.scrape_interval, a.scrape_timeout),
        (Duration::from_secs(30), Duration::from_secs(20))
    );
    // A timeout longer than the job's own interval shrinks with it.
    assert_eq!(
        (b.scrape_interval, b.scrape_timeout),
        (Duration::from_secs(5), Duration::from_secs(5))
    );
    assert_eq!((a.sample_limit, b.sample_limit, a.body_size_limit), (7, 9, 1 << 20));
    assert_eq!(a.scrape_protocols, ScrapeProtocol::DEFAULT_WITH_NATIVE_HISTOGRAMS);
    assert_eq!(b.scrape_protocols, ScrapeProtocol::DEFAULT);
    assert!(a.extra_scrape_metrics && b.extra_scrape_metrics);
    assert_eq!(a.metric_name_validation_scheme, NameValidation::Legacy);
    assert_eq!(a.metric_name_escaping_scheme, NameEscaping::Underscores);
    assert_eq!(b.metric_name_escaping_scheme, NameEscaping::AllowUtf8);
    assert_eq!(a.scrape_failure_log_file.as_deref(), Some(Path::new("/etc/p/f.log")));
}

#[test]
fn null_resets_a_key_as_in_go() {
    let yaml = format!("{JOB}    honor_timestamps:\n    scheme: ~\n    scrape_interval: null\n");
    let job = &load(&yaml).config.scrape_configs[0];
    assert!(!job.honor_timestamps);
    assert_eq!((job.scheme.as_str(), job.scrape_interval), ("", Duration::from_secs(60)));
}

#[test]
fn discovery_is_typed_and_paths_are_joined() {
    let yaml = format!(
        "{JOB}    static_configs:\n      - targets: ['a:1', 'b:2']\n        labels: {{x: y}}\n    \
         file_sd_configs:\n      - files: [t/*.yml, /abs/t.json]\n        refresh_interval: 1m\n    \
         dns_sd_configs:\n      - names: [n]\n        type: aaaa\n        port: 9100\n    \
         http_sd_configs:\n      - url: https://u:canary@h/x\n    consul_sd_configs: [{{}}]\n"
    );
    let loaded = load(&yaml);
    let found = &loaded.config.scrape_configs[0].discovery;
    let [
        Discovery::Static(groups),
        Discovery::File(file),
        Discovery::Http(http),
        Discovery::Dns(dns),
        Discovery::Unsupported { key },
    ] = found.as_slice()
    else {
        panic!("{found:?}");
    };
    assert_eq!((groups.len(), groups[0].targets.len()), (1, 2));
    assert_eq!(groups[0].labels.to_string(), r#"{x="y"}"#);
    assert_eq!(file.files, ["/etc/p/t/*.yml", "/abs/t.json"]);
    assert_eq!(file.refresh_interval, Duration::from_secs(60));
    assert_eq!((http.url.scheme(), http.url.host()), ("https", "h"));
    assert_eq!((dns.record_type, dns.port), (DnsRecordType::Aaaa, 9100));
    assert_eq!(*key, "consul_sd_configs");
    assert!(
        loaded.warnings.iter().any(|w| w.message.contains("consul_sd_configs") && w.line == 15)
    );
    assert!(!format!("{loaded:?}").contains("canary"));
}

#[test]
fn secrets_never_show() {
    let yaml = "scrape_configs:\n  - job_name: a\n    basic_auth: {username: u, password: canary}\n    \
                http_headers:\n      X-a: {secrets: [canary, \"canary\"]}\n    \
                proxy_url: http://u:canary@proxy:3128\n    proxy_connect_header: {X: [canary]}\n  \
                - job_name: b\n    authorization:\n      credentials: |\n        canary\n        \
                canary\n    tls_config: {cert: c, key: 'canary'}\n  - job_name: c\n    \
                consul_sd_configs: [{token: canary}]\n    bearer_token: canary\n  - job_name: d\n    \
                oauth2: {client_id: i, client_secret: &s canary, token_url: u, \
                client_certificate_key: *s}\n";
    let loaded = load(yaml);
    assert!(!loaded.redacted.contains("canary"), "{}", loaded.redacted);
    assert!(!format!("{loaded:?}").contains("canary"));
    assert!(loaded.redacted.contains("http://u:xxxxx@proxy:3128"), "{}", loaded.redacted);
    // What is shown is still the same configuration.
    let again = load(&loaded.redacted).config;
    assert_eq!(again.scrape_configs.len(), 4);
    assert_eq!(again.scrape_configs[0].basic_auth_user(), "u");
    // Every fault on a line with a secret.
    for wrong in ["passwrd: canary", "password: canary\n      nope: 1", "password: [canary]"] {
        let yaml = format!("{JOB}    basic_auth:\n      {wrong}\n");
        let faults = load_bytes(yaml.as_bytes()).expect_err(wrong);
        assert!(!faults.render().contains("canary"), "{}", faults.render());
        assert!(!faults.to_string().contains("canary"), "{faults}");
    }
}

trait User {
    fn basic_auth_user(&self) -> &str;
}

impl User for settings::prometheus::ScrapeConfig {
    fn basic_auth_user(&self) -> &str {
        self.http.basic_auth.as_ref().map_or("", |auth| &auth.username)
    }
}

#[test]
fn external_labels_take_the_environment() {
    let loaded =
        load("global:\n  external_labels: {city: '${HOME_CITY}!', d: '$$', e: 'x$NOPE'}\n");
    assert_eq!(loaded.config.global.external_labels.to_string(), r#"{city="杭州!", d="$", e="x"}"#);
    assert!(loaded.warnings.iter().any(|w| w.message.contains("NOPE")));
}

#[test]
fn jobs_of_other_files_are_added_and_checked() {
    let main =
        "scrape_config_files: [more/*.yml, none.yml, n*.yml]\nscrape_configs: [{job_name: a}]\n";
    let good =
        "scrape_configs:\n  - job_name: b\n    basic_auth: {username: u, password_file: pw}\n";
    let files = Files::new(&[("c/p.yml", main), ("c/more/b.yml", good)]);
    let loaded = Config::load(Path::new("c/p.yml"), &files).expect("valid");
    let jobs: Vec<&str> =
        loaded.config.scrape_configs.iter().map(|j| j.job_name.as_str()).collect();
    assert_eq!(jobs, ["a", "b"]);
    let auth = loaded.config.scrape_configs[1].http.basic_auth.as_ref().expect("set");
    assert_eq!(auth.password_file.as_deref(), Some(Path::new("c/more/pw")));
    assert_eq!(loaded.files, [PathBuf::from("c/p.yml"), PathBuf::from("c/more/b.yml")]);
    let severities: Vec<Severity> = loaded.warnings.iter().map(|w| w.severity).collect();
    assert_eq!(severities, [Severity::Mistake, Severity::Warning]);
    let closely = loaded.check(&files);
    assert_eq!(closely.len(), 1);
    assert!(closely[0].render().starts_with("c/more/b.yml:3:46: mistake: \"c/more/pw\" cannot"));

    let bad = "scrape_configs:\n  - job_name: a\n  - job_name: c\n    scrape_interval: 1\n";
    let files = Files::new(&[("c/p.yml", main), ("c/more/b.yml", good), ("c/more/d.yml", bad)]);
    let shown = Config::load(Path::new("c/p.yml"), &files).expect_err("two faults").render();
    assert!(shown.contains("c/more/d.yml:4:22: error: not a valid duration"), "{shown}");
    assert!(
        shown.contains("c/more/d.yml:2:15: error: found multiple scrape configs with job name \"a\", first found in main config file"),
        "{shown}"
    );
}

#[test]
fn files_that_are_named_are_looked_at() {
    let main = "rule_files: [r.yml, more/*.yml]\nscrape_configs:\n  - job_name: a\n    \
                file_sd_configs: [{files: [good.json, bad.yml, none.yml]}]\n    \
                tls_config: {ca_file: ca.pem}\n";
    let files = Files::new(&[
        ("p.yml", main),
        ("./good.json", r#"[{"targets": ["a:1"]}]"#),
        ("good.json", r#"[{"targets": ["a:1"]}]"#),
        ("./bad.yml", "- targets: a\n"),
        ("bad.yml", "- targets: a\n"),
    ]);
    let loaded = Config::load(Path::new("p.yml"), &files).expect("valid");
    let found: Vec<String> = loaded.check(&files).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "p.yml:1:14: \"r.yml\" does not point to an existing file",
            "p.yml:5:27: \"ca.pem\" cannot be read: entity not found",
            "bad.yml:1:12: cannot unmarshal !!str `a` into a list",
            "p.yml:4:52: \"none.yml\" matches no file",
        ]
    );
}

#[test]
fn a_slip_is_named_with_what_was_meant() {
    for (yaml, place, help) in [
        ("globl: {}\n", "1:1: error: field globl not found in type config.plain", "`global`"),
        ("scrape_configs:\n  - job: a\n", "2:5: error: field job not found", "`job_name`"),
        (
            "rule_files: a.yml\n",
            "1:13: error: cannot unmarshal !!str `a.yml` into a list",
            "- item",
        ),
        ("global: [a]\n", "1:9: error: cannot unmarshal !!seq into config.plain", "mapping"),
        (
            "global: {sample_limit: -1}\n",
            "1:24: error: cannot unmarshal !!int `-1` into uint",
            "0 or more",
        ),
        (
            "global: {sample_limit: '5'}\n",
            "1:24: error: cannot unmarshal !!str `5` into uint",
            "without quotes",
        ),
        (
            "global: {body_size_limit: 15mb}\n",
            "1:27: error: units: unknown unit mb",
            "did you mean 15MB?",
        ),
        (
            "global: {scrape_interval: 15}\n",
            "1:27: error: not a valid duration",
            "did you mean 15s?",
        ),
    ] {
        let shown = refused(yaml);
        assert!(shown.contains(&format!("/etc/p/prometheus.yml:{place}")), "{shown}");
        assert!(shown.contains(help), "{shown}");
    }
}

#[test]
fn anchors_and_merges_work() {
    let config = load(
        "scrape_configs:\n  - &base\n    job_name: a\n    scrape_interval: 5s\n    static_configs: \
         [{targets: ['h:1']}]\n  - <<: *base\n    job_name: b\n  - job_name: c\n    <<: [*base]\n    \
         scrape_interval: 7s\n",
    )
    .config;
    let intervals: Vec<(&str, u64)> = config
        .scrape_configs
        .iter()
        .map(|job| (job.job_name.as_str(), job.scrape_interval.as_secs()))
        .collect();
    assert_eq!(intervals, [("a", 5), ("b", 5), ("c", 7)]);
    assert!(config.scrape_configs.iter().all(|job| job.discovery.len() == 1));
}

#[test]
fn a_target_that_relabeling_cannot_save_is_a_mistake() {
    let rules = "    relabel_configs:\n      - {source_labels: [__address__], target_label: x}\n";
    let targets = "    static_configs:\n      - targets: ['http://h/m']\n";
    let loaded = load(&format!("{JOB}{rules}{targets}"));
    let mistake = loaded.warnings.iter().find(|w| w.severity == Severity::Mistake).expect("one");
    assert_eq!((mistake.line, mistake.column), (6, 19));
    let blackbox = "    relabel_configs:\n      - {source_labels: [__address__], target_label: \
                    __param_target}\n      - {target_label: __address__, replacement: 'bb:9115'}\n";
    assert_eq!(load(&format!("{JOB}{blackbox}{targets}")).warnings, []);
}

#[test]
fn what_cannot_work_is_told() {
    for (keys, severity, said) in [
        ("    scheme: htps\n", Severity::Mistake, "no target can be scraped by \"htps\""),
        ("    tls_config: {max_version: TLS11}\n", Severity::Mistake, "no connection"),
        ("    tls_config: {min_version: TLS10}\n", Severity::Warning, "the lowest version"),
    ] {
        let loaded = load(&format!("{JOB}{keys}"));
        let [warning] = loaded.warnings.as_slice() else { panic!("{:?}", loaded.warnings) };
        assert_eq!((warning.severity, warning.line), (severity, 3));
        assert!(warning.message.contains(said), "{}", warning.render());
    }
    let rule = "    relabel_configs: [{target_label: __scheme__, replacement: http}]\n";
    assert_eq!(load(&format!("{JOB}    scheme: ''\n{rule}")).warnings, []);
}

#[test]
fn remotes_are_judged() {
    let remote = |keys: &str| format!("remote_write:\n- url: http://h/w\n{keys}");
    assert_eq!(load(&remote("  queue_config: {max_shards: 2}\n")).warnings, []);
    for (yaml, severity, said) in [
        ("remote_write:\n- url: h/w\n".to_owned(), Severity::Mistake, "no scheme http or https"),
        (remote("  round_robin_dns: true\n"), Severity::Warning, "round_robin_dns has no effect"),
        (remote("  sigv4: {}\n"), Severity::Warning, "sigv4 is not supported"),
        (remote("  azuread: {cloud: x}\n"), Severity::Warning, "azuread is not supported"),
        (remote("  google_iam: {}\n"), Severity::Warning, "google_iam is not supported"),
    ] {
        let loaded = load(&yaml);
        let [warning] = loaded.warnings.as_slice() else { panic!("{:?}", loaded.warnings) };
        assert_eq!(warning.severity, severity, "{}", warning.render());
        assert!(warning.message.contains(said), "{}", warning.render());
    }
    let twice = refused(&remote("- url: http://h/w\n"));
    assert!(twice.contains("duplicate remote write configs are not allowed"), "{twice}");
    // The same place under two names is two remotes.
    assert_eq!(load(&remote("- {url: 'http://h/w', name: other}\n")).warnings, []);
}

const SAMPLE: &str = include_str!("sample.yml");

#[test]
fn the_sample_is_valid() {
    let loaded = load(SAMPLE);
    assert_eq!(loaded.config.scrape_configs.len(), 3);
}

proptest! {
    /// Cutting, doubling and exchanging parts of a good file reaches deep into the readers.
    #[test]
    fn damaged_files_never_panic(
        cuts in prop::collection::vec((0_usize..4_000, 0_usize..4_000), 1..4),
        noise in "[-:?&*!|>%\"'{}\\[\\], \n~a0]{0,6}",
    ) {
        let mut text = SAMPLE.to_owned();
        for (from, to) in cuts {
            let (from, to) = (from % text.len().max(1), to % text.len().max(1));
            let (from, to) = (text.floor_char_boundary(from.min(to)), text.floor_char_boundary(from.max(to)));
            if to - from < 60 {
                text.replace_range(from..to, &noise);
            } else {
                text.insert_str(to, &noise);
            }
        }
        match load_bytes(text.as_bytes()) {
            Ok(loaded) => for warning in loaded.warnings { warning.render(); },
            Err(faults) => drop(faults.render()),
        }
    }

    /// Any value anywhere.
    #[test]
    fn odd_values_never_panic(value in "[-:&*!|>%\"'{}\\[\\], ~a0.é]{0,12}", at in 0_usize..80) {
        let mut lines: Vec<String> = SAMPLE.lines().map(str::to_owned).collect();
        let at = at % lines.len();
        if let Some((key, _)) = lines[at].split_once(':') {
            lines[at] = format!("{key}: {value}");
        }
        match load_bytes(lines.join("\n").as_bytes()) {
            Ok(loaded) => drop(loaded),
            Err(faults) => drop(faults.render()),
        }
    }
}

#[test]
fn what_follows_a_secret_of_several_lines_stays() {
    let yaml = "scrape_configs:\n- job_name: a\n  authorization:\n    credentials: |\n      \
                canary\n      lines\n\n  proxy_url: http://u:canary@proxy:1/\n";
    let shown = "scrape_configs:\n- job_name: a\n  authorization:\n    credentials: |\n      \
                 <secret>\n\n  proxy_url: \"http://u:xxxxx@proxy:1/\"\n";
    assert_eq!(load(yaml).redacted, shown);
    assert_eq!(load(shown).redacted, shown);
}

#[test]
fn a_redacted_text_loads_however_a_secret_is_written() {
    for (key, value) in [
        ("bearer_token", "canary"),
        ("bearer_token", "!!str canary"),
        ("bearer_token", "!!binary Y2FuYXJ5"),
        ("bearer_token", "&anchor \"can\\\n     ary\""),
        ("bearer_token", "!!str"),
        ("bearer_token", "|"),
        ("bearer_token", "| \n    "),
        ("bearer_token", ">+\n    \n    canary\n"),
        ("bearer_token", ">+\n    \n"),
        ("bearer_token", "canary\u{a0}\u{2028}"),
        ("proxy_url", "http://u:canary@h\u{2028}\u{85}"),
        ("proxy_url", "\"http://u:canary@h/\\u00a0\\ufeff\u{1f525}\""),
        ("proxy_url", "!!binary aHR0cDovL3U6Y2FuYXJ5QGg="),
    ] {
        let before = "scrape_configs:\n- job_name: a\n";
        let yaml = format!("{before}  {key}: {value}\n  scheme: https\n");
        let redacted = load(&yaml).redacted;
        for secret in ["canary", "Y2FuYXJ5", "aHR0cDovL3U6Y2FuYXJ5QGg="] {
            assert!(!redacted.contains(secret), "{yaml:?}: {redacted:?}");
        }
        assert_eq!(load(&redacted).redacted, redacted, "{yaml:?}");
        assert!(redacted.ends_with("\n  scheme: https\n"), "{yaml:?}: {redacted:?}");
    }
}
