//! `sort`, `sort_desc`, `sort_by_label`, `sort_by_label_desc`.

use std::cmp::Ordering;

use model::Labels;

use super::rows::Rows;

/// Orders rows of one step by value, NaN last; `descending` turns the order of numbers around.
pub(crate) fn by_value(rows: &mut Rows, descending: bool) {
    let value = |index: usize| rows.row(index).first().copied().unwrap_or(f64::NAN);
    let order = order(rows.len(), |&a, &b| {
        let (a, b) = (value(a), value(b));
        match a.partial_cmp(&b) {
            Some(order) if descending => order.reverse(),
            Some(order) => order,
            None => a.is_nan().cmp(&b.is_nan()),
        }
    });
    rows.reorder(&order);
}

/// Orders rows by the labels `names` as people would (`2` before `10`), and by all labels where
/// those are equal.
pub(crate) fn by_labels(rows: &mut Rows, names: &[&str], descending: bool) {
    let order = order(rows.len(), |&a, &b| {
        let ordering = compare_labels(&rows.labels[a], &rows.labels[b], names);
        if descending { ordering.reverse() } else { ordering }
    });
    rows.reorder(&order);
}

fn order(len: usize, compare: impl Fn(&usize, &usize) -> Ordering) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    order.sort_by(compare);
    order
}

fn compare_labels(a: &Labels, b: &Labels, names: &[&str]) -> Ordering {
    names
        .iter()
        .map(|name| natural(a.get(name).unwrap_or(""), b.get(name).unwrap_or("")))
        .find(|ordering| ordering.is_ne())
        .unwrap_or_else(|| a.cmp(b))
}

/// Compares texts piece by piece, runs of digits as numbers.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut rest_a, mut rest_b) = (a, b);
    loop {
        match (rest_a.is_empty(), rest_b.is_empty()) {
            (true, true) => return a.cmp(b),
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        let (piece_a, tail_a) = take_piece(rest_a);
        let (piece_b, tail_b) = take_piece(rest_b);
        let digits = |piece: &str| piece.as_bytes()[0].is_ascii_digit();
        let ordering = if digits(piece_a) && digits(piece_b) {
            compare_digits(piece_a, piece_b)
        } else {
            piece_a.cmp(piece_b)
        };
        if ordering.is_ne() {
            return ordering;
        }
        (rest_a, rest_b) = (tail_a, tail_b);
    }
}

/// Splits off the digits, or the text up to the next digit. `text` is not empty.
fn take_piece(text: &str) -> (&str, &str) {
    let digit = text.as_bytes()[0].is_ascii_digit();
    let end = text.bytes().position(|byte| byte.is_ascii_digit() != digit).unwrap_or(text.len());
    text.split_at(end)
}

/// Compares numbers of any length.
fn compare_digits(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_texts_count() {
        let mut texts = ["cpu10", "cpu2", "cpu", "cpu2a", "a10b2", "a10b10", "007", "7", ""];
        texts.sort_by(|a, b| natural(a, b));
        assert_eq!(texts, ["", "007", "7", "a10b2", "a10b10", "cpu", "cpu2", "cpu2a", "cpu10"]);
    }
}
