//! What brokers of several clusters answer to one path of their own API, as one answer.
//!
//! Lists are put one behind the other, and each entry says by `brokerCluster` whose it is. What has a name
//! that means the same everywhere, a tenant or a saved view, is there once.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::{Map, Value, json};

/// What names the cluster of an entry.
const CLUSTER: &str = "brokerCluster";

/// What a broker of a cluster answered.
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) content_type: String,
    pub(super) body: Vec<u8>,
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        (self.status, [(header::CONTENT_TYPE, self.content_type)], self.body).into_response()
    }
}

/// The answers of clusters, each with its name, as one. `away`: what is to be said of others.
///
/// # Errors
/// Answers to this path cannot be merged; the text says what to do.
pub(super) fn merged(
    path: &str,
    pages: Vec<(&str, Page)>,
    mut away: Vec<String>,
) -> Result<Page, String> {
    let is_good = |page: &Page| page.status == StatusCode::OK;
    if !pages.iter().any(|(_, page)| is_good(page)) {
        let first = pages.into_iter().map(|(_, page)| page).next();
        return first.ok_or_else(|| away.join("; "));
    }
    if path == "/api/v1/status/cluster" {
        return Err("each cluster has a state of its own, with terms and rings that mean nothing in \
                    another: look at the page of one of its brokers, or ask one with `watchfire cluster \
                    status --url`"
            .to_owned());
    }
    let mut sum: Option<Value> = None;
    for (name, page) in pages {
        let Some(answer) = page.json() else {
            return Err(format!(
                "{path} is not JSON, and those of several clusters are not merged; ask a broker of \
                 one cluster"
            ));
        };
        if !is_good(&page) {
            // A pool of one cluster is unknown in the others.
            if path != "/api/v1/targets/relabel_steps" {
                let words = answer["error"].as_str().unwrap_or("it answered with an error");
                away.push(format!("cluster {name}: {words}"));
            }
            continue;
        }
        let Value::Object(mut answer) = answer else { continue };
        if let Some(Value::Array(warnings)) = answer.remove("warnings") {
            let words = warnings.iter().filter_map(Value::as_str);
            away.extend(words.map(|words| format!("cluster {name}: {words}")));
        }
        let mut data = answer.remove("data").unwrap_or_default();
        if !names_mean_the_same(path) {
            tell(&mut data, name);
        }
        match &mut sum {
            None => sum = Some(data),
            // One pool has one list of steps.
            Some(_) if path == "/api/v1/targets/relabel_steps" => {}
            Some(sum) => add(sum, data),
        }
    }
    let mut data = sum.unwrap_or_default();
    if names_mean_the_same(path) {
        once(&mut data);
    }
    let mut answer = json!({ "status": "success", "data": data });
    if !away.is_empty() {
        answer["warnings"] = away.into();
    }
    let content_type = "application/json".to_owned();
    Ok(Page { status: StatusCode::OK, content_type, body: answer.to_string().into_bytes() })
}

impl Page {
    fn json(&self) -> Option<Value> {
        let is_json = self.content_type.starts_with("application/json");
        is_json.then(|| serde_json::from_slice(&self.body).ok()).flatten()
    }
}

/// Whether entries of the same name are the same, whichever cluster they are of.
fn names_mean_the_same(path: &str) -> bool {
    matches!(path, "/api/v1/tenants" | "/api/v1/views")
}

/// Says of each entry of a list whose it is.
fn tell(data: &mut Value, cluster: &str) {
    match data {
        Value::Array(entries) => {
            for entry in entries {
                if let Value::Object(entry) = entry {
                    entry.insert(CLUSTER.to_owned(), cluster.into());
                }
            }
        }
        Value::Object(lists) => {
            let lists = lists.values_mut().filter(|list| list.is_array());
            lists.for_each(|list| tell(list, cluster));
        }
        _ => {}
    }
}

/// Lists one behind the other without what is the same, counts added up, and what is on anywhere is on.
fn add(sum: &mut Value, other: Value) {
    match (sum, other) {
        (Value::Array(all), Value::Array(more)) => {
            // Entries that are objects say whose they are, so only names can be the same.
            let new = more.into_iter().filter(|one| one.is_object() || !all.contains(one));
            let new: Vec<Value> = new.collect();
            all.extend(new);
        }
        (Value::Object(all), Value::Object(more)) => add_members(all, more),
        (Value::Bool(any), Value::Bool(other)) => *any |= other,
        (sum @ Value::Number(_), Value::Number(other)) => {
            let (known, other) = (sum.as_u64(), other.as_u64());
            if let (Some(known), Some(other)) = (known, other) {
                *sum = known.saturating_add(other).into();
            }
        }
        (sum @ Value::Null, other) => *sum = other,
        _ => {}
    }
}

