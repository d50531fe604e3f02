//! `http_sd_configs`: groups from a server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use net::client::{Client, Get};
use settings::prometheus::HttpDiscovery;
use settings::{TargetGroup, target_groups};

use crate::counters::{DiscoveryCounters, count};
use crate::standing::Standing;
use crate::{Report, groups};

/// Largest answer.
const MAX_BYTES: usize = 64 << 20;
/// A server that does not answer is asked no more after this long, or after the refresh interval.
const MAX_WAIT: Duration = Duration::from_secs(60);

const INTERVAL_HEADER: HeaderName =
    HeaderName::from_static("x-prometheus-refresh-interval-seconds");
const URL_LABEL: &str = "__meta_url";

pub(super) async fn run(
    config: Box<HttpDiscovery>,
    client: Box<Client>,
    report: Report,
    counters: Arc<DiscoveryCounters>,
) {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let seconds = config.refresh_interval.as_secs_f64().to_string();
    let seconds = HeaderValue::try_from(seconds).expect("a number is visible ASCII");
    headers.insert(INTERVAL_HEADER, seconds);
    let mut before = None;
    let mut standing = Standing::default();
    loop {
        let asked = Instant::now();
        match ask(&config, &client, &headers).await {
            Ok(groups) => {
                if let Some(failures) = standing.works() {
                    tracing::info!(url = %config.url, failures, "the server names targets again");
                }
                if before.as_ref() != Some(&groups) {
                    report.send(groups.clone()).await;
                    before = Some(groups);
                }
            }
            Err(reason) => {
                count(&counters.http_failures);
                let url = &config.url;
                if standing.fails(&reason) {
                    tracing::warn!(%url, %reason, "no targets from the server; keeping those it named");
                }
            }
        }
        tokio::time::sleep_until((asked + config.refresh_interval).into()).await;
    }
}

async fn ask(
    config: &HttpDiscovery,
    client: &Client,
    headers: &HeaderMap,
) -> Result<Vec<TargetGroup>, String> {
    let uri: Uri = config.url.reveal().parse().map_err(|_| "it is no URL".to_owned())?;
    let deadline = Instant::now() + config.refresh_interval.min(MAX_WAIT);
    let request = Get { url: &uri, headers, deadline };
    let response = client.get(&request).await.map_err(|error| error.to_string())?;
    if response.status != StatusCode::OK {
        let status = response.status;
        response.discard().await;
        return Err(format!("server returned HTTP status {status}"));
    }
    let content_type = response.headers.get(CONTENT_TYPE).cloned();
    if !content_type.as_ref().is_some_and(is_json) {
        response.discard().await;
        return Err(format!("unsupported content type {content_type:?}; send application/json"));
    }
    let mut body = Vec::new();
    response.read(MAX_BYTES, &mut body).await.map_err(|error| error.to_string())?;
    // The label shows where targets come from to everyone, so a password stays out of it.
    let url = config.url.to_string();
    let groups = target_groups::parse_json(&url, &body).map_err(|faults| faults.to_string())?;
    Ok(groups::placed(groups, URL_LABEL, &url))
}

/// `application/json`, possibly with `charset=utf-8`.
fn is_json(value: &HeaderValue) -> bool {
    let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
    let (media_type, parameter) = text.split_once(';').unwrap_or((&text, ""));
    let parameter = parameter.trim();
    media_type.trim() == "application/json"
        && matches!(parameter, "" | "charset=utf-8" | "charset=\"utf-8\"")
}
