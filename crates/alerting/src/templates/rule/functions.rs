//! The functions of Prometheus' templates.
//!
//! Source: Prometheus, `template`; the manual, "Template reference".

use gotemplate::Param::{Any, Class, Int, Text};
use gotemplate::{
    Budget, Context, Expressions, Function, Owner, Safety, Signature, TEXT_MAP, Value, query_escape,
};

use super::super::title::{Rest, title};
use super::super::{convert, hosts, replaced, text_at};
use super::evidence::{exemplars, lines, lines_of};
use super::{QUERY_RESULT, SAMPLE, Source, Surroundings};

pub(super) type Outcome<'d> = Result<Value<'d>, String>;

/// What functions work with besides their arguments.
pub(super) struct RuleContext<'c> {
    pub(super) budget: Budget,
    pub(super) expressions: Expressions,
    pub(super) surroundings: Surroundings<'c>,
    pub(super) source: &'c mut dyn Source,
}

type Body = for<'d> fn(&mut RuleContext<'_>, &[Value<'d>]) -> Outcome<'d>;

struct Entry {
    signature: Signature,
    body: Body,
}

const fn fixed(name: &'static str, fixed: &'static [gotemplate::Param], body: Body) -> Entry {
    Entry { signature: Signature::fixed(name, fixed), body }
}

/// A list of samples.
const SAMPLES: gotemplate::Param = Class("template.queryResult");
/// A sample.
const ONE: gotemplate::Param = Class("*template.sample");

static TABLE: &[Entry] = &[
    fixed("query", &[Text], query),
    // The next three are ours: what is behind an alert.
    fixed("lines", &[Int], lines),
    fixed("linesOf", &[Text, Text, Int], lines_of),
    fixed("exemplars", &[Int], exemplars),
    fixed("first", &[SAMPLES], |_, args| {
        let first = match &args[0] {
            Value::List(list) => list.items.first().cloned(),
            _ => None,
        };
        first.ok_or_else(|| "first() called on vector with no elements".to_owned())
    }),
    fixed("label", &[Text, ONE], |_, args| label(&args[1], text_at(args, 0))),
    fixed("value", &[ONE], |_, args| field(&args[0], "Value")),
    fixed("strvalue", &[ONE], |_, args| label(&args[0], "__value__")),
    Entry {
        signature: Signature::variadic("args", &[], Any),
        body: |context, args| super::arguments(&mut context.budget, args),
    },
    fixed("reReplaceAll", &[Text, Text, Text], |context, args| {
        replaced(&mut context.expressions, &mut context.budget, args)
    }),
    fixed("safeHtml", &[Text], |_, args| Ok(Value::safe(Safety::Html, text_at(args, 0)))),
    fixed("match", &[Text, Text], |context, args| {
        let (expression, text) = (text_at(args, 0), text_at(args, 1));
        Ok(Value::Bool(context.expressions.is_match(expression, text, &mut context.budget)?))
    }),
    fixed("title", &[Text], |context, args| {
        context.budget.text(title(text_at(args, 0), Rest::Kept))
    }),
    fixed("toUpper", &[Text], |context, args| {
        context.budget.text(gotemplate::upper(text_at(args, 0)))
    }),
    fixed("toLower", &[Text], |context, args| {
        context.budget.text(gotemplate::lower(text_at(args, 0)))
    }),
    fixed("graphLink", &[Text], |context, args| link(context, args, 0)),
    fixed("tableLink", &[Text], |context, args| link(context, args, 1)),
    fixed("sortByLabel", &[Text, SAMPLES], sort_by_label),
    fixed("stripPort", &[Text], |context, args| {
        context.budget.text(hosts::strip_port(text_at(args, 0)).to_owned())
    }),
    fixed("stripDomain", &[Text], |context, args| {
        context.budget.text(hosts::strip_domain(text_at(args, 0)))
    }),
    fixed("humanize", &[Any], |context, args| number(context, args, convert::humanize)),
    fixed("humanize1024", &[Any], |context, args| number(context, args, convert::humanize1024)),
    fixed("humanizeDuration", &[Any], |context, args| {
        number(context, args, convert::humanize_duration)
    }),
    fixed("humanizePercentage", &[Any], |context, args| {
        number(context, args, convert::humanize_percentage)
    }),
    fixed("humanizeTimestamp", &[Any], |context, args| {
        let text = convert::humanize_timestamp(convert::to_float(&args[0])?)?;
        context.budget.text(text)
    }),
    fixed("toTime", &[Any], |_, args| match convert::to_time(convert::to_float(&args[0])?)? {
        Some(time) => Ok(Value::time(time)),
        None => Err("value is NaN or Inf".to_owned()),
    }),
    fixed("toDuration", &[Any], |_, args| {
        Ok(Value::Duration((convert::to_float(&args[0])? * 1e9) as i64))
    }),
    fixed("now", &[], |context, _| Ok(Value::Float(context.surroundings.now_ms as f64 / 1_000.0))),
    fixed("pathPrefix", &[], |context, _| {
        let path = hosts::path_of(context.surroundings.external_url);
        context.budget.text(path)
    }),
    fixed("externalURL", &[], |context, _| {
        context.budget.text(context.surroundings.external_url.to_owned())
    }),
    fixed("parseDuration", &[Text], |_, args| parse_duration(text_at(args, 0))),
    fixed("urlQueryEscape", &[Text], |context, args| {
        context.budget.text(query_escape(text_at(args, 0)))
    }),
];

/// `tmpl`, which only pages have.
static EXPAND: Signature = Signature::fixed("tmpl", &[Text, Any]);

/// The functions of rules, and, `html`, those of pages.
pub(super) struct Vocabulary {
    pub(super) html: bool,
}

impl gotemplate::Vocabulary for Vocabulary {
    fn find(&self, name: &str) -> Option<Function> {
        if self.html && name == EXPAND.name {
            return Some(Function { signature: &EXPAND, owner: Owner::Expand });
        }
        let number = TABLE.iter().position(|entry| entry.signature.name == name)?;
        Some(Function { signature: &TABLE[number].signature, owner: Owner::Dialect(number) })
    }
}

impl<'d> Context<'d> for RuleContext<'_> {
    fn budget(&mut self) -> &mut Budget {
        &mut self.budget
    }

    fn field(&mut self, _: usize, _: &str) -> Value<'d> {
        // The data of rules is never labels that are not built.
        Value::Nil
    }

    fn call(&mut self, function: usize, args: &[Value<'d>]) -> Outcome<'d> {
        (TABLE[function].body)(self, args)
    }
}

fn query<'d>(context: &mut RuleContext<'_>, args: &[Value<'d>]) -> Outcome<'d> {
    let samples = context.source.query(text_at(args, 0), context.surroundings.now_ms)?;
    let mut items = Vec::with_capacity(samples.len().min(1_024));
    for sample in samples {
        let labels = sample.labels.into_iter().map(|(k, v)| (k.into(), Value::text(v)));
        let labels = context.budget.map(&TEXT_MAP, labels.collect())?;
        items.push(Value::structure(&SAMPLE, vec![labels, sample.value.value()]));
    }
    context.budget.list(&QUERY_RESULT, items)
}

/// A field of a sample; none of a sample that is not there.
fn field<'d>(sample: &Value<'d>, name: &str) -> Outcome<'d> {
    let field = match sample {
        Value::Struct(sample) => sample.field(name).cloned(),
        _ => None,
    };
    field.ok_or_else(|| {
        "runtime error: invalid memory address or nil pointer dereference".to_owned()
    })
}

