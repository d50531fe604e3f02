//! What the parser says about wrong queries, word for word as Prometheus 3.14 says it
//! (`promql/parser/parse_test.go`).

use promql::{parse, parse_selector};

/// Query and message with place.
const CASES: &[(&str, &str)] = &[
    ("", "unknown position: parse error: no expression found in input"),
    ("# just a comment\n\n", "1:1: parse error: no expression found in input"),
    ("1+", "1:3: parse error: unexpected end of input"),
    (".", "1:1: parse error: unexpected character: '.'"),
    ("2.5.", r#"1:1: parse error: bad number or duration syntax: "2.5.""#),
    ("100..4", r#"1:1: parse error: bad number or duration syntax: "100..""#),
    ("0deadbeef", r#"1:1: parse error: bad number or duration syntax: "0de""#),
    ("*1", "1:1: parse error: unexpected <op:*>"),
    (
        "(1e)",
        r#"1:2: parse error: error parsing number: strconv.ParseFloat: parsing "1e": invalid syntax"#,
    ),
    (
        "a[1_]",
        r#"1:3: parse error: error parsing number: strconv.ParseFloat: parsing "1_": invalid syntax"#,
    ),
    ("1e", r#"1:1: parse error: bad number or duration syntax: "1e""#),
    ("0x1_e", r#"1:1: parse error: bad number or duration syntax: "0x1_e""#),
    ("0x1.5", r#"1:1: parse error: bad number or duration syntax: "0x1.""#),
    ("a[range() o]", "1:11: parse error: unexpected character in duration expression: 'o'"),
    ("a[step():5m]", "1:10: parse error: unexpected colon before duration in duration expression"),
    ("sum(a, >)", "1:6: parse error: trailing commas not allowed in function call args"),
    ("sum(a, nope())", r#"1:8: parse error: unknown function with name "nope""#),
    (
        "(a + on(b) group_left)",
        r#"1:22: parse error: unexpected ")" in grouping opts, expected "(""#,
    ),
    ("(a + on(b) group_left())", r#"1:24: parse error: unexpected ")""#),
    (
        "a + on(b) group_right / c",
        r#"1:23: parse error: unexpected <op:/> in grouping opts, expected "(""#,
    ),
    ("(1))", "1:5: parse error: unexpected right parenthesis ')'"),
    ("((1)", "1:5: parse error: unclosed left parenthesis"),
    ("1 and 1", r#"1:1: parse error: set operator "and" not allowed in binary scalar expression"#),
    ("1 == 1", "1:3: parse error: comparisons between scalars must use BOOL modifier"),
    ("1 !~ 1", "1:3: parse error: unexpected character after '!': '~'"),
    ("1 =~ 1", "1:3: parse error: unexpected character after '=': '~'"),
    (
        r#"-"string""#,
        "1:1: parse error: unary expression only allowed on expressions of type scalar \
         or instant vector, got \"string\"",
    ),
    (
        "-test[5m]",
        "1:1: parse error: unary expression only allowed on expressions of type scalar \
         or instant vector, got \"range vector\"",
    ),
    ("@@", "1:1: parse error: unexpected <op:@>"),
    (
        "1 offset 1d",
        "1:1: parse error: offset modifier must be preceded by an instant vector selector \
         or range vector selector or a subquery",
    ),
    ("foo offset 1s offset 2s", "1:1: parse error: offset may not be set multiple times"),
    ("foo @ 1 @ start()", "1:1: parse error: @ <timestamp> may not be set multiple times"),
    ("a - on(b) ignoring(c) d", "1:11: parse error: unexpected <ignoring>"),
    (
        "foo unless 1",
        r#"1:1: parse error: set operator "unless" not allowed in binary scalar expression"#,
    ),
    ("1 or on(bar) foo", "1:1: parse error: vector matching only allowed between instant vectors"),
    ("foo + group_left(baz) bar", "1:7: parse error: unexpected <group_left>"),
    (
        "foo or on(bar) group_left(baz) bar",
        r#"1:1: parse error: no grouping allowed for "or" operation"#,
    ),
    (
        r#"a{group="x"} + on(instance) group_left(job,instance) b"#,
        "1:14: parse error: label \"instance\" must not occur in ON and GROUP clause at once",
    ),
    ("foo and bool 10", "1:5: parse error: bool modifier can only be used on comparison operators"),
    (
        "foo + fill(0) 1",
        "1:1: parse error: filling in missing series only allowed between instant vectors",
    ),
    (
        "foo or fill(0) bar",
        "1:1: parse error: filling in missing series not allowed for set operators",
    ),
    ("foo @ +Inf", "1:1: parse error: timestamp out of bounds for @ modifier: +Inf"),
    (
        "foo @ 1e18",
        "1:1: parse error: timestamp out of bounds for @ modifier: 1000000000000000000.000000",
    ),
    ("{", "1:2: parse error: unexpected end of input inside braces"),
    ("some}", "1:5: parse error: unexpected character: '}'"),
    (
        "some{a=b}",
        r#"1:8: parse error: unexpected identifier "b" in label matching, expected string"#,
    ),
    (r#"some{a:b="b"}"#, "1:7: parse error: unexpected character inside braces: ':'"),
    (
        "foo{gibberish}",
        r#"1:14: parse error: unexpected "}" in label matching, expected label matching operator"#,
    ),
    ("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
    (
        r#"{x=~".*"}"#,
        "1:1: parse error: vector selector must contain at least one non-empty matcher",
    ),
    (
        r#"foo{__name__="bar"}"#,
        r#"1:1: parse error: metric name must not be set twice: "foo" or "bar""#,
    ),
    ("foo{__name__= =}", r#"1:15: parse error: unexpected "=" in label matching, expected string"#),
    ("foo{,}", r#"1:5: parse error: unexpected "," in label matching, expected identifier or "}""#),
    (
        r#"foo{__name__="bar" lol}"#,
        r#"1:20: parse error: unexpected identifier "lol" in label matching, expected "," or "}""#,
    ),
    ("foo[5mm]", r#"1:5: parse error: bad number or duration syntax: "5mm""#),
    ("foo[5m:1m1]", r#"1:8: parse error: bad number or duration syntax: "1m1""#),
    ("foo[5y1hs]", r#"1:5: parse error: unknown unit "hs" in duration "5y1hs""#),
    ("foo[5m1h]", r#"1:5: parse error: not a valid duration string: "5m1h""#),
    ("foo[0m]", "1:5: parse error: duration must be greater than 0"),
    (r#"foo["5m"]"#, "1:5: parse error: unexpected character in duration expression: '\"'"),
    (
        "foo[]",
        "1:5: parse error: unexpected \"]\" in subquery or range selector, \
         expected number, duration, step(), or range()",
    ),
    (
        "foo[step]",
        "1:9: parse error: unexpected \"]\" in subquery or range selector, \
         expected number, duration, step(), or range()",
    ),
    ("foo[-1]", "1:5: parse error: duration must be greater than 0"),
    ("foo[step()/0d]", "1:11: parse error: division by zero"),
    ("foo[5s%0d]", "1:7: parse error: modulo by zero"),
    ("foo offset 9.5e10", "1:12: parse error: duration out of range"),
    ("foo[5s x 5s]", "1:8: parse error: unexpected character: 'x', expected ':'"),
    (
        "foo[5m] OFFSET",
        "1:15: parse error: unexpected end of input in offset, \
         expected number, duration, step(), or range()",
    ),
    ("foo OFFSET 1m[5m]", "1:14: parse error: no offset modifiers allowed before range"),
    ("foo[5m] @", "1:10: parse error: unexpected end of input in @, expected timestamp"),
    ("foo @ 1234 [5m]", "1:12: parse error: no @ modifiers allowed before range"),
    ("(foo + bar)[5m]", "1:12: parse error: ranges only allowed for vector selectors"),
    ("foo[5m:] anchored", "1:1: parse error: anchored modifier is not supported for subqueries"),
    (
        "foo smoothed anchored",
        "1:1: parse error: anchored and smoothed modifiers cannot be used together",
    ),
    (r#"sum by ("foo)(some_metric{})"#, "1:9: parse error: unterminated quoted string"),
    (
        "sum without(==)(foo)",
        "1:13: parse error: unexpected <op:==> in grouping opts, expected label",
    ),
    (
        "sum without(foo,,)(foo)",
        r#"1:17: parse error: unexpected "," in grouping opts, expected label"#,
    ),
    ("sum some_metric by (test)", r#"1:5: parse error: unexpected identifier "some_metric""#),
    (
        "sum (foo) by test",
        r#"1:14: parse error: unexpected identifier "test" in grouping opts, expected "(""#,
    ),
    ("sum () by (test)", "1:1: parse error: no arguments for aggregate expression provided"),
    ("sum (foo) without (test) by (test)", "1:26: parse error: unexpected <by>"),
    ("sum(foo bar)", r#"1:9: parse error: unexpected identifier "bar" in aggregation"#),
    (
        "topk(some_metric)",
        "1:1: parse error: wrong number of arguments for aggregate expression provided, \
         expected 2, got 1",
    ),
    ("topk(foo,)", "1:9: parse error: trailing commas not allowed in function call args"),
    (
        "topk(foo, bar)",
        "1:6: parse error: expected type scalar in aggregation parameter, got instant vector",
    ),
    (
        "sum(1)",
        "1:5: parse error: expected type instant vector in aggregation expression, got scalar",
    ),
    (
        "rate(foo[5m]) @ 1234",
        "1:1: parse error: @ modifier must be preceded by an instant vector selector \
         or range vector selector or a subquery",
    ),
    ("floor()", r#"1:1: parse error: expected 1 argument(s) in call to "floor", got 0"#),
    (
        "hour(a, a, a)",
        r#"1:1: parse error: expected at most 1 argument(s) in call to "hour", got 3"#,
    ),
    (
        r#"label_join(a, "b")"#,
        r#"1:1: parse error: expected at least 3 argument(s) in call to "label_join", got 2"#,
    ),
    ("a>b()", r#"1:3: parse error: unknown function with name "b""#),
    (
        "rate(avg)",
        "1:6: parse error: expected type range vector in call to function \"rate\", \
         got instant vector",
    ),
    ("info(a, b)", "1:9: parse error: expected label selectors only, got vector selector instead"),
    ("++-++-+-+-<", "1:11: parse error: unexpected <op:<>"),
    ("`\\``", "1:4: parse error: unterminated raw string"),
    (r#""\"#, "1:1: parse error: escape sequence not terminated"),
    (r#""\c""#, "1:1: parse error: unknown escape sequence U+0063 'c'"),
    (r#""\x.""#, "1:1: parse error: illegal character U+002E '.' in escape sequence"),
    (r#""\ud800""#, "1:1: parse error: escape sequence is an invalid Unicode code point"),
    (r#"count_values("a\xc5z", a)"#, r#"1:14: parse error: invalid label name "a\xc5z""#),
    ("foo[", "1:5: parse error: unexpected end of input in duration expression"),
    (
        "(foo[1m:])[10m:5s]",
        "1:1: parse error: subquery is only allowed on instant vector, got matrix instead",
    ),
    (
        "sum(\n  rate(foo)\n)",
        "2:8: parse error: expected type range vector in call to function \"rate\", got instant vector",
    ),
];

#[test]
fn messages_are_those_of_prometheus() {
    let wrong: Vec<String> = CASES
        .iter()
        .filter_map(|(query, message)| {
            let found = match parse(query) {
                Ok(expr) => format!("parsed as {expr}"),
                Err(error) => error.to_string(),
            };
            (found != *message).then(|| format!("{query}\n  wanted {message}\n  found  {found}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
}

#[test]
fn limits_name_themselves() {
    for (query, limit) in [
        ("(".repeat(100_000), "100 levels"),
        ("-".repeat(100_000) + "1", "100 levels"),
        ("sum(".repeat(100_000), "100 levels"),
        ("1^".repeat(100_000), "100 levels"),
        ("a + ".repeat(100_000) + "a", "250 operations"),
        ("a".to_owned() + &"[1m:]".repeat(100_000), "250 operations"),
        ("a[".to_owned() + &"(".repeat(100_000), "100 operations"),
        ("a[1".to_owned() + &"+1".repeat(100_000) + "]", "100 operations"),
        ("a{".to_owned() + &r#"b=~"c.*","#.repeat(501) + "}", "500 regular expressions"),
        ("a offset ".to_owned() + &"-".repeat(100_000), "expected number"),
    ] {
        let error = parse(&query).expect_err("too deep").to_string();
        assert!(error.contains(limit), "{error}");
    }
}

#[test]
fn what_stays_within_limits_is_read_on_a_small_stack() {
    let deep = |opening: &str, inner: &str, closing: &str, times: usize| {
        opening.repeat(times) + inner + &closing.repeat(times)
    };
    for query in [
        deep("(", "1", ")", 100),
        deep("abs(", "x", ")", 100),
        deep("sum by (a) (", "x", ")", 100),
        deep("1 + (", "1", ")", 50),
        deep("-", "x", "", 100),
        deep("a or ", "a", "", 249),
    ] {
        let expr = parse(&query).expect("within limits");
        assert_eq!(parse(&expr.to_string()).expect("reads back").to_string(), expr.to_string());
    }
}

#[test]
fn selectors_are_nothing_but_selectors() {
    for (text, matchers) in [
        ("up", 1),
        (r#" {job="a"} # comment"#, 1),
        (r#"up{a="b",c=~"d"}"#, 3),
        (r#"{"my.metric", "a b"!="c",}"#, 2),
        ("sum", 1),
        ("{}", 0),
    ] {
        assert_eq!(parse_selector(text).map(|list| list.len()), Ok(matchers), "{text}");
    }
    for text in ["", "1", "up[5m]", "up offset 5m", "up @ 1", "(up)", "up + up", "sum(up)", "up{"] {
        assert!(parse_selector(text).is_err(), "{text}");
    }
}
