//! `/loki/api/v1/completions`: what may stand at a place in a query of LogQL, for whoever writes one.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use logql::pipeline::template_functions;
use logql::syntax::ast::{Expr, RangeOp, VectorOp};
use logql::syntax::completion::{Completion, Place, complete, documentation};
use model::{Labels, Matcher};
use net::ApiError;
use serde_json::json;

use super::asked::Bounds;
use super::detected::Question;
use super::encode;
use super::names::{listed, streams};
use super::query::{now_ns, run};
use super::refusal::{Refusal, data_error};
use crate::Console;
use crate::data::Work;
use crate::log_data::LogSnapshot;
use crate::params::Params;
use crate::proposals::{Item, MAX_QUERY_BYTES, Proposals, byte_of, fitting, sort, units_to};

/// Proposals that are made if nobody says how many.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1_000;
/// Lines whose fields are proposed, the newest ones.
const MAX_LINES: usize = 200;
/// Names of stages as they stand behind `|`.
const STAGES: [&str; 11] = [
    "json",
    "logfmt",
    "pattern",
    "regexp",
    "unpack",
    "line_format",
    "label_format",
    "decolorize",
    "drop",
    "keep",
    "unwrap",
];

pub(super) async fn completions(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, Refusal> {
    let request = Request::of(&console, &params)?;
    run(&console, listed(&params), move |data, work, _| {
        let snapshot = data.logs(work).map_err(data_error)?;
        let proposals = request.propose(&*snapshot, work)?;
        data.count_samples(snapshot.reads().lines);
        let mut body = json!({ "status": "success", "data": proposals });
        let missing = snapshot.missing();
        if !missing.is_empty() {
            body["warnings"] = json!(missing);
        }
        Ok(encode::small(&body))
    })
    .await
}

struct Request {
    text: String,
    at: usize,
    found: Completion,
    bounds: Bounds,
    limit: usize,
    is_chinese: bool,
    now_ns: i64,
}

impl Request {
    fn of(console: &Console, params: &Params) -> Result<Request, Refusal> {
        let text = params.get("query").unwrap_or_default().to_owned();
        if text.len() > MAX_QUERY_BYTES {
            return Err(Refusal::bad(format!(
                "the query has {} bytes, completions are proposed up to {MAX_QUERY_BYTES}; \
                 shorten it",
                text.len()
            )));
        }
        let at = match params.count("pos")? {
            Some(units) => byte_of(&text, units).ok_or_else(|| {
                Refusal::bad(format!("pos {units} is beyond the end of the query"))
            })?,
            None => text.len(),
        };
        let is_chinese = match params.get("lang") {
            None | Some("en") => false,
            Some("zh") => true,
            Some(other) => {
                return Err(Refusal::bad(format!(
                    "unknown lang {other:?}: must be \"en\" or \"zh\""
                )));
            }
        };
        let now_ns = now_ns(console);
        let limit = params.count("limit")?.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
        let bounds = Bounds::ordered(params, now_ns)?;
        let found = complete(&text, at);
        Ok(Request { found, at, text, bounds, limit, is_chinese, now_ns })
    }

    fn word(&self) -> &str {
        self.text.get(self.found.start..self.at).unwrap_or_default()
    }

    fn propose(&self, snapshot: &dyn LogSnapshot, work: &Work) -> Result<Proposals, ApiError> {
        let mut items = self.items(snapshot, work)?;
        sort(self.word(), &mut items);
        let has_more = items.len() > self.limit;
        items.truncate(self.limit);
        let from = units_to(&self.text, self.found.start);
        let to = units_to(&self.text, self.found.end);
        Ok(Proposals { from, to, items, has_more })
    }

    fn items(&self, snapshot: &dyn LogSnapshot, work: &Work) -> Result<Vec<Item>, ApiError> {
        Ok(match &self.found.place {
            Place::Expression { words } => {
                let selector = Item { insert: "{".to_owned(), ..self.word_item("{") };
                let mut items = fitting(self.word(), std::iter::once(selector));
                items.extend(self.words(words));
                items.extend(self.calls());
                items
            }
            Place::Words(words) => self.words(words),
            Place::Stage { query } => {
                let mut items = self.words(&STAGES);
                items.extend(self.fields(query, snapshot, work)?);
                items
            }
            Place::Field { query, words, .. } => {
                let mut items = self.words(words);
                items.extend(self.fields(query, snapshot, work)?);
                items
            }
            Place::FieldValue { query, field, .. } => {
                self.field_values(query, field, snapshot, work)?
            }
            Place::LabelName { selector } => {
                let streams = self.streams(selector, snapshot, work)?;
                let names = streams.iter().flat_map(Labels::iter).map(|(name, _)| name);
                let mut names: BTreeSet<&str> = names.collect();
                names.retain(|name| !selector.iter().any(|one| one.name == *name));
                self.labels(names, "label")
            }
            Place::LabelValue { label, selector, .. } => {
                let streams = self.streams(selector, snapshot, work)?;
                self.values(streams.iter().filter_map(|labels| labels.get(label)).collect())
            }
            Place::Template { query, is_field } => {
                self.template(query, *is_field, snapshot, work)?
            }
            Place::Duration => self.durations(),
            Place::Nothing => Vec::new(),
        })
    }

    fn help(&self, name: &str) -> String {
        let text = documentation(name).map(|doc| if self.is_chinese { doc.zh } else { doc.en });
        text.unwrap_or_default().to_owned()
    }

    fn word_item(&self, word: &str) -> Item {
        let is_sign = !word.contains(|c: char| c.is_alphanumeric());
        let is_stage = word.starts_with("| ") || STAGES.contains(&word);
        Item {
            label: word.to_owned(),
            kind: if is_stage {
                "stage"
            } else if is_sign {
                "operator"
            } else {
                "keyword"
            },
            insert: self.found.insert_word(&self.text, word),
            help: self.help(word),
            ..Item::default()
        }
    }

    fn words(&self, words: &[&str]) -> Vec<Item> {
        fitting(self.word(), words.iter().map(|word| self.word_item(word)))
    }

    fn calls(&self) -> Vec<Item> {
        let call = |name: &str, kind: &'static str, detail: &str| Item {
            label: name.to_owned(),
            kind,
            insert: self.found.insert_call(&self.text, name),
            detail: detail.to_owned(),
            help: self.help(name),
            ..Item::default()
        };
        let ranges = RangeOp::ALL.iter().map(|op| {
            let detail = match op {
                RangeOp::QuantileOverTime => "(scalar, unwrapped range) vector",
                op if op.takes_lines() => "(log range) vector",
                _ => "(unwrapped range) vector",
            };
            call(op.as_str(), "function", detail)
        });
        let vectors = VectorOp::ALL.iter().map(|op| {
            let detail = match op {
                VectorOp::TopK | VectorOp::BottomK | VectorOp::ApproxTopK => {
                    "(scalar, vector) vector"
                }
                _ => "(vector) vector",
            };
            call(op.as_str(), "aggregation", detail)
        });
        let others = [
            call("vector", "function", "(scalar) vector"),
            call("label_replace", "function", "(vector, string, string, string, string) vector"),
        ];
        fitting(self.word(), ranges.chain(vectors).chain(others))
    }

    fn labels(&self, names: BTreeSet<&str>, kind: &'static str) -> Vec<Item> {
        let item = |name: &str| {
            let insert = self.found.insert_label(&self.text, name)?;
            Some(Item { label: name.to_owned(), kind, insert, ..Item::default() })
        };
        fitting(self.word(), names.into_iter().filter_map(item))
    }

    fn values(&self, values: BTreeSet<&str>) -> Vec<Item> {
        let item = |value: &str| Item {
            label: value.to_owned(),
            kind: "value",
            insert: self.found.insert_value(value),
            ..Item::default()
        };
        fitting(self.word(), values.into_iter().map(item))
    }

    fn durations(&self) -> Vec<Item> {
        let item = |text: String| Item {
            label: text.clone(),
            kind: "duration",
            insert: text,
            ..Item::default()
        };
        fitting(self.word(), self.found.durations(&self.text, self.at).into_iter().map(item))
    }

    fn streams(
        &self,
        selector: &[Matcher],
        snapshot: &dyn LogSnapshot,
        work: &Work,
    ) -> Result<Vec<Labels>, ApiError> {
        streams(snapshot, &[selector.to_vec()], self.bounds, work)
    }

    /// Labels of the streams of a query of lines, and what its newest lines have besides; nothing if the query
    /// cannot be read.
    fn known(
        &self,
        query: &str,
        snapshot: &dyn LogSnapshot,
        work: &Work,
    ) -> Result<Option<Known>, ApiError> {
        if query.is_empty() {
            // No lines are asked for yet.
            let streams = self.streams(&[], snapshot, work)?;
            return Ok(Some(Known { streams, fields: Vec::new() }));
        }
        let Ok(Expr::Log(log)) = logql::syntax::parse(query) else { return Ok(None) };
        if logql::compile::check(&Expr::Log(log.clone())).is_err() {
            return Ok(None);
        }
        let streams = self.streams(&log.matchers, snapshot, work)?;
        let question = Question {
            log,
            bounds: self.bounds,
            lines: MAX_LINES,
            limit: MAX_LIMIT,
            now_ns: self.now_ns,
        };
        Ok(Some(Known { streams, fields: question.find(snapshot)?.of_the_query() }))
    }

    fn fields(
        &self,
        query: &str,
        snapshot: &dyn LogSnapshot,
        work: &Work,
    ) -> Result<Vec<Item>, ApiError> {
        let known = self.known(query, snapshot, work)?;
        Ok(known.map_or_else(Vec::new, |known| self.labels(known.names(), "field")))
    }

    fn field_values(
        &self,
        query: &str,
        field: &str,
        snapshot: &dyn LogSnapshot,
        work: &Work,
    ) -> Result<Vec<Item>, ApiError> {
        let known = self.known(query, snapshot, work)?;
        Ok(known.map_or_else(Vec::new, |known| self.values(known.values(field))))
    }

    fn template(
        &self,
        query: &str,
        is_field: bool,
        snapshot: &dyn LogSnapshot,
        work: &Work,
    ) -> Result<Vec<Item>, ApiError> {
        let known = self.known(query, snapshot, work)?;
        let field = |name: &str| Item {
            label: name.to_owned(),
            kind: "field",
            insert: if is_field { name.to_owned() } else { format!(".{name}") },
            ..Item::default()
        };
        let names = known.iter().flat_map(Known::names);
        let mut items = fitting(self.word(), names.map(field));
        if !is_field {
            let function = |name: &'static str| Item {
                label: name.to_owned(),
                kind: "function",
                insert: format!("{name} "),
                ..Item::default()
            };
            items.extend(fitting(self.word(), template_functions().map(function)));
        }
        Ok(items)
    }
}

/// What lines of a query have.
struct Known {
    streams: Vec<Labels>,
    fields: Vec<(String, BTreeSet<String>)>,
}

impl Known {
    fn names(&self) -> BTreeSet<&str> {
        let labels = self.streams.iter().flat_map(Labels::iter).map(|(name, _)| name);
        labels.chain(self.fields.iter().map(|(name, _)| name.as_str())).collect()
    }

    fn values(&self, name: &str) -> BTreeSet<&str> {
        let labels = self.streams.iter().filter_map(|labels| labels.get(name));
        let fields = self.fields.iter().filter(|(one, _)| one == name);
        labels.chain(fields.flat_map(|(_, values)| values.iter().map(String::as_str))).collect()
    }
}
