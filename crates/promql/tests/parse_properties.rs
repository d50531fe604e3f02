//! What holds for all queries: printing and reading back changes nothing, and no text makes the
//! parser panic.

use std::path::PathBuf;

use promql::ast::{Duration, DurationExpr, Expr, Span, VectorSelector};
use promql::{ast_json, parse, parse_duration, parse_selector, pretty};
use proptest::prelude::*;

/// The tree as text, without spans and with sorted matchers: what printing must keep. A text, so
/// that NaN equals itself.
fn essence(mut expr: Expr) -> String {
    strip(&mut expr);
    format!("{expr:?}")
}

fn strip(expr: &mut Expr) {
    let none = Span::default();
    match expr {
        Expr::Number(node) => node.span = none,
        Expr::String(node) => node.span = none,
        Expr::Vector(node) => strip_vector(node),
        Expr::Matrix(node) => {
            node.span = none;
            strip_vector(&mut node.vector);
            strip_duration(&mut node.range);
        }
        Expr::Subquery(node) => {
            node.span = none;
            strip(&mut node.expr);
            strip_duration(&mut node.range);
            strip_duration(&mut node.offset);
            node.step.iter_mut().for_each(strip_duration);
        }
        Expr::Call(node) => {
            node.span = none;
            node.args.iter_mut().for_each(strip);
        }
        Expr::Aggregate(node) => {
            node.span = none;
            strip(&mut node.expr);
            node.param.iter_mut().for_each(strip);
        }
        Expr::Binary(node) => {
            node.span = none;
            node.op_span = none;
            strip(&mut node.left);
            strip(&mut node.right);
        }
        Expr::Unary(node) => {
            node.span = none;
            strip(&mut node.expr);
        }
        Expr::Paren(node) => {
            node.span = none;
            strip(&mut node.expr);
        }
    }
}

fn strip_vector(node: &mut VectorSelector) {
    node.span = Span::default();
    node.matchers.sort_by_key(|matcher| format!("{matcher:?}"));
    strip_duration(&mut node.offset);
}

fn strip_duration(duration: &mut Duration) {
    if let Duration::Computed(expr) = duration {
        strip_duration_expr(expr);
    }
}

fn strip_duration_expr(expr: &mut DurationExpr) {
    let none = Span::default();
    match expr {
        DurationExpr::Number(node) => node.span = none,
        DurationExpr::Step(span) | DurationExpr::Range(span) => *span = none,
        DurationExpr::MinOf(left, right, span)
        | DurationExpr::MaxOf(left, right, span)
        | DurationExpr::Binary { left, right, span, .. } => {
            *span = none;
            strip_duration_expr(left);
            strip_duration_expr(right);
        }
        DurationExpr::Unary { inner, span, .. } | DurationExpr::Paren(inner, span) => {
            *span = none;
            strip_duration_expr(inner);
        }
    }
}

/// Checks everything that must hold for a query that parses.
fn check(text: &str, expr: Expr) {
    let span = expr.span();
    assert!(span.start <= span.end && span.end as usize <= text.len(), "{text}: {span:?}");
    assert!(ast_json(&expr).is_object());
    let canonical = expr.to_string();
    let broken = pretty(&expr);
    let wanted = essence(expr);
    for printed in [canonical, broken] {
        let again = parse(&printed).unwrap_or_else(|error| panic!("{text} -> {printed}: {error}"));
        assert_eq!(essence(again), wanted, "{text} -> {printed}");
    }
}

fn shared(path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(path);
    path.exists().then_some(path)
}

/// The expression of an `eval` line of a test script.
fn evaluated(line: &str) -> Option<&str> {
    let (command, rest) = line.trim().split_once(char::is_whitespace)?;
    if !command.starts_with("eval") {
        return None;
    }
    let words_before = match rest.split_whitespace().collect::<Vec<_>>()[..] {
        ["instant", "at", ..] => 3,
        ["instant", ..] => 1,
        // range from <a> to <b> step <c>
        _ => 7,
    };
    (0..words_before).try_fold(rest, |rest, _| {
        rest.trim_start().split_once(char::is_whitespace).map(|(_, rest)| rest)
    })
}

#[test]
fn queries_of_the_test_scripts_are_read_and_printed() {
    let Some(folder) = shared("conformance/promql") else { return };
    let mut parsed = 0;
    let mut refused = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        if path.extension().is_none_or(|extension| extension != "test") {
            continue;
        }
        let script = std::fs::read_to_string(&path).expect("the script can be read");
        let mut lines = script.lines().peekable();
        while let Some(line) = lines.next() {
            let Some(query) = evaluated(line) else { continue };
            let may_fail = line.contains("eval_fail")
                || lines.peek().is_some_and(|next| next.trim().starts_with("expect fail"));
            match parse(query) {
                Ok(expr) => {
                    parsed += 1;
                    check(query, expr);
                }
                Err(_) if may_fail => {}
                Err(error) => refused.push(format!("{}: {query}: {error}", path.display())),
            }
        }
    }
    assert!(refused.is_empty(), "{} refused:\n{}", refused.len(), refused.join("\n"));
    assert!(parsed > 1_500, "only {parsed} queries found");
}

