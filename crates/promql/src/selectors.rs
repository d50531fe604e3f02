//! Which series an expression asks for.

use model::Matcher;

use crate::ast::Expr;

/// The matchers of every selector of series in an expression, in the order in which they stand.
/// Ranges, offsets and what is done with the samples do not matter.
pub fn selectors_of(expr: &Expr) -> Vec<Vec<Matcher>> {
    let mut found = Vec::new();
    collect(expr, &mut found);
    found
}

/// The parser bounds how deep expressions are nested.
fn collect(expr: &Expr, found: &mut Vec<Vec<Matcher>>) {
    match expr {
        Expr::Number(_) | Expr::String(_) => {}
        Expr::Vector(vector) => found.push(vector.matchers.clone()),
        Expr::Matrix(matrix) => found.push(matrix.vector.matchers.clone()),
        Expr::Subquery(subquery) => collect(&subquery.expr, found),
        Expr::Call(call) => call.args.iter().for_each(|arg| collect(arg, found)),
        Expr::Aggregate(aggregate) => {
            aggregate.param.iter().for_each(|param| collect(param, found));
            collect(&aggregate.expr, found);
        }
        Expr::Binary(binary) => {
            collect(&binary.left, found);
            collect(&binary.right, found);
        }
        Expr::Unary(unary) => collect(&unary.expr, found),
        Expr::Paren(paren) => collect(&paren.expr, found),
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
}
