//! `detected_labels`, `detected_fields` and the values of one field: what can be asked of lines.
//!
//! Source: `pkg/querier/queryrange/detected_fields.go` and `pkg/querier/querier.go` of Loki.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use logql::metric::Entry;
use logql::pipeline::{
    Category, LogfmtOptions, Pipeline, Stage, parse_bytes, parse_duration_ns, parse_float,
};
use logql::syntax::ast::{Expr, LogExpr, StageKind};
use model::Labels;
use net::ApiError;
use serde_json::{Value, json};

use super::asked::{Bounds, limit_or};
use super::encode;
use super::names::{listed, matchers, streams};
use super::pushdown::Pushdown;
use super::query::{asked, now_ns, parsed, run, seed};
use super::refusal::{Refusal, data_error, metric_error};
use crate::Console;
use crate::log_data::{LogFault, LogSnapshot};
use crate::params::Params;
use crate::respond::bad_data;

/// Lines that are looked at if nobody says how many.
const DEFAULT_LINES: usize = 100;
/// Lines that one request may ask to look at.
const MAX_LINES: usize = 5_000;
/// Fields or values that are yielded if nobody says how many.
const DEFAULT_LIMIT: usize = 1_000;
/// Values of one field that are told apart.
const MAX_VALUES: usize = 10_000;
/// Labels that place a stream, whatever their values are.
const PLACES: [&str; 4] = ["cluster", "instance", "namespace", "pod"];

pub(super) async fn labels(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, Refusal> {
    let bounds = Bounds::ordered(&params, now_ns(&console))?;
    let selector = params.get("query").map_or(Ok(Vec::new()), matchers)?;
    run(&console, listed(&params), move |data, work, _| {
        let snapshot = data.logs(work).map_err(data_error)?;
        let streams = streams(&*snapshot, &[selector], bounds, work)?;
        let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (name, value) in streams.iter().flat_map(Labels::iter) {
            values.entry(name).or_default().insert(value);
        }
        // Labels that have ids only tell lines apart, not kinds of them.
        let is_shown = |name: &str, values: &BTreeSet<&str>| {
            PLACES.contains(&name) || values.iter().any(|value| !is_id(value))
        };
        let shown = values.iter().filter(|(name, values)| is_shown(name, values));
        let rows: Vec<Value> = shown
            .map(|(name, values)| json!({ "label": name, "cardinality": values.len() }))
            .collect();
        Ok(encode::small(&json!({ "detectedLabels": rows })))
    })
    .await
}

/// Whether a value is a number or a UUID.
fn is_id(value: &str) -> bool {
    let is_uuid = || {
        let bytes = value.as_bytes();
        bytes.len() == 36
            && bytes.iter().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => *byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            })
    };
    value.parse::<f64>().is_ok() || is_uuid()
}

