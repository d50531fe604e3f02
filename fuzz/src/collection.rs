//! Collection of lines: configurations of Promtail and Alloy, and stages at work.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use agent::logs::{Entries, Entry, LogStages, StageContext, Stages, check_stage};
use model::Labels;
use settings::logs::{LineLimits, LogRoute, LogsConfig, RouteStep, alloy, promtail};
use settings::prometheus::Surroundings;
use settings::yaml::Document;
use settings::{Diagnostic, Faults};
use wire::text_encode::TextEncoder;

use crate::configuration::check_faults;

struct Nowhere;

impl Surroundings for Nowhere {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn variable(&self, name: &str) -> Option<String> {
        (name == "A").then(|| "value".to_owned())
    }
}

/// Promtail's configuration: what loads can be run.
pub(crate) fn promtail_config(bytes: &[u8]) {
    let loaded = promtail::parse("fuzz.yml", bytes, Path::new("/d"), true, &check_stage);
    match loaded {
        Ok(loaded) => check(&loaded.config, &loaded.warnings),
        Err(faults) => check_faults(&faults, bytes),
    }
}

/// Alloy's configuration: what loads can be run.
pub(crate) fn alloy_config(bytes: &[u8]) {
    match alloy::parse("fuzz.alloy", bytes, Path::new("/d"), &Nowhere, &check_stage) {
        Ok(loaded) => check(&loaded.config, &loaded.warnings),
        Err(faults) => check_faults(&faults, bytes),
    }
}

fn check(config: &LogsConfig, warnings: &[Diagnostic]) {
    let _ = format!("{config:?}");
    for warning in warnings {
        let _ = warning.render();
    }
    let context = StageContext::new(&config.limits, Arc::default());
    for job in &config.jobs {
        assert!(!job.routes.is_empty(), "{} goes nowhere", job.name);
        match LogStages::new(&job.routes, &context) {
            Ok(stages) => drop(stages.start()),
            // Two metrics of one name may have two meanings; that shows only where they meet.
            Err(fault) => assert_eq!(fault.key, "name", "{}", fault.message),
        }
    }
}

/// Counts what comes out and keeps nothing.
#[derive(Default)]
struct Seen {
    lines: usize,
    bytes: usize,
}

impl Entries for Seen {
    fn take(&mut self, entry: &Entry) {
        assert!(entry.labels.iter().all(|(_, value)| !value.is_empty()));
        self.lines += 1;
        self.bytes += entry.line.len();
    }
}

/// Stages as YAML, a line `---`, and the lines they work on. Nothing is held at the end.
pub(crate) fn log_stages(bytes: &[u8]) {
    let cut = bytes.windows(5).position(|window| window == b"\n---\n");
    let (yaml, lines) = match cut {
        Some(at) => (&bytes[..at], &bytes[at + 5..]),
        None => {
            (&b"- cri: {}\n- json: {expressions: {a: , b: 'c[0].d'}}\n- labels: {a: }"[..], bytes)
        }
    };
    let mut text = b"stages:\n".to_vec();
    text.extend_from_slice(yaml);
    let Ok(document) = Document::parse("fuzz.yml", &text) else { return };
    let stages: Result<_, Faults> = promtail::parse_stages(&document, "stages", &check_stage);
    let Ok((stages, _)) = stages else { return };
    let context = StageContext::new(&LineLimits::default(), Arc::default());
    let routes = [LogRoute { steps: vec![RouteStep::Stages(stages)], sinks: Vec::new() }];
    let Ok(stages) = LogStages::new(&routes, &context) else { return };
    let mut pipeline = stages.start();
    let labels = Labels::from_pairs([("job", "j"), ("filename", "/f")]).expect("valid");
    let (mut seen, mut entry, now) = (Seen::default(), Entry::default(), Instant::now());
    for (offset, line) in lines.split(|byte| *byte == b'\n').enumerate() {
        entry.begin(offset as u64, 1_700_000_000_000_000_000, &labels, line);
        pipeline.process(&mut entry, now, &mut seen);
    }
    let mut held = Vec::new();
    pipeline.held(&mut held);
    assert!(held.iter().all(|offset| *offset < lines.len() as u64 + 1));
    pipeline.flush(None, &mut seen);
    held.clear();
    pipeline.held(&mut held);
    assert!(held.is_empty(), "{held:?} are held though nothing follows");
    let mut page = Vec::new();
    context.counters().render(&mut TextEncoder::new(&mut page));
}

fn texts(seeds: &[&str]) -> Vec<Vec<u8>> {
    seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect()
}

pub(crate) fn promtail_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "server: {http_listen_port: 9080}\npositions: {filename: /p}\nclients:\n- {url: 'http://h/p', \
         external_labels: {a: b}, basic_auth: {username: u, password: p}}\nscrape_configs:\n- job_name: a\n  \
         static_configs:\n  - targets: [localhost]\n    labels: {job: x, __path__: /var/log/*.log}\n  \
         relabel_configs: [{source_labels: [job], target_label: b}]\n  pipeline_stages:\n  - cri: {}\n  - \
         match: {selector: '{job=\"x\"} |= \"y\"', stages: [{json: {expressions: {a: }}}]}\n- job_name: j\n  \
         journal: {max_age: 1h, labels: {job: j}}\n- job_name: s\n  syslog: {listen_address: ':1'}\n\
         limits_config: {readline_rate_enabled: true}\n",
    ])
}

