//! Samples of lines: values, and the labels a grouping leaves.

use std::collections::BTreeMap;

use ::logql::compile;
use ::logql::pipeline::{Grouping, Pipeline, Stage};
use ::logql::syntax::ast::{Expr, LabelFilter, LogRange, MetricExpr, StageKind};
use anyhow::Context;

use super::pipeline_cases::{line, pairs};
use super::table::{Case, same};

/// How samples of lines are made.
struct Extractor {
    stages: Vec<Stage>,
    grouping: Grouping,
    required: Option<Vec<String>>,
}

pub(super) fn check(case: &Case) -> anyhow::Result<Option<Result<(), String>>> {
    let extractor = match extractor(case) {
        Ok(extractor) => extractor,
        Err(error) => return Ok(Some(Err(error))),
    };
    let line = line(case)?;
    let (stream, metadata) =
        (pairs(&case.value["stream_labels"]), pairs(&case.value["structured_metadata"]));
    let mut pipeline = Pipeline::new(extractor.stages, 1);
    pipeline.set_grouping(&extractor.grouping);
    pipeline.set_required(extractor.required.as_deref());
    pipeline.set_stream(stream.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let metadata = metadata.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let entry = pipeline.process(0, &line, metadata);
    let expected = &case.value["expect"];
    let ok = expected["ok"].as_bool().context("a case expects nothing")?;
    let Some(entry) = entry else {
        let outcome = if ok { Err("there is no sample".to_owned()) } else { Ok(()) };
        return Ok(Some(outcome));
    };
    if !ok {
        return Ok(Some(Err("there is a sample".to_owned())));
    }
    let mut got = BTreeMap::new();
    entry.for_each_grouped_label(|name, value, _| {
        got.insert(name.to_owned(), value.to_owned());
    });
    let want: BTreeMap<String, String> = pairs(&expected["labels"]).into_iter().collect();
    let want_value = expected["value"].as_f64().context("a case expects no value")?;
    let got_value = entry.sample().unwrap_or(1.0);
    let outcome = same("labels", &format!("{got:?}"), &format!("{want:?}"))
        .and_then(|()| same("value", &got_value.to_string(), &want_value.to_string()));
    Ok(Some(outcome))
}

fn extractor(case: &Case) -> Result<Extractor, String> {
    if let Some(query) = case.text("query") {
        let Expr::Metric(metric) = parse(query)? else {
            return Err("it is no metric query".to_owned());
        };
        let (grouping, range) = match &metric {
            MetricExpr::Vector(outer) => {
                let MetricExpr::Range(inner) = &outer.inner else {
                    return Err("it is no sum of a range".to_owned());
                };
                let labels = outer.grouping.as_ref().map(|grouping| grouping.labels.clone());
                (Grouping::By(labels.unwrap_or_default()), &inner.range)
            }
            MetricExpr::Range(range) if query.starts_with("absent") => {
                (Grouping::By(Vec::new()), &range.range)
            }
            MetricExpr::Range(range) => (Grouping::Without(Vec::new()), &range.range),
            _ => return Err("it is no sum of a range".to_owned()),
        };
        return finish(grouping, range);
    }
    let (stages, unwrap) =
        (case.text("stages").unwrap_or_default(), case.text("unwrap").unwrap_or_default());
    let query = format!("sum_over_time({{conformance=\"1\"}} {stages} | unwrap {unwrap} [1m])");
    let Expr::Metric(MetricExpr::Range(range)) = parse(&query)? else {
        return Err("it is no range".to_owned());
    };
    let group = &case.value["group"];
    let labels = group["labels"].as_array().map(|labels| {
        labels.iter().filter_map(|label| label.as_str().map(str::to_owned)).collect()
    });
    let without = group["without"].as_bool().unwrap_or(false);
    let all = case.value["drop_all_labels"].as_bool().unwrap_or(false);
    let grouping = match labels {
        Some(labels) if without => Grouping::Without(labels),
        Some(labels) => Grouping::By(labels),
        None if all => Grouping::By(Vec::new()),
        None => Grouping::Without(Vec::new()),
    };
    finish(grouping, &range.range)
}

fn parse(query: &str) -> Result<Expr, String> {
    ::logql::syntax::parse(query).map_err(|error| error.to_string())
}

fn finish(grouping: Grouping, range: &LogRange) -> Result<Extractor, String> {
    let stages = compile::range_stages(range).map_err(|error| error.to_string())?;
    let required = match &grouping {
        Grouping::By(labels) => {
            let mut required = labels.clone();
            for stage in &range.log.stages {
                if let StageKind::LabelFilter(filter) = &stage.kind {
                    add_labels(filter, &mut required);
                }
            }
            required.extend(range.unwrap.iter().map(|unwrap| unwrap.label.clone()));
            Some(required)
        }
        Grouping::Without(_) => None,
    };
    Ok(Extractor { stages, grouping, required })
}

fn add_labels(filter: &LabelFilter, labels: &mut Vec<String>) {
    match filter {
        LabelFilter::And(left, right) | LabelFilter::Or(left, right) => {
            add_labels(left, labels);
            add_labels(right, labels);
        }
        LabelFilter::String(matcher) => labels.push(matcher.name.clone()),
        LabelFilter::Number { name, .. }
        | LabelFilter::Duration { name, .. }
        | LabelFilter::Bytes { name, .. }
        | LabelFilter::Ip { name, .. } => labels.push(name.clone()),
    }
}
