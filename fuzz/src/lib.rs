//! Fuzz targets: functions that take any bytes, hand them to a reader of bytes from outside, and
//! panic when something that must hold does not.
//!
//! A target is more than "does not panic": what was read must be written back alike, what fails
//! must leave nothing behind, results must be those of a naive twin where one is cheap. Memory and
//! time are bounded from outside, by `cargo xtask fuzz`, which also instruments the code so that
//! inputs are searched for by the paths they open. Here, tests run every target over its seeds.

mod collection;
mod columns;
mod configuration;
mod corpus;
mod decompression;
mod foreign;
mod histograms;
mod input;
mod line_seeds;
mod lines;
mod log_blocks;
mod logs;
mod messages;
mod notifications;
mod queries;
mod relabeling;
mod rules;
mod seeds;
mod storage;
mod templates;
mod text;
mod words;

use std::io;
use std::path::Path;

/// One reader of bytes and what must hold for it.
pub struct Target {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Reads the bytes; panics when something does not hold.
    pub run: fn(&[u8]),
    /// Inputs to start from, made by our own writers; where others write more, some of theirs.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words of the format, which chance would take long to find.
    pub words: &'static [&'static str],
    /// Protocols of the public corpus of bad inputs, used where it lies beside the repository.
    pub corpus: &'static [&'static str],
}

