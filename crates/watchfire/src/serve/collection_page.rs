//! How the collection of lines goes, for programs and for people: each source with how far it is, and
//! which files are not collected and why.

use std::fmt::Write as _;
use std::sync::Arc;

use agent::logs::{CollectionStatus, LookStatus, SourceStatus};
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use model::TenantName;
use net::auth::Principal;
use net::{Access, Routes};

/// Sources that the page lists; JSON has all.
const LISTED: usize = 1_000;

/// The routes of a process that may collect.
pub(super) fn routes(collection: Option<Arc<CollectionStatus>>) -> Routes {
    let for_page = collection.clone();
    let told = async move |caller: Principal| answer(&caller, || json(collection.as_deref()));
    let page = async move |caller: Principal| answer(&caller, || page(for_page.as_deref()));
    Routes::new().route("/api/v1/status/collection", [Method::GET], Access::Read, told).route(
        "/collection",
        [Method::GET],
        Access::Read,
        page,
    )
}

/// Paths of this host are the default tenant's, as its metrics are.
fn answer(caller: &Principal, tell: impl FnOnce() -> Response) -> Response {
    if caller.sees(TenantName::DEFAULT) {
        return tell();
    }
    let why = "what this host collects is told to who reaches the tenant default\n";
    (StatusCode::FORBIDDEN, why).into_response()
}

fn json(collection: Option<&CollectionStatus>) -> Response {
    let data = match collection {
        None => serde_json::json!({"collects": false}),
        Some(status) => {
            let LookStatus { patterns, passed_over, more_passed_over } = status.looked();
            serde_json::json!({
                "collects": true,
                "waiting": status.is_waiting(),
                "pendingBatches": status.pending_batches(),
                "lagBytes": status.lag_bytes(),
                "lines": status.lines(),
                "sources": status.sources(),
                "patterns": patterns,
                "passedOver": passed_over,
                "morePassedOver": more_passed_over,
            })
        }
    };
    let body = serde_json::json!({"status": "success", "data": data}).to_string();
    ([("content-type", "application/json")], body).into_response()
}

fn page(collection: Option<&CollectionStatus>) -> Response {
    let mut out = String::from(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"refresh\" content=\"10\"><title>Collected lines</title></head><body>\n\
         <h1>Collected lines</h1>\n",
    );
    match collection {
        None => out.push_str("<p>This process collects no lines.</p>\n"),
        Some(status) => write_status(status, &mut out),
    }
    out.push_str("</body></html>\n");
    ([("content-type", "text/html; charset=utf-8")], out).into_response()
}

fn write_status(status: &CollectionStatus, out: &mut String) {
    let mut sources = status.sources();
    let waiting = if status.is_waiting() {
        " Nothing is read now: the spool of lines is full or not writable."
    } else {
        ""
    };
    let _ = writeln!(
        out,
        "<p>{} sources, {} bytes behind, {} batches that no broker has.{waiting}</p>",
        sources.len(),
        status.lag_bytes(),
        status.pending_batches()
    );
    sources.sort_by_key(|source| std::cmp::Reverse(source.lag_bytes));
    let more = sources.len().saturating_sub(LISTED);
    sources.truncate(LISTED);
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    let row = |source: &SourceStatus| {
        vec![
            source.name.clone(),
            source.state.as_str().to_owned(),
            source.read.to_string(),
            source.size_bytes.to_string(),
            source.lag_bytes.to_string(),
            source.lines.to_string(),
            source.error.clone().unwrap_or_default(),
        ]
    };
    let head = ["source", "state", "read", "size", "behind", "lines", "error"];
    table("Sources", &head, sources.iter().map(row), out);
    if more > 0 {
        let _ = writeln!(out, "<p>And {more} that are not further behind.</p>");
    }
    let looked = status.looked();
    let row = |passed: &agent::logs::PassedOver| vec![passed.path.clone(), passed.reason.clone()];
    table("Not collected", &["file", "why"], looked.passed_over.iter().map(row), out);
    if looked.more_passed_over > 0 {
        let _ = writeln!(out, "<p>And {} more.</p>", looked.more_passed_over);
    }
    let row = |pattern: &agent::logs::PatternStatus| {
        let reason = pattern.reason.clone().unwrap_or_default();
        vec![pattern.pattern.clone(), pattern.files.to_string(), reason]
    };
    table("Patterns", &["pattern", "files", "why none"], looked.patterns.iter().map(row), out);
}

fn table(title: &str, head: &[&str], rows: impl Iterator<Item = Vec<String>>, out: &mut String) {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return;
    }
    let _ = write!(out, "<h2>{title}</h2>\n<table border=\"1\"><tr>");
    for name in head {
        let _ = write!(out, "<th>{name}</th>");
    }
    out.push_str("</tr>\n");
    for row in rows {
        out.push_str("<tr>");
        for cell in row {
            out.push_str("<td>");
            escape(&cell, out);
            out.push_str("</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table>\n");
}

/// Names of files may have any characters.
fn escape(text: &str, out: &mut String) {
    for char in text.chars() {
        match char {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            char => out.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_no_markup() {
        let mut out = String::new();
        let rows = [vec!["/var/<script>&\".log".to_owned()]].into_iter();
        table("Sources", &["source"], rows, &mut out);
        assert!(out.contains("<td>/var/&lt;script&gt;&amp;&quot;.log</td>"), "{out}");
        table("Nothing", &["source"], std::iter::empty(), &mut out);
        assert!(!out.contains("Nothing"));
    }
}