fn add_members(all: &mut Map<String, Value>, more: Map<String, Value>) {
    for (name, value) in more {
        match all.get_mut(&name) {
            Some(known) => add(known, value),
            None => _ = all.insert(name, value),
        }
    }
}

/// Entries of the same name as one: counts added up, of everything else what the first one says.
fn once(data: &mut Value) {
    let Value::Object(lists) = data else { return };
    for list in lists.values_mut() {
        let Value::Array(entries) = list else { continue };
        let mut known: Vec<Value> = Vec::with_capacity(entries.len());
        for entry in std::mem::take(entries) {
            match known.iter_mut().find(|one| one["name"] == entry["name"]) {
                // What is saved is one text with one version, and no sum of several.
                Some(one) if one.get("activeSeries").is_some() => add(one, entry),
                Some(_) => {}
                None => known.push(entry),
            }
        }
        known.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
        *entries = known;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(data: &Value) -> Page {
        let body = json!({ "status": "success", "data": data }).to_string().into_bytes();
        Page { status: StatusCode::OK, content_type: "application/json".to_owned(), body }
    }

    fn both(path: &str, a: &Value, b: &Value) -> Value {
        let merged = merged(path, vec![("a", page(a)), ("b", page(b))], Vec::new());
        let merged = merged.map_err(|words| panic!("{words}"));
        let Ok(page) = merged;
        serde_json::from_slice::<Value>(&page.body).expect("JSON")["data"].take()
    }

    #[test]
    fn lists_are_put_together_and_entries_say_whose_they_are() {
        let targets = |url: &str| {
            json!({
                "activeTargets": [{ "scrapeUrl": url }],
                "droppedTargets": [],
                "droppedTargetCounts": { "node": 2, url: 1 },
            })
        };
        assert_eq!(
            both("/api/v1/targets", &targets("x"), &targets("x")),
            json!({
                "activeTargets": [
                    { "scrapeUrl": "x", "brokerCluster": "a" },
                    { "scrapeUrl": "x", "brokerCluster": "b" },
                ],
                "droppedTargets": [],
                "droppedTargetCounts": { "node": 4, "x": 2 },
            })
        );
        let pools = |names: &[&str]| json!({ "scrapePools": names });
        let found = both("/api/v1/scrape_pools", &pools(&["n", "o"]), &pools(&["o", "p"]));
        assert_eq!(found, json!({ "scrapePools": ["n", "o", "p"] }));
        let tenants = |names: &[(&str, u64)]| {
            let row =
                |(name, series): &(&str, u64)| json!({ "name": name, "activeSeries": series });
            json!({ "tenants": names.iter().map(row).collect::<Vec<_>>() })
        };
        let found = both(
            "/api/v1/tenants",
            &tenants(&[("b", 1), ("c", 2)]),
            &tenants(&[("a", 4), ("b", 8)]),
        );
        assert_eq!(found, tenants(&[("a", 4), ("b", 9), ("c", 2)]));
        let views = |page: &str| json!({ "views": [{ "name": "v", "version": 3, "page": page }] });
        assert_eq!(both("/api/v1/views", &views("x"), &views("y")), views("x"));
    }

    #[test]
    fn what_is_missing_is_said() {
        let error = |words: &str| {
            let body = json!({ "status": "error", "error": words }).to_string().into_bytes();
            let content_type = "application/json".to_owned();
            Page { status: StatusCode::BAD_REQUEST, content_type, body }
        };
        let good = || page(&json!({ "agents": [] }));
        let pages = vec![("a", good()), ("b", error("no"))];
        let found = merged("/api/v1/agents", pages, vec!["c is away".to_owned()]);
        let Ok(page) = found else { panic!("not merged") };
        let body: Value = serde_json::from_slice(&page.body).expect("JSON");
        assert_eq!(body["warnings"], json!(["c is away", "cluster b: no"]));
        let found =
            merged("/api/v1/agents", vec![("a", error("no")), ("b", error("nor"))], Vec::new());
        assert_eq!(found.map(|page| page.status).ok(), Some(StatusCode::BAD_REQUEST));
        let text = || Page { content_type: "text/plain".to_owned(), ..good() };
        let found = merged("/pushgateway/metrics", vec![("a", text()), ("b", text())], Vec::new());
        assert!(found.is_err_and(|words| words.contains("ask a broker of one cluster")));
    }
}