/// All targets, in the order of the layers they test.
pub const TARGETS: &[Target] = &[
    Target {
        name: "matchers",
        run: queries::matchers,
        seeds: seeds::matchers,
        words: words::REGEX_WORDS,
        corpus: &["regex", "matchers"],
    },
    Target {
        name: "columns",
        run: columns::columns,
        seeds: seeds::columns,
        words: &[],
        corpus: &[],
    },
    Target {
        name: "histogram-columns",
        run: histograms::histogram_columns,
        seeds: seeds::histogram_columns,
        words: &[],
        corpus: &[],
    },
    Target {
        name: "label-index",
        run: storage::label_index,
        seeds: seeds::label_index,
        words: &[],
        corpus: &[],
    },
    Target {
        name: "catalog",
        run: storage::catalog,
        seeds: seeds::catalog,
        words: &[],
        corpus: &[],
    },
    Target { name: "log", run: storage::log, seeds: seeds::log, words: &[], corpus: &[] },
    Target {
        name: "segment",
        run: storage::segment,
        seeds: seeds::segment,
        words: &[],
        corpus: &[],
    },
    Target {
        name: "metric-payload",
        run: storage::metric_payload,
        seeds: seeds::metric_payload,
        words: &[],
        corpus: &[],
    },
    Target {
        name: "metric-block",
        run: storage::metric_block,
        seeds: seeds::metric_block,
        words: &[],
        corpus: &[],
    },
    Target {
        name: "log-block",
        run: log_blocks::log_block,
        seeds: log_blocks::block_seeds,
        words: &[],
        corpus: &[],
    },
    Target {
        name: "log-payload",
        run: log_blocks::log_payload,
        seeds: log_blocks::payload_seeds,
        words: &[],
        corpus: &[],
    },
    Target {
        name: "decompression",
        run: decompression::decompression,
        seeds: seeds::decompression,
        words: &[],
        corpus: &["gzip", "zstd", "snappy-block"],
    },
    Target {
        name: "exposition",
        run: text::exposition,
        seeds: seeds::exposition,
        words: words::TEXT_WORDS,
        corpus: &["prom-text"],
    },
    Target {
        name: "openmetrics",
        run: text::openmetrics,
        seeds: seeds::openmetrics,
        words: words::TEXT_WORDS,
        corpus: &["openmetrics"],
    },
    Target {
        name: "protobuf-exposition",
        run: messages::protobuf_exposition,
        seeds: seeds::protobuf_exposition,
        words: &[],
        corpus: &["prom-protobuf"],
    },
    Target {
        name: "remote-write",
        run: messages::remote_write,
        seeds: seeds::remote_write,
        words: &["__name__"],
        corpus: &["remote-write-v1"],
    },
    Target {
        name: "remote-write-2",
        run: foreign::remote_write_2,
        seeds: seeds::remote_write_2,
        words: &["__name__"],
        corpus: &["remote-write-v1"],
    },
    Target {
        name: "otlp-metrics",
        run: foreign::otlp_metrics,
        seeds: seeds::otlp_metrics,
        words: words::OTLP_WORDS,
        corpus: &["otlp-json"],
    },
    Target {
        name: "influx-lines",
        run: foreign::influx_lines,
        seeds: seeds::influx_lines,
        words: &[
            "\\ ",
            "\\,",
            "\\=",
            "=\"",
            "\",",
            "i ",
            "u,",
            "true",
            "#",
            " 1700000000000000000",
        ],
        corpus: &["influx-line"],
    },
    Target {
        name: "imports",
        run: foreign::imports,
        seeds: seeds::imports,
        words: &[
            "put ",
            "metric",
            "timestamp",
            "values",
            "{\"series\":[",
            "points",
            ";a=b",
            "1:label:",
        ],
        corpus: &[
            "graphite",
            "opentsdb",
            "opentsdb-http",
            "datadog-v1",
            "datadog-v2",
            "vm-jsonline",
        ],
    },
    Target {
        name: "parquet",
        run: foreign::parquet,
        seeds: seeds::parquet,
        words: &["PAR1", "name", "labels", "key", "value", "timestamp"],
        corpus: &[],
    },
    Target {
        name: "agent-batch",
        run: messages::agent_batch,
        seeds: seeds::agent_batch,
        words: &[],
        corpus: &[],
    },
    Target {
        name: "grouping-key",
        run: text::grouping_key,
        seeds: seeds::grouping_key,
        words: &["job", "@base64", "%2F", "/", "=", "__"],
        corpus: &["path-param"],
    },
    Target {
        name: "yaml",
        run: configuration::yaml,
        seeds: seeds::yaml,
        words: words::YAML_WORDS,
        corpus: &["own-config"],
    },
    Target {
        name: "prometheus-config",
        run: configuration::prometheus_config,
        seeds: seeds::prometheus_config,
        words: words::CONFIG_WORDS,
        corpus: &["prometheus-config", "http-client-config"],
    },
    Target {
        name: "rule-file",
        run: rules::rule_file,
        seeds: rules::rule_file_seeds,
        words: words::CONFIG_WORDS,
        corpus: &[],
    },
    Target {
        name: "rule-test",
        run: rules::rule_test,
        seeds: rules::rule_test_seeds,
        words: &["tests", "values", "stale", "_", "{{", "}}", "schema:", "buckets:[", "count:"],
        corpus: &[],
    },
    Target {
        name: "rule-state",
        run: rules::rule_state,
        seeds: rules::rule_state_seeds,
        words: &["\"version\":1", "\"alerts\"", "firing", "pending", "inactive", "null", "1e400"],
        corpus: &[],
    },
    Target {
        name: "notifications",
        run: notifications::notifications,
        seeds: notifications::notification_seeds,
        words: words::CONFIG_WORDS,
        corpus: &[],
    },
    Target {
        name: "target-groups",
        run: configuration::target_groups,
        seeds: seeds::target_groups,
        words: &["targets", "labels", "null", "- ", ": ", "[", "]", "{", "}", "\""],
        corpus: &["discovery-targets"],
    },
    Target {
        name: "scalars",
        run: configuration::scalars,
        seeds: seeds::scalars,
        words: words::SCALAR_WORDS,
        corpus: &["url"],
    },
    Target {
        name: "go-regex",
        run: relabeling::go_regex,
        seeds: seeds::go_regex,
        words: words::REGEX_WORDS,
        corpus: &["regex"],
    },
    Target {
        name: "relabeling",
        run: relabeling::rules,
        seeds: seeds::relabel_rules,
        words: words::RELABEL_WORDS,
        corpus: &[],
    },
    Target {
        name: "promql-parser",
        run: queries::parser,
        seeds: seeds::queries,
        words: words::QUERY_WORDS,
        corpus: &["promql", "promql-selector"],
    },
    Target {
        name: "templates",
        run: templates::templates,
        seeds: seeds::templates,
        words: words::TEMPLATE_WORDS,
        corpus: &[],
    },
    Target {
        name: "logql-parser",
        run: logs::parser,
        seeds: seeds::log_queries,
        words: words::LOG_QUERY_WORDS,
        corpus: &["logql"],
    },
    Target {
        name: "logql-pipeline",
        run: logs::pipeline,
        seeds: seeds::log_pipelines,
        words: words::LOG_QUERY_WORDS,
        corpus: &[],
    },
    Target {
        name: "logql-evaluator",
        run: logs::evaluator,
        seeds: seeds::log_queries,
        words: words::LOG_QUERY_WORDS,
        corpus: &["logql"],
    },
    Target {
        name: "log-pushes",
        run: lines::pushes,
        seeds: line_seeds::log_pushes,
        words: words::LOG_PUSH_WORDS,
        corpus: &["loki-push-json", "vlinsert-loki"],
    },
    Target {
        name: "otlp-logs",
        run: lines::otlp,
        seeds: line_seeds::otlp_logs,
        words: words::OTLP_LOG_WORDS,
        corpus: &["otlp-json", "otlp-proto"],
    },
    Target {
        name: "log-objects",
        run: lines::objects,
        seeds: line_seeds::log_objects,
        words: words::LOG_PUSH_WORDS,
        corpus: &["json-log", "vlinsert-jsonline", "vlinsert-elasticsearch"],
    },
    Target {
        name: "syslog",
        run: lines::syslog_messages,
        seeds: line_seeds::syslog,
        words: &[],
        corpus: &["syslog", "vlinsert-syslog"],
    },
    Target {
        name: "journal-export",
        run: lines::journal,
        seeds: line_seeds::journal,
        words: &[],
        corpus: &["vlinsert-journald"],
    },
    Target {
        name: "promtail-config",
        run: collection::promtail_config,
        seeds: collection::promtail_seeds,
        words: collection::STAGE_WORDS,
        corpus: &[],
    },
    Target {
        name: "alloy-config",
        run: collection::alloy_config,
        seeds: collection::alloy_seeds,
        words: collection::ALLOY_WORDS,
        corpus: &[],
    },
    Target {
        name: "log-stages",
        run: collection::log_stages,
        seeds: collection::stage_seeds,
        words: collection::STAGE_WORDS,
        corpus: &[],
    },
    Target {
        name: "promql-completion",
        run: queries::completion,
        seeds: seeds::queries,
        words: words::QUERY_WORDS,
        corpus: &["promql", "promql-selector"],
    },
    Target {
        name: "promql-evaluator",
        run: queries::evaluator,
        seeds: seeds::queries,
        words: words::QUERY_WORDS,
        corpus: &["promql"],
    },
];

