//! What the scrapes of one job have in common.

use std::fmt::Write as _;
use std::sync::Arc;

use http::header::{ACCEPT, ACCEPT_ENCODING};
use http::{HeaderMap, HeaderValue};
use model::{Labels, LabelsBuilder};
use net::client::Client;
use settings::prometheus::{ScrapeConfig, ScrapeProtocol};

use super::append::{Format, SampleRules};
use super::failure_log::FailureLog;
use super::histograms::HistogramRules;
use super::report::ReportSeries;
use super::series_rules::SeriesRules;
use super::target::Target;

/// Largest unpacked answer where the job sets no `body_size_limit`: every answer has a limit.
const DEFAULT_BODY_BYTES: usize = 256 << 20;
/// Largest unpacked answer at all; places in it are counted with 32 bits.
const MAX_BODY_BYTES: usize = 1 << 30;

/// A job as its loops see it.
pub(super) struct Job {
    pub(super) config: Arc<ScrapeConfig>,
    /// What every series gets that does not have it.
    pub(super) external_labels: Labels,
    pub(super) client: Arc<Client>,
    pub(super) failure_log: Option<FailureLog>,
    /// `Accept` and `Accept-Encoding`.
    pub(super) headers: HeaderMap,
    /// The format of answers whose `Content-Type` says nothing usable.
    pub(super) fallback: Option<Format>,
    /// An answer of so many bytes or more fails the scrape.
    pub(super) body_limit: usize,
    /// As [`super::ScraperOptions::folds_created`].
    pub(super) folds_created: bool,
    /// As [`super::ScraperOptions::type_and_unit_labels`].
    pub(super) type_and_unit_labels: bool,
}

impl Job {
    pub(super) fn new(
        config: Arc<ScrapeConfig>,
        external_labels: Labels,
        client: Arc<Client>,
        failure_log: Option<FailureLog>,
    ) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept(&config));
        let encoding = if config.enable_compression { "gzip" } else { "identity" };
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        Job {
            fallback: config.fallback_scrape_protocol.map(format_of),
            body_limit: match config.body_size_limit {
                0 => DEFAULT_BODY_BYTES,
                configured => limit(configured).min(MAX_BODY_BYTES),
            },
            folds_created: false,
            type_and_unit_labels: false,
            headers,
            config,
            external_labels,
            client,
            failure_log,
        }
    }

    /// The rules for the samples of a target.
    pub(super) fn sample_rules(&self, target: &Target) -> SampleRules {
        let config = &self.config;
        SampleRules {
            honor_timestamps: config.honor_timestamps,
            track_timestamps_staleness: config.track_timestamps_staleness,
            sample_limit: limit(config.sample_limit),
            folds_created: self.folds_created,
            type_and_unit_labels: self.type_and_unit_labels,
            histograms: HistogramRules::new(config, target),
        }
    }

    /// `up` and its kin of a target with these labels.
    pub(super) fn report(&self, target_labels: &Labels) -> ReportSeries {
        let mut labels = LabelsBuilder::from_labels(target_labels);
        for (name, value) in self.external_labels.iter() {
            if target_labels.get(name).is_none() {
                labels.set(name, value);
            }
        }
        ReportSeries::new(&labels.build(), self.config.extra_scrape_metrics)
    }

    /// The rules for the series of a target with these labels.
    pub(super) fn series_rules(&self, target_labels: Labels) -> SeriesRules {
        let config = &self.config;
        SeriesRules {
            honor_labels: config.honor_labels,
            target_labels,
            metric_relabel_configs: config.metric_relabel_configs.clone(),
            external_labels: self.external_labels.clone(),
            names: config.metric_name_validation_scheme,
            label_limit: limit(config.label_limit),
            label_name_length_limit: limit(config.label_name_length_limit),
            label_value_length_limit: limit(config.label_value_length_limit),
        }
    }
}

fn limit(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Every protocol with its weight, the preferred one first; anything else last.
fn accept(config: &ScrapeConfig) -> HeaderValue {
    let mut text = String::new();
    let mut weight = ScrapeProtocol::ALL.len() + 1;
    for protocol in &config.scrape_protocols {
        text.push_str(protocol.media_type());
        let knows_escaping = matches!(
            protocol,
            ScrapeProtocol::PrometheusText1_0_0 | ScrapeProtocol::OpenMetricsText1_0_0
        );
        if knows_escaping {
            text.push_str(";escaping=");
            text.push_str(config.metric_name_escaping_scheme.name());
        }
        write!(text, ";q=0.{weight},").expect("a String takes every text");
        weight -= 1;
    }
    write!(text, "*/*;q=0.{weight}").expect("a String takes every text");
    HeaderValue::try_from(text).expect("media types are visible ASCII")
}

fn format_of(protocol: ScrapeProtocol) -> Format {
    match protocol {
        ScrapeProtocol::PrometheusProto => Format::Protobuf,
        ScrapeProtocol::PrometheusText0_0_4 | ScrapeProtocol::PrometheusText1_0_0 => Format::Text,
        ScrapeProtocol::OpenMetricsText0_0_1 | ScrapeProtocol::OpenMetricsText1_0_0 => {
            Format::OpenMetrics
        }
    }
}
