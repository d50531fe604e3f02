//! What is proposed while a query is written.

use model::Matcher;
use promql::{Completion, Place, complete};
use proptest::prelude::*;

/// `|` is the place; another one stands as `¦`.
fn at(marked: &str) -> (Completion, String) {
    let (before, behind) = marked.split_once('|').expect("a place");
    let at = before.replace('¦', "|").len();
    let text = format!("{before}{behind}").replace('¦', "|");
    (complete(&text, at), text)
}

fn shown(selectors: &[Vec<Matcher>]) -> String {
    let of = |one: &Vec<Matcher>| {
        let matcher = |m: &Matcher| format!("{}{}{:?}", m.name, m.op.as_str(), m.value);
        format!("{{{}}}", one.iter().map(matcher).collect::<Vec<_>>().join(","))
    };
    selectors.iter().map(of).collect()
}

#[track_caller]
fn check(marked: &str, expected: &str) {
    let (Completion { start, end, quote, place, .. }, text) = at(marked);
    let place = match place {
        Place::Expression { words } => format!("expression {}", words.join(" ")),
        Place::Words(words) => format!("words {}", words.join(" ")),
        Place::Grouping { selectors, taken } => {
            format!("label of {} but {taken:?}", shown(&selectors))
        }
        Place::LabelName { selector, or_metric } => {
            format!("label{} of {}", if or_metric { " or metric" } else { "" }, shown(&[selector]))
        }
        Place::LabelValue { label, selector, is_regex } => {
            let kind = if is_regex { "pattern" } else { "value" };
            format!("{kind} of {label} of {}", shown(&[selector]))
        }
        Place::MatchOperator => "operator".to_owned(),
        Place::Duration { in_brackets } => {
            format!("duration{}", [" ", " []"][usize::from(in_brackets)])
        }
        Place::Nothing => "nothing".to_owned(),
    };
    let quote = quote.map(|mark| format!(" in {mark}")).unwrap_or_default();
    let word = &text[start..end];
    assert_eq!(format!("{word:?}{quote}: {}", place.trim_end()), expected, "{marked}");
}

#[test]
fn expressions_begin() {
    check("|", "\"\": expression");
    check("ra|", "\"ra\": expression");
    check("ra|te", "\"rate\": expression");
    check("sum(|)", "\"\": expression");
    check("sum by (x) (ra|(up))", "\"ra\": expression");
    check("topk(3, |", "\"\": expression");
    check("-|", "\"\": expression");
    check("job:up:su|", "\"job:up:su\": expression");
    check("# up\n|", "\"\": expression");
    check("\"broken\n|", "\"\": expression");
}

#[test]
fn behind_operators_stands_how_sides_match() {
    let fill = "fill fill_left fill_right";
    check("up + |", &format!("\"\": expression on ignoring {fill}"));
    check("up == b|", &format!("\"b\": expression bool on ignoring {fill}"));
    check("up == bool |", &format!("\"\": expression on ignoring {fill}"));
    check("up * on (job) |", &format!("\"\": expression group_left group_right {fill}"));
    check("up * on (job) group_left |", &format!("\"\": expression {fill}"));
    check("up * on (job) group_left (a) fill_left (0) |", "\"\": expression fill_right");
    check("up * fill (0) |", "\"\": expression");
    check("up * fill (|", "\"\": nothing");
    check("up and |", "\"\": expression on ignoring");
    check("up and on (a) |", "\"\": expression");
    check("up * on |", "\"\": nothing");
}

#[test]
fn words_stand_behind_operands() {
    check("up o|", "\"o\": words offset anchored smoothed and or unless atan2");
    check("up{a=\"b\"} |", "\"\": words offset anchored smoothed and or unless atan2");
    check("up[5m] |", "\"\": words offset anchored smoothed");
    check("up[1h:] |", "\"\": words offset");
    check("up offset 5m |", "\"\": words offset anchored smoothed and or unless atan2");
    check("sum(up) |", "\"\": words by without and or unless atan2");
    check("sum by (a) (up) |", "\"\": words and or unless atan2");
    check("sum(up) by (a) |", "\"\": words and or unless atan2");
    check("sum |", "\"\": words by without");
    check("sum by (x) |", "\"\": nothing");
    check("sum by |", "\"\": nothing");
    check("rate(x[5m]) |", "\"\": words and or unless atan2");
    check("(up) |", "\"\": words and or unless atan2");
    check("up @ |", "\"\": words start end");
    check("up @ end() |", "\"\": words offset anchored smoothed and or unless atan2");
    check("3 |", "\"\": words atan2");
    check("\"text\" |", "\"\": words");
    // What closes nothing is passed over.
    check("up) ) } ] |", "\"\": words offset anchored smoothed and or unless atan2");
}

