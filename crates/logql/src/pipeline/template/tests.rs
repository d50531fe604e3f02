//! Templates as a whole. What is expected was printed by Go 1.26's `text/template`, of sprig's and
//! Loki's functions it is what their manuals say.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const NOW_NS: i64 = 1_700_000_000_000_000_000;

fn run(text: &str, labels: &[(&str, &str)], line: &str) -> Result<String, String> {
    let mut template = Template::new("line", text).map_err(|error| error.to_string())?;
    let mut names = Names::new(1);
    template.bind(&mut names);
    let by_name: BTreeMap<Name, &str> =
        labels.iter().map(|(name, value)| (names.intern(name), *value)).collect();
    let mut all = labels.to_vec();
    all.sort_unstable();
    let moment = Moment { line, timestamp_ns: 1_661_518_453_244_672_570, now_ns: NOW_NS, zones };
    let mut expressions = Expressions::default();
    let mut out = String::new();
    let field = |name| by_name.get(&name).copied();
    template.execute(&field, &all, moment, &mut expressions, &mut out)?;
    Ok(out)
}

/// A place where it is two hours later than in Greenwich.
fn zones(name: &str) -> Option<std::sync::Arc<[u8]>> {
    let mut block = b"TZif2".to_vec();
    block.extend([0; 15]);
    for count in [0_u32, 0, 0, 0, 1, 4] {
        block.extend(count.to_be_bytes());
    }
    block.extend(7_200_i32.to_be_bytes());
    block.extend([0, 0]);
    block.extend(b"EET\0");
    let file = [block.clone(), block, b"\nEET-2\n".to_vec()].concat();
    (name == "Europe/Kyiv").then(|| file.into())
}

fn check(text: &str, want: &str) {
    assert_eq!(run(text, &[("foo", "v")], "line").as_deref(), Ok(want), "{text}");
}

fn check_error(text: &str, want: &str) {
    assert_eq!(run(text, &[("foo", "v")], "line"), Err(want.to_owned()), "{text}");
}

#[test]
fn pipelines_and_values() {
    for (text, want) in [
        ("a {{- .foo -}} b", "avb"),
        ("{{/* c */}}x{{- /* d */ -}} y", "xy"),
        ("{{ . }}", "map[foo:v]"),
        ("{{ .missing }}", ""),
        ("{{ .foo | eq \"v\" }}", "true"),
        ("{{ len .foo }} {{len .}}", "1 1"),
        ("{{ 0x1f }} {{ 'a' }} {{1e3}} {{ 1_000 }} {{-1}}", "31 97 1000 1000 -1"),
        ("{{ `raw` }} {{ (1) }} {{ \"\\u00e9\" }}", "raw 1 é"),
        ("}} {{ 1 }}", "}} 1"),
        ("{{print 1 2 \"a\" \"b\" 3 .foo nil}}", "1 2ab3v<nil>"),
        ("{{ println 1 2 }}", "1 2\n"),
        ("{{ index . \"foo\" }}{{ index . \"no\" }}{{ index .foo 0 }}", "v118"),
        ("{{ and .foo 0 1 }} {{ or \"\" .foo }} {{ not .foo }}", "0 v false"),
        (
            "{{ ne .foo \"v\" }}{{ge 1 1}}{{le 1.5 2.5}}{{ eq .foo \"x\" \"v\" }}",
            "falsetruetruetrue",
        ),
        ("{{ slice \"abcdef\" 1 3 }}", "bc"),
        ("{{ .foo | }}", "v"),
    ] {
        check(text, want);
    }
}

#[test]
fn blocks() {
    for (text, want) in [
        ("{{if .foo}}a{{else if .bar}}b{{else}}c{{end}}", "a"),
        ("{{if .bar}}a{{else if .foo}}b{{else}}c{{end}}", "b"),
        ("{{if .bar}}a{{else if .bar}}b{{else}}c{{end}}!", "c!"),
        ("{{with .foo}}{{.}}{{else}}no{{end}}", "v"),
        ("{{with .bar}}{{.}}{{else}}no{{end}}", "no"),
        ("{{range 3}}{{.}}{{if eq . 1}}{{break}}{{end}}{{end}}", "01"),
        (
            "{{range $i, $v := (fromJson \"[1,\\\"x\\\",null]\")}}{{$i}}={{$v}},{{end}}",
            "0=1,1=x,2=<no value>,",
        ),
        ("{{range $k,$v := .}}{{$k}}={{$v}};{{else}}none{{end}}", "foo=v;"),
        ("{{range fromJson \"[]\"}}x{{else}}none{{end}}", "none"),
        ("{{define \"T\"}}<{{.}}>{{end}}{{template \"T\" .foo}}", "<v>"),
        ("{{block \"B\" .foo}}[{{.}}]{{end}}", "[v]"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{ if and (eq 1 1) (ne .foo .bar) }}ok{{ end }}", "ok"),
        ("{{ (fromJson \"{\\\"a\\\":{\\\"b\\\":1.5}}\").a.b }}", "1.5"),
        (
            "{{ $j := fromJson \"{\\\"a\\\":[1,{\\\"b\\\":true}]}\" }}{{ index $j.a 1 }} {{ $j.no }}",
            "map[b:true] <no value>",
        ),
    ] {
        check(text, want);
    }
}

