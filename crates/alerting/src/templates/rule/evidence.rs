//! What is behind an alert: lines and exemplars, as templates see them.
//!
//! Prometheus has none of this; a file with these functions is one for Watchfire alone.

use std::collections::BTreeMap;
use std::time::Duration;

use gotemplate::{Budget, Class, Element, TEXT_MAP, Value};
use model::go_time::GoTime;

use super::super::text_at;
use super::functions::{Outcome, RuleContext};

/// Lines or exemplars that one call yields at most: a message is no place to read logs.
pub const MOST_PIECES: usize = 100;

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryLine {
    /// Nanoseconds since the epoch.
    pub t_ns: i64,
    /// As it is behind the pipeline.
    pub line: String,
    /// Of its stream, its structured metadata and what was parsed.
    pub labels: Vec<(String, String)>,
}

/// An exemplar.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryExemplar {
    /// Milliseconds since the epoch.
    pub t_ms: i64,
    /// What was measured.
    pub value: f64,
    /// Its own labels, such as `trace_id`.
    pub labels: Vec<(String, String)>,
    /// Labels of its series, the name of the metric included.
    pub series: Vec<(String, String)>,
}

const fn class(name: &'static str, fields: &'static [&'static str]) -> Class {
    Class { name, fields, json: &[], element: Element::Any, methods: &[], text: None }
}

static LINE: Class = class("*template.line", &["Line", "Labels", "Time"]);
static LINES: Class = Class::plain("template.lines", Element::Any);
static EXEMPLAR: Class = class("*template.exemplar", &["Value", "Labels", "Series", "Time"]);
static EXEMPLARS: Class = Class::plain("template.exemplars", Element::Any);

/// `lines 3`
pub(super) fn lines<'d>(context: &mut RuleContext<'_>, args: &[Value<'d>]) -> Outcome<'d> {
    let found = context.source.lines(most(&args[0])?)?;
    list_of_lines(&mut context.budget, found)
}

/// `linesOf "{host=\"a\"} |= \"error\"" "5m" 3`
pub(super) fn lines_of<'d>(context: &mut RuleContext<'_>, args: &[Value<'d>]) -> Outcome<'d> {
    let range = settings::parse_duration(text_at(args, 1)).map_err(|error| error.to_string())?;
    if range < Duration::from_millis(1) {
        return Err("linesOf wants a range such as \"5m\"".to_owned());
    }
    let found = context.source.lines_of(text_at(args, 0), range, most(&args[2])?)?;
    list_of_lines(&mut context.budget, found)
}

/// `exemplars 3`
pub(super) fn exemplars<'d>(context: &mut RuleContext<'_>, args: &[Value<'d>]) -> Outcome<'d> {
    let found = context.source.exemplars(most(&args[0])?)?;
    let budget = &mut context.budget;
    let mut items = Vec::with_capacity(found.len());
    for QueryExemplar { t_ms, value, labels, series } in found {
        let (labels, series) = (map(budget, labels)?, map(budget, series)?);
        let time = Value::time(GoTime::from_unix_ns(t_ms.saturating_mul(1_000_000)));
        items.push(Value::structure(&EXEMPLAR, vec![Value::Float(value), labels, series, time]));
    }
    budget.list(&EXEMPLARS, items)
}

fn most(value: &Value<'_>) -> Result<usize, String> {
    let most = value.as_integer().and_then(|most| usize::try_from(most).ok());
    most.filter(|most| (1..=MOST_PIECES).contains(most))
        .ok_or_else(|| format!("how many is a number from 1 to {MOST_PIECES}"))
}

fn list_of_lines<'d>(budget: &mut Budget, found: Vec<QueryLine>) -> Outcome<'d> {
    let mut items = Vec::with_capacity(found.len());
    for QueryLine { t_ns, line, labels } in found {
        let (line, labels) = (budget.text(line)?, map(budget, labels)?);
        let time = Value::time(GoTime::from_unix_ns(t_ns));
        items.push(Value::structure(&LINE, vec![line, labels, time]));
    }
    budget.list(&LINES, items)
}

fn map<'d>(budget: &mut Budget, labels: Vec<(String, String)>) -> Outcome<'d> {
    let mut entries = BTreeMap::new();
    for (name, value) in labels {
        entries.insert(name.into(), budget.text(value)?);
    }
    budget.map(&TEXT_MAP, entries)
}
