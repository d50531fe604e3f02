//! What a store may use of a query's pipeline to read less. The pipeline runs over what comes all the same.

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
    needles: Vec<Vec<u8>>,
    fields: Vec<(String, String)>,
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
        // makes labels.
        let (mut is_first_line, mut are_first_labels) = (true, true);
        for (stage, compiled) in ordered.iter().zip(compiled) {
            match (&stage.kind, compiled) {
                (StageKind::LineFilter(_), Stage::LineFilter(filter)) if is_first_line => {
                    let alternatives = filter.alternatives();
                    let is_sole = !filter.is_negated() && alternatives.len() == 1;
                    let required = alternatives[0].required_text().filter(|_| is_sole);
                    pushdown.needles.extend(required.map(<[u8]>::to_vec));
                    // A sole text says all that the filter does.
                    let is_said = required.is_some()
                        && matches!(alternatives[0], logql::pipeline::LineMatch::Contains(_));
                    if !is_said {
                        filters.push(filter);
                    }
                }
                (StageKind::LabelFilter(filter), _) if are_first_labels => {
                    pushdown.add_fields(filter);
                }
                (StageKind::LineFilter(_) | StageKind::LabelFilter(_), _) => {}
                (kind, _) => {
                    are_first_labels = false;
                    is_first_line &= !matches!(
                        kind,
                        StageKind::LineFormat(_) | StageKind::Unpack | StageKind::Decolorize
                    );
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

    fn add_fields(&mut self, filter: &LabelFilter) {
        match filter {
            LabelFilter::And(left, right) => {
                self.add_fields(left);
                self.add_fields(right);
            }
            // What tells errors is no field of a line, and what has the suffix may have another name there.
            LabelFilter::String(matcher)
                if matcher.op == MatchOp::Equal
                    && !matcher.value.is_empty()
                    && !matcher.name.starts_with("__")
                    && !matcher.name.ends_with("_extracted") =>
            {
                self.fields.push((matcher.name.clone(), matcher.value.clone()));
            }
            _ => {}
        }
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
            test: self.test.clone(),
            needs_lines: true,
            metadata: MetadataWanted::All,
            takes_runs: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use logql::syntax::ast::Expr;

    use super::*;

    #[track_caller]
    fn check(query: &str, needles: &[&str], fields: &[(&str, &str)], has_test: bool) {
        let Ok(Expr::Log(log)) = logql::syntax::parse(query) else { panic!("{query}") };
        let pushdown = Pushdown::of(&log).expect("sound");
        let found: Vec<&[u8]> = pushdown.needles.iter().map(Vec::as_slice).collect();
        let needles: Vec<&[u8]> = needles.iter().map(|text| text.as_bytes()).collect();
        assert_eq!(found, needles, "{query}");
        let found: Vec<(&str, &str)> =
            pushdown.fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(found, fields, "{query}");
        assert_eq!(pushdown.test.is_some(), has_test, "{query}");
    }

    #[test]
    fn a_store_is_told_what_every_line_has() {
        check(r#"{a="b"} |= "x" |= "yz""#, &["x", "yz"], &[], false);
        check(r#"{a="b"} |~ "plain""#, &["plain"], &[], false);
        check(r#"{a="b"} |= "x" or "y""#, &[], &[], true);
        check(r#"{a="b"} != "x""#, &[], &[], true);
        check(r#"{a="b"} |> "<_> done <_>""#, &[" done "], &[], true);
        check(r#"{a="b"} | json |= "x""#, &["x"], &[], false);
        check(r#"{a="b"} | line_format "x" |= "x""#, &[], &[], false);
        check(r#"{a="b"} | t="1", u="2" | json | v="3""#, &[], &[("t", "1"), ("u", "2")], false);
        check(r#"{a="b"} | t="1" or u="2""#, &[], &[], false);
        check(r#"{a="b"} | t="" | u!="2" | __error__="x""#, &[], &[], false);
        check(r#"{a="b"} | t_extracted="1""#, &[], &[], false);
        check(r#"{a="b"} | label_format t=u | t="1""#, &[], &[], false);
    }
}
