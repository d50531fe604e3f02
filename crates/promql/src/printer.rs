//! Trees back into text.
//!
//! [`Expr`]'s `Display` writes the canonical form, which reads back as the same tree; [`pretty`]
//! breaks what does not fit on a line. Source: `promql/parser/{printer,prettier}.go`.

use std::fmt;

use model::{MatchOp, Matcher};

use crate::ast::{
    Aggregate, At, Binary, BinaryOp, Cardinality, Duration, DurationExpr, Expr, MatrixSelector,
    NumberLiteral, RangeExtension, Subquery, VectorMatching, VectorSelector,
};
use crate::parser::{METRIC_NAME, UNITS};
use crate::quote::{push, quote_bytes, write_quoted};

/// Longest line of [`pretty`], in bytes.
const LINE_BYTES: usize = 100;

const INDENT: &str = "  ";

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        write_expr(self, &mut out);
        f.write_str(&out)
    }
}

/// The expression on as many lines as needed to keep them within 100 bytes where its structure
/// allows it, indented by two spaces. What `/api/v1/format_query` answers.
///
/// Costs the length of the text times the height of the tree.
pub fn pretty(expr: &Expr) -> String {
    let mut out = String::new();
    write_pretty(expr, 0, &mut out);
    out
}

fn write_expr(expr: &Expr, out: &mut String) {
    match expr {
        Expr::Number(node) => write_number(node, out),
        Expr::String(node) => match &node.bytes {
            Some(bytes) => out.push_str(&quote_bytes(bytes)),
            None => write_quoted(&node.value, out),
        },
        Expr::Vector(node) => write_vector(node, out),
        Expr::Matrix(node) => write_matrix(node, out),
        Expr::Subquery(node) => {
            write_expr(&node.expr, out);
            write_subquery_suffix(node, out);
        }
        Expr::Call(node) => {
            out.push_str(node.function.name);
            out.push('(');
            for (index, argument) in node.args.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                write_expr(argument, out);
            }
            out.push(')');
        }
        Expr::Aggregate(node) => {
            write_aggregation(node, out);
            out.push('(');
            if let Some(param) = &node.param {
                write_expr(param, out);
                out.push_str(", ");
            }
            write_expr(&node.expr, out);
            out.push(')');
        }
        Expr::Binary(node) => {
            write_left(node, out);
            out.push(' ');
            write_operator(node, out);
            out.push(' ');
            write_expr(&node.right, out);
        }
        Expr::Unary(node) => {
            out.push(if node.negative { '-' } else { '+' });
            write_expr(&node.expr, out);
        }
        Expr::Paren(node) => {
            out.push('(');
            write_expr(&node.expr, out);
            out.push(')');
        }
    }
}

/// The left side of an operator.
fn write_left(node: &Binary, out: &mut String) {
    if is_power_of_infinity(node) {
        out.push_str("Inf");
    } else {
        write_expr(&node.left, out);
    }
}

/// Whether a sign before the left side would be one of the whole: `+Inf ^ 2` is `+(Inf ^ 2)`.
fn is_power_of_infinity(node: &Binary) -> bool {
    node.op == BinaryOp::Pow
        && matches!(&node.left, Expr::Number(number) if number.value.is_infinite())
}

fn write_pretty(expr: &Expr, level: usize, out: &mut String) {
    let line = expr.to_string();
    let fits = line.len() <= LINE_BYTES;
    match expr {
        // Prometheus leaves a subquery that fits where the line happens to start.
        Expr::Subquery(_) if fits => out.push_str(&line),
        Expr::Subquery(node) => {
            write_pretty(&node.expr, level, out);
            write_subquery_suffix(node, out);
        }
        Expr::Unary(node) => {
            indent(level, out);
            out.push(if node.negative { '-' } else { '+' });
            let mut operand = String::new();
            write_pretty(&node.expr, level, &mut operand);
            out.push_str(operand.trim());
        }
        Expr::Binary(node) if !fits => {
            if is_power_of_infinity(node) {
                indent(level + 1, out);
                write_left(node, out);
            } else {
                write_pretty(&node.left, level + 1, out);
            }
            out.push('\n');
            indent(level, out);
            write_operator(node, out);
            out.push('\n');
            write_pretty(&node.right, level + 1, out);
        }
        Expr::Aggregate(node) if !fits => {
            indent(level, out);
            write_aggregation(node, out);
            write_block(node.param.iter().chain([&node.expr]), level, out);
        }
        Expr::Call(node) if !fits => {
            indent(level, out);
            out.push_str(node.function.name);
            write_block(node.args.iter(), level, out);
        }
        Expr::Paren(node) if !fits => {
            indent(level, out);
            write_block([&node.expr].into_iter(), level, out);
        }
        _ => {
            indent(level, out);
            out.push_str(&line);
        }
    }
}

