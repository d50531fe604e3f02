//! Types and shapes that the grammar alone does not enforce.
//!
//! Source: `checkAST` in `promql/parser/parse.go`, whose messages and order of complaints it
//! repeats.

use std::collections::HashSet;

use crate::ast::{
    Aggregate, AggregateOp, Binary, BinaryOp, Call, Cardinality, Expr, Span, ValueType,
    VectorMatching, VectorSelector,
};
use crate::lexer::unquote_bytes;
use crate::parse_error::ParseError;
use crate::parser::METRIC_NAME;
use crate::quote::{quote, quote_bytes};

/// Checks the tree read from `text` and settles what only types tell: whether a binary operation
/// matches vectors, and that set operations match many to many.
///
/// # Errors
/// The first fault in the order in which Prometheus looks: children before parents, left before
/// right.
pub(crate) fn check(text: &str, expr: &mut Expr) -> Result<ValueType, ParseError> {
    Checker { text }.expr(expr)
}

/// The function whose second argument is special.
const INFO: &str = "info";

struct Checker<'a> {
    text: &'a str,
}

impl Checker<'_> {
    fn fail<T>(&self, span: Span, message: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError::new(self.text, span, message))
    }

    /// What the expression evaluates to. Complaints are kept in functions of their own, so that a
    /// level of the tree costs little stack.
    fn expr(&self, expr: &mut Expr) -> Result<ValueType, ParseError> {
        match expr {
            Expr::Number(_) => Ok(ValueType::Scalar),
            Expr::String(_) => Ok(ValueType::String),
            Expr::Vector(vector) => self.vector(vector).map(|()| ValueType::Vector),
            Expr::Matrix(matrix) => self.vector(&matrix.vector).map(|()| ValueType::Matrix),
            Expr::Subquery(node) => {
                let found = self.expr(&mut node.expr)?;
                self.subquery(found, node.span)
            }
            Expr::Call(call) => self.call(call),
            Expr::Aggregate(aggregate) => self.aggregate(aggregate),
            Expr::Binary(node) => {
                let left = self.expr(&mut node.left)?;
                let right = self.expr(&mut node.right)?;
                self.binary(node, left, right)
            }
            Expr::Unary(node) => {
                let found = self.expr(&mut node.expr)?;
                self.unary(found, node.span)
            }
            Expr::Paren(node) => self.expr(&mut node.expr),
        }
    }

    fn subquery(&self, inner: ValueType, span: Span) -> Result<ValueType, ParseError> {
        if inner == ValueType::Vector {
            return Ok(ValueType::Matrix);
        }
        let found = inner.as_str();
        self.fail(span, format!("subquery is only allowed on instant vector, got {found} instead"))
    }

    fn unary(&self, operand: ValueType, span: Span) -> Result<ValueType, ParseError> {
        if matches!(operand, ValueType::Scalar | ValueType::Vector) {
            return Ok(operand);
        }
        let message = format!(
            "unary expression only allowed on expressions of type scalar or instant vector, got {}",
            quote(operand.documented())
        );
        self.fail(span, message)
    }

    fn vector(&self, vector: &VectorSelector) -> Result<(), ParseError> {
        if vector.name.is_empty() {
            return if vector.matchers.iter().all(|matcher| matcher.matches_empty()) {
                let message = "vector selector must contain at least one non-empty matcher";
                self.fail(vector.span, message)
            } else {
                Ok(())
            };
        }
        // The last matcher is the one made from the name in front of the braces.
        let in_braces = vector.matchers.split_last().map_or(&[][..], |(_, others)| others);
        match in_braces.iter().find(|matcher| matcher.name == METRIC_NAME) {
            None => Ok(()),
            Some(matcher) => {
                let (name, other) = (quote(&vector.name), quote(&matcher.value));
                let message = format!("metric name must not be set twice: {name} or {other}");
                self.fail(vector.span, message)
            }
        }
    }

    fn aggregate(&self, node: &mut Aggregate) -> Result<ValueType, ParseError> {
        let found = self.expr(&mut node.expr)?;
        let place = "aggregation expression";
        self.expect(found, ValueType::Vector, node.expr.span(), place)?;
        if let Some(param) = &mut node.param {
            let wanted = match node.op {
                AggregateOp::CountValues => ValueType::String,
                _ => ValueType::Scalar,
            };
            let found = self.expr(param)?;
            self.expect(found, wanted, param.span(), "aggregation parameter")?;
            self.label_name(param)?;
        }
        Ok(ValueType::Vector)
    }

    /// `count_values` names a label by its parameter. Bytes that are no UTF-8 are refused here,
    /// while they are at hand: the tree holds none. Whether the name is otherwise right is up to
    /// the evaluator.
    fn label_name(&self, param: &Expr) -> Result<(), ParseError> {
        let Expr::String(literal) = param else { return Ok(()) };
        let Span { start, end } = literal.span;
        let bytes = unquote_bytes(&self.text[start as usize..end as usize]);
        if std::str::from_utf8(&bytes).is_ok() {
            return Ok(());
        }
        self.fail(literal.span, format!("invalid label name {}", quote_bytes(&bytes)))
    }

    fn expect(
        &self,
        found: ValueType,
        wanted: ValueType,
        span: Span,
        place: &str,
    ) -> Result<(), ParseError> {
        if found == wanted {
            return Ok(());
        }
        let (wanted, found) = (wanted.documented(), found.documented());
        self.fail(span, format!("expected type {wanted} in {place}, got {found}"))
    }

    fn call(&self, call: &mut Call) -> Result<ValueType, ParseError> {
        self.argument_count(call)?;
        self.info_selector(call)?;
        let function = call.function;
        for (index, argument) in call.args.iter_mut().enumerate() {
            // The last type stands for all arguments that repeat it.
            let Some(&wanted) = function.args.get(index).or(function.args.last()) else {
                break;
            };
            if function.name == INFO && index == 1 {
                // Just checked, and free to match the empty string.
                continue;
            }
            let found = self.expr(argument)?;
            self.expect_argument(found, wanted, argument.span(), function.name)?;
        }
        Ok(function.returns)
    }

    fn expect_argument(
        &self,
        found: ValueType,
        wanted: ValueType,
        span: Span,
        function: &str,
    ) -> Result<(), ParseError> {
        if found == wanted {
            return Ok(());
        }
        self.expect(found, wanted, span, &format!("call to function {}", quote(function)))
    }

    fn argument_count(&self, call: &Call) -> Result<(), ParseError> {
        let (function, given) = (call.function, call.args.len());
        let most = function.args.len();
        let least = match function.variadic {
            0 => most,
            -1 => most - 1,
            optional => most - usize::from(optional.unsigned_abs()),
        };
        let wanted = if function.variadic == 0 && given != most {
            format!("{most}")
        } else if given < least {
            format!("at least {least}")
        } else if given > most && function.variadic >= 0 {
            format!("at most {most}")
        } else {
            return Ok(());
        };
        let name = quote(function.name);
        let message = format!("expected {wanted} argument(s) in call to {name}, got {given}");
        self.fail(call.span, message)
    }

    /// The second argument of `info` is not evaluated: it lists conditions on info metrics, so
    /// it must be a bare `{…}`, and may match the empty string.
    fn info_selector(&self, call: &Call) -> Result<(), ParseError> {
        let Some(selector) = call.args.get(1).filter(|_| call.function.name == INFO) else {
            return Ok(());
        };
        self.expect_argument(selector.value_type(), ValueType::Vector, call.span, INFO)?;
        match selector {
            Expr::Vector(vector) if vector.name.is_empty() => Ok(()),
            Expr::Vector(vector) => {
                self.fail(vector.span, "expected label selectors only, got vector selector instead")
            }
            other => self.fail(other.span(), "expected label selectors only"),
        }
    }

    fn binary(
        &self,
        node: &mut Binary,
        left: ValueType,
        right: ValueType,
    ) -> Result<ValueType, ParseError> {
        let (op, op_span, span) = (node.op, node.op_span, node.span);
        let scalars = left == ValueType::Scalar && right == ValueType::Scalar;

        if node.return_bool && !op.is_comparison() {
            let message = "bool modifier can only be used on comparison operators";
            return self.fail(op_span, message);
        }
        if op.is_comparison() && !node.return_bool && scalars {
            return self.fail(op_span, "comparisons between scalars must use BOOL modifier");
        }
        if let Some(matching) = &mut node.matching {
            if op.is_set() && matching.cardinality == Cardinality::OneToOne {
                matching.cardinality = Cardinality::ManyToMany;
            }
            self.included_labels(matching, op_span)?;
        }
        for (side, found) in [(&node.left, left), (&node.right, right)] {
            if !matches!(found, ValueType::Scalar | ValueType::Vector) {
                let message = "binary expression must contain only scalar and instant vector types";
                return self.fail(side.span(), message);
            }
        }
        if let Some(matching) = &node.matching {
            if left == ValueType::Vector && right == ValueType::Vector {
                self.vector_matching(op, matching, span)?;
            } else {
                self.no_vector_matching(matching, span)?;
                node.matching = None;
            }
        }
        if op.is_set() && node.matching.is_none() {
            let op = quote(op.as_str());
            let message = format!("set operator {op} not allowed in binary scalar expression");
            return self.fail(span, message);
        }
        Ok(if scalars { ValueType::Scalar } else { ValueType::Vector })
    }

    fn included_labels(&self, matching: &VectorMatching, op_span: Span) -> Result<(), ParseError> {
        if !matching.on || matching.include.is_empty() {
            return Ok(());
        }
        // A set, so that long lists cannot make this quadratic.
        let include: HashSet<&String> = matching.include.iter().collect();
        match matching.labels.iter().find(|label| include.contains(label)) {
            None => Ok(()),
            Some(label) => {
                let label = quote(label);
                let message =
                    format!("label {label} must not occur in ON and GROUP clause at once");
                self.fail(op_span, message)
            }
        }
    }

    fn vector_matching(
        &self,
        op: BinaryOp,
        matching: &VectorMatching,
        span: Span,
    ) -> Result<(), ParseError> {
        if !op.is_set() {
            return Ok(());
        }
        if matching.cardinality != Cardinality::ManyToMany {
            let op = quote(op.as_str());
            return self.fail(span, format!("no grouping allowed for {op} operation"));
        }
        if matching.fill_left.is_some() || matching.fill_right.is_some() {
            let message = "filling in missing series not allowed for set operators";
            return self.fail(span, message);
        }
        Ok(())
    }

    /// Checks modifiers of an operation with a scalar side, which may have none of weight.
    fn no_vector_matching(&self, matching: &VectorMatching, span: Span) -> Result<(), ParseError> {
        if !matching.labels.is_empty() {
            return self.fail(span, "vector matching only allowed between instant vectors");
        }
        if matching.fill_left.is_some() || matching.fill_right.is_some() {
            let message = "filling in missing series only allowed between instant vectors";
            return self.fail(span, message);
        }
        Ok(())
    }
}
