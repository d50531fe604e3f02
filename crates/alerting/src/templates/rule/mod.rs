//! Templates of labels and annotations of alerting rules, and of console pages.
//!
//! Source: Prometheus, `template`.

mod evidence;
mod functions;

use std::collections::BTreeMap;
use std::time::Duration;

use gotemplate::{
    Budget, Class, Element, Expressions, Limits, MAP, MissingKey, Parsed, Request, TEXT_MAP, Value,
};

pub use self::evidence::{MOST_PIECES, QueryExemplar, QueryLine};
use self::functions::{RuleContext, Vocabulary};
use super::TemplateError;

/// What Prometheus writes before each text, so that the data have names.
const NAMES: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}\
                     {{$externalURL := .ExternalURL}}{{$value := .Value}}";

/// A number or a histogram.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleValue {
    /// A float.
    Float(f64),
    /// A histogram as PromQL prints it.
    Histogram(String),
}

impl SampleValue {
    fn value<'d>(&self) -> Value<'d> {
        match self {
            SampleValue::Float(value) => Value::Float(*value),
            SampleValue::Histogram(text) => {
                Value::structure(&HISTOGRAM, vec![Value::text(text.clone())])
            }
        }
    }
}

/// A sample of what a query yields.
#[derive(Debug, Clone, PartialEq)]
pub struct QuerySample {
    /// Its labels, the name of the metric included.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: SampleValue,
}

/// What a template of a rule sees.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleTemplate {
    /// `$labels`: labels of the alert.
    pub labels: BTreeMap<String, String>,
    /// `$externalLabels`: labels that the server adds to all it sends.
    pub external_labels: BTreeMap<String, String>,
    /// `$externalURL`: where users reach the server.
    pub external_url: String,
    /// `$value`: what the rule's expression yields.
    pub value: SampleValue,
    /// When the rule is evaluated.
    pub now_ms: i64,
    /// What one expansion may use.
    pub limits: Limits,
}

/// Where templates are expanded.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// When.
    pub now_ms: i64,
    /// Where users reach the server.
    pub external_url: &'a str,
    /// What keys yield that maps do not have; Prometheus has [`MissingKey::Zero`].
    pub missing_key: MissingKey,
    /// Whether values are escaped for HTML, and templates are expanded by `tmpl`.
    pub html: bool,
    /// What one expansion may use.
    pub limits: Limits,
}

/// Answers what templates ask.
pub trait Source {
    /// What a query yields at a time, milliseconds since the epoch. The error says why there is no answer.
    fn query(&mut self, text: &str, at_ms: i64) -> Result<Vec<QuerySample>, String>;

    /// The newest lines that the rule counted for this alert, newest first. The error says why there are none.
    fn lines(&mut self, most: usize) -> Result<Vec<QueryLine>, String> {
        let _ = most;
        Ok(Vec::new())
    }

    /// The newest lines of a query, of a range that ends when the rule is evaluated, newest first. The error
    /// says why there is no answer.
    fn lines_of(
        &mut self,
        text: &str,
        range: Duration,
        most: usize,
    ) -> Result<Vec<QueryLine>, String> {
        let _ = (text, range, most);
        Ok(Vec::new())
    }

    /// The newest exemplars of the series that the rule read for this alert, newest first. The error says why
    /// there are none.
    fn exemplars(&mut self, most: usize) -> Result<Vec<QueryExemplar>, String> {
        let _ = most;
        Ok(Vec::new())
    }
}

impl<F: FnMut(&str, i64) -> Result<Vec<QuerySample>, String>> Source for F {
    fn query(&mut self, text: &str, at_ms: i64) -> Result<Vec<QuerySample>, String> {
        self(text, at_ms)
    }
}

static HISTOGRAM: Class = Class {
    name: "*histogram.FloatHistogram",
    fields: &["text"],
    json: &[],
    element: Element::Any,
    methods: &[],
    text: Some(|value, out| {
        if let Value::Struct(histogram) = value {
            out.push_str(histogram.values.first().and_then(Value::as_text).unwrap_or_default());
        }
    }),
};