/// Expressions in parentheses, each on lines of its own.
fn write_block<'e>(exprs: impl Iterator<Item = &'e Expr>, level: usize, out: &mut String) {
    out.push('(');
    for (index, expr) in exprs.enumerate() {
        out.push_str(if index == 0 { "\n" } else { ",\n" });
        write_pretty(expr, level + 1, out);
    }
    out.push('\n');
    indent(level, out);
    out.push(')');
}

fn indent(level: usize, out: &mut String) {
    for _ in 0..level {
        out.push_str(INDENT);
    }
}

fn write_number(node: &NumberLiteral, out: &mut String) {
    if node.is_duration {
        write_milliseconds((node.value * 1_000.0).round() as i64, out);
    } else {
        write_float(node.value, out);
    }
}

/// As Go's `strconv.FormatFloat(value, 'f', -1, 64)`.
pub(crate) fn write_float(value: f64, out: &mut String) {
    if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        push(out, format_args!("{value}"));
    }
}

/// As Go's `%.<decimals>f`.
pub(crate) fn fixed_decimals(value: f64, decimals: usize) -> String {
    let mut out = String::new();
    if value.is_finite() {
        push(&mut out, format_args!("{value:.decimals$}"));
    } else {
        write_float(value, &mut out);
    }
    out
}

/// A duration of so many milliseconds as Prometheus writes it: `5m`, `1h30m`, `90d`.
pub fn format_duration(ms: i64) -> String {
    let mut out = String::new();
    write_milliseconds(ms, &mut out);
    out
}

/// A duration as Prometheus writes it. Years and weeks only if nothing remains: `90d` is easier to
/// read than `12w6d`.
fn write_milliseconds(ms: i64, out: &mut String) {
    if ms == 0 {
        out.push_str("0s");
        return;
    }
    if ms < 0 {
        out.push('-');
    }
    let mut rest = ms.unsigned_abs();
    for (unit, unit_ms) in UNITS {
        let unit_ms = unit_ms.unsigned_abs();
        let whole_only = matches!(unit, "y" | "w");
        if rest < unit_ms || (whole_only && !rest.is_multiple_of(unit_ms)) {
            continue;
        }
        push(out, format_args!("{}{unit}", rest / unit_ms));
        rest %= unit_ms;
    }
}

fn write_duration(duration: &Duration, out: &mut String) {
    match duration {
        Duration::Fixed(ms) => write_milliseconds(*ms, out),
        Duration::Computed(expr) => write_duration_expr(expr, out),
    }
}

fn write_duration_expr(expr: &DurationExpr, out: &mut String) {
    match expr {
        DurationExpr::Number(node) => write_number(node, out),
        DurationExpr::Step(_) => out.push_str("step()"),
        DurationExpr::Range(_) => out.push_str("range()"),
        DurationExpr::MinOf(left, right, _) => write_duration_pair("min_of(", left, right, out),
        DurationExpr::MaxOf(left, right, _) => write_duration_pair("max_of(", left, right, out),
        DurationExpr::Binary { op, left, right, .. } => {
            write_duration_expr(left, out);
            push(out, format_args!(" {} ", op.as_str()));
            write_duration_expr(right, out);
        }
        DurationExpr::Unary { negative, inner, .. } => {
            out.push(if *negative { '-' } else { '+' });
            write_duration_expr(inner, out);
        }
        DurationExpr::Paren(inner, _) => {
            out.push('(');
            write_duration_expr(inner, out);
            out.push(')');
        }
    }
}

fn write_duration_pair(opening: &str, left: &DurationExpr, right: &DurationExpr, out: &mut String) {
    out.push_str(opening);
    write_duration_expr(left, out);
    out.push_str(", ");
    write_duration_expr(right, out);
    out.push(')');
}

fn write_vector(node: &VectorSelector, out: &mut String) {
    write_selector(node, out);
    write_at(node.at, out);
    write_extension(node.extension, out);
    write_offset(&node.offset, out);
}

