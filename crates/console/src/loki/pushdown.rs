//! What a store may use of a query's pipeline to read less. It yields no line that the line filters on stored lines do
//! not let pass; for all else the pipeline runs over what comes all the same.

use std::sync::Arc;

use logql::metric::MetadataWanted;
use logql::pipeline::{LineFilter, Stage};
use logql::syntax::ParseError;
use logql::syntax::ast::{LabelFilter, LogExpr, StageKind};
use model::MatchOp;

use crate::log_data::{LineFilterTest, LogRequest};

/// Parts of a pipeline that say which lines can come out of it.
#[derive(Clone, Default)]
pub(super) struct Pushdown {
    needles: Vec<Vec<Vec<u8>>>,
    fields: Vec<(String, String)>,
    values: Vec<(String, String)>,
    test: Option<LineFilterTest>,
}

impl Pushdown {
    /// Of the stages of a query.
    ///
    /// # Errors
    /// A stage cannot be made.
    pub(super) fn of(log: &LogExpr) -> Result<Self, ParseError> {
        let ordered = log.ordered_stages();
        let compiled = logql::compile::stages(log)?;
        let mut pushdown = Pushdown::default();
        let mut filters: Vec<LineFilter> = Vec::new();
        // Line filters before anything that makes another line, and conditions on labels before anything that
        // makes labels, or makes them of anything but values in the line.
        let (mut is_first_line, mut are_first_labels, mut are_values) = (true, true, true);
        for (stage, compiled) in ordered.iter().zip(compiled) {
            match (&stage.kind, compiled) {
                (StageKind::LineFilter(_), Stage::LineFilter(filter)) if is_first_line => {
                    let owned = |list: Vec<&[u8]>| list.into_iter().map(<[u8]>::to_vec).collect();
                    pushdown.needles.extend(filter.required_texts().into_iter().map(owned));
                    if !filter.is_said_by_texts() {
                        filters.push(filter);
                    }
                }
                (StageKind::LabelFilter(filter), _) if are_first_labels => {
                    add_equal(filter, &mut pushdown.fields);
                }
                (StageKind::LabelFilter(filter), _) if are_values => {
                    add_equal(filter, &mut pushdown.values);
                }
                (StageKind::LineFilter(_) | StageKind::LabelFilter(_), _) => {}
                (kind, _) => {
                    are_first_labels = false;
                    are_values &= is_first_line && makes_values(kind);
                    is_first_line &= !kind.changes_line();
                }
            }
        }
        if !filters.is_empty() {
            pushdown.test = Some(Arc::new(move |line: &[u8]| {
                filters.iter().all(|filter| filter.is_kept(line))
            }));
        }
        Ok(pushdown)
    }

    /// A request for the lines of a range that can come out of the pipeline.
    pub(super) fn request<'q>(
        &self,
        log: &'q LogExpr,
        start_ns: i64,
        end_ns: i64,
    ) -> LogRequest<'q> {
        LogRequest {
            matchers: &log.matchers,
            start_ns,
            end_ns,
            newest_first: false,
            needles: self.needles.clone(),
            fields: self.fields.clone(),
            values: self.values.clone(),
            test: self.test.clone(),
            needs_lines: true,
            metadata: MetadataWanted::All,
            takes_runs: false,
        }
    }
}

/// Whether a parser makes labels whose values stand in the line as they are, with nothing of a word beside them, or
/// else the line has a backslash.
fn makes_values(kind: &StageKind) -> bool {
    matches!(kind, StageKind::Json(_) | StageKind::Logfmt { .. })
}