/// A sample.
static SAMPLE: Class = Class {
    name: "*template.sample",
    fields: &["Labels", "Value"],
    json: &[],
    element: Element::Any,
    methods: &[],
    text: None,
};

/// What queries yield.
static QUERY_RESULT: Class = Class::plain("template.queryResult", Element::Any);

/// The data of a rule.
static DATA: Class = Class {
    name: "struct { Labels map[string]string; ExternalLabels map[string]string; \
           ExternalURL string; Value interface {} }",
    fields: &["Labels", "ExternalLabels", "ExternalURL", "Value"],
    json: &[],
    element: Element::Any,
    methods: &[],
    text: None,
};

/// Whether a text can be a template of a rule: what Prometheus and `promtool` check when a file of
/// rules is loaded.
///
/// # Errors
/// It is none; `name` is what the error calls it, such as `__alert_InstanceDown`.
pub fn check_named(name: &str, text: &str) -> Result<(), TemplateError> {
    let text = format!("{NAMES}{text}");
    Parsed::new(name, &text, &Vocabulary { html: false }).map_err(TemplateError::Parse)?;
    Ok(())
}

/// The same for a text without a name.
///
/// # Errors
/// It is none.
pub fn check(text: &str) -> Result<(), TemplateError> {
    check_named("", text)
}

/// What a template of a rule makes of an alert. `name` is what errors call it, such as
/// `__alert_InstanceDown`; `source` answers what it asks.
///
/// # Errors
/// It is no template, it failed, or it used more than it may.
pub fn expand(
    name: &str,
    text: &str,
    data: &RuleTemplate,
    source: &mut dyn Source,
) -> Result<String, TemplateError> {
    if !text.contains("{{") {
        return Ok(text.to_owned());
    }
    let map = |labels: &BTreeMap<String, String>| {
        let entries = labels.iter().map(|(k, v)| (k.clone().into(), Value::text(v.clone())));
        Value::map(&TEXT_MAP, entries.collect())
    };
    let value = Value::structure(
        &DATA,
        vec![
            map(&data.labels),
            map(&data.external_labels),
            Value::text(data.external_url.clone()),
            data.value.value(),
        ],
    );
    let surroundings = Surroundings {
        now_ms: data.now_ms,
        external_url: &data.external_url,
        missing_key: MissingKey::Zero,
        html: false,
        limits: data.limits,
    };
    expand_value(name, &format!("{NAMES}{text}"), value, surroundings, source)
}

/// What a text makes of any data, as pages of consoles have them.
///
/// # Errors
/// It is no template, it failed, or it used more than it may.
pub fn expand_value(
    name: &str,
    text: &str,
    data: Value<'_>,
    surroundings: Surroundings<'_>,
    source: &mut dyn Source,
) -> Result<String, TemplateError> {
    let parsed =
        Parsed::new(name, text, &Vocabulary { html: surroundings.html }).map_err(|problem| {
            TemplateError::Parse(format!("error parsing template {name}: {problem}"))
        })?;
    let mut context = RuleContext {
        budget: Budget::new(surroundings.limits),
        expressions: Expressions::default(),
        surroundings,
        source,
    };
    let mut out = String::new();
    let request = Request {
        library: &parsed,
        data,
        missing_key: surroundings.missing_key,
        html: surroundings.html,
    };
    gotemplate::execute(request, &mut context, &mut out).map_err(|problem| {
        TemplateError::Execute(format!("error executing template {name}: {problem}"))
    })?;
    Ok(out)
}

/// `arg0`, `arg1` and so on.
fn arguments<'d>(budget: &mut Budget, args: &[Value<'d>]) -> Result<Value<'d>, String> {
    let entries = args.iter().enumerate().map(|(at, arg)| (format!("arg{at}").into(), arg.clone()));
    budget.map(&MAP, entries.collect())
}

#[cfg(test)]
mod tests;
