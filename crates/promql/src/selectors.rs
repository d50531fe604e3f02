//! Which series an expression asks for.

use model::Matcher;

use crate::ast::{Duration, Expr};

/// The matchers of every selector of series in an expression, in the order in which they stand.
/// Ranges, offsets and what is done with the samples do not matter.
pub fn selectors_of(expr: &Expr) -> Vec<Vec<Matcher>> {
    let mut found = Vec::new();
    walk(expr, &mut |expr| match expr {
        Expr::Vector(vector) => found.push(vector.matchers.clone()),
        Expr::Matrix(matrix) => found.push(matrix.vector.matchers.clone()),
        _ => {}
    });
    found
}

/// The longest range of a selector or subquery in an expression, milliseconds; 0 if there is none, or none
/// whose length is known before a query starts.
pub fn longest_range_ms(expr: &Expr) -> i64 {
    let mut longest = 0;
    walk(expr, &mut |expr| {
        let range = match expr {
            Expr::Matrix(matrix) => &matrix.range,
            Expr::Subquery(subquery) => &subquery.range,
            _ => return,
        };
        if let Duration::Fixed(ms) = range {
            longest = longest.max(*ms);
        }
    });
    longest
}

/// Looks at an expression and all below it, in the order in which they stand. The parser bounds how deep
/// expressions are nested.
fn walk(expr: &Expr, look: &mut dyn FnMut(&Expr)) {
    look(expr);
    match expr {
        Expr::Number(_) | Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_) => {}
        Expr::Subquery(subquery) => walk(&subquery.expr, look),
        Expr::Call(call) => call.args.iter().for_each(|arg| walk(arg, look)),
        Expr::Aggregate(aggregate) => {
            aggregate.param.iter().for_each(|param| walk(param, look));
            walk(&aggregate.expr, look);
        }
        Expr::Binary(binary) => {
            walk(&binary.left, look);
            walk(&binary.right, look);
        }
        Expr::Unary(unary) => walk(&unary.expr, look),
        Expr::Paren(paren) => walk(&paren.expr, look),
    }
}

#[cfg(test)]
mod tests {
    use crate::parse;

    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let expr = parse(text).expect("a query of a test");
        let shown = |matchers: &Vec<Matcher>| {
            let of = |m: &Matcher| format!("{}{}{:?}", m.name, m.op.as_str(), m.value);
            matchers.iter().map(of).collect::<Vec<_>>().join(",")
        };
        let found: Vec<String> = selectors_of(&expr).iter().map(shown).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn every_selector_is_found_wherever_it_stands() {
        check("1 + 2", &[]);
        check("time()", &[]);
        check("up", &["__name__=\"up\""]);
        check("-(up{job!=\"a\"} offset 5m)", &["job!=\"a\",__name__=\"up\""]);
        check(
            "sum by (le) (rate(b{x=~\"y.*\"}[5m])) / on () c @ end()",
            &["x=~\"y.*\",__name__=\"b\"", "__name__=\"c\""],
        );
        check("max_over_time(rate(a[1m])[1h:1m])", &["__name__=\"a\""]);
        check("topk(scalar(k), a) or vector(1)", &["__name__=\"k\"", "__name__=\"a\""]);
        check(
            "histogram_quantile(0.9, {\"with.dot\", a=\"b\"})",
            &["__name__=\"with.dot\",a=\"b\""],
        );
    }

    #[test]
    fn the_longest_range_counts() {
        for (text, want) in [
            ("up", 0),
            ("rate(a[5m]) / rate(b[1h]) > 2", 3_600_000),
            ("max_over_time(rate(a[5m])[1d:1m])", 86_400_000),
        ] {
            assert_eq!(longest_range_ms(&parse(text).expect("a query")), want, "{text}");
        }
    }
}