#[test]
fn labels_and_values_are_those_of_the_selector() {
    check("up{|", "\"\": label of {__name__=\"up\"}");
    check("{|}", "\"\": label or metric of {}");
    check("{\"ht|", "\"ht\" in \": label or metric of {}");
    check("{\"a.b\", |}", "\"\": label of {__name__=\"a.b\"}");
    check("up{job=\"a\",in|}", "\"in\": label of {__name__=\"up\",job=\"a\"}");
    check("up{|, job=\"a\"} + down{x=\"1\"}", "\"\": label of {__name__=\"up\",job=\"a\"}");
    check("up{job|", "\"job\": label of {__name__=\"up\"}");
    check("up{job |", "\"\": operator");
    check("up{job!|", "\"!\": operator");
    check("up !|", "\"\": nothing");
    check("up =|", "\"\": nothing");
    check("up{job=|", "\"\": value of job of {__name__=\"up\"}");
    check("up{job=no|", "\"no\": value of job of {__name__=\"up\"}");
    check("up{job=\"|\"}", "\"\" in \": value of job of {__name__=\"up\"}");
    check("up{job=\"|, x=\"1\"}", "\"\" in \": value of job of {__name__=\"up\",x=\"1\"}");
    check(
        "up{x!=\"1\",job=~\"no|de\",y=\"2\"} + b",
        "\"node\" in \": pattern of job of {__name__=\"up\",x!=\"1\",y=\"2\"}",
    );
    check("up{job=~\"a¦(b¦c|d)\"}", "\"cd\" in \": pattern of job of {__name__=\"up\"}");
    check("up{job='it\\'s |", "\"it\\\\'s \" in ': value of job of {__name__=\"up\"}");
    check("up{job=\"a\"|", "\"\": nothing");
    check("sum(rate({__name__=\"a\", b=\"|", "\"\" in \": value of b of {__name__=\"a\"}");
}

#[test]
fn lists_take_labels_of_the_series_around() {
    check(
        "sum by (|) (rate(a{x=\"1\"}[5m])) / b",
        "\"\": label of {__name__=\"a\",x=\"1\"} but []",
    );
    check("b / sum(rate(a[5m])) without (y, z|)", "\"z\": label of {__name__=\"a\"} but [\"y\"]");
    check("a / on (|) b", "\"\": label of {__name__=\"a\"}{__name__=\"b\"} but []");
    check("a * on (x) group_left (|) {c=\"1\"}", "\"\": label of {__name__=\"a\"}{c=\"1\"} but []");
    check("sum by (x|", "\"x\": label of  but []");
    check("sum by (x |", "\"\": nothing");
    check("sum by (\"x|\") (a)", "\"x\" in \": label of {__name__=\"a\"} but []");
}

#[test]
fn lengths_of_time_and_what_is_nobodys_business() {
    check("rate(x[|", "\"\": duration []");
    check("rate(x[5|])", "\"5\": duration []");
    check("x[1h:|]", "\"\": duration []");
    check("x[1h:5|]", "\"5\": duration []");
    check("x[5m |", "\"\": nothing");
    check("x offset |", "\"\": duration");
    check("x offset -|", "\"\": duration");
    check("up + 12|", "\"12\": nothing");
    check("# up |", "\"\": nothing");
    check("label_replace(up, \"|\"", "\"\" in \": nothing");
    check("up{0|", "\"0\": nothing");
}