fn label<'d>(sample: &Value<'d>, name: &str) -> Outcome<'d> {
    let labels = field(sample, "Labels")?;
    Ok(labels.entry(name).unwrap_or_else(|| Value::text("")))
}

fn link<'d>(context: &mut RuleContext<'_>, args: &[Value<'d>], tab: u8) -> Outcome<'d> {
    let expression = query_escape(text_at(args, 0));
    context.budget.text(format!("/graph?g0.expr={expression}&g0.tab={tab}"))
}

fn sort_by_label<'d>(context: &mut RuleContext<'_>, args: &[Value<'d>]) -> Outcome<'d> {
    let Value::List(list) = &args[1] else { return Ok(args[1].clone()) };
    let name = text_at(args, 0);
    let mut items = list.items.clone();
    items.sort_by_cached_key(|sample| {
        let value = label(sample, name).ok();
        value.as_ref().and_then(Value::as_text).unwrap_or_default().to_owned()
    });
    context.budget.list(&QUERY_RESULT, items)
}

fn number<'d>(
    context: &mut RuleContext<'_>,
    args: &[Value<'d>],
    show: fn(f64) -> String,
) -> Outcome<'d> {
    let text = show(convert::to_float(&args[0])?);
    context.budget.text(text)
}

/// In seconds.
fn parse_duration<'d>(text: &str) -> Outcome<'d> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let duration = settings::parse_duration(digits).map_err(|error| match error {
        settings::DurationError::OutOfRange(_) => "duration out of range".to_owned(),
        settings::DurationError::Invalid(text) => match unknown_unit(&text) {
            Some(unit) => {
                let (unit, text) = (model::quote::quote(unit), model::quote::quote(&text));
                format!("unknown unit {unit} in duration {text}")
            }
            None => format!("not a valid duration string: {}", model::quote::quote(&text)),
        },
        other => other.to_string(),
    })?;
    let seconds = duration.as_secs_f64();
    // There is no negative zero among durations.
    Ok(Value::Float(if negative && seconds > 0.0 { -seconds } else { seconds }))
}

/// The first unit of a duration that is none, if what stands before it is in order.
fn unknown_unit(text: &str) -> Option<&str> {
    const UNITS: [&str; 7] = ["y", "w", "d", "h", "m", "s", "ms"];
    let (mut rest, mut last) = (text, None);
    while rest.starts_with(|c: char| c.is_ascii_digit()) {
        let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let len = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        if len == 0 {
            return None;
        }
        let Some(place) = UNITS.iter().position(|known| *known == &unit[..len]) else {
            return Some(&unit[..len]);
        };
        if last.is_some_and(|last| place <= last) {
            return None;
        }
        last = Some(place);
        rest = &unit[len..];
    }
    None
}
