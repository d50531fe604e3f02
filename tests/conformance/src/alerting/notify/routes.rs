//! Trees of routes: who is told of an alert, and how it is grouped.

use alerting::notify::routing::{RouteNode, RouteOptions, RouteTree};
use serde_json::Value;
use settings::alertmanager::{MatcherMode, parse_route};
use settings::parse_duration;

use super::{FILE, labels_of, load, text_of};

pub(super) fn check(case: &Value) -> Result<(), String> {
    let mode = MatcherMode::Classic;
    let tree = match case["route_yaml"].as_str() {
        Some(yaml) => parse_route(FILE, yaml.as_bytes(), mode)
            .map(|route| RouteTree::new(&route))
            .map_err(|faults| faults.render())?,
        None => load(text_of(case, "config_yaml"), mode)
            .map(|loaded| RouteTree::new(&loaded.config.route))
            .map_err(|faults| faults.render())?,
    };
    let matching = tree.matching(&labels_of(&case["labels"])?);
    let nodes: Vec<&RouteNode> = matching.into_iter().map(|at| &tree.nodes()[at]).collect();
    if let Some(receivers) = case["receivers"].as_array() {
        let got: Vec<&str> = nodes.iter().map(|node| &*node.options.receiver).collect();
        same("receivers", &format!("{got:?}"), &format!("{:?}", texts(receivers)))?;
    }
    if let Some(keys) = case["keys"].as_array() {
        let got: Vec<&str> = nodes.iter().map(|node| &*node.key).collect();
        same("keys", &format!("{got:?}"), &format!("{:?}", texts(keys)))?;
    }
    let results = case["result"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !results.is_empty() {
        same("number of routes", &nodes.len().to_string(), &results.len().to_string())?;
    }
    for (node, wanted) in nodes.iter().zip(results) {
        check_options(&node.options, wanted)?;
    }
    Ok(())
}

fn texts(values: &[Value]) -> Vec<&str> {
    values.iter().filter_map(Value::as_str).collect()
}

fn same(what: &str, got: &str, wanted: &str) -> Result<(), String> {
    if got == wanted { Ok(()) } else { Err(format!("{what}: want {wanted}\ngot {got}")) }
}

fn check_options(options: &RouteOptions, wanted: &Value) -> Result<(), String> {
    same("receiver", &options.receiver, text_of(wanted, "Receiver"))?;
    let default = RouteOptions::default();
    let all = wanted["GroupByAll"].as_bool().unwrap_or(false);
    same("all labels group", &options.group_by.is_none().to_string(), &all.to_string())?;
    if let Some(group_by) = &options.group_by {
        let wanted = match wanted["GroupBy"].as_array() {
            Some(names) => texts(names).into_iter().map(str::to_owned).collect(),
            None => default.group_by.clone().unwrap_or_default(),
        };
        same("labels that group", &format!("{group_by:?}"), &format!("{wanted:?}"))?;
    }
    for (key, got, default) in [
        ("GroupWait", options.group_wait_ns, default.group_wait_ns),
        ("GroupInterval", options.group_interval_ns, default.group_interval_ns),
        ("RepeatInterval", options.repeat_interval_ns, default.repeat_interval_ns),
    ] {
        let wanted = match text_of(wanted, key) {
            "<default>" => default,
            text => parse_duration(text)
                .map(|duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
                .map_err(|error| error.to_string())?,
        };
        same(key, &got.to_string(), &wanted.to_string())?;
    }
    Ok(())
}
