//! The engine without a dialect. What is expected was printed by Go 1.26's `text/template`.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::*;

struct Plain(Budget);

impl<'d> Context<'d> for Plain {
    fn budget(&mut self) -> &mut Budget {
        &mut self.0
    }

    fn field(&mut self, _: usize, _: &str) -> Value<'d> {
        Value::Nil
    }

    fn call(&mut self, _: usize, _: &[Value<'d>]) -> Result<Value<'d>, String> {
        Err("there are no functions".to_owned())
    }
}

struct Nothing;

impl Vocabulary for Nothing {
    fn find(&self, _: &str) -> Option<Function> {
        None
    }
}

fn data() -> Value<'static> {
    let list = Value::list(&LIST, vec![Value::Int(1), Value::text("two"), Value::Nil]);
    let inner = Value::map(&TEXT_MAP, BTreeMap::from([("k".into(), Value::text("v"))]));
    Value::map(
        &MAP,
        BTreeMap::from([
            ("D".into(), Value::Duration(5_400_000_000_000)),
            ("L".into(), list),
            ("M".into(), inner),
            ("N".into(), Value::Int(3)),
            ("S".into(), Value::text("s")),
        ]),
    )
}

fn expand(text: &str, missing_key: MissingKey, html: bool) -> Result<String, String> {
    let parsed = Parsed::new("t", text, &Nothing)?;
    let mut context = Plain(Budget::new(Limits::default()));
    let request = Request { library: &parsed, data: data(), missing_key, html };
    let mut out = String::new();
    execute(request, &mut context, &mut out)?;
    Ok(out)
}

fn check(text: &str, want: &str) {
    assert_eq!(expand(text, MissingKey::NoValue, false).as_deref(), Ok(want), "{text}");
}

#[test]
fn blocks_variables_and_chains() {
    for (text, want) in [
        ("{{with .Nope}}a{{else with .S}}{{.}}{{else}}c{{end}}", "s"),
        ("{{range $i, $v := .L}}{{$i}}={{$v}};{{end}}", "0=1;1=two;2=<no value>;"),
        ("{{range $x := 3}}{{if eq $x 1}}{{continue}}{{end}}{{$x}}{{end}}", "02"),
        ("{{$x := 1}}{{range .L}}{{$x = .}}{{break}}{{end}}{{$x}}", "1"),
        ("{{block \"b\" .M}}{{.k}}{{end}}{{template \"b\" (.M)}}", "vv"),
        ("{{.D}} {{.D.Hours}} {{(.D).Round 3600000000000}}", "1h30m0s 1.5 2h0m0s"),
        ("{{.M.no}} {{.no.x}} {{index .M \"no\"}}|", "<no value> <no value> |"),
        ("a {{- /* c */ -}} b", "ab"),
        ("{{printf \"%[2]v %[3]v|%5v\" 1 2 .N .L}}", "2 3|[    1   two <nil>]"),
        ("{{define \"t2\"}}x{{end}}{{define \"t2\"}} {{end}}{{template \"t2\"}}", "x"),
    ] {
        check(text, want);
    }
}

#[test]
fn missing_keys_are_what_was_asked_for() {
    let run = |missing| expand("{{.M.no}}{{.no}}", missing, false);
    assert_eq!(run(MissingKey::NoValue).as_deref(), Ok("<no value><no value>"));
    assert_eq!(run(MissingKey::Zero).as_deref(), Ok("<no value>"));
    let error = run(MissingKey::Error).expect_err("no such key");
    assert_eq!(
        error,
        "template: t:1:4: executing \"t\" at <.M.no>: map has no entry for key \"no\""
    );
}

#[test]
fn errors_name_the_place_that_go_names() {
    for (text, want) in [
        (
            "\n {{.S.x.y}}",
            "t:2:5: executing \"t\" at <.S.x.y>: can't evaluate field x in type string",
        ),
        ("{{(print 1).x}}", "t:1:9: executing \"t\" at <1>: can't evaluate field x in type string"),
        (
            "{{index .L 3}}",
            "t:1:2: executing \"t\" at <index .L 3>: error calling index: reflect: slice index out of range",
        ),
        (
            "{{define \"i\"}}{{len 1}}{{end}}{{template \"i\"}}",
            "t:1:16: executing \"i\" at <len 1>: error calling len: len of type int",
        ),
        ("{{ \"a\n", "t:1: unterminated quoted string"),
        ("{{ .S \n\n", "t:3: unclosed action started at t:1"),
        ("{{if .S}}{{else}}{{else}}{{end}}", "t:1: expected end; found {{else}}"),
        ("{{$x = 1}}", "t:1:7: executing \"t\" at <1>: undefined variable: $x"),
    ] {
        let want = format!("template: {want}");
        assert_eq!(expand(text, MissingKey::NoValue, false), Err(want), "{text}");
    }
}

