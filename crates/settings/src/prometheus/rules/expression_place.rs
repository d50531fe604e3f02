//! Where in a file a part of an expression stands.

use crate::yaml::Span;

/// Finds the bytes `from..to` of `expr`, which was read from the scalar at `scalar` of `source`.
///
/// A quoted text with escapes or a folded block has other bytes than its value; then the place is
/// found line by line, or is that of the whole scalar.
pub(super) fn place_in_scalar(
    source: &str,
    scalar: Span,
    expr: &str,
    (from, to): (usize, usize),
) -> Span {
    // What lacks something at its end lacks it behind its last word, not behind the last line of a block.
    let end = expr.trim_end().len();
    let (from, to) = (from.min(end), to.min(end).max(from.min(end)));
    let Some(written) = source.get(scalar.0..scalar.1) else { return scalar };
    if let Some(at) = written.find(expr) {
        return (scalar.0 + at + from, scalar.0 + at + to);
    }
    on_its_line(written, expr, from, to)
        .map_or(scalar, |(start, end)| (scalar.0 + start, scalar.0 + end))
}

/// The same for blocks, whose lines are indented in the file.
fn on_its_line(written: &str, expr: &str, from: usize, to: usize) -> Option<Span> {
    let before = expr.get(..from)?;
    let number = before.matches('\n').count();
    let column = from - before.rfind('\n').map_or(0, |at| at + 1);
    let line = expr.split('\n').nth(number)?;
    let is_first = |candidate: &&str| {
        let first = expr.split('\n').next().unwrap_or_default().trim();
        candidate.trim() == first
    };
    let lines: Vec<&str> = written.split('\n').collect();
    let first = lines.iter().position(is_first)?;
    let in_file = lines.get(first + number)?;
    let indent = in_file.find(line.trim_end())?;
    let start: usize = lines[..first + number].iter().map(|line| line.len() + 1).sum();
    let start = start + indent + column;
    let end = (start + (to - from)).min(written.len());
    Some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, scalar: &str, expr: &str, part: &str) {
        let start = source.find(scalar).expect("the scalar is in the source");
        let at = expr.find(part).expect("the part is in the expression");
        let span = (start, start + scalar.len());
        let found = place_in_scalar(source, span, expr, (at, at + part.len()));
        assert_eq!(&source[found.0..found.1], part);
    }

    #[test]
    fn parts_are_found_where_they_stand() {
        check("expr: rate(hi)\n", "rate(hi)", "rate(hi)", "hi");
        check("expr: 'rate(hi)'\n", "'rate(hi)'", "rate(hi)", "hi");
        let block = "expr: |\n    sum(\n      up\n    )\nfor: 1m\n";
        check(block, "|\n    sum(\n      up\n    )", "sum(\n  up\n)\n", "up");
        check(block, "|\n    sum(\n      up\n    )", "sum(\n  up\n)\n", "sum");
    }

    #[test]
    fn what_lacks_its_end_lacks_it_on_its_last_line() {
        let source = "- expr: |\n    sum(up\n- expr: down\n";
        let start = source.find('|').expect("a block");
        let scalar = (start, source.find("- expr: down").expect("the next one"));
        let expr = "sum(up\n";
        let found = place_in_scalar(source, scalar, expr, (expr.len(), expr.len()));
        assert_eq!(&source[..found.0], "- expr: |\n    sum(up");
    }

    #[test]
    fn what_is_not_found_is_the_whole() {
        let source = "expr: \"a\\u0062c\"";
        assert_eq!(place_in_scalar(source, (6, 16), "abc", (1, 2)), (6, 16));
        assert_eq!(place_in_scalar(source, (6, 16), "abc", (9, 2)), (6, 16));
    }
}