pub(crate) fn alloy_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "local.file_match \"f\" {\n path_targets = [{__path__ = \"/v/*.log\", \"job\" = \"a\"}]\n}\n\
         loki.source.file \"f\" {\n targets = local.file_match.f.targets\n forward_to = \
         [loki.process.p.receiver]\n}\nloki.process \"p\" {\n stage.json {\n expressions = {a = \"\", b = `x[0]`}\n \
         }\n stage.match {\n selector = \"{a=\\\"b\\\"}\"\n stage.drop {\n expression = \".*\"\n }\n }\n \
         forward_to = [loki.relabel.r.receiver]\n}\nloki.relabel \"r\" {\n rule {\n action = \"labeldrop\"\n \
         regex = \"x\"\n }\n forward_to = [loki.write.w.receiver]\n}\n/* c */\nloki.write \"w\" {\n endpoint {\n \
         url = coalesce(sys.env(\"A\"), \"http://h\" + \"/p\")\n }\n external_labels = {n = \
         string.format(\"%s\", \"x\")}\n}\n// end\n",
    ])
}

pub(crate) fn stage_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "- docker: {}\n- multiline: {firstline: '^\\d', max_lines: 3}\n- regex: {expression: \
         '(?P<w>\\w+) (?P<t>\\S+)'}\n- timestamp: {source: t, format: RFC3339, fallback_formats: [Unix]}\n- labels: \
         {w: }\n---\n{\"log\":\"1 a\\n\",\"stream\":\"stdout\",\"time\":\"2024-01-02T03:04:05Z\"}\nmore\n2 b\n",
        "- cri: {max_partial_lines: 1}\n- logfmt: {mapping: {l: level}}\n- template: {source: l, template: '{{ \
         .Value | ToUpper }}'}\n- replace: {expression: '(x+)', replace: '{{ .l }}'}\n- pack: {labels: [l]}\n---\n\
         2019-01-01T01:00:00Z stderr P level=warn x\n2019-01-01T01:00:00Z stderr F xx\n",
        "- json: {expressions: {a: 'x[?y > `1`].z | [0]', b: n.m, c: 'length(@)'}}\n- metrics: {m: {type: \
         Histogram, source: b, config: {buckets: [1, 2]}}}\n- structured_metadata: {a: }\n- split_json: {}\n- luhn: \
         {}\n- truncate: {rule: [{limit: 9B, suffix: '.'}]}\n- eventlogmessage: {source: a}\n---\n\
         {\"x\":[{\"y\":2,\"z\":\"k: v\"}],\"n\":{\"m\":1.5}}\n[1,2]\n4242424242424242\n",
    ])
}

pub(crate) const STAGE_WORDS: &[&str] = &[
    "- cri: {}\n",
    "- docker: {}\n",
    "- json: {expressions: {",
    "- logfmt: {mapping: {",
    "- regex: {expression: '",
    "- pattern: {pattern: '<a> ",
    "- timestamp: {source: a, format: ",
    "- labels: {a: }\n",
    "- structured_metadata: {a: }\n",
    "- multiline: {firstline: '",
    "- match: {selector: '{job=\"j\"}', stages: [",
    "action: drop",
    "- drop: {expression: '",
    "- limit: {rate: 1, burst: 1, drop: true}\n",
    "- replace: {expression: '(a)', replace: '",
    "- template: {source: a, template: '{{ ",
    "- output: {source: a}\n",
    "- pack: {labels: [a]}\n",
    "- tenant: {source: a}\n",
    "- luhn: {min_length: 2}\n",
    "- split_json: {}\n",
    "- truncate: {rule: [{limit: 3B}]}\n",
    "- eventlogmessage: {source: a}\n",
    "- metrics: {m: {type: Counter, config: {action: inc}}}\n",
    "\n---\n",
    "scrape_configs:\n- job_name: a\n  ",
    "static_configs: [{labels: {__path__: /a}}]\n",
    "pipeline_stages:\n  ",
    "[?a > `1`]",
    "[*].b",
    "length(@)",
    "sort_by(@, &a)",
    "2019-01-01T01:00:00Z stdout P ",
    "{\"log\":\"a\\n\",\"stream\":\"stdout\",\"time\":\"",
    "4242424242424242",
];

pub(crate) const ALLOY_WORDS: &[&str] = &[
    "loki.source.file \"f\" {\n",
    "loki.source.journal \"j\" {\n",
    "loki.process \"p\" {\n",
    "loki.relabel \"r\" {\n",
    "loki.write \"w\" {\n",
    "local.file_match \"m\" {\n",
    "discovery.relabel \"d\" {\n",
    "forward_to = [",
    "loki.process.p.receiver",
    "loki.write.w.receiver",
    "local.file_match.m.targets",
    "discovery.relabel.d.output",
    "targets = ",
    "[{__path__ = \"/a\"}]",
    "stage.json {\n",
    "stage.match {\n",
    "stage.metrics {\n",
    "metric.counter {\n",
    "rule {\n",
    "endpoint {\n",
    "sys.env(\"A\")",
    "coalesce(",
    "string.format(\"%s\", ",
    "array.concat(",
    "constants.hostname",
    "`raw`",
    "/* ",
    " */",
    "// ",
    "\\u00e9",
    "}\n",
    " == ",
    " && ",
    "null",
];
