//! The functions of Alertmanager's templates.
//!
//! Source: Alertmanager, `template`; the manual, "Notification template reference".

use std::cell::RefCell;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE};
use gotemplate::Param::{Any, List, Text, Time};
use gotemplate::{
    Budget, Context, Expressions, Function, LIST, MAP, Owner, Safety, Signature, TEXTS, Value,
    parse_duration, query_unescape,
};
use model::go_time::GoTime;

use super::super::title::{Rest, title};
use super::super::{convert, replaced, text_at};
use super::{Kv, Templates, labels};

type Outcome<'d> = Result<Value<'d>, String>;

/// Labels of the route, which may be templates that name one another.
pub(super) struct Routes<'r> {
    labels: &'r Kv,
    rendered: bool,
    /// What was made of labels already, and which are at work.
    state: RefCell<RouteState>,
}

#[derive(Default)]
struct RouteState {
    made: BTreeMap<String, String>,
    at_work: Vec<String>,
}

impl<'r> Routes<'r> {
    pub(super) fn new(labels: &'r Kv, rendered: bool) -> Self {
        Routes { labels, rendered, state: RefCell::default() }
    }
}

/// What functions work with besides their arguments.
pub(super) struct NoticeContext<'c, 'd> {
    templates: &'c Templates,
    data: &'c Value<'d>,
    routes: &'c Routes<'c>,
    now_ns: i64,
    html: bool,
    pub(super) budget: Budget,
    expressions: Expressions,
}

impl<'c, 'd> NoticeContext<'c, 'd> {
    pub(super) fn new(
        templates: &'c Templates,
        data: &'c Value<'d>,
        routes: &'c Routes<'c>,
        now_ns: i64,
        html: bool,
        budget: Budget,
    ) -> Self {
        let expressions = Expressions::default();
        NoticeContext { templates, data, routes, now_ns, html, budget, expressions }
    }
}

type Body = for<'d> fn(&mut NoticeContext<'_, '_>, &[Value<'d>]) -> Outcome<'d>;

struct Entry {
    signature: Signature,
    body: Body,
}

const fn fixed(name: &'static str, fixed: &'static [gotemplate::Param], body: Body) -> Entry {
    Entry { signature: Signature::fixed(name, fixed), body }
}

const fn variadic(
    name: &'static str,
    fixed: &'static [gotemplate::Param],
    rest: gotemplate::Param,
    body: Body,
) -> Entry {
    Entry { signature: Signature::variadic(name, fixed, rest), body }
}

static TABLE: &[Entry] = &[
    fixed("toUpper", &[Text], |context, args| {
        context.budget.text(gotemplate::upper(text_at(args, 0)))
    }),
    fixed("toLower", &[Text], |context, args| {
        context.budget.text(gotemplate::lower(text_at(args, 0)))
    }),
    fixed("title", &[Text], |context, args| {
        context.budget.text(title(text_at(args, 0), Rest::Lower))
    }),
    fixed("trimSpace", &[Text], |context, args| {
        context.budget.text(text_at(args, 0).trim().to_owned())
    }),
    fixed("join", &[Text, Any], |context, args| match &args[1] {
        list @ (Value::List(_) | Value::Nil) => {
            labels::join(&mut context.budget, list, text_at(args, 0))
        }
        other => Err(format!("join expects a slice or array, got {}", other.type_name())),
    }),
    fixed("match", &[Text, Text], |context, args| {
        let (expression, text) = (text_at(args, 0), text_at(args, 1));
        Ok(Value::Bool(context.expressions.is_match(expression, text, &mut context.budget)?))
    }),
    fixed("safeHtml", &[Text], |_, args| Ok(Value::safe(Safety::Html, text_at(args, 0)))),
    fixed("safeUrl", &[Text], |_, args| Ok(Value::safe(Safety::Url, text_at(args, 0)))),
    fixed("urlUnescape", &[Text], |context, args| {
        let text = query_unescape(text_at(args, 0))?;
        context.budget.text(text)
    }),
    fixed("reReplaceAll", &[Text, Text, Text], |context, args| {
        replaced(&mut context.expressions, &mut context.budget, args)
    }),
    variadic("stringSlice", &[], Text, |context, args| context.budget.list(&TEXTS, args.to_vec())),
    fixed("routeLabels", &[Text], |context, args| route_label(context, text_at(args, 0))),
    fixed("date", &[Text, Time], |context, args| {
        let mut out = String::new();
        time_at(args, 1).format_into(&mut out, text_at(args, 0));
        context.budget.text(out)
    }),
    fixed("tz", &[Text, Time], |context, args| {
        in_zone(context, text_at(args, 0), &time_at(args, 1))
    }),
    fixed("now", &[], |context, _| Ok(Value::time(GoTime::from_unix_ns(context.now_ns)))),
    fixed("since", &[Time], |context, args| {
        let time = time_at(args, 0);
        let ns = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
        let passed = i128::from(context.now_ns) - ns;
        // As in Go, what is too long is as long as can be.
        let most = if passed < 0 { i64::MIN } else { i64::MAX };
        Ok(Value::Duration(i64::try_from(passed).unwrap_or(most)))
    }),
    fixed("humanizeDuration", &[Any], |context, args| {
        let text = convert::humanize_duration(convert::to_float(&args[0])?);
        context.budget.text(text)
    }),
    fixed("toDate", &[Text, Text], |_, args| {
        let time = GoTime::parse(text_at(args, 0), text_at(args, 1));
        Ok(Value::time(time.unwrap_or_else(GoTime::zero)))
    }),
    fixed("mustToDate", &[Text, Text], |_, args| {
        GoTime::parse_told(text_at(args, 0), text_at(args, 1)).map(Value::time)
    }),
    fixed("addDuration", &[Text, Time], |_, args| {
        let (ns, time) = (parse_duration(text_at(args, 0))?, time_at(args, 1));
        let nanos = i64::from(time.nanos) + ns.rem_euclid(1_000_000_000);
        let seconds = time.seconds.wrapping_add(ns.div_euclid(1_000_000_000));
        Ok(Value::Int64(seconds.wrapping_mul(1_000).wrapping_add(nanos / 1_000_000)))
    }),
    fixed("toJson", &[Any], |context, args| {
        let mut out = String::new();
        gotemplate::write_json(&args[0], &mut out, context.budget.limits().text_bytes)?;
        context.budget.text(out)
    }),
    fixed("base64encode", &[Text], |context, args| {
        context.budget.text(URL_SAFE.encode(text_at(args, 0)))
    }),
    fixed("base64decode", &[Text], base64_decode),
    variadic("list", &[], Any, |context, args| context.budget.list(&LIST, args.to_vec())),
    variadic("append", &[List], Any, |context, args| {
        let mut items = match &args[0] {
            Value::List(list) => list.items.clone(),
            _ => Vec::new(),
        };
        items.extend_from_slice(&args[1..]);
        context.budget.list(&LIST, items)
    }),
    variadic("dict", &[], Any, dict),
];