fn write_matrix(node: &MatrixSelector, out: &mut String) {
    write_selector(&node.vector, out);
    out.push('[');
    write_duration(&node.range, out);
    out.push(']');
    write_extension(node.vector.extension, out);
    write_at(node.vector.at, out);
    write_offset(&node.vector.offset, out);
}

fn write_subquery_suffix(node: &Subquery, out: &mut String) {
    out.push('[');
    write_duration(&node.range, out);
    out.push(':');
    if let Some(step) = &node.step {
        write_duration(step, out);
    }
    out.push(']');
    write_at(node.at, out);
    write_offset(&node.offset, out);
}

/// Name and sorted matchers.
fn write_selector(node: &VectorSelector, out: &mut String) {
    let says_the_name = |matcher: &&Matcher| {
        !node.name.is_empty()
            && matcher.name == METRIC_NAME
            && matcher.op == MatchOp::Equal
            && matcher.value == node.name
    };
    let mut matchers: Vec<String> = node
        .matchers
        .iter()
        .filter(|matcher| !says_the_name(matcher))
        .map(|matcher| {
            let mut text = String::new();
            write_label(&matcher.name, &mut text);
            text.push_str(matcher.op.as_str());
            write_quoted(&matcher.value, &mut text);
            text
        })
        .collect();
    matchers.sort_unstable();
    out.push_str(&node.name);
    if !matchers.is_empty() || node.name.is_empty() {
        push(out, format_args!("{{{}}}", matchers.join(",")));
    }
}

/// A label's name, quoted if it is no plain word.
fn write_label(name: &str, out: &mut String) {
    let plain = name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty();
    if plain { out.push_str(name) } else { write_quoted(name, out) }
}

fn write_at(at: Option<At>, out: &mut String) {
    match at {
        None => {}
        Some(At::Start) => out.push_str(" @ start()"),
        Some(At::End) => out.push_str(" @ end()"),
        Some(At::Timestamp(ms)) => {
            out.push_str(" @ ");
            out.push_str(&fixed_decimals(ms as f64 / 1_000.0, 3));
        }
    }
}

fn write_extension(extension: Option<RangeExtension>, out: &mut String) {
    if let Some(extension) = extension {
        out.push(' ');
        out.push_str(extension.as_str());
    }
}

fn write_offset(offset: &Duration, out: &mut String) {
    if *offset != Duration::Fixed(0) {
        out.push_str(" offset ");
        write_duration(offset, out);
    }
}

fn write_aggregation(node: &Aggregate, out: &mut String) {
    out.push_str(node.op.as_str());
    if node.without || !node.grouping.is_empty() {
        out.push_str(if node.without { " without " } else { " by " });
        write_labels(&node.grouping, out);
        out.push(' ');
    }
}

fn write_labels(names: &[String], out: &mut String) {
    out.push('(');
    for (index, name) in names.iter().enumerate() {
        out.push_str(if index == 0 { "" } else { ", " });
        write_label(name, out);
    }
    out.push(')');
}

/// The operator and its modifiers.
fn write_operator(node: &Binary, out: &mut String) {
    out.push_str(node.op.as_str());
    if node.return_bool {
        out.push_str(" bool");
    }
    if let Some(matching) = &node.matching {
        write_matching(matching, out);
    }
}

