//! Which lines are behind a number that a query yields: those that it counted for one of its series.

use model::{METRIC_NAME, MatchOp, Matcher};

use crate::syntax::ast::{
    Binary, BinaryOp, Cardinality, Grouping, LabelFilter, LabelReplace, LogExpr, LogRange,
    MetricExpr, Span, Stage, StageKind, VectorOp,
};

/// Lines of a window that ends before the time of evaluation, or at it.
#[derive(Debug, Clone, PartialEq)]
pub struct Behind {
    /// Which lines.
    pub log: LogExpr,
    /// Length of the window, in nanoseconds.
    pub interval: i64,
    /// How much earlier than the evaluated time the window ends, in nanoseconds.
    pub offset: i64,
}

/// The lines behind the series that bears `labels`: to be looked for one after the other, until there are
/// some. Of an operation on two queries those of the left side are, unless that is a number; of `or` those of
/// either side.
///
/// Labels that the query makes itself (`label_replace`, `group_left`), those that something else made of them
/// (`is_made`), and what a grouping leaves out narrow nothing down.
pub fn behind<'a>(
    expr: &MetricExpr,
    labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    is_made: &dyn Fn(&str) -> bool,
) -> Vec<Behind> {
    let is_lines = |name: &str| name != METRIC_NAME && !is_made(name);
    let labels = labels.into_iter().filter(|(name, _)| is_lines(name));
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut found = Vec::new();
    collect(expr, Narrowed { labels, is_made, is_grouped: false }, &mut found);
    found
}

/// What a series is known by at a place of the tree.
#[derive(Clone)]
struct Narrowed<'m> {
    /// Labels that lines have as well; an empty value where they have none.
    labels: Vec<(String, String)>,
    /// Of which labels it is not known what lines have.
    is_made: &'m dyn Fn(&str) -> bool,
    /// Whether a grouping has said which labels there are.
    is_grouped: bool,
}

impl Narrowed<'_> {
    fn forget(&mut self, is_made: impl Fn(&str) -> bool) {
        self.labels.retain(|(name, _)| !is_made(name));
    }

    /// Series of a group that lacks one of its labels are those without it.
    fn group(&mut self, grouping: Option<&Grouping>) {
        if self.is_grouped {
            return;
        }
        self.is_grouped = true;
        let Some(Grouping { without: false, labels }) = grouping else { return };
        for name in labels {
            let is_known = self.labels.iter().any(|(known, _)| known == name);
            if !is_known && !(self.is_made)(name) {
                self.labels.push((name.clone(), String::new()));
            }
        }
    }
}

/// The parser bounds how deep queries are nested.
fn collect(expr: &MetricExpr, mut narrowed: Narrowed<'_>, found: &mut Vec<Behind>) {
    match expr {
        MetricExpr::Range(range) => {
            narrowed.group(range.grouping.as_ref());
            found.push(of_range(&range.range, narrowed));
        }
        MetricExpr::Vector(vector) => {
            // Those that choose among series, or put them in order, leave their labels as they are.
            let is_in_order = matches!(vector.op, VectorOp::Sort | VectorOp::SortDesc);
            if !vector.op.takes_parameter() && !is_in_order {
                narrowed.group(vector.grouping.as_ref());
            }
            collect(&vector.inner, narrowed, found);
        }
        MetricExpr::Binary(binary) => of_operation(binary, narrowed, found),
        MetricExpr::LabelReplace(replace) => {
            let LabelReplace { target, inner, .. } = &**replace;
            narrowed.forget(|name| name == target);
            // Whether the series beneath had the label is not known any more.
            narrowed.is_grouped = true;
            collect(inner, narrowed, found);
        }
        MetricExpr::Constant(_) | MetricExpr::Literal(_) => {}
    }
}

fn of_operation(binary: &Binary, mut narrowed: Narrowed<'_>, found: &mut Vec<Behind>) {
    let is_number = |expr: &MetricExpr| match expr {
        MetricExpr::Literal(_) => true,
        MetricExpr::Constant(_) => !binary.op.is_set(),
        _ => false,
    };
    let cardinality = binary.matching.as_ref().map(|matching| matching.cardinality);
    let (first, other) = match cardinality {
        // The side with several partners is the one whose labels the result has.
        Some(Cardinality::OneToMany) => (&binary.right, &binary.left),
        _ => (&binary.left, &binary.right),
    };
    if is_number(first) {
        return collect(other, narrowed, found);
    }
    if let Some(included) = binary.matching.as_ref().and_then(|matching| matching.include.as_ref())
    {
        narrowed.forget(|name| included.iter().any(|one| one == name));
    }
    // Labels that do not count in the matching of one with one are not in its result.
    narrowed.is_grouped |= !binary.op.is_set() && !is_number(other);
    collect(first, narrowed.clone(), found);
    if binary.op == BinaryOp::Or {
        collect(other, narrowed, found);
    }
}