/// The functions of notifications.
pub(super) struct Vocabulary;

impl gotemplate::Vocabulary for Vocabulary {
    fn find(&self, name: &str) -> Option<Function> {
        let number = TABLE.iter().position(|entry| entry.signature.name == name)?;
        Some(Function { signature: &TABLE[number].signature, owner: Owner::Dialect(number) })
    }
}

impl<'d> Context<'d> for NoticeContext<'_, '_> {
    fn budget(&mut self) -> &mut Budget {
        &mut self.budget
    }

    fn field(&mut self, _: usize, _: &str) -> Value<'d> {
        // The data of notifications is never labels that are not built.
        Value::Nil
    }

    fn call(&mut self, function: usize, args: &[Value<'d>]) -> Outcome<'d> {
        (TABLE[function].body)(self, args)
    }
}

/// The time at a place; arguments were checked before.
fn time_at(args: &[Value<'_>], at: usize) -> GoTime {
    match args.get(at) {
        Some(Value::Time(time)) => GoTime::clone(time),
        _ => GoTime::zero(),
    }
}

fn in_zone<'d>(context: &NoticeContext<'_, '_>, name: &str, time: &GoTime) -> Outcome<'d> {
    if matches!(name, "" | "UTC" | "Local") {
        return Ok(Value::time(time.in_utc()));
    }
    if name.contains("..") || name.starts_with(['/', '\\']) {
        return Err("time: invalid location name".to_owned());
    }
    let shown = (context.templates.zones)(name).and_then(|file| time.in_zone(&file));
    shown.map(Value::time).ok_or_else(|| format!("unknown time zone {name}"))
}

fn base64_decode<'d>(context: &mut NoticeContext<'_, '_>, args: &[Value<'d>]) -> Outcome<'d> {
    use base64::DecodeError;
    /// Go passes over bits that are left at the end.
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::URL_SAFE,
        GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
    );
    // Go passes over line breaks.
    let text = text_at(args, 0).replace(['\r', '\n'], "");
    let bytes = LENIENT.decode(&text).map_err(|error| {
        let at = match error {
            DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
            // Four characters belong together.
            DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => text.len() / 4 * 4,
        };
        format!("illegal base64 data at input byte {at}")
    })?;
    context.budget.text(String::from_utf8_lossy(&bytes).into_owned())
}

fn dict<'d>(context: &mut NoticeContext<'_, '_>, args: &[Value<'d>]) -> Outcome<'d> {
    if !args.len().is_multiple_of(2) {
        return Err("dict requires an even number of arguments".to_owned());
    }
    let mut entries = BTreeMap::new();
    for pair in args.chunks_exact(2) {
        let Value::Text(key) = &pair[0] else { return Err("dict keys must be strings".to_owned()) };
        entries.insert(key.clone(), pair[1].clone());
    }
    context.budget.map(&MAP, entries)
}

/// What a label of the route makes of the notification; nothing, if there is no such label.
fn route_label<'d>(context: &mut NoticeContext<'_, '_>, name: &str) -> Outcome<'d> {
    /// Labels that may name one another in a row.
    const MAX_CHAIN: usize = 16;
    let routes = context.routes;
    let Some(template) = routes.labels.get(name) else { return Ok(Value::text("")) };
    if routes.rendered {
        return context.budget.text(template.clone());
    }
    {
        let mut state = routes.state.borrow_mut();
        if let Some(made) = state.made.get(name) {
            return context.budget.text(made.clone());
        }
        if state.at_work.iter().any(|known| known == name) {
            let cycle = state.at_work.join(" -> ");
            return Err(format!("route label cycle detected: {cycle} -> {name}"));
        }
        if state.at_work.len() == MAX_CHAIN {
            return Err(format!(
                "more than {MAX_CHAIN} route labels name one another in a row; name fewer"
            ));
        }
        state.at_work.push(name.to_owned());
    }
    let NoticeContext { templates, data, now_ns, html, .. } = *context;
    let made = templates.expand_within(template, data, routes, now_ns, html, &mut context.budget);
    let mut state = routes.state.borrow_mut();
    state.at_work.pop();
    let made = made.map_err(|error| error.to_string())?;
    state.made.insert(name.to_owned(), made.clone());
    context.budget.text(made)
}
