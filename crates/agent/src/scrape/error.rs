//! Why a scrape failed, or why nothing is scraped at all.

use http::StatusCode;
use model::LabelError;
use net::client::ClientError;
use wire::WireError;

/// Why the configuration is not in effect.
#[derive(Debug, thiserror::Error)]
pub enum ScraperError {
    /// A job cannot be run as configured; what ran before goes on.
    #[error("scrape job {job:?}: {reason}")]
    Job {
        /// The job's name.
        job: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Why one scrape has no samples. The words are Prometheus' where it has them, since people search
/// for them.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum ScrapeError {
    #[error("Get {url:?}: {error}")]
    Request { url: String, error: ClientError },
    #[error(
        "context deadline exceeded: the answer was not read within {timeout:?}; raise \
         `scrape_timeout` or expose less"
    )]
    ReadTimeout { timeout: std::time::Duration },
    #[error("server returned HTTP status {}", shown(*.0))]
    Status(StatusCode),
    #[error(
        "body size limit exceeded: the answer has {limit} bytes or more when unpacked; raise \
         `body_size_limit` or expose less"
    )]
    BodySize { limit: usize },
    #[error("{0}")]
    ContentType(String),
    #[error("the answer's Content-Encoding {0:?} was not asked for; only gzip is")]
    ContentEncoding(String),
    #[error("{0}")]
    Exposition(#[from] WireError),
    #[error("{0} in {1}")]
    Labels(LabelError, String),
    #[error("missing metric name (__name__ label) after metric relabeling")]
    NoName,
    #[error("invalid metric name or label names: {0}")]
    Name(String),
    #[error("label_limit exceeded (metric: {metric}, number of labels: {found}, limit: {limit})")]
    LabelCount { metric: String, found: usize, limit: usize },
    #[error(
        "label_name_length_limit exceeded (metric: {metric}, label name: {label}, \
         length: {found}, limit: {limit})"
    )]
    LabelName { metric: String, label: String, found: usize, limit: usize },
    #[error(
        "label_value_length_limit exceeded (metric: {metric}, label name: {label}, \
         value: {value:?}, length: {found}, limit: {limit})"
    )]
    LabelValue { metric: String, label: String, value: String, found: usize, limit: usize },
    #[error("sample limit exceeded: more than {limit} samples are left after metric relabeling")]
    SampleLimit { limit: usize },
    #[error("histogram bucket limit exceeded: a native histogram has more than {limit} buckets")]
    BucketLimit { limit: usize },
    #[error("a native histogram is inconsistent: {0}")]
    Histogram(#[from] model::HistogramError),
    #[error("target_limit exceeded (number of targets: {found}, limit: {limit})")]
    TargetLimit { found: usize, limit: u64 },
    #[error("the labels of one answer take more than {limit} bytes; expose fewer series")]
    TooManyLabels { limit: usize },
    #[error("the families of one answer have more than {limit} units; expose fewer")]
    TooManyUnits { limit: usize },
}

fn shown(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}
