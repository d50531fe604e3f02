//! Elasticsearch's `_bulk`: a line that says what to do, and behind it the document.
//!
//! ```text
//! {"create":{"_index":"logs"}}
//! {"@timestamp":"2026-11-29T10:00:00Z","message":"a line","host":{"name":"a"}}
//! ```
//!
//! Source: <https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-bulk>. Documents
//! are added; what would change one or take it away is refused item by item.

use std::borrow::Cow;

use model::LogBatch;

use super::fields::{FieldLines, FieldOptions};
use super::intake::Intake;
use super::{LogContext, LogPushError, LogSummary, check_body};

/// Most items of one request: each takes its place in the answer.
const MAX_ITEMS: usize = 250_000;

/// What a request did, item by item.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BulkSummary {
    /// All in all.
    pub lines: LogSummary,
    /// Each item, in its order.
    pub items: Vec<BulkItem>,
}

/// What became of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkItem {
    /// `index`, `create`, `update` or `delete`.
    pub action: &'static str,
    /// Where it was to go; may be empty.
    pub index: String,
    /// Why it was not taken.
    pub error: Option<BulkError>,
}

/// Why an item was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkError {
    /// Elasticsearch's name for such errors.
    pub kind: &'static str,
    /// Why.
    pub reason: String,
}

impl BulkItem {
    /// The status of the item.
    pub fn status(&self) -> u16 {
        if self.error.is_some() { 400 } else { 201 }
    }
}

impl BulkSummary {
    /// The answer, which tells the outcome of each item; its status is 200 in any case.
    pub fn answer(&self, took_ms: u64) -> String {
        let has_errors = self.items.iter().any(|item| item.error.is_some());
        let items: Vec<serde_json::Value> = self.items.iter().map(shown).collect();
        serde_json::json!({ "took": took_ms, "errors": has_errors, "items": items }).to_string()
    }
}

fn shown(item: &BulkItem) -> serde_json::Value {
    let mut outcome = serde_json::json!({ "_index": item.index, "status": item.status() });
    match &item.error {
        Some(error) => {
            outcome["error"] = serde_json::json!({ "type": error.kind, "reason": error.reason });
        }
        None => outcome["result"] = "created".into(),
    }
    serde_json::json!({ item.action: outcome })
}

/// The answer that tells an error of the whole request, whose status is that of the error.
pub fn error_answer(error: &LogPushError) -> String {
    let cause = serde_json::json!({ "type": "illegal_argument_exception", "reason": error.text });
    let mut whole = cause.clone();
    whole["root_cause"] = serde_json::json!([cause]);
    serde_json::json!({ "error": whole, "status": error.status }).to_string()
}

/// Decodes a request into `out`, which is emptied first. `index` is that of the request's path, for
/// items that name none.
///
/// # Errors
/// Status 400 where a line that must say what to do does not, or its document is missing, 413 for a
/// body that is too large; `out` is then empty.
pub fn decode(
    body: &[u8],
    index: &str,
    options: &FieldOptions,
    context: &LogContext<'_>,
    out: &mut LogBatch,
) -> Result<BulkSummary, LogPushError> {
    let mut intake = Intake::new(context, out);
    let read =
        check_body(body, context.limits).and_then(|()| items(body, index, options, &mut intake));
    let lines = intake.finish();
    match read {
        Ok(items) => Ok(BulkSummary { lines, items }),
        Err(error) => {
            out.clear();
            Err(error)
        }
    }
}

fn items(
    body: &[u8],
    index: &str,
    options: &FieldOptions,
    intake: &mut Intake<'_>,
) -> Result<Vec<BulkItem>, LogPushError> {
    let mut lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).enumerate();
    let (mut items, mut fields) = (Vec::new(), FieldLines::default());
    while let Some((number, line)) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let (action, own_index) = action(line).ok_or_else(|| {
            let shown = String::from_utf8_lossy(&line[..line.len().min(60)]);
            LogPushError::bad_request(format!(
                "Malformed action/metadata line [{}], expected an object with the field [create] or \
                 [index] but found [{shown}]",
                number + 1
            ))
        })?;
        if items.len() == MAX_ITEMS {
            let text = format!("more than {MAX_ITEMS} items; send smaller batches");
            return Err(LogPushError { status: 413, text });
        }
        let index = own_index.unwrap_or_else(|| index.to_owned());
        let mut item = BulkItem { action, index, error: None };
        if action != "delete" {
            let document =
                lines.next().map(|(_, document)| document).filter(|text| !text.is_empty());
            let Some(document) = document else {
                return Err(LogPushError::bad_request(format!(
                    "The bulk request must be terminated by a newline [\\n]: the document of the \
                     action in line [{}] is missing",
                    number + 1
                )));
            };
            if action != "update" {
                if !fields.json(document, options, intake)? {
                    let (kind, reason) =
                        ("document_parsing_exception", intake.refusal().to_owned());
                    item.error = Some(BulkError { kind, reason });
                }
                items.push(item);
                continue;
            }
        }
        let reason = format!("lines are only added here; [{action}] is not known");
        intake.refuse_malformed(reason.clone(), line.len());
        item.error = Some(BulkError { kind: "illegal_argument_exception", reason });
        items.push(item);
    }
    if items.is_empty() {
        let text = "Validation Failed: 1: no requests added;";
        return Err(LogPushError::bad_request(text));
    }
    Ok(items)
}

/// What to do, and where.
fn action(line: &[u8]) -> Option<(&'static str, Option<String>)> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Action<'l> {
        #[serde(borrow)]
        index: Option<Target<'l>>,
        #[serde(borrow)]
        create: Option<Target<'l>>,
        #[serde(borrow)]
        update: Option<Target<'l>>,
        #[serde(borrow)]
        delete: Option<Target<'l>>,
    }

    #[derive(serde::Deserialize)]
    struct Target<'l> {
        #[serde(borrow, rename = "_index")]
        index: Option<Cow<'l, str>>,
    }

    let action: Action<'_> = serde_json::from_slice(line).ok()?;
    let Action { index, create, update, delete } = action;
    let mut named = [("create", create), ("index", index), ("update", update), ("delete", delete)]
        .into_iter()
        .filter_map(|(name, target)| Some((name, target?)));
    let (name, target) = named.next()?;
    let is_one = named.next().is_none();
    is_one.then(|| (name, target.index.map(Cow::into_owned)))
}