#[test]
fn failures_are_told_as_go_tells_them() {
    for (text, place, want) in [
        ("{{.foo | now}}", "1:9", "at <now>: wrong number of args for now: want 0 got 1"),
        (
            "x\n  {{ replace \"test\" .foo }}",
            "2:5",
            "at <replace>: wrong number of args for replace: want 3 got 2",
        ),
        (
            "{{ bytes .foo }}",
            "1:3",
            "at <bytes .foo>: error calling bytes: strconv.ParseFloat: parsing \"\": invalid syntax",
        ),
        (
            "{{ .foo | bytes }}",
            "1:10",
            "at <bytes>: error calling bytes: strconv.ParseFloat: parsing \"\": invalid syntax",
        ),
        (
            "{{div 1 0}}",
            "1:2",
            "at <div 1 0>: error calling div: runtime error: integer divide by zero",
        ),
        ("{{trunc \"a\" .foo}}", "1:8", "at <\"a\">: expected integer; found \"a\""),
        ("{{trunc .foo .foo}}", "1:8", "at <.foo>: wrong type for value; expected int; got string"),
        ("{{trunc 1 2}}", "1:10", "at <2>: expected string; found 2"),
        (
            "{{ index .foo 9 }}",
            "1:3",
            "at <index .foo 9>: error calling index: index out of range: 9",
        ),
        (
            "{{ eq .foo 1 }}",
            "1:3",
            "at <eq .foo 1>: error calling eq: incompatible types for comparison: string and int",
        ),
        ("{{ eq .foo }}", "1:3", "at <eq .foo>: error calling eq: missing argument for comparison"),
        ("{{ range .foo }}{{end}}", "1:9", "at <.foo>: range can't iterate over v"),
        ("{{ nil }}", "1:3", "at <nil>: nil is not a command"),
        ("{{ .foo 1 }}", "1:3", "at <.foo>: foo is not a method but has arguments"),
        ("{{ 1 2 }}", "1:3", "at <1>: can't give argument to non-function 1"),
        ("{{ len 3 }}", "1:3", "at <len 3>: error calling len: len of type int"),
        (
            "{{ slice .foo 1 9 }}",
            "1:3",
            "at <slice .foo 1 9>: error calling slice: index out of range: 9",
        ),
        ("{{template \"x\"}}", "1:11", "at <{{template \"x\"}}>: template \"x\" not defined"),
        ("{{ not }}", "1:3", "at <not>: wrong number of args for not: want 1 got 0"),
        (
            "{{.foo | replace \"a\"}}",
            "1:9",
            "at <replace>: wrong number of args for replace: want 3 got 2",
        ),
        ("{{ trunc 1.5 .foo }}", "1:9", "at <1.5>: expected integer; found 1.5"),
        (
            "{{ index . 1 }}",
            "1:3",
            "at <index . 1>: error calling index: value has type int; should be string",
        ),
        (
            "{{ index .foo \"a\" }}",
            "1:3",
            "at <index .foo \"a\">: error calling index: cannot index slice/array with type string",
        ),
        ("{{ \"a\" \"b\" }}", "1:3", "at <\"a\">: can't give argument to non-function \"a\""),
        (
            "{{ regexReplaceAll \"(\" .foo \"\" }}",
            "1:3",
            "at <regexReplaceAll \"(\" .foo \"\">: error calling regexReplaceAll: error parsing regexp: missing closing ): `(`",
        ),
    ] {
        check_error(text, &format!("template: line:{place}: executing \"line\" {want}"));
    }
}

