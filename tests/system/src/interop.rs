//! Other people's programs: Debian's Prometheus, its node exporter, promtool and curl.

mod aggregation;
mod clients;
mod collectors;
mod compliance;
pub(crate) mod exemplars;
mod export;
mod federate;
mod ha;
mod import;
mod influx;
mod log_sinks;
mod logs;
mod otlp;
mod parquet;
mod peer;
mod push;
mod python;
mod remote_read;
mod remote_write_out;
mod same_answers;
mod scrape;
mod write;

use crate::harness::Group;

/// Tests with real clients and servers of other systems.
pub(crate) const GROUP: Group = Group {
    name: "interop",
    tests: &[
        ("prometheus-and-we-answer-the-same", same_answers::same_answers),
        ("compliance-queries-have-the-same-answers", compliance::same_compliance),
        ("prometheus-and-we-scrape-the-same", scrape::same_scrapes),
        ("prometheus-and-we-keep-the-same-exemplars", exemplars::same_exemplars),
        ("promtool-checks-our-metrics", clients::own_metrics),
        ("promtool-checks-the-agents-names", clients::agent_names),
        ("curl-imports", clients::curl_imports),
        ("prometheus-blocks-are-imported", import::blocks_are_imported),
        ("exports-come-back", export::exports_come_back),
        ("others-federate-from-us", federate::others_federate),
        ("prometheus-reads-from-us", remote_read::prometheus_reads_from_us),
        ("python-client-pushes", push::python_client_pushes),
        ("protobuf-pushes", push::protobuf_pushes),
        ("remotes-hold-the-same", remote_write_out::remotes_hold_the_same),
        ("remote-write-reload", remote_write_out::reload_is_all_or_nothing),
        ("rules-sum-up-what-prometheus-writes", aggregation::rules_sum_up_what_prometheus_writes),
        ("prometheus-pairs-are-deduplicated", ha::pairs_are_deduplicated),
        ("vmagent-writes", write::vmagent_writes),
        ("opentelemetry-sdk-exports", otlp::sdk_exports),
        ("influxdb-client-writes", influx::client_writes),
        ("configurations-of-collectors-run", collectors::configurations_run),
        ("sinks-of-lines-outlive-kills", log_sinks::outlive_kills),
        ("libraries-push-lines", logs::libraries_push),
        ("syslog-comes-from-others", logs::syslog_comes),
    ],
};
