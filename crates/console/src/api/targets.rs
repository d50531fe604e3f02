//! `/api/v1/targets`, `/api/v1/scrape_pools` and their kin: what is scraped, and how it goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use model::{Labels, Matcher};
use net::ApiError;
use serde_json::{Map, Value, json};

use crate::Console;
use crate::params::Params;
use crate::respond::{bad_data, parameter, success};
use crate::targets::ActiveTarget;

/// What Go prints for a time that never was.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Names of this host that mean another one to whoever reads them elsewhere.
const LOCAL_HOSTS: [&str; 3] = ["127.0.0.1", "localhost", "[::1]"];

pub(super) async fn targets(State(console): State<Arc<Console>>, params: Params) -> Response {
    let state = params.get("state").unwrap_or("any").to_lowercase();
    let pool = params.get("scrapePool");
    let shows = |what: &str| state == "any" || state == what;
    let targets = console.targets(params.tenant());
    let mut active = Vec::new();
    if shows("active") {
        let hostname = &console.about().hostname;
        active.extend(targets.active(pool).iter().map(|target| active_target(target, hostname)));
    }
    let mut dropped = Vec::new();
    let mut counts = Value::Null;
    if shows("dropped") {
        dropped.extend(targets.dropped(pool).iter().map(|target| {
            json!({ "discoveredLabels": pairs(&target.discovered), "scrapePool": target.pool })
        }));
        let all = targets.dropped_counts();
        counts = all.into_iter().map(|(pool, count)| (pool, Value::from(count))).collect();
    }
    success(json!({
        "activeTargets": active,
        "droppedTargets": dropped,
        "droppedTargetCounts": counts,
    }))
}

fn active_target(target: &ActiveTarget, hostname: &str) -> Value {
    let mut told = json!({
        "discoveredLabels": pairs(&target.discovered),
        "labels": pairs(&target.labels),
        "scrapePool": target.pool,
        "scrapeUrl": target.url,
        "globalUrl": global_url(&target.url, hostname),
        "lastError": target.last_error,
        "lastScrape": target.last_scrape_ms.map_or_else(|| NEVER.to_owned(), model::rfc3339),
        "lastScrapeDuration": target.last_duration_seconds,
        "health": target.health,
        "scrapeInterval": target.interval,
        "scrapeTimeout": target.timeout,
    });
    if let Some(broker) = &target.scraped_by {
        told["scrapedBy"] = json!(broker);
    }
    told
}

/// The URL as it reads from another host.
fn global_url(url: &str, hostname: &str) -> String {
    let parts = url.split_once("//").and_then(|(scheme, rest)| {
        let local = LOCAL_HOSTS.iter().find_map(|local| rest.strip_prefix(local))?;
        local.starts_with([':', '/', '?']).then_some((scheme, local))
    });
    match parts {
        Some((scheme, rest)) if !hostname.is_empty() => format!("{scheme}//{hostname}{rest}"),
        _ => url.to_owned(),
    }
}

pub(super) async fn metadata(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = match params.get("limit").map(str::parse::<i64>) {
        None => usize::MAX,
        Some(Ok(limit)) => usize::try_from(limit).unwrap_or(usize::MAX),
        Some(Err(_)) => return Err(bad_data("limit must be a number")),
    };
    let matchers = match params.get("match_target") {
        None => Vec::new(),
        Some(text) => {
            promql::parse_selector(text).map_err(|error| parameter("match_target", error))?
        }
    };
    let keep = |labels: &Labels| matchers.iter().all(|matcher| fits(matcher, labels));
    let metric = params.get("metric");
    let found = if limit == 0 {
        Vec::new()
    } else {
        console.targets(params.tenant()).metadata(&keep, metric, limit)
    };
    let rows: Vec<Value> = found
        .iter()
        .map(|row| {
            let told = &row.metadata;
            let mut shown = Map::new();
            shown.insert("target".to_owned(), json!(pairs(&row.target)));
            // Who asked for one family knows its name.
            if metric.is_none() {
                shown.insert("metric".to_owned(), told.metric.as_str().into());
            }
            shown.insert("type".to_owned(), told.kind.as_str().into());
            shown.insert("help".to_owned(), told.help.as_str().into());
            shown.insert("unit".to_owned(), told.unit.as_str().into());
            shown.into()
        })
        .collect();
    Ok(success(rows.into()))
}

fn fits(matcher: &Matcher, labels: &Labels) -> bool {
    matcher.matches(labels.get(&matcher.name).unwrap_or_default())
}

pub(super) async fn scrape_pools(State(console): State<Arc<Console>>, params: Params) -> Response {
    success(json!({ "scrapePools": console.targets(params.tenant()).pools() }))
}

pub(super) async fn relabel_steps(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, ApiError> {
    let pool =
        params.get("scrapePool").ok_or_else(|| bad_data("no scrapePool parameter provided"))?;
    let text = params.get("labels").ok_or_else(|| bad_data("no labels parameter provided"))?;
    let unusable = |reason: String| bad_data(format!("error parsing labels: {reason}"));
    let given: BTreeMap<String, String> =
        serde_json::from_str(text).map_err(|error| unusable(error.to_string()))?;
    let labels = Labels::from_pairs(given.iter().map(|(n, v)| (n.as_str(), v.as_str())))
        .map_err(|error| unusable(error.to_string()))?;
    let steps = console.targets(params.tenant()).relabel_steps(pool, &labels).ok_or_else(|| {
        bad_data(format!("error getting scrape config: scrape pool {pool:?} not found"))
    })?;
    let steps: Vec<Value> = steps
        .iter()
        .map(|step| json!({ "rule": step.rule, "output": pairs(&step.output), "keep": step.keep }))
        .collect();
    Ok(success(json!({ "steps": steps })))
}

/// Labels as JSON has them.
fn pairs(labels: &Labels) -> BTreeMap<&str, &str> {
    labels.iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_a_name_elsewhere() {
        for (url, expected) in [
            ("http://localhost:9100/metrics", "http://h:9100/metrics"),
            ("https://127.0.0.1/metrics", "https://h/metrics"),
            ("http://[::1]:1/", "http://h:1/"),
            ("http://localhost.example:1/", "http://localhost.example:1/"),
            ("http://10.0.0.1:1/", "http://10.0.0.1:1/"),
        ] {
            assert_eq!(global_url(url, "h"), expected);
        }
    }
}