#[test]
fn what_is_no_template_is_refused() {
    for (text, want) in [
        ("{{ nope }}", "function \"nope\" not defined"),
        ("{{ .foo ", "unclosed action"),
        ("{{ if }}x{{end}}", "missing value for if"),
        ("{{ $x }}", "undefined variable \"$x\""),
        ("{{end}}", "unexpected {{end}}"),
        ("{{ \"abc }}", "unterminated quoted string"),
        ("{{break}}", "{{break}} outside {{range}}"),
        ("{{ }}", "missing value for command"),
        ("{{ ) }}", "unexpected right paren"),
        ("{{ .foo.}}", "unexpected <.> in operand"),
        ("{{ !x }}", "unexpected \"!\" in command"),
        ("{{ true.x }}", "unexpected . after term \"true\""),
        ("{{if .a}}", "unexpected EOF"),
        ("{{ .a | 1 }}", "non executable command in pipeline stage 2"),
    ] {
        check_error(text, &format!("template: line:1: {want}"));
    }
}

#[test]
fn digits_are_as_many_as_are_asked_for() {
    for verb in ["%.70000f", "%.70000e", "%.70000F"] {
        let text = format!("{{{{ printf \"{verb}\" 1.5 }}}}");
        let shown = run(&text, &[], "").expect("there is room");
        assert!(shown.starts_with("1.5000") && shown.len() >= 70_002, "{verb}");
        assert!(!shown.contains("e") || shown.ends_with("0e+00"), "{verb}");
    }
    check(
        "{{ printf \"%.70000g %.1200g\" 1.5 0.1 }}",
        "1.5 0.1000000000000000055511151231257827021181583404541015625",
    );
}

#[test]
fn printf_prints_as_go_does() {
    for (text, want) in [
        (
            "{{ printf \"%5.1f|%q|%v|%d|%s|%t\" 1.25 .foo . 7 3 true }}",
            "  1.2|\"v\"|map[foo:v]|7|%!s(int=3)|true",
        ),
        ("{{ 1.5 | printf \"%d\" }}", "%!d(float64=1.5)"),
        ("{{ printf \"%s %d\" }}", "%!s(MISSING) %!d(MISSING)"),
        ("{{ printf .foo 1 }}", "v%!(EXTRA int=1)"),
        (
            "{{ printf \"%x %X %o %b %c %U %e %08.3f %-5s| %+d %5t\" 255 \"hi\" 8 5 65 65 1234.5 3.14159 \"ab\" 5 true }}",
            "ff 6869 10 101 A U+0041 1.234500e+03 0003.142 ab   | +5  true",
        ),
        (
            "{{ printf \"%% %v %g %.3g %6.2e\" 3000000.0 0.00001 1234.5 12.0 }}",
            "% 3e+06 1e-05 1.23e+03 1.20e+01",
        ),
        ("{{ printf \"%T %T %05d %.2s\" 1 .foo -42 \"éàü\" }}", "int string -0042 éà"),
    ] {
        check(text, want);
    }
}

#[test]
fn functions_of_texts() {
    let labels: &[(&str, &str)] =
        &[("s", "Hello, 世界"), ("t", "  blip "), ("u", "a=1&b=c d"), ("n", "abc abc")];
    for (text, want) in [
        (
            "{{ trunc -1 .s }}|{{ trunc 1 .s }}|{{ trunc 0 .s }}|{{ trunc 20 .s }}",
            "界|H||Hello, 世界",
        ),
        (
            "{{ substr 1 8 .s }}|{{ substr -1 1 .s }}|{{ substr -1 -1 .s }}|{{ substr 20 -1 .s }}|{{ substr 5 1 .s }}|{{ substr 3 -1 .s }}",
            "ello, 世|H||||lo, 世界",
        ),
        (
            "{{ alignLeft 8 .s }}|{{ alignRight 2 .s }}|{{ alignRight 11 .s }}|{{ alignLeft 3 \"a\" }}|{{ alignRight -1 \"a\" }}",
            "Hello, 世|世界|  Hello, 世界|a  |a",
        ),
        (
            "{{ .t | trim }}|{{ trimAll \"op\" \"blop\" }}|{{ trimPrefix \"b\" \"blop\" }}|{{ trimSuffix \"p\" \"blop\" }}",
            "blip|bl|lop|blo",
        ),
        (
            "{{ Trim \"xax\" \"x\" }}{{ TrimLeft \"xax\" \"x\" }}{{ TrimRight \"xax\" \"x\" }}{{ TrimPrefix \"xa\" \"x\" }}{{ TrimSuffix \"ax\" \"x\" }}{{ TrimSpace \" a \" }}",
            "aaxxaaaa",
        ),
        ("{{ Replace \"aaa\" \"a\" \"b\" 2 }}{{ replace \"a\" \"c\" \"aaa\" }}", "bbaccc"),
        (
            "{{ ToLower \"ÀB\" }}{{ ToUpper \"àb\" }}{{ lower \"A\" }}{{ upper \"a\" }}{{ title \"foo bar-baz\" }}",
            "àbÀBaAFoo Bar-Baz",
        ),
        (
            "{{ repeat 3 \"ab\" }}|{{ indent 2 \"a\\nb\" }}|{{ nindent 1 \"a\" }}",
            "ababab|  a\n  b|\n a",
        ),
        (
            "{{ contains \"ll\" .s }}{{ hasPrefix \"He\" .s }}{{ hasSuffix \"x\" .s }}",
            "truetruefalse",
        ),
        ("{{ .n | count \"abc\" }}{{ .n | count \"a|b|c\" }}{{ count \"x*\" \"axa\" }}", "263"),
        (
            "{{ regexReplaceAll \"(a)(b)\" .n \"${2}$1\" }}|{{ regexReplaceAllLiteral \"b\" .n \"$1\" }}",
            "bac bac|a$1c a$1c",
        ),
        ("{{ urlencode .u }}|{{ urldecode \"a%3D1+b\" }}", "a%3D1%26b%3Dc+d|a=1 b"),
        (
            "{{ b64enc \"i'm\" }}|{{ b64dec \"aSdt\" }}|{{ b64dec \"Zm9vYg\" }}|{{ b64dec \"Zm9vYmE=\" }}|{{ b64dec \"*\" }}",
            "aSdt|i'm|foob|fooba|illegal base64 data at input byte 0",
        ),
        (
            "{{ html \"<a&'\\\">\" }} {{ js \"<'a\\n>\" }} {{ urlquery \"a b&\" }}",
            "&lt;a&amp;&#39;&#34;&gt; \\u003C\\'a\\u000A\\u003E a+b%26",
        ),
        ("{{ __line__ }}{{ default \"d\" .no }}{{ default \"d\" .n }}", "lined"),
    ] {
        let want = if text.contains("__line__") { "linedabc abc" } else { want };
        assert_eq!(run(text, labels, "line").as_deref(), Ok(want), "{text}");
    }
}

