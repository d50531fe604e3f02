//! Whether the value of an expression at a step depends on that step alone, and on how much data
//! around it: what has to be known to compute a range of steps in parts.

use crate::ast::{AggregateOp, Duration, DurationExpr, Expr, VectorSelector};
use crate::engine::EvalTime;
use crate::eval::grid::Reference;
use crate::plan::{Kind, Plan, RangePlan, lower};

/// How far the samples that a step depends on may be from it: those of `t` lie from
/// `t - back_ms` up to and including `t + ahead_ms`. Either may be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locality {
    /// Milliseconds before the step.
    pub back_ms: i64,
    /// Milliseconds after it.
    pub ahead_ms: i64,
}

/// The locality of a query over a range with steps of `step_ms`; `None` if a step's value depends on
/// anything but the step and the samples around it: on where the range begins or ends (`start()`,
/// `end()`, `range()`, `@`), or on the order in which series come, which may be another in a part of
/// the range. Sums may differ in their last bit all the same, as they do whenever other series are
/// selected.
pub fn locality(expr: &Expr, step_ms: i64, lookback_ms: i64) -> Option<Locality> {
    if !is_of_steps(expr) {
        return None;
    }
    // Of the range nothing matters but its step.
    let time = EvalTime::Range { start_ms: 0, end_ms: 0, step_ms };
    let mut found = None;
    reach(&lower(expr, time).ok()?, (0, 0), lookback_ms, &mut found)?;
    // An expression without selectors looks at nothing.
    Some(found.unwrap_or(Locality { back_ms: 0, ahead_ms: 0 }))
}

fn is_of_steps(expr: &Expr) -> bool {
    match expr {
        Expr::Number(_) | Expr::String(_) => true,
        Expr::Vector(vector) => is_selector_of_steps(vector),
        Expr::Matrix(matrix) => {
            is_selector_of_steps(&matrix.vector) && is_duration_of_steps(&matrix.range)
        }
        Expr::Subquery(subquery) => {
            subquery.at.is_none()
                && [&subquery.range, &subquery.offset].into_iter().all(is_duration_of_steps)
                && subquery.step.iter().all(is_duration_of_steps)
                && is_of_steps(&subquery.expr)
        }
        Expr::Call(call) => {
            // `info` brings in series that belong to those of the whole range.
            !matches!(call.function.name, "start" | "end" | "range" | "info")
                && call.args.iter().all(is_of_steps)
        }
        Expr::Aggregate(aggregate) => {
            let by_order = matches!(
                aggregate.op,
                AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk
            );
            (!by_order || is_in_order(&aggregate.expr))
                && aggregate.param.iter().all(is_of_steps)
                && is_of_steps(&aggregate.expr)
        }
        Expr::Binary(binary) => is_of_steps(&binary.left) && is_of_steps(&binary.right),
        Expr::Unary(unary) => is_of_steps(&unary.expr),
        Expr::Paren(paren) => is_of_steps(&paren.expr),
    }
}

/// Whether series come in the order of their labels, so that a part of the range has them in the
/// same order: of equals, the first counts.
fn is_in_order(expr: &Expr) -> bool {
    match expr {
        Expr::Vector(_) | Expr::Matrix(_) | Expr::Number(_) | Expr::String(_) => true,
        // Sorting does nothing in range queries.
        Expr::Call(call) => {
            !matches!(
                call.function.name,
                "label_replace"
                    | "label_join"
                    | "histogram_quantile"
                    | "histogram_quantiles"
                    | "histogram_fraction"
                    | "absent"
                    | "absent_over_time"
                    | "info"
            ) && call.args.iter().all(is_in_order)
        }
        Expr::Binary(binary) => {
            binary.matching.is_none() && is_in_order(&binary.left) && is_in_order(&binary.right)
        }
        Expr::Unary(unary) => is_in_order(&unary.expr),
        Expr::Paren(paren) => is_in_order(&paren.expr),
        Expr::Aggregate(_) | Expr::Subquery(_) => false,
    }
}

fn is_selector_of_steps(selector: &VectorSelector) -> bool {
    selector.at.is_none() && is_duration_of_steps(&selector.offset)
}

fn is_duration_of_steps(duration: &Duration) -> bool {
    match duration {
        Duration::Fixed(_) => true,
        Duration::Computed(expr) => is_duration_expr_of_steps(expr),
    }
}

fn is_duration_expr_of_steps(expr: &DurationExpr) -> bool {
    match expr {
        DurationExpr::Number(_) | DurationExpr::Step(_) => true,
        DurationExpr::Range(_) => false,
        DurationExpr::MinOf(a, b, _) | DurationExpr::MaxOf(a, b, _) => {
            is_duration_expr_of_steps(a) && is_duration_expr_of_steps(b)
        }
        DurationExpr::Binary { left, right, .. } => {
            is_duration_expr_of_steps(left) && is_duration_expr_of_steps(right)
        }
        DurationExpr::Unary { inner, .. } | DurationExpr::Paren(inner, _) => {
            is_duration_expr_of_steps(inner)
        }
    }
}

