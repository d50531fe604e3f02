//! The language, and what is wrong with it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::evaluate::{Evaluator, Value, ValueKind};
use super::parse;
use crate::diagnostic::Source;
use crate::prometheus::Surroundings;
use crate::yaml::Context;

struct Nowhere;

impl Surroundings for Nowhere {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Ok(b"host-of-test\n".to_vec())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn variable(&self, name: &str) -> Option<String> {
        (name == "SET").then(|| "value".to_owned())
    }
}

fn source(text: &str) -> Source {
    Source { file: Arc::from("c.alloy"), text: text.to_owned() }
}

/// What the attribute `v` is, or what is wrong.
fn value(expression: &str) -> Result<ValueKind, String> {
    let source = source(&format!("v = {expression}\n"));
    let body = parse(&source).map_err(|faults| faults.render())?;
    let context = Context::new(&source, Path::new(""));
    let exports = |id: &str| (id == "local.file_match.x").then_some(&["targets"] as &[&str]);
    let value = {
        let evaluator = Evaluator { context: &context, surroundings: &Nowhere, exports: &exports };
        evaluator.value(&body.attributes[0].value)
    };
    let faults = context.finish().faults;
    match (value, faults.first()) {
        (Some(value), None) => Ok(value.kind),
        (_, Some(fault)) => Err(fault.to_string()),
        (None, None) => panic!("{expression} is nothing, and nobody says why"),
    }
}

fn text(text: &str) -> ValueKind {
    ValueKind::Text(text.to_owned())
}

#[test]
fn expressions_are_computed() {
    for (expression, want) in [
        (r#""a\tb\"\\\x41\u00e9\101""#, text("a\tb\"\\Aé\u{41}")),
        ("`raw \\n\n text`", text("raw \\n\n text")),
        ("1 + 2 * 3 ^ 2 - 4 / 2 % 3", ValueKind::Number(17.0)),
        ("2 ^ 3 ^ 2", ValueKind::Number(512.0)),
        ("-(1.5e1 - .5)", ValueKind::Number(-14.5)),
        (r#""a" + "b" == "ab" && !(1 > 2) || false"#, ValueKind::Bool(true)),
        (r#"sys.env("SET")"#, text("value")),
        (r#"env("UNSET")"#, text("")),
        (r#"coalesce(env("UNSET"), null, "or", "else")"#, text("or")),
        (r#"string.format("%s:%d", "h", 80)"#, text("h:80")),
        (r#"string.join(["a", "b"], "-")"#, text("a-b")),
        (r#"string.replace("a-b", "-", ".")"#, text("a.b")),
        (r#"string.split("a,b", ",")[1]"#, text("b")),
        (r#"string.to_upper(string.trim_space(" x "))"#, text("X")),
        (r#"{"k.x" = 1, y = {z = "deep"}}.y.z"#, text("deep")),
        ("constants.hostname", text("host-of-test")),
        ("constants.os", text("linux")),
        ("[1, 2,\n 3,\n][2]", ValueKind::Number(3.0)),
        (
            "local.file_match.x.targets",
            ValueKind::Export("local.file_match.x".to_owned(), "targets".to_owned()),
        ),
        ("array.concat([], [])", ValueKind::List(Vec::<Value>::new())),
        ("null", ValueKind::Null),
    ] {
        assert_eq!(value(expression), Ok(want), "{expression}");
    }
}

#[test]
fn what_is_wrong_with_an_expression_is_told_where_it_stands() {
    for (expression, want) in [
        ("nosuch.x", "c.alloy:1:5: component \"nosuch.x\" does not exist or is out of scope"),
        ("local.file_match.x.target", "does not export \"target\""),
        ("nosuch(1)", "c.alloy:1:5: the function nosuch is not supported"),
        ("\"a\" + 1", "this cannot be done with a string and a number"),
        ("{a = 1}.b", "field \"b\" does not exist"),
        ("[1][3]", "index 3 is out of range"),
        ("string.join(1, 2)", "string.join takes a list and a separator"),
        ("!1", "! needs a bool"),
        ("1 2", "expected the end of the line, got 2"),
        ("'x'", "illegal single-quoted string; use double quotes"),
        ("\"x", "string literal not terminated"),
        ("\"\\q\"", "unknown escape sequence"),
        ("[1 2]", "expected ], got 2"),
        ("[1\n]", "missing ',' before newline"),
        ("{1 = 2}", "expected field name (string or identifier), got 1"),
        ("#", "illegal character '#'"),
        ("", "expected expression, got the end of the"),
    ] {
        let told = value(expression).expect_err(expression);
        assert!(told.contains(want), "{expression}: {told}");
    }
}

#[test]
fn blocks_have_names_labels_and_bodies() {
    let body = parse(&source(
        "// a comment\nlogging {\n  level = \"debug\" /* inside */\n}\n\nloki.write \"a\" { endpoint { url = \
         \"x\" } }\nb.c \"\" { } // end",
    ))
    .expect("valid");
    let ids: Vec<String> = body.blocks.iter().map(super::ast::Block::id).collect();
    assert_eq!(ids, ["logging", "loki.write.a", "b.c"]);
    assert_eq!(body.blocks[1].body.blocks[0].body.attributes[0].name, "url");
}

#[test]
fn faults_of_form_have_their_place() {
    for (text, want) in [
        ("a.b = 1", "c.alloy:1:1: error: attribute names may only consist of a single identifier"),
        ("a \"x-y\" {}", "c.alloy:1:3: error: expected block label to be a valid identifier"),
        ("a {\n  b = 1", "c.alloy:2:8: error: expected }, got the end of the file"),
        ("a b", "expected attribute assignment or block body, got identifier \"b\""),
        ("a.b 1", "expected block body, got 1"),
        ("a {} b {}", "expected the end of the line, got identifier \"b\""),
        ("a = b {\n}", "cannot use a block as an expression"),
        ("{", "expected identifier, got {"),
        ("/* x", "block comment not terminated"),
    ] {
        let fault = parse(&source(text)).expect_err(text).render();
        assert!(fault.contains(want), "{text}: {fault}");
    }
    for deep in [
        "a {\n".repeat(200),
        format!("a = {}", "(".repeat(200)),
        format!("a = {}1", "!".repeat(500)),
    ] {
        let fault = parse(&source(&deep)).expect_err("deep").to_string();
        assert!(fault.contains("nested deeper"), "{fault}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in r#"([a-c ."={}\[\](),\n0-9/*`!&|<>^%+-]|\PC){0,60}"#) {
        let _ = parse(&source(&text));
        let _ = value(&text);
    }
}