#[test]
fn functions_of_numbers() {
    let labels: &[(&str, &str)] =
        &[("foo", "1.5"), ("bar", "5"), ("baz", "10.5"), ("bazz", "20.2")];
    for (text, want) in [
        ("{{ addf .foo 1.5 | subf .bar 1.5 | mulf .baz | divf .bazz }}", "3.8476190476190477"),
        (
            "{{ add 1 .bar \"2\" }} {{ sub 1 .bar }} {{ mul 2 .bar }} {{ div 7 2 }} {{ mod 7 4 }}",
            "8 -4 10 3 3",
        ),
        (
            "{{ max 1 .bar 3 }} {{ min 1 .bar }} {{ maxf .foo 1.2 }} {{ minf .foo .baz }}",
            "5 1 1.5 1.5",
        ),
        (
            "{{ ceil .foo }} {{ floor .foo }} {{ round 3.88571 2 }} {{ round 3.883 2 .2 }}",
            "2 1 3.89 3.89",
        ),
        ("{{ int .foo }} {{ int \"12\" }} {{ float64 .foo }} {{ int 3.9 }}", "0 12 1.5 3"),
        (
            "{{ bytes \"3MB\" }} {{ duration \"3ms\" }} {{ duration_seconds \"3m10s\" }}",
            "3e+06 0.003 190",
        ),
        ("{{ addf 0.1 0.2 }}", "0.3"),
    ] {
        assert_eq!(run(text, labels, "").as_deref(), Ok(want), "{text}");
    }
}

#[test]
fn functions_of_times() {
    for (text, want) in [
        (
            "{{ __timestamp__ | date \"2006-01-02\" }} {{ __timestamp__ | unixEpoch }}",
            "2022-08-26 1661518453",
        ),
        ("{{ __timestamp__ }}", "2022-08-26 12:54:13.24467257 +0000 UTC"),
        (
            "{{ __timestamp__.Unix }} {{ (__timestamp__).Format \"15h\" }} {{ __timestamp__.Weekday }}",
            "1661518453 12h Friday",
        ),
        (
            "{{ unixToTime \"19503\" }}|{{ unixToTime \"1679577215\" }}",
            "2023-05-26 00:00:00 +0000 UTC|2023-03-23 13:13:35 +0000 UTC",
        ),
        ("{{ unixToTime \"1673798889902000\" }}", "2023-01-15 16:08:09.902 +0000 UTC"),
        (
            "{{ toDateInZone \"2006-01-02 15:04\" \"Europe/Kyiv\" \"2021-07-02 10:00\" }}",
            "2021-07-02 10:00:00 +0200 EET",
        ),
        (
            "{{ toDateInZone \"2006-01-02 15:04\" \"Europe/Kyiv\" \"2021-07-02 10:00\" | unixEpoch }}",
            "1625212800",
        ),
        (
            "{{ toDateInZone \"2006-01-02 15:04\" \"Nowhere\" \"2021-07-02 10:00\" | unixEpoch }}",
            "1625220000",
        ),
        ("{{ toDate \"2006-01-02\" \"x\" }}", "0001-01-01 00:00:00 +0000 UTC"),
        ("{{ unixEpoch now }} {{ date \"2006\" 0 }}", "1700000000 1970"),
        (
            "{{ toDateInZone \"2006-01-02T15:04:05.999999999Z\" \"UTC\" \"2023-03-10T01:32:40.340485723Z\" | unixEpochMillis }}",
            "1678411960340",
        ),
    ] {
        check(text, want);
    }
}