#[test]
fn queries_of_the_compliance_list_are_read_and_printed() {
    let Some(list) = shared("conformance/promql/compliance_queries.txt") else { return };
    let list = std::fs::read_to_string(list).expect("the list can be read");
    for (verdict, query) in list.lines().filter_map(|line| line.split_once('\t')) {
        match parse(query) {
            Ok(expr) => check(query, expr),
            Err(error) => assert_eq!(verdict, "fail", "{query}: {error}"),
        }
    }
}

/// Pieces of queries: some fit together, most do not.
const PIECES: &[&str] = &[
    "foo",
    "a:b",
    "sum",
    "topk",
    "count_values",
    "rate",
    "round",
    "info",
    "time",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "bool",
    "offset",
    "anchored",
    "smoothed",
    "fill",
    "fill_left",
    "fill_right",
    "and",
    "or",
    "unless",
    "atan2",
    "start",
    "end",
    "step",
    "range",
    "min_of",
    "max_of",
    "(",
    ")",
    "(",
    ")",
    "()",
    "{",
    "}",
    "[",
    "]",
    "[5m]",
    "[1h:5m]",
    "[5m:]",
    ",",
    ":",
    "@",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "==",
    "!=",
    "=~",
    "!~",
    "=",
    "<",
    ">",
    "<=",
    ">=",
    "</",
    ">/",
    "1",
    "0x1F",
    "1_000",
    "1e3",
    ".5",
    "Inf",
    "NaN",
    "5m",
    "1h30m",
    "0s",
    "\"a\"",
    "'b'",
    "`c`",
    "\"\\xff\"",
    "\"\\u00e9\"",
    "a=\"b\"",
    "{a=\"b\"}",
    "{\"x.y\"}",
    "#\n",
    "é",
    "(a)",
    "(x,y)",
    "\"",
    "\\",
    "\u{fffd}",
    "1 ",
    " a ",
];

/// Pieces that always make an expression of instant vectors.
fn vector() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("foo".to_owned()),
        Just("offset".to_owned()),
        Just(r#"{a=~"x.*","é y"!="\n"}"#.to_owned()),
        Just(r#"b{c="d"} offset -1h30m @ 1.5"#.to_owned()),
        Just("c anchored offset max_of(step(), -(2 * 3) ^ 2)".to_owned()),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone(), operator())
                .prop_map(|(left, right, op)| format!("{left} {op} {right}")),
            inner.clone().prop_map(|inner| format!("({inner})")),
            inner.clone().prop_map(|inner| format!("-{inner}")),
            (inner.clone(), -1e6..1e6).prop_map(|(inner, number)| format!("{number} ^ {inner}")),
            inner.clone().prop_map(|inner| format!("sum({inner}) by (on, \"a b\")")),
            inner.clone().prop_map(|inner| format!("topk without () (1_0, {inner})")),
            inner.clone().prop_map(|inner| format!("round({inner}, 0x10)")),
            inner.prop_map(|inner| format!("rate(({inner})[range() / 2:1m] @ end())")),
        ]
    })
}

fn operator() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "+",
        "- on (a) group_left ()",
        "* ignoring (a) group_right (b)",
        "/ fill (1)",
        "%",
        "^",
        "atan2",
        "== bool",
        "!=",
        "< on () fill_left (-1)",
        "and",
        "or on (a)",
        "unless",
        "</",
    ])
}

proptest! {
    #[test]
    fn arbitrary_pieces_never_panic(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..24)) {
        let text = pieces.concat();
        if let Ok(expr) = parse(&text) {
            check(&text, expr);
        }
        let _ = parse_selector(&text);
        let _ = parse_duration(&text);
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,40}") {
        if let Ok(expr) = parse(&text) {
            check(&text, expr);
        }
        let _ = parse_selector(&text);
        let _ = parse_duration(&text);
    }

    #[test]
    fn composed_queries_survive_printing(text in vector()) {
        let expr = parse(&text).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        check(&text, expr);
    }
}

#[test]
fn bytes_that_are_no_utf8_are_printed_as_they_were_written() {
    for text in [r#""\xff""#, r#""a\xe2\x82b""#, r#""\ufffd""#, r#""ü""#] {
        let expr = parse(text).expect("a string");
        assert_eq!(expr.to_string(), text);
        check(text, expr);
    }
}