/// Inputs that once broke a target, kept beside the sources: file by file, those of `target`.
///
/// # Panics
/// Its directory can be listed and not read.
pub fn regressions(target: &Target) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(target.name);
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    files.map(|file| std::fs::read(file.path()).expect("a file beside the sources")).collect()
}

/// Writes what a run of `target` starts from below `directory`: `seeds/` with one file per input,
/// and the dictionary `words` in libFuzzer's form.
///
/// # Errors
/// Those of the file system.
pub fn write_seeds(target: &Target, directory: &Path) -> io::Result<()> {
    let seeds = directory.join("seeds");
    std::fs::create_dir_all(&seeds)?;
    let public = corpus::cases(target.corpus);
    let (own, broken) = ((target.seeds)(), regressions(target));
    for (number, seed) in own.iter().chain(&broken).chain(&public).enumerate() {
        std::fs::write(seeds.join(format!("{number:05}")), seed)?;
    }
    // libFuzzer refuses an empty file.
    let mut dictionary = format!("# {}\n", target.name);
    for word in target.words {
        let escaped: String = word.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
        dictionary.push_str(&format!("\"{escaped}\"\n"));
    }
    std::fs::write(directory.join("words"), dictionary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_holds_for_its_seeds_and_the_public_corpus() {
        for target in TARGETS {
            let seeds = (target.seeds)();
            assert!(!seeds.is_empty(), "{} has no seeds", target.name);
            let public = corpus::cases(target.corpus);
            for bytes in seeds.iter().chain(&regressions(target)).chain(&public) {
                (target.run)(bytes);
                // Damage near the seeds, which needs no instrumentation to be worth a look.
                for at in (0..bytes.len()).step_by(1 + bytes.len() / 16) {
                    (target.run)(&bytes[..at]);
                    let mut flipped = bytes.clone();
                    flipped[at] ^= 1 << (at % 8);
                    (target.run)(&flipped);
                }
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TARGETS.len());
    }
}