fn of_range(range: &LogRange, narrowed: Narrowed<'_>) -> Behind {
    let mut log = range.log.clone();
    let mut filter = |filter: LabelFilter| {
        log.stages.push(Stage { kind: StageKind::LabelFilter(filter), span: Span::default() });
    };
    for (name, value) in narrowed.labels {
        // Only patterns can fail to compile.
        if let Ok(matcher) = Matcher::new(name, MatchOp::Equal, value) {
            filter(LabelFilter::String(matcher));
        }
    }
    if let Some(unwrap) = &range.unwrap {
        // Lines without a value do not count; those whose value is none of a number do here.
        if let Ok(has_value) = Matcher::new(unwrap.label.clone(), MatchOp::NotEqual, "") {
            filter(LabelFilter::String(has_value));
        }
        unwrap.filters.iter().cloned().for_each(filter);
    }
    Behind { log, interval: range.interval, offset: range.offset }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::{parse, parse_metric};

    const MINUTE: i64 = 60_000_000_000;

    /// The queries, as they are printed; each can be read again.
    fn shown(text: &str, labels: &[(&str, &str)]) -> Vec<String> {
        let expr = parse_metric(text).expect("a query of a test");
        let found = behind(&expr, labels.iter().copied(), &|name| name == "made");
        let shown: Vec<String> = found.iter().map(|one| one.log.to_string()).collect();
        shown.iter().for_each(|one| {
            parse(one).expect("it can be read");
        });
        shown
    }

    #[test]
    fn lines_of_a_series_bear_its_labels() {
        for (text, labels, want) in [
            (
                r#"sum by (app) (count_over_time({env="p"} |= "error" [5m])) > 10"#,
                &[("app", "a\"b")][..],
                &[r#"{env="p"} |= "error" | app="a\"b""#][..],
            ),
            (
                r#"sum by (app, pod) (rate({env="p"} | json [5m])) > 1"#,
                &[("app", "a")],
                &[r#"{env="p"} | json | app="a" | pod="""#],
            ),
            // What an outer grouping leaves out is not known of the inner one.
            (
                r#"max by (app) (sum by (app, pod) (rate({env="p"}[5m])))"#,
                &[("app", "a")],
                &[r#"{env="p"} | app="a""#],
            ),
            (r#"sum(rate({env="p"}[5m])) > 0"#, &[], &[r#"{env="p"}"#]),
            (
                r#"sum by (app) (rate({a="1"} |= "e" [5m])) / sum by (app) (rate({a="1"}[5m])) > 0.1"#,
                &[("app", "x")],
                &[r#"{a="1"} |= "e" | app="x""#],
            ),
            (r#"1 - sum(rate({a="1"}[5m])) < 2"#, &[], &[r#"{a="1"}"#]),
            (
                r#"sum by (x) (rate({a="1"}[5m])) or sum by (x) (rate({b="2"}[1m]))"#,
                &[("x", "y")],
                &[r#"{a="1"} | x="y""#, r#"{b="2"} | x="y""#],
            ),
            (
                r#"label_replace(sum by (x) (rate({a="1"}[5m])), "team", "$1", "x", "(.*)")"#,
                &[("team", "t"), ("x", "y")],
                &[r#"{a="1"} | x="y""#],
            ),
            (
                r#"sum by (x) (rate({a="1"}[5m])) * on (x) group_left (owner) sum by (x, owner) (rate({b="1"}[5m]))"#,
                &[("owner", "o"), ("x", "y")],
                &[r#"{a="1"} | x="y""#],
            ),
            (
                r#"quantile_over_time(0.9, {a="1"} | logfmt | unwrap d | __error__="" [5m]) by (path)"#,
                &[("path", "/")],
                &[r#"{a="1"} | logfmt | path="/" | d!="" | __error__="""#],
            ),
            (r#"topk(3, sum by (x) (rate({a="1"}[5m])))"#, &[("x", "y")], &[r#"{a="1"} | x="y""#]),
            (
                r#"sort_desc(sum by (x, z) (rate({a="1"} | json [5m])))"#,
                &[("x", "y")],
                &[r#"{a="1"} | json | x="y" | z="""#],
            ),
            (
                r#"sum by (x, made) (rate({a="1"}[5m]))"#,
                &[("made", "m"), ("x", "y")],
                &[r#"{a="1"} | x="y""#],
            ),
            (r#"vector(10) < sum(rate({a="1"}[5m]))"#, &[], &[r#"{a="1"}"#]),
            ("vector(1) > 0", &[], &[]),
        ] {
            assert_eq!(shown(text, labels), want, "{text}");
        }
    }

    #[test]
    fn the_window_is_that_of_the_range() {
        let expr = parse_metric(r#"sum(count_over_time({a="1"}[5m] offset 2m))"#).expect("a query");
        let found = behind(&expr, [], &|_| false);
        assert_eq!((found[0].interval, found[0].offset), (5 * MINUTE, 2 * MINUTE));
    }
}