#[test]
fn names_are_written_as_the_place_wants_them() {
    let metric = |marked: &str, name: &str| at(marked).0.insert_metric(name).expect("writable");
    assert_eq!(metric("|", "up"), "up");
    assert_eq!(metric("|", "job:up:sum"), "job:up:sum");
    assert_eq!(metric("|", "http.server"), "{\"http.server\"}");
    assert_eq!(metric("|", "sum"), "sum");
    assert_eq!(metric("|", "on"), "{\"on\"}");
    assert_eq!(metric("{\"|", "a\"b"), "a\\\"b\"");
    assert_eq!(metric("{\"|\"}", "up"), "up");
    let label = |marked: &str, name: &str| {
        let (place, text) = at(marked);
        place.insert_label(&text, name).expect("writable")
    };
    assert_eq!(label("up{|", "job"), "job=");
    assert_eq!(label("up{j| =\"x\"}", "job"), "job");
    assert_eq!(label("up{|", "k8s.pod"), "\"k8s.pod\"=");
    assert_eq!(label("up{\"k|\"", "k8s.pod"), "k8s.pod");
    assert_eq!(label("up{\"k|", "k8s.pod"), "k8s.pod\"=");
    assert_eq!(label("sum by (|", "nan"), "\"nan\"");
    assert_eq!(label("sum by (|", "on"), "on");
    let value = |marked: &str, value: &str| at(marked).0.insert_value(value);
    assert_eq!(value("up{a=|", "x\"y").as_deref(), Some("\"x\\\"y\""));
    assert_eq!(value("up{a=\"|\"", "it's").as_deref(), Some("it's"));
    assert_eq!(value("up{a='|", "it's").as_deref(), Some("it\\'s'"));
    assert_eq!(value("up{a=~\"|\"", "a.b").as_deref(), Some("a\\\\.b"));
    assert_eq!(value("up{a=`|`", "a`b"), None);
    let (place, text) = at("|");
    assert_eq!(place.insert_call(&text, "rate", true), "rate(");
    assert_eq!(place.insert_call(&text, "time", false), "time()");
    let (place, text) = at("ra| (x[5m])");
    assert_eq!(place.insert_call(&text, "rate", true), "rate");
    let (place, text) = at("x[3|]");
    assert_eq!(place.durations(&text, 3), ["3ms", "3s", "3m", "3h", "3d", "3w", "3y"]);
}

/// Everything that is proposed at a place, for data with odd names, as it is inserted.
fn proposals(place: &Completion, text: &str, at: usize) -> Vec<String> {
    const NAMES: [&str; 6] = ["up", "a:b", "with.dot", "sum", "q\"u'o`t\\e", "é\u{fffd}\n"];
    let labels = || NAMES.iter().filter_map(|name| place.insert_label(text, name)).collect();
    let metrics = || NAMES.iter().filter_map(|name| place.insert_metric(name));
    let words = |words: &[&str]| words.iter().map(|word| place.insert_word(text, word)).collect();
    match &place.place {
        Place::Expression { words: more } => {
            let mut all: Vec<String> = words(more);
            all.extend(metrics());
            all.extend(["sum", "rate"].map(|name| place.insert_call(text, name, true)));
            all.push(place.insert_call(text, "time", false));
            all
        }
        Place::Words(those) => words(those),
        Place::LabelName { or_metric, .. } => {
            let mut all: Vec<String> = labels();
            if *or_metric {
                all.extend(metrics());
            }
            all
        }
        Place::Grouping { .. } => labels(),
        Place::LabelValue { .. } => {
            NAMES.iter().filter_map(|value| place.insert_value(value)).collect()
        }
        Place::MatchOperator => ["=", "!=", "=~", "!~"].map(str::to_owned).to_vec(),
        Place::Duration { .. } => place.durations(text, at),
        Place::Nothing => Vec::new(),
    }
}

/// What may follow a text so that it becomes a query: tried one after the other.
const ENDINGS: [&str; 22] = [
    "", "up", "up)", "x)", "x) (up)", "(up)", "(x)", "(x) up", "(x) (up)", "(0) up", "0) up",
    "x) up", ")", ") up", ") (up)", "5m", "1h])", "\"x\"}", "=\"x\"}", "}", "1", "1, 2",
];

/// Whether some end makes a query of `text`.
fn may_become_a_query(text: &str) -> bool {
    let closers = closers(text);
    let closed = |end: &&str| {
        let rest = closers.get(1..).unwrap_or_default();
        [format!("{text}{end}"), format!("{text}{end}{closers}"), format!("{text}{end}{rest}")]
    };
    ENDINGS.iter().flat_map(closed).any(|query| is_written_like_a_query(&query))
}