fn write_matching(matching: &VectorMatching, out: &mut String) {
    let group = match matching.cardinality {
        Cardinality::ManyToOne => Some(" group_left "),
        Cardinality::OneToMany => Some(" group_right "),
        Cardinality::OneToOne | Cardinality::ManyToMany => None,
    };
    if !matching.labels.is_empty() || matching.on || group.is_some() {
        out.push_str(if matching.on { " on " } else { " ignoring " });
        write_labels(&matching.labels, out);
    }
    if let Some(group) = group {
        out.push_str(group);
        write_labels(&matching.include, out);
    }
    // NaN is not the same as NaN, and 0 is the same as -0.
    let same = matching.fill_left == matching.fill_right;
    let fills = if same {
        [(" fill (", matching.fill_left), ("", None)]
    } else {
        [(" fill_left (", matching.fill_left), (" fill_right (", matching.fill_right)]
    };
    for (opening, value) in fills {
        if let Some(value) = value {
            out.push_str(opening);
            write_float(value, out);
            out.push(')');
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::{parse, pretty};

    fn canonical(query: &str) -> String {
        parse(query).expect("the test's query is right").to_string()
    }

    #[test]
    fn canonical_text_is_prometheus_own() {
        for query in [
            r#"topk(5, task:errors:rate10s{job="s"})"#,
            "a - on (b) group_left (x, y) c",
            "up > bool 0",
            "a offset -7m",
            r#"a{c="d"}[5m] offset 1m"#,
            "a[1h:5m] @ end() offset 1m",
            "a[1m] anchored @ start()",
            r#"{__name__="a"}"#,
            "-a ^ 2",
            "--a + +b",
            "a </ 5",
            "a + fill_left (1) fill_right (2) b",
            "foo[-5m + 35m]",
            "foo offset min_of(step(), range() * 2)",
            r#"sum by ("a.b", c) ({"x\ny"=~"z"})"#,
            "info(a, {})",
            "5m + 1h30m",
        ] {
            assert_eq!(canonical(query), query);
        }
    }

    #[test]
    fn what_means_the_same_is_written_alike() {
        for (query, text) in [
            ("SUM(a)BY()", "sum(a)"),
            ("sum(a) without()", "sum without () (a)"),
            ("a - ignoring() c", "a - c"),
            ("a - on(b) group_right c", "a - on (b) group_right () c"),
            ("a @ 10", "a @ 10.000"),
            ("a[300] offset 3600", "a[5m] offset 1h"),
            ("a offset 36h", "a offset 1d12h"),
            ("a[90d] offset 7d", "a[90d] offset 1w"),
            (r#"{b="c", __name__!="d", a=~'e'}"#, r#"{__name__!="d",a=~"e",b="c"}"#),
            (r#"{"my.metric", `x y`="1"}"#, r#"{"x y"="1",__name__="my.metric"}"#),
            ("a + fill_right(1) fill_left(0x1) b", "a + fill (1) b"),
            ("a + fill(+Inf) b", "a + fill (+Inf) b"),
            ("a + fill(NaN) b", "a + fill_left (NaN) fill_right (NaN) b"),
            ("a[36h] offset -25h30m", "a[1d12h] offset -1d1h30m"),
            ("a[12w6d] offset 14d", "a[90d] offset 2w"),
            ("Inf^a", "Inf ^ a"),
            ("1 + Inf", "1 + +Inf"),
            ("0x1F + 1_000 + .5e-3 + nan", "31 + 1000 + 0.0005 + NaN"),
            ("- 5m", "-5m"),
            ("foo[+step()]", "foo[step()]"),
            (r"'\'\x41\u00e9\t'", "\"'Aé\\t\""),
        ] {
            assert_eq!(canonical(query), text, "{query}");
        }
    }

    #[test]
    fn long_expressions_are_broken_by_structure() {
        let check = |query: &str, expected: Expect| {
            expected.assert_eq(&pretty(&parse(query).expect("the test's query is right")));
        };
        check(
            "sum by(job)(rate(http_requests_total[5m]))",
            expect!["sum by (job) (rate(http_requests_total[5m]))"],
        );
        check(
            r#"-histogram_quantile(0.99, sum by (le, job) (rate(http_request_duration_seconds_bucket{job="api",code=~"2.."}[5m] @ start())))"#,
            expect![[r#"
                -histogram_quantile(
                  0.99,
                  sum by (le, job) (rate(http_request_duration_seconds_bucket{code=~"2..",job="api"}[5m] @ start()))
                )"#]],
        );
        check(
            r#"(node_filesystem_avail_bytes{job="node",fstype!=""} / on(instance) group_left node_filesystem_size_bytes{job="node"} * 100 < bool 40)"#,
            expect![[r#"
                (
                        node_filesystem_avail_bytes{fstype!="",job="node"}
                      / on (instance) group_left ()
                        node_filesystem_size_bytes{job="node"}
                    *
                      100
                  < bool
                    40
                )"#]],
        );
        check(
            r#"max_over_time(topk(3, rate(demo_api_request_duration_seconds_count{job="demo_service",instance=~"demo.*"}[1m]))[1m:] @ end() offset 1m)"#,
            expect![[r#"
                max_over_time(
                  topk(3, rate(demo_api_request_duration_seconds_count{instance=~"demo.*",job="demo_service"}[1m]))[1m:] @ end() offset 1m
                )"#]],
        );
    }
}
