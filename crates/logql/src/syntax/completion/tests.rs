//! What is proposed where, in texts in which `¦` is the place.

use super::{Place, complete};

/// The word, then what may stand in its place.
fn told(text: &str) -> String {
    let at = text.find('¦').expect("a place is marked");
    let text = text.replace('¦', "");
    let found = complete(&text, at);
    let selector = |matchers: &[model::Matcher]| {
        let one = |m: &model::Matcher| format!("{}{}{}", m.name, m.op.as_str(), m.value);
        matchers.iter().map(one).collect::<Vec<_>>().join(",")
    };
    let word = &text[found.start..found.end];
    let place = match &found.place {
        Place::Expression { words } => format!("expression {}", words.join(" ")),
        Place::Words(words) => format!("words {}", words.join(" ")),
        Place::Stage { query } => format!("stage of {query}"),
        Place::LabelName { selector: of } => format!("label of {}", selector(of)),
        Place::LabelValue { label, selector: of, is_regex } => {
            let kind = if *is_regex { "pattern" } else { "value" };
            format!("{kind} of {label} of {}", selector(of))
        }
        Place::Field { query, is_compared, words } => {
            let compared = if *is_compared { " compared" } else { "" };
            format!("field{compared} of {query} {}", words.join(" "))
        }
        Place::FieldValue { query, field, is_regex } => {
            let kind = if *is_regex { "pattern" } else { "value" };
            format!("field {kind} of {field} of {query}")
        }
        Place::Template { query, is_field } => {
            format!("{} of {query}", if *is_field { "template field" } else { "template" })
        }
        Place::Duration => "duration".to_owned(),
        Place::Nothing => "nothing".to_owned(),
    };
    format!("{word:?}: {}", place.trim_end())
}

#[track_caller]
fn check(text: &str, wanted: &str) {
    assert_eq!(told(text), wanted, "{text}");
}

#[test]
fn expressions_begin_where_operands_may() {
    check("¦", "\"\": expression");
    check("ra¦", "\"ra\": expression");
    check("sum(¦", "\"\": expression");
    check("sum by (a) (ra¦te", "\"rate\": expression");
    check(
        "sum(rate({a=\"b\"}[5m])) / ¦",
        "\"\": expression bool on ignoring group_left group_right",
    );
    check("topk(5, ¦)", "\"\": expression");
    check("{a=\"b\"} # wha¦t", "\"\": nothing");
    check("12¦", "\"12\": nothing");
}

#[test]
fn selectors_tell_labels_and_values_of_what_else_they_ask() {
    check("{¦", "\"\": label of");
    check("{ap¦p}", "\"app\": label of");
    check("{app=\"a\", n¦, env=\"x\"}", "\"n\": label of app=a,env=x");
    check("{app¦", "\"app\": label of");
    check("{app ¦", "\"\": words = != =~ !~");
    check("{app!¦", "\"!\": words != !~");
    check("{app=¦", "\"\": value of app of");
    check("{env=\"x\", app=\"a¦\"} |= \"b\"", "\"a\": value of app of env=x");
    check("{app=\"¦, env=\"x\"}", "\"\": value of app of env=x");
    check("{app=~\"a|b¦c|d\"}", "\"bc\": pattern of app of");
    check("{app=\"a\"¦", "\"\": nothing");
    check("sum by (x) (rate({app=\"¦", "\"\": value of app of");
}

#[test]
fn stages_follow_lines() {
    let stages = "|= != |~ !~ |> !> | json | logfmt | pattern | regexp | unpack | line_format \
                  | label_format | decolorize | drop | keep | unwrap |";
    check("{a=\"b\"} ¦", &format!("\"\": words {stages}"));
    check("({a=\"b\"}) ¦", &format!("\"\": words {stages}"));
    check("rate(({a=\"b\"}) | json | ¦", "\"\": stage of {a=\"b\"}) | json");
    check("{a=\"b\"} |= \"x\" ¦", &format!("\"\": words or {stages}"));
    check("{a=\"b\"} | json ¦", &format!("\"\": words {stages}"));
    check("{a=\"b\"} !¦", "\"!\": words != !~ !>");
    check("{a=\"b\"} | ¦", "\"\": stage of {a=\"b\"}");
    check("{a=\"b\"} |= \"x\" | js¦", "\"js\": stage of {a=\"b\"} |= \"x\"");
    check("{a=\"b\"} |= ¦", "\"\": words ip");
    check("{a=\"b\"} |= \"x¦", "\"x\": nothing");
    check("{a=\"b\"} | logfmt -¦", "\"\": nothing");
    check("{a=\"b\"} | logfmt ¦", &format!("\"\": words --strict --keep-empty {stages}"));
}