/// Adds what the selectors of `plan` reach, evaluated from `outer.0` before a step to `outer.1` after
/// it. `None` if there is no telling.
fn reach(
    plan: &Plan<'_>,
    outer: (i64, i64),
    lookback_ms: i64,
    found: &mut Option<Locality>,
) -> Option<()> {
    let within = |reference: Reference, back_ms: i64, ahead_ms: i64| {
        let (at_ms, offset_ms) = (reference.at_ms, reference.offset_ms);
        let back = outer.0.saturating_add(offset_ms).saturating_add(back_ms);
        let ahead = outer.1.saturating_sub(offset_ms).saturating_add(ahead_ms);
        at_ms.is_none().then_some((back, ahead))
    };
    let mut add = |(back_ms, ahead_ms): (i64, i64)| {
        let known = found.get_or_insert(Locality { back_ms, ahead_ms });
        known.back_ms = known.back_ms.max(back_ms);
        known.ahead_ms = known.ahead_ms.max(ahead_ms);
    };
    match &plan.kind {
        Kind::Number(_) | Kind::Text(_) => {}
        Kind::Instant(selector) => {
            let ahead_ms = if selector.selector.extension.is_some() { lookback_ms } else { 0 };
            add(within(selector.reference, lookback_ms, ahead_ms)?);
        }
        Kind::Range(RangePlan::Selector { selector, range_ms }) => {
            let more_ms = if selector.selector.extension.is_some() { lookback_ms } else { 0 };
            let back_ms = range_ms.saturating_add(more_ms);
            add(within(selector.reference, back_ms, more_ms)?);
        }
        Kind::Range(RangePlan::Subquery(subquery)) => {
            let outer = within(subquery.reference, subquery.range_ms, 0)?;
            reach(&subquery.inner, outer, lookback_ms, found)?;
        }
        Kind::Call(call) => {
            for arg in &call.args {
                reach(arg, outer, lookback_ms, found)?;
            }
        }
        Kind::Aggregate(aggregate) => {
            for part in aggregate.param.iter().chain([&aggregate.input]) {
                reach(part, outer, lookback_ms, found)?;
            }
        }
        Kind::Binary(binary) => {
            reach(&binary.left, outer, lookback_ms, found)?;
            reach(&binary.right, outer, lookback_ms, found)?;
        }
        Kind::Negate(inner) | Kind::Invariant(inner) => reach(inner, outer, lookback_ms, found)?,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use crate::parse;

    use super::*;

    fn check(query: &str, expected: Option<(i64, i64)>) {
        let expr = parse(query).expect("a query of a test");
        let found = locality(&expr, 15_000, 300_000);
        let found = found.map(|found| (found.back_ms / 1_000, found.ahead_ms / 1_000));
        assert_eq!(found, expected, "{query}");
    }

    #[test]
    fn a_step_depends_on_the_samples_around_it() {
        check("1 + 2", Some((0, 0)));
        check("time()", Some((0, 0)));
        check("up", Some((300, 0)));
        check("up offset 1m", Some((360, -60)));
        check("up offset -1m", Some((240, 60)));
        check("rate(a[10m]) / rate(b[1m] offset -30s)", Some((600, 30)));
        check("sum by (x) (max_over_time(rate(a[1m])[1h:5m] offset 10m))", Some((4_260, -600)));
        check("rate(a[1m] smoothed)", Some((360, 300)));
        check("a smoothed", Some((300, 300)));
        check("rate(a[step() * 4])", Some((60, 0)));
        check("topk(3, rate(a[1m]) * 2)", Some((60, 0)));
        check("quantile by (x) (0.9, sum by (x, y) (a))", Some((300, 0)));
    }

    #[test]
    fn what_depends_on_the_range_is_told() {
        for query in [
            "a @ 100",
            "a @ start()",
            "sum(rate(a[1m] @ end()))",
            "time() - start()",
            "a > bool end()",
            "range()",
            "rate(a[range()])",
            "a offset min_of(range(), 5m)",
            "sum_over_time(a[1h:range()])",
            "max_over_time(a[1h:1m] @ 5)",
            "info(a)",
            "limitk(2, sum by (x) (a))",
            "topk(2, sum by (x) (a))",
            "topk(2, a + on (x) b)",
            "bottomk(2, label_replace(a, 'b', '', '', ''))",
        ] {
            check(query, None);
        }
    }
}