/// Adds the labels that have to have a value.
fn add_equal(filter: &LabelFilter, to: &mut Vec<(String, String)>) {
    match filter {
        LabelFilter::And(left, right) => {
            add_equal(left, to);
            add_equal(right, to);
        }
        // What tells errors is no field of a line, what has the suffix may have another name there, and the
        // replacement character may stand for bytes that are no UTF-8. Objects and arrays of JSON are written anew.
        LabelFilter::String(matcher)
            if matcher.op == MatchOp::Equal
                && !matcher.value.is_empty()
                && !matcher.value.contains(char::REPLACEMENT_CHARACTER)
                && !matcher.value.starts_with(['{', '['])
                && !matcher.name.starts_with("__")
                && !matcher.name.ends_with("_extracted") =>
        {
            to.push((matcher.name.clone(), matcher.value.clone()));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use logql::syntax::ast::Expr;
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn of(query: &str) -> (LogExpr, Pushdown) {
        let Ok(Expr::Log(log)) = logql::syntax::parse(query) else { panic!("{query}") };
        let pushdown = Pushdown::of(&log).expect("sound");
        (log, pushdown)
    }

    #[track_caller]
    fn check(query: &str, needles: &[&[&str]], fields: &[(&str, &str)], has_test: bool) {
        let (_, pushdown) = of(query);
        let text = |text: &Vec<u8>| String::from_utf8_lossy(text).into_owned();
        let found: Vec<Vec<String>> =
            pushdown.needles.iter().map(|list| list.iter().map(text).collect()).collect();
        assert_eq!(found, needles, "{query}");
        assert_eq!(pairs(&pushdown.fields), fields, "{query}");
        assert_eq!(pushdown.test.is_some(), has_test, "{query}");
    }

    fn pairs(of: &[(String, String)]) -> Vec<(&str, &str)> {
        of.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    #[test]
    fn a_store_is_told_what_every_line_has() {
        check(r#"{a="b"} |= "x" |= "yz""#, &[&["x"], &["yz"]], &[], false);
        check(r#"{a="b"} |~ "plain""#, &[&["plain"]], &[], false);
        check(r#"{a="b"} |= "x" or "y""#, &[&["x", "y"]], &[], false);
        check(r#"{a="b"} |~ "err(or)?|warn" or "xy""#, &[&["err", "warn", "xy"]], &[], true);
        check(r#"{a="b"} |~ "GET /a[0-9]+ 200" |= """#, &[&["GET /a"], &[" 200"]], &[], true);
        check(r#"{a="b"} != "x""#, &[], &[], true);
        check(r#"{a="b"} |> "<_> done <_>""#, &[&[" done "]], &[], true);
        check(r#"{a="b"} | json |= "x""#, &[&["x"]], &[], false);
        check(r#"{a="b"} | line_format "x" |= "x""#, &[], &[], false);
        check(r#"{a="b"} | t="1", u="2" | json | v="3""#, &[], &[("t", "1"), ("u", "2")], false);
        check(r#"{a="b"} | t="1" or u="2""#, &[], &[], false);
        check(r#"{a="b"} | t="" | u!="2" | __error__="x""#, &[], &[], false);
        check(r#"{a="b"} | t_extracted="1""#, &[], &[], false);
        check(r#"{a="b"} | label_format t=u | t="1""#, &[], &[], false);
    }

    #[test]
    fn a_store_is_told_values_that_stand_in_the_line() {
        let values = |query: &str, wanted: &[(&str, &str)]| {
            assert_eq!(pairs(&of(query).1.values), wanted, "{query}");
        };
        values(r#"{a="b"} | t="1" | json | v="3", w="4""#, &[("v", "3"), ("w", "4")]);
        values(r#"{a="b"} |= "x" | logfmt --strict c="d" | json | c="3""#, &[("c", "3")]);
        values(r#"{a="b"} | json | v="3" or w="4""#, &[]);
        values(r#"{a="b"} | json | v=~"3" | w!="4" | x="" | y="\ufffd""#, &[]);
        values(r#"{a="b"} | json v="w.x" | v="3", v="{}""#, &[("v", "3")]);
        values(r#"{a="b"} | json | label_format v=w | v="3""#, &[]);
        values(r#"{a="b"} | decolorize | json | v="3""#, &[]);
        values(r#"{a="b"} | line_format "{{.t}}" | json | v="3""#, &[]);
        values(r#"{a="b"} | unpack | v="3""#, &[]);
        values(r#"{a="b"} | pattern "<v> x" | v="3""#, &[]);
    }

    fn line() -> impl Strategy<Value = Vec<u8>> {
        let value = prop_oneof![
            Just(br#""x""#.to_vec()),
            Just(br#""x1""#.to_vec()),
            Just(br#""\u0078""#.to_vec()),
            Just(b"x".to_vec()),
            Just(b"1".to_vec()),
            Just(b"1.0".to_vec()),
            Just(b"-1".to_vec()),
            Just(b"true".to_vec()),
            Just(br#"{"a":"x"}"#.to_vec()),
            Just(br#"["x",1]"#.to_vec()),
            Just(b"\"x\xff\"".to_vec()),
            Just(b"null".to_vec()),
        ];
        let json = prop::collection::vec(("[ab]|a_a", value.clone()), 0..4).prop_map(|pairs| {
            let pair = |(name, value): &(String, Vec<u8>)| {
                [b"\"", name.as_bytes(), b"\":", value].concat()
            };
            let pairs: Vec<Vec<u8>> = pairs.iter().map(pair).collect();
            [b"{", pairs.join(&b","[..]).as_slice(), b"}"].concat()
        });
        let logfmt = prop::collection::vec(("[ab]|a_a", value), 0..4).prop_map(|pairs| {
            let pair = |(name, value): &(String, Vec<u8>)| [name.as_bytes(), b"=", value].concat();
            pairs.iter().map(pair).collect::<Vec<Vec<u8>>>().join(&b" "[..])
        });
        prop_oneof![json, logfmt]
    }

    /// Whether a line holds a value with nothing of a word beside it, or a backslash.
    fn holds(line: &[u8], value: &str) -> bool {
        let is_of_word = |at: Option<usize>| {
            let byte = at.and_then(|at| line.get(at));
            byte.is_some_and(|b| b.is_ascii_alphanumeric() || b"-_".contains(b) || !b.is_ascii())
        };
        let mut places = line.windows(value.len()).enumerate();
        line.contains(&b'\\')
            || places.any(|(at, piece)| {
                piece == value.as_bytes()
                    && !is_of_word(at.checked_sub(1))
                    && !is_of_word(Some(at + value.len()))
            })
    }

    proptest! {
        #[test]
        fn a_line_that_has_a_value_holds_it(
            line in line(),
            parser in prop_oneof![Just("json"), Just("logfmt"), Just(r#"logfmt a="b""#), Just(r#"json a="b", b="a.a""#)],
            name in "[ab]|a_a|a_extracted",
            value in prop_oneof![Just("x"), Just("1"), Just("-1"), Just("1.0"), Just("true"), Just("x1")],
        ) {
            let (log, pushdown) = of(&format!(r#"{{s="t"}} | {parser} | {name}="{value}""#));
            let stages = logql::compile::stages(&log).expect("sound");
            let mut pipeline = logql::pipeline::Pipeline::new(stages, 1);
            pipeline.set_stream([("s", "t")]);
            if pipeline.process(0, &line, []).is_some() {
                for (_, value) in &pushdown.values {
                    prop_assert!(holds(&line, value), "{}", String::from_utf8_lossy(&line));
                }
            }
        }
    }
}