#[test]
fn a_template_cannot_eat_the_process() {
    for (text, limit) in [
        ("{{ repeat 1000000000 \"x\" }}", "a text of more than"),
        ("{{ alignLeft 1000000000 \"x\" }}", "a text of more than"),
        ("{{ indent 1000000000 \"x\" }}", "a text of more than"),
        ("{{range 1000000000}}{{end}}", "more than 100000 steps"),
        ("{{range 10000}}{{repeat 1000 \"x\"}}{{end}}", "the output is longer than"),
        ("{{range 10000}}{{$x := repeat 100000 \"x\"}}{{end}}", "bytes of text; loop less"),
        (
            "{{define \"T\"}}{{template \"T\"}}{{end}}{{template \"T\"}}",
            "exceeded maximum template depth (240)",
        ),
        ("{{ replace \"\" (repeat 1000 \"y\") (repeat 2000 \"x\") }}", "a text of more than"),
        ("{{ printf \"%1000000d%1000000d\" 1 1 }}", "a text of more than"),
        ("{{ $x := printf \"%900000s\" `a` }}{{ print $x $x }}", "a text of more than"),
        ("{{ $x := printf \"%900000s\" `a` }}{{ println $x $x }}", "a text of more than"),
        ("{{ $x := printf \"%900000s\" `a` }}{{ printf `` $x $x }}", "a text of more than"),
        (
            "{{ $x := printf \"%900000s\" `a` }}{{ range 60 }}{{ $y := eq $x $x }}{{ end }}",
            "bytes of text; loop less",
        ),
    ] {
        let error = run(text, &[], "").expect_err(text);
        assert!(error.contains(limit), "{text}: {error}");
    }
    let nested = format!("{{{{ {}1{} }}}}", "(".repeat(20), ")".repeat(20));
    assert_eq!(run(&nested, &[], "").as_deref(), Ok("1"));
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(10_000), ")".repeat(10_000));
    assert!(run(&deep, &[], "").is_err());
    let deep = format!("{}{}", "{{if true}}".repeat(10_000), "{{end}}".repeat(10_000));
    assert!(run(&deep, &[], "").is_err());
    let many = "{{.foo}}".repeat(3_000);
    assert!(run(&many, &[("foo", &"x".repeat(1_000))], "").is_err());
}

proptest! {
    #[test]
    fn no_text_makes_a_template_panic(text in r#"([ .a-z|()]|\{\{|\}\}|\{\{if |\{\{range |\{\{with |\{\{end\}\}|\{\{else\}\}|printf |"%[a-z]"|index |slice |\$x|:=|"a"|[0-9.e]|\PC){0,30}"#) {
        let _ = run(&text, &[("a", "1"), ("b", "[1]")], "line");
    }

    #[test]
    fn no_arguments_make_a_function_panic(name in 0..200usize, args in proptest::collection::vec(0..8usize, 0..5)) {
        let names = ["trunc", "substr", "alignLeft", "alignRight", "repeat", "indent", "index", "slice", "round", "div", "mod", "printf", "eq", "lt", "len", "toDate", "date", "unixToTime", "regexReplaceAll", "count", "b64dec", "urldecode", "fromJson", "default", "int", "add", "mulf", "divf", "max", "Replace", "title", "bytes", "duration", "html", "print"];
        let values = [".a", "1", "-9223372036854775808", "1e308", "\"é%z+\"", "nil", "now", "(fromJson .b)"];
        let args: Vec<&str> = args.iter().map(|at| values[*at]).collect();
        let text = format!("{{{{ {} {} }}}}", names[name % names.len()], args.join(" "));
        let _ = run(&text, &[("a", "1.5x"), ("b", "[1,{\"c\":null}]")], "line");
    }
}