pub(super) async fn fields(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, Refusal> {
    let question = Question::of(&console, &params)?;
    run(&console, question.listed(&params), move |data, work, _| {
        let snapshot = data.logs(work).map_err(data_error)?;
        let found = question.find(&*snapshot)?;
        data.count_samples(snapshot.reads().lines);
        let rows: Vec<Value> = found.fields.iter().take(question.limit).map(Field::row).collect();
        Ok(encode::small(&json!({ "fields": rows, "limit": question.limit })))
    })
    .await
}

pub(super) async fn values(
    State(console): State<Arc<Console>>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, Refusal> {
    let question = Question::of(&console, &params)?;
    run(&console, question.listed(&params), move |data, work, _| {
        let snapshot = data.logs(work).map_err(data_error)?;
        let found = question.find(&*snapshot)?;
        data.count_samples(snapshot.reads().lines);
        let field = found.fields.get(&name);
        let values: Vec<&str> = field
            .iter()
            .flat_map(|field| field.values.iter())
            .map(String::as_str)
            .take(question.limit)
            .collect();
        Ok(encode::small(&json!({ "values": values, "limit": question.limit })))
    })
    .await
}

/// What is asked of fields.
pub(super) struct Question {
    pub(super) log: LogExpr,
    pub(super) bounds: Bounds,
    /// Lines that are looked at.
    pub(super) lines: usize,
    pub(super) limit: usize,
    pub(super) now_ns: i64,
}

impl Question {
    fn of(console: &Console, params: &Params) -> Result<Question, Refusal> {
        let now_ns = now_ns(console);
        let bounds = Bounds::ordered(params, now_ns)?;
        let lines = limit_or(params, "line_limit", DEFAULT_LINES)?.min(MAX_LINES);
        let limit = match params.get("limit") {
            None => limit_or(params, "field_limit", DEFAULT_LIMIT)?,
            Some(_) => limit_or(params, "limit", DEFAULT_LIMIT)?,
        };
        let Expr::Log(log) = parsed(params)? else {
            return Err(Refusal::bad("only log selectors are supported"));
        };
        Ok(Question { log, bounds, lines, limit, now_ns })
    }

    fn listed(&self, params: &Params) -> crate::running::Asked {
        asked(params, (self.bounds.start_ns, self.bounds.end_ns, 0))
    }

    /// Looks at the newest lines.
    pub(super) fn find(&self, snapshot: &dyn LogSnapshot) -> Result<Found, ApiError> {
        let wrong = |error: logql::syntax::ParseError| bad_data(error.to_string());
        let pushdown = Pushdown::of(&self.log).map_err(wrong)?;
        let Bounds { start_ns, end_ns } = self.bounds.of_lines();
        let mut request = pushdown.request(&self.log, start_ns, end_ns);
        request.newest_first = true;
        // Where the query takes lines apart itself, that is how.
        let own_parser = self.log.stages.iter().find_map(|stage| match stage.kind {
            StageKind::Json(_) => Some("json"),
            StageKind::Logfmt { .. } => Some("logfmt"),
            StageKind::Regexp(_) => Some("regexp"),
            StageKind::Pattern(_) => Some("pattern"),
            StageKind::Unpack => Some("unpack"),
            _ => None,
        });
        loop {
            let stages = logql::compile::stages(&self.log).map_err(wrong)?;
            let mut pipeline = Pipeline::new(stages, seed());
            pipeline.set_now_ns(self.now_ns);
            pipeline.set_zones(super::zones::of_host);
            let mut found = Found::new(own_parser);
            let mut lines = 0;
            let mut take = |labels: &Labels, line: &Entry<'_>| {
                pipeline.set_stream(labels.iter());
                let metadata = line.metadata.iter().copied();
                if let Some(kept) = pipeline.process(line.timestamp_ns, line.line, metadata) {
                    found.take(labels, &kept);
                    lines += 1;
                }
                if lines >= self.lines { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            match snapshot.lines(&request, &mut take) {
                Ok(()) => return Ok(found),
                Err(LogFault::Again) => {}
                Err(LogFault::Source(error)) => return Err(data_error(error)),
                Err(LogFault::Query(error)) => return Err(metric_error(error)),
            }
        }
    }
}

/// Fields of lines, by name.
pub(super) struct Found {
    fields: BTreeMap<String, Field>,
    own_parser: Option<&'static str>,
    json: Pipeline,
    logfmt: Pipeline,
}

#[derive(Default)]
struct Field {
    kind: Option<&'static str>,
    values: BTreeSet<String>,
    parsers: BTreeSet<&'static str>,
    json_path: Vec<String>,
}

impl Field {
    fn row((name, field): (&String, &Field)) -> Value {
        let mut row = json!({
            "label": name,
            "type": field.kind.unwrap_or("string"),
            "cardinality": field.values.len(),
            "parsers": if field.parsers.is_empty() { Value::Null } else { json!(field.parsers) },
        });
        if !field.json_path.is_empty() {
            row["jsonPath"] = json!(field.json_path);
        }
        row
    }

    fn add(&mut self, value: &str, parser: Option<&'static str>) {
        let kind = kind_of(value);
        self.kind = match self.kind {
            None => Some(kind),
            Some(known) if known == kind => Some(kind),
            // Whole numbers among others are numbers.
            Some("float" | "int") if matches!(kind, "float" | "int") => Some("float"),
            Some(_) => Some("string"),
        };
        if self.values.len() < MAX_VALUES && !self.values.contains(value) {
            self.values.insert(value.to_owned());
        }
        self.parsers.extend(parser);
    }
}

/// What a value is, in Loki's order.
fn kind_of(value: &str) -> &'static str {
    if value.parse::<i64>().is_ok() {
        "int"
    } else if parse_float(value).is_ok() {
        "float"
    } else if matches!(
        value,
        "1" | "t" | "T" | "TRUE" | "true" | "True" | "0" | "f" | "F" | "FALSE" | "false" | "False"
    ) {
        "boolean"
    } else if parse_duration_ns(value).is_ok() {
        "duration"
    } else if parse_bytes(value).is_ok() {
        "bytes"
    } else {
        "string"
    }
}

impl Found {
    fn new(own_parser: Option<&'static str>) -> Self {
        let logfmt = LogfmtOptions { strict: true, keep_empty: false };
        Found {
            fields: BTreeMap::new(),
            own_parser,
            json: Pipeline::new(vec![Stage::Json], seed()),
            logfmt: Pipeline::new(vec![Stage::Logfmt(logfmt)], seed()),
        }
    }

    /// Fields that lines have behind the query, with their values: not those that a parser would find in them.
    pub(super) fn of_the_query(self) -> Vec<(String, BTreeSet<String>)> {
        let is_parsed = self.own_parser.is_some();
        let fields = self.fields.into_iter();
        fields
            .filter(|(_, field)| is_parsed || field.parsers.is_empty())
            .map(|(name, field)| (name, field.values))
            .collect()
    }

    fn take(&mut self, labels: &Labels, line: &logql::pipeline::Entry<'_>) {
        line.for_each_label(|name, value, category| match category {
            Category::Stream => {}
            Category::StructuredMetadata => add(&mut self.fields, name, value, None),
            Category::Parsed => add(&mut self.fields, name, value, self.own_parser),
        });
        if self.own_parser.is_some() {
            return;
        }
        let text = line.line().trim_ascii_start();
        let (pipeline, parser) = if text.first() == Some(&b'{') {
            (&mut self.json, "json")
        } else {
            (&mut self.logfmt, "logfmt")
        };
        // So that what the stream has, too, has the name that a query would give it.
        pipeline.set_stream(labels.iter());
        let Some(parsed) = pipeline.process(line.timestamp_ns(), line.line(), []) else { return };
        if parsed.error().is_some() {
            return;
        }
        let fields = &mut self.fields;
        parsed.for_each_label(|name, value, category| {
            if category == Category::Parsed {
                add(fields, name, value, Some(parser));
            }
        });
        if parser == "json" {
            add_paths(fields, line.line());
        }
    }
}

fn add(
    fields: &mut BTreeMap<String, Field>,
    name: &str,
    value: &str,
    parser: Option<&'static str>,
) {
    if name.is_empty() || name.starts_with("__error") {
        return;
    }
    if !fields.contains_key(name) {
        fields.insert(name.to_owned(), Field::default());
    }
    if let Some(field) = fields.get_mut(name) {
        field.add(value, parser);
    }
}

/// Tells where in a JSON line each field is.
fn add_paths(fields: &mut BTreeMap<String, Field>, line: &[u8]) {
    let Ok(Value::Object(object)) = serde_json::from_slice::<Value>(line) else { return };
    let mut path = Vec::new();
    walk(&object, &mut path, &mut |path| {
        let cleaned: Vec<String> = path.iter().map(|key| cleaned(key)).collect();
        let name = cleaned.join("_");
        let extracted = format!("{name}_extracted");
        let known = [name, extracted].into_iter().find(|name| fields.contains_key(name));
        let field = known.and_then(|name| fields.get_mut(&name));
        if let Some(field) = field.filter(|field| field.json_path.is_empty()) {
            field.json_path = path.iter().map(|key| (*key).to_owned()).collect();
        }
    });
}

fn walk<'v>(
    object: &'v serde_json::Map<String, Value>,
    path: &mut Vec<&'v str>,
    each: &mut dyn FnMut(&[&str]),
) {
    for (key, value) in object {
        path.push(key);
        match value {
            Value::Object(inner) => walk(inner, path, each),
            Value::Array(_) => {}
            _ => each(path),
        }
        path.pop();
    }
}

/// A key as the parser makes it a part of a name.
fn cleaned(key: &str) -> String {
    let mut out: String =
        key.trim().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_those_of_loki() {
        for (value, kind) in [
            ("12", "int"),
            ("-1.5", "float"),
            ("true", "boolean"),
            ("250ms", "duration"),
            ("20MB", "bytes"),
            ("GET", "string"),
        ] {
            assert_eq!(kind_of(value), kind, "{value}");
        }
        let mut field = Field::default();
        ["1", "2.5"].iter().for_each(|value| field.add(value, None));
        assert_eq!(field.kind, Some("float"));
        field.add("x", None);
        assert_eq!(field.kind, Some("string"));
    }

    #[test]
    fn fields_of_json_say_where_they_are() {
        let mut found = Found::new(None);
        let mut all = Pipeline::new(Vec::new(), 1);
        let labels = Labels::from_pairs([("app", "a")]).expect("valid");
        all.set_stream(labels.iter());
        let line = br#"{"app":"x","http":{"status-code":200},"list":[1]}"#;
        let kept = all.process(1, line, [("trace_id", "7")]).expect("no filter");
        found.take(&labels, &kept);
        let rows: Vec<Value> = found.fields.iter().map(Field::row).collect();
        assert_eq!(
            Value::from(rows),
            json!([
                {"label": "app_extracted", "type": "string", "cardinality": 1, "parsers": ["json"],
                 "jsonPath": ["app"]},
                {"label": "http_status_code", "type": "int", "cardinality": 1, "parsers": ["json"],
                 "jsonPath": ["http", "status-code"]},
                {"label": "trace_id", "type": "int", "cardinality": 1, "parsers": null},
            ])
        );
    }

    #[test]
    fn ids_are_numbers_and_uuids() {
        assert!(is_id("12") && is_id("1.5") && is_id("6ba7b810-9dad-11d1-80b4-00c04fd430c8"));
        assert!(!is_id("prod") && !is_id("6ba7b810-9dad-11d1-80b4-00c04fd430cx") && !is_id(""));
    }
}
