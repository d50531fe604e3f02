//! `/api/v1/completions`: what may stand at a place in a query, for whoever writes one.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use model::{METRIC_NAME, Matcher, TimeRange};
use promql::{
    AGGREGATORS, Completion, Doc, FUNCTIONS, Place, SourceError, complete, documentation,
    keyword_documentation,
};
use serde::Serialize;

use super::search::limit;
use crate::Console;
use crate::counted::QueryData;
use crate::data::Work;
use crate::families::Families;
use crate::params::Params;
use crate::proposals::{
    Item, MAX_QUERY_BYTES, Proposals, byte_of, fitting, search_for, sort, units_to,
};
use crate::respond::{self, bad_data, source_error};
use crate::running::hold;
use net::ApiError;

/// Without `start`, names of so much time are proposed.
const DEFAULT_RANGE_MS: i64 = 60 * 60 * 1_000;

#[derive(Serialize)]
struct Answer<'a> {
    status: &'static str,
    data: Proposals,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

pub(super) async fn completions(
    State(console): State<Arc<Console>>,
    params: Params,
) -> Result<Response, ApiError> {
    let request = Request::of(&params, console.now_ms())?;
    let read = move |data: &QueryData, work: &Work| {
        let (proposals, warnings) = request.propose(data, work).map_err(source_error)?;
        let answer = Answer { status: "success", data: proposals, warnings: &warnings };
        let body = serde_json::to_vec(&answer).expect("a vector takes everything");
        let held = hold(work, body.len()).map_err(source_error)?;
        Ok(respond::json_held(StatusCode::OK, body, held))
    };
    console.executor().in_time(params.asked(), read).await
}

struct Request {
    text: String,
    at: usize,
    place: Completion,
    range: TimeRange,
    limit: usize,
    is_chinese: bool,
}

impl Request {
    fn of(params: &Params, now_ms: i64) -> Result<Request, ApiError> {
        let text = params.get("query").unwrap_or_default().to_owned();
        if text.len() > MAX_QUERY_BYTES {
            return Err(bad_data(format!(
                "the query has {} bytes, completions are proposed up to {MAX_QUERY_BYTES}; \
                 shorten it",
                text.len()
            )));
        }
        let at = match params.count("pos")? {
            Some(units) => byte_of(&text, units)
                .ok_or_else(|| bad_data(format!("pos {units} is beyond the end of the query")))?,
            None => text.len(),
        };
        let start_ms = params.optional_time_ms("start")?;
        let start_ms = start_ms.unwrap_or(now_ms.saturating_sub(DEFAULT_RANGE_MS));
        let end_ms = params.optional_time_ms("end")?.unwrap_or(now_ms);
        let is_chinese = match params.get("lang") {
            None | Some("en") => false,
            Some("zh") => true,
            Some(other) => {
                return Err(bad_data(format!("unknown lang {other:?}: must be \"en\" or \"zh\"")));
            }
        };
        Ok(Request {
            place: complete(&text, at),
            at,
            text,
            range: TimeRange::new(start_ms, end_ms.saturating_add(1)),
            limit: limit(params)?,
            is_chinese,
        })
    }

    fn word(&self) -> &str {
        self.text.get(self.place.start..self.at).unwrap_or_default()
    }

    fn propose(
        &self,
        data: &QueryData,
        work: &Work,
    ) -> Result<(Proposals, Vec<String>), SourceError> {
        let store = Store { data, work, request: self, has_more: false, warnings: Vec::new() };
        let (items, has_more, warnings) = store.items()?;
        let from = units_to(&self.text, self.place.start);
        let to = units_to(&self.text, self.place.end);
        Ok((Proposals { from, to, items, has_more }, warnings))
    }

    fn help(&self, doc: Option<Doc>) -> String {
        let text = doc.map(|doc| if self.is_chinese { doc.zh } else { doc.en });
        text.unwrap_or_default().to_owned()
    }

    fn words(&self, words: &[&str]) -> Vec<Item> {
        let item = |&word: &&str| Item {
            label: word.to_owned(),
            kind: "keyword",
            insert: self.place.insert_word(&self.text, word),
            help: self.help(keyword_documentation(word)),
            ..Item::default()
        };
        fitting(self.word(), words.iter().map(item))
    }

    fn calls(&self) -> Vec<Item> {
        let aggregations = AGGREGATORS.iter().map(|(op, doc)| Item {
            label: op.as_str().to_owned(),
            kind: "aggregation",
            insert: self.place.insert_call(&self.text, op.as_str(), true),
            detail: op.signature().to_owned(),
            help: self.help(Some(*doc)),
            ..Item::default()
        });
        let functions = FUNCTIONS.iter().map(|function| Item {
            label: function.name.to_owned(),
            kind: "function",
            insert: self.place.insert_call(&self.text, function.name, !function.args.is_empty()),
            detail: function.signature(),
            help: self.help(documentation(function.name)),
            ..Item::default()
        });
        fitting(self.word(), aggregations.chain(functions))
    }

