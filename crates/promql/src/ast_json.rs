//! Trees as the JSON that `/api/v1/parse_query` answers.
//!
//! Source: `web/api/v1/translate_ast.go` of Prometheus. As there, durations that are computed
//! when the query starts appear as 0, and beside them what computes them.

use model::Matcher;
use serde_json::{Value, json};

use crate::ast::{
    At, Binary, Call, Duration, DurationExpr, Expr, RangeExtension, Subquery, ValueType,
    VectorMatching, VectorSelector,
};
use crate::printer::write_float;

/// The tree as JSON: one object per node, told apart by `type`. Durations and timestamps are
/// milliseconds, numbers are texts.
pub fn ast_json(expr: &Expr) -> Value {
    match expr {
        Expr::Number(node) => {
            let mut text = String::new();
            write_float(node.value, &mut text);
            json!({ "type": "numberLiteral", "val": text })
        }
        Expr::String(node) => json!({ "type": "stringLiteral", "val": node.value }),
        Expr::Vector(node) => selector(node, "vectorSelector"),
        Expr::Matrix(node) => {
            let mut object = selector(&node.vector, "matrixSelector");
            object["range"] = json!(fixed_ms(&node.range));
            object["rangeExpr"] = computed(&node.range);
            object
        }
        Expr::Subquery(node) => subquery(node),
        Expr::Call(node) => call(node),
        Expr::Aggregate(node) => json!({
            "type": "aggregation",
            "op": node.op.as_str(),
            "expr": ast_json(&node.expr),
            "param": node.param.as_ref().map(ast_json),
            "grouping": node.grouping,
            "without": node.without,
        }),
        Expr::Binary(node) => binary(node),
        Expr::Unary(node) => json!({
            "type": "unaryExpr",
            "op": if node.negative { "-" } else { "+" },
            "expr": ast_json(&node.expr),
        }),
        Expr::Paren(node) => json!({ "type": "parenExpr", "expr": ast_json(&node.expr) }),
    }
}

fn selector(node: &VectorSelector, kind: &str) -> Value {
    let matchers: Vec<Value> = node.matchers.iter().map(matcher).collect();
    json!({
        "type": kind,
        "name": node.name,
        "offset": fixed_ms(&node.offset),
        "offsetExpr": computed(&node.offset),
        "matchers": matchers,
        "timestamp": timestamp(node.at),
        "startOrEnd": start_or_end(node.at),
        "anchored": node.extension == Some(RangeExtension::Anchored),
        "smoothed": node.extension == Some(RangeExtension::Smoothed),
    })
}

fn subquery(node: &Subquery) -> Value {
    json!({
        "type": "subquery",
        "expr": ast_json(&node.expr),
        "range": fixed_ms(&node.range),
        "rangeExpr": computed(&node.range),
        "offset": fixed_ms(&node.offset),
        "offsetExpr": computed(&node.offset),
        "step": node.step.as_ref().map_or(0, fixed_ms),
        "stepExpr": node.step.as_ref().map_or(Value::Null, computed),
        "timestamp": timestamp(node.at),
        "startOrEnd": start_or_end(node.at),
    })
}

fn call(node: &Call) -> Value {
    let function = node.function;
    let arg_types: Vec<&str> = function.args.iter().copied().map(ValueType::as_str).collect();
    json!({
        "type": "call",
        "func": {
            "name": function.name,
            "argTypes": arg_types,
            "variadic": function.variadic,
            "returnType": function.returns.as_str(),
        },
        "args": node.args.iter().map(ast_json).collect::<Vec<Value>>(),
    })
}

fn binary(node: &Binary) -> Value {
    json!({
        "type": "binaryExpr",
        "op": node.op.as_str(),
        "lhs": ast_json(&node.left),
        "rhs": ast_json(&node.right),
        "matching": node.matching.as_ref().map(matching),
        "bool": node.return_bool,
    })
}

fn matching(matching: &VectorMatching) -> Value {
    json!({
        "card": matching.cardinality.as_str(),
        "labels": matching.labels,
        "on": matching.on,
        "include": matching.include,
        // JSON knows neither infinity nor NaN: they become null.
        "fillValues": { "lhs": matching.fill_left, "rhs": matching.fill_right },
    })
}

fn matcher(matcher: &Matcher) -> Value {
    json!({ "name": matcher.name, "value": matcher.value, "type": matcher.op.as_str() })
}

fn fixed_ms(duration: &Duration) -> i64 {
    match duration {
        Duration::Fixed(ms) => *ms,
        Duration::Computed(_) => 0,
    }
}

/// What computes a duration; null if it is fixed.
fn computed(duration: &Duration) -> Value {
    match duration {
        Duration::Fixed(_) => Value::Null,
        Duration::Computed(expr) => duration_expr(expr, false),
    }
}