#[test]
fn filters_compare_fields_of_what_stands_before() {
    let json = "{a=\"b\"} | json";
    check("{a=\"b\"} | json | sta¦", &format!("\"sta\": stage of {json}"));
    check("{a=\"b\"} | json | status ¦", "\"\": words = != =~ !~ > >= < <=");
    check("{a=\"b\"} | json | status=¦", &format!("\"\": field value of status of {json}"));
    check("{a=\"b\"} | json | status=\"5¦\"", &format!("\"5\": field value of status of {json}"));
    check("{a=\"b\"} | json | s=~\"a|¦b\"", &format!("\"b\": field pattern of s of {json}"));
    check("{a=\"b\"} | json | x>1 and ¦", &format!("\"\": field compared of {json}"));
    check("{a=\"b\"} | json | (x=\"1\" or ¦", &format!("\"\": field compared of {json}"));
    check("{a=\"b\"} | json | drop ¦", &format!("\"\": field of {json}"));
    check("{a=\"b\"} | json | keep a, b=\"¦", &format!("\"\": field value of b of {json}"));
    check(
        "rate({a=\"b\"} | json | unwrap ¦",
        &format!("\"\": field of {json} bytes duration duration_seconds"),
    );
    check(
        "rate({a=\"b\"} | json | unwrap bytes(¦",
        &format!("\"\": field of {json} bytes duration duration_seconds"),
    );
}

#[test]
fn templates_have_functions_and_fields() {
    let json = "{a=\"b\"} | json";
    check("{a=\"b\"} | json | line_format \"{{ToL¦", &format!("\"ToL\": template of {json}"));
    check(
        "{a=\"b\"} | json | line_format \"{{.st¦}} x\"",
        &format!("\"st\": template field of {json}"),
    );
    check("{a=\"b\"} | json | line_format \"{{.a}} ¦", "\"{{.a}} \": nothing");
    check("{a=\"b\"} | json | label_format x=`{{ .¦", &format!("\"\": template field of {json}"));
    check("{a=\"b\"} | json | label_format x=¦", &format!("\"\": field of {json}"));
}

#[test]
fn numbers_are_of_ranges_and_groups() {
    check("rate({a=\"b\"}[¦", "\"\": duration");
    check("rate({a=\"b\"} | json [5¦", "\"5\": duration");
    check("rate({a=\"b\"} |= \"x\" [5m] ¦", "\"\": words offset");
    check("rate({a=\"b\"}[5m] offset ¦", "\"\": duration");
    check("sum by (¦) (rate({a=\"b\"} | json [5m]))", "\"\": field of {a=\"b\"} | json");
    check(
        "sum(rate({a=\"b\"} | json | x=\"1\" [5m])) by (y, z¦)",
        "\"z\": field of {a=\"b\"} | json | x=\"1\"",
    );
    check("sum ¦", "\"\": words by without");
    check(
        "sum(rate({a=\"b\"}[5m])) ¦",
        "\"\": words by without and or unless + - * / % ^ == != > >= < <=",
    );
}

#[test]
fn names_and_values_are_written_so_that_they_can_be_read() {
    let insert = |text: &str, value: &str| {
        let at = text.find('¦').expect("a place is marked");
        let text = text.replace('¦', "");
        let found = complete(&text, at);
        let written = match found.place {
            Place::LabelValue { .. } | Place::FieldValue { .. } => found.insert_value(value),
            _ => found.insert_label(&text, value).unwrap_or_default(),
        };
        format!("{}{written}{}", &text[..found.start], &text[found.end..])
    };
    assert_eq!(insert("{a¦", "app"), "{app=");
    assert_eq!(insert("{a¦=\"x\"}", "app"), "{app=\"x\"}");
    assert_eq!(insert("{a¦", "a.b"), "{");
    assert_eq!(insert("{a=¦}", "q\"\\\n"), "{a=\"q\\\"\\\\\\n\"}");
    assert_eq!(insert("{a=\"¦\"}", "x"), "{a=\"x\"}");
    assert_eq!(insert("{a=\"¦", "x"), "{a=\"x\"");
    assert_eq!(insert("{a=~\"y|¦\"}", "1.5"), "{a=~\"y|1\\\\.5\"}");
    assert_eq!(insert("{a=`¦", "x\\y"), "{a=`x\\y`");
    for text in ["{a=¦}", "{a=\"¦\"}", "{a=~\"¦\"}", "{a='¦'}"] {
        for value in [
            "plain",
            "with \"marks\" and 'others'",
            "back\\slash",
            "1.2.3.4",
            "zwei\nlines",
            "日志",
        ] {
            let written = insert(text, value);
            if text.contains('\'') && crate::syntax::parse("{a='x'}").is_err() {
                continue;
            }
            let matchers = crate::syntax::parse_matchers(&written).expect(&written);
            assert!(matchers[0].matches(value), "{written}");
        }
    }
}

#[test]
fn every_place_of_any_text_has_an_answer() {
    for text in [
        "sum by (app, level) (rate({app=~\"a|b\", env!=\"x\"} |= \"x\" or \"y\" | json a=\"b.c\" | (s>=500 or d<1s) | line_format \"{{.a | ToUpper}}\" | drop x, y=\"z\" | unwrap bytes(n) [5m] offset 1h)) / on (a) group_left (b) vector(1)",
        "{{{{((((\"'`|=!~|>[[[}})]#\n日志=\"志\"",
    ] {
        for at in 0..=text.len() + 1 {
            complete(text, at);
        }
        for (end, _) in text.char_indices() {
            complete(&text[..end], end);
        }
    }
}
