//! Other stores to write to and to read from.

use std::time::Duration;

use model::Labels;

use super::HttpClientConfig;
use crate::HttpUrl;
use crate::relabel::RelabelConfig;

/// One entry of `remote_write`.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteWrite {
    /// Where to write.
    pub url: HttpUrl,
    /// Time one request may take. Default 30 s.
    pub remote_timeout: Duration,
    /// Headers added to every request, by ascending name.
    pub headers: Vec<(String, String)>,
    /// Rules over the labels of every series; what they drop is not sent.
    pub write_relabel_configs: Vec<RelabelConfig>,
    /// The name in metrics and logs; unique where it is not empty.
    pub name: String,
    /// Whether exemplars are sent.
    pub send_exemplars: bool,
    /// Whether native histograms are sent.
    pub send_native_histograms: bool,
    /// Whether each connection goes to another address of the name.
    pub round_robin_dns: bool,
    /// The message to send.
    pub protobuf_message: RemoteWriteMessage,
    /// How to speak to the server. HTTP/2 is off unless the file says otherwise.
    pub http: HttpClientConfig,
    /// The queue in front of it.
    pub queue: QueueConfig,
    /// Metadata of metrics.
    pub metadata: MetadataConfig,
}

/// The versions of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RemoteWriteMessage {
    /// `prometheus.WriteRequest`, version 1.
    #[default]
    V1,
    /// `io.prometheus.write.v2.Request`, version 2.
    V2,
}

/// How samples wait and leave.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueConfig {
    /// Samples a shard holds before reading stops. Default 10,000.
    pub capacity: u64,
    /// Most requests at a time. Default 50.
    pub max_shards: u64,
    /// Fewest requests at a time. Default 1.
    pub min_shards: u64,
    /// Most samples of a request. Default 2,000.
    pub max_samples_per_send: u64,
    /// Longest wait of a sample for its request to fill. Default 5 s.
    pub batch_send_deadline: Duration,
    /// First pause after a failure. Default 30 ms.
    pub min_backoff: Duration,
    /// Longest pause after failures. Default 5 s.
    pub max_backoff: Duration,
    /// Whether an answer 429 is a failure to retry.
    pub retry_on_http_429: bool,
    /// Samples older than this are dropped; 0 keeps all.
    pub sample_age_limit: Duration,
}

impl Default for QueueConfig {
    fn default() -> Self {
        QueueConfig {
            capacity: 10_000,
            max_shards: 50,
            min_shards: 1,
            max_samples_per_send: 2_000,
            batch_send_deadline: Duration::from_secs(5),
            min_backoff: Duration::from_millis(30),
            max_backoff: Duration::from_secs(5),
            retry_on_http_429: false,
            sample_age_limit: Duration::ZERO,
        }
    }
}

/// Whether and how metadata of metrics is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct MetadataConfig {
    /// Whether it is sent at all.
    pub send: bool,
    /// How often. Default 1 min.
    pub send_interval: Duration,
    /// Most metrics of a request. Default 2,000.
    pub max_samples_per_send: u64,
}

impl Default for MetadataConfig {
    fn default() -> Self {
        MetadataConfig {
            send: true,
            send_interval: Duration::from_secs(60),
            max_samples_per_send: 2_000,
        }
    }
}

/// One entry of `remote_read`.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteRead {
    /// Where to read.
    pub url: HttpUrl,
    /// Time one request may take. Default 1 min.
    pub remote_timeout: Duration,
    /// Largest frame of a streamed answer in bytes. Default 50,000,000.
    pub chunked_read_limit: u64,
    /// Headers added to every request, by ascending name.
    pub headers: Vec<(String, String)>,
    /// Whether ranges that the own store covers are asked for too.
    pub read_recent: bool,
    /// The name in metrics and logs; unique where it is not empty.
    pub name: String,
    /// How to speak to the server.
    pub http: HttpClientConfig,
    /// Labels a selector must name with `=` for the server to be asked.
    pub required_matchers: Labels,
    /// Whether the external labels become matchers.
    pub filter_external_labels: bool,
}