fn duration_expr(expr: &DurationExpr, wrapped: bool) -> Value {
    let node = |op: &str, left: Option<&DurationExpr>, right: Option<&DurationExpr>| {
        let side = |side: Option<&DurationExpr>| side.map(|side| duration_expr(side, false));
        json!({
            "type": "durationExpr",
            "op": op,
            "lhs": side(left),
            "rhs": side(right),
            "wrapped": wrapped,
        })
    };
    match expr {
        DurationExpr::Number(number) => {
            let mut text = String::new();
            write_float(number.value, &mut text);
            json!({ "type": "numberLiteral", "val": text, "duration": number.is_duration })
        }
        DurationExpr::Step(_) => node("step", None, None),
        DurationExpr::Range(_) => node("range", None, None),
        DurationExpr::MinOf(left, right, _) => node("min_of", Some(left), Some(right)),
        DurationExpr::MaxOf(left, right, _) => node("max_of", Some(left), Some(right)),
        DurationExpr::Binary { op, left, right, .. } => node(op.as_str(), Some(left), Some(right)),
        DurationExpr::Unary { negative, inner, .. } => {
            node(if *negative { "-" } else { "+" }, None, Some(inner))
        }
        DurationExpr::Paren(inner, _) => duration_expr(inner, true),
    }
}

fn timestamp(at: Option<At>) -> Option<i64> {
    match at {
        Some(At::Timestamp(ms)) => Some(ms),
        Some(At::Start | At::End) | None => None,
    }
}

fn start_or_end(at: Option<At>) -> Option<&'static str> {
    match at {
        Some(At::Start) => Some("start"),
        Some(At::End) => Some("end"),
        Some(At::Timestamp(_)) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(query: &str, expected: Expect) {
        let expr = crate::parse(query).expect("the test's query is right");
        expected.assert_eq(&ast_json(&expr).to_string());
    }

    #[test]
    fn selectors_carry_their_modifiers() {
        check(
            r#"foo{a="b"}[5m] smoothed @ 1.5 offset -1m"#,
            expect![[
                r#"{"anchored":false,"matchers":[{"name":"a","type":"=","value":"b"},{"name":"__name__","type":"=","value":"foo"}],"name":"foo","offset":-60000,"offsetExpr":null,"range":300000,"rangeExpr":null,"smoothed":true,"startOrEnd":null,"timestamp":1500,"type":"matrixSelector"}"#
            ]],
        );
        check(
            "(foo)[1h:5m] @ end()",
            expect![[
                r#"{"expr":{"expr":{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"foo"}],"name":"foo","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},"type":"parenExpr"},"offset":0,"offsetExpr":null,"range":3600000,"rangeExpr":null,"startOrEnd":"end","step":300000,"stepExpr":null,"timestamp":null,"type":"subquery"}"#
            ]],
        );
    }

    #[test]
    fn durations_to_compute_are_shown() {
        check(
            "a[(step() + 5m):] offset -(6m)",
            expect![[
                r#"{"expr":{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"a"}],"name":"a","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},"offset":-360000,"offsetExpr":null,"range":0,"rangeExpr":{"lhs":{"lhs":null,"op":"step","rhs":null,"type":"durationExpr","wrapped":false},"op":"+","rhs":{"duration":true,"type":"numberLiteral","val":"300"},"type":"durationExpr","wrapped":true},"startOrEnd":null,"step":0,"stepExpr":null,"timestamp":null,"type":"subquery"}"#
            ]],
        );
    }

    #[test]
    fn operations_carry_their_matching() {
        check(
            "a > bool on (x) group_left (y) fill_right (-1) -b",
            expect![[
                r#"{"bool":true,"lhs":{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"a"}],"name":"a","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},"matching":{"card":"many-to-one","fillValues":{"lhs":null,"rhs":-1.0},"include":["y"],"labels":["x"],"on":true},"op":">","rhs":{"expr":{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"b"}],"name":"b","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},"op":"-","type":"unaryExpr"},"type":"binaryExpr"}"#
            ]],
        );
        check(
            "1 + 5m",
            expect![[
                r#"{"bool":false,"lhs":{"type":"numberLiteral","val":"1"},"matching":null,"op":"+","rhs":{"type":"numberLiteral","val":"300"},"type":"binaryExpr"}"#
            ]],
        );
        check(
            r#"count_values without (x) ("v", round(a, NaN))"#,
            expect![[
                r#"{"expr":{"args":[{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"a"}],"name":"a","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},{"type":"numberLiteral","val":"NaN"}],"func":{"argTypes":["vector","scalar"],"name":"round","returnType":"vector","variadic":1},"type":"call"},"grouping":["x"],"op":"count_values","param":{"type":"stringLiteral","val":"v"},"type":"aggregation","without":true}"#
            ]],
        );
    }
}