/// Whether the words fit; that a number stands where series should is no matter here.
fn is_written_like_a_query(text: &str) -> bool {
    match promql::parse(text) {
        Ok(_) => true,
        Err(error) => !error.message.starts_with("un"),
    }
}

/// What closes the brackets that are open at the end of `text`.
fn closers(text: &str) -> String {
    let mut open = Vec::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(mark), _) if mark == c => quote = None,
            (Some(mark), '\\') if mark != '`' => drop(chars.next()),
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '(') => open.push(')'),
            (None, '[') => open.push(']'),
            (None, '{') => open.push('}'),
            (None, ')' | ']' | '}') => drop(open.pop()),
            _ => {}
        }
    }
    quote.into_iter().chain(open.into_iter().rev()).collect()
}

fn any_query() -> impl Strategy<Value = String> {
    let selector = prop::sample::select(vec![
        "up",
        "up{job=\"a\"}",
        "up{job=~\"a|b\", x!='1'}",
        "{\"with.dot\", a=\"b\"}",
        "up offset 5m",
        "up @ end()",
    ]);
    let leaf = prop_oneof![selector.prop_map(str::to_owned), Just("3".to_owned())];
    leaf.prop_recursive(3, 12, 2, |inner| {
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            inner.clone().prop_map(|a| format!("({a})")),
            Just("rate(up{a=\"b\"}[5m])".to_owned()),
            Just("max_over_time(up[1h:5m])".to_owned()),
            inner.clone().prop_map(|a| format!("sum by (job, \"x.y\") ({a})")),
            inner.clone().prop_map(|a| format!("topk(3, {a}) without (job)")),
            two.clone().prop_map(|(a, b)| format!("{a} / on (job) group_left (x) {b}")),
            two.clone().prop_map(|(a, b)| format!("{a} == bool {b}")),
            two.prop_map(|(a, b)| format!("{a} + fill_left (0) {b}")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any text and any place has an answer that lies within the text, and what is inserted too.
    #[test]
    fn no_text_is_too_strange(
        text in r#"([a-z]{1,4}|up|sum|by|on|offset|[(){}\[\]"'`,=~!@#\\:+-]|\n| |5m|é|😀){0,24}"#,
        at in 0..60usize,
    ) {
        let place = complete(&text, at);
        prop_assert!(place.start <= place.end && place.end <= text.len());
        prop_assert!(text.is_char_boundary(place.start) && text.is_char_boundary(place.end));
        let at = text.floor_char_boundary(at.min(text.len()));
        prop_assert!(place.start <= at && at <= place.end, "{:?} {}", place, at);
        for proposal in proposals(&place, &text, at) {
            prop_assert!(!proposal.is_empty());
        }
    }

    /// What is proposed at the end of a part of a query leads to a query.
    #[test]
    fn proposals_lead_to_queries(query in any_query(), cut in any::<prop::sample::Index>()) {
        let at = query.floor_char_boundary(cut.index(query.len() + 1));
        let text = &query[..at];
        let place = complete(text, at);
        for proposal in proposals(&place, text, at) {
            let whole = format!("{}{proposal}", &text[..place.start]);
            prop_assert!(may_become_a_query(&whole), "{:?} in {:?} leads to {}", proposal, text, whole);
        }
    }

    /// A label, value or metric that replaces the one at a place of a whole query leaves a query.
    #[test]
    fn replacements_leave_queries(query in any_query(), cut in any::<prop::sample::Index>()) {
        let at = query.floor_char_boundary(cut.index(query.len() + 1));
        let place = complete(&query, at);
        let is_name = matches!(
            place.place,
            Place::Grouping { .. } | Place::LabelValue { .. } | Place::LabelName { .. }
        );
        if is_name && place.start < place.end {
            for proposal in proposals(&place, &query, at) {
                let whole = format!("{}{proposal}{}", &query[..place.start], &query[place.end..]);
                prop_assert!(is_written_like_a_query(&whole), "{} leads to {}", query, whole);
            }
        }
    }
}
