//! Examples of the specification and its tutorial.

use proptest::prelude::*;

use super::*;

fn found(expression: &str, json: &str) -> Result<String, String> {
    let expression = parse(expression)?;
    let value: Json = serde_json::from_str(json).expect("JSON");
    let mut out = String::new();
    search(&expression, &value)?.write(&mut out);
    Ok(out)
}

#[test]
fn expressions_of_the_specification() {
    let people = r#"{"people":[{"n":"b","age":30,"s":{"x":1}},{"n":"a","age":50},{"age":40}],
        "foo":{"bar":{"baz":"v"},"q-r":[0,1,2,3,4]},"nest":[[1,2],[3],[[4]]],"n":null,"t":true}"#;
    for (expression, want) in [
        ("foo", r#"{"bar":{"baz":"v"},"q-r":[0,1,2,3,4]}"#),
        ("foo.bar.baz", r#""v""#),
        ("foo.\"q-r\"[1]", "1"),
        ("foo.\"q-r\"[-1]", "4"),
        ("foo.\"q-r\"[9]", "null"),
        ("foo.\"q-r\"[1:3]", "[1,2]"),
        ("foo.\"q-r\"[::-2]", "[4,2,0]"),
        ("foo.\"q-r\"[:2]", "[0,1]"),
        ("missing.x", "null"),
        ("people[*].n", r#"["b","a"]"#),
        ("people[].age", "[30,50,40]"),
        ("people[?age > `35`].age", "[50,40]"),
        ("people[?n == 'a'] | [0].age", "50"),
        ("people[*].s.x | [0]", "1"),
        ("people[:2].n", r#"["b","a"]"#),
        ("foo.*.baz", r#"["v"]"#),
        ("nest[]", "[1,2,3,[4]]"),
        ("nest[][]", "[1,2,3,4]"),
        ("people[0].[n, age]", r#"["b",30]"#),
        ("people[0].{name: n, years: age}", r#"{"name":"b","years":30}"#),
        ("n || t", "true"),
        ("n && t", "null"),
        ("!n", "true"),
        ("@.foo.bar.baz", r#""v""#),
        ("`[1, {\"a\": 2}]`", r#"[1,{"a":2}]"#),
        ("'it\\'s'", r#""it's""#),
        ("length(people)", "3"),
        ("keys(foo)", r#"["bar","q-r"]"#),
        ("sort_by(people[:2], &n)[0].n", r#""a""#),
        ("max_by(people, &age).age", "50"),
        ("max(people[*].age)", "50"),
        ("sum(people[*].age)", "120"),
        ("avg(people[*].age)", "40"),
        ("join(',', people[*].n)", r#""b,a""#),
        ("to_string(foo.bar)", r#""{\"baz\":\"v\"}""#),
        ("to_number('12.5')", "12.5"),
        ("not_null(n, t)", "true"),
        ("map(&age, people)", "[30,50,40]"),
        ("merge(foo.bar, `{\"k\": 1}`)", r#"{"baz":"v","k":1}"#),
        ("reverse('abc')", r#""cba""#),
        ("contains('foobar', 'oba')", "true"),
        ("type(people)", r#""array""#),
        ("starts_with('ab', 'a')", "true"),
        ("people[?age == max(`[30]`)].n", r#"["b"]"#),
        ("floor(`1.9`)", "1"),
        ("t < `3`", "null"),
    ] {
        assert_eq!(found(expression, people).as_deref(), Ok(want), "{expression}");
    }
}

#[test]
fn integers_keep_their_digits() {
    assert_eq!(found("id", r#"{"id":1234567890123456789}"#).as_deref(), Ok("1234567890123456789"));
}

#[test]
fn what_is_no_expression_is_told_with_its_place() {
    for (expression, want) in [
        ("", "the expression ends too early (at character 1)"),
        ("foo.", "the expression ends too early (at character 5)"),
        ("foo[", "the expression ends too early"),
        ("foo..bar", "unexpected token (at character 5)"),
        ("foo bar", "unexpected \"bar\" (at character 5)"),
        ("a = b", "unexpected '='; compare with `==` (at character 3)"),
        ("nosuch(a)", "there is no function nosuch()"),
        ("length(a, b)", "wrong number of arguments for length(): 2"),
        ("'abc", "unclosed `'`"),
        ("`{`", "a literal is no JSON"),
        ("#", "unknown character '#'"),
        ("a[1:2:3:4]", "unexpected token"),
    ] {
        let error = parse(expression).expect_err(expression);
        assert!(error.starts_with(want), "{expression}: {error}");
    }
    assert!(parse(&"(".repeat(100)).expect_err("deep").contains("deeper than"));
    let error = found("a[::0]", r#"{"a":[1]}"#).expect_err("no step");
    assert!(error.contains("steps of 0"), "{error}");
    let error = found("abs(a)", r#"{"a":"x"}"#).expect_err("no number");
    assert_eq!(error, "abs() cannot take such a value");
}

#[test]
fn a_search_is_bounded() {
    let doubling = format!("a{}", ".[@,@]".repeat(40));
    let error = found(&doubling, r#"{"a":1}"#).expect_err("too much");
    assert!(error.contains("steps"), "{error}");
}

proptest! {
    #[test]
    fn no_expression_makes_it_panic(text in r#"([a-c.\[\]*?@&|!(){}:,'"`<>=0-9 -]|\PC){0,40}"#) {
        if let Ok(expression) = parse(&text) {
            let value = serde_json::from_str(r#"{"a":[1,{"b":"c"}],"b":{"c":null}}"#).expect("JSON");
            let _ = search(&expression, &value);
        }
    }
}
