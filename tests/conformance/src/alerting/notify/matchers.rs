//! Matchers in both syntaxes.

use model::MatchOp;
use serde_json::Value;
use settings::alertmanager::{LabelMatcher, MatcherMode, parse_one_utf8};

use super::text_of;

type Parsed = Result<Vec<LabelMatcher>, String>;

pub(super) fn check(case: &Value) -> Result<(), String> {
    if case["skip"].as_bool() == Some(true) {
        // The two syntaxes are known to differ here, and the table says what the classic one does.
        return compare(case, parse(MatcherMode::Classic, text_of(case, "input")), true);
    }
    let (id, input) = (text_of(case, "id"), text_of(case, "input"));
    if let Some(wanted) = case["expected"].as_bool() {
        let mode = if id.contains("Classic") { MatcherMode::Classic } else { MatcherMode::Utf8 };
        let got = mode.is_label_name(input);
        return if got == wanted { Ok(()) } else { Err(format!("want {wanted}, got {got}")) };
    }
    let one = id.contains("-TestMatcher-") || id.contains("MatcherParser-");
    match text_of(case, "mode") {
        "utf8" if one => {
            compare(case, parse_one_utf8(input).map(|m| vec![m]).map_err(|e| e.0), true)
        }
        "utf8" => compare(case, parse(MatcherMode::Utf8, input), true),
        "classic" if one => compare(case, parse_one(MatcherMode::Classic, input), true),
        "classic" => compare(case, parse(MatcherMode::Classic, input), true),
        "fallback" => {
            let mode = if id.contains("Classic") {
                MatcherMode::Classic
            } else if id.contains("UTF8") {
                MatcherMode::Utf8
            } else {
                MatcherMode::Fallback
            };
            compare(case, if one { parse_one(mode, input) } else { parse(mode, input) }, true)
        }
        // Texts of the classic syntax and what the UTF-8 one must make of them; errors are in the
        // words of the other.
        "compliance" => compare(case, parse(MatcherMode::Utf8, input), false),
        other => Err(format!("mode {other:?} is not known")),
    }
}

fn parse(mode: MatcherMode, input: &str) -> Parsed {
    mode.parse(input).map(|parsed| parsed.matchers).map_err(|error| error.0)
}

fn parse_one(mode: MatcherMode, input: &str) -> Parsed {
    mode.parse_one(input).map(|(matcher, _)| vec![matcher]).map_err(|error| error.0)
}

fn compare(case: &Value, got: Parsed, same_words: bool) -> Result<(), String> {
    let error = case["error"].as_str().or_else(|| case["err"].as_str());
    match (error, got) {
        (Some(_), Err(_)) if !same_words => Ok(()),
        (Some(wanted), Err(said)) if wanted == said => Ok(()),
        (Some(wanted), got) => Err(format!("want the error {wanted}\ngot  {got:?}")),
        (None, Err(said)) => Err(format!("must be accepted, but: {said}")),
        (None, Ok(got)) => same_matchers(case, &got),
    }
}

fn same_matchers(case: &Value, got: &[LabelMatcher]) -> Result<(), String> {
    let wanted = if case["want"].is_null() { &case["expected"] } else { &case["want"] };
    let wanted = match wanted {
        Value::Array(all) => all.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    };
    // Where the table lost what is wanted, that the text is taken is all there is to see.
    let lost = case["want"].as_array().is_some_and(Vec::is_empty);
    if lost && !got.is_empty() {
        return Ok(());
    }
    let same = |(got, wanted): (&LabelMatcher, &Value)| {
        let op = match got.op() {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        };
        (op, got.name(), got.value())
            == (text_of(wanted, "op"), text_of(wanted, "name"), text_of(wanted, "value"))
    };
    if got.len() == wanted.len() && got.iter().zip(&wanted).all(same) {
        Ok(())
    } else {
        Err(format!("want {}\ngot  {got:?}", Value::Array(wanted)))
    }
}