    fn durations(&self) -> Vec<Item> {
        let item = |text: String| Item {
            label: text.trim_end_matches('(').to_owned(),
            kind: "duration",
            insert: text,
            ..Item::default()
        };
        let all = self.place.durations(&self.text, self.at);
        fitting(self.word(), all.into_iter().map(item))
    }

    fn operators(&self) -> Vec<Item> {
        let item = |op: &str| Item {
            label: op.to_owned(),
            kind: "operator",
            insert: op.to_owned(),
            ..Item::default()
        };
        ["=", "!=", "=~", "!~"].map(item).into_iter().collect()
    }
}

/// Where names come from.
struct Store<'a> {
    data: &'a QueryData,
    work: &'a Work,
    request: &'a Request,
    has_more: bool,
    warnings: Vec<String>,
}

impl Store<'_> {
    fn items(mut self) -> Result<(Vec<Item>, bool, Vec<String>), SourceError> {
        let request = self.request;
        let mut items = match &request.place.place {
            Place::Expression { words } => {
                let fixed = request.words(words).into_iter().chain(request.calls());
                let metrics = self.metrics(&[])?.into_iter();
                match request.word().is_empty() {
                    // Nobody looks for a name yet: what is there comes before what can be done to it.
                    true => metrics.chain(fixed).collect(),
                    false => fixed.chain(metrics).collect(),
                }
            }
            Place::Words(words) => request.words(words),
            Place::Grouping { selectors, taken } => {
                let mut labels = self.labels(selectors)?;
                labels.retain(|item| !taken.contains(&item.label));
                labels
            }
            Place::LabelName { selector, or_metric } => {
                let mut labels = self.labels(&useful(selector))?;
                let is_taken = |name: &str| selector.iter().any(|one| one.name == name);
                labels.retain(|item| item.label != METRIC_NAME && !is_taken(&item.label));
                // Outside of quotation marks a name among matchers is that of a label.
                if *or_metric && request.place.quote.is_some() {
                    labels.extend(self.metrics(&useful(selector))?);
                }
                labels
            }
            Place::LabelValue { label, selector, .. } => self.values(label, &useful(selector))?,
            Place::MatchOperator => request.operators(),
            Place::Duration { .. } => request.durations(),
            Place::Nothing => Vec::new(),
        };
        sort(request.word(), &mut items);
        Ok((items, self.has_more, self.warnings))
    }

    fn names(
        &mut self,
        of: Option<&str>,
        selectors: &[Vec<Matcher>],
    ) -> Result<Vec<(String, f64)>, SourceError> {
        let request = self.request;
        let snapshot = self.data.snapshot(self.work)?;
        let search = search_for(request.word(), request.limit + 1);
        let mut found = snapshot.search(of, selectors, request.range, &search)?;
        self.has_more |= found.len() > request.limit;
        found.truncate(request.limit);
        self.warnings = snapshot.missing(request.range);
        Ok(found.into_iter().map(|one| (one.name, one.score)).collect())
    }

    fn metrics(&mut self, selectors: &[Vec<Matcher>]) -> Result<Vec<Item>, SourceError> {
        let names = self.names(Some(METRIC_NAME), selectors)?;
        let families = names.iter().map(|(name, _)| name.as_str());
        let families = Families::of(families, self.data)?;
        let place = &self.request.place;
        let item = |(name, score): (String, f64)| {
            let insert = place.insert_metric(&name)?;
            let (detail, help, unit) =
                families.about(&name).map_or_else(Default::default, |about| {
                    (about.kind.as_str().to_owned(), about.help.clone(), about.unit.clone())
                });
            Some(Item { label: name, kind: "metric", insert, detail, help, unit, score })
        };
        Ok(names.into_iter().filter_map(item).collect())
    }

    fn labels(&mut self, selectors: &[Vec<Matcher>]) -> Result<Vec<Item>, SourceError> {
        let Request { place, text, .. } = self.request;
        let item = |(name, score): (String, f64)| {
            let insert = place.insert_label(text, &name)?;
            Some(Item { label: name, kind: "label", insert, score, ..Item::default() })
        };
        Ok(self.names(None, selectors)?.into_iter().filter_map(item).collect())
    }

    fn values(
        &mut self,
        label: &str,
        selectors: &[Vec<Matcher>],
    ) -> Result<Vec<Item>, SourceError> {
        let place = &self.request.place;
        let item = |(value, score): (String, f64)| {
            let insert = place.insert_value(&value)?;
            Some(Item { label: value, kind: "value", insert, score, ..Item::default() })
        };
        Ok(self.names(Some(label), selectors)?.into_iter().filter_map(item).collect())
    }
}

/// A selector as a list of one, or of none if it asks for everything.
fn useful(selector: &[Matcher]) -> Vec<Vec<Matcher>> {
    match selector.iter().all(Matcher::matches_empty) {
        true => Vec::new(),
        false => vec![selector.to_vec()],
    }
}
