//! `delete`: lines of a selector, and of line filters behind it, that are not to be found any more.
//!
//! A delete is in effect when it is acknowledged, so there is nothing to wait for and nothing to cancel; what is
//! listed are those whose lines still lie on the disk.
//!
//! Source: `pkg/compactor/deletion/request_handler.go` of Loki.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use logql::syntax::ast::{Expr, LineFilterOp, LogExpr, StageKind};
use model::{MatchOp, Matcher, TimeRange};
use serde_json::{Value, json};

use super::encode;
use super::refusal::Refusal;
use super::time::parse_time_ns;
use crate::api::Administration;
use crate::params::Params;
use crate::storage::{LINE, LineDelete, StorageError};

/// Loki's words.
const NOT_CANCELLED: &str =
    "deletion of request which is in process or already processed is not allowed";

pub(super) async fn add(
    State(administration): State<Arc<Administration>>,
    params: Params,
) -> Result<Response, Refusal> {
    let now_ms = (administration.now_ms)();
    let text = params.get("query").ok_or_else(|| Refusal::bad("query not set"))?;
    let expr = logql::syntax::parse(text).map_err(Refusal::bad)?;
    let Expr::Log(log) = expr else {
        return Err(Refusal::bad("only log selectors with line filters can be deleted by"));
    };
    let selector = conditions(&log)?;
    let time = |name: &str| -> Result<Option<i64>, Refusal> {
        let wrong = |_| {
            Refusal::bad(format!("invalid {name} time: require unix seconds or RFC3339 format"))
        };
        params.get(name).map(|text| parse_time_ns(text).map_err(wrong)).transpose()
    };
    let start_ns = time("start")?.ok_or_else(|| Refusal::bad("start time not set"))?;
    let end_ns = time("end")?.unwrap_or(now_ms.saturating_mul(1_000_000));
    let (start_ms, end_ms) = (start_ns.div_euclid(1_000_000), end_ns.div_euclid(1_000_000));
    if end_ms > now_ms {
        return Err(Refusal::bad("deletes in the future are not allowed"));
    }
    if start_ms > end_ms {
        return Err(Refusal::bad("start time can't be greater than end time"));
    }
    let (storage, tenant) = (Arc::clone(&administration.storage), params.tenant());
    let range = TimeRange::new(start_ms, end_ms.saturating_add(1));
    blocking(move || storage.delete_lines(tenant, &selector, range)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn list(
    State(administration): State<Arc<Administration>>,
    params: Params,
) -> Result<Response, Refusal> {
    let (storage, tenant) = (Arc::clone(&administration.storage), params.tenant());
    let deletes = blocking(move || storage.line_deletes(tenant)).await?;
    let rows: Vec<Value> = deletes.iter().map(row).collect();
    Ok(encode::small(&Value::from(rows)))
}

pub(super) async fn cancel(
    State(administration): State<Arc<Administration>>,
    params: Params,
) -> Result<Response, Refusal> {
    let id = params.get("request_id").ok_or_else(|| Refusal::bad("request_id not set"))?;
    let (storage, tenant) = (Arc::clone(&administration.storage), params.tenant());
    let deletes = blocking(move || storage.line_deletes(tenant)).await?;
    if deletes.iter().any(|delete| request_id(delete) == id) {
        return Err(Refusal::bad(NOT_CANCELLED));
    }
    let text = "could not find delete request with given id".to_owned();
    Err(Refusal { status: StatusCode::NOT_FOUND, text })
}

fn request_id(delete: &LineDelete) -> String {
    format!("{:08x}", delete.number)
}

fn row(delete: &LineDelete) -> Value {
    let seconds = |ms: i64| ms as f64 / 1_000.0;
    json!({
        "request_id": request_id(delete),
        "start_time": seconds(delete.range.start_ms),
        "end_time": seconds(delete.range.end_ms.saturating_sub(1)),
        "query": query_of(&delete.selector),
        "status": "received",
        "created_at": seconds(delete.at_ms),
    })
}

/// The conditions of a selector and of the line filters behind it.
fn conditions(log: &LogExpr) -> Result<Vec<Matcher>, Refusal> {
    let mut conditions = log.matchers.clone();
    let refused = |what: &str| {
        Err(Refusal::bad(format!(
            "{what}: lines are deleted by a selector and by line filters |=, !=, |~, !~ with one text each"
        )))
    };
    for stage in &log.stages {
        let StageKind::LineFilter(filter) = &stage.kind else {
            return refused("unsupported stage");
        };
        let op = match filter.op {
            LineFilterOp::Contains => MatchOp::Equal,
            LineFilterOp::NotContains => MatchOp::NotEqual,
            LineFilterOp::Matches => MatchOp::Regex,
            LineFilterOp::NotMatches => MatchOp::NotRegex,
            LineFilterOp::Pattern | LineFilterOp::NotPattern => return refused("pattern filter"),
        };
        let [operand] = &filter.operands[..] else { return refused("several texts") };
        if operand.is_ip {
            return refused("ip()");
        }
        conditions.push(Matcher::new(LINE, op, &operand.value).map_err(Refusal::bad)?);
    }
    if conditions.is_empty() {
        return refused("no condition");
    }
    Ok(conditions)
}

/// The query that a delete was asked for with.
fn query_of(selector: &[(String, MatchOp, String)]) -> String {
    let (of_line, of_labels): (Vec<_>, Vec<_>) =
        selector.iter().partition(|(name, ..)| name == LINE);
    let labels = of_labels
        .iter()
        .map(|(name, op, value)| format!("{name}{}{}", op.as_str(), model::quote::quote(value)));
    let mut query = format!("{{{}}}", labels.collect::<Vec<_>>().join(", "));
    for (_, op, value) in of_line {
        let op = match op {
            MatchOp::Equal => "|=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "|~",
            MatchOp::NotRegex => "!~",
        };
        query.push_str(&format!(" {op} {}", model::quote::quote(value)));
    }
    query
}

/// Waits for the disk where that holds nobody up.
async fn blocking<T: Send + 'static>(
    task: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(task).await;
    let refusal = |status, text| Err(Refusal { status, text });
    match done {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(StorageError::Limit(text))) => refusal(StatusCode::BAD_REQUEST, text),
        Ok(Err(StorageError::Unavailable(text))) => refusal(StatusCode::SERVICE_UNAVAILABLE, text),
        Ok(Err(StorageError::Failed(text))) => refusal(StatusCode::INTERNAL_SERVER_ERROR, text),
        Err(panic) => {
            tracing::error!(%panic, "a delete failed inside");
            refusal(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the request failed inside; see the log".to_owned(),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletes_are_told_as_they_were_asked_for() {
        let query = r#"{app="a", env=~"x|y"} |= "needle \"1\"" !~ "b.*d""#;
        let Ok(Expr::Log(log)) = logql::syntax::parse(query) else { panic!("a query") };
        let conditions = conditions(&log).expect("line filters");
        let told = |m: &Matcher| (m.name.clone(), m.op, m.value.clone());
        let conditions: Vec<_> = conditions.iter().map(told).collect();
        assert_eq!(query_of(&conditions), query);
        for refused in [r#"{a="b"} | json"#, r#"{a="b"} |= "x" or "y""#, r#"{a="b"} |> "<_>x""#] {
            let Ok(Expr::Log(log)) = logql::syntax::parse(refused) else { panic!("a query") };
            assert!(super::conditions(&log).is_err(), "{refused}");
        }
    }
}