/// The stack of a thread of the server, which is what recursion has.
#[test]
fn the_deepest_template_has_enough_stack() {
    let parens = format!("{}1{}", "(print ".repeat(60), ")".repeat(60));
    let deep = format!(
        "{}{{{{ {parens} }}}}{{{{template \"d\"}}}}{}",
        "{{if true}}".repeat(30),
        "{{end}}".repeat(30)
    );
    let text = format!("{{{{define \"d\"}}}}{deep}{{{{end}}}}{{{{template \"d\"}}}}");
    let run = move || expand(&text, MissingKey::Zero, true);
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(run).expect("a thread");
    let error = thread.join().expect("enough stack").expect_err("too deep");
    assert!(error.contains("exceeded maximum template depth"), "{error}");
}

/// A function that expands a template may stand within parentheses, where no block is entered.
#[test]
fn templates_that_expand_themselves_in_parentheses_have_enough_stack() {
    struct Expanding;

    impl Vocabulary for Expanding {
        fn find(&self, name: &str) -> Option<Function> {
            static SIGNATURE: Signature = Signature::fixed("tmpl", &[Param::Text, Param::Any]);
            (name == "tmpl").then_some(Function { signature: &SIGNATURE, owner: Owner::Expand })
        }
    }

    let call = format!("{}tmpl \"x\" .{}", "(".repeat(95), ")".repeat(95));
    let text = format!("{{{{define \"x\"}}}}{{{{{call}}}}}{{{{end}}}}{{{{tmpl \"x\" .}}}}");
    let run = move || {
        let parsed = Parsed::new("t", &text, &Expanding)?;
        let mut context = Plain(Budget::new(Limits::default()));
        let missing_key = MissingKey::Zero;
        let request = Request { library: &parsed, data: data(), missing_key, html: true };
        execute(request, &mut context, &mut String::new())
    };
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(run).expect("a thread");
    let error = thread.join().expect("enough stack").expect_err("too deep");
    assert!(error.contains("exceeded maximum template depth"), "{error}");
}

#[test]
fn verbs_of_texts_have_gos_flags() {
    for (text, want) in [
        (
            "{{printf \"% x|%# x|%#x|% X\" \"hi\" \"hi\" \"hi\" \"hi\"}}",
            "68 69|0x68 0x69|0x6869|68 69",
        ),
        ("{{printf \"%#v %#v %#v\" \"q\" 1 true}}", "\"q\" 1 true"),
        ("{{printf \"%1000000000d\" 1}}", "%!(NOVERB)%!(EXTRA int=1)"),
        ("{{printf \"%.1000000000d|\" 1}}", "%!(NOVERB)%!(EXTRA int=1)"),
        ("{{printf \"%*d|\" 1000001 1}}", "%!(BADWIDTH)1|"),
        ("{{printf \"%5d|%.3d\" 1 2}}", "    1|002"),
    ] {
        check(text, want);
    }
    let error =
        expand("{{printf \"%9999999d\" 1}}", MissingKey::Zero, false).expect_err("too long");
    assert!(error.contains("a text of more than"), "{error}");
}

proptest! {
    #[test]
    fn no_text_makes_the_engine_panic(
        text in r#"([ .a-z|()]|\{\{|\}\}|\{\{- | -\}\}|\{\{if |\{\{range |\{\{with |\{\{end\}\}|\{\{else|\{\{define "x"\}\}|\{\{template "x" |\.[LMNSD]|printf |"%[-+# 0]?[0-9.*\[\]]{0,3}[a-zA-Z]" |index |slice |eq |html |\$x|:=|=|"a"|'a'|[0-9.e]|/\*|\*/|\PC){0,30}"#,
        html in any::<bool>(),
    ) {
        let _ = expand(&text, MissingKey::Zero, html);
    }
}
